"""Result of a run over images, and the circumstances of a run."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import pandas as pd

from ...core.acquisition_session import Sample
from ...core.errors import FAILED
from ...io.provenance import Outcome
from ...statistics.ratios.reference import Comparison


class WithOutcomes:
    """A result of a run over images."""

    outcomes: list[Outcome]

    @property
    def failed(self) -> list[Outcome]:
        """Outcomes of the images that could not be analysed."""
        return [outcome for outcome in self.outcomes if outcome.status == "failed"]


@dataclass(frozen=True, eq=False)
class Run(WithOutcomes):
    """Result of a run."""

    table: pd.DataFrame
    ratios: pd.DataFrame
    outcomes: list[Outcome]
    files: list[Path]  # files of the run; the record is the last one
    interrupted: bool
    comparison: Comparison | None = None  # comparison of the ratios with a reference
    # statistics of all images that failed, and their errors
    failed_statistics: dict[str, str] = field(default_factory=dict)
    reused: int = 0  # number of images that an earlier run had analysed
    # reason why the run ended early other than an interruption: the scheduler is lost
    problem: str | None = None

    def summary(self) -> dict[str, Any]:
        """Summarise the run as plain values for JSON."""
        out = self.files[0].parent if self.files else Path()
        return {
            "out": str(out) if self.files else None,
            "files": [path.relative_to(out).as_posix() for path in self.files],
            "interrupted": self.interrupted,
            "clusters": len(self.table),
            "images": summarise_outcomes(self.outcomes, "clusters"),
            "ratios": self.ratios.to_dict("records"),
            FAILED: self.failed_statistics,
            "reference": None if self.comparison is None else self.comparison.to_dict(),
            "reused": self.reused,
            "problem": self.problem,
        }


def summarise_outcomes(outcomes: Iterable[Outcome], counted: str) -> list[dict[str, Any]]:
    """Summarise outcomes as plain values for JSON; ``counted`` is "clusters" or "atoms"."""
    return [
        {
            "image": outcome.image,
            "path": outcome.path,
            "status": outcome.status,
            "error": outcome.error,
            counted: getattr(outcome, counted),
            "warnings": list(outcome.warnings),
            "session": outcome.session,
            "sample": outcome.sample,
            "seconds": sum(outcome.seconds.values()),
        }
        for outcome in outcomes
    ]


class RunInfo(NamedTuple):
    """Circumstances of a run, for its record."""

    started: str  # start time
    device: str  # device of the network
    interrupted: bool = False
    command: Sequence[str] | None = None  # command line; that of this process if None
    # descriptions of the sessions whose images were labelled jointly
    sessions: Sequence[dict[str, Any]] = ()
    samples: Sequence[Sample] = ()
