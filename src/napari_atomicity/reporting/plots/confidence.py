"""Plots of the confidence of predictions and its reliability on corrected clusters."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from ...core.tables.cluster_table import is_whole, shown_values
from ...core.text import pluralise
from ...statistics.intervals import wilson_interval
from ...statistics.ratios.track_counts import answers_of
from .base import (
    Look,
    Plot,
    draw_bars,
    draw_message,
    labels_in_order,
    legend,
    matching_row,
    message_if_empty,
    per_cent,
    style_axes,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_BINS = 20
MIN_CORRECTED = 20
"""Minimum number of corrected clusters for the reliability plot."""
_PER_BIN = 10
_MAX_BINS = 10


def _has_confidence(table: pd.DataFrame) -> np.ndarray:
    """Return which complete clusters have a predicted class and thus a confidence."""
    known = np.isfinite(shown_values(table, "confidence"))
    if "touches_border" in table.columns:  # a table of patches tells nothing of borders
        known &= is_whole(table)
    return np.asarray(known)


def _bins(confidence: np.ndarray) -> np.ndarray:
    return np.clip(np.floor(confidence * _BINS + 1e-9), 0, _BINS - 1).astype(int)


# ---- confidence
def confidence_data(table: pd.DataFrame, classes: Sequence[str] = (), **_: Any) -> pd.DataFrame:
    """Count clusters by predicted class and calibrated confidence."""
    shown = table[_has_confidence(table)]
    names = labels_in_order(shown["label_predicted"], classes)
    code = shown["label_predicted"].map({n: i for i, n in enumerate(names)}).to_numpy(int)
    cell = code * _BINS + _bins(shown["confidence"].to_numpy(float))
    edge = np.round(np.arange(_BINS + 1) / _BINS, 9)
    return pd.DataFrame(
        {
            "class": pd.Series([n for n in names for _ in range(_BINS)], dtype=object),
            "confidence_from": np.tile(edge[:-1], len(names)),
            "confidence_to": np.tile(edge[1:], len(names)),
            "count": np.bincount(cell, minlength=len(names) * _BINS),
        }
    )


def _confidence_places(data: pd.DataFrame) -> np.ndarray:
    """Return stacked bars with the first class at the bottom."""
    high = data.groupby("confidence_from")["count"].cumsum().to_numpy(float)
    left, right = data["confidence_from"].to_numpy(float), data["confidence_to"].to_numpy(float)
    return np.stack([left, right, high - data["count"].to_numpy(float), high], axis=1)


@message_if_empty("No classified clusters")
def draw_confidence(axes: Axes, data: pd.DataFrame, look: Look) -> None:
    """Draw a histogram stacked by predicted class."""
    boxes = _confidence_places(data)
    there = (data["count"] > 0).to_numpy()
    draw_bars(axes, look, boxes[there], data["class"][there])
    for name in dict.fromkeys(data["class"]):
        axes.plot(
            [], [], marker=look.marker(name), color=look.colour(name), linestyle="", label=name,
            markeredgecolor=(0, 0, 0, 0.6), markeredgewidth=0.4,
        )  # fmt: skip
    axes.set(
        xlim=(0, 1), ylim=(0, 1.05 * boxes[:, 3].max()), xlabel="Confidence", ylabel="Clusters"
    )
    axes.locator_params(axis="y", integer=True)
    legend(axes, look, beside=True)
    style_axes(axes, look, _describe_confidence(data))


def _describe_confidence(data: pd.DataFrame) -> str:
    total = int(data["count"].sum())
    low = int(data.loc[data["confidence_to"] <= 0.8, "count"].sum())
    return f"{low} of {total} clusters ({per_cent(low / max(total, 1))}) below 0.8."


def _confidence_row(row: Any) -> str:
    n = int(row["count"])
    return (
        f"{row['class']}, confidence {row['confidence_from']:.2f} to {row['confidence_to']:.2f}: "
        f"{pluralise(n, 'cluster')}"
    )


def _confidence_members(table: pd.DataFrame, data: pd.DataFrame) -> np.ndarray:
    member = np.full(len(table), -1)
    shown = np.flatnonzero(_has_confidence(table))
    confidence = table["confidence"].to_numpy(float)[shown]
    member[shown] = matching_row(
        {"label": table["label_predicted"].to_numpy(object)[shown], "bin": _bins(confidence)},
        data.assign(bin=_bins(data["confidence_from"].to_numpy(float))),
        **{"class": "label", "bin": "bin"},
    )
    return member


CONFIDENCE = Plot(
    "Confidence",
    "Calibrated probability of the predicted class of complete clusters.",
    confidence_data,
    draw_confidence,
    _confidence_members,
    _confidence_places,
    _confidence_row,
    column="confidence_from",
    nothing="No confidence: classify an image first.",
)


# ---- reliability
def _is_corrected(table: pd.DataFrame) -> np.ndarray:
    """Return which clusters have both a predicted class and a label by a person."""
    return _has_confidence(table) & (table["label_corrected"] != "").to_numpy(bool)


def reliability_data(table: pd.DataFrame, **_: Any) -> pd.DataFrame:
    """Compute the accuracy of predictions on corrected clusters by confidence.

    Bins contain equal numbers of clusters, at least 10: most confidences are near 1. The frames of
    a track are one answer.
    """
    answers = answers_of(table)
    rows = answers[_is_corrected(answers)]
    confidence = rows["confidence"].to_numpy(float)
    right = (rows["label_predicted"] == rows["label_corrected"]).to_numpy(bool)
    columns = ["confidence_from", "confidence_to", "confidence_mean", "count", "right"]
    if not len(rows):
        return pd.DataFrame(columns=[*columns, "accuracy", "accuracy_low", "accuracy_high"])
    n_bins = int(np.clip(len(rows) // _PER_BIN, 1, _MAX_BINS))
    edge = np.unique(np.quantile(confidence, np.arange(n_bins + 1) / n_bins))
    if len(edge) == 1:  # all confidences are equal
        edge = np.repeat(edge, 2)
    bins = _bin_index(confidence, edge)
    count = np.bincount(bins, minlength=len(edge) - 1)
    there = count > 0
    of = np.maximum(count, 1)
    accuracy = np.bincount(bins, right, len(edge) - 1) / of
    low, high = wilson_interval(accuracy, of)
    return pd.DataFrame(
        {
            "confidence_from": edge[:-1],
            "confidence_to": edge[1:],
            "confidence_mean": np.bincount(bins, confidence, len(edge) - 1) / of,
            "count": count,
            "right": np.bincount(bins, right, len(edge) - 1).astype(int),
            "accuracy": accuracy,
            "accuracy_low": np.minimum(low, accuracy),
            "accuracy_high": np.maximum(high, accuracy),
        }
    )[there].reset_index(drop=True)


def _bin_index(confidence: np.ndarray, edge: np.ndarray) -> np.ndarray:
    """Return the bin of each confidence; the last bin includes its upper edge."""
    return np.clip(np.searchsorted(edge, confidence, side="right") - 1, 0, len(edge) - 2)


def has_min_corrected(data: pd.DataFrame) -> bool:
    """Return whether there are sufficient corrected clusters for the reliability plot."""
    return bool(data["count"].sum() >= MIN_CORRECTED)


def _reliability_places(data: pd.DataFrame) -> np.ndarray:
    x, y = data["confidence_mean"].to_numpy(float), data["accuracy"].to_numpy(float)
    where = np.stack([x, x, y, y], axis=1)
    return where if has_min_corrected(data) else np.full_like(where, np.nan)


def draw_reliability(axes: Axes, data: pd.DataFrame, look: Look | None = None) -> None:
    """Draw accuracy against confidence; a calibrated model is on the diagonal."""
    look = look or Look()
    axes.set(xlim=(0, 1.02), ylim=(0, 1.06), xlabel="Confidence", ylabel="Accuracy")
    axes.plot([0, 1], [0, 1], color=look.ink, linewidth=1, alpha=0.5, linestyle=(0, (4, 3)))
    n = int(data["count"].sum()) if len(data) else 0
    if not has_min_corrected(data):
        draw_message(
            axes, look,
            f"{pluralise(n, 'corrected cluster')} with a predicted class, "
            f"{MIN_CORRECTED} are needed",
        )  # fmt: skip
        style_axes(axes, look)
        return
    x, y = data["confidence_mean"], data["accuracy"]
    axes.errorbar(
        x, y, yerr=[y - data["accuracy_low"], data["accuracy_high"] - y], color="#0072b2",
        ecolor=look.ink, elinewidth=0.9, capsize=2.5, marker="o", markersize=5.5, linewidth=1.2,
        markeredgecolor=look.ink, markeredgewidth=0.5,
    )  # fmt: skip
    style_axes(axes, look, *_describe_reliability(data))


def _describe_reliability(data: pd.DataFrame) -> tuple[str, ...]:
    n, right = int(data["count"].sum()), int(data["right"].sum())
    mean = float((data["confidence_mean"] * data["count"]).sum() / n)
    low, high = wilson_interval(np.array(right / n), n)
    return (
        f"{right} of {n} correct: {per_cent(right / n)} ({per_cent(float(low))} to "
        f"{per_cent(float(high))}).",
        f"Mean confidence {mean:.2f}.",
        "Corrected clusters may not be a random sample.",
    )


def _reliability_row(row: Any) -> str:
    return (
        f"Confidence {row['confidence_from']:.2f} to {row['confidence_to']:.2f}: "
        f"{int(row['right'])} of {int(row['count'])} correct"
    )


def _reliability_members(table: pd.DataFrame, data: pd.DataFrame) -> np.ndarray:
    member = np.full(len(table), -1)
    shown = np.flatnonzero(_is_corrected(table))
    if len(data) and has_min_corrected(data):
        edge = np.append(data["confidence_from"], data["confidence_to"].iloc[-1])
        member[shown] = _bin_index(table["confidence"].to_numpy(float)[shown], edge)
    return member


RELIABILITY = Plot(
    "Reliability",
    "Accuracy of predictions on corrected clusters against their confidence, with 95 % Wilson "
    "score intervals.",
    reliability_data,
    draw_reliability,
    _reliability_members,
    _reliability_places,
    _reliability_row,
    nothing="No clusters: analyse an image, then correct or confirm labels in Review.",
)
