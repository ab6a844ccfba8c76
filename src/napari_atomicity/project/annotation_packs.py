"""Annotation packs: images and empty tables out to people, filled tables in.

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

import csv
import json
import math
import os
import re
import shutil
import tempfile
import zipfile
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from .._version import __version__
from ..core.errors import (
    AtomicityError,
    CalibrationError,
    ReadError,
    TableError,
    UnsuitableImageError,
)
from ..core.progress import Progress, Stop, check, report
from ..io.archives import ArchiveFiles, open_archive
from ..io.files import to_json
from ..io.formulas import unescape_formula
from ..io.images import find_images, load, sha256_of, unique_names, valid_text
from ..statistics.annotation_sites import TOLERANCE_NM

FORMAT = 1
MANIFEST = "manifest.json"
MARK_COLUMNS = ("image", "annotator", "y_px", "x_px", "y_nm", "x_nm", "uncertain")
"""Of a table of marks."""
LOOKED_COLUMNS = ("image", "annotator", "area_nm2", "blind")
"""Of the table of who looked at what."""
NONE, DONE = "none", "done"
"""What stands in a table of an image without atoms, and in one that is right as it went out."""
_HEADER = "X,Y,uncertain\n"
_MAX_NAME = 100
_YES = {"1", "1.0", "yes", "y", "true", "x", "?", "uncertain"}
_NO = {"", "0", "0.0", "no", "n", "false"}
_MAX_TOLD = 12
_TEXT, _FLAGS = ("image", "annotator"), ("uncertain", "blind")


@dataclass(frozen=True, eq=False)
class Filled:
    """What came back in one pack or several.

    Attributes
    ----------
    marks
        A row per mark: `MARK_COLUMNS`; pixel coordinates are of pixel centres.
    looked
        A row per image and annotator who has looked at it: `LOOKED_COLUMNS`.
    hashes
        Of the images, by name.
    tolerance_nm
        As the packs propose it.
    """

    marks: pd.DataFrame
    looked: pd.DataFrame
    hashes: Mapping[str, str]
    tolerance_nm: float = TOLERANCE_NM


# ---- out
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
) -> Path:
    """Make a pack for one or many people.

    Parameters
    ----------
    images
        Files, and folders of them; each a single frame with a known pixel size.
    directory
        The folder to make; it must not hold anything yet. ``<directory>.zip`` is made beside it.
    annotator
        For whom it is, if for one.
    blind
        Nothing that the machine found is in it. Otherwise tables hold ``predictions``, and say so.
    pixel_size_nm
        Overrides what the files say: of all, or of each by its path.
    predictions
        Atom table of these images, for a pack that is not blind.
    tolerance_nm
        Within which marks of several people are to be one.
    progress, stop
        ``progress(done, total, message)`` and ``stop() -> bool``.

    Returns
    -------
    Path
        The .zip.

    Raises
    ------
    AtomicityError
        If an image can't be read or has several frames or no pixel size, predictions are given for
        a blind pack, or the folder is not empty or can't be written.
    """
    if blind and predictions is not None:
        raise AtomicityError("a blind pack holds no predictions")
    directory = Path(directory)
    archive = directory.with_name(f"{directory.name}.zip")
    for path in (directory, archive):
        if path.is_file() or (path.is_dir() and any(path.iterdir())):
            raise AtomicityError("there is something already", path, "Choose another folder")
    files = find_images(images)
    names = [valid_text(name) for name in unique_names(files)]
    if len({_safe(name).lower() for name in names}) < len(names):
        raise AtomicityError("two images would have the same name", directory, "Rename one")
    records = []
    try:
        directory.parent.mkdir(parents=True, exist_ok=True)
        # Made beside its place and moved there: a pack is whole or not there.
        with tempfile.TemporaryDirectory(dir=directory.parent, prefix=".pack-") as temporary:
            folder = Path(temporary, directory.name)
            for part in ("images", "previews", "tables"):
                (folder / part).mkdir(parents=True)
            for i, (file, name) in enumerate(zip(files, names, strict=True)):
                check(stop)
                report(progress, i, len(files), f"Packing {name}")
                size = (
                    pixel_size_nm.get(file) if isinstance(pixel_size_nm, Mapping) else pixel_size_nm
                )
                records.append(_put(folder, file, name, size, predictions))
            manifest = {
                "format": FORMAT,
                "program": "napari-atomicity",
                "version": __version__,
                "annotator": annotator,
                "blind": blind,
                "tolerance_nm": tolerance_nm,
                "images": records,
            }
            (folder / MANIFEST).write_text(to_json(manifest) + "\n", "utf-8")
            (folder / "annotator.txt").write_text(f"{annotator or ''}\n", "utf-8")
            (folder / "README.txt").write_text(_readme(tolerance_nm, blind), "utf-8")
            packed = Path(temporary, archive.name)
            _zip(folder, packed)
            if directory.is_dir():
                directory.rmdir()
            folder.replace(directory)
            packed.replace(archive)
    except OSError as error:
        raise AtomicityError(
            f"could not be written ({error.strerror or error})", directory, "Choose another folder"
        ) from error
    return archive


def _put(
    folder: Path,
    file: Path,
    name: str,
    pixel_size_nm: float | None,
    predictions: pd.DataFrame | None,
) -> dict[str, Any]:
    """Image, preview and table into the folder; what the manifest says of it."""
    import imagecodecs

    from ..io.contrast import to_8_bit

    micrograph = load(file, pixel_size_nm, name=name)
    if micrograph.n_frames > 1:
        raise UnsuitableImageError(
            f"it has {micrograph.n_frames} frames", file, "Save the frame to be marked by itself"
        )
    if micrograph.pixel_size_nm is None:
        raise CalibrationError("the pixel size is not known", file, "Give it (--pixel-size-nm)")
    safe = _safe(name)
    shutil.copyfile(file, folder / "images" / safe)
    grey = to_8_bit(next(micrograph.frames()))
    (folder / "previews" / f"{safe}.png").write_bytes(imagecodecs.png_encode(grey))
    rows = ""
    if predictions is not None:
        own = predictions[predictions["image"] == name]
        rows = "".join(f"{x:.2f},{y:.2f},\n" for x, y in own[["x_px", "y_px"]].to_numpy(float))
    table = folder / "tables" / f"{safe}.csv"
    table.write_bytes((_HEADER + rows).encode())
    height, width = micrograph.shape_px
    return {
        "name": name,
        "file": safe,
        "table_sha256": sha256_of(table),
        "sha256": micrograph.sha256,
        "height_px": height,
        "width_px": width,
        "pixel_size_nm": micrograph.pixel_size_nm,
    }


def _safe(name: str) -> str:
    """A name without folders, which every system can keep as a file."""
    return re.sub(r'[\\/:*?"<>|\x00-\x1f]', "_", name)


def _zip(folder: Path, archive: Path) -> None:
    with zipfile.ZipFile(archive, "w", zipfile.ZIP_DEFLATED) as packed:
        for file in sorted(folder.rglob("*")):
            if file.is_file():
                packed.write(file, f"{folder.name}/{file.relative_to(folder).as_posix()}")


def _readme(tolerance_nm: float, blind: bool) -> str:
    filled = (
        ""
        if blind
        else "The tables hold what a program has found. Take out what is no atom, add what is\n"
        f"missing, and move what is beside its atom. If all is right, add a line with {DONE}.\n\n"
    )
    return f"""\
