"""What a movie tells, in words and lines of words."""

from __future__ import annotations

import math

import numpy as np
import pandas as pd

from .following import TrackedMovie

_SHORT = {"appearance": "appears", "loss": "lost"}
EVENT_HEADERS = ("What", "Frame", "Track", "From", "To", "p")
EVENT_TOOLTIPS = (
    "A cluster appears or is lost, two merge, one splits into two; or a jump: a change of "
    "the smoothed label; edge: it may just have crossed the edge of the field. A click goes there.",
    "First frame after it; of a loss the last one in which the cluster was seen. Seconds in "
    "brackets.",
    "Tracks concerned, those before it first.",
    "Smoothed label before.",
    "Smoothed label after.",
    "Of a jump: the smaller of the probabilities of the two labels, each where it is surest.",
)
DWELL_HEADERS = ("Label", "Stays", "Left", "Rate", "95 %", "Median")
DWELL_TOOLTIPS = (
    "The smoothed label.",
    "Stretches of tracks in it.",
    "Stretches whose end was seen; the others were still going on.",
    "How often it is left: ends seen over time watched.",
    "Exact interval of a Poisson count.",
    "Time after which half of those whose beginning was seen have ended (Kaplan–Meier).",
)


def summary(movie: TrackedMovie) -> str:
    """How much there is, how far the stage went, and how often clusters change."""
    n, frames = len(movie.tracks), movie.drift.n_frames
    length = ""
    if movie.frame_time_s is not None:
        length = f" ({frames * movie.frame_time_s:g} s)"
    farthest = float(np.linalg.norm(movie.drift.shift_nm, axis=1).max())
    said = [f"{n} track{'s' * (n != 1)} in {frames} frames{length}; the stage drifted by up to "
            f"{farthest:.2g} nm."]  # fmt: skip
    if n and movie.n_states > 1:
        said.append(format_rate(movie))
    return " ".join([*said, *movie.notices])


def format_rate(movie: TrackedMovie) -> str:
    """``A cluster changes its label 0.02 times per s (0.01–0.04).``"""
    rate, low, high = movie.rate
    per = "s" if movie.frame_time_s is not None else "frame"
    if not movie.change.estimated:
        return f"A cluster is taken to change its label {number(rate)} times per {per}."
    if low == 0:
        return f"A cluster changes its label less than {number(high)} times per {per} (95 %)."
    return (
        f"A cluster changes its label {number(rate)} times per {per} "
        f"({number(low)}–{number(high)}, 95 %)."
    )


def event_lines(events: pd.DataFrame) -> list[tuple[str, ...]]:
    """A line per event."""
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
    """A line per label."""
    lines: list[tuple[str, ...]] = []
    for row in rates.to_dict("records"):
        unit = "s" if row["unit"] == "s" else "frames"
        per = "s" if row["unit"] == "s" else "frame"
        lines.append(
            (
                row["label"] or "no label", str(row["n"]), str(row["ends_seen"]),
                f"{number(row['rate'])}/{per}",
                f"{number(row['rate_low'])}–{number(row['rate_high'])}",
                "not reached" if math.isnan(row["median"]) else f"{number(row['median'])} {unit}",
            )
        )  # fmt: skip
    return lines


def number(value: float) -> str:
    """Two figures that count."""
    return "–" if math.isnan(value) else f"{value:.2g}"
