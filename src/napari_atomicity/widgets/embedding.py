"""The Embedding dock: every cluster in the map of what the network feels to be alike."""

from __future__ import annotations

import logging
import os
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from matplotlib import colormaps
from matplotlib.colors import to_rgba
from napari.viewer import Viewer
from qtpy.QtCore import Qt, QTimer
from qtpy.QtGui import QShowEvent
from qtpy.QtWidgets import (
    QComboBox,
    QHBoxLayout,
    QLabel,
    QPushButton,
    QSizePolicy,
    QVBoxLayout,
    QWidget,
)

from .. import embedding as umap
from ..analysis import Analysis, embed_clusters
from ..palette import UNKNOWN_COLOUR, UNKNOWN_SYMBOL, colours, symbols
from ..progress import Progress, Stop, report
from ..session import Key, Session
from .binding import session_of
from .following import follow
from .legend import Entry, Legend, Scale
from .models import classifier_of
from .scatter import ADD, REMOVE, REPLACE, Scatter
from .tasks import start

logger = logging.getLogger(__name__)

WARM_UP_VARIABLE = "NAPARI_ATOMICITY_WARM_UP"
"""Set to 0 in the environment, nothing is compiled in the background."""

_WARM_UP_DELAY_MS = 1500
_COLUMNS = [
    "image",
    "cluster_id",
    "label",
    "label_corrected",
    "confidence",
    "diameter_nm",
    "umap_1",
    "umap_2",
]
_MISSING_RGBA = to_rgba(UNKNOWN_COLOUR)
_NO_LABEL = "no label"


# ---- from tables to looks, without Qt
def gather(session: Session) -> pd.DataFrame:
    """The columns that the scatter shows, of the clusters of all images, in their order."""
    found = [session.analysis(image) for image in session.images]
    tables = [a.table[_COLUMNS] for a in found if a is not None and len(a.table)]
    if not tables:
        return pd.DataFrame({name: [] for name in _COLUMNS})
    return pd.concat(tables, ignore_index=True)


@dataclass(frozen=True, eq=False)
class Looks:
    """(N, 4) RGBA of the points, and the legend that explains them."""

    face: np.ndarray
    legend: list[Entry] | Scale


def look_up(values: pd.Series, mapping: dict[str, object], missing: object) -> np.ndarray:
    """For each value what the mapping says; the mapping is read once per distinct value."""
    codes, names = pd.factorize(values)
    return np.array([mapping.get(name, missing) for name in names])[codes]


def by_label(table: pd.DataFrame, classes: Sequence[str]) -> Looks:
    """Each class in its colour."""
    palette, shapes = colours(classes), symbols(classes)
    rgba = {name: to_rgba(colour) for name, colour in palette.items()}
    counts = table["label"].value_counts()
    others = [name for name in counts.index if name not in palette]
    legend = [
        Entry(
            name or _NO_LABEL,
            palette.get(name, UNKNOWN_COLOUR),
            shapes.get(name, UNKNOWN_SYMBOL),
            int(counts[name]),
        )
        for name in [*palette, *others]
        if name in counts
    ]
    return Looks(look_up(table["label"], rgba, _MISSING_RGBA), legend)


def by_image(table: pd.DataFrame, classes: Sequence[str]) -> Looks:
    """Each image in a colour of its own; the symbols are still those of the classes."""
    names = [str(name) for name in table["image"].unique()]
    palette = {n: c for n, c in colours(names).items() if n in names}
    counts = table["image"].value_counts()
    legend = [Entry(n, palette[n], "square", int(counts[n])) for n in names]
    rgba = {name: to_rgba(colour) for name, colour in palette.items()}
    return Looks(look_up(table["image"], rgba, _MISSING_RGBA), legend)


def by_number(
    column: str, title: str, colormap: str, limits: tuple[float, float] | None = None
) -> Callable[[pd.DataFrame, Sequence[str]], Looks]:
    """A way to colour by a column of numbers, over its range or within fixed limits."""

    def look(table: pd.DataFrame, classes: Sequence[str]) -> Looks:
        values = table[column].to_numpy(float)
        finite = values[np.isfinite(values)]
        low, high = limits or ((finite.min(), finite.max()) if len(finite) else (0.0, 1.0))
        share = (values - low) / max(high - low, 1e-12)
        face = np.asarray(colormaps[colormap](np.clip(np.nan_to_num(share), 0, 1)))
        face[~np.isfinite(values)] = _MISSING_RGBA
        return Looks(face, Scale(title, float(low), float(high), colormap))

    return look


