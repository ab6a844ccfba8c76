"""Runs over many images: one bad file is a row, and whatever ends a run, what is done is there."""

import json
import os
import shutil
import zlib
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import tifffile
import torch

from napari_atomicity.core.errors import (
    AtomicityError,
    Cancelled,
    ModelError,
    ReadError,
    TableError,
)
from napari_atomicity.core.model_card import ModelCard
from napari_atomicity.io.tables import read_clusters, read_table
from napari_atomicity.pipeline.comparison import compare_results
from napari_atomicity.pipeline.run_request import RunRequest
from napari_atomicity.pipeline.runs import engine, one_image
from napari_atomicity.pipeline.runs.engine import analyse_images
from napari_atomicity.statistics.ratios.ratio_notes import FEW_CLUSTERS
from napari_atomicity.statistics.ratios.ratios import class_ratios
from support import CLASSES, synthetic_analysis

FILES = {
    "clusters.csv", "clusters.parquet", "ratios.csv", "failures.csv", "report.html", "run.json",
    "ro-crate-metadata.json",
}  # fmt: skip
FOLDER = FILES | {"clusters", "parts", ".atomicity.lock"}


class FakeClassifier:
    card = ModelCard("fake", CLASSES, sha256="0" * 64)
    device = torch.device("cpu")
    device_name = "cpu"


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    """A pipeline that takes no time and fails where the image's name says so."""

    def analyse(micrograph, classifier, progress, stop, *, umap, symmetries, **_):
        if "boom" in micrograph.name:
            raise ZeroDivisionError("by design")
        if "interrupt" in micrograph.name:
            raise KeyboardInterrupt
        if "cancel" in micrograph.name:
            raise Cancelled
        micrograph.calibrated()
        progress(1, 2, "Half-way")
        made = synthetic_analysis(6, micrograph.name, seed=len(micrograph.name))
        parameters = {"umap": umap, "symmetries": symmetries}
        if "between" in micrograph.name:
            text = "this session does not fit the classes of the model"
            parameters["session"] = {"misfit": text, "peaks_atoms": [25.2, 47.6]}
        return replace(made, micrograph=micrograph, parameters=parameters)

    monkeypatch.setattr(engine, "load_classifier", lambda model, device: FakeClassifier())
    monkeypatch.setattr(one_image, "analyse", analyse)


@pytest.fixture
def image(tmp_path):
    def write(name, calibrated=True):
        path = tmp_path / "in" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        pixels = (
            np.random.default_rng(zlib.crc32(name.encode()))
            .integers(0, 999, (32, 40))
            .astype(np.uint16)
        )
        metadata = {"unit": "nm"} if calibrated else {}
        resolution = (10, 10) if calibrated else None
        tifffile.imwrite(path, pixels, imagej=True, resolution=resolution, metadata=metadata)
        return path

    return write


def test_a_folder_becomes_tables_report_and_record(tmp_path, image):
    image("a.tif"), image("deep/b.tif")
    out = tmp_path / "out" / "new"
    run = analyse_images([tmp_path / "in"], out, command=["atomicity", "analyse"])
    assert {path.name for path in out.iterdir()} == FOLDER
    table = read_clusters(out / "clusters.csv")
    pd.testing.assert_frame_equal(table, read_clusters(out / "clusters.parquet"))
    assert list(table["image"].unique()) == ["a.tif", "b.tif"]
    ratios = read_table(out / "ratios.csv")
    groups = ["session: in", "session: deep", "sample: in", "sample: deep"]
    assert list(ratios["scope"].unique()) == ["a.tif", "b.tif", *groups, "all"]
    folder = table["image"].map({"a.tif": "in", "b.tif": "deep"})
    assert (table["sample"] == folder).all() and (table["session"] == folder).all()
    record = json.loads((out / "run.json").read_text())
    assert record["status"] == "done" and record["images_done"] == 2
    assert record["command"] == ["atomicity", "analyse"]
    assert record["model"]["sha256"] == "0" * 64 and record["device"] == "cpu"
    assert len(record["images"][0]["sha256"]) == 64
    assert record["images"][0]["pixel_size_nm"] == pytest.approx(0.1)
    assert record["images"][0]["seconds"] == {"detect": 0.1, "network": 0.2}
    assert not run.failed and not run.interrupted


