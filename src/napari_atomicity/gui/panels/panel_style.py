"""The look of docks and of the bar: colours of the theme, and visible keyboard focus."""

from __future__ import annotations

from napari.utils.theme import get_theme
from qtpy.QtCore import QObject
from qtpy.QtGui import QColor
from qtpy.QtWidgets import QApplication, QWidget

from ..controls.connections import follow_event
from ..controls.drawing import faint
from ..controls.focus import hide_focus, show_focus
from ..viewer.binding import Binding


# ---- colours that napari's themes leave too faint to read
def style_of(theme: str) -> str:
    """Return a style sheet for docks and the bar: disabled text and hints in a readable colour."""
    colours = get_theme(theme)
    # Of all backgrounds of controls this is the one nearest to the text.
    text = faint(_qt(colours.text), _qt(colours.primary)).name()
    kinds = ("QWidget", "QPushButton", "QComboBox", "QAbstractSpinBox", "QLineEdit", "QLabel")
    disabled = ", ".join(f"{kind}:disabled" for kind in kinds)
    return (
        f"{disabled} {{ color: {text}; }} QLineEdit {{ placeholder-text-color: {text}; }} "
        # The border of napari would make a disabled button larger, and move what is beside it.
        "QPushButton:disabled { border: 0px; }"
    )


def _qt(colour: object) -> QColor:
    return QColor(*colour.as_rgb_tuple()[:3])  # type: ignore[attr-defined]


class PanelStyle(QObject):
    """Gives a panel readable colours, and a ring to that of its controls that has the focus."""

    def __init__(self, panel: QWidget, binding: Binding) -> None:
        super().__init__(panel)
        # Only Qt refers to the panel: a cycle of references would leave it to the collector.
        self._binding = binding
        self._apply_theme()
        follow_event(self, binding.viewer.events.theme, self._apply_theme)
        QApplication.instance().focusChanged.connect(self._on_focus)

    def _apply_theme(self, *_: object) -> None:
        self.parent().setStyleSheet(style_of(self._binding.viewer.theme))

    def _on_focus(self, before: QWidget | None, now: QWidget | None) -> None:
        """Show which of the controls has the focus."""
        panel = self.parent()
        if before is not None and panel.isAncestorOf(before):
            hide_focus(before)
        if now is not None and panel.isAncestorOf(now):
            show_focus(now)
