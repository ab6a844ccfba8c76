"""The report: one HTML file that needs nothing else, to read, to print and to send.

Sections are drawn image by image, as results come, so that a run over many images does not hold
them all in memory.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from ..analysis import Analysis
from ..palette import colours
from ..statistics.ratios import (
    ALL,
    CONDITIONS_DIFFER,
    class_ratios,
    counted,
    images_that_differ,
)
from ..statistics.reference import Comparison
from ..table import AGGREGATE, OUTSIDE, UNKNOWN, classes_of
from .figures import glyph, histograms, interval_bar, overview, parity, patch_strip
from .files import to_json, write_text
from .provenance import Outcome

if TYPE_CHECKING:
    from ..model.card import ModelCard

LOW_CONFIDENCE = 0.7
MANY = 0.2
FEW_CLUSTERS = 20
EXAMPLES_PER_CLASS = 3
MANY_IMAGES = 40
"""Beyond this many images a section keeps its numbers, and its pictures are small."""


@dataclass(frozen=True)
class Section:
    """What the report says of one image, already drawn."""

    image: str
    html: Markup


def warnings(table: pd.DataFrame) -> tuple[str, ...]:
    """What a reader should know before trusting the numbers of one image."""
    if not len(table):
        return ("No cluster was found.",)
    found = []
    classified = table[table["label_predicted"] != ""]
    n = int(counted(table).sum())
    if n == 0:
        found.append("No cluster counts in the ratios.")
    elif n < FEW_CLUSTERS:
        number = "1 cluster counts" if n == 1 else f"{n} clusters count"
        found.append(f"Only {number} in the ratios: the intervals are wide.")
    confidence = float(classified["confidence"].mean()) if len(classified) else np.nan
    if confidence < LOW_CONFIDENCE:
        found.append(
            f"The mean confidence is {confidence:.2f}: the conditions of this image may be unlike "
            "those the model learnt from."
        )
    if images_that_differ(table):
        found.append(_sentence(CONDITIONS_DIFFER))
    for concerned, what in (
        (table["label"] == UNKNOWN, "are none of the model's classes (unknown)"),
        (table["label"] == AGGREGATE, "are aggregates, which are no class"),
        (table["touches_neighbour"], "touch a neighbour, where outlines are less sure"),
        (table["touches_border"], "are cut by the border and do not count"),
    ):
        if concerned.mean() > MANY:
            found.append(f"{concerned.sum()} of {len(table)} clusters {what}.")
    return tuple(found)


def image_section(
    analysis: Analysis,
    outcome: Outcome,
    small: bool = False,
    method: str = "counted",
    card: ModelCard | None = None,
) -> Section:
    """Draw what the report shows of one analysed image.

    Parameters
    ----------
    analysis
        The result, classified or not.
    outcome
        Its record.
    small
        Numbers and a small overview only.
    method, card
        How the ratios are found: see `statistics.ratios.class_ratios`.
    """
    table = analysis.table
    classes = classes_of(table)
    ratios = class_ratios(
        table, scope=outcome.image, images=[outcome.image], method=method, card=card
    )
    html = _template("image.html.j2").render(
        outcome=outcome,
        micrograph=analysis.micrograph,
        overview=overview(analysis, classes, 500 if small else 1200),
        ratios=_ratio_rows(ratios),
        legend=_legend(table, classes),
        histograms="" if small else histograms(table, classes, wide=False),
        gallery=[] if small else _gallery(analysis, classes),
        n_corrected=int((table["label_corrected"] != "").sum()),
    )
    return Section(outcome.image, Markup(html))


def write_report(
    path: Path,
    sections: Sequence[Section],
    table: pd.DataFrame,
    ratios: pd.DataFrame,
    record: dict[str, Any],
    comparison: Comparison | None = None,
) -> Path:
    """Write the report of a run, whole or not at all.

    Parameters
    ----------
    path
        Of the HTML file.
    sections
        From `image_section`, in the order to be shown.
    table
        The cluster table of all images.
    ratios
        Class ratios with the scope "all".
    record
        From `provenance.run_record`.
    comparison
        With reference ratios, if there are any.

    Raises
    ------
    AtomicityError
        If the file can't be written.
    """
    classes = classes_of(table)
    of_all = ratios[ratios["scope"] == ALL]
    method = next(iter(of_all["method"]), "")
    html = _template("report.html.j2").render(
        sections=sections,
        ratios=_ratio_rows(of_all),
        method=method,
        adjusted=not method.startswith("counted"),
        note=next((_sentence(str(note)) for note in of_all["note"] if note), ""),
        comparison=comparison,
        reference=[] if comparison is None else _reference_rows(comparison, classes),
        parity="" if comparison is None else parity(comparison.pairs, classes),
        legend=_legend(table, classes),
        histograms=histograms(table, classes) if len(sections) != 1 else "",
        n_clusters=len(table),
        n_counted=int(counted(table).sum()),
        record=record,
        failed=[(i["image"], _reason(i)) for i in record["images"] if i["status"] != "done"],
        record_json=to_json(record),
    )
    return write_text(path, html)


def _reason(image: dict[str, Any]) -> str:
    """Why it was not analysed; its name stands beside and need not be said again."""
    reason = image["error"] or image["status"]
    return reason.removeprefix(f"{Path(image['path']).name}: ")


@cache
def _environment() -> Environment:
    return Environment(
        loader=PackageLoader("napari_atomicity.io", "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )


def _template(name: str) -> Any:
    return _environment().get_template(name)


def _ratio_rows(ratios: pd.DataFrame) -> list[dict[str, Any]]:
    """The ratios as the templates show them."""
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


def _sentence(words: str) -> str:
    return f"{words[:1].upper()}{words[1:]}."


def _reference_rows(comparison: Comparison, classes: Sequence[str]) -> list[dict[str, Any]]:
    """Pairs as the template shows them, grouped by scope."""
    pairs = comparison.pairs.assign(covered=comparison.covered)
    known = [*dict.fromkeys([*classes, *pairs["class"]])]
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


def _legend(table: pd.DataFrame, classes: Sequence[str]) -> list[dict[str, Any]]:
    counts = table["label"].value_counts()
    extra = [label for label in sorted(counts.index) if label not in classes]
    return [
        {
            "name": label or "not classified",
            "glyph": glyph(label, classes),
            "count": int(counts.get(label, 0)),
        }
        for label in [*classes, *extra]
    ]


def _gallery(analysis: Analysis, classes: Sequence[str]) -> list[dict[str, Any]]:
    """For each label the surest, a middling and the least sure cluster."""
    if not analysis.patches:
        return []
    table = analysis.table.reset_index(drop=True)
    groups = []
    for label in [*classes, *OUTSIDE]:
        ranked = table[(table["label"] == label) & table["confidence"].notna()].sort_values(
            "confidence", ascending=False, kind="stable"
        )
        if not len(ranked):
            continue
        n = min(EXAMPLES_PER_CLASS, len(ranked))
        picked = ranked.iloc[np.linspace(0, len(ranked) - 1, n).round().astype(int)]
        examples = []
        for index, row in zip(picked.index, picked.to_dict("records"), strict=True):
            strip, names = patch_strip(analysis, int(index))
            examples.append({"strip": strip, "names": names, **row})
        groups.append({"label": label, "glyph": glyph(label, classes), "examples": examples})
    return groups
