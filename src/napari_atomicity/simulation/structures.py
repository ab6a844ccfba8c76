"""Isomers of clusters of a given number of atoms, relaxed with effective-medium theory or pairs.

A small cluster on carbon has no single structure: it is compact or flat, ordered or not, and
changes under the beam. A model that is to count atoms must have seen all of that, so every class
is a library of isomers of many kinds.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ..core.errors import AtomicityError, DependencyError, ReadError
from ..core.processes import spawn_pool
from ..core.progress import Progress, report

EMT_METALS = ("Al", "Ni", "Cu", "Pd", "Ag", "Pt", "Au")
"""Metals with parameters in ASE's EMT (Jacobsen, Stoltze, Nørskov, Surf. Sci. 366, 394 (1996))."""

PAIR_METALS_EV = {
    "Ti": 4.85, "V": 5.31, "Cr": 4.10, "Fe": 4.28, "Co": 4.39, "Zr": 6.25, "Nb": 7.57,
    "Mo": 6.82, "Ru": 6.74, "Rh": 5.75, "Hf": 6.44, "Ta": 8.10, "W": 8.90, "Re": 8.03,
    "Os": 8.17, "Ir": 6.94,
}  # fmt: skip
"""Metals that EMT lacks, relaxed with a pair potential, and their cohesive energies (also below)
in eV (Kittel, Introduction to Solid State Physics, 8th edition, table 3.1)."""

_EMT_METALS_EV = {
    "Al": 3.39, "Ni": 4.44, "Cu": 3.49, "Pd": 3.89, "Ag": 2.95, "Pt": 5.84, "Au": 3.81,
}  # fmt: skip
METALS = (*EMT_METALS, *PAIR_METALS_EV)
"""Metals whose clusters can be built, alone and with each other."""

LYING_KINDS = ("raft", "hemisphere", "flat")
"""Kinds with a face that lies on the support; z is the direction away from it."""


@dataclass(frozen=True, eq=False)
class Isomer:
    """One structure: positions (n, 3) in nm about the centre of mass, and how it was made.

    Parameters
    ----------
    element
        The metal; of an alloy its metals in the order of the class, such as ``AuPd``.
    kind
        One of `KINDS`.
    positions_nm
        (n, 3).
    symbols
        (n,) the metal of each atom; None where there is only one.
    """

    element: str
    kind: str
    positions_nm: np.ndarray
    symbols: np.ndarray | None = None

    @property
    def n(self) -> int:
        return len(self.positions_nm)

    @property
    def composition(self) -> dict[str, int]:
        """Metal → number of its atoms."""
        if self.symbols is None:
            return {self.element: self.n}
        counts = Counter(self.symbols.tolist())
        return {e: counts[e] for e in re.findall(_SYMBOL, self.element)}

    @property
    def label(self) -> str:
        """The class, such as ``Pt55`` or ``Au24Pd1``."""
        if self.symbols is None:  # the usual case, quickly: libraries are large
            return f"{self.element}{self.n}"
        return "".join(f"{e}{n}" for e, n in self.composition.items())


_SYMBOL = r"[A-Z][a-z]?"


def composition(label: str) -> dict[str, int]:
    """Metal → number of atoms: ``Au24Pd1`` → {"Au": 24, "Pd": 1}.

    Raises
    ------
    AtomicityError
        If the label names no cluster that can be built.
    """
    parts = re.findall(rf"({_SYMBOL})(\d+)", label)
    counts = {e: int(n) for e, n in parts}
    written = "".join(e + n for e, n in parts)
    possible = counts and len(counts) == len(parts) and min(counts.values()) > 0
    if written != label or not possible or not set(counts) <= set(METALS):
        raise AtomicityError(
            f"{label!r} names no cluster of a metal and a number of atoms",
            advice=f"Write for example Pt55 or Au24Pd1; metals: {', '.join(METALS)}",
        )
    return counts


def nearest_neighbour_nm(element: str) -> float:
    """Nearest-neighbour distance in the metal."""
    data = _ase("data")
    state = data.reference_states[data.atomic_numbers[element]]
    lattice: float = state["a"]
    if state["symmetry"] == "bcc":
        return lattice * np.sqrt(3) / 2 / 10
    if state["symmetry"] == "hcp":
        between_layers = np.hypot(lattice / np.sqrt(3), state["c/a"] * lattice / 2)
        return float(min(lattice, between_layers)) / 10
    return lattice / np.sqrt(2) / 10


def _ase(module: str) -> Any:
    from importlib import import_module

    try:
        return import_module(f"ase.{module}")
    except ImportError as error:
        raise DependencyError(
            "building cluster structures needs ASE",
            advice='Install it with: pip install "napari-atomicity[simulation]"',
        ) from error


# ---- starting structures, in units of the nearest-neighbour distance


def _fcc_sites(extent: float) -> np.ndarray:
    """Sites of an fcc lattice of unit neighbour distance with z along [111]."""
    m = int(np.ceil(extent)) + 2
    i, j, k = np.mgrid[-m : m + 1, -m : m + 1, -m : m + 1].reshape(3, -1).astype(float)
    x = i + j / 2 + k / 2
    y = np.sqrt(3) / 2 * j + k * np.sqrt(3) / 6
    z = np.sqrt(2 / 3) * k
    return np.stack([x, y, z], axis=1)


