"""Runs with outlines of other programs and with regions: command, batch and Python."""

import json
import shlex
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import tifffile
from typer.testing import CliRunner

from napari_atomicity import analyse, load
from napari_atomicity.cli.commands import app
from napari_atomicity.core.errors import AtomicityError, ReadError, SettingError
from napari_atomicity.detection import detect
from napari_atomicity.io.outline_files import write_outlines
from napari_atomicity.io.tables import read_clusters
from napari_atomicity.pipeline.live.watch import Watch
from napari_atomicity.pipeline.repeat import as_command, request_of
from napari_atomicity.pipeline.run_request import RunRequest
from napari_atomicity.pipeline.runs import engine, finalize
from napari_atomicity.pipeline.runs.engine import analyse_images
from napari_atomicity.pipeline.runs.one_image import detect_again
from pipeline.conftest import write_film, write_image


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    monkeypatch.setattr(engine, "SHOWN", 0)
    monkeypatch.setattr(finalize, "write_report", lambda path, *_, **__: path.write_text(""))


@pytest.fixture
def folder(tmp_path):
    """Two images, and in another folder the outlines of their first two and three clusters."""
    for seed, name in enumerate("ab"):
        path = write_image(tmp_path / "in" / f"{name}.tif", seed=seed)
        write_first(tmp_path / "outlines" / f"{name}_rois.zip", path, 2 + seed)
    return tmp_path


def write_first(file, image, n):
    """Write the outlines of the first clusters of an image."""
    found = detect(load(image))
    file.parent.mkdir(exist_ok=True)
    table = found.table.head(n).assign(label="")
    return write_outlines(file, table, found.outlines[:n], load(image).shape)


def atomicity(*words):
    return CliRunner().invoke(app, [str(word) for word in words])


def command(folder, tiny_model, *words, name="analyse"):
    options = ("--out", folder / "out", "--model", tiny_model, "--device", "cpu", "--no-umap")
    return atomicity(name, *words, *options)


def numbers(folder) -> dict[str, int]:
    return read_clusters(folder / "out" / "clusters.csv")["image"].value_counts().to_dict()


def test_a_folder_of_outlines_on_the_command_line(folder, tiny_model):
    ended = command(folder, tiny_model, folder / "in", "--outlines", folder / "outlines")
    assert ended.exit_code == 0, ended.output
    assert numbers(folder) == {"a.tif": 2, "b.tif": 3}
    table = read_clusters(folder / "out" / "clusters.csv")
    assert (table["label_predicted"] != "").all()
    record = json.loads((folder / "out" / "run.json").read_text())
    drawn = record["images"][0]["parameters"]["outlines"]
    assert drawn["source"].endswith("a_rois.zip") and drawn["objects"] == 2
    assert len(drawn["sha256"]) == 64


def test_a_resumed_run_with_other_outlines_measures_again(folder, tiny_model):
    request = RunRequest(str(tiny_model), "cpu", umap=False, outlines=str(folder / "outlines"))

    def run(changed=request):
        return analyse_images([folder / "in"], folder / "out", changed)

    assert run().reused == 0 and run().reused == 2
    write_first(folder / "outlines" / "a_rois.zip", folder / "in" / "a.tif", 4)
    assert run().reused == 1 and numbers(folder) == {"a.tif": 4, "b.tif": 3}
    of_program = RunRequest(str(tiny_model), "cpu", umap=False)
    assert run(of_program).reused == 0
    regions = RunRequest(str(tiny_model), "cpu", umap=False, rois=str(folder / "outlines"))
    assert run(regions).reused == 0


@pytest.mark.parametrize("name", ["analyse", "batch"])
def test_workers_read_the_outlines_too(folder, tiny_model, name, forks):
    words = (folder / "in", "--outlines", folder / "outlines", "--workers", 2)
    ended = command(folder, tiny_model, *words, name=name)
    assert ended.exit_code == 0, ended.output
    assert numbers(folder) == {"a.tif": 2, "b.tif": 3}


