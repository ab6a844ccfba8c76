"""Whole fields with ground truth: clusters on carbon under given conditions."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from scipy import ndimage
from scipy.spatial import cKDTree

from ..core.micrograph import Micrograph
from ..core.tables import cluster_table as tables
from .deposits import (
    Deposit,
    add_aggregates,
    count_atoms_above,
    cross_sections_nm2,
    draw_cluster_isomers,
    draw_lone_atoms,
    orient_isomer,
    place_deposits,
    projected_diameter_nm,
)
from .field_settings import FieldSettings
from .imaging import cross_section_nm2, record, scan_positions, scatter_atoms, scatter_carbon
from .metals import composition
from .structures import Isomer


# ---- support films of amorphous carbon: local thickness, steps and contamination
def draw_thickness(settings: FieldSettings, rng: np.random.Generator) -> np.ndarray:
    """Draw the thickness (Y, X) of a support in nm."""
    shape, pixel = settings.shape_px, settings.pixel_size_nm
    relief = np.zeros(shape, np.float32)
    for scale_nm in (1.5, 4.0, 10.0):
        relief += smooth_noise(shape, pixel, scale_nm, rng) * (scale_nm / 10) ** 0.5
    relief *= settings.roughness / max(float(relief.std()), 1e-9)
    thickness = settings.carbon_nm * np.clip(1 + relief, 0.05, None)
    if settings.step:
        angle, offset = rng.uniform(0, 2 * np.pi), rng.uniform(-0.3, 0.3)
        y, x = np.mgrid[-0.5 : 0.5 : shape[0] * 1j, -0.5 : 0.5 : shape[1] * 1j]
        wave = 0.03 * np.sin(2 * np.pi * (x * np.sin(angle) - y * np.cos(angle)) * 3)
        beyond = y * np.sin(angle) + x * np.cos(angle) > offset + wave
        thickness = np.where(beyond, thickness * (1 + settings.step), thickness)
    return np.asarray(thickness, np.float32)


def smooth_noise(
    shape: tuple[int, int],  # height and width in pixels
    pixel_nm: float,
    scale_nm: float,
    rng: np.random.Generator,
) -> np.ndarray:  # (Y, X): the field, float32
    """Draw a random smooth field, of unit variance at its knots."""
    coarse = [max(2, int(n * pixel_nm / scale_nm) + 3) for n in shape]
    knots = rng.normal(size=coarse).astype(np.float32)
    # a spline through knots is linear in them: one matrix per axis, faster than zooming the image
    along = [
        ndimage.zoom(np.eye(m), (n / m, 1), order=3) for n, m in zip(shape, coarse, strict=True)
    ]
    return np.asarray(along[0] @ knots @ along[1].T, np.float32)


def add_contamination(
    thickness: np.ndarray,  # (Y, X): thickness of the support in nm
    settings: FieldSettings,  # share and height of the patches
    rng: np.random.Generator,
) -> np.ndarray:  # (Y, X): thickness in nm
    """Add smooth patches of carbon where there is a support."""
    waves = smooth_noise(settings.shape_px, settings.pixel_size_nm, 4.0, rng)
    above = waves - np.quantile(waves[thickness > 0], 1 - settings.contamination)
    height = np.clip(above / max(float(above.max()), 1e-9), 0, None)
    # rises steeply at the rim and is level in the middle
    patches = settings.contamination_nm * (1 - (1 - height) ** 2)
    return np.where((thickness > 0) & (above > 0), thickness + patches, thickness)


@dataclass(frozen=True, eq=False)
class Field:
    """A simulated micrograph, the truth in the columns of the cluster table, and its settings.

    The truth has the additional columns ``n_atoms``, ``isomer`` (index into the library), ``kind``
    and ``parts`` (the classes of the clusters in this place, joined by +).
    """

    micrograph: Micrograph
    truth: pd.DataFrame
    settings: FieldSettings
    seed: int

    def intensity_per_atom(self, label: str) -> float:
        """Return the integrated intensity of one atom of a class in counts nm².

        Of an alloy it is the mean of its atoms.
        """
        microscope, pixel = self.settings.microscope, self.settings.pixel_size_nm
        counts_nm2 = microscope.dose_e_per_a2 * 100 * pixel**2 * microscope.gain
        atoms_of = composition(label)
        sigma = sum(cross_section_nm2(e) * n for e, n in atoms_of.items()) / sum(atoms_of.values())
        return counts_nm2 * sigma


def simulate_field(
    library: Sequence[Isomer],
    settings: FieldSettings,
    seed: int,
    name: str = "field.tif",
    device: str = "cpu",
) -> Field:
    """Simulate a field; the same library, settings and seed give the same pixels.

    Parameters
    ----------
    library : sequence of Isomer
        Isomers of the classes of the mixture.
    seed : int
        Seed of all random numbers, which are drawn on the CPU.
    name : str, optional
        Name of the micrograph, which is in the truth, too.
    device : str, optional
        "cpu", or a device of PyTorch that forms the image. There, expected intensities differ by
        rounding, so that a few pixels may differ by a count.

    Raises
    ------
    AtomicityError
        If the library lacks a class of the mixture.
    """
    rng = np.random.default_rng(seed)
    # what is off by default draws from its own stream, so that all else stays the same
    landing, contaminating = rng.spawn(2)
    shape, pixel = settings.shape_px, settings.pixel_size_nm
    extent = np.array(shape) * pixel
    chosen = draw_cluster_isomers(library, settings, float(extent.prod()), rng)
    thickness = draw_thickness(settings, rng)
    if settings.contamination > 0:
        thickness = add_contamination(thickness, settings, contaminating)
    deposits = [_deposit(library, i, rng) for i in chosen]
    if settings.aggregates > 0:
        deposits = add_aggregates(deposits, library, settings, landing)
    centres = place_deposits(
        [d.atoms for d in deposits], extent, settings.touching, thickness, pixel, rng
    )
    deposits = deposits[: len(centres)]

    displacement = scan_positions(shape, settings.scan, rng)
    points, weights = _scattering_atoms(deposits, centres, settings, extent, rng)
    image = scatter_carbon(thickness, pixel, settings.microscope, rng, settings.order, device)
    image += scatter_atoms(
        shape, pixel, points, weights, settings.microscope, displacement, device=device
    )
    pixels = record(image, pixel, settings.microscope, settings.scan, rng)
    micrograph = Micrograph(pixels, pixel, name=name, metadata={"simulated": True, "seed": seed})
    truth = _truth(library, deposits, centres, settings, name)
    return Field(micrograph, truth, settings, seed)


def _deposit(library: Sequence[Isomer], index: int, rng: np.random.Generator) -> Deposit:
    """Return an isomer of the library in a random orientation."""
    isomer = library[index]
    return Deposit((index,), orient_isomer(isomer, rng), cross_sections_nm2(isomer))


def _scattering_atoms(
    deposits: Sequence[Deposit],
    centres: np.ndarray,
    settings: FieldSettings,
    extent_nm: np.ndarray,
    rng: np.random.Generator,
) -> tuple[np.ndarray, np.ndarray]:
    """Return positions (N, 2) in nm and cross-sections (N,) in nm² of all metal atoms."""
    points, weights = [], []
    for deposit, centre in zip(deposits, centres, strict=True):
        points.append(deposit.atoms[:, :2] + centre)
        scale = np.exp(rng.normal(0, settings.intensity_scatter))
        gain = 1 + settings.channelling * np.minimum(count_atoms_above(deposit.atoms), 4)
        weights.append(deposit.sigma_nm2 * scale * gain)
    lone = draw_lone_atoms(settings, extent_nm, rng)
    points.append(lone)
    weights.append(np.full(len(lone), cross_section_nm2(settings.element)))
    return np.concatenate(points), np.concatenate(weights)


def _truth(
    library: Sequence[Isomer],
    deposits: Sequence[Deposit],
    centres: np.ndarray,
    settings: FieldSettings,
    name: str,
) -> pd.DataFrame:
    """Return the truth: a row per deposit in the columns of the cluster table."""
    pixel = settings.pixel_size_nm
    drift = np.array(settings.scan.drift_px_per_row)
    n = len(centres)
    # atoms appear where the drifting beam meets them
    at = centres / pixel
    at = at - drift * at[:, :1] if n else at.reshape(0, 2)
    placed = [d.atoms for d in deposits]
    diameters = np.array([projected_diameter_nm(p) for p in placed])
    border, touching = _flags(placed, centres, np.array(settings.shape_px) * pixel)
    parts = [[library[i] for i in d.isomers] for d in deposits]
    classes = [[i.label for i in of_one] for of_one in parts]
    labels = [c[0] if len(c) == 1 else tables.AGGREGATE for c in classes]
    return tables.conform(
        pd.DataFrame(
            {
                "image": [name] * n,
                "frame": np.zeros(n, int),
                "cluster_id": np.arange(1, n + 1),
                "y_px": at[:, 0],
                "x_px": at[:, 1],
                "y_nm": at[:, 0] * pixel,
                "x_nm": at[:, 1] * pixel,
                "diameter_nm": diameters,
                "touches_border": border,
                "touches_neighbour": touching,
                "label": labels,
                "label_corrected": labels,
                "n_atoms": [len(p) for p in placed],
                "isomer": [d.isomers[0] for d in deposits],
                "kind": [of_one[0].kind for of_one in parts],
                "parts": ["+".join(c) for c in classes],
            }
        )
    )


def _flags(
    placed: Sequence[np.ndarray], centres: np.ndarray, extent_nm: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Return for each cluster whether it touches the border, and whether a neighbour (n,)."""
    n = len(centres)
    border, touching = np.zeros(n, bool), np.zeros(n, bool)
    points = [p[:, :2] + c for p, c in zip(placed, centres, strict=True)]
    for i in range(n):
        border[i] = bool((points[i] < 0.1).any() or (points[i] > extent_nm - 0.1).any())
    for i, j in cKDTree(centres).query_pairs(4) if n else ():
        if not (touching[i] and touching[j]):
            touches = cKDTree(points[j]).query(points[i])[0].min() < 0.45
            touching[[i, j]] |= touches
    return border, touching
