"""Scores of the answers of a method, also as text: accuracy, ratios, calibration, collapse."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd

from ..statistics.intervals import percentile_interval, resample_groups
from ..statistics.score_intervals import (
    LEVEL,
    N_BOOTSTRAP,
    LabelPairs,
    ratio_scores,
    sample_ratios,
    score_intervals,
)
from ..training.calibration.evaluation import expected_calibration_error

SCORES = (
    "accuracy", "ratio_r2", "ratio_mean_absolute_error", "calibration_error",
    "set_coverage", "interval_coverage", "most_called_share",
)  # fmt: skip
"""Scores of one run of a method on one group of images."""
References = Mapping[str, Mapping[str, float]]
"""Sample → class → deposited fraction, for samples whose clusters are not known."""


def score_run(
    answers: pd.DataFrame,
    intervals: pd.DataFrame,  # columns of `answers.INTERVAL`; may be empty
    classes: Sequence[str],
    references: References | None = None,
    with_ratios: bool = True,
) -> dict[str, Any]:
    """Score the answers of one run of a method on one group of images."""
    pairs = LabelPairs(answers, classes, list(dict.fromkeys(answers["sample"])))
    scored = answers[answers["true"].isin(classes) & (answers["predicted"] != "")]
    right = (scored["true"] == scored["predicted"]).to_numpy(bool)
    called = answers.loc[answers["predicted"] != "", "predicted"].value_counts(normalize=True)
    found = _ratios(pairs, references) if with_ratios else {"ratios": {}}
    # A model may know other classes: a cluster that is called one of them is wrong.
    others = [c for c in called.index if c not in classes]
    ends, _ = score_intervals(replace(pairs, classes=[*classes, *others]))
    return {
        "clusters": len(scored),
        "accuracy": _mean(right),
        "accuracy_interval": ends["accuracy"] if len(scored) else None,
        "confusion": confusion_matrix(scored, classes),
        **_calibration(scored, right),
        "set_coverage": _mean(scored["in_set"].dropna().to_numpy(float)),
        "interval_coverage": _coverage(intervals),
        "most_called": str(called.index[0]) if len(called) else None,
        "most_called_share": float(called.iloc[0]) if len(called) else None,
        "called": {c: float(called.get(c, 0.0)) for c in classes},
        "ratio_r2": None,
        "ratio_mean_absolute_error": None,
        **found,
    }


def confusion_matrix(scored: pd.DataFrame, classes: Sequence[str]) -> list[list[int]]:
    """Count the clusters by true (rows) and predicted class (columns)."""
    table = pd.crosstab(scored["true"], scored["predicted"])
    counts = table.reindex(index=list(classes), columns=list(classes), fill_value=0)
    return [[int(n) for n in row] for row in counts.to_numpy()]


def _mean(values: np.ndarray) -> float | None:
    return float(values.mean()) if len(values) else None


def _calibration(scored: pd.DataFrame, right: np.ndarray) -> dict[str, float | None]:
    confidence = scored["confidence"].to_numpy(float)
    known = np.isfinite(confidence)
    if not known.any():
        return {"calibration_error": None}
    return {"calibration_error": expected_calibration_error(confidence[known], right[known])}


def _coverage(intervals: pd.DataFrame) -> float | None:
    """Return the share of the intervals of class ratios that contain the true fraction."""
    known = intervals[intervals["fraction_low"].notna()]
    margin = 1e-9
    low, high = known["fraction_low"] - margin, known["fraction_high"] + margin
    return _mean(known["true"].between(low, high).to_numpy(float))


def _ratios(pairs: LabelPairs, references: References | None) -> dict[str, Any]:
    """Compare the fractions of the samples with the true ones, or with the deposited ones."""
    if references is not None:
        return _against_deposits(pairs, references)
    ratios = sample_ratios(pairs)
    ends, fractions = score_intervals(pairs)
    for name, of_sample in fractions.items():
        ratios["table"][name] |= of_sample
    defined = ratios["r2"] is not None
    return {
        "ratio_r2": ratios["r2"],
        "ratio_r2_interval": ends["ratio_r2"] if defined else None,
        "ratio_mean_absolute_error": ratios["mean_absolute_error"],
        "ratio_mean_absolute_error_interval": ends["ratio_mean_absolute_error"],
        "ratios": ratios["table"],
    }


def _against_deposits(
    pairs: LabelPairs, references: References, n_bootstrap: int = N_BOOTSTRAP, seed: int = 0
) -> dict[str, Any]:
    """Compare the called fractions with the deposited ones; images and clusters are resampled."""
    counts, sample = pairs.counts()
    filled = counts[:, :, :-1].any(axis=(1, 2))
    called, sample = counts[filled].sum(axis=1)[:, :-1], sample[filled]
    if not len(called):
        return {"ratios": {}}
    n_samples, classes = len(pairs.samples), list(pairs.classes)
    true = np.array([[references[s].get(c, 0.0) for c in classes] for s in pairs.samples])
    rng = np.random.default_rng(seed)
    drawn = resample_groups(called, sample, n_samples, n_bootstrap, rng)
    together = np.zeros((1, n_samples, len(classes)))
    np.add.at(together[0], sample, called)
    of_sample = np.bincount(sample, called.sum(axis=1), minlength=n_samples)
    weight = drawn.sum(axis=2) / np.maximum(len(called) * of_sample, 1)
    value = ratio_scores(true[None], _shares(together))
    values = ratio_scores(np.broadcast_to(true, drawn.shape), _shares(drawn), weight)
    found, of_draws = _shares(together)[0], _shares(drawn)
    of_draws[weight == 0] = np.nan
    table = {}
    for i, name in enumerate(pairs.samples):
        ends = [percentile_interval(of_draws[:, i, j], LEVEL) for j in range(len(classes))]
        table[name] = {
            "true": dict(zip(classes, true[i].tolist(), strict=True)),
            "predicted": dict(zip(classes, found[i].tolist(), strict=True)),
            "predicted_low": {c: low for c, (low, _) in zip(classes, ends, strict=True)},
            "predicted_high": {c: high for c, (_, high) in zip(classes, ends, strict=True)},
        }
    out: dict[str, Any] = {"ratios": table}
    for name, key in (("ratio_r2", "r2"), ("ratio_mean_absolute_error", "mean_absolute_error")):
        defined = bool(np.isfinite(value[key][0]))
        out[name] = float(value[key][0]) if defined else None
        out[f"{name}_interval"] = percentile_interval(values[key], LEVEL) if defined else None
    return out


def _shares(counts: np.ndarray) -> np.ndarray:
    total = counts.sum(axis=-1, keepdims=True)
    return np.divide(counts, total, out=np.zeros(counts.shape), where=total > 0)


def summarise_runs(runs: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Summarise the scores of a method on a group of images over its runs."""
    out: dict[str, Any] = {
        "runs": len(runs),
        "clusters": sum(run["clusters"] for run in runs),
        "confusion": np.sum([run["confusion"] for run in runs], axis=0).tolist(),
        "called": pd.DataFrame([run["called"] for run in runs]).mean().to_dict(),
    }
    for name in SCORES:
        values = [run[name] for run in runs if run[name] is not None]
        ends = [run[f"{name}_interval"] for run in runs if run.get(f"{name}_interval")]
        low, high = np.mean(ends, axis=0).tolist() if ends else (None, None)
        out[name] = {
            "mean": float(np.mean(values)) if values else None,
            "sd": float(np.std(values, ddof=1)) if len(values) > 1 else None,
            "low": low,
            "high": high,
        }
    return out