def test_an_image_without_outlines_fails_and_the_others_do_not(folder, tiny_model):
    write_image(folder / "in" / "c.tif", seed=5)
    ended = command(folder, tiny_model, folder / "in", "--outlines", folder / "outlines")
    assert ended.exit_code == 1 and numbers(folder) == {"a.tif": 2, "b.tif": 3}
    failures = pd.read_csv(folder / "out" / "failures.csv")
    assert failures["image"].tolist() == ["c.tif"]
    assert "0 files with outlines of c.tif" in failures["error"][0]
    assert "c_masks.tif" in failures["error"][0]


def test_wrong_use_ends_before_the_work(folder, tiny_model):
    one = folder / "outlines" / "a_rois.zip"
    ended = command(folder, tiny_model, folder / "in", "--outlines", one)
    assert ended.exit_code == 2 and "one file of outlines for 2 images" in ended.output
    ended = command(folder, tiny_model, folder / "in", "--rois", folder / "missing.zip")
    assert ended.exit_code == 2 and "missing.zip" in ended.output
    assert not (folder / "out" / "clusters.csv").exists()


def test_class_maps_of_given_outlines(folder, tiny_model):
    ended = atomicity(
        "explain", folder / "in", "--outlines", folder / "outlines", "--out", folder / "out",
        "--model", tiny_model, "--device", "cpu",
    )  # fmt: skip
    assert ended.exit_code == 0, ended.output
    assert "5 clusters" in ended.output


def test_regions_on_the_command_line(folder, tiny_model):
    image = folder / "in" / "a.tif"
    labels = np.zeros(load(image).shape, np.uint8)
    labels[:, :80] = 1
    tifffile.imwrite(folder / "left.tif", labels)
    everything = detect(load(image)).table
    ended = command(folder, tiny_model, image, "--rois", folder / "left.tif")
    assert ended.exit_code == 0, ended.output
    left = everything[everything["x_px"] < 79.5]
    table = read_clusters(folder / "out" / "clusters.csv")
    np.testing.assert_allclose(table["x_px"], left["x_px"], atol=1e-3)
    assert 0 < len(left) < len(everything)


@pytest.mark.parametrize("given", [(), ("--outlines",), ("--rois",)])
def test_figures_show_the_clusters_of_the_run(folder, tiny_model, given):
    words = (given[0], folder / "outlines") if given else ()
    figures = ("--figures", folder / "figures")
    ended = command(folder, tiny_model, folder / "in", *words, *figures)
    assert ended.exit_code == 0, ended.output
    table = read_clusters(folder / "out" / "clusters.csv").set_index("image")
    for image in ("a.tif", "b.tif"):
        drawn = pd.read_csv(folder / "figures" / f"{image} clusters.csv")
        assert drawn["label"].tolist() == table.loc[image, "label"].tolist()
        assert (folder / "figures" / f"{image} clusters_two_columns.pdf").is_file()
    # A file that was replaced since then is left out: its outlines would be of other clusters.
    outcome, *_ = analyse_images([folder / "in"], folder / "out", settings_of(tiny_model)).outcomes
    rows = table.reset_index().query("image == 'a.tif'")
    if not given:
        assert len(detect_again(outcome, rows, settings_of(tiny_model)).outlines) == len(rows)
        write_image(folder / "in" / "a.tif", seed=8)
        assert detect_again(outcome, rows, settings_of(tiny_model)) is None


def settings_of(tiny_model) -> RunRequest:
    return RunRequest(str(tiny_model), "cpu", umap=False)


def test_outlines_beside_the_images(folder, tiny_model):
    for file in (folder / "outlines").iterdir():
        file.rename(folder / "in" / file.name)
    labels = tifffile.imread(folder / "in" / "a.tif") * 0
    labels[20:30, 20:30] = 1
    (folder / "in" / "a_rois.zip").unlink()
    tifffile.imwrite(folder / "in" / "a_cp_masks.tif", labels)
    ended = command(folder, tiny_model, folder / "in", "--outlines", folder / "in")
    assert ended.exit_code == 0, ended.output
    assert numbers(folder) == {"a.tif": 1, "b.tif": 3}


