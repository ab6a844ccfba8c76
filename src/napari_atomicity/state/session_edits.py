"""What a person enters of the recording of an image, and how to undo it: see `edits`."""

from __future__ import annotations

from dataclasses import dataclass

from ..core.acquisition_session import SessionEntry
from ..project import EditKind
from .edits import Edit


@dataclass(frozen=True, eq=False)
class SetSession(Edit[SessionEntry]):
    """Set session and known sample of an image."""

    before: SessionEntry
    after: SessionEntry
    description: str = "acquisition session"
    kind: EditKind = EditKind.SESSION


@dataclass(frozen=True, eq=False)
class SetPixelSize(Edit[float]):
    """Set the pixel size of an image in nm; None if it is not known."""

    before: float | None
    after: float | None
    kind: EditKind = EditKind.PIXEL_SIZE
