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
    """What there is to show once a file was taken.

    Parameters
    ----------
    analysis : Analysis, optional
        Its analysis; None if it failed, or was analysed before under another name.
    conditions : Conditions, optional
        Confidence, drift and alarms; None if it failed.
    ratios : DataFrame, optional
        Running ones of all images, or None where they were found just before (`live.Running`).
    row : dict of str to Any, optional
        Of ``live.csv``; None if the image was not analysed now.
    waiting : int, optional
        Files that are there and were not taken yet.
    latency_s : float, optional
        From the last change of the file to now.
    alarm : str, optional
        What has begun to be wrong with this image; "" if nothing, or if it was before.
    calm : bool, optional
        Whether an alarm has ended with it.
    """

    outcome: Outcome
    analysis: Analysis | None = None
    conditions: Conditions | None = None
    ratios: pd.DataFrame | None = None
    row: dict[str, Any] | None = None
    waiting: int = 0
    latency_s: float = float("nan")
    alarm: str = ""
    calm: bool = False


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
