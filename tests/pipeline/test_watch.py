"""A watched folder: what comes is analysed, once, whatever happens to files and to us."""

import hashlib
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import tifffile
from typer.testing import CliRunner

import bad_readers
from napari_atomicity.cli import commands as cli
from napari_atomicity.core.errors import AtomicityError, ReadError
from napari_atomicity.io import images as readers
from napari_atomicity.io.images import Reader
from napari_atomicity.io.readers import read_limits
from napari_atomicity.io.readers.read_limits import ReadLimits
from napari_atomicity.io.tables import read_clusters, read_table
from napari_atomicity.pipeline.live import (
    live as live_figures,
    watch as module,
    watched_images,
)
from napari_atomicity.pipeline.live.control_chart import SESSION_CHANGED
from napari_atomicity.pipeline.live.live import read_log
from napari_atomicity.pipeline.live.watch import Watch
from napari_atomicity.pipeline.run_request import RunRequest
from napari_atomicity.pipeline.runs import finalize
from napari_atomicity.pipeline.runs.batch import run_batch
from napari_atomicity.pipeline.runs.engine import analyse_images
from napari_atomicity.pipeline.runs.part_store import PartStore
from napari_atomicity.tracking.files import FILES as MOVIE_FILES
from pipeline.conftest import parts, write_film, write_image
from support import synthetic_analysis


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    """Nothing is drawn, and ratios are computed with each image however busy the machine is."""
    monkeypatch.setattr(live_figures, "QUICK_S", np.inf)
    monkeypatch.setattr(finalize, "write_report", lambda path, *_, **__: path.write_text(""))
    monkeypatch.setattr(PartStore, "draw", lambda *_: None)


@pytest.fixture
def watch(images, tmp_path, tiny_model, request):
    """A session over the folder of images, its results, and what it took.

    Where conditions are tested, images are not labelled jointly, which analyses them twice.
    """
    sessions = "none" if "moved" in request.fixturenames else "auto"

    def go(on_result=None, until_idle_s=0.0, stop=None, pixel_size_nm=None, **options):
        took = []

        def tell(live):
            took.append(live)
            if on_result is not None:
                on_result(live)

        asked = RunRequest(str(tiny_model), "cpu", pixel_size_nm, umap=False, session=sessions)
        options = {"settle_s": 0.02, "patience_s": 0.2, **options}
        go.session = Watch(images, tmp_path / "out", asked, **options)
        return go.session.run(tell, stop, until_idle_s), took

    return go


def names(took):
    return sorted(live.outcome.image for live in took)


def test_what_is_there_becomes_tables_log_and_record(watch, images, tmp_path):
    shutil.move(images / "0.tif", write_image(images / "sub" / "0.tif"))
    run, took = watch()
    out = tmp_path / "out"
    assert names(took) == ["1.tif", "2.tif", "3.tif", "4.tif", "sub/0.tif"]
    assert all(live.analysis is not None and live.latency_s > 0 for live in took)
    table = read_clusters(out / "clusters.csv")
    assert sorted(set(table["image"])) == names(took)
    log = read_log(out / "live.csv")
    assert len(log) == 5 and log["images"].tolist() == [1, 2, 3, 4, 5]
    assert log["clusters"].sum() == len(table) == len(run.table)
    last = took[-1].ratios.set_index("class")["fraction"]
    assert log["fraction_Pt19"].iloc[-1] == pytest.approx(last["Pt19"])
    ratios = read_table(out / "ratios.csv")
    groups = ["session: in", "session: sub", "sample: in", "sample: sub"]
    assert list(ratios["scope"].unique()) == [*names(took), *groups, "all"]
    record = json.loads((out / "run.json").read_text())
    assert record["status"] == "done" and "live.csv" in record["outputs"]
    assert read_table(out / "failures.csv").empty


def test_results_are_those_of_a_batch(watch, images, tmp_path, tiny_model, address):
    watch()
    request = RunRequest(str(tiny_model), "cpu", umap=False)
    run_batch([images], tmp_path / "batch", request, scheduler=address)
    tables = ("clusters.csv", "clusters.parquet", "clusters/part-00000.parquet", "ratios.csv")
    for name in tables:
        assert (tmp_path / "out" / name).read_bytes() == (tmp_path / "batch" / name).read_bytes()
    # and a batch takes over what was watched
    again = run_batch([images], tmp_path / "out", request, scheduler=address)
    assert again.reused == 5


