"""Charts for the report and for files: plots of `plots`, class ratios and corrections.

A chart is a matplotlib figure. `as_image` embeds it into the report, `write_figure` writes it to
files.
"""

from __future__ import annotations

import base64
import io
import re
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from markupsafe import Markup

from ..core.palette import UNKNOWN_COLOUR, colours
from ..core.text import printable
from ..io.figures import BACKEND, lay_out
from ..io.files import RESULT, atomic_write
from .plots.base import Look, style_axes
from .plots.ratios import PARITY
from .plots.registry import PLOTS, plot_figure, style

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

INK = "#1d2433"
_COMPRESS_LEVEL = 1  # of PNG: files are 7 % larger than with 6 and take half the time
_NOT_XML = re.compile(rb"[\x00-\x08\x0b\x0c\x0e-\x1f]")


def draw_chart(
    name: str,
    table: pd.DataFrame,
    classes: Sequence[str],
    size_inch: tuple[float, float] = (6.4, 3.8),  # width and height
    **context: Any,
) -> Figure | None:
    """Draw a plot of `plots.PLOTS`."""
    data = PLOTS[name].data(table, classes=classes, **context)
    if not len(data):
        return None
    return plot_figure(PLOTS[name], data, Look(classes), size_inch)


def ratio_chart(ratios: pd.DataFrame, classes: Sequence[str]) -> Figure | None:
    """Plot the fractions of one scope with their intervals; None without counted clusters."""
    from matplotlib.figure import Figure

    n = int(ratios["fraction"].notna().sum())
    if not n:
        return None
    with style():
        figure = Figure(figsize=(1.6 + 0.75 * n, 3.2), layout="constrained")
        draw_ratio_bars(figure.subplots(), ratios, classes)
    return figure


def draw_ratio_bars(axes: Axes, ratios: pd.DataFrame, classes: Sequence[str]) -> None:
    """Draw a bar per class with the interval of its fraction."""
    rows, colour = ratios[ratios["fraction"].notna()], colours(classes)
    found = 100 * rows["fraction"]
    axes.bar(
        np.arange(len(rows)),
        found,
        color=[colour.get(name, UNKNOWN_COLOUR) for name in rows["class"]],
        yerr=[found - 100 * rows["fraction_low"], 100 * rows["fraction_high"] - found],
        error_kw={"ecolor": INK, "elinewidth": 1, "capsize": 3},
    )
    axes.set_xticks(np.arange(len(rows)), [printable(name) for name in rows["class"]])
    axes.set(ylabel="Fraction / %", ylim=(0, None))
    style_axes(axes, Look(classes))


def confusion_chart(confusion: pd.DataFrame, rows: str = "Label by a person") -> Figure | None:
    """Plot a confusion matrix, whose cells are shaded by their fraction of the row."""
    from matplotlib.figure import Figure

    if not confusion.size:
        return None
    shape = confusion.shape
    with style():
        size = (1.8 + 0.65 * shape[1], 1.4 + 0.45 * shape[0])
        figure = Figure(figsize=size, layout="constrained")
        draw_confusion(figure.subplots(), confusion, rows)
    return figure


def draw_confusion(
    axes: Axes, confusion: pd.DataFrame, rows: str, in_per_cent: bool = False
) -> None:
    """Draw a confusion matrix, whose cells are shaded by their fraction of the row."""
    counts = confusion.to_numpy(int)
    share = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    axes.imshow(share, cmap="Blues", vmin=0, vmax=1, aspect="auto")
    for (i, j), n in np.ndenumerate(counts):
        ink = "white" if share[i, j] > 0.6 else INK
        text = f"{100 * share[i, j]:.0f}" if in_per_cent else f"{n}"
        axes.text(j, i, text, ha="center", va="center", color=ink)
    names = [[printable(x) for x in axis] for axis in (confusion.columns, confusion.index)]
    axes.set_xticks(range(counts.shape[1]), names[0])
    axes.set_yticks(range(counts.shape[0]), names[1])
    axes.set(xlabel="Predicted label", ylabel=rows)
    axes.spines[:].set_visible(False)
    axes.tick_params(length=0)


def parity_chart(pairs: pd.DataFrame, classes: Sequence[str]) -> Figure | None:
    """Plot measured against reference fractions (`plot_parity`); None without pairs."""
    if not len(pairs):
        return None
    return plot_figure(PARITY, pairs, Look(classes), (4.9, 4.0))


def as_image(figure: Figure | Path | None, css_class: str, alt_text: str) -> Markup:
    """Embed a chart into HTML as SVG."""
    if figure is None:
        return Markup("")
    if isinstance(figure, Path):
        svg = figure.read_bytes()
    else:
        stream = io.BytesIO()
        _save(figure, stream, "svg")
        svg = stream.getvalue()
    # Names may contain characters that are not valid in XML, which would make the image invalid.
    whole = _NOT_XML.sub(b"?", svg)
    return Markup('<img class="{}" alt="{}" src="data:image/svg+xml;base64,{}">').format(
        css_class, alt_text, base64.b64encode(whole).decode()
    )


def write_figure(figure: Figure, path: Path) -> list[Path]:
    """Write a chart as PNG and SVG atomically."""
    paths = [path.with_name(f"{path.name}.{kind}") for kind in ("png", "svg")]
    for to in paths:
        with atomic_write(to) as temporary:
            _save(figure, temporary, to.suffix[1:])
    return paths


def _save(figure: Figure, to: Any, kind: str) -> None:
    # Without the date, the same data give the same SVG file.
    options: dict[str, Any] = (
        {"metadata": {"Date": None}, "transparent": True, "backend": BACKEND}
        if kind == "svg"
        else {
            "metadata": {"Software": RESULT},
            "pil_kwargs": {"compress_level": _COMPRESS_LEVEL},
        }
    )
    with style():
        lay_out(figure)
        figure.savefig(to, format=kind, dpi=200, **options)
