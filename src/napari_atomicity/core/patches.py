"""Patches: image sections of single clusters, the input of the network."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Literal, TypeAlias

import numpy as np
from annotated_types import Interval

Patches: TypeAlias = Mapping[str, np.ndarray]


@dataclass(frozen=True)
class PatchSettings:
    """Geometry of the input of the network, in nm and thus independent of the magnification."""

    field_of_view_nm: Annotated[float, Interval(ge=0.1, le=100)] = 2.8  # edge length of a patch
    size_px: Annotated[int, Interval(ge=8, le=256)] = 56  # pixels along this edge
    # standard deviation of the Gaussian windows of the local contrast normalisation
    lcn_window_nm: Annotated[float, Interval(ge=0.01, le=20)] = 0.5
    channels: tuple[str, ...] = ("raw", "LCN")  # "raw" and "LCN", or one of them
    # unit of the raw channel in the network: atoms per nm², by the intensity of one atom in the
    # image; or the 99 % quantile of each patch above its background, as a method does that knows
    # nothing but the patch
    raw_unit: Literal["atoms", "patch"] = "atoms"
