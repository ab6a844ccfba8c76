"""Numbers, density and groups of the atoms of an image."""

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
    """Counts of the atoms of an image at its threshold.

    Parameters
    ----------
    n_atoms, n_by_person, n_uncertain : int
        Number of all atoms, of annotated ones, and of uncertain ones.
    area_nm2 : float
        Area of the support of all frames; NaN if it is unknown.
    n_off_support : int
        Number of atoms outside the support, which are excluded from densities.
    kinds : pandas.DataFrame
        As `groups.kinds`: a row for isolated, dimer, multimer and cluster.
    sizes : pandas.DataFrame
        As `groups.size_distribution`: a row for each size of group.
    nearest_nm : float
        Median distance to the nearest other atom; NaN with fewer than two. Not corrected for
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
    """Summarise the atoms of an image."""
    table, support = atoms.table, atoms.support
    # groups are numbered through all frames
    group_size = groups.sizes(table["group_id"].to_numpy())
    area, off = float("nan"), 0
    if support is not None:
        area = float(support.sum()) * atoms.pixel_size_nm**2
        off = int((~_is_on_support(support, table, atoms.pixel_size_nm)).sum())
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


def _is_on_support(support: np.ndarray, table: pd.DataFrame, pixel_size_nm: float) -> np.ndarray:
    """Return (N,) bool: whether the pixel of each atom is support."""
    frame, positions = table["frame"].to_numpy(int), table[["y_nm", "x_nm"]].to_numpy(float)
    on = np.zeros(len(table), bool)
    for index, mask in enumerate(support if support.ndim == 3 else support[None]):
        here = frame == index
        if mask.any():
            on[here] = ObservationWindow(mask, pixel_size_nm).contains(positions[here])
    return on
