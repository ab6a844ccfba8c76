"""Batches on a real cluster: the same results as one by one, whatever dies on the way."""

import json
import os
import pickle
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from distributed import Client
from typer.testing import CliRunner

from napari_atomicity.cli import commands as cli
from napari_atomicity.core.errors import AtomicityError, Cancelled, ModelError
from napari_atomicity.core.progress import format_duration
from napari_atomicity.core.tables.cluster_table import concatenate
from napari_atomicity.io.images import load
from napari_atomicity.io.inputs import Input
from napari_atomicity.io.tables import read_clusters, read_table
from napari_atomicity.models.inference import load_classifier
from napari_atomicity.pipeline.run_request import RunRequest
from napari_atomicity.pipeline.runs import batch as module, engine, finalize
from napari_atomicity.pipeline.runs.batch import analyse_part, run_batch
from napari_atomicity.pipeline.runs.dask_workers import SchedulerLost, Workers
from napari_atomicity.pipeline.runs.engine import Throughput, analyse_images
from napari_atomicity.pipeline.runs.part_store import PartStore
from napari_atomicity.pipeline.runs.sent_model import SentModel
from pipeline.conftest import parts, run_dask, write_film, write_image

TABLES = ("clusters.csv", "clusters.parquet", "clusters/part-00000.parquet", "ratios.csv")
FILES = {
    "clusters", "parts", "clusters.csv", "clusters.parquet", "ratios.csv", "failures.csv",
    "report.html", "run.json", "ro-crate-metadata.json", ".atomicity.lock",
}  # fmt: skip


@pytest.fixture
def real_report():
    """Drawing takes longer than all else: only tests of the report do it."""


@pytest.fixture(autouse=True)
def quick(request, monkeypatch):
    if "real_report" not in request.fixturenames:
        monkeypatch.setattr(engine, "SHOWN", 0)
        monkeypatch.setattr(finalize, "write_report", lambda path, *_, **__: path.write_text(""))


@pytest.fixture
def request_(tiny_model):
    return RunRequest(str(tiny_model), "cpu", umap=False)


@pytest.fixture
def run(images, tmp_path, request_, address):
    """Run a batch over the folder of images; options may say otherwise."""

    def go(**options):
        given = {"request": request_, "scheduler": address, "patience_s": 20, **options}
        return run_batch([images], tmp_path / "out", **given)

    return go


@pytest.mark.parametrize("where", ["scheduler", "processes"])
def test_results_are_those_of_one_by_one_bit_for_bit(run, images, tmp_path, request_, where):
    write_image(images / "empty.tif", n=0)
    found = run() if where == "scheduler" else run(scheduler=None, workers=2)
    analyse_images([images], tmp_path / "serial", request_)
    folders = [tmp_path / "out", tmp_path / "serial"]
    for folder in folders:
        assert {path.name for path in folder.iterdir()} == FILES
    assert parts(folders[0]).keys() == parts(folders[1]).keys()
    for name in (*TABLES, "failures.csv"):
        assert (tmp_path / "out" / name).read_bytes() == (tmp_path / "serial" / name).read_bytes()
    table = read_clusters(tmp_path / "out" / "clusters.csv")
    assert len(table) == len(found.table) > 10 and table["label"].ne("").all()
    data_set = concatenate([pd.read_parquet(tmp_path / "out" / "clusters")])
    pd.testing.assert_frame_equal(data_set, table)
    assert (tmp_path / "out" / "failures.csv").read_text().splitlines() == [
        "image,path,error,sha256,size_bytes,modified,seen"
    ]
    record = json.loads((tmp_path / "out" / "run.json").read_text())
    assert record["status"] == "done" and record["images_done"] == 6
    assert record["device"] == "cpu" and "failures.csv" in record["outputs"]


