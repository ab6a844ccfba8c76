"""Content of ``validation.json`` and the tables of a validation, from its finished runs."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from scipy.stats import t as student_t

from .._version import __version__
from ..io.tables import write_table
from ..statistics.score_intervals import LEVEL, LabelPairs, score_differences
from .answers import ANSWER, INTERVAL, true_fractions
from .data import SELECTED, ValidationImage
from .jobs import Prepared
from .methods import ComparedMethod
from .runs import Run
from .scores import SCORES, References, score_run, summarise_runs

# ---- differences between two methods of a validation, from their answers for the same clusters

COMPARISONS = (
    ("raw-patch", "diameter"),
    ("dual-patch", "diameter"),
    ("dual-patch", "raw-patch"),
    ("dual-patch", "lcn-patch"),
    ("dual-patch-adapted", "dual-patch"),
    ("raw-session", "raw-patch"),
    ("dual-session", "dual-patch"),
    ("dual-session-combination", "mixture"),
    ("dual-session-combination", "dual-session"),
    ("dual-session-combination-adapted", "dual-session-combination"),
)
"""Method and what it is compared with; both must be in the same runs."""
DIFFERENCES = ("accuracy", "ratio_r2", "ratio_mean_absolute_error")
"""Scores that are compared; those of ratios for mixtures only."""


def compare_methods(
    answers: pd.DataFrame,  # columns of `answers.ANSWER`, ``fold`` and ``seed``, of all methods
    methods: Collection[str],
    groups: Collection[str],
    classes: Sequence[str],
) -> list[dict[str, Any]]:
    """Compare pairs of methods on each group of images, run by run."""
    rows = []
    for method, reference in COMPARISONS:
        if not {method, reference} <= set(methods):
            continue
        for group in groups:
            sides = [_runs(answers, name, group) for name in (method, reference)]
            common = [key for key in sides[0] if key in sides[1]]
            if not common:
                continue
            found = [_compare_run(sides[0][key], sides[1][key], classes) for key in common]
            names = DIFFERENCES[:1] if group == SELECTED else DIFFERENCES
            scores = {name: _summary([run[name] for run in found]) for name in names}
            about = {"method": method, "reference": reference, "group": group}
            rows.append({**about, "runs": len(common), **scores})
    return rows


def _runs(answers: pd.DataFrame, method: str, group: str) -> dict[Any, pd.DataFrame]:
    """Return part and seed → answers of a run."""
    own = answers[(answers["method"] == method) & (answers["group"] == group)]
    return dict(tuple(own.groupby(["fold", "seed"], sort=False)))


def _compare_run(
    first: pd.DataFrame, second: pd.DataFrame, classes: Sequence[str]
) -> dict[str, Any]:
    samples = list(dict.fromkeys(first["sample"]))
    return score_differences(
        LabelPairs(first, classes, samples), LabelPairs(second, classes, samples)
    )


def _summary(runs: Sequence[dict[str, float] | None]) -> dict[str, float | None]:
    known = [run for run in runs if run is not None]
    if not known:
        return dict.fromkeys(("mean", "sd", "low", "high"))
    values = pd.DataFrame(known)
    scatter = float(np.std(values["difference"], ddof=1)) if len(known) > 1 else None
    means = values.mean()
    return {
        "mean": float(means["difference"]),
        "sd": scatter,
        "low": float(means["low"]),
        "high": float(means["high"]),
    }


def summarise(prepared: Prepared, runs: Sequence[Run], left_out: Sequence[str]) -> dict[str, Any]:
    """Summarise the runs of all methods."""
    groups, classes = prepared.data.groups, prepared.data.classes
    answers, intervals = (join_runs(runs, key) for key in ("answers", "intervals"))
    methods, table = {}, []
    for method in prepared.methods:
        of_groups = {}
        for name, images in groups.items():
            own = answers[(answers["method"] == method.name) & (answers["group"] == name)]
            scored = score_runs(method, name, images, own, intervals, classes)
            if scored:
                of_groups[name] = {**summarise_runs(scored), "ratios": mean_ratios(scored)}
                table += scored
        methods[method.name] = {
            "title": method.title,
            "fit": method.fit,
            "adapted": method.adapted,
            "groups": of_groups,
        }
    return {
        **describe_data(prepared, left_out),
        "folds": prepared.request.folds,
        "methods": methods,
        "runs": [_short(run) for run in table],
        "differences": compare_methods(
            answers,
            methods,
            [name for name, images in groups.items() if all(i.has_truth for i in images)],
            classes,
        ),
        "adaptation": _adaptations(runs),
        "class_maps": [row for run in runs for row in run["class_maps"]],
        "seconds": _seconds(runs),
    }


def describe_data(prepared: Prepared, left_out: Sequence[str]) -> dict[str, Any]:
    """Return what a result says of program and images, and why something is left out."""
    classes = prepared.data.classes
    return {
        "program": "napari-atomicity",
        "version": __version__,
        "classes": list(classes),
        "seeds": sorted(prepared.folds),
        "groups": {
            name: _describe_group(images, classes) for name, images in prepared.data.groups.items()
        },
        "left_out": list(left_out),
    }


def _short(run: Run) -> dict[str, Any]:
    """Return the numbers of a run without matrices and intervals."""
    left_out = ("ratios", "confusion", "called")
    return {k: v for k, v in run.items() if k not in left_out and not k.endswith("_interval")}


def join_runs(runs: Sequence[Run], key: str) -> pd.DataFrame:
    """Join the "answers" or the "intervals" of all runs, with their part and seed."""
    parts = [
        pd.DataFrame(run[key]).assign(
            fold=-1 if run["fold"] is None else run["fold"], seed=run["seed"]
        )
        for run in runs
        if run[key]
    ]
    if not parts:
        columns = ANSWER if key == "answers" else INTERVAL
        return pd.DataFrame(columns=[*columns, "fold", "seed"])
    table = pd.concat(parts, ignore_index=True)
    numbers = ("confidence", "in_set", *INTERVAL[-3:])
    return table.assign(**{n: pd.to_numeric(table[n]) for n in numbers if n in table})


def score_runs(
    method: ComparedMethod,
    group: str,
    images: Sequence[ValidationImage],
    answers: pd.DataFrame,
    intervals: pd.DataFrame,
    classes: Sequence[str],
) -> list[dict[str, Any]]:
    """Score each run of a method on a group."""
    references: References | None = None
    if group != SELECTED and not all(image.has_truth for image in images):
        references = {
            sample: true_fractions([i for i in images if i.sample == sample], classes)
            for sample in dict.fromkeys(image.sample for image in images)
        }
    known = intervals[(intervals["method"] == method.name) & (intervals["group"] == group)]
    scored = []
    for fold, seed in answers[["fold", "seed"]].drop_duplicates().to_numpy(int).tolist():
        own = answers[(answers["fold"] == fold) & (answers["seed"] == seed)]
        with_intervals = known[(known["fold"] == fold) & (known["seed"] == seed)]
        found = score_run(own, with_intervals, classes, references, group != SELECTED)
        about = {"method": method.name, "group": group, "fold": fold, "seed": seed}
        scored.append({**about, **found})
    return scored


def mean_ratios(runs: Sequence[Run]) -> dict[str, dict[str, dict[str, float | None]]]:
    """Average the fractions of each sample over the runs, as `scores.score_run` returns them."""
    out: dict[str, dict[str, dict[str, float | None]]] = {}
    for sample in dict.fromkeys(name for run in runs for name in run["ratios"]):
        own = [run["ratios"][sample] for run in runs if sample in run["ratios"]]
        keys = [key for key in own[0] if all(key in of for of in own)]
        out[sample] = {
            key: {
                c: float(np.mean(values)) if (values := _finite(of[key][c] for of in own)) else None
                for c in own[0][key]
            }
            for key in keys
        }
    return out


def _finite(values: Any) -> list[float]:
    return [float(v) for v in values if v is not None and np.isfinite(v)]


def _describe_group(images: Sequence[ValidationImage], classes: Sequence[str]) -> dict[str, Any]:
    """Describe the images of a group."""
    labels = [t for i in images for t in i.truth[i.counts] if t]
    diameters = [i.detection.table["diameter_nm"].to_numpy(float)[i.counts] for i in images]
    truths = [i.truth[i.counts] for i in images]
    return {
        "images": len(images),
        "samples": len({image.sample for image in images}),
        "clusters": int(sum(image.counts.sum() for image in images)),
        "true_classes_known": all(image.has_truth for image in images),
        "true": true_fractions(images, classes) if labels else {},
        "missed": sum(len(image.missed) for image in images),
        "diameter_nm": _diameters(np.concatenate(diameters), np.concatenate(truths), classes),
    }


def _diameters(
    diameter: np.ndarray, truth: np.ndarray, classes: Sequence[str]
) -> dict[str, dict[str, float]]:
    """Return class → median and 5 to 95 % range of the diameters of its detected clusters."""
    own = {c: diameter[(truth == c) & np.isfinite(diameter)] for c in classes}
    ends = {c: np.percentile(values, [50, 5, 95]) for c, values in own.items() if len(values)}
    return {
        c: dict(zip(("median", "low", "high"), map(float, of), strict=True))
        for c, of in ends.items()
    }


def _adaptations(runs: Sequence[Run]) -> dict[str, Any]:
    """Summarise the adaptations of each fit."""
    out = {}
    for name in dict.fromkeys(run["fit"] for run in runs if run["adaptation"]):
        own = [run["adaptation"] for run in runs if run["fit"] == name]
        alone: list[dict[str, Any]] = next((a["images"] for a in own if "images" in a), [])
        out[name] = {
            "session": {
                "runs": len(own),
                "accepted": sum(a["session"]["accepted"] for a in own),
                "seconds": float(np.mean([a["session"]["seconds"] for a in own])),
                "seconds_max": max(a["session"]["seconds"] for a in own),
                # runs of earlier versions did not count them
                "pseudo_labels_known": sum(a["session"].get("pseudo_labels_known", 0) for a in own),
                "pseudo_labels_right": sum(a["session"].get("pseudo_labels_right", 0) for a in own),
            },
            "separation": _before_and_after([a["separation"] for a in own], "{}"),
            "images": alone,
            "images_change": {
                score: _before_and_after(alone, f"{score}_{{}}")["change"]
                for score in ("accuracy", "most_called_share")
            },
            "images_mean": {
                key: _mean_with_interval(row[key] for row in alone)["mean"]
                for key in ("accuracy_before", "accuracy_after", "most_called_share_before",
                            "most_called_share_after", "seconds")
            },
        }  # fmt: skip
    return out


def _before_and_after(
    rows: Sequence[Mapping[str, Any]], key: str
) -> dict[str, dict[str, float | None]]:
    """Summarise a value of rows before and after the adaptation, and its change row by row."""
    pairs = [tuple(row[key.format(side)] for side in ("before", "after")) for row in rows]
    known = [(before, after) for before, after in pairs if before is not None and after is not None]
    return {
        "before": _mean_with_interval(before for before, _ in known),
        "after": _mean_with_interval(after for _, after in known),
        "change": _mean_with_interval(after - before for before, after in known),
    }


def _mean_with_interval(values: Any) -> dict[str, float | None]:
    """Return mean, standard deviation and the ends of Student's 95 % interval of the mean."""
    known = _finite(values)
    mean = float(np.mean(known)) if known else None
    if mean is None or len(known) < 2:
        return {"mean": mean, "sd": None, "low": None, "high": None}
    sd = float(np.std(known, ddof=1))
    half = float(student_t.ppf((1 + LEVEL) / 2, len(known) - 1)) * sd / len(known) ** 0.5
    return {"mean": mean, "sd": sd, "low": mean - half, "high": mean + half}


