"""The atoms of a project: what a model found, and what annotators have marked."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import pandas as pd

from ..atoms.marks import ImageAtoms, Mark
from .atoms import (
    blind_annotations,
    free_id,
    last_marks,
    log_of_marks,
    mark_as_viewed,
    take_in,
    write_atoms,
)
from .connection import ProjectConnection
from .contents import RecordableEdit
from .damage import as_number
from .images import ImageIndex


class AtomRecords:
    """Atoms, marks and annotations of a project file."""

    def __init__(self, file: ProjectConnection, images: ImageIndex) -> None:
        self._file = file
        self._images = images

    def record(
        self,
        edit: RecordableEdit,
        before: ImageAtoms | None,
        after: ImageAtoms | None,
        *,
        blind: bool = False,
    ) -> None:
        """Write an edit of the atoms of an image; it is on disk when this returns.

        Raises `AtomicityError` if it can't be written: the file is as it was before.
        """
        with self._file.writing() as db:
            write_atoms(db, self._images.ids[edit.image], before, after, edit.author, blind)
        if after is not None and after.analysis is not None:
            self._images.set_damage(edit.image, "atoms", "")

    def marks(self) -> pd.DataFrame:
        """Return the append-only log of marks, oldest first."""
        with self._file.reading() as db:
            return log_of_marks(db, self._images.ids)

    def blind_marks(self, annotator: str) -> dict[str, ImageAtoms]:
        """Return the blind marks of one annotator, by image."""
        with self._file.reading() as db:
            found = {n: last_marks(db, i, annotator) for n, i in self._images.ids.items()}
            stored = dict(db.execute("SELECT image_id, pixel_size_nm FROM images"))
        sizes = {name: as_number(stored.get(i)) for name, i in self._images.ids.items()}
        return {
            name: ImageAtoms(name, size, marks=marks)
            for name, marks in found.items()
            if marks and (size := sizes[name])
        }

    def annotations(self) -> tuple[pd.DataFrame, pd.DataFrame]:
        """Return the blind marks of all annotators, made here or elsewhere; see `consensus`."""
        with self._file.reading() as db:
            return blind_annotations(db, self._images.ids)

    def is_reviewed(self, image: str, annotator: str) -> bool:
        """Return whether an annotator has viewed an image, or has marked atoms blind in it."""
        _, viewed = self.annotations()
        return bool(((viewed["image"] == image) & (viewed["annotator"] == annotator)).any())

    def add_marks(self, image: str, annotator: str, marks: pd.DataFrame, source: str) -> int:
        """Add marks that were made elsewhere; marks that are stored already are not added again."""
        with self._file.writing() as db:
            image_id = self._images.ids[image]
            return take_in(db, image_id, annotator, marks, source, free_id(db, image_id))

    def set_annotation(self, image: str, annotator: str, marks: Mapping[int, Mark] | None) -> None:
        """Set the blind marks of an annotator in an image; what was there stays in the log."""
        with self._file.writing() as db:
            image_id = self._images.ids[image]
            (stored,) = db.execute(
                "SELECT pixel_size_nm FROM images WHERE image_id = ?", (image_id,)
            ).fetchone()
            size_nm = as_number(stored) or 0.0
            before = ImageAtoms(image, size_nm, marks=last_marks(db, image_id, annotator))
            after = ImageAtoms(image, size_nm, marks=marks or {})
            write_atoms(db, image_id, before, after, annotator, blind=True)
            mark_as_viewed(db, [image_id], annotator, marks is not None)

    def marks_of(self, annotator: str) -> dict[str, dict[int, Mark]]:
        """Return the blind marks of an annotator in all images that he or she has viewed."""
        _, viewed = self.annotations()
        images = viewed.loc[viewed["annotator"] == annotator, "image"]
        with self._file.reading() as db:
            return {name: last_marks(db, self._images.ids[name], annotator) for name in images}

    def free_ids(self) -> dict[str, int]:
        """Return for each image an atom id that was never used, by any annotator."""
        with self._file.reading() as db:
            return {name: free_id(db, image_id) for name, image_id in self._images.ids.items()}

    def mark_as_viewed(self, images: Iterable[str], annotator: str, viewed: bool = True) -> None:
        """Store that an annotator has viewed images completely: what is not marked is no atom."""
        with self._file.writing() as db:
            ids = [self._images.ids[image] for image in images]
            mark_as_viewed(db, ids, annotator, viewed)
