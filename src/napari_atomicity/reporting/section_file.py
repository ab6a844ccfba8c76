"""Sections of a report in a temporary file, until the report is written."""

from __future__ import annotations

import tempfile
from typing import IO

from markupsafe import Markup

from .image_section import Section

_ENCODING = "utf-8", "surrogatepass"


class StoredSection(Section):
    """A section whose HTML is read when it is used."""

    def __init__(self, section: Section, file: IO[bytes]) -> None:
        content = section.html.encode(*_ENCODING)
        start = file.seek(0, 2)
        file.write(content)
        known = {"image": section.image, "problem": section.problem}
        vars(self).update(known, _file=file, _place=(start, len(content)))

    @property
    def html(self) -> Markup:
        """The section."""
        file, (start, size) = vars(self)["_file"], vars(self)["_place"]
        file.seek(start)
        return Markup(file.read(size).decode(*_ENCODING))


class SectionFile:
    """Keeps the sections of many images, which have hundreds of megabytes, in a temporary file.

    The file is deleted with the last of its sections.
    """

    def __init__(self) -> None:
        self._file = tempfile.TemporaryFile()  # noqa: SIM115

    def store(self, section: Section) -> StoredSection:
        """Return a section with its HTML in the file."""
        return StoredSection(section, self._file)