def test_several_samples_are_compared_in_the_report(tmp_path, image):
    for name in ("fresh/a.tif", "fresh/b.tif", "spent/c.tif", "spent/d.tif"):
        image(name)
    analyse_images([tmp_path / "in"], tmp_path / "out")
    report = (tmp_path / "out" / "report.html").read_text()
    assert "<h2>Samples</h2>" in report and "The share of Pt19 is" in report
    assert "fresh: 2 images, spent: 2 images." in report
    record = json.loads((tmp_path / "out" / "run.json").read_text())
    assert [s["name"] for s in record["samples"]] == ["fresh", "spent"]
    assert record["samples"][0]["folder"].endswith("fresh") and not record["failed_statistics"]
    run = compare_results([tmp_path / "out"], tmp_path / "compared", "spent")
    assert set(run.comparison.tested["sample"]) == {"fresh"}
    image("lone.tif")
    analyse_images([tmp_path / "in" / "lone.tif"], tmp_path / "one")
    assert "<h2>Samples</h2>" not in (tmp_path / "one" / "report.html").read_text()


def test_sizes_that_do_not_fit_are_noted_at_the_ratios_and_in_the_report(tmp_path, image):
    image("between.tif"), image("a.tif")
    run = analyse_images([tmp_path / "in"], tmp_path / "out")
    notes = run.ratios.groupby("scope")["note"].first()
    assert notes.str.contains("peaks at 25 and 48 atoms").to_dict() == {
        "a.tif": False, "between.tif": True, "session: in": True, "sample: in": True, "all": True
    }  # fmt: skip
    assert "This session does not fit" in (tmp_path / "out" / "report.html").read_text()
    given = run.ratios.groupby("scope")["fraction"].count()
    pooled = dict.fromkeys(["session: in", "sample: in", "all"], 0)
    assert given.to_dict() == {"a.tif": 5, "between.tif": 0, **pooled}
    run = analyse_images([tmp_path / "in"], tmp_path / "out", RunRequest(keep_ratios=True))
    assert run.ratios["fraction"].notna().all()


def test_bad_files_do_not_stop_the_others(tmp_path, image):
    bad = tmp_path / "in" / "text.tif"
    paths = [image("a.tif"), image("no scale.tif", False), image("boom.tif"), tmp_path / "gone.tif"]
    bad.write_text("no image")
    told = []
    run = analyse_images(
        [*paths, bad, image("z.tif")],
        tmp_path / "out",
        on_outcome=lambda outcome, analysis: told.append((outcome.image, analysis is not None)),
    )
    status = {o.image: o.status for o in run.outcomes}
    assert [n for n, s in status.items() if s == "done"] == ["a.tif", "z.tif"]
    assert dict(told) == {name: s == "done" for name, s in status.items()}
    errors = {o.image: o.error for o in run.failed}
    assert "the pixel size is not known" in errors["no scale.tif"]
    assert errors["boom.tif"] == "unexpected ZeroDivisionError: by design"
    assert "no such file" in errors["gone.tif"]
    record = json.loads((tmp_path / "out" / "run.json").read_text())
    assert record["status"] == "partly failed" and record["images_failed"] == 4
    traces = {i["image"]: i["traceback"] for i in record["images"]}
    assert "ZeroDivisionError" in traces["boom.tif"] and traces["gone.tif"] is None
    report = (tmp_path / "out" / "report.html").read_text()
    assert all(name in report for name in errors)


@pytest.mark.parametrize("how", ["interrupt", "cancel"])
def test_what_was_done_before_an_interruption_is_written(tmp_path, image, how):
    run = analyse_images([image("a.tif"), image(f"{how}.tif"), image("z.tif")], tmp_path / "out")
    assert run.interrupted
    assert [o.status for o in run.outcomes] == ["done", "not reached", "not reached"]
    assert list(read_clusters(tmp_path / "out" / "clusters.csv")["image"].unique()) == ["a.tif"]
    assert json.loads((tmp_path / "out" / "run.json").read_text())["status"] == "interrupted"


def test_stop_is_asked_before_each_image(tmp_path, image):
    done = []
    run = analyse_images(
        [image("a.tif"), image("b.tif")],
        tmp_path / "out",
        stop=lambda: bool(done),
        on_outcome=lambda outcome, _: done.append(outcome),
    )
    assert [o.status for o in run.outcomes] == ["done", "not reached"]


def test_results_are_saved_if_the_run_is_stopped_while_it_draws(tmp_path, image):
    messages = []
    run = analyse_images(
        [image("a.tif"), image("b.tif")],
        tmp_path / "out",
        progress=lambda done, total, message: messages.append(message),
        stop=lambda: "Drawing b.tif" in messages,
    )
    assert run.interrupted and not run.failed
    table = read_clusters(tmp_path / "out" / "clusters.csv")
    assert list(table["image"].unique()) == ["a.tif", "b.tif"]
    assert {path.name for path in (tmp_path / "out").iterdir()} == FOLDER


