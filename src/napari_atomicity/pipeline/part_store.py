"""The results of many images on disk: a part for each, named by what it came from.

::

    DIR/clusters/<key>-<name>.parquet      the clusters of one image; with the others a data set
    DIR/clusters/_report/<key>-<name>.json what the report shows of it, of some images
    DIR/clusters/_movie/<key>-<name>.json  tracks, events and drift, of stacks
    DIR/failures.csv                       images that could not be analysed, and why

The *key* is a hash of the content of the file, the model, the settings of the analysis and the
form of the parts: what has one is done. The *name* is a hash of the image's name, which stands in
the table. Parts are written whole or not at all, so that whatever ends a run, the next one goes on.
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import json
import os
import re
from collections.abc import Hashable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
from filelock import FileLock, Timeout
from markupsafe import Markup

from ..core import cluster_table as tables
from ..core.errors import AtomicityError, TableError
from ..core.model_card import ModelCard
from ..io.files import atomic_write, to_json, write_text
from ..io.inputs import Input, make_folder
from ..io.provenance import Outcome, now
from ..io.tables import append_csv, read_table, write_table
from ..models.analysis import Analysis
from ..reporting.examples import ClusterExample, select_examples
from ..reporting.image_section import Section, image_section
from ..reporting.plots import scales_of
from ..tracking.files import Found, found_in
from ..tracking.following import TrackedMovie
from .runs import RunRequest

FORM = 1
"""Of the parts and of what is in them; another one makes all images be analysed again."""
ENDING = ".parquet"
FAILURES = "failures.csv"
FAILURE_COLUMNS = ("image", "path", "error", "sha256", "size_bytes", "modified", "seen")
_META = b"atomicity"
_PART = re.compile(r"[0-9a-f]{32}-[0-9a-f]{12}")


def model_hash(card: ModelCard) -> str:
    """Of the card, which holds that of the weights: calibration makes results as well."""
    return hashlib.sha256(to_json(card.to_dict()).encode()).hexdigest()


def key_of(sha256: str, model: str, request: RunRequest) -> str:
    """What decides the result of an image, as 32 hexadecimal digits.

    Parameters
    ----------
    sha256
        Of the file.
    model
        From `model_hash`.
    request
        Its settings of the analysis; how ratios are found makes no other clusters.
    """
    parts = {
        "form": FORM,
        "content": sha256,
        "model": model,
        "pixel_size_nm": request.pixel_size_nm,
        "umap": request.umap,
        "average_frames": request.average_frames,
        "detection": asdict(request.detection),
    }
    if request.symmetries:  # without them the key is that of versions that did not know them
        parts["symmetries"] = True
    return hashlib.sha256(to_json(parts).encode()).hexdigest()[:32]


def stem_of(key: str, image: str) -> str:
    """The name of an image's part."""
    return f"{key}-{hashlib.sha256(image.encode()).hexdigest()[:12]}"


@dataclass(frozen=True, eq=False)
class Part:
    """What a worker gives back of an image: its outcome, and of an analysed one a Parquet file
    and, in JSON, what the report shows and what is known over time."""

    outcome: Outcome
    parquet: bytes | None = None
    drawing: str | None = None
    movie: str | None = None


# ---- one part
def packed(table: pd.DataFrame, outcome: Outcome, about: dict[str, Any] | None = None) -> bytes:
    """A Parquet file of one image's cluster table, with its outcome and more in its metadata.

    Text is text and numbers are numbers also where there is no row, so that all parts of a model
    have one schema.
    """
    table = tables.conform(table)
    fields = [pa.field(str(name), _arrow_type(table[name])) for name in table.columns]
    content = pa.Table.from_pandas(table, schema=pa.schema(fields), preserve_index=False)
    said = to_json({"form": FORM, "outcome": asdict(outcome), **(about or {})})
    metadata = {**(content.schema.metadata or {}), _META: said.encode()}
    stream = io.BytesIO()
    pq.write_table(content.replace_schema_metadata(metadata), stream)
    return stream.getvalue()


def _arrow_type(values: pd.Series) -> pa.DataType:
    if pd.api.types.is_bool_dtype(values):
        return pa.bool_()
    if pd.api.types.is_integer_dtype(values):
        return pa.int64()
    return pa.float64() if pd.api.types.is_float_dtype(values) else pa.string()


