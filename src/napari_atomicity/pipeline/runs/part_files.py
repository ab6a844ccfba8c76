"""Files of the parts of a run: several for each image, which are joined once a run has ended.

::

    DIR/parts/<stem>.parquet      clusters of one image, with its outcome in the metadata
    DIR/parts/<stem>.npz          scale of the image by itself, for its session
    DIR/parts/<stem>.movie.json   tracks, events and drift of a stack
    DIR/parts/<stem>.report.json  drawing of an image for the report; these are not joined
    DIR/parts/<stem>.removed      the part in an archive does not count any more
    DIR/parts/<number>-<hash>.zip the files of 500 images

Each file is written completely or not at all. A single file counts before the one of its name in an
archive, and single files are deleted last, so that a run can be killed at any time.
"""

from __future__ import annotations

import hashlib
import os
import re
import zipfile
from collections.abc import Iterable, Sequence
from contextlib import suppress
from pathlib import Path

from ...core.errors import AtomicityError
from ...io.files import atomic_write
from ...io.inputs import make_folder
from ...io.tables import IMAGES_PER_FILE
from .parts import DRAWING, MOVIE, SCALE, TABLE, split_name

REMOVED = ".removed"
_ARCHIVE = re.compile(r"[0-9]{5}-[0-9a-f]{16}\.zip")
_JOINED = (TABLE, SCALE, MOVIE)
_DAMAGED = (OSError, zipfile.BadZipFile, ValueError, NotImplementedError, EOFError)


class PartFiles:
    """Single and joined files of the parts of a run.

    Raises `AtomicityError` if the folder can't be made, written to or read.
    """

    def __init__(self, results: Path) -> None:
        self.folder = results / "parts"
        make_folder(self.folder)
        self._move_earlier(results / "clusters")
        self._open: tuple[str, zipfile.ZipFile] | None = None
        self.scan()

    def _move_earlier(self, clusters: Path) -> None:
        """Take over the parts of version 0.2, each table after what belongs to it."""
        earlier = {"_scale": SCALE, "_movie": MOVIE, "_report": DRAWING, "": TABLE}
        for name, ending in earlier.items():
            for path in (clusters / name).glob("*-*.*"):
                stem, found = split_name(path.name)
                if stem and found in (TABLE, SCALE, ".json"):
                    path.replace(self.folder / f"{stem}{ending}")
            with suppress(OSError):  # nothing was there, or something else is
                (clusters / name).rmdir()

    def scan(self) -> None:
        """Find the files that are there."""
        self.close()
        try:
            names = [path.name for path in self.folder.iterdir()]
        except OSError as error:
            raise AtomicityError(
                f"this folder can't be read ({error.strerror or error})",
                self.folder,
                "Check its permissions, or choose another folder for the results",
            ) from error
        self._single = {name for name in names if split_name(name)[0]}
        self._archives = sorted(filter(_ARCHIVE.fullmatch, names))
        self._members = {name: self._list(name) for name in self._archives}
        self._archive_of = {name: a for a, members in self._members.items() for name in members}

    def _list(self, archive: str) -> list[str]:
        """Return the files in an archive; none if it is damaged, and the images are done again."""
        try:
            with zipfile.ZipFile(self.folder / archive) as opened:
                # What this program writes is stored as it is: nothing is larger than its file.
                return [
                    one.filename
                    for one in opened.infolist()
                    if one.compress_type == zipfile.ZIP_STORED and split_name(one.filename)[0]
                ]
        except _DAMAGED:
            return []

    def stems(self) -> set[str]:
        """Return the names of all parts."""
        names = {name for name in {*self._single, *self._archive_of} if name.endswith(TABLE)}
        return {split_name(name)[0] for name in names if self.has(name)}

    def has(self, name: str) -> bool:
        """Return whether there is a file of this name, single or joined."""
        if name in self._single:
            return True
        return name in self._archive_of and split_name(name)[0] + REMOVED not in self._single

    def read(self, name: str) -> bytes:
        """Read a file; raise an `OSError`, `ValueError` or `BadZipFile` if it can't be read."""
        if name in self._single or not self.has(name):
            return (self.folder / name).read_bytes()
        archive = self._archive_of[name]
        if self._open is None or self._open[0] != archive:
            self.close()
            self._open = archive, zipfile.ZipFile(self.folder / archive)
        return self._open[1].read(name)

    def write(self, name: str, data: bytes) -> None:
        """Write a single file: once this returns, it is on the disk."""
        with atomic_write(self.folder / name) as temporary, temporary.open("wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        self._single.add(name)

    def remove(self, stem: str) -> None:
        """Remove all files of a part."""
        if any(stem + ending in self._archive_of for ending in _JOINED):
            self.write(stem + REMOVED, b"")
        self._delete(stem + ending for ending in (*_JOINED, DRAWING))

    def remove_file(self, name: str) -> None:
        """Remove a single file, if it is there."""
        self._delete([name])

    def _delete(self, names: Iterable[str]) -> None:
        for name in names:
            path = self.folder / name
            try:
                path.unlink(missing_ok=True)
            except OSError as error:
                raise AtomicityError(
                    f"could not be removed ({error.strerror or error})", path
                ) from error
            self._single.discard(name)

    def join(self, stems: Sequence[str]) -> None:
        """Put the files of these parts, which are all that count, into archives in this order.

        The archives depend on the parts only, not on the runs that made them.
        """
        kept = []
        for number, start in enumerate(range(0, len(stems), IMAGES_PER_FILE)):
            chunk = stems[start : start + IMAGES_PER_FILE]
            names = [s + e for s in chunk for e in _JOINED if self.has(s + e)]
            kept.append(self._find(number, names) or self._write_archive(number, names))
        self.close()
        joined = [name for name in self._single if not name.endswith(DRAWING)]
        left = [path.name for path in self.folder.glob(".*")]  # by a run that was killed
        self._delete([*left, *(set(self._archives) - set(kept)), *joined])
        self.scan()

    def _find(self, number: int, names: list[str]) -> str | None:
        """Return the archive that already has these files, and no newer single ones."""
        archive = self._archive_of.get(names[0], "") if names else ""
        same = archive.startswith(f"{number:05d}-") and self._members[archive] == names
        return archive if same and self._single.isdisjoint(names) else None

    def _write_archive(self, number: int, names: list[str]) -> str:
        new, digest = self.folder / "new.zip", hashlib.sha256()
        with atomic_write(new) as temporary, temporary.open("wb") as file:
            with zipfile.ZipFile(file, "w") as archive:
                for name in names:
                    try:
                        data = self.read(name)
                    except _DAMAGED:  # it is analysed again
                        continue
                    archive.writestr(zipfile.ZipInfo(name), data)
                    digest.update(hashlib.sha256(name.encode() + data).digest())
            file.flush()
            os.fsync(file.fileno())
        name = f"{number:05d}-{digest.hexdigest()[:16]}.zip"
        self.close()  # it may be the archive that is replaced
        new.replace(self.folder / name)
        return name

    def close(self) -> None:
        """Close the archive that was read last."""
        if self._open is not None:
            self._open[1].close()
        self._open = None
