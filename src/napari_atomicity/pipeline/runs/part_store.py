"""Results of many images on disk: one part per image, and ``failures.csv``.

`pipeline.runs.parts` defines the key and the format of a part, `pipeline.runs.part_files` its files
in ``parts/``, from which an interrupted run is resumed.
"""

from __future__ import annotations

import io
import json
import os
import zipfile
from collections.abc import Hashable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
from markupsafe import Markup

from ...core.errors import AtomicityError, TableError
from ...core.model_card import ModelCard
from ...io.inputs import Input, make_folder
from ...io.provenance import Outcome, now
from ...io.tables import read_table, write_table
from ...io.writer_lock import WriterLock
from ...models.analysis import Analysis
from ...reporting.examples import ClusterExample
from ...reporting.image_section import Section
from ...tracking.files import MovieResult
from .part_files import PartFiles
from .parts import (
    DRAWING,
    MOVIE,
    SCALE,
    TABLE,
    Part,
    concatenate_parts,
    describe_drawing,
    outcome_from,
    pack_part,
    read_metadata,
    stem_of,
)

# ---- images that could not be analysed: rows of ``failures.csv``

FAILURES = "failures.csv"
FAILURE_COLUMNS = ("image", "path", "error", "sha256", "size_bytes", "modified", "seen")


@dataclass(frozen=True)
class Failure:
    """An image that could not be analysed, and its file as it was then."""

    outcome: Outcome  # with the error
    # size_bytes, modified: of the file, as ISO 8601 in UTC; None if it is not there
    size_bytes: int | None = None
    modified: str | None = None
    seen: str = ""

    @classmethod
    def of(cls, outcome: Outcome) -> Failure:
        """With size and time of the file as they are now."""
        size, modified = size_and_time(outcome.path)
        return cls(outcome, size, modified, now())

    @classmethod
    def from_row(cls, row: Mapping[Hashable, Any]) -> Failure:
        """Invert `row`."""
        image, path, error = (str(row[name] or "") for name in ("image", "path", "error"))
        outcome = Outcome(image, path, "failed", error, sha256=row["sha256"])
        size = row["size_bytes"]
        return cls(outcome, None if size is None else int(size), row["modified"], str(row["seen"]))

    def row(self) -> dict[str, Any]:
        """Of ``failures.csv``."""
        said = self.outcome
        return {
            "image": said.image,
            "path": said.path,
            "error": said.error,
            "sha256": said.sha256,
            "size_bytes": self.size_bytes,
            "modified": self.modified,
            "seen": self.seen,
        }


