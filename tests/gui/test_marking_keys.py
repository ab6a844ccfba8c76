"""Keys of marking, as Qt hands them out."""

import ctypes

import pytest
from qtpy import API_NAME
from qtpy.QtCore import QEvent, QPointF, Qt
from qtpy.QtGui import QKeyEvent, QMouseEvent

from napari_atomicity.gui.controls.forms import as_key_event
from napari_atomicity.gui.controls.shortcuts import key_name

PLAIN = Qt.KeyboardModifier.NoModifier
NO_BUTTON = Qt.MouseButton.NoButton
SIZE = 80
"""Bytes that both kinds of events have at least."""


@pytest.mark.skipif(API_NAME != "PyQt6", reason="a wrapper is kept by address in PyQt only")
def test_a_key_at_the_address_of_an_earlier_event_of_the_mouse_is_a_key(qapp):
    from qtpy import sip

    key = QKeyEvent(QEvent.Type.KeyPress, Qt.Key.Key_U, PLAIN)
    mouse = QMouseEvent(
        QEvent.Type.MouseMove, QPointF(0, 0), QPointF(0, 0), NO_BUTTON, NO_BUTTON, PLAIN
    )
    address = sip.unwrapinstance(mouse)
    before = ctypes.string_at(address, SIZE)
    ctypes.memmove(address, sip.unwrapinstance(key), SIZE)
    try:
        assert mouse.type() == QEvent.Type.KeyPress
        assert not hasattr(mouse, "key")
        assert key_name(as_key_event(mouse)) == "U"
    finally:  # each is destroyed as what it was made
        ctypes.memmove(address, before, SIZE)


def test_other_keys_stay_what_they_are(qapp):
    key = QKeyEvent(QEvent.Type.KeyPress, Qt.Key.Key_Backtab, Qt.KeyboardModifier.ShiftModifier)
    assert as_key_event(key) is key
    assert key_name(key) == "Shift-Tab"
