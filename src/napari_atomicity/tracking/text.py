"""Results of a movie as sentences and table rows."""

from __future__ import annotations

import math

import numpy as np
import pandas as pd

from ..core.text import pluralise
from .events import JUMP
from .following import TrackedMovie

_SHORT = {"appearance": "appears", "loss": "lost"}
EVENT_HEADERS = ("What", "Frame", "Track", "From", "To", "p")
EVENT_TOOLTIPS = (
    "Appearance, loss, merge or split of clusters, or jump: a change of the smoothed label. "
    "Edge: the cluster may have crossed the edge of the field. Click to show the event.",
    "First frame after the event; for a loss the last frame with the cluster. Time in brackets.",
    "Tracks of the event, those before it first.",
    "Smoothed label before the event.",
    "Smoothed label after the event.",
    "Jumps only: the smaller of the maximum probabilities of the two labels.",
)
DWELL_HEADERS = ("Label", "Stays", "Left", "Rate", "95 %", "Median")
DWELL_TOOLTIPS = (
    "Smoothed label.",
    "Number of dwells in the label.",
    "Dwells with an observed end; the others are censored.",
    "Rate of leaving the label: observed ends over observation time.",
    "Exact 95 % interval of a Poisson count.",
    "Median dwell time (Kaplan–Meier), from dwells with an observed beginning.",
)


def summary(movie: TrackedMovie) -> str:
    """Format the number of tracks, the drift and the rate of changes."""
    n, frames = len(movie.tracks), movie.drift.n_frames
    length = ""
    if movie.frame_time_s is not None:
        length = f" ({frames * movie.frame_time_s:g} s)"
    farthest = float(np.linalg.norm(movie.drift.shift_nm, axis=1).max())
    sentences = [
        f"{pluralise(n, 'track')} in {frames} frames{length}; maximum drift of the stage: "
        f"{farthest:.2g} nm."
    ]
    if n and movie.n_states > 1:
        sentences.append(format_rate(movie))
    return " ".join([*sentences, *movie.notices])


def format_rate(movie: TrackedMovie) -> str:
    """Format the rate of label changes with its interval."""
    rate, low, high = movie.rate
    per = "s" if movie.frame_time_s is not None else "frame"
    if not movie.change.estimated:
        return (
            f"Given rate of label changes: {format_number(rate)} per cluster per {per}. Class "
            "ratios use the estimated rate."
        )
    if not movie.change.steps:
        return "No track has labels to estimate the rate of label changes from."
    # Without a jump, the estimate between the limits is that of its prior.
    if low == 0 or not (movie.events["event"] == JUMP).any():
        limit = format_number(round_up(high))
        return f"Rate of label changes: less than {limit} per cluster per {per} (95 %)."
    return (
        f"Rate of label changes: {format_number(rate)} per cluster per {per} "
        f"({format_number(low)}–{format_number(high)}, 95 %)."
    )


def event_lines(events: pd.DataFrame) -> list[tuple[str, ...]]:
    """Format a table row per event."""
    lines: list[tuple[str, ...]] = []
    for row in events.to_dict("records"):
        time = "" if math.isnan(row["time_s"]) else f" ({row['time_s']:g} s)"
        kind = _SHORT.get(row["event"], row["event"]) + (", edge" if row["at_border"] else "")
        lines.append(
            (
                kind, f"{row['frame']}{time}", row["tracks"].replace("|", ", "),
                row["label_before"] or "–", row["label_after"] or "–",
                "" if math.isnan(row["p"]) else f"{row['p']:.2f}",
            )
        )  # fmt: skip
    return lines


def dwell_lines(rates: pd.DataFrame) -> list[tuple[str, ...]]:
    """Format a table row per label."""
    lines: list[tuple[str, ...]] = []
    for row in rates.to_dict("records"):
        unit = "s" if row["unit"] == "s" else "frames"
        median = "not reached"
        if not math.isnan(row["median"]):
            median = f"{format_number(row['median'])} {unit}"
        per = "s" if row["unit"] == "s" else "frame"
        lines.append(
            (
                row["label"] or "no label", str(row["n"]), str(row["ends_seen"]),
                f"{format_number(row['rate'])}/{per}",
                f"{format_number(row['rate_low'])}–{format_number(row['rate_high'])}",
                median,
            )
        )  # fmt: skip
    return lines


def round_up(value: float) -> float:
    """Round a positive number up to two significant digits: an upper limit stays one."""
    if not (math.isfinite(value) and value > 0):
        return value
    digits = 1 - math.floor(math.log10(value))
    # Without the error of the product of floats.
    return math.ceil(round(value * 10**digits, 6)) / 10**digits


def format_number(value: float) -> str:
    """Format a number with two significant digits."""
    return "–" if math.isnan(value) else f"{value:.2g}"
