"""The report of a validation: one HTML file and its figures."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd

from ..io.files import to_json, write_text
from ..reporting.charts import as_image, write_figure
from ..reporting.template_data import get_template
from .data import MIXED, SELECTED, SHIFTED
from .figures import (
    called_figure,
    confusion_figure,
    map_figure,
    parity_figure,
    reliability_figure,
    score_figure,
)
from .methods import FITS
from .request import FIGURES, REPORT, quick_note
from .scores import format_difference, format_number, score_and_interval
from .summary import DIFFERENCES, join_runs

if TYPE_CHECKING:
    from matplotlib.figure import Figure

Chart = tuple[str, "Figure | None", str, str]
"""Name of the file, figure, title, caption."""
_TITLES = {SELECTED: "size-selected images", MIXED: "mixtures", SHIFTED: "shifted images"}
_BARS = "Bars: 95 % bootstrap intervals by image, means over the runs."


def write_validation_report(
    out: Path,
    result: Mapping[str, Any],  # content of ``validation.json``
    runs: Sequence[Mapping[str, Any]],
    record: Mapping[str, Any],  # content of ``run.json``
) -> list[Path]:
    """Write ``report.html`` and ``figures/`` (PNG and SVG).

    Raises `AtomicityError` if a file cannot be written.
    """
    files, charts = write_charts(out, _charts(result, runs))
    charts += _class_map_charts(out / FIGURES, result)
    html = get_template("validation.html.j2").render(
        result=result,
        quick_note=quick_note(result),
        groups=[name for name in _TITLES if name in result["groups"]],
        tables={
            title: {"ratios": group != SELECTED, "rows": rows}
            for group, title in _TITLES.items()
            if (rows := list(_rows(result, group)))
        },
        differences=[_difference_row(result, row) for row in result["differences"]],
        adaptations=[_adaptation_row(name, of) for name, of in result["adaptation"].items()],
        class_maps=[_class_map_row(row) for row in result["class_maps"]],
        charts=charts,
        record=record,
        record_json=to_json(record),
    )
    return [write_text(out / REPORT, html), *files]


# ---- figures
def write_charts(out: Path, charts: Iterable[Chart]) -> tuple[list[Path], list[dict[str, Any]]]:
    """Write the figures that exist; return their files, and what the page shows of them."""
    files, shown = [], []
    for name, figure, title, caption in charts:
        if figure is not None:
            files += write_figure(figure, out / FIGURES / name)
            image = as_image(files[-1], "chart", title)
            shown.append({"title": title, "image": image, "caption": caption})
    return files, shown


def _charts(result: Mapping[str, Any], runs: Sequence[Mapping[str, Any]]) -> Iterator[Chart]:
    yield (
        "accuracy",
        score_figure(result, "accuracy", "Accuracy"),
        "Accuracy",
        f"Fraction of the clusters of known class whose most probable class is right. {_BARS}",
    )
    yield (
        "ratio-r2",
        score_figure(result, "ratio_r2", "R² of the class ratios"),
        "R² of the class ratios",
        f"Over samples and classes. {_BARS} Arrows: below the axis.",
    )
    yield (
        "ratio-mae",
        score_figure(result, "ratio_mean_absolute_error", "Mean absolute error of fractions"),
        "Mean absolute error of the class ratios",
        _BARS,
    )
    for group in result["groups"]:
        where = _TITLES[group]
        yield (
            f"confusion-{group}",
            confusion_figure(result, group),
            f"Confusion, {where}",
            "In per cent of the true class, all runs together.",
        )
        if group != SELECTED:
            yield (
                f"parity-{group}",
                parity_figure(result, group),
                f"Class ratios, {where}",
                "A symbol per sample and class: means over the runs of the fractions and of their "
                "95 % bootstrap intervals by image.",
            )
            yield (
                f"called-{group}",
                called_figure(result, group),
                f"Called classes, {where}",
                "A method that collapses calls one class for most clusters. Gaps to 100 % are "
                "clusters of other labels.",
            )
            yield (
                f"reliability-{group}",
                reliability_figure(_answers_by_title(result, runs, group)),
                f"Calibration, {where}",
                "Accuracy against confidence, all runs together; bars are 95 % intervals that "
                "include counting only. Calibrated methods are on the diagonal.",
            )
    yield from _map_charts(result, runs)


def _answers_by_title(
    result: Mapping[str, Any], runs: Sequence[Mapping[str, Any]], group: str
) -> dict[str, pd.DataFrame]:
    answers = join_runs(runs, "answers")
    known = answers[(answers["group"] == group) & answers["true"].isin(result["classes"])]
    return {
        method["title"]: known[known["method"] == name]
        for name, method in result["methods"].items()
    }


def _map_charts(result: Mapping[str, Any], runs: Sequence[Mapping[str, Any]]) -> Iterator[Chart]:
    for run in runs:
        sides = (run["adaptation"] or {}).get("map")
        if not sides:
            continue
        tables = {side: pd.DataFrame(of).infer_objects() for side, of in sides.items()}
        scores = run["adaptation"]["separation"]
        titles = {
            f"{side.capitalize()}, silhouette {format_number(scores[side])}": table
            for side, table in tables.items()
        }
        yield (
            f"map-{run['fit']}",
            map_figure(titles, result["classes"]),
            f"Map of the embedding: {_fit_title(run['fit'])}",
            "Clusters of the shifted images, coloured by true class, before and after the "
            "adaptation. The silhouette is that of the true classes in the embedding.",
        )


def _class_map_charts(folder: Path, result: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return the figures of the class maps that the runs have written."""
    charts = []
    for fit in dict.fromkeys(row["fit"] for row in result["class_maps"]):
        path = folder / f"class-maps-{fit}.svg"
        title = f"Class maps: {_fit_title(fit)}"
        if path.is_file():
            caption = (
                "Means over the size-selected images and mixtures, by label, in units of the "
                "radius (dashed: outline). Both class maps of a class have the same colours, from "
                "0 (black). Numbers: centre against outline, from -1 (outline) to 1 (centre)."
            )
            image = as_image(path, "chart", title)
            charts.append({"title": title, "image": image, "caption": caption})
    return charts