def test_a_second_run_does_only_what_is_missing_or_changed(run, images, tmp_path):
    run()
    out = tmp_path / "out"
    before, table = parts(out), (out / "clusters.csv").read_bytes()
    worked = []
    again = run(on_outcome=lambda outcome, part: worked.append(outcome.image))
    assert again.reused == 5 and worked == [] and parts(out) == before
    assert (out / "clusters.csv").read_bytes() == table

    write_image(images / "1.tif", seed=11)
    write_image(images / "new.tif", seed=12)
    (images / "2.tif").unlink()
    (images / "3.tif").rename(images / "three.tif")
    changed = run(on_outcome=lambda outcome, part: worked.append(outcome.image))
    assert sorted(worked) == ["1.tif", "new.tif"] and changed.reused == 3
    left = set(read_clusters(out / "clusters.csv")["image"])
    assert left == {"0.tif", "1.tif", "4.tif", "new.tif", "three.tif"}
    assert set(pd.read_parquet(out / "clusters")["image"]) == left
    assert len(parts(out)) == 5


def test_stacks_have_their_tracks_also_under_another_name(run, images, tmp_path, request_):
    for path in images.iterdir():
        path.unlink()
    write_film(images / "film.tif")
    write_image(images / "single.tif")
    for number, name in enumerate(("film.tif", "renamed.tif")):
        found = run()
        assert found.reused == 2 * number
        serial = tmp_path / f"serial-{number}"
        analyse_images([images], serial, request_)
        for file in ("clusters.csv", "clusters.parquet", "tracks.csv", "events.csv", "movies.json"):
            assert (tmp_path / "out" / file).read_bytes() == (serial / file).read_bytes()
        assert set(read_table(tmp_path / "out" / "tracks.csv")["image"]) == {name}
        (images / name).rename(images / "renamed.tif")
    (images / "renamed.tif").unlink()
    run()
    assert not (tmp_path / "out" / "tracks.csv").exists()


def test_other_settings_do_all_again_and_other_ratios_nothing(run, request_, tiny_model):
    run()
    worked = []
    tell = {"on_outcome": lambda outcome, part: worked.append(outcome.image)}
    run(request=RunRequest(str(tiny_model), "cpu", pixel_size_nm=0.101, umap=False), **tell)
    assert len(worked) == 5
    from napari_atomicity.pipeline.runs.parts import key_of

    counted = key_of("a" * 64, "m", request_)
    assert key_of("a" * 64, "m", RunRequest(str(tiny_model), umap=False, ratios="em")) == counted
    averaged = replace(request_, symmetries=True)
    assert key_of("a" * 64, "m", averaged) != counted
    assert key_of("b" * 64, "m", request_) != counted != key_of("a" * 64, "n", request_)


def test_a_bad_image_is_a_row_and_is_tried_again(run, images, tmp_path):
    (images / "bad.tif").write_text("no image")
    (images / "empty.tif").touch()
    found = run()
    failures = read_table(tmp_path / "out" / "failures.csv")
    assert list(failures["image"]) == ["bad.tif", "empty.tif"]
    assert "can't be read as TIFF" in failures["error"][0]
    assert failures["size_bytes"].tolist() == [8, 0] and failures["path"][0].endswith("bad.tif")
    assert [o.image for o in found.failed] == ["bad.tif", "empty.tif"]
    assert found.table["image"].nunique() == 5
    write_image(images / "bad.tif", seed=9)
    assert [o.image for o in run().failed] == ["empty.tif"]


def test_what_can_not_be_reached_is_kept(run, images, tmp_path):
    run()
    before = parts(tmp_path / "out")
    images.rename(tmp_path / "away")
    assert len(run().failed) == 1 and parts(tmp_path / "out") == before
    (tmp_path / "away").rename(images)
    (images / "1.tif").rename(tmp_path / "1.tif")
    write_image(images / "2.tif", seed=12)
    (images / "bad.tif").write_text("no image")
    run()
    now = parts(tmp_path / "out")
    assert len(now) == 5 and len(now.keys() & before.keys()) == 4  # that of the old 2.tif went


def test_a_worker_that_is_killed_loses_nothing(run, address, tmp_path):
    killed = []

    def kill(outcome, part):
        if not killed:
            with Client(address, set_as_default=False) as client:
                killed.extend(client.run(os.getpid, nanny=False).values())
            os.kill(killed[0], signal.SIGKILL)

    found = run(on_outcome=kill)
    assert killed and not found.failed and not found.interrupted
    assert found.table["image"].nunique() == 5


