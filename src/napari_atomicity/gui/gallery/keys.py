"""Keys of the gallery: shortcuts, and the arrows that move between tiles."""

from __future__ import annotations

from qtpy.QtCore import Qt
from qtpy.QtGui import QKeyEvent, QKeySequence

from ..controls.shortcuts import GALLERY, Shortcut
from .grid import GalleryGrid

_PORTABLE = QKeySequence.SequenceFormat.PortableText


def shortcut_of(
    event: QKeyEvent, shortcuts: tuple[Shortcut, ...] = GALLERY
) -> tuple[Shortcut, str] | None:
    """Return the shortcut of a key and the key; None if it has no shortcut.

    Digits and letters are recognised by the text that they write, on any keyboard layout.
    """
    other = Qt.KeyboardModifier.ControlModifier | Qt.KeyboardModifier.AltModifier
    text = event.text()
    if not event.modifiers() & other and text.isprintable() and text.strip():
        names = {text.upper()}
    else:
        names = {QKeySequence(event.keyCombination()).toString(_PORTABLE)}
    if event.key() == Qt.Key.Key_Enter:
        names = {"Return"}
    for shortcut in shortcuts:
        for key in shortcut.keys:
            if _portable(key) in names:
                return shortcut, key
    return None


def _portable(key: str) -> str:
    """Return a key as Qt writes it; napari writes ``Control-Z``."""
    return QKeySequence(key.replace("Control", "Ctrl").replace("-", "+")).toString(_PORTABLE)


def position_after_key(grid: GalleryGrid, position: int, key: int, page: int) -> int | None:
    """Return the position that a movement key leads to."""
    steps = {Qt.Key.Key_Left: -1, Qt.Key.Key_Right: 1}
    rows = {
        Qt.Key.Key_Up: -1, Qt.Key.Key_Down: 1,
        Qt.Key.Key_PageUp: -page, Qt.Key.Key_PageDown: page,
    }  # fmt: skip
    last = len(grid) - 1
    if last < 0 or key not in {*steps, *rows, Qt.Key.Key_Home, Qt.Key.Key_End}:
        return None
    if position < 0:
        return 0
    if key in steps:
        return min(max(position + steps[key], 0), last)
    if key in rows:
        return grid.position_below(position, rows[key])
    return 0 if key == Qt.Key.Key_Home else last