def test_a_restart_goes_on_and_takes_what_came_meanwhile(watch, images, tmp_path):
    watch()
    write_image(images / "new.tif", seed=21)
    write_image(images / "1.tif", seed=22)
    (images / "2.tif").unlink()
    (images / "3.tif").rename(images / "three.tif")
    said = []
    run, took = watch(notice=said.append)
    assert len(said) == 1 and "5 images of earlier sessions" in said[0]
    assert names(took) == ["1.tif", "new.tif", "three.tif"]
    assert {live.outcome.image: live.analysis is None for live in took}["three.tif"]
    assert run.analysed == 2
    # what was analysed and moved away still counts; a renamed image is one
    images_now = set(read_clusters(tmp_path / "out" / "clusters.csv")["image"])
    assert images_now == {"0.tif", "1.tif", "2.tif", "4.tif", "new.tif", "three.tif"}
    assert set(pd.read_parquet(tmp_path / "out" / "clusters")["image"]) == images_now
    assert len(read_log(tmp_path / "out" / "live.csv")) == 7


def test_a_copy_is_named_and_noted_at_the_ratios(watch, images, tmp_path):
    watch()
    (images / "copy.tif").write_bytes((images / "1.tif").read_bytes())
    _, (copy,) = watch()
    assert "copy.tif has the content of 1.tif" in copy.copy_note
    ratios = read_table(tmp_path / "out" / "ratios.csv")
    assert "1 of 6 images" in ratios.loc[ratios["scope"] == "all", "note"].iloc[0]


def test_a_copy_tells_nothing_new_of_the_scale_of_the_session(watch, images, monkeypatch):
    fitted, fit = [], watched_images.fit_session

    def count(measured, *args):
        fitted.append(len(measured))
        return fit(measured, *args)

    monkeypatch.setattr(watched_images, "fit_session", count)
    watch()
    (images / "copy.tif").write_bytes((images / "1.tif").read_bytes())
    write_image(images / "new.tif", seed=21)
    fitted.clear()
    watch()
    assert fitted == [6]


def test_the_ratios_so_far_count_a_copy_once(watch, images, tmp_path):
    def more(live):
        if live.outcome.image == "4.tif":
            (images / "copy.tif").write_bytes((images / "1.tif").read_bytes())
        elif live.outcome.image == "copy.tif":
            write_image(images / "new.tif", seed=21)
        elif live.outcome.image == "new.tif":  # the copy counts once its original is another image
            write_image(images / "1.tif", seed=22)

    run, took = watch(on_result=more, until_idle_s=0.5)
    log = read_log(tmp_path / "out" / "live.csv")
    assert log["images"].tolist() == [1, 2, 3, 4, 5, 6, 7]
    at = {live.outcome.image: live.ratios for live in took[:-1]}
    n = at["new.tif"].dropna(subset="fraction")["count"].sum()
    assert n == log["counted"][:6].sum()
    assert len(run.outcomes) == 7


def test_files_that_come_meanwhile_queue_without_loss(watch, images, tmp_path):
    def more(live):
        if live.outcome.image == "0.tif":
            for i in range(10, 20):
                write_image(images / f"{i}.tif", seed=i)

    run, took = watch(on_result=more, until_idle_s=0.5)
    assert len(took) == len(set(names(took))) == 15 and run.waiting == 0
    assert max(live.waiting for live in took) >= 5


def test_a_bad_file_is_a_row_and_tried_again_by_every_session(watch, images, tmp_path):
    (images / "bad.tif").write_text("no image")
    run, took = watch()
    failures = read_table(tmp_path / "out" / "failures.csv")
    assert list(failures["image"]) == ["bad.tif"] == [o.image for o in run.failed]
    assert "can't be read as TIFF" in failures["error"][0]
    _, took = watch()
    assert names(took) == ["bad.tif"]
    assert list(read_table(tmp_path / "out" / "failures.csv")["image"]) == ["bad.tif"]
    write_image(images / "bad.tif", seed=8)
    run, took = watch()
    assert names(took) == ["bad.tif"] and not run.failed
    assert read_table(tmp_path / "out" / "failures.csv").empty


def test_a_file_that_takes_too_long_is_a_row(watch, images, tmp_path, monkeypatch):
    for path in images.iterdir():
        path.unlink()
    (images / "slow.bad").write_bytes(b"x")
    slow = Reader("Slow", (".bad",), bad_readers.sleep, own_process=True)
    monkeypatch.setattr(readers, "READERS", (*readers.READERS, slow))
    monkeypatch.setattr(read_limits, "_current", ReadLimits(read_seconds=0.2))
    watch()
    failures = read_table(tmp_path / "out" / "failures.csv")
    assert list(failures["image"]) == ["slow.bad"]
    assert "longer than 0.2 s" in failures["error"][0]


