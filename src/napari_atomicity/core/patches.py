"""Patches: image sections of single clusters, the input of the network."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from torch import Tensor

Patches = Mapping[str, np.ndarray] | Mapping[str, Tensor]


@dataclass(frozen=True)
class PatchSettings:
    """Geometry of the input of the network, in nm and thus independent of the magnification.

    Parameters
    ----------
    field_of_view_nm : float
        Edge length of a patch.
    size_px : int
        Pixels along this edge.
    lcn_window_nm : float
        Standard deviation of the Gaussian windows of the local contrast normalisation.
    channels : tuple of str
        "raw" and "LCN", or one of them.
    """

    field_of_view_nm: float = 2.8
    size_px: int = 56
    lcn_window_nm: float = 0.5
    channels: tuple[str, ...] = ("raw", "LCN")
