"""Clusters on a support: which isomers, in which orientation, in which place."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.spatial import cKDTree
from scipy.spatial.transform import Rotation

from ..core.errors import AtomicityError
from .field_settings import FieldSettings
from .imaging import cross_section_nm2
from .starting_structures import SUPPORTED_KINDS
from .structures import Isomer


@dataclass(frozen=True, eq=False)
class Deposit:
    """A cluster or an aggregate in one place of the support."""

    isomers: tuple[int, ...]  # indices into the library; two for an aggregate
    atoms: np.ndarray  # (n, 3): positions (y, x, z) about the centre in nm
    sigma_nm2: np.ndarray  # (n,): cross-sections of the atoms in nm²


def draw_cluster_isomers(
    library: Sequence[Isomer],  # isomers of the classes of the mixture
    settings: FieldSettings,  # density and mixture of clusters
    area_nm2: float,
    rng: np.random.Generator,
) -> np.ndarray:  # (n,): indices into the library
    """Draw the isomers of a field, a Poisson number."""
    if sum(settings.mixture.values()) <= 0:
        return np.empty(0, int)
    n = rng.poisson(settings.clusters_per_nm2 * area_nm2)
    return draw_isomers(library, settings, n, rng)


def draw_isomers(
    library: Sequence[Isomer],
    settings: FieldSettings,
    n: int,  # how many to draw
    rng: np.random.Generator,
) -> np.ndarray:  # (n,): indices into the library
    """Draw isomers: classes by their share, isomers of a class with equal probability.

    Raises `AtomicityError` if the library lacks a class of the mixture.
    """
    labels = list(settings.mixture)
    shares = np.array([settings.mixture[c] for c in labels], float)
    of_class: dict[str, list[int]] = {c: [] for c in labels}
    for index, isomer in enumerate(library):
        of_class.setdefault(isomer.label, []).append(index)
    missing = [c for c, s in zip(labels, shares, strict=True) if s > 0 and not of_class[c]]
    if missing:
        raise AtomicityError(f"the library holds no isomers of {', '.join(missing)}")
    members = [np.array(of_class[c], int) for c in labels]
    drawn = rng.choice(len(labels), size=n, p=shares / shares.sum())
    return np.array([rng.choice(members[k]) for k in drawn], int)


def orient_isomer(isomer: Isomer, rng: np.random.Generator) -> np.ndarray:
    """Return positions (n, 3) as (y, x, z) in a random orientation.

    Isomers with a face for the support are mostly on it, all others are in any orientation.
    """
    if isomer.kind in SUPPORTED_KINDS and rng.random() < 0.6:
        spin = Rotation.from_euler("z", rng.uniform(0, 2 * np.pi))
        tilt = Rotation.from_rotvec([*rng.normal(0, np.radians(8), 2), 0])
        return np.asarray((tilt * spin).apply(isomer.positions_nm))
    return np.asarray(Rotation.random(random_state=rng).apply(isomer.positions_nm))


def cross_sections_nm2(isomer: Isomer) -> np.ndarray:
    """Return the cross-sections (n,) of the atoms in nm²."""
    if isomer.symbols is None:
        return np.full(isomer.n, cross_section_nm2(isomer.element))
    return np.array([cross_section_nm2(e) for e in isomer.symbols.tolist()])


def add_aggregates(
    deposits: Sequence[Deposit],
    library: Sequence[Isomer],
    settings: FieldSettings,
    rng: np.random.Generator,
) -> list[Deposit]:
    """Put a second cluster of the same mixture on top of a share of the deposits."""
    hit = rng.random(len(deposits)) < settings.aggregates
    seconds = iter(draw_isomers(library, settings, int(hit.sum()), rng))
    out = []
    for deposit, lands in zip(deposits, hit, strict=True):
        if lands:
            second = next(seconds)
            atoms = stack_clusters(deposit.atoms, orient_isomer(library[second], rng), rng)
            sigma = np.concatenate([deposit.sigma_nm2, cross_sections_nm2(library[second])])
            deposit = Deposit((*deposit.isomers, second), atoms, sigma)
        out.append(deposit)
    return out


def stack_clusters(
    # first, second, each (n, 3): positions (y, x, z) in nm
    first: np.ndarray,
    second: np.ndarray,
    rng: np.random.Generator,
    bond_nm: float = 0.26,  # smallest distance of two atoms
) -> np.ndarray:  # (n_first + n_second, 3): positions of both about their common centre
    """Put a second cluster on top of a first one.

    In projection the centres are 0.3 to 0.9 of the sum of the radii apart, nearer where irregular
    outlines would leave a gap.
    """
    angle = rng.uniform(0, 2 * np.pi)
    direction = np.array([np.sin(angle), np.cos(angle)])
    radii = (projected_diameter_nm(first) + projected_diameter_nm(second)) / 2
    apart = rng.uniform(0.3, 0.9) * radii
    tree = cKDTree(first[:, :2])
    while tree.query(second[:, :2] + apart * direction)[0].min() > bond_nm:
        apart *= 0.9
    second = second + np.append(apart * direction, 0)
    lateral2 = ((second[:, None, :2] - first[None, :, :2]) ** 2).sum(axis=2)
    clearance = np.sqrt(np.clip(bond_nm**2 - lateral2, 0, None))
    height = first[None, :, 2] - second[:, None, 2]
    # where nothing is below it, the second one rests on the support
    lift = (height + clearance)[clearance > 0].max(initial=first[:, 2].min() - second[:, 2].min())
    both = np.concatenate([first, second + np.array([0, 0, lift])])
    return np.asarray(both - both.mean(axis=0))


def draw_lone_atoms(
    settings: FieldSettings,
    extent_nm: np.ndarray,  # (2,): height and width of the field
    rng: np.random.Generator,
) -> np.ndarray:  # (n, 2): positions (y, x) in nm
    """Draw the atoms that belong to no cluster: lone ones and loose groups."""
    area = extent_nm.prod()
    lone = rng.uniform(0, 1, (rng.poisson(settings.lone_atoms_per_nm2 * area), 2)) * extent_nm
    groups = [lone]
    for _ in range(rng.poisson(settings.loose_groups_per_nm2 * area)):
        centre, size = rng.uniform(0, 1, 2) * extent_nm, rng.uniform(0.2, 0.6)
        groups.append(centre + rng.normal(0, size, (rng.integers(4, 15), 2)))
    return np.concatenate(groups)


def place_deposits(
    placed: Sequence[np.ndarray],  # each (n, 3): atoms of each cluster about its centre in nm
    extent_nm: np.ndarray,  # (2,): height and width of the field
    touching: float,  # share of clusters that are placed against another
    thickness: np.ndarray,  # (Y, X): thickness of the support; nothing is placed where it is 0
    pixel_nm: float,
    rng: np.random.Generator,
) -> np.ndarray:  # (m, 2): centres of the first m clusters; fewer than given if the field is full
    """Place clusters on a support, apart from each other except for a share that touches."""
    centres: list[np.ndarray] = []
    radii = [float(np.linalg.norm(p[:, :2], axis=1).max()) for p in placed]
    trees = [cKDTree(p[:, :2]) for p in placed]
    for i, radius in enumerate(radii):
        for _ in range(60):
            if centres and rng.random() < touching:
                j = rng.integers(len(centres))
                centre = touching_centre(placed[i], trees[j], centres[j], radius + radii[j], rng)
            else:
                centre = rng.uniform(0, 1, 2) * extent_nm
            y, x = np.floor(centre / pixel_nm).astype(int)
            inside = 0 <= y < thickness.shape[0] and 0 <= x < thickness.shape[1]
            if not inside or thickness[y, x] <= 0:
                continue
            near = [
                k for k, other in enumerate(centres)
                if np.linalg.norm(centre - other) < radius + radii[k] + 0.25
            ]  # fmt: skip
            if all(_gap_nm(placed[i], centre, trees[k], centres[k]) >= 0.24 for k in near):
                centres.append(centre)
                break
        else:  # the field is full
            return np.array(centres).reshape(-1, 2)
    return np.array(centres).reshape(-1, 2)


def _gap_nm(
    atoms: np.ndarray, centre: np.ndarray, other: cKDTree, other_centre: np.ndarray
) -> float:
    """Return the smallest distance of the atoms of two clusters in projection."""
    return float(other.query(atoms[:, :2] + centre - other_centre)[0].min())


def touching_centre(
    atoms: np.ndarray,  # (n, 3): atoms of the cluster about its centre in nm
    other: cKDTree,  # atoms (n, 2) of the other cluster about its centre
    other_centre: np.ndarray,  # (2,): centre of the other cluster in nm
    far: float,  # distance of the centres in nm at which the clusters are surely apart
    rng: np.random.Generator,
) -> np.ndarray:  # (2,): the centre (y, x) in nm
    """Return a centre from which a cluster just touches another one, in a random direction."""
    angle = rng.uniform(0, 2 * np.pi)
    direction = np.array([np.sin(angle), np.cos(angle)])
    gap = rng.uniform(0.26, 0.4)
    low, high = 0.0, far + 0.6
    for _ in range(12):
        middle = (low + high) / 2
        nearest = other.query(atoms[:, :2] + middle * direction)[0].min()
        low, high = (low, middle) if nearest > gap else (middle, high)
    return np.asarray(other_centre + high * direction)


def count_atoms_above(atoms: np.ndarray) -> np.ndarray:
    """Count for every atom the atoms in line above it, which focus the beam onto it."""
    lateral = np.linalg.norm(atoms[:, None, :2] - atoms[None, :, :2], axis=2)
    above = atoms[None, :, 2] > atoms[:, None, 2] + 0.1
    return np.asarray(((lateral < 0.05) & above).sum(axis=1))


def projected_diameter_nm(atoms: np.ndarray, atom_radius_nm: float = 0.138) -> float:
    """Return the equivalent diameter of the area that the atoms cover in projection."""
    step = 0.03
    points = atoms[:, :2]
    low = points.min(axis=0) - atom_radius_nm
    axes = [
        np.arange(a, b + atom_radius_nm, step) for a, b in zip(low, points.max(axis=0), strict=True)
    ]
    grid = np.stack(np.meshgrid(*axes, indexing="ij"), axis=-1).reshape(-1, 2)
    covered = cKDTree(points).query(grid, distance_upper_bound=atom_radius_nm)[0]
    return float(2 * np.sqrt(np.isfinite(covered).sum() * step**2 / np.pi))
