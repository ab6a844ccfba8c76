"""Patches: each cluster on the same grid in nm, raw and locally contrast-normalised. (being written)"""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from ..micrograph import Micrograph
from ..model.card import PatchSettings
from ..progress import Stop


def extract_patches(
    micrograph: Micrograph, table: pd.DataFrame, settings: PatchSettings, stop: Stop | None = None
) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    """Channel -> (N, size_px, size_px) float32, and the intensity scale that raw was divided by."""
    raise NotImplementedError
