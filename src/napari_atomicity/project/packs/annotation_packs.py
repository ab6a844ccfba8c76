"""Annotation packs: images and empty tables for annotators.

A pack is a folder, and the same as a .zip, that anybody can work on with any program that shows
pixel coordinates::

    README.txt       what to do, in plain words
    annotator.txt    a line for one's name
    manifest.json    names, hashes, sizes and pixel sizes of the images
    images/          as they are
    previews/        PNG with contrast
    tables/          <image>.csv each: X,Y,uncertain

Packs come back from anywhere, so nothing in them is trusted: nothing is unpacked to disk, sizes are
limited, names count only as the manifest has them, and what can't be read is an error that names
file and line. All that is wrong is told at once. A table that is as it went out is one that nobody
has looked at; who found no atom in an image writes ``none``.
"""

from __future__ import annotations

import os
import re
import shutil
import tempfile
import zipfile
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from ..._version import __version__
from ...core.errors import (
    AtomicityError,
    TableError,
    UnsuitableImageError,
)
from ...core.progress import Progress, Stop, check, report
from ...core.text import pluralise
from ...io.files import MANIFEST, PREVIEWS, to_json
from ...io.images import find_images, load, sha256_of, unique_names, valid_text
from ...statistics.annotators.annotation_sites import TOLERANCE_NM

FORMAT = 1
NONE, DONE = "none", "done"
"""Entries of a table: the image has no atoms; the proposed atoms are all right."""
HEADER = "X,Y,uncertain\n"
"""First line of a table."""


def line_of_mark(x_px: float, y_px: float) -> str:
    """Return the line of a table that proposes an atom."""
    return f"{x_px:.2f},{y_px:.2f},\n"


def export_pack(
    images: Iterable[str | os.PathLike[str]],
    directory: str | os.PathLike[str],
    annotator: str | None = None,
    blind: bool = True,
    pixel_size_nm: float | Mapping[Path, float] | None = None,
    predictions: pd.DataFrame | None = None,
    tolerance_nm: float = TOLERANCE_NM,
    progress: Progress | None = None,
    stop: Stop | None = None,
    *,
    overwrite: bool = False,
) -> Path:
    """Make a pack for one annotator or many.

    Raises `AtomicityError` if an image is not suitable, predictions are given for a blind pack, or
    the folder is not empty or can't be written.
    """
    if blind and predictions is not None:
        raise AtomicityError("a blind pack can't contain predictions")
    directory = Path(directory)
    archive = archive_of(directory)
    files = find_images(images)
    _check_place(directory, archive, overwrite)
    names = _check_names(files, directory)
    check_proposals(predictions, names)
    manifest = _new_manifest(annotator, blind, tolerance_nm)

    def write_images(folder: Path) -> None:
        for i, (file, name) in enumerate(zip(files, names, strict=True)):
            check(stop)
            report(progress, i, len(files), f"Packing {name}")
            manifest["images"].append(_put(folder, file, name, pixel_size_nm, predictions))

    _write_pack(directory, archive, manifest, write_images)
    return archive


def check_proposals(predictions: pd.DataFrame | None, names: Sequence[str]) -> None:
    """Raise `TableError` if proposed atoms are there, and none is of an image of the pack."""
    if predictions is not None and len(predictions) and not predictions["image"].isin(names).any():
        raise TableError(
            f"no row of the predictions is of an image of the pack ({_some(names)}); they are of "
            f"{_some(predictions['image'].dropna().astype(str).unique().tolist())}",
            advice="Give the table of atoms of these images",
        )


def proposals_of(predictions: pd.DataFrame, name: str, shape_px: tuple[int, int]) -> np.ndarray:
    """Return the positions (N, 2) of the proposed atoms of an image, y and x in hundredths of px.

    Raises `TableError` if some are outside the image: what comes back would be refused.
    """
    places = predictions.loc[predictions["image"] == name, ["y_px", "x_px"]].to_numpy(float)
    places = np.round(places, 2) + 0.0  # not -0.0, which a browser writes as 0
    is_inside = (places >= -0.5) & (places <= np.array(shape_px) - 0.5)
    n_outside = int((~is_inside.all(axis=1)).sum())
    if n_outside:
        raise TableError(
            f"{n_outside} of {pluralise(len(places), 'proposed atom')} of {name} are outside the "
            f"image of {shape_px[1]} x {shape_px[0]} pixels",
            advice="Give the table of atoms of this image",
        )
    return places


def _new_manifest(annotator: str | None, blind: bool, tolerance_nm: float) -> dict[str, Any]:
    """Return the manifest of a pack without images."""
    return {
        "format": FORMAT,
        "program": "napari-atomicity",
        "version": __version__,
        "annotator": annotator,
        "blind": blind,
        "tolerance_nm": tolerance_nm,
        "images": [],
    }


def archive_of(directory: Path) -> Path:
    """Return the .zip file that is made next to the folder of a pack."""
    return directory.with_name(f"{directory.name}.zip")


def _check_place(directory: Path, archive: Path, overwrite: bool) -> None:
    """Raise `AtomicityError` if a pack can't be made here; it may replace another pack only."""
    replaced = overwrite and (directory / MANIFEST).is_file()
    for path, may_replace in ((directory, replaced), (archive, overwrite)):
        exists = any(path.iterdir()) if path.is_dir() else path.exists()
        if exists and not may_replace:
            raise AtomicityError("there is something already", path, "Choose another folder")


