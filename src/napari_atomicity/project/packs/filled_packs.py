"""Read annotation packs that people have filled in (see `annotation_packs`)."""

from __future__ import annotations

import csv
import hashlib
import io
import math
import os
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import IO, Annotated, Any, Literal

import pandas as pd
from annotated_types import Interval, Len

from ...core.errors import ReadError, TableError, reason_of
from ...core.from_dict import Positive, dataclass_from_json
from ...core.text import printable
from ...io.files import MANIFEST, regular_file, unescape_formula
from ...statistics.annotators.agreement import CONSENSUS
from ...statistics.annotators.annotation_sites import TOLERANCE_NM
from .annotation_packs import DONE, FORMAT, HEADER, NONE, line_of_mark

# ---- read files from a folder or a .zip archive
#
# Archives are not unpacked to disk, links are ignored, and the size of files read into memory is
# limited.

MAX_TEXT = 20_000_000


class ArchiveFiles:
    """Files of a folder or .zip archive by their relative paths with "/"."""

    def __init__(
        self, files: Mapping[str, Any], path: Path, archive: zipfile.ZipFile | None = None
    ) -> None:
        self._files, self._path, self._archive = files, path, archive

    def __enter__(self) -> ArchiveFiles:
        return self

    def __exit__(self, *_: object) -> None:
        if self._archive is not None:
            self._archive.close()

    def __contains__(self, name: str) -> bool:
        return name in self._files

    def list_files(self, folder: str) -> list[str]:
        """Return the paths in a folder without hidden files and locks of office programs."""
        names = (name for name in self._files if name.startswith(folder))
        hidden = ("", ".", "~")
        return sorted(name for name in names if PurePosixPath(name).name[:1] not in hidden)

    def sha256(self, name: str) -> str:
        """Return the hash of a file.

        Raises `ReadError` if it can not be read.
        """
        digest = hashlib.sha256()
        with self._stream(name) as stream:
            while block := stream.read(1 << 20):
                digest.update(block)
        return digest.hexdigest()

    def text(self, name: str) -> str:
        """Return the text of a file in UTF-8, UTF-16 with a byte order mark, or Windows-1252.

        Raises `ReadError` if it can not be read, is too large, or is not text.
        """
        with self._stream(name) as stream:
            data = stream.read(MAX_TEXT + 1)
        if len(data) > MAX_TEXT:
            raise ReadError(f"{name} is larger than {MAX_TEXT // 1_000_000} MB", self._path)
        marked = data[:2] in (b"\xff\xfe", b"\xfe\xff")  # as spreadsheets save "Unicode text"
        try:
            text = data.decode("utf-16" if marked else "utf-8-sig")
        except UnicodeDecodeError:
            text = data.decode("cp1252", "replace")
        if "\0" in text:
            raise ReadError(f"{name} is not a text file", self._path, "Save it as CSV")
        return text

    @contextmanager
    def _stream(self, name: str) -> Iterator[IO[bytes]]:
        """Open a file; all errors while reading it name the file."""
        try:
            if self._archive is None:
                with Path(self._files[name]).open("rb") as stream:
                    yield stream
            else:
                with self._archive.open(self._files[name]) as member:
                    yield member
        # Encrypted files raise RuntimeError, unknown compressions NotImplementedError, damaged
        # files zlib.error and others.
        except Exception as error:
            raise ReadError(f"{name} can't be read ({reason_of(error)})", self._path) from error


def open_archive(path: Path, key: str) -> ArchiveFiles:
    """Open the folder in a folder or .zip archive that contains a file named ``key``.

    Raises `ReadError` if there is no such folder or archive, or the file is missing.
    """
    archive = None
    files: dict[str, Any]
    if path.is_dir():
        files = {
            file.relative_to(path).as_posix(): file
            for file in path.rglob("*")
            if file.is_file() and not file.is_symlink()
        }
    elif not path.exists():
        raise ReadError("there is no such folder or file", path)
    else:
        try:
            archive = zipfile.ZipFile(regular_file(path))
        except Exception as error:  # a damaged list of members raises any exception
            raise ReadError(
                f"this is not a folder or a .zip file ({reason_of(error)})", path
            ) from error
        # A damaged name can be empty: no `is_dir`, which takes its last character.
        members = archive.infolist()
        files = {info.filename: info for info in members if not info.filename.endswith("/")}
    # macOS adds files with the same names to archives.
    found = [n for n in files if PurePosixPath(n).name == key and not n.startswith("__MACOSX")]
    if not found:
        if archive is not None:
            archive.close()
        raise ReadError(f"{key} is missing in it", path)
    base = min(found, key=lambda name: (name.count("/"), name)).removesuffix(key)
    inside = {n.removeprefix(base): file for n, file in files.items() if n.startswith(base)}
    return ArchiveFiles(inside, path, archive)


