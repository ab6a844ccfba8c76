"""The documentation site builds without warnings, offline."""

import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("pydata_sphinx_theme", reason="the extra docs is not installed")
ROOT = Path(__file__).parents[1]


def test_the_site_builds_without_warnings(tmp_path):
    options = ["-b", "html", "-W", "--keep-going", "-q", "-D", "plot_gallery=0"]
    done = subprocess.run(
        [sys.executable, "-m", "sphinx", *options, ROOT / "docs", tmp_path],
        capture_output=True,
        text=True,
        timeout=600,
    )
    assert done.returncode == 0, done.stderr
    for page in (
        "index",
        "reference/command-line",
        "reference/generated/api/napari_atomicity.load",
    ):
        assert (tmp_path / f"{page}.html").is_file()