def _check_names(files: list[Path], directory: Path) -> list[str]:
    """Return the names of the images; raise `AtomicityError` if two are the same."""
    names = [valid_text(name) for name in unique_names(files)]
    if len({safe_name(name).lower() for name in names}) < len(names):
        raise AtomicityError("two images would have the same name", directory, "Rename one")
    return names


def _some(names: Sequence[str]) -> str:
    """List the first names."""
    return ", ".join(names[:3]) + (", …" if len(names) > 3 else "") or "no image"


def _write_pack(
    directory: Path,
    archive: Path,
    manifest: dict[str, Any],
    write_images: Callable[[Path], None],
) -> None:
    """Write a pack into a temporary folder and move it: a pack is complete or does not exist."""
    annotator, tolerance_nm, blind = (manifest[k] for k in ("annotator", "tolerance_nm", "blind"))
    try:
        directory.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=directory.parent, prefix=".pack-") as temporary:
            folder = Path(temporary, directory.name)
            for part in ("images", PREVIEWS, "tables"):
                (folder / part).mkdir(parents=True)
            write_images(folder)
            (folder / MANIFEST).write_text(to_json(manifest) + "\n", "utf-8")
            (folder / "annotator.txt").write_text(f"{annotator or ''}\n", "utf-8")
            (folder / "README.txt").write_text(_readme(annotator, tolerance_nm, blind), "utf-8")
            packed = Path(temporary, archive.name)
            _zip(folder, packed)
            if directory.is_dir():
                directory.replace(Path(temporary, "replaced"))
            folder.replace(directory)
            packed.replace(archive)
    except OSError as error:
        raise AtomicityError(
            f"could not be written ({error.strerror or error})", directory, "Choose another folder"
        ) from error


def _put(
    folder: Path,
    file: Path,
    name: str,
    pixel_size_nm: float | Mapping[Path, float] | None,
    predictions: pd.DataFrame | None,
) -> dict[str, Any]:
    """Write image, preview and table into the folder; return the record of the manifest."""
    import imagecodecs

    from ...core.palette import to_8_bit

    given = pixel_size_nm.get(file) if isinstance(pixel_size_nm, Mapping) else pixel_size_nm
    micrograph = load(file, given, name=name)
    if micrograph.n_frames > 1:
        raise UnsuitableImageError(
            f"it has {micrograph.n_frames} frames", file, "Save the frame to be marked by itself"
        )
    pixel_size = micrograph.calibrated()
    safe = safe_name(name)
    shutil.copyfile(file, folder / "images" / safe)
    grey = to_8_bit(next(micrograph.frames()))
    (folder / PREVIEWS / f"{safe}.png").write_bytes(imagecodecs.png_encode(grey))
    rows = ""
    if predictions is not None:
        places = proposals_of(predictions, name, (micrograph.shape_px[0], micrograph.shape_px[1]))
        rows = "".join(line_of_mark(x, y) for y, x in places)
    table = folder / "tables" / f"{safe}.csv"
    table.write_bytes((HEADER + rows).encode())
    height, width = micrograph.shape_px
    return {
        "name": name,
        "file": safe,
        "table_sha256": sha256_of(table),
        "sha256": micrograph.sha256,
        "height_px": height,
        "width_px": width,
        "pixel_size_nm": pixel_size,
    }


def safe_name(name: str) -> str:
    """Return a name without folders, which is valid on every system."""
    return re.sub(r'[\\/:*?"<>|\x00-\x1f]', "_", name)


def _zip(folder: Path, archive: Path) -> None:
    with zipfile.ZipFile(archive, "w", zipfile.ZIP_DEFLATED) as packed:
        for file in sorted(folder.rglob("*")):
            if file.is_file():
                packed.write(file, f"{folder.name}/{file.relative_to(folder).as_posix()}")


def _readme(annotator: str | None, tolerance_nm: float, blind: bool) -> str:
    filled = (
        ""
        if blind
        else "The tables hold what a program has found. Remove false atoms, add missing ones\n"
        f"and correct positions. If all is right, add a line with {DONE}.\n\n"
    )
    name = (
        f"This is the pack of {annotator}. Leave annotator.txt, which has the name, as it is."
        if annotator
        else "Write your name into annotator.txt."
    )
    return f"""\
Where are the atoms?

{filled}1. {name}
2. Open an image of the folder images/ (previews/ has the same ones with contrast).
3. For each atom that you see, write its place in pixels into the table of that image in
   tables/, a line for each:

       X,Y,uncertain
       152,351,
       174.5,332,1

   X counts columns from the left, Y rows from the top. The centre of the first pixel, top
   left, is 0,0. Fractions are welcome. ImageJ (point tool, Measure) and napari count this way,
   but ImageJ writes nm while an image has a scale: remove it first with Analyze > Set Scale >
   Click to Remove Scale.
   Put a 1 into the third column if you are not sure; leave it empty if you are.
4. If there is no atom in an image, write {NONE} into the first line below the header. A table
   that you do not change counts as not annotated, which is fine too.
5. Send the folder back, with tables/, annotator.txt and manifest.json in it. The images need
   not come back.

Mark what you see, not what you expect, and please don't compare with others before all are
done. Marks of several people within {tolerance_nm:g} nm will be taken for the same atom.
Leave manifest.json as it is.
"""
