"""Batches that run until they are killed; a server of `project_kills.EditorServer`.

It forks a batch for each line of its input, a JSON object: ``images``, ``out``, ``model``,
``scheduler``. A batch prints each image once it says that the image is done.
"""

from __future__ import annotations

import json
import os
import sys

import distributed  # noqa: F401  (imported before the fork)

from napari_atomicity.pipeline.run_request import RunRequest
from napari_atomicity.pipeline.runs.batch import run_batch


def analyse(images: str, out: str, model: str, scheduler: str) -> None:
    """Run a batch, or continue it."""
    print(f"began {os.getpid()}", flush=True)
    run_batch(
        [images],
        out,
        RunRequest(model, "cpu", umap=False),
        scheduler=scheduler,
        on_outcome=lambda outcome, part: print(f"done {part.name}", flush=True),
    )


def serve() -> None:
    """Fork a batch for each line of the input, and say when it has ended."""
    for line in sys.stdin:
        batch = os.fork()
        if batch == 0:
            analyse(**json.loads(line))
            os._exit(0)
        _, status = os.waitpid(batch, 0)
        print(f"ended {os.waitstatus_to_exitcode(status)}", flush=True)


if __name__ == "__main__":
    serve()