def test_an_image_that_kills_its_workers_is_a_failure_and_not_the_end(run, monkeypatch):
    def poisoned(task):
        if task.item.name == "2.tif":
            os._exit(1)
        return analyse_part(task)

    monkeypatch.setattr(module, "analyse_part", poisoned)
    found = run()
    assert [o.image for o in found.failed] == ["2.tif"]
    assert "the worker that analysed it died" in found.failed[0].error
    assert [o.status for o in found.outcomes].count("done") == 4


def command(images, out, tiny_model, address):
    return [
        sys.executable, "-m", "napari_atomicity.cli", "batch", str(images), "--out", str(out),
        "--model", str(tiny_model), "--device", "cpu", "--no-umap", "--scheduler", address,
    ]  # fmt: skip


def test_a_client_that_is_killed_goes_on_later(run, images, tmp_path, tiny_model, address):
    for i in range(5, 30):
        write_image(images / f"{i}.tif", seed=i)
    out = tmp_path / "out"
    process = subprocess.Popen(command(images, out, tiny_model, address), stderr=subprocess.PIPE)
    until = time.monotonic() + 60
    while len(list((out / "parts").glob("[!.]*-*.parquet"))) < 2 and time.monotonic() < until:
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    there = len(parts(out))
    assert there >= 2
    found = run()
    assert found.reused >= there - 1 and found.table["image"].nunique() == 30


@pytest.mark.parametrize("how", ["stop", "ctrl-c"])
def test_what_is_done_when_it_is_stopped_is_written(run, tmp_path, how):
    done = []

    def tell(outcome, part):
        done.append(part.is_file())
        if how == "ctrl-c":
            raise KeyboardInterrupt

    found = run(on_outcome=tell, stop=lambda: bool(done))
    assert found.interrupted and done[0]
    assert len(set(found.table["image"])) == 1
    statuses = [o.status for o in found.outcomes]
    assert (statuses.count("done"), statuses.count("not reached")) == (1, 4)
    assert json.loads((tmp_path / "out" / "run.json").read_text())["status"] == "interrupted"
    assert run().reused >= 1


def test_a_command_that_is_told_to_end_more_than_once_still_writes_all(
    images, tmp_path, tiny_model, address, monkeypatch
):
    """`scancel` tells all processes of a job, and its script tells the command again."""

    def told_before(step):
        def instead(*args, **kwargs):
            os.kill(os.getpid(), signal.SIGTERM)
            return step(*args, **kwargs)

        return instead

    monkeypatch.setattr(PartStore, "write", told_before(PartStore.write))
    monkeypatch.setattr(Workers, "_take_back", told_before(Workers._take_back))
    monkeypatch.setattr(engine, "finalize_run", told_before(engine.finalize_run))
    monkeypatch.setattr(PartStore, "write_failures", told_before(PartStore.write_failures))
    out = tmp_path / "out"
    ended = CliRunner().invoke(cli.app, command(images, out, tiny_model, address)[3:])
    assert ended.exit_code == 130 and "stopped: " in ended.stderr
    assert {path.name for path in out.iterdir()} == FILES
    assert json.loads((out / "run.json").read_text())["status"] == "interrupted"
    assert signal.getsignal(signal.SIGTERM) == signal.SIG_DFL


def test_a_scheduler_that_goes_is_waited_for_and_then_reported(images, tmp_path, request_, forks):
    port = 18786
    where = f"tcp://127.0.0.1:{port}"

    def start(*arguments):
        process = forks.Process(target=run_dask, args=arguments)
        process.start()
        return process

    def scheduler():
        return start("dask_scheduler", "--host", "127.0.0.1", "--port", str(port), "--no-dashboard")

    def worker():
        return start(
            "dask_worker", where, "--nthreads", "1", "--no-dashboard", "--no-nanny",
            "--death-timeout", "120",
        )  # fmt: skip

    running, said = [scheduler(), worker()], []

    def restart(outcome, part):
        if len(running) == 2:
            running[0].kill()
            running[0].join()
            running.extend([scheduler(), worker()])

    def end(outcome, part):
        for process in running:
            process.kill()

    try:
        options = {"request": request_, "scheduler": where, "notice": said.append}
        found = run_batch([images], tmp_path / "a", on_outcome=restart, patience_s=120, **options)
        assert not found.problem and found.table["image"].nunique() == 5
        assert any("does not answer" in words for words in said)
        assert "the scheduler is back" in said
        found = run_batch([images], tmp_path / "b", on_outcome=end, patience_s=3, **options)
    finally:
        end(None, None)
    assert "does not answer" in found.problem
    assert 1 <= found.table["image"].nunique() < 5
    assert json.loads((tmp_path / "b" / "run.json").read_text())["status"] == "interrupted"


