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
    """An image of a project, as far as it is known without its pixels.

    Parameters
    ----------
    name
        As in tables and layers.
    path
        Where it was last seen.
    sha256
        Of the file; None before it was read.
    shape
        Of the data: (Y, X) or (T, Y, X); None before it was read.
    pixel_size_nm
        None where neither the file nor a person has said it.
    state
        "new", "analysed", or "failed".
    error
        Why it failed.
    n_clusters, n_reviewed
        How many there are, and of how many a person has said what they are.
    counts
        Label → number of clusters.
    model_id
        Who made the predictions.
    thumbnail
        PNG; empty before the image was read.
    recorded
        When, if the file says so.
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
    """What a project holds of an image: the micrograph, whose pixels are read when they are asked
    for; the analysis if there is one, and the columns of its table; and the id that the next new
    cluster gets."""

    micrograph: Micrograph
    analysis: Analysis | None = None
    next_id: int = 1
    columns: Columns | None = None
    atoms: ImageAtoms | None = None
    next_atom_id: int = 1


@dataclass(frozen=True, eq=False)
class MergeReport:
    """What came of taking in another project.

    Parameters
    ----------
    n_images
        Images that both have.
    n_new
        Entries that were not known before.
    annotators
        Whose they are.
    disagreements
        Columns image, cluster_id, mine, theirs, annotator, label_predicted.
    unmatched
        Columns image, cluster_id, label, annotator, why: what could not be brought in.
    n_marks
        Entries about atoms, marked blind, that were not known before.
    n_marks_lost
        Those of images that are not here.
    """

    n_images: int
    n_new: int
    annotators: tuple[str, ...]
    disagreements: pd.DataFrame
    unmatched: pd.DataFrame
    n_marks: int = 0
    n_marks_lost: int = 0
