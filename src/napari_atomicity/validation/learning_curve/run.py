"""Run of a learning curve: all jobs, resumable, and its files."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

from ...core.patches import PatchSettings
from ...core.progress import Progress, Stop
from ...io.files import write_json
from ...io.inputs import make_folder
from ...io.provenance import now
from ...io.tables import write_table
from ..data import SELECTED, cut_patches, read_folds, read_size_selected
from ..existing_results import CURVE_RESULT, FIGURES, RECORD, REPORT, RUNS
from ..jobs import Prepared
from ..methods import FITS
from ..request import ValidationRequest
from ..run import add_mixtures, check_names, choose_methods
from ..runs import OnLine, RunStore, hash_files, key_of, run_jobs, run_record
from .jobs import divide, plan_curve, run_curve_job
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
NOT_OF_RUNS = ("folds", "seeds", "repeats", "seed")
"""Settings that do not change a run: its seed is in its name, so that repeats can be added."""


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
    started = now()
    print_line = on_line or (lambda _: None)
    request = replace(request, shifted=None, methods=request.methods or CURVE_METHODS)
    check_names(request.methods)
    files = hash_files(request)
    store = RunStore(out / RUNS, key_of(request, files, NOT_OF_RUNS), CURVE_RESULT)
    if not overwrite:
        store.refuse_others()
    data = read_size_selected(request.data, request.pixel_size_nm, progress, stop)
    seeds = [request.seed + k for k in range(request.repeats)]
    parts = read_folds(request.data) if request.data.is_dir() else {}
    division = divide(data.images, request.images_per_class, seeds, parts)
    data = add_mixtures(data, request, progress, stop)
    methods, left_out = choose_methods(request.methods, data)
    left_out = [*left_out, *division.left_out]
    patches = cut_patches(data.group(SELECTED), PatchSettings())
    prepared = Prepared(request, data, patches, division.places, methods, out / FIGURES)
    store.create()
    make_folder(out / FIGURES)
    for reason in left_out:
        print_line(reason)
    fits = [FITS[name] for name in FITS if any(m.fit == name for m in methods)]
    jobs = plan_curve(fits, division)
    runs = run_jobs(jobs, prepared, store, run_curve_job, progress, stop, print_line)
    result = summarise_curve(prepared, division, runs, left_out)
    write_json(out / CURVE_RESULT, result)
    table = write_table(curve_table(result), (out / CURVE_RESULT).with_suffix(".csv"))
    record = {
        **run_record(prepared, started, files, jobs, runs),
        "seeds": seeds,
        "outputs": [table.name, CURVE_RESULT, REPORT],
    }
    write_curve_report(out, result, record)
    write_json(out / RECORD, record)
    return result