def test_the_command_of_an_analysis_has_its_outlines(folder, tiny_model, monkeypatch):
    monkeypatch.setattr("napari_atomicity.models.files.model_files", lambda _: [tiny_model])
    images = sorted((folder / "in").iterdir())
    found = analyse(
        images, str(tiny_model), "cpu", outlines=folder / "outlines", progress=False, umap=False
    )
    words = shlex.split(as_command(request_of(list(found)), images))
    assert words[words.index("--outlines") + 1] == str(folder / "outlines")
    words = shlex.split(as_command(request_of([found["a.tif"]]), images[:1]))
    assert words[words.index("--outlines") + 1] == str(folder / "outlines" / "a_rois.zip")
    layer = replace(found["a.tif"], parameters={"outlines": {"source": "layer a"}})
    with pytest.raises(AtomicityError, match="not in files of one folder"):
        request_of([layer])


def test_the_command_of_a_session_says_how_many_images_have_no_outlines(
    folder, tiny_model, monkeypatch
):
    monkeypatch.setattr("napari_atomicity.models.files.model_files", lambda _: [tiny_model])
    (folder / "outlines" / "a_rois.zip").rename(folder / "a_rois.zip")
    ended = command(folder, tiny_model, folder / "in", "--outlines", folder / "outlines")
    said = " ".join(ended.output.split())
    assert "0 files with outlines of a.tif" in said  # so such a run can't be repeated
    images = sorted((folder / "in").iterdir())
    own = analyse(images[0], str(tiny_model), "cpu", outlines=folder / "a_rois.zip", progress=False)
    other = analyse(images[1], str(tiny_model), "cpu", progress=False)
    for pair in ([own, other], [other, own]):
        with pytest.raises(AtomicityError, match="1 of 2 images of this session") as refused:
            request_of(pair)
        assert "have no imported outlines" in str(refused.value)


# ---- Python
def test_labels_in_memory(folder, tiny_model):
    image = load(folder / "in" / "a.tif")
    labels = np.zeros(image.shape, int)
    labels[20:32, 20:32] = 7
    found = analyse(image, str(tiny_model), "cpu", outlines=labels, progress=False)
    assert found.table["y_px"].tolist() == pytest.approx([25.5], abs=0.1)
    assert found.table["label_predicted"].iloc[0] != ""
    everything = analyse(image, str(tiny_model), "cpu", progress=False)
    found = analyse(image, str(tiny_model), "cpu", rois=np.ones(image.shape, bool), progress=False)
    assert len(found.table) == len(everything.table)
    with pytest.raises(ValueError, match="labels are of one image"):
        analyse([image, image], str(tiny_model), "cpu", outlines=labels, progress=False)
    with pytest.raises(AtomicityError, match="9 × 9 pixels"):
        analyse(image, str(tiny_model), "cpu", outlines=np.eye(9, dtype=int), progress=False)


def test_outlines_of_an_averaged_movie_are_of_one_image(folder, tiny_model):
    film = write_film(folder / "film.tif")
    labels = np.zeros((120, 160), int)
    labels[20:32, 20:32] = 1
    found = analyse(
        film, str(tiny_model), "cpu", outlines=labels, average_frames="all", progress=False
    )
    assert len(found.table) == 1
    with pytest.raises(ReadError, match="no such file"):
        analyse(film, str(tiny_model), "cpu", outlines=folder / "missing.tif", progress=False)


def test_a_watched_folder_takes_no_outlines(folder):
    with pytest.raises(SettingError, match="while a folder is watched"):
        Watch(folder, folder / "out", RunRequest(outlines=str(folder)))
