"""A model adapted to files, or to what a window has analysed; and what came of it, in words.

The science is in `adaptation`. Torch is loaded inside the functions that need it, so that a window
opens without the seconds that this takes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from os import PathLike
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from ..core import cluster_table as tables
from ..core.cluster_table import ALL
from ..core.errors import AtomicityError, Cancelled, ReadError, TableError
from ..core.micrograph import Micrograph
from ..core.model_card import ModelCard
from ..core.progress import Progress, Stop, check, report
from ..io.images import load
from ..io.provenance import Outcome
from ..io.tables import concatenate, read_table
from ..models.analysis import Analysis
from ..models.files import find_model, hashed, read_model, save_model
from ..reporting.image_warnings import image_warnings
from ..statistics.ratios import class_ratios
from ..statistics.scores import match_nearest
from .analysis import analyse, classify_clusters, embed_clusters

if TYPE_CHECKING:
    from ..io.inputs import Input
    from ..models.classifier import Classifier
    from ..models.domain_shift import Shift
    from .fine_tuning import Adaptation

_POSITION = ["y_px", "x_px"]
_MIN_TOLERANCE_NM = 0.3
"""A correction is of the nearest cluster within half its diameter, or this."""

_FIGURES = {
    "noise_atoms_per_nm2": ("noise", "atoms/nm²"),
    "texture_atoms_per_nm2": ("texture of the support", "atoms/nm²"),
    "sharpness_per_nm": ("sharpness", "per nm"),
}
"""What people call the figures of `models.domain_shift.figures_of`, and their units."""


# ---- in memory: for a window and a notebook


def adapt_images(
    analyses: Sequence[Analysis],
    model: str = "default",
    name: str = "adapted",
    device: str = "auto",
    progress: Progress | None = None,
    stop: Stop | None = None,
) -> Adaptation:
    """Adapt a model to images whose clusters have been found; nothing is written.

    Parameters
    ----------
    analyses
        With the labels that a person gave; those of another model are classified first.
    model
        Name of a model at hand, or path of a model file.
    name
        Of the adapted model.
    device
        "auto", "cpu", "cuda" or "mps".
    progress, stop
        As elsewhere.

    Returns
    -------
    Adaptation
        If accepted, its card has the name and the hash with which it would be saved, and the
        analyses say that this model made them.

    Raises
    ------
    ModelError
        If the model can't be loaded or adapted, or lacks the device.
    Cancelled
        If ``stop()`` says so.
    """
    from ..models.classifier import load_classifier
    from .fine_tuning import adapt, refuse_unadaptable

    card, tensors = read_model(find_model(model))
    refuse_unadaptable(card, tensors)
    classifier = load_classifier(model, device)
    ready = [classified_by(a, classifier, progress, stop) for a in analyses]
    found = adapt(ready, card, tensors, None, classifier.device, progress, stop)
    return named(found, name)


def classified_by(
    analysis: Analysis,
    classifier: Classifier,
    progress: Progress | None = None,
    stop: Stop | None = None,
) -> Analysis:
    """An analysis by this model: the same one, if it is, with all its clusters and their scale."""
    own = analysis.parameters.get("model", {}).get("model_id") == classifier.card.model_id
    if own and analysis.scale is not None and (analysis.table["label_predicted"] != "").all():
        return analysis
    again = classify_clusters(analysis, classifier, progress=progress, stop=stop)
    # the places were in the map of another model
    return replace(again, table=again.table.assign(umap_1=np.nan, umap_2=np.nan))


def named(found: Adaptation, name: str) -> Adaptation:
    """An accepted adaptation whose model has a name, in its card and in what it says."""
    if not found.accepted:
        return found
    card = hashed(replace(found.card, name=name), found.tensors)
    return replace(found, card=card, after=tuple(_predicted_by(a, card) for a in found.after))


def _predicted_by(analysis: Analysis, card: ModelCard) -> Analysis:
    return replace(
        analysis,
        table=analysis.table.assign(model_id=card.model_id),
        parameters={**analysis.parameters, "model": card.provenance()},
    )


def placed(
    found: Adaptation,
    old: Classifier,
    new: Classifier,
    progress: Progress | None = None,
    stop: Stop | None = None,
) -> Adaptation:
    """An accepted adaptation whose clusters have their places in the map, before and after."""
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


# ---- files: for the command line


@dataclass(frozen=True)
class AdaptRequest:
    """All that decides what an adaptation to files gives.

    Parameters
    ----------
    out
        The .safetensors file to write; its card lies beside it.
    model
        Name of a model at hand, or path of a model file.
    corrections
        A cluster table with labels that a person gave.
    pixel_size_nm
        Overrides what the files say; None to believe them.
    device
        "auto", "cpu", "cuda" or "mps".
    """

    out: Path
    model: str = "default"
    corrections: Path | None = None
    pixel_size_nm: float | None = None
    device: str = "auto"


@dataclass(frozen=True, eq=False)
class AdaptRun:
    """What came of it; what became of each image; and how many corrections found no cluster."""

    found: Adaptation
    outcomes: list[Outcome]
    corrections_lost: int = 0

    def summary(self) -> dict[str, Any]:
        """In a few words, ready for JSON; the model is null where none was written."""
        found = self.found
        return {
            **found.summary(),
            "model_id": found.card.model_id if found.accepted else None,
            "corrections_lost": self.corrections_lost,
            "before": _figures(found.before),
            "after": _figures(found.after),
            "images": [
                {"image": o.image, "path": o.path, "status": o.status, "error": o.error}
                for o in self.outcomes
            ],
        }


def adapt_files(
    paths: Iterable[str | PathLike[str]],
    request: AdaptRequest,
    progress: Progress | None = None,
    stop: Stop | None = None,
    on_outcome: Callable[[Outcome], None] | None = None,
) -> AdaptRun:
    """Analyse files, adapt the model to them, and write what it has become if that helps.

    Parameters
    ----------
    paths
        Image files, and folders that are searched for them. Those that can't be analysed are
        left out, and named in the outcomes.
    request
        Model, corrections and where the result goes; nothing is written there if the adaptation is
        rolled back.
    progress, stop
        As elsewhere.
    on_outcome
        Called after each image.

    Raises
    ------
    ModelError
        If the model can't be loaded or adapted.
    TableError
        If the corrections are none, or of none of the images.
    ReadError
        If no image could be analysed, or the corrections can't be read.
    AtomicityError
        If the result can't be written.
    Cancelled
        If ``stop()`` says so.
    """
    from ..io.inputs import named_inputs
    from ..models.classifier import load_classifier
    from .fine_tuning import refuse_unadaptable

    card, tensors = read_model(find_model(request.model))
    refuse_unadaptable(card, tensors)
    given = None if request.corrections is None else read_corrections(request.corrections, card)
    classifier = load_classifier(request.model, request.device)
    outcomes, analyses = [], []
    for item in named_inputs(paths):
        check(stop)
        outcome, analysis = _one(item, classifier, request.pixel_size_nm, progress, stop)
        outcomes.append(outcome)
        if analysis is not None:
            analyses.append(analysis)
        if on_outcome is not None:
            on_outcome(outcome)
    if not analyses:
        raise ReadError("none of the images could be analysed")
    lost = 0
    if given is not None:
        analyses, lost = with_corrections(analyses, given)
        if lost == len(given):
            raise TableError(
                "none of these corrections is of a cluster of the images",
                request.corrections,
                "The table must name the images as their files are called",
            )
    found = adapt_images(analyses, request.model, request.out.stem, request.device, progress, stop)
    check(stop)
    if found.accepted:
        save_model(request.out, found.card, found.tensors)
    return AdaptRun(found, outcomes, lost)


def _one(
    item: Input,
    classifier: Classifier,
    pixel_size_nm: float | None,
    progress: Progress | None,
    stop: Stop | None,
) -> tuple[Outcome, Analysis | None]:
    """Read and analyse one image; whatever goes wrong with it becomes its outcome."""
    if item.error is not None:
        return item.outcome("failed", item.error), None

    def told(done: int, total: int, message: str) -> None:
        report(progress, done, total, f"{item.name}: {message}")

    try:
        told(0, 0, "Reading")
        micrograph = load(item.path, pixel_size_nm, name=item.name)
        analysis = analyse(micrograph, classifier, progress=told, stop=stop, umap=False)
    except Cancelled:
        raise
    except AtomicityError as error:
        return item.outcome("failed", str(error)), None
    except Exception as error:  # one image must not end the run
        return item.outcome("failed", f"unexpected {type(error).__name__}: {error}"), None
    outcome = item.outcome(
        "done",
        clusters=len(analysis.table),
        seconds=analysis.seconds,
        warnings=image_warnings(analysis.table),
    )
    return outcome, analysis


def read_corrections(path: Path, card: ModelCard) -> pd.DataFrame:
    """The rows of a cluster table that a person has corrected.

    Raises
    ------
    ReadError
        If the file is missing or no table.
    TableError
        If columns are missing, nothing is corrected, or a label is none that the model can give.
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
    """The analyses with the labels of a table, and how many of those found no cluster.

    A row is of the image that bears its name, or the name of its file with or without suffix, if
    that is one image only; and of the nearest cluster of the frame, within half its diameter.

    Parameters
    ----------
    analyses
        Of the images.
    given
        Columns ``image, frame, y_px, x_px, label_corrected``.
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
    """What a table may call an image: "a.tif", "day1/a.tif"; a window leaves the suffix out."""
    names = {micrograph.name}
    if micrograph.path is not None:
        parts = micrograph.path.absolute().parts
        names |= {"/".join(parts[i:]) for i in range(1, len(parts))}
    return names | {PurePosixPath(name).with_suffix("").as_posix() for name in names}


# ---- in numbers


def shares(analyses: Sequence[Analysis]) -> pd.DataFrame:
    """Class ratios over all images, as `statistics.ratios.class_ratios` gives them."""
    names = [a.micrograph.name for a in analyses]
    return class_ratios(concatenate([a.table for a in analyses]), scope=ALL, images=names)


def mean_confidence(analyses: Sequence[Analysis]) -> float:
    """Of all clusters that have one; NaN where none has."""
    confidence = np.concatenate([a.table["confidence"].to_numpy(float) for a in analyses])
    return float(np.nanmean(confidence)) if np.isfinite(confidence).any() else float("nan")


def _figures(analyses: Sequence[Analysis]) -> dict[str, Any]:
    found = shares(analyses)
    return {
        "ratios": dict(zip(found["class"], found["fraction"], strict=True)),
        "mean_confidence": mean_confidence(analyses),
    }


# ---- in words


def format_shift(shift: Shift | None) -> str:
    """Whether the conditions are others than those of the training, and in what."""
    if shift is None:
        return "Too few clusters to tell whether the conditions differ from those of the training."
    if shift.found:
        words = f"The conditions differ from those of the training (p = {shift.p_value:.2g})"
    else:
        words = "The conditions lie within those of the training"
    outside = []
    for figure, (here, low, high) in shift.figures.items():
        name, unit = _FIGURES.get(figure, (figure, ""))
        if not low <= here <= high:
            side = "above" if here > high else "below"
            outside.append(f"{name} {here:.3g} {unit}, {side} {low:.3g}–{high:.3g}")
    return words + (f": {'; '.join(outside)}." if outside else ".")


def format_learnt(found: Adaptation) -> str:
    """How many clusters of which class were learnt from."""
    n = sum(found.pseudo_labels.values())
    by_class = ", ".join(f"{count} {name}" for name, count in found.pseudo_labels.items())
    corrections = found.corrections
    own = f"; {corrections} of them corrected by a person" if corrections else ""
    return f"Learnt from {n} clusters beyond doubt: {by_class}{own}."


def format_verdict(found: Adaptation) -> str:
    """Whether the model was changed, and why."""
    words = "Accepted" if found.accepted else "Rolled back, the model stays what it was"
    return f"{words}: {'; '.join(found.reasons)}."


def format_checks(found: Adaptation) -> list[str]:
    """A line for each figure that decided, before and after: shares, and how surprised it is."""
    return [
        f"{name}: " + " → ".join(_figure(name, value) for value in pair)
        for name, pair in found.checks.items()
        if np.isfinite(pair).all()  # nothing of that kind was left out
    ]


def _figure(name: str, value: float) -> str:
    return f"{value:.2f}" if name.startswith("surprise") else f"{100 * value:.1f} %"
