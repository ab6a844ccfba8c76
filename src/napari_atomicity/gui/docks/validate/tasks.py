"""What the dock Validate runs in a worker, and the folder of its results."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ....core.progress import Progress, Stop
from ....io.files import read_document
from ....validation.existing_results import (
    CURVE,
    CURVE_RESULT,
    DATA,
    RESULT,
    ExistingResultsError,
    count_finished_runs,
)
from ....validation.request import ValidationRequest, quickened
from ... import tasks


@dataclass(frozen=True)
class Wanted:
    """A validation that is asked for."""

    request: ValidationRequest
    out: Path
    simulate: bool = False
    quick: bool = False
    learning_curve: bool = False


@dataclass(frozen=True)
class Found:
    """What a folder of results has."""

    # content of ``validation.json``; None if the validation is not finished
    result: dict[str, Any] | None = None
    runs: int = 0
    # content of ``learning_curve.json``; None if there is no finished learning curve
    curve: dict[str, Any] | None = None
    curve_runs: int = 0


def compare_methods(
    wanted: Wanted,
    overwrite: bool,
    progress: Progress | None = None,
    stop: Stop | None = None,
) -> dict[str, Any] | None:
    """Simulate the data if wanted, and compare the methods or train on more and more images.

    Run in a worker.
    """
    from ....validation.learning_curve.run import measure_learning_curve
    from ....validation.run import validate
    from ....validation.simulated import simulated_request

    tasks.cap_torch_threads()
    request = quickened(wanted.request) if wanted.quick else wanted.request
    out = wanted.out / CURVE if wanted.learning_curve else wanted.out
    compute = measure_learning_curve if wanted.learning_curve else validate
    try:
        if wanted.simulate:
            request = simulated_request(
                request,
                out / DATA,
                quick=wanted.quick,
                learning_curve=wanted.learning_curve,
                overwrite=overwrite,
                progress=progress,
                stop=stop,
            )
        return compute(request, out, overwrite=overwrite, progress=progress, stop=stop)
    except ExistingResultsError:
        return None


def read_results(out: Path) -> Found:
    """Read what a folder of results has; run in a worker."""
    curve = out / CURVE
    return Found(
        _read_json(out / RESULT),
        count_finished_runs(out),
        _read_json(curve / CURVE_RESULT),
        count_finished_runs(curve),
    )


def _read_json(path: Path) -> dict[str, Any] | None:
    try:
        content: dict[str, Any] = json.loads(read_document(path))
    except (OSError, ValueError):
        return None
    return content


def suggested_folder(data: Path | None, simulate: bool) -> str:
    """Return a folder for the results: beside the data, or in the home folder."""
    if simulate:
        return str(Path.home() / "simulated-validation")
    return "" if data is None else str(data.with_name(f"{data.name}-validation"))
