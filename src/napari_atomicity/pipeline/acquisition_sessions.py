"""Acquisition sessions of the images of a run, from its options and what the files contain."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Self

from ..core.acquisition_session import (
    GROUPINGS,
    PIXEL_SIZE_ERROR,
    AcquisitionSession,
    Composition,
    EarlierScale,
    Recording,
    SessionEntry,
    check_classes,
    group_images,
    match_images,
    match_known,
    parse_composition,
    parse_known,
    session_folder,
)
from ..core.errors import TableError, naming_file
from ..io.provenance import Outcome, assign_sessions
from ..io.tables import read_table
from .earlier_session import read_earlier_scale
from .run_request import RunRequest


@dataclass(frozen=True)
class SessionRules:
    """How the images of a run are grouped into sessions."""

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
        )
        for entry in rules.table.values():
            with naming_file(request.session):
                check_classes(entry.known, classes)
        for _, composition in rules.samples:
            check_classes(composition, classes)
        return rules

    def check(self, images: Sequence[str]) -> None:
        """Check that patterns match images; the table may serve several runs.

        Raises `TableError` if a known sample matches no image, or no image is in the table.
        """
        match_known(self.samples, images)
        if self.table and not any(match_images(name, images) for name in self.table):
            raise TableError(
                f"the table of sessions is for {', '.join(list(self.table)[:5])}, and no image has "
                "such a name",
                self.path,
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
            )
            for session in sessions
        ]

    def with_sessions(self, outcomes: Sequence[Outcome]) -> list[Outcome]:
        """Return the outcomes with the session and the known composition of each image."""
        return assign_sessions(outcomes, self.group(outcomes))


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
