"""Read answers that were given in a browser (see `browser_packs`).

An answer file is JSON with everything that is needed to check it: the manifest of its pack, whose
hash it states, the marks of each image or the label of each cluster, and what was seen completely.
Nothing in it is trusted: its size is limited, numbers must be finite and inside the image, and what
does not fit is an error that names the line.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
import pandas as pd
from annotated_types import Interval, Len

from ...core.errors import ReadError, reason_of
from ...core.from_dict import NotNegative, dataclass_from_json, line_of
from ...core.text import pluralise
from ...io.files import regular_file
from ...statistics.annotators.agreement import NOT_A_CLUSTER
from ...statistics.matching import f1_of, match
from .browser_packs import FORMAT, Manifest, PackImage, PackItem
from .filled_packs import (
    LABEL_COLUMNS,
    LOOKED_COLUMNS,
    MARK_COLUMNS,
    MAX_COUNTED,
    MAX_TEXT,
    SKILL_COLUMNS,
    Filled,
    error_of_lines,
    join_tables,
    name_of,
)

_MAX_MARKS = 20_000
"""Marks of an image: more than a person ever makes."""
_KIND = '"kind": "answers"'
_Path = tuple[str | int, ...]


@dataclass(frozen=True)
class _Format:
    format: int
    kind: Literal["answers"]


@dataclass(frozen=True)
class _Mark:
    x_px: float
    y_px: float
    uncertain: bool
    seconds: float = 0.0  # since the beginning


@dataclass(frozen=True)
class _Label:
    cluster_id: int
    label: str


@dataclass(frozen=True)
class _Item:
    item: Annotated[int, Interval(ge=0)]
    complete: bool
    marks: Annotated[tuple[_Mark, ...], Len(0, _MAX_MARKS)] = ()
    label: str | None = None
    uncertain: bool = False
    seconds: NotNegative = 0.0
    place: Annotated[int, Interval(ge=0)] = 0  # in the order of this person


@dataclass(frozen=True)
class _Example:
    example: Annotated[int, Interval(ge=0)]
    complete: bool
    marks: Annotated[tuple[_Mark, ...], Len(0, _MAX_MARKS)] = ()
    labels: Annotated[tuple[_Label, ...], Len(0, _MAX_MARKS)] = ()


@dataclass(frozen=True)
class _Answers:
    pack: str
    session: Annotated[str, Len(32, 32)]
    name: Annotated[str, Len(1, 1000)]
    saved: Annotated[str, Len(1, 40)]
    items: Annotated[tuple[_Item, ...], Len(0, 100_000)]
    manifest: Manifest
    examples: Annotated[tuple[_Example, ...], Len(0, 100)] = ()


def is_answers(path: Path) -> bool:
    """Return whether a JSON file says that it holds answers; a damaged one still does."""
    try:
        with path.open("rb") as file:
            return _KIND.encode() in file.read(4096).replace(b'":"', b'": "')
    except OSError:
        return False


def read_answers(path: Path, known: Collection[str] = ()) -> Filled:
    """Read a file of answers; ``known`` are the hashes of the packs, if they are at hand.

    Raises `ReadError` if it is damaged, its hash is wrong, or it answers another pack; `TableError`
    with the first wrong lines, and how many there are.
    """
    try:
        with regular_file(path).open("rb") as file:
            data = file.read(MAX_TEXT + 1)
    except OSError as error:
        raise ReadError(f"it can't be read ({reason_of(error)})", path) from error
    return parse_answers(data, path, known)


def parse_answers(data: bytes, path: Path, known: Collection[str] = ()) -> Filled:
    """Read the text of a file of answers; see `read_answers`."""
    if len(data) > MAX_TEXT:
        raise ReadError(f"it is larger than {MAX_TEXT // 1_000_000} MB", path)
    try:
        text = data.decode("utf-8-sig")
        version = dataclass_from_json(_Format, text, lines=True).format
        if version != FORMAT:
            raise ReadError(f"its format is {version}, not {FORMAT}", path, "Update the plugin")
        answers = dataclass_from_json(_Answers, text, lines=True)
    except ValueError as error:
        advice = "Nothing was imported from it: request the file again"
        raise ReadError(f"its answers are damaged ({error})", path, advice) from error
    _check_pack(answers, text, path, known)
    return _Reader(answers, text, path).filled()


def _check_pack(answers: _Answers, text: str, path: Path, known: Collection[str]) -> None:
    if answers.manifest.sha256 != answers.pack:
        raise ReadError(
            f"line {line_of(text, ['manifest'])}: the manifest is not that of the pack, whose hash "
            f"is in line {line_of(text, ['pack'])}",
            path,
            "Nothing was imported from it: it was changed after it was saved",
        )
    if known and answers.pack not in known:
        raise ReadError(
            f"line {line_of(text, ['pack'])}: these are answers to another pack",
            path,
            "Give the pack that was sent out",
        )


class _Reader:
    """Checks the answers of one person and collects them in tables."""

    def __init__(self, answers: _Answers, text: str, path: Path) -> None:
        self.answers, self.manifest = answers, answers.manifest
        self.text, self.path = text, path
        self.who = name_of(answers.name) or name_of(path.stem)
        self.problems: list[str] = []
        self.n_twice = 0  # places that are marked twice

    def filled(self) -> Filled:
        """Return the tables; raises `TableError` if lines are wrong."""
        once, again = self._items(False), self._items(True)
        skills = self._skills()
        if self.problems:
            raise error_of_lines(self.problems, self.path)
        left_out = sum(not item.complete and len(item.marks) > 0 for item in self.answers.items)
        notes: tuple[str, ...] = ()
        if left_out:
            images = pluralise(left_out, "image")
            notes = (f"{self.who} has not seen {images} completely: the marks there do not count.",)
        if self.n_twice:
            places = pluralise(self.n_twice, "place")
            notes += (f"{self.who} has marked {places} twice: each counts once.",)
        return Filled(
            once[0], once[1], {image.name: image.sha256 for image in self.manifest.images},
            self.manifest.tolerance_nm, once[2], *again, skills, notes,
            self.answers.session, self.answers.saved,
        )  # fmt: skip

    def _say(self, what: str, *path: str | int) -> None:
        if len(self.problems) < MAX_COUNTED:
            # Lines are searched for those that are told; the others are counted.
            told = len(self.problems) < 20
            line = line_of(self.text, path) if told else None
            self.problems.append(f"line {line}: {what}")

    def _items(self, repeat: bool) -> tuple[pd.DataFrame, pd.DataFrame, pd.DataFrame]:
        """Return marks, viewed images and labels of the items, or of the repeated ones."""
        marks: list[tuple[Any, ...]] = []
        looked: list[tuple[Any, ...]] = []
        labels: list[tuple[Any, ...]] = []
        seen: set[int] = set()
        for i, answer in enumerate(self.answers.items):
            item = self._item(answer, i, seen)
            if item is None or item.repeat != repeat:
                continue
            image = self.manifest.images[item.image]
            if item.cluster is not None:
                labels += self._label(answer, image, item.cluster, i)
                continue
            found = self._marks(answer.marks, image, ("items", i))
            if answer.complete:
                px_nm = image.pixel_size_nm
                area = image.height_px * image.width_px * px_nm**2
                looked.append((image.name, self.who, area, self.manifest.blind))
                marks += [
                    (image.name, self.who, y, x, y * px_nm, x * px_nm, u) for y, x, u in found
                ]
        return (
            _table(marks, MARK_COLUMNS),
            _table(looked, LOOKED_COLUMNS),
            _table(labels, LABEL_COLUMNS),
        )

    def _item(self, answer: _Item, i: int, seen: set[int]) -> PackItem | None:
        """Return the item of an answer; None if the pack has none, or it was answered before."""
        items = self.manifest.items
        if answer.item >= len(items):
            self._say(f"the pack has no item {answer.item}", "items", i, "item")
            return None
        item = items[answer.item]
        if answer.item in seen:
            self._say(f"item {answer.item} is answered twice", "items", i, "item")
            return None
        seen.add(answer.item)
        images = self.manifest.images
        in_pack = item.image < len(images) and (
            item.cluster is None or item.cluster < len(images[item.image].clusters)
        )
        if not in_pack:
            self._say(f"item {answer.item} is of no image of the pack", "items", i, "item")
            return None
        return item

    def _marks(
        self, marks: Sequence[_Mark], image: PackImage, path: _Path
    ) -> list[tuple[float, float, bool]]:
        found: dict[tuple[float, float], bool] = {}
        for j, mark in enumerate(marks):
            if len(self.problems) >= MAX_COUNTED:
                break
            for axis, value, size in (
                ("x_px", mark.x_px, image.width_px),
                ("y_px", mark.y_px, image.height_px),
            ):
                if not -0.5 <= value <= size - 0.5:
                    what = f"{axis} is {value:g}, outside {image.name} (0 to {size - 1})"
                    self._say(what, *path, "marks", j, axis)
            self.n_twice += (mark.y_px, mark.x_px) in found
            found[mark.y_px, mark.x_px] = mark.uncertain
        return [(y, x, unsure) for (y, x), unsure in found.items()]

    def _label(self, answer: _Item, image: PackImage, number: int, i: int) -> list[tuple[Any, ...]]:
        if answer.label is None:
            return []
        if answer.label not in (*self.manifest.classes, NOT_A_CLUSTER):
            self._say(f"{answer.label[:30]!r} is no class of the pack", "items", i, "label")
            return []
        one = image.clusters[number]
        return [
            (image.name, self.who, one.cluster_id, one.y_px, one.x_px, one.diameter_px,
             answer.label, answer.uncertain)
        ]  # fmt: skip

    def _skills(self) -> pd.DataFrame:
        """Compare the answers to the worked examples with what is known."""
        known = given = right = 0
        for i, answer in enumerate(self.answers.examples):
            if answer.example >= len(self.manifest.examples):
                self._say(f"the pack has no example {answer.example}", "examples", i, "example")
                continue
            image = self.manifest.examples[answer.example]
            found = self._marks(answer.marks, image, ("examples", i))
            if not answer.complete:
                continue
            if image.clusters:
                truth = {one.cluster_id: one.label for one in image.clusters}
                labels = {one.cluster_id: one.label for one in answer.labels}
                known, given = known + len(labels), given + len(labels)
                right += sum(truth.get(number) == label for number, label in labels.items())
            else:
                reach = self.manifest.tolerance_nm / image.pixel_size_nm
                places = np.array([mark[:2] for mark in found], float).reshape(-1, 2)
                points = np.array(image.points, float).reshape(-1, 2)
                right += len(match(places, points, reach))
                known, given = known + len(points), given + len(places)
        rows = [(self.who, known, given, right, f1_of(right, known, given))] if known else []
        return _table(rows, SKILL_COLUMNS)


def _table(rows: list[tuple[Any, ...]], columns: Sequence[str]) -> pd.DataFrame:
    return join_tables([pd.DataFrame(rows, columns=list(columns))], columns)
