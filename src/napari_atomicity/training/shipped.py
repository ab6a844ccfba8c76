"""Make the models that come with the package: ``python -m napari_atomicity.training.shipped``.

Everything is simulated here, from isomers to detector counts, and seeded. Isomers are split
before anything else: no isomer of the held-out or the test fields occurs in a training field.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

from ..model.card import ModelCard, PatchSettings
from ..model.classifier import Classifier
from ..model.files import save_model, shipped_folder
from ..progress import Progress
from ..simulation.structures import KINDS, Isomer, isomer_library, load_library, save_library
from .calibrate import scores
from .data import PatchSet, from_simulation
from .fit import TrainingSettings, scaled, train_classifier

CLASSES = ("Pt19", "Pt30", "Pt41", "Pt55", "Pt70")
SEED = 20260143
ISOMERS_PER_CLASS = 400
FIELDS = {"train": 2000, "held_out": 240, "test": 240}
SHARES = {"train": 0.8, "held_out": 0.1, "test": 0.1}

LIMITS = (
    "Trained on simulation only. Sizes between the classes get the nearest one or 'unknown'; "
    "two clusters on top of each other, other metals, supports much heavier than carbon and fields "
    "of single atoms are outside of what it knows. The intensity of one atom is found from each "
    "image's own clusters: with fewer than about ten of them, or all of one unexpected shape, it "
    "can be wrong, and all labels of the image with it. Compare the ratios with an image of known "
    "composition before you publish them."
)


def split_library(library: Sequence[Isomer], seed: int) -> dict[str, list[Isomer]]:
    """Isomers for training, held-out and test fields; every class in the same shares."""
    rng = np.random.default_rng(seed)
    parts: dict[str, list[Isomer]] = {name: [] for name in SHARES}
    for n in sorted({i.n for i in library}):
        own = [i for i in library if i.n == n]
        order = rng.permutation(len(own))
        edges = np.cumsum([round(s * len(own)) for s in SHARES.values()])[:-1]
        for name, index in zip(parts, np.split(order, edges), strict=True):
            parts[name] += [own[k] for k in index]
    return parts


def terminal_progress() -> Progress:
    """Progress on standard error, a line every few seconds."""
    last = [0.0]

    def progress(done: int, total: int, message: str) -> None:
        if time.monotonic() - last[0] > 10 or done == total or message.startswith("Epoch"):
            last[0] = time.monotonic()
            print(f"{message}: {done}/{total}", file=sys.stderr, flush=True)

    return progress


def patch_sets(
    build: Path, isomers_per_class: int, fields: dict[str, int], workers: int
) -> dict[str, PatchSet]:
    """Isomers (kept in ``build``) and the patches of all three sets of fields."""
    progress = terminal_progress()
    stored = build / f"isomers_{isomers_per_class}_{SEED}.npz"
    if stored.exists():
        library = load_library(stored)
    else:
        sizes = [int(c[2:]) for c in CLASSES]
        library = isomer_library("Pt", sizes, isomers_per_class, SEED, workers, progress)
        save_library(stored, library)
    parts = split_library(library, SEED)
    return {
        name: from_simulation(
            parts[name], CLASSES, fields[name], SEED + i, PatchSettings(), workers, progress
        )
        for i, name in enumerate(fields)
    }


def main(arguments: Sequence[str] | None = None) -> None:
    """Train both shipped models and write them into the package."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=shipped_folder())
    parser.add_argument("--build", type=Path, default=Path("build"))
    parser.add_argument("--isomers", type=int, default=ISOMERS_PER_CLASS)
    parser.add_argument("--fields", type=float, default=1.0, help="share of the full number")
    parser.add_argument("--epochs", type=int, default=TrainingSettings.epochs)
    parser.add_argument("--workers", type=int, default=2)
    options = parser.parse_args(arguments)

    fields = {k: max(6, round(n * options.fields)) for k, n in FIELDS.items()}
    # a library per process must not fight over the same cores
    torch.set_num_threads(1)
    sets = patch_sets(options.build, options.isomers, fields, options.workers)
    torch.set_num_threads(options.workers)
    for name, channels in (("pt-dual", ("raw", "LCN")), ("pt-raw", ("raw",))):
        started = time.monotonic()
        card = ModelCard(
            name=name,
            classes=CLASSES,
            patches=PatchSettings(channels=channels),
            description=f"Pt clusters of 19 to 70 atoms on carbon; {' + '.join(channels)}.",
            intended_use=(
                "Size-selected Pt clusters of these sizes on thin amorphous carbon, "
                "aberration-corrected HAADF-STEM, 0.024 to 0.06 nm per pixel."
            ),
            limits=LIMITS,
            data={
                "source": "napari_atomicity.simulation",
                "seed": SEED,
                "isomers_per_class": options.isomers,
                "kinds": dict(KINDS),
                "fields": fields,
                "split": "by isomer, and so by image",
            },
        )
        settings = TrainingSettings(epochs=options.epochs, seed=SEED)
        card, tensors = train_classifier(
            sets["train"], sets["held_out"], card, settings, "cpu", terminal_progress()
        )
        if card.scale is None:
            raise RuntimeError("a trained model has a scale")
        test, _ = scaled(sets["test"], card.scale)
        known = test.table["truth"].isin(CLASSES) & ~test.table["touches_border"]
        test_scores = scores(
            Classifier(card, tensors, torch.device("cpu")), test.take(known.to_numpy())
        )
        card = replace(
            card,
            scores={**card.scores, "test": test_scores},
            training={**card.training, "seconds": round(time.monotonic() - started)},
        )
        card = save_model(options.out / f"{name}.safetensors", card, tensors)
        print(f"{card.model_id}: {test_scores}")


if __name__ == "__main__":
    main()