# ---- tables
def _rows(result: Mapping[str, Any], group: str) -> Iterator[dict[str, Any]]:
    for method in result["methods"].values():
        scores = method["groups"].get(group)
        if scores is not None:
            yield {
                "title": method["title"],
                "clusters": scores["clusters"],
                "accuracy": score_and_interval(scores["accuracy"]),
                "r2": score_and_interval(scores["ratio_r2"]),
                "mae": score_and_interval(scores["ratio_mean_absolute_error"]),
                "calibration": format_number(scores["calibration_error"]["mean"], 3),
                "sets": format_number(scores["set_coverage"]["mean"]),
                "intervals": format_number(scores["interval_coverage"]["mean"]),
                "most": format_number(scores["most_called_share"]["mean"]),
            }


def _difference_row(result: Mapping[str, Any], row: Mapping[str, Any]) -> dict[str, str]:
    method, reference = (
        result["methods"][row[key]]["title"].removeprefix("Network ")
        for key in ("method", "reference")
    )
    scores = {name: format_difference(row.get(name)) for name in DIFFERENCES}
    return {"method": method, "reference": reference, "group": _TITLES[row["group"]], **scores}


def _adaptation_row(name: str, of: Mapping[str, Any]) -> dict[str, str]:
    mean = of["images_mean"]
    silhouettes = [of["separation"][side]["mean"] for side in ("before", "after")]
    return {
        "title": _fit_title(name),
        "accepted": f"{of['session']['accepted']} of {of['session']['runs']}",
        "seconds": _seconds(of["session"]["seconds"]),
        "labels": f"{of['session']['pseudo_labels_right']} of "
        f"{of['session']['pseudo_labels_known']}",
        "silhouette": _change(*silhouettes),
        "alone": f"{sum(row['accepted'] for row in of['images'])} of {len(of['images'])}",
        "accuracy": _change(mean["accuracy_before"], mean["accuracy_after"]),
        "most": _change(mean["most_called_share_before"], mean["most_called_share_after"]),
        "alone_seconds": _seconds(mean["seconds"]),
    }


def _seconds(seconds: float | None) -> str:
    return "–" if seconds is None else f"{seconds:.1f}"


def _change(before: float | None, after: float | None) -> str:
    return f"{format_number(before)} → {format_number(after)}"


def _class_map_row(row: Mapping[str, Any]) -> dict[str, Any]:
    value, low, high = (row[k] for k in ("centre_against_outline", "low", "high"))
    known = value is not None and math.isfinite(value)
    return {
        "title": _fit_title(row["fit"]),
        "class": row["class"],
        "channel": row["channel"],
        "clusters": row["clusters"],
        "balance": f"{format_number(value)} ({format_number(low)} to {format_number(high)})"
        if known
        else "–",
    }


def _fit_title(name: str) -> str:
    return FITS[name].title if name in FITS else name
