"""Templates of the reports, and what they need: rows of tables, charts, and captions."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from functools import cache, partial
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from jinja2 import Environment, PackageLoader, StrictUndefined

from ..core.palette import colours
from ..core.tables.cluster_table import NON_CLASS_LABELS
from ..core.text import sentence
from ..statistics.ratios.reference import Comparison
from ..statistics.samples.comparison import SampleComparison
from ..statistics.samples.planning import plans_of_samples
from ..statistics.samples.sentences import comparison_notes, comparison_sentences
from ..statistics.stratified_accuracy import OnCorrected
from .charts import as_image, draw_chart
from .examples import SURE, ClusterExample
from .figures import format_diameter, glyph, interval_bar
from .plots.base import Look
from .plots.comparison import classes_of_comparison, comparison_figure, comparison_figures
from .plots.registry import PLOTS, style
from .plots.session import SessionSummary, describe_session, draw_class_fit, draw_session_scale

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def all_classes(classes: Sequence[str], more: Iterable[str]) -> list[str]:
    """Return the classes in order, followed by others that occur."""
    return [*dict.fromkeys([*classes, *more])]


def ratio_rows(ratios: pd.DataFrame) -> list[dict[str, Any]]:
    """Return the rows of a table of class ratios with their bars."""
    classes = list(ratios["class"])
    colour = colours(classes)
    return [
        {
            "class": row["class"],
            "glyph": glyph(row["class"], classes),
            "count": row["count"],
            "fraction": row["fraction"],
            "low": row["fraction_low"],
            "high": row["fraction_high"],
            "known": bool(np.isfinite(row["fraction"])),
            "bar": interval_bar(
                row["fraction"], row["fraction_low"], row["fraction_high"], colour[row["class"]]
            ),
        }
        for row in ratios.to_dict("records")
    ]


def reference_rows(comparison: Comparison, classes: Sequence[str]) -> list[dict[str, Any]]:
    """Return the rows of the comparison with reference ratios, grouped by scope."""
    found = {"covered": comparison.covered, "has_interval": comparison.has_interval}
    pairs = comparison.pairs.assign(**found)
    known = all_classes(classes, pairs["class"])
    colour = colours(known)
    rows: list[Any] = pairs.to_dict("records")
    return [
        {
            **row,
            "glyph": glyph(row["class"], known),
            "bar": interval_bar(
                row["fraction"],
                row["fraction_low"],
                row["fraction_high"],
                colour[row["class"]],
                reference=row["reference"],
            ),
        }
        for row in rows
    ]


def chart_entries(
    names: Sequence[str],
    table: pd.DataFrame,
    classes: Sequence[str],
    size_inch: tuple[float, float],  # width and height of each chart
    **context: Any,
) -> list[dict[str, Any]]:
    """Draw plots of the cluster table for the report."""
    entries = []
    for name in names:
        figure = draw_chart(name, table, classes, size_inch, **context)
        if figure is not None:
            plot = PLOTS[name]
            image = as_image(figure, "chart", f"{plot.title}. {plot.explanation}")
            entries.append({"title": plot.title, "caption": plot.explanation, "image": image})
    return entries


def session_entries(sessions: Sequence[SessionSummary]) -> list[dict[str, Any]]:
    """Draw scale and sizes of sessions for the report, as `chart_entries` does."""
    from matplotlib.figure import Figure

    entries = []
    for session in sessions:
        caption = describe_session(session)
        drawn: list[Callable[[Figure, Look], None]]
        drawn = [partial(draw_session_scale, summary=session)]
        if session.class_fit is not None and session.has_histogram:
            drawn += [partial(draw_class_fit, fit=session.class_fit, sizes=session.sizes)]
        for draw, title in zip(drawn, ("intensity of one atom", "numbers of atoms"), strict=False):
            is_scale = title == "intensity of one atom"
            figure, look = Figure(figsize=(5.4, 4.4 if is_scale else 3.2)), Look()
            with style(look):
                draw(figure, look)
            text = caption if is_scale else ""
            image = as_image(figure, "chart", text or title)
            entries.append({"title": f"{session.name}: {title}", "caption": text, "image": image})
    return entries


def sample_context(
    comparison: SampleComparison | None, classes: Sequence[str] = ()
) -> dict[str, Any] | None:
    """Return figures, sentences and rows of compared samples; None without a comparison."""
    if comparison is None:
        return None
    look = Look(classes_of_comparison(comparison, classes), font_pt=9)
    charts = [
        as_image(comparison_figure(comparison, name, look, 24), "chart", f"Samples: {name}")
        for name in comparison_figures(comparison)
    ]
    return {
        "reference": comparison.reference,
        "images": {s.name: len(s.images) for s in comparison.samples},
        "charts": charts,
        "sentences": comparison_sentences(comparison),
        "notes": comparison_notes(comparison),
        "plans": plans_of_samples(comparison),
    }


def confusion_rows(corrected: OnCorrected, classes: Sequence[str]) -> list[dict[str, Any]]:
    """Return the rows of the confusion matrix; cells are shaded by their fraction of the row."""
    shares = corrected.shares()
    rows = []
    for label in corrected.confusion.index:
        cells = []
        for predicted in corrected.confusion.columns:
            share = float(shares.loc[label, predicted])
            shade = [round(255 + share * (end - 255)) for end in (0, 114, 178)]
            cells.append(
                {
                    "count": int(corrected.confusion.loc[label, predicted]),
                    "share": share,
                    "shade": ", ".join(map(str, shade)),
                    "ink": "#fff" if share > 0.55 else "#1d2433",
                }
            )
        rows.append({"label": label, "glyph": glyph(label, classes), "cells": cells})
    return rows


def table_cells(frame: pd.DataFrame) -> dict[str, Any]:
    """Return a small table as text, with two decimals for numbers."""

    def cell(value: Any) -> dict[str, Any]:
        if isinstance(value, (float, np.floating)):
            return {"number": True, "text": f"{value:.2f}" if np.isfinite(value) else "–"}
        number = isinstance(value, (int, np.integer)) and not isinstance(value, bool)
        return {"number": number, "text": str(value)}

    return {
        "columns": [str(name) for name in frame.columns],
        "rows": [[cell(value) for value in row] for row in frame.itertuples(index=False)],
    }


def example_groups(
    examples: Sequence[ClusterExample], classes: Sequence[str]
) -> list[dict[str, Any]]:
    """Group examples by label and kind, in the order of the classes."""
    groups: dict[tuple[str, str], list[ClusterExample]] = {}
    for label in dict.fromkeys([*classes, *(example.label for example in examples)]):
        for example in examples:
            if example.label == label:
                groups.setdefault((label, example.kind), []).append(example)
    return [
        {
            "label": label,
            "glyph": glyph(label, classes),
            "kind": _describe_kind(label, kind),
            "examples": members,
        }
        for (label, kind), members in groups.items()
    ]


def _describe_kind(label: str, kind: str) -> str:
    if label in NON_CLASS_LABELS:
        return "far from the training data"
    return "typical" if kind == SURE else "doubtful"


def format_two_digits(value: float | None) -> str:
    """Return a number with two decimals, a dash if it is unknown."""
    return "–" if value is None or math.isnan(value) else f"{value:.2f}"


@cache
def _environment() -> Environment:
    environment = Environment(
        loader=PackageLoader("napari_atomicity.reporting", "templates"),
        autoescape=True,
        auto_reload=False,  # the templates do not change while the program runs
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["diameter"] = format_diameter
    environment.filters["sentence"] = sentence
    environment.filters["two_digits"] = format_two_digits
    return environment


def get_template(name: str) -> Any:
    """Return a template of this package by its file name."""
    return _environment().get_template(name)