def test_images_of_one_name_are_told_apart(tmp_path, image):
    run = analyse_images([image("day1/a.tif"), image("day2/a.tif")], tmp_path / "out")
    assert list(run.table["image"].unique()) == ["day1/a.tif", "day2/a.tif"]


def test_a_name_that_is_no_text_is_escaped(tmp_path, image):
    strange = os.fsencode(image("a.tif").parent) + b"/\xff.tif"
    try:
        os.rename(image("a.tif"), strange)  # noqa: PTH104
    except OSError:
        pytest.skip("this file system takes no such name")
    analyse_images([os.fsdecode(strange)], tmp_path / "out")
    assert read_clusters(tmp_path / "out" / "clusters.parquet")["image"][0] == "\\udcff.tif"


def test_nothing_found_leaves_whole_but_empty_files(tmp_path):
    run = analyse_images([tmp_path], tmp_path / "out")
    assert {path.name for path in (tmp_path / "out").iterdir()} == FOLDER
    assert run.failed and len(read_clusters(tmp_path / "out" / "clusters.csv")) == 0
    assert list(run.ratios["class"]) == list(CLASSES)


def test_an_earlier_result_is_replaced(tmp_path, image):
    analyse_images([image("a.tif"), image("b.tif")], tmp_path / "out")
    analyse_images([image("b.tif")], tmp_path / "out")
    assert set(read_clusters(tmp_path / "out" / "clusters.csv")["image"]) == {"b.tif"}
    assert {path.name for path in (tmp_path / "out").iterdir()} == FOLDER


def test_a_run_goes_on_where_an_earlier_one_stopped(tmp_path, image):
    paths, done = [image("a.tif"), image("b.tif"), image("c.tif")], []

    def tell(outcome, analysis):
        done.append(outcome.image)

    stopped = analyse_images(paths, tmp_path / "out", on_outcome=tell, stop=lambda: bool(done))
    assert stopped.interrupted and done == ["a.tif"]
    whole = analyse_images(paths, tmp_path / "out", on_outcome=tell)
    assert done == ["a.tif", "b.tif", "c.tif"] and whole.reused == 1 and not whole.interrupted
    report = (tmp_path / "out" / "report.html").read_text()
    assert all(f'id="{name}"' in report for name in done)
    analyse_images(paths, tmp_path / "at once")
    for name in ("clusters.csv", "clusters.parquet", "clusters/part-00000.parquet", "ratios.csv"):
        files = [tmp_path / folder / name for folder in ("out", "at once")]
        assert files[0].read_bytes() == files[1].read_bytes()
    analyse_images(paths, tmp_path / "out", on_outcome=tell, overwrite=True)
    assert done[3:] == ["a.tif", "b.tif", "c.tif"]


def test_a_folder_that_can_not_be_is_refused_before_the_work(tmp_path, image):
    (tmp_path / "file").write_text("")
    with pytest.raises(AtomicityError, match="file: this folder can't be written to"):
        analyse_images([image("a.tif")], tmp_path / "file")


def test_a_model_that_is_missing_is_refused_before_the_work(tmp_path, image, monkeypatch):
    def load(model, device):
        raise ModelError(f"there is no model {model}")

    monkeypatch.setattr(engine, "load_classifier", load)
    with pytest.raises(ModelError, match="there is no model x"):
        analyse_images([image("a.tif")], tmp_path / "out", RunRequest(model="x"))


def test_progress_names_the_image(tmp_path, image):
    told = []
    analyse_images([image("a.tif")], tmp_path / "out", progress=lambda *args: told.append(args))
    assert (1, 2, "[1/1] a.tif: Half-way") in told


@pytest.fixture
def calibrated(monkeypatch):
    """The model knows its confusion and classified the clusters itself."""
    n = len(CLASSES)
    confusion = tuple(tuple(90 if i == j else 3 for j in range(n)) for i in range(n))
    card = ModelCard("fake", CLASSES, confusion=confusion, sha256="0" * 64)
    monkeypatch.setattr(FakeClassifier, "card", card)
    analyse = one_image.analyse

    def by_this_model(*args, **kwargs):
        made = analyse(*args, **kwargs)
        return replace(made, table=made.table.assign(model_id=card.model_id))

    monkeypatch.setattr(one_image, "analyse", by_this_model)


def test_copies_of_a_file_are_noted_where_they_count_twice(tmp_path, image):
    first = image("a.tif")
    shutil.copy(first, first.with_name("copy.tif"))
    paths = [first, first.with_name("copy.tif"), image("b.tif")]
    run = analyse_images(paths, tmp_path / "out", RunRequest(umap=False))
    notes = run.ratios.groupby("scope")["note"].first()
    text = "files have the content of others in 1 of 3 images: remove the copies"
    noted = notes[notes.str.contains(text, regex=False)]
    assert sorted(noted.index) == ["all", "sample: in", "session: in"]