def part_of(
    analysis: Analysis,
    outcome: Outcome,
    card: ModelCard,
    draw: bool = True,
    small: bool = True,
    about: dict[str, Any] | None = None,
) -> Part:
    """What is kept of an analysed image.

    Parameters
    ----------
    analysis, outcome
        From `runs.analyse_one`.
    card
        Of the model.
    draw, small
        Whether the report may show it, and whether with small pictures.
    about
        More that the part says of itself: see `packed`.
    """
    movie = found_in(analysis)
    said = {"scale": scales_of([analysis]).get(outcome.image), **(about or {})}
    return Part(
        outcome,
        packed(analysis.table, outcome, said),
        _drawing(analysis, outcome, card, small, movie) if draw else None,
        None if movie is None else Found.of(movie).to_json(),
    )


def _drawing(
    analysis: Analysis,
    outcome: Outcome,
    card: ModelCard,
    small: bool,
    movie: TrackedMovie | None = None,
) -> str:
    """What the report shows of an image, as JSON."""
    section = image_section(analysis, outcome, small, card=card, ratios_later=True, movie=movie)
    examples = select_examples((), analysis, card.classes)
    return json.dumps(
        {
            "image": section.image,
            "html": str(section.html),
            "problem": section.problem,
            "examples": [asdict(example) for example in examples],
        }
    )


def _stems_in(folder: Path) -> set[str]:
    try:
        names = [entry.name for entry in os.scandir(folder)]
    except OSError as error:
        raise AtomicityError(
            f"this folder can't be read ({error.strerror or error})",
            folder,
            "Check its permissions, or choose another folder for the results",
        ) from error
    stems = {name.removesuffix(ENDING) for name in names if name.endswith(ENDING)}
    return {stem for stem in stems if _PART.fullmatch(stem)}


def _said(schema: pa.Schema) -> dict[str, Any]:
    return dict(json.loads(schema.metadata[_META]))


def as_frame(parts: Sequence[pa.Table], like: pd.DataFrame | None = None) -> pd.DataFrame:
    """One cluster table of several parts; with the columns of ``like``, if given.

    Joined before they become a table: that takes a tenth of the time.
    """
    # What is said of a part is not of all, and of the index there is nothing to say.
    bare = [part.replace_schema_metadata(None) for part in parts]
    frame = pa.concat_tables(bare, promote_options="default").to_pandas()
    found = tables.conform(frame)
    return found if like is None else tables.conform(found.reindex(columns=like.columns))


