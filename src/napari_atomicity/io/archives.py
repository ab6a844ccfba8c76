"""Read files from a folder or a .zip archive.

Archives are not unpacked to disk, links are ignored, and the size of files read into memory is
limited.
"""

from __future__ import annotations

import hashlib
import zipfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from typing import IO, Any

from ..core.errors import ReadError, reason_of
from .files import regular_file

_MAX_TEXT = 20_000_000


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
            data = stream.read(_MAX_TEXT + 1)
        if len(data) > _MAX_TEXT:
            raise ReadError(f"{name} is larger than {_MAX_TEXT // 1_000_000} MB", self._path)
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

    Parameters
    ----------
    path : pathlib.Path
        Folder or .zip archive; the files may be in a subfolder.
    key : str
        Name of a file that must exist.

    Raises
    ------
    ReadError
        If there is no such folder or archive, or the file is missing.
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
