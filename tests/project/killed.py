"""Edits a project for ever and says after each edit what must be on disk; until it is killed."""

from __future__ import annotations

import sys

from napari_atomicity.project import Project
from napari_atomicity.state.window_state import Session


def main(path: str, seed: int) -> None:
    session, project = Session(), Project(path)
    session.open_project(project, project.load_all())
    image = project.names[0]
    labels = ["Pt19", "Pt30", "Pt41", "Pt55", "Pt70", "unknown"]
    print("ready", flush=True)
    i = seed
    while True:
        ids = session.table(image)["cluster_id"].tolist()
        i += 1
        kind = i % 7
        if kind == 5 and len(ids) > 6:
            chosen = ids[i % len(ids)]
            session.remove([(image, chosen)])
            print(f"gone {chosen}", flush=True)
        elif kind == 6:
            session.undo()
            print(f"corrections {len(project.corrections())}", flush=True)
        else:
            chosen, label = ids[i % len(ids)], labels[i % len(labels)]
            session.relabel([(image, chosen)], label)
            print(f"said {chosen} {label}", flush=True)


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]))
