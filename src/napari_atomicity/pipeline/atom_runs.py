"""Run for single atoms: detect atoms in many images and write tables, figures and record.

As in `runs`, a file that cannot be analysed does not end the run, and an interrupted run writes the
completed images.
"""

from __future__ import annotations

import signal
from collections.abc import Callable, Generator, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from ..atoms import cluster_atoms
from ..atoms.analysis import AtomAnalysis, find_atoms, within_regions
from ..atoms.completeness import Completeness, estimate_completeness
from ..atoms.dispersion import (
    DispersionResult,
    DispersionSettings,
    compute_image_dispersion,
)
from ..atoms.finding.finder import AtomModel, load_atom_model
from ..atoms.injection import inject_atoms
from ..atoms.marks import ImageAtoms
from ..atoms.regions import make_cluster_mask
from ..atoms.table import conform
from ..core.errors import FAILED, CalibrationError, add_failed, attempt, format_failed
from ..core.micrograph import Micrograph
from ..core.processes import spawn_pool
from ..core.progress import Progress, Stop, check, for_each_image, report, timed
from ..detection.filters import thread_count
from ..io.inputs import Input, make_folder, named_inputs
from ..io.outline_files import without_outlines
from ..io.provenance import Outcome, now
from ..io.readers.read_limits import ReadLimits, free_memory_bytes, read_limits, set_read_limits
from ..io.tables import read_clusters
from ..reporting.atom_files import (
    AtomResult,
    FigureFolders,
    completeness_warnings,
    dispersion_warnings,
    write_atom_files,
)
from ..reporting.image_warnings import pixel_warnings
from ..statistics.points.atom_groups import clusters_of_atoms
from .acquisition_sessions import SessionRules
from .run_request import AtomRequest
from .runs.one_image import read_given
from .runs.run_files import (
    WithOutcomes,
    add_unreached,
    process_image,
    process_in_turn,
    summarise_outcomes,
)

# ---- detection of single atoms in one image: a step of the loop over images

FIELD_NM = (1.0, 10_000.0)
"""Minimum and maximum field of view (longer edge) in which single atoms can be resolved."""
PIXEL_NM = 1e-4
"""Minimum pixel size of a microscope."""


@dataclass(frozen=True, eq=False)
class AtomStep:
    """Step that detects the atoms of an image."""

    model: AtomModel
    request: AtomRequest
    clusters: pd.DataFrame | None = None
    folders: FigureFolders = field(default_factory=FigureFolders)
    stop: Stop | None = None

    def __call__(self, item: Input, progress: Progress) -> AtomResult:
        """Read and analyse an image; convert any error to its outcome."""

        def step(
            micrograph: Micrograph, known: dict[str, Any]
        ) -> tuple[Outcome, AtomAnalysis, AtomResult]:
            known["warnings"] = _scale_warnings(micrograph)
            result = self._analyse(item, micrograph, known, progress)
            assert result.analysis is not None
            return result.outcome, result.analysis, result

        outcome, _, result = process_image(item, step, self.request.pixel_size_nm, progress)
        return AtomResult(outcome) if result is None else result

    def _analyse(
        self, item: Input, micrograph: Micrograph, known: dict[str, Any], progress: Progress
    ) -> AtomResult:
        request = self.request
        rois = read_given(request.rois, micrograph)
        analysis = find_atoms(
            micrograph,
            self.model,
            precision=request.precision,
            threshold=request.threshold,
            progress=progress,
            stop=self.stop,
        )
        if rois is not None:
            analysis = within_regions(analysis, rois)
        analysis = replace(analysis, group_distance_nm=request.group_distance_nm)
        atoms = ImageAtoms(
            micrograph.name,
            analysis.pixel_size_nm,
            analysis,
            group_distance_nm=request.group_distance_nm,
        )
        seconds = dict(analysis.seconds)
        failed: dict[str, str] = {}
        # Its networks leave Python to this thread, which draws meanwhile.
        with ThreadPoolExecutor(1, thread_name_prefix="completeness") as other:
            completing = other.submit(self._estimate_completeness, analysis, failed, seconds)
            table, of_clusters = attempt(
                failed,
                "atoms of clusters",
                lambda: _with_clusters(atoms, micrograph, self.clusters, completing.result),
            ) or (atoms.table, None)
            report(progress, 0, 0, "Computing the dispersion")
            spread = attempt(
                failed, "dispersion", lambda: _dispersion(atoms, request.seed, progress, self.stop)
            )
            on_support = None if spread is None else spread.table
            found = None if spread is None else spread.dispersion
            report(progress, 0, 0, "Drawing figures")
            drawn_of = micrograph, atoms.support, table, on_support, found
            drawn = attempt(failed, "figure", lambda: self.folders.draw(*drawn_of))
            report(progress, 0, 0, "Estimating the completeness")
            completeness = completing.result()
        known["warnings"] += (
            *pixel_warnings(analysis.parameters),
            *completeness_warnings(completeness, np.nan if found is None else found.density.value),
            *_cluster_warnings(self.clusters, of_clusters),
            *(() if spread is None else dispersion_warnings(spread)),
            *format_failed({FAILED: failed}),
        )
        parameters = add_failed({**analysis.parameters, "expected": analysis.expected}, failed)
        outcome = item.outcome(
            "done", **known, atoms=len(table), parameters=parameters, seconds=seconds
        )
        of_image = analysis, table, of_clusters, on_support, found, completeness
        return AtomResult(outcome, *of_image, *(drawn or ()))

    def _estimate_completeness(
        self, analysis: AtomAnalysis, failed: dict[str, str], seconds: dict[str, float]
    ) -> Completeness | None:
        """Estimate the detected fraction; None if the request does not include it."""
        request = self.request
        if not request.completeness:
            return None
        with timed(seconds, "completeness"):
            return attempt(
                failed,
                "completeness",
                lambda: _completeness(analysis, self.model, self.clusters, request.seed, self.stop),
            )


