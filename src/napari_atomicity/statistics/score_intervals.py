"""Class ratios of samples against true ones, and bootstrap intervals of scores.

Images are resampled and, within them, clusters: those of one image share its conditions, so their
errors are not independent. A sample counts as often as it is drawn.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from .intervals import percentile_interval, resample_groups

LEVEL = 0.95
"""Coverage of the intervals."""
N_BOOTSTRAP = 1000
MIN_SCATTER = 1e-12
"""Scatter of the true fractions below which they count as equal, and R² is undefined."""
SUMMARY = {
    "accuracy": "accuracy",
    "end_to_end_accuracy": "end_to_end_accuracy",
    "r2": "ratio_r2",
    "mean_absolute_error": "ratio_mean_absolute_error",
}
"""Score → its name among the intervals."""


@dataclass(frozen=True, eq=False)
class LabelPairs:
    """Pairs of a true and a predicted label: one for each true cluster and each false detection."""

    # columns ``image, sample, true, predicted``; "" is no class, no partner, or no label
    table: pd.DataFrame
    classes: Sequence[str]  # classes in order
    samples: Sequence[str]  # all samples in order, also those without clusters

    def counts(self) -> tuple[np.ndarray, np.ndarray]:
        """Count the pairs of each image, and return the index (n_images,) of its sample.

        The counts, (n_images, n_classes + 1, n_classes + 1), have rows by true and columns by
        predicted class; the last ones are of no class.
        """
        n = len(self.classes)
        true, predicted = _labels_by_index(self)
        image, names = pd.factorize(self.table["image"])
        counts = np.zeros((len(names), n + 1, n + 1), int)
        np.add.at(counts, (image, true, predicted), 1)
        of_image = self.table.groupby("image", sort=False)["sample"].first()
        sample = of_image.map({name: i for i, name in enumerate(self.samples)})
        return counts, sample.reindex(names).to_numpy(int)


def _labels_by_index(pairs: LabelPairs) -> tuple[np.ndarray, np.ndarray]:
    """Return the true and the predicted labels as indices of classes; the last is of no class."""
    index = {name: i for i, name in enumerate(pairs.classes)}
    true, predicted = (
        pairs.table[name].map(index).fillna(len(index)).to_numpy(int)
        for name in ("true", "predicted")
    )
    return true, predicted


def pair_labels(
    truth: pd.DataFrame,
    predicted: pd.DataFrame,
    # (n_predicted,), int: index in ``truth`` of the partner of each predicted cluster, or -1
    partner: np.ndarray,
    sample_of: pd.Series,
    classes: Sequence[str],
) -> LabelPairs:
    """Pair the labels of true and predicted clusters."""
    matched = partner >= 0
    labels = pd.Series(predicted["label"].to_numpy(object)[matched], index=partner[matched])
    of_truth = pd.DataFrame(
        {"image": truth["image"], "true": truth["label"], "predicted": labels.reindex(truth.index)}
    )
    false = predicted[~matched]
    of_none = pd.DataFrame({"image": false["image"], "true": "", "predicted": false["label"]})
    samples = list(dict.fromkeys(truth["image"].map(sample_of)))
    table = pd.concat([of_truth, of_none], ignore_index=True).fillna({"predicted": ""})
    table["sample"] = table["image"].map(sample_of)
    table = table[table["sample"].isin(samples)].reset_index(drop=True)
    return LabelPairs(table, classes, samples)


def sample_ratios(pairs: LabelPairs) -> dict[str, Any]:
    """Compare the class fractions of each sample with the true ones.

    The result is ready for JSON; R² is None if all true fractions are equal.
    """
    counts, sample = pairs.counts()
    together = np.zeros((1, len(pairs.samples), *counts.shape[1:]))
    np.add.at(together[0], sample, counts)
    true, found = (values[0] for values in _fractions(together))
    scores = {
        name: float(values[0]) for name, values in ratio_scores(*_fractions(together)).items()
    }
    classes = pairs.classes
    return {
        "samples": len(pairs.samples),
        "r2": scores["r2"] if np.isfinite(scores["r2"]) else None,
        "mean_absolute_error": scores["mean_absolute_error"] if true.size else None,
        "bias_per_class": dict(zip(classes, (found - true).mean(axis=0).tolist(), strict=True))
        if len(true)
        else {},
        "table": {
            str(name): {
                "true": dict(zip(classes, true[i].tolist(), strict=True)),
                "predicted": dict(zip(classes, found[i].tolist(), strict=True)),
            }
            for i, name in enumerate(pairs.samples)
        },
    }


def score_intervals(
    pairs: LabelPairs, level: float = LEVEL, n_bootstrap: int = N_BOOTSTRAP, seed: int = 0
) -> tuple[dict[str, Any], dict[str, dict[str, dict[str, float | None]]]]:
    """Compute bootstrap intervals of accuracy and ratios.

    Returns
    -------
    intervals : dict
        Ready for JSON: the names of `SUMMARY` → lower and upper end, None if undefined; and how
        they were found.
    fractions : dict of str to dict
        Sample → ``predicted_low`` and ``predicted_high`` → class → end of the interval of the
        predicted fraction.
    """
    counts, _ = pairs.counts()
    n_images = int((counts.sum(axis=(1, 2)) > 0).sum())
    about: dict[str, Any] = {
        "level": level,
        "n_bootstrap": n_bootstrap,
        "images": n_images,
        "resampled": "images and clusters" if n_images > 1 else "clusters",
    }
    if not n_images:
        return {**about, **dict.fromkeys(SUMMARY.values())}, {}
    drawn, weight = _resample(pairs, n_bootstrap, seed)
    values = _scores(drawn, weight)
    intervals = {name: _ends(values[score], level) for score, name in SUMMARY.items()}
    _, found = _fractions(drawn)
    found[weight == 0] = np.nan  # the sample was not drawn
    fractions = {}
    for i, name in enumerate(pairs.samples):
        ends = [_ends(found[:, i, j], level) or (None, None) for j in range(len(pairs.classes))]
        fractions[str(name)] = {
            key: dict(zip(pairs.classes, values, strict=True))
            for key, values in zip(
                ("predicted_low", "predicted_high"), zip(*ends, strict=True), strict=True
            )
        }
    return {**about, **intervals}, fractions


def resample_scores(
    pairs: LabelPairs,  # True and predicted labels, at least one
    n_bootstrap: int = N_BOOTSTRAP,
    seed: int = 0,
) -> dict[str, np.ndarray]:
    """Compute the scores of resampled images and, within them, resampled clusters.

    The result maps the names of `SUMMARY` to the scores (B,) of the resamples, NaN where undefined.
    """
    values = _scores(*_resample(pairs, n_bootstrap, seed))
    return {name: values[score] for score, name in SUMMARY.items()}


def _resample(pairs: LabelPairs, n_bootstrap: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Return counts (B, samples, classes + 1, classes + 1) and weights (B, samples)."""
    counts, sample = pairs.counts()
    n_samples, n = len(pairs.samples), counts.shape[1]
    n_images = int((counts.sum(axis=(1, 2)) > 0).sum())
    flat = resample_groups(
        counts.reshape(len(counts), -1), sample, n_samples, n_bootstrap, np.random.default_rng(seed)
    )
    drawn = flat.reshape(n_bootstrap, n_samples, n, n)
    of_sample = np.bincount(sample, counts.sum(axis=(1, 2)), minlength=n_samples)
    return drawn, drawn.sum(axis=(2, 3)) / np.maximum(n_images * of_sample, 1)


