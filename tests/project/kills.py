"""Kill editors of a project again and again, and check that nothing is lost that was saved."""

from __future__ import annotations

import os
import random
import signal
import sqlite3
import subprocess
import sys
import threading
from pathlib import Path

from napari_atomicity.project import Project

EDITORS = Path(__file__).with_name("killed.py")
_TIMEOUT_S = 60.0


def kill_again_and_again(path: Path, kills: int, seed: int) -> int:
    """Kill editors of a project in the midst of their work.

    Parameters
    ----------
    path : pathlib.Path
        Project file, closed.
    kills : int
        How many editors are killed.
    seed : int
        Of what each does, and when it is killed.

    Returns
    -------
    int
        Number of edits that were acknowledged, all of which were found again.

    Raises
    ------
    AssertionError
        If an edit is missing, or the file is damaged.
    """
    chance = random.Random(seed)
    acknowledged = n_before = 0
    with subprocess.Popen(
        [sys.executable, str(EDITORS)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    ) as server:
        for i in range(kills):
            said = _edit_until_killed(server, path, chance.randrange(1000), chance.randrange(2, 30))
            n_before = _check(path, said, n_before, f"kill {i}")
            acknowledged += sum(line[0] in ("said", "gone") for line in said)
        server.stdin.close()
    return acknowledged


def _edit_until_killed(
    server: subprocess.Popen, path: Path, seed: int, n_lines: int
) -> list[list[str]]:
    """Return the words of what an editor has acknowledged before it was killed."""
    server.stdin.write(f"{path} {seed}\n")
    server.stdin.flush()
    watchdog = threading.Timer(_TIMEOUT_S, server.kill)
    watchdog.start()
    editor = int(server.stdout.readline().split()[1])
    said: list[list[str]] = []
    for line in server.stdout:
        words = line.split()
        if words[:1] == ["ended"]:
            assert int(words[1]) == -signal.SIGKILL, words
            break
        # What it has said before it died counts as well. Short lines are written as a whole.
        said.append(words)
        if len(said) == n_lines:
            os.kill(editor, signal.SIGKILL)
    watchdog.cancel()
    return said


def _check(path: Path, said: list[list[str]], n_before: int, where: str) -> int:
    """Check that a project has all that was acknowledged; return the length of its log."""
    with sqlite3.connect(path) as db:
        assert db.execute("PRAGMA integrity_check").fetchone() == ("ok",), where
    with Project(path) as again:
        assert not again.read_only, "the lock of the killed one must not stay"
        log = again.corrections()
        new = log[n_before:]
        # Each acknowledged edit, in its order, is a line of the log.
        wanted = [
            ("label", int(words[1]), words[2]) if words[0] == "said"
            else ("remove", int(words[1]), "")
            for words in said
            if words[0] in ("said", "gone")
        ]  # fmt: skip
        lines = iter(zip(new["what"], new["cluster_id"], new["label"], strict=True))
        assert all(entry in lines for entry in wanted), where
        # And the tables are those that the log leads to.
        now = again.load("a.tif").analysis.table.set_index("cluster_id")
        last = new.groupby("cluster_id").last()
        for cluster_id, row in last[last["what"] == "label"].iterrows():
            assert now.loc[cluster_id, "label_corrected"] == row["label"], where
        assert not set(last[last["what"] == "remove"].index) & set(now.index), where
        return len(log)
