"""What the dock Atoms asks of the core; run in workers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from ....atoms import cluster_atoms
from ....atoms.analysis import AtomAnalysis, find_atoms
from ....atoms.card import available_atom_models
from ....atoms.completeness import Completeness
from ....atoms.injection import InjectedAtoms, inject_atoms
from ....atoms.marks import ImageAtoms
from ....atoms.pixel_size import PixelSizeProposal, propose_pixel_size
from ....atoms.regions import make_cluster_mask
from ....atoms.species import Species, with_species
from ....atoms.summary import Summary, summary
from ....atoms.table import concat_atom_tables, conform
from ....core.errors import ModelError
from ....core.micrograph import Micrograph
from ....core.progress import Progress, Stop, check, report
from ....io.clipboard import tab_separated
from ....io.lazy_micrograph import LazyMicrograph
from ....io.tables import write_table
from ....models.analysis import Analysis
from ....project import Project
from ....statistics.atom_groups import clusters_of_atoms
from ... import tasks

if TYPE_CHECKING:
    from ....atoms.finder import AtomModel


def find(
    micrograph: Micrograph,
    model: str,
    device: str,
    precision: float | None,
    progress: Progress | None = None,
    stop: Stop | None = None,
) -> AtomAnalysis:
    """All candidates of an image, and its operating point."""
    tasks.cap_torch_threads()
    if isinstance(micrograph, LazyMicrograph):
        micrograph = micrograph.with_file_metadata()
    return find_atoms(micrograph, model, device, precision=precision, progress=progress, stop=stop)


def propose(
    pixels: np.ndarray, progress: Progress | None = None, stop: Stop | None = None
) -> PixelSizeProposal | None:
    """What the pixel size may be, by the width of the clearest spots."""
    return propose_pixel_size(np.asarray(pixels[0] if pixels.ndim == 3 else pixels))


def figures(
    atoms: ImageAtoms, progress: Progress | None = None, stop: Stop | None = None
) -> tuple[ImageAtoms, Summary, Completeness | None]:
    """The figures of an image, with what they are of, and what is missed if that is known."""
    return atoms, summary(atoms), atoms.completeness


def add_more(
    atoms: ImageAtoms,
    clusters: Analysis | None,
    progress: Progress | None = None,
    stop: Stop | None = None,
) -> InjectedAtoms | None:
    """Put atoms into an image, away from its clusters, and see what becomes of them.

    Raises
    ------
    ModelError
        If the model that found its atoms is not at hand.
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
    # Torch is not needed to look at results.
    from ....atoms.finder import load_atom_model

    for card in available_atom_models():
        if card.model_id == analysis.model_id:
            return load_atom_model(card.name)
    raise ModelError(
        f"the model {analysis.model_id} that found these atoms is not here",
        advice="Find the atoms again, with a model that is",
    )


def describe_species(
    atoms: ImageAtoms, progress: Progress | None = None, stop: Stop | None = None
) -> Species:
    """The components of the intensities of an image's atoms."""
    return with_species(atoms.table)[1]


def holders(
    atoms: ImageAtoms,
    analysis: Analysis,
    progress: Progress | None = None,
    stop: Stop | None = None,
) -> dict[int, int]:
    """Which cluster holds which place: see `cluster_atoms.find_clusters_of_atoms`."""
    return cluster_atoms.find_clusters_of_atoms(atoms, analysis.table, analysis.outlines)


def count_clusters(
    atoms: ImageAtoms,
    analysis: Analysis,
    progress: Progress | None = None,
    stop: Stop | None = None,
) -> pd.DataFrame:
    """The clusters of an image counted by its atoms: see `cluster_atoms.count_cluster_atoms`."""
    return cluster_atoms.count_cluster_atoms(
        atoms, analysis.table, analysis.micrograph, analysis.outlines, atoms.completeness
    )


def same_places(one: pd.DataFrame, other: pd.DataFrame) -> bool:
    """Whether two tables of candidates have the same places: species may differ."""
    where = ["atom_id", "frame", "y_px", "x_px"]
    return one is other or (
        len(one) == len(other) and np.array_equal(one[where].to_numpy(), other[where].to_numpy())
    )


def reviewed_share(
    project: Project,
    image: str,
    annotator: str,
    progress: Progress | None = None,
    stop: Stop | None = None,
) -> bool:
    """Whether somebody has said to have gone through an image, or has marked blind in it."""
    _, looked = project.atoms.annotations()
    return bool(((looked["image"] == image) & (looked["annotator"] == annotator)).any())


def with_clusters(atoms: ImageAtoms, analysis: Analysis | None) -> pd.DataFrame:
    """The atoms of an image, with the cluster that holds each where clusters are known."""
    table = atoms.table
    if analysis is None or not len(analysis.table) or not len(table):
        return table
    held = clusters_of_atoms(table, analysis.table, analysis.outlines)
    return table.assign(cluster_id=held)


def pasted(
    atoms: ImageAtoms,
    analysis: Analysis | None,
    progress: Progress | None = None,
    stop: Stop | None = None,
) -> str:
    """The atoms of an image for the clipboard."""
    return tab_separated(with_clusters(atoms, analysis))


def write_atoms(
    found: Sequence[ImageAtoms],
    analyses: Mapping[str, Analysis | None],
    path: Path,
    progress: Progress | None = None,
    stop: Stop | None = None,
) -> Path:
    """Write the atoms of images as one table, the same as ``atomicity atoms`` writes."""
    tables = []
    for number, atoms in enumerate(found):
        check(stop)
        report(progress, number, len(found), f"Writing {path.name}")
        tables.append(with_clusters(atoms, analyses.get(atoms.image)))
    table = concat_atom_tables(tables)
    return write_table(conform(table), path)
