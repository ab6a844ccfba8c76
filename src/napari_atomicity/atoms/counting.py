"""Number of atoms of clusters from their intensities and a single-atom calibration.

The interval of a count contains: the error of the calibration (bootstrap over the candidates; an
atom scatters by about 35 %, so that 45 atoms determine it to 5 to 6 %; and `SELECTION`, for faint
atoms), the scatter of the n atoms of the cluster, the noise of its background (empty regions of its
size), `SYSTEMATIC` for the tails of the probe, and, at the lower end, channelling: aligned atoms
focus the beam, and an aligned cluster is up to `CHANNELLING` too bright.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
from scipy import ndimage
from scipy.stats import norm

from ..core.micrograph import Micrograph
from ..detection.background import without_gaps
from ..detection.outliers import repaired_frames
from ..detection.outlines import TAIL_NM
from ..statistics.scores import atoms_of
from .regions import (
    RING_NM,
    Region,
    draw_discs,
    integrate_regions,
    make_cluster_region,
    mark_regions,
)
from .single_atom_calibration import (
    LIKELY,
    SPOT_NM,
    SYSTEMATIC,
    SingleAtomCalibration,
    calibrate_single_atoms,
)

if TYPE_CHECKING:
    from .completeness import Completeness

CHANNELLING = 0.1
"""Maximum relative increase of the intensity of a cluster by aligned atoms."""
MAX_ATOMS_PER_NM3 = 100.0
"""More than transition metals have (nickel has most, 91): more do not fit into a cluster."""
BLUR_NM = 0.2
"""By which outlines may be narrower than the clusters."""
DO_NOT_FIT = (
    "by the isolated atoms, the clusters would have more atoms than fit into them: these atoms are "
    "perhaps noise"
)
COLUMNS = ("n_yardstick", "n_yardstick_low", "n_yardstick_high")


def count_atoms_by_intensity(
    clusters: pd.DataFrame,
    atoms: pd.DataFrame,
    micrograph: Micrograph,
    outlines: Sequence[np.ndarray] | None = None,
    support: np.ndarray | None = None,
    classes: Sequence[str] = (),
    level: float = 0.95,
    seed: int = 0,
    completeness: Completeness | None = None,
) -> pd.DataFrame:
    """Count the atoms of each cluster in units of the isolated atoms of its frame.

    Parameters
    ----------
    atoms : pandas.DataFrame
        Atom table of all candidates, not only of those above a threshold.
    outlines : sequence of ndarray of shape (M, 2), optional
        Polygons (y, x) in pixels, one per cluster in table order; without them a cluster is a disc
        that contains its ellipse.
    support : ndarray of bool, shape (Y, X) or (T, Y, X), optional
        Mask of the support; everywhere if None.
    classes : sequence of str, optional
        Class names, for the label and the set.
    level : float, default 0.95
        Coverage of the interval.
    completeness : Completeness, optional
        Result of an injection-recovery test, which then gives the mean atom; the mean of the
        candidates is too high where only the brightest atoms are detected. Ignored for a stack.

    Returns
    -------
    pandas.DataFrame
        Index of ``clusters``: ``n_yardstick, n_yardstick_low, n_yardstick_high`` (number of atoms
        and interval), NaN if not possible; ``yardstick_reason``, why not; ``label_yardstick``, the
        nearest class on a logarithmic scale; ``yardstick_set``, the classes in the interval, joined
        by "|". Texts are "" where they do not apply.

    Raises
    ------
    CalibrationError
        If the pixel size is unknown.
    ValueError
        If the numbers of outlines and clusters differ.
    """
    if outlines is not None and len(outlines) != len(clusters):
        raise ValueError(f"{len(outlines)} outlines for {len(clusters)} clusters")
    if micrograph.is_stack:
        completeness = None
    counting = _Counting(clusters, atoms, micrograph.calibrated(), level, seed, completeness)
    for index, frame in enumerate(repaired_frames(micrograph)):
        mask = support if support is None or support.ndim == 2 else support[index]
        counting.count_frame(index, frame, outlines, mask)
    return counting.make_table(classes)


class _Counting:
    """Counts of the clusters of a micrograph, frame by frame."""

    def __init__(
        self,
        clusters: pd.DataFrame,
        atoms: pd.DataFrame,
        pixel_size_nm: float,
        level: float,
        seed: int,
        completeness: Completeness | None,
    ) -> None:
        self.clusters, self.atoms, self.pixel_size_nm = clusters, atoms, pixel_size_nm
        self.level, self.seed, self.completeness = level, seed, completeness
        self.counts = np.full((len(clusters), 3), np.nan)
        self.reasons = np.full(len(clusters), "", object)

    def count_frame(
        self,
        index: int,
        frame: np.ndarray,  # (Y, X): image
        outlines: Sequence[np.ndarray] | None,  # each (M, 2) or None: polygons of all clusters
        support: np.ndarray | None,  # (Y, X) or None, bool: mask of the support
    ) -> None:
        """Count the clusters of one frame."""
        rows = np.flatnonzero(self.clusters["frame"].to_numpy() == index)
        if len(rows) == 0:
            return
        size = self.pixel_size_nm
        polygons = [None if outlines is None else outlines[int(i)] for i in rows]
        regions = [
            make_cluster_region(self.clusters.iloc[i], outline, frame.shape, size)
            for i, outline in zip(rows, polygons, strict=True)
        ]
        near = np.zeros(frame.shape, bool)
        mark_regions(near, regions, TAIL_NM / size)
        own = self.atoms[self.atoms["frame"] == index]
        positions = own[["y_px", "x_px"]].to_numpy(float)
        confidence = own["confidence"].to_numpy(float)
        calibration = calibrate_single_atoms(
            frame, size, positions, confidence, near, support, self.seed, self.completeness
        )
        if calibration.reason:
            self.reasons[rows] = calibration.reason
            return
        likely = np.nan_to_num(confidence, nan=1.0) >= LIKELY
        spots = draw_discs(frame.shape, positions[likely], SPOT_NM / size)
        intensity = integrate_regions(without_gaps(frame), size, regions, near | spots)
        for i, region, value in zip(rows, regions, intensity, strict=True):
            self.reasons[i] = _check_cluster(self.clusters.iloc[i], value)
            if not self.reasons[i]:
                self.counts[i] = _count(value, region, calibration, size, self.level)
        most = np.array([_max_atoms(region, size) for region in regions])
        counted = np.isfinite(self.counts[rows, 0])
        if counted.any() and (self.counts[rows, 1] > most)[counted].mean() > 0.5:
            self.counts[rows], self.reasons[rows] = np.nan, DO_NOT_FIT

    def make_table(self, classes: Sequence[str]) -> pd.DataFrame:
        """Return the counts, reasons and labels with the index of the clusters."""
        out = pd.DataFrame(self.counts, columns=list(COLUMNS), index=self.clusters.index)
        out["yardstick_reason"] = self.reasons
        out["label_yardstick"], out["yardstick_set"] = _labels(self.counts, classes)
        return out


def _share_of_region(region: Region, sigma_nm: float, pixel_size_nm: float) -> float:
    """Return the intensity of uniformly distributed atoms in a region above its ring."""
    margin = int(np.ceil((TAIL_NM + RING_NM) / pixel_size_nm)) + 1
    own = np.pad(region.inside, margin).astype(float)
    spread = ndimage.gaussian_filter(own / own.sum() / pixel_size_nm**2, sigma_nm / pixel_size_nm)
    return float(integrate_regions(spread, pixel_size_nm, [Region.of(own > 0)])[0])


def _max_atoms(region: Region, pixel_size_nm: float) -> float:
    """Return how many atoms fit into a sphere with the area of a region."""
    diameter_nm = 2 * np.sqrt(region.inside.sum() / np.pi) * pixel_size_nm + BLUR_NM
    return float(MAX_ATOMS_PER_NM3 * np.pi / 6 * diameter_nm**3)


def _check_cluster(cluster: pd.Series, intensity: float) -> str:
    """Return why a cluster cannot be counted, or an empty text."""
    if cluster["touches_border"]:
        return "cut by the border"
    if cluster["touches_neighbour"]:
        return "touches another cluster"
    if np.isnan(cluster["diameter_nm"]):
        return "no cluster can be measured there"
    if not np.isfinite(intensity):
        return "no free background around it"
    return "" if intensity > 0 else "not brighter than its surroundings"


def _count(
    intensity: float,
    region: Region,
    calibration: SingleAtomCalibration,
    pixel_size_nm: float,
    level: float,
) -> tuple[float, float, float]:
    """Return the number of atoms and its interval, which is limited to 0 from below."""
    n = intensity / _share_of_region(region, calibration.sigma_nm, pixel_size_nm)
    n /= calibration.intensity
    reach = TAIL_NM + np.sqrt(region.inside.sum() / np.pi) * pixel_size_nm
    noise = np.nan_to_num(calibration.noise(np.pi * reach**2)) / calibration.intensity
    variance = n**2 * (calibration.error**2 + SYSTEMATIC**2) + n * calibration.scatter**2 + noise**2
    channelling = (n * CHANNELLING) ** 2 / 3  # mean square of a uniform distribution
    z = float(norm.ppf(0.5 + level / 2))
    # The error of the calibration is in the denominator: the upper end is farther away. Where n is
    # compatible with 0, the exponential is limited.
    error = z * np.sqrt(variance)
    above = n * np.expm1(error / n) if error < n else np.expm1(1) * error
    return n, max(0.0, n - z * np.sqrt(variance + channelling)), n + above


def _labels(counts: np.ndarray, classes: Sequence[str]) -> tuple[np.ndarray, np.ndarray]:
    """Return (N,) the nearest class, and the classes in the interval."""
    label, within = (np.full(len(counts), "", object) for _ in range(2))
    sizes = [(name, atoms_of(name)) for name in classes]
    known = [(name, size) for name, size in sizes if size]
    for i, (n, low, high) in enumerate(counts):
        if known and n > 0:
            label[i] = min(known, key=lambda c: abs(np.log(c[1] / n)))[0]
            within[i] = "|".join(name for name, s in known if low <= s <= high)
    return label, within
