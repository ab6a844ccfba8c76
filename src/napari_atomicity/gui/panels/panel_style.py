"""The look of docks and of the bar: colours of the theme, and visible keyboard focus."""

from __future__ import annotations

from qtpy.QtCore import QObject
from qtpy.QtWidgets import QApplication, QWidget

from ..controls.connections import follow_event
from ..controls.focus import hide_focus, show_focus
from ..controls.style import style_of
from ..viewer.binding import Binding


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
