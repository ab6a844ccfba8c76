"""What a person does to the atoms of an image, and how to undo it: see `edits`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from ..atoms.marks import ImageAtoms, Mark
from ..project import EditKind
from .edits import Edit


@dataclass(frozen=True, eq=False)
class SetAtoms(Edit[ImageAtoms]):
    """Set the atoms of an image: another analysis, threshold or support."""

    before: ImageAtoms | None
    after: ImageAtoms | None
    description: str = "find atoms"
    kind: EditKind = EditKind.ATOMS


@dataclass(frozen=True, eq=False)
class SetMarks(Edit[ImageAtoms]):
    """Set marks of a person; None takes a mark back."""

    before: Mapping[int, Mark | None]
    after: Mapping[int, Mark | None]
    description: str = "mark atoms"
    kind: EditKind = EditKind.ATOMS

    def _set(self, now: ImageAtoms | None, old: Any, new: Any) -> ImageAtoms | None:
        return None if now is None else now.with_marks(new)


@dataclass(frozen=True, eq=False)
class SetAnnotation(Edit[Mapping[int, Mark]]):
    """Set the blind marks of the author in an image; None: the image was not viewed."""

    before: Mapping[int, Mark] | None
    after: Mapping[int, Mark] | None
    kind: EditKind = EditKind.ATOMS


AtomEdit = SetAtoms | SetMarks
