"""Run of a validation: all jobs, resumable, and its files."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np

from .._version import __version__
from ..core.errors import AtomicityError
from ..core.patches import PatchSettings
from ..core.progress import Progress, Stop
from ..io.files import write_json
from ..io.inputs import check_folder, make_folder
from ..io.provenance import environment, now
from ..models.files import find_model, read_model
from .data import (
    MIXED,
    SELECTED,
    SHIFTED,
    ValidationData,
    ValidationImage,
    assign_folds,
    check_training,
    cut_patches,
    read_folds,
    read_mixtures,
    read_size_selected,
)
from .jobs import FitJob, Prepared
from .methods import FITS, METHODS, ComparedMethod, Fit
from .report import write_validation_report
from .request import FIGURES, RECORD, REPORT, RESULT, RUNS, ValidationRequest
from .runs import CURVE_SETTINGS, OnLine, Run, RunStore, hash_files, key_of, run_jobs
from .summary import summarise, write_tables


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
    return CrossValidation(request).run(out, overwrite, progress, stop, on_line)


class CrossValidation:
    """Comparison of methods, cross-validated by image.

    A subclass divides the images in another way, and summarises the runs as something else.
    """

    result_file = RESULT
    not_of_runs: Sequence[str] = CURVE_SETTINGS
    """Settings that do not change a run."""

    def __init__(self, request: ValidationRequest) -> None:
        self.request = request

    def run(
        self,
        out: Path,
        overwrite: bool = False,
        progress: Progress | None = None,
        stop: Stop | None = None,
        on_line: OnLine | None = None,
    ) -> dict[str, Any]:
        """Run all jobs that are left, and write result, tables, report and record."""
        started = now()
        print_line = on_line or (lambda _: None)
        check_names(self.request.methods)
        files = hash_files(self.request)
        store = RunStore(
            out / RUNS, key_of(self.request, files, self.not_of_runs), self.result_file
        )
        if not overwrite:
            store.refuse_others()
        check_folder(out)  # before the images are read
        prepared, left_out = self.prepare(out / FIGURES, progress, stop)
        jobs = self._plan(prepared)
        store.create()
        make_folder(out / FIGURES)
        for reason in left_out:
            print_line(reason)
        runs = run_jobs(jobs, prepared, store, progress, stop, print_line)
        result = {
            "quick": self.request.quick,
            **self._summarise(prepared, runs, left_out),
        }
        write_json(out / self.result_file, result)
        tables = self._write_tables(out, result, runs)
        record = {
            **_describe_run(prepared, jobs, runs),
            "started": started,
            "finished": now(),
            "files": files,
            "seconds": result["seconds"],
            "outputs": [*(path.name for path in tables), self.result_file, REPORT],
        }
        self._write_report(out, result, runs, record)
        write_json(out / RECORD, record)
        return result

    def prepare(
        self, figures: Path, progress: Progress | None = None, stop: Stop | None = None
    ) -> tuple[Prepared, list[str]]:
        """Read and divide all images; return what jobs share, and what is left out and why."""
        request = self.request
        data = read_size_selected(request.data, request.pixel_size_nm, progress, stop)
        given = read_folds(request.data) if request.data.is_dir() else {}
        folds, reasons = self._divide(data.images, given)  # before the long steps
        data = _add_mixtures(data, request, progress, stop)
        methods, left_out = choose_methods(request.methods, data)
        parts = cut_patches(data.group(SELECTED), PatchSettings())
        return Prepared(request, data, parts, folds, methods, figures), [*left_out, *reasons]

    def _divide(
        self, images: Sequence[ValidationImage], given: Mapping[str, int]
    ) -> tuple[dict[int, np.ndarray], Sequence[str]]:
        """Return seed → part of each size-selected image, and what is left out and why."""
        number, seed = self.request.folds, self.request.seed
        seeds = range(seed, seed + self.request.seeds)
        return {k: assign_folds(images, number, k, given) for k in seeds}, ()

    def _plan(self, prepared: Prepared) -> Sequence[FitJob]:
        """List the runs of all fits of the methods; refuse parts without clusters of a class."""
        for division in prepared.folds.values():
            check_training(prepared.data.group(SELECTED), prepared.parts, division)
        fits, first = fits_of(prepared.methods), self.request.seed
        jobs = [FitJob(fit, None, first, True) for fit in fits if not fit.trained]
        for seed in prepared.folds:
            for fold in range(self.request.folds):
                is_first = seed == first and fold == 0
                jobs += [FitJob(fit, fold, seed, is_first) for fit in fits if fit.trained]
        return jobs

    def _summarise(
        self, prepared: Prepared, runs: Sequence[Run], left_out: Sequence[str]
    ) -> dict[str, Any]:
        """Return the content of the result file, with ``seconds``."""
        return summarise(prepared, runs, left_out)

    def _write_tables(self, out: Path, result: dict[str, Any], runs: Sequence[Run]) -> list[Path]:
        """Write the tables of a result."""
        return write_tables(out, result, runs)

    def _write_report(
        self, out: Path, result: dict[str, Any], runs: Sequence[Run], record: dict[str, Any]
    ) -> None:
        """Write the report of a result and its figures."""
        write_validation_report(out, result, runs, record)


def _describe_run(
    prepared: Prepared, jobs: Sequence[FitJob], runs: Sequence[Run]
) -> dict[str, Any]:
    """Return what the record says of program, settings and models."""
    return {
        "program": "napari-atomicity",
        "version": __version__,
        "parameters": {**asdict(prepared.request), "methods": [m.name for m in prepared.methods]},
        "seeds": list(prepared.folds),
        "models": {
            job.name: run["model"]["model_id"]
            for job, run in zip(jobs, runs, strict=True)
            if "not_possible" not in run
        },
        "environment": environment(),
    }


# ---- data
def _add_mixtures(
    data: ValidationData, request: ValidationRequest, progress: Progress | None, stop: Stop | None
) -> ValidationData:
    """Read the images of mixtures of a request, and add them to its size-selected images."""
    pixel = request.pixel_size_nm
    images = list(data.images)
    for folder, group in ((request.mixtures, MIXED), (request.shifted, SHIFTED)):
        if folder is not None:
            images += read_mixtures(
                folder, group, data.classes, request.deposits, pixel, progress, stop
            )
    return replace(data, images=tuple(images))


# ---- methods
def check_names(names: Sequence[str]) -> None:
    """Refuse names of methods that are not known."""
    unknown = [name for name in names if name not in METHODS]
    if unknown:
        raise AtomicityError(
            f"there is no method {unknown[0]!r}", advice=f"The methods are {', '.join(METHODS)}"
        )


def choose_methods(
    names: Sequence[str], data: ValidationData
) -> tuple[list[ComparedMethod], list[str]]:
    """Choose the methods that are possible, all if none is named; say which are left out and why.

    Raises `AtomicityError` if no method is possible.
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


def fits_of(methods: Sequence[ComparedMethod]) -> list[Fit]:
    """Return the fits of the methods, in the order of `FITS`."""
    names = {method.fit for method in methods}
    return [fit for name, fit in FITS.items() if name in names]
