"""Estimators of atomicity, from the obvious to the best: one registry, one interface.

Each turns what is known of the clusters of an image into class probabilities in which all classes
are equally likely beforehand: shares are for `statistics.ratios.prevalence` to find.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import pandas as pd
from scipy.special import softmax

from ..core.model_card import ModelCard
from ..statistics.scores import atoms_of
from .diameter_density import diameter_log_likelihood
from .scale.intensity_scale import ConstrainedMixture, usable
from .thresholds import by_thresholds

MIN_PROBABILITY = 1e-4
"""No estimator's word is taken for more certain than this."""
MAX_DOUBT = 1.5
RIVAL = 0.05
"""Weight from which on a rival scale widens the interval of a count."""
MAX_TOUCHING_DEVIATION = 0.42
"""Largest difference between ln(atoms) by the intensity of a touching cluster and of the network's
class. In 60 simulated fields it was at most 0.29 for the 133 touching clusters that were labelled
right, and above 0.42 for 6 of 17 that were not; half of a cluster deviates by 0.69."""


@dataclass(frozen=True, eq=False)
class Measured:
    """N clusters of one image, before an estimator speaks."""

    table: pd.DataFrame
    card: ModelCard
    # the intensity of one atom; None if the model does not know how to find it
    scale: ConstrainedMixture | None
    network: np.ndarray  # (N, C): calibrated probabilities; NaN where a patch could not be read
    # (K, N, C): the same for each of the K solutions of the scale, from patches in its unit.
    # Default: `network` for all of them
    by_solution: np.ndarray | None = None

    @cached_property
    def intensity(self) -> np.ndarray:
        """Integrated intensity (N,)."""
        return self.table["integrated_intensity"].to_numpy(float)

    @cached_property
    def diameter_nm(self) -> np.ndarray:
        """Diameter (N,) in nm."""
        return self.table["diameter_nm"].to_numpy(float)

    @cached_property
    def sizes(self) -> np.ndarray | None:
        """Numbers of atoms (C,) of the classes; None if one names no number."""
        return class_sizes(self.card.classes)

    @cached_property
    def mixture(self) -> np.ndarray:
        """Class probabilities (N, C) by the constrained mixture.

        NaN without a scale, and for clusters that touch others or the border.
        """
        if self.scale is None:
            return _silent(self)
        p = self.scale.probabilities(self.intensity, self.diameter_nm, with_shares=False)
        p[~usable(self.table)] = np.nan
        return p


Estimator = Callable[[Measured], np.ndarray]
ESTIMATORS: dict[str, Estimator] = {}


def _registered(name: str) -> Callable[[Estimator], Estimator]:
    def register(estimator: Estimator) -> Estimator:
        ESTIMATORS[name] = estimator
        return estimator

    return register


@_registered("diameter")
def diameter(known: Measured) -> np.ndarray:
    """From the diameter alone: (N, C), see `diameter_density`."""
    if known.card.scale is None:
        return _silent(known)
    with np.errstate(divide="ignore", invalid="ignore"):
        log_diameter = np.where(known.diameter_nm > 0, np.log(known.diameter_nm), np.nan)
    return np.asarray(softmax(diameter_log_likelihood(log_diameter, known.card), axis=1))


@_registered("intensity")
def intensity(known: Measured) -> np.ndarray:
    """Thresholds on the integrated intensity as it was recorded: (N, C) zeros and ones."""
    cuts = known.card.thresholds.get("intensity")
    if cuts is None:
        return _silent(known)
    p = np.eye(len(known.card.classes))[by_thresholds(known.intensity, cuts)]
    p[~(known.intensity > 0)] = np.nan
    return p


@_registered("constrained mixture")
def constrained_mixture(known: Measured) -> np.ndarray:
    """From intensity and diameter by the scale of the image: see `Measured.mixture`."""
    return known.mixture


@_registered("network")
def network(known: Measured) -> np.ndarray:
    """From the patches alone: (N, C)."""
    return known.network


