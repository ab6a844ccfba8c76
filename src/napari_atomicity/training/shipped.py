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
from sklearn.metrics import roc_auc_score

from ..model.card import ModelCard, PatchSettings
from ..model.classifier import Classifier
from ..model.files import read_model, save_model, shipped_folder
from ..progress import Progress
from ..simulation.fields import random_atom_settings, random_settings
from ..simulation.structures import KINDS, Isomer, isomer_library, load_library, save_library
from .calibrate import learn_negatives, scores
from .data import PatchSet, from_simulation
from .fit import TrainingSettings, scaled, train_classifier

CLASSES = ("Pt19", "Pt30", "Pt41", "Pt55", "Pt70")
SEED = 20260143
ISOMERS_PER_CLASS = 400
FIELDS = {"train": 2000, "held_out": 240, "test": 240}
ATOM_FIELDS = {"negatives": 240, "negatives_test": 120}
"""Fields of single atoms and loose groups: what is detected there is no cluster."""
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
    """Isomers (kept in ``build``) and the patches of the fields that are asked for."""
    progress = terminal_progress()
    stored = build / f"isomers_{isomers_per_class}_{SEED}.npz"
    if stored.exists():
        library = load_library(stored)
    else:
        sizes = [int(c[2:]) for c in CLASSES]
        library = isomer_library("Pt", sizes, isomers_per_class, SEED, workers, progress)
        save_library(stored, library)
    parts = split_library(library, SEED)
    seeds = {name: SEED + i for i, name in enumerate([*FIELDS, *ATOM_FIELDS])}
    return {
        name: from_simulation(
            parts.get(name, []),
            CLASSES,
            n,
            seeds[name],
            workers=workers,
            progress=progress,
            draw=random_settings if name in FIELDS else random_atom_settings,
        )
        for name, n in fields.items()
    }


def new_card(
    name: str, channels: tuple[str, ...], isomers: int, fields: dict[str, int]
) -> ModelCard:
    """What is known of a shipped model before it is trained."""
    return ModelCard(
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
            "isomers_per_class": isomers,
            "kinds": dict(KINDS),
            "fields": fields,
            "split": "by isomer, and so by image",
        },
    )


def finished(
    card: ModelCard, tensors: dict[str, np.ndarray], sets: dict[str, PatchSet]
) -> tuple[ModelCard, dict[str, np.ndarray]]:
    """Teach a trained model what no cluster looks like, and score it on the test fields."""
    if card.scale is None:
        raise ValueError("a trained model has a scale")
    reference, device = card.scale, torch.device("cpu")

    def ready(name: str) -> PatchSet:
        part, _ = scaled(sets[name], reference)
        keep = ~part.table["touches_border"]
        if name in FIELDS:
            keep &= part.table["truth"].isin(CLASSES)
        return part.take(keep.to_numpy())

    tensors = learn_negatives(card, tensors, ready("held_out"), ready("negatives"), device)
    classifier = Classifier(card, tensors, device)
    test, negatives = ready("test"), ready("negatives_test")
    known = classifier.predict(test.patches).ood_score
    none = classifier.predict(negatives.patches).ood_score
    all_scores = {
        **card.scores,
        "test": scores(classifier, test),
        "negatives": {
            "detections": len(none),
            "fields": ATOM_FIELDS["negatives_test"],
            "unknown": round(float((none > 1).mean()), 4),
            "auroc": round(
                float(roc_auc_score(np.repeat([0, 1], [len(known), len(none)]), [*known, *none])), 4
            ),
        },
    }
    return replace(card, scores=all_scores), tensors


def main(arguments: Sequence[str] | None = None) -> None:
    """Train both shipped models and write them into the package."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=shipped_folder())
    parser.add_argument("--build", type=Path, default=Path("build"))
    parser.add_argument("--isomers", type=int, default=ISOMERS_PER_CLASS)
    parser.add_argument("--fields", type=float, default=1.0, help="share of the full number")
    parser.add_argument("--epochs", type=int, default=TrainingSettings.epochs)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument(
        "--keep-networks",
        action="store_true",
        help="take the networks that are in --out and redo only what follows their training",
    )
    options = parser.parse_args(arguments)

    everything = {**FIELDS, **ATOM_FIELDS}
    fields = {k: max(6, round(n * options.fields)) for k, n in everything.items()}
    needed = {k: n for k, n in fields.items() if k != "train" or not options.keep_networks}
    torch.set_num_threads(1)  # the processes that simulate share the cores
    sets = patch_sets(options.build, options.isomers, needed, options.workers)
    torch.set_num_threads(options.workers)
    for name, channels in (("pt-dual", ("raw", "LCN")), ("pt-raw", ("raw",))):
        path = options.out / f"{name}.safetensors"
        if options.keep_networks:
            card, tensors = read_model(path)
            described = new_card(name, channels, options.isomers, fields)
            card = replace(card, data={**card.data, "fields": described.data["fields"]})
        else:
            started = time.monotonic()
            card, tensors = train_classifier(
                sets["train"],
                sets["held_out"],
                new_card(name, channels, options.isomers, fields),
                TrainingSettings(epochs=options.epochs, seed=SEED),
                "cpu",
                terminal_progress(),
            )
            seconds = round(time.monotonic() - started)
            card = replace(card, training={**card.training, "seconds": seconds})
        card = save_model(path, *finished(card, tensors, sets))
        print(f"{card.model_id}: {card.scores['test']} {card.scores['negatives']}")


if __name__ == "__main__":
    main()