MARK_COLUMNS = ("image", "annotator", "y_px", "x_px", "y_nm", "x_nm", "uncertain")
"""Columns of the table of marks."""
LOOKED_COLUMNS = ("image", "annotator", "area_nm2", "blind")
"""Columns of the table of viewed images."""
LABEL_COLUMNS = (
    "image", "annotator", "cluster_id", "y_px", "x_px", "diameter_px", "label", "uncertain",
)  # fmt: skip
"""Columns of the table of labels of clusters."""
SKILL_COLUMNS = ("annotator", "known", "given", "right", "f1")
"""Columns of the results of worked examples: atoms or clusters, answers, right answers, F1."""
Unit = Literal["px", "nm"]
"""Unit of the coordinates in a table."""
_Rows = list[tuple[float, float, bool]]
"""Columns x, y and uncertain of the marks in a table."""
_MAX_NAME_LENGTH = 100
_MAX_LOG_CHANCE = math.log(1e-6)
"""Chance of marks in pixels to look like marks in nm, below which they are taken for the latter."""
_YES = {"1", "1.0", "yes", "y", "true", "x", "?", "uncertain"}
_NO = {"", "0", "0.0", "no", "n", "false"}
_MAX_PROBLEMS = 12
MAX_COUNTED, _MAX_LINES, _MAX_CELLS = 1000, 200_000, 1000
_TEXT, _FLAGS = ("image", "annotator", "label"), ("uncertain", "blind")


@dataclass(frozen=True)
class _Format:
    format: int


@dataclass(frozen=True)
class _Record:
    """An image in the manifest."""

    name: Annotated[str, Len(1, 1000)]
    file: Annotated[str, Len(1, 1000)]
    sha256: str
    table_sha256: str
    height_px: Annotated[int, Interval(ge=1, le=10**6)]
    width_px: Annotated[int, Interval(ge=1, le=10**6)]
    pixel_size_nm: Annotated[float, Interval(ge=1e-4, le=1e4)]


@dataclass(frozen=True)
class _Manifest:
    images: tuple[_Record, ...]
    tolerance_nm: Annotated[Positive, Interval(le=1e3)]
    blind: bool
    annotator: str | None = None


@dataclass(frozen=True, eq=False)
class Filled:
    """The content of one filled pack or several."""

    # A row for each mark, columns `MARK_COLUMNS`; coordinates refer to pixel centres
    marks: pd.DataFrame
    # A row for each image and annotator who viewed it, columns `LOOKED_COLUMNS`
    looked: pd.DataFrame
    hashes: Mapping[str, str]
    tolerance_nm: float = TOLERANCE_NM  # the tolerance that the packs propose
    # A row for each labelled cluster, columns `LABEL_COLUMNS`
    labels: pd.DataFrame = field(default_factory=lambda: join_tables([], LABEL_COLUMNS))
    # marks, images and labels that were given a second time by the same person
    again_marks: pd.DataFrame = field(default_factory=lambda: join_tables([], MARK_COLUMNS))
    again_looked: pd.DataFrame = field(default_factory=lambda: join_tables([], LOOKED_COLUMNS))
    again_labels: pd.DataFrame = field(default_factory=lambda: join_tables([], LABEL_COLUMNS))
    # A row for each person who did the worked examples, columns `SKILL_COLUMNS`
    skills: pd.DataFrame = field(default_factory=lambda: join_tables([], SKILL_COLUMNS))
    notes: tuple[str, ...] = ()  # what was left out, and why
    # session, saved: of answers from a browser: a later file of one session replaces the earlier
    session: str = ""
    saved: str = ""


class UnitError(TableError):
    """The coordinates of a pack seem to be in nm; whoever reads it has to say the unit."""