class PartStore:
    """The folder of a run over many images.

    Parameters
    ----------
    folder
        Made if need be, and written to at once.

    Raises
    ------
    AtomicityError
        If it can't be made, written to or read.
    """

    def __init__(self, folder: str | os.PathLike[str]) -> None:
        self.folder = Path(folder)
        self.parts = self.folder / "clusters"
        self.drawings = self.parts / "_report"
        self.movies = self.parts / "_movie"
        make_folder(self.folder)
        make_folder(self.parts)
        self._stems = _stems_in(self.parts)
        self._by_key: dict[str, set[str]] = {}
        for stem in self._stems:
            self._by_key.setdefault(stem[:32], set()).add(stem)

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Nobody else writes to the folder meanwhile.

        Raises
        ------
        AtomicityError
            If somebody does already.
        """
        lock = FileLock(self.folder / ".atomicity.lock", timeout=0, thread_local=False)
        try:
            lock.acquire()
        except Timeout:
            raise AtomicityError(
                "another run is writing to this folder",
                self.folder,
                "Wait until it has ended, or choose another folder for the results",
            ) from None
        except OSError as error:
            raise AtomicityError(
                f"this folder can't be locked ({error.strerror or error})",
                self.folder,
                "Choose another folder for the results",
            ) from error
        try:
            yield
        finally:
            lock.release()

    # ---- parts
    def path(self, stem: str) -> Path:
        return self.parts / f"{stem}{ENDING}"

    def has(self, stem: str) -> bool:
        return stem in self._stems

    @property
    def stems(self) -> frozenset[str]:
        """Of all parts that are there, of this run or of earlier ones."""
        return frozenset(self._stems)

    def write(self, stem: str, part: Part) -> None:
        """Keep an analysed image: once this returns, it is on the disk.

        Raises
        ------
        AtomicityError
            If it can't be written.
        """
        if part.parquet is None:
            raise ValueError("only what was analysed has a part")
        for folder, text in ((self.drawings, part.drawing), (self.movies, part.movie)):
            if text is not None:
                write_text(folder / f"{stem}.json", text)
        with atomic_write(self.path(stem)) as temporary, temporary.open("wb") as file:
            file.write(part.parquet)
            file.flush()
            os.fsync(file.fileno())
        self._stems.add(stem)
        self._by_key.setdefault(stem[:32], set()).add(stem)

    def adopt(self, key: str, item: Input) -> str | None:
        """The part of an image whose content is known, if under another name; None if it is not.

        A damaged part is none: it is removed.
        """
        stem = stem_of(key, item.name)
        others = sorted(self._by_key.get(key, set()) - {stem})
        for known in [*([stem] if self.has(stem) else []), *others]:
            try:
                _, about = self.read(known)  # whole: its end may be good and its columns bad
            except TableError:
                self.remove([known])
                continue
            outcome = Outcome(**_tuples(about["outcome"]))
            if known == stem and outcome.path == item.outcome("done").path:
                return stem
            self._copy(known, stem, about, item)
            return stem
        return None

    def _copy(self, known: str, stem: str, about: dict[str, Any], item: Input) -> None:
        """The same content under another name, or at another place: nothing is computed again."""
        outcome = Outcome(
            **{**_tuples(about["outcome"]), "image": item.name, "path": item.outcome("done").path}
        )
        rest = {k: v for k, v in about.items() if k not in ("form", "outcome")}
        table = self.table(known)
        table["image"] = item.name
        movie = self.movie(known)
        said = None if movie is None else movie.renamed(item.name).to_json()
        self.write(stem, Part(outcome, packed(table, outcome, rest), movie=said))
        if known != stem:  # a drawing would say the old name
            (self.drawings / f"{stem}.json").unlink(missing_ok=True)

    def about(self, stem: str) -> dict[str, Any]:
        """What a part says of itself: ``form``, ``outcome`` and what `packed` was given.

        Raises
        ------
        TableError
            If it is damaged.
        """
        try:
            return _said(pq.read_schema(self.path(stem)))
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise self._damaged(stem, error) from error

    def outcome(self, stem: str) -> Outcome:
        """What became of the image of a part; raises `TableError` as `about` does."""
        return Outcome(**_tuples(self.about(stem)["outcome"]))

    def table(self, stem: str) -> pd.DataFrame:
        """The clusters of a part.

        Raises
        ------
        TableError
            If it is damaged.
        """
        return as_frame([self.read(stem)[0]])

    def read(self, stem: str) -> tuple[pa.Table, dict[str, Any]]:
        """A part as it is on the disk, and what it says of itself; raises as `table` does."""
        try:
            content = pq.read_table(self.path(stem), partitioning=None)
            return content, _said(content.schema)
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise self._damaged(stem, error) from error

    def _damaged(self, stem: str, error: Exception) -> TableError:
        return TableError(
            f"this part of the results is damaged ({str(error).partition(chr(10))[0]})",
            self.path(stem),
            "Run the same command again: the image is then analysed anew",
        )

    def drawing(self, stem: str) -> tuple[Section, list[ClusterExample]] | None:
        """What the report shows of an image; None if it was not drawn."""
        try:
            values = json.loads((self.drawings / f"{stem}.json").read_text(encoding="utf-8"))
            section = Section(values["image"], Markup(values["html"]), values["problem"])
            examples = [
                ClusterExample(**{**e, "names": tuple(e["names"])}) for e in values["examples"]
            ]
        except (OSError, ValueError, KeyError, TypeError):
            return None
        return section, examples

    def draw(self, stem: str, analysis: Analysis, outcome: Outcome, card: ModelCard) -> None:
        """Draw for the report what was not drawn when its part was written, small."""
        write_text(self.drawings / f"{stem}.json", _drawing(analysis, outcome, card, True))

    def undraw(self, stem: str) -> None:
        """Take a drawing away, if there is one."""
        (self.drawings / f"{stem}.json").unlink(missing_ok=True)

    def movie(self, stem: str) -> Found | None:
        """What is known over time of a stack; None of a single image."""
        try:
            return Found.from_json((self.movies / f"{stem}.json").read_text(encoding="utf-8"))
        except (OSError, ValueError, KeyError, TypeError):
            return None

    def remove(self, stems: Iterable[str]) -> None:
        """Forget parts.

        Raises
        ------
        AtomicityError
            If they can't be removed.
        """
        for stem in list(stems):
            beside = [folder / f"{stem}.json" for folder in (self.drawings, self.movies)]
            for path in (self.path(stem), *beside):
                try:
                    path.unlink(missing_ok=True)
                except OSError as error:
                    raise AtomicityError(
                        f"could not be removed ({error.strerror or error})", path
                    ) from error
            self._stems.discard(stem)
            self._by_key.get(stem[:32], set()).discard(stem)

    def tidy(self, kept: Iterable[str], done: Iterable[Path], all_done: bool) -> None:
        """Forget parts of nothing any more, once a run has gone through.

        Parameters
        ----------
        kept
            Parts of this run. Where there is none, nothing is forgotten: the drive may be away.
        done
            Files that they came from.
        all_done
            Whether no image failed; else what is left may be of one that can't be read just now,
            and only older parts of what was done go.

        Raises
        ------
        AtomicityError
            If they can't be removed.
        """
        kept = set(kept)
        if not kept:
            return
        paths = {Input("", path).outcome("done").path for path in done}
        self.remove(s for s in self.stems - kept if all_done or self._path(s) in paths)

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
        """What ``failures.csv`` says; nothing if it is not there or is something else."""
        try:
            found = read_table(self.folder / FAILURES)
            rows = found[list(FAILURE_COLUMNS)].astype(object).where(found.notna(), None)
        except (AtomicityError, KeyError):
            return []
        return [Failure.from_row(row) for row in rows.to_dict("records")]


@dataclass(frozen=True)
class Failure:
    """An image that could not be analysed, and its file as it was then.

    Parameters
    ----------
    outcome
        With the error.
    size_bytes, modified
        Of the file, as ISO 8601 in UTC; None if it is not there.
    seen
        When.
    """

    outcome: Outcome
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
        """The inverse of `row`."""
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

    def is_as_it_was(self) -> bool:
        """Whether the file has not changed since."""
        return (self.size_bytes, self.modified) == size_and_time(self.outcome.path)


def size_and_time(path: str) -> tuple[int | None, str | None]:
    """Bytes, and the time of the last change as ISO 8601 in UTC; None if it is not there."""
    try:
        status = os.stat(path)  # noqa: PTH116  (a path that is no valid text is no error)
    except (OSError, ValueError):
        return None, None
    changed = datetime.fromtimestamp(status.st_mtime_ns // 1000 / 1e6, UTC)
    return status.st_size, changed.isoformat(timespec="microseconds")


def _tuples(values: dict[str, Any]) -> dict[str, Any]:
    """The fields of an `Outcome` as JSON gives them back."""
    return {**values, "warnings": tuple(values.get("warnings") or ())}


# ---- all parts together
_CHUNK_ROWS = 50_000


def write_all(parts: Iterable[pa.Table], nothing: pd.DataFrame, csv: Path, parquet: Path) -> None:
    """The tables of all images below each other, in two files, without holding them all.

    Parameters
    ----------
    parts
        From `Store.read`.
    nothing
        A table without rows and with all columns that any of them has.
    csv, parquet
        What is written.

    Raises
    ------
    AtomicityError
        If a file can't be written.
    """
    with (
        atomic_write(csv) as text,
        atomic_write(parquet) as binary,
        contextlib.ExitStack() as stack,
    ):
        writer: pq.ParquetWriter | None = None
        for chunk in _chunks(parts, nothing):
            content = pa.Table.from_pandas(chunk, preserve_index=False)
            if writer is None:
                write_table(chunk, text)
                writer = stack.enter_context(pq.ParquetWriter(binary, content.schema))
            else:
                append_csv(chunk, text)
            writer.write_table(content.cast(writer.schema))


def _chunks(parts: Iterable[pa.Table], nothing: pd.DataFrame) -> Iterator[pd.DataFrame]:
    """Tables of many images each; an empty one if there is no cluster at all."""
    held: list[pa.Table] = []
    rows, given = 0, False
    for part in parts:
        if not part.num_rows:
            continue
        held.append(part)
        rows += part.num_rows
        if rows >= _CHUNK_ROWS:
            yield as_frame(held, nothing)
            held, rows, given = [], 0, True
    if held:
        yield as_frame(held, nothing)
    elif not given:
        yield nothing
