"""What a person does to the atoms of an image, and how to take it back: see `edits`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

from ..atoms.marks import ImageAtoms, Mark
from ..project import EditKind


@dataclass(frozen=True, eq=False)
class SetAtoms:
    """Set the atoms of an image: another analysis, threshold or support."""

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
        """Return the atoms after the edit."""
        return self.after

    def revert(self, atoms: ImageAtoms | None) -> ImageAtoms | None:
        """Return the atoms without the edit."""
        return self.before

    def refreshed(self, atoms: ImageAtoms | None, undo: bool) -> SetAtoms:
        """Return the edit itself: it holds no rows that a model can change.

        Parameters
        ----------
        atoms : ImageAtoms or None
            The atoms as they are now.
        undo : bool
            Whether the edthey are about to be reverted.
        """
        return self


@dataclass(frozen=True, eq=False)
class SetMarks:
    """Set marks of a person; None takes a mark back."""

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
        """Return the atoms after the edit."""
        return None if atoms is None else atoms.with_marks(self.after)

    def revert(self, atoms: ImageAtoms | None) -> ImageAtoms | None:
        """Return the atoms without the edit."""
        return None if atoms is None else atoms.with_marks(self.before)

    def refreshed(self, atoms: ImageAtoms | None, undo: bool) -> SetMarks:
        """Return the edit itself: it holds no rows that a model can change.

        Parameters
        ----------
        atoms : ImageAtoms or None
            The atoms as they are now.
        undo : bool
            Whether the edthey are about to be reverted.
        """
        return self


AtomEdit = SetAtoms | SetMarks
