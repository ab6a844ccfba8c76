"""Turns of a watched event loop as JSON; run by test_watchdog in a process of its own."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable
from dataclasses import asdict
from unittest.mock import patch

from qtpy.QtCore import QTimer

import slow_turns

WAIT_S = 4e-3 * slow_turns.LIMIT_MS


def wait_in_python() -> None:
    end = time.perf_counter() + WAIT_S
    while time.perf_counter() < end:
        pass


def wait_in_c() -> None:
    time.sleep(WAIT_S)


def blocks_of(app: slow_turns.Watched, function: Callable[[], object]) -> list[dict]:
    """Run a function in a turn of the event loop; return the turns that took long."""
    done: list[object] = []
    app.clear()
    QTimer.singleShot(0, lambda: done.append(function()))
    while not done:
        app.processEvents()
    return [asdict(block) for block in app.blocks]


def main() -> None:
    app, threads = slow_turns.Watched(), set()

    def note(frame):
        threads.add(threading.get_ident())
        return "", frame.f_code.co_name

    found = {f.__name__: blocks_of(app, f) for f in (wait_in_python, wait_in_c, bool)}
    with patch.object(slow_turns, "_places", note):
        found["noted"] = blocks_of(app, wait_in_python)
    found["only_in_window_thread"] = threads == {threading.get_ident()}
    print(json.dumps(found))


if __name__ == "__main__":
    main()
