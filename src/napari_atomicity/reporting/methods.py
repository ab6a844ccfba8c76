"""The methods section of a report, written from the record of the run.

Every sentence follows from the record, the model card or the cluster table. Steps that were not
done and values that are not known are not mentioned.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from .._version import __version__
from ..core.acquisition_session import format_composition
from ..core.micrograph import GIVEN
from ..core.tables.cluster_table import AGGREGATE, ALL, UNKNOWN
from ..core.text import listed, pluralise
from ..models.embedding import MIN_DIST, NEIGHBOURS
from ..statistics.annotators.agreement import CONSENSUS, last_labels, manual_changes
from ..statistics.ratios.ratio_notes import COMBINATION
from ..statistics.ratios.ratios import count_excluded, counted
from ..statistics.ratios.track_counts import count_clusters, merge_tracks
from ..tracking.tracks import MOVIE

if TYPE_CHECKING:
    from ..core.model_card import ModelCard
    from ..statistics.ratios.reference import Comparison
    from ..statistics.stratified_accuracy import Accuracy, OnCorrected

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
    """Paragraphs of the methods section and the references that they cite."""

    paragraphs: tuple[str, ...]  # plain text with numbers of references in brackets
    references: tuple[str, ...]  # the references in order


class _Citations:
    """Numbers references in the order of their first citation."""

    def __init__(self) -> None:
        self._numbers: dict[str, int] = {}

    def __call__(self, name: str) -> str:
        return f"[{self._numbers.setdefault(name, len(self._numbers) + 1)}]"

    @property
    def references(self) -> tuple[str, ...]:
        """The cited references in order."""
        return tuple(CITATIONS[name] for name in self._numbers)


def describe_methods(
    record: dict[str, Any],
    table: pd.DataFrame,
    ratios: pd.DataFrame,
    *,
    card: ModelCard | None = None,
    corrected: OnCorrected | None = None,
    corrections: pd.DataFrame | None = None,
    sample: Accuracy | None = None,  # accuracy from the review of a stratified sample
    comparison: Comparison | None = None,  # comparison with reference ratios
) -> Methods:
    """Describe how the results of a run were obtained."""
    cite = _Citations()
    done = [i for i in record["images"] if i["status"] == "done"]
    paragraphs = [
        _images(record, done, table, cite),
        _detection(done),
        _classification(record, done, table, card, cite),
        _tracking(done, cite),
        _counting(table, ratios, comparison, cite),
        _people(table, corrected, corrections),
        _sample(sample),
        _software(record, cite),
    ]
    return Methods(tuple(p for p in paragraphs if p), cite.references)


def _images(
    record: dict[str, Any], done: list[dict[str, Any]], table: pd.DataFrame, cite: _Citations
) -> str:
    text = (
        f"{pluralise(len(done), 'image')} with {pluralise(len(merge_tracks(table)), 'cluster')} "
        f"{'was' if len(done) == 1 else 'were'} analysed with napari-atomicity "
        f"{record['version']} {cite('software')}, which follows the approach of Tsukamoto et al. "
        f"{cite('study')}: a compact convolutional network classifies patches of clusters."
    )
    sizes = [i["pixel_size_nm"] for i in done if i.get("pixel_size_nm")]
    if sizes:
        n_given = sum(i.get("calibration") == GIVEN for i in done)
        given = f", for {n_given} of {len(done)} entered by a person" if n_given else ""
        text += f" The pixel size was {_span(sizes, '{:.4g}')} nm{given}."
    failed = record["images_failed"]
    if failed:
        text += f" {pluralise(failed, 'further image')} could not be analysed."
    return text


def _detection(done: list[dict[str, Any]]) -> str:
    """Describe the detection; different settings are listed with their numbers of images."""
    kinds: dict[str, int] = {}
    for image in done:
        settings = image["parameters"].get("detection")
        if settings and "outlines" not in image["parameters"]:
            described = _detection_settings(settings)
            kinds[described] = kinds.get(described, 0) + 1
    given = _given_outlines(done)
    if not kinds:
        return given
    n = sum(kinds.values())
    first, *others = sorted(kinds, key=lambda kind: -kinds[kind])
    text = (
        "After background subtraction, clusters were detected as maxima of a scale-normalised "
        f"Laplacian-of-Gaussian scale space, {first}"
        + (f" (in {kinds[first]} of {n} images)" if others else "")
        + ". Outlines from a watershed transform gave the equivalent diameter and the "
        "integrated intensity above the local background."
    )
    return (
        text
        + "".join(f" Other settings in {pluralise(kinds[o], 'image')}: {o}." for o in others)
        + f" {given}".rstrip()
    )


def _given_outlines(done: list[dict[str, Any]]) -> str:
    """Describe outlines and regions that were not found by the detection."""
    drawn = [i["parameters"]["outlines"] for i in done if "outlines" in i["parameters"]]
    regions = [i["parameters"]["rois"] for i in done if "rois" in i["parameters"]]
    text = ""
    if drawn:
        n = sum(one["objects"] for one in drawn)
        text = (
            f"In {pluralise(len(drawn), 'image')}, the outlines of {pluralise(n, 'object')} by "
            "another program or person were measured instead of detected clusters."
        )
    if regions:
        n = sum(one["clusters_outside"] for one in regions)
        text += (
            f" In {pluralise(len(regions), 'image')}, only clusters in given regions were "
            f"analysed; {pluralise(n, 'cluster')} outside {'was' if n == 1 else 'were'} left out."
        )
    return text.strip()


def _detection_settings(settings: dict[str, Any]) -> str:
    """Describe detection settings, without entries that older records lack."""
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
            "touching clusters split"
            + (f" where the saddle is below {depth:g} times the lower peak" if depth else "")
            if settings["split_touching"]
            else "touching clusters not split"
        )
    if settings.get("faintest"):
        parts.append(f"objects below {settings['faintest']:g} times the median intensity excluded")
    return ", ".join(parts)


def _classification(
    record: dict[str, Any],
    done: list[dict[str, Any]],
    table: pd.DataFrame,
    card: ModelCard | None,
    cite: _Citations,
) -> str:
    ids = [m for m in dict.fromkeys(table["model_id"].astype(str)) if m]
    if not ids:
        return ""
    model = record["model"] or {}
    used = [model, *(i["parameters"].get("model") or {} for i in done)]
    own = {"model_id": ids[0]} if len(ids) == 1 else {}
    hashes = {(m | own).get("model_id"): m["sha256"] for m in used if m.get("sha256")}
    named = [f"{m} (SHA-256 of the weights {hashes[m]})" if m in hashes else m for m in ids]
    names = " and ".join(named)
    text = f"The clusters were classified by the model{'s' * (len(ids) > 1)} {names}"
    classes = card.classes if card is not None else model.get("classes", ())
    text += f" into {', '.join(classes)}." if classes else "."
    if card is not None and len(ids) > 1:
        text += (
            f" What follows describes {card.model_id} alone; a report on the images of another "
            "model describes that one."
        )
    text += _symmetries(done)
    chosen = {i["parameters"].get("labels_from") for i in done} - {None, COMBINATION}
    for name in sorted(chosen):
        text += f" Labels are those of the estimator “{name}” instead of the combination."
    if card is not None:
        text += _card(card, done)
    text += _scale(done, card)
    text += (
        f" Clusters that are out of distribution are labelled “{UNKNOWN}”, overlapping clusters "
        f"“{AGGREGATE}”."
    )
    text += f" Class maps were computed by Grad-CAM {cite('grad-cam')}."
    if table[["umap_1", "umap_2"]].notna().all(axis=1).any():
        text += (
            f" The map of the embedding is the UMAP {cite('umap')} of the reference clusters "
            f"of the model ({NEIGHBOURS} neighbours, minimum distance {MIN_DIST:g})."
        )
    return text


def _symmetries(done: list[dict[str, Any]]) -> str:
    """Describe the averaging over symmetries, with the number of images if they differ."""
    averaged = [
        bool(i["parameters"].get("symmetries")) for i in done if i["parameters"].get("model")
    ]
    if not any(averaged):
        return ""
    some = "" if all(averaged) else f" (in {sum(averaged)} of {len(averaged)} images)"
    return f" The network was averaged over the eight symmetries of the square{some}."


def _card(card: ModelCard, done: Sequence[Mapping[str, Any]]) -> str:
    patches = card.patches
    channels = " and ".join(patches.channels)
    text = (
        f" Its input is patches of {patches.field_of_view_nm:g} nm ({patches.size_px} × "
        f"{patches.size_px} pixels), channel{'s' * (len(patches.channels) > 1)} {channels}"
    )
    if "LCN" in patches.channels:
        text += (
            ", the latter after local contrast normalisation with Gaussian windows of "
            f"{patches.lcn_window_nm:g} nm standard deviation"
        )
    text += "."
    if card.combination is not None:
        text += (
            " Its probabilities are pooled with those of a mixture model of intensity and diameter."
        )
    text += (
        " Prediction sets are calibrated to contain the true class in "
        f"{100 * card.conformal_level:g} % of the cases."
    )
    source = str(card.data.get("source", ""))
    of = " simulated" if source.endswith("simulation") else ""
    known = card.scores.get("test") or card.scores.get("held_out") or {}
    if None not in (known.get("accuracy"), known.get("clusters")):
        how = ""
        if "held_out_known_scale" in card.scores:
            how = ", with the intensity scale found as in an analysis,"
        elif "test" not in card.scores and source in ("folder", "corrected labels"):
            how = ", shuffled into mixtures,"
        text += (
            f" Its accuracy on {known['clusters']}{of} clusters of held-out images{how} is "
            f"{known['accuracy']:.3f}."
        )
    text += _adaptation(card, done)
    text += f" Intended use: {card.intended_use.rstrip('.')}." if card.intended_use else ""
    return text + (f" Limits: {card.limits.rstrip('.')}." if card.limits else "")


def _adaptation(card: ModelCard, done: Sequence[Mapping[str, Any]]) -> str:
    """Describe from which images and labels an adapted model has learnt."""
    record = card.adaptation
    if record is None:
        return ""
    here = _count_adapted(card, done)
    analysed = f" ({here} of them analysed here)" if here else ""
    by_diameter = record.pseudo_label_method == "diameter"
    method = "diameter" if by_diameter else "intensity and diameter"
    n, corrections = sum(record.pseudo_labels.values()), record.corrections
    people = f" and {pluralise(corrections, 'label')} by people" if corrections else ""
    return (
        f" It was adapted to {pluralise(len(record.images), 'image')}{analysed} by fine-tuning on "
        f"pseudo-labels of {pluralise(n - corrections, 'cluster')} by {method}{people}, of which "
        f"{100 * record.held_out:g} % of each class were left out as a check."
    )


def _count_adapted(card: ModelCard, images: Iterable[Mapping[str, Any]]) -> int:
    """Count those images of a record that a model was adapted to."""
    record = card.adaptation
    known = set() if record is None else {(one.image, one.sha256) for one in record.images}
    return sum((i["image"], i["sha256"]) in known for i in images)


def has_learnt_labels(card: ModelCard, images: Iterable[Mapping[str, Any]]) -> bool:
    """Return whether a model was adapted to labels of people in some images of a record."""
    record = card.adaptation
    return record is not None and record.corrections > 0 and _count_adapted(card, images) > 0


def _scale(done: list[dict[str, Any]], card: ModelCard | None) -> str:
    """Describe from which clusters the intensity scales of the images were found."""
    described = [i["parameters"].get("session") or {} for i in done]
    is_joint = [session.get("images", 0) > 1 for session in described]
    jointly = [i for i, joint in zip(done, is_joint, strict=True) if joint]
    others = (i for i, joint in zip(done, is_joint, strict=True) if not joint)
    alone = [i for i in others if i["parameters"].get("certainty_of_scale")]
    if not jointly and not alone and (card is None or card.combination is None):
        return ""
    text = " The intensity scale, which is the integrated intensity of one atom, is estimated "
    if jointly:
        # A blind annotator sees no sessions: they have no names.
        n = len({i["session"] for i in jointly} - {""})
        text += (
            "jointly from the clusters of all images of an acquisition session "
            f"({pluralise(len(jointly), 'image')}"
            + (f" in {pluralise(n, 'session')}" if n else "")
            + ")."
        )
        if alone:
            text += (
                f" In {pluralise(len(alone), 'other image')}, it is estimated from the clusters of "
                "the single image."
            )
    else:
        text += "from the clusters of each image."
    n_prior = sum("prior" in session for session in described)
    if n_prior:
        some = "" if n_prior == len(done) else f" (in {n_prior} of {len(done)} images)"
        text += f" That of an earlier session with the same instrument is its prior{some}."
    errors = {s["pixel_size_error"] for s in described if "pixel_size_error" in s}
    if errors:
        percent = " or ".join(f"{100 * error:.3g}" for error in sorted(errors))
        text += (
            f" Where only apparent sizes tell the scale, a standard error of {percent} % of the "
            "pixel size is included."
        )
    return text + _known_samples(done)


def _known_samples(done: list[dict[str, Any]]) -> str:
    """Describe the known samples that were used for the intensity scale, and those that were not.

    Compositions that were entered, but not tested with the clusters, are not mentioned.
    """
    tested = [
        (i["known"], test)
        for i in done
        if i["known"] and (test := i["parameters"].get("session", {}).get("known_sample"))
    ]
    used = [(known, test) for known, test in tested if test.get("used")]
    text = ""
    if used:
        named = "; ".join(dict.fromkeys(format_composition(known) for known, _ in used))
        n = pluralise(len(used), "image")
        text = f" Known compositions of {n} are used for the scale ({named})."
        if wrong := sum(bool(test.get("contradicted")) for _, test in used):
            text += f" The clusters of {pluralise(wrong, 'image')} of these contradict them."
    if left := len(tested) - len(used):
        text += (
            f" The stated composition of {pluralise(left, 'image')} is not used, because the "
            "clusters contradict it."
        )
    return text


def _tracking(done: list[dict[str, Any]], cite: _Citations) -> str:
    """Describe the tracking; settings that differ between stacks are given as a range."""
    kept = [i["parameters"][MOVIE]["settings"] for i in done if MOVIE in i["parameters"]]
    if not kept:
        return ""
    ranges, memories = ([s[name] for s in kept] for name in ("search_range_nm", "memory_frames"))
    smoothed = (
        f" The labels were smoothed by a hidden Markov model {cite('hmm')} with equal rates for "
        "all changes of class"
    )
    if all(s["rate"] is None for s in kept):
        rate = ", estimated by expectation–maximisation."
    else:
        rate = (
            ". The rate was given for events and dwell times; for class ratios it was estimated by "
            "expectation–maximisation."
        )
    return (
        f"In {pluralise(len(kept), 'stack')}, stage drift was corrected and clusters were linked "
        f"over the frames {cite('trackpy')}, with a search range of {_span(ranges, '{:g}')} nm "
        f"and a memory of {_span(memories, '{:g}')} frames.{smoothed}{rate} Rates of "
        "leaving a class have exact Poisson intervals. Dwells at the start or end of a track are "
        "treated as censored."
    )


def _counting(
    table: pd.DataFrame, ratios: pd.DataFrame, comparison: Comparison | None, cite: _Citations
) -> str:
    of_all = ratios[ratios["fraction"].notna()]
    if not len(of_all):
        return ""
    merged = merge_tracks(table)
    n = int(counted(merged).sum())
    left_out = [
        f"{pluralise(k, 'cluster')} {why}" for why, k in count_excluded(table, merged).items()
    ]
    text = (
        f"Class ratios include {pluralise(n, 'cluster')}"
        + (f" and exclude {listed(left_out)}" if left_out else "")
        + f". Method: {of_all['method'].iloc[0]}."
    )
    has_intervals = of_all["fraction_low"].notna().any()
    if has_intervals:
        text += (
            f" Intervals are Wilson score intervals {cite('wilson')} for an effective number of "
            "clusters, which accounts for the scatter between images in the bootstrap."
        )
    is_predicted = bool((table["label_predicted"] != "").any())
    if has_intervals and is_predicted and str(of_all["method"].iloc[0]).startswith("counted"):
        text += " They also include the classification error estimated from the probabilities."
    notes = [str(note) for note in dict.fromkeys(ratios.loc[ratios["scope"] == ALL, "note"])]
    text += "".join(f" {note[:1].upper()}{note[1:]}." for note in notes if note)
    if comparison is not None and comparison.mean_absolute_error is not None:
        r2 = (
            f"R² is not defined ({comparison.why_no_r2})"
            if comparison.r2 is None
            else f"R² = {comparison.r2:.3f}"
        )
        text += (
            f" Compared with {pluralise(len(comparison.pairs), 'reference fraction')}, {r2} and "
            f"the mean absolute error is {comparison.mean_absolute_error:.3f}."
        )
    return text


def _people(
    table: pd.DataFrame, corrected: OnCorrected | None, corrections: pd.DataFrame | None
) -> str:
    n = sum(count_clusters(of_image)[1] for _, of_image in table.groupby("image"))
    columns = ["annotator", "image", "cluster_id", "label", "what"]
    log = pd.DataFrame(columns=columns) if corrections is None else corrections
    present = set(zip(table["image"].astype(str), table["cluster_id"].tolist(), strict=True))
    changed = [
        f"{pluralise(number, 'cluster')} {'was' if number == 1 else 'were'} {what}"
        for what, number in manual_changes(log, present).items()
        if number
    ]
    if not n and not changed:
        return ""
    text = f"{pluralise(n, 'cluster')} {'has' if n == 1 else 'have'} a label given by a person"
    if len(log):
        # Of several people, one may have given all labels that count now.
        n_people = len(annotators(log))
        who = f" by {pluralise(n_people, 'person', 'people')}" if n_people else ""
        text += f" ({pluralise(len(log), 'entry', 'entries')}{who} in the log)"
    text += ", which replaces the label of the model."
    if corrected is not None and corrected.by_hand:
        text += f" The model had no label for {corrected.by_hand} of them."
    return f"{text} {listed(changed)} manually." if changed else text


def _sample(sample: Accuracy | None) -> str:
    if sample is None:
        return ""
    share = sample.overall
    allowed = ""
    if n := sample.n_open:
        allowed = f" The interval allows for any label of {pluralise(n, 'cluster')} without answer."
    return (
        f"Based on {share.n} reviewed clusters of a stratified sample of {sample.n_wanted} of "
        f"{sample.n_population} clusters, drawn at random within predicted label and confidence, "
        f"the accuracy of the model's labels is {share.value:.3f} (95 % interval {share.low:.3f} "
        f"to {share.high:.3f}); false detections and clusters that were split or merged count as "
        f"errors.{allowed}"
    )


def annotators(corrections: pd.DataFrame) -> list[str]:
    """Return the names of the annotators with labels that were not undone; not the consensus."""
    return [name for name in last_labels(corrections)["annotator"].unique() if name != CONSENSUS]


def _software(record: dict[str, Any], cite: _Citations) -> str:
    environment = record["environment"]
    packages = [
        f"{name} {version}"
        for name, version in environment["packages"].items()
        if version is not None and name in _NAMED
    ]
    napari = environment["packages"].get("napari")
    text = f"Software: Python {environment['python']}, {', '.join(packages)}"
    text += f"; napari {napari} {cite('napari')}" if napari else ""
    device = f" Device: {record['device']}." if record.get("device") else ""
    return f"{text}.{device} Colours are from the palette of Okabe and Ito {cite('okabe-ito')}."


_NAMED = ("torch", "numpy", "scipy", "scikit-image", "pandas", "umap-learn")


def _span(values: Iterable[float], form: str) -> str:
    known = np.array(list(values), float)
    low, high = form.format(known.min()), form.format(known.max())
    return low if low == high else f"{low} to {high}"
