"""A margin for the text in the corner of the canvas, above an image that is fitted to it."""

from __future__ import annotations

from typing import Any

import numpy as np

from . import compat

HEIGHT_PX = 68
"""Height of three lines of the text with their box, in screen pixels."""
_MARGIN_PX = 4


def leave_text_margin(viewer: Any, layer: Any) -> None:
    """Move a layer that fills the canvas below the text in its corner, and shrink it to fit.

    The margin is the same whether there is a text or not, so that a text moves nothing. A layer
    that leaves enough room above stays where it is.
    """
    camera, (canvas_height, _) = compat.camera(viewer), compat.canvas_size(viewer)
    low, high = np.asarray(layer.extent.world, float)[:, -2]
    room = canvas_height - HEIGHT_PX - _MARGIN_PX
    if viewer.dims.ndisplay != 2 or high <= low or room < canvas_height / 2:
        return
    zoom = min(float(camera.zoom), room / (high - low))
    above = (canvas_height - zoom * (high - low)) / 2
    if above >= HEIGHT_PX:
        return
    centre = list(camera.center)
    centre[-2] = (low + high) / 2 - (HEIGHT_PX - above) / zoom
    camera.zoom, camera.center = zoom, tuple(centre)