@_registered("combination")
def combination(known: Measured) -> np.ndarray:
    """Combine network and constrained mixture in a calibrated pool: (N, C).

    It is as unsure as the scale of the image is: with predictions for each solution of the scale
    the pools are averaged over the solutions, otherwise the pool is flatter by the doubt of the
    model. Where the mixture is silent, the network speaks alone.
    """
    combined, scale = known.card.combination, known.scale
    if combined is None or scale is None:
        return known.network
    weights = np.array([combined.network, combined.mixture, combined.doubt, *combined.bias])
    if known.by_solution is None:
        certainty = np.full(len(known.table), scale.certainty)
        return pooled(known.network, known.mixture, certainty, weights)
    mixtures = scale.solution_probabilities(known.intensity, known.diameter_nm, False)
    mixtures[:, ~usable(known.table)] = np.nan
    certain = np.ones(len(known.table))
    pools = [
        pooled(network, mixture, certain, weights)
        for network, mixture in zip(known.by_solution, mixtures, strict=True)
    ]
    return np.einsum("k,knc->nc", scale.weight, pools)


def weighted_network(known: Measured) -> np.ndarray:
    """Average the probabilities of the network over the solutions of the scale: (N, C)."""
    if known.by_solution is None or known.scale is None:
        return known.network
    weight = known.scale.weight[: len(known.by_solution)]
    return np.einsum("k,knc->nc", weight / weight.sum(), known.by_solution)


def mixture_or_network(known: Measured) -> np.ndarray:
    """Probabilities by the constrained mixture; by the network where the mixture is silent."""
    silent = np.isnan(known.mixture).any(axis=1, keepdims=True)
    return np.where(silent, weighted_network(known), known.mixture)


LABELS_FROM: dict[str, Estimator] = {
    "combination": combination,
    "mixture": mixture_or_network,
    "network": weighted_network,
}
"""Estimators that give the labels. Calibrations of a model are those of the first one."""


def pooled(
    network: np.ndarray,
    mixture: np.ndarray,
    certainty: np.ndarray,  # (N,): of the scale
    # (3 + C,): of the network, of the mixture, doubt, and the biases of the classes
    weights: np.ndarray,
) -> np.ndarray:
    """Compute a log-linear pool (N, C) of two sets of probabilities (N, C).

    The second may hold rows of NaN: nothing is said.
    """
    log_network = np.log(np.clip(network, MIN_PROBABILITY**2, 1))
    log_mixture = np.log(np.clip(mixture, MIN_PROBABILITY, 1))
    z = weights[0] * log_network + weights[1] * log_mixture + weights[3:]
    # the weights are of the two together; the network is calibrated for itself
    z = np.where(np.isnan(mixture).any(axis=1, keepdims=True), log_network, z)
    sharpness = np.exp(-np.clip(weights[2] * (1 - certainty), -MAX_DOUBT, MAX_DOUBT))
    return np.asarray(softmax(sharpness[:, None] * z, axis=1))


def _silent(known: Measured) -> np.ndarray:
    return np.full((len(known.table), len(known.card.classes)), np.nan)


# ---- the continuous count


def count_atoms(
    known: Measured,
) -> np.ndarray:  # (N, 3): count, lower and upper end; NaN where nothing is known
    """How many atoms each cluster holds, on a continuous scale, with a 95 % interval.

    A cluster that stands alone is counted by its intensity, so that sizes between and beyond the
    classes make sense; one that touches another by the network's probabilities, unless both
    contradict each other.
    """
    sizes = known.sizes
    if sizes is None or known.scale is None:
        return np.full((len(known.table), 3), np.nan)
    whole = usable(known.table) & (known.intensity > 0)
    by_network = np.exp(known.network @ np.log(sizes))
    by_intensity = whole | (touching_deviation(known) > MAX_TOUCHING_DEVIATION)
    count = np.where(by_intensity, atoms_by_intensity(known), by_network)
    error = known.card.count
    if error is None:
        return np.stack([count, np.full(len(count), np.nan), np.full(len(count), np.nan)], axis=1)
    of_scale = 1.96 * known.scale.log_scale_sd
    width = np.exp(np.where(whole, np.hypot(error.whole, of_scale), error.other))
    low, high = count / width, count * width
    # rival scales would count otherwise
    for shift in known.scale.shift[known.scale.weight >= RIVAL, 0]:
        rival = atoms_by_intensity(known, shift)
        low = np.where(whole, np.fmin(low, rival / width), low)
        high = np.where(whole, np.fmax(high, rival * width), high)
    return np.stack([count, low, high], axis=1)


