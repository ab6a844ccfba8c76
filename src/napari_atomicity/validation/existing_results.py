"""Files of a validation, and the error of a folder that has those of another one."""

from __future__ import annotations

from pathlib import Path

from ..core.errors import AtomicityError

DATA, RUNS, FIGURES = "data", "runs", "figures"
"""Folders of simulated data, of finished runs and of figures."""
KEY = "key.json"
"""File in `RUNS` with the key of settings and data."""
RESULT, RECORD, REPORT = "validation.json", "run.json", "report.html"
CURVE, CURVE_RESULT = "learning_curve", "learning_curve.json"
"""Folder of the learning curve in that of the results, and its result."""


class ExistingResultsError(AtomicityError):
    """A folder has results of other settings or data."""

    def __init__(self, folder: Path) -> None:
        super().__init__(
            "this folder has results of other settings or data",
            folder,
            "Choose another folder for --out, or discard them with --overwrite",
        )


def count_finished_runs(folder: Path) -> int:
    """Count the finished runs of a folder of results, of whatever settings."""
    return sum(path.name != KEY for path in (folder / RUNS).glob("*.json"))
