"""What a project says of its images, and of another project that was merged into it."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

import pandas as pd

from ..atoms.marks import ImageAtoms
from ..core.micrograph import Micrograph
from ..core.table_cache import Columns
from ..models.analysis import Analysis


@dataclass(frozen=True, eq=False)
class ProjectImage:
    """An image of a project, described without its pixels.

    Parameters
    ----------
    name : str
        As in tables and layers.
    path : Path
        Where its file was last found.
    sha256 : str, optional
        Hash of the file; None before it was read.
    shape : tuple of int, optional
        Of the data: (Y, X) or (T, Y, X); None before it was read.
    pixel_size_nm : float, optional
        None if it is not known.
    state : str
        "new", "analysed", or "failed".
    error : str
        Why it failed.
    n_clusters, n_reviewed : int
        Number of clusters, and of those that a person has labelled.
    counts : dict of str to int
        Label → number of clusters.
    model_id : str, optional
        The model that made the predictions.
    thumbnail : bytes
        PNG; empty before the image was read.
    recorded : str, optional
        When it was recorded, if the file says so.
    """

    name: str
    path: Path
    sha256: str | None = None
    shape: tuple[int, ...] | None = None
    pixel_size_nm: float | None = None
    state: str = "new"
    error: str = ""
    n_clusters: int = 0
    n_reviewed: int = 0
    counts: dict[str, int] = field(default_factory=dict)
    model_id: str | None = None
    thumbnail: bytes = b""
    recorded: str | None = None


@dataclass(frozen=True, eq=False)
class ProjectContents:
    """What a project holds of an image.

    Parameters
    ----------
    micrograph : Micrograph
        Its pixels are read when they are used.
    analysis : Analysis, optional
        None if the image has not been analysed.
    next_id : int
        The id that the next new cluster gets.
    columns : Columns, optional
        Those of the cluster table.
    atoms : ImageAtoms, optional
        Atoms of the image.
    next_atom_id : int
        The id that the next new atom gets.
    damage : str
        Why a part could not be read; "" if all could.
    """

    micrograph: Micrograph
    analysis: Analysis | None = None
    next_id: int = 1
    columns: Columns | None = None
    atoms: ImageAtoms | None = None
    next_atom_id: int = 1
    damage: str = ""


@dataclass(frozen=True, eq=False)
class MergeReport:
    """Result of merging another project.

    Parameters
    ----------
    n_images : int
        Images that both have.
    n_new : int
        New entries of the log of corrections.
    annotators : tuple of str
        Annotators of the new entries.
    disagreements : pandas.DataFrame
        Columns image, cluster_id, mine, theirs, annotator, label_predicted.
    unmatched : pandas.DataFrame
        Columns image, cluster_id, label, annotator, why: labels that could not be merged.
    n_marks : int
        New blind marks of atoms.
    n_marks_lost : int
        Marks in images that are not here.
    """

    n_images: int
    n_new: int
    annotators: tuple[str, ...]
    disagreements: pd.DataFrame
    unmatched: pd.DataFrame
    n_marks: int = 0
    n_marks_lost: int = 0
