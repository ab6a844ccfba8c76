"""The view of a window as a project stores it: image, selection, camera, visible layers."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

from ...core.cluster_table import Key
from . import compat
from .canvas import Canvas
from .clusters import ClusterDisplay
from .current_image import CurrentImage
from .labelling import LabelMode
from .overlays import Overlays

_MAX_SELECTED = 5000


@lru_cache(maxsize=1)  # the view is looked at every other second
def _first_keys(keys: frozenset[Key]) -> tuple[Key, ...]:
    """Return the keys that are stored, in order."""
    return tuple(sorted(keys)[:_MAX_SELECTED])


class ViewSettings:
    """Read and restore the view of a window."""

    def __init__(
        self,
        canvas: Canvas,
        clusters: ClusterDisplay,
        overlays: Overlays,
        current_image: CurrentImage,
        label_mode: LabelMode,
    ) -> None:
        self._canvas = canvas
        self._clusters = clusters
        self._overlays = overlays
        self._current_image = current_image
        self._label_mode = label_mode

    def get(self) -> dict[str, Any] | None:
        """Return the view as JSON values; None if no image is displayed."""
        canvas, state = self._canvas, self._canvas.state
        if canvas.viewer is None or state.current is None:
            return None
        camera = compat.camera(canvas.viewer)
        return {
            "image": state.current,
            "selection": list(map(list, _first_keys(state.selection))),
            "centre": [float(c) for c in camera.center],
            "zoom": float(camera.zoom),
            "hidden": sorted(self._clusters.hidden),
            "outlines": self._overlays.outlines_visible,
            "visible": {kind: bool(layer.visible) for kind, layer in canvas.displayed_layers()},
            "label_mode": self._label_mode.on,
        }

    def restore(self, view: dict[str, Any]) -> None:
        """Restore a view; parts that no longer exist are left out."""
        state = self._canvas.state
        if not state.images:
            return
        image = view.get("image")
        if image not in state.images:
            image, view = state.images[0], {}
        if "centre" in view:
            self._current_image.set_view(image, (tuple(view["centre"]), view["zoom"]))
            # The image itself is always shown: an empty canvas tells nothing.
            visible = {k: on for k, on in view.get("visible", {}).items() if k != "image"}
            self._current_image.set_visible(visible)
        self._clusters.hidden = frozenset(view.get("hidden", ()))
        self._overlays.outlines_visible = view.get("outlines", True)
        state.current = None
        state.current = image
        selected = [(str(image), int(i)) for image, i in view.get("selection", ())]
        known = {image: state.columns(image) for image in {image for image, _ in selected}}
        ids = {n: set(c["cluster_id"].tolist()) for n, c in known.items() if c is not None}
        state.select((image, i) for image, i in selected if i in ids.get(image, ()))
        if any(state.analysis(name) is not None for name in state.images):
            self._label_mode.on = bool(view.get("label_mode", True))
