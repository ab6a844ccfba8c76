"""Lone atoms between the clusters of an image, which tell the intensity of one atom."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.spatial import cKDTree

from ..core.micrograph import Micrograph
from ..detection.frame import Frame, whole
from ..detection.recording import recording_of
from ..detection.seeds import find_peaks, prepare
from ..detection.settings import DetectionSettings
from .regions import RING_NM, integrate

SIGMA_NM = 0.08
"""Scale at which atoms are detected: about the standard deviation of the probe."""
MAX_PIXEL_NM = 0.06
"""Coarser pixels do not resolve atoms."""
MAX_EDGE_PX = 2048
"""Larger images are searched in their middle only."""
NOISE_BLOCK_NM = 8.0
THRESHOLD = 5.0
"""Significance of the peaks that may be atoms."""
MIN_SIGNIFICANCE = 8.0
"""Median significance of atoms; less means that the threshold selects the bright ones."""
RADIUS_NM = 0.35
"""Radius of the disc in which the intensity of an atom is integrated: with its tails."""
CLEARANCE_NM = RADIUS_NM + RING_NM
"""Minimum distance to other peaks, to clusters and to the border."""
AREA_NM2, AREA_PX = 0.1, 2.5
"""Largest area of an atom (intensity over height) in nm², and smallest in pixels: a group of atoms
is wider, a defect of the detector narrower."""
MIN_ATOMS = 6
MAX_DEVIATION = 0.6
"""Relative to the intensity of one atom. Pairs and noise deviate more."""
MIN_SHARE = 0.7
"""Minimum share of peaks that are single atoms by their intensity."""


@dataclass(frozen=True)
class LoneAtoms:
    """Mean intensity of the lone atoms of an image."""

    intensity: float  # integrated intensity of one atom in counts nm²
    error: float  # relative standard error of the intensity
    n_atoms: int


def measure_lone_atoms(
    micrograph: Micrograph,  # calibrated image. Of a stack, the first frame is measured.
    # each (M, 2): closed polygons (y, x) of the clusters of this frame in pixels
    outlines: Sequence[np.ndarray],
    settings: DetectionSettings,  # settings with which the clusters were detected
    first: Frame | None = None,  # this frame, prepared for detection, if it exists
) -> LoneAtoms | None:  # None if the image has too few atoms, or atoms that the noise hides
    """Measure the intensity of the lone atoms on the support between clusters."""
    recording, pixel_nm = recording_of(micrograph), micrograph.calibrated()
    pixels = micrograph.frame(0)
    if recording.nonlinear or recording.floor > 0 or pixel_nm > MAX_PIXEL_NM:
        return None
    top, left = (max(0, (n - MAX_EDGE_PX) // 2) for n in pixels.shape)
    frame = first
    if frame is None or max(pixels.shape) > MAX_EDGE_PX:
        middle = pixels[top : top + MAX_EDGE_PX, left : left + MAX_EDGE_PX]
        frame = prepare(middle, pixel_nm, settings, recording.cropped(top, left))
    if frame.n_finite < min(pixels.shape[0], MAX_EDGE_PX) * min(pixels.shape[1], MAX_EDGE_PX):
        return None
    peaks = find_peaks(
        frame, np.array([SIGMA_NM / frame.pixel_nm]), THRESHOLD, NOISE_BLOCK_NM / frame.pixel_nm
    )
    clusters = [frame.to_grid_px(polygon - (top, left)) for polygon in outlines]
    clearance_px = CLEARANCE_NM / frame.pixel_nm
    rows = _isolated(peaks.points, clusters, frame.shape, clearance_px)
    if len(rows) < MIN_ATOMS or np.median(peaks.significance[rows]) < MIN_SIGNIFICANCE:
        return None
    flat, points = frame.flat(whole(frame.shape)), peaks.points[rows]
    intensity = integrate(flat, frame.pixel_nm, points, RADIUS_NM)
    area_nm2 = float(np.nanmedian(intensity / flat[tuple(np.rint(points).astype(int).T)]))
    is_atom = AREA_PX * frame.pixel_nm**2 < area_nm2 < AREA_NM2
    return _average(intensity * recording.unit) if is_atom else None


def _isolated(
    points: np.ndarray, clusters: Sequence[np.ndarray], shape: tuple[int, int], clearance_px: float
) -> np.ndarray:
    """Return the indices of points (N, 2) away from clusters, other points and the border."""
    inside = np.minimum(points, np.array(shape) - 1 - points).min(axis=1)
    alone = inside > clearance_px
    for polygon in clusters:
        centre = polygon.mean(axis=0)
        radius = np.hypot(*(polygon - centre).T).max()
        alone &= np.hypot(*(points - centre).T) > radius + clearance_px
    if len(points) > 1:
        alone &= cKDTree(points).query(points, k=2)[0][:, 1] > clearance_px
    return np.flatnonzero(alone)


def _average(intensity: np.ndarray) -> LoneAtoms | None:
    """Return the mean intensity of the atoms among peaks (N,); None if too few are single atoms."""
    mean = float(np.nanmedian(intensity))
    for _ in range(5):
        atoms = intensity[np.abs(intensity - mean) < MAX_DEVIATION * mean]
        if len(atoms) < max(MIN_ATOMS, MIN_SHARE * len(intensity)):
            return None
        mean = float(atoms.mean())
    return LoneAtoms(mean, float(atoms.std() / np.sqrt(len(atoms)) / mean), len(atoms))
