"""Kill processes that edit a project again and again, and check that nothing saved is lost."""

from __future__ import annotations

import contextlib
import os
import random
import signal
import sqlite3
import subprocess
import sys
import threading
import time
from pathlib import Path

from napari_atomicity.project import Project

EDITORS = Path(__file__).with_name("killed.py")
KILLED_IMAGE = "a.tif"
# A process with further threads may hang after a fork: the libraries must not start any.
_FORKED_SAFELY = {
    "OMP_NUM_THREADS": "1",
    "OPENBLAS_NUM_THREADS": "1",
    "JE_ARROW_MALLOC_CONF": "background_thread:false",
}


class EditorServer:
    """A process that forks an editor for each request; a context in which it runs.

    An editor prints ``began <process id>``, then a line for each edit that is saved.

    Parameters
    ----------
    script : Path
        Program of the server.
    timeout_s : float
        Time after which an editor counts as hanging.
    environment : str
        Additional environment variables.
    """

    def __init__(self, script: Path, timeout_s: float = 300.0, **environment: str) -> None:
        self._timeout_s = timeout_s
        self._process = subprocess.Popen(
            [sys.executable, "-W", "ignore", str(script)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, **_FORKED_SAFELY, "PYTHONFAULTHANDLER": "1", **environment},
            start_new_session=True,
        )

    def __enter__(self) -> EditorServer:
        return self

    def __exit__(self, *_: object) -> None:
        self._end(signal.SIGKILL)
        self._process.stdin.close()
        self._process.stdout.close()
        self._process.wait()

    def _end(self, how: signal.Signals) -> None:
        """End the server and its editor; ``SIGABRT`` prints where each of their threads is."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._process.pid, how)

    def edit_until_killed(
        self, request: str, n_lines: int, delay_s: float = 0.0
    ) -> list[list[str]]:
        """Start an editor and kill it.

        Parameters
        ----------
        request : str
            Line for the server.
        n_lines : int
            The editor is killed after it has printed so many lines …
        delay_s : float, optional
            … and this time has passed.

        Returns
        -------
        list of list of str
            Words of all lines that the editor printed, also those of its last moments.
        """
        self._process.stdin.write(f"{request}\n")
        self._process.stdin.flush()
        watchdog = threading.Timer(self._timeout_s, self._end, [signal.SIGABRT])
        watchdog.start()
        editor = int(self._process.stdout.readline().split()[1])
        lines: list[list[str]] = []
        if n_lines == 0:
            _kill(editor, delay_s)
        for line in self._process.stdout:
            words = line.split()
            if words[:1] == ["ended"]:
                assert int(words[1]) == -signal.SIGKILL, words
                break
            lines.append(words)
            if len(lines) == n_lines:
                _kill(editor, delay_s)
        else:
            raise AssertionError(f"the server has ended, or the editor hangs: {request}")
        watchdog.cancel()
        return lines


def _kill(process: int, delay_s: float) -> None:
    time.sleep(delay_s)
    os.kill(process, signal.SIGKILL)


def acknowledged_edits(lines: list[list[str]]) -> list[tuple[str, int, str]]:
    """Return the edits that an editor has acknowledged: (what, cluster id, label)."""
    return [
        ("label", int(words[1]), words[2]) if words[0] == "said" else ("remove", int(words[1]), "")
        for words in lines
        if words[0] in ("said", "gone")
    ]


def kill_again_and_again(path: Path, kills: int, seed: int) -> int:
    """Kill processes that edit a project through the state of a window.

    Parameters
    ----------
    path : pathlib.Path
        Project file, closed.
    kills : int
        How many processes are killed.
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
    with EditorServer(EDITORS) as server:
        for i in range(kills):
            request = f"{path} {chance.randrange(1000)}"
            lines = server.edit_until_killed(request, chance.randrange(2, 30))
            assert ["unopened"] not in lines, f"kill {i}"
            n_before = check_project(path, lines, n_before, f"kill {i}")
            acknowledged += len(acknowledged_edits(lines))
    return acknowledged


def check_project(path: Path, lines: list[list[str]], n_before: int, where: str) -> int:
    """Check that a project has all that an editor acknowledged.

    Parameters
    ----------
    path : Path
        Project file.
    lines : list of list of str
        From `EditorServer.edit_until_killed`.
    n_before : int
        Length of the log of corrections before the editor began.
    where : str
        Name of the check for errors.

    Returns
    -------
    int
        Length of the log of corrections.
    """
    # Closed at once: the log of a project is not taken in, and grows, while this is open.
    with contextlib.closing(sqlite3.connect(path)) as db:
        assert db.execute("PRAGMA integrity_check").fetchone() == ("ok",), where
    with Project(path) as again:
        assert not again.read_only, "the lock of the killed one must not stay"
        log = again.corrections()
        new = log[n_before:]
        # Each acknowledged edit, in its order, is a line of the log.
        entries = iter(zip(new["what"], new["cluster_id"], new["label"], strict=True))
        assert all(edit in entries for edit in acknowledged_edits(lines)), where
        # And the tables are those that the log leads to.
        now = again.load(KILLED_IMAGE).analysis.table.set_index("cluster_id")
        last = new.groupby("cluster_id").last()
        for cluster_id, row in last[last["what"] == "label"].iterrows():
            assert now.loc[cluster_id, "label_corrected"] == row["label"], where
        assert not set(last[last["what"] == "remove"].index) & set(now.index), where
        return len(log)
