"""Outlines and class maps of the clusters, computed in a worker when they have changed."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import replace
from functools import partial
from operator import is_
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from psygnal import Signal
from qtpy.QtCore import QTimer

from ...core.errors import AtomicityError, ModelError
from ...core.micrograph import Micrograph
from ...core.progress import Progress, Stop, check, report
from ...core.text import pluralise
from ...detection import Detection, DetectionSettings, measure_at, merge, split
from ...models.analysis import Analysis
from ...pipeline.analysis import classify_clusters, embed_clusters
from ...pipeline.measurements import add_installed
from .. import tasks
from .canvas import Canvas
from .layers import point_style
from .layers.atom_style import pixel_of
from .models import classifier_of, explained_class_of

if TYPE_CHECKING:
    from ...models.inference import Classifier


# ---- functions that the viewer runs in workers, from arrays and tables to arrays and tables

Engine = tuple[str, str]
"""Name of a model, and device."""


def measure_places(
    micrograph: Micrograph,
    places: np.ndarray,  # places (y, x) or (frame, y, x) in pixels
    settings: dict[str, Any],  # fields of `DetectionSettings`
    progress: Progress | None = None,
    stop: Stop | None = None,
) -> Detection:
    """Measure the clusters at given places."""
    chosen = DetectionSettings(**settings)
    found = []
    for i, place in enumerate(places):
        report(progress, i, len(places), "Measuring")
        check(stop)
        found.append(measure_at(micrograph, *pixel_of(place), chosen))
    table = pd.concat([f.table for f in found], ignore_index=True)
    return _with_own(micrograph, Detection(table, [o for f in found for o in f.outlines]), stop)


def _with_own(micrograph: Micrograph, found: Detection, stop: Stop | None = None) -> Detection:
    """Return clusters with the measurements of installed packages."""
    measured = add_installed(Analysis(micrograph, found.table, found.outlines), stop)
    return replace(found, table=measured.table)


def split_or_merge(
    micrograph: Micrograph,
    frame: int,  # frame of a stack; 0 otherwise
    outlines: list[np.ndarray],
    settings: dict[str, Any],  # fields of `DetectionSettings`
) -> Detection:
    """Split one cluster into two, or merge several into one."""
    chosen = DetectionSettings(**settings)
    if len(outlines) == 1:
        return _with_own(micrograph, split(micrograph, frame, outlines[0], chosen))
    return _with_own(micrograph, merge(micrograph, frame, outlines, chosen))


def classify_some(
    analysis: Analysis,
    engine: Engine | None,  # model and device to use if the model of the analysis is not available
    progress: Progress | None = None,
    stop: Stop | None = None,
) -> Analysis:
    """Classify a few clusters and embed them in the map, if there is one."""
    tasks.cap_torch_threads()
    try:
        classifier = _classifier(analysis, engine)
    except ModelError as error:
        n = len(analysis.table)
        without = f"{pluralise(n, 'new cluster')} {'has' if n == 1 else 'have'} no label"
        raise ModelError(f"{without}: {error.what}", error.path, error.advice) from error
    # The intensity scale is that of the image: a few clusters cannot determine it.
    analysis = classify_clusters(
        analysis, classifier, progress=progress, stop=stop, scale=analysis.scale
    )
    try:
        return embed_clusters(analysis, classifier, stop)
    except AtomicityError:
        return analysis


def classify_each(
    analyses: Iterable[Analysis],  # a few clusters of each of some images
    emit: Callable[[Analysis], None],
    progress: Progress | None = None,
    stop: Stop | None = None,
) -> None:
    """Classify a few clusters of each image; the first error is raised after the last image."""
    errors = []
    for analysis in analyses:
        try:
            emit(classify_some(analysis, None, progress, stop))
        except AtomicityError as error:  # other images may have their files and models
            errors.append(error)
    if errors:
        raise errors[0]


def class_map_images(
    analysis: Analysis,
    label: str | None,
    same_scale: bool,  # whether all maps have one scale; otherwise each map reaches from 0 to 1
    hidden: frozenset[str],  # labels whose clusters have no map
    engine: Engine | None,  # model and device to use if the model of the analysis is not available
    stop: Stop | None = None,
) -> dict[str, np.ndarray]:
    """Return one image of all class maps for each channel."""
    shown = ~analysis.table["label"].isin(hidden).to_numpy(bool)
    maps = analysis.class_maps
    scale = point_style.class_map_scale(analysis) if same_scale else None
    if label is not None:
        classifier = _classifier(analysis, engine)
        maps = classifier.class_maps(analysis.patches, label, symmetries=analysis.symmetries)
    out = {}
    for channel, values in maps.items():
        check(stop)
        out[channel] = point_style.class_map_image(analysis, values, scale, shown)
    return out


def outline_strokes(analysis: Analysis) -> tuple[np.ndarray, np.ndarray]:
    """Return the outlines as strokes with as many axes as the micrograph."""
    return point_style.outline_vectors(analysis, len(analysis.micrograph.shape))


def _classifier(analysis: Analysis, engine: Engine | None) -> Classifier:
    """Return the model of the analysis; if it is not available, the chosen one."""
    from ...models.inference import load_classifier

    try:
        return classifier_of(analysis)
    except ModelError:
        if engine is None:
            raise
        return load_classifier(*engine)


# The outlines of up to so many clusters are written in the turn of the edit.
_MAX_AT_ONCE = 200


class Overlays:
    """Show the outlines and class maps of the images in the viewer.

    Signals: ``outlines_changed()`` when outlines are shown or hidden.
    """

    outlines_changed = Signal()

    def __init__(self, canvas: Canvas, engine_of: Callable[[str], Engine | None]) -> None:
        self._canvas = canvas
        self._state = canvas.state
        self._engine_of = engine_of
        # For each image, what its layers were computed from.
        self._computed_from: dict[str, dict[str, Any]] = {}
        self._n_maps_waiting = 0
        self._outlines_visible = True
        canvas.image_detached.connect(self.forget)
        canvas.state.map_options_changed.connect(self.update_class_maps)

    @property
    def busy(self) -> bool:
        """Whether class maps wait to be shown."""
        return self._n_maps_waiting > 0

    @property
    def outlines_visible(self) -> bool:
        """Whether outlines are shown."""
        return self._outlines_visible

    @outlines_visible.setter
    def outlines_visible(self, visible: bool) -> None:
        self._outlines_visible = visible
        for known in self._canvas.layers.values():
            layer = known.present("outlines")
            if layer is not None and not known.is_hidden:
                layer.visible = visible
        self.outlines_changed.emit()

    def forget(self, image: str) -> None:
        """Forget what the layers of an image were computed from."""
        self._computed_from.pop(image, None)

    # ---- outlines
    def write_outlines(self, image: str, analysis: Analysis) -> None:
        """Update the outlines of an image; those of many clusters in a later turn."""
        if len(analysis.table) <= _MAX_AT_ONCE:
            self._write_outlines(image, analysis)
        else:
            self._write_outlines_later(image)

    def _write_outlines_later(self, image: str) -> None:
        self._canvas.turns.add((image, "outlines"), partial(self._write_current, image))

    def _write_current(self, image: str) -> None:
        analysis = self._state.analysis(image)
        if analysis is not None:
            self._write_outlines(image, analysis)

    def _write_outlines(self, image: str, analysis: Analysis) -> None:
        known = self._canvas.layers.get(image)
        if known is None:
            return
        table, computed = analysis.table, self._computed_from.setdefault(image, {})
        wanted = dict(zip(table["cluster_id"].tolist(), analysis.outlines, strict=True))
        before = computed.get("outlines")
        # without a cluster, the outlines that were computed are empty too
        known_before = before is not None and bool(before or not wanted)
        if known_before and all(map(is_, map(before.get, wanted), wanted.values())):
            classes, hidden = self._state.classes(), self._canvas.hidden_labels
            colours = point_style.outline_colours(table, classes, hidden)
            known.darken_unknown(analysis, colours)
            known.colour_outlines(table["cluster_id"].to_numpy(), colours)
            return
        computed["outlines"] = wanted
        tasks.start(
            self._state,
            outline_strokes,
            analysis,
            on_result=partial(self._show_outlines, analysis, computed),
            on_error=lambda _: computed.pop("outlines", None),
            key=f"outlines of {image}",
            about=image,
        )

    def _show_outlines(
        self,
        analysis: Analysis,
        computed: dict[str, Any],
        strokes: tuple[np.ndarray, np.ndarray],
    ) -> None:
        image = analysis.micrograph.name
        known = self._canvas.layers.get(image)
        if known is None or computed is not self._computed_from.get(image):
            return
        if known.present("outlines") is None:
            ndim = len(analysis.micrograph.shape)
            known.new_outlines(ndim, self._outlines_visible)
        ids = analysis.table["cluster_id"].to_numpy()

        def write() -> None:
            if computed is self._computed_from.get(image):
                known.write_outlines(*strokes, ids)

        self._canvas.turns.add((image, "strokes"), write)
        self._write_outlines_later(image)  # which colours them

    # ---- class maps
    def write_class_maps(self, image: str, analysis: Analysis) -> None:
        """Update the class maps of an image if they have changed."""
        label, same_scale = explained_class_of(self._state, analysis), self._state.same_map_scale
        computed = self._computed_from.setdefault(image, {})
        # The arrays are kept, not only their ids: a new array may get the id of a deleted one.
        hidden, labels = self._canvas.hidden_labels, analysis.table["label"]
        without = np.flatnonzero(labels.isin(hidden)).tolist() if hidden else []
        wanted = (label, list(analysis.class_maps.values()), same_scale, without)
        before = computed.get("class maps", (None, None, None, None))
        same = before[1] is not None and all(map(is_, before[1], wanted[1]))
        if not analysis.class_maps:
            # Old maps would show a blind annotator the prediction.
            known = self._canvas.layers.get(image)
            if computed.pop("class maps", None) is not None and known is not None:
                known.clear_class_maps()
            return
        if same and (before[0], *before[2:]) == (label, same_scale, without):
            return
        computed["class maps"] = wanted
        tasks.start(
            self._state,
            class_map_images,
            analysis,
            label,
            same_scale,
            hidden,
            self._engine_of(image),
            on_result=partial(self._show_class_maps, image, computed, wanted),
            on_error=lambda _: computed.pop("class maps", None),
            key=f"class maps of {image}",
            about=image,
        )

    def _show_class_maps(
        self, image: str, computed: dict[str, Any], wanted: object, images: dict[str, np.ndarray]
    ) -> None:
        known = self._canvas.layers.get(image)
        current = computed is self._computed_from.get(image)
        if known is None or not current or computed.get("class maps") is not wanted:
            return
        (channel, data), *others = images.items()
        is_new = known.present(f"class map {channel}") is None
        layer = known.write_class_map(channel, data, computed["class maps"][0])
        if is_new:
            layer.visible = layer.visible and self._canvas.shows_new_class_maps
            layer.events.visible.connect(self._canvas.on_class_maps)
        self._canvas.on_class_maps()
        if others:  # napari is slow to make a layer: one in each turn
            self._n_maps_waiting += 1
            following = partial(self._show_next_maps, image, computed, wanted, dict(others))
            QTimer.singleShot(0, following)

    def _show_next_maps(
        self, image: str, computed: dict[str, Any], wanted: object, images: dict[str, np.ndarray]
    ) -> None:
        self._n_maps_waiting -= 1
        self._show_class_maps(image, computed, wanted, images)

    def update_class_maps(self) -> None:
        """Update the class maps of all images."""
        for image in list(self._canvas.layers):
            analysis = self._state.analysis(image)
            if analysis is not None:
                self.write_class_maps(image, analysis)
