"""Small simulated data for examples and tutorials: made within seconds, without ASE.

The clusters are pieces of an fcc lattice that are not relaxed. Models for real images are trained
with `structures.isomer_library`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from importlib import resources
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from .starting_structures import fcc_piece
from .structures import Isomer

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd

    from ..core.micrograph import Micrograph
    from .field_settings import FieldSettings


# ---- bundled examples with their truth: simulated fields of Pt clusters, and of single atoms
#
# ``python -m napari_atomicity.simulation.example_data`` makes them again.

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
        _write_image(folder / f"field_{number}.tif", pixels, whole.calibrated())
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


def _write_image(path: Path, pixels: np.ndarray, pixel_size_nm: float) -> None:
    from .recipes import write_pixels

    write_pixels(path, pixels.astype("uint16"), pixel_size_nm, "zlib")


def _write(micrograph: Micrograph, path: Path, truth: pd.DataFrame, truth_path: Path) -> None:
    path.parent.mkdir(exist_ok=True)
    _write_image(path, micrograph.data, micrograph.calibrated())
    truth.to_csv(truth_path, index=False, float_format="%.5g")


if __name__ == "__main__":
    make_example()
    make_atom_example()


NEIGHBOUR_NM = 0.277
"""Nearest-neighbour distance in platinum."""
SIZES = (19, 55)
SESSION = {
    "mix_1.tif": {"Pt19": 0.5, "Pt55": 0.5},
    "mix_2.tif": {"Pt19": 0.5, "Pt55": 0.5},
    "ref_1.tif": {"Pt55": 1.0},
    "ref_2.tif": {"Pt19": 1.0},
}
"""Images of `make_session`, and the fractions of their classes."""


def lattice_pieces(sizes: Sequence[int] = SIZES, per_size: int = 6, seed: int = 0) -> list[Isomer]:
    """Cut platinum clusters from an fcc lattice."""
    rng = np.random.default_rng(seed)
    pieces = []
    for size in sizes:
        for _ in range(per_size):
            positions = fcc_piece(size, rng) * NEIGHBOUR_NM
            positions = positions - positions.mean(axis=0)
            pieces.append(Isomer("Pt", "compact", positions.astype(np.float32)))
    return pieces


def make_session(
    folder: str | PathLike[str],  # folder for the images of `SESSION`, calibrated TIFF files
    seed: int = 0,
) -> Path:
    """Write four images recorded alike: two mixtures of unknown fractions, two references."""
    library = lattice_pieces(seed=seed)
    for number, (name, mixture) in enumerate(SESSION.items()):
        _write_field(library, mixture, seed + number, Path(folder) / name, 512)
    return Path(folder)


def make_size_selected(
    folder: str | PathLike[str],  # folder for ``Pt19/0.tif`` and so on
    sizes: Sequence[int] = SIZES,  # numbers of atoms of the classes
    n_images: int = 3,
    seed: int = 0,
) -> Path:
    """Write images of size-selected clusters, one folder per class, to train a model."""
    library = lattice_pieces(sizes, seed=seed)
    for size in sizes:
        for i in range(n_images):
            path = Path(folder) / f"Pt{size}" / f"{i}.tif"
            _write_field(library, {f"Pt{size}": 1.0}, seed + 100 * i + size, path, 360)
    return Path(folder)


def make_movie(n_frames: int = 8, seed: int = 0) -> Micrograph:
    """Simulate a short movie of clusters that move and change their size.

    The stack has ``metadata["frame_time_s"]``.
    """
    from .movies import MovieTruthSettings, simulate_movie

    settings = MovieTruthSettings(
        tuple(f"Pt{size}" for size in SIZES),
        n_frames,
        n_clusters=8,
        extent_nm=(14.0, 14.0),
        change=0.03,
    )
    library = lattice_pieces(seed=seed)
    return simulate_movie(library, settings, seed, _conditions(360), "movie.tif").micrograph


def _conditions(edge_px: int) -> FieldSettings:
    """Return the imaging conditions that all images have in common."""
    from .field_settings import FieldSettings

    return FieldSettings(shape_px=(edge_px, edge_px), clusters_per_nm2=0.06)


def _write_field(
    library: Sequence[Isomer], mixture: Mapping[str, float], seed: int, path: Path, edge_px: int
) -> None:
    from dataclasses import replace

    pass  # MERGED
    from .fields import simulate_field

    settings = replace(_conditions(edge_px), mixture=dict(mixture))
    path.parent.mkdir(parents=True, exist_ok=True)
    micrograph = simulate_field(library, settings, seed, path.name).micrograph
    _write_image(path, micrograph.data, micrograph.calibrated())
