"""Adapt a model to image files, or to analysed images in memory.

`fine_tuning` contains the method. Torch is imported inside the functions that need it, so
that a window opens without this delay.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ...core.errors import ReadError, TableError
from ...core.micrograph import Micrograph
from ...core.model_card import ModelCard
from ...core.progress import Progress, Stop, check, prefixed, report
from ...io.provenance import Outcome, now
from ...models.analysis import Analysis
from ...models.files import find_model, hashed, read_model, save_model
from ...reporting.image_warnings import image_warnings
from ..analysis import analyse, classify_clusters, embed_clusters
from ..corrections import read_corrections, with_corrections
from ..session_labels import label_session
from .settings import COMBINED, AdaptRequest
from .text import summarise_analyses

if TYPE_CHECKING:
    import pandas as pd

    from ...io.inputs import Input
    from ...models.inference import Classifier
    from .result import Adaptation


def adapt_images(
    analyses: Sequence[Analysis],
    model: str = "default",
    name: str = "adapted",
    device: str = "auto",  # "auto", "cpu", "cuda" or "mps"
    progress: Progress | None = None,
    stop: Stop | None = None,
    pseudo_labels: str = COMBINED,  # "combined" or "diameter", see `settings.AdaptRequest`
    min_probability: float | None = None,
    accept_unchecked: bool = False,
) -> Adaptation:
    """Adapt a model to images whose clusters have been found; nothing is written.

    Raises `ModelError` if the model can't be loaded or adapted, or lacks the device.
    """
    from ...models.inference import load_classifier
    from .fine_tuning import adapt, choose_settings, refuse_unadaptable

    card, tensors = read_model(find_model(model))
    refuse_unadaptable(card, tensors)
    classifier = load_classifier(model, device)
    ready = [classified_by(a, classifier, progress, stop) for a in analyses]
    settings = choose_settings(pseudo_labels, min_probability, accept_unchecked)
    found = adapt(ready, card, tensors, settings, classifier.device, progress, stop)
    return named(found, name)


def classified_by(
    analysis: Analysis,
    classifier: Classifier,
    progress: Progress | None = None,
    stop: Stop | None = None,
) -> Analysis:
    """Classify an analysis with this model, unless it is already classified by it."""
    own = analysis.model_id == classifier.card.model_id
    if own and analysis.scale is not None and (analysis.table["label_predicted"] != "").all():
        return analysis
    again = classify_clusters(analysis, classifier, progress=progress, stop=stop)
    # the places were in the map of another model
    return replace(again, table=again.table.assign(umap_1=np.nan, umap_2=np.nan))


def named(found: Adaptation, name: str) -> Adaptation:
    """Name the model of an adaptation, in its card and the analyses that it changed."""
    if not found.has_model:
        return found
    card = hashed(replace(found.card, name=name), found.tensors)
    if not found.accepted:
        return replace(found, card=card)
    return replace(found, card=card, after=tuple(_predicted_by(a, card) for a in found.after))


def _predicted_by(analysis: Analysis, card: ModelCard) -> Analysis:
    return replace(
        analysis,
        table=analysis.table.assign(model_id=card.model_id),
        parameters={**analysis.parameters, "model": card.provenance()},
        card=card,
    )


def placed(
    found: Adaptation,
    old: Classifier,
    new: Classifier,
    progress: Progress | None = None,
    stop: Stop | None = None,
) -> Adaptation:
    """Place the clusters of an accepted adaptation in the map, before and after."""
    if not found.accepted:
        return found
    report(progress, 0, 0, "Placing the clusters in the map")
    return replace(
        found,
        before=tuple(a if _has_places(a) else embed_clusters(a, old, stop) for a in found.before),
        after=tuple(embed_clusters(a, new, stop) for a in found.after),
    )


def _has_places(analysis: Analysis) -> bool:
    return bool(np.isfinite(analysis.table[["umap_1", "umap_2"]].to_numpy(float)).all())


@dataclass(frozen=True, eq=False)
class AdaptRun:
    """Result of an adaptation to files."""

    found: Adaptation
    outcomes: list[Outcome]
    corrections_lost: int = 0  # number of corrections that match no cluster
    files: tuple[Path, ...] = ()  # files of the report; the record is the last one

    def summary(self) -> dict[str, Any]:
        """In a few words, ready for JSON; the model is null where none was written."""
        found = self.found
        return {
            **found.summary(),
            "model_id": found.card.model_id if found.has_model else None,
            "corrections_lost": self.corrections_lost,
            "before": summarise_analyses(found.before),
            "after": summarise_analyses(found.after),
            "report": [path.name for path in self.files],
            "images": [
                {"image": o.image, "path": o.path, "status": o.status, "error": o.error}
                for o in self.outcomes
            ],
        }


def adapt_files(
    paths: Iterable[str | PathLike[str]],
    request: AdaptRequest,  # model, corrections and output file
    progress: Progress | None = None,
    stop: Stop | None = None,
    on_outcome: Callable[[Outcome], None] | None = None,
) -> AdaptRun:
    """Analyse files, adapt the model to them, and write it if it improves.

    If the network needs no adaptation, the unchanged model is written under the new name.

    Raises `ModelError` if the model cannot be loaded or adapted. Raises `TableError` if there are
    no corrections, or they match no cluster of the images. Raises `ReadError` if no image can be
    analysed, or the corrections cannot be read. Raises `AtomicityError` if the result cannot be
    written.
    """
    from ...models.inference import load_classifier
    from .fine_tuning import refuse_unadaptable
    from .report import write_report

    started = now()
    card, tensors = read_model(find_model(request.model))
    refuse_unadaptable(card, tensors)
    given = None if request.corrections is None else read_corrections(request.corrections, card)
    classifier = load_classifier(request.model, request.device)
    outcomes, analyses = _analyse_files(paths, classifier, request, progress, stop, on_outcome)
    if len(analyses) > 1:  # as the command analyse labels them
        analyses = label_session(analyses, classifier, progress=progress, stop=stop).analyses
    analyses, n_unmatched = _correct(analyses, given, request)
    found = adapt_images(
        analyses,
        request.model,
        request.out.stem,
        request.device,
        progress,
        stop,
        request.pseudo_labels,
        request.min_probability,
        request.accept_unchecked,
    )
    check(stop)
    if found.has_model:
        save_model(request.out, found.card, found.tensors)
    run = AdaptRun(found, outcomes, n_unmatched)
    if request.report is None:
        return run
    found = with_places(found, classifier, progress, stop)
    return replace(run, files=write_report(request, found, run.summary(), outcomes, started))


def _correct(
    analyses: list[Analysis], given: pd.DataFrame | None, request: AdaptRequest
) -> tuple[list[Analysis], int]:
    """Return the images with their corrections, and the number of corrections without a cluster."""
    if given is None:
        return analyses, 0
    corrected, n_unmatched = with_corrections(analyses, given)
    if n_unmatched == len(given):
        raise TableError(
            "the corrections match no cluster of the images",
            request.corrections,
            "The table must name the images as their files are called",
        )
    return corrected, n_unmatched


def with_places(
    found: Adaptation,
    old: Classifier,
    progress: Progress | None = None,
    stop: Stop | None = None,
) -> Adaptation:
    """Place the clusters in the map, also of an adaptation that was not accepted."""
    from ...models.inference import Classifier

    if found.accepted:
        new = Classifier(found.card, found.tensors, old.device)
        return placed(found, old, new, progress, stop)
    report(progress, 0, 0, "Placing the clusters in the map")
    before = tuple(embed_clusters(a, old, stop) for a in found.before)
    return replace(found, before=before, after=before)


def _analyse_files(
    paths: Iterable[str | PathLike[str]],
    classifier: Classifier,
    request: AdaptRequest,
    progress: Progress | None,
    stop: Stop | None,
    on_outcome: Callable[[Outcome], None] | None,
) -> tuple[list[Outcome], list[Analysis]]:
    from ...core.progress import serial
    from ...io.inputs import named_inputs
    from ..image_step import process_image

    def step(item: Input) -> tuple[Outcome, Analysis | None, None]:
        shown = prefixed(progress, f"{item.name}: ")

        def analyse_clusters(
            micrograph: Micrograph, known: dict[str, Any]
        ) -> tuple[Outcome, Analysis, None]:
            analysis = analyse(micrograph, classifier, progress=shown, stop=stop, umap=False)
            outcome = item.outcome(
                "done",
                **known,
                clusters=len(analysis.table),
                seconds=analysis.seconds,
                warnings=image_warnings(analysis.table, analysis.parameters),
            )
            return outcome, analysis, None

        return process_image(item, analyse_clusters, request.pixel_size_nm, shown)

    outcomes, analyses = [], []
    for outcome, analysis, _ in serial(step, named_inputs(paths), stop):
        outcomes.append(outcome)
        if analysis is not None:
            analyses.append(analysis)
        if on_outcome is not None:
            on_outcome(outcome)
    if not analyses:
        raise ReadError("no image could be analysed")
    return outcomes, analyses
