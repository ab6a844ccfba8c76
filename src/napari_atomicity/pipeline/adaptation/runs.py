"""Adapt a model to image files, or to analysed images in memory.

`fine_tuning` contains the method. Torch is imported inside the functions that need it, so
that a window opens without this delay.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from itertools import chain
from os import PathLike
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from ...core.acquisition_session import AcquisitionSession
from ...core.errors import ReadError, TableError
from ...core.micrograph import Micrograph
from ...core.model_card import ModelCard
from ...core.progress import Progress, Stop, check, prefixed, report
from ...core.tables import cluster_table as tables
from ...io.provenance import Outcome, now
from ...io.result_folder import REPORT, ResultFolder
from ...io.tables import read_table, write_ratios
from ...models.analysis import Analysis
from ...models.files import find_model, hashed, read_model, save_model
from ...reporting.adaptation_report import (
    AdaptationContent,
    write_adaptation_report,
    write_charts,
)
from ...reporting.image_warnings import image_warnings
from ...statistics.scores import match_nearest
from ..analysis import analyse, classify_clusters, embed_clusters
from ..session_labels import label_session
from . import text as adaptation_text
from .settings import COMBINED, MIN_PROBABILITY, AdaptRequest, AdaptSettings

if TYPE_CHECKING:
    import pandas as pd

    from ...io.inputs import Input
    from ...models.inference import Classifier
    from .result import Adaptation

    pass


def adapt_images(
    analyses: Sequence[Analysis],
    model: str = "default",
    name: str = "adapted",
    device: str = "auto",  # "auto", "cpu", "cuda" or "mps"
    progress: Progress | None = None,
    stop: Stop | None = None,
    pseudo_labels: str = COMBINED,  # "combined" or "diameter", see `settings.AdaptRequest`
    min_probability: float = MIN_PROBABILITY,
    accept_unchecked: bool = False,
    sessions: Sequence[AcquisitionSession] | None = None,  # see `fine_tuning.adapt`
) -> Adaptation:
    """Adapt a model to images whose clusters have been found; nothing is written.

    Raises `ModelError` if the model can't be loaded or adapted, or lacks the device.
    """
    from ...models.inference import load_classifier
    from .fine_tuning import adapt, refuse_unadaptable

    card, tensors = read_model(find_model(model))
    refuse_unadaptable(card, tensors)
    classifier = load_classifier(model, device)
    ready = [classified_by(a, classifier, progress, stop) for a in analyses]
    settings = AdaptSettings(
        posterior=min_probability,
        pseudo_label_method=pseudo_labels,
        accept_unchecked=accept_unchecked,
    )
    found = adapt(ready, card, tensors, settings, classifier.device, progress, stop, sessions)
    return named(found, name)


def classified_by(
    analysis: Analysis,
    classifier: Classifier,
    progress: Progress | None = None,
    stop: Stop | None = None,
) -> Analysis:
    """Classify an analysis with this model, unless it is already classified by it.

    Clusters that the model has not seen, as pieces of a split one, get the scale of the others,
    whose labels stay.
    """
    own = analysis.model_id == classifier.card.model_id
    if own and analysis.scale is not None and analysis.is_embedded.all():
        return analysis
    scale = analysis.scale if own else None
    again = classify_clusters(analysis, classifier, progress=progress, stop=stop, scale=scale)
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
            "before": adaptation_text.summarise_analyses(found.before),
            "after": adaptation_text.summarise_analyses(found.after),
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
    from ..runs.run_files import process_image

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


# ---- the report of an adaptation
def write_report(
    request: AdaptRequest,
    found: Adaptation,
    summary: Mapping[str, Any],  # from `runs.AdaptRun.summary`
    outcomes: Sequence[Outcome],
    started: str,
) -> tuple[Path, ...]:
    """Write the report of an adaptation into the folder of the request.

    Raises `AtomicityError` if a file cannot be written.
    """
    assert request.report is not None
    results = ResultFolder(request.report, "adapt")
    sides = {"before": found.before, "after": found.after}
    for name, analyses in sides.items():
        ratios = adaptation_text.image_ratios(analyses)
        results.add(write_ratios(ratios, results / f"ratios-{name}.csv"))
    content = describe(found)
    drawn = write_charts(results / "figures", content)
    results.add(*chain(*drawn.values()))
    charts = {name: files[-1] for name, files in drawn.items()}
    card = found.before[0].card

    def write_page(record: dict[str, Any]) -> None:
        record["adaptation"] = dict(summary)
        write_adaptation_report(results / REPORT, content, charts, record)

    results.finish(
        outcomes,
        write_page,
        started=started,
        finished=now(),
        parameters={k: v for k, v in asdict(request).items() if k != "report"},
        model=None if card is None else card.provenance(),
        device=str(found.before[0].parameters.get("device", request.device)),
    )
    results.raise_failed()
    return tuple(results.files)


def describe(found: Adaptation) -> AdaptationContent:
    """Return the content of the report of an adaptation."""
    confidence = [adaptation_text.mean_confidence(side) for side in (found.before, found.after)]
    return AdaptationContent(
        verdict=adaptation_text.format_verdict(found),
        accepted=found.accepted,
        facts=(
            adaptation_text.format_shift(found.shift),
            adaptation_text.format_learnt(found),
            adaptation_text.format_ranges(found),
            adaptation_text.format_confidence(*confidence) if found.accepted else "",
        ),
        warning=adaptation_text.format_missing(found),
        checks=adaptation_text.check_rows(found),
        classes=found.card.classes,
        before=found.before,
        after=found.after if found.accepted else (),
    )


# ---- corrected labels from a cluster table
_POSITION = ["y_px", "x_px"]
_MIN_TOLERANCE_NM = 0.3
"""A correction is of the nearest cluster within half its diameter, or this."""


def read_corrections(path: Path, card: ModelCard) -> pd.DataFrame:
    """Read the rows of a cluster table with corrected labels.

    Raises `ReadError` if the file is missing or no table. Raises `TableError` if columns are
    missing, nothing is corrected, or a label is none that the model can give.
    """
    table = read_table(path)
    missing = [c for c in ("image", *_POSITION, "label_corrected") if c not in table.columns]
    if missing:
        raise TableError(
            f"the corrections lack the columns {', '.join(missing)}",
            path,
            "Give a cluster table, as Ratios exports it",
        )
    table = table.assign(label_corrected=table["label_corrected"].fillna(""))
    table = table[table["label_corrected"] != ""].reset_index(drop=True)
    if table.empty:
        raise TableError("no cluster of this table is corrected", path, "Correct some first")
    strange = set(table["label_corrected"]) - {*card.classes, *tables.NON_CLASS_LABELS}
    if strange:
        raise TableError(
            f"{card.name!r} has no class {sorted(strange)[0]!r}",
            path,
            f"Its classes are {', '.join(card.classes)}",
        )
    return table if "frame" in table.columns else table.assign(frame=0)


def with_corrections(
    analyses: Sequence[Analysis], given: pd.DataFrame
) -> tuple[list[Analysis], int]:
    """Apply the labels of a table to analyses, and count the labels without a cluster.

    A row is of the image that bears its name, or the name of its file with or without suffix, if
    that is one image only; and of the nearest cluster of the frame, within half its diameter.
    """
    called = [_names_of(a.micrograph) for a in analyses]
    owner: dict[str, int] = {}
    for name in given["image"].unique():
        exact = [i for i, a in enumerate(analyses) if a.micrograph.name == name]
        candidates = exact or [i for i, names in enumerate(called) if name in names]
        if len(candidates) == 1:
            owner[name] = candidates[0]
    of_image = given["image"].map(owner)
    found, out = 0, []
    for i, analysis in enumerate(analyses):
        own = given[of_image == i]
        table = analysis.table
        corrected = table["label_corrected"].to_numpy(object).copy()
        for frame in np.intersect1d(own["frame"], table["frame"]):
            here = np.flatnonzero(table["frame"] == frame)
            there = table.iloc[here]
            rows = own[own["frame"] == frame]
            limit_nm = np.maximum(there["diameter_nm"].to_numpy(float) / 2, _MIN_TOLERANCE_NM)
            partner = match_nearest(
                rows[_POSITION].to_numpy(float),
                there[_POSITION].to_numpy(float),
                limit_nm / analysis.micrograph.calibrated(),
            )
            good = partner >= 0
            corrected[here[partner[good]]] = rows["label_corrected"].to_numpy(object)[good]
            found += int(good.sum())
        table = tables.settle_labels(table.assign(label_corrected=corrected))
        out.append(replace(analysis, table=table))
    return out, len(given) - found


def _names_of(micrograph: Micrograph) -> set[str]:
    """Return the names of an image in tables: "a.tif", "day1/a.tif", with or without suffix."""
    names = {micrograph.name}
    if micrograph.path is not None:
        parts = micrograph.path.absolute().parts
        names |= {"/".join(parts[i:]) for i in range(1, len(parts))}
    return names | {PurePosixPath(name).with_suffix("").as_posix() for name in names}