def _completeness(
    analysis: AtomAnalysis,
    model: AtomModel,
    clusters: pd.DataFrame | None,
    seed: int,
    stop: Stop | None,
) -> Completeness | None:
    """How many atoms are missed, away from clusters; None where nothing can be said."""
    mask = None
    if clusters is not None:
        own = clusters[clusters["image"] == analysis.micrograph.name]
        mask = make_cluster_mask(own, analysis.micrograph.data.shape, analysis.pixel_size_nm)
        if analysis.bright_clusters is not None:  # they are no support either
            mask |= analysis.bright_clusters
    added = inject_atoms(analysis, model, mask, seed, stop=stop)
    return None if added is None else estimate_completeness(added, analysis.threshold)


def check_pixel_size(clusters: pd.DataFrame, pixel_size_nm: float) -> None:
    """Raise `CalibrationError` if clusters of an image were measured with another pixel size."""
    of_nm, of_px = (
        np.nansum(clusters[[f"y_{unit}", f"x_{unit}"]].to_numpy(float)) for unit in ("nm", "px")
    )
    size_nm = of_nm / of_px if of_px > 0 else pixel_size_nm
    if not np.isclose(size_nm, pixel_size_nm, rtol=0.01):
        raise CalibrationError(
            f"the clusters were measured with {size_nm:.4g} nm per pixel, and the atoms with "
            f"{pixel_size_nm:.4g}",
            clusters["image"].iloc[0],
            "Analyse the clusters again with this pixel size",
        )


def _with_clusters(
    atoms: ImageAtoms,
    micrograph: Micrograph,
    clusters: pd.DataFrame | None,
    census: Callable[[], Completeness | None],
) -> tuple[pd.DataFrame, pd.DataFrame | None]:
    """Assign atoms to clusters, and count the atoms of clusters.

    Clusters are discs: the files of a run hold no outlines.
    """
    if clusters is None:
        return atoms.table, None
    own = clusters[clusters["image"] == atoms.image].reset_index(drop=True)
    check_pixel_size(own, atoms.pixel_size_nm)
    table = conform(atoms.table.assign(cluster_id=clusters_of_atoms(atoms.table, own)))
    counted = cluster_atoms.count_cluster_atoms(atoms, own, micrograph, completeness=census())
    return table, cluster_atoms.make_cluster_table(own, counted, table)


