"""A live session as it is plotted: figures of each image, in the order in which they came."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
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

    def values(self, column: str) -> np.ndarray:
        """Return a column, with NaN where it is missing."""
        values = pd.Series([row.get(column) for row in self.rows], dtype=object)
        return pd.to_numeric(values, errors="coerce").to_numpy(float)

    def change(self) -> np.ndarray:
        """Return the change of the conditions in the session, in units of its limit."""
        return self.values("session_change")

    def drift(self) -> np.ndarray:
        """Return the drift of the conditions from the training, in units of the model's limit."""
        limits = self.values("drift_limit")
        return self.values("drift") / np.where(limits == 0, np.nan, limits)

    @property
    def alarms(self) -> list[str]:
        """Of each image what was wrong with it, or ""."""
        return [_texts(row.get("alarm")) for row in self.rows]


def _is_fraction(column: str) -> bool:
    return column.startswith("fraction_")


def _texts(value: object) -> str:
    return value if isinstance(value, str) else ""


def last_finite(values: np.ndarray) -> float:
    """Return the last finite value, or NaN."""
    known = values[np.isfinite(values)]
    return float(known[-1]) if len(known) else math.nan
