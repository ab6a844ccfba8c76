"""Small simulated data for examples and tutorials: made within seconds, without ASE.

The clusters are pieces of an fcc lattice that are not relaxed. Models for real images are trained
with `structures.isomer_library`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from .starting_structures import fcc_piece
from .structures import Isomer

if TYPE_CHECKING:
    from ..core.micrograph import Micrograph
    from .field_settings import FieldSettings

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


def make_session(folder: str | PathLike[str], seed: int = 0) -> Path:
    """Write four images that are recorded alike: two mixtures of unknown fractions, two references.

    Parameters
    ----------
    folder : path-like
        Folder for the images of `SESSION`, calibrated TIFF files.
    """
    library = lattice_pieces(seed=seed)
    for number, (name, mixture) in enumerate(SESSION.items()):
        _write_field(library, mixture, seed + number, Path(folder) / name, 512)
    return Path(folder)


def make_size_selected(
    folder: str | PathLike[str], sizes: Sequence[int] = SIZES, n_images: int = 3, seed: int = 0
) -> Path:
    """Write images of size-selected clusters, one folder per class, to train a model.

    Parameters
    ----------
    folder : path-like
        Folder for ``Pt19/0.tif`` and so on.
    sizes : sequence of int, optional
        Numbers of atoms of the classes.
    """
    library = lattice_pieces(sizes, seed=seed)
    for size in sizes:
        for i in range(n_images):
            path = Path(folder) / f"Pt{size}" / f"{i}.tif"
            _write_field(library, {f"Pt{size}": 1.0}, seed + 100 * i + size, path, 360)
    return Path(folder)


def make_movie(n_frames: int = 8, seed: int = 0) -> Micrograph:
    """Simulate a short movie of clusters that move and change their size.

    Returns
    -------
    Micrograph
        Stack of frames with ``metadata["frame_time_s"]``.
    """
    from .movie_truth import MovieTruthSettings
    from .movies import simulate_movie

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

    from .examples import write_image
    from .fields import simulate_field

    settings = replace(_conditions(edge_px), mixture=dict(mixture))
    path.parent.mkdir(parents=True, exist_ok=True)
    micrograph = simulate_field(library, settings, seed, path.name).micrograph
    write_image(micrograph.data, micrograph.calibrated(), path)
