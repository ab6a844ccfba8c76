"""Functions of the dock Dispersion that run in workers."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from ....atoms.dispersion import (
    DISPERSION_SCHEMA,
    DispersionResult,
    DispersionResults,
    DispersionSettings,
    compute_dispersions,
)
from ....atoms.marks import ImageAtoms
from ....core.acquisition_session import Sample
from ....core.micrograph import Micrograph
from ....core.progress import Progress, Stop
from ....io.provenance import Outcome
from ....io.tables import write_table
from ....state.atom_export import AtomSnapshot, export_atoms
from ....statistics.points.loading_settings import LoadingSettings
from ....statistics.samples.comparison import SampleComparison
from ....statistics.samples.run_evidence import compare_atoms
from ...controls.chart import load_matplotlib


def compare_dispersions(
    images: Mapping[str, ImageAtoms],
    settings: DispersionSettings,
    micrographs: Mapping[str, Micrograph],
    known: dict[str, DispersionResult],
    outcomes: Sequence[Outcome],
    samples: Sequence[Sample],
    reference: str,
    progress: Progress | None = None,
    stop: Stop | None = None,
) -> SampleComparison:
    """Compare samples by their single atoms, in a worker; compute what is missing."""
    load_matplotlib()
    found = compute_dispersions(images, settings, micrographs, known, progress=progress, stop=stop)
    return compare_atoms(found.rows(), outcomes, samples, reference)


def write_rows(
    images: dict[str, ImageAtoms],
    settings: DispersionSettings,
    loading: LoadingSettings,  # metal and support, for the metal loading in wt%
    micrographs: dict[str, Micrograph],  # images whose support is not known yet
    known: dict[str, DispersionResult],
    groups: dict[str, list[str]],  # scope of each session and sample → its images
    path: Path,
    progress: Progress | None = None,
    stop: Stop | None = None,
) -> Path:
    """Write the dispersion of images as a table, in a worker; compute what is missing."""
    found = compute_dispersions(images, settings, micrographs, known, progress=progress, stop=stop)
    return write_table(found.rows(loading, groups, stop), path, DISPERSION_SCHEMA)


def write_report(
    folder: Path,
    taken: AtomSnapshot,
    settings: DispersionSettings,
    known: dict[str, DispersionResult],
    describe: Callable[[DispersionResults], str],  # what a reader should know first
    progress: Progress | None = None,
    stop: Stop | None = None,
) -> list[Path]:
    """Write tables, figures and a report of the atoms of all images; compute what is missing."""
    load_matplotlib()
    found = compute_dispersions(
        taken.images, settings, taken.micrographs, known, progress=progress, stop=stop
    )
    return export_atoms(taken, found, settings, folder, describe(found), progress, stop)
