"""Time to find the atoms of an image, beside the sliding-window way of doing the same.

    python benchmarks/atoms.py [--size 512] [--threads 2] [--repeats 3] [--rows 32]

One simulated image, everything in one process and one run; the ratio is the sliding window's time
over ours. The sliding window is written in its plainest form: a small classifier (three
convolutions, two dense layers) sees the 21 × 21 pixels around every pixel, in batches. Its time is
that of ``--rows`` rows, times the rows of the image: every pixel costs the same.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import time
from collections.abc import Callable

import numpy as np
import torch
from torch import nn

from napari_atomicity.atoms.analysis import find_atoms
from napari_atomicity.atoms.candidates import find_candidates
from napari_atomicity.atoms.finder import SAMPLING_NM, load_atom_model
from napari_atomicity.atoms.localisation import fit_spots
from napari_atomicity.micrograph import Micrograph
from napari_atomicity.training.atoms import simulated_field

WINDOW_PX = 21
BATCH = 4096


class WindowClassifier(nn.Sequential):
    """Is there an atom in the middle of these 21 × 21 pixels?"""

    def __init__(self) -> None:
        super().__init__(
            nn.Conv2d(1, 16, 3, padding=1),
            nn.ReLU(),
            nn.MaxPool2d(2),
            nn.Conv2d(16, 32, 3, padding=1),
            nn.ReLU(),
            nn.MaxPool2d(2),
            nn.Conv2d(32, 64, 3, padding=1),
            nn.ReLU(),
            nn.Flatten(),
            nn.Linear(64 * 5 * 5, 64),
            nn.ReLU(),
            nn.Linear(64, 2),
        )


@torch.inference_mode()
def by_window(image: np.ndarray, rows: int) -> np.ndarray:
    """(rows, X) probability of an atom at each pixel of the first rows."""
    torch.manual_seed(0)
    network = WindowClassifier().eval()
    half = WINDOW_PX // 2
    padded = np.pad(image, half, mode="reflect")
    windows = np.lib.stride_tricks.sliding_window_view(padded, (WINDOW_PX, WINDOW_PX))[:rows]
    flat = windows.reshape(-1, 1, WINDOW_PX, WINDOW_PX)
    parts = []
    for first in range(0, len(flat), BATCH):
        batch = flat[first : first + BATCH].astype(np.float32)
        batch = (batch - batch.mean((2, 3), keepdims=True)) / batch.std((2, 3), keepdims=True)
        parts.append(torch.softmax(network(torch.from_numpy(batch)), 1)[:, 1])
    return torch.cat(parts).reshape(rows, image.shape[1]).numpy()


def best_of(function: Callable[[], object], repeats: int) -> float:
    """The fastest of several runs in seconds, after one that is not counted."""
    function()
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        function()
        times.append(time.perf_counter() - start)
    return min(times)


def main() -> None:
    """Print the times and the ratio as a table and as JSON."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--size", type=int, default=512)
    parser.add_argument("--threads", type=int, default=min(2, os.cpu_count() or 1))
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--rows", type=int, default=32)
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    pixels, marked = simulated_field(given.size, np.random.default_rng(7))
    micrograph = Micrograph(pixels, SAMPLING_NM, name="benchmark")
    model = load_atom_model(device="cpu")
    rows = min(given.rows, given.size)
    points, _ = model.candidates(micrograph.data, SAMPLING_NM)

    times = {
        "whole of find_atoms": best_of(lambda: find_atoms(micrograph, model), given.repeats),
        "its networks": best_of(
            lambda: model.candidates(micrograph.data, SAMPLING_NM), given.repeats
        ),
        f"its fits of {len(points)} positions": best_of(
            lambda: fit_spots(micrograph.data, points, SAMPLING_NM), given.repeats
        ),
        "scale space alone": best_of(
            lambda: find_candidates(micrograph.data, SAMPLING_NM), given.repeats
        ),
        "sliding window": best_of(lambda: by_window(micrograph.data, rows), 1) * given.size / rows,
    }
    ratio = times["sliding window"] / times["whole of find_atoms"]
    for name, seconds in times.items():
        print(f"{name:<36} {seconds:8.2f} s")
    print(f"{'ratio':<36} {ratio:8.0f}")
    print(
        json.dumps(
            {
                "size": given.size,
                "threads": given.threads,
                "marked_atoms": len(marked),
                "members": model.card.members,
                "views": model.card.views,
                "seconds": {k: round(v, 3) for k, v in times.items()},
                "ratio": round(ratio, 1),
                "processor": platform.processor() or platform.machine(),
                "torch": torch.__version__,
            }
        )
    )


if __name__ == "__main__":
    main()