def read_pack(path: str | os.PathLike[str], unit: Unit | None = None) -> Filled:
    """Read a pack that an annotator has filled in.

    Raises `ReadError` if it is no pack, or is damaged. Raises `TableError` if a table is of no
    image of the manifest, an image is not the one of the manifest, or lines can't be read or lie
    outside the image: the first ones, and how many. Raises `UnitError` if the coordinates seem to
    be in nm, and no unit is given.
    """
    path = Path(path)
    with open_archive(path, MANIFEST) as parts:
        manifest = _manifest(parts, path)
        records = {record.file: record for record in manifest.images}
        problems = [
            f"images/{file}: this is not the image that was sent out"
            for file, record in records.items()
            if f"images/{file}" in parts and parts.sha256(f"images/{file}") != record.sha256
        ]
        who = _annotator(parts, manifest, path)
        filled: list[tuple[_Record, _Rows]] = []
        for table in parts.list_files("tables/"):
            record = records.get(table.removeprefix("tables/").removesuffix(".csv"))
            if record is None or not table.endswith(".csv"):
                problems.append(f"{table}: the manifest has no image of that name")
                continue
            if len(problems) >= MAX_COUNTED:
                break
            if parts.sha256(table) == record.table_sha256:
                continue
            rows = _rows(parts.text(table), table, record, problems)
            if rows is not None:
                filled.append((record, rows))
    if problems:
        raise error_of_lines(problems, path)
    suspected = _in_nanometres(filled)
    if unit is None and suspected:
        raise _unit_error(suspected, path)
    is_nm = unit == "nm" and bool(suspected)
    marks, looked = [], []
    for record, rows in filled:
        image, px_nm = record.name, record.pixel_size_nm
        area = record.height_px * record.width_px * px_nm**2
        looked.append((image, who, area, manifest.blind))
        divisor = px_nm if is_nm and _may_be_nanometres(record, rows) else 1.0
        for x, y, unsure in rows:
            y_px, x_px = y / divisor, x / divisor
            marks.append((image, who, y_px, x_px, y_px * px_nm, x_px * px_nm, unsure))
    return Filled(
        join_tables([pd.DataFrame(marks, columns=list(MARK_COLUMNS))], MARK_COLUMNS),
        join_tables([pd.DataFrame(looked, columns=list(LOOKED_COLUMNS))], LOOKED_COLUMNS),
        {record.name: record.sha256 for record in records.values()},
        manifest.tolerance_nm,
    )


def _may_be_nanometres(record: _Record, rows: _Rows) -> bool:
    """Return whether coordinates in nm would lie in the image."""
    x_end, y_end = ((n_px - 0.5) * record.pixel_size_nm for n_px in _size_px(record))
    return all(x <= x_end and y <= y_end for x, y, _ in rows)


def _size_px(record: _Record) -> tuple[int, int]:
    return record.width_px, record.height_px


def _in_nanometres(filled: list[tuple[_Record, _Rows]]) -> list[tuple[_Record, _Rows]]:
    """Return tables whose marks all lie where those in nm would: one table, or all; else none.

    In pixels this is the top left corner, with the square of the pixel size in nm as its share of
    the image: marks that are spread over the image all lie there with a small chance only.
    """
    for tables in [*([table] for table in filled), filled]:
        log_chance = sum(2 * len(rows) * math.log(r.pixel_size_nm) for r, rows in tables)
        if log_chance < _MAX_LOG_CHANCE and all(_may_be_nanometres(*table) for table in tables):
            return tables
    return []


def _unit_error(tables: Sequence[tuple[_Record, _Rows]], path: Path) -> UnitError:
    """Return the error of a pack with tables that seem to be in nm."""
    record, n = tables[0][0], sum(len(rows) for _, rows in tables)
    images = f"{record.name} and other images" if len(tables) > 1 else record.name
    width, height = (n_px * record.pixel_size_nm for n_px in _size_px(record))
    return UnitError(
        f"its coordinates seem to be in nm: in pixels, all {n} marks of {images} lie in the top "
        f"left corner ({width:.0f} × {height:.0f} of {record.width_px} × {record.height_px} "
        "pixels)",
        path,
        "State the unit of its tables (--units nm or --units px)",
    )


def error_of_lines(problems: Sequence[str], path: Path) -> TableError:
    """Return the error of a file with wrong lines: the first ones, and how many there are."""
    more = len(problems) - _MAX_PROBLEMS
    least = "at least " if len(problems) >= MAX_COUNTED else ""
    return TableError(
        "; ".join(problems[:_MAX_PROBLEMS]) + (f"; and {least}{more} more" if more > 0 else ""),
        path,
        "Nothing was imported from this pack: correct these lines and import it again",
    )


def join_tables(parts: Sequence[pd.DataFrame], columns: Sequence[str]) -> pd.DataFrame:
    """Join tables with these columns, which keep their types if there is no row."""
    dtypes: dict[str, Any] = {
        name: "object" if name in _TEXT else "bool" if name in _FLAGS else "float64"
        for name in columns
    }
    filled = [part for part in parts if len(part)]
    table = pd.concat(filled, ignore_index=True) if filled else pd.DataFrame(columns=list(columns))
    return table.astype(dtypes)


def _rows(text: str, where: str, record: _Record, problems: list[str]) -> _Rows | None:
    """Return (x, y, uncertain) of each line; None if the image was not viewed."""
    first = next((line for line in io.StringIO(text, newline=None) if line.strip()), "")
    separator = max("\t;,", key=first.count)
    rows: list[tuple[int, list[str]]] = []
    try:
        # By lines, blank ones too, so that numbers are those that an editor shows.
        lines = csv.reader(io.StringIO(text, newline=None), delimiter=separator)
        for i, line in enumerate(lines, 1):
            if i > _MAX_LINES or len(line) > _MAX_CELLS:
                raise csv.Error(f"more than {_MAX_LINES} lines, or {_MAX_CELLS} cells in line {i}")
            cells = [cell.strip() for cell in line]
            if any(cells):
                rows.append((i, cells))
    except csv.Error as error:
        problems.append(f"{where}: this is no table ({error})")
        return None
    if not rows:
        return None
    head = [cell.lower() for cell in rows[0][1]]
    if not {"x", "y"} <= set(head):
        problems.append(f"{where}, line {rows[0][0]}: the header must have X and Y")
        return None
    if len(rows) == 1 or _is_as_sent(rows, record, separator != ","):
        return None
    return _marks_of(rows, where, record, separator != ",", problems)


