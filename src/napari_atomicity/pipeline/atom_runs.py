"""Run for single atoms: detect atoms in many images and write tables, figures and record.

As in `runs`, a file that cannot be analysed does not end the run, and an interrupted run writes the
completed images.
"""

from __future__ import annotations

import signal
from collections.abc import Callable, Generator, Iterable, Sequence
from concurrent.futures.process import BrokenProcessPool
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from os import PathLike
from pathlib import Path
from typing import Any

import pandas as pd

from ..atoms.analysis import AtomAnalysis
from ..atoms.dispersion import dispersion_rows
from ..atoms.finder import AtomModel, load_atom_model
from ..atoms.table import concat_atom_tables, conform
from ..core.failed_statistics import FAILED, attempt
from ..core.image_loop import for_each_image
from ..core.model_card import ATOMS
from ..core.processes import spawn_pool
from ..core.progress import Progress, Stop, check, report
from ..detection.filters import thread_count
from ..io.files import write_json
from ..io.inputs import Input, make_folder, named_inputs
from ..io.provenance import Outcome, attempt_report, now, read_run_record, run_record
from ..io.read_limits import ReadLimits, free_memory_bytes, read_limits, set_read_limits
from ..io.tables import read_clusters, write_table
from ..reporting.atom_figures import run_figures
from ..reporting.atom_report import write_atom_report
from ..reporting.charts import write_figure
from ..statistics.atom_groups import group_table
from ..statistics.dispersion import DispersionStatistics, pool_images
from .atom_request import AtomRequest
from .atom_step import AtomResult, AtomStep
from .image_step import add_unreached, process_in_turn
from .run_files import WithOutcomes, summarise_outcomes

# ---- detection of single atoms in several processes of this machine

IMAGES_PER_WORKER = 10
"""Minimum number of images of a worker process; starting it takes as long as three images."""
WORKER_MEMORY_BYTES = 2 * 2**30
"""Free memory for which `choose_workers` starts one worker process."""
_POLL_S = 0.1
_step: AtomStep | None = None
"""Step of a worker process."""


