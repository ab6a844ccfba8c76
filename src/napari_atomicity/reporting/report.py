"""The report: one self-contained HTML file, to read, to print and to send.

Names of files and text from people are escaped by the templates, and the page allows no script.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd

from ..core.errors import without_file_name
from ..core.tables.cluster_table import ALL, classes_of
from ..core.text import capital, sentence
from ..io.files import to_json, write_pieces
from ..statistics.annotators.agreement import split_settlements, warn_if_not_blind
from ..statistics.ratios.ratio_notes import ImageLimits, name_sessions
from ..statistics.ratios.ratios import count_excluded, counted
from ..statistics.ratios.reference import Comparison
from ..statistics.ratios.track_counts import answers_of, merge_tracks
from ..statistics.samples.comparison import SampleComparison
from ..statistics.stratified_accuracy import TOO_HIGH, OnCorrected, on_corrected
from .charts import as_image, parity_chart
from .examples import ClusterExample, top_examples
from .image_section import IMAGE_CHARTS, Section
from .methods import Methods, annotators, describe_methods, has_learnt_labels
from .plots.confidence import has_min_corrected
from .plots.registry import PLOTS
from .plots.session import SessionSummary
from .template_data import (
    all_classes,
    chart_entries,
    confusion_rows,
    example_groups,
    get_template,
    ratio_rows,
    reference_rows,
    sample_context,
    session_entries,
    table_cells,
)

if TYPE_CHECKING:
    from ..core.model_card import ModelCard
    from ..statistics.stratified_accuracy import Accuracy

MANY_IMAGES = 40
"""Number of images above which sections are small: numbers and a small overview."""
MAX_RECORDS = 200
"""Number of images above which their records are in run.json only."""
MAX_FAILED = 200
"""Maximum number of failed images that the report lists."""
MAX_PROBLEMS = 8
"""Maximum number of images with incomplete pictures that the report lists at the top."""
CHARTS = (*IMAGE_CHARTS, "intensity", "ratios")
"""Plots of all images, by their names in `plots.PLOTS`."""


@dataclass(frozen=True, eq=False)
class ReportData:
    """Results of a run or a project for the report."""

    table: pd.DataFrame
    ratios: pd.DataFrame  # class ratios, among them those with the scope "all"
    record: dict[str, Any]  # record of the run from `provenance.run_record`
    comparison: Comparison | None = None  # comparison with reference ratios
    card: ModelCard | None = None  # of the model of most clusters
    other_cards: Sequence[ModelCard] = ()  # of the models of the other clusters
    # examples of all images from `examples.select_examples`
    examples: Sequence[ClusterExample] = ()
    corrections: pd.DataFrame | None = None  # log of corrections: see `methods.describe_methods`
    agreement: pd.DataFrame | None = None  # table of the agreement between annotators
    sample: Accuracy | None = None  # accuracy from the review of a stratified sample
    # image → intensity of one atom in counts nm², from `plots.scales_of`
    scales: Mapping[str, float] | None = None
    title: str = ""  # heading; by default a question
    sessions: Sequence[SessionSummary] = ()  # sessions whose images were labelled jointly
    samples: SampleComparison | None = None  # samples compared, if there are several


def write_report(path: Path, sections: Sequence[Section], data: ReportData) -> Path:
    """Write the report of a run or a project; an existing file is replaced atomically.

    Raises `AtomicityError` if the file can not be written.
    """
    classes = classes_of(data.table)
    overall = ratios_of_scope(data.ratios, None, [section.image for section in sections])
    corrected = on_corrected(answers_of(data.table), classes)
    # With many images it has hundreds of megabytes, and is written part by part.
    html = get_template("report.html.j2").generate(
        title=data.title,
        sections=sections,
        problems=_problems(sections),
        methods=_methods(data, overall, corrected),
        sessions=session_entries(data.sessions),
        **_ratio_context(data, overall),
        **_comparison_context(data.comparison, classes),
        samples=sample_context(data.samples, classes),
        **_chart_context(data, classes, sections),
        **_correction_context(data, corrected, classes),
        **_example_context(data, sections, classes),
        **_record_context(data.record),
    )
    return write_pieces(path, html)


def _methods(data: ReportData, overall: pd.DataFrame, corrected: OnCorrected) -> Methods:
    return describe_methods(
        data.record,
        data.table,
        overall,
        card=data.card,
        corrected=corrected,
        corrections=data.corrections,
        sample=data.sample,
        comparison=data.comparison,
    )


def _ratio_context(data: ReportData, overall: pd.DataFrame) -> dict[str, Any]:
    """Return the numbers of clusters and the class ratios of all images."""
    method = next(iter(overall["method"]), "")
    merged = merge_tracks(data.table)
    note = next((str(note) for note in overall["note"] if note), "")
    images = [one for one in data.record["images"] if one["session"]]
    told: dict[str, dict[str, Any]] = {}
    for one in images:  # images without clusters say nothing of their session
        told[one["session"]] = one["parameters"].get("session") or told.get(one["session"], {})
    if len(told) > 1:
        note = name_sessions(note, list(told.values()), list(told))
    return {
        "ratios": ratio_rows(overall),
        "method": capital(method),
        "excluded": ", ".join(
            f"{n} {why}" for why, n in count_excluded(data.table, merged).items()
        ),
        "adjusted": not method.startswith("counted"),
        "has_intervals": bool(overall["fraction_low"].notna().any()),
        "is_predicted": bool((data.table["label_predicted"] != "").any()),
        "note": sentence(note) if note else "",
        "n_clusters": len(merged),
        "n_counted": int(counted(merged).sum()),
    }


def _comparison_context(comparison: Comparison | None, classes: Sequence[str]) -> dict[str, Any]:
    """Return the comparison with reference ratios, empty without one."""
    if comparison is None:
        return {"comparison": None, "comparison_method": "", "reference": [], "parity": ""}
    chart = parity_chart(comparison.pairs, all_classes(classes, comparison.pairs["class"]))
    return {
        "comparison": comparison,
        "comparison_method": capital(comparison.method),
        "reference": reference_rows(comparison, classes),
        "parity": as_image(chart, "parity", "Measured fractions against reference fractions"),
    }


def _chart_context(
    data: ReportData, classes: Sequence[str], sections: Sequence[Section]
) -> dict[str, Any]:
    """Return the charts of all images; those of a single image are in its section."""
    table = data.table
    names = CHARTS if len(sections) != 1 else ("intensity",)
    keep = bool(data.record["parameters"].get("keep_ratios"))
    context = {
        "scales": data.scales or {},
        "images": [section.image for section in sections],
        "limits": {
            one["image"]: ImageLimits.from_parameters(one.get("parameters", {}), keep)
            for one in data.record["images"]
        },
    }
    enough = has_min_corrected(PLOTS["reliability"].data(table))
    return {
        "charts": chart_entries(names, table, classes, (5.4, 3.2), **context),
        "map": chart_entries(("embedding",), table, classes, (6.4, 4.6)),
        "reliability": chart_entries(("reliability",), table, classes, (5.4, 3.2))
        if enough
        else [],
    }


def _correction_context(
    data: ReportData, corrected: OnCorrected, classes: Sequence[str]
) -> dict[str, Any]:
    """Return accuracy and confusion matrix on corrected clusters, and the agreement."""
    agreement = None if data.agreement is None else table_cells(data.agreement)
    return {
        "corrected": corrected,
        "interval": corrected.interval(),
        "confusion": confusion_rows(corrected, classes),
        "confusion_columns": list(corrected.confusion.columns),
        "sample": data.sample,
        "too_high": TOO_HIGH,
        "has_learnt": any(
            has_learnt_labels(card, data.record["images"])
            for card in (data.card, *data.other_cards)
            if card is not None
        ),
        "n_annotators": 0 if data.corrections is None else len(annotators(data.corrections)),
        "agreement": agreement if agreement and agreement["rows"] else None,
        "not_blind": ""
        if data.corrections is None
        else warn_if_not_blind(split_settlements(data.corrections)[0]),
    }


def _example_context(
    data: ReportData, sections: Sequence[Section], classes: Sequence[str]
) -> dict[str, Any]:
    """Return the examples of all images; those of a single image are in its section."""
    examples = top_examples(data.examples)
    return {
        "typical": example_groups(examples, classes) if len(sections) != 1 else [],
        "typical_names": examples[0].names if examples else (),
    }


def _record_context(record: dict[str, Any]) -> dict[str, Any]:
    """Return the record and the images that could not be analysed."""
    failed = [(i["image"], _reason(i)) for i in record["images"] if i["status"] != "done"]
    return {
        "record": record,
        "failed": failed[:MAX_FAILED],
        "n_failed": len(failed),
        "record_json": to_json(_shortened(record)),
    }


def _shortened(record: dict[str, Any]) -> dict[str, Any]:
    """Return the record, without an entry for each image if there are many images."""
    if len(record["images"]) <= MAX_RECORDS:
        return record
    return {**record, "images": f"{len(record['images'])}: see run.json"}


def _problems(sections: Sequence[Section]) -> list[str]:
    """Return a line for each of the first images with incomplete pictures, and the number left."""
    found = [f"{s.image} ({s.problem.rstrip('.')})" for s in sections if s.problem]
    rest = len(found) - MAX_PROBLEMS
    if rest <= 0:
        return found
    return [*found[:MAX_PROBLEMS], f"{rest} more images, see their sections"]


def ratios_of_scope(ratios: pd.DataFrame, image: str | None, images: Sequence[str]) -> pd.DataFrame:
    """Return the ratios of one image or of all images."""
    found = ratios[ratios["scope"] == (ALL if image is None else image)]
    if ALL not in images or image not in (None, ALL):
        return found
    half = len(found) // 2
    return found.iloc[half:] if image is None else found.iloc[:half]


def _reason(image: dict[str, Any]) -> str:
    """Return why an image was not analysed, without its name."""
    reason = image["error"] or image["status"]
    return without_file_name(reason, Path(image["path"]))
