"""The table of a dispersion as a file."""

from __future__ import annotations

from pathlib import Path

from ....atoms.dispersion import (
    DISPERSION_SCHEMA,
    DispersionResult,
    DispersionSettings,
    compute_dispersions,
)
from ....atoms.marks import ImageAtoms
from ....core.micrograph import Micrograph
from ....core.progress import Progress, Stop
from ....io.tables import write_table
from ....statistics.loading_settings import LoadingSettings


def write_rows(
    path: Path,
    images: dict[str, ImageAtoms],
    settings: DispersionSettings,
    loading: LoadingSettings,  # metal and support, for the metal loading in wt%
    micrographs: dict[str, Micrograph],  # images whose support is not known yet
    known: dict[str, DispersionResult],
    progress: Progress | None = None,
    stop: Stop | None = None,
) -> Path:
    """Write the dispersion of images as a table, in a worker; compute what is missing."""
    found = compute_dispersions(images, settings, micrographs, known, progress=progress, stop=stop)
    return write_table(found.rows(loading), path, DISPERSION_SCHEMA)
