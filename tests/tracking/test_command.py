"""Stacks through a run, as the command line does it; and the time of a frame in files."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import tifffile
import torch
from films import CLASSES, film
from typer.testing import CliRunner

from napari_atomicity.cli import commands as cli
from napari_atomicity.core.model_card import ModelCard
from napari_atomicity.io.images import load
from napari_atomicity.io.readers.units import seconds
from napari_atomicity.pipeline.run_request import RunRequest
from napari_atomicity.pipeline.runs import engine, one_image
from napari_atomicity.pipeline.runs.engine import analyse_images
from napari_atomicity.tracking.files import FILES


class FakeClassifier:
    card = ModelCard("fake", CLASSES, sha256="0" * 64)
    device = torch.device("cpu")
    device_name = "cpu"


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A stack and a single image, and a pipeline that takes no time."""
    made, _, _ = film(n_frames=8, n_clusters=8, seed=5)
    table = made.table.drop(columns=["truth_id", "state", "merged"])

    def analyse(micrograph, classifier, progress, stop, **_):
        inside = table["frame"] < micrograph.n_frames
        mine = table[inside].assign(image=micrograph.name).reset_index(drop=True)
        outlines = [o for o, keep in zip(made.outlines, inside, strict=True) if keep]
        # a dictionary of its own: what is found is put into it
        return replace(made, micrograph=micrograph, table=mine, outlines=outlines, parameters={})

    monkeypatch.setattr(engine, "load_classifier", lambda model, device: FakeClassifier())
    monkeypatch.setattr(one_image, "analyse", analyse)
    folder = tmp_path / "in"
    folder.mkdir()
    options = {"imagej": True, "resolution": (5, 5)}
    stack = made.micrograph.data.astype(np.uint16)
    about = {"unit": "nm", "finterval": 0.5, "axes": "TYX"}
    tifffile.imwrite(folder / "stack.tif", stack, metadata=about, **options)
    tifffile.imwrite(folder / "one.tif", stack[0], metadata={"unit": "nm"}, **options)
    return folder


def test_a_stack_gets_its_tables(folder, tmp_path):
    out = tmp_path / "out"
    run = analyse_images([folder], out)
    assert not run.failed
    assert set(FILES) <= {path.name for path in run.files}
    assert all(path.is_file() for path in run.files)
    clusters = pd.read_csv(out / "clusters.csv")
    assert (clusters.loc[clusters["image"] == "one.tif", "track_id"] == -1).all()
    of_stack = clusters[clusters["image"] == "stack.tif"].set_index("cluster_id")
    tracks = pd.read_csv(out / "tracks.csv")
    assert set(tracks["image"]) == {"stack.tif"}
    assert (of_stack.loc[tracks["cluster_id"], "track_id"].to_numpy() == tracks["track_id"]).all()
    assert len(pd.read_csv(out / "drift.csv")) == 8
    record = json.loads((out / "run.json").read_text())
    assert {"tracks.csv", "movies.json"} <= {path.rsplit("/")[-1] for path in record["outputs"]}
    ratios = pd.read_csv(out / "ratios.csv")
    ratios = ratios[(ratios["scope"] == "stack.tif") & ratios["fraction"].notna()]
    assert 0 < ratios["count"].sum() <= tracks["track_id"].nunique()
    assert ratios["time_fraction"].sum() == pytest.approx(1)
    # another run, of single images only, leaves no tables of movies behind
    analyse_images([folder / "one.tif"], out)
    assert not any((out / name).exists() for name in FILES)


def test_frames_are_averaged_before(folder, tmp_path):
    seen = []
    run = analyse_images(
        [folder], tmp_path / "out", RunRequest(average_frames=4),
        on_outcome=lambda outcome, analysis: seen.append(analysis.micrograph),
    )  # fmt: skip
    assert not run.failed
    shapes = {m.name: m.n_frames for m in seen}
    assert shapes == {"one.tif": 1, "stack.tif": 2}
    (stack,) = (m for m in seen if m.name == "stack.tif")
    assert stack.metadata["frame_time_s"] == pytest.approx(2.0)
    record = json.loads((tmp_path / "out" / "run.json").read_text())
    assert record["parameters"]["average_frames"] == 4
    assert len(pd.read_csv(tmp_path / "out" / "drift.csv")) == 2


def test_all_frames_averaged_are_an_image(folder, tmp_path):
    analyse_images([folder / "stack.tif"], tmp_path / "out", RunRequest(average_frames="all"))
    assert not (tmp_path / "out" / "tracks.csv").exists()
    assert "track_id" not in pd.read_csv(tmp_path / "out" / "clusters.csv").columns


@pytest.mark.parametrize("wrong", ["0", "-3", "some", "1.5", ""])
def test_no_number_of_frames_is_wrong_usage(folder, tmp_path, wrong):
    arguments = ["analyse", str(folder), "--out", str(tmp_path / "o"), "--average-frames", wrong]
    result = CliRunner().invoke(cli.app, arguments)
    assert result.exit_code == 2
    assert not (tmp_path / "o").exists()


def test_numbers_of_frames_are_passed_on(folder, tmp_path):
    for text, wanted in (("2", 2), ("all", "all")):
        out = tmp_path / text
        arguments = ["analyse", str(folder), "--out", str(out), "--average-frames", text]
        assert CliRunner().invoke(cli.app, arguments).exit_code == 0
        assert json.loads((out / "run.json").read_text())["parameters"]["average_frames"] == wanted


# ---- the time of a frame
def test_time_of_a_frame_in_tiff(tmp_path):
    frames = np.zeros((3, 8, 8), np.uint16)
    frames[:, 2] = 5
    path = tmp_path / "a.tif"
    tifffile.imwrite(path, frames, imagej=True, metadata={"fps": 7.0, "axes": "TYX"})
    assert "frame_time_s" not in load(path).metadata
    tifffile.imwrite(path, frames, imagej=True, metadata={"finterval": 0.2, "axes": "TYX"})
    assert load(path).metadata["frame_time_s"] == pytest.approx(0.2)
    about = {"axes": "TYX", "TimeIncrement": 40.0, "TimeIncrementUnit": "ms"}
    path = tmp_path / "a.ome.tif"
    tifffile.imwrite(path, frames, metadata=about)
    assert load(path).metadata["frame_time_s"] == pytest.approx(0.04)


@pytest.mark.parametrize(
    ("value", "unit", "expected"),
    [("2", "s", 2.0), (3, "ms", 0.003), (1, "min", 60.0), (0, "s", None), (1, "frame", None),
     (None, "s", None), ("nan", "s", None)],
)  # fmt: skip
def test_seconds(value, unit, expected):
    assert seconds(value, unit) == expected
