"""Time to find the atoms of an image, beside the sliding-window way of doing the same.

    python benchmarks/atoms.py [--size 512] [--threads 2] [--repeats 3] [--rows 32]

One simulated image, everything in one process and one run: ``atomicity atoms`` shares the images of
a folder among processes, which changes nothing for a single one. The ratio is the sliding window's
time over ours. The sliding window is written in its plainest form: a small classifier (three
convolutions, two dense layers) sees the 21 × 21 pixels around every pixel, in batches. Its time is
that of ``--rows`` rows, times the rows of the image: every pixel costs the same.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from torch import nn

from aims import ALL_STEPS
from measuring import best_of, machine, options, write
from napari_atomicity.atoms.analysis import find_atoms
from napari_atomicity.atoms.completeness import estimate_completeness
from napari_atomicity.atoms.dispersion import compute_image_dispersion
from napari_atomicity.atoms.finding.card import SAMPLING_NM
from napari_atomicity.atoms.finding.finder import AtomModel, load_atom_model
from napari_atomicity.atoms.finding.localisation import fit_spots
from napari_atomicity.atoms.injection import inject_atoms
from napari_atomicity.atoms.marks import ImageAtoms
from napari_atomicity.core.micrograph import Micrograph
from napari_atomicity.io.inputs import Input
from napari_atomicity.pipeline.atom_runs import AtomStep
from napari_atomicity.pipeline.run_request import AtomRequest
from napari_atomicity.reporting.atom_figures import image_figures
from napari_atomicity.reporting.atom_files import FigureFolders
from napari_atomicity.reporting.charts import as_image, write_figure
from napari_atomicity.training.atoms import simulate_field_of_atoms

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


def steps_of_the_command(model: AtomModel, micrograph: Micrograph) -> dict[str, Callable]:
    """What ``atomicity atoms`` does with an image after finding its atoms, and all it does.

    It draws while atoms are injected, so all steps take less than their sum.
    """
    analysis = find_atoms(micrograph, model)
    atoms = ImageAtoms(micrograph.name, SAMPLING_NM, analysis)
    found = compute_image_dispersion(atoms)
    folder = Path(tempfile.mkdtemp())

    def missed() -> None:
        injected = inject_atoms(analysis, model)
        if injected is not None:
            estimate_completeness(injected, analysis.threshold)

    def figures() -> None:
        drawn = image_figures(
            micrograph, atoms.support, analysis.table, found.table, found.dispersion
        )
        for name, figure in drawn.items():
            as_image(write_figure(figure, folder / name)[-1], "chart", "")

    command = AtomStep(model, AtomRequest(), folders=FigureFolders(images=folder))
    item = Input(micrograph.name, Path(), micrograph=micrograph)
    return {
        "injection-recovery test": missed,
        "dispersion": lambda: compute_image_dispersion(atoms),
        "figures": figures,
        ALL_STEPS: lambda: command(item, None),
    }


def main() -> None:
    given = options(__doc__, size=512, threads=min(2, os.cpu_count() or 1), repeats=3, rows=32)
    torch.set_num_threads(given.threads)
    about = machine()
    pixels, marked = simulate_field_of_atoms(given.size, np.random.default_rng(7))
    micrograph = Micrograph(pixels, SAMPLING_NM, name="benchmark")
    model = load_atom_model(device="cpu")
    rows = min(given.rows, given.size)
    points, _ = model.candidates(micrograph.data, SAMPLING_NM)
    steps = {
        "whole of `find_atoms`": lambda: find_atoms(micrograph, model),
        "its networks": lambda: model.candidates(micrograph.data, SAMPLING_NM),
        f"its fits of {len(points)} positions": lambda: fit_spots(
            micrograph.data, points, SAMPLING_NM
        ),
        **steps_of_the_command(model, micrograph),
    }
    seconds = {}
    for name, step in steps.items():
        step()  # warm
        seconds[name] = best_of(step, given.repeats)
    by_window(micrograph.data, rows)
    seconds["sliding window"] = best_of(lambda: by_window(micrograph.data, rows), 1)
    seconds["sliding window"] *= given.size / rows
    figures = {
        "size": given.size,
        "marked_atoms": len(marked),
        "members": model.card.members,
        "views": model.card.views,
        "window_px": WINDOW_PX,
        "seconds": seconds,
        "ratio": seconds["sliding window"] / seconds["whole of `find_atoms`"],
    }
    write("atoms", figures, about)


if __name__ == "__main__":
    main()
