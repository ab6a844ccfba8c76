"""Projects of small images on disk, analysed without a network."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import tifffile

from napari_atomicity.io.images import load
from napari_atomicity.models.analysis import Analysis
from support import synthetic_analysis


def write_image(path: Path, seed: int = 0) -> Path:
    """A calibrated image of 120 × 160 pixels of 0.1 nm, whose content is its seed's."""
    pixels = synthetic_analysis(seed=seed).micrograph.data.astype(np.uint16)
    tifffile.imwrite(path, pixels, imagej=True, resolution=(10, 10), metadata={"unit": "nm"})
    return path


def analysed(path: Path, n: int = 12, seed: int = 0, name: str | None = None) -> Analysis:
    """What a model might say of an image file."""
    micrograph = load(path, name=name)
    found = synthetic_analysis(n, micrograph.name, seed)
    parameters = {"model": {"model_id": "synthetic-0", "classes": ["Pt19"]}, "detection": {}}
    return replace(found, micrograph=micrograph, parameters=parameters, field_of_view_nm=2.8)
