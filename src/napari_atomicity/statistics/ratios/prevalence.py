"""Class fractions of counted clusters, from labels or adjusted for classification errors.

Three methods, in `METHODS`:

counted
    The fractions of the labels. If a model confuses Pt55 with Pt70 more often than the reverse, the
    fractions are biased accordingly.
confusion
    Held-out clusters show how often class k is labelled j, M[k, j]. The fractions q are those that
    maximise the likelihood of the labels, Σ_j n_j log Σ_k q_k M[k, j], for n_j clusters with label
    j. If q = n M⁻¹ / N is a mixture, both are equal ("adjusted count" [1]_); where inversion would
    give negative fractions, maximum likelihood remains within the simplex.
em
    The calibrated probabilities p_k of each cluster (for equally frequent classes) contain more
    information than its label. The fractions maximise Σ_i log Σ_k q_k p_ik.
    Expectation-maximisation [2]_ multiplies the probabilities of each cluster by the fractions,
    normalises, and takes the mean as the new fractions. With bias-corrected calibration this is
    hard to beat [3]_.

The last two assume *label shift*: the class frequencies may differ from training, but clusters of a
class must look as they did there. If the imaging conditions differ, they are as wrong as the
labels. Manual labels are certain in all three methods: corrected clusters are counted, the others
adjusted, and both are added according to their numbers. So it does not matter whether corrections
were made at random or in one class only.

Resamples draw images and clusters, and in the two adjusted methods the calibration set as well:
rows of the confusion matrix from their Dirichlet posterior (Jeffreys prior), or one of the
calibration replicates in the model card. Otherwise the intervals would treat the calibration as
exact.

References
----------
.. [1] G. Forman, "Quantifying counts and costs via classification", Data Min. Knowl. Discov. 17,
   164-206 (2008).
.. [2] M. Saerens, P. Latinne and C. Decaestecker, "Adjusting the outputs of a classifier to new a
   priori probabilities: a simple procedure", Neural Comput. 14, 21-41 (2002).
.. [3] A. M. Alexandari, A. Kundaje and A. Shrikumar, "Maximum likelihood with bias-corrected
   calibration is hard-to-beat at label shift adaptation", ICML (2020).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from ...core.tables.cluster_table import probability_columns
from ..intervals import bootstrap_fractions, resample_counts, resample_weights

if TYPE_CHECKING:
    from ...core.model_card import ModelCard

N_DRAWS = 200
"""Number of draws of the solutions of an image."""


@dataclass(frozen=True)
class ScaleSolutions:
    """Possible intensity scales of an image, and the shares of the classes with each of them."""

    # probabilities of the solutions, the best one first: that of the labels
    weights: tuple[float, ...]
    shares: tuple[tuple[float, ...], ...]
    # index of the solution in each of the joint draws of a session; () for an image by itself
    draws: tuple[int, ...] = ()

    @classmethod
    def from_parameters(cls, parameters: Mapping[str, Any]) -> ScaleSolutions | None:
        """Build from the parameters of an analysis; None if its scale has one solution."""
        found = parameters.get("scale_solutions")
        if not found:
            return None
        weights, shares = tuple(found["weights"]), tuple(map(tuple, found["shares"]))
        draws = tuple(map(int, parameters.get("session", {}).get("draws", "")))
        in_range = len(draws) == N_DRAWS and max(draws) < len(weights)
        return cls(weights, shares, draws if in_range else ())

    def shifts(self, seed: int) -> np.ndarray:  # (N_DRAWS, n_classes)
        """Return the differences of the shares from those of the best solution, in each draw."""
        draws = np.array(self.draws, int)
        if not len(draws):
            ends = np.cumsum(self.weights) / np.sum(self.weights)
            steps = (np.random.default_rng(seed).permutation(N_DRAWS) + 0.5) / N_DRAWS
            draws = np.minimum(np.searchsorted(ends, steps), len(self.weights) - 1)
        shares = np.array(self.shares)
        return np.asarray((shares - shares[0])[draws])

    def moments(self) -> tuple[np.ndarray, np.ndarray]:  # mean, variance: (n_classes,)
        """Return the mean difference from the best solution and the variance of the shares."""
        weights, shares = np.array(self.weights) / np.sum(self.weights), np.array(self.shares)
        mean = weights @ shares
        return mean - shares[0], weights @ (shares - mean) ** 2


def solutions_by_image(
    counted: pd.DataFrame,  # rows of a cluster table
    model_classes: Sequence[str],  # classes of all models in it
    found: Mapping[str, ScaleSolutions | None],  # by image
) -> dict[str, ScaleSolutions]:
    """Return the possible scales of images with a share of each class, 0 of those of other models.

    The classes of the model of an image are those of which its clusters have probabilities.
    """
    several = {name: one for name, one in found.items() if one is not None}
    if not several:
        return {}
    columns = probability_columns(model_classes)
    is_own = counted.reindex(columns=columns).notna().groupby(counted["image"].astype(str)).any()
    out = {}
    for name, one in several.items():
        own = is_own.loc[name].to_numpy(bool) if name in is_own.index else np.zeros(0, bool)
        if len(one.shares[0]) == own.sum():
            shares = np.zeros((len(one.shares), len(columns)))
            shares[:, own] = one.shares
            out[name] = replace(one, shares=tuple(map(tuple, shares.tolist())))
    return out


# ---- maximum-likelihood shares of a mixture with known components
#
# References
# ----------
# .. [1] R. Varadhan and C. Roland, "Simple and globally convergent methods for accelerating the
#    convergence of any EM algorithm", Scand. J. Stat. 35, 335-353 (2008).


def mixture_shares(
    # (B, N, C): likelihood of each observation under each class for B problems, up to a factor per
    # observation
    likelihood: np.ndarray,
    weight: np.ndarray,  # (B, N): weight of each observation
    tolerance: float = 1e-9,  # tolerance of the mean log-likelihood
    max_cycles: int = 2000,  # maximum number of cycles of two steps
) -> np.ndarray:  # (B, C): shares; equal for problems without observations
    """Find the shares q that maximise Σ_i w_i log Σ_k q_k L_ik, by accelerated EM.

    The problem is concave. A step of expectation-maximisation multiplies q_k by its gradient. The
    largest component of the gradient exceeds 1 by at least the remaining gain of the mean
    log-likelihood, which ``tolerance`` bounds. Steps are extrapolated by SQUAREM [1]_.
    """
    n_problems, _, n_classes = likelihood.shape
    total = weight.sum(axis=1, keepdims=True)
    q = np.full((n_problems, n_classes), 1 / n_classes)
    active = np.flatnonzero(total[:, 0] > 0)
    weight = weight[active] / total[active]
    transposed = np.ascontiguousarray(likelihood[active].swapaxes(1, 2))
    for _ in range(max_cycles):
        start = q[active]
        gradient = _gradient(transposed, weight, start)
        unfinished = gradient.max(axis=1, initial=0) > 1 + tolerance
        if not unfinished.any():
            break
        one = start * gradient
        two = one * _gradient(transposed, weight, one)
        q[active] = _extrapolate(start, one, two)
        if unfinished.mean() < 0.5:  # copying takes as long as a step
            active = active[unfinished]
            transposed, weight = transposed[unfinished], weight[unfinished]
    return q


def _gradient(transposed: np.ndarray, weight: np.ndarray, q: np.ndarray) -> np.ndarray:
    """Return the derivative (B, C) of the mean log-likelihood, from likelihoods (B, C, N)."""
    mixed = (q[:, None, :] @ transposed)[:, 0, :]
    return (transposed @ (weight / mixed)[..., None])[..., 0]


def _extrapolate(start: np.ndarray, one: np.ndarray, two: np.ndarray) -> np.ndarray:
    """Extrapolate two steps; shares remain positive, because zeros could never grow again."""
    first = one - start
    change = two - one - first
    length = np.linalg.norm(first, axis=1, keepdims=True)
    bend = np.linalg.norm(change, axis=1, keepdims=True)
    far = np.maximum(1.0, np.divide(length, bend, out=np.ones_like(bend), where=bend > 0))
    leap = np.maximum(start + 2 * far * first + far**2 * change, 0.01 * two)
    return leap / leap.sum(axis=1, keepdims=True)


_TINY = 1e-12
_WHOLE = 1e-3
"""Maximum difference from 1 of the sum of all probabilities of a cluster."""
_JEFFREYS = 0.5
_CHUNK = 400_000
"""Number of values processed at a time, which fits into a cache."""


@dataclass(frozen=True, eq=False)
class Evidence:
    """The counted clusters of one scope, in a reproducible order."""

    image: np.ndarray  # (N,): index of the image, from 0, sorted by name
    label: np.ndarray  # (N,): label, an index of the K classes of the ratios
    certain: np.ndarray  # (N,): whether the label is manual
    # (N, C): probabilities of the classes of the model; NaN without a prediction
    probabilities: np.ndarray
    known: np.ndarray  # (C,): indices of the classes of the model among the K classes
    n_classes: int
    # index of an image → its possible intensity scales, if there are several
    solutions: Mapping[int, ScaleSolutions] = field(default_factory=dict)

    @classmethod
    def from_table(
        cls, counted: pd.DataFrame, classes: Sequence[str], model_classes: Sequence[str]
    ) -> Evidence:
        """Collect the counted rows of a cluster table; the order of rows and images is lost."""
        columns = probability_columns(model_classes)
        p = counted.reindex(columns=columns).to_numpy(float)
        # The model of another image may have more classes.
        is_whole = np.abs(np.nansum(p, axis=1) - 1) < _WHOLE
        p = np.where(is_whole[:, None], np.nan_to_num(p), p)
        place = {name: i for i, name in enumerate(classes)}
        label = counted["label"].astype(str).map(place).to_numpy(int)
        certain = (counted["label_corrected"] != "").to_numpy(bool)
        image = np.unique(counted["image"].astype(str), return_inverse=True)[1]
        order = np.lexsort([*p.T, certain, label, image])
        known = np.array([place[name] for name in model_classes], int)
        return cls(image[order], label[order], certain[order], p[order], known, len(classes))

    def of_image(self, number: int) -> Evidence:
        """Return the clusters of one image; none if the index does not occur."""
        # Clusters are sorted by image, so a binary search suffices.
        first, last = np.searchsorted(self.image, [number, number + 1])
        here = slice(int(first), int(last))
        return replace(
            self,
            image=np.zeros(int(last - first), int),
            label=self.label[here],
            certain=self.certain[here],
            probabilities=self.probabilities[here],
            solutions={0: self.solutions[number]} if number in self.solutions else {},
        )

    def of_images(self, numbers: Sequence[int]) -> Evidence:
        """Return the clusters of several images; images that do not occur have none."""
        if len(numbers) < 2:
            return self.of_image(numbers[0] if numbers else -1)
        chosen = sorted(numbers)
        rows = np.flatnonzero(np.isin(self.image, chosen))
        return replace(
            self,
            image=np.searchsorted(chosen, self.image[rows]),
            label=self.label[rows],
            certain=self.certain[rows],
            probabilities=self.probabilities[rows],
            solutions={
                new: self.solutions[old] for new, old in enumerate(chosen) if old in self.solutions
            },
        )

    def counts(self) -> np.ndarray:
        """Return the numbers of clusters per image and class.

        The result, (images, 2 K), has the numbers of uncertain labels, then those of certain ones.
        """
        group = self.label + self.n_classes * self.certain
        n_images = int(self.image.max(initial=-1)) + 1
        size = (n_images, 2 * self.n_classes)
        return np.bincount(self.image * size[1] + group, minlength=size[0] * size[1]).reshape(size)


Estimate = Callable[
    [Evidence, "ModelCard | None", int, np.random.Generator], tuple[np.ndarray, np.ndarray]
]
"""From evidence, card, B and generator to fractions (K,) and fractions (B, K) of resamples."""


@dataclass(frozen=True)
class Method:
    """A method of estimating class fractions."""

    title: str  # short name for a list
    description: str
    explanation: str  # A sentence on when to use it
    estimate: Estimate
    # returns what a model card lacks, or None if it is sufficient
    missing: Callable[[ModelCard], str | None] | None = None
    sources: tuple[str, ...] = ()  # what is resampled in addition to clusters and images
    n_bootstrap: int = 500  # default number of resamples


def unavailable(
    method: str,
    card: ModelCard | None,  # of the model that classified the clusters
    counted: pd.DataFrame | None = None,
) -> str | None:
    """Return why a method can't be used, as text; None if it can."""
    missing = METHODS[method].missing
    if missing is None:
        return None
    if card is None:
        return "the card of the model is not available"
    reason = missing(card)
    if reason is not None or counted is None:
        return reason
    uncertain = counted[counted["label_corrected"] == ""]
    others = sorted(set(uncertain["model_id"].astype(str)) - {"", card.model_id})
    if others:
        return f"clusters were classified by another model than {card.model_id}: {others[0]}"
    strange = sorted(set(uncertain["label"].astype(str)) - set(card.classes))
    if strange:
        return f"the model {card.name} does not know the label {strange[0]}"
    if method == "em":
        p = uncertain.reindex(columns=probability_columns(card.classes)).to_numpy(float)
        if not np.isfinite(p).all():
            return "there are labels without probabilities"
    return None


