"""Run of a validation: all jobs, resumable, and its files."""

from __future__ import annotations

import hashlib
import json
import shutil
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np

from .._version import __version__
from ..core.errors import AtomicityError, ReadError
from ..core.patches import PatchSettings
from ..core.progress import Progress, Stop, check, format_duration, prefixed, report
from ..io.files import to_json, write_json
from ..io.images import find_images, sha256_of
from ..io.inputs import make_folder
from ..io.provenance import environment, now
from ..models.files import find_model, read_model
from .data import (
    MIXED,
    SELECTED,
    SHIFTED,
    ValidationData,
    assign_folds,
    check_training,
    cut_patches,
    read_folds,
    read_mixtures,
    read_size_selected,
)
from .existing_results import (
    FIGURES,
    KEY,
    RECORD,
    REPORT,
    RESULT,
    RUNS,
    ExistingResultsError,
)
from .jobs import FitJob, Prepared, run_job
from .methods import FITS, METHODS, ComparedMethod
from .report import write_validation_report
from .request import ValidationRequest
from .summary import summarise, write_tables

OnLine = Callable[[str], None]


def validate(
    request: ValidationRequest,
    out: Path,
    *,
    overwrite: bool = False,
    progress: Progress | None = None,
    stop: Stop | None = None,
    on_line: OnLine | None = None,
) -> dict[str, Any]:
    """Compare methods on images of known classes, cross-validated by image.

    Each run of a fit is stored when it is finished, so that the same call continues after an
    interruption.

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
        Content of ``validation.json``.

    Raises
    ------
    ExistingResultsError
        If the folder has runs of other settings or data.
    AtomicityError
        If the data are not sufficient, or a file does not exist or can't be read or written.
    Cancelled
        If ``stop()`` is true; finished runs are kept.
    """
    started = now()
    print_line = on_line or (lambda _: None)
    files = _hash_files(request)
    store = RunStore(out / RUNS, _key(request, files))
    if not overwrite:
        store.refuse_others()
    check_names(request.methods)
    data = read_data(request, progress, stop)
    methods, left_out = choose_methods(request.methods, data)
    prepared = prepare(request, data, methods, out / FIGURES)
    store.create()
    make_folder(out / FIGURES)
    for reason in left_out:
        print_line(reason)
    jobs = plan_jobs(prepared)
    found: list[dict[str, Any]] = []
    for job in jobs:
        check(stop)
        with_time = _with_number(progress, jobs, found)
        number = f"{len(found) + 1}/{len(jobs)}"
        found.append(_run_or_read(job, prepared, store, number, with_time, stop, print_line))
    result = summarise(prepared, found, left_out)
    write_json(out / RESULT, result)
    tables = write_tables(out, result, found)
    record = {
        "program": "napari-atomicity",
        "version": __version__,
        "started": started,
        "finished": now(),
        "parameters": {**asdict(request), "methods": [m.name for m in methods]},
        "seeds": _seeds(request),
        "files": files,
        "models": {
            job.name: run["model"]["model_id"] for job, run in zip(jobs, found, strict=True)
        },
        "seconds": result["seconds"],
        "outputs": [*(path.name for path in tables), RESULT, REPORT],
        "environment": environment(),
    }
    write_validation_report(out, result, found, record)
    write_json(out / RECORD, record)
    return result


# ---- data
def read_data(
    request: ValidationRequest, progress: Progress | None = None, stop: Stop | None = None
) -> ValidationData:
    """Read all images of a request, and detect their clusters.

    Parameters
    ----------
    request : ValidationRequest
        Data and settings.
    progress, stop : callable, optional
        Called between images.
    """
    pixel = request.pixel_size_nm
    data = read_size_selected(request.data, pixel, progress, stop)
    assign_folds(data.images, request.folds, request.seed)  # before the long steps
    images = list(data.images)
    for folder, group in ((request.mixtures, MIXED), (request.shifted, SHIFTED)):
        if folder is not None:
            images += read_mixtures(
                folder, group, data.classes, request.deposits, pixel, progress, stop
            )
    return replace(data, images=tuple(images))


def check_names(names: Sequence[str]) -> None:
    """Refuse names of methods that are not known.

    Parameters
    ----------
    names : sequence of str
        Names of methods.
    """
    unknown = [name for name in names if name not in METHODS]
    if unknown:
        raise AtomicityError(
            f"there is no method {unknown[0]!r}", advice=f"The methods are {', '.join(METHODS)}"
        )


def choose_methods(
    names: Sequence[str], data: ValidationData
) -> tuple[list[ComparedMethod], list[str]]:
    """Choose the methods that are possible.

    Parameters
    ----------
    names : sequence of str
        Names of methods; all if empty.
    data : ValidationData
        Images.

    Returns
    -------
    methods : list of ComparedMethod
        The methods.
    left_out : list of str
        Why methods are left out, as sentences.

    Raises
    ------
    AtomicityError
        If no method is possible.
    """
    chosen = [METHODS[name] for name in names] or list(METHODS.values())
    left_out = []
    shipped = read_model(find_model("default"))[0].classes
    if not set(data.classes) <= set(shipped):
        if any(not FITS[m.fit].trained for m in chosen):
            left_out.append("The shipped model has other classes and is left out.")
        chosen = [m for m in chosen if FITS[m.fit].trained]
    if not data.group(SHIFTED):
        if any(m.adapted for m in chosen):
            left_out.append("Without shifted images there is no adaptation.")
        chosen = [m for m in chosen if not m.adapted]
    if not chosen:
        raise AtomicityError(f"no method can be compared: {' '.join(left_out)}".rstrip("."))
    return chosen, left_out


