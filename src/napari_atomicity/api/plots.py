"""Plots of analysed clusters by name, and analyses as HTML, for notebooks."""

from __future__ import annotations

import base64
import io
from collections.abc import Callable, Sequence
from functools import partial
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd
from markupsafe import Markup, escape

from ..core.errors import AtomicityError
from ..core.tables.cluster_table import classes_of, concatenate
from ..core.text import pluralise
from ..io.provenance import Outcome
from ..models.analysis import Analysis
from ..reporting.figures import draw_image
from ..reporting.plots.registry import style

if TYPE_CHECKING:
    from matplotlib.axes import Axes


def new_axes(size_inch: tuple[float, float]) -> Axes:
    """Return the axes of a new figure of pyplot."""
    import matplotlib.pyplot as plt

    return plt.subplots(figsize=size_inch, layout="constrained")[1]


class AnalysisPlots:
    """Plots of analysed clusters: ``analysis.plot()`` draws the image, others have names.

    ``plot.diameter()``, ``plot.intensity()``, ``plot.confidence()``, ``plot.reliability()``,
    ``plot.ratios()`` and ``plot.embedding()`` draw into ``axes``, by default a new figure, and
    return the axes; so does ``plot.class_maps()``. ``plot.save(folder)`` writes all of them for a
    publication.
    """

    def __init__(self, draw_image: Callable[..., Any], analyses: Sequence[Analysis]) -> None:
        self._draw_image, self._analyses = draw_image, analyses

    def __call__(self, *args: Any, **options: Any) -> Any:
        """Plot the image, or the first images, with outlines and labels."""
        return self._draw_image(*args, **options)

    def __getattr__(self, name: str) -> Callable[..., Axes]:
        """Return the function that draws a plot."""
        from ..reporting.plots.registry import PLOTS

        if name not in PLOTS:
            raise AttributeError(f"there is no plot {name!r}: the plots are {', '.join(PLOTS)}")
        return partial(self._draw, name)

    def __dir__(self) -> list[str]:
        from ..reporting.plots.registry import PLOTS

        return [*super().__dir__(), *PLOTS]

    def _draw(self, name: str, axes: Axes | None = None) -> Axes:
        from ..reporting.plots.base import Look
        from ..reporting.plots.publication import plot_data
        from ..reporting.plots.registry import PLOTS

        table, classes, parameters = self._contents()
        data = plot_data(name, table, classes, parameters)
        axes = axes or new_axes((7.0, 4.0))
        PLOTS[name].draw(axes, data, Look(classes))
        return axes

    def class_maps(self, axes: Axes | None = None) -> Axes:
        """Plot the most certain cluster of each label, as the network sees it, with its class maps.

        Parameters
        ----------
        axes : matplotlib.axes.Axes, optional
            By default those of a new figure.

        Returns
        -------
        matplotlib.axes.Axes
        """
        from ..reporting.examples import draw_class_maps, typical_clusters
        from ..reporting.plots.base import Look

        classes = self._contents()[1]
        axes = axes or new_axes((7.0, 6.0))
        draw_class_maps(axes, typical_clusters(self._analyses, classes), Look(classes))
        return axes

    def save(self, folder: str | PathLike[str]) -> list[Path]:
        """Write images and plots as PNG, SVG and PDF, 8.5 and 17.5 cm wide, with their numbers.

        Parameters
        ----------
        folder : path-like
            Where the files are written.

        Returns
        -------
        list of pathlib.Path
            The files.

        Raises
        ------
        AtomicityError
            If a file cannot be written.
        """
        from ..reporting.examples import write_class_maps
        from ..reporting.figures import write_images
        from ..reporting.plots.publication import write_plots

        table, classes, parameters = self._contents()
        return [
            *write_images(self._analyses, Path(folder)),
            *write_class_maps(self._analyses, classes, Path(folder)),
            *write_plots(table, classes, Path(folder), parameters),
        ]

    def _contents(self) -> tuple[pd.DataFrame, tuple[str, ...], dict[str, dict[str, Any]]]:
        """Return the clusters, the classes, and the parameters of each image."""
        table = concatenate([analysis.table for analysis in self._analyses])
        parameters = {a.micrograph.name: a.parameters for a in self._analyses}
        return table, tuple(classes_of(table)), parameters


MAX_PX = 700
"""Edge length to which images are reduced."""
_COLUMNS = {
    "class": "class",
    "count": "count",
    "fraction": "fraction / %",
    "fraction_low": "from",
    "fraction_high": "to",
}


def html_of_image(analysis: Analysis) -> str:
    """Return the image with its clusters, their number, and the class ratios as HTML."""
    name = analysis.micrograph.name
    ratios = analysis.ratios(scope=name)
    html = Markup("<div><h4>{}: {}</h4>{}{}</div>").format(
        name, pluralise(len(analysis.table), "cluster"), _picture(analysis), _ratio_table(ratios)
    )
    return str(html)


def html_of_images(outcomes: Sequence[Outcome], ratios: pd.DataFrame) -> str:
    """Return a table of the images and the class ratios of all of them as HTML."""
    rows = pd.DataFrame(
        [
            {
                "image": outcome.image,
                "clusters": "" if outcome.clusters is None else outcome.clusters,
                "session": outcome.session,
                "note": outcome.error or "; ".join(outcome.warnings),
            }
            for outcome in outcomes
        ],
        columns=["image", "clusters", "session", "note"],
    )
    clusters = pluralise(sum(outcome.clusters or 0 for outcome in outcomes), "cluster")
    html = Markup("<div><h4>{}, {}</h4>{}{}</div>").format(
        pluralise(len(outcomes), "image"),
        clusters,
        Markup(rows.to_html(index=False)),
        _ratio_table(ratios),
    )
    return str(html)


def _ratio_table(ratios: pd.DataFrame) -> Markup:
    """Return counts and fractions in per cent as an HTML table, with the notes below."""
    shown = ratios[list(_COLUMNS)].assign(
        **{name: 100 * ratios[name] for name in _COLUMNS if name.startswith("fraction")}
    )
    table = shown.rename(columns=_COLUMNS).to_html(
        index=False, float_format="{:.1f}".format, na_rep=""
    )
    notes = [note for note in dict.fromkeys(ratios["note"]) if note]
    return Markup(table) + Markup("").join(Markup("<p>{}</p>").format(note) for note in notes)


def _picture(analysis: Analysis) -> Markup:
    """Return the image with its clusters as an embedded PNG, or why it cannot be drawn."""
    from matplotlib.figure import Figure

    stream = io.BytesIO()
    try:
        with style():
            figure = Figure((7.5, 5.5), dpi=100, layout="constrained")
            draw_image(figure.add_subplot(), analysis, MAX_PX)
            figure.savefig(stream, format="png")
    except AtomicityError as error:  # the file of the image may have been moved
        return Markup("<p>{}</p>").format(escape(error))
    encoded = base64.b64encode(stream.getvalue()).decode()
    text = f"{analysis.micrograph.name} with its clusters"
    return Markup('<img src="data:image/png;base64,{}" alt="{}"/>').format(encoded, text)