def test_a_scheduler_that_is_not_there_is_said_at_once(images, tmp_path, request_):
    with pytest.raises(SchedulerLost, match=r"127\.0\.0\.1:9 does not answer"):
        run_batch(
            [images], tmp_path / "out", request_, scheduler="tcp://127.0.0.1:9", patience_s=0.5
        )


def test_who_waits_for_a_scheduler_can_stop(images, tmp_path, request_, monkeypatch):
    asked = []

    def nobody(*_, **__):
        raise OSError("no answer")

    monkeypatch.setattr("napari_atomicity.pipeline.runs.dask_workers.Client", nobody)

    def stop():
        asked.append(1)
        return len(asked) > 3

    found = run_batch(
        [images], tmp_path / "out", request_, scheduler="tcp://127.0.0.1:9", stop=stop
    )
    assert found.interrupted and {o.status for o in found.outcomes} == {"not reached"}
    workers = Workers(SentModel({}, b"", "cpu"), scheduler="tcp://127.0.0.1:9")
    with pytest.raises(Cancelled):
        workers._recover(lambda: True)


def test_numba_keeps_its_threads_where_workers_are_started(monkeypatch):
    """With another number of threads in its environment, it refuses to compile functions."""
    monkeypatch.setattr(os, "environ", dict(os.environ))
    os.environ.pop("NUMBA_NUM_THREADS", None)
    with Workers(SentModel({}, b"", "cpu"), workers=1):
        assert "NUMBA_NUM_THREADS" not in os.environ


def test_workers_of_another_version_are_refused(run, monkeypatch):
    monkeypatch.setattr("napari_atomicity.pipeline.runs.sent_model.__version__", "0.0.0")
    with pytest.raises(AtomicityError, match=r"0\.0\.0 where the run was started: install"):
        run()


def test_runs_that_share_workers_leave_each_other_the_model(
    run, images, tmp_path, request_, address
):
    inner = []

    def another(outcome, part):
        if not inner:
            inner.append(run_batch([images], tmp_path / "b", request_, scheduler=address))

    found = run(on_outcome=another)
    assert not found.failed and not inner[0].failed


def test_a_folder_that_can_not_be_read_is_refused(run, tmp_path, monkeypatch):
    listed = Path.iterdir

    def denied(folder):
        if folder.name == "parts":
            raise PermissionError(13, "Permission denied")
        return listed(folder)

    monkeypatch.setattr(Path, "iterdir", denied)
    with pytest.raises(AtomicityError, match="this folder can't be read"):
        run()


def test_two_runs_do_not_share_a_folder(run, tmp_path):
    with (
        PartStore(tmp_path / "out").locked(),
        pytest.raises(AtomicityError, match="another run is writing to this folder"),
    ):
        run()


def test_a_folder_that_can_not_be_written_to_is_refused(images, tmp_path, request_):
    (tmp_path / "file").write_text("")
    with pytest.raises(AtomicityError, match="this folder can't be written to"):
        run_batch([images], tmp_path / "file" / "out", request_)


