"""`atomicity demo` as a person without a display runs it: its own process, files at the end."""

import json
import os
import shutil
import subprocess
import sys

import pytest
from PIL import Image

from napari_atomicity.core.model_card import ModelCard
from napari_atomicity.io.tables import read_clusters, read_table
from napari_atomicity.models.files import available_models


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux can be without a display")
@pytest.mark.skipif(shutil.which("Xvfb") is None, reason="Xvfb is not installed")
def test_the_demo_without_a_display(tmp_path):
    if not available_models(ModelCard):
        pytest.skip("no model is shipped yet")
    hidden = ("DISPLAY", "WAYLAND_DISPLAY", "QT_QPA_PLATFORM")
    environment = {k: v for k, v in os.environ.items() if k not in hidden}
    command = [sys.executable, "-m", "napari_atomicity.cli", "demo", "--out", tmp_path / "out"]
    done = subprocess.run(
        [*command, "--json"], env=environment, capture_output=True, text=True, timeout=400
    )
    assert done.returncode == 0, done.stderr
    assert "Traceback" not in done.stderr
    summary = json.loads(done.stdout)
    expected = {
        "clusters.csv",
        "clusters.parquet",
        "ratios.csv",
        "report.html",
        "run.json",
        "ro-crate-metadata.json",
    }
    expected |= {"clusters", "parts", "failures.csv", ".atomicity.lock"}
    assert {path.name for path in (tmp_path / "out").iterdir()} == {*expected, "napari.png"}
    table = read_clusters(tmp_path / "out" / "clusters.csv")
    assert len(table) == summary["clusters"] > 20
    assert table["umap_1"].notna().all() and (table["label"] != "").all()
    ratios = read_table(tmp_path / "out" / "ratios.csv")
    assert (
        ratios.loc[ratios["class"] != "unknown"]
        .groupby("scope")["fraction"]
        .sum()
        .round(9)
        .eq(1)
        .all()
    )
    with Image.open(tmp_path / "out" / "napari.png") as picture:
        assert picture.width >= 1000 and picture.height >= 600
        # A window that was not painted has a few colours.
        assert len(picture.convert("RGB").getcolors(1 << 24)) > 1000
