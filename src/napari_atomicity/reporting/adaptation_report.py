"""The report of an adaptation: one HTML file and its figures, before and after."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd

from ..core.tables.cluster_table import concatenate
from ..io.files import to_json, write_text
from ..models.analysis import Analysis, limits_of
from .charts import as_image, write_figure
from .plots.base import Look, Plot
from .plots.registry import PLOTS, style
from .template_data import get_template

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

SHOWN = ("ratios", "confidence", "embedding")
"""Names of the plots, which are also those of their files."""
MAX_IMAGES = 40
"""Number of images in the plot of the ratios; the tables have all."""
_SIDE_INCH = 5.2
_HEIGHT_INCH = 4.2


@dataclass(frozen=True, eq=False)
class AdaptationContent:
    """What the report shows."""

    verdict: str  # whether the model was changed, and why
    accepted: bool  # whether it was changed
    # sentences about conditions, pseudo-labels and confidence; empty ones are left out
    facts: Sequence[str]
    warning: str  # warning of classes without pseudo-labels, or ""
    checks: Sequence[tuple[str, str, str]]  # name, before and after of each criterion
    classes: Sequence[str]  # classes in order
    # before, after: images as classified by the model before and after; no images after if it was
    # not changed
    before: Sequence[Analysis]
    after: Sequence[Analysis]


def write_adaptation_report(
    path: Path,
    content: AdaptationContent,
    charts: Mapping[str, Path],  # from `write_charts`
    record: Mapping[str, Any],
) -> Path:
    """Write the report; raise `AtomicityError` if it cannot be written."""
    shown = [
        {
            "title": PLOTS[name].title,
            "image": as_image(file, "chart", f"{PLOTS[name].title}, before and after"),
            "caption": PLOTS[name].explanation,
        }
        for name, file in charts.items()
    ]
    html = get_template("adaptation.html.j2").render(
        content=content,
        facts=[text for text in content.facts if text],
        charts=shown,
        record=record,
        record_json=to_json(record),
        failed=[image for image in record["images"] if image["status"] == "failed"],
        more_images=max(0, len(content.before) - MAX_IMAGES),
    )
    return write_text(path, html)


def write_charts(folder: Path, content: AdaptationContent) -> dict[str, list[Path]]:
    """Write each plot that has data as PNG and SVG; return the files by the name of the plot."""
    figures = {name: compare_sides(PLOTS[name], content) for name in SHOWN}
    return {
        name: write_figure(figure, folder / name)
        for name, figure in figures.items()
        if figure is not None
    }


def compare_sides(plot: Plot, content: AdaptationContent) -> Figure | None:
    """Draw a plot before and after the adaptation, with common limits; None without data."""
    from matplotlib.figure import Figure

    sides = {"Before": content.before, "After": content.after}
    data = {name: _data(plot, side, content.classes) for name, side in sides.items() if side}
    data = {name: rows for name, rows in data.items() if len(rows)}
    if not data:
        return None
    look = Look(content.classes)
    with style():
        figure = Figure((_SIDE_INCH * len(data), _HEIGHT_INCH), layout="constrained")
        panels = figure.subplots(1, len(data), squeeze=False, sharex=True, sharey=True)[0]
        ends = []
        for axes, (name, rows) in zip(panels, data.items(), strict=True):
            plot.draw(axes, rows, look)
            title = ". ".join(filter(None, (name, axes.get_title(loc="left"))))
            axes.set_title(title, loc="left", fontsize=look.font_pt)
            ends.append((*axes.get_xlim(), *axes.get_ylim()))
        low, high = zip(*[((e[0], e[2]), (e[1], e[3])) for e in ends], strict=True)
        for axes in panels:
            axes.set_xlim(min(x for x, _ in low), max(x for x, _ in high))
            axes.set_ylim(min(y for _, y in low), max(y for _, y in high))
        for axes in panels[:-1]:
            if axes.get_legend() is not None and _legend(axes) <= _legend(panels[-1]):
                axes.get_legend().remove()
    return figure


def _legend(axes: Axes) -> set[str]:
    """Return the entries of a legend."""
    legend = axes.get_legend()
    return set() if legend is None else {text.get_text() for text in legend.get_texts()}


def _data(plot: Plot, analyses: Sequence[Analysis], classes: Sequence[str]) -> pd.DataFrame:
    shown = analyses[:MAX_IMAGES] if plot is PLOTS["ratios"] else analyses
    names = [a.micrograph.name for a in shown]
    table = concatenate([a.table for a in shown])
    return plot.data(table, classes=classes, images=names, limits=limits_of(shown))
