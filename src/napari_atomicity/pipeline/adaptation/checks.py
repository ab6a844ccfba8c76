"""Criteria that decide whether an adapted network is kept."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from scipy.stats import binom

from ...models.analysis import Analysis
from ...models.inference import Classifier, Prediction
from ...models.network import AtomicityNet
from ...models.scale.intensity_scale import SURE
from .evidence import BY_INTENSITY
from .pseudo_labels import Target, is_scale_ambiguous
from .settings import (
    CORRECTIONS,
    DIAMETER,
    GOOD_AGREEMENT,
    PSEUDO_LABELS,
    AdaptSettings,
    count_met,
)

MIN_AGREEMENT = 0.6
"""Agreement with held-out labels below which they contradict each other."""
GAIN_MARGIN = 0.1
"""What the accuracy on held-out labels must gain beyond a loss on the training patches."""
SIGNIFICANCE = 0.05
"""Probability of as little agreement by chance at which the agreement is taken to be too low."""


@dataclass(frozen=True, eq=False)
class Split:
    """Rows of the target and of the replayed patches: to learn from, and to decide by."""

    learn: np.ndarray
    decide: np.ndarray
    replay: np.ndarray
    remember: np.ndarray

    @classmethod
    def random(cls, target: Target, replayed: np.ndarray, settings: AdaptSettings) -> Split:
        """Draw a random split."""
        rng = np.random.default_rng(settings.seed)
        decide = np.zeros(len(target.label), bool)
        for certain in (False, True):
            for i in np.unique(target.label[target.label >= 0]):
                own = np.flatnonzero((target.label == i) & (target.certain == certain))
                number = max(1, int(settings.held_out * len(own))) if len(own) > 1 else 0
                decide[rng.permutation(own)[:number]] = True
        # The same patches whatever the images: figures of one model are equal in all adaptations,
        # and a model that is adapted again has not learnt from those that decide.
        rng = np.random.default_rng(settings.seed)
        remember = np.zeros(len(replayed), bool)
        for i in np.unique(replayed):
            own = np.flatnonzero(replayed == i)
            remember[rng.permutation(own)[: len(own) // 2]] = True
        named = target.label >= 0
        return cls(
            np.flatnonzero(named & ~decide),
            np.flatnonzero(decide),
            np.flatnonzero(~remember),
            np.flatnonzero(remember),
        )

    def count_left_out(self, target: Target) -> dict[str, int]:
        """Count the labels to decide by, which are not learnt from, by their kind."""
        n_corrections = int(target.certain[self.decide].sum())
        return {PSEUDO_LABELS: len(self.decide) - n_corrections, CORRECTIONS: n_corrections}


def interpolate_networks(old: AtomicityNet, new: AtomicityNet, share: float) -> AtomicityNet:
    """Interpolate between the weights of two networks."""
    out = copy.deepcopy(new)
    with torch.no_grad():
        for own, other in zip(out.parameters(), old.parameters(), strict=True):
            own.lerp_(other, 1 - share)
    return out


def replace_network(tensors: dict[str, np.ndarray], network: AtomicityNet) -> dict[str, np.ndarray]:
    """Replace the weights of the network."""
    state = network.state_dict()
    return {**tensors, **{f"network.{k}": v.float().cpu().numpy() for k, v in state.items()}}


def predict_replayed(classifier: Classifier, tensors: dict[str, np.ndarray]) -> Prediction:
    """Classify the replayed patches of the training, without symmetries.

    The references and limits of the model were computed without symmetries as well.

    """
    return classifier.predict(
        {c: tensors[f"replay.{c}"].astype(np.float32) for c in classifier.network.channels}
    )


def compute_checks(
    p: np.ndarray,  # probabilities of the clusters to learn from, from `predict_target`
    target: Target,
    replayed: Prediction,
    tensors: dict[str, np.ndarray],  # of the model, with the replayed patches
    split: Split,  # held-out clusters and patches
) -> dict[str, float]:
    """Compute the criteria of one model."""
    best = p.argmax(axis=1)
    there = replayed.probabilities.argmax(axis=1)
    right = best == target.label
    decide, certain = split.decide, target.certain
    share = np.bincount(best, minlength=p.shape[1]) / max(1, len(best))
    surprise = -np.log(np.clip(p[decide, target.label[decide]], 1e-6, 1))
    return {
        PSEUDO_LABELS: _mean(right[decide[~certain[decide]]]),
        CORRECTIONS: _mean(right[decide[certain[decide]]]),
        "surprise (-ln p)": _mean(surprise),
        "training remembered": _mean((there == tensors["replay.label"])[split.remember]),
        "largest share of a class": float(share.max()),
    }


def predict_target(classifier: Classifier, target: Target) -> np.ndarray:
    """Classify the clusters to learn from, averaged over symmetries where users will see that."""
    p = np.empty((len(target.label), len(classifier.card.classes)))
    for averaged in np.unique(target.averaged):
        rows = target.averaged == averaged
        own = {channel: patches[rows] for channel, patches in target.patches.items()}
        p[rows] = classifier.predict(own, symmetries=bool(averaged)).probabilities
    return p


def _mean(values: np.ndarray) -> float:
    return float(values.mean()) if len(values) else float("nan")


def find_reason_to_keep(p: np.ndarray, target: Target) -> str:
    """Why the network needs no adaptation; "" if it needs one.

    The labels to learn from are of unambiguous clusters. If the network already gives almost all of
    them, they cannot show whether an adaptation improves the labels of the other clusters.
    """
    agrees = p.argmax(axis=1) == target.label
    known = target.label >= 0
    corrected = known & target.certain
    for rows in (known & ~target.certain, corrected):
        if _is_clearly_less(_mean(agrees[rows]), int(rows.sum()), GOOD_AGREEMENT):
            return ""
    words = (
        f"the network already labels {agrees[known].sum()} of {known.sum()} unambiguous clusters "
        "as expected"
    )
    no_evidence = "so they cannot show that an adapted model is better; keep the model"
    if not corrected.any():
        return f"{words}, {no_evidence}, or correct wrong labels and adapt again"
    return (
        f"{words} and misses {(known & ~agrees).sum()} ({(corrected & ~agrees).sum()} of "
        f"{corrected.sum()} corrected ones), each image with an intensity scale of its own. These "
        f"are not significantly fewer than {100 * GOOD_AGREEMENT:.0f} %, {no_evidence}: the "
        "corrected labels count in the ratios as they are. If the predictions of the session "
        "differ from many of them, its intensity scale is in doubt and not the network: enter "
        "images of one size as known samples"
    )


def find_scale_shifts(steady: Sequence[Analysis], after: Sequence[Analysis]) -> str:
    """Why the intensity scales of an adapted model cannot be right; "" if they can."""
    shifted = [
        after.scale is None
        or after.scale.certainty < SURE
        or is_scale_ambiguous(before, after, after.scale.reference)
        for before, after in zip(steady, after, strict=True)
    ]
    if not any(shifted):
        return ""
    return (
        f"the intensity scale of {sum(shifted)} of {len(shifted)} images would become uncertain or "
        "shift by half a class or more, although intensities and diameters determine it; adapt to "
        "more images of the session, or correct some labels"
    )


def _is_clearly_less(share: float, n: int, expected: float) -> bool:
    """Return whether a share of n labels is lower than an expected one by more than chance."""
    return bool(n) and bool(binom.cdf(round(share * n), n, expected) < SIGNIFICANCE)


def _smallest_gain(checks: dict[str, tuple[float, float]]) -> tuple[float, str]:
    """Return the smallest gain of the accuracy on held-out labels, and the kind of these labels."""
    pairs = [(*checks[kind], kind) for kind in (PSEUDO_LABELS, CORRECTIONS)]
    gains = [(after - before, kind) for before, after, kind in pairs if np.isfinite(after)]
    return min(gains, key=lambda gain: gain[0])


def find_objections(
    checks: dict[str, tuple[float, float]],
    settings: AdaptSettings,
    left_out: Mapping[str, int],  # from `Split.count_left_out`
    gain_by_intensity: float = float("nan"),
) -> tuple[str, ...]:
    """Why a fine-tuned network is not kept; nothing if it is.

    Pseudo-labels by the diameter share the errors of those that were learnt from. They cannot show
    that a network is better, only that the labels contradict each other.
    """
    by_diameter = settings.pseudo_label_method == DIAMETER
    out = []
    for name in (PSEUDO_LABELS, CORRECTIONS):
        before, after = checks[name]
        decides = not by_diameter or name == CORRECTIONS
        if after < before and decides:
            met, was = (count_met(name, share, left_out) for share in (after, before))
            out.append(f"{met} {name} would be met instead of {was}")
        elif after < MIN_AGREEMENT and (
            # few pseudo-labels differ by chance, and the intensities are evidence too
            name == CORRECTIONS or _is_clearly_less(after, left_out[name], MIN_AGREEMENT)
        ):
            out.append(
                f"only {count_met(name, after, left_out)} {name} would be met by what the others "
                "teach: they are few or unlike each other, or some are wrong"
            )
    before, after = checks["surprise (-ln p)"]
    if not np.isfinite(after):
        return ("nothing could be left out to decide by: there is too little to learn from",)
    if not out and after >= before and not by_diameter:
        out.append("the probability of held-out labels would not increase")
    gain, what = _smallest_gain(checks)
    if by_diameter and np.isfinite(gain_by_intensity):
        gain, what = gain_by_intensity, BY_INTENSITY
    before, after = checks["training remembered"]
    allowed = max(settings.worst_forgetting, gain - GAIN_MARGIN)
    if before - after > allowed:
        out.append(
            f"of the clusters of the training, {100 * after:.1f} % would be right instead of "
            f"{100 * before:.1f} %, a loss of {100 * (before - after):.1f} percentage points where "
            f"{100 * allowed:.1f} may be lost (the labels that gain least decide that: "
            f"{100 * gain:+.1f} points, {what})"
        )
    before, after = checks["largest share of a class"]
    if after > max(0.9, before + 0.2):
        out.append(f"{100 * after:.0f} % of the clusters would be given one class")
    return tuple(out)
