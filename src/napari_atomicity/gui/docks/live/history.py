"""A live session as it is plotted: figures of each image, in the order in which they came."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import pandas as pd

MAX_ROWS = 2000
"""Points that are kept for the plot; of more, every second one goes."""


@dataclass
class LiveHistory:
    """Rows of ``live.csv`` (`pipeline.live`), as far as they are plotted."""

    classes: tuple[str, ...] = ()
    rows: list[dict[str, Any]] = field(default_factory=list)

    @classmethod
    def of_log(cls, log: pd.DataFrame) -> LiveHistory:
        """Read the rows of an earlier run."""
        classes = [c.removeprefix("fraction_") for c in log.columns if c.startswith("fraction_")]
        history = cls(tuple(classes))
        for row in log.to_dict("records"):
            history.add(row)
        return history

    def add(self, row: Mapping[str, Any]) -> None:
        if not self.classes:
            self.classes = tuple(c.removeprefix("fraction_") for c in row if _is_fraction(c))
        self.rows.append(dict(row))
        if len(self.rows) > MAX_ROWS:
            self.rows = self.rows[: -MAX_ROWS // 4 : 2] + self.rows[-MAX_ROWS // 4 :]

    def values(self, column: str) -> list[float]:
        """Return a column, with NaN where it is missing."""
        return [_number(row.get(column)) for row in self.rows]

    def change(self) -> list[float]:
        """Of the conditions of the session, in units of its limit."""
        return self.values("session_change")

    def drift(self) -> list[float]:
        """Of the conditions, in units of the model's limit."""
        limits = self.values("drift_limit")
        return [d / x if x else math.nan for d, x in zip(self.values("drift"), limits, strict=True)]

    @property
    def alarms(self) -> list[str]:
        """Of each image what was wrong with it, or ""."""
        return [_texts(row.get("alarm")) for row in self.rows]


def _is_fraction(column: str) -> bool:
    return column.startswith("fraction_")


def _number(value: object) -> float:
    try:
        return float(str(value))
    except ValueError:
        return math.nan


def _texts(value: object) -> str:
    return value if isinstance(value, str) else ""


def last_finite(values: Sequence[float]) -> float:
    """Return the last finite value, or NaN."""
    return next((x for x in reversed(values) if math.isfinite(x)), math.nan)
