"""Bundled examples with their truth: simulated fields of Pt clusters, and of single atoms.

``python -m napari_atomicity.simulation.examples`` makes them again.
"""

from __future__ import annotations

from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd

    from ..core.micrograph import Micrograph

SEED = 143
ATOM_SEED = 19
ISOMERS_PER_CLASS = 12


def _folder() -> Path:
    return Path(str(resources.files("napari_atomicity") / "data"))


def example_path() -> Path:
    """Return the path of the example image, a calibrated TIFF."""
    return _folder() / "example.tif"


def example_truth_path() -> Path:
    """Return the path of its truth, with the columns of the cluster table."""
    return _folder() / "example_truth.csv"


def atom_example_path() -> Path:
    """Return the path of the example of single atoms and a few clusters, a calibrated TIFF."""
    return _folder() / "example_atoms.tif"


def atom_example_truth_path() -> Path:
    """Return the path of its truth: a row per atom or cluster, with its number of atoms ``n``."""
    return _folder() / "example_atoms_truth.csv"


def write_example_folder(folder: Path) -> Path:
    """Write the quarters of the example image as four images, recorded alike, into a new folder."""
    from ..io.images import load

    whole = load(example_path())
    folder.mkdir(parents=True)
    half = whole.shape_px[0] // 2
    corners = [(y, x) for y in (0, half) for x in (0, half)]
    for number, (y, x) in enumerate(corners, 1):
        pixels = whole.data[y : y + half, x : x + half]
        write_image(pixels, whole.calibrated(), folder / f"field_{number}.tif")
    return folder


def make_example() -> None:
    """Simulate the example and write it into the package.

    Raises `DependencyError` if ASE is not installed.
    """
    from .field_settings import FieldSettings
    from .fields import simulate_field
    from .imaging import Microscope, Scan
    from .structures import isomer_library

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
    _write(made.micrograph, example_path(), made.truth, example_truth_path())


def make_atom_example() -> None:
    """Simulate the example of single atoms and write it into the package."""
    from .atom_fields import AtomFieldSettings, simulate_atoms
    from .imaging import Microscope

    settings = AtomFieldSettings(
        pattern="clustered",
        atoms_per_nm2=0.35,
        parents_per_nm2=0.12,
        spread_nm=1.0,
        clusters=(12, 19, 19, 30, 30, 41, 55),
        contrast=0.5,
        roughness=0.15,
        step=0.15,
        vacuum=0.12,
        microscope=Microscope(dose_e_per_a2=6e5, gain=20.0, black_level=800.0),
    )
    made = simulate_atoms(settings, ATOM_SEED)
    _write(made.micrograph, atom_example_path(), made.truth, atom_example_truth_path())


def _write(micrograph: Micrograph, path: Path, truth: pd.DataFrame, truth_path: Path) -> None:
    path.parent.mkdir(exist_ok=True)
    write_image(micrograph.data, micrograph.calibrated(), path)
    truth.to_csv(truth_path, index=False, float_format="%.5g")


def write_image(pixels: np.ndarray, pixel_size_nm: float, path: Path) -> None:
    """Write an image as a calibrated 16-bit TIFF file.

    Parameters
    ----------
    pixels : ndarray of shape (Y, X)
        Intensities.
    pixel_size_nm : float
        Edge length of a pixel in nm.
    """
    import tifffile

    per_nm = 1 / pixel_size_nm
    tifffile.imwrite(
        path,
        pixels.astype("uint16"),
        imagej=True,
        resolution=(per_nm, per_nm),
        metadata={"unit": "nm"},
        compression="zlib",
    )


if __name__ == "__main__":
    make_example()
    make_atom_example()
