"""A run for single atoms: many images in, a folder of tables, figures and record out.

As in `runs`: one bad file is an entry in the record, not the end of the run, and whatever ends it
early, what is done is written.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from ..atoms import cluster_atoms
from ..atoms.analysis import AtomAnalysis, find_atoms
from ..atoms.completeness import Completeness, completeness, with_completeness
from ..atoms.dispersion import DispersionSettings, dispersion_rows, spread_of
from ..atoms.finder import AtomModel, load_atom_model
from ..atoms.injection import inject_atoms
from ..atoms.marks import ImageAtoms
from ..atoms.regions import mask_of_clusters
from ..atoms.table import conform, joined
from ..core.errors import AtomicityError, Cancelled
from ..core.micrograph import Micrograph
from ..core.progress import Progress, Stop, report
from ..io.files import write_json
from ..io.images import load
from ..io.inputs import Input, make_folder, named_inputs
from ..io.provenance import Outcome, now, run_record
from ..io.tables import read_clusters, write_table
from ..models.files import ATOMS
from ..reporting.atom_figures import atom_overview, dispersion_chart
from ..reporting.atom_report import atom_section_images, write_atom_report
from ..reporting.charts import write_figure
from ..statistics.atom_groups import LINK_NM, clusters_of_atoms
from ..statistics.dispersion import ALL, DispersionStatistics, pooled
from .runs import one_by_one, with_unreached

MANY_IMAGES = 30
"""Of more images there are no pictures one by one."""
FIELD_NM = (1.0, 10_000.0)
"""Least and greatest longer edge of a field in which single atoms can be seen."""
PIXEL_NM = 1e-4
"""Least pixel size of a microscope."""


@dataclass(frozen=True)
class AtomRequest:
    """What is asked of a run.

    Parameters
    ----------
    model
        Name of an atom model at hand, or path of a model file.
    device
        "auto", "cpu", "cuda" or "mps".
    pixel_size_nm
        Overrides what the files say; None to believe them.
    precision
        Expected precision of what is reported; None for the best expected F1.
    threshold
        Least probability of what is reported, instead.
    group_distance_nm
        Atoms no further apart belong to one group.
    clusters
        A cluster table of these images: atoms are told which cluster holds them, and clusters are
        counted by the atoms' yardstick.
    seed
        Of random patterns, of bootstraps, and of atoms that are added.
    completeness
        Whether atoms are put into each image to tell how many would be found; takes longer.
    """

    model: str = "default"
    device: str = "auto"
    pixel_size_nm: float | None = None
    precision: float | None = None
    threshold: float | None = None
    group_distance_nm: float = LINK_NM
    clusters: str | None = None
    seed: int = 0
    completeness: bool = True

    def __post_init__(self) -> None:
        for name in ("precision", "threshold"):
            value = getattr(self, name)
            if value is not None and not 0 <= value <= 1:
                raise AtomicityError(f"a {name} of {value:g} does not lie in 0 to 1")
        if self.precision is not None and self.threshold is not None:
            raise AtomicityError("give a precision or a threshold, not both")
        if not (np.isfinite(self.group_distance_nm) and self.group_distance_nm > 0):
            raise AtomicityError(f"a distance of {self.group_distance_nm:g} nm links nothing")


@dataclass(frozen=True, eq=False)
class AtomRun:
    """What came of it: the atoms and the dispersion of all images, an outcome for each, files."""

    table: pd.DataFrame
    dispersion: pd.DataFrame
    outcomes: list[Outcome]
    files: list[Path]
    interrupted: bool

    @property
    def failed(self) -> list[Outcome]:
        return [outcome for outcome in self.outcomes if outcome.status == "failed"]

    def summary(self) -> dict[str, Any]:
        """In a few words, ready for JSON."""
        folder = self.files[0].parent if self.files else None
        return {
            "out": None if folder is None else str(folder),
            "files": [] if folder is None else [str(f.relative_to(folder)) for f in self.files],
            "interrupted": self.interrupted,
            "atoms": len(self.table),
            "images": [
                {
                    "image": outcome.image,
                    "path": outcome.path,
                    "status": outcome.status,
                    "error": outcome.error,
                    "atoms": outcome.atoms,
                    "warnings": list(outcome.warnings),
                    "seconds": sum(outcome.seconds.values()),
                }
                for outcome in self.outcomes
            ],
            "dispersion": self.dispersion.to_dict("records"),
        }


@dataclass(frozen=True, eq=False)
class _Result:
    """All that is kept of an image once it is done."""

    outcome: Outcome
    table: pd.DataFrame | None = None
    clusters: pd.DataFrame | None = None
    dispersion: DispersionStatistics | None = None
    completeness: Completeness | None = None
    pictures: list[Path] = field(default_factory=list)
    drawn: Mapping[str, Any] | None = None


def find_atoms_in_images(
    paths: Iterable[str | PathLike[str]],
    out_dir: str | PathLike[str],
    request: AtomRequest | None = None,
    progress: Progress | None = None,
    stop: Stop | None = None,
    on_outcome: Callable[[Outcome, AtomAnalysis | None], None] | None = None,
    command: Sequence[str] | None = None,
) -> AtomRun:
    """Find the atoms in files and folders of images, and write tables, figures and record.

    Parameters
    ----------
    paths
        Image files, and folders that are searched for them.
    out_dir
        Folder that gets ``atoms.csv``, ``atoms.parquet``, ``dispersion.csv``, ``run.json`` and
        ``report.html``, ``cluster_atoms.csv`` if there are clusters, and ``figures/``.
    request
        Model, device and settings.
    progress, stop
        ``progress(done, total, message)`` of the image at hand, and ``stop() -> bool``.
    on_outcome
        Called after each image with its outcome and, if it was analysed, the analysis.
    command
        For the record; the command line of this process if None.

    Returns
    -------
    AtomRun
        Also after an interruption (``stop`` or Ctrl-C), with what was done until then.

    Raises
    ------
    ModelError
        If the model can't be loaded or lacks the device: before any image is read.
    ReadError, TableError
        If the clusters can't be read: before as well.
    AtomicityError
        If the folder can't be made or a file can't be written.
    """
    request = request or AtomRequest()
    out_dir = Path(out_dir)
    make_folder(out_dir)
    started = now()
    report(progress, 0, 0, "Loading the model")
    model = load_atom_model(request.model, request.device)
    clusters = None if request.clusters is None else read_clusters(request.clusters)
    inputs = named_inputs(paths)
    pictures = out_dir / "figures" if len(inputs) <= MANY_IMAGES else None

    done: list[_Result] = []

    def one(item: Input, progress: Progress) -> None:
        result, analysis = _one(item, model, request, clusters, pictures, progress, stop)
        done.append(result)
        if on_outcome is not None:
            on_outcome(result.outcome, analysis)

    interrupted = one_by_one(inputs, one, progress, stop)
    outcomes = with_unreached([result.outcome for result in done], inputs)

    report(progress, 0, 0, "Writing tables and figures")
    table = conform(joined(r.table for r in done if r.table is not None))
    rows, of_all = _dispersion_rows(done, request.seed)
    files = [
        write_table(table, out_dir / "atoms.csv"),
        write_table(table, out_dir / "atoms.parquet"),
        write_table(rows, out_dir / "dispersion.csv"),
    ]
    held = [r.clusters for r in done if r.clusters is not None]
    if held:
        of_clusters = pd.concat(held, ignore_index=True)
        files.append(write_table(of_clusters, out_dir / "cluster_atoms.csv"))
    chart = None if of_all is None else dispersion_chart(of_all)
    if chart is not None:
        files += write_figure(chart, out_dir / "figures" / "dispersion")
    files += [path for result in done for path in result.pictures]
    files += [out_dir / "report.html", out_dir / "run.json"]
    _remove_older(out_dir, files)
    record = run_record(
        outcomes,
        started=started,
        finished=now(),
        parameters=asdict(request),
        model=model.card.provenance(),
        device=str(model.device),
        outputs=files,
        interrupted=interrupted,
        command=command,
    )
    write_json(files[-1], record)
    pictures_of = {r.outcome.image: r.drawn for r in done if r.drawn is not None}
    write_atom_report(files[-2], record, rows, pictures_of, chart)
    return AtomRun(table, rows, outcomes, files, interrupted)


def _one(
    item: Input,
    model: AtomModel,
    request: AtomRequest,
    clusters: pd.DataFrame | None,
    pictures: Path | None,
    progress: Progress,
    stop: Stop | None,
) -> tuple[_Result, AtomAnalysis | None]:
    """Read and analyse one image; whatever goes wrong with it becomes its outcome."""
    if item.error is not None:
        return _Result(item.outcome("failed", item.error)), None
    known: dict[str, Any] = {}
    try:
        report(progress, 0, 0, "Reading")
        micrograph = load(item.path, request.pixel_size_nm, name=item.name)
        known = {
            "sha256": micrograph.sha256,
            "pixel_size_nm": micrograph.pixel_size_nm,
            "calibration": micrograph.metadata.get("calibration"),
            "warnings": _scale_warnings(micrograph),
        }
        analysis = find_atoms(
            micrograph,
            model,
            precision=request.precision,
            threshold=request.threshold,
            progress=progress,
            stop=stop,
        )
        analysis = replace(analysis, group_distance_nm=request.group_distance_nm)
        atoms = ImageAtoms(
            micrograph.name,
            analysis.pixel_size_nm,
            analysis,
            group_distance_nm=request.group_distance_nm,
        )
        found, seconds = None, dict(analysis.seconds)
        if request.completeness:
            began = time.perf_counter()
            try:
                found = _completeness(analysis, model, clusters, request.seed, progress, stop)
            except (Cancelled, MemoryError):
                raise
            except Exception as error:  # the atoms that were found are worth having
                known["warnings"] += (f"what is missed could not be told: {error}",)
            seconds["completeness"] = time.perf_counter() - began
            known["warnings"] += _completeness_warnings(found)
        table, of_clusters = _with_clusters(atoms, micrograph, clusters, found)
        known["warnings"] += _cluster_warnings(clusters, of_clusters)
        report(progress, 0, 0, "Dispersion")
        spread, why = _dispersion(atoms, request.seed, progress, stop)
        known["warnings"] += why
        result = _Result(
            item.outcome(
                "done",
                **known,
                atoms=len(table),
                parameters={**analysis.parameters, "expected": analysis.expected},
                seconds=seconds,
            ),
            table,
            of_clusters,
            spread,
            found,
        )
        if pictures is not None:
            report(progress, 0, 0, "Drawing")
            name = item.name.replace("/", "_")
            picture = atom_overview(analysis, table)
            drawn = write_figure(picture, pictures / f"{name} atoms")
            own = None if spread is None else dispersion_chart(spread)
            result = replace(
                result, pictures=drawn, drawn=atom_section_images(item.name, picture, own)
            )  # fmt: skip
    except Cancelled:
        raise
    except Exception as error:
        return _Result(item.failed(error, known)), None
    return result, analysis


def _completeness(
    analysis: AtomAnalysis,
    model: AtomModel,
    clusters: pd.DataFrame | None,
    seed: int,
    progress: Progress,
    stop: Stop | None,
) -> Completeness | None:
    """How many atoms are missed, away from clusters; None where nothing can be said."""
    mask = None
    if clusters is not None:
        own = clusters[clusters["image"] == analysis.micrograph.name]
        mask = mask_of_clusters(own, analysis.micrograph.data.shape, analysis.pixel_size_nm)
    added = inject_atoms(analysis, model, mask, seed, progress, stop)
    return None if added is None else completeness(added, analysis.threshold)


def _with_clusters(
    atoms: ImageAtoms,
    micrograph: Micrograph,
    clusters: pd.DataFrame | None,
    census: Completeness | None,
) -> tuple[pd.DataFrame, pd.DataFrame | None]:
    """The atoms with their clusters, and the clusters with their atoms.

    Clusters are discs: the files of a run hold no outlines.
    """
    if clusters is None:
        return atoms.table, None
    own = clusters[clusters["image"] == atoms.image].reset_index(drop=True)
    table = conform(atoms.table.assign(cluster_id=clusters_of_atoms(atoms.table, own)))
    counted = cluster_atoms.count(atoms, own, micrograph, census=census)
    return table, cluster_atoms.rows(own, counted, table)


def _cluster_warnings(clusters: pd.DataFrame | None, own: pd.DataFrame | None) -> tuple[str, ...]:
    if clusters is None or own is None or len(own) or not len(clusters):
        return ()
    return ("the table of clusters has none in this image",)


def _completeness_warnings(found: Completeness | None) -> tuple[str, ...]:
    if found is None or not found.is_low:
        return ()
    share = f"{100 * found.low:.0f} to {100 * found.high:.0f} %"
    said = f"of atoms like these {share} are found: the density is a lower bound"
    if np.isfinite(found.density_per_nm2):  # not of a stack
        said += f", that of all atoms {found.density_low:.2g} to {found.density_high:.2g} per nm²"
    return (said,)


def _scale_warnings(micrograph: Micrograph) -> tuple[str, ...]:
    """That the pixel size must be wrong, if no microscope shows atoms in such a field."""
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
) -> tuple[DispersionStatistics | None, tuple[str, ...]]:
    """Over the frames of the image, and warnings: why there is none, or what is left out."""
    spread = spread_of(atoms, DispersionSettings(seed=seed), progress=progress, stop=stop)
    found = spread.dispersion
    why = (spread.why,) if spread.why else ()
    if found is None:
        return None, why
    off = found.n_off_support
    if off:
        lies, counts = ("1 atom lies", "counts") if off == 1 else (f"{off} atoms lie", "count")
        return found, (*why, f"{lies} off the support and {counts} in no density")
    return found, why


def _dispersion_rows(
    done: Sequence[_Result], seed: int
) -> tuple[pd.DataFrame, DispersionStatistics | None]:
    """A row for each image that was analysed, one for all, and the latter's dispersion."""
    analysed = [result for result in done if result.table is not None]
    known = [result.dispersion for result in analysed if result.dispersion is not None]
    of_all = pooled(known, seed) if known else None
    found = [(r.outcome.image, r.outcome.atoms, r.dispersion) for r in analysed]
    complete = {r.outcome.image: r.completeness for r in analysed}
    return with_completeness(dispersion_rows(found, of_all), complete, ALL), of_all


def _remove_older(folder: Path, files: Sequence[Path]) -> None:
    """Take away what an earlier run wrote here and this one doesn't: it would seem to be of this.

    Only what its record names: anything else is somebody's own.
    """
    for name in _written_before(folder / "run.json"):
        path = folder / ("figures" if name.endswith((".png", ".svg")) else "") / name
        if path not in files and path.is_file():
            path.unlink()


def _written_before(record: Path) -> list[str]:
    """Names of the files of an earlier run for atoms; none if the record is of another command."""
    try:
        known = json.loads(record.read_text(encoding="utf-8"))
        of_atoms = known["model"]["kind"] == ATOMS
        names = [name for name in known["outputs"] if of_atoms and isinstance(name, str)]
    except (OSError, ValueError, KeyError, TypeError):
        return []
    # A name with folders could lead out of this one.
    return [name for name in names if name == Path(name).name]
