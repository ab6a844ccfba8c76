"""The dock Embedding: clusters in a map of the features of the network (UMAP)."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.colors import to_rgba
from qtpy.QtCore import QObject, QSignalBlocker, Qt, Signal
from qtpy.QtWidgets import QHBoxLayout, QLabel, QPushButton, QSizePolicy

from ....core.palette import colours
from ....core.progress import Progress, Stop, report
from ....core.tables.cluster_table import MODEL_MAP, SESSION_MAP, Key
from ....core.text import pluralise
from ....models import embedding as umap
from ....models.analysis import Analysis
from ....pipeline.analysis import embed_clusters
from ....pipeline.session_map import (
    MIN_CLUSTERS,
    count_unplaced,
    extend_session_map,
    fit_session_map,
)
from ....reporting.plots.base import Look
from ....reporting.plots.cluster_map import map_data
from ....reporting.plots.registry import PLOTS, save_plot
from ....state.edits import SetAnalysis
from ....state.window_state import WindowState
from ...controls.forms import ComboBox, new_row
from ...controls.refresher import single_shot
from ...panels.dock import Dock
from ...panels.forms import may_analyse
from ...scatter.legend import ColourScale, Legend
from ...scatter.looks import (
    COLOURINGS,
    MISSING_RGBA,
    NOT_IN_RATIOS,
    Looks,
    by_label,
    columns_of,
    format_cluster,
    hex_colours,
    looks_of,
    names_of_map,
    shapes_of,
)
from ...scatter.mouse import (
    ADD,
    LASSO,
    PAN,
    RECTANGLE,
    REMOVE,
    REPLACE,
    patch_of,
    selection_mode,
    tip,
)
from ...scatter.rows import RowIndex, earlier_places
from ...scatter.save import choose_and_save, map_drawing
from ...scatter.scatter import Scatter
from ...tasks import start
from ...viewer.models import classifier_of

# ---- positions of clusters in the map, and the reference points of the map

logger = logging.getLogger(__name__)


# ---- functions that run in a worker
def place_clusters(
    analyses: Sequence[Analysis], progress: Progress | None = None, stop: Stop | None = None
) -> list[Analysis]:
    """Place the clusters of each analysis in the map of its model."""
    placed = []
    for i, analysis in enumerate(analyses):
        report(progress, i, len(analyses), f"Placing {analysis.micrograph.name} in the UMAP")
        placed.append(embed_clusters(analysis, classifier_of(analysis), stop))
    return placed


def _reference_map(analysis: Analysis) -> pd.DataFrame | None:
    """Return the reference points of the map, or None if the model has none."""
    try:
        return umap.reference_map(classifier_of(analysis))
    except Exception as error:
        logger.info("no reference map: %s", error)
        return None


class MapPositions(QObject):
    """Finds positions of clusters that have none, and the reference points of the map.

    Signals: ``placed``, when the search for positions has ended; ``fitted``, when a map of the
    session has been fitted; ``reference_changed``, when `reference` is another table.
    """

    placed = Signal()
    fitted = Signal()
    reference_changed = Signal()

    def __init__(self, state: WindowState, parent: QObject) -> None:
        super().__init__(parent)
        self.reference: pd.DataFrame | None = None
        self._state = state
        self._model_id = ""
        # Image → analysis and number of clusters without a position.
        self._unplaced: dict[str, tuple[Analysis, int]] = {}
        self._coordinates = MODEL_MAP

    def count_unplaced(self, coordinates: tuple[str, str]) -> int:
        """Count the clusters without a position in a map; each analysis is counted once."""
        known = self._unplaced if coordinates == self._coordinates else {}
        self._coordinates, self._unplaced = coordinates, {}
        models = set()  # of the map
        for image in self._state.images:
            analysis, columns = self._state.analysis(image), self._state.columns(image)
            if analysis is None or columns is None:
                continue
            before = known.get(image)
            if before is None or before[0] is not analysis:
                before = analysis, count_unplaced(analysis, columns, coordinates)
            self._unplaced[image] = before
            x = columns.get(coordinates[0])
            if coordinates == MODEL_MAP or (x is not None and np.isfinite(x).any()):
                models.add(analysis.model_id)
        return sum(n for a, n in self._unplaced.values() if a.model_id in models)

    def place(self, coordinates: tuple[str, str]) -> bool:
        """Place the clusters without a position in a worker; return whether there are any."""
        if not self.count_unplaced(coordinates):
            return False
        if coordinates == SESSION_MAP:
            function, analyses = extend_session_map, [a for a, _ in self._unplaced.values()]
        else:
            function, analyses = place_clusters, [a for a, n in self._unplaced.values() if n]
        task = start(
            self._state,
            function,
            analyses,
            message="Placing the clusters in the map",
            on_result=self._add_placed,
            key="umap",
            owner=self,
        )
        task.finished.connect(self.placed)
        return True

    def _add_placed(self, placed: list[Analysis]) -> None:
        for result in placed:
            now = self._state.analysis(result.micrograph.name)
            # Positions in the map of another model are of no use.
            if now is not None and now.model_id == result.model_id:
                self._state.clusters.add_predictions(result)

    def fit(self) -> None:
        """Fit a map to all classified clusters of the session in a worker."""
        analyses = [self._state.analysis(image) for image in self._state.images]
        start(
            self._state,
            fit_session_map,
            [a for a in analyses if a is not None],
            message="Fitting a map of these clusters",
            on_result=self._set_fitted,
            key="umap",
            owner=self,
        )

    def _set_fitted(self, fitted: list[Analysis]) -> None:
        self._state.clusters.replace_all_predictions(fitted, "new map")
        self.fitted.emit()

    def follow_model(self) -> None:
        """Load the reference points if the first classified image has another model."""
        analyses = (self._state.analysis(image) for image in self._state.images)
        analysis = next((a for a in analyses if a is not None and a.embedding.size), None)
        model_id = "" if analysis is None else analysis.model_id
        if not model_id or model_id == self._model_id:
            return
        self._model_id = model_id
        start(
            self._state,
            _reference_map,
            analysis,
            on_result=self._set_reference,
            key="reference map",
            owner=self,
        )

    def _set_reference(self, reference: pd.DataFrame | None) -> None:
        self.reference = None if reference is None or not len(reference) else reference
        self.reference_changed.emit()


MAP_OF_MODEL, MAP_OF_SESSION = "model map", "session map"
_NAMES_MS = 300


class Embedding(Dock):
    """Scatter plot of all clusters, linked to the selection of the window."""

    follows = ("changed", "images_changed", "project_changed", "selection_changed")
    delay_ms = 30
    scrolls = False

    def build(self) -> None:
        self._table = self.state.table()
        self._rows = RowIndex(self._table)
        self._looks: Looks = by_label(self._table, ())
        self._places = np.empty((0, 2))
        self._before = np.empty((0, 2))
        self._shows_reference = False
        self._session_map_is_new = False
        self._stored_look: dict[str, Any] | None = None
        self._map = MapPositions(self.state, self)
        self._map.placed.connect(self._on_placed)
        self._map.fitted.connect(self._show_session_map)
        self._map.reference_changed.connect(self._show_reference)
        self._name_timer = single_shot(self._name_islands, _NAMES_MS, owner=self)
        self._build_form()
        self.binding.projects.remember("map", self._look, self._restore_look)

    # ---- the form
    def _build_form(self) -> None:
        top, tools = self._new_colour_row(), self._new_tools()
        self.scatter = Scatter()
        self.scatter.set_tooltip(self._tip)
        self.scatter.picked.connect(self._on_selected)
        self.scatter.activated.connect(self._on_activated)
        self.scatter.theme_changed.connect(self._on_theme)
        self.fit_button.clicked.connect(self.scatter.fit)
        self.legend = Legend()
        self.legend.setToolTip(NOT_IN_RATIOS)
        self.legend.clicked.connect(self._on_legend)
        self.place_button = QPushButton()
        self.place_button.setToolTip(
            "Compute their positions in the map from the nearest clusters that are in it."
        )
        self.place_button.clicked.connect(self.place)
        self.message = QLabel()
        self.message.setWordWrap(True)

        self.setSizePolicy(QSizePolicy.Policy.Expanding, QSizePolicy.Policy.Expanding)
        layout = self.content
        layout.setContentsMargins(6, 6, 6, 6)
        layout.addLayout(top)
        layout.addLayout(tools)
        layout.addWidget(self.scatter, 1)
        layout.addWidget(self.legend)
        layout.addWidget(self.message)
        layout.addWidget(self.place_button)

    def _new_colour_row(self) -> QHBoxLayout:
        self.colour_combo = ComboBox()
        self.colour_combo.setToolTip(
            "Quantity shown by the colour of the points: one of the first, or any column of the "
            "cluster table. Symbols always show the label. Default: label."
        )
        self.colour_combo.setAccessibleName("Colour by")
        self._offer_colours()
        self.colour_combo.currentTextChanged.connect(self._restyle)
        label = QLabel("Colour by")
        label.setBuddy(self.colour_combo)
        self.before_button = QPushButton("Before")
        self.before_button.setCheckable(True)
        self.before_button.setToolTip(
            "Show the positions before the last adaptation or classification, with the current "
            "colours. Default: off."
        )
        self.before_button.toggled.connect(self._on_before)
        self.map_combo = ComboBox()
        self.map_combo.addItems([MAP_OF_MODEL, MAP_OF_SESSION])
        self.map_combo.setAccessibleName("Map")
        self.map_combo.setToolTip(
            "Map of the reference clusters of the model, or of the clusters of this session "
            "(New map). Default: model map."
        )
        self.map_combo.currentIndexChanged.connect(self._on_map)
        return new_row(label, (self.colour_combo, 1), self.map_combo, self.before_button)

    def _new_tools(self) -> QHBoxLayout:
        self.lasso_button = QPushButton("Lasso")
        self.lasso_button.setToolTip(
            "Draw around points to select them (or drag with Shift). Shift adds to the selection, "
            "Ctrl removes from it, Escape cancels. Default: off, dragging moves the map."
        )
        self.rectangle_button = QPushButton("Rectangle")
        self.rectangle_button.setToolTip(
            "Drag a rectangle over points to select them. Shift adds to the selection, Ctrl "
            "removes from it, Escape cancels. Default: off, dragging moves the map."
        )
        self.fit_button = QPushButton("Fit")
        self.fit_button.setToolTip("Show the whole map. The wheel zooms.")
        self.save_button = QPushButton("Save…")
        self.save_button.setToolTip(
            "Save the map in these colours: a picture (PNG), a drawing (SVG, PDF) or its data "
            "(CSV)."
        )
        self.save_button.clicked.connect(self.save)
        self.new_map_button = QPushButton("New map")
        self.new_map_button.setToolTip(
            "New map of these clusters: fit a UMAP to the clusters of all images, next to the map "
            "of the model. Of several models, it shows the one with most clusters. 10,000 clusters "
            "take about 45 s."
        )
        self.new_map_button.clicked.connect(self.fit_map)
        for button in (self.lasso_button, self.rectangle_button):
            button.setCheckable(True)
            button.toggled.connect(self._on_tool)
        row = QHBoxLayout()
        for button in (
            self.lasso_button, self.rectangle_button, self.fit_button, self.save_button,
            self.new_map_button,
        ):  # fmt: skip
            row.addWidget(button)
        row.addStretch(1)
        return row

    def _offer_colours(self) -> None:
        """Offer the colourings and the columns of the table."""
        combo, wanted = self.colour_combo, [*COLOURINGS, *columns_of(self._table)]
        if [combo.itemText(i) for i in range(combo.count()) if combo.itemText(i)] == wanted:
            return
        chosen = combo.currentText()
        with QSignalBlocker(combo):
            combo.clear()
            combo.addItems(wanted)
            combo.insertSeparator(len(COLOURINGS))
            # The separator has no text: nothing chosen yet must not be found there.
            combo.setCurrentIndex(max(0, combo.findText(chosen)) if chosen else 0)

    def _look(self) -> dict[str, Any]:
        """Return the colouring and the view, for the project."""
        if self._stored_look is not None:
            return self._stored_look
        view = list(self.scatter.view) if self.scatter.user_moved else None
        return {
            "colour": self.colour_combo.currentText(),
            "map": self.map_combo.currentText(),
            "view": view,
        }

    def _restore_look(self, look: dict[str, Any]) -> None:
        """Show the colouring and the view of a project, with the next refresh if one is due.

        The project may come from others: what is no look raises an error here.
        """
        view = look.get("view")
        left, bottom, width, height = map(float, view) if view else (0.0, 0.0, 0.0, 0.0)
        self._stored_look = {**look, "view": (left, bottom, width, height) if view else None}
        if not self.outdated():
            self._show_saved_look()

    def _show_saved_look(self) -> None:
        look, self._stored_look = self._stored_look, None
        if look is None:
            return
        colour = self.colour_combo.findText(str(look.get("colour", "")))
        if colour >= 0:
            self.colour_combo.setCurrentIndex(colour)
        if self._has_session_map() and look.get("map") == MAP_OF_SESSION:
            self.map_combo.setCurrentText(MAP_OF_SESSION)
        if look.get("view"):
            self.scatter.view = look["view"]

    # ---- changes of the state
    def _earlier(self) -> Iterator[Analysis]:
        """Yield the analyses that were replaced by a new result, the newest first."""
        for step in reversed(self.state.history):
            for edit in reversed(step.edits):
                if isinstance(edit, SetAnalysis) and edit.before is not None:
                    yield edit.before

    def refresh(self) -> None:
        """Show the current tables; points are replaced only if positions have changed."""
        self._table = self.state.table()
        same = self._rows.fits(self._table)
        if not same:
            self._rows = RowIndex(self._table)
        self._offer_maps()
        places = self._table[list(self._coordinates)].to_numpy(float)
        moved = not (same and np.array_equal(places, self._places, equal_nan=True))
        self._places = places
        earlier = [] if self._coordinates == SESSION_MAP else self._earlier()
        self._before = earlier_places(self._table, self._rows, earlier)
        self._offer_before()
        if moved:
            self.scatter.set_points(self._shown_places())
            if not self.scatter.user_moved:
                self.scatter.fit()
        self._offer_colours()
        self._restyle()
        self.refresh_selection()
        if moved:
            self._name_islands()
        else:  # only labels have changed
            self._name_timer.start()
        self._update_message()
        if self._shows_reference != (self._reference() is not None):
            self._show_reference()
        self._map.follow_model()
        self._show_saved_look()

    def refresh_selection(self) -> None:
        self.scatter.set_highlight(self._rows.of(self.state.selection))

    def _restyle(self, *_: object) -> None:
        classes = self.state.classes()
        self._looks = looks_of(self._table, self.colour_combo.currentText(), classes)
        self.scatter.set_style(
            self._looks.face,
            shapes_of(self._table["label"], classes),
            (self._table["label_corrected"] != "").to_numpy(bool),
        )
        if isinstance(self._looks.legend, ColourScale):
            self.legend.show_scale(self._looks.legend)
        else:
            self.legend.show_entries(self._looks.legend)

    def _on_theme(self) -> None:
        if not self.outdated():
            self._restyle()

    def _update_message(self) -> None:
        unplaced = self._map.count_unplaced(self._coordinates)
        placed = int(np.isfinite(self._places).all(axis=1).sum())
        self.place_button.setVisible(unplaced > 0)
        self.place_button.setText(f"Place {pluralise(unplaced, 'cluster')} in the map")
        n = len(self._table) - placed - unplaced
        if self.state.blind:
            self.message.setText("Blind mode hides the map.")
        elif not placed and not unplaced:
            self.message.setText("The clusters appear here once they are classified.")
        elif n > 0:
            of_other = "of another model or " * (self._coordinates == SESSION_MAP)
            text = f"{pluralise(n, 'cluster')} {of_other}not classified yet, not shown."
            self.message.setText(text)
        else:
            self.message.setText("")
        self.message.setVisible(bool(self.message.text()))
        self.save_button.setEnabled(placed > 0)
        enough = placed + unplaced >= MIN_CLUSTERS
        self.new_map_button.setEnabled(enough and may_analyse(self.state))

    # ---- before and after
    def _offer_before(self) -> None:
        there = bool(np.isfinite(self._before).any())
        self.before_button.setVisible(there)
        if not there and self.before_button.isChecked():
            with QSignalBlocker(self.before_button):
                self.before_button.setChecked(False)

    def _shown_places(self) -> np.ndarray:
        """Return positions (N, 2): current ones, or earlier ones while *Before* is checked."""
        if not self.before_button.isChecked():
            return self._places
        return np.where(np.isfinite(self._before), self._before, self._places)

    def _on_before(self, *_: object) -> None:
        self.update_now()
        self.scatter.move_to(self._shown_places())
        self._name_islands()

    # ---- names
    def _name_islands(self) -> None:
        """Write the names of the islands of clusters, and those of the reference."""
        x, y = self._shown_places().T if len(self._table) else np.empty((2, 0))
        points = pd.DataFrame({"umap_1": x, "umap_2": y, "label": self._table["label"]})
        self.scatter.set_names(*names_of_map(points, self._reference()))

    # ---- keys and rows
    def _keys_of(self, rows: np.ndarray) -> set[Key]:
        return self._rows.keys(rows)

    def _tip(self, row: int) -> str:
        cluster = self._table.iloc[row]
        patch = patch_of(self.state.analysis(cluster["image"]), int(cluster["cluster_id"]))
        return tip(format_cluster(cluster), patch)

    # ---- actions of the user
    def _on_tool(self, on: bool) -> None:
        """Use one tool at most; without a tool, dragging moves the map."""
        buttons = {self.lasso_button: LASSO, self.rectangle_button: RECTANGLE}
        if on:
            for button in buttons:
                if button is not self.sender():
                    button.setChecked(False)
        chosen = [tool for button, tool in buttons.items() if button.isChecked()]
        self.scatter.tool = chosen[0] if chosen else PAN

    def _on_selected(self, rows: np.ndarray, mode: str) -> None:
        keys = self._keys_of(rows)
        self._select(keys, mode)
        if mode == REPLACE and len(keys) == 1:
            (key,) = keys
            if key[0] != self.state.current:  # the next key labels it: not unseen
                self.state.request_focus(key)

    def _select(self, keys: set[Key], mode: str) -> None:
        selection = self.state.selection
        new = {REPLACE: keys, ADD: selection | keys, REMOVE: selection - keys}[mode]
        self.state.select(new)

    def _on_legend(self, name: str, modifiers: Qt.KeyboardModifier) -> None:
        self.update_now()
        self._select(self._keys_of(self._looks.rows_of(name)), selection_mode(modifiers))

    def _on_activated(self, row: int) -> None:
        ((image, cluster_id),) = self._keys_of(np.array([row]))
        self.state.select([(image, cluster_id)])
        self.state.request_focus((image, cluster_id))

    # ---- out
    def save(self) -> None:
        """Save the map in these colours, or its data, into a chosen file."""
        self.update_now()
        choose_and_save(self, "embedding", self._write)

    def _write(self, path: Path) -> Path:
        name = self.colour_combo.currentText()
        x, y = self._shown_places().T
        data = map_data(self._table.assign(umap_1=x, umap_2=y))
        if name in self._table.columns and name not in data.columns:
            data[name] = self._table[name]
        data["colour"] = hex_colours(self._looks.face[data.index])
        draw = map_drawing(self._looks.legend)
        return save_plot(PLOTS["embedding"], data, path, Look(self.state.classes()), draw)

    # ---- the map
    def place(self) -> None:
        """Place the clusters without a position in the map, in a worker."""
        if self._map.place(self._coordinates):
            self.place_button.setEnabled(False)

    def _on_placed(self) -> None:
        self.place_button.setEnabled(True)

    def fit_map(self) -> None:
        """Fit a map to the clusters of the session, in a worker, and show it."""
        self._map.fit()

    def _show_session_map(self) -> None:
        self._session_map_is_new = True  # its positions arrive image by image
        self.update_now()

    def _has_session_map(self) -> bool:
        return set(SESSION_MAP) <= set(self._table.columns)

    @property
    def _coordinates(self) -> tuple[str, str]:
        """Columns of the coordinates in the chosen map."""
        return SESSION_MAP if self.map_combo.currentText() == MAP_OF_SESSION else MODEL_MAP

    def _offer_maps(self) -> None:
        """Offer the map of the session if there is one, and show it if it is new."""
        there = self._has_session_map()
        self.map_combo.setVisible(there)
        with QSignalBlocker(self.map_combo):
            if not there:
                self.map_combo.setCurrentText(MAP_OF_MODEL)
            elif self._session_map_is_new:
                self._session_map_is_new = False
                self.map_combo.setCurrentText(MAP_OF_SESSION)
                self.scatter.fit()

    def _on_map(self, *_: object) -> None:
        self.scatter.fit()  # a view of the other map is of no use
        self.refresh()

    def _reference(self) -> pd.DataFrame | None:
        """Return the reference clusters of the shown map.

        None in blind mode, since their colours are classes.
        """
        hidden = self.state.blind or self._coordinates == SESSION_MAP
        return None if hidden else self._map.reference

    def _show_reference(self) -> None:
        """Show the reference clusters behind the others."""
        reference = self._reference()
        self._shows_reference = reference is not None
        if reference is None:
            self.scatter.set_background(np.empty((0, 2)), np.empty((0, 4)))
            self._name_islands()
            return
        classes = list(dict.fromkeys([*self.state.classes(), *reference["label"]]))
        rgba = {n: (*to_rgba(c)[:3], 0.22) for n, c in colours(classes).items()}
        faint = (*MISSING_RGBA[:3], 0.22)
        codes, names = pd.factorize(reference["label"])
        self.scatter.set_background(
            reference[["umap_1", "umap_2"]].to_numpy(float),
            np.array([rgba.get(str(name), faint) for name in names])[codes],
        )
        self._name_islands()
        if not self.scatter.user_moved:
            self.scatter.fit()
