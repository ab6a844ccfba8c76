"""Warnings about the results of one image."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pandas as pd

from ..core.errors import format_failed
from ..core.micrograph import MISSING_SHARE
from ..core.tables.cluster_table import AGGREGATE, UNKNOWN, is_whole
from ..core.text import pluralise, sentence
from ..detection.recording import OUTLIERS
from ..models.analysis import Analysis
from ..statistics.ratios.ratio_notes import (
    CHANGED_PIXEL_SIZE,
    MAX_FRACTION,
    conditions_note,
    is_unlike_others,
    session_doubts,
)
from ..statistics.ratios.ratios import clipped_images, counted, images_that_differ
from ..statistics.ratios.track_counts import merge_tracks
from .plots.session import describe_contradiction

LOW_CONFIDENCE = 0.7
"""Mean confidence of an image below which a warning is given, and of a label that is uncertain."""
MIN_CLUSTERS = 20
"""Number of counted clusters below which a warning is given."""


def image_warnings(
    table: pd.DataFrame, parameters: Mapping[str, Any] | None = None
) -> tuple[str, ...]:
    """Return what a reader should know before using the results of one image."""
    parameters = parameters or {}
    recording = parameters.get("recording", {})
    if not len(table):
        return ("No cluster was found.", *pixel_warnings(recording), *format_failed(parameters))
    found = [*format_failed(parameters), *outline_warnings(parameters)]
    if since := parameters.get(CHANGED_PIXEL_SIZE):
        found.append(
            f"The pixel size was changed to {since:.4g} nm after the analysis, whose lengths and "
            "labels are those of the earlier one: analyse again."
        )
    by_model = table["label_corrected"] == ""
    predicted = is_whole(table) & (table["label_predicted"] != "")
    left = predicted & by_model
    unsure = by_model & (table["confidence"] < LOW_CONFIDENCE)
    n = int(counted(merge_tracks(table)).sum())
    if n == 0:
        found.append("No cluster counts in the ratios.")
    elif n < MIN_CLUSTERS:
        number = "1 cluster counts" if n == 1 else f"{n} clusters count"
        found.append(f"Only {number} in the ratios: the intervals are wide.")
    confidence = float(table.loc[left, "confidence"].mean())  # NaN without any
    # Of the few that a person has left over, it does not tell of the conditions.
    if 2 * left.sum() > predicted.sum() and confidence < LOW_CONFIDENCE:
        found.append(
            f"The mean confidence is {confidence:.2f}: the conditions of this image may differ "
            "from those of the training."
        )
    if images_that_differ(table):
        found.append(sentence(conditions_note(parameters.get("changed_settings", ()))))
    found += session_warnings(parameters.get("session", {}))
    found += recording_warnings(table, recording)
    for concerned, text in (
        (unsure, f"have a confidence below {LOW_CONFIDENCE}"),
        (table["label"] == UNKNOWN, "belong to no class of the model (unknown)"),
        (table["label"] == AGGREGATE, "are aggregates and belong to no class"),
        (table["touches_neighbour"], "touch a neighbour, where outlines are less certain"),
        (table["touches_border"], "are cut by the border and do not count"),
    ):
        if concerned.mean() > MAX_FRACTION:
            found.append(f"{concerned.sum()} of {len(table)} clusters {text}.")
    return tuple(found)


_OUTLINES_LEFT_OUT = {
    "too_small": "{} of fewer than four pixels left out.",
    "on_removed": "{} left out, where a person has removed a cluster.",
    "on_split_or_merged": "{} left out, where a person has split, merged or labelled clusters.",
}


def outline_warnings(*parameters: Mapping[str, Any]) -> list[str]:
    """Return how many outlines of another program were left out of images, and why."""
    given = [of_image.get("outlines", {}) for of_image in parameters]
    numbers = {why: sum(g.get(why, 0) for g in given) for why in _OUTLINES_LEFT_OUT}
    return [_OUTLINES_LEFT_OUT[w].format(pluralise(n, "outline")) for w, n in numbers.items() if n]


def analysis_fields(analysis: Analysis) -> dict[str, Any]:
    """Return the fields of `Outcome` that describe the analysis of an image."""
    return {
        "clusters": len(analysis.table),
        "parameters": analysis.parameters,
        "seconds": analysis.seconds,
        "warnings": image_warnings(analysis.table, analysis.parameters),
    }


def session_warnings(session: Mapping[str, Any]) -> list[str]:
    """Return what a reader should know of an image in its session, from `describe_scale`."""
    found = [sentence(doubt) for doubt in session_doubts(session)]
    sample = session.get("known_sample", {})
    if sample.get("contradicted"):
        found.append(sentence(describe_contradiction([sample["log_bayes_factor"]], sample["used"])))
    if is_unlike_others(session):
        found.append("The intensity scale is unlike that of the other images of its session.")
    return found


def recording_warnings(table: pd.DataFrame, recording: Mapping[str, Any]) -> list[str]:
    """Return how the recording limits the intensities of an image."""
    found = []
    if clipped_images(table):
        n = int((table["clipped"] > 0).sum())
        found.append(
            f"{n} of {len(table)} clusters contain clipped pixels, at the upper limit of the "
            "recorded range: their intensity is an estimate. Export images without saturation, "
            "with 16 bits."
        )
    response = table["response"].dropna() if "response" in table.columns else pd.Series(dtype=float)
    if len(response) and response.min() < response.max():
        found.append(
            f"The response of the recording differs across the image (clusters: "
            f"{response.min():.2f} to {response.max():.2f} of the mean): intensities are corrected."
        )
    if recording.get("ambiguous_shading"):
        found.append(
            "The level of the support changes smoothly across the image, and its noise does not "
            "tell whether the response of the detector does, too: intensities are not corrected."
        )
    if recording.get("nonlinear"):
        found.append(
            "The grey levels are not a linear function of the intensity, as after a gamma "
            "correction: numbers of atoms are biased. Use the images as recorded."
        )
    if recording.get("at_lower_limit", 0) > 0:
        found.append(
            f"{100 * recording['at_lower_limit']:.0f} % of the pixels are at the lower limit of "
            "the recorded range: the level of the support is uncertain."
        )
    return [*found, *pixel_warnings(recording)]


def pixel_warnings(parameters: Mapping[str, Any]) -> tuple[str, ...]:
    """Return which pixels were replaced or are missing, from the effects of the recording."""
    n, missing = parameters.get(OUTLIERS, 0), parameters.get(MISSING_SHARE, 0.0)
    found = []
    if n:
        found.append(
            f"{pluralise(n, 'outlier pixel')} replaced (hot or dead pixels, rows or columns)."
        )
    if missing:
        found.append(
            f"{100 * missing:.2g} % of the image is not stored in its file and reads as 0: copy or "
            "export it again, unless this part was left empty."
        )
    return tuple(found)
