"""`atomicity explain`: class maps of all clusters, class averages, and what is refused."""

import json

import numpy as np
import pandas as pd
import pytest
import tifffile
from typer.testing import CliRunner

from napari_atomicity import load
from napari_atomicity.cli.commands import app
from napari_atomicity.models.inference import load_classifier
from napari_atomicity.pipeline.analysis import analyse
from napari_atomicity.pipeline.explanations import explain_images
from napari_atomicity.pipeline.run_request import ExplainRequest

AVERAGES = {f"class-averages.{kind}" for kind in ("png", "svg", "pdf")}
TABLES = {"class-profiles.csv", "centre-outline.csv"}


def atomicity(*arguments):
    return CliRunner().invoke(app, [str(a) for a in arguments])


@pytest.fixture
def request_of(tiny_model):
    """Settings with the small model; images are labelled by themselves."""

    def make(**settings):
        return ExplainRequest(model=str(tiny_model), device="cpu", session="none", **settings)

    return make


def test_class_maps_of_all_clusters_and_their_averages_are_written(
    images, tmp_path, request_of, tiny_model
):
    (images / "bad.tif").write_text("no image")
    out = tmp_path / "out"
    run = explain_images([images], out, request_of())
    assert [o.status for o in run.outcomes].count("done") == 5 and len(run.failed) == 1
    table = pd.read_csv(out / "clusters.csv")
    assert len(table) == len(run.table) > 0
    analysis = analyse(load(images / "0.tif"), str(tiny_model), "cpu", umap=False)
    path = out / "class_maps" / "0.tif-class-maps.tif"
    with tifffile.TiffFile(path) as file:
        assert file.series[0].axes in ("ZCYX", "CYX", "ZYX", "YX")
        labels = file.imagej_metadata["Labels"]
        assert file.imagej_metadata["unit"] == "nm"
    stack = np.stack([analysis.class_maps[c] for c in analysis.class_maps], axis=1)
    np.testing.assert_allclose(tifffile.imread(path).reshape(stack.shape), stack, atol=1e-5)
    first = analysis.table.iloc[0]
    assert labels[0] == f"{first['cluster_id']} {first['label']}, {next(iter(analysis.class_maps))}"
    assert {p.name for p in out.iterdir()} == {
        "clusters.csv", "class_maps", "run.json", "ro-crate-metadata.json", *AVERAGES, *TABLES,
    }  # fmt: skip
    balances = pd.read_csv(out / "centre-outline.csv")
    assert set(balances["channel"]) == {"raw", "LCN"}
    assert {"class", "quantity", "clusters", "centre_against_outline", "low"} <= set(balances)
    record = json.loads((out / "run.json").read_text())
    assert record["images_done"] == 5 and record["images_failed"] == 1
    assert record["model"]["model_id"].startswith("tiny-")
    assert set(record["outputs"]) >= AVERAGES | TABLES | {"class_maps/0.tif-class-maps.tif"}


def test_maps_of_a_chosen_class_are_those_of_the_network(images, tmp_path, request_of, tiny_model):
    run = explain_images(
        [images / "0.tif"], tmp_path / "out", request_of(explained=("Pt70", "Pt19"))
    )
    assert list(run.averages) == ["Pt70", "Pt19"]
    classifier = load_classifier(tiny_model, "cpu")
    analysis = analyse(load(images / "0.tif"), classifier, umap=False)
    maps = classifier.class_maps(analysis.patches, "Pt19")
    path = tmp_path / "out" / "class_maps" / "0.tif-class-maps-Pt19.tif"
    stack = np.stack(list(maps.values()), axis=1)
    np.testing.assert_allclose(tifffile.imread(path).reshape(stack.shape), stack, atol=1e-5)
    assert (tmp_path / "out" / "class-averages-Pt70.svg").exists()
    assert (tmp_path / "out" / "centre-outline-Pt19.csv").exists()
    for averages in run.averages.values():  # the map counts whatever the label is
        assert "corrected (from the class maps only)" not in averages.left_out


def test_the_command_prints_a_summary_and_its_record_repeats_it(images, tmp_path, tiny_model):
    common = ("--model", tiny_model, "--device", "cpu", "--json")
    options = ("--class", "Pt70", "--unit", "nm", "--per-class", "50", "--threshold", "6")
    first = atomicity("explain", images, "--out", tmp_path / "a", *common, *options)
    assert first.exit_code == 0, first.stderr
    summary = json.loads(first.stdout)
    assert list(summary["explained"]) == ["Pt70"] and summary["explained"]["Pt70"]["unit"] == "nm"
    assert "class maps of Pt70" in first.stderr and "averaged" in first.stderr
    record = tmp_path / "a" / "run.json"
    again = atomicity("explain", "--settings", record, "--out", tmp_path / "b", "--json")
    assert again.exit_code == 0, again.stderr
    assert json.loads(again.stdout)["explained"] == summary["explained"]


def test_wrong_usage_writes_nothing(images, tmp_path, tiny_model):
    out = tmp_path / "out"
    for arguments, words in (
        ((images, "--class", "Pt30"), "no class 'Pt30'"),
        ((images, "--unit", "px"), "--unit"),
        ((images, "--per-class", "0"), "--per-class"),
        ((tmp_path / "none", "--class", "Pt70"), "there is no such"),
    ):
        result = atomicity("explain", *arguments, "--out", out, "--model", tiny_model)
        assert result.exit_code == 2 and words in result.stderr, result.stderr
        assert not out.exists()


def test_what_is_stopped_has_clusters_and_record_but_no_averages(images, tmp_path, request_of):
    done = []
    run = explain_images(
        [images], tmp_path / "out", request_of(), stop=lambda: len(done) > 1,
        on_outcome=lambda *_: done.append(1),
    )  # fmt: skip
    assert run.interrupted and not run.averages
    assert {p.name for p in (tmp_path / "out").iterdir()} == {
        "clusters.csv",
        "run.json",
        "ro-crate-metadata.json",
    }
    assert json.loads((tmp_path / "out" / "run.json").read_text())["status"] == "interrupted"
