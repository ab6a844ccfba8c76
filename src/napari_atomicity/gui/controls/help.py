"""A window that lists all shortcuts."""

from __future__ import annotations

from typing import Any

from qtpy.QtCore import Qt
from qtpy.QtWidgets import QDialog, QDialogButtonBox, QLabel, QVBoxLayout, QWidget

from .forms import scrolling
from .shortcuts import as_table, places

NAME = "Shortcuts"


class Help(QDialog):
    """A dialog with all shortcuts, by mode."""

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.setWindowTitle(NAME)
        self.setObjectName(NAME)
        self.setAttribute(Qt.WidgetAttribute.WA_DeleteOnClose)
        content = QWidget()
        column = QVBoxLayout(content)
        for place, shortcuts in places().items():
            label = QLabel(f"<h3>{place}</h3>{as_table(shortcuts)}")
            label.setTextFormat(Qt.TextFormat.RichText)
            label.setWordWrap(True)
            label.setAccessibleName(f"Shortcuts: {place}")
            column.addWidget(label)
        column.addStretch(1)
        buttons = QDialogButtonBox(QDialogButtonBox.StandardButton.Close)
        buttons.rejected.connect(self.close)
        layout = QVBoxLayout(self)
        layout.addWidget(scrolling(content))
        layout.addWidget(buttons)
        self.resize(90 * self.fontMetrics().averageCharWidth(), 40 * self.fontMetrics().height())


def show_help(viewer: Any) -> Help:
    """Open the dialog, which does not block the window, or bring it to the front."""
    main = viewer.window._qt_window  # napari has no public name for it
    window = main.findChild(Help, NAME) or Help(main)
    window.show()
    window.raise_()
    return window
