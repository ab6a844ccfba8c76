"""Linked selection of clusters and their atoms."""

from __future__ import annotations

from collections.abc import Callable

from qtpy.QtCore import QObject, Signal

from ....core.tables.cluster_table import Key
from ....state.atom_store import AtomKey
from ... import tasks
from ...controls.refresher import follow
from ...viewer.binding import Binding
from .jobs import holders


def unchanged(now: tuple[object, ...], before: tuple[object, ...]) -> bool:
    """Return whether the inputs of a result are the same: a value, and immutable objects."""
    return now[:1] == before[:1] and all(a is b for a, b in zip(now[1:], before[1:], strict=True))


class ClusterLinks(QObject):
    """Links between clusters of the current image and the atoms in them.

    The links are computed in a worker when atoms or outlines have changed. Selecting an atom
    outside all clusters does not change the selection of clusters.

    Signals: ``changed()`` when the links have changed.
    """

    changed = Signal()

    def __init__(self, binding: Binding, parent: QObject) -> None:
        super().__init__(parent)
        self._binding = binding
        self._state = binding.state
        self._image: str | None = None
        self._of: tuple[object, ...] = ()
        self.held: dict[int, int] = {}
        """atom_id → cluster_id of the image, of all candidates and marks."""
        self.on = True
        """Whether selections go together."""
        self._following = False
        follow(self, self._state.selection_changed, self._on_clusters)
        follow(self, self._state.atoms.selection_changed, self._on_atoms)

    def find(self) -> None:
        """Find the links in a worker if their inputs have changed."""
        image = self._state.current
        atoms = self._state.atoms.of(image)
        analysis = None if image is None else self._state.analysis(image)
        if atoms is None or analysis is None or not len(analysis.table):
            self._image, self._of = None, ()
            self._take({})
            return
        candidates = None if atoms.analysis is None else atoms.analysis.candidates
        wanted = (image, candidates, atoms.marks, analysis.outlines)
        if unchanged(wanted, self._of):
            return
        if image != self._image:
            self._take({})
        self._image, self._of = image, wanted
        tasks.start(
            self._state, holders, atoms, analysis, on_result=self._take,
            key="atoms of clusters", owner=self, about=image,
        )  # fmt: skip

    def _take(self, held: dict[int, int]) -> None:
        if held != self.held:
            self.held = held
            self.changed.emit()

    def atoms_of(self, keys: frozenset[Key]) -> frozenset[AtomKey]:
        """Return the counted atoms in some clusters of the image."""
        image = self._image
        if image is None:
            return frozenset()
        clusters = {i for name, i in keys if name == image}
        there = self._state.atoms.table(image)["atom_id"].tolist()
        return frozenset((image, i) for i in there if self.held.get(i) in clusters)

    def clusters_of(self, keys: frozenset[AtomKey]) -> frozenset[Key]:
        """Return the clusters of the image that contain some atoms."""
        image = self._image
        if image is None:
            return frozenset()
        found = (self.held.get(i) for name, i in keys if name == image)
        return frozenset((image, i) for i in found if i is not None)

    def _may_follow(self) -> bool:
        # During manual marking, Delete must remove only the selected atom.
        return self.on and not self._following and not self._binding.atoms.marking

    def _on_clusters(self, keys: frozenset[Key]) -> None:
        atoms, book = self.atoms_of(keys) if self._may_follow() else None, self._state.atoms
        # A click that selects an atom selects its cluster too; the atom stays the only one.
        if atoms and not (book.selection and book.selection <= atoms):
            self._follow(lambda: book.select(atoms))

    def _on_atoms(self, keys: frozenset[AtomKey]) -> None:
        clusters = self.clusters_of(keys) if self._may_follow() else None
        if clusters:
            self._follow(lambda: self._state.select(clusters))

    def _follow(self, select: Callable[[], None]) -> None:
        self._following = True
        try:
            select()
        finally:
            self._following = False
