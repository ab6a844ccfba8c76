"""What was found in an image, in figures: how many, how dense, in which groups."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd

from ..statistics import atom_groups as groups
from ..statistics.windows import ObservationWindow
from .marks import ImageAtoms
from .table import PERSON


@dataclass(frozen=True, eq=False)
class Summary:
    """Atoms of an image as they are counted at its threshold.

    Parameters
    ----------
    n_atoms, n_by_person, n_uncertain
        All of them, those that a person set or spoke of, and those that a person doubts.
    area_nm2
        Of the support, all frames together; NaN where none is known.
    n_off_support
        Atoms beside it: they count in no density.
    kinds
        As `groups.kinds`: a row for isolated, dimer, multimer and cluster.
    sizes
        As `groups.size_distribution`: a row for each size of group.
    nearest_nm
        Median distance to the nearest other atom; NaN with fewer than two. No correction for the
        edges, unlike that of `statistics.dispersion`.
    """

    n_atoms: int
    n_by_person: int
    n_uncertain: int
    area_nm2: float
    n_off_support: int
    kinds: pd.DataFrame
    sizes: pd.DataFrame
    nearest_nm: float

    @property
    def density_per_nm2(self) -> float:
        """Atoms on the support per nm² of it, as counted; NaN without support."""
        on_support = self.n_atoms - self.n_off_support
        return on_support / self.area_nm2 if self.area_nm2 > 0 else float("nan")


def summary(atoms: ImageAtoms) -> Summary:
    """The figures of an image."""
    table, support = atoms.table, atoms.support
    # groups are numbered through all frames
    group_size = groups.sizes(table["group_id"].to_numpy())
    area, off = float("nan"), 0
    if support is not None:
        area = float(support.sum()) * atoms.pixel_size_nm**2
        off = int((~_on(support, table, atoms.pixel_size_nm)).sum())
    neighbours = table["nearest_neighbour_nm"].dropna()
    return Summary(
        len(table),
        int((table["origin"] == PERSON).sum()),
        int(table["uncertain"].sum()),
        area,
        off,
        groups.kinds(group_size),
        groups.size_distribution(group_size),
        float(neighbours.median()) if len(neighbours) else float("nan"),
    )


def _on(support: np.ndarray, table: pd.DataFrame, pixel_size_nm: float) -> np.ndarray:
    """(N,) bool: the pixel that holds the atom is support."""
    frame, places = table["frame"].to_numpy(int), table[["y_nm", "x_nm"]].to_numpy(float)
    on = np.zeros(len(table), bool)
    for index, mask in enumerate(support if support.ndim == 3 else support[None]):
        here = frame == index
        if mask.any():
            on[here] = ObservationWindow(mask, pixel_size_nm).contains(places[here])
    return on
