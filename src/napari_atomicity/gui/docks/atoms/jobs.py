"""Functions of the dock Atoms that run in workers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from ....atoms import cluster_atoms
from ....atoms.analysis import AtomAnalysis, find_atoms
from ....atoms.completeness import Completeness
from ....atoms.finding.card import AtomCard
from ....atoms.finding.pixel_size import PixelSizeProposal, propose_pixel_size
from ....atoms.injection import InjectedAtoms, inject_atoms
from ....atoms.marks import ImageAtoms
from ....atoms.regions import make_cluster_mask
from ....atoms.species import Species, find_species, isolated_intensities
from ....atoms.summary import Summary, summary
from ....atoms.table import SCHEMA, concat_atom_tables, conform
from ....core.acquisition_session import add_group_names
from ....core.errors import ModelError
from ....core.micrograph import Micrograph
from ....core.progress import Progress, Stop, check, report
from ....core.tables.columns import GROUP_COLUMNS
from ....io.clipboard import tab_separated
from ....io.readers.lazy_micrograph import LazyMicrograph
from ....io.tables import write_table
from ....models.analysis import Analysis
from ....models.files import installed_model
from ....reporting.plots.dispersion import extent_data
from ....statistics.points.atom_groups import GROUP_SCHEMA, group_table
from ... import tasks

if TYPE_CHECKING:
    from ....atoms.finding.finder import AtomModel


def find_image_atoms(
    micrograph: Micrograph,
    model: str,
    device: str,
    precision: float | None,  # expected precision at the threshold; None for the best expected F1
    progress: Progress | None = None,
    stop: Stop | None = None,
) -> AtomAnalysis:
    """Find the candidate atoms of an image, and choose its threshold."""
    tasks.cap_torch_threads()
    if isinstance(micrograph, LazyMicrograph):
        micrograph = micrograph.with_file_metadata()
    return find_atoms(micrograph, model, device, precision=precision, progress=progress, stop=stop)


def propose(pixels: np.ndarray) -> PixelSizeProposal | None:
    """Propose a pixel size from the spots of an image, or of the first frame of a stack."""
    return propose_pixel_size(np.asarray(pixels[0] if pixels.ndim == 3 else pixels))


def figures(
    atoms: ImageAtoms,
) -> tuple[ImageAtoms, Summary, pd.DataFrame, Completeness | None]:
    """Return the atoms of an image, summary, groups by extent, and completeness if it is known."""
    return atoms, summary(atoms), extent_data(atoms.on_support), atoms.completeness


def inject_test_atoms(
    atoms: ImageAtoms,
    clusters: Analysis | None,
    progress: Progress | None = None,
    stop: Stop | None = None,
) -> InjectedAtoms | None:
    """Run an injection-recovery test in an image, outside its clusters.

    Raises `ModelError` if the model that found the atoms is not available.
    """
    assert atoms.analysis is not None
    tasks.cap_torch_threads()
    report(progress, 0, 0, "Loading the model")
    model = _model_of(atoms.analysis)
    mask = None
    if clusters is not None:
        shape = atoms.analysis.support.shape
        mask = make_cluster_mask(clusters.table, shape, atoms.pixel_size_nm, clusters.outlines)
    corrected = atoms.analysis if atoms.support is None else replace(
        atoms.analysis, support=atoms.support
    )  # fmt: skip
    return inject_atoms(corrected, model, mask, progress=progress, stop=stop)


def _model_of(analysis: AtomAnalysis) -> AtomModel:
    # Imported here, because the window starts without torch.
    from ....atoms.finding.finder import load_atom_model

    found = installed_model(analysis.model_id, AtomCard)
    if found is not None:
        return load_atom_model(found[0])
    raise ModelError(
        f"the model {analysis.model_id} that found these atoms is not available",
        advice="Find the atoms again with an installed model",
    )


def describe_species(atoms: ImageAtoms) -> Species:
    """Fit the species of an image's atoms on the support from their intensities."""
    return find_species(isolated_intensities(atoms.on_support))


def format_species(atoms: ImageAtoms) -> str:
    """Describe the species, and say if they were those of other atoms; "" if not distinguished."""
    if atoms.species is None:
        return ""
    changed = not atoms.species.is_fit_of(isolated_intensities(atoms.on_support))
    again = " The atoms have changed since: distinguish the species again." if changed else ""
    return atoms.species.format_summary() + again


def holders(atoms: ImageAtoms, analysis: Analysis) -> dict[int, int]:
    """Assign candidates and marks of an image to the clusters that contain them."""
    return cluster_atoms.find_clusters_of_atoms(atoms, analysis.table, analysis.outlines)


def count_clusters(atoms: ImageAtoms, analysis: Analysis) -> pd.DataFrame:
    """Count the atoms of the clusters of an image by single-atom calibration."""
    return cluster_atoms.count_cluster_atoms(
        atoms, analysis.table, analysis.micrograph, analysis.outlines, atoms.completeness
    )


def same_places(one: pd.DataFrame, other: pd.DataFrame) -> bool:
    """Return whether two tables of candidates have the same positions; species may differ."""
    where = ["atom_id", "frame", "y_px", "x_px"]
    return one is other or (
        len(one) == len(other) and np.array_equal(one[where].to_numpy(), other[where].to_numpy())
    )


def format_atoms(atoms: ImageAtoms, analysis: Analysis | None) -> str:
    """Format the atoms of an image for the clipboard, with their clusters if these are known."""
    return tab_separated(cluster_atoms.with_clusters(atoms, analysis))


def write_atoms(
    found: Sequence[ImageAtoms],
    analyses: Mapping[str, Analysis | None],
    session_of: Mapping[str, str],  # image → name of its session
    sample_of: Mapping[str, str],  # image → name of its sample
    path: Path,
    progress: Progress | None = None,
    stop: Stop | None = None,
) -> Path:
    """Write the atoms of images as one table, as ``atomicity atoms`` does."""
    tables = []
    for number, atoms in enumerate(found):
        check(stop)
        report(progress, number, len(found), f"Writing {path.name}")
        tables.append(cluster_atoms.with_clusters(atoms, analyses.get(atoms.image)))
    table = add_group_names(concat_atom_tables(tables), session_of, sample_of)
    return write_table(conform(table), path, (*SCHEMA, *GROUP_COLUMNS))


def write_groups(
    found: Sequence[ImageAtoms],
    path: Path,
    progress: Progress | None = None,
    stop: Stop | None = None,
) -> Path:
    """Write the groups of atoms of images as one table, as ``atomicity atoms`` does."""
    check(stop)
    groups = group_table(concat_atom_tables(atoms.table for atoms in found))
    return write_table(groups, path, GROUP_SCHEMA)
