"""Edits a project for ever and says after each edit what must be on disk; until it is killed."""

from __future__ import annotations

import sys

from napari_atomicity.project import Project
from napari_atomicity.state.window_state import WindowState


def main(path: str, seed: int) -> None:
    state, project = WindowState(), Project(path)
    state.open_project(project, project.load_all())
    image = project.names[0]
    labels = ["Pt19", "Pt30", "Pt41", "Pt55", "Pt70", "unknown"]
    print("ready", flush=True)
    i = seed
    while True:
        ids = state.table(image)["cluster_id"].tolist()
        i += 1
        kind = i % 7
        if kind == 5 and len(ids) > 6:
            chosen = ids[i % len(ids)]
            state.clusters.remove([(image, chosen)])
            print(f"gone {chosen}", flush=True)
        elif kind == 6:
            state.history.undo()
            print(f"corrections {len(project.corrections())}", flush=True)
        else:
            chosen, label = ids[i % len(ids)], labels[i % len(labels)]
            state.clusters.relabel([(image, chosen)], label)
            print(f"said {chosen} {label}", flush=True)


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]))
