"""A person closes the window while images are analysed."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from qtpy.QtWidgets import QApplication
from test_browse import write

from napari_atomicity.project import Project

SCRIPT = Path(__file__).with_name("closed.py")


def test_closing_in_the_middle_asks_once_and_leaves_the_project(qapp, tmp_path):
    if QApplication.platformName() != "xcb":
        pytest.skip("the close button of a window is clicked by X11")
    folder = tmp_path / "morning"
    folder.mkdir()
    for i in range(3):
        write(folder / f"{i}.tif", i)
    done = subprocess.run(
        [sys.executable, "-W", "ignore", str(SCRIPT), str(folder)],
        capture_output=True, text=True, timeout=180, check=False,
        env={**os.environ, "XDG_CONFIG_HOME": str(tmp_path), "NAPARI_CONFIG": ""},
    )  # fmt: skip
    asked = [line for line in done.stdout.splitlines() if line.startswith("asked")]
    assert done.stdout.splitlines()[-1] == "ended", done.stderr
    assert "Error" not in done.stderr
    assert len(asked) == 2  # the first one: whether to analyse all again
    assert "Analysing 3 images is not finished. Closing stops it." in asked[1]
    assert "stopped, since the window was closed: Analysing 3 images" in done.stderr
    assert not list(folder.glob("*-wal"))
    with Project(folder / "morning.atomicity") as project:
        assert not project.read_only
        assert project.labels() == {"0.tif": {1: "Pt41"}, "1.tif": {}, "2.tif": {}}
        assert "map" in project.setting("window", {})
