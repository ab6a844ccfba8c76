"""Run for single atoms: detect atoms in many images and write tables, figures and record.

As in `runs`, a file that cannot be analysed does not end the run, and an interrupted run writes the
completed images.
"""

from __future__ import annotations

import signal
import time
from collections.abc import Callable, Generator, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from itertools import chain
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from ..atoms import cluster_atoms
from ..atoms.analysis import AtomAnalysis, find_atoms, within_regions
from ..atoms.completeness import Completeness, estimate_completeness, format_which_counts
from ..atoms.dispersion import (
    DispersionResult,
    DispersionSettings,
    compute_image_dispersion,
    dispersion_rows,
)
from ..atoms.finding.finder import AtomModel, load_atom_model
from ..atoms.injection import inject_atoms
from ..atoms.marks import ImageAtoms
from ..atoms.regions import make_cluster_mask
from ..atoms.summary import summary
from ..atoms.table import concat_atom_tables, conform, empty_table
from ..core.errors import FAILED, add_failed, attempt, format_failed
from ..core.micrograph import Micrograph
from ..core.model_card import ATOMS
from ..core.processes import spawn_pool
from ..core.progress import Progress, Stop, check, for_each_image, report
from ..core.text import pluralise
from ..detection.filters import thread_count
from ..io.inputs import Input, make_folder, named_inputs
from ..io.outline_files import without_outlines
from ..io.provenance import Outcome, now, scopes_of, with_groups
from ..io.readers.read_limits import ReadLimits, free_memory_bytes, read_limits, set_read_limits
from ..io.result_folder import REPORT, ResultFolder
from ..io.tables import read_clusters, write_table
from ..reporting.atom_figures import (
    image_figures,
    run_figures,
    write_atom_plots,
    write_comparison_of_images,
    write_image_plots,
)
from ..reporting.atom_report import atom_section_images, write_atom_report
from ..reporting.charts import write_figure
from ..reporting.image_warnings import pixel_warnings
from ..reporting.plots.publication import image_file
from ..statistics.points.atom_groups import clusters_of_atoms, group_table
from ..statistics.points.dispersion import ALL, DispersionStatistics, pool_scopes
from ..statistics.samples.run_evidence import are_compared, compare_atoms
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

if TYPE_CHECKING:
    from .run_request import AtomRequest


# ---- detection of single atoms in one image: a step of the loop over images

FIELD_NM = (1.0, 10_000.0)
"""Minimum and maximum field of view (longer edge) in which single atoms can be resolved."""
PIXEL_NM = 1e-4
"""Minimum pixel size of a microscope."""


@dataclass(frozen=True, eq=False)
class AtomResult:
    """Result of one image."""

    outcome: Outcome  # done or failed
    analysis: AtomAnalysis | None = None
    table: pd.DataFrame | None = None
    clusters: pd.DataFrame | None = None
    on_support: pd.DataFrame | None = None
    dispersion: DispersionStatistics | None = None  # dispersion of the atoms on the support
    completeness: Completeness | None = None  # detected fraction of injected atoms
    pictures: list[Path] = field(default_factory=list)  # files of figures
    drawn: Mapping[str, Any] | None = None  # pictures for the report


@dataclass(frozen=True)
class FigureFolders:
    """Where figures are written; None: they are not drawn."""

    images: Path | None = None  # of single images, for the report
    publication: Path | None = None  # of single images, as for a publication


