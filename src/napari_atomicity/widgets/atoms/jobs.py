"""What the dock Atoms asks of the core; run in workers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from ...analysis import Analysis
from ...atoms import cluster_atoms
from ...atoms.analysis import AtomAnalysis, find_atoms
from ...atoms.calibration import PixelSizeProposal, propose_pixel_size
from ...atoms.groups import clusters_of_atoms
from ...atoms.marks import ImageAtoms
from ...atoms.species import Species, with_species
from ...atoms.summary import Summary, summary
from ...atoms.table import conform, joined
from ...io.pasting import tab_separated
from ...io.stored import StoredMicrograph
from ...io.tables import write_table
from ...micrograph import Micrograph
from ...progress import Progress, Stop, check, report
from ...project import Project
from ..parts import tasks


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
    if isinstance(micrograph, StoredMicrograph):
        micrograph = micrograph.described()
    return find_atoms(micrograph, model, device, precision=precision, progress=progress, stop=stop)


def propose(
    pixels: np.ndarray, progress: Progress | None = None, stop: Stop | None = None
) -> PixelSizeProposal | None:
    """What the pixel size may be, by the width of the clearest spots."""
    return propose_pixel_size(np.asarray(pixels[0] if pixels.ndim == 3 else pixels))


def figures(
    atoms: ImageAtoms, progress: Progress | None = None, stop: Stop | None = None
) -> tuple[ImageAtoms, Summary]:
    """The figures of an image, with what they are of."""
    return atoms, summary(atoms)


def tell_species(
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
    """Which cluster holds which place: see `cluster_atoms.holders`."""
    return cluster_atoms.holders(atoms, analysis.table, analysis.outlines)


def count_clusters(
    atoms: ImageAtoms,
    analysis: Analysis,
    progress: Progress | None = None,
    stop: Stop | None = None,
) -> pd.DataFrame:
    """The clusters of an image counted by its atoms: see `cluster_atoms.count`."""
    return cluster_atoms.count(atoms, analysis.table, analysis.micrograph, analysis.outlines)


def gone_through(
    project: Project,
    image: str,
    annotator: str,
    progress: Progress | None = None,
    stop: Stop | None = None,
) -> bool:
    """Whether somebody has said to have gone through an image, or has marked blind in it."""
    _, looked = project.annotations()
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
    table = joined(tables)
    return write_table(conform(table), path)
