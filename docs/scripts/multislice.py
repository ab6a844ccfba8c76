"""Multislice image of one isomer, for comparison with incoherent images.

Needs the extra `multislice`. Nothing else in the package uses this module.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from scipy import fft, ndimage

from napari_atomicity.core.errors import require_extra
from napari_atomicity.simulation.deposits import count_atoms_above, cross_sections_nm2
from napari_atomicity.simulation.imaging import Microscope, scatter_atoms, wavelength_nm
from napari_atomicity.simulation.metals import import_ase
from napari_atomicity.simulation.structures import Isomer

MARGIN_NM = 0.35
"""Between the atoms and the edge of the cell: most of the probe's tails."""


def _abtem() -> Any:
    with require_extra("multislice", "computing multislice images"):
        import abtem
    return abtem


def cell_of(isomer: Isomer, pixel_nm: float = 0.05) -> tuple[int, np.ndarray]:
    """Return the edge in pixels of a square cell around an isomer, and its atoms (n, 3) in nm."""
    low, high = isomer.positions_nm.min(axis=0), isomer.positions_nm.max(axis=0)
    n = int(np.ceil(((high - low)[:2].max() + 2 * MARGIN_NM) / pixel_nm))
    return n, isomer.positions_nm - (low + high) / 2 + [n * pixel_nm / 2, n * pixel_nm / 2, 0]


def incoherent_image(
    isomer: Isomer,
    microscope: Microscope,
    pixel_nm: float = 0.05,
    channelling: float = 0.03,
) -> np.ndarray:
    """Compute the share of the beam that an isomer scatters, as in simulated fields.

    Parameters
    ----------
    isomer : Isomer
        Oriented isomer: z points against the beam.
    microscope : Microscope
        Voltage and probe; dose and detector have no effect.
    pixel_nm : float, optional
        Step of the scan.
    channelling : float, optional
        Gain in weight of an atom per atom in line above it.

    Returns
    -------
    ndarray of shape (n, n)
        Share of the beam, on the cell of `cell_of`.
    """
    n, atoms = cell_of(isomer, pixel_nm)
    weights = cross_sections_nm2(isomer) * (
        1 + channelling * np.minimum(count_atoms_above(atoms), 4)
    )
    still = (np.zeros(n), np.zeros(n))
    return scatter_atoms((n, n), pixel_nm, atoms[:, :2], weights, microscope, still)


def multislice_image(
    isomer: Isomer,
    microscope: Microscope,
    pixel_nm: float = 0.05,
    angles_mrad: tuple[float, float] = (68.0, 150.0),
    configurations: int = 2,
    slice_nm: float = 0.24,
    seed: int = 0,
) -> np.ndarray:
    """Compute the share of the beam that an isomer scatters into a ring, by abTEM's multislice.

    Independent-atom potentials [1]_, frozen phonons, the source by convolution.

    Parameters
    ----------
    isomer : Isomer
        Oriented isomer, as in `incoherent_image`.
    microscope : Microscope
        Voltage and probe.
    pixel_nm : float, optional
        Step of the scan; the grid is that of `incoherent_image`.
    angles_mrad : tuple of float, optional
        Inner and outer angle of the detector. The sampling of the waves goes with the outer one,
        and the time with its square.
    configurations : int, optional
        Number of configurations of displaced atoms that are averaged.

    Returns
    -------
    ndarray of shape (n, n)
        Share of the beam.

    Raises
    ------
    DependencyError
        If abTEM or ASE is not installed.

    References
    ----------
    .. [1] I. Lobato and D. Van Dyck, Acta Cryst. A 70, 636 (2014).
    """
    abtem = _abtem()
    n, atoms = cell_of(isomer, pixel_nm)
    edge = n * pixel_nm * 10  # abTEM's unit is Å
    finest = _sampling(microscope, angles_mrad[1])
    configuration = {"device": "cpu", "diagnostics.progress_bar": False, "precision": "float32"}
    with abtem.config.set(configuration):
        structure, sigmas = _structure(isomer, atoms, edge), 10 * microscope.thermal_nm
        moving = abtem.FrozenPhonons(structure, configurations, sigmas=sigmas, seed=seed)
        points = fft.next_fast_len(int(np.ceil(edge / finest)) + 1)
        potential = abtem.Potential(moving, gpts=points, slice_thickness=10 * slice_nm)
        detector, scan = abtem.AnnularDetector(*angles_mrad), _scan(abtem, edge, n)
        waves = _probe(abtem, microscope)
        image = waves.scan(potential, scan, detector, max_batch=32, lazy=False).array
    blur = microscope.source_nm / 2.3548 / pixel_nm
    return np.asarray(ndimage.gaussian_filter(image, blur, mode="wrap"), np.float32)


def _sampling(microscope: Microscope, outer_mrad: float) -> float:
    """Return the sampling of the waves in Å that a detector of this outer angle needs."""
    # two thirds of the waves' band are kept from aliasing, and its rim fades: a fifth to spare
    return 10 * wavelength_nm(microscope.voltage_kv) / (3 * 1.2 * outer_mrad * 1e-3)


def _structure(isomer: Isomer, atoms_nm: np.ndarray, edge_angstrom: float) -> Any:
    """Return the isomer as ASE's Atoms in a cell with the beam along the third axis."""
    height = 10 * np.ptp(atoms_nm[:, 2]) + 2
    depth = 10 * (atoms_nm[:, 2].max() - atoms_nm[:, 2]) + 1  # the beam enters at the largest z
    symbols = [isomer.element] * isomer.n if isomer.symbols is None else list(isomer.symbols)
    return import_ase("atoms").Atoms(
        symbols,
        np.column_stack([atoms_nm[:, :2] * 10, depth]),
        cell=(edge_angstrom, edge_angstrom, height),
    )


def _probe(abtem: Any, microscope: Microscope) -> Any:
    """Return abTEM's probe of a microscope."""
    return abtem.Probe(
        energy=microscope.voltage_kv * 1e3,
        semiangle_cutoff=microscope.convergence_mrad,
        aberrations=_aberrations(microscope),
    )


def _scan(abtem: Any, edge_angstrom: float, n: int) -> Any:
    """Return abTEM's scan of n × n points over the cell."""
    return abtem.GridScan((0, 0), (edge_angstrom, edge_angstrom), gpts=n)


def _aberrations(microscope: Microscope) -> dict[str, float]:
    """Return the aberrations of a microscope in abTEM's notation, lengths in Å."""
    return {
        "C10": 10 * microscope.defocus_nm,
        "C12": 10 * microscope.astigmatism_nm,
        "phi12": np.pi / 2 - microscope.astigmatism_rad,  # abTEM's first axis is our second
        "C30": 1e4 * microscope.cs_um,
    }