def _seconds(runs: Sequence[Run]) -> dict[str, Any]:
    """Return the total time and the mean time of training of each fit."""
    fits = dict.fromkeys(run["fit"] for run in runs)
    return {
        "total": float(sum(sum(run["seconds"].values()) for run in runs)),
        "training": {
            fit: float(np.mean([r["seconds"]["training"] for r in runs if r["fit"] == fit]))
            for fit in fits
        },
    }


# ---- tables
def write_tables(out: Path, result: Mapping[str, Any], runs: Sequence[Run]) -> list[Path]:
    """Write the tables of a validation as CSV; remove earlier ones that would be empty."""
    chosen = list(result["methods"])
    clusters = join_runs(runs, "answers")
    tables = {
        "scores": score_table(result),
        "runs": pd.DataFrame(result["runs"]),
        "confusion": _confusion_table(result),
        "ratios": _ratio_table(result),
        "differences": _difference_table(result),
        "clusters": clusters[clusters["method"].isin(chosen)],
        "adaptation": _adaptation_table(result),
        "class_maps": pd.DataFrame(result["class_maps"]),
    }
    for name, table in tables.items():
        if not len(table):
            (out / f"{name}.csv").unlink(missing_ok=True)
    return [write_table(table, out / f"{name}.csv") for name, table in tables.items() if len(table)]