MOST_SHOWN = 10
"""R² and its differences beyond it, as of few images that hardly differ, are not numbers."""
NOT_DEFINED = "–"


def format_number(value: float | None, digits: int = 2, sign: str = "") -> str:
    """Format a score, or a dash if it is not defined."""
    if value is None:
        return NOT_DEFINED
    if abs(value) > MOST_SHOWN:
        return f"< -{MOST_SHOWN}" if value < 0 else f"> {MOST_SHOWN}"
    return f"{value:{sign}.{digits}f}"


def score_and_interval(score: Mapping[str, float | None]) -> tuple[str, str]:
    """Format a score over the runs as ``0.94 ± 0.03``, and its interval as ``0.90 to 0.97``."""
    if score["mean"] is None:
        return NOT_DEFINED, ""
    scatter = "" if score["sd"] is None else f" ± {score['sd']:.2f}"
    ends = (format_number(score["low"]), format_number(score["high"]))
    return f"{score['mean']:.2f}{scatter}", "" if score["low"] is None else " to ".join(ends)


def format_score(score: Mapping[str, float | None]) -> str:
    """Format a score and its interval in one line, as ``0.94 ± 0.03 (0.90 to 0.97)``."""
    value, interval = score_and_interval(score)
    return f"{value} ({interval})" if interval else value


def format_difference(score: Mapping[str, float | None] | None) -> str:
    """Format a difference between methods as ``+0.10 (+0.05 to +0.14)``."""
    if score is None or score["mean"] is None:
        return NOT_DEFINED
    mean, low, high = (format_number(score[key], sign="+") for key in ("mean", "low", "high"))
    return f"{mean} ({low} to {high})"
