"""The legend: labels with their numbers of clusters; a click selects, the tick hides."""

from __future__ import annotations

from qtpy.QtCore import QSignalBlocker, Qt
from qtpy.QtGui import QShowEvent
from qtpy.QtWidgets import QHeaderView, QTreeWidget, QTreeWidgetItem

from ...core import palette
from ...core.tables.cluster_table import AGGREGATE, NON_CLASS_LABELS, UNKNOWN
from ...statistics.ratios.track_counts import merge_tracks, stacks_without_tracks, without_excluded
from ..controls.drawing import glyph_icon
from ..controls.forms import fill_column, leave_letters
from ..viewer.binding import Binding
from .dock import ImagePanel
from .forms import ImageForm

_NAME, _COUNT, _CORRECTED, _KEY = range(4)


class LabelLegend(ImagePanel):
    """The labels of an image with the number of clusters, corrections and the key of each."""

    follows = ("changed", "current_changed", "project_changed", "hidden_changed")

    def __init__(self, binding: Binding, image_form: ImageForm | None = None) -> None:
        super().__init__(binding, image_form)
        self.tree = QTreeWidget()
        self.tree.setRootIsDecorated(False)
        self.tree.setUniformRowHeights(True)
        self.tree.setSelectionMode(QTreeWidget.SelectionMode.NoSelection)
        self.tree.setHeaderLabels(["Label", "Count", "Corrected", "Key"])
        header = self.tree.header()
        header.setStretchLastSection(False)
        header.setSectionResizeMode(_NAME, QHeaderView.ResizeMode.Stretch)
        for column in (_COUNT, _CORRECTED, _KEY):
            header.setSectionResizeMode(column, QHeaderView.ResizeMode.ResizeToContents)
        self.tree.setToolTip(
            "Click a label to select its clusters; untick it to hide them in the image."
        )
        leave_letters(self.tree)
        self.tree.setAccessibleName("Legend: labels with the number of clusters")
        self._is_tick = False  # of the click under way
        self.tree.itemPressed.connect(self._on_press)
        self.tree.itemClicked.connect(self._on_click)
        self.tree.itemActivated.connect(self._select)  # Enter
        self.tree.itemChanged.connect(self._on_tick)
        fill_column(self, self.tree)

    def rows(self) -> list[QTreeWidgetItem]:
        """Return the row of each label."""
        return [self.tree.topLevelItem(i) for i in range(self.tree.topLevelItemCount())]

    def refresh(self) -> None:
        image, classes = self.image, self.state.classes()
        table = None if image is None else self.state.table(image)
        names = [*classes, *NON_CLASS_LABELS] if classes else []
        found = [] if table is None else table["label"].unique().tolist()
        counted = None if table is None else without_excluded(table)[0]
        merged = None if counted is None else merge_tracks(counted)
        counts = {} if merged is None else merged["label"].value_counts().to_dict()
        in_frames = table is not None and bool(stacks_without_tracks(table))
        self.tree.headerItem().setToolTip(
            _COUNT,
            f"Clusters outside excluded regions{', in all frames together' * in_frames}.",
        )
        corrected = {} if merged is None else merged["label_corrected"].value_counts().to_dict()
        names += [x for x in found if x and x not in names]
        if "" in found:
            names.append("")
        keys = {name: str(i) for i, name in enumerate(classes[:9], start=1)}
        keys |= {UNKNOWN: "0", AGGREGATE: "A"}
        with QSignalBlocker(self.tree):
            # Rows are made anew only for other labels: one that is being clicked must live on.
            if [row.data(_NAME, Qt.ItemDataRole.UserRole) for row in self.rows()] != names:
                self.tree.clear()
                self.tree.addTopLevelItems([_new_row(name, classes) for name in names])
                self._fit_height()
            for row, name in zip(self.rows(), names, strict=True):
                row.setText(_COUNT, str(counts.get(name, 0)))
                row.setText(_CORRECTED, str(corrected.get(name, 0) or "") if name else "")
                row.setText(_KEY, keys.get(name, ""))
                hidden = name in self.binding.clusters.hidden
                row.setCheckState(
                    _NAME, Qt.CheckState.Unchecked if hidden else Qt.CheckState.Checked
                )

    def _fit_height(self) -> None:
        """Make the legend as high as its rows, so that only the dock scrolls."""
        n = self.tree.topLevelItemCount()
        height = self.tree.header().sizeHint().height() + n * self.tree.sizeHintForRow(0) * (n > 0)
        self.tree.setFixedHeight(height + 2 * self.tree.frameWidth() + 2)

    def showEvent(self, event: QShowEvent) -> None:  # noqa: N802
        super().showEvent(event)
        # only now rows and header are as high as the style of the window makes them
        self._fit_height()

    def _on_press(self, item: QTreeWidgetItem, column: int) -> None:
        self._is_tick = False

    def _on_click(self, item: QTreeWidgetItem, column: int) -> None:
        if not self._is_tick:
            self._select(item, column)

    def _select(self, item: QTreeWidgetItem, column: int) -> None:
        """Select the clusters of a row's label."""
        image = self.image
        name = item.data(_NAME, Qt.ItemDataRole.UserRole)
        if image is not None and name not in self.binding.clusters.hidden:
            table = self.state.table(image)
            ids = table.loc[table["label"] == name, "cluster_id"]
            self.state.select((image, int(i)) for i in ids)

    def _on_tick(self, item: QTreeWidgetItem, column: int) -> None:
        self._is_tick = True
        name = item.data(_NAME, Qt.ItemDataRole.UserRole)
        shown = item.checkState(_NAME) == Qt.CheckState.Checked
        hidden = (
            self.binding.clusters.hidden - {name}
            if shown
            else self.binding.clusters.hidden | {name}
        )
        self.binding.clusters.hidden = frozenset(hidden)


def _new_row(name: str, classes: list[str]) -> QTreeWidgetItem:
    row = QTreeWidgetItem([name or "not classified"])
    row.setData(_NAME, Qt.ItemDataRole.UserRole, name)
    row.setToolTip(_NAME, f"{row.text(_NAME)}: click to select, untick to hide")
    colour = palette.colour_of(name, classes)
    row.setIcon(_NAME, glyph_icon(palette.symbol_of(name, classes), colour))
    right = Qt.AlignmentFlag.AlignRight | Qt.AlignmentFlag.AlignVCenter
    for column in (_COUNT, _CORRECTED, _KEY):
        row.setTextAlignment(column, right)
    return row
