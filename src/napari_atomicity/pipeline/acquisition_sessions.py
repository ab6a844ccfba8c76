"""Acquisition sessions and samples of the images of a run, from its options and the files."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from math import log
from pathlib import Path
from typing import Any, Self

import numpy as np

from ..core.acquisition_session import (
    GROUPINGS,
    PIXEL_SIZE_ERROR,
    AcquisitionSession,
    Composition,
    EarlierScale,
    Recording,
    Sample,
    SampleEntry,
    SessionEntry,
    check_classes,
    group_images,
    group_samples,
    match_images,
    match_known,
    parse_composition,
    parse_known,
    session_folder,
)
from ..core.errors import ReadError, TableError, naming_file
from ..core.from_dict import Positive, dataclass_from_dict, dataclass_from_json
from ..io.files import read_document
from ..io.provenance import Outcome, assign_samples, assign_sessions, folders_of
from ..io.tables import read_table
from .run_request import RunRequest

# ---- scale of an earlier session with the same instrument, as a prior for another session

BETWEEN_SESSIONS = 0.15
"""Standard deviation of ln scale between sessions, added to that of the earlier session: as between
the images of a session, in which dose and focus change while gain and detector do not."""


@dataclass(frozen=True)
class _Scale:
    intensity_per_atom: Positive
    intensity_per_atom_low: Positive
    intensity_per_atom_high: Positive


@dataclass(frozen=True)
class _Sessions:
    sessions: tuple[dict[str, Any], ...]


@dataclass(frozen=True)
class _RunOrCard:
    sessions: tuple[dict[str, Any], ...] | None = None
    data: _Sessions | None = None


def scale_of_session(described: Mapping[str, Any], source: str) -> EarlierScale:
    """Return the scale of a session as a prior for another one.

    Raises `ValueError` if an intensity is missing or not a number above 0.
    """
    scale = dataclass_from_dict(_Scale, described)
    width = log(scale.intensity_per_atom_high) - log(scale.intensity_per_atom_low)
    sd = float(np.hypot(width / 3.92, BETWEEN_SESSIONS))
    return EarlierScale(scale.intensity_per_atom, sd, source)


def read_earlier_scale(path: Path) -> EarlierScale:
    """Read the scale of an earlier session from the record of a run, or the card of a model.

    Raises `ReadError` if the file can't be read or contains no scale of a session.
    """
    advice = (
        "Choose run.json of a run whose images were labelled by session, or the card of a model "
        "that was trained on size-selected images"
    )
    try:
        record = dataclass_from_json(_RunOrCard, read_document(path))
        sessions = record.sessions
        if sessions is None and record.data is not None:
            sessions = record.data.sessions
        found = [scale_of_session(described, str(path)) for described in sessions or ()]
    except OSError as error:
        raise ReadError(f"could not be read ({error.strerror})", path, advice) from error
    except ValueError as error:
        raise ReadError(f"contains no scale of a session ({error})", path, advice) from error
    if not found:
        raise ReadError("contains no scale of a session", path, advice)
    mean = np.log([one.intensity_per_atom for one in found])
    sd = np.sqrt(np.mean([one.log_sd**2 for one in found]) + mean.var())
    return EarlierScale(float(np.exp(mean.mean())), float(sd), str(path))


@dataclass(frozen=True)
class SessionRules:
    """How the images of a run are grouped into sessions and samples."""

    # of images that the table does not name; see `core.acquisition_session.group_images`
    grouping: str = "auto"
    # name or pattern of an image → its entry in the table
    table: Mapping[str, SessionEntry] = field(default_factory=dict)
    samples: tuple[tuple[str, Composition], ...] = ()  # pattern and composition of known samples
    earlier: EarlierScale | None = None  # scale of an earlier session with the same instrument
    # whether known samples are used even if their clusters contradict them
    keep_known: bool = False
    # relative error (standard deviation) of the pixel size
    pixel_size_error: float = PIXEL_SIZE_ERROR
    path: Path | None = None
    # name or pattern of an image → its sample; other images are of the sample of their folder
    sample_table: Mapping[str, SampleEntry] = field(default_factory=dict)
    sample_path: Path | None = None

    @classmethod
    def read(cls, request: RunRequest, classes: Sequence[str]) -> Self:
        """Read the options of a run.

        Raises `ModelError` if the model lacks a class of a known sample. Raises `ReadError` or
        `TableError` if the table of sessions or the record of the earlier run is missing or is
        none.
        """
        is_table = request.session not in GROUPINGS
        rules = cls(
            "auto" if is_table else request.session,
            _read_session_table(Path(request.session)) if is_table else {},
            tuple(map(parse_known, request.known)),
            None if request.earlier_run is None else read_earlier_scale(Path(request.earlier_run)),
            request.keep_known,
            request.pixel_size_error / 100,
            Path(request.session) if is_table else None,
        ).with_sample_table(request.samples)
        for image, entry in rules.table.items():
            with naming_file(request.session):
                check_classes(entry.known, classes, image)
        for images, composition in rules.samples:
            check_classes(composition, classes, images)
        return rules

    def with_sample_table(self, path: str | None) -> Self:
        """Return the rules with a table of samples; raises `ReadError` or `TableError`."""
        if path is None:
            return self
        return replace(self, sample_table=read_sample_table(Path(path)), sample_path=Path(path))

    def check(self, images: Sequence[str]) -> None:
        """Check that patterns match images; the tables may serve several runs.

        Raises `TableError` if a known sample matches no image, or no image is in a table.
        """
        match_known(self.samples, images)
        for what, table, path in (
            ("sessions", self.table, self.path),
            ("samples", self.sample_table, self.sample_path),
        ):
            if table and not any(match_images(name, images) for name in table):
                raise TableError(
                    f"the table of {what} is for {', '.join(list(table)[:5])}, and no image has "
                    "such a name",
                    path,
                    "Names are those of the column image in clusters.csv, or patterns",
                )

    def group(self, outcomes: Iterable[Outcome]) -> list[AcquisitionSession]:
        """Group the analysed images into sessions."""
        recordings = {
            outcome.image: Recording(
                session_folder(Path(outcome.path)) if outcome.path else "",
                outcome.pixel_size_nm,
                outcome.instrument,
            )
            for outcome in outcomes
            if outcome.status == "done"
        }
        entries = {
            image: entry
            for name, entry in self.table.items()
            for image in match_images(name, list(recordings))
        }
        for image, known in match_known(self.samples, recordings, all_match=False).items():
            entries[image] = replace(entries.get(image, SessionEntry()), known=known)
        sessions = group_images(recordings, entries, self.grouping)
        return [
            replace(
                session,
                earlier=self.earlier,
                kept=frozenset(session.known) if self.keep_known else frozenset(),
                pixel_size_error=self.pixel_size_error,
                by_itself=self.grouping == "none",
            )
            for session in sessions
        ]

    def group_samples(self, outcomes: Iterable[Outcome]) -> list[Sample]:
        """Group the analysed images into samples."""
        return group_samples(folders_of(outcomes), self.sample_table)

    def with_sessions(self, outcomes: Sequence[Outcome]) -> list[Outcome]:
        """Return the outcomes with session, known composition and sample of each image."""
        grouped = assign_sessions(outcomes, self.group(outcomes))
        return assign_samples(grouped, self.group_samples(outcomes))


def _read_session_table(path: Path) -> dict[str, SessionEntry]:
    """Read a table with the columns image, session and optionally known."""
    table = read_table(path)
    missing = [name for name in ("image", "session") if name not in table.columns]
    if missing:
        raise TableError(
            f"the table of sessions lacks the column {' and '.join(missing)}",
            path,
            "It has the columns image, session and, for known samples, known",
        )
    known = table["known"] if "known" in table.columns else [""] * len(table)
    entries: dict[str, SessionEntry] = {}
    for row in zip(table["image"], table["session"], known, strict=True):
        image, session, composition = (str(value).strip() for value in row)
        try:
            sample = parse_composition(composition) if composition else {}
        except TableError as error:
            raise TableError(f"{image}: {error.what}", path, error.advice) from None
        if image in entries:
            raise TableError(f"the table of sessions names {image} twice", path)
        entries[image] = SessionEntry(session, sample)
    return entries


def _is_number(cell: str) -> bool:
    try:
        float(cell)
    except ValueError:
        return False
    return True


_WITH_UNIT = re.compile(r"\s*[-+]?\d+([.,]\d+)?\s*[^\d\s.,][^\d]*|\s*[-+]?\d+,\d+\s*")
"""A number with its unit, such as ``2 h``, or with a decimal comma."""


def read_sample_table(path: Path) -> dict[str, SampleEntry]:
    """Read a table with the columns image, sample and further ones such as time or temperature.

    Columns of numbers are kept. Raises `ReadError` if the file can't be read, `TableError` if a
    column or a name is missing, an image occurs twice, or a number is written with its unit.
    """
    table = read_table(path)
    advice = "It has the columns image, sample and further ones such as time_h or temperature_c"
    missing = [name for name in ("image", "sample") if name not in table.columns]
    if missing:
        raise TableError(
            f"the table of samples lacks the column {' and '.join(missing)}", path, advice
        )
    if not len(table):
        raise TableError("the table of samples has no rows", path, advice)
    numbers = [str(n) for n in table.columns if table[n].dtype.kind in "fiu"]
    for name in table.columns.difference(["image", "sample", *numbers]):
        there = table.loc[table[name].notna(), ["image", name]].astype(str).to_numpy(object)
        cells = [(image, cell.strip()) for image, cell in there if cell.strip()]
        of_numbers = 2 * sum(_is_number(cell) for _, cell in cells) >= len(cells) > 0
        for image, cell in cells:
            if _WITH_UNIT.fullmatch(cell) or (of_numbers and not _is_number(cell)):
                raise TableError(
                    f"the column {name} of the table of samples has numbers, but {cell!r} "
                    f"for {image}",
                    path,
                    "Write numbers only, with a decimal point, and the unit in the name of the "
                    "column, as in time_h; leave cells without one empty; or remove the column",
                )
    entries: dict[str, SampleEntry] = {}
    for row in table.to_dict("records"):
        image, sample = (str(row[name]).strip() for name in ("image", "sample"))
        if not image or not sample:
            raise TableError("a row of the table of samples has no image or no sample", path)
        if image in entries:
            raise TableError(f"the table of samples names {image} twice", path)
        known = {name: float(row[name]) for name in numbers if np.isfinite(row[name])}
        entries[image] = SampleEntry(sample, known)
    return entries
