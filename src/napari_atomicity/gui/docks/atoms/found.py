"""Results of an image: number, density, groups and species of its atoms."""

from __future__ import annotations

import math
from html import escape

import pandas as pd
from qtpy.QtCore import QSignalBlocker
from qtpy.QtWidgets import QHBoxLayout, QPushButton, QWidget

from ....atoms.completeness import Completeness, format_which_counts, is_lower_bound
from ....atoms.injection import InjectedAtoms
from ....atoms.marks import ImageAtoms
from ....atoms.species import Species
from ....atoms.summary import Summary
from ....core import palette
from ....core.text import pluralise
from ....pipeline.run_request import AtomRequest
from ....reporting.image_warnings import pixel_warnings
from ....reporting.plots.dispersion import GROUP_EXTENTS
from ....statistics.points.atom_groups import KINDS, kind_of
from ... import tasks
from ...controls.bars import Bar, BarChart
from ...controls.forms import STRETCH, ComboBox, fill_column, labelled, new_row, wrapped_label
from ...controls.questions import show_info
from ...controls.settings_form import form_of
from ...viewer.binding import Binding
from ...viewer.layers.atom_style import COLOURINGS
from .column_chart import ChartColumn, ColumnChart
from .jobs import describe_species, figures, format_species, inject_test_atoms, same_places

MAX_SIZES = 12
"""The last column holds groups of this size and larger."""
_COLOURING_TEXTS = {
    "confidence": "probability of an atom",
    "group": "isolated, dimer, multimer or cluster",
    "species": "species, if they were distinguished",
}


def format_found(found: Summary, by_model: bool = True) -> str:
    """Format density, nearest neighbours and manual marks; without a model of marks alone."""
    parts, counted = [], []
    if math.isfinite(found.density_per_nm2):
        frames = f" in {found.n_frames} frames" if found.n_frames > 1 else ""
        area = f"{found.area_nm2:.4g} nm²{frames}"
        density = f"{found.density_per_nm2:#.3g} atoms per nm² of support ({area})"
        parts.append(f"{density} by the probabilities" if by_model else density)
        if by_model:
            counted.append(f"{found.counted_density_per_nm2:#.3g} per nm²")
    if math.isfinite(found.nearest_nm):
        counted.append(
            f"nearest other {'detection' if by_model else 'mark'} {found.nearest_nm:.2f} nm "
            "(median), not corrected for edges"
        )
    if counted:
        above = "detections above the threshold: " if by_model else ""
        parts.append(f"{above}{', '.join(counted)}")
    if found.n_by_person:
        parts.append(f"{found.n_by_person} marked by hand")
    if found.n_uncertain:
        parts.append(f"{found.n_uncertain} uncertain")
    left_out = "left out of density, distances and groups"
    if found.n_on_clusters:
        n = pluralise(found.n_on_clusters, "detection")
        parts.append(f"{n} on clusters, or on bumps of the support as bright, {left_out}")
    if found.n_off_support:
        words = f"{found.n_off_support} off the support, {left_out}"
        if found.n_off_support > found.n_atoms / 2:
            words += " (most of them: correct the support if that is no vacuum)"
        parts.append(words)
    return "; ".join(parts) + "." if parts else ""


def format_missed(census: Completeness, density_per_nm2: float | None) -> str:
    """Format the completeness, and the density corrected for missed atoms.

    ``density_per_nm2`` is the density that stands above; None if it is not that of the model.
    """
    share = f"{100 * census.share:.0f} % ({100 * census.low:.0f}–{100 * census.high:.0f} %)"
    if not math.isfinite(census.density_per_nm2):
        return f"Of atoms like those of the first frame, {share} are detected."
    density = (
        f"{census.density_per_nm2:.2g} ({census.density_low:.2g}–{census.density_high:.2g}) "
        "atoms per nm² outside clusters"
    )
    counts = (
        ""
        if density_per_nm2 is None
        else format_which_counts(
            census.share, is_lower_bound(census.share, census.density_low, density_per_nm2)
        )
    )
    found = f"Of atoms like these, {share} are detected{counts and f': {counts}'}."
    return (
        f"{found} Of the atoms of the model, corrected for missed ones and false detections: "
        f"{density}. Marks by hand do not change it."
    )


