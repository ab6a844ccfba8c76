"""Analyses as HTML for notebooks."""

from __future__ import annotations

import base64
import io
from collections.abc import Sequence

import pandas as pd
from markupsafe import Markup, escape

from ..core.errors import AtomicityError
from ..core.text import pluralise
from ..io.provenance import Outcome
from ..models.analysis import Analysis
from ..reporting.figures import draw_image
from ..reporting.plots.registry import style

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
