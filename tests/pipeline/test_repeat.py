"""The command and the lines of Python that repeat an analysis give the same clusters."""

import shlex

import pandas as pd
import pytest
import tifffile
from typer.testing import CliRunner

from napari_atomicity import analyse
from napari_atomicity.cli.commands import app
from napari_atomicity.io.tables import read_clusters
from napari_atomicity.pipeline.repeat import as_command, as_python, request_of
from support import synthetic_analysis

LABELS = ["image", "cluster_id", "label", "confidence", "diameter_nm"]


@pytest.fixture(scope="module")
def images(tmp_path_factory):
    folder = tmp_path_factory.mktemp("two words")
    for name in ("a.tif", "b's.tif"):
        tifffile.imwrite(folder / name, synthetic_analysis().micrograph.data)
    return sorted(folder.iterdir())


@pytest.fixture(scope="module")
def analyses(images, tiny_model):
    settings = {"threshold": 7.5, "split_touching": False}
    return analyse(
        images, str(tiny_model), "cpu", pixel_size_nm=0.05, settings=settings, session="all",
        labels="network", progress=False,
    )  # fmt: skip


@pytest.fixture
def request_(analyses, tiny_model, monkeypatch):
    monkeypatch.setattr("napari_atomicity.pipeline.repeat.model_files", lambda: [tiny_model])
    return request_of(list(analyses))


def test_the_command_gives_the_same_clusters(analyses, images, request_, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    words = shlex.split(as_command(request_, images))
    assert words[:2] == ["atomicity", "analyse"] and "--no-split" in as_command(request_, images)
    ended = CliRunner().invoke(app, words[1:])
    assert ended.exit_code == 0, ended.output
    found = read_clusters(tmp_path / "results" / "clusters.csv")
    pd.testing.assert_frame_equal(
        found[LABELS], analyses.table[LABELS].reset_index(drop=True), check_dtype=False
    )


def test_the_lines_of_python_give_the_same_clusters(
    analyses, images, request_, tmp_path, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    names: dict = {}
    exec(as_python(request_, images), names)
    pd.testing.assert_frame_equal(names["analyses"].table[LABELS], analyses.table[LABELS])
    assert (tmp_path / "results" / "clusters.csv").is_file()


def test_settings_that_are_the_defaults_are_not_given(images, tiny_model, monkeypatch):
    alone = analyse(images[0], str(tiny_model), "cpu", pixel_size_nm=0.05, progress=False)
    monkeypatch.setattr("napari_atomicity.pipeline.repeat.model_files", lambda: [tiny_model])
    text = as_command(request_of([alone]), images[:1])
    assert "--threshold" not in text and "--labels" not in text and "--session none" in text