def _nearest(sites: np.ndarray, n: int, weight: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """The n sites nearest to a random centre in a metric that makes the outline irregular."""
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


def _fcc(n: int, rng: np.random.Generator) -> np.ndarray:
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
    cluster = _ase("cluster")
    shells = 4 if n <= 100 else 5 + int((n / 100) ** (1 / 3))
    return _motif(n, rng, lambda: cluster.Icosahedron("Pt", shells))


def _decahedral(n: int, rng: np.random.Generator) -> np.ndarray:
    cluster = _ase("cluster")
    p = 3 + int((n / 60) ** (1 / 3))
    return _motif(n, rng, lambda: cluster.Decahedron("Pt", p, p, 1))


def _random_compact(n: int, rng: np.random.Generator) -> np.ndarray:
    """Random sequential addition in a slightly ellipsoidal volume, to be quenched."""
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
    """Atom by atom at the surface; ``flatness`` 1 is isotropic, larger spreads in the plane."""
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


_START: dict[str, Callable[[int, np.random.Generator], np.ndarray]] = {
    "compact": _random_compact,
    "annealed": _random_compact,
    "grown": lambda n, rng: _grown(n, rng, 1.0),
    "flat": lambda n, rng: _grown(n, rng, rng.uniform(1.4, 3.5)),
    "raft": _raft,
    "hemisphere": _hemisphere,
    "fcc": _fcc,
    "icosahedral": _icosahedral,
    "decahedral": _decahedral,
}

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


def make_isomer(element: str, n: int, kind: str, seed: int) -> Isomer:
    """Build one isomer of a single metal and relax it, see `make_alloy`."""
    return make_alloy({element: n}, kind, seed)


def make_alloy(atoms_of: Mapping[str, int], kind: str, seed: int) -> Isomer:
    """Build one isomer, its metals in random order, and relax it.

    Relaxed with EMT if that has parameters for all its metals, else with Morse pairs.

    Parameters
    ----------
    atoms_of
        Metal (one of `METALS`) → number of atoms.
    kind
        One of `KINDS`.
    seed
        The same seed gives the same isomer.

    Raises
    ------
    DependencyError
        If ASE is not installed.
    AtomicityError
        If there is no potential for a metal.
    """
    without = [e for e in atoms_of if e not in METALS]
    if without:
        raise AtomicityError(
            f"there is no potential for {', '.join(without)}",
            advice=f"Choose among {', '.join(METALS)}",
        )
    n = sum(atoms_of.values())
    symbols = np.repeat(list(atoms_of), list(atoms_of.values()))
    rng = np.random.default_rng([seed, n])
    bond = sum(nearest_neighbour_nm(e) * m for e, m in atoms_of.items()) / n
    start = _START[kind](n, rng) * bond * 10
    if len(atoms_of) > 1:
        symbols = rng.permutation(symbols)
    atoms = _ase("atoms").Atoms(list(symbols), positions=start)
    by_emt = set(atoms_of) <= set(EMT_METALS)
    atoms.calc = _ase("calculators.emt").EMT() if by_emt else _Morse(symbols)
    _quench(atoms, steps=80)
    if kind == "annealed":
        _anneal(atoms, rng)
        _quench(atoms, steps=80)
    positions = atoms.positions / 10
    return Isomer(
        "".join(atoms_of),
        kind,
        (positions - positions.mean(axis=0)).astype(np.float32),
        symbols if len(atoms_of) > 1 else None,
    )


class _Morse:
    """Morse pairs between all atoms, in the form that ASE asks of a calculator.

    ASE's own knows one metal only. The distance is that of nearest neighbours in the metal, the
    range that of Lennard-Jones (ρ₀ = 6; Doye and Wales, J. Chem. Soc. Faraday Trans. 93, 4233
    (1997)). A pair is a third as strong as the cohesive energy over six: in metals the bonds that
    remain get stronger when others break, so that a vacancy costs a third of what pairs would say,
    and atoms move at the temperatures of annealing. Unlike pairs take the arithmetic mean of the
    distances and the geometric mean of the depths.

    Parameters
    ----------
    symbols
        (n,) metal of each atom.
    """

    RANGE = 6.0

    def __init__(self, symbols: np.ndarray) -> None:
        energies = _EMT_METALS_EV | PAIR_METALS_EV
        depth = np.array([energies[e] / 18 for e in symbols])
        bond = np.array([nearest_neighbour_nm(e) * 10 for e in symbols])
        self._depth = np.sqrt(depth[:, None] * depth)
        self._bond = (bond[:, None] + bond) / 2

    def _pairs(self, atoms: Any) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        apart = atoms.positions[:, None] - atoms.positions[None]
        distance = np.linalg.norm(apart, axis=2)
        np.fill_diagonal(distance, np.inf)
        return apart, distance, np.exp(-self.RANGE * (distance / self._bond - 1))

    def get_potential_energy(self, atoms: Any, force_consistent: bool = False) -> float:
        """In eV; there is only one energy, so it is consistent with the forces."""
        _, _, decay = self._pairs(atoms)
        return float((self._depth * decay * (decay - 2)).sum() / 2)

    def get_forces(self, atoms: Any) -> np.ndarray:
        """(n, 3) in eV per Å."""
        apart, distance, decay = self._pairs(atoms)
        slope = 2 * self._depth * self.RANGE / self._bond * decay * (decay - 1)
        return np.asarray((slope / distance)[:, :, None] * apart).sum(axis=1)


def _quench(atoms: Any, steps: int) -> None:
    FIRE = _ase("optimize.fire").FIRE
    FIRE(atoms, logfile=None, maxstep=0.15).run(fmax=0.08, steps=steps)


def _anneal(atoms: Any, rng: np.random.Generator, steps: int = 250) -> None:
    units = _ase("units")
    Langevin = _ase("md.langevin").Langevin
    kelvin = rng.uniform(600, 1400)
    # legacy RandomState: what ASE's Langevin asks for
    random_state = np.random.RandomState(rng.integers(2**31))
    Langevin(
        atoms,
        timestep=4 * units.fs,
        temperature_K=kelvin,
        friction=0.02 / units.fs,
        fixcm=False,
        rng=random_state,
    ).run(steps)


# ---- libraries


def isomer_library(
    element: str,
    sizes: Sequence[int],
    per_size: int,
    seed: int = 0,
    workers: int = 1,
    progress: Progress | None = None,
) -> list[Isomer]:
    """Isomers of every size in the shares of `KINDS`; reproducible, whatever the workers.

    Raises
    ------
    DependencyError
        If ASE is not installed.
    """
    return _library([{element: n} for n in sizes], per_size, seed, workers, progress)


def library_of(
    classes: Sequence[str],
    per_class: int,
    seed: int = 0,
    workers: int = 1,
    progress: Progress | None = None,
) -> list[Isomer]:
    """As `isomer_library`, for classes of any metals and alloys, such as ``Pt55`` or ``Au24Pd1``.

    Raises
    ------
    DependencyError
        If ASE is not installed.
    AtomicityError
        If a class names no cluster that can be built.
    """
    wanted: dict[str, list[dict[str, int]]] = {}
    for label in classes:
        atoms_of = composition(label)
        wanted.setdefault("".join(atoms_of), []).append(atoms_of)
    library = []
    for metals in sorted(wanted):
        library += _library(wanted[metals], per_class, seed, workers, progress)
    return library


def _library(
    compositions: Sequence[Mapping[str, int]],
    per_class: int,
    seed: int,
    workers: int,
    progress: Progress | None,
) -> list[Isomer]:
    _ase("atoms")
    rng = np.random.default_rng(seed)
    wanted: list[tuple[Mapping[str, int], str, int]] = []
    for atoms_of in compositions:
        kinds = rng.choice(list(KINDS), size=per_class, p=list(KINDS.values()))
        wanted += [(atoms_of, str(kind), int(rng.integers(2**31))) for kind in kinds]
    arguments = list(map(list, zip(*wanted, strict=True)))
    library = []
    with spawn_pool(workers) if workers > 1 else nullcontext() as pool:
        made = (
            map(make_alloy, *arguments)
            if pool is None
            else pool.map(make_alloy, *arguments, chunksize=8)
        )
        for i, isomer in enumerate(made):
            library.append(isomer)
            report(progress, i + 1, len(wanted), "Building isomers")
    return library


def save_library(path: Path, library: Sequence[Isomer]) -> None:
    """Write isomers as a plain npz, without pickles."""
    path.parent.mkdir(parents=True, exist_ok=True)
    np.savez_compressed(
        path,
        positions_nm=np.concatenate([i.positions_nm for i in library]),
        n=np.array([i.n for i in library]),
        kind=np.array([i.kind for i in library]),
        element=np.array([i.element for i in library]),
        symbols=np.concatenate([_symbols(i) for i in library]),
    )


def _symbols(isomer: Isomer) -> np.ndarray:
    return np.repeat(isomer.element, isomer.n) if isomer.symbols is None else isomer.symbols


def load_library(path: Path) -> list[Isomer]:
    """Read what `save_library` wrote."""
    try:
        with np.load(path, allow_pickle=False) as stored:
            ends = np.cumsum(stored["n"])[:-1]
            positions = np.split(stored["positions_nm"], ends)
            if "symbols" in stored:
                symbols = np.split(stored["symbols"], ends)
            else:  # written before there were alloys
                symbols = np.split(np.repeat(stored["element"], stored["n"]), ends)
            return [
                Isomer(str(e), str(k), p, s if (s != e).any() else None)
                for e, k, p, s in zip(
                    stored["element"], stored["kind"], positions, symbols, strict=True
                )
            ]
    except (OSError, ValueError, KeyError) as error:
        raise ReadError("this is no library of isomers", path, "Build it again") from error
