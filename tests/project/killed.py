"""Editors of a project that say after each edit what must be on disk, until they are killed.

A server forks an editor for each line ``path seed`` of its input. An editor that begins as a copy
of a process in which everything is imported is ready at once, so that thousands can be killed.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

from napari_atomicity.core.errors import AtomicityError
from napari_atomicity.project import Project
from napari_atomicity.state.window_state import WindowState


def edit(path: str, seed: int) -> None:
    """Edit for ever."""
    print(f"began {os.getpid()}", flush=True)
    state, project = WindowState(), open_until_killed(path)
    state.open_project(project, project.load_all())
    image = project.names[0]
    labels = ["Pt19", "Pt30", "Pt41", "Pt55", "Pt70", "unknown"]

    waiting = False

    def acknowledge(edit: str) -> None:
        """Print an edit that was saved at once; those that waited are saved as one change."""
        nonlocal waiting
        waited, waiting = waiting, bool(state.unsaved)
        print(("unsaved" if waiting else "saved later") if waited or waiting else edit, flush=True)

    i = seed
    while True:
        ids = state.table(image)["cluster_id"].tolist()
        i += 1
        kind = i % 7
        if kind == 5 and len(ids) > 6:
            chosen = ids[i % len(ids)]
            state.clusters.remove([(image, chosen)])
            acknowledge(f"gone {chosen}")
        elif kind == 6:
            state.history.undo()
            acknowledge("undone")
        else:
            chosen, label = ids[i % len(ids)], labels[i % len(labels)]
            state.clusters.relabel([(image, chosen)], label)
            acknowledge(f"said {chosen} {label}")


def open_until_killed(path: str) -> Project:
    """Open a project; without any space on the disk, say so and try again."""
    while True:
        try:
            return Project(path)
        except AtomicityError:
            print("unopened", flush=True)


def serve() -> None:
    """Fork an editor for each line of the input, and say when it has ended."""
    names = [path.read_text().strip() for path in Path("/proc/self/task").glob("*/comm")]
    # That of pyarrow's allocator, which may begin at any time, survives a fork.
    others = [name for name in names if name != "jemalloc_bg_thd"]
    assert len(others) <= 1, f"forks of threads may hang: {others}"
    for line in sys.stdin:
        path, seed = line.rstrip("\n").rsplit(" ", 1)
        editor = os.fork()
        if editor == 0:
            edit(path, int(seed))
        _, status = os.waitpid(editor, 0)
        print(f"ended {os.waitstatus_to_exitcode(status)}", flush=True)


if __name__ == "__main__":
    serve()