def score_table(result: Mapping[str, Any]) -> pd.DataFrame:
    """Return a row for each method and group, with mean, sd and interval of each score."""
    rows = []
    for name, method in result["methods"].items():
        for group, scores in method["groups"].items():
            row = {"method": name, "title": method["title"], "group": group}
            row |= {"runs": scores["runs"], "clusters": scores["clusters"]}
            rows.append(row | score_columns(scores, SCORES))
    return pd.DataFrame(rows).dropna(axis=1, how="all")


def score_columns(scores: Mapping[str, Any], names: Sequence[str]) -> dict[str, float | None]:
    """Return mean, sd and interval of each score as columns of a table."""
    return {
        name if key == "mean" else f"{name}_{key}": scores[name][key]
        for name in names
        for key in ("mean", "sd", "low", "high")
    }


def _confusion_table(result: Mapping[str, Any]) -> pd.DataFrame:
    classes = result["classes"]
    rows = [
        (name, group, true, predicted, scores["confusion"][i][j])
        for name, method in result["methods"].items()
        for group, scores in method["groups"].items()
        for i, true in enumerate(classes)
        for j, predicted in enumerate(classes)
    ]
    return pd.DataFrame(rows, columns=["method", "group", "true", "predicted", "clusters"])


def _difference_table(result: Mapping[str, Any]) -> pd.DataFrame:
    about = ("method", "reference", "group", "runs")
    rows = [
        {k: row[k] for k in about}
        | score_columns(row, [name for name in DIFFERENCES if name in row])
        for row in result["differences"]
    ]
    return pd.DataFrame(rows)


def _ratio_table(result: Mapping[str, Any]) -> pd.DataFrame:
    rows = [
        {
            "method": name,
            "group": group,
            "sample": sample,
            "class": label,
            "true": fraction,
            "fraction": of["predicted"][label],
            "fraction_low": of.get("predicted_low", {}).get(label),
            "fraction_high": of.get("predicted_high", {}).get(label),
        }
        for name, method in result["methods"].items()
        for group, scores in method["groups"].items()
        for sample, of in scores["ratios"].items()
        for label, fraction in of["true"].items()
    ]
    return pd.DataFrame(rows)


def _adaptation_table(result: Mapping[str, Any]) -> pd.DataFrame:
    rows = [
        {"fit": fit, **{k: v for k, v in row.items() if k not in ("reasons", "pseudo_labels")}}
        for fit, of in result["adaptation"].items()
        for row in of["images"]
    ]
    return pd.DataFrame(rows)