def atoms_by_intensity(known: Measured, shift: float | None = None) -> np.ndarray:
    """(N,) atoms by the integrated intensity; ``shift`` is another scale than the image's best.

    NaN where larger classes are not brighter, as with light and heavy metals in one model.

    A class's outline catches its own share of the intensity, so the logarithm is read off the
    classes of the reference, straight between them and of unit slope beyond.
    """
    sizes = known.sizes
    if sizes is None or known.scale is None:
        return np.full(len(known.table), np.nan)
    seen, true = np.array(known.scale.reference.log_intensity), np.log(sizes)
    if not (np.diff(seen) > 0).all():
        return np.full(len(known.table), np.nan)
    with np.errstate(divide="ignore", invalid="ignore"):
        u = np.log(known.intensity) - (known.scale.shift[0, 0] if shift is None else shift)
    inside = np.interp(u, seen, true)
    return np.asarray(np.exp(inside + np.minimum(u - seen[0], 0) + np.maximum(u - seen[-1], 0)))


def touching_deviation(known: Measured) -> np.ndarray:
    """By how much intensity and network differ for clusters that touch others: (N,), in ln(atoms).

    The network sees the whole neighbourhood: half of a cluster that was split by mistake looks to
    it like the whole one, but has half of the intensity. NaN for all other clusters, and where one
    of both says nothing. Of several scales, the one that fits best counts.
    """
    sizes = known.sizes
    if sizes is None or known.scale is None:
        return np.full(len(known.table), np.nan)
    weight = known.scale.weight
    shifts = known.scale.shift[weight >= min(RIVAL, weight.max()), 0]
    with np.errstate(divide="ignore", invalid="ignore"):
        counts = np.stack([atoms_by_intensity(known, shift) for shift in shifts])
        seen = np.log(sizes)[np.nan_to_num(known.network, nan=-1).argmax(axis=1)]
        deviation = np.abs(np.log(counts) - seen).min(axis=0)
    judged = known.table["touches_neighbour"] & ~known.table["touches_border"]
    judged &= (known.intensity > 0) & np.isfinite(known.network).all(axis=1)
    return np.where(judged, deviation, np.nan)


def class_sizes(classes: Sequence[str]) -> np.ndarray | None:
    """(C,) atoms of the classes; None if one names no number."""
    sizes = [atoms_of(name) for name in classes]
    return None if None in sizes else np.array(sizes, float)


# ---- beside the label


def opinions(known: Measured, label: np.ndarray) -> pd.DataFrame:
    """Return the label of each estimator, and the fraction of them that disagree with ``label``.

    The columns are ``label_diameter``, ``label_mixture``, ``label_network`` ("" where silent), and
    ``disagreement``: the share of those that speak and say something else than ``label``.
    """
    columns = {"diameter": diameter, "mixture": constrained_mixture, "network": network}
    out, other, speaking = {}, np.zeros(len(label)), np.zeros(len(label))
    classes = np.array(known.card.classes, dtype=object)
    for name, estimator in columns.items():
        p = estimator(known)
        speaks = np.isfinite(p).all(axis=1)
        said = np.where(speaks, classes[np.nan_to_num(p, nan=-1).argmax(axis=1)], "")
        out[f"label_{name}"] = said
        speaking += speaks
        other += speaks & (said != label)
    share = np.divide(other, speaking, out=np.full(len(label), np.nan), where=speaking > 0)
    return pd.DataFrame({**out, "disagreement": share})