# ---- the methods
def _counted(
    evidence: Evidence, card: ModelCard | None, n_bootstrap: int, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    counts = evidence.counts().reshape(-1, 2, evidence.n_classes).sum(axis=1)
    return counts.sum(axis=0) / counts.sum(), bootstrap_fractions(counts, n_bootstrap, rng)


def _by_confusion(
    evidence: Evidence, card: ModelCard | None, n_bootstrap: int, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    assert card is not None
    confusion = np.asarray(card.confusion, float)
    counts, k = evidence.counts(), evidence.n_classes
    drawn = resample_counts(counts, n_bootstrap, rng)
    rows = np.stack([rng.dirichlet(row + _JEFFREYS, n_bootstrap) for row in confusion], axis=1)
    known = evidence.known

    def _adjust(rates: np.ndarray, counted: np.ndarray, tolerance: float) -> np.ndarray:
        likelihood = np.maximum(rates.swapaxes(1, 2), _TINY)
        adjusted = mixture_shares(likelihood, counted[:, known], tolerance=tolerance)
        return _with_certain(adjusted, counted[:, :k].sum(axis=1), counted[:, k:], known)

    rates = confusion / confusion.sum(axis=1, keepdims=True)
    whole = counts.sum(axis=0, keepdims=True).astype(float)
    return _adjust(rates[None], whole, 1e-9)[0], _adjust(rows, drawn, 1e-6)


def _by_em(
    evidence: Evidence, card: ModelCard | None, n_bootstrap: int, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    assert card is not None
    uncertain = ~evidence.certain
    log_p = np.log(np.maximum(evidence.probabilities[uncertain], _TINY))
    certain = evidence.counts()[:, evidence.n_classes :]
    whole = _with_certain(
        mixture_shares(np.exp(log_p)[None], np.ones((1, len(log_p))), tolerance=1e-9),
        uncertain.sum(keepdims=True),
        certain.sum(axis=0, keepdims=True),
        evidence.known,
    )[0]
    weights = resample_weights(evidence.image, n_bootstrap, rng)
    calibration = np.asarray(card.recalibration, float)
    calibration = calibration[rng.integers(len(calibration), size=n_bootstrap)]
    # indicators (N, K) of the certain labels
    indicator = np.eye(evidence.n_classes)[evidence.label] * evidence.certain[:, None]
    step = max(1, _CHUNK // max(1, log_p.size))
    parts = []
    for first in range(0, n_bootstrap, step):
        part = slice(first, first + step)
        factor, bias = calibration[part, :1, None], calibration[part, None, 1:]
        logit = factor * log_p + bias
        likelihood = np.exp(logit - logit.max(axis=2, keepdims=True))
        weight = weights[part]
        adjusted = mixture_shares(
            likelihood, weight[:, uncertain], tolerance=min(1e-4, 0.01 / max(1, len(log_p)))
        )
        parts.append(
            _with_certain(
                adjusted, weight[:, uncertain].sum(axis=1), weight @ indicator, evidence.known
            )
        )
    return whole, np.concatenate(parts)


def _with_certain(
    adjusted: np.ndarray,  # (B, C): fractions of the uncertain clusters
    n_uncertain: np.ndarray,  # (B,): numbers of uncertain clusters
    certain: np.ndarray,  # (B, K): numbers of certain clusters of each class
    known: np.ndarray,  # (C,), int: indices of the classes of the model among the K classes
) -> np.ndarray:  # (B, K)
    """Add certain labels to adjusted fractions."""
    total = certain.astype(float)
    total[:, known] += adjusted * n_uncertain[:, None]
    return total / total.sum(axis=1, keepdims=True)


def _without_confusion(card: ModelCard) -> str | None:
    confusion = np.asarray(card.confusion, float)
    if confusion.shape != (len(card.classes),) * 2:
        return f"the card of the model {card.name} has no confusion matrix: train the model again"
    empty = [c for c, n in zip(card.classes, confusion.sum(axis=1), strict=True) if not n]
    if empty:
        return f"the model {card.name} was tested on no cluster of {', '.join(empty)}"
    return None


def _without_recalibration(card: ModelCard) -> str | None:
    if np.asarray(card.recalibration, float).shape[1:] != (len(card.classes) + 1,):
        return (
            f"the card of the model {card.name} has no replicates of its calibration, without "
            "which the intervals would be too narrow: train the model again"
        )
    return None


COUNTED = "counted"
"""Name of the method that counts the labels."""
METHODS: dict[str, Method] = {
    "counted": Method(
        "as counted",
        "counted",
        "Fractions of the labels: for labels that are mostly right, or corrected manually.",
        _counted,
        n_bootstrap=2000,
    ),
    "confusion": Method(
        "confusion matrix",
        "adjusted by the confusion matrix",
        "Corrects for the errors that the model made on held-out clusters.",
        _by_confusion,
        _without_confusion,
        ("calibration",),
    ),
    "em": Method(
        "expectation–maximisation",
        "expectation-maximisation of calibrated probabilities",
        "Finds the mixture that best explains the probabilities of all clusters.",
        _by_em,
        _without_recalibration,
        ("calibration",),
    ),
}
"""Methods by name, as accepted by `ratios.class_ratios`."""
