"""Scores of a validation as text."""

from __future__ import annotations

from collections.abc import Mapping

MOST_SHOWN = 10
"""R² and its differences beyond it, as of few images that hardly differ, are not numbers."""
NOT_DEFINED = "–"


def format_number(value: float | None, digits: int = 2, sign: str = "") -> str:
    """Format a score, or a dash if it is not defined."""
    if value is None:
        return NOT_DEFINED
    if abs(value) > MOST_SHOWN:
        return f"< -{MOST_SHOWN}" if value < 0 else f"> {MOST_SHOWN}"
    return f"{value:{sign}.{digits}f}"


def score_and_interval(score: Mapping[str, float | None]) -> tuple[str, str]:
    """Format a score over the runs as ``0.94 ± 0.03``, and its interval as ``0.90 to 0.97``."""
    if score["mean"] is None:
        return NOT_DEFINED, ""
    scatter = "" if score["sd"] is None else f" ± {score['sd']:.2f}"
    ends = (format_number(score["low"]), format_number(score["high"]))
    return f"{score['mean']:.2f}{scatter}", "" if score["low"] is None else " to ".join(ends)


def format_score(score: Mapping[str, float | None]) -> str:
    """Format a score and its interval in one line, as ``0.94 ± 0.03 (0.90 to 0.97)``."""
    value, interval = score_and_interval(score)
    return f"{value} ({interval})" if interval else value


def format_difference(score: Mapping[str, float | None] | None) -> str:
    """Format a difference between methods as ``+0.10 (+0.05 to +0.14)``."""
    if score is None or score["mean"] is None:
        return NOT_DEFINED
    mean, low, high = (format_number(score[key], sign="+") for key in ("mean", "low", "high"))
    return f"{mean} ({low} to {high})"
