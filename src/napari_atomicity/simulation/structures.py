"""Isomers of clusters of a given number of atoms, relaxed with effective-medium theory or pairs.

A small cluster on carbon has no single structure: it is compact or flat, ordered or not, and
changes under the beam. A model that counts atoms must be trained on all of these, so every
class is a library of isomers of many kinds.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ..core.errors import AtomicityError, ReadError
from ..core.processes import spawn_pool
from ..core.progress import Progress, report
from ..io.files import NPZ_MARK, atomic_write
from .metals import (
    EMT_METALS,
    EMT_METALS_EV,
    METALS,
    PAIR_METALS_EV,
    SYMBOL,
    composition,
    import_ase,
    nearest_neighbour_nm,
)
from .starting_structures import KINDS, STARTING_STRUCTURES


# ---- relaxation of isomers with ASE: a Morse pair potential, quenching and annealing
class MorsePotential:
    """Morse pairs between all atoms, as a calculator for ASE.

    ASE's own calculator knows one metal only. The distance is that of nearest neighbours in the
    metal, the range that of Lennard-Jones (ρ₀ = 6) [1]_. A pair is a third as strong as the
    cohesive energy over six: in metals the remaining bonds become stronger when others break, so
    that a vacancy costs a third of the sum of its pairs, and atoms move at the temperatures of
    annealing.
    Unlike pairs take the arithmetic mean of the distances and the geometric mean of the depths.

    Parameters
    ----------
    symbols : ndarray of shape (n,)
        Metal of each atom.

    References
    ----------
    .. [1] J. P. K. Doye and D. J. Wales, J. Chem. Soc. Faraday Trans. 93, 4233 (1997).
    """

    RANGE = 6.0

    def __init__(self, symbols: np.ndarray) -> None:
        energies = EMT_METALS_EV | PAIR_METALS_EV
        depth = np.array([energies[e] / 18 for e in symbols])
        bond = np.array([nearest_neighbour_nm(e) * 10 for e in symbols])
        self._depth = np.sqrt(depth[:, None] * depth)
        self._bond = (bond[:, None] + bond) / 2

    def _pairs(self, atoms: Any) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        apart = atoms.positions[:, None] - atoms.positions[None]
        distance = np.linalg.norm(apart, axis=2)
        np.fill_diagonal(distance, np.inf)
        return apart, distance, np.exp(-self.RANGE * (distance / self._bond - 1))

    def get_potential_energy(
        self,
        atoms: Any,
        # Has no effect: there is only one energy, which is consistent with the forces
        force_consistent: bool = False,
    ) -> float:
        """Return the energy in eV."""
        _, _, decay = self._pairs(atoms)
        return float((self._depth * decay * (decay - 2)).sum() / 2)

    def get_forces(self, atoms: Any) -> np.ndarray:
        """Return the forces (n, 3) in eV per Å."""
        apart, distance, decay = self._pairs(atoms)
        slope = 2 * self._depth * self.RANGE / self._bond * decay * (decay - 1)
        return np.asarray((slope / distance)[:, :, None] * apart).sum(axis=1)


def quench(atoms: Any, steps: int) -> None:
    """Relax atoms in place with FIRE."""
    FIRE = import_ase("optimize.fire").FIRE
    FIRE(atoms, logfile=None, maxstep=0.15).run(fmax=0.08, steps=steps)


def anneal(
    atoms: Any,
    rng: np.random.Generator,
    steps: int = 250,  # time steps of 4 fs
) -> None:
    """Move atoms in place by Langevin dynamics at a random temperature."""
    units = import_ase("units")
    Langevin = import_ase("md.langevin").Langevin
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


@dataclass(frozen=True, eq=False)
class Isomer:
    """A structure of a cluster."""

    element: str  # the metal; of an alloy its metals in the order of the class, such as ``AuPd``
    kind: str  # one of `starting_structures.KINDS`
    positions_nm: np.ndarray  # (n, 3): positions about the centre of mass
    symbols: np.ndarray | None = None  # (n,): metal of each atom; None for a single metal

    @property
    def n(self) -> int:
        """Number of atoms."""
        return len(self.positions_nm)

    @property
    def composition(self) -> dict[str, int]:
        """Number of atoms of each metal."""
        if self.symbols is None:
            return {self.element: self.n}
        counts = Counter(self.symbols.tolist())
        return {e: counts[e] for e in re.findall(SYMBOL, self.element)}

    @property
    def label(self) -> str:
        """Class, such as ``Pt55`` or ``Au24Pd1``."""
        if self.symbols is None:  # the usual case, quickly: libraries are large
            return f"{self.element}{self.n}"
        return "".join(f"{e}{n}" for e, n in self.composition.items())


def make_isomer(element: str, n: int, kind: str, seed: int) -> Isomer:
    """Build one isomer of a single metal and relax it."""
    return make_alloy({element: n}, kind, seed)


def make_alloy(atoms_of: Mapping[str, int], kind: str, seed: int) -> Isomer:
    """Build one isomer, its metals in random order, and relax it.

    The potential is EMT [1]_ if that has parameters for all metals, else Morse pairs.

    Raises
    ------
    DependencyError
        If ASE is not installed.
    AtomicityError
        If there is no potential for a metal.

    References
    ----------
    .. [1] K. W. Jacobsen, P. Stoltze and J. K. Nørskov, Surf. Sci. 366, 394 (1996).
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
    start = STARTING_STRUCTURES[kind](n, rng) * bond * 10
    if len(atoms_of) > 1:
        symbols = rng.permutation(symbols)
    atoms = import_ase("atoms").Atoms(list(symbols), positions=start)
    by_emt = set(atoms_of) <= set(EMT_METALS)
    atoms.calc = import_ase("calculators.emt").EMT() if by_emt else MorsePotential(symbols)
    quench(atoms, steps=80)
    if kind == "annealed":
        anneal(atoms, rng)
        quench(atoms, steps=80)
    positions = atoms.positions / 10
    return Isomer(
        "".join(atoms_of),
        kind,
        (positions - positions.mean(axis=0)).astype(np.float32),
        symbols if len(atoms_of) > 1 else None,
    )


