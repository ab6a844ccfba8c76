"""Starting structures of isomers, in units of the nearest-neighbour distance."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from .metals import import_ase

SUPPORTED_KINDS = ("raft", "hemisphere", "flat")
"""Kinds with a face on the support; z is the direction away from it."""
KINDS: dict[str, float] = {
    "compact": 0.12,
    "annealed": 0.16,
    "grown": 0.12,
    "flat": 0.14,
    "raft": 0.16,
    "hemisphere": 0.1,
    "fcc": 0.08,
    "icosahedral": 0.06,
    "decahedral": 0.06,
}
"""Kinds of isomers and their shares in a library."""


def _fcc_sites(extent: float) -> np.ndarray:
    """Return sites of an fcc lattice of unit neighbour distance with z along [111]."""
    m = int(np.ceil(extent)) + 2
    i, j, k = np.mgrid[-m : m + 1, -m : m + 1, -m : m + 1].reshape(3, -1).astype(float)
    x = i + j / 2 + k / 2
    y = np.sqrt(3) / 2 * j + k * np.sqrt(3) / 6
    z = np.sqrt(2 / 3) * k
    return np.stack([x, y, z], axis=1)


def _nearest(sites: np.ndarray, n: int, weight: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Return the n sites nearest to a random centre in an irregular metric."""
    shifted = (sites - rng.uniform(-0.5, 0.5, 3)) * weight
    distance = np.linalg.norm(shifted, axis=1) + rng.normal(0, 0.12, len(sites))
    return sites[np.argsort(distance)[:n]]


def _in_plane_weight(rng: np.random.Generator) -> np.ndarray:
    stretch = np.exp(rng.normal(0, 0.15))
    return np.array([stretch, 1 / stretch, 1.0])


def _raft(n: int, rng: np.random.Generator) -> np.ndarray:
    layers = rng.choice([1, 2, 3], p=[0.15, 0.5, 0.35] if n < 45 else [0.05, 0.45, 0.5])
    sites = _fcc_sites(np.sqrt(n / layers) + 2)
    height = sites[:, 2] / np.sqrt(2 / 3)
    sites = sites[(height > -0.5) & (height < layers - 0.5)]
    weight = _in_plane_weight(rng)
    weight[2] = 0.05  # fill the layers, the lowest a little larger
    return _nearest(sites, n, weight, rng)


def _hemisphere(n: int, rng: np.random.Generator) -> np.ndarray:
    sites = _fcc_sites(1.2 * n ** (1 / 3) + 2)
    sites = sites[sites[:, 2] > -0.4]
    weight = _in_plane_weight(rng)
    weight[2] = rng.uniform(0.8, 1.4)
    centred = np.array([*rng.uniform(-0.5, 0.5, 2), 0.0])
    distance = np.linalg.norm((sites - centred) * weight, axis=1) + rng.normal(0, 0.12, len(sites))
    return sites[np.argsort(distance)[:n]]


def fcc_piece(n: int, rng: np.random.Generator) -> np.ndarray:
    """Return n sites (n, 3) of an fcc lattice of unit neighbour distance, an irregular piece."""
    return _nearest(_fcc_sites(1.2 * n ** (1 / 3) + 2), n, _in_plane_weight(rng), rng)


def _motif(n: int, rng: np.random.Generator, builder: Callable[[], Any]) -> np.ndarray:
    atoms = builder()
    sites = atoms.positions - atoms.positions.mean(axis=0)
    separation = np.linalg.norm(sites[:, None] - sites[None], axis=2)
    separation[separation < 0.1] = np.inf
    sites = sites / np.median(separation.min(axis=1))
    # Off-centre cuts turn a closed-shell motif into a fragment of any size.
    offset = rng.normal(0, 0.5, 3)
    distance = np.linalg.norm(sites - offset, axis=1) + rng.normal(0, 0.05, len(sites))
    return sites[np.argsort(distance)[:n]]


def _icosahedral(n: int, rng: np.random.Generator) -> np.ndarray:
    cluster = import_ase("cluster")
    shells = 4 if n <= 100 else 5 + int((n / 100) ** (1 / 3))
    return _motif(n, rng, lambda: cluster.Icosahedron("Pt", shells))


def _decahedral(n: int, rng: np.random.Generator) -> np.ndarray:
    cluster = import_ase("cluster")
    p = 3 + int((n / 60) ** (1 / 3))
    return _motif(n, rng, lambda: cluster.Decahedron("Pt", p, p, 1))


def _random_compact(n: int, rng: np.random.Generator) -> np.ndarray:
    """Add atoms at random places in a slightly ellipsoidal volume."""
    radius = (n * 1.25 / np.sqrt(2) * 3 / (4 * np.pi)) ** (1 / 3)
    axes = radius * np.exp(rng.normal(0, 0.12, 3))
    points: list[np.ndarray] = []
    smallest = 0.85
    tries = 0
    while len(points) < n:
        p = rng.uniform(-1, 1, 3)
        tries += 1
        if tries > 300:
            smallest, tries = smallest * 0.97, 0
        if p @ p > 1:
            continue
        p = p * axes
        if not points or np.min(np.linalg.norm(np.array(points) - p, axis=1)) > smallest:
            points.append(p)
            tries = 0
    return np.array(points)


def _grown(n: int, rng: np.random.Generator, flatness: float) -> np.ndarray:
    """Add atom by atom at the surface; ``flatness`` 1 is isotropic, larger values are flatter."""
    points = np.zeros((1, 3))
    ragged = rng.uniform(0.05, 0.5)
    while len(points) < n:
        base = points[rng.integers(len(points), size=40)]
        step = rng.normal(size=(40, 3))
        candidates = base + step / np.linalg.norm(step, axis=1, keepdims=True)
        gap = np.linalg.norm(candidates[:, None] - points[None], axis=2)
        free = gap.min(axis=1) > 0.9
        if not free.any():
            continue
        candidates, gap = candidates[free], gap[free]
        cost = np.linalg.norm((candidates - points.mean(0)) * [1, 1, flatness], axis=1)
        cost = cost - 0.3 * (gap < 1.2).sum(axis=1) + rng.gumbel(0, ragged, len(candidates))
        points = np.vstack([points, candidates[np.argmin(cost)]])
    return points


STARTING_STRUCTURES: dict[str, Callable[[int, np.random.Generator], np.ndarray]] = {
    "compact": _random_compact,
    "annealed": _random_compact,
    "grown": lambda n, rng: _grown(n, rng, 1.0),
    "flat": lambda n, rng: _grown(n, rng, rng.uniform(1.4, 3.5)),
    "raft": _raft,
    "hemisphere": _hemisphere,
    "fcc": fcc_piece,
    "icosahedral": _icosahedral,
    "decahedral": _decahedral,
}