Where are the atoms?

{filled}1. Write your name into annotator.txt.
2. Open an image of the folder images/ (previews/ has the same ones with contrast).
3. For each atom that you see, write its place in pixels into the table of that image in
   tables/, a line for each:

       X,Y,uncertain
       152,351,
       174.5,332,1

   X counts columns from the left, Y rows from the top. The centre of the first pixel, top
   left, is 0,0. Fractions are welcome. ImageJ (point tool, Measure) and napari count this way.
   Put a 1 into the third column if you are not sure; leave it empty if you are.
4. If there is no atom in an image, write {NONE} into the first line below the header. A table
   that stays as it is is taken for one that you have not looked at, which is fine too.
5. Send the folder back, with tables/, annotator.txt and manifest.json in it. The images need
   not come back.

Mark what you see, not what you expect, and please don't compare with others before all are
done. Marks of several people within {tolerance_nm:g} nm will be taken for the same atom.
Leave manifest.json as it is.
"""


# ---- in
def read_packs(paths: Iterable[str | os.PathLike[str]]) -> Filled:
    """Read packs of several people.

    Raises
    ------
    AtomicityError
        As `read_pack`; and if images of one name differ between packs, or one person's marks of an
        image are in two of them.
    """
    given = [Path(path) for path in paths]
    if not given:
        raise ReadError("there is no pack")
    packs = [read_pack(path) for path in given]
    hashes: dict[str, str] = {}
    owner: dict[tuple[str, str], Path] = {}
    for path, pack in zip(given, packs, strict=True):
        for name, digest in pack.hashes.items():
            if hashes.setdefault(name, digest) != digest:
                raise TableError(f"{name} is another image than in the packs before", path)
        for key in zip(pack.looked["image"], pack.looked["annotator"], strict=True):
            if key in owner:
                raise TableError(
                    f"{key[1]} has marked {key[0]} in {owner[key].name} as well",
                    path,
                    "Give each person a name of his own in annotator.txt, or leave one pack out",
                )
            owner[key] = path
    return Filled(
        _joined([pack.marks for pack in packs], MARK_COLUMNS),
        _joined([pack.looked for pack in packs], LOOKED_COLUMNS),
        hashes,
        min(pack.tolerance_nm for pack in packs),
    )


def read_pack(path: str | os.PathLike[str]) -> Filled:
    """Read a pack that somebody has filled in.

    Parameters
    ----------
    path
        The folder, or a .zip of it.

    Raises
    ------
    ReadError
        If it is no pack, or is damaged.
    TableError
        If a table is of no image of the manifest, an image is not the one of the manifest, or
        lines can't be read or lie outside the image: which, all at once.
    """
    path = Path(path)
    with open_archive(path, MANIFEST) as parts:
        manifest = _manifest(parts, path)
        records = {record["file"]: record for record in manifest["images"]}
        problems = [
            f"images/{file}: this is not the image that was sent out"
            for file, record in records.items()
            if f"images/{file}" in parts and parts.sha256(f"images/{file}") != record["sha256"]
        ]
        who = _annotator(parts, manifest, path)
        marks, looked = [], []
        for table in parts.list_files("tables/"):
            record = records.get(table.removeprefix("tables/").removesuffix(".csv"))
            if record is None or not table.endswith(".csv"):
                problems.append(f"{table}: the manifest has no image of that name")
                continue
            if parts.sha256(table) == record["table_sha256"]:
                continue
            rows = _rows(parts.text(table), table, record, problems)
            if rows is None:
                continue
            image, px_nm = record["name"], record["pixel_size_nm"]
            area = record["height_px"] * record["width_px"] * px_nm**2
            looked.append((image, who, area, bool(manifest["blind"])))
            marks += [(image, who, y, x, y * px_nm, x * px_nm, unsure) for x, y, unsure in rows]
    if problems:
        told = "; ".join(problems[:_MAX_TOLD])
        more = len(problems) - _MAX_TOLD
        raise TableError(
            told + (f"; and {more} more" if more > 0 else ""),
            path,
            "Nothing was taken from this pack: mend these, and read it again",
        )
    return Filled(
        _joined([pd.DataFrame(marks, columns=list(MARK_COLUMNS))], MARK_COLUMNS),
        _joined([pd.DataFrame(looked, columns=list(LOOKED_COLUMNS))], LOOKED_COLUMNS),
        {record["name"]: record["sha256"] for record in records.values()},
        manifest["tolerance_nm"],
    )


def _joined(parts: Sequence[pd.DataFrame], columns: Sequence[str]) -> pd.DataFrame:
    dtypes: dict[str, Any] = {
        name: "object" if name in _TEXT else "bool" if name in _FLAGS else "float64"
        for name in columns
    }
    filled = [part for part in parts if len(part)]
    table = pd.concat(filled, ignore_index=True) if filled else pd.DataFrame(columns=list(columns))
    return table.astype(dtypes)


def _rows(
    text: str, where: str, record: Mapping[str, Any], problems: list[str]
) -> list[tuple[float, float, bool]] | None:
    """(x, y, uncertain) of each line; None if nobody has looked. Adds what is wrong to the list."""
    first = next((line for line in text.splitlines() if line.strip()), "")
    separator = max("\t;,", key=first.count)
    try:
        # By lines, blank ones too, so that numbers are those that an editor shows.
        lines = list(csv.reader(text.splitlines(), delimiter=separator))
    except csv.Error as error:
        problems.append(f"{where}: this is no table ({error})")
        return None
    rows = [(i, [cell.strip() for cell in line]) for i, line in enumerate(lines, 1)]
    rows = [(i, line) for i, line in rows if any(line)]
    if not rows:
        return None
    head = [cell.lower() for cell in rows[0][1]]
    if not {"x", "y"} <= set(head):
        problems.append(f"{where}, line {rows[0][0]}: the header must have X and Y")
        return None
    if len(rows) == 1:
        return None
    decimal_comma = separator != ","
    ix, iy = head.index("x"), head.index("y")
    iu = head.index("uncertain") if "uncertain" in head else None
    found: list[tuple[float, float, bool]] = []
    seen: dict[tuple[float, float], int] = {}
    for i, line in rows[1:]:
        cells = [str(unescape_formula(cell)) for cell in line] + [""] * (len(head) - len(line))
        word = cells[ix].lower()
        if word in (NONE, DONE) and not any(cells[:ix] + cells[ix + 1 :]):
            if word == NONE and len(rows) > 2:
                problems.append(f"{where}, line {i}: it says {NONE}, but there are marks as well")
            continue
        wrong = len(problems)
        x, y = (_number(cells[k], decimal_comma) for k in (ix, iy))
        for axis, value, k, size in (
            ("X", x, ix, record["width_px"]),
            ("Y", y, iy, record["height_px"]),
        ):
            said = f"{where}, line {i}: {axis}"
            if value is None:
                problems.append(f"{said} is {_shown(cells[k])}, not a number")
            elif not -0.5 <= value <= size - 0.5:
                problems.append(f"{said} is {value:g}, outside the image (0 to {size - 1})")
        unsure = cells[iu].lower() if iu is not None else ""
        if unsure not in _YES | _NO:
            problems.append(
                f"{where}, line {i}: uncertain is {_shown(unsure)}, neither 1 nor empty"
            )
        if len(line) > len(head) and any(line[len(head) :]):
            problems.append(f"{where}, line {i}: it has more cells than the header")
        if len(problems) == wrong and x is not None and y is not None:
            if (x, y) in seen:
                problems.append(f"{where}, line {i}: the same place as in line {seen[x, y]}")
            seen[x, y] = i
            found.append((x, y, unsure in _YES))
    return found


def _number(text: str, decimal_comma: bool) -> float | None:
    try:
        value = float(text.replace(",", ".") if decimal_comma else text)
    except ValueError:
        return None
    return value if math.isfinite(value) and "_" not in text else None


def _shown(text: str) -> str:
    return repr(text if len(text) <= 30 else text[:30] + "…")


def _annotator(parts: ArchiveFiles, manifest: Mapping[str, Any], path: Path) -> str:
    """The name in annotator.txt, else in the manifest, else that of the pack."""
    said = parts.text("annotator.txt") if "annotator.txt" in parts else ""
    name = next((line.strip() for line in said.splitlines() if line.strip()), "")
    name = name or str(manifest.get("annotator") or "").strip() or path.name.removesuffix(".zip")
    printable = "".join(c if c.isprintable() else " " for c in str(unescape_formula(name)))
    return printable[:_MAX_NAME].strip()


def _manifest(parts: ArchiveFiles, path: Path) -> dict[str, Any]:
    try:
        manifest = json.loads(parts.text(MANIFEST))
        if manifest["format"] != FORMAT:
            raise ReadError(
                f"its format is {manifest['format']}, not {FORMAT}", path, "Update the plugin"
            )
        for record in manifest["images"]:
            valid = (
                all(isinstance(record[k], str) for k in ("name", "file", "sha256", "table_sha256"))
                and all(int(record[k]) == record[k] > 0 for k in ("height_px", "width_px"))
                and math.isfinite(record["pixel_size_nm"])
                and record["pixel_size_nm"] > 0
            )
            if not valid:
                raise ValueError("impossible values")
        tolerance = float(manifest["tolerance_nm"])
        bool(manifest["blind"])
        if not (math.isfinite(tolerance) and tolerance > 0):
            raise ValueError("an impossible tolerance")
    except (KeyError, TypeError, ValueError, AttributeError, RecursionError) as error:
        raise ReadError(f"its manifest.json is damaged ({error})", path) from error
    return dict(manifest)
