"""Run of a learning curve: all jobs, resumable, and its files."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from ...core.progress import Progress, Stop
from ...io.tables import write_table
from ..data import ValidationImage
from ..existing_results import CURVE_RESULT
from ..jobs import FitJob, Prepared
from ..request import ValidationRequest
from ..run import CrossValidation, fits_of
from ..runs import OnLine, Run
from .jobs import divide, plan_curve
from .report import write_curve_report
from .summary import curve_table, summarise_curve

CURVE_METHODS = (
    "diameter",
    "dual-patch",
    "dual-session-combination",
    "dual-trained-combination",
    "dual-shipped-combination",
)
"""Methods of a learning curve unless others are chosen."""


def measure_learning_curve(
    request: ValidationRequest,
    out: Path,
    *,
    overwrite: bool = False,
    progress: Progress | None = None,
    stop: Stop | None = None,
    on_line: OnLine | None = None,
) -> dict[str, Any]:
    """Train on few and many images of each class, and test on the same other images.

    Each run is stored when it is finished, so that the same call continues after an interruption.

    Parameters
    ----------
    request : ValidationRequest
        Data and settings.
    out : Path
        Folder of the results.
    overwrite : bool, optional
        Whether runs of other settings or data in this folder are discarded.
    progress, stop : callable, optional
        ``progress(done, total, message)`` and ``stop() -> bool``.
    on_line : callable, optional
        Called with a line of text after each run.

    Returns
    -------
    dict of str to Any
        Content of ``learning_curve.json``.

    Raises
    ------
    ExistingResultsError
        If the folder has runs of other settings or data.
    AtomicityError
        If the data are not sufficient, or a file does not exist or can't be read or written.
    Cancelled
        If ``stop()`` is true; finished runs are kept.
    """
    request = replace(request, shifted=None, methods=request.methods or CURVE_METHODS)
    return LearningCurve(request).run(out, overwrite, progress, stop, on_line)


class LearningCurve(CrossValidation):
    """Training on few and many images of each class."""

    result_file = CURVE_RESULT
    not_of_runs = ("folds", "seeds", "repeats", "seed")  # the seed is in the name of a run

    def _divide(
        self, images: Sequence[ValidationImage], given: Mapping[str, int]
    ) -> tuple[dict[int, np.ndarray], Sequence[str]]:
        """Return seed → place of each image, and why numbers of images are left out."""
        seeds = [self.request.seed + k for k in range(self.request.repeats)]
        self.division = divide(images, self.request.images_per_class, seeds, given)
        return self.division.places, self.division.left_out

    def _plan(self, prepared: Prepared) -> Sequence[FitJob]:
        """List the runs of all fits, numbers of images and repeats."""
        return plan_curve(fits_of(prepared.methods), self.division)

    def _summarise(
        self, prepared: Prepared, runs: Sequence[Run], left_out: Sequence[str]
    ) -> dict[str, Any]:
        """Return the content of ``learning_curve.json``."""
        return summarise_curve(prepared, self.division, runs, left_out)

    def _write_tables(self, out: Path, result: dict[str, Any], runs: Sequence[Run]) -> list[Path]:
        """Write ``learning_curve.csv``."""
        return [write_table(curve_table(result), (out / CURVE_RESULT).with_suffix(".csv"))]

    def _write_report(
        self, out: Path, result: dict[str, Any], runs: Sequence[Run], record: dict[str, Any]
    ) -> None:
        """Write the report with its figure."""
        write_curve_report(out, result, record)
