"""Images and analyses of one window, the project that keeps them, and who edits them.

What all parts of `window_state.WindowState` share.
"""

from __future__ import annotations

import getpass
from collections.abc import Iterable, Mapping
from dataclasses import replace

import pandas as pd
from psygnal import Signal

from ..atoms.marks import ImageAtoms
from ..core.errors import AtomicityError
from ..core.micrograph import Micrograph
from ..core.settings import GROUP_DISTANCE_NM
from ..core.tables.cluster_table import Key
from ..core.tables.table_cache import Columns
from ..models.analysis import Analysis
from ..project import Project
from .analysis_store import AnalysisStore, blinded, with_micrograph
from .chunked_steps import ChunkedSteps
from .cluster_rows import remove_rows
from .edits import ImageContents, Relabel


def user_name() -> str:
    """Return the name of the user of this computer."""
    try:
        return getpass.getuser()
    except (OSError, KeyError):  # a container without a name for its user
        return "somebody"


# ---- what a blind annotator sees: neither predictions nor the labels of others
class BlindMode:
    """Holds the analyses and atoms that blind mode hides."""

    def __init__(self) -> None:
        self.hidden: dict[str, Analysis] | None = None
        self._hidden_atoms: dict[str, ImageAtoms] = {}

    @property
    def active(self) -> bool:
        """Whether predictions and the labels of others are hidden."""
        return self.hidden is not None

    def start(
        self,
        project: Project,  # holds what the annotator has labelled and marked blind before
        annotator: str,
        analyses: dict[str, Analysis],
        atoms: dict[str, ImageAtoms],
    ) -> tuple[dict[str, Analysis], dict[str, ImageAtoms]]:
        """Hide analyses and atoms; return those that the annotator sees."""
        labels, removed = project.blind_labels(annotator)
        shown = {
            n: blinded(remove_rows(a, removed[n]) if n in removed else a, labels.get(n, {}))
            for n, a in analyses.items()
        }
        marks = project.atoms.blind_marks(annotator)
        unmarked = {n: ImageAtoms(n, a.pixel_size_nm) for n, a in atoms.items()}
        self.hidden, self._hidden_atoms = analyses, atoms
        # The area that counts belongs to the image, and the linking distance to all images: both
        # are the same for everyone.
        linked = next((a.group_distance_nm for a in atoms.values()), GROUP_DISTANCE_NM)
        own = {
            n: replace(a, hidden=atoms.get(n), group_distance_nm=linked)
            for n, a in (unmarked | marks).items()
        }
        return shown, own

    def add(
        self,
        project: Project,
        annotator: str,
        back: Mapping[str, ImageContents],
    ) -> dict[str, ImageContents]:
        """Hide what there is of more images, too; return what the annotator sees of these."""
        analyses = {n: one.analysis for n, one in back.items() if one.analysis is not None}
        atoms = {n: one.atoms for n, one in back.items() if one.atoms is not None}
        everything = {**(self.hidden or {}), **analyses}, {**self._hidden_atoms, **atoms}
        shown, own = self.start(project, annotator, *everything)
        return {n: replace(one, analysis=shown.get(n), atoms=own.get(n)) for n, one in back.items()}

    def stop(self, project: Project) -> tuple[dict[str, Analysis], dict[str, ImageAtoms]]:
        """Return what was hidden, with the labels that count now."""
        hidden, atoms = self.hidden or {}, self._hidden_atoms
        self.clear()
        labels = project.labels()
        return {n: with_labels(a, labels.get(n, {})) for n, a in hidden.items()}, atoms

    def change_annotator(
        self, project: Project, annotator: str
    ) -> tuple[dict[str, Analysis], dict[str, ImageAtoms]]:
        """Return what another blind annotator sees."""
        return self.start(project, annotator, *self.stop(project))

    def clear(self) -> None:
        """Leave blind mode and forget what was hidden."""
        self.hidden, self._hidden_atoms = None, {}

    def forget(self, image: str) -> None:
        """Forget what is hidden of an image."""
        self._hidden_atoms.pop(image, None)
        if self.hidden is not None:
            self.hidden.pop(image, None)

    def set_micrograph(self, image: str, micrograph: Micrograph) -> None:
        """Replace the micrograph of a hidden analysis."""
        if self.hidden is not None and image in self.hidden:
            self.hidden[image] = with_micrograph(self.hidden[image], micrograph)


