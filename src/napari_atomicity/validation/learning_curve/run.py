"""Run of a learning curve: all jobs, resumable, and its files."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import cycle
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ...core.progress import Progress, Stop
from ...core.text import printable
from ...io.files import to_json, write_text
from ...io.tables import write_table
from ...reporting.charts import INK
from ...reporting.plots.base import Look, style_axes
from ...reporting.plots.registry import style
from ...reporting.template_data import get_template
from ..data import MIXED, SELECTED, ValidationImage
from ..figures import MIN_R2
from ..jobs import FitJob, Prepared
from ..report import write_charts
from ..request import CURVE_RESULT, REPORT, ValidationRequest, quick_note
from ..run import CrossValidation, fits_of
from ..runs import OnLine, Run
from ..scores import format_difference, format_number, score_and_interval
from .jobs import divide, plan_curve
from .summary import GAIN, curve_table, summarise_curve

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


# ---- figure and report of a learning curve

FIGURE = "learning-curve"
PANELS = (
    (SELECTED, "accuracy", "Accuracy, size-selected"),
    (SELECTED, "calibration_error", "Calibration error, size-selected"),
    (MIXED, "ratio_r2", "R² of the ratios, mixtures"),
    (MIXED, "ratio_mean_absolute_error", "Mean absolute error of the ratios"),
)
"""Group of images, score and label of each panel."""
COLOURS = ("#0072b2", "#e69f00", "#009e73", "#d55e00", "#cc79a7", "#56b4e9", INK)
"""Colours of the methods, of Okabe and Ito without yellow, which is hardly seen on white."""
_SPREAD = 0.06
"""Distance between the symbols of two methods, as a power of two."""


def curve_figure(result: Mapping[str, Any]) -> Figure:
    """Draw each score against the number of training images, a line for each method.

    A method that is not trained is a horizontal line. Bars and bands are 95 % intervals.
    """
    from matplotlib.figure import Figure

    panels = [panel for panel in PANELS if _is_known(result, *panel[:2])]
    colour = dict(zip(result["methods"], cycle(COLOURS), strict=False))
    n_rows = -(-len(panels) // 2)
    with style():
        figure = Figure((6.4, 0.7 + 2.5 * max(1, n_rows)), layout="constrained")
        grid = figure.subplots(max(1, n_rows), 2, squeeze=False).ravel()
        for axes, (group, score, label) in zip(grid, panels, strict=False):
            for i, (name, method) in enumerate(result["methods"].items()):
                shift = 2 ** (_SPREAD * (i - (len(result["methods"]) - 1) / 2))
                _draw_method(axes, method, group, score, colour[name], shift)
            _set_axes(axes, result, score, label)
        for axes in grid[len(panels) :]:
            axes.set_visible(False)
        handles = {
            label: handle
            for axes in grid[: len(panels)]
            for handle, label in zip(*axes.get_legend_handles_labels(), strict=True)
        }
        figure.legend(
            handles.values(), handles.keys(), loc="outside upper left", ncols=2, frameon=False
        )
    return figure


def _is_known(result: Mapping[str, Any], group: str, score: str) -> bool:
    return any(
        point["groups"].get(group, {}).get(score, {}).get("mean") is not None
        for method in result["methods"].values()
        for point in method["points"]
    )


def _draw_method(
    axes: Axes, method: Mapping[str, Any], group: str, score: str, colour: str, shift: float
) -> None:
    """Draw the points of a method with their intervals; ``shift`` separates those of methods."""
    label = printable(method["title"])
    points = [
        (point["images_per_class"], point["groups"][group][score])
        for point in method["points"]
        if group in point["groups"] and point["groups"][group][score]["mean"] is not None
    ]
    trained = [(n, of) for n, of in points if n > 0]
    for n, of in points:
        if n == 0:
            axes.axhline(of["mean"], color=colour, linestyle="--", linewidth=1.2, label=label)
            if of["low"] is not None:
                axes.axhspan(of["low"], of["high"], color=colour, alpha=0.15, linewidth=0)
    if trained:
        mean = np.array([of["mean"] for _, of in trained])
        ends = np.array(
            [
                [of["mean"] if of[end] is None else of[end] for _, of in trained]
                for end in ("low", "high")
            ]
        )
        axes.errorbar(
            [n * shift for n, _ in trained],
            mean,
            yerr=np.maximum([mean - ends[0], ends[1] - mean], 0.0),
            marker="o",
            markersize=3.5,
            color=colour,
            linewidth=1.2,
            elinewidth=0.8,
            label=label,
        )


def _set_axes(axes: Axes, result: Mapping[str, Any], score: str, label: str) -> None:
    numbers = result["images_per_class"]
    axes.set_xscale("log", base=2)
    axes.set_xticks(numbers, [str(n) for n in numbers])
    axes.set_xlim(numbers[0] / 1.4, 1.4 * numbers[-1])
    axes.set(xlabel="Training images per class")
    axes.set_title(label, loc="left", fontsize=8, color=INK)
    low, high = axes.get_ylim()
    if score in ("accuracy", "ratio_r2"):
        axes.set_ylim(max(low, MIN_R2 if score == "ratio_r2" else 0.0), min(high, 1.02))
    else:
        axes.set_ylim(0, high)
    style_axes(axes, Look(result["classes"]))
    axes.grid(alpha=0.3, linewidth=0.6)


# ---- report
def write_curve_report(
    out: Path, result: Mapping[str, Any], record: Mapping[str, Any]
) -> list[Path]:
    """Write ``run.html`` and the figure (PNG and SVG)."""
    title = "Scores by number of training images"
    caption = (
        "Dashed lines: models that are not trained on these images. Bars and bands: 95 % intervals."
    )
    files, charts = write_charts(out, [(FIGURE, curve_figure(result), title, caption)])
    html = get_template("learning_curve.html.j2").render(
        result=result,
        quick_note=quick_note(result),
        rows=list(curve_rows(result)),
        with_mixtures=MIXED in result["groups"],
        charts=charts,
        record=record,
        record_json=to_json(record),
    )
    return [write_text(out / REPORT, html), *files]


def curve_rows(result: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    """Return the texts of the table, a row for each method and number of training images."""
    for method in result["methods"].values():
        for point in method["points"]:
            selected, mixed = (point["groups"].get(name) for name in (SELECTED, MIXED))
            row = {
                "title": method["title"],
                "images": point["images_per_class"] or "none",
                "reason": None if point["groups"] else point["not_possible"],
            }
            if selected:
                row["accuracy"] = score_and_interval(selected["accuracy"])
                row["gain"] = format_difference(selected[GAIN])
                row["calibration"] = _error(selected["calibration_error"])
            if mixed:
                row["r2"] = score_and_interval(mixed["ratio_r2"])
                row["mae"] = _error(mixed["ratio_mean_absolute_error"])
            yield row


def _error(score: Mapping[str, float | None]) -> tuple[str, str]:
    """Format an error and its interval with three decimals."""
    mean, low, high = (format_number(score[key], 3) for key in ("mean", "low", "high"))
    return mean, "" if score["low"] is None else f"{low} to {high}"


CURVE_METHODS = (
    "diameter",
    "dual-patch",
    "dual-session-combination",
    "dual-trained-combination",
    "dual-shipped-combination",
)
"""Methods of a learning curve unless others are chosen."""


def measure_learning_curve(
    request: ValidationRequest,
    out: Path,
    *,
    overwrite: bool = False,
    progress: Progress | None = None,
    stop: Stop | None = None,
    on_line: OnLine | None = None,
) -> dict[str, Any]:
    """Train on few and many images of each class, and test on the same other images.

    Each run is stored when it is finished, so that the same call continues after an interruption.

    Parameters
    ----------
    request : ValidationRequest
        Data and settings.
    out : Path
        Folder of the results.
    overwrite : bool, optional
        Whether runs of other settings or data in this folder are discarded.
    progress, stop : callable, optional
        ``progress(done, total, message)`` and ``stop() -> bool``.
    on_line : callable, optional
        Called with a line of text after each run.

    Returns
    -------
    dict of str to Any
        Content of ``learning_curve.json``.

    Raises
    ------
    ExistingResultsError
        If the folder has runs of other settings or data.
    AtomicityError
        If the data are not sufficient, or a file does not exist or can't be read or written.
    Cancelled
        If ``stop()`` is true; finished runs are kept.
    """
    request = replace(request, shifted=None, methods=request.methods or CURVE_METHODS)
    return LearningCurve(request).run(out, overwrite, progress, stop, on_line)


class LearningCurve(CrossValidation):
    """Training on few and many images of each class."""

    result_file = CURVE_RESULT
    not_of_runs = ("folds", "seeds", "repeats", "seed")  # the seed is in the name of a run

    def _divide(
        self, images: Sequence[ValidationImage], given: Mapping[str, int]
    ) -> tuple[dict[int, np.ndarray], Sequence[str]]:
        """Return seed → place of each image, and why numbers of images are left out."""
        seeds = [self.request.seed + k for k in range(self.request.repeats)]
        self.division = divide(images, self.request.images_per_class, seeds, given)
        return self.division.places, self.division.left_out

    def _plan(self, prepared: Prepared) -> Sequence[FitJob]:
        """List the runs of all fits, numbers of images and repeats."""
        return plan_curve(fits_of(prepared.methods), self.division)

    def _summarise(
        self, prepared: Prepared, runs: Sequence[Run], left_out: Sequence[str]
    ) -> dict[str, Any]:
        """Return the content of ``learning_curve.json``."""
        return summarise_curve(prepared, self.division, runs, left_out)

    def _write_tables(self, out: Path, result: dict[str, Any], runs: Sequence[Run]) -> list[Path]:
        """Write ``learning_curve.csv``."""
        return [write_table(curve_table(result), (out / CURVE_RESULT).with_suffix(".csv"))]

    def _write_report(
        self, out: Path, result: dict[str, Any], runs: Sequence[Run], record: dict[str, Any]
    ) -> None:
        """Write the report with its figure."""
        write_curve_report(out, result, record)
