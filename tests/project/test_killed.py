"""A process that is killed in the midst of editing loses nothing that was done."""

from __future__ import annotations

import os
import random
import signal
import sqlite3
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from napari_atomicity.project import Project

EDITOR = Path(__file__).with_name("killed.py")
ROUNDS = 5


def edit_until_killed(path: Path, seed: int, n_lines: int) -> list[str]:
    """What an editor has said to be done before it was killed, in the middle of something."""
    process = subprocess.Popen(
        [sys.executable, str(EDITOR), str(path), str(seed)],
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )
    watchdog = threading.Timer(60, process.kill)
    watchdog.start()
    said: list[str] = []
    assert process.stdout is not None
    for line in process.stdout:
        said.append(line.strip())
        if len(said) > n_lines:
            os.kill(process.pid, signal.SIGKILL)
            break
    # What it had said before it died counts as well; a line that was cut does not.
    said += [line.strip() for line in process.stdout if line.endswith("\n")]
    process.wait()
    watchdog.cancel()
    assert process.returncode == -signal.SIGKILL
    return said[1:]


@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="there is no SIGKILL here")
def test_killed_again_and_again_mid_edit(project):
    path = project.path
    project.close()
    chance = random.Random(20260143)
    n_before = 0
    for i in range(ROUNDS):
        said = edit_until_killed(path, chance.randrange(1000), chance.randrange(3, 40))
        with sqlite3.connect(path) as db:
            assert db.execute("PRAGMA integrity_check").fetchone() == ("ok",)
        with Project(path) as again:
            assert not again.read_only, "the lock of the killed one must not stay"
            log = again.corrections()
            told = [line.split() for line in said]
            # Each acknowledged edit, in its order, is a line of the log.
            wanted = [
                ("label", int(words[1]), words[2]) if words[0] == "said"
                else ("remove", int(words[1]), "")
                for words in told
                if words[0] in ("said", "gone")
            ]  # fmt: skip
            lines = iter(zip(log["what"], log["cluster_id"], log["label"], strict=True))
            assert all(entry in lines for entry in wanted), f"round {i}"
            # And the tables are those that the log leads to.
            now = again.load("a.tif").analysis.table.set_index("cluster_id")
            last = log[n_before:].groupby("cluster_id").last()
            for cluster_id, row in last[last["what"] == "label"].iterrows():
                assert now.loc[cluster_id, "label_corrected"] == row["label"]
            assert not set(last[last["what"] == "remove"].index) & set(now.index)
            n_before = len(log)
    assert n_before > ROUNDS * 3
