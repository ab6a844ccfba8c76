"""The report: one HTML file that needs nothing else, to read, to print and to send.

Sections are drawn image by image, as results come, so that a run over many images does not hold
them all in memory. Names of files and words of people are text: the templates escape them, and the
page allows no script.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from ..core.cluster_table import AGGREGATE, ALL, NON_CLASS_LABELS, UNKNOWN, classes_of
from ..core.errors import AtomicityError, Cancelled
from ..core.palette import colours
from ..io.files import to_json, write_text
from ..io.provenance import Outcome
from ..models.analysis import Analysis
from ..statistics.corrected_accuracy import OnCorrected, on_corrected
from ..statistics.ratios import CONDITIONS_DIFFER, class_ratios, counted, images_that_differ
from ..statistics.reference import Comparison
from ..tracking.tracks import is_tracked
from .charts import as_image, parity, plot
from .examples import SURE, ClusterExample, example_of
from .figures import PREVIEW_PX, glyph, interval_bar, overview, patch_strip, pixels_of
from .methods import annotators, methods, not_counted
from .plot_trust import has_enough
from .plots import PLOTS

if TYPE_CHECKING:
    from ..core.model_card import ModelCard
    from ..statistics.stratified_accuracy import Accuracy
    from ..tracking.following import TrackedMovie

LOW_CONFIDENCE = 0.7
MANY = 0.2
FEW_CLUSTERS = 20
EXAMPLES_PER_CLASS = 3
MANY_IMAGES = 40
"""Beyond this many images a section keeps its numbers, and its pictures are small."""
MANY_RECORDS = 200
"""Beyond this many images their records stand in run.json only."""
MAX_FAILED = 200
"""So many images that could not be analysed are named."""
MAX_PROBLEMS = 8
"""So many images whose pictures lack something are named at the top."""
IMAGE_CHARTS = ("diameter", "confidence")
CHARTS = (*IMAGE_CHARTS, "intensity", "ratios")
"""Plots of each image, and of all, by their names in `plots.PLOTS`."""
SMALL_PX = 500
"""Longest edge of a micrograph in a small section."""
_RATIOS_HERE = Markup("<!-- ratios -->")


@dataclass(frozen=True)
class Section:
    """What the report says of one image, already drawn.

    Parameters
    ----------
    image
        Its name.
    html
        Of the section.
    problem
        Why its pixels are not shown; "" if they are.
    """

    image: str
    html: Markup
    problem: str = ""


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
    ratios: pd.DataFrame | None = None,
    ratios_later: bool = False,
    movie: TrackedMovie | None = None,
) -> Section:
    """Draw what the report shows of one analysed image.

    Pixels that can't be read any more are no error: the clusters then lie on black.

    Parameters
    ----------
    analysis
        The result, classified or not; the pixels of its micrograph are read here.
    outcome
        Its record.
    small
        Numbers and a small overview only.
    method, card
        How the ratios are found: see `statistics.ratios.class_ratios`.
    ratios
        Those of this image, if they are known already.
    ratios_later
        Whether they are put in by `with_ratios`, so that a drawing serves whatever the method.
    movie
        Of a stack whose clusters are linked over the frames, if it is known already.
    """
    table = analysis.table
    classes = classes_of(table)
    if ratios is None and not ratios_later:
        ratios = class_ratios(
            table, scope=outcome.image, images=[outcome.image], method=method, card=card
        )
    pixels, problem = _pixels(analysis)
    size, plain = (SMALL_PX, True) if small else (PREVIEW_PX, None)
    drawn = overview(analysis, classes, size, pixels, plain)
    html = template("image.html.j2").render(
        outcome=outcome,
        micrograph=analysis.micrograph,
        small=small,
        problem=problem,
        overview=drawn,
        titled="<title>" in drawn,
        ratios=[] if ratios is None else _ratio_rows(ratios),
        ratios_here=_RATIOS_HERE if ratios is None else "",
        legend=_legend(table, classes),
        charts=[] if small else _charts(IMAGE_CHARTS, table, classes, (5.4, 2.7)),
        gallery=[] if small else _gallery(analysis, classes),
        n_corrected=int((table["label_corrected"] != "").sum()),
        movie=_over_time(analysis, movie, classes, small),
    )
    return Section(outcome.image, Markup(html), problem)


def _over_time(
    analysis: Analysis, movie: TrackedMovie | None, classes: Sequence[str], small: bool
) -> dict[str, Any] | None:
    """Of a stack what is known over time; of anything else nothing is loaded."""
    if movie is None and not is_tracked(analysis):
        return None
    from ..tracking.following import analyse_movie
    from .movie_figures import over_time

    return over_time(movie or analyse_movie(analysis), classes, small)


def with_ratios(section: Section, ratios: pd.DataFrame) -> Section:
    """A section that was drawn with ``ratios_later``, with the ratios of its image."""
    drawn = template("parts.html.j2").module.ratio_table(_ratio_rows(ratios))
    return replace(section, html=Markup(section.html.replace(_RATIOS_HERE, drawn, 1)))


def failed_section(image: str, why: str) -> Section:
    """Of an image that could not be drawn, its name and why."""
    html = Markup(
        '<section class="image small"><h2>{}</h2>'
        '<p class="warning">This image could not be drawn: {}</p></section>'
    )
    return Section(image, html.format(image, why), why)


def _pixels(analysis: Analysis) -> tuple[np.ndarray | None, str]:
    """The frame that is shown, or why there is none: the file may have gone since."""
    try:
        return pixels_of(analysis), ""
    except Cancelled:
        raise
    except AtomicityError as error:  # whoever reads the report can't follow the advice
        return None, f"{error.what}."
    except Exception as error:  # readers raise what they like
        return None, str(error) or type(error).__name__


def write_report(
    path: Path,
    sections: Sequence[Section],
    table: pd.DataFrame,
    ratios: pd.DataFrame,
    record: dict[str, Any],
    comparison: Comparison | None = None,
    *,
    card: ModelCard | None = None,
    examples: Iterable[ClusterExample] = (),
    corrections: pd.DataFrame | None = None,
    agreement: pd.DataFrame | None = None,
    sample: Accuracy | None = None,
    scales: Mapping[str, float] | None = None,
    title: str = "",
) -> Path:
    """Write the report of a run or a project, whole or not at all.

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
    card
        Of the model, for the methods.
    examples
        Of all images, from `typical.gathered`.
    corrections
        Log of what people did: see `methods.methods`.
    agreement
        A table of figures of agreement between annotators, shown as it is.
    sample
        What follows from the review of a stratified sample.
    scales
        Image → intensity of one atom in counts nm², from `plots.scales_of`.
    title
        Heading; a question if empty.

    Raises
    ------
    AtomicityError
        If the file can't be written.
    """
    classes = classes_of(table)
    of_all = ratios_of(ratios, None, [section.image for section in sections])
    method = next(iter(of_all["method"]), "")
    corrected = on_corrected(table, classes)
    chosen = list(examples)
    several = len(sections) != 1
    failed = [(i["image"], _reason(i)) for i in record["images"] if i["status"] != "done"]
    html = template("report.html.j2").render(
        title=title,
        sections=sections,
        problems=_problems(sections),
        ratios=_ratio_rows(of_all),
        method=_sentence(method).removesuffix("."),
        left_out=", ".join(f"{n} {why}" for why, n in not_counted(table).items()),
        adjusted=not method.startswith("counted"),
        note=next((_sentence(str(note)) for note in of_all["note"] if note), ""),
        comparison=comparison,
        comparison_method="" if comparison is None else _sentence(comparison.method)[:-1],
        reference=[] if comparison is None else _reference_rows(comparison, classes),
        parity=""
        if comparison is None
        else as_image(
            parity(comparison.pairs, _known(classes, comparison.pairs["class"])),
            "parity",
            "Fractions found against their references",
        ),
        charts=_charts(
            CHARTS if several else ("intensity",),
            table,
            classes,
            (5.4, 3.2),
            scales=scales or {},
            images=[section.image for section in sections],
        ),
        map=_charts(("embedding",), table, classes, (6.4, 4.6)),
        reliability=_charts(("reliability",), table, classes, (5.4, 3.2))
        if has_enough(PLOTS["reliability"].data(table))
        else [],
        corrected=corrected,
        interval=corrected.interval(),
        sample=sample,
        confusion=_confusion_rows(corrected, classes),
        confusion_columns=list(corrected.confusion.columns),
        people=0 if corrections is None else len(annotators(corrections)),
        agreement=None if agreement is None or not len(agreement) else _cells(agreement),
        typical=_typical(chosen, classes) if several else [],
        typical_names=chosen[0].names if chosen else (),
        methods=methods(
            record,
            table,
            of_all,
            card=card,
            corrected=corrected,
            corrections=corrections,
            sample=sample,
            comparison=comparison,
        ),
        n_clusters=len(table),
        n_counted=int(counted(table).sum()),
        record=record,
        failed=failed[:MAX_FAILED],
        n_failed=len(failed),
        record_json=to_json(_short(record)),
    )
    return write_text(path, html)


def _short(record: dict[str, Any]) -> dict[str, Any]:
    """The record as it stands in the report: of many images without a paragraph for each."""
    if len(record["images"]) <= MANY_RECORDS:
        return record
    return {**record, "images": f"{len(record['images'])}: see run.json"}


def _problems(sections: Sequence[Section]) -> list[str]:
    """A line for each of the first images whose pictures lack something, and one for the rest."""
    found = [f"{s.image} ({s.problem.rstrip('.')})" for s in sections if s.problem]
    rest = len(found) - MAX_PROBLEMS
    return found if rest <= 0 else [*found[:MAX_PROBLEMS], f"{rest} more, as said beside each"]


def ratios_of(ratios: pd.DataFrame, image: str | None, images: Sequence[str]) -> pd.DataFrame:
    """The rows of one image, or of all if None; an image may be called "all", and comes first."""
    found = ratios[ratios["scope"] == (ALL if image is None else image)]
    if ALL not in images or image not in (None, ALL):
        return found
    half = len(found) // 2
    return found.iloc[half:] if image is None else found.iloc[:half]


def _reason(image: dict[str, Any]) -> str:
    """Why it was not analysed; its name stands beside and need not be said again."""
    reason = image["error"] or image["status"]
    return reason.removeprefix(f"{Path(image['path']).name}: ")


@cache
def _environment() -> Environment:
    return Environment(
        loader=PackageLoader("napari_atomicity.reporting", "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )


def template(name: str) -> Any:
    """A template of this room by its name."""
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


def _charts(
    names: Sequence[str],
    table: pd.DataFrame,
    classes: Sequence[str],
    size_inch: tuple[float, float],
    **context: Any,
) -> list[dict[str, Any]]:
    """Those of these plots that have something to show, with what they show."""
    out = []
    for name in names:
        figure = plot(name, table, classes, size_inch, **context)
        if figure is not None:
            known = PLOTS[name]
            image = as_image(figure, "chart", f"{known.title}. {known.explanation}")
            out.append({"title": known.title, "words": known.explanation, "image": image})
    return out


def _known(classes: Sequence[str], more: Iterable[str]) -> list[str]:
    return [*dict.fromkeys([*classes, *more])]


def _confusion_rows(corrected: OnCorrected, classes: Sequence[str]) -> list[dict[str, Any]]:
    """Rows of the confusion with the shade of each cell: white to blue, by its share of the row."""
    shares = corrected.shares()
    rows = []
    for label in corrected.confusion.index:
        cells = []
        for machine in corrected.confusion.columns:
            share = float(shares.loc[label, machine])
            shade = [round(255 + share * (end - 255)) for end in (0, 114, 178)]
            cells.append(
                {
                    "count": int(corrected.confusion.loc[label, machine]),
                    "share": share,
                    "shade": ", ".join(map(str, shade)),
                    "ink": "#fff" if share > 0.55 else "#1d2433",
                }
            )
        rows.append({"label": label, "glyph": glyph(label, classes), "cells": cells})
    return rows


def _cells(frame: pd.DataFrame) -> dict[str, Any]:
    """Any small table as text, its numbers with two digits after the point."""

    def cell(value: Any) -> dict[str, Any]:
        if isinstance(value, (float, np.floating)):
            return {"number": True, "text": f"{value:.2f}" if np.isfinite(value) else "–"}
        number = isinstance(value, (int, np.integer)) and not isinstance(value, bool)
        return {"number": number, "text": str(value)}

    return {
        "columns": [str(name) for name in frame.columns],
        "rows": [[cell(value) for value in row] for row in frame.itertuples(index=False)],
    }


def _typical(chosen: Sequence[ClusterExample], classes: Sequence[str]) -> list[dict[str, Any]]:
    """Examples grouped by label and kind, in the order of the classes."""
    groups: dict[tuple[str, str], list[ClusterExample]] = {}
    for label in dict.fromkeys([*classes, *(example.label for example in chosen)]):
        for example in chosen:
            if example.label == label:
                groups.setdefault((label, example.kind), []).append(example)
    return [
        {
            "label": label,
            "glyph": glyph(label, classes),
            "words": "far from what was learnt"
            if label in NON_CLASS_LABELS
            else "typical"
            if kind == SURE
            else "doubtful",
            "examples": members,
        }
        for (label, kind), members in groups.items()
    ]


def _reference_rows(comparison: Comparison, classes: Sequence[str]) -> list[dict[str, Any]]:
    """Pairs as the template shows them, grouped by scope."""
    pairs = comparison.pairs.assign(covered=comparison.covered)
    known = _known(classes, pairs["class"])
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
    table = analysis.table.reset_index(drop=True)[example_of(analysis)]
    groups = []
    for label in [*classes, *NON_CLASS_LABELS]:
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
