"""From the last byte of an image to its result, in a watched folder.

    python benchmarks/live.py [--files 24] [--size 1024] [--threads 2] [--json FILE]

A thread writes the example's pixels (with noise of their own) in four pieces, as a microscope may,
waits for the result, pauses, and writes the next. The same files are taken by a session that is
told by the system, by one that looks every second as a simple script would, and by one that also
places the clusters in the map. *Latency* is from the return of the last write to the moment at
which the result, with its running ratios, is handed over.
"""

from __future__ import annotations

import argparse
import io
import json
import os
import platform
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

from napari_atomicity import load
from napari_atomicity.examples import example_path
from napari_atomicity.many.cluster import cores_at_hand
from napari_atomicity.many.watch import Live, Watch
from napari_atomicity.runs import Request

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


def session(
    files: list[bytes], folder: Path, pause_s: float, request: Request, **options: Any
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

    def on_result(live: Live) -> None:
        latency.append(time.perf_counter() - ended_at[-1])
        assert live.row is not None
        analysis.append(live.row["analysis_s"])
        clusters.append(live.row["clusters"])
        taken.set()

    def stop() -> bool:
        ready.set()  # asked for the first time when the session is warm and listens
        return finished.is_set()

    threading.Thread(target=write, daemon=True).start()
    Watch(incoming, folder / "out", request, **options).run(on_result, stop)
    return {
        "files": len(latency),
        "clusters": float(np.median(clusters)),
        "median_s": float(np.median(latency)),
        "worst_s": float(np.max(latency)),
        "analysis_s": float(np.median(analysis)),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--files", type=int, default=24)
    parser.add_argument("--size", type=int, default=1024)
    parser.add_argument("--threads", type=int, default=cores_at_hand())
    parser.add_argument("--pause", type=float, default=0.7, help="seconds between files, about")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)

    files = contents(options.files, options.size)
    load_before = os.getloadavg()[0]
    plain, mapped = Request(umap=False), Request(umap=True)
    cases: dict[str, tuple[Request, dict[str, Any]]] = {
        "told by the system": (plain, {"polling": False}),
        "looks every 0.5 s": (plain, {"polling": True, "poll_s": 0.5}),
        "looks every 1 s": (plain, {"polling": True, "poll_s": 1.0}),
        "told, with the map": (mapped, {"polling": False}),
    }
    folder = Path(tempfile.mkdtemp(prefix="atomicity-live-"))
    try:
        found = {
            name: session(files, folder / str(i), options.pause, request, **how)
            for i, (name, (request, how)) in enumerate(cases.items())
        }
    finally:
        shutil.rmtree(folder, ignore_errors=True)

    clusters = found["told by the system"]["clusters"]
    print(
        f"{options.files} files of {options.size} × {options.size} pixels, {clusters:.0f} clusters "
        f"each\n{platform.machine()}, {cores_at_hand()} cores, {options.threads} threads, "
        f"load {load_before:.1f} before\n"
    )
    print("| session | median (s) | worst (s) | of which analysis (s) |")
    print("|---|---|---|---|")
    for name, f in found.items():
        print(f"| {name} | {f['median_s']:.2f} | {f['worst_s']:.2f} | {f['analysis_s']:.2f} |")
    values = {"sessions": found, "load_before": load_before, "cores": cores_at_hand()}
    print(json.dumps(values))
    if options.json is not None:
        options.json.write_text(json.dumps(values, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
