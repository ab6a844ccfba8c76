"""The watchdog of the event loop names where a turn took long."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from qtpy import PYSIDE6

from slow_turns import LIMIT_MS

if PYSIDE6:
    pytest.skip("PySide6 passes widgets that are already deleted", allow_module_level=True)


@pytest.fixture(scope="module")
def turns():
    """Turns that took long, by the function that ran in them."""
    script = Path(__file__).parent / "watched_turns.py"
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2] / "tools")}
    done = subprocess.run(
        [sys.executable, str(script)],
        capture_output=True,
        text=True,
        timeout=120,
        check=True,
        env=environment,
    )
    return json.loads(done.stdout)


@pytest.mark.parametrize("function", ["wait_in_python", "wait_in_c"])
def test_a_long_turn_is_named_by_its_place(turns, function):
    (block,) = turns[function]
    assert block["wall_ms"] >= 4 * LIMIT_MS
    assert "watched_turns.py:" in block["inside"] and function in block["inside"]
    assert block["ours"] == ""


def test_a_short_turn_is_not_listed(turns):
    assert turns["bool"] == []


def test_the_stack_is_read_in_the_thread_of_the_window(turns):
    (block,) = turns["noted"]
    assert turns["only_in_window_thread"] and block["inside"] == "wait_in_python"
