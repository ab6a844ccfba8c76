"""Everything that has come back from annotators: packs, and answers from browsers."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd

from ...core.errors import AtomicityError, ReadError, TableError
from ...core.progress import Progress, Stop, check, report
from ...io.files import MANIFEST, read_document
from .browser_answers import is_answers, read_answers
from .browser_packs import has_pack, read_manifest
from .filled_packs import (
    LABEL_COLUMNS,
    LOOKED_COLUMNS,
    MARK_COLUMNS,
    SKILL_COLUMNS,
    Filled,
    Unit,
    join_tables,
    read_pack,
)

_PAGES = (".html", ".htm")
_Key = tuple[str, str, int | None]
"""What a person has answered: image, name, and the cluster; None for the atoms of an image."""


def find_returned(paths: Iterable[str | os.PathLike[str]]) -> list[Path]:
    """Return the packs and answers among files and in folders.

    In a folder these are .zip files, folders with a manifest, pages and JSON files with answers;
    other files are passed over. What is named itself is returned in any case.
    """
    found: list[Path] = []
    for path in map(Path, paths):
        given = path.parent if path.name == MANIFEST else path
        if not given.is_dir() or _is_pack(given):
            found.append(given)
            continue
        inside = sorted(given.iterdir(), key=lambda path: path.name)
        found += [entry for entry in inside if _may_be_returned(entry)]
    return list(dict.fromkeys(found))


def _is_pack(folder: Path) -> bool:
    """Return whether a folder is one pack, or contains one as an archive program unpacks it."""
    if (folder / MANIFEST).is_file():
        return True
    inside = [path for path in folder.iterdir() if not path.name.startswith((".", "__MACOSX"))]
    return len(inside) == 1 and inside[0].is_dir() and _is_pack(inside[0])


def _may_be_returned(path: Path) -> bool:
    if path.name.startswith((".", "~")):
        return False
    if path.is_dir():
        return _is_pack(path)
    suffix = path.suffix.lower()
    if suffix in _PAGES:
        return has_pack(path)
    return suffix == ".zip" or (suffix == ".json" and is_answers(path))


def read_returned(
    paths: Iterable[str | os.PathLike[str]],
    unit: Unit | None = None,
    refused: list[tuple[Path, AtomicityError]] | None = None,
    progress: Progress | None = None,
    stop: Stop | None = None,
) -> list[tuple[Path, Filled]]:
    """Read packs and answers, each by itself.

    With pages of packs among them, answers must be to one of these. A later file of answers of one
    session replaces the earlier ones. Raises `AtomicityError` for the first file that can't be
    read, or adds it to ``refused``.
    """
    given = find_returned(paths)
    pages = [path for path in given if path.suffix.lower() in _PAGES]
    others = [path for path in given if path not in pages]
    known: set[str] = set()
    packs: list[tuple[Path, Filled]] = []
    for i, path in enumerate([*pages, *others]):
        check(stop)
        report(progress, i, len(given), f"Reading {path.name}")
        try:
            if path in pages:
                known.add(_hash_of_page(path))
            elif path.suffix.lower() == ".json":
                packs.append((path, read_answers(path, known)))
            else:
                packs.append((path, read_pack(path, unit)))
        except AtomicityError as error:
            if refused is None:
                raise
            refused.append((path, error))
    return _without_replaced(packs)


def _hash_of_page(path: Path) -> str:
    try:
        return read_manifest(read_document(path, 2_000_000_000).decode("utf-8")).sha256
    except (OSError, ValueError) as error:
        raise ReadError(f"this is no pack for a browser ({error})", path) from error


def _without_replaced(packs: list[tuple[Path, Filled]]) -> list[tuple[Path, Filled]]:
    """Drop answers that were saved again later, in the same session of the same pack."""
    last: dict[tuple[str, ...], str] = {}
    for _, pack in packs:
        if pack.session:
            key = (pack.session, *sorted(pack.hashes.values()))
            last[key] = max(last.get(key, ""), pack.saved)
    kept, seen = [], set()
    for path, pack in packs:
        key = (pack.session, *sorted(pack.hashes.values()))
        if pack.session:
            if pack.saved < last[key] or key in seen:
                continue
            seen.add(key)
        kept.append((path, pack))
    return kept


def read_packs(
    paths: Iterable[str | os.PathLike[str]],
    unit: Unit | None = None,
    refused: list[tuple[Path, AtomicityError]] | None = None,
) -> Filled:
    """Read and join what has come back from several annotators.

    Raises `AtomicityError` as `read_returned` does; and if images of one name differ, or one
    person's marks of an image are in two packs. With ``refused``, only if nothing is left.
    """
    given = [Path(path) for path in paths]
    if not given:
        raise ReadError("no pack was given")
    joined: list[Filled] = []
    hashes: dict[str, str] = {}
    owners: dict[_Key, tuple[Path, str]] = {}
    packs = read_returned(given, unit, refused)
    for path, pack in sorted(packs, key=lambda found: found[1].saved):
        try:
            checked = _checked(pack, path, hashes, owners)
        except AtomicityError as error:
            if refused is None:
                raise
            refused.append((path, error))
            continue
        joined.append(checked)
        hashes |= pack.hashes
        owners |= dict.fromkeys(_keys(checked), (path, pack.session))
    if not joined:
        raise refused[0][1] if refused else ReadError("there is no pack or answer", given[0])
    return _join(joined)


def _keys_of(table: pd.DataFrame) -> list[_Key]:
    """Return what each row answers: a row of marks or viewed images, or of labels."""
    clusters = table["cluster_id"] if "cluster_id" in table else [None] * len(table)
    return list(zip(table["image"], table["annotator"], clusters, strict=True))


def _is_in(table: pd.DataFrame, keys: set[_Key]) -> np.ndarray:
    """Return which rows of a table answer one of these."""
    return np.array([key in keys for key in _keys_of(table)], bool)


def _keys(pack: Filled) -> set[_Key]:
    """Return what is answered in a pack."""
    return {*_keys_of(pack.looked), *_keys_of(pack.labels)}


def _checked(
    pack: Filled, path: Path, hashes: dict[str, str], owners: dict[_Key, tuple[Path, str]]
) -> Filled:
    """Return a pack in which what the same person has answered before is a repetition."""
    for name, digest in pack.hashes.items():
        if hashes.get(name, digest) != digest:
            raise TableError(f"{name} is another image than in the packs before", path)
    known = _keys(pack) & owners.keys()
    if not known:
        return pack
    first = min(known, key=lambda key: (*key[:2], key[2] or 0))
    name, who, _ = first
    before, session = owners[first]
    if not (pack.session and session):
        raise TableError(
            f"{who} has also marked {name} in {before.name}",
            path,
            "Use a different name for each person in annotator.txt, or leave one pack out",
        )
    return _as_repetition(pack, known, before)


def _as_repetition(pack: Filled, known: set[_Key], before: Path) -> Filled:
    """Return a pack of which some answers are those of a second time."""
    who, images = next(iter(known))[1], {image for image, *_ in known}

    def split(table: pd.DataFrame, again: pd.DataFrame) -> tuple[pd.DataFrame, pd.DataFrame]:
        twice = _is_in(table, known)
        second = table[twice]
        return table[~twice], pd.concat([again, second]) if len(second) else again

    marks, again_marks = split(pack.marks, pack.again_marks)
    looked, again_looked = split(pack.looked, pack.again_looked)
    labels, again_labels = split(pack.labels, pack.again_labels)
    note = (
        f"{who} has answered {len(images)} of the images also in {before.name}: the second answers "
        "only tell the agreement with themselves, of several the first. If these are two people, "
        "change one name."
    )
    return replace(
        pack, marks=marks, looked=looked, labels=labels, again_marks=again_marks,
        again_looked=again_looked, again_labels=again_labels, notes=(*pack.notes, note),
    )  # fmt: skip


def _join(packs: list[Filled]) -> Filled:
    """Join the tables of all packs, with one repetition of each answer."""
    packs = _with_one_repetition(packs)
    return Filled(
        join_tables([pack.marks for pack in packs], MARK_COLUMNS),
        join_tables([pack.looked for pack in packs], LOOKED_COLUMNS),
        {name: digest for pack in packs for name, digest in pack.hashes.items()},
        min(pack.tolerance_nm for pack in packs),
        join_tables([pack.labels for pack in packs], LABEL_COLUMNS),
        join_tables([pack.again_marks for pack in packs], MARK_COLUMNS),
        join_tables([pack.again_looked for pack in packs], LOOKED_COLUMNS),
        join_tables([pack.again_labels for pack in packs], LABEL_COLUMNS),
        join_tables([pack.skills for pack in packs], SKILL_COLUMNS),
        tuple(note for pack in packs for note in pack.notes),
    )


def _with_one_repetition(packs: Sequence[Filled]) -> list[Filled]:
    """Return packs without what a person had answered a second time in one of those before."""
    seen: set[_Key] = set()
    found = []
    for pack in packs:
        looked, labels = (
            table[~_is_in(table, seen)].drop_duplicates(
                [name for name in ("image", "annotator", "cluster_id") if name in table]
            )
            for table in (pack.again_looked, pack.again_labels)
        )
        new = {*_keys_of(looked), *_keys_of(labels)}
        marks = pack.again_marks[_is_in(pack.again_marks, new)]
        seen |= new
        found.append(replace(pack, again_marks=marks, again_looked=looked, again_labels=labels))
    return found
