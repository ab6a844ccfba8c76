"""Numbers, density and groups of the atoms of an image."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd

from ..statistics.points import atom_groups as groups
from .marks import ImageAtoms
from .support import is_on_support
from .table import PERSON


@dataclass(frozen=True, eq=False)
class Summary:
    """Counts of the atoms of an image at its threshold."""

    # n_atoms, n_by_person, n_uncertain: number of all atoms, of annotated ones, and of uncertain
    # ones
    n_atoms: int
    n_by_person: int
    n_uncertain: int
    area_nm2: float  # area of the support of all frames with contrast; NaN if it is unknown
    n_frames: int  # number of frames with contrast, over which all numbers are sums
    # numbers of detections on bright clusters and of others outside the support, which are excluded
    # from densities, groups and distances
    n_on_clusters: int
    n_off_support: int
    # expected number of atoms on the support: the sum of the probabilities of all candidates,
    # corrected for atoms that are no candidates; NaN without support
    n_expected: float
    kinds: pd.DataFrame  # as `groups.kinds`: a row for isolated, dimer, multimer and cluster
    sizes: pd.DataFrame  # as `groups.size_distribution`: a row for each size of group
    # median distance to the nearest other atom; NaN with fewer than two. Not corrected for edges,
    # unlike that of `statistics.points.dispersion`
    nearest_nm: float

    @property
    def density_per_nm2(self) -> float:
        """Expected atoms per nm² of support (`statistics.points`); NaN without support."""
        return self.n_expected / self.area_nm2 if self.area_nm2 > 0 else float("nan")

    @property
    def counted_density_per_nm2(self) -> float:
        """Atoms above the threshold per nm² of support; NaN without support."""
        on_support = self.n_atoms - self.n_off_support - self.n_on_clusters
        return on_support / self.area_nm2 if self.area_nm2 > 0 else float("nan")


def summary(atoms: ImageAtoms) -> Summary:
    """Summarise the atoms of an image."""
    every, table, of_image = atoms.table, atoms.on_support, atoms.of_image
    support = of_image.support
    by_person, uncertain = int((every["origin"] == PERSON).sum()), int(every["uncertain"].sum())
    # groups are numbered through all frames
    group_size = groups.sizes(table["group_id"].to_numpy())
    area, n_frames, on_clusters, expected = float("nan"), 1, 0, float("nan")
    if support is not None:
        flat = () if of_image.analysis is None else of_image.analysis.flat_frames
        masks = np.delete(support if support.ndim == 3 else support[None], list(flat), axis=0)
        area, n_frames = float(masks.sum()) * atoms.pixel_size_nm**2, len(masks)
        if of_image.bright_clusters is not None:
            clusters = of_image.bright_clusters & ~support
            on_clusters = int(is_on_support(clusters, every, atoms.pixel_size_nm).sum())
        probable = atoms.probabilities
        on = is_on_support(support, probable, atoms.pixel_size_nm)
        on &= ~probable["frame"].isin(flat).to_numpy()
        expected = float(probable["confidence"].fillna(1.0)[on].sum()) / candidate_recall(atoms)
    neighbours = table["nearest_neighbour_nm"].dropna()
    return Summary(
        len(every),
        by_person,
        uncertain,
        area,
        n_frames,
        on_clusters,
        len(every) - len(table) - on_clusters,
        expected,
        groups.kinds(group_size),
        groups.size_distribution(group_size),
        float(neighbours.median()) if len(neighbours) else float("nan"),
    )


def candidate_recall(atoms: ImageAtoms) -> float:
    """Return the share of all atoms that are among `ImageAtoms.probabilities`.

    It is the recall of the model's candidates, increased by the atoms that annotators added on the
    support; 1 if annotators decided on every candidate, since the image is then theirs alone and
    the misses of the model do not matter.
    """
    if atoms.analysis is None or atoms.is_decided:
        return 1.0
    known, recall = atoms.probabilities, atoms.analysis.candidate_recall
    if atoms.support is not None:
        known = known[is_on_support(atoms.support, known, atoms.pixel_size_nm)]
    of_model = known["atom_id"].isin(atoms.analysis.candidates["atom_id"]).to_numpy()
    p = known["confidence"].to_numpy(float)
    if not p.sum() > 0:
        return recall
    with np.errstate(divide="ignore"):  # all of them were added
        return float(min(1.0, recall * np.divide(p.sum(), p[of_model].sum())))