COLOURINGS: dict[str, Callable[[pd.DataFrame, Sequence[str]], Looks]] = {
    "label": by_label,
    "confidence": by_number("confidence", "Confidence", "cividis", (0.0, 1.0)),
    "diameter": by_number("diameter_nm", "Diameter, nm", "viridis"),
    "image": by_image,
}
"""What the points can be coloured by: another way is one more entry."""


def in_words(row: pd.Series) -> str:
    """A cluster as the mouse shows it."""
    label = row["label"] or _NO_LABEL
    sure = f" {row['confidence']:.2f}" if np.isfinite(row["confidence"]) else ""
    corrected = " (corrected)" if row["label_corrected"] else sure
    size = f"\n{row['diameter_nm']:.2f} nm" if np.isfinite(row["diameter_nm"]) else ""
    return f"{label}{corrected}{size}\n{row['image']}, cluster {row['cluster_id']}"


def without_place(analysis: Analysis) -> int:
    """How many clusters have an embedding and no place in the map."""
    if analysis.embedding.size == 0:
        return 0
    embedded = np.isfinite(analysis.embedding).all(axis=1)
    placed = np.isfinite(analysis.table[["umap_1", "umap_2"]].to_numpy(float)).all(axis=1)
    return int((embedded & ~placed).sum())


def typical_places(reference: pd.DataFrame) -> tuple[list[str], np.ndarray]:
    """Each label of a map with the reference point nearest to the middle of its points, (K, 2).

    The middle itself may lie off a bent island.
    """
    names, places = [], []
    for name, rows in reference.groupby("label", sort=False)[["umap_1", "umap_2"]]:
        xy = rows.to_numpy(float)
        xy = xy[np.isfinite(xy).all(axis=1)]
        if len(xy):
            names.append(str(name))
            places.append(xy[np.argmin(((xy - np.median(xy, axis=0)) ** 2).sum(axis=1))])
    return names, np.reshape(places, (-1, 2))


def _model_id(analysis: Analysis) -> str | None:
    return analysis.parameters.get("model", {}).get("model_id")


# ---- what runs in a worker
def place_clusters(
    analyses: Sequence[Analysis], progress: Progress | None = None, stop: Stop | None = None
) -> list[Analysis]:
    """Each analysis with its clusters placed in the map of its model."""
    placed = []
    for i, analysis in enumerate(analyses):
        report(progress, i, len(analyses), f"Placing {analysis.micrograph.name} in the UMAP")
        placed.append(embed_clusters(analysis, classifier_of(analysis), stop))
    return placed


def _reference_map(
    analysis: Analysis, progress: Progress | None = None, stop: Stop | None = None
) -> pd.DataFrame | None:
    """The map's reference points; None where they can't be had: the map does without."""
    try:
        return umap.reference_map(classifier_of(analysis))
    except Exception as error:
        logger.info("no reference map: %s", error)
        return None


def _warm_up() -> None:
    try:
        umap.warm_up()
    except Exception as error:  # a task that nobody asked for must not complain
        logger.info("UMAP could not be warmed up: %s", error)


