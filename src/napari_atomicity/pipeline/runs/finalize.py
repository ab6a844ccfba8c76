"""End of a run over many images: join all parts to tables, report and record."""

from __future__ import annotations

import contextlib
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from ...core.errors import FAILED, TableError, add_failed, attempt, format_failed
from ...core.model_card import ModelCard
from ...core.tables.cluster_table import empty
from ...io.files import atomic_write
from ...io.images import sha256_of
from ...io.inputs import Input
from ...io.provenance import Outcome
from ...io.tables import append_csv, write_table
from ...reporting.examples import ClusterExample, top_examples
from ...reporting.image_section import Section, insert_ratios
from ...reporting.image_warnings import session_warnings
from ...reporting.plots.session import SessionSummary
from ...statistics.ratios.ratio_notes import ImageLimits
from ...statistics.ratios.ratios import class_ratios
from ...tracking.files import FILES as MOVIE_FILES, write_movie_results
from ..acquisition_sessions import SessionRules
from ..run_request import RunRequest
from ..session_labels import describe_sessions
from .image_scale import ImageScale
from .part_store import FAILURES, Failure, PartStore
from .parts import Part, concatenate_parts, key_of, stem_of
from .run_files import ReportContent, Run, RunInfo, finalize_run

# ---- join the tables of all parts into two files without holding all of them in memory

_CHUNK_ROWS = 50_000


