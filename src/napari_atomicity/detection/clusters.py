"""Clusters: found in normalised scale space, outlined by watershed, measured in nm."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd
from scipy import ndimage

from .. import table as tables
from ..errors import AtomicityError, UnsuitableImageError
from ..micrograph import Micrograph
from ..progress import Progress, Stop, check, report
from .background import background, block_mean, local_noise, without_gaps
from .outlines import Outline, grow_regions, measure_regions
from .scale_space import ScaleSpace

BACKGROUND_WINDOW_NM = 6.0
"""Window of the background at least; four times the largest cluster if that is more."""
SADDLE_SIGMA_NM = 0.17
"""Blur that closes the gaps between the atoms of one cluster, not those between clusters."""
LEAST_ISOLATION = 0.55
"""Below this an object is the side of an edge; see `Outline`."""


@dataclass(frozen=True)
class DetectionSettings:
    """What counts as a cluster.

    Parameters
    ----------
    diameter_min_nm, diameter_max_nm
        Range of equivalent diameters.
    threshold
        Least response in the scale space, in units of its local noise.
    split_touching
        Whether a cluster with two summits is two clusters.
    split_depth
        Two summits are two clusters if the saddle between them lies below this share of the
        lower summit.
    faintest
        Least integrated intensity, as a share of the median of the frame's clusters: beside
        clusters, a few lone atoms that happen to lie together are not one.
    """

    diameter_min_nm: float = 0.6
    diameter_max_nm: float = 3.2
    threshold: float = 6.0
    split_touching: bool = True
    split_depth: float = 0.9
    faintest: float = 0.1

    def __post_init__(self) -> None:
        if not 0 < self.diameter_min_nm < self.diameter_max_nm:
            raise AtomicityError(
                f"diameters from {self.diameter_min_nm:g} to {self.diameter_max_nm:g} nm "
                "are no range",
                advice="The smallest must be above 0 and below the largest",
            )
        if not self.threshold > 0:
            raise AtomicityError(
                f"a threshold of {self.threshold:g} times the noise finds everything",
                advice="Give a positive number; 6 is the default",
            )


@dataclass(frozen=True, eq=False)
class Detection:
    """N rows of the cluster table and N outlines, closed polygons (M, 2) in pixels (y, x)."""

    table: pd.DataFrame
    outlines: list[np.ndarray]


@dataclass(frozen=True, eq=False)
class Prepared:
    """One frame ready for detection.

    ``flat`` is the frame without its background, on the working grid; a point there is
    ``offset + factor × point`` in pixels of the frame.
    """

    frame: np.ndarray
    flat: np.ndarray
    space: ScaleSpace
    pixel_nm: float
    factor: int

    def to_frame_px(self, points: np.ndarray) -> np.ndarray:
        return np.asarray(points * self.factor + (self.factor - 1) / 2)

    def to_working_px(self, points: np.ndarray) -> np.ndarray:
        return np.asarray((points - (self.factor - 1) / 2) / self.factor)


def prepare(frame: np.ndarray, pixel_size_nm: float, settings: DetectionSettings) -> Prepared:
    """Bring a frame to a grid fine enough for the smallest cluster and subtract the background."""
    frame = without_gaps(frame)
    factor = max(1, int(settings.diameter_min_nm / 10 / pixel_size_nm))
    work = block_mean(frame, factor)
    pixel_nm = pixel_size_nm * factor
    window = max(BACKGROUND_WINDOW_NM, 4 * settings.diameter_max_nm)
    flat = work - background(work, pixel_nm, window)
    reach = settings.diameter_max_nm / 2 / np.sqrt(2) / pixel_nm
    return Prepared(frame, flat, ScaleSpace(flat, reach), pixel_nm, factor)


def detect(
    micrograph: Micrograph,
    settings: DetectionSettings | None = None,
    progress: Progress | None = None,
    stop: Stop | None = None,
) -> Detection:
    """Find, outline and measure the clusters of a micrograph.

    Parameters
    ----------
    micrograph
        A calibrated image or stack; each frame is treated by itself.
    settings
        In nm and in units of the noise.
    progress, stop
        Called between frames and stages.

    Returns
    -------
    Detection
        Rows ordered from top to bottom, ``cluster_id`` from 1.

    Raises
    ------
    CalibrationError
        If the pixel size is not known.
    UnsuitableImageError
        If the pixels are too coarse for the clusters that are looked for.
    Cancelled
        If ``stop()`` says so.
    """
    settings = settings or DetectionSettings()
    pixel_size_nm = fine_enough(micrograph, settings)
    rows: list[pd.DataFrame] = []
    outlines: list[np.ndarray] = []
    for index, frame in enumerate(micrograph.frames()):
        report(progress, index, micrograph.n_frames, "Finding clusters")
        check(stop)
        if np.isfinite(frame).sum() < 2:
            continue
        prepared = prepare(frame, pixel_size_nm, settings)
        seeds = find_seeds(prepared, settings, stop)
        check(stop)
        regions = grow_regions(prepared.flat, prepared.space, seeds, prepared.pixel_nm)
        check(stop)
        found = measure_regions(regions, prepared.flat, prepared.pixel_nm)
        found = _acceptable(found, settings)
        rows.append(rows_of(found, prepared, micrograph.name, index, pixel_size_nm))
        outlines += [prepared.to_frame_px(o.polygon_px) for o in found]
    report(progress, micrograph.n_frames, micrograph.n_frames, "Finding clusters")
    if not rows:
        return Detection(tables.empty(), [])
    table = pd.concat(rows, ignore_index=True)
    table["cluster_id"] = np.arange(1, len(table) + 1)
    return Detection(tables.conform(table), outlines)


def find_seeds(
    prepared: Prepared, settings: DetectionSettings, stop: Stop | None = None
) -> np.ndarray:
    """Summits of the normalised scale space, one per cluster: (N, 2) on the working grid."""
    ratio = settings.diameter_max_nm / settings.diameter_min_nm
    n_scales = max(3, int(np.ceil(np.log(ratio) / np.log(1.3))) + 1)
    diameters_nm = np.geomspace(settings.diameter_min_nm, settings.diameter_max_nm, n_scales)
    block = int(np.ceil(2.5 * settings.diameter_max_nm / prepared.pixel_nm))
    candidates: list[np.ndarray] = []
    previous: np.ndarray | None = None
    current: np.ndarray | None = None

    # A summit must be one along the scales too: three neighbouring scales are held at a time.
    sigmas = diameters_nm / 2 / np.sqrt(2) / prepared.pixel_nm
    for i, following in enumerate([*prepared.space.laplacians(sigmas), None]):
        check(stop)
        if current is not None:
            found = _summits(previous, current, following, sigmas[i - 1], block, settings.threshold)
            if len(found):
                radius = np.full((len(found), 1), diameters_nm[i - 1] / 2 / prepared.pixel_nm)
                candidates.append(np.hstack([found, radius]))
        previous, current = current, following
    if not candidates:
        return np.empty((0, 2))
    everything = np.vstack(candidates)
    everything = everything[np.argsort(-everything[:, 2], kind="stable")]
    kept = _without_overlap(everything)
    return _distinct(kept, prepared, settings)[:, :2]


def _summits(
    below: np.ndarray | None,
    response: np.ndarray,
    above: np.ndarray | None,
    sigma_px: float,
    block_px: int,
    threshold: float,
) -> np.ndarray:
    """(N, 3) rows y, x, response of significant maxima of one scale."""
    peak = response == ndimage.maximum_filter(response, 3, mode="nearest")
    peak &= response > 0
    for other in (below, above):
        if other is not None:
            peak &= response >= other
    y, x = np.nonzero(peak)
    noise = local_noise(response, block_px)[y, x]
    keep = response[y, x] > threshold * noise
    y, x = y[keep], x[keep]
    round_enough = _curved_both_ways(response, y, x, sigma_px)
    y, x = y[round_enough], x[round_enough]
    return np.stack([y, x, response[y, x]], axis=1).astype(float)


def _curved_both_ways(
    response: np.ndarray, y: np.ndarray, x: np.ndarray, sigma_px: float
) -> np.ndarray:
    """A blob falls off in every direction; an edge or a streak does not (Lowe, IJCV 2004)."""
    step = max(1, round(sigma_px / 2))
    h, w = response.shape
    inside = (y >= step) & (y < h - step) & (x >= step) & (x < w - step)
    yc, xc = np.clip(y, step, max(h - step - 1, step)), np.clip(x, step, max(w - step - 1, step))
    if h <= 2 * step or w <= 2 * step:
        return np.ones(len(y), bool)
    centre = response[yc, xc]
    yy = response[yc + step, xc] + response[yc - step, xc] - 2 * centre
    xx = response[yc, xc + step] + response[yc, xc - step] - 2 * centre
    xy = (
        response[yc + step, xc + step]
        + response[yc - step, xc - step]
        - response[yc + step, xc - step]
        - response[yc - step, xc + step]
    ) / 4
    trace, determinant = yy + xx, yy * xx - xy**2
    edge = 10.0  # largest accepted ratio of the curvatures
    return np.asarray(~inside | (determinant * (edge + 1) ** 2 > trace**2 * edge))


def _without_overlap(candidates: np.ndarray) -> np.ndarray:
    """Keep, strongest first, the candidates outside the discs of those kept: rows y, x, R, r."""
    kept: list[np.ndarray] = []
    cells: dict[tuple[int, int], list[np.ndarray]] = {}
    size = float(candidates[:, 3].max())
    for row in candidates:
        cy, cx = int(row[0] // size), int(row[1] // size)
        neighbours = (
            other
            for i in (-1, 0, 1)
            for j in (-1, 0, 1)
            for other in cells.get((cy + i, cx + j), ())
        )
        if all(
            (row[0] - o[0]) ** 2 + (row[1] - o[1]) ** 2 > max(row[3], o[3]) ** 2 for o in neighbours
        ):
            kept.append(row)
            cells.setdefault((cy, cx), []).append(row)
    return np.array(kept)


def _distinct(
    candidates: np.ndarray, prepared: Prepared, settings: DetectionSettings
) -> np.ndarray:
    """Drop summits that no real saddle parts from a stronger neighbour."""
    from scipy.spatial import cKDTree

    if len(candidates) < 2:
        return candidates
    smooth = prepared.space.gaussian(SADDLE_SIGMA_NM / prepared.pixel_nm)
    depth = settings.split_depth if settings.split_touching else 0.5
    reach = settings.diameter_max_nm * 0.75 / prepared.pixel_nm
    height = ndimage.map_coordinates(smooth, candidates[:, :2].T, order=1)
    pairs = cKDTree(candidates[:, :2]).query_pairs(reach, output_type="ndarray")
    dropped = np.zeros(len(candidates), bool)
    for i, j in sorted(map(tuple, np.sort(pairs, axis=1))):  # i is the stronger
        if dropped[i] or dropped[j]:
            continue
        steps = np.linspace(0, 1, 24)[:, None]
        path = candidates[i, :2] * (1 - steps) + candidates[j, :2] * steps
        saddle = ndimage.map_coordinates(smooth, path.T, order=1).min()
        if saddle > depth * min(height[i], height[j]):
            dropped[j] = True
    return candidates[~dropped]


def fine_enough(micrograph: Micrograph, settings: DetectionSettings) -> float:
    pixel_size_nm = micrograph.calibrated()
    if pixel_size_nm > settings.diameter_min_nm / 3:
        raise UnsuitableImageError(
            f"a pixel of {pixel_size_nm:.4g} nm is too coarse for clusters of "
            f"{settings.diameter_min_nm:g} nm",
            micrograph.path or micrograph.name,
            f"Record at {settings.diameter_min_nm / 3:.2g} nm per pixel or finer, "
            "or correct the pixel size",
        )
    return pixel_size_nm


def _acceptable(found: list[Outline], settings: DetectionSettings) -> list[Outline]:
    """Those of the right size that stand free and are not much fainter than the others."""
    sized = [
        o
        for o in found
        # the diameter of one that is cut says little
        if (0.8 if o.touches_border else 1.0) * settings.diameter_min_nm <= o.diameter_nm
        and (o.touches_border or o.diameter_nm <= settings.diameter_max_nm)
        and o.isolation > LEAST_ISOLATION
    ]
    whole = [o.integrated_intensity for o in sized if not o.touches_border]
    least = settings.faintest * float(np.median(whole)) if len(whole) >= 5 else 0.0
    return [o for o in sized if o.integrated_intensity > least]


def rows_of(
    found: list[Outline], prepared: Prepared, image: str, frame: int, pixel_size_nm: float
) -> pd.DataFrame:
    centre = prepared.to_frame_px(np.array([o.centre_px for o in found]).reshape(-1, 2))
    order = np.arange(len(found))
    return pd.DataFrame(
        {
            "image": [image] * len(found),
            "frame": frame,
            "cluster_id": order + 1,
            "y_px": centre[:, 0],
            "x_px": centre[:, 1],
            "y_nm": centre[:, 0] * pixel_size_nm,
            "x_nm": centre[:, 1] * pixel_size_nm,
            "diameter_nm": [o.diameter_nm for o in found],
            "integrated_intensity": [o.integrated_intensity for o in found],
            "eccentricity": [o.eccentricity for o in found],
            "touches_border": [o.touches_border for o in found],
            "touches_neighbour": [o.touches_neighbour for o in found],
        }
    )
