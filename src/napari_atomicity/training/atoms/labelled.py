"""Labelled images: pixels and manual marks."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from ...core.errors import CalibrationError, ReadError, TableError, reason_of
from ...detection.background import without_gaps
from ...io.files import regular_file
from ...io.images import load, reader_of

MIN_CERTAINTY = 0.5
"""A place of at least this certainty is an atom when detections are scored."""
COORDINATES = (("y_nm", "x_nm"), ("y_px", "x_px"), ("y", "x"), ("axis-0", "axis-1"), ("row", "col"))
"""Names of the columns of positions, y first, in the order in which they are looked for."""


@dataclass(frozen=True, eq=False)
class LabelledImage:
    """A micrograph with manual marks of atoms.

    Parameters
    ----------
    name : str
        Name of the image.
    pixels : ndarray of shape (Y, X)
        Finite pixels, float32.
    pixel_size_nm : float
        Edge length of a pixel.
    points : ndarray of shape (N, 2)
        Marks (y, x) in pixels.
    group : str
        Images of one group are never on two sides of a split.
    source : str
        The set that it belongs to.
    targets : ndarray of shape (M, 3), optional
        Places (y, x) in pixels, and the certainty from 0 to 1 that there is an atom, which networks
        learn; None: the points, with certainty.
    """

    name: str
    pixels: np.ndarray
    pixel_size_nm: float
    points: np.ndarray
    group: str = ""
    source: str = ""
    targets: np.ndarray | None = None

    @property
    def points_nm(self) -> np.ndarray:
        """Marks (N, 2) of (y, x) in nm."""
        return self.points * self.pixel_size_nm

    @property
    def learnt(self) -> tuple[np.ndarray, np.ndarray]:
        """Places (M, 2) in pixels and certainties (M,) that networks learn."""
        if self.targets is None:
            return self.points, np.ones(len(self.points))
        return self.targets[:, :2], self.targets[:, 2]


def read_labelled(directory: str | Path, pixel_size_nm: float | None = None) -> list[LabelledImage]:
    """Read images with tables of positions: in ``images`` and ``labels``, or in one folder.

    The table of ``a.tif`` is ``a.csv`` or ``a_atoms_xy_px.csv``, with columns ``y_nm, x_nm`` or
    ``y_px, x_px`` or ``X, Y`` (pixels) or napari's ``axis-0, axis-1``. With a column ``certainty``,
    as in the labels of a consensus, rows of at least 0.5 are marks, and networks learn each row as
    strongly as it is certain. Images without a table are skipped.

    Parameters
    ----------
    directory : str or Path
        The folder.
    pixel_size_nm : float, optional
        For images without a calibration.

    Returns
    -------
    list of LabelledImage
        The images, by name.

    Raises
    ------
    ReadError
        If there is no folder, no image with a table, or an image can't be read.
    CalibrationError
        If the pixel size of an image is unknown.
    TableError
        If a table has no positions, invalid ones, or some outside of the image.
    """
    directory = Path(directory)
    if not directory.is_dir():
        raise ReadError("there is no such folder", directory, "Give the folder of the images")
    images = directory / "images" if (directory / "images").is_dir() else directory
    tables = directory / "labels" if (directory / "labels").is_dir() else images
    found = []
    for path in sorted(images.iterdir()):
        table = _table_of(path, tables) if path.is_file() and reader_of(path) else None
        if table is not None:
            found.append(_read_image(path, table, directory.name, pixel_size_nm))
    if not found:
        raise ReadError(
            "no image in this folder has a table of positions",
            directory,
            "Add a CSV file with the name of each image and the columns X and Y (pixels)",
        )
    return found


def _table_of(image: Path, tables: Path) -> Path | None:
    for name in (f"{image.stem}.csv", f"{image.stem}_atoms_xy_px.csv", f"{image.name}.csv"):
        if (tables / name).is_file():
            return tables / name
    return None


def _read_image(path: Path, table: Path, source: str, pixel_size_nm: float | None) -> LabelledImage:
    micrograph = load(path)
    if micrograph.is_stack:
        raise ReadError("a stack can't be trained on", path, "Give single images")
    size = micrograph.pixel_size_nm or pixel_size_nm
    if size is None:
        raise CalibrationError(
            "the pixel size is not known", path, "Give it in nm (--pixel-size-nm)"
        )
    points = read_points(table, size)
    limits = np.array(micrograph.shape_px)
    if ((points < -0.5) | (points > limits - 0.5)).any():
        raise TableError(
            f"{table.name} has positions outside of the image",
            table,
            "Check the units, and that X is the column and Y the row",
        )
    pixels = without_gaps(np.asarray(micrograph.frame()[:, :], np.float32))
    certainty = _read_certainty(table)
    targets = None
    if certainty is not None:
        targets = np.column_stack([points, certainty])
        points = points[certainty >= MIN_CERTAINTY]
    return LabelledImage(path.stem, pixels, size, points, path.stem, source, targets)


def _read_certainty(path: Path) -> np.ndarray | None:
    """Return the certainties of a table of positions; None if it has none."""
    table = pd.read_csv(regular_file(path))
    columns = {str(c).strip().lower(): c for c in table.columns}
    if "certainty" not in columns:
        return None
    values = pd.to_numeric(table[columns["certainty"]], errors="coerce").to_numpy(float)
    if not ((values >= 0) & (values <= 1)).all():
        raise TableError("a certainty is no number from 0 to 1", path)
    return values


def read_points(path: Path, pixel_size_nm: float) -> np.ndarray:
    """Read positions (N, 2) of (y, x) in pixels from a table.

    Raises
    ------
    TableError
        If there are no positions, or some are not finite numbers.
    """
    try:
        table = pd.read_csv(regular_file(path))
    except (OSError, ValueError) as error:
        raise TableError(f"the table can't be read ({reason_of(error)})", path) from None
    columns = {str(c).strip().lower(): c for c in table.columns}
    for y, x in COORDINATES:
        if y in columns and x in columns:
            try:
                points = table[[columns[y], columns[x]]].to_numpy(float)
            except ValueError as error:
                raise TableError(f"a position is no number ({error})", path) from None
            if not np.isfinite(points).all():
                raise TableError("a position is missing or not finite", path)
            return points / pixel_size_nm if y.endswith("_nm") else points
    raise TableError(
        f"the table has no columns of positions, only {', '.join(map(str, table.columns))}",
        path,
        "Call them X and Y (column and row in pixels), or x_nm and y_nm",
    )
