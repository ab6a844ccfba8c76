"""Relaxation of isomers with ASE: a Morse pair potential, quenching and annealing."""

from __future__ import annotations

from typing import Any

import numpy as np

from .metals import EMT_METALS_EV, PAIR_METALS_EV, import_ase, nearest_neighbour_nm


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

    def get_potential_energy(self, atoms: Any, force_consistent: bool = False) -> float:
        """Return the energy in eV.

        Parameters
        ----------
        force_consistent : bool, optional
            Has no effect: there is only one energy, which is consistent with the forces.
        """
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


def anneal(atoms: Any, rng: np.random.Generator, steps: int = 250) -> None:
    """Move atoms in place by Langevin dynamics at a random temperature.

    Parameters
    ----------
    steps : int, optional
        Time steps of 4 fs.
    """
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
