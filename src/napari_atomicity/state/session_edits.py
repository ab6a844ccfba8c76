"""What a person enters of the acquisition session of an image, and how to undo it: see `edits`."""

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
