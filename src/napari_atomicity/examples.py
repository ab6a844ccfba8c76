"""The bundled example: a simulated field of five sizes of Pt clusters, with its truth.

``python -m napari_atomicity.examples`` makes it again.
"""

from __future__ import annotations

from importlib import resources
from pathlib import Path

SEED = 143
ISOMERS_PER_CLASS = 12


def _folder() -> Path:
    return Path(str(resources.files("napari_atomicity") / "data"))


def example_path() -> Path:
    """The example image, a calibrated TIFF."""
    return _folder() / "example.tif"


def example_truth_path() -> Path:
    """What is in it: the columns of the cluster table."""
    return _folder() / "example_truth.csv"


def make_example() -> None:
    """Simulate the example and write it into the package.

    Raises
    ------
    DependencyError
        If ASE is not installed.
    """
    import numpy as np
    import tifffile

    from .simulation.fields import FieldSettings, simulate_field
    from .simulation.imaging import Microscope, Scan
    from .simulation.structures import isomer_library

    library = isomer_library("Pt", (19, 30, 41, 55, 70), ISOMERS_PER_CLASS, SEED)
    settings = FieldSettings(
        shape_px=(1024, 1024),
        pixel_size_nm=0.036,
        clusters_per_nm2=0.036,
        mixture={"Pt19": 0.3, "Pt30": 0.1, "Pt41": 0.25, "Pt55": 0.1, "Pt70": 0.25},
        microscope=Microscope(
            defocus_nm=2.0, source_nm=0.08, dose_e_per_a2=6000, gain=4.0, black_level=420, lag=0.15
        ),
        scan=Scan(row_jitter_px=0.15, drift_px_per_row=(0.002, 0.004), row_noise=0.004),
        carbon_nm=3.0,
        roughness=0.12,
    )
    made = simulate_field(library, settings, SEED, "example.tif")
    per_nm = 1 / settings.pixel_size_nm
    _folder().mkdir(exist_ok=True)
    tifffile.imwrite(
        example_path(),
        made.micrograph.data.astype(np.uint16),
        imagej=True,
        resolution=(per_nm, per_nm),
        metadata={"unit": "nm"},
        compression="zlib",
    )
    made.truth.to_csv(example_truth_path(), index=False, float_format="%.5g")


if __name__ == "__main__":
    make_example()
