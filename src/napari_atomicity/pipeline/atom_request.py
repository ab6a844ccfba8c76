"""Model, device and settings of a run for single atoms."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ..core.errors import AtomicityError
from ..statistics.atom_groups import LINK_NM


@dataclass(frozen=True)
class AtomRequest:
    """Model, device and settings of a run.

    Parameters
    ----------
    model : str, optional
        Name of an available atom model, or path of a model file.
    device : str, optional
        "auto", "cpu", "cuda" or "mps".
    pixel_size_nm : float, optional
        Pixel size; replaces that of the files.
    precision : float, optional
        Expected precision of the reported atoms; None for the maximum expected F1.
    threshold : float, optional
        Minimum probability of the reported atoms, instead of a precision.
    group_distance_nm : float, optional
        Maximum distance between atoms of one group.
    clusters : str, optional
        Cluster table of these images: atoms are assigned to clusters, and the atoms of clusters are
        counted by the single-atom calibration.
    seed : int, optional
        Seed of random patterns, bootstraps and injected atoms.
    completeness : bool, optional
        Whether to inject atoms into each image to estimate the detected fraction; slower.
    """

    model: str = "default"
    device: str = "auto"
    pixel_size_nm: float | None = None
    precision: float | None = None
    threshold: float | None = None
    group_distance_nm: float = LINK_NM
    clusters: str | None = None
    seed: int = 0
    completeness: bool = True

    def __post_init__(self) -> None:
        for name in ("precision", "threshold"):
            value = getattr(self, name)
            if value is not None and not 0 <= value <= 1:
                raise AtomicityError(f"a {name} of {value:g} is not between 0 and 1")
        if self.precision is not None and self.threshold is not None:
            raise AtomicityError("give a precision or a threshold, not both")
        if not (np.isfinite(self.group_distance_nm) and self.group_distance_nm > 0):
            raise AtomicityError(
                f"the group distance must be positive, not {self.group_distance_nm:g} nm"
            )