def with_labels(analysis: Analysis, labels: Mapping[int, str]) -> Analysis:
    """Return the analysis with these labels of people, and no others; itself if they are equal."""
    now = analysis.table.set_index("cluster_id")["label_corrected"]
    new = {int(i): labels.get(i, "") for i in now.index if labels.get(i, "") != now[i]}
    changed = Relabel(analysis.micrograph.name, {}, new).apply(analysis) if new else analysis
    assert changed is not None
    return changed


class WindowImages:
    """Images of one window with their analyses, and which clusters are selected.

    Signals: ``changed(images, columns, rows)``, once after each step, undo, new result or merge:
    the cluster tables of these images (a tuple of names; empty if only atoms or the log of
    corrections have changed), in these columns (a frozenset of names; None: any) and rows (a
    frozenset of keys; None: any); or with `SESSION_COLUMNS` and no rows, what a person entered of
    the acquisition sessions of these images.
    ``images_changed()``; ``selection_changed(frozenset of keys)``.
    """

    changed = Signal(tuple, object, object)
    images_changed = Signal()
    selection_changed = Signal(frozenset)

    def __init__(self) -> None:
        self._micrographs: dict[str, Micrograph] = {}
        self._current: str | None = None
        self._announced: str | None = None  # the image that `current_changed` has told last
        self._selection: frozenset[Key] = frozenset()
        self._project: Project | None = None
        self._annotator = user_name()
        self._blind = BlindMode()
        self.store = AnalysisStore()
        self.steps = ChunkedSteps()

    # ---- project
    @property
    def project(self) -> Project | None:
        """The project in which all edits are saved; None: they are in memory only."""
        return self._project

    @property
    def read_only(self) -> bool:
        """Whether nothing can be changed, because another window has the project open."""
        return self._project is not None and self._project.read_only

    @property
    def annotator(self) -> str:
        """Name of the person who corrects."""
        return self._annotator

    @property
    def blind(self) -> bool:
        """Whether predictions and the labels of others are hidden."""
        return self._blind.active

    # ---- images and analyses
    @property
    def images(self) -> list[str]:
        """Names of the images, in order."""
        return list(self._micrographs)

    def micrograph(self, image: str) -> Micrograph:
        """Return the micrograph of an image."""
        return self._micrographs[image]

    def replace_micrograph(self, micrograph: Micrograph) -> None:
        """Replace the micrograph of an image by one of the same name; emits no signal."""
        self._micrographs[micrograph.name] = micrograph

    def remove_micrograph(self, image: str) -> None:
        """List an image no more; if it is current, a neighbour takes its place. Emits no signal."""
        images = self.images
        if self._current == image and image in images:
            i = images.index(image)
            self._current = next(iter((*images[i + 1 :], *reversed(images[:i]))), None)
        self._micrographs.pop(image, None)

    def sort_images(self) -> None:
        """Put the images of the project in its order, before others; emits no signal."""
        names = [] if self._project is None else self._project.names
        order = [name for name in names if name in self._micrographs]
        self._micrographs = {n: self._micrographs[n] for n in (*order, *self._micrographs)}

    def analysis(self, image: str) -> Analysis | None:
        """Return the analysis of an image, if there is one."""
        return self.store.get(image)

    def generation(self, image: str) -> int:
        """Return a number that grows with every change of an image's analysis."""
        return self.store.generation(image)

    def table(self, image: str | None = None) -> pd.DataFrame:
        """Return the cluster table of one image, or of all."""
        if image is not None:
            return self.store.table(image)
        return self.store.joined_table(self._micrographs)

    def columns(self, image: str) -> Columns | None:
        """Return the cluster table of an image as read-only arrays by name."""
        return self.store.columns(image)

    # ---- steps
    def finish(self) -> None:
        """Run the step that is under way to its end."""
        self.steps.finish()

    @property
    def busy(self) -> bool:
        """Whether a step is under way."""
        return self.steps.busy

    def ensure_writable(self) -> None:
        """Finish the step under way; raise `AtomicityError` if nothing can be changed."""
        self.finish()
        if self.read_only:
            raise AtomicityError(
                "this project is read-only: it is open in another window, or may not be written",
                None if self._project is None else self._project.path,
                "Close the other window, or work on a copy",
            )

    # ---- selection
    @property
    def selection(self) -> frozenset[Key]:
        """Keys of the selected clusters."""
        return self._selection

    def select(self, keys: Iterable[Key]) -> None:
        """Select these clusters and no others."""
        selection = frozenset((image, int(i)) for image, i in keys)
        if selection != self._selection:
            self._selection = selection
            self.selection_changed.emit(selection)
