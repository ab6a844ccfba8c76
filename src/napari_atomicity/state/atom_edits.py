"""What a person does to the atoms of an image, and how to take it back: see `edits`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

from ..atoms.marks import ImageAtoms, Mark
from ..project import EditKind


@dataclass(frozen=True, eq=False)
class SetAtoms:
    """Another analysis, another threshold, another support."""

    image: str
    before: ImageAtoms | None
    after: ImageAtoms | None
    description: str = "find atoms"
    author: str = ""
    kind: ClassVar[EditKind] = EditKind.ATOMS

    @property
    def cluster_ids(self) -> None:
        """None: the edit concerns atoms."""
        return None

    def apply(self, atoms: ImageAtoms | None) -> ImageAtoms | None:
        return self.after

    def revert(self, atoms: ImageAtoms | None) -> ImageAtoms | None:
        return self.before

    def knowing(self, atoms: ImageAtoms | None, undo: bool) -> SetAtoms:
        return self


@dataclass(frozen=True, eq=False)
class SetMarks:
    """What a person says of some places; None: nothing any more."""

    image: str
    before: Mapping[int, Mark | None]
    after: Mapping[int, Mark | None]
    description: str = "mark atoms"
    author: str = ""
    kind: ClassVar[EditKind] = EditKind.ATOMS

    @property
    def cluster_ids(self) -> None:
        """None: the edit concerns atoms."""
        return None

    def apply(self, atoms: ImageAtoms | None) -> ImageAtoms | None:
        return None if atoms is None else atoms.with_marks(self.after)

    def revert(self, atoms: ImageAtoms | None) -> ImageAtoms | None:
        return None if atoms is None else atoms.with_marks(self.before)

    def knowing(self, atoms: ImageAtoms | None, undo: bool) -> SetMarks:
        return self


AtomEdit = SetAtoms | SetMarks
