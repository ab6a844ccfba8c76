"""Messages that go by themselves."""

from __future__ import annotations

from functools import partial

from napari._qt.dialogs.qt_notification import NapariQtNotification
from napari.utils import notifications
from qtpy.compat import isalive
from qtpy.QtCore import QTimer
from qtpy.QtGui import QCursor

SHOWN_MS = 15_000


def show_info(message: str) -> None:
    """Show a message for information.

    napari closes its messages after some seconds, but not if another one follows, nor if its
    window is not the active one: these would stay over the image.
    """
    before = set(NapariQtNotification._instances)
    notifications.show_info(message)
    for shown in set(NapariQtNotification._instances) - before:
        QTimer.singleShot(SHOWN_MS, partial(_close, shown))


def _close(shown: NapariQtNotification) -> None:
    """Close a message unless it is being read."""
    if not isalive(shown):
        return
    is_under_mouse = shown.rect().contains(shown.mapFromGlobal(QCursor.pos()))
    if is_under_mouse or shown.property("expanded"):
        QTimer.singleShot(SHOWN_MS, partial(_close, shown))
    else:
        shown.close()
