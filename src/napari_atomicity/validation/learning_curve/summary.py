"""Content of ``learning_curve.json``: scores by number of training images, and what they say."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from ...core.text import pluralise
from ...statistics.intervals import percentile_interval, resample_weights
from ...statistics.score_intervals import (
    LEVEL,
    N_BOOTSTRAP,
    LabelPairs,
    resample_differences,
    resample_scores,
)
from ...training.calibration.evaluation import calibration_bins
from ..data import SELECTED, ValidationImage
from ..jobs import Prepared
from ..methods import ComparedMethod
from ..runs import Run
from ..scores import summarise_runs
from ..summary import describe_data, join_runs, score_columns, score_runs
from .jobs import Division

SCORES = ("accuracy", "ratio_r2", "ratio_mean_absolute_error", "calibration_error")
"""Scores of each point of the curve."""
GAIN = "accuracy_gain"
"""Accuracy minus that with the next smaller number of images, for the same clusters."""
ENOUGH = 0.01
"""Gain in accuracy by more images below which a number is called enough."""


def summarise_curve(
    prepared: Prepared, division: Division, runs: Sequence[Run], left_out: Sequence[str]
) -> dict[str, Any]:
    """Summarise the runs of a learning curve as ``learning_curve.json``."""
    groups, classes = prepared.data.groups, prepared.data.classes
    methods = {
        method.name: {
            "title": method.title,
            "fit": method.fit,
            "points": _points(method, runs, groups, classes),
        }
        for method in prepared.methods
    }
    return {
        **describe_data(prepared, left_out),
        "images_per_class": list(division.numbers),
        "test_images": division.test_images(),
        "sentences": curve_sentences(methods),
        "methods": methods,
        "seconds": float(sum(sum(run["seconds"].values()) for run in runs)),
    }


# ---- points
def _points(
    method: ComparedMethod,
    runs: Sequence[Run],
    groups: Mapping[str, Sequence[ValidationImage]],
    classes: Sequence[str],
) -> list[dict[str, Any]]:
    """Score a method with each number of training images."""
    own = [run for run in runs if run["fit"] == method.fit]
    points = []
    before = pd.DataFrame()
    for n in sorted({run["images_per_class"] for run in own}):
        of_number = [run for run in own if run["images_per_class"] == n]
        trained = [run for run in of_number if "not_possible" not in run]
        refused = [run["not_possible"] for run in of_number if "not_possible" in run]
        answers, intervals = (join_runs(trained, key) for key in ("answers", "intervals"))
        answers = answers[answers["method"] == method.name]
        of_groups = {}
        for name, images in groups.items():
            of_group = answers[answers["group"] == name]
            scored = score_runs(method, name, images, of_group, intervals, classes)
            if scored:
                has_truth = name == SELECTED or all(image.has_truth for image in images)
                scores = _scores(scored, of_group, classes, has_truth)
                of_before = before[before["group"] == name] if len(before) else before
                scores[GAIN] = _gain(of_group, of_before, classes)
                of_groups[name] = scores
        points.append(
            {
                "images_per_class": n,
                "repeats": len(trained),
                "not_possible": refused[0] if refused else None,
                "groups": of_groups,
            }
        )
        before = answers if len(answers) else before
    return points


def _scores(
    scored: Sequence[Run], answers: pd.DataFrame, classes: Sequence[str], has_truth: bool
) -> dict[str, Any]:
    """Return mean, standard deviation and interval of each score over the repeats."""
    summary = summarise_runs(scored)
    scores: dict[str, Any] = {name: summary[name] for name in SCORES}
    of_repeats = [_resample(own, classes) for _, own in answers.groupby("seed", sort=False)]
    for name in SCORES:
        # Deposited fractions are not those of the clusters that are resampled here.
        if scores[name]["mean"] is not None and (has_truth or not name.startswith("ratio")):
            ends = interval_of_mean([resampled[name] for resampled in of_repeats])
            scores[name] = {**scores[name], "low": ends[0], "high": ends[1]}
    return {"clusters": summary["clusters"], **scores}


def _resample(answers: pd.DataFrame, classes: Sequence[str]) -> dict[str, np.ndarray]:
    """Return the scores of resampled images of one repeat, (B,) each."""
    samples = list(dict.fromkeys(answers["sample"]))
    # A model may know other classes: a cluster that is called one of them is wrong.
    others = sorted(set(answers["predicted"]) - {*classes, ""})
    accuracy = resample_scores(LabelPairs(answers, [*classes, *others], samples))["accuracy"]
    ratios = resample_scores(LabelPairs(answers, classes, samples))
    return {**ratios, "accuracy": accuracy, "calibration_error": _resample_calibration(answers)}


def _resample_calibration(answers: pd.DataFrame, n_bootstrap: int = N_BOOTSTRAP) -> np.ndarray:
    """Return the calibration error (B,) of resampled images.

    It is shifted to the error of all images: scatter alone makes that of a resample larger.
    """
    known = (answers["predicted"] != "") & (answers["true"] != "") & answers["confidence"].notna()
    own = answers[known].sort_values("image", kind="stable")
    if not len(own):
        return np.full(n_bootstrap, np.nan)
    gap = own["confidence"].to_numpy() - (own["true"] == own["predicted"]).to_numpy()
    image = pd.factorize(own["image"])[0]
    weight = resample_weights(image, n_bootstrap, np.random.default_rng(0))
    of_bin = np.eye(10)[calibration_bins(own["confidence"].to_numpy())] * gap[:, None]
    error = np.abs(weight @ of_bin).sum(axis=1) / weight.sum(axis=1)
    value = np.abs(of_bin.sum(axis=0)).sum() / len(own)
    return np.maximum(error - error.mean() + value, 0.0)


def interval_of_mean(
    of_repeats: Sequence[np.ndarray], n_bootstrap: int = 10 * N_BOOTSTRAP, seed: int = 0
) -> tuple[float, float] | tuple[None, None]:
    """Compute the interval of the mean over the repeats from the resamples of each repeat.

    Repeats are drawn with replacement. Their test images overlap or are the same: an error that is
    due to the images counts as common to all, so that more repeats do not reduce it.
    """
    known = [values[np.isfinite(values)] for values in of_repeats]
    known = [values for values in known if len(values)]
    if not known:
        return None, None
    rng = np.random.default_rng(seed)
    level = rng.random(n_bootstrap)
    table = np.stack([np.quantile(values, level) for values in known])
    chosen = rng.integers(len(table), size=table.shape)
    low, high = percentile_interval(np.take_along_axis(table, chosen, axis=0).mean(axis=0), LEVEL)
    return float(low), float(high)


def _gain(
    answers: pd.DataFrame, before: pd.DataFrame, classes: Sequence[str]
) -> dict[str, float | None]:
    """Compare the accuracy with that of fewer training images, for the same clusters."""
    values, resampled = [], []
    of_before = dict(tuple(before.groupby("seed"))) if len(before) else {}
    for seed, own in answers.groupby("seed"):
        if seed in of_before:
            samples = list(dict.fromkeys(own["sample"]))
            value, of_images = resample_differences(
                LabelPairs(own, classes, samples), LabelPairs(of_before[seed], classes, samples)
            )
            values.append(value["accuracy"])
            resampled.append(of_images["accuracy"])
    low, high = interval_of_mean(resampled)
    sd = float(np.std(values, ddof=1)) if len(values) > 1 else None
    return {"mean": float(np.mean(values)) if values else None, "sd": sd, "low": low, "high": high}


# ---- sentences
def curve_sentences(methods: Mapping[str, Any]) -> list[str]:
    """Say how many images are needed, and what each method reaches with how many."""
    curves = {name: _accuracies(method) for name, method in methods.items()}
    trained = {name: of for name, of in curves.items() if of and min(of) > 0}
    sentences = []
    if trained:
        best = max(trained, key=lambda name: trained[name][max(trained[name])]["mean"])
        sentences.append(_advice(methods[best]["title"], trained[best]))
    for name, of in curves.items():
        title = methods[name]["title"]
        if name in trained:
            parts = [_with_images(n, of[n]) for n in of]
            sentences.append(f"{title}: {'; '.join(parts)}.")
        elif of:
            sentences.append(f"{title}: without training, {_plus_minus(of[0])}.")
    return sentences + _refusals(methods)


def _accuracies(method: Mapping[str, Any]) -> dict[int, Mapping[str, Any]]:
    """Return number of training images → accuracy on held-out size-selected images."""
    return {
        point["images_per_class"]: point["groups"][SELECTED]["accuracy"]
        for point in method["points"]
        if SELECTED in point["groups"] and point["groups"][SELECTED]["accuracy"]["mean"] is not None
    }


def _advice(title: str, of: Mapping[int, Mapping[str, Any]]) -> str:
    """Say with how many images the best method is about as good as with all."""
    most = max(of)
    enough = min(n for n in of if of[n]["mean"] >= of[most]["mean"] - ENOUGH)
    reached = f"{_with_images(enough, of[enough])} of the clusters of other images are right"
    found = f"{reached[0].upper()}{reached[1:]} ({title}, the best with {most})"
    if enough < most:
        return f"{found}; up to {most} images per class add less than {ENOUGH}."
    return f"{found}; more images may add to it."


def _with_images(n: int, score: Mapping[str, Any]) -> str:
    return f"with {pluralise(n, 'image')} per class, {_plus_minus(score)}"


def _plus_minus(score: Mapping[str, Any]) -> str:
    scatter = "" if score["sd"] is None else f" ± {score['sd']:.2f}"
    return f"{score['mean']:.2f}{scatter}"


def _refusals(methods: Mapping[str, Any]) -> list[str]:
    """Say which numbers of images are not possible, and why."""
    return [
        f"{method['title']}: {pluralise(point['images_per_class'], 'image')} per class "
        f"{'is' if point['images_per_class'] == 1 else 'are'} not possible: "
        f"{point['not_possible']}."
        for method in methods.values()
        for point in method["points"]
        if point["not_possible"] and not point["repeats"]
    ]


# ---- table
def curve_table(result: Mapping[str, Any]) -> pd.DataFrame:
    """Return a row for each method, number of training images and group of images."""
    rows = []
    for name, method in result["methods"].items():
        for point in method["points"]:
            about = {"method": name, "title": method["title"]}
            about |= {k: point[k] for k in ("images_per_class", "repeats", "not_possible")}
            if not point["groups"]:
                rows.append(about)
            for group, scores in point["groups"].items():
                of_group = {"group": group, "clusters": scores["clusters"]}
                rows.append(about | of_group | score_columns(scores, (*SCORES, GAIN)))
    return pd.DataFrame(rows).dropna(axis=1, how="all")
