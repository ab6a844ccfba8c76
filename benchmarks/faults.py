"""Trials of `kills.py` that need no window: a full disk, six writers, batches that are killed.

Each trial raises `AssertionError` if something that was acknowledged is lost.
"""

from __future__ import annotations

import contextlib
import json
import multiprocessing
import os
import random
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from napari_atomicity.io.tables import read_clusters
from napari_atomicity.pipeline.run_request import RunRequest
from napari_atomicity.pipeline.runs.batch import run_batch
from napari_atomicity.pipeline.runs.part_store import PartStore
from napari_atomicity.project import Project
from napari_atomicity.state.window_state import WindowState

TESTS = Path(__file__).resolve().parent.parent / "tests"
sys.path[:0] = [str(TESTS), str(TESTS / "project")]
from bench import write_image  # noqa: E402
from project_kills import EDITORS, EditorServer, acknowledged_edits, check_project  # noqa: E402

BATCHES = TESTS / "pipeline" / "killed_batch.py"
WRITERS = 6
_DISK_MB = 16
_LABELS = ("Pt19", "Pt30", "Pt41", "Pt55", "Pt70")
_BATCH_IMAGES = 12
_TIMEOUT_S = 600.0


@dataclass
class Trials:
    """How often something was tried, and how many acknowledged results were found again."""

    tried: int
    acknowledged: int


# ---- full disk
@contextlib.contextmanager
def small_disk(folder: Path) -> Iterator[bool]:
    """Mount a small disk in memory on a folder; yield whether this user may do so."""
    command = ["mount", "-t", "tmpfs", "-o", f"size={_DISK_MB}m", "none", str(folder)]
    try:
        mounted = subprocess.run(command, capture_output=True, check=False).returncode == 0
    except OSError:
        mounted = False
    try:
        yield mounted
    finally:
        if mounted:
            subprocess.run(["umount", "--lazy", str(folder)], check=True)


def full_disk(path: Path, trials: int, seed: int) -> Trials:
    """Edit a project on a small disk until it is full and longer, then kill the editor.

    Parameters
    ----------
    path : Path
        Project on the small disk.
    trials, seed : int
        Number of trials, and of their random numbers.
    """
    chance = random.Random(seed)
    found, n_before = Trials(0, 0), 0
    filler = path.with_name("filler")
    with EditorServer(EDITORS, _TIMEOUT_S) as server:
        for i in range(trials):
            leave_free(filler, chance.randrange(0, 400_000))
            lines = server.edit_until_killed(
                f"{path} {chance.randrange(1000)}", chance.randrange(20, 120)
            )
            filler.unlink()
            n_before = check_project(path, lines, n_before, f"full disk {i}")
            if any(words[0] in ("unsaved", "unopened") for words in lines):
                found.tried += 1
            found.acknowledged += len(acknowledged_edits(lines))
    return found


def leave_free(filler: Path, n_bytes: int) -> None:
    """Write a file that leaves so many bytes of its disk free."""
    disk = os.statvfs(filler.parent)
    filler.write_bytes(bytes(max(0, disk.f_bavail * disk.f_frsize - n_bytes)))


# ---- six writers
def six_writers(path: Path, rounds: int) -> Trials:
    """Six processes open one project at once; who may write labels a cluster and closes it.

    Parameters
    ----------
    path : Path
        Project, closed.
    rounds : int
        Number of labels of each process.
    """
    context = multiprocessing.get_context("fork")
    with Project(path) as project:
        n_before = len(project.corrections())
    writers = [
        context.Process(target=_write_in_turn, args=(path, i, rounds)) for i in range(WRITERS)
    ]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join()
        assert writer.exitcode == 0, f"a writer has failed: {writer.exitcode}"
    with Project(path) as project:
        log = project.corrections()[n_before:]
    for i in range(WRITERS):
        labels = log[log["annotator"] == f"writer {i}"]["label"].tolist()
        assert labels == [_LABELS[(i + k) % len(_LABELS)] for k in range(rounds)], i
    return Trials(rounds, len(log))


def _write_in_turn(path: Path, writer: int, rounds: int) -> None:
    done = 0
    alone = path.with_name("writing")
    while done < rounds:
        with Project(path) as project:
            if not project.read_only:
                alone.touch(exist_ok=False)  # fails if another one writes
                state = WindowState()
                state.open_project(project, project.load_all())
                state.annotator = f"writer {writer}"
                image = project.names[0]
                ids = state.table(image)["cluster_id"].tolist()
                label = _LABELS[(writer + done) % len(_LABELS)]
                state.clusters.relabel([(image, ids[(writer + done) % len(ids)])], label)
                assert not state.unsaved, state.unsaved
                done += 1
                alone.unlink()
        time.sleep(0.002 * (1 + writer))


# ---- batches
def resumed_batches(folder: Path, model: Path, trials: int, seed: int) -> Trials:
    """Kill batches, and run them again until all images are analysed.

    Parameters
    ----------
    folder : Path
        Empty folder.
    model : Path
        Model with a small network.
    trials, seed : int
        Number of batches, and of their random numbers.
    """
    from distributed import LocalCluster

    chance = random.Random(seed)
    images = folder / "images"
    images.mkdir(parents=True)
    for i in range(_BATCH_IMAGES):
        write_image(images / f"{i}.tif", i)
    found = Trials(0, 0)
    with (
        LocalCluster(2, threads_per_worker=1, dashboard_address=None) as cluster,
        EditorServer(BATCHES, _TIMEOUT_S) as server,
    ):
        for i in range(trials):
            out = folder / f"out-{i}"
            places = {"images": images, "out": out, "model": model,
                      "scheduler": cluster.scheduler_address}  # fmt: skip
            request = json.dumps({name: str(place) for name, place in places.items()})
            before: dict[str, dict] = {}
            for _ in range(chance.randrange(1, 3)):
                n_lines = chance.randrange(1, max(2, _BATCH_IMAGES - len(before) - 3))
                lines = server.edit_until_killed(request, n_lines)
                now = _parts(out)
                assert before.items() <= now.items(), f"batch {i}: a part was written again"
                said = {part.removesuffix(".parquet") for _, part in lines}
                assert said <= now.keys(), f"batch {i}: a part is lost"
                before = now
                found.acknowledged += len(lines)
            done = run_batch(
                [images], out, RunRequest(str(model), "cpu", umap=False),
                scheduler=cluster.scheduler_address,
            )  # fmt: skip
            assert done.reused == len(before), f"batch {i}: {done.reused} of {len(before)} reused"
            assert before.keys() <= _parts(out).keys(), f"batch {i}: a part is lost"
            assert read_clusters(out / "clusters.csv")["image"].nunique() == _BATCH_IMAGES, i
            found.tried += 1
    return found


def _parts(out: Path) -> dict[str, dict]:
    """Return what each part of a run says of itself, the times of its analysis too."""
    store = PartStore(out)
    return {stem: store.about(stem) for stem in store.stems}