def isomer_library(
    element: str,
    sizes: Sequence[int],
    per_size: int,
    seed: int = 0,
    workers: int = 1,
    progress: Progress | None = None,
) -> list[Isomer]:
    """Build isomers of every size in the shares of `KINDS`, the same for any number of workers.

    Raises `DependencyError` if ASE is not installed.
    """
    return _library([{element: n} for n in sizes], per_size, seed, workers, progress)


def library_of(
    classes: Sequence[str],
    per_class: int,
    seed: int = 0,
    workers: int = 1,
    progress: Progress | None = None,
) -> list[Isomer]:
    """Build isomers of classes of any metals and alloys, such as ``Pt55`` or ``Au24Pd1``.

    Raises `DependencyError` if ASE is not installed. Raises `AtomicityError` if a class names no
    cluster that can be built.
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
    import_ase("atoms")
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
    with atomic_write(path) as temporary:
        np.savez_compressed(
            temporary,
            **NPZ_MARK,
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
    except (OSError, EOFError, ValueError, KeyError) as error:
        advice = "Delete the file, so that it is built again"
        raise ReadError("this is no library of isomers", path, advice) from error


def read_or_build_library(
    path: Path,
    sizes: Sequence[int],
    per_size: int,
    seed: int,
    workers: int = 1,
    progress: Progress | None = None,
    element: str = "Pt",
) -> list[Isomer]:
    """Read isomers from a file; build and store them if it does not exist."""
    if not path.exists():
        save_library(path, isomer_library(element, sizes, per_size, seed, workers, progress))
    return load_library(path)