class Embedding(QWidget):
    """Scatter of all clusters; what is selected here is selected everywhere."""

    def __init__(self, napari_viewer: Viewer, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.session = session_of(napari_viewer)
        self._table = gather(self.session)
        self._blocks: dict[str, tuple[int, np.ndarray]] = {}
        self._model_id: str | None = None
        self._reference: pd.DataFrame | None = None
        self._build()
        session = self.session
        follow(self, session.analysis_changed, self._on_analysis)
        follow(self, session.images_changed, self._on_analysis)
        follow(self, session.selection_changed, self._on_selection)
        # Not before the window is up; a child, so it ends with the dock.
        self._warm_up_timer = QTimer(self)
        self._warm_up_timer.setSingleShot(True)
        self._warm_up_timer.timeout.connect(self._warm_up)
        self._rebuild()

    # ---- the form
    def _build(self) -> None:
        self.colour_combo = QComboBox()
        self.colour_combo.addItems(list(COLOURINGS))
        self.colour_combo.setToolTip(
            "What the colours of the points mean. Default: label. The symbols always show the "
            "label."
        )
        self.colour_combo.setAccessibleName("Colour by")
        self.colour_combo.currentTextChanged.connect(self._restyle)
        label = QLabel("Colour by")
        label.setBuddy(self.colour_combo)
        self.lasso_button = QPushButton("Lasso")
        self.lasso_button.setCheckable(True)
        self.lasso_button.setToolTip(
            "Draw around points to select them (or drag with Shift). Shift adds to the selection, "
            "Ctrl takes away, Escape gives up. Default: off, dragging moves the map."
        )
        self.fit_button = QPushButton("Fit")
        self.fit_button.setToolTip("Show the whole map. The wheel zooms.")
        top = QHBoxLayout()
        top.addWidget(label)
        top.addWidget(self.colour_combo, 1)
        top.addWidget(self.lasso_button)
        top.addWidget(self.fit_button)

        self.scatter = Scatter()
        self.scatter.tooltip = lambda row: in_words(self._table.iloc[row])
        self.scatter.picked.connect(self._on_picked)
        self.scatter.activated.connect(self._on_activated)
        self.scatter.theme_changed.connect(self._on_theme)
        self.lasso_button.toggled.connect(self._set_lasso)
        self.fit_button.clicked.connect(self.scatter.fit)
        self.legend = Legend()
        self.legend.clicked.connect(self._on_legend)
        self.place_button = QPushButton()
        self.place_button.setToolTip(
            "Find their place in the map of the model's reference clusters. The first time this "
            "takes some seconds."
        )
        self.place_button.clicked.connect(self.place)
        self.message = QLabel()
        self.message.setWordWrap(True)

        self.setSizePolicy(QSizePolicy.Policy.Expanding, QSizePolicy.Policy.Expanding)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(6, 6, 6, 6)
        layout.addLayout(top)
        layout.addWidget(self.scatter, 1)
        layout.addWidget(self.legend)
        layout.addWidget(self.message)
        layout.addWidget(self.place_button)

    # ---- what the session says
    def _on_analysis(self, *_: object) -> None:
        self._rebuild()

    def _on_selection(self, *_: object) -> None:
        self.scatter.set_highlight(self._rows_of(self.session.selection))

    def _rebuild(self) -> None:
        """Show the tables as they are; positions are touched only if they are others."""
        before, self._table = self._table, gather(self.session)
        place = self._table[["umap_1", "umap_2"]].to_numpy(float)
        old = before[["umap_1", "umap_2"]].to_numpy(float)
        same_rows = len(before) == len(self._table) and all(
            np.array_equal(before[c], self._table[c]) for c in ("image", "cluster_id")
        )
        moved = not (same_rows and np.array_equal(place, old, equal_nan=True))
        if moved or not self._blocks:
            self._blocks = {
                str(image): (int(rows[0]), self._table["cluster_id"].to_numpy()[rows])
                for image, rows in self._table.groupby("image", sort=False).indices.items()
            }
            self.scatter.set_points(place)
            if not self.scatter.user_moved:
                self.scatter.fit()
        self._restyle()
        self._on_selection()
        self._say_what_is_missing()
        self._follow_model()

    def _restyle(self, *_: object) -> None:
        classes = self.session.classes()
        looks = COLOURINGS[self.colour_combo.currentText()](self._table, classes)
        shape = symbols(classes)
        self.scatter.set_style(
            looks.face,
            look_up(self._table["label"], dict(shape), UNKNOWN_SYMBOL),
            (self._table["label_corrected"] != "").to_numpy(bool),
        )
        if isinstance(looks.legend, Scale):
            self.legend.show_scale(looks.legend)
        else:
            self.legend.show_entries(looks.legend)

    def _on_theme(self) -> None:
        self._restyle()

    def _say_what_is_missing(self) -> None:
        waiting = sum(without_place(a) for a in self._analyses())
        placed = int(np.isfinite(self._table["umap_1"].to_numpy(float)).sum())
        self.place_button.setVisible(waiting > 0)
        self.place_button.setText(f"Place {waiting} cluster{'s' * (waiting != 1)} in the map")
        if not placed and not waiting:
            self.message.setText("The clusters appear here once they are classified.")
        elif len(self._table) > placed + waiting:
            n = len(self._table) - placed - waiting
            self.message.setText(f"{n} cluster{'s' * (n != 1)} not classified yet, not shown.")
        else:
            self.message.setText("")
        self.message.setVisible(bool(self.message.text()))

    def _analyses(self) -> list[Analysis]:
        found = (self.session.analysis(image) for image in self.session.images)
        return [a for a in found if a is not None]

    # ---- keys and rows
    def _rows_of(self, keys: frozenset[Key]) -> np.ndarray:
        """Rows of the scatter that show these clusters."""
        by_image: dict[str, list[int]] = {}
        for image, cluster_id in keys:
            by_image.setdefault(image, []).append(cluster_id)
        rows = [
            first + np.flatnonzero(np.isin(ids, by_image[image]))
            for image, (first, ids) in self._blocks.items()
            if image in by_image
        ]
        return np.concatenate(rows) if rows else np.empty(0, np.int64)

    def _keys_of(self, rows: np.ndarray) -> set[Key]:
        chosen = self._table.iloc[rows]
        return set(zip(chosen["image"], chosen["cluster_id"].tolist(), strict=True))

    # ---- what the person does
    def _on_picked(self, rows: np.ndarray, mode: str) -> None:
        self._select(self._keys_of(rows), mode)

    def _select(self, keys: set[Key], mode: str) -> None:
        selection = self.session.selection
        new = {REPLACE: keys, ADD: selection | keys, REMOVE: selection - keys}[mode]
        self.session.select(new)

    def _on_legend(self, name: str, modifiers: Qt.KeyboardModifier) -> None:
        column = "image" if self.colour_combo.currentText() == "image" else "label"
        value = "" if column == "label" and name == _NO_LABEL else name
        keys = self._keys_of(np.flatnonzero(self._table[column] == value))
        mode = REPLACE
        if modifiers & Qt.KeyboardModifier.ShiftModifier:
            mode = ADD
        elif modifiers & Qt.KeyboardModifier.ControlModifier:
            mode = REMOVE
        self._select(keys, mode)

    def _on_activated(self, row: int) -> None:
        ((image, cluster_id),) = self._keys_of(np.array([row]))
        self.session.select([(image, cluster_id)])
        self.session.request_focus((image, cluster_id))

    def _set_lasso(self, on: bool) -> None:
        self.scatter.lasso = on

    # ---- the map
    def place(self) -> None:
        """Place the clusters that have no place yet, in a worker."""
        waiting = [a for a in self._analyses() if without_place(a)]
        if not waiting:
            return
        self.place_button.setEnabled(False)
        task = start(
            self.session,
            place_clusters,
            waiting,
            message="Placing the clusters in the UMAP",
            on_result=self._take_places,
            key="umap",
            owner=self,
        )
        task.finished.connect(self._allow_placing)

    def _allow_placing(self) -> None:
        self.place_button.setEnabled(True)

    def _take_places(self, placed: list[Analysis]) -> None:
        for result in placed:
            now = self.session.analysis(result.micrograph.name)
            # Of another model meanwhile: these places are of another map.
            if now is not None and _model_id(now) == _model_id(result):
                self.session.fill(result)

    def _follow_model(self) -> None:
        """Put the reference points of the model at hand behind the clusters."""
        analysis = next((a for a in self._analyses() if a.embedding.size), None)
        model_id = None if analysis is None else _model_id(analysis)
        if model_id is None or model_id == self._model_id:
            return
        self._model_id = model_id
        start(
            self.session,
            _reference_map,
            analysis,
            on_result=self._show_reference,
            key="reference map",
            owner=self,
        )

    def _show_reference(self, reference: pd.DataFrame | None) -> None:
        self._reference = reference
        if reference is None or not len(reference):
            empty = np.empty((0, 2))
            self.scatter.set_background(empty, np.empty((0, 4)))
            return
        classes = list(dict.fromkeys([*self.session.classes(), *reference["label"]]))
        rgba = {n: (*to_rgba(c)[:3], 0.22) for n, c in colours(classes).items()}
        names, at = typical_places(reference)
        self.scatter.set_background(
            reference[["umap_1", "umap_2"]].to_numpy(float),
            look_up(reference["label"], rgba, (*_MISSING_RGBA[:3], 0.22)),
            names=names,
            at=at,
        )
        if not self.scatter.user_moved:
            self.scatter.fit()

    # ---- compiling UMAP ahead of time
    def showEvent(self, event: QShowEvent) -> None:  # noqa: N802
        super().showEvent(event)
        if os.environ.get(WARM_UP_VARIABLE, "1") != "0" and self._warm_up_timer.interval() == 0:
            self._warm_up_timer.start(_WARM_UP_DELAY_MS)

    def _warm_up(self) -> None:
        # No task: neither the end of the program nor anybody's Cancel has to do with it.
        threading.Thread(target=_warm_up, name="UMAP warm-up", daemon=True).start()
