"""Results of a watched folder: per image, and at the end."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Any

import pandas as pd

from ..io.provenance import Outcome
from ..models.analysis import Analysis
from .arrivals import (
    FileFingerprint,
)
from .live import Conditions
from .runs import Run


@dataclass(frozen=True, eq=False)
class LiveUpdate:
    """What there is to show once a file was taken."""

    outcome: Outcome
    # its analysis; None if it failed, or was analysed before under another name
    analysis: Analysis | None = None
    conditions: Conditions | None = None  # confidence, drift and alarms; None if it failed
    # running ones of all images, or None where they were found just before (`live.Running`)
    ratios: pd.DataFrame | None = None
    row: dict[str, Any] | None = None  # of ``live.csv``; None if the image was not analysed now
    waiting: int = 0  # files that are there and were not taken yet
    latency_s: float = float("nan")  # from the last change of the file to now
    # what has begun to be wrong with this image; "" if nothing, or if it was before
    alarm: str = ""
    calm: bool = False  # whether an alarm has ended with it


@dataclass(frozen=True, eq=False)
class LiveRun(Run):
    """What came of it; ``analysed`` images in this session, and how many wait."""

    analysed: int = 0
    waiting: int = 0

    def summary(self) -> dict[str, Any]:
        """In a few words, ready for JSON."""
        return {**super().summary(), "analysed": self.analysed, "waiting": self.waiting}


def compute_latency_s(signature: FileFingerprint) -> float:
    """Seconds since the last change of a file, by its own time; 0 if that is in the future."""
    return max(0.0, time.time() - signature.mtime_ns / 1e9)