def _cluster_warnings(clusters: pd.DataFrame | None, own: pd.DataFrame | None) -> tuple[str, ...]:
    if clusters is None or own is None or len(own) or not len(clusters):
        return ()
    return ("the table of clusters contains no cluster of this image",)


def _scale_warnings(micrograph: Micrograph) -> tuple[str, ...]:
    """Warn about a pixel size at which no atoms can be resolved."""
    size = micrograph.pixel_size_nm
    if size is None:
        return ()
    edge = max(micrograph.shape_px) * size
    if size >= PIXEL_NM and FIELD_NM[0] <= edge <= FIELD_NM[1]:
        return ()
    return (
        f"a pixel of {size:g} nm makes a field of {edge:g} nm, in which no atoms can be seen: "
        "check it, and give the right one with --pixel-size-nm",
    )


def _dispersion(
    atoms: ImageAtoms, seed: int, progress: Progress, stop: Stop | None
) -> DispersionResult:
    """Compute the dispersion over the frames of the image."""
    return compute_image_dispersion(
        atoms, DispersionSettings(seed=seed), progress=progress, stop=stop
    )


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
    """Executor of `core.progress.for_each_image`: detects the atoms in worker processes."""

    workers: int
    request: AtomRequest  # model, device and settings
    folders: FigureFolders
    n_images: int  # number of images, for the progress
    progress: Progress | None = None

    def __call__(
        self, step: Any, items: Iterable[Input], stop: Stop | None
    ) -> Generator[AtomResult, None, None]:
        """Yield the result of each image, without its analysis, in the order of the images."""
        n = max(1, min(self.workers, self.n_images))
        pool = spawn_pool(n, _start, self.request, self.folders, n, read_limits())
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


def _start(request: AtomRequest, folders: FigureFolders, workers: int, limits: ReadLimits) -> None:
    """Load the model in a worker process and share the cores among the workers."""
    import torch

    global _step
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent process stops the run
    set_read_limits(limits)
    torch.set_num_threads(max(1, torch.get_num_threads() // workers))
    clusters = None if request.clusters is None else read_clusters(request.clusters)
    model = load_atom_model(request.model, request.device)
    _step = AtomStep(model, request, clusters, folders)


__all__ = ["AtomRequest", "AtomRun", "find_atoms_in_images"]


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
    figures: Path | None = None,  # folder for figures at the size of a publication
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
    rules = SessionRules().with_sample_table(request.samples)
    inputs = without_outlines(named_inputs(paths), request.rois)
    rules.check([item.name for item in inputs])
    for folder in filter(None, (out_dir, figures)):
        make_folder(folder)  # wrong usage writes nothing
    folders = FigureFolders.of_images(len(inputs), out_dir, figures)
    results: list[AtomResult] = []

    def keep(result: AtomResult) -> None:
        results.append(replace(result, analysis=None))

    if workers is None:
        workers = choose_workers(len(inputs), str(model.device) == "cpu")
    if workers > 1:
        executor = AtomWorkers(workers, request, folders, len(inputs), progress)
        sinks: list[Callable[[Any], None]] = [keep, partial(_report_outcome, on_outcome)]
        interrupted = for_each_image(inputs, detect_in_worker, executor, sinks, stop)
    else:
        step = AtomStep(model, request, clusters, folders, stop)
        interrupted = process_in_turn(inputs, step, keep, on_outcome, progress, stop)
    outcomes = rules.with_sessions(add_unreached([result.outcome for result in results], inputs))
    table, dispersion, written = write_atom_files(
        out_dir,
        results,
        outcomes,
        rules.group_samples(outcomes),
        request.loading,
        request.seed,
        figures,
        progress=progress,
        started=started,
        finished=now(),
        parameters=asdict(request),
        model=model.card.provenance(),
        device=str(model.device),
        interrupted=interrupted,
        command=command,
    )
    return AtomRun(table, dispersion, outcomes, written.files, interrupted, written.failed)


def _report_outcome(
    on_outcome: Callable[[Outcome, AtomAnalysis | None], None] | None, result: AtomResult
) -> None:
    if on_outcome is not None:
        on_outcome(result.outcome, None)
