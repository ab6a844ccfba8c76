"""From the last byte of an image to its result, in a watched folder.

    python benchmarks/live.py [--files 24] [--size 1024] [--threads 2] [--pause 0.7]

A thread writes the example's pixels (with noise of their own) in four pieces, as a microscope may,
waits for the result, pauses for about ``--pause`` seconds, and writes the next. The same files are
taken by a session that is told by the system, by one that looks every second as a simple script
would, and by one that also places the clusters in the map. *Latency* is from the return of the last
write to the moment at which the result, with its running ratios, is handed over.
"""

from __future__ import annotations

import io
import shutil
import tempfile
import threading
import time
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import tifffile
import torch

from measuring import machine, options, write
from napari_atomicity import load
from napari_atomicity.pipeline.live.live import LiveUpdate
from napari_atomicity.pipeline.live.watch import Watch
from napari_atomicity.pipeline.run_request import RunRequest
from napari_atomicity.pipeline.runs.dask_workers import available_cores
from napari_atomicity.simulation.example_data import example_path

PIECES = 4


def contents(n: int, size: int, seed: int = 0) -> list[bytes]:
    """n files with pixels of the example, tiled to the size, each with noise of its own."""
    example = load(example_path())
    assert example.pixel_size_nm is not None
    repeats = [-(-size // s) for s in example.data.shape]
    pixels = np.tile(example.data, repeats)[:size, :size]
    spread = 0.02 * float(np.std(pixels))
    rng = np.random.default_rng(seed)
    found = []
    for _ in range(n):
        stream = io.BytesIO()
        noisy = np.clip(pixels + rng.normal(0, spread, pixels.shape), 0, 65535)
        tifffile.imwrite(
            stream,
            noisy.astype(np.uint16),
            imagej=True,
            resolution=(1 / example.pixel_size_nm,) * 2,
            metadata={"unit": "nm"},
        )
        found.append(stream.getvalue())
    return found


def state(
    files: list[bytes], folder: Path, pause_s: float, request: RunRequest, **how: Any
) -> dict[str, Any]:
    """Latencies in seconds, and what part of them is the analysis."""
    incoming = folder / "in"
    incoming.mkdir(parents=True)
    taken, finished = threading.Event(), threading.Event()
    ready = threading.Event()
    ended_at: list[float] = []
    latency: list[float] = []
    analysis: list[float] = []
    clusters: list[int] = []
    rng = np.random.default_rng(1)

    def write() -> None:
        ready.wait()
        for number, content in enumerate(files):
            time.sleep(pause_s * rng.uniform(0.5, 1.5))
            taken.clear()
            cuts = [len(content) * i // PIECES for i in range(PIECES + 1)]
            with (incoming / f"{number:04d}.tif").open("wb") as file:
                for a, b in pairwise(cuts):
                    file.write(content[a:b])
                    file.flush()
                    time.sleep(0.01)
            ended_at.append(time.perf_counter())
            taken.wait(60)
        finished.set()

    def on_result(live: LiveUpdate) -> None:
        latency.append(time.perf_counter() - ended_at[-1])
        assert live.row is not None
        analysis.append(live.row["analysis_s"])
        clusters.append(live.row["clusters"])
        taken.set()

    def stop() -> bool:
        ready.set()  # asked for the first time when the session is warm and listens
        return finished.is_set()

    threading.Thread(target=write, daemon=True).start()
    Watch(incoming, folder / "out", request, **how).run(on_result, stop)
    return {
        "files": len(latency),
        "clusters": float(np.median(clusters)),
        "median_s": float(np.median(latency)),
        "worst_s": float(np.max(latency)),
        "analysis_s": float(np.median(analysis)),
    }


def main() -> None:
    given = options(__doc__, files=24, size=1024, threads=available_cores(), pause=0.7)
    torch.set_num_threads(given.threads)
    about = machine()
    files = contents(given.files, given.size)
    plain, mapped = RunRequest(umap=False), RunRequest(umap=True)
    cases: dict[str, tuple[RunRequest, dict[str, Any]]] = {
        "notified by the system": (plain, {"polling": False}),
        "polls every 0.5 s": (plain, {"polling": True, "poll_s": 0.5}),
        "polls every 1 s": (plain, {"polling": True, "poll_s": 1.0}),
        "notified, with the map": (mapped, {"polling": False}),
    }
    folder = Path(tempfile.mkdtemp(prefix="atomicity-live-"))
    try:
        found = {
            name: state(files, folder / str(i), given.pause, request, **how)
            for i, (name, (request, how)) in enumerate(cases.items())
        }
    finally:
        shutil.rmtree(folder, ignore_errors=True)

    write("live", {"files": given.files, "size": given.size, "sessions": found}, about)


if __name__ == "__main__":
    main()