def write_all(parts: Iterable[pa.Table], nothing: pd.DataFrame, csv: Path, parquet: Path) -> None:
    """Concatenate the tables of all images in two files, without holding them in memory.

    Raises `AtomicityError` if a file can't be written.
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
            yield concatenate_parts(held, nothing)
            held, rows, given = [], 0, True
    if held:
        yield concatenate_parts(held, nothing)
    elif not given:
        yield nothing


DROPPED_COLUMNS = (
    "y_px", "x_px", "y_nm", "x_nm", "eccentricity", "prediction_set",
)  # fmt: skip
"""Columns that ratios and plots do not need; they are written to the files only."""


@dataclass(eq=False)
class PartIndex:
    """Index of the images of a run: their parts in a store, and their failures."""

    store: PartStore
    request: RunRequest
    card: ModelCard
    model: str  # hash of the model, from `parts.model_hash`
    sessions: SessionRules  # how the images are grouped into sessions
    stems: dict[str, str] = field(default_factory=dict)
    # name of an image → its failure. Images in neither were not reached
    failed: dict[str, Failure] = field(default_factory=dict)
    # name of an image → description of the scale of its session, for images labelled jointly
    joint: dict[str, dict[str, Any]] = field(default_factory=dict)
    summaries: list[SessionSummary] = field(default_factory=list)  # sessions that the report draws
    # name of an image → why it could not be labelled with its session
    problems: dict[str, str] = field(default_factory=dict)
    # name of an image → error of the scale of its session
    failed_sessions: dict[str, str] = field(default_factory=dict)

    def key(self, sha256: str) -> str:
        """Return the key of the result of a file with this content."""
        return key_of(sha256, self.model, self.request)

    def adopt(self, item: Input) -> str | None:
        """Use the part of an image that was analysed before, possibly under another name."""
        if not len(self.store):
            return None
        try:
            key = self.key(sha256_of(item.path))
        except OSError:  # the reader has a better message
            return None
        stem = self.store.adopt(key, item)
        if stem is None or not self.can_label(stem):
            return None
        self.register(item, stem)
        return stem

    def can_label(self, stem: str) -> bool:
        """Return whether a part has what its session needs; parts of earlier versions lack it."""
        no_scale = self.card.scale is None or self.request.session == "none"
        return no_scale or self._read_scale(stem) is not None

    def _read_scale(self, stem: str) -> ImageScale | None:
        data = self.store.scale(stem)
        return None if data is None else ImageScale.from_bytes(data, self.card)

    def image_scale(self, name: str) -> ImageScale | None:
        """Read the scale of an image by itself; None if it was not stored."""
        return self._read_scale(self.stems[name])

    def add(self, item: Input, part: Part) -> str:
        """Store the part of an analysed image and return its name."""
        assert part.outcome.sha256 is not None
        stem = stem_of(self.key(part.outcome.sha256), item.name)
        self.store.write(stem, part)
        self.register(item, stem)
        return stem

    def register(self, item: Input, stem: str) -> None:
        """Register the part of an image."""
        self.stems[item.name] = stem

    def fail(self, outcome: Outcome) -> None:
        """Register a failed image."""
        self.failed[outcome.image] = Failure.of(outcome)

    def outcome(self, item: Input) -> Outcome:
        """Return the outcome of an image."""
        if item.name in self.failed:
            return self.failed[item.name].outcome
        if item.name in self.stems:
            return self._describe_session(self.store.outcome(self.stems[item.name]))
        return item.outcome("not reached", "stopped before")

    def _describe_session(self, outcome: Outcome) -> Outcome:
        """Return the outcome of an image with what was found in its session."""
        if outcome.image in self.failed_sessions:
            failed = {"scale of the session": self.failed_sessions[outcome.image]}
            warnings = [*outcome.warnings, *format_failed({FAILED: failed})]
            parameters = add_failed(outcome.parameters, failed)
            return replace(outcome, parameters=parameters, warnings=tuple(warnings))
        if (session := self.joint.get(outcome.image)) is None:
            return outcome
        warnings = [*outcome.warnings, *session_warnings(session)]
        if outcome.image in self.problems:
            reason = self.problems[outcome.image]
            warnings.append(f"The labels are those of the image by itself: {reason}.")
        parameters = {**outcome.parameters, "session": session}
        return replace(outcome, parameters=parameters, warnings=tuple(warnings))


def finalize_batch(
    images: PartIndex,
    inputs: Sequence[Input],
    info: RunInfo,  # for the record; the devices of the parts replace its device
    shown: Collection[str],  # names of the images with a section in the report, if they were drawn
    reference: pd.DataFrame | None = None,
    more_files: Sequence[str] = (),
) -> Run:
    """Write the files of a run from the parts; remove parts that belong to no image any more."""
    store = images.store
    joined = _join_parts(images, inputs)
    stems = [images.stems[item.name] for item in inputs if item.name in images.stems]
    outcomes = images.sessions.with_sessions([images.outcome(item) for item in inputs])
    found = describe_sessions(images.sessions.group(outcomes), images.joint, joined.n_changed)
    failed = [images.failed[item.name] for item in inputs if item.name in images.failed]
    movies = [movie for stem in stems if (movie := store.movie(stem)) is not None]

    def write_tables(csv: Path, parquet: Path) -> None:
        write_all((store.read(stem)[0] for stem in stems), joined.no_rows, csv, parquet)
        store.write_failures(failed)
        write_movie_results(movies, store.folder)

    run = finalize_run(
        store.folder,
        images.request,
        images.card,
        joined.table,
        outcomes,
        write_tables,
        info._replace(device=_device(outcomes) or info.device, sessions=found),
        _report_content(images, [item for item in inputs if item.name in shown], joined),
        reference,
        (FAILURES, *more_files, *(MOVIE_FILES if movies else ())),
    )
    if not info.interrupted:
        done = [item.path for item in inputs if item.name in images.stems]
        store.tidy(stems, done, all_done=not failed)
    return run


@dataclass(frozen=True, eq=False)
class _Joined:
    """Clusters of all images without `DROPPED_COLUMNS`, an empty table with all columns, scales.

    ``n_changed`` is the number of clusters of each image that its session has labelled otherwise.
    """

    table: pd.DataFrame
    no_rows: pd.DataFrame
    scales: dict[str, float]
    n_changed: dict[str, int]


def _join_parts(images: PartIndex, inputs: Sequence[Input]) -> _Joined:
    parts: list[pa.Table] = []
    scales: dict[str, float] = {}
    n_changed: dict[str, int] = {}
    for item in inputs:
        stem = images.stems.get(item.name)
        if stem is None:
            continue
        try:
            part, about = images.store.read(stem)
        except TableError as error:
            images.store.remove([images.stems.pop(item.name)])
            images.fail(item.outcome("failed", str(error)))
            continue
        if about.get("scale") is not None:
            scales[item.name] = about["scale"]
        n_changed[item.name] = about.get("n_changed", 0)
        if part.num_rows:
            parts.append(part.drop_columns(list(DROPPED_COLUMNS)))
    if not parts:
        no_rows = empty(images.card.classes)
        return _Joined(no_rows, no_rows, scales, n_changed)
    table = concatenate_parts(parts)
    return _Joined(drop_columns(table), table.iloc[:0], scales, n_changed)


def drop_columns(table: pd.DataFrame) -> pd.DataFrame:
    """Return a cluster table without `DROPPED_COLUMNS`."""
    return table.drop(columns=list(DROPPED_COLUMNS))


def _report_content(images: PartIndex, shown: Sequence[Input], joined: _Joined) -> ReportContent:
    """Collect the drawings of single images, with the ratios by the method of this request."""
    sections: list[Section] = []
    examples: list[ClusterExample] = []
    for item in shown:
        name = item.name
        drawing = images.store.drawing(images.stems[name]) if name in images.stems else None
        if drawing is None:
            continue
        section, own = drawing
        parameters, keep = images.outcome(item).parameters, images.request.keep_ratios
        find_ratios = partial(
            class_ratios,
            joined.table[joined.table["image"] == section.image],
            images.card.classes,
            scope=section.image,
            images=[section.image],
            method=images.request.ratios,
            card=images.card,
            limits={section.image: ImageLimits.from_parameters(parameters, keep)},
        )
        # an error is that of the ratios of all images, too, where it is reported
        ratios = attempt({}, "ratios", find_ratios)
        sections.append(section if ratios is None else insert_ratios(section, ratios))
        examples = top_examples([*examples, *own])
    return ReportContent(sections, examples, joined.scales, images.summaries)


def _device(outcomes: Iterable[Outcome]) -> str:
    """Return the devices of the network; workers may have different ones."""
    return ", ".join(
        sorted({str(o.parameters["device"]) for o in outcomes if "device" in o.parameters})
    )