def test_what_failed_for_want_of_a_setting_is_done_once_it_is_given(watch, images):
    for path in images.iterdir():
        path.unlink()
    pixels = synthetic_analysis(3).micrograph.data.astype(np.uint16)
    tifffile.imwrite(images / "a.tif", pixels)
    assert [o.image for o in watch()[0].failed] == ["a.tif"]
    run, _ = watch(pixel_size_nm=0.1)
    assert run.analysed == 1 and not run.failed


def test_a_file_that_goes_bad_does_not_count_any_more(watch, images, tmp_path):
    watch()
    (images / "1.tif").write_text("no image")
    run, _ = watch()
    assert [o.image for o in run.failed] == ["1.tif"]
    assert "1.tif" not in set(read_clusters(tmp_path / "out" / "clusters.csv")["image"])
    assert "1.tif" not in set(pd.read_parquet(tmp_path / "out" / "clusters")["image"])


def test_a_file_that_is_written_slowly_is_taken_when_it_is_whole(watch, images):
    whole = write_image(images.parent / "slow.tif", seed=30).read_bytes()
    parts = [whole[: len(whole) * i // 4] for i in range(1, 5)]

    def next_part(live=None):
        if parts:
            (images / "slow.tif").write_bytes(parts.pop(0))

    next_part()
    run, took = watch(on_result=next_part, until_idle_s=1.0, patience_s=30.0)
    assert names(took).count("slow.tif") == 1 and not run.failed
    clusters = next(live for live in took if live.outcome.image == "slow.tif").outcome
    assert clusters.status == "done"


def test_a_file_that_changes_soon_after_it_was_read_counts_once(watch, images, monkeypatch):
    path, analysed, later = write_image(images / "early.tif", seed=31), [], [32]
    analyse_one = module.analyse_one

    def note(item, *args, **options):
        analysed.append(item.path)
        return analyse_one(item, *args, **options)

    def change_while_waiting(seconds):
        if analysed[-1] == path and later:
            write_image(path, seed=later.pop())

    monkeypatch.setattr(module, "analyse_one", note)
    clock = SimpleNamespace(**{**vars(time), "sleep": change_while_waiting})
    monkeypatch.setattr(module, "time", clock)
    _, took = watch(until_idle_s=1.0, settle_s=1.0)
    assert not later
    (live,) = [live for live in took if live.outcome.image == "early.tif"]
    assert live.outcome.sha256 == hashlib.sha256(path.read_bytes()).hexdigest()


def test_other_settings_begin_anew(watch, tmp_path):
    watch()
    _, took = watch(pixel_size_nm=0.11)
    assert len(took) == 5
    assert len(parts(tmp_path / "out")) == 5


@pytest.mark.parametrize("polling", [False, True])
def test_new_files_are_found_with_and_without_the_system(watch, images, polling):
    def one_more(live):
        if live.outcome.image == "4.tif":
            write_image(images / "5.tif", seed=5)

    _, took = watch(on_result=one_more, until_idle_s=1.0, polling=polling, poll_s=0.05)
    assert "5.tif" in names(took)


@pytest.mark.parametrize("how", ["stop", "ctrl-c"])
def test_a_session_that_is_stopped_has_written_what_was_done(watch, tmp_path, how):
    seen = []

    def tell(live):
        seen.append(live)
        if how == "ctrl-c":
            raise KeyboardInterrupt

    run, _ = watch(on_result=tell, stop=lambda: bool(seen), until_idle_s=None)
    assert run.waiting == 4 and run.interrupted and len(run.outcomes) == 1
    assert len(set(read_clusters(tmp_path / "out" / "clusters.csv")["image"])) == 1
    assert len(watch()[1]) == 4


@pytest.mark.parametrize("when", ["warming up", "at once", "other settings", "in the first"])
def test_what_ends_before_it_has_begun_leaves_all_as_it_was(watch, tmp_path, monkeypatch, when):
    watch()
    out = tmp_path / "out"
    names = ("clusters.csv", "ratios.csv", "run.json", "clusters", "parts")

    def now():
        return {path: path.stat().st_mtime_ns for n in names for path in [out / n]}

    before, stored = now(), parts(out)

    def end(*_, **__):
        raise KeyboardInterrupt

    if when == "warming up":
        monkeypatch.setattr(module, "warm_up", end)
    if when == "in the first":
        monkeypatch.setattr(module, "analyse_one", end)
    other = {"pixel_size_nm": 0.11} if when in ("other settings", "in the first") else {}
    run, took = watch(stop=None if when == "in the first" else lambda: True, **other)
    assert run.interrupted and took == [] and now() == before
    assert parts(out) == stored and len(stored) == 5
    assert run.waiting == (5 if when == "in the first" else 0)
    monkeypatch.undo()
    assert watch()[1] == []


def test_what_was_in_hand_when_it_was_stopped_still_waits(watch, images, monkeypatch):
    watch()
    write_image(images / "new.tif", seed=21)

    def end(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr(module, "analyse_one", end)
    run, _ = watch()
    assert (run.waiting, run.interrupted, len(run.outcomes)) == (1, True, 5)


def test_a_process_that_is_killed_goes_on(watch, images, tmp_path, tiny_model):
    for i in range(5, 20):
        write_image(images / f"{i}.tif", seed=i)
    arguments = [
        sys.executable, "-m", "napari_atomicity.cli", "watch", str(images),
        "--out", str(tmp_path / "out"), "--model", str(tiny_model), "--device", "cpu",
    ]  # fmt: skip
    process = subprocess.Popen(arguments, stderr=subprocess.DEVNULL)
    log, until = tmp_path / "out" / "live.csv", time.monotonic() + 60
    while time.monotonic() < until and (not log.exists() or log.read_text().count("\n") < 3):
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    process.wait()
    run, took = watch()
    assert 0 < len(took) <= 18 and len(run.outcomes) == 20 and not run.failed
    assert read_clusters(tmp_path / "out" / "clusters.csv")["image"].nunique() == 20


def test_a_copy_is_not_in_the_reference_after_a_restart(watch, moved, images):
    moved(0, "abc")
    watch(reference_images=6)
    (images / "at 0 copy.tif").write_bytes((images / "at 0 a.tif").read_bytes())
    watch(reference_images=6)
    moved(0, "d")
    _, took = watch(reference_images=6)
    assert [live.row["reference_images"] for live in took if live.row] == [4]


def test_a_restart_has_the_conditions_of_the_labels_that_the_session_gave(watch, images):
    for i in range(3):
        write_image(images / f"{i}.tif", seed=i, n=24)
    _, took = watch()
    store = watch.session.store
    stored = {about["outcome"]["image"]: about for about in map(store.about, store.stems)}
    known = {live.outcome.image: live.conditions.where for live in took}
    assert any(about["labelled"] for about in stored.values())
    for image, about in stored.items():
        assert about["where"] == (known[image] and known[image].to_dict())


def test_a_change_of_the_session_is_an_alarm_until_it_is_accepted(watch, moved, tmp_path):
    moved(0, "abcdefgh")
    moved(6, "ijk")
    _, took = watch(reference_images=6)
    assert [live.alarm for live in took[:8]] == [""] * 8
    first = next(i for i, live in enumerate(took) if live.alarm)
    assert took[first].alarm == SESSION_CHANGED and 8 <= first <= 9
    assert SESSION_CHANGED in took[-1].conditions.alarms and not took[-1].alarm  # said once
    log = read_log(tmp_path / "out" / "live.csv")
    assert log["session_change"].isna().tolist() == [True] * 5 + [False] * 6
    assert log["session_change"].iloc[-1] > 1 and log["session_drift"].iloc[-1] > 20
    assert log["reference_images"].tolist()[:8] == list(range(1, 9))

    # a restart knows the reference, and rings still
    moved(6, "l")
    _, took = watch(reference_images=6)
    assert took[0].alarm == SESSION_CHANGED

    def accept(live):
        if live.outcome.image == "at 6 m.tif":
            watch.session.accept()

    moved(6, "mnopqr")
    _, took = watch(on_result=accept, reference_images=6)
    after = [SESSION_CHANGED in live.conditions.alarms for live in took]
    assert after == [True] + [False] * 5
    # what was accepted is the reference of later sessions
    moved(6, "s")
    moved(0, "tuv")
    _, took = watch(reference_images=6)
    rings = [SESSION_CHANGED in live.conditions.alarms for live in took]
    assert not rings[0] and rings[-1]


def test_what_is_accepted_as_the_session_ends_is_accepted(watch, moved):
    moved(0, "abcdefgh")
    moved(6, "ijk")
    accepted = []

    def accept(live):
        if SESSION_CHANGED in live.conditions.alarms:
            watch.session.accept()
            accepted.append(live)

    # stopped before the next image is looked at
    watch(on_result=accept, reference_images=6, stop=lambda: bool(accepted))
    assert len(accepted) == 1
    moved(6, "lmno")
    _, took = watch(reference_images=6)
    assert not any(SESSION_CHANGED in live.conditions.alarms for live in took)


def test_a_session_may_begin_with_a_reference_of_its_own_or_none(watch, moved):
    moved(0, "abcdef")
    watch(reference_images=4)
    moved(6, "ghi")
    _, took = watch(reference_images=4, new_reference=True)
    assert [live.row["reference_images"] for live in took] == [1, 2, 3]
    moved(0, "jkl")
    _, took = watch(reference_images=0)
    assert not any(live.conditions.alarms for live in took)
    with pytest.raises(ValueError, match="at least 4 images"):
        watch(reference_images=2)


def test_what_makes_no_sense_is_refused(images, tmp_path, tiny_model):
    request = RunRequest(str(tiny_model), "cpu", umap=False)
    with pytest.raises(ReadError, match="there is no such folder"):
        Watch(tmp_path / "gone", tmp_path / "out", request)
    (tmp_path / "file").write_text("")
    with pytest.raises(AtomicityError, match="can't be written to"):
        Watch(images, tmp_path / "file", request)
    session = Watch(images, tmp_path / "out", request)
    with (
        PartStore(tmp_path / "out").locked(),
        pytest.raises(AtomicityError, match="another run is writing to this folder"),
    ):
        session.run(until_idle_s=0)


def test_the_command_tells_and_ends_as_the_others_do(images, tmp_path, tiny_model):
    def atomicity(*more):
        arguments = ["watch", images, "--out", tmp_path / "out", "--model", tiny_model]
        return CliRunner().invoke(cli.app, [str(a) for a in [*arguments, "--device", "cpu", *more]])

    good = atomicity("--once", "--json")
    assert good.exit_code == 0 and json.loads(good.stdout)["analysed"] == 5
    assert "0.tif: " in good.stderr and "so far, in %: Pt19" in good.stderr
    (images / "bad.tif").write_text("no image")
    os.utime(images / "bad.tif", (100, 100))
    bad = atomicity("--until-idle", "0.1")
    assert bad.exit_code == 1 and "5 images, 0 of them now" in bad.stderr
    assert atomicity("--once", "--model", "nobody").exit_code == 2
    assert atomicity("--once", "--reference-images", "3").exit_code == 2
    assert CliRunner().invoke(cli.app, ["watch", "nowhere", "--out", "o"]).exit_code == 2


def test_results_of_another_folder_are_replaced_with_overwrite_only(images, tmp_path, tiny_model):
    def atomicity(folder, *more):
        arguments = ["watch", folder, "--out", tmp_path / "out", "--model", tiny_model, "--once"]
        return CliRunner().invoke(cli.app, [str(a) for a in [*arguments, "--device", "cpu", *more]])

    assert atomicity(images).exit_code == 0
    other = tmp_path / "other"
    other.mkdir()
    shutil.move(images / "0.tif", other / "new.tif")
    refused = atomicity(other)
    assert refused.exit_code == 2 and "--overwrite" in refused.stderr
    assert set(read_clusters(tmp_path / "out" / "clusters.csv")["image"]) >= {"0.tif", "1.tif"}
    assert atomicity(images).exit_code == 0  # one of its images was deleted
    assert atomicity(other, "--overwrite").exit_code == 0
    assert set(read_clusters(tmp_path / "out" / "clusters.csv")["image"]) == {"new.tif"}


def test_the_command_names_no_results_that_there_are_not(images, tmp_path, tiny_model, monkeypatch):
    def end(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(module, "warm_up", end)
    arguments = ["watch", images, "--out", tmp_path / "out", "--model", tiny_model]
    early = CliRunner().invoke(cli.app, [str(a) for a in [*arguments, "--device", "cpu"]])
    assert "0 images, 0 of them now; stopped before" in early.stderr
    assert "results in" not in early.stderr and not (tmp_path / "out" / "clusters.csv").exists()


def test_stacks_have_the_files_that_analyse_writes(watch, images, tmp_path, tiny_model):
    for path in images.iterdir():
        path.unlink()
    write_film(images / "film.tif")
    watch()
    analysed = tmp_path / "serial"
    analyse_images([images], analysed, RunRequest(str(tiny_model), "cpu", umap=False))
    for name in ("clusters.csv", *MOVIE_FILES):
        assert (tmp_path / "out" / name).read_bytes() == (analysed / name).read_bytes()
    record = json.loads((tmp_path / "out" / "run.json").read_text())
    assert set(MOVIE_FILES) < {Path(name).name for name in record["outputs"]}