def kind_bars(kinds: pd.DataFrame) -> list[Bar]:
    """Return bars of the numbers of detections that are isolated or in groups of each kind.

    The fractions, which *Dispersion* estimates from all probabilities, are not among them.
    """
    colours, symbols = palette.colours(KINDS), palette.symbols(KINDS)
    return [
        Bar(
            row.kind,
            row.share_of_atoms,
            str(int(row.atoms)),
            colours[row.kind],
            symbols[row.kind],
            tooltip=f"{row.atoms!s} detections above the threshold in {row.groups!s} groups of "
            f"{_members(str(row.kind))}; Dispersion estimates the fractions of the atoms",
        )
        for row in kinds.itertuples()
    ]


def _members(kind: str) -> str:
    least = list(KINDS.values())
    at = least.index(KINDS[kind])
    if at == len(least) - 1:
        return f"{least[at]} atoms or more"
    last = least[at + 1] - 1
    return f"{least[at]} to {last} atoms" if last > least[at] else f"{last}"


def size_columns(sizes: pd.DataFrame) -> list[ChartColumn]:
    """Return columns of the number of groups of each size, up to `MAX_SIZES` or more."""
    colours = palette.colours(KINDS)
    last = min(int(sizes["size"].max()), MAX_SIZES) if len(sizes) else 0
    columns = []
    for size in range(1, last + 1):
        more = size == MAX_SIZES
        rows = sizes[sizes["size"] >= size] if more else sizes[sizes["size"] == size]
        n = int(rows["groups"].sum())
        label = f"{size}+" if more else str(size)
        text = f"{pluralise(n, 'group')} of {label} atom{'s' * (size != 1)}: click to select"
        columns.append(ChartColumn(float(n), colours[kind_of([size])[0]], label, text))
    return columns


def extent_columns(extents: pd.DataFrame) -> list[ChartColumn]:
    """Return columns of the number of groups by extent, from `extent_data`."""
    colour = palette.colours(KINDS)["multimer"]
    columns = []
    for row in extents.itertuples():
        low, high, n = float(row.low_nm), float(row.high_nm), int(row.groups)
        text = f"{pluralise(n, 'group')} of {low:.2g} to {high:.2g} nm: click to select"
        columns.append(ChartColumn(float(n), colour, f"{low:.2g}–{high:.2g}", text))
    return columns