def _is_as_sent(
    rows: Sequence[tuple[int, list[str]]], record: _Record, decimal_comma: bool
) -> bool:
    """Return whether a table has the lines that were sent, as one that a spreadsheet has saved."""
    head = [cell.lower() for cell in rows[0][1]]
    ix, iy, lines = head.index("x"), head.index("y"), []
    for _, line in rows[1:]:
        cells = [*line, *[""] * (len(head) - len(line))]
        x, y = (_number(cells[k], decimal_comma) for k in (ix, iy))
        if x is None or y is None or sum(map(bool, cells)) > 2:
            return False
        lines.append(line_of_mark(x, y))
    text = "".join((HEADER, *lines))
    return hashlib.sha256(text.encode()).hexdigest() == record.table_sha256


def _marks_of(
    rows: Sequence[tuple[int, list[str]]],
    where: str,
    record: _Record,
    decimal_comma: bool,
    problems: list[str],
) -> _Rows:
    """Return (x, y, uncertain) of numbered lines, the header first; add problems to the list."""
    head = [cell.lower() for cell in rows[0][1]]
    ix, iy = head.index("x"), head.index("y")
    iu = head.index("uncertain") if "uncertain" in head else None
    found: _Rows = []
    seen: dict[tuple[float, float], int] = {}
    for i, line in rows[1:]:
        if len(problems) >= MAX_COUNTED:
            break
        cells = [str(unescape_formula(cell)) for cell in line] + [""] * (len(head) - len(line))
        entry = cells[ix].lower()
        if entry in (NONE, DONE) and not any(cells[:ix] + cells[ix + 1 :]):
            if entry == NONE and len(rows) > 2:
                problems.append(f"{where}, line {i}: it contains {NONE}, but the table has marks")
            continue
        n_problems = len(problems)
        x, y = (_number(cells[k], decimal_comma) for k in (ix, iy))
        for axis, value, k, size in (
            ("X", x, ix, record.width_px),
            ("Y", y, iy, record.height_px),
        ):
            cell = f"{where}, line {i}: {axis}"
            if value is None:
                problems.append(f"{cell} is {_shown(cells[k])}, not a number")
            elif not -0.5 <= value <= size - 0.5:
                problems.append(f"{cell} is {value:g}, outside the image (0 to {size - 1})")
        unsure = cells[iu].lower() if iu is not None else ""
        if unsure not in _YES | _NO:
            problems.append(f"{where}, line {i}: uncertain is {_shown(unsure)}, not 1 or empty")
        if len(line) > len(head) and any(line[len(head) :]):
            problems.append(f"{where}, line {i}: it has more cells than the header")
        if len(problems) == n_problems and x is not None and y is not None:
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


def _annotator(parts: ArchiveFiles, manifest: _Manifest, path: Path) -> str:
    """Return the name in annotator.txt, else in the manifest, else that of the pack."""
    text = parts.text("annotator.txt") if "annotator.txt" in parts else ""
    name = next((line.strip() for line in text.splitlines() if line.strip()), "")
    return name_of(name or (manifest.annotator or "").strip() or path.name.removesuffix(".zip"))


def name_of(text: str) -> str:
    """Return the name of an annotator: printable, of limited length, and no formula.

    Labels by `CONSENSUS` are those that people have settled on: nobody else has this name.
    """
    name = printable(str(unescape_formula(text)), " ")[:_MAX_NAME_LENGTH].strip()
    return f"{name} (person)" if name.casefold() == CONSENSUS else name


def _manifest(parts: ArchiveFiles, path: Path) -> _Manifest:
    try:
        text = parts.text(MANIFEST)
        given = dataclass_from_json(_Format, text).format
        if given != FORMAT:
            raise ReadError(f"its format is {given}, not {FORMAT}", path, "Update the plugin")
        manifest = dataclass_from_json(_Manifest, text)
        for names in ([r.name for r in manifest.images], [r.file for r in manifest.images]):
            if len(set(names)) < len(names):
                raise ValueError("an image occurs twice")
    except ValueError as error:
        raise ReadError(
            f"its manifest.json is damaged ({error})", path, "Get the pack again"
        ) from error
    return manifest
