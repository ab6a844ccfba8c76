"""Second pass over the parts of a run: the images of each session are labelled jointly.

The first pass labels each image by itself and stores its scale beside its part
(`pipeline.runs.image_scale`). The second pass finds the scales of all images of a session and
writes the parts whose labels change. What it writes depends on the results of the first pass only,
so that an interrupted run can be resumed.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

import numpy as np
import pandas as pd

from ...core.acquisition_session import AcquisitionSession
from ...core.errors import attempt
from ...core.model_card import ModelCard
from ...core.progress import Progress, Stop, check, report
from ...io.inputs import Input
from ...io.provenance import Outcome
from ...models.analysis import Analysis
from ...models.inference import Classifier
from ...models.scale.intensity_scale import ConstrainedMixture
from ...models.scale.session_images import mixture_of_modes
from ...reporting.image_warnings import image_warnings
from ...reporting.plots.session import MAX_SESSIONS
from ..analysis import apply_scale
from ..run_request import RunRequest
from ..session_labels import (
    describe_scale,
    fit_measurements,
    is_labelled_jointly,
    is_same_scale,
    summarise_session,
    with_known_shares,
)
from .image_scale import ImageScale
from .one_image import analyse_one, describe_outcome
from .part_index import PartIndex
from .parts import Part, make_part, pack_part

SAME_CONFIDENCE = 0.1
"""Changes of confidences with which a drawing that may be approximate is not drawn again."""


@dataclass(frozen=True, eq=False)
class NewLabels:
    """An image whose clusters get labels with another scale."""

    item: Input
    scale: ConstrainedMixture | None  # scale; None for that of the image by itself
    about: Mapping[str, Any]  # metadata of its part

    @property
    def key(self) -> str:
        """Hash of the scale; empty for that of the image by itself."""
        return scale_key(self.scale)

    def apply(self, analysis: Analysis, classifier: Classifier) -> Analysis:
        """Label the clusters with the scale."""
        return analysis if self.scale is None else apply_scale(analysis, classifier, self.scale)


def scale_key(scale: ConstrainedMixture | None) -> str:
    """Return a hash of a scale; empty for None."""
    if scale is None:
        return ""
    values = (scale.weight, scale.shift, scale.shares, np.array(scale.log_scale_sd))
    return hashlib.sha256(b"".join(v.tobytes() for v in values)).hexdigest()[:16]


@dataclass(eq=False)
class SessionPass:
    """The second pass over the parts of a run."""

    images: PartIndex  # parts; gets the descriptions of the sessions
    load: Callable[[], Classifier]  # ``load()`` returns the model, of which the network is not used
    progress: Progress | None = None
    stop: Stop | None = None
    # whether images in the report are drawn again, which takes another analysis, even if no label
    # has changed and no confidence by more than `SAME_CONFIDENCE`
    exact_drawings: bool = True
    # names of the images that still lack the labels of their session
    unlabelled: set[str] = field(default_factory=set)
    _scales: dict[str, ConstrainedMixture] = field(default_factory=dict)

    def run(self, inputs: Sequence[Input], shown: Collection[str]) -> list[NewLabels]:
        """Label the images jointly; return those to analyse again, for their labels or drawing.

        Only images whose labels need the network, and ``shown`` ones whose drawing was postponed or
        is outdated, are analysed again.
        """
        store = self.images.store
        inputs = [item for item in inputs if item.name in self.images.stems]
        if self.images.card.scale is not None:
            self._find_scales([self.images.outcome(item) for item in inputs])
        self.unlabelled.update(item.name for item in inputs)
        left = []
        for done, item in enumerate(inputs):
            check(self.stop)
            report(self.progress, done, len(inputs), "Labelling the images of each session jointly")
            stem = self.images.stems[item.name]
            about = store.about(stem)
            labels = NewLabels(item, self._scales.get(item.name), about)
            if about.get("labelled", "") == labels.key or self._label(labels):
                self.unlabelled.discard(item.name)
            if item.name in self.unlabelled or (item.name in shown and store.lacks_drawing(stem)):
                left.append(labels)
        return left

    def forget(self) -> None:
        """Describe no session: labels may be those of the images by themselves."""
        self.images.joint.clear()
        self.images.summaries.clear()

    # ---- scales
    def _find_scales(self, outcomes: Sequence[Outcome]) -> None:
        """Find the scales that differ from those of the images by themselves."""
        self._scales.clear()
        self.images.summaries.clear()
        self.images.failed_sessions.clear()
        for session in self.images.sessions.group(outcomes):
            check(self.stop)
            report(self.progress, 0, 0, f"Finding the scales of the session {session.name}")
            failed: dict[str, str] = {}
            attempt(failed, "scale", partial(self._find_session, session))
            for name in session.images if failed else ():
                self._scales.pop(name, None)
                self.images.joint.pop(name, None)
                self.images.failed_sessions[name] = failed["scale"]

    def _find_session(self, session: AcquisitionSession) -> None:
        images, card = self.images, self.images.card
        found_alone = {name: images.image_scale(name) for name in session.images}
        n_images = sum(x is not None and x.has_clusters for x in found_alone.values())
        if not is_labelled_jointly(session, n_images, card):
            return
        own = {n: (x.measurements, x.scale) for n, x in found_alone.items() if x is not None}
        measured = [with_known_shares(x, session, name, card) for name, (x, _) in own.items()]
        found, fit, error = fit_measurements(measured, card, session.prior)
        if len(images.summaries) < MAX_SESSIONS:
            images.summaries.append(summarise_session(session, list(own), found, fit, card))
        for i, (name, (_, before)) in enumerate(own.items()):
            table = images.store.table(images.stems[name])
            scale = mixture_of_modes(found.images[i], table, before.reference)
            scale = replace(scale, log_scale_sd=error)
            images.joint[name] = describe_scale(found, i, fit, session.prior, error)
            if not is_same_scale(before, scale):
                self._scales[name] = scale

    # ---- labels
    def _label(self, labels: NewLabels) -> bool:
        """Write the part of an image with new labels; return False if that needs the network."""
        images, name = self.images, labels.item.name
        stem = images.stems[name]
        stored = images.image_scale(name)
        if stored is None or images.store.movie(stem) is not None:  # tracks depend on labels
            return False
        classifier, before = self.load(), images.store.table(stem)
        by = images.request.labels
        own = stored.label(before, stored.scale, classifier, by)
        new = own if labels.scale is None else stored.label(before, labels.scale, classifier, by)
        if own is None or new is None:
            return False
        about = _metadata(labels, own, new)
        outdated = self.exact_drawings or _looks_different(before, new)
        if outdated and images.store.is_drawn(stem):
            images.store.undraw(stem)
            about["to_draw"] = True
        scale = labels.scale or stored.scale
        outcome = images.store.outcome(stem)
        parameters = scale.describe_in(outcome.parameters)
        outcome = replace(outcome, parameters=parameters, warnings=image_warnings(new, parameters))
        about["scale"] = scale.intensity_per_atom
        images.store.write(stem, Part(outcome, pack_part(new, outcome, about)))
        return True

    def add(self, labels: NewLabels, part: Part | Exception) -> None:
        """Store an image that was analysed again; if that failed, its labels remain."""
        name = labels.item.name
        stem = self.images.stems[name]
        problem = None
        if isinstance(part, Exception):
            problem = str(part)
        elif part.parquet is None or part.outcome.sha256 is None:
            problem = part.outcome.error or "it could not be analysed"
        elif self.images.key(part.outcome.sha256, labels.item) != stem[:32]:
            problem = "the file has changed"
        else:
            self.images.store.write(stem, part)
            self.unlabelled.discard(name)
        if problem is not None and name in self.unlabelled:
            self.images.problems[name] = problem


def analyse_again(
    labels: NewLabels,
    classifier: Classifier,
    request: RunRequest,
    draw: bool = False,
    small: bool = True,
    progress: Progress | None = None,
    stop: Stop | None = None,
) -> Part:
    """Analyse an image, and label it with the scale that it has in its session."""

    def pack(analysis: Analysis, outcome: Outcome) -> Part:
        labelled = labels.apply(analysis, classifier)
        return make_labelled_part(labels, analysis, labelled, outcome, classifier.card, draw, small)

    outcome, _, part = analyse_one(labels.item, classifier, request, progress, stop, pack)
    return Part(outcome) if part is None else part


def make_labelled_part(
    labels: NewLabels,
    own: Analysis,  # with the scale of the image by itself
    labelled: Analysis,  # with that of the labels
    outcome: Outcome,
    card: ModelCard,
    draw: bool = False,
    small: bool = True,
) -> Part:
    """Create the part of an image with new labels."""
    outcome = describe_outcome(outcome, labelled)
    about = _metadata(labels, own.table, labelled.table)
    return make_part(labelled, outcome, card, draw, small, about, ImageScale.of(own, card))


def _metadata(labels: NewLabels, own: pd.DataFrame, new: pd.DataFrame) -> dict[str, Any]:
    """Return the metadata of a part with new labels, but not the outcome and the scale."""
    kept = {k: v for k, v in labels.about.items() if k not in ("form", "outcome", "scale")}
    n_changed = int((own["label_predicted"] != new["label_predicted"]).sum())
    return {**kept, "labelled": labels.key, "n_changed": n_changed}


def _looks_different(before: pd.DataFrame, after: pd.DataFrame) -> bool:
    """Return whether a drawing of an image is outdated."""
    change = np.abs(before["confidence"] - after["confidence"])
    return bool((before["label"] != after["label"]).any() or (change > SAME_CONFIDENCE).any())
