"""Shortcuts as data: the code that binds them, the help and the test for clashes all read this.

Also here: key and mouse events of the canvas, taken before napari handles them; a visible ring
around the control with the keyboard focus, and the order of Tab.
"""

from __future__ import annotations

import itertools
import weakref
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from qtpy.QtCore import QEvent, QObject, Qt
from qtpy.QtGui import QKeyEvent, QKeySequence, QPainter, QPaintEvent, QPen
from qtpy.QtWidgets import (
    QAbstractSpinBox,
    QDialog,
    QDialogButtonBox,
    QFormLayout,
    QGridLayout,
    QLabel,
    QLayout,
    QLineEdit,
    QScrollArea,
    QVBoxLayout,
    QWidget,
)

from .forms import scrolling


def in_text_field(window: QWidget, event: QKeyEvent) -> bool:
    """Return whether a text field has the focus of a window, and accept the key if so."""
    in_field = isinstance(window.focusWidget(), QLineEdit | QAbstractSpinBox)
    if in_field:
        event.accept()
    return in_field


@dataclass(frozen=True)
class Shortcut:
    """Keys and the method that each of them calls."""

    keys: tuple[str, ...]  # keys as napari writes them
    what: str
    name: str  # name by which buttons refer to the shortcut
    method: str = ""  # of the object that carries out the actions of the mode; by default `name`
    takes: Callable[[str], object] | None = None  # makes the argument of the method from the key
    repeats: bool = False  # whether the shortcut runs again while its key is held down
    reverts: bool = False  # whether it runs again when its key is released after it was held down
    blind: bool = True  # whether blind annotators may use it

    def run(self, actions: Any, key: str) -> None:
        """Call the method of the object that carries out the actions of the mode."""
        method = getattr(actions, self.method or self.name)
        if self.takes is None:
            method()
        else:
            method(self.takes(key))


_NUMBERS = tuple("123456789")
_REDO = ("Control-Shift-Z", "Control-Y")
_STEPS = {"PageDown": 1, "PageUp": -1}

_HELP = Shortcut(("F1",), "show all shortcuts", "help")
_EDIT_CLUSTERS = (
    Shortcut(("P",), "add clusters by clicking; P again stops", "add", blind=False),
    Shortcut(("S",), "split each selected cluster into two", "split", blind=False),
    Shortcut(("M",), "merge the selected clusters into one", "merge", blind=False),
    Shortcut(("E",), "exclude a region: draw around it", "exclude", blind=False),
)
_SHOW = (
    Shortcut(
        ("C",),
        "show or hide the class maps; while held, for a moment",
        "class maps",
        "toggle_class_maps",
        reverts=True,
        blind=False,
    ),
    _HELP,
)
LABEL_MODE: tuple[Shortcut, ...] = (
    Shortcut(_NUMBERS, "label the selected clusters as this class", "label", takes=int),
    Shortcut(("0",), "label the selected clusters as unknown", "unknown", "label", takes=int),
    # napari's A selects all points in view; its Ctrl+A and Shift+A do so too.
    Shortcut(
        ("A",),
        "label the selected clusters as aggregates (Ctrl+A selects all)",
        "aggregate",
        "label_aggregate",
    ),
    Shortcut(("U",), "remove the manual labels of the selected clusters", "unlabel"),
    Shortcut(("X", "Delete", "Backspace"), "delete the selected clusters", "delete"),
    *_EDIT_CLUSTERS,
    Shortcut(("Control-Z",), "undo", "undo"),
    Shortcut(_REDO, "redo", "redo"),
    Shortcut(("N",), "go to the next least certain cluster", "next"),
    *_SHOW,
)
"""Bound to the points layers of clusters and atoms while label mode is on."""

REVIEW: tuple[Shortcut, ...] = (
    Shortcut(_NUMBERS, "label the cluster as this class", "label", takes=int),
    Shortcut(("0",), "label the cluster as unknown", "unknown", "label", takes=int),
    Shortcut(("A",), "label the cluster as an aggregate", "aggregate", "label_aggregate"),
    Shortcut(("X", "Delete", "Backspace"), "delete the cluster", "remove"),
    Shortcut(("Enter", "Space"), "confirm the predicted label", "agree", blind=False),
    Shortcut(("N", "Right"), "skip to the next cluster without an answer", "next"),
    Shortcut(("B", "Left"), "go back to the cluster shown before", "back"),
    *_EDIT_CLUSTERS,
    Shortcut(("U",), "remove the manual label", "unlabel"),
    Shortcut(("Control-Z",), "undo and show the cluster concerned", "undo"),
    Shortcut(_REDO, "redo", "redo"),
    Shortcut(("Escape",), "end the review", "end"),
    *_SHOW,
)
"""Bound to the whole canvas during a review, except in layers in which a person draws."""

BROWSE: tuple[Shortcut, ...] = (
    Shortcut(("PageDown",), "next image", "next_image", "step", takes=_STEPS.get),
    Shortcut(("PageUp",), "previous image", "previous_image", "step", takes=_STEPS.get),
)
"""Bound to the whole canvas once Browse is open."""

EVERYWHERE: tuple[Shortcut, ...] = (
    Shortcut(("Control-Z",), "undo", "undo"),
    Shortcut(_REDO, "redo", "redo"),
    _HELP,
)
"""Bound to the whole canvas once a dock is open, except where a layer has other keys."""

