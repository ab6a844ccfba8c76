"""Patches: what the network sees of each cluster."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from torch import Tensor

Patches = Mapping[str, np.ndarray] | Mapping[str, Tensor]


@dataclass(frozen=True)
class PatchSettings:
    """Geometry of the network's input; all lengths in nm, so that magnification does not matter.

    Parameters
    ----------
    field_of_view_nm
        Edge length of a patch.
    size_px
        Pixels along that edge.
    lcn_window_nm
        Standard deviation of the Gaussian windows of the local contrast normalisation.
    channels
        "raw" and "LCN", or one of them.
    """

    field_of_view_nm: float = 2.8
    size_px: int = 56
    lcn_window_nm: float = 0.5
    channels: tuple[str, ...] = ("raw", "LCN")
