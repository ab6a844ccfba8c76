"""A process that is killed in the midst of editing loses nothing that was saved."""

from __future__ import annotations

import os

import pytest
from project_kills import kill_again_and_again

KILLS = 40


@pytest.mark.skipif(not hasattr(os, "fork"), reason="processes cannot be forked here")
def test_killed_again_and_again_mid_edit(project):
    project.close()
    assert kill_again_and_again(project.path, KILLS, seed=20260143) > 3 * KILLS
