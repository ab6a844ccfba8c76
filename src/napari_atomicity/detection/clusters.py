"""Clusters: found in normalised scale space, outlined, measured. (being written)"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd

from ..micrograph import Micrograph
from ..progress import Progress, Stop


@dataclass(frozen=True)
class DetectionSettings:
    """What counts as a cluster; lengths in nm, the threshold in units of the noise."""

    diameter_min_nm: float = 0.6
    diameter_max_nm: float = 3.0
    threshold: float = 6.0
    split_touching: bool = True


@dataclass(frozen=True, eq=False)
class Detection:
    """N rows of the cluster table and N outlines, (M, 2) polygons in pixels (y, x)."""

    table: pd.DataFrame
    outlines: list[np.ndarray]


def detect(
    micrograph: Micrograph,
    settings: DetectionSettings | None = None,
    progress: Progress | None = None,
    stop: Stop | None = None,
) -> Detection:
    raise NotImplementedError


def measure_at(
    micrograph: Micrograph,
    frame: int,
    y_px: float,
    x_px: float,
    settings: DetectionSettings | None = None,
) -> Detection:
    """Outline and measure the one cluster at a place a person points to (one row, always)."""
    raise NotImplementedError
