"""The methods paragraph of a report, ready for a supplement: written from the record, not by hand.

Every sentence is there because the record, the model card or the table says so; what was not done
or is not known is not mentioned.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from .._version import __version__
from ..core.cluster_table import AGGREGATE, UNKNOWN
from ..models.embedding import MIN_DIST, NEIGHBOURS
from ..statistics.agreement import CONSENSUS, removed_clusters
from ..statistics.ratios import counted
from ..tracking.tracks import MOVIE

if TYPE_CHECKING:
    from ..core.model_card import ModelCard
    from ..statistics.corrected_accuracy import OnCorrected
    from ..statistics.reference import Comparison
    from ..statistics.stratified_accuracy import Accuracy

CITATIONS = {
    "software": f"napari-atomicity {__version__}, "
    "https://github.com/napari-atomicity/napari-atomicity",
    "study": "K. Tsukamoto et al., npj Comput. Mater. 12, 143 (2026), "
    "doi:10.1038/s41524-026-02014-z",
    "grad-cam": "R. R. Selvaraju et al., “Grad-CAM: visual explanations from deep networks via "
    "gradient-based localization”, ICCV, 618–626 (2017), doi:10.1109/ICCV.2017.74",
    "umap": "L. McInnes, J. Healy and J. Melville, “UMAP: uniform manifold approximation and "
    "projection for dimension reduction”, arXiv:1802.03426 (2018)",
    "wilson": "E. B. Wilson, “Probable inference, the law of succession, and statistical "
    "inference”, J. Am. Stat. Assoc. 22, 209–212 (1927), doi:10.1080/01621459.1927.10502953",
    "trackpy": "J. C. Crocker and D. G. Grier, “Methods of digital video microscopy for colloidal "
    "studies”, J. Colloid Interface Sci. 179, 298–310 (1996), doi:10.1006/jcis.1996.0217",
    "hmm": "L. R. Rabiner, “A tutorial on hidden Markov models and selected applications in speech "
    "recognition”, Proc. IEEE 77, 257–286 (1989), doi:10.1109/5.18626",
    "okabe-ito": "M. Okabe and K. Ito, “Color Universal Design” (2008), "
    "https://jfly.uni-koeln.de/color/",
    "napari": "napari contributors, “napari: a multi-dimensional image viewer for Python”, "
    "doi:10.5281/zenodo.3555620",
}


@dataclass(frozen=True)
class Methods:
    """Paragraphs of plain text, with numbers in brackets for the references."""

    paragraphs: tuple[str, ...]
    references: tuple[str, ...]


class _Citing:
    """Numbers what is cited in the order in which it is."""

    def __init__(self) -> None:
        self._numbers: dict[str, int] = {}

    def __call__(self, name: str) -> str:
        return f"[{self._numbers.setdefault(name, len(self._numbers) + 1)}]"

    @property
    def references(self) -> tuple[str, ...]:
        return tuple(CITATIONS[name] for name in self._numbers)


def methods(
    record: dict[str, Any],
    table: pd.DataFrame,
    ratios: pd.DataFrame,
    *,
    card: ModelCard | None = None,
    corrected: OnCorrected | None = None,
    corrections: pd.DataFrame | None = None,
    sample: Accuracy | None = None,
    comparison: Comparison | None = None,
) -> Methods:
    """Say how the results of a run came about.

    Parameters
    ----------
    record
        From `provenance.run_record`.
    table, ratios
        The cluster table of all images, and their ratios together.
    card
        Of the model that classified; without it only what the record says of the model is told.
    corrected
        From `statistics.corrected_accuracy.on_corrected`.
    corrections
        Log of what people did (`Project.corrections`), with the columns ``annotator``, ``image``,
        ``cluster_id`` and ``what``.
    sample
        What follows from the review of a stratified sample.
    comparison
        With reference ratios.
    """
    cite = _Citing()
    done = [i for i in record["images"] if i["status"] == "done"]
    paragraphs = [
        _images(record, done, table, cite),
        _detection(done),
        _classification(record, done, table, card, cite),
        _over_time(done, cite),
        _counting(table, ratios, comparison, cite),
        _people(table, corrected, corrections),
        _sample(sample),
        _software(record, cite),
    ]
    return Methods(tuple(p for p in paragraphs if p), cite.references)


def _images(
    record: dict[str, Any], done: list[dict[str, Any]], table: pd.DataFrame, cite: _Citing
) -> str:
    said = (
        f"{_number(len(done), 'image')} with {_number(len(table), 'cluster')} "
        f"{'was' if len(done) == 1 else 'were'} analysed with napari-atomicity "
        f"{record['version']} {cite('software')}, which follows the approach of Tsukamoto et al. "
        f"{cite('study')}: a compact convolutional network classifies patches of single clusters."
    )
    sizes = [i["pixel_size_nm"] for i in done if i.get("pixel_size_nm")]
    if sizes:
        said += f" The pixels had an edge of {_span(sizes, '{:.4g}')} nm."
    failed = record["images_failed"]
    if failed:
        said += f" {_number(failed, 'further image')} could not be analysed."
    return said


def _detection(done: list[dict[str, Any]]) -> str:
    """The settings as used; where images differ, each kind with its number of images."""
    kinds: dict[str, int] = {}
    for image in done:
        settings = image["parameters"].get("detection")
        if settings:
            words = _detection_settings(settings)
            kinds[words] = kinds.get(words, 0) + 1
    if not kinds:
        return ""
    n = sum(kinds.values())
    first, *others = sorted(kinds, key=lambda words: -kinds[words])
    said = (
        "After subtraction of the background, clusters were found as maxima of a scale-normalised "
        f"Laplacian-of-Gaussian scale space, {first}"
        + (f" (in {kinds[first]} of {n} images)" if others else "")
        + "; their outlines, found by a watershed, gave the equivalent diameter and the "
        "intensity above the local background."
    )
    return said + "".join(f" In {_number(kinds[o], 'image')} otherwise: {o}." for o in others)


def _detection_settings(settings: dict[str, Any]) -> str:
    """What `DetectionSettings` holds, in words; what an older one lacks is left out."""
    parts = []
    if {"diameter_min_nm", "diameter_max_nm"} <= settings.keys():
        parts.append(
            f"for diameters of {settings['diameter_min_nm']:g} to {settings['diameter_max_nm']:g} "
            "nm"
        )
    if "threshold" in settings:
        parts.append(f"at a threshold of {settings['threshold']:g} times the local noise")
    if "split_touching" in settings:
        depth = settings.get("split_depth")
        parts.append(
            "touching clusters parted"
            + (f" where the saddle lies below {depth:g} of the lower summit" if depth else "")
            if settings["split_touching"]
            else "touching clusters not parted"
        )
    if settings.get("faintest"):
        parts.append(
            f"objects of less than {settings['faintest']:g} of the median intensity left out"
        )
    return ", ".join(parts)


def _classification(
    record: dict[str, Any],
    done: list[dict[str, Any]],
    table: pd.DataFrame,
    card: ModelCard | None,
    cite: _Citing,
) -> str:
    ids = [m for m in dict.fromkeys(table["model_id"].astype(str)) if m]
    if not ids:
        return ""
    model = record["model"] or {}
    names = " and ".join(ids)
    hashed = f" (SHA-256 of the weights {model['sha256']})" if model.get("sha256") else ""
    said = f"The clusters were classified by the model{'s' * (len(ids) > 1)} {names}{hashed}"
    classes = card.classes if card is not None else model.get("classes", ())
    said += f" into {', '.join(classes)}." if classes else "."
    said += _symmetries(done)
    if card is not None:
        said += _card(card)
    said += (
        f" What the model has not learnt is called “{UNKNOWN}”, what looks like several clusters "
        f"on top of each other “{AGGREGATE}”."
    )
    said += f" Class maps are Grad-CAM {cite('grad-cam')}."
    if table[["umap_1", "umap_2"]].notna().all(axis=1).any():
        said += (
            f" The embedding was placed in the UMAP {cite('umap')} of the model's references "
            f"({NEIGHBOURS} neighbours, minimal distance {MIN_DIST:g})."
        )
    return said


def _symmetries(done: list[dict[str, Any]]) -> str:
    """Whether the network was averaged; where images differ, in how many of the classified."""
    averaged = [
        bool(i["parameters"].get("symmetries")) for i in done if i["parameters"].get("model")
    ]
    if not any(averaged):
        return ""
    some = "" if all(averaged) else f" (in {sum(averaged)} of {len(averaged)} images)"
    return f" The network was averaged over the eight symmetries of the square{some}."


def _card(card: ModelCard) -> str:
    patches = card.patches
    channels = " and ".join(patches.channels)
    said = (
        f" It sees patches of {patches.field_of_view_nm:g} nm ({patches.size_px} × "
        f"{patches.size_px} pixels), channel{'s' * (len(patches.channels) > 1)} {channels}"
    )
    if "LCN" in patches.channels:
        said += (
            ", the latter after local contrast normalisation with Gaussian windows of "
            f"{patches.lcn_window_nm:g} nm standard deviation"
        )
    said += "."
    if card.combination is not None:
        said += (
            " Its probabilities are pooled with those of a mixture model of intensity and "
            "diameter whose intensity scale is found from the clusters of each image."
        )
    said += (
        " Prediction sets are made to hold the true class in "
        f"{100 * card.conformal_level:g} % of the cases."
    )
    source = str(card.data.get("source", ""))
    of = " simulated" if source.endswith("simulation") else ""
    known = card.scores.get("test") or card.scores.get("held_out") or {}
    if {"accuracy", "clusters"} <= known.keys():
        said += (
            f" On {known['clusters']}{of} clusters of images that it was not trained on, its "
            f"accuracy is {known['accuracy']:.3f}."
        )
    said += f" Intended use: {card.intended_use.rstrip('.')}." if card.intended_use else ""
    return said + (f" Limits: {card.limits.rstrip('.')}." if card.limits else "")


def _over_time(done: list[dict[str, Any]], cite: _Citing) -> str:
    """How clusters were followed; where stacks differ, each setting with its range."""
    kept = [i["parameters"][MOVIE]["settings"] for i in done if MOVIE in i["parameters"]]
    if not kept:
        return ""
    ranges, memories = ([s[name] for s in kept] for name in ("search_range_nm", "memory_frames"))
    smoothed = (
        f" Their labels were smoothed by a hidden Markov model {cite('hmm')} in which all changes "
        "of the class are alike"
    )
    rate = (
        ", with a rate found by expectation–maximisation."
        if all(s["rate"] is None for s in kept)
        else "."
    )
    return (
        f"In {_number(len(kept), 'stack')} the drift of the stage was removed and clusters were "
        f"linked over the frames {cite('trackpy')}, within {_span(ranges, '{:g}')} nm from frame "
        f"to frame and missed in at most {_span(memories, '{:g}')}.{smoothed}{rate} Rates at which "
        "classes are left have the exact intervals of Poisson counts; stretches that begin or end "
        "with their track are censored."
    )


def _counting(
    table: pd.DataFrame, ratios: pd.DataFrame, comparison: Comparison | None, cite: _Citing
) -> str:
    of_all = ratios[ratios["fraction"].notna()]
    if not len(of_all):
        return ""
    n = int(counted(table).sum())
    left_out = [f"{_number(k, 'cluster')} {why}" for why, k in not_counted(table).items()]
    said = (
        f"Class ratios are those of {_number(n, 'cluster')}"
        + (f"; not counted were {_listed(left_out)}" if left_out else "")
        + f". Method: {of_all['method'].iloc[0]}. Intervals have the form of Wilson's "
        f"{cite('wilson')} for an effective number of clusters, which the scatter between images "
        "in the bootstrap makes smaller than their number."
    )
    if str(of_all["method"].iloc[0]).startswith("counted"):
        said += " They also hold the labels that are wrong according to their probabilities."
    notes = [str(note) for note in dict.fromkeys(of_all["note"]) if note]
    said += "".join(f" {note[:1].upper()}{note[1:]}." for note in notes)
    if comparison is not None and comparison.mean_absolute_error is not None:
        r2 = (
            f"R² is not defined ({comparison.why_no_r2})"
            if comparison.r2 is None
            else f"R² = {comparison.r2:.3f}"
        )
        said += (
            f" Against {_number(len(comparison.pairs), 'reference fraction')}, {r2} and the mean "
            f"absolute error is {comparison.mean_absolute_error:.3f}."
        )
    return said


def not_counted(table: pd.DataFrame) -> dict[str, int]:
    """Why clusters do not count in the ratios → how many; each counts under its first reason."""
    label = table["label"].astype(str)
    reasons = {
        "in regions that a person has excluded": table["excluded"].astype(bool)
        if "excluded" in table.columns
        else pd.Series(False, index=table.index),
        "cut by the border": table["touches_border"].astype(bool),
        f"labelled {UNKNOWN}": label == UNKNOWN,
        f"labelled {AGGREGATE}": label == AGGREGATE,
        "without a label": label == "",
    }
    left = pd.Series(True, index=table.index)
    out = {}
    for why, rows in reasons.items():
        out[why] = int((rows & left).sum())
        left &= ~rows
    return {why: n for why, n in out.items() if n}


def _people(
    table: pd.DataFrame, corrected: OnCorrected | None, corrections: pd.DataFrame | None
) -> str:
    n = int((table["label_corrected"] != "").sum())
    columns = ["annotator", "image", "cluster_id", "what"]
    log = pd.DataFrame(columns=columns) if corrections is None else corrections
    there = set(zip(table["image"].astype(str), table["cluster_id"].tolist(), strict=True))
    removed = len(removed_clusters(log) - there)
    if not n and not removed:
        return ""
    people = len(annotators(log))
    who = f"{_number(people, 'person', 'people')}" if people else "a person"
    said = f"{_number(n, 'cluster')} {'has' if n == 1 else 'have'} a label given by {who}"
    if len(log):
        said += f" ({_number(len(log), 'entry', 'entries')} in the log)"
    said += ", which counts instead of the model's."
    if corrected is not None and corrected.by_hand:
        said += f" The model had no label for {corrected.by_hand} of them."
    if removed:
        said += f" {_number(removed, 'cluster')} {'was' if removed == 1 else 'were'} taken out by "
        said += "hand."
    return said


def _sample(sample: Accuracy | None) -> str:
    if sample is None:
        return ""
    share = sample.overall
    return (
        f"From {share.n} answers to a stratified sample of {sample.n_wanted} of "
        f"{sample.n_population} clusters, drawn at random within predicted label and confidence, "
        f"the accuracy of the model's labels is {share.value:.3f} (95 % interval {share.low:.3f} "
        f"to {share.high:.3f}); clusters that are none count as wrong."
    )


def annotators(corrections: pd.DataFrame) -> list[str]:
    """Who gave labels, without the consensus, which is nobody's opinion."""
    return [name for name in corrections["annotator"].unique() if name != CONSENSUS]


def _software(record: dict[str, Any], cite: _Citing) -> str:
    environment = record["environment"]
    packages = [
        f"{name} {version}"
        for name, version in environment["packages"].items()
        if version is not None and name in _NAMED
    ]
    napari = environment["packages"].get("napari")
    said = f"Software: Python {environment['python']}, {', '.join(packages)}"
    said += f"; napari {napari} {cite('napari')}" if napari else ""
    device = f" The network ran on: {record['device']}." if record.get("device") else ""
    return f"{said}.{device} Colours are those of Okabe and Ito {cite('okabe-ito')}."


_NAMED = ("torch", "numpy", "scipy", "scikit-image", "pandas", "umap-learn")


def _number(n: int, one: str, many: str = "") -> str:
    return f"{n} {one if n == 1 else many or one + 's'}"


def _span(values: Iterable[float], form: str) -> str:
    known = np.array(list(values), float)
    low, high = form.format(known.min()), form.format(known.max())
    return low if low == high else f"{low} to {high}"


def _listed(parts: Sequence[str]) -> str:
    return " and ".join(filter(None, [", ".join(parts[:-1]), parts[-1]]))