def prepare(
    request: ValidationRequest,
    data: ValidationData,
    methods: Sequence[ComparedMethod],
    figures: Path,
) -> Prepared:
    """Divide the size-selected images for each seed, and cut their patches.

    Parameters
    ----------
    request : ValidationRequest
        Settings.
    data : ValidationData
        Images.
    methods : sequence of ComparedMethod
        Methods to compare.
    figures : Path
        Folder of the figures.

    Raises
    ------
    ReadError
        If a class has clusters in too few images.
    """
    selected = data.group(SELECTED)
    given = read_folds(request.data) if request.data.is_dir() else {}
    folds = {seed: assign_folds(selected, request.folds, seed, given) for seed in _seeds(request)}
    parts = cut_patches(selected, PatchSettings())
    for fold in folds.values():
        check_training(selected, parts, fold)
    return Prepared(request, data, parts, folds, methods, figures)


def plan_jobs(prepared: Prepared) -> list[FitJob]:
    """List the runs of all fits of the methods."""
    request = prepared.request
    names = dict.fromkeys(method.fit for method in prepared.methods)
    fits = [FITS[name] for name in FITS if name in names]
    seeds = _seeds(request)
    jobs = [FitJob(fit, None, seeds[0], True) for fit in fits if not fit.trained]
    for seed in seeds:
        for fold in range(request.folds):
            is_first = seed == seeds[0] and fold == 0
            jobs += [FitJob(fit, fold, seed, is_first) for fit in fits if fit.trained]
    return jobs


def _seeds(request: ValidationRequest) -> list[int]:
    return [request.seed + k for k in range(request.seeds)]


# ---- runs
class RunStore:
    """Finished runs of a validation, one JSON file each.

    Parameters
    ----------
    folder : Path
        Folder of the files.
    key : str
        Key of settings and data.
    """

    def __init__(self, folder: Path, key: str) -> None:
        self.folder, self.key = folder, key

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
            (self.folder.parent / RESULT).unlink(missing_ok=True)
        make_folder(self.folder)
        write_json(self.folder / KEY, {"key": self.key})

    def read(self, job: FitJob) -> dict[str, Any] | None:
        """Return a finished run; None if there is none."""
        path = self.folder / f"{job.name}.json"
        return json.loads(path.read_text(encoding="utf-8")) if path.is_file() else None

    def write(self, job: FitJob, run: dict[str, Any]) -> dict[str, Any]:
        """Store a finished run; return it as a later `read` does.

        Parameters
        ----------
        job : FitJob
            The job.
        run : dict
            Its result.
        """
        write_json(self.folder / f"{job.name}.json", run)
        return dict(json.loads(to_json(run)))


def _run_or_read(
    job: FitJob,
    prepared: Prepared,
    store: RunStore,
    number: str,
    progress: Progress | None,
    stop: Stop | None,
    print_line: OnLine,
) -> dict[str, Any]:
    """Return a run that is stored, or run and store it."""
    part = "" if job.fold is None else f", part {job.fold + 1} of {prepared.request.folds}"
    title = f"{job.fit.title}{part}, seed {job.seed}"
    stored = store.read(job)
    if stored is not None:
        print_line(f"{number} {title}: finished before")
        return stored
    run = store.write(job, run_job(job, prepared, prefixed(progress, f"{title}: "), stop))
    print_line(f"{number} {title}: {format_duration(_seconds_of(run))}")
    return run


def _with_number(
    progress: Progress | None, jobs: Sequence[FitJob], found: Sequence[Mapping[str, Any]]
) -> Progress:
    """Return a progress function that adds the number of the next run and the time left.

    Parameters
    ----------
    progress : callable or None
        Progress function.
    jobs : sequence of FitJob
        All jobs.
    found : sequence of mapping
        Finished runs of the first jobs.
    """
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
    """Estimate the time of each job that is left, from the mean time of runs of its fit.

    Parameters
    ----------
    jobs : sequence of FitJob
        All jobs.
    found : sequence of mapping
        Finished runs of the first jobs.

    Returns
    -------
    list of float
        Seconds; empty if no model has been trained yet.
    """
    of_fit: dict[str, list[float]] = {}
    for job, run in zip(jobs, found, strict=False):
        of_fit.setdefault(job.fit.name, []).append(_seconds_of(run))
    trained = [s for job in jobs[: len(found)] if job.fit.trained for s in of_fit[job.fit.name]]
    if not trained:
        return []
    return [float(np.mean(of_fit.get(job.fit.name, trained))) for job in jobs[len(found) :]]


def _seconds_of(run: Mapping[str, Any]) -> float:
    return float(sum(run["seconds"].values()))


def _hash_files(request: ValidationRequest) -> dict[str, str]:
    """Return file → SHA-256 of all images and tables; refuse paths that do not exist."""
    folders = (request.data, request.mixtures, request.shifted)
    for path in (*folders, request.deposits):
        if path is not None and not path.exists():
            raise ReadError("there is no such file or folder", path)
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


def _key(request: ValidationRequest, files: dict[str, str]) -> str:
    """Return a hash of all that decides the result, except the device."""
    settings = {**asdict(request), "device": None, "methods": None}
    settings |= {k: v.resolve() for k, v in settings.items() if isinstance(v, Path)}
    found = {Path(name).resolve().as_posix(): sha256 for name, sha256 in files.items()}
    values = {"version": __version__, "settings": settings, "files": found}
    return hashlib.sha256(to_json(values).encode()).hexdigest()