def test_a_full_disk_ends_the_run_with_a_reason(run, monkeypatch):
    def full(_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("napari_atomicity.pipeline.runs.part_store.os.fsync", full)
    with pytest.raises(AtomicityError, match="No space left on device"):
        run()


@pytest.mark.parametrize("where", ["end", "within"])
def test_a_damaged_part_is_made_again(run, tmp_path, where):
    run()
    store = PartStore(tmp_path / "out")
    stem = min(store.stems)
    whole = store.files.read(f"{stem}.parquet")
    damaged = whole[:-20] if where == "end" else whole[:4] + b"\xff" * 400 + whole[404:]
    store.files.write(f"{stem}.parquet", damaged)
    again = run()
    assert again.reused == 4 and not again.failed
    assert len(pd.read_parquet(tmp_path / "out" / "clusters")) > 10


def test_a_model_that_is_missing_is_refused_before_the_work(run):
    with pytest.raises(ModelError, match="there is no model 'nobody'"):
        run(request=RunRequest("nobody"))


@pytest.mark.usefixtures("drawn_figures")
def test_the_report_is_that_of_one_by_one(real_report, images, tmp_path, request_, address):
    for i in range(2, 5):
        (images / f"{i}.tif").unlink()
    run_batch([images], tmp_path / "out", request_, scheduler=address)
    analyse_images([images], tmp_path / "serial", request_)

    def sections(folder):
        report = (tmp_path / folder / "report.html").read_text()
        return report[report.index("<main>") : report.index('id="methods"')].split("facts", 1)[1]

    rest = sections("out").partition("\n")[2]
    assert rest == sections("serial").partition("\n")[2] and 'id="1.tif"' in rest


def test_of_many_images_the_report_shows_some(real_report, run, images, tmp_path, monkeypatch):
    monkeypatch.setattr(engine, "SHOWN", 2)
    monkeypatch.setattr(engine, "MANY_IMAGES", 2)
    run()
    report = (tmp_path / "out" / "report.html").read_text()
    assert "2 of 5 images" in report and "<!-- ratios -->" not in report
    assert 'id="0.tif"' in report and 'id="4.tif"' in report and 'id="2.tif"' not in report


def test_the_command_ends_as_the_others_do(images, tmp_path, tiny_model, address):
    def atomicity(*more):
        arguments = command(images, tmp_path / "out", tiny_model, address)[3:]
        return CliRunner().invoke(cli.app, [*arguments, *more])

    good = atomicity("--json")
    assert good.exit_code == 0 and json.loads(good.stdout)["reused"] == 0
    assert "5 of 5 images" in good.stderr and "dashboard" in good.stderr
    (images / "bad.tif").write_text("no image")
    bad = atomicity()
    assert bad.exit_code == 1 and bad.stdout == ""
    assert "5 images, 5 of them by an earlier run" in bad.stderr
    assert "1 image could not be analysed: see" in bad.stderr
    assert atomicity("--workers", "2").exit_code == 2
    assert atomicity("--model", "nobody").exit_code == 2


def test_whole_results_come_without_their_pixels(images, request_, monkeypatch):
    classifier = load_classifier(request_.model, "cpu")
    monkeypatch.setattr(module, "classifier_of", lambda _: classifier)
    monkeypatch.setattr("napari_atomicity.core.micrograph.LARGE_PIXELS", 1000)
    monkeypatch.setattr("napari_atomicity.io.readers.lazy.LARGE_PIXELS", 1000)
    item = Input("one", images / "0.tif")
    assert load(item.path).is_large
    sent = pickle.dumps(module.analyse_whole(engine.ImageTask(item, 1, request_, True, False)))
    outcome, found = pickle.loads(sent)
    assert outcome.status == "done" and len(found.table)
    got, own = found.micrograph, load(item.path)
    assert not got.is_read and (got.name, got.path) == ("one", item.path)
    assert (got.sha256, got.shape, got.pixel_size_nm) == (own.sha256, own.shape, own.pixel_size_nm)
    assert np.array_equal(np.asarray(got.data[:5, :5]), np.asarray(own.data[:5, :5]))


def test_pace_and_what_is_left_are_told_once_they_are_known():
    now = [0.0]
    pace = Throughput(10, clock=lambda: now[0])
    assert pace.format(0) == "0 of 10 images"
    for _ in range(3):
        now[0] += 2
        pace.add_image()
    assert pace.format(3) == "3 of 10 images, 0.5 per s, 14 s left"
    for _ in range(3):
        now[0] += 60
        pace.add_image()
    assert pace.format(6) == "6 of 10 images, 1.0 per min, 4 min left"
    assert pace.format(10) == "10 of 10 images, 1.0 per min"
    assert [format_duration(s) for s in (89, 600, 9000)] == ["89 s", "10 min", "2 h 30 min"]
