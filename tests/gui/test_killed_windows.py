"""A window that is killed loses no correction that it has saved."""

from __future__ import annotations

import os

import pytest
from qtpy.QtWidgets import QApplication
from window_kills import kill_windows

KILLS = 4


@pytest.mark.skipif(not hasattr(os, "fork"), reason="processes cannot be forked here")
def test_windows_that_are_killed_lose_nothing(qapp, tmp_path):
    if QApplication.platformName() != "xcb":
        pytest.skip("the windows are shown by X11")
    found = kill_windows(tmp_path, KILLS, seed=20261122)
    assert found.windows == KILLS and found.acknowledged > 0
    assert found.before_first_edit == 1 and found.in_analyse_all <= 1
