"""What the dock Atoms asks of the core; run in workers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from ...analysis import Analysis
from ...atoms.analysis import AtomAnalysis, find_atoms
from ...atoms.calibration import PixelSizeProposal, propose_pixel_size
from ...atoms.groups import clusters_of_atoms
from ...atoms.marks import ImageAtoms
from ...atoms.species import Species, with_species
from ...atoms.summary import Summary, summary
from ...atoms.table import conform, empty_table
from ...atoms.yardstick import count_by_yardstick
from ...io.pasting import tab_separated
from ...io.stored import StoredMicrograph
from ...io.tables import write_table
from ...micrograph import Micrograph
from ...progress import Progress, Stop, check, report
from ...project import Project
from ...table import classes_of
from ..parts import tasks

CLUSTER_COLUMNS = (
    "image", "frame", "cluster_id", "label", "n_yardstick", "n_yardstick_low", "n_yardstick_high",
    "yardstick_reason", "label_yardstick", "yardstick_set", "n_atoms_found", "atom_ids",
)  # fmt: skip
"""Of the table of clusters with their atoms."""


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
    """Of every place where an atom may be the cluster that holds it: atom_id → cluster_id.

    Of all candidates, so that it stays right whatever the threshold.
    """
    table = atoms.table
    if atoms.analysis is not None:
        others = atoms.analysis.candidates
        others = others[~others["atom_id"].isin(table["atom_id"])]
        table = pd.concat([table, others], ignore_index=True) if len(table) else others
    held = clusters_of_atoms(table, analysis.table, analysis.outlines)
    there = held.notna().to_numpy()
    ids = table["atom_id"].to_numpy()[there]
    return dict(zip(ids.tolist(), held[there].astype(int).tolist(), strict=True))


def count_clusters(
    atoms: ImageAtoms,
    analysis: Analysis,
    progress: Progress | None = None,
    stop: Stop | None = None,
) -> pd.DataFrame:
    """The clusters of an image counted by its atoms: see `count_by_yardstick`.

    A person's word on a candidate counts as such; the index is ``cluster_id``.
    """
    places = atoms.probabilities
    places = places.assign(
        y_px=places["y_nm"] / atoms.pixel_size_nm, x_px=places["x_nm"] / atoms.pixel_size_nm
    )
    counted = count_by_yardstick(
        analysis.table,
        places,
        analysis.micrograph,
        analysis.outlines,
        atoms.support,
        classes_of(analysis.table),
    )
    return counted.set_axis(analysis.table["cluster_id"].to_numpy(), axis=0)


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
    filled = [table for table in tables if len(table)]
    table = pd.concat(filled, ignore_index=True) if filled else empty_table()
    return write_table(conform(table), path)


def cluster_rows(
    table: pd.DataFrame, counted: pd.DataFrame, held: Mapping[int, int], atom_ids: Sequence[int]
) -> pd.DataFrame:
    """The clusters of an image with their counts and their atoms, as a table for a file.

    Parameters
    ----------
    table
        Cluster table of the image.
    counted
        From `count_clusters`.
    held
        From `holders`.
    atom_ids
        Of the atoms at the threshold.
    """
    inside: dict[int, list[int]] = {}
    for atom_id in atom_ids:
        if atom_id in held:
            inside.setdefault(held[atom_id], []).append(atom_id)
    known = table[table["cluster_id"].isin(counted.index)].set_index("cluster_id", drop=False)
    atoms = [inside.get(int(i), []) for i in known.index]
    rows = pd.concat([known, counted.loc[known.index]], axis=1).assign(
        n_atoms_found=[len(ids) for ids in atoms],
        atom_ids=["|".join(map(str, ids)) for ids in atoms],
    )
    return rows[list(CLUSTER_COLUMNS)].reset_index(drop=True)
