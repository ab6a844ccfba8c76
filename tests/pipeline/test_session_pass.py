"""The second pass over the parts of a batch labels the images of a session jointly."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import tifffile

import napari_atomicity
from napari_atomicity.core.errors import Cancelled
from napari_atomicity.io.files import is_result
from napari_atomicity.io.images import load
from napari_atomicity.io.tables import read_clusters, read_table
from napari_atomicity.models.inference import load_classifier
from napari_atomicity.pipeline.analysis import analyse
from napari_atomicity.pipeline.live.watch import Watch
from napari_atomicity.pipeline.run_request import RunRequest
from napari_atomicity.pipeline.runs import finalize
from napari_atomicity.pipeline.runs.batch import run_batch
from napari_atomicity.pipeline.runs.engine import analyse_images
from napari_atomicity.pipeline.runs.image_scale import ImageScale
from napari_atomicity.pipeline.runs.part_store import PartStore
from napari_atomicity.pipeline.runs.session_pass import SessionPass
from napari_atomicity.pipeline.session_labels import label_session
from napari_atomicity.reporting.plots.session import contradictions
from napari_atomicity.simulation.field_settings import FieldSettings
from napari_atomicity.simulation.fields import simulate_field
from napari_atomicity.statistics.ratios.ratio_notes import RESTS_ON_SIZES
from pipeline.conftest import parts

TABLES = ("clusters.csv", "clusters.parquet", "ratios.csv")
GAINS = (1.0, 1.2, 0.9, 1.05)


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    """Nothing is drawn."""
    monkeypatch.setattr(finalize, "write_report", lambda path, *_, **__: path.write_text(""))
    monkeypatch.setattr("napari_atomicity.pipeline.runs.engine.SHOWN", 0)
    monkeypatch.setattr(PartStore, "draw", lambda *_: None)


@pytest.fixture(scope="module")
def size_selected(tmp_path_factory, library) -> Path:
    """A folder of images with Pt19 or Pt70 only, recorded with different gains, and a mixture."""
    folder = tmp_path_factory.mktemp("may")
    mixtures = [{"Pt19": 1.0}, {"Pt70": 1.0}, {"Pt19": 1.0}, {"Pt19": 0.5, "Pt70": 0.5}]
    for seed, (mixture, gain) in enumerate(zip(mixtures, GAINS, strict=True)):
        settings = FieldSettings(shape_px=(360, 360), clusters_per_nm2=0.05, mixture=mixture)
        pixels = simulate_field(library, settings, seed=seed).micrograph.data * gain
        tifffile.imwrite(
            folder / f"{seed}.tif",
            pixels.astype(np.uint16),
            imagej=True,
            resolution=(25, 25),
            metadata={"unit": "nm"},
        )
    return folder


@pytest.fixture
def request_(tiny_model) -> RunRequest:
    return RunRequest(str(tiny_model), "cpu", umap=False)


@pytest.fixture
def batch(size_selected, request_, address):
    def run(out: Path, **options):
        request = replace(request_, **options)
        return run_batch([size_selected], out, request, scheduler=address, patience_s=20)

    return run


def tables(out: Path) -> list[bytes]:
    return [(out / name).read_bytes() for name in TABLES]


def test_labels_are_those_of_the_session_in_memory(batch, size_selected, request_, tmp_path):
    classifier = load_classifier(request_.model, "cpu")
    images = sorted(size_selected.iterdir())
    by_itself = [analyse(load(path), classifier, umap=False) for path in images]
    together = label_session(by_itself, classifier)
    assert together.n_changed > 0
    run = batch(tmp_path / "out")
    found = read_clusters(tmp_path / "out" / "clusters.csv")
    for analysis in together.analyses:
        rows = found[found["image"] == analysis.micrograph.name].reset_index(drop=True)
        assert rows["label"].tolist() == analysis.table["label"].tolist()
        np.testing.assert_allclose(rows["p_Pt70"], analysis.table["p_Pt70"], atol=1e-9)
    record = json.loads((tmp_path / "out" / "run.json").read_text())
    [session] = record["sessions"]
    assert session["session"] == size_selected.name and session["images"] == 4
    low, high = session["intensity_per_atom_low"], session["intensity_per_atom_high"]
    assert low < session["intensity_per_atom"] < high
    scales = {o.image: o.parameters for o in run.outcomes}
    for analysis in together.analyses:
        said = scales[analysis.micrograph.name]
        assert said["intensity_per_atom"] == pytest.approx(analysis.scale.intensity_per_atom, 0.03)
        assert said["session"]["images"] == 4


def test_session_none_labels_each_image_by_itself_and_back(batch, tmp_path):
    out = tmp_path / "out"
    batch(out)
    jointly = tables(out)
    assert batch(out, session="none").reused == 4
    alone = tables(out)
    assert json.loads((out / "run.json").read_text())["sessions"] == []
    batch(tmp_path / "alone", session="none")
    assert alone == tables(tmp_path / "alone") != jointly
    assert batch(out).reused == 4
    assert tables(out) == jointly


def test_a_known_sample_that_its_clusters_contradict_is_not_used(batch, tmp_path):
    """The mixture is said to be of one size."""
    batch(tmp_path / "unknown")
    runs = {
        keep: batch(tmp_path / str(keep), known=("3.tif=Pt70",), keep_known=keep)
        for keep in (False, True)
    }
    for name in TABLES[:2]:
        assert (tmp_path / "unknown" / name).read_bytes() == (
            tmp_path / "False" / name
        ).read_bytes()
    for keep, run in runs.items():
        [session] = json.loads((tmp_path / str(keep) / "run.json").read_text())["sessions"]
        test = session["known_samples"]["3.tif"]
        assert test["contradicted"] and test["used"] is keep and test["log_bayes_factor"] < -3
        warnings = [w for o in run.outcomes for w in o.warnings if "contradict" in w]
        assert len(warnings) == 1 and ("used nevertheless" in warnings[0]) is keep
        notes = run.ratios.loc[run.ratios["scope"] == "all", "note"]
        assert notes.str.contains("contradict").all()


def test_labels_of_the_session_come_from_the_chosen_estimator(batch, tmp_path):
    out = tmp_path / "out"
    batch(out)
    assert batch(out, labels="mixture").reused == 0
    table = read_clusters(out / "clusters.csv")
    speaks = table["label_predicted"].str.startswith("Pt") & (table["label_mixture"] != "")
    assert speaks.any()
    assert (table["label_predicted"] == table["label_mixture"])[speaks].all()


def test_a_second_run_writes_no_part_again(batch, tmp_path):
    batch(tmp_path / "out")
    before = parts(tmp_path / "out")
    assert batch(tmp_path / "out").reused == 4
    assert parts(tmp_path / "out") == before


@pytest.mark.parametrize("reached", [0, 1])
def test_a_run_that_is_killed_in_the_second_pass_ends_with_the_same_tables(
    batch, tmp_path, monkeypatch, reached
):
    batch(tmp_path / "whole")
    with monkeypatch.context() as patch:
        labelled = []
        label = SessionPass._label

        def label_some(self, *args):
            if len(labelled) == reached:
                raise MemoryError
            labelled.append(args)
            return label(self, *args)

        patch.setattr(SessionPass, "_label", label_some)
        with pytest.raises(MemoryError):
            batch(tmp_path / "out")
    assert batch(tmp_path / "out").reused == 4
    assert tables(tmp_path / "out") == tables(tmp_path / "whole")


def test_a_run_that_is_stopped_in_the_second_pass_says_so(batch, tmp_path, monkeypatch):
    def stop(*_):
        raise Cancelled

    with monkeypatch.context() as patch:
        patch.setattr(SessionPass, "_label", stop)
        assert batch(tmp_path / "out").interrupted
    assert json.loads((tmp_path / "out" / "run.json").read_text())["sessions"] == []
    assert not batch(tmp_path / "out").interrupted


def test_images_without_stored_predictions_for_the_scale_are_analysed_again(
    batch, tmp_path, monkeypatch
):
    batch(tmp_path / "stored")
    monkeypatch.setattr(ImageScale, "label", lambda *_: None)
    batch(tmp_path / "again")
    stored, again = (
        read_clusters(tmp_path / name / "clusters.csv") for name in ("stored", "again")
    )
    assert stored["label"].tolist() == again["label"].tolist()
    np.testing.assert_allclose(stored["p_Pt70"], again["p_Pt70"], atol=1e-9)


def test_an_image_that_cannot_be_analysed_again_keeps_its_labels(batch, tmp_path, monkeypatch):
    batch(tmp_path / "alone", session="none")
    monkeypatch.setattr(ImageScale, "label", lambda *_: None)
    add = SessionPass.add
    failed = lambda self, labels, _: add(self, labels, OSError("the drive is away"))  # noqa: E731
    monkeypatch.setattr(SessionPass, "add", failed)
    run = batch(tmp_path / "out")
    assert any("the drive is away" in words for o in run.outcomes for words in o.warnings)
    together, alone = (read_clusters(tmp_path / n / "clusters.csv") for n in ("out", "alone"))
    assert set(alone["session"]) != set(together["session"])  # all else is the same
    pd.testing.assert_frame_equal(together.drop(columns="session"), alone.drop(columns="session"))


def test_a_known_sample_labels_an_image_that_is_alone(batch, tmp_path, size_selected):
    batch(tmp_path / "out", session="none", known=("1.tif=Pt70",))
    record = json.loads((tmp_path / "out" / "run.json").read_text())
    assert [s["known"] for s in record["sessions"]] == [{"1.tif": {"Pt70": 1.0}}]
    table = read_clusters(tmp_path / "out" / "clusters.csv")
    mixture = table[(table["image"] == "1.tif") & ~table["touches_border"]]["label_mixture"]
    assert (mixture[mixture != ""] == "Pt70").mean() > 0.9


def test_an_earlier_run_tells_the_scale_of_an_image_that_is_alone(batch, tmp_path, size_selected):
    batch(tmp_path / "before", known=("1.tif=Pt70",))
    batch(tmp_path / "out", session="none", earlier_run=str(tmp_path / "before" / "run.json"))
    record = json.loads((tmp_path / "out" / "run.json").read_text())
    assert len(record["sessions"]) == 4
    [before] = json.loads((tmp_path / "before" / "run.json").read_text())["sessions"]
    for session in record["sessions"]:
        assert session["prior"]["intensity_per_atom"] == pytest.approx(before["intensity_per_atom"])
        assert session["prior"]["log_sd"] >= 0.15
        ratio = session["intensity_per_atom"] / before["intensity_per_atom"]
        assert 0.7 < ratio < 1.4


def test_a_session_of_one_image_is_in_the_files_of_every_run(size_selected, address, tmp_path):
    """As in the window; only without sessions, the image is labelled by itself."""
    image, classifier = size_selected / "1.tif", load_classifier("default", "cpu")
    own = analyse(load(image), classifier, umap=False)
    jointly = label_session([own], classifier).analyses[0]
    assert (own.table["n_atoms_low"] / jointly.table["n_atoms_low"]).median() > 1.1
    request = RunRequest(device="cpu", umap=False)
    for name, session in (("analyse", "auto"), ("all", "all"), ("none", "none")):
        analyse_images([image], tmp_path / name, replace(request, session=session))
    run_batch([image], tmp_path / "batch", request, scheduler=address, patience_s=20)
    napari_atomicity.analyse([image], device="cpu", umap=False).save(tmp_path / "python")
    (tmp_path / "watched").mkdir()
    shutil.copy(image, tmp_path / "watched")
    seen = []
    watch = Watch(tmp_path / "watched", tmp_path / "watch", request, settle_s=0.02)
    watch.run(seen.append, until_idle_s=0.0)
    assert seen[0].analysis.parameters["session"]["untested"]
    for name in ("analyse", "all", "batch", "python", "watch", "none"):
        expected = own if name == "none" else jointly
        found, ratios = (read_table(tmp_path / name / f"{n}.csv") for n in ("clusters", "ratios"))
        low = expected.table["n_atoms_low"]
        np.testing.assert_allclose(found["n_atoms_low"], low, rtol=1e-3, err_msg=name)
        notes = ratios.loc[ratios["scope"] == "1.tif", "note"]
        assert notes.str.contains(RESTS_ON_SIZES, regex=False).all() == (name != "none"), name
        sessions = json.loads((tmp_path / name / "run.json").read_text())["sessions"]
        assert [one["images"] for one in sessions] == ([] if name == "none" else [1]), name


def test_an_image_without_clusters_is_no_session(size_selected, tmp_path):
    """The test of its sizes has nothing to test."""
    noise = np.random.default_rng(0).normal(1000, 5, (200, 200)).astype(np.uint16)
    tifffile.imwrite(
        tmp_path / "empty.tif", noise, imagej=True, resolution=(25, 25), metadata={"unit": "nm"}
    )
    request = RunRequest(device="cpu", umap=False)
    run = analyse_images([tmp_path / "empty.tif"], tmp_path / "out", request)
    assert [o.status for o in run.outcomes] == ["done"]
    assert run.outcomes[0].warnings == ("No cluster was found.",)
    found = napari_atomicity.analyse([tmp_path / "empty.tif"], device="cpu", umap=False)
    assert len(found) == 1 and not len(found.table)
    found.save(tmp_path / "python")
    for name in ("out", "python"):
        assert json.loads((tmp_path / name / "run.json").read_text())["sessions"] == []
    (tmp_path / "watched").mkdir()
    seen = {}
    for image in (size_selected / "1.tif", tmp_path / "empty.tif"):
        shutil.copy(image, tmp_path / "watched")
        watch = Watch(tmp_path / "watched", tmp_path / "live", request, settle_s=0.02)
        watch.run(lambda one: seen.update({one.outcome.image: one.analysis}), until_idle_s=0.0)
    assert "session" in seen["1.tif"].parameters
    assert "session" not in seen["empty.tif"].parameters  # nothing would test it later


def test_a_watched_folder_ends_with_the_tables_of_a_batch(batch, size_selected, request_, tmp_path):
    batch(tmp_path / "batch")
    seen = []
    watch = Watch(size_selected, tmp_path / "out", request_, settle_s=0.02)
    run = watch.run(seen.append, until_idle_s=0.0)
    assert tables(tmp_path / "out") == tables(tmp_path / "batch")
    sizes = [live.outcome.parameters.get("certainty_of_scale") for live in seen]
    assert len(sizes) == 4 and not run.interrupted
    assert json.loads((tmp_path / "out" / "run.json").read_text())["sessions"]


def test_what_is_stored_of_a_scale_comes_back(size_selected, request_, tmp_path):
    classifier = load_classifier(request_.model, "cpu")
    analysis = analyse(load(size_selected / "3.tif"), classifier, umap=False)
    stored = ImageScale.of(analysis, classifier.card)
    data = stored.to_bytes()
    path = tmp_path / "scale.npz"
    path.write_bytes(data)
    assert is_result(path)
    again = ImageScale.from_bytes(data, classifier.card)
    table = again.label(analysis.table, again.scale, classifier)
    assert table["p_Pt70"].tolist() == analysis.table["p_Pt70"].tolist()
    assert len(data) < 2000 * len(table) + 4000
    assert ImageScale.from_bytes(data[:-100], classifier.card) is None
    elsewhere = replace(again.scale, shift=again.scale.shift + 0.5)
    assert again.label(analysis.table, elsewhere, classifier) is None
    assert again.measurements.anchor is None
    anchored = replace(stored, measurements=replace(stored.measurements, anchor=(2.5, 0.1)))
    again = ImageScale.from_bytes(anchored.to_bytes(), classifier.card)
    assert again.measurements.anchor == (2.5, 0.1)
    distinct = np.arange(len(stored.measurements.log_intensity)) < 3
    film = replace(stored, measurements=replace(stored.measurements, distinct=distinct))
    again = ImageScale.from_bytes(film.to_bytes(), classifier.card)
    assert stored.measurements.distinct is None and (again.measurements.distinct == distinct).all()


def test_a_large_session_is_a_prior_for_new_images(size_selected, request_, tmp_path, monkeypatch):
    from napari_atomicity.pipeline.live import watched_images

    found = {}
    for most in (watched_images.MAX_CLUSTERS, 0):
        monkeypatch.setattr(watched_images, "MAX_CLUSTERS", most)
        seen = []
        Watch(size_selected, tmp_path / f"{most}", request_, settle_s=0.02).run(
            seen.append, until_idle_s=0.0
        )
        scales = [live.outcome.parameters["intensity_per_atom"] for live in seen]
        assert "session" not in seen[0].outcome.parameters
        found[most] = dict(zip([live.outcome.image for live in seen], scales, strict=True))
    fitted, prior = found.values()
    assert prior == pytest.approx(fitted, rel=0.15)


def test_contradicted_known_samples_of_many_images_are_one_sentence():
    known = {f"{name}.tif": {"Pt55": 1.0} for name in "abcdefgh"} | {"x.tif": {"Pt19": 1.0}}
    tests = {
        image: {"contradicted": image != "a.tif", "log_bayes_factor": -4.0 - i, "used": False}
        for i, image in enumerate(known)
    }
    parameters = {image: {"session": {"known_sample": test}} for image, test in tests.items()}
    many, one = contradictions(parameters, known)
    assert many.startswith("b.tif, c.tif, d.tif, e.tif, f.tif, g.tif, 1 more: the clusters")
    assert "(log Bayes factor -11 to -5)" in many and "Pt55" in many
    assert one.startswith("x.tif: ") and "Pt19 (log Bayes factor -12)" in one