def score_differences(
    # first, second: True labels, and those predicted by the two methods, row by row for the same
    # clusters
    first: LabelPairs,
    second: LabelPairs,
    level: float = LEVEL,
    n_bootstrap: int = N_BOOTSTRAP,
    seed: int = 0,
) -> dict[str, dict[str, float] | None]:
    """Compute the differences of the scores of two methods for the same clusters.

    Both methods have the same images and clusters in each resample, so that what makes an image
    difficult for both does not count.

    The result maps the names of `SUMMARY` to ``difference`` (first minus second), ``low`` and
    ``high``, or to None where undefined. Raises `ValueError` if the rows are not those of the same
    clusters.
    """
    value, values = resample_differences(first, second, n_bootstrap, seed)
    out: dict[str, dict[str, float] | None] = {}
    for name in SUMMARY.values():
        ends = _ends(values[name], level)
        known = ends is not None and bool(np.isfinite(value[name]))
        row = {"difference": value[name]}
        out[name] = {**row, "low": ends[0], "high": ends[1]} if known and ends else None
    return out


def resample_differences(
    first: LabelPairs, second: LabelPairs, n_bootstrap: int = N_BOOTSTRAP, seed: int = 0
) -> tuple[dict[str, float], dict[str, np.ndarray]]:
    """Compute the differences of the scores of two methods in the same resamples.

    Returns
    -------
    value : dict of str to float
        The names of `SUMMARY` → first minus second.
    values : dict of str to ndarray of shape (B,)
        The same in each resample; NaN where undefined.

    Raises
    ------
    ValueError
        If the rows are not those of the same clusters.
    """
    columns = ["image", "sample", "true"]
    if not np.array_equal(first.table[columns].to_numpy(), second.table[columns].to_numpy()):
        raise ValueError("the two methods do not have the same clusters")
    n, n_samples = len(first.classes) + 1, len(first.samples)
    true, of_first = _labels_by_index(first)
    _, of_second = _labels_by_index(second)
    cells, cell = np.unique([true, of_first, of_second], axis=1, return_inverse=True)
    image, names = pd.factorize(first.table["image"])
    _, sample = first.counts()
    counts = np.zeros((len(names), cells.shape[1]), int)
    np.add.at(counts, (image, cell.ravel()), 1)
    together = np.zeros((1, n_samples, cells.shape[1]))
    np.add.at(together[0], sample, counts)
    drawn = resample_groups(counts, sample, n_samples, n_bootstrap, np.random.default_rng(seed))
    of_sample = together[0].sum(axis=1)
    weight = drawn.sum(axis=2) / np.maximum(len(names) * of_sample, 1)
    value, values = _differences(together, cells, n), _differences(drawn, cells, n, weight)
    return (
        {name: float(value[score][0]) for score, name in SUMMARY.items()},
        {name: values[score] for score, name in SUMMARY.items()},
    )


