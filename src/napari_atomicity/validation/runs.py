"""Runs of models: stored when finished, so that a validation continues after an interruption."""

from __future__ import annotations

import hashlib
import json
import shutil
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from .._version import __version__
from ..core.errors import ReadError
from ..core.progress import Progress, Stop, check, format_duration, prefixed, report
from ..io.files import to_json, write_json
from ..io.images import find_images, sha256_of
from ..io.inputs import make_folder
from .data import read_amounts
from .jobs import FitJob, Prepared, run_job
from .methods import identities
from .request import FIGURES, KEY, RESULT, ExistingResultsError, ValidationRequest

OnLine = Callable[[str], None]
Run = Mapping[str, Any]
"""Result of a job, see `jobs.run_job`."""
_NOT_OF_RUNS = ("device", "quick")
CURVE_SETTINGS = ("images_per_class", "repeats")
"""Settings of the learning curve, which do not concern the comparison of methods."""


class RunStore:
    """Finished runs of a validation, one JSON file each."""

    def __init__(self, folder: Path, key: str, result: str = RESULT) -> None:
        self.folder, self.key, self.result = folder, key, result

    @property
    def has_others(self) -> bool:
        """Whether the folder has runs of other settings or data."""
        path = self.folder / KEY
        return path.is_file() and json.loads(path.read_text()).get("key") != self.key

    def refuse_others(self) -> None:
        """Raise `ExistingResultsError` if the folder has runs of other settings or data."""
        if self.has_others:
            raise ExistingResultsError(self.folder.parent)

    def create(self) -> None:
        """Create the folder; runs of other settings or data are removed, with their result."""
        if self.has_others:
            shutil.rmtree(self.folder)
            (self.folder.parent / self.result).unlink(missing_ok=True)
            for figure in (self.folder.parent / FIGURES).glob("class-maps-*"):  # of its models
                figure.unlink()
        make_folder(self.folder)
        write_json(self.folder / KEY, {"key": self.key})

    def read(self, job: FitJob) -> dict[str, Any] | None:
        """Return a finished run; None if there is none, or methods came or changed since."""
        path = self.folder / f"{job.name}.json"
        if not path.is_file():
            return None
        run: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        known, wanted = run.get("methods", {}), identities(job.fit)
        # Runs of earlier versions name no methods: they have those of the package.
        is_whole = all(known.get(name, "") == one for name, one in wanted.items())
        return run if is_whole else None

    def write(self, job: FitJob, run: dict[str, Any]) -> dict[str, Any]:
        """Store a finished run; return it as a later `read` does."""
        run = {**run, "methods": identities(job.fit)}
        write_json(self.folder / f"{job.name}.json", run)
        return dict(json.loads(to_json(run)))


def run_jobs(
    jobs: Sequence[FitJob],
    prepared: Prepared,
    store: RunStore,
    progress: Progress | None = None,
    stop: Stop | None = None,
    on_line: OnLine | None = None,
) -> list[dict[str, Any]]:
    """Run all jobs whose result is not stored, and store each result when it is finished."""
    found: list[dict[str, Any]] = []
    for job in jobs:
        check(stop)
        title = job.title(prepared.request)
        with_number = _with_number(progress, jobs, found)
        result = store.read(job)
        done = "finished before"
        if result is None:
            result = run_job(job, prepared, prefixed(with_number, f"{title}: "), stop)
            if reason := result.get("not_possible"):
                done = f"not possible: {reason}"
            else:
                result = store.write(job, result)
                done = format_duration(_seconds_of(result))
        found.append(result)
        if on_line is not None:
            on_line(f"{len(found)}/{len(jobs)} {title}: {done}")
    return found


def _with_number(
    progress: Progress | None, jobs: Sequence[FitJob], found: Sequence[Mapping[str, Any]]
) -> Progress:
    """Return a progress function that adds the number of the next run and the time left."""
    seconds = estimate_seconds(jobs, found)
    number, started = f"Run {len(found) + 1} of {len(jobs)}", time.monotonic()

    def _report_with_number(done: int, total: int, message: str) -> None:
        left = ""
        if seconds:
            of_this = max(seconds[0] - (time.monotonic() - started), 0.0)
            left = f", {format_duration(of_this + sum(seconds[1:]))} left"
        report(progress, done, total, f"{number}{left}: {message}")

    return _report_with_number


def estimate_seconds(jobs: Sequence[FitJob], found: Sequence[Mapping[str, Any]]) -> list[float]:
    """Estimate the seconds of each job that is left, from runs of its fit and the training sets.

    Empty if no model has been trained yet.
    """
    done = [(job, run) for job, run in zip(jobs, found, strict=False) if "not_possible" not in run]

    def _rate(name: str | None = None) -> float:
        """Return the seconds per size of a fit, or else of all that are trained."""
        own = [(j, r) for j, r in done if j.fit.name == name or (not name and j.fit.trained)]
        size = sum(job.size for job, _ in own)
        return sum(_seconds_of(run) for _, run in own) / size if size else 0.0

    of_all = _rate()
    return [job.size * (_rate(job.fit.name) or of_all) for job in jobs[len(found) :] if of_all]


def _seconds_of(run: Mapping[str, Any]) -> float:
    return float(sum(run["seconds"].values()))


def hash_files(request: ValidationRequest) -> dict[str, str]:
    """Return file → SHA-256 of all images and tables; refuse what is missing or no table."""
    folders = (request.data, request.mixtures, request.shifted)
    for path in (*folders, request.deposits):
        if path is not None and not path.exists():
            raise ReadError("there is no such file or folder", path)
    if request.deposits is not None:
        read_amounts(request.deposits)
    hashes = {}
    for folder in folders:
        if folder is None:
            continue
        own = find_images([folder]) if folder.is_dir() else [folder]
        tables = sorted(folder.glob("*.csv")) if folder.is_dir() else []
        for path in (*own, *tables):
            if path.is_file():
                hashes[path.as_posix()] = sha256_of(path)
    if request.deposits is not None:
        hashes[request.deposits.as_posix()] = sha256_of(request.deposits)
    return hashes


def key_of(request: ValidationRequest, files: dict[str, str], left_out: Sequence[str] = ()) -> str:
    """Return a hash of all that decides the result of a run; the device does not."""
    settings = {k: v for k, v in asdict(request).items() if k not in (*left_out, *_NOT_OF_RUNS)}
    settings["methods"] = None
    settings |= {k: v.resolve() for k, v in settings.items() if isinstance(v, Path)}
    found = {Path(name).resolve().as_posix(): sha256 for name, sha256 in files.items()}
    values = {"version": __version__, "settings": settings, "files": found}
    return hashlib.sha256(to_json(values).encode()).hexdigest()