@dataclass(frozen=True, eq=False)
class AtomStep:
    """Step that detects the atoms of an image."""

    model: AtomModel
    request: AtomRequest
    clusters: pd.DataFrame | None = None
    folders: FigureFolders = FigureFolders()
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
            drawn_of = analysis, table, on_support, found
            drawn = attempt(failed, "figure", lambda: self._draw(item, *drawn_of, progress))
            report(progress, 0, 0, "Estimating the completeness")
            completeness = completing.result()
        known["warnings"] += (
            *pixel_warnings(analysis.parameters),
            *_completeness_warnings(completeness, np.nan if found is None else found.density.value),
            *_cluster_warnings(self.clusters, of_clusters),
            *_dispersion_warnings(spread),
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
        began = time.perf_counter()
        found = attempt(
            failed,
            "completeness",
            lambda: _completeness(analysis, self.model, self.clusters, request.seed, self.stop),
        )
        seconds["completeness"] = time.perf_counter() - began
        return found

    def _draw(
        self,
        item: Input,
        analysis: AtomAnalysis,
        table: pd.DataFrame,
        on_support: pd.DataFrame | None,
        dispersion: DispersionStatistics | None,
        progress: Progress,
    ) -> tuple[list[Path], Mapping[str, Any]] | None:
        """Write figures; return the files and pictures for the report, if there is one."""
        folder, publication = self.folders.images, self.folders.publication
        if folder is publication is None:
            return None
        report(progress, 0, 0, "Drawing figures")
        of_support = empty_table() if on_support is None else on_support
        drawn_of = analysis, table, of_support, dispersion
        if publication is not None:
            write_image_plots(*drawn_of, publication)
        if folder is None:
            return None
        name = image_file(item.name)
        files = {
            kind: write_figure(figure, folder / f"{name} {kind}")
            for kind, figure in image_figures(*drawn_of).items()
        }
        pictures = [path for two in files.values() for path in two]
        shown = {kind: two[-1] for kind, two in files.items()}
        return pictures, atom_section_images(item.name, shown)


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
    added = inject_atoms(analysis, model, mask, seed, stop=stop)
    return None if added is None else estimate_completeness(added, analysis.threshold)


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
    table = conform(atoms.table.assign(cluster_id=clusters_of_atoms(atoms.table, own)))
    counted = cluster_atoms.count_cluster_atoms(atoms, own, micrograph, completeness=census())
    return table, cluster_atoms.make_cluster_table(own, counted, table)


def _cluster_warnings(clusters: pd.DataFrame | None, own: pd.DataFrame | None) -> tuple[str, ...]:
    if clusters is None or own is None or len(own) or not len(clusters):
        return ()
    return ("the table of clusters contains no cluster of this image",)


def _completeness_warnings(found: Completeness | None, density: float) -> tuple[str, ...]:
    if found is None:
        return ()
    counts = format_which_counts(found.share, found.density_low, density)
    if not counts:
        return ()
    share = f"{100 * found.low:.0f} to {100 * found.high:.0f} %"
    said = f"of atoms like these {share} are found: {counts}"
    if np.isfinite(found.density_per_nm2):  # not of a stack
        said += f", that of all atoms {found.density_low:.2g} to {found.density_high:.2g} per nm²"
    return (said,)


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


def _dispersion_warnings(spread: DispersionResult | None) -> tuple[str, ...]:
    """Return why there is no dispersion, or what it omits."""
    if spread is None:
        return ()
    found = [spread.reason] if spread.reason else []
    on_clusters = summary(spread.atoms).n_on_clusters
    if on_clusters:
        found.append(
            f"{pluralise(on_clusters, 'detection')} on clusters, or on bumps of the support as "
            "bright: left out of density, distances and groups"
        )
    off = 0 if spread.dispersion is None else spread.dispersion.n_off_support - on_clusters
    if off:
        lies, counts = ("1 atom lies", "counts") if off == 1 else (f"{off} atoms lie", "count")
        found.append(f"{lies} off the support and {counts} in no density")
    return tuple(found)


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
    many = len(inputs) > MANY_IMAGES
    folders = FigureFolders() if many else FigureFolders(out_dir / "figures", figures)
    files = _AtomFiles(out_dir, request, model, rules, figures)
    if workers is None:
        workers = choose_workers(len(inputs), str(model.device) == "cpu")
    if workers > 1:
        executor = AtomWorkers(workers, request, folders, len(inputs), progress)
        sinks: list[Callable[[Any], None]] = [files.add, partial(_report_outcome, on_outcome)]
        interrupted = for_each_image(inputs, detect_in_worker, executor, sinks, stop)
    else:
        step = AtomStep(model, request, clusters, folders, stop)
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
    rules: SessionRules
    publication: Path | None = None  # folder for figures at the size of a publication
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
        outcomes = self.rules.with_sessions(outcomes)
        table = conform(concat_atom_tables(r.table for r in self.results if r.table is not None))
        table = with_groups(table, outcomes)
        results = ResultFolder(self.folder, ATOMS)
        groups = scopes_of(outcomes)
        rows, of_all = _dispersion_rows(self.results, self.request, groups, results.failed)
        results.add(*self._write_tables(table, rows))
        drawn = attempt(results.failed, "figures", lambda: self._draw(rows, of_all)) or {}
        results.add(*chain(*drawn.values(), *(result.pictures for result in self.results)))
        pictures = {r.outcome.image: r.drawn for r in self.results if r.drawn is not None}
        charts = {name: two[-1] for name, two in drawn.items()}
        samples, compared = self.rules.group_samples(outcomes), None
        if are_compared(samples) and of_all is not None:
            compare = partial(compare_atoms, rows, outcomes, samples)
            compared = attempt(results.failed, "comparison of the samples", compare)
        results.finish(
            outcomes,
            lambda record: write_atom_report(
                results / REPORT, record, rows, pictures, charts, compared
            ),
            started=started,
            finished=now(),
            parameters=asdict(self.request),
            model=self.model.card.provenance(),
            device=str(self.model.device),
            interrupted=interrupted,
            command=command,
            samples=samples,
        )
        return AtomRun(table, rows, outcomes, results.files, interrupted, results.failed)

    def _draw(
        self, rows: pd.DataFrame, of_all: DispersionStatistics | None
    ) -> dict[str, list[Path]]:
        """Write the figures of all images together; return their files by name."""
        if of_all is None:
            return {}
        tables = [r.on_support for r in self.results if r.on_support is not None]
        together, folder = concat_atom_tables(tables), self.folder / "figures"
        if self.publication is not None:
            write_atom_plots(together, of_all, self.publication)
            write_comparison_of_images(rows, self.publication)
        drawn = run_figures(together, rows, of_all)
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
    done: Sequence[AtomResult],
    request: AtomRequest,
    groups: Mapping[str, Sequence[str]],
    failed: dict[str, str],
) -> tuple[pd.DataFrame, DispersionStatistics | None]:
    """Compute a row for each analysed image, each group and all, and the dispersion of all.

    If the latter fails, ``failed`` gets the error.
    """
    analysed = [result for result in done if result.table is not None]
    known = {r.outcome.image: r.dispersion for r in analysed if r.dispersion is not None}
    name = "dispersion of all images"
    pooled = attempt(failed, name, lambda: pool_scopes(known, groups, request.seed)) or {}
    found = [(r.outcome.image, r.outcome.atoms, r.dispersion, r.completeness) for r in analysed]
    return dispersion_rows(found, pooled, request.loading, groups), pooled.get(ALL)