def size_and_time(path: str) -> tuple[int | None, str | None]:
    """Bytes, and the time of the last change as ISO 8601 in UTC; None if it is not there."""
    try:
        status = os.stat(path)  # noqa: PTH116  (a path that is no valid text is no error)
    except (OSError, ValueError):
        return None, None
    changed = datetime.fromtimestamp(status.st_mtime_ns // 1000 / 1e6, UTC)
    return status.st_size, changed.isoformat(timespec="microseconds")


_DAMAGED = (
    OSError, LookupError, TypeError, ValueError, ArithmeticError, AttributeError, RecursionError,
    NotImplementedError, EOFError, zipfile.BadZipFile, pa.ArrowException,
)  # fmt: skip
"""Errors of reading a damaged part."""


class PartStore:
    """The folder of a run over many images.

    Raises `AtomicityError` if it can't be made, written to or read.
    """

    def __init__(self, folder: str | os.PathLike[str]) -> None:
        self.folder = Path(folder)
        make_folder(self.folder)
        self.files = PartFiles(self.folder)
        self._find_parts()

    def _find_parts(self) -> None:
        self._stems = self.files.stems()
        self._by_key: dict[str, set[str]] = {}
        for stem in self._stems:
            self._by_key.setdefault(stem[:32], set()).add(stem)

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Nobody else writes to the folder meanwhile.

        Raises `AtomicityError` if somebody does already.
        """
        lock = WriterLock(self.folder / ".atomicity.lock")
        try:
            acquired = lock.acquire()
        except OSError as error:
            raise AtomicityError(
                f"this folder can't be locked ({error.strerror or error})",
                self.folder,
                "Choose another folder for the results",
            ) from error
        if not acquired:
            raise AtomicityError(
                "another run is writing to this folder",
                self.folder,
                "Wait until it has ended, or choose another folder for the results",
            )
        try:
            self.files.scan()  # another run may have ended since
            self._find_parts()
            yield
        finally:
            self.files.close()
            lock.release()

    # ---- parts
    def __len__(self) -> int:
        """Return the number of parts."""
        return len(self._stems)

    def path(self, stem: str) -> Path:
        """Return the file of a part that was just written; at the end of a run it is joined."""
        return self.files.folder / f"{stem}{TABLE}"

    def has(self, stem: str) -> bool:
        """Return whether a part exists."""
        return stem in self._stems

    @property
    def stems(self) -> frozenset[str]:
        """Of all parts that are there, of this run or of earlier ones."""
        return frozenset(self._stems)

    def write(self, stem: str, part: Part) -> None:
        """Keep an analysed image: once this returns, it is on the disk.

        Raises `AtomicityError` if it can't be written.
        """
        if part.parquet is None:
            raise ValueError("an image that failed has no part")
        for ending, text in ((DRAWING, part.drawing), (MOVIE, part.movie)):
            if text is not None:
                self._write_text(stem + ending, text)
        if part.scale is not None:
            self.files.write(stem + SCALE, part.scale)
        self.files.write(stem + TABLE, part.parquet)  # last: with it, the part counts
        self._stems.add(stem)
        self._by_key.setdefault(stem[:32], set()).add(stem)

    def _write_text(self, name: str, text: str) -> None:
        self.files.write(name, text.encode("utf-8", "backslashreplace"))

    def adopt(self, key: str, item: Input) -> str | None:
        """Find the part with this key, possibly under another name; None if there is none.

        Notes
        -----
        A damaged part is removed.
        """
        stem = stem_of(key, item.name)
        others = sorted(self._by_key.get(key, set()) - {stem})
        for known in [*([stem] if self.has(stem) else []), *others]:
            try:
                _, about = self.read(known)  # whole: its end may be good and its columns bad
            except TableError:
                self.remove([known])
                continue
            outcome = outcome_from(about["outcome"])
            if known == stem and outcome.path == item.outcome("done").path:
                return stem
            self._copy(known, stem, about, item)
            return stem
        return None

    def _copy(self, known: str, stem: str, about: dict[str, Any], item: Input) -> None:
        """Copy a part under another name or for another file, without a new analysis."""
        outcome = replace(
            outcome_from(about["outcome"]), image=item.name, path=item.outcome("done").path
        )
        rest = {k: v for k, v in about.items() if k not in ("form", "outcome")}
        table = self.table(known)
        table["image"] = item.name
        movie = self.movie(known)
        said = None if movie is None else movie.renamed(item.name).to_json()
        packed = pack_part(table, outcome, rest)
        self.write(stem, Part(outcome, packed, movie=said, scale=self.scale(known)))
        if known != stem:  # a drawing would say the old name
            self.undraw(stem)

    def about(self, stem: str) -> dict[str, Any]:
        """Read the metadata of a part: ``form``, ``outcome`` and what `pack_part` was given.

        Raises `TableError` if it is damaged.
        """
        try:
            return read_metadata(pq.read_schema(io.BytesIO(self.files.read(stem + TABLE))))
        except _DAMAGED as error:
            raise self._damaged(stem, error) from error

    def outcome(self, stem: str) -> Outcome:
        """Read the outcome of a part; raise `TableError` as `about`."""
        about = self.about(stem)
        try:
            return outcome_from(about["outcome"])
        except _DAMAGED as error:
            raise self._damaged(stem, error) from error

    def table(self, stem: str) -> pd.DataFrame:
        """Read the clusters of a part.

        Raises `TableError` if it is damaged.
        """
        return concatenate_parts([self.read(stem)[0]])

    def read(self, stem: str) -> tuple[pa.Table, dict[str, Any]]:
        """Read table and metadata of a part; raise `TableError` as `table`."""
        try:
            content = pq.read_table(io.BytesIO(self.files.read(stem + TABLE)), partitioning=None)
            return content, read_metadata(content.schema)
        except _DAMAGED as error:
            raise self._damaged(stem, error) from error

    def _damaged(self, stem: str, error: Exception) -> TableError:
        return TableError(
            f"this part of the results is damaged ({str(error).partition(chr(10))[0]})",
            self.path(stem),
            "Run the same command again: the image is then analysed anew",
        )

    def drawing(self, stem: str) -> tuple[Section, list[ClusterExample]] | None:
        """Read the drawing of an image; None if it was not drawn."""
        try:
            values = json.loads(self.files.read(stem + DRAWING))
            section = Section(values["image"], Markup(values["html"]), values["problem"])
            examples = [
                ClusterExample(**{**e, "names": tuple(e["names"])}) for e in values["examples"]
            ]
        except _DAMAGED:
            return None
        return section, examples

    def draw(self, stem: str, analysis: Analysis, outcome: Outcome, card: ModelCard) -> None:
        """Draw for the report what was not drawn when its part was written, small."""
        self._write_text(stem + DRAWING, describe_drawing(analysis, outcome, card, True))

    def undraw(self, stem: str) -> None:
        """Take a drawing away, if there is one."""
        self.files.remove_file(stem + DRAWING)

    def movie(self, stem: str) -> MovieResult | None:
        """Read tracks and events of a stack; None for a single image."""
        try:
            return MovieResult.from_json(self.files.read(stem + MOVIE).decode())
        except _DAMAGED:
            return None

    def scale(self, stem: str) -> bytes | None:
        """Read the archive of `pipeline.runs.image_scale.ImageScale`; None if there is none."""
        try:
            return self.files.read(stem + SCALE)
        except _DAMAGED:
            return None

    def lacks_drawing(self, stem: str) -> bool:
        """Return whether the drawing of an image was postponed or is outdated."""
        return not self.is_drawn(stem) and bool(self.about(stem).get("to_draw"))

    def is_drawn(self, stem: str) -> bool:
        """Return whether an image was drawn for the report."""
        return self.files.has(stem + DRAWING)

    def remove(self, stems: Iterable[str]) -> None:
        """Forget parts.

        Raises `AtomicityError` if they can't be removed.
        """
        for stem in list(stems):
            self.files.remove(stem)
            self._stems.discard(stem)
            self._by_key.get(stem[:32], set()).discard(stem)

    def tidy(self, kept: Iterable[str], done: Iterable[Path], all_done: bool) -> None:
        """Forget parts of nothing any more, once a run has gone through.

        Raises `AtomicityError` if they can't be removed.
        """
        kept = set(kept)
        if not kept:
            return
        paths = {Input("", path).outcome("done").path for path in done}
        self.remove(s for s in self.stems - kept if all_done or self._path(s) in paths)

    def join(self, first: Sequence[str]) -> None:
        """Join the files of all parts, those of a run ``first``, so that there are few of them."""
        self.files.join([*first, *sorted(self._stems.difference(first))])

    def _path(self, stem: str) -> str | None:
        try:
            return self.outcome(stem).path
        except TableError:
            return None

    # ---- failures
    def write_failures(self, failures: Iterable[Failure]) -> Path:
        """``failures.csv``, a row for each image that could not be analysed."""
        rows = pd.DataFrame([one.row() for one in failures], columns=list(FAILURE_COLUMNS))
        return write_table(rows, self.folder / FAILURES)

    def failures(self) -> list[Failure]:
        """Read ``failures.csv``; empty if it does not exist or is invalid."""
        try:
            found = read_table(self.folder / FAILURES)
            rows = found[list(FAILURE_COLUMNS)].astype(object).where(found.notna(), None)
        except (AtomicityError, KeyError):
            return []
        return [Failure.from_row(row) for row in rows.to_dict("records")]
