"""The layers that belong to one image: making, hiding, emptying and removing them.

Five kinds lie above the micrograph, from below: class maps, excluded regions, outlines, points, and
texts. The atoms of an image add more (`atom_layers`).
"""

from __future__ import annotations

import weakref
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import numpy as np
from napari.layers import Image, Layer
from qtpy.QtCore import QTimer

from . import calibration, compat

ROLE = "atomicity_role"
"""Key of ``layer.metadata`` that says which layer of which image this is."""
COPY_OF = "atomicity_copy_of"
"""Key of the ``layer.metadata`` of copied clusters that says of which image they are."""


class EventBlocker:
    """Context manager within which events of layers are ignored: the package writes the layers."""

    def __init__(self) -> None:
        self._depth = 0

    def __bool__(self) -> bool:
        return self._depth > 0

    @contextmanager
    def __call__(self) -> Iterator[None]:
        self._depth += 1
        try:
            yield
        finally:
            self._depth -= 1


def overlap(layer: Layer, other: Layer) -> bool:
    """Return whether two layers overlap in the scene."""
    low, high = layer.extent.world[:, -2:]
    other_low, other_high = other.extent.world[:, -2:]
    return bool((low < other_high).all() and (other_low < high).all())


class LayerGroup:
    """The layers of one micrograph in a viewer; references are weak, since the viewer owns them."""

    def __init__(self, image: str, source: Image, viewer: Any, blocker: EventBlocker) -> None:
        self.image = image
        self._viewer = weakref.ref(viewer)
        self._source = weakref.ref(source)
        self.blocker = blocker
        self._layers: dict[str, weakref.ref[Any]] = {}
        # What was visible when another image covered this one; None while this one is shown.
        self._visible_before: list[weakref.ref[Layer]] | None = None

    # ---- access
    @property
    def source(self) -> Image | None:
        """The layer with the micrograph."""
        return self._source()

    @property
    def viewer(self) -> Any:
        """The viewer; None once it is closed and deleted."""
        return self._viewer()

    def screen_px(self) -> float:
        """Return the size of a pixel of the screen in pixels of the image."""
        return 1 / (compat.camera(self.viewer).zoom * abs(float(self.source.scale[-1])))

    def derived(self) -> list[Layer]:
        """Return the layers that were made from the micrograph and are in the viewer."""
        return [x for x in map(self.present, self._layers) if x is not None]

    def present(self, kind: str) -> Any:
        """Return the layer of a kind; None if it was not made or was removed."""
        reference, viewer = self._layers.get(kind), self._viewer()
        layer = None if reference is None else reference()
        there = layer is not None and viewer is not None and layer in viewer.layers
        return layer if there else None

    # ---- visibility and removal
    def remove(self, keep: Collection[str] = ()) -> None:
        """Remove all layers but the micrograph from the viewer, in a turn of their own.

        In this turn napari may be removing the selected layers, and expects all of them to be
        present.
        """
        removed = {kind: self.present(kind) for kind in self._layers if kind not in keep}
        present = [layer for layer in removed.values() if layer is not None]
        # From the top: software renderers of OpenGL crash when points remain alone.
        present.sort(key=lambda layer: layer.metadata[ROLE]["position"], reverse=True)
        queue = [weakref.ref(layer) for layer in present]
        for kind in removed:
            del self._layers[kind]
        if queue:
            viewer = self._viewer()
            _REMOVALS[viewer] = _REMOVALS.get(viewer, 0) + 1
            QTimer.singleShot(0, partial(_remove, self._viewer, queue))

    def overlaps(self, other: LayerGroup) -> bool:
        """Return whether the two micrographs overlap in the scene."""
        if self.source is None or other.source is None:
            return False
        return overlap(self.source, other.source)

    @property
    def is_hidden(self) -> bool:
        """Whether all layers are hidden because another image is displayed."""
        return self._visible_before is not None

    def hide(self) -> None:
        """Hide all layers until `unhide`."""
        if self._visible_before is None:
            shown = [x for x in (self.source, *self.derived()) if x is not None and x.visible]
            self._visible_before = [weakref.ref(x) for x in shown]
            self._set_visible(shown, False)

    def unhide(self) -> None:
        """Show again what `hide` has hidden."""
        hidden, self._visible_before = self._visible_before, None
        layers = [reference() for reference in hidden or ()]
        self._set_visible([layer for layer in layers if layer is not None], True)

    def _set_visible(self, layers: list[Layer], visible: bool) -> None:
        if layers:
            with compat.one_update_of_scene(self.viewer):
                for layer in layers:
                    layer.visible = visible

    def show_another(self, image: str, data: np.ndarray, options: dict[str, Any]) -> None:
        """Show another image on the same layers, which is faster than making new layers."""
        source = self.source
        with self.blocker():
            self.clear()
            self.image = image
            source.data = data
            source.name = options["name"]
            source.metadata = {**options["metadata"]}
            calibration.place(source, options)
            source.contrast_limits_range = _range_around(options["contrast_limits"])
            source.contrast_limits = options["contrast_limits"]
            for layer in self.derived():
                role = {**layer.metadata[ROLE], "image": image}
                layer.metadata = {**layer.metadata, ROLE: role}
                layer.name = f"{image} {role['kind']}"
            self.follow_source()

    def clear_class_maps(self) -> None:
        """Empty the class maps but keep their layers."""
        with self.blocker():
            for layer in self.derived():
                if layer.metadata[ROLE]["kind"].startswith("class map"):
                    layer.data = np.zeros((2,) * layer.ndim, np.float32)

    def clear(self) -> None:
        """Empty the layers that were made from an analysis but keep them for the next image."""
        with self.blocker():
            for layer in self.derived():
                kind = layer.metadata[ROLE]["kind"]
                if kind == "texts":
                    layer.text = {"string": {"constant": ""}}
                    layer.data = np.zeros((0, layer.ndim))
                elif kind in ("clusters", "atoms"):
                    layer.selected_data = set()
                    layer.data = np.zeros((0, layer.ndim))
                elif kind == "outlines":
                    layer.data = np.zeros((0, 2, layer.ndim))
                elif kind in ("regions", "support"):
                    layer.selected_data = set()
                    layer.data = []
                elif kind == "tracks":  # which napari can't empty
                    self._viewer().layers.remove(layer)
                elif kind == "vacuum":
                    layer.data = np.zeros((2,) * layer.ndim, np.uint8)
            self.clear_class_maps()  # a worker computes the next ones

    def follow_source(self) -> None:
        """Align all layers with the micrograph after it was moved or calibrated."""
        place = calibration.placement(self.source)
        for layer in self.derived():
            # napari computes the extent of all layers anew at each assignment.
            now = calibration.placement(layer)
            for name, value in place.items():
                if not np.array_equal(now[name], value):
                    setattr(layer, name, value)

    def options(self, kind: str, position: int) -> dict[str, Any]:
        """Return the options of a new layer: name, role and placement in the scene."""
        role = {"image": self.image, "kind": kind, "position": position}
        return {
            "name": f"{self.image} {kind}",
            "metadata": {ROLE: role},
            **calibration.placement(self.source),
        }

    def insert(self, layer: Layer) -> None:
        """Insert a new layer at its rank; the active layer does not change."""
        layers = self._viewer().layers
        role = layer.metadata[ROLE]
        lower = [x for x in self.derived() if x.metadata[ROLE]["position"] <= role["position"]]
        below = [self.source, *lower]
        index = max((layers.index(x) for x in below if x in layers), default=-1) + 1
        self._layers[role["kind"]] = weakref.ref(layer)
        for changed in ("data", "scale", "translate"):
            layer.events[changed].connect(compat.renew_extent_of_hidden)
        if self._visible_before is not None and layer.visible:
            layer.visible = False
            self._visible_before.append(weakref.ref(layer))
        # If the image was closed a moment ago, its layers may not be removed yet.
        for before in [x for x in layers if x.name == layer.name and ROLE in x.metadata]:
            layers.remove(before)
            index = min(index, len(layers))
        with self.blocker():
            compat.insert_without_activating(layers, index, layer)


def _range_around(limits: tuple[float, float]) -> tuple[float, float]:
    """Return a range of the contrast sliders that is wider than the limits."""
    low, high = limits
    return low - (high - low), high + 2 * (high - low)


# For each viewer, the number of images whose layers are being removed.
_REMOVALS: weakref.WeakKeyDictionary[Any, int] = weakref.WeakKeyDictionary()


def is_removing_layers(viewer: Any) -> bool:
    """Return whether layers are waiting to be removed from a viewer."""
    return _REMOVALS.get(viewer, 0) > 0


def _remove(viewer_reference: weakref.ref[Any], layers: list[weakref.ref[Layer]]) -> None:
    viewer = viewer_reference()
    if viewer is None:
        return
    with compat.batched_update(viewer.layers):
        for reference in layers:
            layer = reference()
            if layer is not None and layer in viewer.layers:
                viewer.layers.remove(layer)
    _REMOVALS[viewer] -= 1
