"""A field for a file or a folder."""

from __future__ import annotations

from pathlib import Path

from qtpy.QtCore import Signal
from qtpy.QtGui import QDragEnterEvent, QDragMoveEvent, QDropEvent
from qtpy.QtWidgets import QFileDialog, QHBoxLayout, QLineEdit, QPushButton, QWidget


class PathField(QLineEdit):
    """A field for a path, with a button that opens a dialog; a file can be dropped on it.

    Signals: ``chosen()`` when another path was entered, chosen in the dialog, dropped or set with
    `choose`.
    """

    chosen = Signal()

    def __init__(self, title: str, about: str, file_types: str = "", new: bool = False) -> None:
        super().__init__()
        self._title, self._file_types, self._new = title, file_types, new
        self._last = ""
        self.button = QPushButton("…")
        self.button.setToolTip(f"Choose the {'file' if file_types else 'folder'}.")
        self.button.setAccessibleName(f"Choose {about}")
        self.button.setMaximumWidth(int(3.5 * self.button.fontMetrics().averageCharWidth()) + 16)
        self.button.clicked.connect(self._ask)
        self.setAccessibleName(self.button.accessibleName())
        self.editingFinished.connect(self._on_edited)

    @property
    def path(self) -> Path | None:
        """The path; None if the field is empty."""
        text = self.text().strip()
        return Path(text).expanduser() if text else None

    def choose(self, path: str) -> None:
        """Set the path as if it was chosen in the dialog."""
        self.setText(path)
        self._on_edited()

    def with_button(self) -> QWidget:
        """Return the field and its button as one field of a form."""
        both = QWidget()
        row = QHBoxLayout(both)
        row.setContentsMargins(0, 0, 0, 0)
        row.addWidget(self, 1)
        row.addWidget(self.button)
        both.setFocusProxy(self)
        return both

    def _on_edited(self) -> None:
        if self.text() != self._last:
            self._last = self.text()
            self.chosen.emit()

    def _ask(self) -> None:
        if not self._file_types:
            path = QFileDialog.getExistingDirectory(self, self._title, self.text())
        elif self._new:
            path, _ = QFileDialog.getSaveFileName(self, self._title, self.text(), self._file_types)
        else:
            path, _ = QFileDialog.getOpenFileName(self, self._title, self.text(), self._file_types)
        if path:
            self.choose(path)

    # ---- drag and drop
    def dragEnterEvent(self, event: QDragEnterEvent) -> None:  # noqa: N802
        if _dropped(event):
            event.acceptProposedAction()
        else:
            super().dragEnterEvent(event)

    def dragMoveEvent(self, event: QDragMoveEvent) -> None:  # noqa: N802
        if _dropped(event):
            event.acceptProposedAction()
        else:
            super().dragMoveEvent(event)

    def dropEvent(self, event: QDropEvent) -> None:  # noqa: N802
        path = _dropped(event)
        if path:
            event.acceptProposedAction()
            self.choose(path)
        else:
            super().dropEvent(event)


def _dropped(event: QDropEvent) -> str:
    """Return the first local file or folder of a drop; "" if there is none."""
    urls = [url for url in event.mimeData().urls() if url.isLocalFile()]
    return urls[0].toLocalFile() if urls else ""