class FoundPart(QWidget):
    """Results of the current image, computed in a worker."""

    def __init__(self, binding: Binding, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._binding = binding
        self._book = binding.state.atoms
        self._atoms: ImageAtoms | None = None
        self.found: Summary | None = None
        self.words = wrapped_label("What was found")
        self.words.setToolTip(
            "The density adds up the probabilities of all candidates, as in the dock Dispersion, "
            "which gives intervals and tests against randomness. All other values are of the "
            "atoms above the threshold."
        )
        self.kinds_label = wrapped_label("What the bars count")
        self.kinds = BarChart()
        self.kinds.setAccessibleName("Atoms alone and in groups")
        self.sizes = ColumnChart(4.0, counts=True)
        self.sizes.setAccessibleName("Groups by number of atoms")
        self.sizes.setToolTip(
            "Number of groups of each size, on a square-root scale. Click a column to select the "
            "atoms of its groups."
        )
        self.sizes.clicked.connect(self._select_size)
        self.extents = ColumnChart(4.0, counts=True)
        self.extents.setAccessibleName("Groups by extent in nm")
        self.extents.setToolTip(
            "Number of groups of two or more atoms by their extent in nm: the largest distance "
            "between two atoms, centre to centre. Square-root scale; the numbers are the lower "
            "ends. Click a column to select the atoms of its groups."
        )
        self.extents.clicked.connect(self._select_extent)
        self.extents_label = wrapped_label("Extents of groups")
        self.missed_words = wrapped_label("Atoms that are missed")
        self.species_words = wrapped_label("Species")
        fill_column(
            self, self.words, self.kinds_label, self.kinds, self.sizes, self.extents_label,
            self.extents, self._new_form(), self._new_buttons(), self.missed_words,
            self.species_words,
        )  # fmt: skip

    def _new_form(self) -> QWidget:
        settings = form_of(AtomRequest, "group_distance_nm")
        self.distance = settings.controls["group_distance_nm"]
        self.distance.valueChanged.connect(self._on_distance)
        self.colouring = ComboBox()
        for name in COLOURINGS:
            self.colouring.addItem(name, name)
        self.colouring.currentIndexChanged.connect(self._on_colouring)
        self.legend = wrapped_label("Colours of the rings")
        meanings = "; ".join(f"<i>{name}</i>: {text}" for name, text in _COLOURING_TEXTS.items())
        labelled(
            settings.form,
            "Coloured by",
            self.colouring,
            f"Quantity shown by the colour of the rings. {meanings}. Default: confidence.",
        )
        settings.form.addRow(self.legend)
        return settings

    def _new_buttons(self) -> QHBoxLayout:
        self.species_button = QPushButton("Distinguish species")
        self.species_button.setToolTip(
            "Test whether the intensities of the isolated atoms belong to one metal or to several: "
            "fit a mixture with the number of components chosen by the Bayesian information "
            "criterion."
        )
        self.species_button.clicked.connect(self._describe_species)
        self.missed_button = QPushButton("How many are missed?")
        self.missed_button.setToolTip(
            "Injection-recovery test: add atoms of many heights to the image and detect them. "
            "Estimates the completeness at this threshold and the corrected density. Takes about "
            "as long as finding the atoms, and longer if it needs more rounds."
        )
        self.missed_button.clicked.connect(self._describe_missed)
        return new_row(self.missed_button, self.species_button, STRETCH)

    # ---- changes of the state
    def show_atoms(self, atoms: ImageAtoms | None) -> None:
        """Show the results of an image; hide the part without results."""
        self.setVisible(atoms is not None)
        self._show_colouring(atoms)
        if atoms is self._atoms:
            return
        if atoms is None or self._atoms is None or atoms.image != self._atoms.image:
            self._clear()  # do not show results of another image
        self._atoms = atoms
        if atoms is None:
            return
        with QSignalBlocker(self.distance):
            self.distance.setValue(atoms.group_distance_nm)
        self.species_words.setText(format_species(atoms))
        self.species_words.setVisible(atoms.species is not None)
        for button in (self.species_button, self.missed_button):
            button.setEnabled(atoms.analysis is not None)
        tasks.start(
            self._binding.state, figures, atoms, on_result=self._take, key="figures of atoms",
            owner=self, about=atoms.image,
        )  # fmt: skip

    def _clear(self) -> None:
        self.found = None
        self.words.clear()
        self._show_missed(None)
        self.kinds.bars = ()
        self.sizes.show_columns(())
        self._show_extents(pd.DataFrame({"low_nm": [], "high_nm": [], "groups": []}))

    def _take(self, found: tuple[ImageAtoms, Summary, pd.DataFrame, Completeness | None]) -> None:
        atoms, self.found, extents, census = found
        if atoms is not self._atoms:
            return
        self._show_missed(census)
        by_model = atoms.analysis is not None
        counted = "Detections above the threshold" if by_model else "Marks"
        self.kinds_label.setText(
            f"{counted} on the support, in groups (fractions of the atoms and distances with "
            "intervals: dock Dispersion):"
        )
        known = {} if atoms.analysis is None else atoms.analysis.parameters
        # Without any mark nobody may have looked yet: Dispersion knows whether there are none.
        is_known = by_model or self.found.n_atoms > 0
        found_words = format_found(self.found, by_model) if is_known else ""
        self.words.setText(" ".join(filter(None, [found_words, *pixel_warnings(known)])))
        self.words.setVisible(bool(self.words.text()))
        self.kinds.bars = kind_bars(self.found.kinds) if self.found.n_atoms else ()
        self.sizes.show_columns(size_columns(self.found.sizes))
        for widget in (self.kinds_label, self.kinds):
            widget.setVisible(self.found.n_atoms > 0)
        self.sizes.setVisible(len(self.sizes.columns) > 1)  # no information if all are isolated

        self._show_extents(extents)

    def _show_extents(self, extents: pd.DataFrame) -> None:
        self._extents = extents
        self.extents.show_columns(extent_columns(extents))
        n = int(extents["groups"].sum())
        self.extents_label.setText(f"Extent in nm of {pluralise(n, 'group')} of 2 or more atoms:")
        for widget in (self.extents, self.extents_label):
            widget.setVisible(n > 0)

    def _show_missed(self, census: Completeness | None) -> None:
        is_of_model = self._atoms is not None and not self._atoms.is_decided
        density = self.found.density_per_nm2 if self.found and is_of_model else None
        self.missed_words.setText("" if census is None else format_missed(census, density))
        self.missed_words.setVisible(census is not None)

    def _show_colouring(self, atoms: ImageAtoms | None) -> None:
        view = self._binding.atoms
        with QSignalBlocker(self.colouring):
            self.colouring.setCurrentIndex(self.colouring.findData(view.colour_by))
        shown = view.legend(None if atoms is None else atoms.image)
        self.legend.setText(
            "   ".join(f'<span style="color:{c}">●</span>&nbsp;{escape(w)}' for w, c in shown)
        )

    # ---- actions of the user
    def _on_distance(self, distance_nm: float) -> None:
        if self._atoms is not None:
            done = self._binding.edits.attempt(lambda: self._book.set_group_distance(distance_nm))
            if not done:
                with QSignalBlocker(self.distance):
                    self.distance.setValue(self._atoms.group_distance_nm)

    def _on_colouring(self, index: int) -> None:
        self._binding.atoms.colour_by = str(self.colouring.currentData())

    def _select_size(self, index: int) -> None:
        """Select the atoms of the groups in a column."""
        if self._atoms is None:
            return
        table, size = self._atoms.on_support, index + 1
        of_size = table["group_size"] >= size if size == MAX_SIZES else table["group_size"] == size
        image = self._atoms.image
        self._book.select((image, i) for i in table.loc[of_size, "atom_id"].tolist())

    def _select_extent(self, index: int) -> None:
        """Select the atoms of the groups in a column of extents."""
        if self._atoms is None:
            return
        image, table = self._atoms.image, self._atoms.on_support
        inside = GROUP_EXTENTS.members(table, self._extents) == index
        self._book.select((image, i) for i in table.loc[inside, "atom_id"].tolist())

    def _describe_species(self) -> None:
        atoms = self._atoms
        if atoms is None:
            return

        def found(species: Species) -> None:
            if self._book.of(atoms.image) is not atoms:
                show_info("The atoms have changed: distinguish the species again.")
                return
            self._book.set_species(atoms.image, species)
            if species.n_components > 1:
                self._binding.atoms.colour_by = "species"

        tasks.start(
            self._binding.state, describe_species, atoms, message="Distinguishing species",
            on_result=found, key="species of atoms", owner=self, about=atoms.image,
        )  # fmt: skip

    def _describe_missed(self) -> None:
        atoms = self._atoms
        if atoms is None or atoms.analysis is None:
            return
        analysis = atoms.analysis
        state = self._binding.state

        def found(added: InjectedAtoms | None) -> None:
            now = self._book.of(atoms.image)
            if now is None or now.analysis is None or not same_places(
                now.analysis.candidates, analysis.candidates
            ):  # fmt: skip
                show_info("The atoms were detected again: repeat the estimate of missed atoms.")
            elif added is None:
                show_info(
                    "Missed atoms cannot be estimated: too few atoms, or no room to inject any."
                )
            else:
                self._book.set_added(atoms.image, added)

        tasks.start(
            state, inject_test_atoms, atoms, state.analysis(atoms.image),
            message="Injecting atoms into the image", on_result=found, key="atoms added",
            owner=self, about=atoms.image,
        )  # fmt: skip
