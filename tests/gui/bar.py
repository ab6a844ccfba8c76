"""Clicks in the bar of the window."""

from __future__ import annotations

import time
from typing import Any

from mouse import LEFT
from qtpy.QtTest import QTest

from napari_atomicity.gui.panels.workbench_bar import workbench_bar


def click_cancel(viewer: Any) -> None:
    """Cancel the running task."""
    button = workbench_bar(viewer).task.cancel_button
    end = time.monotonic() + 10
    while not button.isVisible():
        assert time.monotonic() < end, "no task runs"
        QTest.qWait(1)
    QTest.mouseClick(button, LEFT)
