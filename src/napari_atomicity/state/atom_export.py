"""The single atoms of a window into a folder: tables, figures, report and record.

The files are those of ``atomicity atoms``, with what people have marked and drawn.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from ..atoms.cluster_atoms import with_clusters
from ..atoms.dispersion import (
    DispersionResult,
    DispersionResults,
    DispersionSettings,
    support_masks,
)
from ..atoms.marks import INJECTED, ImageAtoms
from ..core.acquisition_session import AcquisitionSession, Sample
from ..core.errors import FAILED, add_failed, attempt, format_failed
from ..core.micrograph import Micrograph
from ..core.progress import Progress, Stop, check, report
from ..core.settings import GROUP_DISTANCE_NM
from ..io.provenance import (
    Outcome,
    assign_samples,
    assign_sessions,
    micrograph_fields,
    now,
    with_annotator,
)
from ..models.analysis import Analysis
from ..reporting.atom_files import (
    AtomResult,
    FigureFolders,
    completeness_warnings,
    dispersion_warnings,
    write_atom_files,
)
from ..reporting.atom_report import MANUAL_THRESHOLD, MARKS, count_marks
from ..reporting.image_warnings import pixel_warnings
from ..statistics.points.loading_settings import LoadingSettings
from .annotator_packs import counted_atoms
from .window_state import WindowState


@dataclass(frozen=True, eq=False)
class AtomSnapshot:
    """The single atoms of a window at one moment, taken without reading anything."""

    images: Mapping[str, ImageAtoms]  # in which somebody or a model has looked for atoms
    micrographs: Mapping[str, Micrograph]  # of all images of the window
    clusters: Mapping[str, Analysis]
    loading: LoadingSettings
    sessions: tuple[AcquisitionSession, ...] = ()
    samples: tuple[Sample, ...] = ()
    reference_sample: str | None = None  # with which the others are compared; None: the first
    blind: str | None = None  # the annotator whose marks alone these are; None outside blind mode
    started: str = field(default_factory=now)


def atom_snapshot(state: WindowState) -> AtomSnapshot:
    """Return the single atoms of a window for a worker; call it in the thread of the window.

    In blind mode they are those of the annotator, without sessions and samples.
    """
    found = counted_atoms(state, state.images)
    samples = () if state.blind else tuple(state.sessions.samples(found))
    return AtomSnapshot(
        found,
        {image: state.micrograph(image) for image in state.images},
        {i: analysis for i in found if (analysis := state.analysis(i)) is not None},
        state.atoms.loading,
        () if state.blind else tuple(state.sessions.groups()),
        samples,
        state.sessions.reference_of(samples),
        state.annotator if state.blind else None,
    )


def export_atoms(
    taken: AtomSnapshot,
    found: DispersionResults,  # of all images of the snapshot
    settings: DispersionSettings,
    folder: Path,
    note: str = "",  # what a reader of the report should know first
    progress: Progress | None = None,
    stop: Stop | None = None,
) -> list[Path]:
    """Write tables, figures, report and record of single atoms; return the files.

    Raises `AtomicityError` if the folder can't be made or a file can't be written; after all else
    is written, if a figure or the report failed. Raises `Cancelled` if ``stop()`` says so; files
    that are complete stay, ``run.json`` is not among them.
    """
    folders, results = FigureFolders.of_images(len(taken.images), folder), []
    for number, (image, spread) in enumerate(found.of.items()):
        check(stop)
        report(progress, number, len(taken.images), f"Drawing {image}")
        of_image = taken.micrographs[image], taken.clusters.get(image)
        results.append(_result(spread, *of_image, folders))
    check(stop)
    others = [
        Outcome(image, str(micrograph.path or ""), "not reached", "atoms are not known there")
        for image, micrograph in taken.micrographs.items()
        if image not in found.of
    ]
    outcomes = assign_sessions([*(result.outcome for result in results), *others], taken.sessions)
    written = write_atom_files(
        folder,
        results,
        assign_samples(outcomes, taken.samples),
        taken.samples,
        taken.loading,
        settings.seed,
        reference=taken.reference_sample,
        note=note,
        progress=progress,
        **_circumstances(taken, settings, results),
    )
    written.folder.raise_failed()
    return written.folder.files


def _result(
    spread: DispersionResult,
    micrograph: Micrograph,
    clusters: Analysis | None,
    folders: FigureFolders,
) -> AtomResult:
    """Return what is written of an image, with its figures."""
    atoms, failed = spread.atoms, dict[str, str]()
    table = with_clusters(atoms, clusters)
    of_image = table, spread.table, spread.dispersion

    def draw() -> tuple[list[Path], Mapping[str, Any]] | None:
        masks = support_masks(atoms, micrograph)
        return folders.draw(micrograph, masks[0] if masks else None, *of_image)

    drawn = None if folders.images is None else attempt(failed, "figure", draw)
    files, pictures = drawn or ([], None)
    density = float("nan") if spread.dispersion is None else spread.dispersion.density.value
    parameters = _parameters(atoms)
    outcome = Outcome(
        micrograph.name,
        str(micrograph.path or ""),
        "done",
        **micrograph_fields(micrograph),
        atoms=len(table),
        parameters=add_failed(parameters, failed),
        seconds={} if atoms.analysis is None else atoms.analysis.seconds,
        warnings=(
            *pixel_warnings(parameters),
            *completeness_warnings(spread.completeness, density),
            *dispersion_warnings(spread),
            *format_failed({FAILED: failed}),
        ),
    )
    return AtomResult(
        outcome,
        table=table,
        on_support=spread.table,
        dispersion=spread.dispersion,
        completeness=spread.completeness,
        pictures=files,
        drawn=pictures,
    )


def _parameters(atoms: ImageAtoms) -> dict[str, Any]:
    """Return how the atoms of an image were found and marked."""
    marks, analysis = count_marks(atoms), atoms.analysis
    found: dict[str, Any] = {MARKS: marks} if marks else {}
    if analysis is None:
        return found
    found |= {k: v for k, v in analysis.parameters.items() if k != INJECTED}
    found.setdefault("model", {"model_id": analysis.model_id})
    found["threshold"] = analysis.threshold
    if analysis.has_manual_threshold:
        found[MANUAL_THRESHOLD] = True
    # It is the model's, for its own detections.
    return found if marks else {**found, "expected": analysis.expected}


def _circumstances(
    taken: AtomSnapshot,
    settings: DispersionSettings,
    results: Sequence[AtomResult],
) -> dict[str, Any]:
    """Return the keywords of `io.provenance.run_record`."""
    images = [result.outcome.parameters for result in results]
    devices = {str(one["device"]) for one in images if one.get("device")}
    distances = [atoms.group_distance_nm for atoms in taken.images.values()]
    parameters = {
        "threshold": None,  # each image has its own
        "group_distance_nm": next(iter(distances), GROUP_DISTANCE_NM),
        "completeness": any(result.completeness is not None for result in results),
        "loading": asdict(taken.loading),
        **asdict(settings),
    }
    return {
        "started": taken.started,
        "finished": now(),
        "parameters": with_annotator(parameters, taken.blind),
        "model": next((one["model"] for one in images if "model" in one), None),
        "device": ", ".join(sorted(devices)) or None,
        "command": [],
    }
