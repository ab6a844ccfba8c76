"""What a blind annotator sees: neither predictions nor the labels of others."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from ..atoms.marks import ImageAtoms
from ..core.micrograph import Micrograph
from ..models.analysis import Analysis
from ..project import Project
from .analysis_updates import blinded
from .cluster_rows import remove_rows
from .edits import Relabel


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
        return shown, {**unmarked, **marks}

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
            self.hidden[image] = replace(self.hidden[image], micrograph=micrograph)


def with_labels(analysis: Analysis, labels: Mapping[int, str]) -> Analysis:
    """Return the analysis with these labels of people, and no others; itself if they are equal."""
    now = analysis.table.set_index("cluster_id")["label_corrected"]
    new = {int(i): labels.get(i, "") for i in now.index if labels.get(i, "") != now[i]}
    changed = Relabel(analysis.micrograph.name, {}, new).apply(analysis) if new else analysis
    assert changed is not None
    return changed
