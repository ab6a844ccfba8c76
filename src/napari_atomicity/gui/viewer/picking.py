"""Select clusters by clicking, and bring clusters into view."""

from __future__ import annotations

import weakref
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import numpy as np
import pandas as pd
from napari.layers import Image, Points

from ...core.cluster_table import Key
from . import calibration, compat

_CLICK_PX = 4
_FOCUS_NM = 8.0


def cluster_at(points: Points, world: Any) -> int | None:
    """Return the cluster_id of the mark at a place of the scene; None if there is none."""
    if not points.visible or not len(points.data):
        return None
    place = np.asarray(points.world_to_data(world), float)
    near = np.linalg.norm(points.data[:, -2:] - place[-2:], axis=1)
    near[~np.asarray(points.shown, bool)] = np.inf
    if points.ndim == 3:
        near[np.round(points.data[:, 0]) != np.round(place[0])] = np.inf
    i = int(np.argmin(near / np.asarray(points.size)))
    cluster_id = points.features["cluster_id"].iloc[i]
    return int(cluster_id) if near[i] <= points.size[i] / 2 and cluster_id > 0 else None


def first_at(layers: Iterable[tuple[str, Points | None]], world: Any) -> Key | None:
    """Return the cluster at a place of the scene, of the first image that has one there."""
    for image, points in layers:
        found = None if points is None else cluster_at(points, world)
        if found is not None:
            return image, found
    return None


def bring_into_view(viewer: Any, source: Image, cluster: pd.Series) -> None:
    """Centre the view on a cluster or atom and zoom in.

    Parameters
    ----------
    viewer : napari.Viewer
        The viewer.
    source : napari.layers.Image
        Layer of the image.
    cluster : Series
        Row of a table with ``y_px``, ``x_px`` and, for a stack, ``frame``.
    """
    point = [cluster["y_px"], cluster["x_px"]]
    if source.ndim == 3:
        point = [cluster["frame"], *point]
        viewer.dims.set_point(0, source.data_to_world(point)[0])
    camera = compat.camera(viewer)
    camera.center = (*camera.center[:-2], *source.data_to_world(point)[-2:])
    pixel_size_nm = calibration.pixel_size_nm(source)
    if pixel_size_nm is not None:
        world_per_nm = abs(float(source.scale[-1])) / pixel_size_nm
        near_enough = min(compat.canvas_size(viewer)) / (_FOCUS_NM * world_per_nm)
        camera.zoom = max(camera.zoom, near_enough)


class ClickSelects:
    """Select a cluster by a click, whichever layer is active; for ``mouse_drag_callbacks``."""

    def __init__(self, select_at: Callable[[Any, bool], None]) -> None:
        self._select_at = weakref.WeakMethod(select_at)

    def __call__(self, viewer: Any, event: Any) -> Iterator[None]:
        start = np.asarray(event.pos, float)
        yield
        while event.type == "mouse_move":
            yield
        select_at = self._select_at()
        moved = np.linalg.norm(np.asarray(event.pos, float) - start) > _CLICK_PX
        if select_at is None or moved or event.button != 1:
            return
        active = viewer.layers.selection.active
        # In any other mode a click means something to the active layer.
        if getattr(active, "mode", "pan_zoom") == "pan_zoom":
            select_at(event.position, "Shift" in event.modifiers)
