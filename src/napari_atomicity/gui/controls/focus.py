"""Keyboard focus: a visible ring around the control that has it, and the order of Tab."""

from __future__ import annotations

import itertools
from collections.abc import Iterator

from qtpy.QtCore import QEvent, QObject, Qt
from qtpy.QtGui import QPainter, QPaintEvent, QPen
from qtpy.QtWidgets import QFormLayout, QGridLayout, QLayout, QScrollArea, QWidget

_WIDTH_PX = 2


class FocusRing(QWidget):
    """A ring on a control, which takes no room and no clicks."""

    def __init__(self, control: QWidget) -> None:
        super().__init__(control)
        self.setAttribute(Qt.WidgetAttribute.WA_TransparentForMouseEvents)
        self.setAttribute(Qt.WidgetAttribute.WA_NoSystemBackground)
        self.setStyleSheet("background: transparent")
        self.setFocusPolicy(Qt.FocusPolicy.NoFocus)
        control.installEventFilter(self)
        self.setGeometry(control.rect())
        self.raise_()
        self.show()

    def eventFilter(self, control: QObject, event: QEvent) -> bool:  # noqa: N802
        if event.type() == QEvent.Type.Resize:
            self.setGeometry(self.parentWidget().rect())
        return False

    def paintEvent(self, event: QPaintEvent) -> None:  # noqa: N802
        painter = QPainter(self)
        painter.setPen(QPen(self.parentWidget().palette().windowText().color(), _WIDTH_PX))
        half = _WIDTH_PX // 2
        painter.drawRect(self.rect().adjusted(half, half, -half, -half))


def show_focus(control: QWidget) -> None:
    """Show that a control has the keyboard focus; of panels in panels, each may ask for it."""
    if all(ring.isHidden() for ring in _rings_of(control)):
        FocusRing(control)


def hide_focus(control: QWidget) -> None:
    """Remove the ring of a control that has lost the focus."""
    for ring in _rings_of(control):
        ring.hide()
        ring.deleteLater()


def _rings_of(control: QWidget) -> list[FocusRing]:
    return control.findChildren(FocusRing, options=Qt.FindChildOption.FindDirectChildrenOnly)


def set_reading_order(dock: QWidget) -> None:
    """Let Tab walk the controls of a dock from top to bottom, and from left to right."""
    for one, following in itertools.pairwise(_controls_of(dock)):
        QWidget.setTabOrder(one, following)


def _controls_of(widget: QWidget) -> Iterator[QWidget]:
    """Yield the controls in a widget, in the order of the layouts."""
    if isinstance(widget, QScrollArea):
        if widget.widget() is not None:
            yield from _controls_of(widget.widget())
    elif widget.focusPolicy().value & Qt.FocusPolicy.TabFocus.value:
        yield widget
    elif widget.layout() is not None:
        yield from _controls_in(widget.layout())
    else:
        for child in widget.children():
            if isinstance(child, QWidget):
                yield from _controls_of(child)


def _controls_in(layout: QLayout) -> Iterator[QWidget]:
    items = [(i, layout.itemAt(i)) for i in range(layout.count())]
    if isinstance(layout, QGridLayout):
        items.sort(key=lambda item: layout.getItemPosition(item[0])[:2])
    elif isinstance(layout, QFormLayout):
        items.sort(key=lambda item: _place_in_form(layout, item[0]))
    for _, item in items:
        if item.widget() is not None:
            yield from _controls_of(item.widget())
        elif item.layout() is not None:
            yield from _controls_in(item.layout())


def _place_in_form(form: QFormLayout, i: int) -> tuple[int, int]:
    row, role = form.getItemPosition(i)
    return row, role.value
