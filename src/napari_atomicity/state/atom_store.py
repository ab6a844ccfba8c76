"""The atoms of a session: of which image which, which are selected, and what a person does to them.

Every change is an edit of the session, in one history with all others; see `state`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace

import numpy as np
import pandas as pd
from psygnal import Signal

from ..atoms.analysis import AtomAnalysis
from ..atoms.injection import InjectedAtoms
from ..atoms.marks import ImageAtoms, Mark, finite_or_none
from ..atoms.species import Species
from ..atoms.table import concat_atom_tables, empty_table
from ..core.text import pluralise
from ..statistics.points.loading_settings import LoadingSettings
from .edits import SetAtoms, SetMarks
from .window_images import WindowImages

AtomKey = tuple[str, int]
"""An atom everywhere in the session: (image name, atom_id)."""


class AtomStore:
    """The atoms of all images of a window.

    Signals: ``changed(image name)`` after any change of its atoms, marks or support;
    ``selection_changed(frozenset of keys)``; ``focus_requested(key)``: show this atom in the image;
    ``loading_changed()``: another metal or support was stated.
    """

    changed = Signal(str)
    loading_changed = Signal()
    selection_changed = Signal(frozenset)
    focus_requested = Signal(tuple)

    def __init__(
        self,
        state: WindowImages,
        do: Callable[..., None],  # `History.do`
    ) -> None:
        self._state = state
        self._do = do
        self._of: dict[str, ImageAtoms] = {}
        self._next_id: dict[str, int] = {}
        self._selection: frozenset[AtomKey] = frozenset()
        self._sliding: tuple[str, object] | None = None
        self._loading = LoadingSettings()

    # ---- what there is
    @property
    def loading(self) -> LoadingSettings:
        """Metal and support of these images, for the metal loading; saved with the project."""
        return self._loading

    @loading.setter
    def loading(self, stated: LoadingSettings) -> None:
        if stated != self._loading:
            self._loading = stated
            self.loading_changed.emit()

    def of(self, image: str | None) -> ImageAtoms | None:
        """Return the atoms of an image; None if it was neither analysed for atoms nor marked."""
        return None if image is None else self._of.get(image)

    get = of
    """As in the other stores of a window."""

    @property
    def images(self) -> list[str]:
        """Images that have atoms or marks."""
        return list(self._of)

    def table(self, image: str | None = None) -> pd.DataFrame:
        """Return the atom table of one image, or of all."""
        if image is not None:
            found = self._of.get(image)
            return empty_table() if found is None else found.table
        return concat_atom_tables(atoms.table for atoms in self._of.values())

    def next_id(self, image: str) -> int:
        """Return an id that no atom of this image ever had."""
        atoms = self._of.get(image)
        value = max(self._next_id.get(image, 1), 1 if atoms is None else atoms.next_id)
        self._next_id[image] = value + 1
        return value

    # ---- what a person does
    def set_analysis(
        self, analysis: AtomAnalysis, description: str = "find atoms", group: object = None
    ) -> None:
        """Replace the atoms found by a model; marks stay, and known atoms keep their ids."""
        image = analysis.micrograph.name
        self._state.finish()
        before = self._of.get(image)
        start = before or self.unmarked(image, analysis.pixel_size_nm)
        after = start.with_analysis(analysis, self._next_id.get(image, 1))
        self._do(SetAtoms(image, before, after, description), group=group)

    def set_threshold(self, image: str, threshold: float) -> None:
        """Set the operating point; all values of one slider movement are one step."""
        self._state.finish()
        before = self._of.get(image)
        if before is None or before.analysis is None or before.threshold == threshold:
            return
        if self._sliding is None or self._sliding[0] != image:
            self._sliding = (image, object())
        edit = SetAtoms(
            image, before, before.with_threshold(threshold), f"threshold of atoms in {image}"
        )
        self._do(edit, group=self._sliding[1])

    def set_precision(self, image: str, precision: float | None) -> None:
        """Set the threshold by its expected precision; None: the operating point of the image."""
        self._state.finish()
        self.end_sliding()
        known = self.of(image)
        analysis = None if known is None else known.analysis
        if known is None or analysis is None:
            return
        found = analysis.with_precision(precision)
        if (found.threshold, found.parameters) != (analysis.threshold, analysis.parameters):
            changed = replace(known, analysis=found)
            self._set(image, lambda _: changed, f"threshold of atoms in {image}")

    def end_sliding(self) -> None:
        """End the slider movement: the next one is another step."""
        self._sliding = None

    def set_group_distance(self, distance_nm: float) -> None:
        """Set the maximum distance of linked atoms: of all images, or they can't be pooled."""
        self._state.finish()
        edits = [
            SetAtoms(image, atoms, replace(atoms, group_distance_nm=distance_nm))
            for image, atoms in self._of.items()
            if atoms.group_distance_nm != distance_nm
        ]
        if edits:
            self._do(*edits, description="linking distance of atoms")

    def set_species(self, image: str, species: Species | None) -> None:
        """Name atoms by the components of their intensities, or remove the names."""
        self._set(image, lambda a: a.with_species(species), f"species of atoms in {image}")

    def set_added(self, image: str, added: InjectedAtoms | None) -> None:
        """Set the result of an injection-recovery test."""
        self._set(image, lambda a: a.with_injected(added), f"atoms missed in {image}")

    def set_support(self, image: str, drawn: Iterable[tuple[np.ndarray, bool]]) -> None:
        """Correct the support by these polygons, (M, 2) in pixels (y, x), and no others.

        Each adds to the support or takes away from it; where two overlap, the later one counts.
        """
        polygons = [(np.asarray(p, float), adds) for p, adds in drawn]
        self._set(image, lambda a: a.with_support(polygons), f"support of {image}")

    def _set(
        self, image: str, change: Callable[[ImageAtoms], ImageAtoms], description: str
    ) -> None:
        self._state.finish()
        before = self._of.get(image)
        if before is not None:
            self._do(SetAtoms(image, before, change(before), description))

    def begin(self, image: str) -> ImageAtoms:
        """Return the atoms of an image to be marked by hand; there are none at first.

        Raises `CalibrationError` if the pixel size is not known.
        """
        self._state.finish()
        found = self._of.get(image)
        if found is None:
            found = self.unmarked(image, self._state.micrograph(image).calibrated())
            self.install(image, found)
        return found

    def unmarked(self, image: str, pixel_size_nm: float) -> ImageAtoms:
        """Return no atoms of an image, to be linked within the same distance as the others."""
        atoms = ImageAtoms(image, pixel_size_nm)
        other = next(iter(self._of.values()), atoms)
        return replace(atoms, group_distance_nm=other.group_distance_nm)

    def add(self, image: str, marks: Iterable[Mark]) -> list[int]:
        """Add atoms that a person points to."""
        atoms = self.begin(image)
        new: dict[int, Mark | None] = {}
        for mark in marks:
            hidden = atoms.hidden_at(mark)
            new[self.next_id(image) if hidden is None or hidden in new else hidden] = mark
        self._mark(image, new, f"add {pluralise(len(new), 'atom')}")
        return list(new)

    def move(self, image: str, marks: Mapping[int, Mark]) -> None:
        """Move atoms."""
        self._mark(image, marks, f"move {pluralise(len(marks), 'atom')}")

    def remove(self, keys: Iterable[AtomKey]) -> None:
        """Remove atoms, as one step."""
        self._change(keys, lambda mark: replace(mark, present=False), "delete")

    def set_uncertain(self, keys: Iterable[AtomKey], uncertain: bool = True) -> None:
        """Mark atoms as uncertain or certain."""
        verb = "doubt" if uncertain else "be sure of"
        self._change(keys, lambda mark: replace(mark, uncertain=uncertain), verb)

    def confirm(self, keys: Iterable[AtomKey]) -> None:
        """Confirm atoms: they stay at every threshold, and are certain."""
        self._change(keys, lambda mark: replace(mark, present=True, uncertain=False), "confirm")

    def _change(self, keys: Iterable[AtomKey], change: Callable[[Mark], Mark], verb: str) -> None:
        self._state.finish()
        by_image: dict[str, list[int]] = {}
        for image, atom_id in keys:
            by_image.setdefault(image, []).append(atom_id)
        edits = []
        for image, ids in by_image.items():
            atoms = self._of.get(image)
            now = {} if atoms is None else marks_of(atoms.everything, ids)
            after: dict[int, Mark | None] = {i: change(mark) for i, mark in now.items()}
            if after:
                edits.append(self._edit(image, after, ""))
        n = sum(len(edit.after) for edit in edits)
        if edits:
            self._do(*edits, description=f"{verb} {pluralise(n, 'atom')}")

    def _mark(self, image: str, marks: Mapping[int, Mark | None], description: str) -> None:
        self._state.finish()
        if marks and image in self._of:
            self._do(self._edit(image, marks, description))

    def _edit(self, image: str, after: Mapping[int, Mark | None], description: str) -> SetMarks:
        before = self._of[image].marks
        return SetMarks(image, {i: before.get(i) for i in after}, dict(after), description)

    # ---- selection
    @property
    def selection(self) -> frozenset[AtomKey]:
        """Keys of the selected atoms."""
        return self._selection

    def select(self, keys: Iterable[AtomKey]) -> None:
        """Select these atoms and no others."""
        selection = frozenset((image, int(i)) for image, i in keys)
        if selection != self._selection:
            self._selection = selection
            self.selection_changed.emit(selection)

    def request_focus(self, key: AtomKey) -> None:
        """Ask the image view to show an atom."""
        self.focus_requested.emit(key)

    # ---- for the session
    def install(self, image: str, atoms: ImageAtoms | None) -> None:
        """Replace the atoms of an image; the one place where atoms change. Emits no signal."""
        if atoms is None:
            self._of.pop(image, None)
        else:
            self._of[image] = atoms
            self._next_id[image] = max(self._next_id.get(image, 1), atoms.next_id)

    def notify(self, image: str) -> None:
        """Emit signals of a change; deselect atoms that were removed."""
        self.changed.emit(image)
        there = set(self.table(image)["atom_id"].tolist())
        self.select(k for k in self._selection if k[0] != image or k[1] in there)

    def put_all(self, atoms: Mapping[str, ImageAtoms], next_ids: Mapping[str, int]) -> list[str]:
        """Hold these atoms and no others; emits no signal."""
        before = list(self._of)
        self._of = dict(atoms)
        self._next_id = {
            **dict(next_ids),
            **{i: max(a.next_id, next_ids.get(i, 1)) for i, a in atoms.items()},
        }
        self._sliding = None
        self.select(())
        return list(dict.fromkeys([*before, *atoms]))

    def outdated(self, image: str) -> bool:
        """Return whether the pixel size has changed since atoms were found or marked.

        Lengths then refer to the old pixel size, and atoms need to be found again.
        """
        atoms = self._of.get(image)
        if atoms is None:
            return False
        now = self._state.micrograph(image).pixel_size_nm
        return now is not None and not math.isclose(now, atoms.pixel_size_nm, rel_tol=1e-6)

    def skip_to(self, next_ids: Mapping[str, int]) -> None:
        """Use no ids below these: they are used elsewhere."""
        for image, number in next_ids.items():
            self._next_id[image] = max(self._next_id.get(image, 1), number)

    def next_ids(self) -> dict[str, int]:
        """Return for each image an id that none of its atoms ever had."""
        return dict(self._next_id)


def marks_of(table: pd.DataFrame, atom_ids: Iterable[int]) -> dict[int, Mark]:
    """Return marks that state what the table says of these atoms."""
    rows = table[table["atom_id"].isin(list(atom_ids))]
    names = [
        "atom_id", "y_px", "x_px", "uncertain", "frame", "intensity", "amplitude", "background",
        "sigma_nm",
    ]  # fmt: skip
    return {
        i: Mark(y, x, True, uncertain, frame, *map(finite_or_none, measured))
        for i, y, x, uncertain, frame, *measured in zip(
            *(rows[name].tolist() for name in names), strict=True
        )
    }
