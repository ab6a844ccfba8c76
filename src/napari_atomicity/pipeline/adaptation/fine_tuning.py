"""Adapt a model to new imaging conditions, without labels or with a few.

The intensities and diameters of the classes are re-estimated for the new blur and sampling.
Clusters with an unambiguous class get pseudo-labels (`pseudo_labels`). The last convolutions, the
head and the scales of the normalisations are fine-tuned on these pseudo-labels and on corrected
labels, with balanced classes, while patches of all classes of the training are replayed. The result
is kept only if it agrees better with held-out pseudo-labels and corrections, still classifies the
training patches, does not collapse to one class (`checks`), and if evidence that is
independent of the diameters supports it (`evidence`). Otherwise the model is not
changed, and the reason is reported.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np
import torch

from ...core.acquisition_session import AcquisitionSession
from ...core.devices import named_device_errors
from ...core.errors import ModelError
from ...core.model_card import ModelCard
from ...core.progress import Progress, Stop, check
from ...core.scale_reference import ScaleReference
from ...core.tables import cluster_table as tables
from ...core.text import pluralise
from ...models.analysis import Analysis
from ...models.domain_shift import Shift, compare
from ...models.inference import Classifier, Prediction
from ...models.scale.intensity_scale import SURE, fit_image, refined
from ...models.scale.session_images import require_references
from ...models.scaled_predictions import assign_labels, predicted_class_maps
from ..analysis import classify_patches
from ..session_labels import label_session, label_sessions
from .checks import (
    Split,
    compute_checks,
    find_objections,
    find_reason_to_keep,
    find_scale_shifts,
    interpolate_networks,
    predict_replayed,
    predict_target,
    replace_network,
)
from .evidence import (
    BY_INTENSITY,
    IntensityEvidence,
    IntensityJudge,
    describe_estimate,
    find_doubt,
)
from .network_tuning import (
    channels_of_scale,
    fine_tune,
    labels_need_scale,
    raise_margin_limit,
    update_card,
    update_references,
)
from .pseudo_labels import (
    diameter_ranges,
    find_target,
    is_scale_ambiguous,
    join_patches,
    select_classified,
)
from .result import Adaptation
from .settings import (
    CORRECTIONS,
    DIAMETER,
    GOOD_AGREEMENT,
    AdaptSettings,
    count_met,
)

MIN_PSEUDO_LABELS = 10
MIN_P_LABELS = 0.5
"""Least probability that the labels of the session are better after, if it can be judged."""


def adapt(
    analyses: Sequence[Analysis],
    card: ModelCard,
    tensors: dict[str, np.ndarray],
    settings: AdaptSettings | None = None,
    device: torch.device | None = None,  # where to compute; the CPU if None
    progress: Progress | None = None,
    stop: Stop | None = None,
    # The adapted model labels the images of each jointly, and others alone; None if all images
    # are one session
    sessions: Sequence[AcquisitionSession] | None = None,
) -> Adaptation:
    """Fine-tune a model on the clusters of some images.

    Raises `ModelError` if the model has nothing to replay: it was made before models could be
    adapted. Raises `Cancelled` if ``stop()`` says so.
    """
    settings = settings or AdaptSettings()
    return _Adapter(analyses, card, tensors, settings, device, sessions).run(progress, stop)


class _Adapter:
    """One adaptation: the model before, the pseudo-labels, and the decision."""

    def __init__(
        self,
        analyses: Sequence[Analysis],
        card: ModelCard,
        tensors: dict[str, np.ndarray],
        settings: AdaptSettings,
        device: torch.device | None,
        sessions: Sequence[AcquisitionSession] | None,
    ) -> None:
        refuse_unadaptable(card, tensors)
        self.sessions = sessions
        self.card, self.tensors, self.settings = card, tensors, settings
        self.device = device or torch.device("cpu")
        self.old = Classifier(card, tensors, self.device)
        self.before = tuple(reclassified(a, self.old) for a in analyses)
        # What a person sees before: labels of this model stay those of their session.
        self.labelled = tuple(
            a if a.model_id == card.model_id and a.embedding.size else b
            for a, b in zip(analyses, self.before, strict=True)
        )
        self.shift = _shift(self.before, card, tensors)
        reference = require_references(card)[1]
        self.reference = _refined_reference(self.before, reference)
        self.rescaled = [rescaled(a, self.reference) for a in self.before]
        by_diameter = settings.pseudo_label_method == DIAMETER
        # Labels do not depend on the scale that the image has alone, but patches in atoms do.
        needs_scale = card.patches.raw_unit == "atoms"
        self.steady = [
            not is_scale_ambiguous(a, b, self.reference)
            for a, b in zip(self.before, self.rescaled, strict=True)
        ]
        teaches = [is_steady or not needs_scale for is_steady in self.steady]
        self.target = find_target(self.rescaled, card, settings, teaches)
        pseudo_label = np.where(self.target.certain, -1, self.target.label)
        ends = np.cumsum([len(a.table) for a in analyses])[:-1]
        self.pseudo_label_rows = tuple(np.split(pseudo_label, ends))
        self.ranges = diameter_ranges(analyses, pseudo_label, card.classes) if by_diameter else {}
        self.judge = IntensityJudge([a.table for a in analyses], reference)
        self.left_out: dict[str, int] = {}
        self.numbers = {c: int((self.target.label == i).sum()) for i, c in enumerate(card.classes)}

    def run(self, progress: Progress | None, stop: Stop | None) -> Adaptation:
        """Fine-tune the network, and accept it or roll it back."""
        by_diameter = self.settings.pseudo_label_method == DIAMETER
        too_few = find_shortage(self.numbers, by_diameter)
        if too_few:
            return self._roll_back(too_few, checks={})
        split = Split.random(self.target, self.tensors["replay.label"], self.settings)
        self.left_out = split.count_left_out(self.target)
        remembered = predict_replayed(self.old, self.tensors)
        original = replace(
            self.target, patches=join_patches(self.before, self.card.patches.channels)
        )
        p = predict_target(self.old, original)
        at_first = compute_checks(p, self.target, remembered, self.tensors, split)
        keep = find_reason_to_keep(p, self.target)
        first = self._compare(p.argmax(axis=1), p.argmax(axis=1))
        is_wrong = first.judged and first.before < GOOD_AGREEMENT
        if keep and not (by_diameter and is_wrong):
            kept = self._roll_back(keep, checks={k: (v, v) for k, v in at_first.items()})
            return replace(kept, needed=False)
        with named_device_errors(self.device):
            network = fine_tune(
                self.old.network, self.target, self.tensors, split, self.settings, self.device,
                channels_of_scale(self.card), progress, stop, self.card.patches.field_of_view_nm,
            )  # fmt: skip
        refused: list[Adaptation] = []
        for share in (1.0, 0.5, 0.25, 0.0):  # a smaller change, if the whole change forgets
            blended = interpolate_networks(self.old.network, network, share)
            tensors = replace_network(self.tensors, blended)
            new = Classifier(self.card, tensors, self.device)
            replayed = predict_replayed(new, self.tensors)
            p_new = predict_target(new, self.target)
            found = compute_checks(p_new, self.target, replayed, self.tensors, split)
            checks = {name: (at_first[name], found[name]) for name in found}
            evidence = self._compare(p.argmax(axis=1), p_new.argmax(axis=1))
            if evidence.judged:
                checks[BY_INTENSITY] = (evidence.before, evidence.after)
            doubt = find_doubt(evidence, self.settings, checks, self.left_out[CORRECTIONS])
            gain = evidence.after - evidence.before
            reasons = find_objections(checks, self.settings, self.left_out, gain)
            if doubt and evidence.judged:
                reasons = (*reasons, doubt)
            if not reasons:
                break
            refused.append(self._roll_back(*reasons, checks=checks))
        else:
            return refused[0]
        if doubt and not self.settings.accept_unchecked:
            return replace(self._roll_back(doubt, checks=checks), unchecked=True)
        check(stop)
        tensors = update_references(self.old, tensors, remembered.embedding, replayed.embedding)
        result = self._accept(new, tensors, replayed, share, checks, stop)
        return replace(result, unchecked=result.accepted and bool(doubt))

    def _compare(self, before: np.ndarray, after: np.ndarray) -> IntensityEvidence:
        """Compare class indices of all clusters before and after, by the intensities."""
        ends = np.cumsum([len(rows) for rows in self.pseudo_label_rows])[:-1]
        return self.judge.compare(np.split(before, ends), np.split(after, ends))

    def _roll_back(self, *reasons: str, checks: dict[str, tuple[float, float]]) -> Adaptation:
        return self._result(
            False, reasons, self.card, self.tensors, checks=checks, after=self.labelled
        )

    def _result(
        self,
        accepted: bool,
        reasons: tuple[str, ...],
        card: ModelCard,
        tensors: dict[str, np.ndarray],
        checks: dict[str, tuple[float, float]],
        after: tuple[Analysis, ...],
    ) -> Adaptation:
        return Adaptation(
            accepted, reasons, card, tensors, self.shift, self.numbers,
            int(self.target.certain.sum()), checks, self.labelled, after,
            self.settings.pseudo_label_method, self.settings.posterior, self.ranges,
            pseudo_label_rows=self.pseudo_label_rows, left_out=self.left_out,
        )  # fmt: skip

    def _accept(
        self,
        new: Classifier,
        tensors: dict[str, np.ndarray],
        replayed: Prediction,
        share: float,
        checks: dict[str, tuple[float, float]],
        stop: Stop | None,
    ) -> Adaptation:
        """Update limits and card, and label the images as a session with the adapted model.

        It is rolled back if the scales that the adapted model finds cannot be right. If those by
        the features of the changed network are not, it finds them by the diameters.
        """
        card = replace(self.card, scale=self.reference)
        seen = [(a, new.predict(a.patches, symmetries=a.symmetries)) for a in self.rescaled]
        tensors = raise_margin_limit(card, tensors, seen, self.target)
        card = update_card(
            card, tensors, self.numbers, self.target, self.settings, seen, replayed, share
        )
        shifts = ""
        for apparent_size in dict.fromkeys((card.apparent_size, None)):
            card = replace(card, apparent_size=apparent_size)
            new = Classifier(card, tensors, self.device)
            labelled = self._label(new, stop)
            shifts = self._scale_shifts(labelled) or self._worse_labels(labelled)
            if not shifts:
                return self._result(
                    True,
                    _improvements(checks, self.left_out),
                    card,
                    tensors,
                    checks,
                    tuple(labelled),
                )
        return self._roll_back(shifts, checks=checks)

    def _label(self, new: Classifier, stop: Stop | None) -> list[Analysis]:
        """Label the images as a new analysis of their sessions with the adapted model does."""
        alone = [classify_patches(a, new, stop=stop) for a in self.rescaled]
        if self.sessions is None:
            return label_session(alone, new, stop=stop).analyses
        return label_sessions(alone, new, self.sessions, stop)

    def _worse_labels(self, after: Sequence[Analysis]) -> str:
        """Why the labels of the session are not better; "" if they may be."""
        evidence = self._compare(_class_indices(self.before), _class_indices(after))
        if not evidence.judged or evidence.p_better >= MIN_P_LABELS:
            return ""
        return f"in the session, {describe_estimate(evidence.before, evidence.after)}"

    def _scale_shifts(self, after: Sequence[Analysis]) -> str:
        """Compare the scales of the adapted model with those that two sources agree on."""
        if not labels_need_scale(self.card):
            return ""
        known = [
            (rescaled, new)
            for rescaled, new, is_steady in zip(self.rescaled, after, self.steady, strict=True)
            if is_steady and rescaled.scale is not None and rescaled.scale.certainty >= SURE
        ]
        return find_scale_shifts(*zip(*known, strict=True)) if known else ""


def find_shortage(numbers: Mapping[str, int], by_diameter: bool = False) -> str:
    """Return why there are too few clusters to learn from; "" if there are enough."""
    total, there = sum(numbers.values()), [name for name, n in numbers.items() if n]
    # more images seldom help where no diameter decides a class
    more = (
        "choose pseudo-labels by intensity and diameter"
        if by_diameter and not there
        else "take more images"
    )
    advice = (
        f"at least {MIN_PSEUDO_LABELS}{' of two classes' * (not by_diameter)} are needed: correct "
        f"some labels, or {more}"
    )
    # intensities judge labels of one class by diameter, which say nothing themselves
    min_classes = 1 if by_diameter else 2
    if not there:
        return f"no cluster has an unambiguous class; {advice}"
    if len(there) < min_classes:
        return f"all {total} unambiguous clusters are {there[0]}; {advice}"
    if total < MIN_PSEUDO_LABELS:
        classes = pluralise(len(there), "class", "classes")
        return f"too few unambiguous clusters, {total} of {classes}; {advice}"
    return ""


def _change(before: str, after: str, what: str) -> str:
    """State a figure after the adaptation and before, if it differs."""
    return f"{after} {what} " + ("as before" if before == after else f"instead of {before}")


def _improvements(
    checks: dict[str, tuple[float, float]], left_out: Mapping[str, int]
) -> tuple[str, ...]:
    """Format the agreement with held-out labels before and after."""
    reasons = []
    for name in (name for name, n in left_out.items() if n):
        before, after = (count_met(name, share, left_out) for share in checks[name])
        reasons.append(_change(before, after, f"{name} agree"))
    if BY_INTENSITY in checks:
        reasons.append(describe_estimate(*checks[BY_INTENSITY]))
    first, last = checks["surprise (-ln p)"]
    # Of the labels left out only: the mean confidence of all clusters may decrease.
    return (
        *reasons,
        f"the labels left out fit better (mean −ln p {last:.3g} instead of {first:.3g})",
    )


def refuse_unadaptable(card: ModelCard, tensors: dict[str, np.ndarray]) -> None:
    """Say at once that a model can't be adapted.

    Raises `ModelError` if it has nothing to replay, or does not ask for the scale of an image.
    """
    known_scale = card.scale
    if "replay.label" not in tensors or known_scale is None:
        raise ModelError(
            f"{card.name!r} can't be adapted: it holds no patches of its training to replay",
            advice="Train it again with this version",
        )


def reclassified(analysis: Analysis, classifier: Classifier) -> Analysis:
    """Classify the same clusters and patches with another model of the same geometry."""
    result = classifier.predict(analysis.patches, symmetries=analysis.symmetries)
    table = assign_labels(
        analysis.table, classifier, result, analysis.scale, labels_from=analysis.labels_from
    )
    return replace(
        analysis,
        table=table,
        embedding=result.embedding,
        class_maps=predicted_class_maps(
            table, classifier, analysis.patches, result, symmetries=analysis.symmetries
        ),
        parameters={**analysis.parameters, "model": classifier.card.provenance()},
        card=classifier.card,
    )


def rescaled(analysis: Analysis, reference: ScaleReference) -> Analysis:
    """Fit the scale of an image to another reference, and rescale its raw patches."""
    scale = fit_image(analysis.table, reference)
    patches = dict(analysis.patches)
    if "raw" in patches:
        was = 1.0 if analysis.scale is None else analysis.scale.intensity_per_atom
        patches["raw"] = (patches["raw"] * (was / scale.intensity_per_atom)).astype(np.float32)
    return replace(
        analysis,
        patches=patches,
        scale=scale,
        parameters=scale.describe_in(analysis.parameters),
    )


def _refined_reference(analyses: Sequence[Analysis], reference: ScaleReference) -> ScaleReference:
    """Re-estimate the reference by the images whose scale does not depend on how it is found."""
    alone = [replace(a, scale=fit_image(a.table, reference)) for a in analyses]
    agreed = [
        select_classified(a.table)
        for a, b in zip(analyses, alone, strict=True)
        if not is_scale_ambiguous(a, b, reference)
    ]
    return refined(agreed, reference)


def _class_indices(analyses: Sequence[Analysis]) -> np.ndarray:
    """Index of the most probable class of all clusters, 0 where there is none."""
    parts = []
    for analysis in analyses:
        assert analysis.card is not None
        names = tables.probability_columns(analysis.card.classes)
        p = analysis.table[names].to_numpy(float)
        parts.append(np.nan_to_num(p, nan=-1).argmax(axis=1))
    return np.concatenate(parts)


def _shift(
    analyses: Sequence[Analysis], card: ModelCard, tensors: dict[str, np.ndarray]
) -> Shift | None:
    names = tables.probability_columns(card.classes)
    p = np.concatenate([a.table[names].to_numpy(float) for a in analyses])
    found = compare(
        np.concatenate([a.embedding for a in analyses]),
        np.nan_to_num(p, nan=-1).argmax(axis=1),
        join_patches(analyses, card.patches.channels),
        tensors,
        card.patches.field_of_view_nm,
    )
    if found is None or card.drift_limit is None:
        return found
    differing = [bool(a.table["conditions_differ"].any()) for a in analyses]
    return replace(found, drifted=float(np.mean(differing)) > 0.5)
