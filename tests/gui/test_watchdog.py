"""The watchdog of the event loop names where a turn took long."""

import threading
import time

import pytest
from qtpy.QtCore import QTimer

from napari_atomicity.gui.controls import watchdog
from napari_atomicity.gui.controls.watchdog import LIMIT_MS, Watched


@pytest.fixture
def blocks_of(qapp, qtbot):
    """Run a function in a turn of the event loop; return the turns that took long."""
    if not isinstance(qapp, Watched):
        pytest.skip("this application is not watched: of PySide6, or of an example before")

    def run(function):
        before, done = len(qapp.blocks), []
        QTimer.singleShot(0, lambda: done.append(function()))
        qtbot.waitUntil(lambda: bool(done))
        found = qapp.blocks[before:]
        del qapp.blocks[before:]
        return found

    return run


def wait_in_python():
    end = time.perf_counter() + 4e-3 * LIMIT_MS
    while time.perf_counter() < end:
        pass


def wait_in_c():
    time.sleep(4e-3 * LIMIT_MS)


@pytest.mark.parametrize("function", [wait_in_python, wait_in_c])
def test_a_long_turn_is_named_by_its_place(blocks_of, function):
    (block,) = blocks_of(function)
    assert block.wall_ms >= 4 * LIMIT_MS
    assert "test_watchdog.py:" in block.inside and function.__name__ in block.inside
    assert block.ours == ""


def test_a_short_turn_is_not_listed(blocks_of):
    assert blocks_of(lambda: None) == []


def test_the_stack_is_read_in_the_thread_of_the_window(blocks_of, monkeypatch):
    threads = set()

    def note(frame):
        threads.add(threading.get_ident())
        return "", frame.f_code.co_name

    monkeypatch.setattr(watchdog, "_places", note)
    (block,) = blocks_of(wait_in_python)
    assert threads == {threading.get_ident()} and block.inside == "wait_in_python"
