"""Wait until a dock shows the window's state."""

from __future__ import annotations

import time
from typing import Any

from qtpy.QtTest import QTest

from napari_atomicity.gui.controls.chart import Chart


def updated(widget: Any, timeout_s: float = 10) -> Any:
    """Return a visible widget once it is refreshed, in one of the next turns of the event loop."""
    end = time.monotonic() + timeout_s
    while widget.outdated():
        assert time.monotonic() < end, f"not refreshed: {widget.outdated()}"
        QTest.qWait(5)
    return widget


def draw_now(chart: Chart) -> None:
    """Draw the figure of a chart without delay."""
    chart._timer.stop()
    for _ in chart._steps():
        pass
    chart._work = None
