"""A made-up session for the pictures of the documentation: six fields, recorded alike.

    python docs/scripts/example_session.py FOLDER

The same files come out every time. `atomicity simulate` draws other conditions for each field;
a morning at one microscope does not.
"""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import tifffile

from napari_atomicity.simulation.field_settings import FieldSettings
from napari_atomicity.simulation.fields import simulate_field
from napari_atomicity.simulation.imaging import Microscope, Scan
from napari_atomicity.simulation.structures import isomer_library

SEED = 2026
N_IMAGES = 6
ATOMS = (19, 30, 41, 55, 70)
ISOMERS_PER_CLASS = 12
MIXTURE = {"Pt19": 0.3, "Pt30": 0.1, "Pt41": 0.25, "Pt55": 0.1, "Pt70": 0.25}
CONTAMINATED = 2
"""In this image there is something to exclude."""

SETTINGS = FieldSettings(
    shape_px=(832, 832),
    pixel_size_nm=0.036,
    clusters_per_nm2=0.045,
    mixture=MIXTURE,
    microscope=Microscope(
        defocus_nm=2.0, source_nm=0.08, dose_e_per_a2=5000, gain=4.0, black_level=420, lag=0.15
    ),
    scan=Scan(row_jitter_px=0.15, drift_px_per_row=(0.002, 0.004), row_noise=0.004),
    carbon_nm=3.0,
    roughness=0.12,
    touching=0.08,
    aggregates=0.03,
)


def make_session(
    folder: Path, base: FieldSettings = SETTINGS, n_images: int = N_IMAGES, seed: int = SEED
) -> pd.DataFrame:
    """Simulate the images and write them as calibrated TIFF files; the truth of all of them."""
    folder.mkdir(parents=True, exist_ok=True)
    library = isomer_library("Pt", ATOMS, ISOMERS_PER_CLASS, SEED)
    truths = []
    for i in range(n_images):
        dirty = replace(base, contamination=0.08, contamination_nm=5.0)
        settings = dirty if i == CONTAMINATED and base is SETTINGS else base
        path = folder / f"field_{i + 1:02d}.tif"
        made = simulate_field(library, settings, seed + i, path.name)
        per_nm = 1 / settings.pixel_size_nm
        tifffile.imwrite(
            path,
            made.micrograph.data.astype(np.uint16),
            imagej=True,
            resolution=(per_nm, per_nm),
            metadata={"unit": "nm"},
            compression="zlib",
        )
        truths.append(made.truth.assign(image=path.name))
    return pd.concat(truths, ignore_index=True)


SAMPLES = {
    "fresh": (0, MIXTURE),
    "after_2h": (2, {"Pt19": 0.24, "Pt30": 0.1, "Pt41": 0.23, "Pt55": 0.13, "Pt70": 0.3}),
    "after_8h": (8, {"Pt19": 0.14, "Pt30": 0.1, "Pt41": 0.16, "Pt55": 0.2, "Pt70": 0.4}),
}
"""Sample → hours of treatment, and the fractions of its classes."""


def make_samples(folder: Path, n_images: int = 4) -> Path:
    """Simulate images of the samples, each in its folder; return the table of the samples."""
    rows = ["image,sample,time_h"]
    for number, (name, (hours, mixture)) in enumerate(SAMPLES.items()):
        settings = replace(SETTINGS, mixture=mixture)
        make_session(folder / name, settings, n_images, SEED + 100 * (number + 1))
        rows.append(f"{name}/*,{name},{hours}")
    table = folder / "samples.csv"
    table.write_text("\n".join(rows) + "\n")
    return table


if __name__ == "__main__":
    make_session(Path(sys.argv[1]))