def test_the_ratios_are_found_as_asked(tmp_path, image, calibrated):
    paths = [image("a.tif"), image("b.tif")]
    run = analyse_images(paths, tmp_path / "out", RunRequest(ratios="confusion", umap=False))
    written = read_table(tmp_path / "out" / "ratios.csv")
    assert written["method"].str.startswith("adjusted by the confusion matrix of fake").all()
    groups = {scope: ["a.tif", "b.tif"] for scope in ("session: in", "sample: in")}
    counted = class_ratios(run.table, groups=groups)
    assert not np.allclose(written["fraction"], counted["fraction"], atol=0.01)
    assert list(written["count"]) == list(counted["count"])
    few = "few clusters in 2 of 2 images: their intensity scales are uncertain"
    assert set(written["note"]) <= {FEW_CLUSTERS, few}
    report = (tmp_path / "out" / "report.html").read_text()
    assert "adjusted for classification errors" in report
    record = json.loads((tmp_path / "out" / "run.json").read_text())
    assert record["parameters"]["ratios"] == "confusion"


def test_a_report_of_adjusted_ratios_says_that_samples_are_as_counted(tmp_path, image, calibrated):
    for name in ("fresh/a.tif", "fresh/b.tif", "spent/c.tif", "spent/d.tif"):
        image(name)
    said = []
    for how in ("counted", "confusion"):
        request = RunRequest(ratios=how, umap=False)
        analyse_images([tmp_path / "in"], tmp_path / how, request)
        report = (tmp_path / how / "report.html").read_text()
        said.append("shares are those of the labels as counted" in report)
    assert said == [False, True]


@pytest.mark.parametrize("wanted", [True, False])
def test_map_and_symmetries_are_as_asked(tmp_path, image, wanted):
    run = analyse_images(
        [image("a.tif")], tmp_path / "out", RunRequest(umap=not wanted, symmetries=wanted)
    )
    assert run.outcomes[0].parameters == {"umap": not wanted, "symmetries": wanted}


def test_ratios_that_the_model_does_not_serve_are_refused_before_the_work(tmp_path, image):
    with pytest.raises(ModelError, match="fake has no replicates of its calibration"):
        analyse_images(
            [image("a.tif")],
            tmp_path / "out",
            RunRequest(ratios="em"),
            on_outcome=lambda *_: pytest.fail("an image was analysed"),
        )


def test_a_reference_is_set_beside_what_is_found(tmp_path, image):
    known = tmp_path / "known.csv"
    known.write_text("scope,class,fraction\n[ab].tif,Pt19,50\n[ab].tif,Pt70,50\nz.tif,Pt30,1\n")
    paths = [image("a.tif"), image("b.tif"), image("z.tif", calibrated=False)]
    out = tmp_path / "out"
    run = analyse_images(paths, out, RunRequest(reference=str(known)))
    assert {path.name for path in out.iterdir()} == FOLDER | {"reference.json"}
    said = json.loads((out / "reference.json").read_text())
    assert said["not_compared"] == ["z.tif"]
    pooled = class_ratios(run.table, scope="all")
    assert [row["fraction"] for row in said["table"]] == pytest.approx(list(pooled["fraction"]))
    assert [row["reference"] for row in said["table"]] == [0.5, 0, 0, 0, 0.5]
    assert run.summary()["reference"]["r2"] == said["r2"] is not None
    report = (out / "report.html").read_text()
    assert "Comparison with the reference" in report
    assert "No cluster was counted in z.tif" in report
    files = FILES | {"reference.json", "clusters/part-00000.parquet"}
    assert set(run.summary()["files"]) == files
    # That of an earlier run would seem to be of this one.
    analyse_images(paths[:1], out)
    assert {path.name for path in out.iterdir()} == FOLDER


@pytest.mark.parametrize(
    ("text", "error", "words"),
    [
        (None, ReadError, "no such file"),
        ("scope,class,fraction\nx_*,Pt19,1\n", TableError, "no image has such a name"),
        ("class,fraction\nPt20,1\n", TableError, "Pt20"),
    ],
)
def test_a_reference_that_makes_no_sense_is_refused_before_the_work(
    tmp_path, image, text, error, words
):
    known = tmp_path / "known.csv"
    if text is not None:
        known.write_text(text)
    with pytest.raises(error, match=words):
        analyse_images(
            [image("a.tif")],
            tmp_path / "out",
            RunRequest(reference=str(known)),
            on_outcome=lambda *_: pytest.fail("an image was analysed"),
        )