def choose_workers(n_images: int, on_cpu: bool) -> int:
    """Choose the number of processes for a run."""
    most = n_images // IMAGES_PER_WORKER
    if not on_cpu or most < 2:
        return 1
    return max(1, min(most, thread_count(), free_memory_bytes() // WORKER_MEMORY_BYTES))


@dataclass(frozen=True, eq=False)
class AtomWorkers:
    """Executor of `core.image_loop.for_each_image`: detects the atoms in worker processes."""

    workers: int
    request: AtomRequest  # model, device and settings
    pictures: Path | None  # folder for figures of single images; None for no figures
    n_images: int  # number of images, for the progress
    progress: Progress | None = None

    def __call__(
        self, step: Any, items: Iterable[Input], stop: Stop | None
    ) -> Generator[AtomResult, None, None]:
        """Yield the result of each image, without its analysis, in the order of the images."""
        n = max(1, min(self.workers, self.n_images))
        pool = spawn_pool(n, _start, self.request, self.pictures, n, read_limits())
        try:
            for i, (item, future) in enumerate([(x, pool.submit(step, x)) for x in items]):
                report(self.progress, i, self.n_images, "Images")
                while True:
                    check(stop)
                    try:
                        yield future.result(timeout=_POLL_S)
                        break
                    except TimeoutError:
                        continue
                    except BrokenProcessPool:
                        reason = "a worker process ended; try fewer --workers if memory is short"
                        yield AtomResult(item.outcome("failed", reason))
                        break
        finally:
            pool.shutdown(wait=False, cancel_futures=True)


def detect_in_worker(item: Input) -> AtomResult:
    """Detect the atoms of an image in a worker process."""
    assert _step is not None
    return replace(_step(item, lambda *_: None), analysis=None)


def _start(request: AtomRequest, pictures: Path | None, workers: int, limits: ReadLimits) -> None:
    """Load the model in a worker process and share the cores among the workers."""
    import torch

    global _step
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent process stops the run
    set_read_limits(limits)
    torch.set_num_threads(max(1, torch.get_num_threads() // workers))
    clusters = None if request.clusters is None else read_clusters(request.clusters)
    model = load_atom_model(request.model, request.device)
    _step = AtomStep(model, request, clusters, pictures)


__all__ = ["AtomRequest", "AtomRun", "find_atoms_in_images"]

MANY_IMAGES = 30
"""Runs with more images have no pictures of single images."""


@dataclass(frozen=True, eq=False)
class AtomRun(WithOutcomes):
    """Result of a run."""

    table: pd.DataFrame
    dispersion: pd.DataFrame
    outcomes: list[Outcome]
    files: list[Path]
    interrupted: bool
    # statistics of all images that failed, and their errors
    failed_statistics: dict[str, str] = field(default_factory=dict)

    def summary(self) -> dict[str, Any]:
        """Summarise the run as plain values for JSON."""
        folder = self.files[0].parent if self.files else None
        return {
            "out": None if folder is None else str(folder),
            "files": [] if folder is None else [str(f.relative_to(folder)) for f in self.files],
            "interrupted": self.interrupted,
            "atoms": len(self.table),
            "images": summarise_outcomes(self.outcomes, "atoms"),
            "dispersion": self.dispersion.to_dict("records"),
            FAILED: self.failed_statistics,
        }


def find_atoms_in_images(
    paths: Iterable[str | PathLike[str]],
    out_dir: str | PathLike[str],
    request: AtomRequest | None = None,
    progress: Progress | None = None,
    stop: Stop | None = None,
    on_outcome: Callable[[Outcome, AtomAnalysis | None], None] | None = None,
    command: Sequence[str] | None = None,
    workers: int | None = 1,
) -> AtomRun:
    """Detect the atoms in files and folders of images, and write tables, figures and record.

    Raises `ModelError` if the model cannot be loaded or lacks the device. Raises `AtomicityError`
    if the clusters cannot be read, or the folder or a file cannot be written.
    """
    request, out_dir = request or AtomRequest(), Path(out_dir)
    started = now()
    report(progress, 0, 0, "Loading the model")
    model = load_atom_model(request.model, request.device)
    clusters = None if request.clusters is None else read_clusters(request.clusters)
    inputs = named_inputs(paths)
    make_folder(out_dir)  # wrong usage writes nothing
    pictures = out_dir / "figures" if len(inputs) <= MANY_IMAGES else None
    files = _AtomFiles(out_dir, request, model)
    if workers is None:
        workers = choose_workers(len(inputs), str(model.device) == "cpu")
    if workers > 1:
        executor = AtomWorkers(workers, request, pictures, len(inputs), progress)
        sinks: list[Callable[[Any], None]] = [files.add, partial(_report_outcome, on_outcome)]
        interrupted = for_each_image(inputs, detect_in_worker, executor, sinks, stop)
    else:
        step = AtomStep(model, request, clusters, pictures, stop)
        interrupted = process_in_turn(inputs, step, files.add, on_outcome, progress, stop)
    return files.write(inputs, started, interrupted, command, progress)


def _report_outcome(
    on_outcome: Callable[[Outcome, AtomAnalysis | None], None] | None, result: AtomResult
) -> None:
    if on_outcome is not None:
        on_outcome(result.outcome, None)


@dataclass(eq=False)
class _AtomFiles:
    """Sink of a run: keeps the results of all images and writes tables, figures and record."""

    folder: Path
    request: AtomRequest
    model: AtomModel
    results: list[AtomResult] = field(default_factory=list)

    def add(self, result: AtomResult) -> None:
        """Keep all of the result of an image but the analysis."""
        self.results.append(replace(result, analysis=None))

    def write(
        self,
        inputs: Sequence[Input],
        started: str,
        interrupted: bool,
        command: Sequence[str] | None,
        progress: Progress | None,
    ) -> AtomRun:
        """Write the files of the run."""
        report(progress, 0, 0, "Writing tables and figures")
        outcomes = add_unreached([result.outcome for result in self.results], inputs)
        table = conform(concat_atom_tables(r.table for r in self.results if r.table is not None))
        failed: dict[str, str] = {}
        rows, of_all = _dispersion_rows(self.results, self.request, failed)
        files = self._write_tables(table, rows)
        drawn = attempt(failed, "figures", lambda: self._draw(rows, of_all)) or {}
        files += [path for two in drawn.values() for path in two]
        files += [path for result in self.results for path in result.pictures]
        files += [self.folder / "report.html", self.folder / "run.json"]
        _remove_older(self.folder, files)
        record = run_record(
            outcomes,
            started=started,
            finished=now(),
            parameters=asdict(self.request),
            model=self.model.card.provenance(),
            device=str(self.model.device),
            outputs=files,
            interrupted=interrupted,
            command=command,
            failed=failed,
        )
        pictures = {r.outcome.image: r.drawn for r in self.results if r.drawn is not None}
        charts = {name: two[-1] for name, two in drawn.items()}
        html = files[-2]
        attempt_report(
            record, files, html, lambda: write_atom_report(html, record, rows, pictures, charts)
        )
        write_json(files[-1], record)
        return AtomRun(table, rows, outcomes, files, interrupted, failed)

    def _draw(
        self, rows: pd.DataFrame, of_all: DispersionStatistics | None
    ) -> dict[str, list[Path]]:
        """Write the figures of all images together; return their files by name."""
        if of_all is None:
            return {}
        tables = [r.on_support for r in self.results if r.on_support is not None]
        drawn = run_figures(concat_atom_tables(tables), rows, of_all)
        folder = self.folder / "figures"
        return {name: write_figure(figure, folder / name) for name, figure in drawn.items()}

    def _write_tables(self, table: pd.DataFrame, rows: pd.DataFrame) -> list[Path]:
        files = [
            write_table(table, self.folder / "atoms.csv"),
            write_table(table, self.folder / "atoms.parquet"),
            write_table(group_table(table), self.folder / "atom_groups.csv"),
            write_table(rows, self.folder / "dispersion.csv"),
        ]
        clusters = [r.clusters for r in self.results if r.clusters is not None]
        if clusters:
            of_clusters = pd.concat(clusters, ignore_index=True)
            files.append(write_table(of_clusters, self.folder / "cluster_atoms.csv"))
        return files


def _dispersion_rows(
    done: Sequence[AtomResult], request: AtomRequest, failed: dict[str, str]
) -> tuple[pd.DataFrame, DispersionStatistics | None]:
    """Compute a row for each analysed image and one for all, and the dispersion of all.

    If the latter fails, ``failed`` gets the error.
    """
    analysed = [result for result in done if result.table is not None]
    known = [result.dispersion for result in analysed if result.dispersion is not None]
    name = "dispersion of all images"
    of_all = attempt(failed, name, lambda: pool_images(known, request.seed)) if known else None
    found = [(r.outcome.image, r.outcome.atoms, r.dispersion, r.completeness) for r in analysed]
    return dispersion_rows(found, of_all, request.loading), of_all


def _remove_older(folder: Path, files: Sequence[Path]) -> None:
    """Take away what an earlier run wrote here and this one doesn't: it would seem to be of this.

    Only what its record names: anything else is somebody's own.
    """
    for name in _written_before(folder):
        path = folder / ("figures" if name.endswith((".png", ".svg")) else "") / name
        if path not in files and path.is_file():
            path.unlink()


def _written_before(folder: Path) -> list[str]:
    """Names of the files of an earlier run for atoms; none if the record is of another command."""
    known = read_run_record(folder)
    if known is None or (known.model or {}).get("kind") != ATOMS:
        return []
    # A name with folders could lead out of this one.
    return [name for name in known.outputs if name == Path(name).name and "\0" not in name]