def _differences(
    counts: np.ndarray, cells: np.ndarray, n: int, weight: np.ndarray | None = None
) -> dict[str, np.ndarray]:
    """Compute first minus second of the scores from counts (B, samples, cells).

    ``cells`` (3, n_cells) are the true, first and second label of each cell.
    """
    of_methods = []
    for predicted in cells[1:]:
        to_pair = np.zeros((cells.shape[1], n * n))
        to_pair[np.arange(cells.shape[1]), cells[0] * n + predicted] = 1
        table = (counts @ to_pair).reshape(*counts.shape[:2], n, n)
        of_methods.append(_scores(table, weight))
    first, second = of_methods
    return {name: first[name] - second[name] for name in first}


def _ends(values: np.ndarray, level: float) -> tuple[float, float] | None:
    return percentile_interval(values, level) if np.isfinite(values).any() else None


def _divide(part: np.ndarray, whole: np.ndarray) -> np.ndarray:
    return np.divide(part, whole, out=np.full(np.shape(part), np.nan), where=whole > 0)


def _scores(counts: np.ndarray, weight: np.ndarray | None = None) -> dict[str, np.ndarray]:
    """Compute all scores (B,) from counts (B, samples, classes + 1, classes + 1)."""
    return {**_accuracies(counts), **ratio_scores(*_fractions(counts), weight)}


def _accuracies(drawn: np.ndarray) -> dict[str, np.ndarray]:
    """Compute accuracies (B,) from counts (B, samples, classes + 1, classes + 1)."""
    total = drawn.sum(axis=1)
    right = np.trace(total[:, :-1, :-1], axis1=1, axis2=2)
    return {
        "accuracy": _divide(right, total[:, :-1, :-1].sum(axis=(1, 2))),
        "end_to_end_accuracy": _divide(right, total[:, :-1].sum(axis=(1, 2))),
    }


def _fractions(drawn: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Compute true and predicted fractions (B, samples, classes); 0 where nothing is counted."""
    both = drawn.sum(axis=3)[..., :-1], drawn.sum(axis=2)[..., :-1]
    totals = (counts.sum(axis=-1, keepdims=True) for counts in both)
    true, found = (
        np.divide(counts, total, out=np.zeros_like(counts), where=total > 0)
        for counts, total in zip(both, totals, strict=True)
    )
    return true, found


def ratio_scores(
    # true, found, each (B, samples, classes): fractions in B resamples
    true: np.ndarray,
    found: np.ndarray,
    weight: np.ndarray | None = None,  # (B, samples): how often each sample counts
) -> dict[str, np.ndarray]:
    """Compute R² and mean absolute error of class fractions.

    The result has "r2" (NaN if the true fractions are equal) and "mean_absolute_error", of shape
    (B,).
    """
    shape = true.shape
    w = np.broadcast_to(1.0 if weight is None else weight[..., None], shape)
    axes = (1, 2)
    total = w.sum(axis=axes)
    mean = _divide((w * true).sum(axis=axes), total)
    scatter = (w * (true - mean[:, None, None]) ** 2).sum(axis=axes)
    residual = (w * (true - found) ** 2).sum(axis=axes)
    return {
        "r2": 1 - _divide(residual, np.where(scatter > MIN_SCATTER, scatter, 0.0)),
        "mean_absolute_error": _divide((w * np.abs(found - true)).sum(axis=axes), total),
    }
