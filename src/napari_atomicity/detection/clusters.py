"""Detection of clusters in normalised scale space, outlined by watershed and measured in nm."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import pandas as pd

from ..core.errors import UnsuitableImageError
from ..core.micrograph import Micrograph
from ..core.progress import Progress, Stop, check, report
from ..core.tables import cluster_table as tables
from ..io.outline_files import GivenOutlines
from .frame import Frame, group_points
from .given import outline_given, outlines_by_frame
from .outlines import (
    RING_NM,
    TAIL_NM,
    Outline,
    grow_regions,
    measure_regions,
)
from .recording import recording_of
from .seeds import Seeds, find_seeds, prepare
from .settings import DetectionSettings

MIN_ISOLATION = 0.55
"""Objects with less isolation are edges; see `Outline`."""
OUTLINE_TILE_PX = 2048


@dataclass(frozen=True, eq=False)
class Detection:
    """Detected clusters.

    Parameters
    ----------
    table : pandas.DataFrame
        The cluster table, one row per cluster.
    outlines : list of ndarray of shape (M, 2)
        Closed polygons (y, x) in pixels, one per cluster.
    first : Frame, optional
        First frame, prepared for detection; None if it has fewer than two finite pixels.
    n_too_small : int, optional
        Number of given outlines of fewer than four pixels, which are not measured.
    """

    table: pd.DataFrame
    outlines: list[np.ndarray]
    first: Frame | None = None
    n_too_small: int = 0


def outline_frame(
    micrograph: Micrograph,  # a calibrated image or stack
    index: int,
    settings: DetectionSettings,
    stop: Stop | None = None,
    progress: Progress | None = None,
    given: tuple[list[np.ndarray], str] | None = None,  # polygons to measure, and their source
) -> tuple[Frame, list[Outline]] | None:  # None if the frame has fewer than two finite pixels
    """Outline all clusters of a frame, of any size, from top to bottom, or measure given ones."""
    settings = limit_to_image(settings, micrograph)
    recording = recording_of(micrograph, index)
    frame = prepare(micrograph.frame(index), micrograph.calibrated(), settings, recording)
    if frame.n_finite < 2:
        return None
    seeds = find_seeds(frame, settings, stop, progress)
    if given is not None:
        return frame, outline_given(frame, seeds, given[0], settings, given[1], stop, progress)
    return frame, outline_clusters(frame, seeds, settings, stop, progress)


def detect(
    micrograph: Micrograph,
    settings: DetectionSettings | None = None,
    progress: Progress | None = None,
    stop: Stop | None = None,
    given: GivenOutlines | None = None,
) -> Detection:
    """Detect, outline and measure the clusters of a micrograph.

    Parameters
    ----------
    micrograph : Micrograph
        A calibrated image or stack; each frame is processed independently.
    settings : DetectionSettings, optional
        Settings in nm and in units of the noise.
    progress : callable, optional
        Called before frames, stages and tiles.
    stop : callable, optional
        Called before frames, stages and tiles.
    given : GivenOutlines, optional
        Outlines of another program, which are measured instead of detecting clusters.

    Returns
    -------
    Detection
        Rows ordered from top to bottom, ``cluster_id`` from 1.

    Raises
    ------
    CalibrationError
        If the pixel size is unknown.
    UnsuitableImageError
        If the pixels are too coarse for the smallest clusters.
    AtomicityError
        If the given outlines do not fit the image, or overlap.
    Cancelled
        If ``stop()`` is true.
    """
    settings = settings or DetectionSettings()
    pixel_size_nm = check_resolution(micrograph, settings)
    polygons = None if given is None else outlines_by_frame(given, micrograph)
    rows: list[pd.DataFrame] = []
    outlines: list[np.ndarray] = []
    n, first = micrograph.n_frames, None
    for index in range(n):
        report(progress, index, n, "Finding clusters")
        check(stop)
        of_frame = progress if n == 1 else None  # progress of a stack counts frames
        drawn = None if given is None or polygons is None else (polygons[index], given.source)
        outlined = outline_frame(micrograph, index, settings, stop, of_frame, drawn)
        if outlined is None:
            continue
        frame, found = outlined
        if given is None:
            found = _select_by_size(found, settings)
        first = frame if index == 0 else first
        rows.append(measurement_table(found, frame, micrograph.name, index, pixel_size_nm))
        outlines += [frame.to_file_px(o.polygon_px) for o in found]
    report(progress, n, n, "Finding clusters")
    n_too_small = sum(map(len, polygons or ())) - len(outlines) if polygons else 0
    if not rows:
        return Detection(tables.empty(), [], n_too_small=n_too_small)
    table = pd.concat(rows, ignore_index=True)
    table["cluster_id"] = np.arange(1, len(table) + 1)
    return Detection(tables.conform(table), outlines, first, n_too_small)


def outline_clusters(
    frame: Frame,
    seeds: Seeds,
    settings: DetectionSettings,
    stop: Stop | None = None,
    progress: Progress | None = None,
) -> list[Outline]:  # from top to bottom
    """Outline and measure the clusters of a frame, tile by tile.

    Each tile has a margin for the basins of its clusters, the basins that limit them, and those
    that limit these: in a chain of touching clusters each one affects the next.
    """
    points = seeds.points
    reach_nm = settings.diameter_max_nm
    margin = int(np.ceil((4 * reach_nm + TAIL_NM + RING_NM) / frame.pixel_nm))
    found: list[Outline] = []
    for tile, own in group_points(frame.inside(points), frame.shape, OUTLINE_TILE_PX, margin):
        check(stop)
        report(progress, len(found), len(points), "Outlining clusters")
        wide = tile.grown(margin)
        near = np.flatnonzero(wide.holds(points))
        labels = 1 + np.searchsorted(near, own)
        regions = grow_regions(frame, wide, points[near], seeds.noise, reach_nm)
        found += measure_regions(regions, labels)
    return sorted(found, key=lambda o: (o.centre_px[0], o.centre_px[1]))


def limit_to_image(settings: DetectionSettings, micrograph: Micrograph) -> DetectionSettings:
    """Return settings whose largest cluster fits into the image.

    Time and memory of the filters grow with the largest diameter, and no cluster is larger.
    """
    edge_nm = max(micrograph.shape_px) * micrograph.calibrated()
    largest = max(edge_nm, 2 * settings.diameter_min_nm)
    return replace(settings, diameter_max_nm=min(settings.diameter_max_nm, largest))


def check_resolution(micrograph: Micrograph, settings: DetectionSettings) -> float:
    """Return the pixel size in nm, or raise an error if it is too coarse.

    Raises `CalibrationError` if the pixel size is unknown. Raises `UnsuitableImageError` if the
    pixels are too coarse for the smallest clusters.
    """
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


def has_minimum_diameter(outline: Outline, settings: DetectionSettings) -> bool:
    """Return whether an outline has the minimum diameter of a cluster."""
    # the diameter of a cut cluster is a lower limit
    return outline.diameter_nm >= (0.8 if outline.touches_border else 1) * settings.diameter_min_nm


def _select_by_size(found: list[Outline], settings: DetectionSettings) -> list[Outline]:
    """Select isolated outlines of the right size that are not much fainter than the others."""
    sized = [
        o
        for o in found
        if has_minimum_diameter(o, settings)
        and (o.touches_border or o.diameter_nm <= settings.diameter_max_nm)
        and o.isolation > MIN_ISOLATION
    ]
    whole = [o.integrated_intensity for o in sized if not o.touches_border]
    min_intensity = settings.faintest * float(np.median(whole)) if len(whole) >= 5 else 0.0
    return [o for o in sized if o.integrated_intensity > min_intensity]


def measurement_table(
    found: list[Outline],  # outlines on the grid of the frame
    frame: Frame,
    image: str,
    index: int,
    pixel_size_nm: float,  # edge length of a pixel of the file in nm
) -> pd.DataFrame:
    """Return the measurements as rows of a cluster table."""
    centre = frame.to_file_px(np.array([o.centre_px for o in found]).reshape(-1, 2))
    order = np.arange(len(found))
    table = pd.DataFrame(
        {
            "image": [image] * len(found),
            "frame": index,
            "cluster_id": order + 1,
            "y_px": centre[:, 0],
            "x_px": centre[:, 1],
            "y_nm": centre[:, 0] * pixel_size_nm,
            "x_nm": centre[:, 1] * pixel_size_nm,
            "diameter_nm": [o.diameter_nm for o in found],
            "integrated_intensity": [o.integrated_intensity * frame.recording.unit for o in found],
            "eccentricity": [o.eccentricity for o in found],
            "touches_border": [o.touches_border for o in found],
            "touches_neighbour": [o.touches_neighbour for o in found],
        }
    )
    if frame.recording.is_faithful:
        return table
    return table.assign(
        clipped=[frame.clipped_fraction(frame.to_file_px(o.polygon_px)) for o in found],
        response=frame.recording.response(centre[:, 0], centre[:, 1]),
    )
