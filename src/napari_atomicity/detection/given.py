"""Outlines that other programs or people have drawn, measured as detected clusters are."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

import numpy as np
from scipy import ndimage
from skimage.draw import polygon as pixels_inside
from skimage.measure import points_in_poly

from ..core.errors import AtomicityError
from ..core.micrograph import Micrograph
from ..core.progress import Progress, Stop, check, report
from ..io.outline_files import GivenOutlines, area_of
from .frame import Frame, Tile, group_points
from .outlines import (
    RING_NM,
    TAIL_NM,
    Outline,
    grow_regions,
    measure_regions,
    trace_masks,
)
from .seeds import Seeds
from .settings import DetectionSettings

MAX_OVERLAP = 0.1
"""Largest share of a smaller object that may belong to another one, too, as drawn by hand."""
MAX_SHARE = 0.5
"""An object with a larger share of the image is its background, or a region with the objects."""
_MIN_WHOLE = 0.75
"""Smallest share of the pixels of a label in its largest part: programs leave some apart."""
_MAX_SPREAD = 20.0
"""Largest area of the boxes around all labels, in areas of the image: objects lie beside others."""
_TILE_PX = 2048


def outlines_by_frame(
    given: GivenOutlines,
    micrograph: Micrograph,
    is_region: bool = False,  # regions may be large; without a frame, they are in all
) -> list[list[np.ndarray]]:
    """Return the polygons (y, x) of each frame in pixels, after checking that they fit the image.

    Raises `AtomicityError` if they do not.
    """
    if is_region and micrograph.n_frames > 1:
        given = _in_all_frames(given, micrograph.n_frames)
    found: list[list[np.ndarray]] = [[] for _ in range(micrograph.n_frames)]
    if given.labels is not None:
        if given.labels.shape != micrograph.shape and micrograph.shape != (1, *given.labels.shape):
            own, wanted = (" × ".join(map(str, x.shape)) for x in (given.labels, micrograph))
            raise AtomicityError(
                f"it has {own} pixels, but {micrograph.name} has {wanted}",
                given.source,
                "Use a mask of the whole image at its full size. A new Labels layer of napari has "
                "that size if the image is selected in the list of layers",
            )
        for i, labels in enumerate(given.labels.reshape(-1, *given.labels.shape[-2:])):
            found[i] += _trace_labels(labels, given.source)
    for number, (polygon, frame) in enumerate(zip(given.polygons, given.frames, strict=True), 1):
        index = 0 if micrograph.n_frames == 1 else frame
        if index is None or not 0 <= index < micrograph.n_frames:
            where = "no frame" if frame is None else f"frame {frame}"
            raise AtomicityError(
                f"object {number} belongs to {where}, but {micrograph.name} has "
                f"{micrograph.n_frames} frames, from 0",
                given.source,
                "Store the position in the stack with each object",
            )
        found[index].append(polygon)
    for polygons in found:
        _check_within(polygons, micrograph, given.source, np.inf if is_region else MAX_SHARE)
    return found


def _in_all_frames(given: GivenOutlines, n_frames: int) -> GivenOutlines:
    """Return regions with those that name no frame in every frame."""
    if given.labels is not None:
        is_stack = given.labels.ndim == 3
        return given if is_stack else replace(given, labels=np.stack([given.labels] * n_frames))
    places = [
        (polygon, index)
        for polygon, frame in zip(given.polygons, given.frames, strict=True)
        for index in (range(n_frames) if frame is None else [frame])
    ]
    polygons, frames = zip(*places, strict=True)
    return replace(given, polygons=polygons, frames=frames)


def _trace_labels(labels: np.ndarray, source: str) -> list[np.ndarray]:
    """Return the outline of the largest part of each label of a frame."""
    boxes = ndimage.find_objects(labels)
    present = [(i, box) for i, box in enumerate(boxes, 1) if box is not None]
    if sum(labels[box].size for _, box in present) > _MAX_SPREAD * labels.size:
        raise AtomicityError(
            "its numbers are spread over the image, as intensities are",
            source,
            "Choose a label image: each object has its own number, and the background is 0",
        )
    masks = [labels[box] == i for i, box in present]
    polygons = trace_masks(masks)
    for (i, _), mask, polygon in zip(present, masks, polygons, strict=True):
        # First the quick test; the contour of a few pixels has a smaller area as well.
        if area_of(polygon) < _MIN_WHOLE * mask.sum() and _largest_part(mask) < _MIN_WHOLE:
            raise AtomicityError(
                f"label {i} has separate parts",
                source,
                "Give each object its own label: this may be an image of classes",
            )
    return [
        polygon + [axis.start for axis in box]
        for polygon, (_, box) in zip(polygons, present, strict=True)
    ]


def _largest_part(mask: np.ndarray) -> float:
    """Return the share of the largest connected part of a mask."""
    parts, _ = ndimage.label(mask, np.ones((3, 3)))
    return float(np.bincount(parts[mask]).max() / mask.sum())


def _check_within(
    polygons: Sequence[np.ndarray], micrograph: Micrograph, source: str, max_share: float
) -> None:
    size = np.array(micrograph.shape_px)
    for number, polygon in enumerate(polygons, 1):
        middle = (polygon.min(axis=0) + polygon.max(axis=0)) / 2
        if (middle < -0.5).any() or (middle > size - 0.5).any():
            raise AtomicityError(
                f"object {number} at x = {middle[1]:.0f}, y = {middle[0]:.0f} is outside of "
                f"{micrograph.name} ({size[1]} pixels wide, {size[0]} high)",
                source,
                "Use the outlines of this image, with coordinates in its pixels",
            )
        if area_of(polygon) > max_share * size.prod():
            raise AtomicityError(
                f"object {number} covers most of {micrograph.name}",
                source,
                "Leave out the background, and regions that contain the objects",
            )


def outline_given(
    frame: Frame,
    seeds: Seeds,
    polygons: Sequence[np.ndarray],  # each (M, 2) in pixels (y, x) of the file
    settings: DetectionSettings,
    source: str,  # for messages
    stop: Stop | None = None,
    progress: Progress | None = None,
) -> list[Outline]:  # from top to bottom; without those of fewer than four pixels
    """Measure given clusters of a frame; other clusters that are detected limit them.

    Raises `AtomicityError` if objects overlap.
    """
    if not polygons:
        return []
    given = [frame.to_grid_px(polygon) for polygon in polygons]
    low, high = (np.array([f(polygon, axis=0) for polygon in given]) for f in (np.min, np.max))
    low, high = frame.inside(low), frame.inside(high)
    reach_px = (2 * settings.diameter_max_nm + TAIL_NM + RING_NM) / frame.pixel_nm
    margin = int(np.ceil(reach_px + (high - low).max()))
    centres = (low + high) / 2
    found: list[Outline] = []
    for tile, own in group_points(centres, frame.shape, _TILE_PX, margin):
        check(stop)
        report(progress, len(found), len(given), "Measuring outlines")
        wide = tile.grown(margin).within(frame.shape)
        is_near = ((high >= wide.origin) & (low <= wide.origin + wide.shape)).all(axis=1)
        near = np.flatnonzero(is_near)
        labels = _draw(((int(i) + 1, given[i]) for i in near), len(given), wide, source)
        points = seeds.points[wide.holds(seeds.points)]
        regions = grow_regions(frame, wide, points, seeds.noise, settings.diameter_max_nm)
        basins = _basins(labels, regions.basins, points - wide.origin, len(given))
        found += measure_regions(replace(regions, basins=basins), own + 1, labels)
    return sorted(found, key=lambda o: (o.centre_px[0], o.centre_px[1]))


def _basins(labels: np.ndarray, basins: np.ndarray, seeds: np.ndarray, n: int) -> np.ndarray:
    """Return basins by the labels 1 to n of the objects; those of other seeds have larger ones.

    The basin of a seed inside an object is that of the object. Objects without a seed share the
    basins that they are in.
    """
    at = np.clip(np.round(seeds).astype(int), 0, np.array(labels.shape) - 1)
    object_of = labels[at[:, 0], at[:, 1]]
    label_of = np.where(object_of > 0, object_of, n + 1 + np.arange(len(seeds)))
    merged = np.concatenate([[0], label_of])[basins]
    if np.setdiff1d(labels, object_of).any():
        nearest = ndimage.distance_transform_edt(
            labels == 0, return_distances=False, return_indices=True
        )
        of_object = labels[tuple(nearest)]
        shared = (merged > 0) & (merged <= n) & ~np.isin(of_object, object_of)
        merged = np.where(shared, of_object, merged)
    return np.where(labels > 0, labels, merged).astype(np.int32)


def _draw(
    numbered: Iterator[tuple[int, np.ndarray]], n: int, tile: Tile, source: str
) -> np.ndarray:
    """Draw polygons into a label image of a tile; the first one keeps a pixel of two."""
    labels, sizes = np.zeros(tile.shape, np.int32), np.zeros(n + 1)
    for number, polygon in numbered:
        y, x = (polygon - tile.origin).T
        y, x = pixels_inside(y, x, shape=tile.shape)
        sizes[number] = len(y)
        before = labels[y, x]
        if before.any():
            others, shared = np.unique(before[before > 0], return_counts=True)
            worst = int((shared / np.minimum(sizes[others], len(y))).argmax())
            if shared[worst] > MAX_OVERLAP * min(sizes[others[worst]], len(y)):
                raise AtomicityError(
                    f"the objects {others[worst]} and {number} overlap",
                    source,
                    "Give each pixel to one object, and leave out regions around objects",
                )
        labels[y[before == 0], x[before == 0]] = number
    return labels


def inside_any(points: np.ndarray, polygons: Sequence[np.ndarray]) -> np.ndarray:
    """Return which points (N, 2) are inside at least one polygon (M, 2)."""
    inside = np.zeros(len(points), bool)
    for polygon in polygons:
        inside |= points_in_poly(points, polygon)
    return inside
