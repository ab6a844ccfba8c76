"""Where a result comes from: versions, machine, settings, files and times."""

from __future__ import annotations

import os
import platform
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from .._version import __version__

PACKAGES = (
    "napari",
    "npe2",
    "PyQt6",
    "PySide6",
    "torch",
    "numpy",
    "scipy",
    "scikit-image",
    "pandas",
    "trackpy",
    "umap-learn",
    "numba",
    "tifffile",
    "imagecodecs",
    "rosettasciio",
    "ase",
)
"""The packages whose versions may change a result or explain a failure."""


def now() -> str:
    """The time, in UTC, to the second: 2026-05-01T09:30:00+00:00."""
    return datetime.now(UTC).isoformat(timespec="seconds")


def environment() -> dict[str, Any]:
    """Versions and machine; nothing heavy is imported for it, nothing names a person.

    Returns
    -------
    dict
        ``napari-atomicity``, ``python``, ``platform``, ``machine``, ``cpu_count`` and
        ``packages`` (name → version, None where it is not installed).
    """
    return {
        "napari-atomicity": __version__,
        "python": platform.python_version(),
        "platform": platform.platform(),
        "machine": platform.machine(),
        "cpu_count": os.cpu_count(),
        "packages": {name: _version(name) for name in PACKAGES},
    }


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


@dataclass(frozen=True)
class Outcome:
    """What became of one image.

    Parameters
    ----------
    image
        Its name in the tables.
    path
        Where it was sought.
    status
        "done", "failed", or "not reached" when the run was interrupted before.
    error
        What went wrong and what to do, one line.
    traceback
        Of an error that nobody foresaw.
    sha256
        Hash of the file.
    pixel_size_nm
        As used.
    calibration
        Where the pixel size comes from.
    clusters, atoms
        How many were found, of what was looked for.
    parameters
        Settings, model and device, as used.
    seconds
        Stage → seconds.
    warnings
        What a reader of the results should know.
    """

    image: str
    path: str
    status: str
    error: str | None = None
    traceback: str | None = None
    sha256: str | None = None
    pixel_size_nm: float | None = None
    calibration: str | None = None
    clusters: int | None = None
    atoms: int | None = None
    parameters: dict[str, Any] = field(default_factory=dict)
    seconds: dict[str, float] = field(default_factory=dict)
    warnings: tuple[str, ...] = ()


def run_record(
    outcomes: Sequence[Outcome],
    *,
    started: str,
    finished: str,
    parameters: dict[str, Any],
    model: dict[str, Any] | None,
    device: str | None,
    outputs: Sequence[Path] = (),
    interrupted: bool = False,
    command: Sequence[str] | None = None,
) -> dict[str, Any]:
    """Everything needed to repeat a run or to explain it, as it goes into ``run.json``.

    Parameters
    ----------
    outcomes
        One for each image.
    started, finished
        As `now` gives them.
    parameters
        As asked for.
    model
        Provenance of the model (`ModelCard.provenance`); None if none was loaded.
    device
        That the network ran on.
    outputs
        Files written.
    interrupted
        Whether somebody stopped it.
    command
        The command line; that of this process if None.
    """
    failed = sum(outcome.status == "failed" for outcome in outcomes)
    return {
        "program": "napari-atomicity",
        "version": __version__,
        "command": list(sys.argv if command is None else command),
        "started": started,
        "finished": finished,
        "status": "interrupted" if interrupted else "partly failed" if failed else "done",
        "parameters": parameters,
        "model": model,
        "device": device,
        "images_done": sum(outcome.status == "done" for outcome in outcomes),
        "images_failed": failed,
        "images": [asdict(outcome) for outcome in outcomes],
        "outputs": [path.name for path in outputs],
        "environment": environment(),
    }
