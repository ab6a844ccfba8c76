"""Run of a validation: all jobs, resumable, and its files."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from ..core.errors import AtomicityError
from ..core.patches import PatchSettings
from ..core.progress import Progress, Stop
from ..io.files import write_json
from ..io.inputs import make_folder
from ..io.provenance import now
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
from .existing_results import FIGURES, RECORD, REPORT, RESULT, RUNS
from .jobs import FitJob, Prepared, run_job
from .methods import FITS, METHODS, ComparedMethod
from .report import write_validation_report
from .request import ValidationRequest
from .runs import CURVE_SETTINGS, OnLine, RunStore, hash_files, key_of, run_jobs, run_record
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
    started = now()
    print_line = on_line or (lambda _: None)
    files = hash_files(request)
    store = RunStore(out / RUNS, key_of(request, files, CURVE_SETTINGS))
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
    found = run_jobs(jobs, prepared, store, run_job, progress, stop, print_line)
    result = summarise(prepared, found, left_out)
    write_json(out / RESULT, result)
    tables = write_tables(out, result, found)
    record = {
        **run_record(prepared, started, files, jobs, found),
        "seeds": _seeds(request),
        "seconds": result["seconds"],
        "outputs": [*(path.name for path in tables), RESULT, REPORT],
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
    data = read_size_selected(request.data, request.pixel_size_nm, progress, stop)
    assign_folds(data.images, request.folds, request.seed)  # before the long steps
    return add_mixtures(data, request, progress, stop)


def add_mixtures(
    data: ValidationData,
    request: ValidationRequest,
    progress: Progress | None = None,
    stop: Stop | None = None,
) -> ValidationData:
    """Read the images of mixtures of a request, and add them to its size-selected images.

    Parameters
    ----------
    data : ValidationData
        Size-selected images.
    request : ValidationRequest
        Data and settings.
    progress, stop : callable, optional
        Called between images.
    """
    pixel = request.pixel_size_nm
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
