"""Metals of simulated clusters: names of classes, neighbour distances, cohesive energies."""

from __future__ import annotations

import re
from typing import Any

import numpy as np

from ..core.errors import AtomicityError, require_extra

# ---- largest simulations, far above what is of use: beyond, a wrong digit would fill the memory

MAX_SIZE_PX = 16384
"""Edge of an image; simulating it takes several arrays of 2 GB."""
MAX_NUMBER = 100_000
"""Images, or structures of a class."""
MAX_ATOMS = 10_000
"""Atoms of a cluster; relaxing the structure of a larger one takes many minutes."""


EMT_METALS = ("Al", "Ni", "Cu", "Pd", "Ag", "Pt", "Au")
"""Metals with parameters in ASE's EMT (Jacobsen, Stoltze, Nørskov, Surf. Sci. 366, 394 (1996))."""
PAIR_METALS_EV = {
    "Ti": 4.85, "V": 5.31, "Cr": 4.10, "Fe": 4.28, "Co": 4.39, "Zr": 6.25, "Nb": 7.57,
    "Mo": 6.82, "Ru": 6.74, "Rh": 5.75, "Hf": 6.44, "Ta": 8.10, "W": 8.90, "Re": 8.03,
    "Os": 8.17, "Ir": 6.94,
}  # fmt: skip
"""Metals that EMT lacks, relaxed with a pair potential, and their cohesive energies (also below)
in eV (Kittel, Introduction to Solid State Physics, 8th edition, table 3.1)."""
EMT_METALS_EV = {
    "Al": 3.39, "Ni": 4.44, "Cu": 3.49, "Pd": 3.89, "Ag": 2.95, "Pt": 5.84, "Au": 3.81,
}  # fmt: skip
METALS = (*EMT_METALS, *PAIR_METALS_EV)
"""Metals whose clusters can be built, alone and with each other."""
_MAX_DIGITS = 9
SYMBOL = r"[A-Z][a-z]?"


def composition(label: str) -> dict[str, int]:
    """Return the number of atoms of each metal: ``Au24Pd1`` → {"Au": 24, "Pd": 1}.

    Raises `AtomicityError` if the label names no cluster that can be built.
    """
    parts = re.findall(rf"({SYMBOL})(\d+)", label)
    counts = {e: int(n[:_MAX_DIGITS]) for e, n in parts}
    written = "".join(e + n for e, n in parts)
    possible = counts and len(counts) == len(parts) and min(counts.values()) > 0
    if written != label or not possible or not set(counts) <= set(METALS):
        raise AtomicityError(
            f"{label[:40]!r} names no cluster of a metal and a number of atoms",
            advice=f"Write for example Pt55 or Au24Pd1; metals: {', '.join(METALS)}",
        )
    if sum(counts.values()) > MAX_ATOMS:
        raise AtomicityError(
            f"{label[:40]!r} has more than {MAX_ATOMS:,} atoms",
            advice="Name a smaller cluster: building such structures takes too long",
        )
    return counts


def size_of(label: str) -> int:
    """Return the number of atoms that a class such as ``Pt55`` or ``Au24Pd1`` names.

    Raises `AtomicityError` if it names none.
    """
    return sum(composition(label).values())


def nearest_neighbour_nm(element: str) -> float:
    """Return the nearest-neighbour distance in the metal in nm."""
    data = import_ase("data")
    state = data.reference_states[data.atomic_numbers[element]]
    lattice: float = state["a"]
    if state["symmetry"] == "bcc":
        return lattice * np.sqrt(3) / 2 / 10
    if state["symmetry"] == "hcp":
        between_layers = np.hypot(lattice / np.sqrt(3), state["c/a"] * lattice / 2)
        return float(min(lattice, between_layers)) / 10
    return lattice / np.sqrt(2) / 10


def import_ase(module: str) -> Any:
    """Import a module of ASE.

    Raises `DependencyError` if ASE is not installed.
    """
    from importlib import import_module

    with require_extra("simulation", "building cluster structures"):
        return import_module(f"ase.{module}")
