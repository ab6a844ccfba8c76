"""Claims of papers, our figures for them, and the rules from which verdicts follow."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

AGREES, PARTLY, DIFFERS, OPEN = "**agrees**", "in part", "**does not agree**", "undecided"
UNTESTED = "not tested"
MAX_WIDTH = 0.3
"""Width of the interval of a value above which nothing is decided."""


class MissingFigureError(SystemExit):
    """A figure that the page needs is not there."""

    def __init__(self, what: str, where: str) -> None:
        super().__init__(f"{where} has no {what}: make it again with this version (make papers)")


@dataclass(frozen=True)
class Interval:
    """A figure with its 95 % interval."""

    mean: float
    low: float
    high: float

    def text(self, digits: int = 2, sign: str = "") -> str:
        """Return the figure as ``0.94 (0.90 to 0.97)``."""
        mean, low, high = (f"{x:{sign}.{digits}f}" for x in (self.mean, self.low, self.high))
        return f"{mean} ({low} to {high})"


@dataclass(frozen=True)
class Finding:
    """Our figure for a claim, the verdict that follows, and why."""

    figure: str
    verdict: str
    why: str


@dataclass(frozen=True)
class Claim:
    """A published claim, where it is stated, the part of our command, and how it is tested."""

    text: str
    source: str
    command: str
    test: Callable[[Any], Finding]


# ---- rules
def reaches(value: Interval, published: float) -> str:
    """Agrees if the interval contains or exceeds the published value, and is not too wide."""
    if value.high < published:
        return DIFFERS
    return OPEN if value.high - value.low > MAX_WIDTH else AGREES


def is_positive(value: Interval) -> str:
    """Agrees if the whole interval of a difference is positive."""
    if value.low > 0:
        return AGREES
    return DIFFERS if value.high <= 0 else OPEN


def is_above(value: Interval, other: Interval) -> str:
    """Agrees if the whole interval is above the other one."""
    if value.low > other.high:
        return AGREES
    return DIFFERS if value.high < other.low or value.mean <= other.mean else OPEN


def all_of(verdicts: Sequence[str]) -> str:
    """Agrees if all do, in part if some do; otherwise undecided if one is."""
    found = set(verdicts)
    if len(found) == 1:
        return found.pop()
    return PARTLY if AGREES in found else OPEN


def all_needed(verdicts: Sequence[str]) -> str:
    """Return `all_of`, but a claim that needs all its parts is refuted by one."""
    return DIFFERS if DIFFERS in verdicts else all_of(verdicts)


# ---- validation.json
class Results:
    """Figures of ``validation.json`` and ``run.json``; those that are missing end the script."""

    def __init__(self, folder: Path) -> None:
        self.result = self._read(folder / "validation.json")
        self.record = self._read(folder / "run.json")
        self.classes: list[str] = self.get("classes")

    @staticmethod
    def _read(path: Path) -> dict[str, Any]:
        if not path.is_file():
            raise MissingFigureError(path.name, str(path.parent))
        return dict(json.loads(path.read_text(encoding="utf-8")))

    def get(self, *keys: str) -> Any:
        """Return a value of ``validation.json``."""
        value: Any = self.result
        for i, key in enumerate(keys):
            value = value.get(key) if isinstance(value, Mapping) else None
            if value is None:
                raise MissingFigureError(".".join(keys[: i + 1]), "validation.json")
        return value

    def interval(self, *keys: str) -> Interval:
        """Return a value with its interval."""
        return Interval(*(float(self.get(*keys, end)) for end in ("mean", "low", "high")))

    def score(self, method: str, group: str, score: str) -> Interval:
        """Return a score of a method."""
        return self.interval("methods", method, "groups", group, score)

    def difference(self, method: str, reference: str, group: str, score: str) -> Interval:
        """Return the difference of a score of two methods for the same clusters."""
        about = (method, reference, group)
        for row in self.get("differences"):
            if (row["method"], row["reference"], row["group"]) == about:
                ends = [row.get(score, {}).get(end) for end in ("mean", "low", "high")]
                if None not in ends:
                    return Interval(*ends)
        raise MissingFigureError(f"difference of {' and '.join(about)}, {score}", "validation.json")

    def runs(self, method: str, group: str) -> list[dict[str, Any]]:
        """Return the rows of the runs of a method."""
        rows = [r for r in self.get("runs") if (r["method"], r["group"]) == (method, group)]
        if not rows:
            raise MissingFigureError(f"runs of {method}, {group}", "validation.json")
        return rows

    def balances(self, fit: str, label: str) -> list[Interval]:
        """Return centre against outline of raw and LCN; nothing if no cluster has this label."""
        rows = [row for row in self.get("class_maps") if row["fit"] == fit]
        if not rows:
            raise MissingFigureError(f"class maps of {fit}", "validation.json")
        found = {
            row["channel"]: Interval(row["centre_against_outline"], row["low"], row["high"])
            for row in rows
            if row["class"] == label
        }
        return [found["raw"], found["LCN"]] if found else []