GALLERY: tuple[Shortcut, ...] = (
    Shortcut(_NUMBERS, "label the selected tiles as this class", "label", takes=int),
    Shortcut(("0",), "label the selected tiles as unknown", "unknown", "label", takes=int),
    Shortcut(("A",), "label the selected tiles as aggregates", "aggregate", "label_aggregate"),
    Shortcut(("U",), "remove the manual labels of the selected tiles", "unlabel"),
    Shortcut(("X", "Delete"), "delete the clusters of the selected tiles", "delete"),
    Shortcut(("Control-Z",), "undo", "undo", repeats=True),
    Shortcut(_REDO, "redo", "redo", repeats=True),
    Shortcut(
        ("Control-A",), "select all tiles that are shown", "select all", "select_all", repeats=True
    ),
    Shortcut(("Return",), "show the cluster in the image", "focus", "show_in_image", repeats=True),
)
"""Bound to the gallery while it has the focus."""

MARKING: tuple[Shortcut, ...] = (
    Shortcut(("Delete", "Backspace"), "delete the selected atoms", "delete"),
    Shortcut(
        ("U",),
        "mark the selected atoms as uncertain, or as certain again",
        "uncertain",
        "toggle_uncertain",
    ),
    Shortcut(
        ("C",), "confirm the selected atoms: the threshold no longer applies to them", "confirm"
    ),
    Shortcut(("Tab",), "go to the next least certain candidate", "next"),
    Shortcut(("Shift-Tab",), "go back to the previous candidate", "back"),
    Shortcut(
        ("Left", "Right", "Up", "Down"),
        "move the selected atoms by half a pixel",
        "nudge",
        takes=str,
    ),
    Shortcut(("L",), "show or hide the magnifier", "magnifier", "toggle_magnifier"),
    Shortcut(("Control-Z",), "undo", "undo"),
    Shortcut(_REDO, "redo", "redo"),
    Shortcut(("Escape",), "stop marking", "end"),
    _HELP,
)
"""Bound to the whole canvas while atoms are marked, except in layers in which a person draws."""


def places() -> dict[str, tuple[Shortcut, ...]]:
    """Return all shortcuts by the mode or place in which they are bound.

    Each public tuple of shortcuts in this file is one place.
    """
    found = {
        name: value
        for name, value in globals().items()
        if not name.startswith("_")
        and isinstance(value, tuple)
        and value
        and all(isinstance(s, Shortcut) for s in value)
    }
    return {name.replace("_", " ").capitalize(): value for name, value in found.items()}


def format_key(key: str) -> str:
    """Return ``Ctrl+Shift+Z`` for napari's ``Control-Shift-Z``."""
    named = {"Control": "Ctrl", "Escape": "Esc", "Return": "Enter", "Left": "←", "Right": "→"}
    named |= {"Up": "↑", "Down": "↓"}
    return "+".join(named.get(part, part) for part in key.split("-"))


def format_line(shortcuts: tuple[Shortcut, ...]) -> str:
    """Return the first key of each shortcut with its name: ``1–9 label, 0 unknown, …``."""
    first = {shortcut.name: format_key(shortcut.keys[0]) for shortcut in shortcuts}
    first |= {shortcut.name: "1–9" for shortcut in shortcuts if shortcut.keys == _NUMBERS}
    return ", ".join(f"{key} {name}" for name, key in first.items())


def rows(shortcuts: tuple[Shortcut, ...]) -> list[tuple[str, str]]:
    """Return the keys of each shortcut and what they do."""
    return [
        (
            "1 … 9" if shortcut.keys == _NUMBERS else " or ".join(map(format_key, shortcut.keys)),
            shortcut.what,
        )
        for shortcut in shortcuts
    ]


def bind_to_viewer(viewer: Any, shortcuts: tuple[Shortcut, ...], actions: object) -> None:
    """Bind shortcuts to the whole canvas, without keeping the object alive that carries them out.

    The active layer and a review come first.
    """
    reference = weakref.ref(actions)

    def callback(shortcut: Shortcut, key: str) -> Callable[[object], None]:
        def run(viewer: object) -> None:
            now = reference()
            if now is not None:
                shortcut.run(now, key)

        return run

    for shortcut in shortcuts:
        for key in shortcut.keys:
            viewer.bind_key(key, callback(shortcut, key), overwrite=True)


def as_help() -> str:
    """Return the shortcuts of label mode as an HTML table for a tooltip."""
    return as_table(LABEL_MODE)


def as_table(shortcuts: tuple[Shortcut, ...]) -> str:
    """Return shortcuts as an HTML table."""
    cells = "".join(
        f"<tr><td style='white-space: nowrap'><b>{key}</b>&nbsp;&nbsp;</td><td>{what}</td></tr>"
        for key, what in rows(shortcuts)
    )
    return f"<table>{cells}</table>"


# ---- A window that lists all shortcuts

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


# ---- key and mouse events of the canvas
_QT_NAMES = {"Del": "Delete", "Esc": "Escape", "Backtab": "Tab"}


class MouseMoves:
    """Call a bound method with scene and canvas position of the mouse; it is held weakly."""

    def __init__(self, method: Callable[[Any, Any], object]) -> None:
        self._method = weakref.WeakMethod(method)

    def __call__(self, viewer: Any, event: Any) -> None:
        method = self._method()
        if method is not None:
            method(event.position, event.pos)


def key_name(event: Any) -> str:
    """Return the key of an event as napari writes it, such as ``Control-Shift-Z``."""
    name = QKeySequence(event.key()).toString(QKeySequence.SequenceFormat.PortableText)
    name = _QT_NAMES.get(name, name)
    modifiers = event.modifiers()
    held = (
        ("Control", Qt.KeyboardModifier.ControlModifier),
        ("Alt", Qt.KeyboardModifier.AltModifier),
        ("Shift", Qt.KeyboardModifier.ShiftModifier),
    )
    return "-".join([*(word for word, flag in held if modifiers & flag), name])


# ---- keyboard focus
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
