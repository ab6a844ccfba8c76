"""Analysed images in memory, and what their sessions have in common."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

import pandas as pd

from ...core.errors import attempt
from ...core.model_card import ModelCard
from ...core.progress import Progress, report
from ...io.inputs import Input
from ...io.provenance import Outcome
from ...models.analysis import Analysis
from ...models.inference import Classifier
from ...reporting.plots.session import MAX_SESSIONS, SessionSummary
from ...reporting.report import MANY_IMAGES
from ..acquisition_sessions import SessionRules
from ..analysis import with_failed
from ..run_request import RunRequest
from ..session_labels import is_labelled_jointly, label_session, summarise_session
from .finalize import evenly_distributed, finalize_run
from .one_image import describe_outcome
from .part_index import PartIndex
from .part_store import PartStore
from .parts import key_of, make_part, model_hash, stem_of
from .run_files import Run, RunInfo

MAX_CLUSTERS = 20_000
"""Number of clusters whose patches are kept in memory, half a gigabyte."""


@dataclass(eq=False)
class AnalysedImages:
    """Analysed images in memory, and what their sessions have in common."""

    card: ModelCard
    request: RunRequest
    sessions: SessionRules  # how the images are grouped into sessions
    outcomes: list[Outcome] = field(default_factory=list)
    analyses: dict[str, Analysis] = field(default_factory=dict)  # by the name of the image
    # image → description of the scale of its session, for images labelled jointly
    joint: dict[str, dict[str, Any]] = field(default_factory=dict)
    # image → number of clusters with another label than by the image itself
    n_changed: dict[str, int] = field(default_factory=dict)
    summaries: list[SessionSummary] = field(default_factory=list)  # sessions that the report draws
    interrupted: bool = False

    def label_sessions(self, classifier: Classifier, progress: Progress | None = None) -> None:
        """Label the images of each session jointly."""
        for session in self.sessions.group(self.outcomes):
            images = [image for image in session.images if image in self.analyses]
            n_images = sum(len(self.analyses[image].table) > 0 for image in images)
            if not is_labelled_jointly(session, n_images, self.card):
                continue
            failed: dict[str, str] = {}
            analyses = [self.analyses[image] for image in images]
            label = partial(label_session, analyses, classifier, session=session, progress=progress)
            found = attempt(failed, "labels of the session", label)
            if found is None:
                for image in images:
                    self.analyses[image] = with_failed(self.analyses[image], failed)
                continue
            if found.scale is not None and len(self.summaries) < MAX_SESSIONS:
                self.summaries.append(
                    summarise_session(session, images, found.scale, found.class_fit, self.card)
                )
            for image, analysis in zip(images, found.analyses, strict=True):
                before, after = self.analyses[image].table, analysis.table
                changed = before["label_predicted"] != after["label_predicted"]
                self.n_changed[image] = int(changed.sum())
                self.joint[image] = analysis.parameters.get("session", {})
                self.analyses[image] = analysis

    def write(
        self,
        folder: Path,
        inputs: Sequence[Input],
        reference: pd.DataFrame | None,
        info: RunInfo,
        progress: Progress | None = None,
    ) -> Run:
        """Write parts and files as a run from files does.

        A later run does not use these parts: the labels may be those of a person, or of a session
        with other images.
        """
        store = PartStore(folder)
        with store.locked():
            model = model_hash(self.card)
            images = PartIndex(store, self.request, self.card, model, self.sessions)
            images.joint = {name: session for name, session in self.joint.items() if session}
            images.summaries = self.summaries
            shown = {inputs[i].name for i in evenly_distributed(len(inputs), MANY_IMAGES)}
            outcomes = {outcome.image: outcome for outcome in self.outcomes}
            for done, item in enumerate(inputs):
                outcome = outcomes.get(item.name)
                if outcome is None:
                    continue
                analysis = self.analyses.get(item.name)
                if analysis is None:
                    images.fail(outcome)
                    continue
                report(progress, done, len(inputs), f"Drawing {item.name}")
                about = {"n_changed": self.n_changed.get(item.name, 0)}
                outcome = self._describe(outcome, analysis)
                small = len(inputs) > MANY_IMAGES
                part = make_part(
                    analysis, outcome, self.card, item.name in shown, small, about, scale=False
                )
                content = hashlib.sha256(f"in memory {outcome.sha256} {item.name}".encode())
                stem = stem_of(key_of(content.hexdigest(), model, self.request), item.name)
                store.write(stem, part)
                images.register(item, stem)
            return finalize_run(images, inputs, info, shown, reference)

    def _describe(self, outcome: Outcome, analysis: Analysis) -> Outcome:
        """Return the outcome of an image by its analysis; `PartIndex` adds that of its session."""
        if outcome.image not in self.joint:
            return describe_outcome(outcome, analysis)
        return describe_outcome(outcome, replace(analysis, parameters=analysis.own_parameters))
