"""The section *Compare samples* of the dock Dispersion."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial

from ....atoms.dispersion import DispersionResult, DispersionSettings, compute_dispersions
from ....atoms.marks import ImageAtoms
from ....core.acquisition_session import Sample
from ....core.micrograph import Micrograph
from ....core.progress import Progress, Stop
from ....io.provenance import Outcome
from ....statistics.samples.comparison import SampleComparison
from ....statistics.samples.run_evidence import compare_atoms
from ...controls.chart import load_matplotlib
from ...controls.settings_form import SettingsForm
from ...panels.compare import ComparePart
from ...viewer.binding import Binding


def compare_dispersions(
    images: Mapping[str, ImageAtoms],
    settings: DispersionSettings,
    micrographs: Mapping[str, Micrograph],
    known: dict[str, DispersionResult],
    outcomes: Sequence[Outcome],
    samples: Sequence[Sample],
    reference: str,
    progress: Progress | None = None,
    stop: Stop | None = None,
) -> SampleComparison:
    """Compare samples by their single atoms, in a worker; compute what is missing."""
    load_matplotlib()
    found = compute_dispersions(images, settings, micrographs, known, progress=progress, stop=stop)
    return compare_atoms(found.rows(), outcomes, samples, reference)


class CompareAtoms(ComparePart):
    """Samples compared by their single atoms."""

    figure = "atoms"
    nothing = "no atoms have been found"

    def __init__(
        self, binding: Binding, form: SettingsForm, known: dict[str, DispersionResult]
    ) -> None:
        super().__init__(binding)
        self._form, self._known = form, known
        form.changed.connect(self.invalidate)

    def images(self) -> list[str]:
        atoms = self.state.atoms
        return [i for i in self.state.images if atoms.of(i) is not None and not atoms.outdated(i)]

    def data(self, images: list[str]) -> tuple[object, ...]:
        return (*(self.state.atoms.of(image) for image in images), self._form.settings())

    def job(self) -> Callable[..., SampleComparison]:
        state = self.state
        atoms = {i: found for i in self.images() if (found := state.atoms.of(i)) is not None}
        unknown = {i: state.micrograph(i) for i, found in atoms.items() if found.analysis is None}
        settings = self._form.settings()
        return partial(compare_dispersions, atoms, settings, unknown, self._known)
