"""Scores of a validation as text."""

from __future__ import annotations

from collections.abc import Mapping

MIN_SHOWN = -10
"""R² below it, as of few images that hardly differ, is not shown as a number."""


def format_number(value: float | None, digits: int = 2) -> str:
    """Format a score, or a dash if it is not defined.

    Parameters
    ----------
    value : float or None
        The score.
    digits : int, optional
        Number of decimals.
    """
    if value is None:
        return "–"
    return f"{value:.{digits}f}" if value > MIN_SHOWN else f"< {MIN_SHOWN}"


def format_score(score: Mapping[str, float | None]) -> str:
    """Format a score as ``0.94 ± 0.03 (0.90 to 0.97)``: over the runs, and its interval.

    Parameters
    ----------
    score : mapping of str to float or None
        ``mean``, ``sd``, ``low`` and ``high``, of ``validation.json``.
    """
    if score["mean"] is None:
        return format_number(None)
    scatter = "" if score["sd"] is None else f" ± {score['sd']:.2f}"
    ends = (score["low"], score["high"])
    interval = "" if ends[0] is None else " ({} to {})".format(*map(format_number, ends))
    return f"{score['mean']:.2f}{scatter}{interval}"
