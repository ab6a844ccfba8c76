"""Make the models that come with the package: ``python tools/make_model.py``.

Everything is simulated here, from isomers to detector counts, and seeded. Isomers are split
before anything else: no isomer of the held-out or the test fields occurs in a training field.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from sklearn.metrics import roc_auc_score

from napari_atomicity.core.model_card import ModelCard
from napari_atomicity.core.patches import PatchSettings
from napari_atomicity.core.progress import Progress
from napari_atomicity.models.estimators import count_atoms
from napari_atomicity.models.files import read_model, save_model, shipped_folder
from napari_atomicity.models.out_of_distribution import OUTCOMES, out_of_distribution
from napari_atomicity.models.scale.intensity_scale import SURE
from napari_atomicity.simulation.field_settings import (
    FieldSettings,
    random_atom_settings,
    random_outlier_settings,
    random_settings,
)
from napari_atomicity.simulation.starting_structures import KINDS
from napari_atomicity.simulation.structures import read_or_build_library
from napari_atomicity.training.calibration.calibrate import finalize_model
from napari_atomicity.training.calibration.evaluation import scores
from napari_atomicity.training.calibration.held_out import HeldOutPredictions, predict_images
from napari_atomicity.training.calibration.out_of_distribution import (
    fit_out_of_distribution,
    outcome,
)
from napari_atomicity.training.calibration.scaling import fit_class_diameters, scale_patches
from napari_atomicity.training.classifier import select_replay, train_classifier
from napari_atomicity.training.data import PatchSet
from napari_atomicity.training.prepared_sets import from_simulation, split_library
from napari_atomicity.training.request import TrainingSettings

CLASSES = ("Pt19", "Pt30", "Pt41", "Pt55", "Pt70")
SEED = 20260143
ISOMERS_PER_CLASS = 400
FIELDS = {"train": 2000, "held_out": 240, "test": 240, "replay": 60}
"""Fields of the classes; those to replay in an adaptation are of the isomers of the training."""
OUTSIDE_FIELDS = {
    "atoms": 200,
    "aggregates": 200,
    "other_sizes": 300,
    "atoms_test": 100,
    "aggregates_test": 100,
    "other_sizes_test": 150,
}
"""Fields of objects that belong to no class: single atoms and loose groups of them, aggregates,
clusters of other sizes among those of the classes."""
OTHER_SIZES = (8, 13, 25, 36, 48, 62, 85, 100, 130)
OTHER_ISOMERS = 40
OTHER_SHARE = (0.05, 0.3)
"""Of the clusters of a field, at least and at most."""
OTHER_SHARES = {"held_out": 0.6, "test": 0.4}

MAP_SETTINGS = TrainingSettings(epochs=5, learning_rate=2e-3, map_weight=1.5, seed=SEED)
"""Further epochs of a smaller network, in which it learns the class maps of a teacher."""

LIMITS = (
    "Trained on simulation only. Sizes between the classes get the nearest one or 'unknown', "
    "and a continuous count; clusters on top of each other are 'aggregate' in most cases, not "
    "in all; other metals and supports much heavier than carbon are outside of what it knows. The "
    "intensity of one atom is found from each image's own clusters: with fewer than about ten of "
    "them, or all of one size or one unexpected shape, it can be wrong, and all labels of the "
    "image with it. Compare the ratios with an image of known composition before you publish them."
)


def terminal_progress() -> Progress:
    """Return a progress function that writes a line to standard error every few seconds."""
    last = [0.0]

    def _print_line(done: int, total: int, message: str) -> None:
        if time.monotonic() - last[0] > 10 or done == total or message.startswith("Epoch"):
            last[0] = time.monotonic()
            print(f"{message}: {done}/{total}", file=sys.stderr, flush=True)

    return _print_line


def other_sizes_settings(classes: Sequence[str], rng: np.random.Generator) -> FieldSettings:
    """Draw settings as `random_settings`, with some clusters of sizes that are no class."""
    settings = random_settings(classes, rng)
    others = float(rng.uniform(*OTHER_SHARE))
    mixture = {c: share * (1 - others) for c, share in settings.mixture.items()}
    mixture.update({f"Pt{n}": others / len(OTHER_SIZES) for n in OTHER_SIZES})
    return replace(settings, mixture=mixture)


DRAWS = {
    "atoms": random_atom_settings,
    "aggregates": random_outlier_settings,
    "other_sizes": other_sizes_settings,
}


def patch_sets(
    build: Path, isomers_per_class: int, fields: dict[str, int], workers: int
) -> dict[str, PatchSet]:
    """Make the sets of labelled patches of the shipped models.

    Parameters
    ----------
    build : Path
        Folder that keeps the isomers.
    """
    isomers = partial(
        read_or_build_library, seed=SEED, workers=workers, progress=terminal_progress()
    )
    sizes = [int(c[2:]) for c in CLASSES]
    stored = build / f"isomers_{isomers_per_class}_{SEED}.npz"
    parts = split_library(isomers(stored, sizes, isomers_per_class), SEED)
    n_other = min(OTHER_ISOMERS, max(4, isomers_per_class))
    stored = build / f"isomers_other_{n_other}_{SEED}.npz"
    others = split_library(isomers(stored, OTHER_SIZES, n_other), SEED, OTHER_SHARES)
    seeds = {name: SEED + i for i, name in enumerate([*FIELDS, *OUTSIDE_FIELDS])}
    sets = {}
    for name, n in fields.items():
        kind = name.removesuffix("_test")
        # what the held-out fields teach is judged on isomers of the test fields
        of = name if name in FIELDS else "test" if name != kind else "held_out"
        library = parts["train"] if name == "replay" else parts[of]
        if kind == "other_sizes":
            library = library + others[of]
        sets[name] = from_simulation(
            library,
            CLASSES,
            n,
            seeds[name],
            workers=workers,
            progress=terminal_progress(),
            draw=DRAWS.get(kind, random_settings),
        )
    return sets


def new_card(
    name: str, channels: tuple[str, ...], isomers: int, fields: dict[str, int]
) -> ModelCard:
    """Return the card of a shipped model before it is trained."""
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


def with_out_of_distribution(
    card: ModelCard, tensors: dict[str, np.ndarray], sets: dict[str, PatchSet]
) -> tuple[ModelCard, dict[str, np.ndarray]]:
    """Fit the detection of objects of no class to a calibrated model, and score it on test fields.

    Returns
    -------
    tensors : dict of str to ndarray
        With the second network.
    """
    device = torch.device("cpu")
    others = [sets[name] for name in DRAWS]
    tensors = fit_out_of_distribution(card, tensors, sets["held_out"], others, device, SEED)
    of_classes = predict_images(card, tensors, sets["test"], device)
    inside = np.concatenate([_ood(s, tensors)[s.label >= 0] for s in of_classes])
    found = {}
    for name in DRAWS:
        images = predict_images(card, tensors, sets[f"{name}_test"], device)
        rows = [outcome(s) > 0 for s in images]
        truth = np.concatenate(
            [s.known.table["truth"][r] for s, r in zip(images, rows, strict=True)]
        )
        score = np.concatenate([_ood(s, tensors)[r] for s, r in zip(images, rows, strict=True)])
        found[name] = _separable(inside, score)
        if name == "other_sizes":
            for size in sorted(set(truth) - {""}, key=lambda label: int(label[2:])):
                found[size] = _separable(inside, score[truth == size])
    test = scores(card, tensors, sets["test"], device)
    counts = count_of_other_sizes(card, tensors, sets["other_sizes_test"], device)
    scores_of_card = {**card.scores, "test": test, "outside": found, "count": counts}
    return replace(card, scores=scores_of_card), tensors


def _ood(image: HeldOutPredictions, tensors: dict[str, np.ndarray]) -> np.ndarray:
    return out_of_distribution(image.known, image.embedding, tensors)[0]


def _separable(inside: np.ndarray, outside: np.ndarray) -> dict[str, float]:
    truth = np.repeat([0, 1], [len(inside), len(outside)])
    return {
        "detections": len(outside),
        "flagged": round(float((outside > 1).mean()), 4),
        "auroc": round(float(roc_auc_score(truth, [*inside, *outside])), 4),
    }


def count_of_other_sizes(
    card: ModelCard, tensors: dict[str, np.ndarray], part: PatchSet, device: torch.device
) -> dict[str, dict[str, float]]:
    """Evaluate the continuous count of clusters between and beyond the classes.

    ``sure`` is of the clusters in images of certain scale (`SURE`).
    """
    counted = []
    for image in predict_images(card, tensors, part, device):
        rows = outcome(image) == OUTCOMES.index("unknown")
        table = pd.DataFrame(count_atoms(image.known)[rows], columns=["count", "low", "high"])
        scale = image.known.scale
        counted.append(
            table.assign(
                truth=image.known.table["truth"].to_numpy(object)[rows],
                sure=scale is not None and scale.certainty >= SURE,
            )
        )
    everything = pd.concat(counted)
    out = {}
    for label, own in everything[everything["truth"] != ""].groupby("truth"):
        n, sure = int(str(label)[2:]), own[own["sure"]]
        held = (own["low"] <= n) & (n <= own["high"])
        out[str(label)] = {
            "clusters": len(own),
            "mean": round(float(own["count"].mean()), 2),
            "median": round(float(own["count"].median()), 2),
            "sure": len(sure),
            "mean_of_sure": round(float(sure["count"].mean()), 2),
            "interval_coverage": round(float(held.mean()), 3),
        }
    return dict(sorted(out.items(), key=lambda item: int(item[0][2:])))


def _recalibrated(
    path: Path, described: ModelCard, sets: dict[str, PatchSet], options: argparse.Namespace
) -> tuple[ModelCard, dict[str, np.ndarray]]:
    """Return the model of a file, calibrated again."""
    card, tensors = read_model(path)
    data = {**card.data, "fields": described.data["fields"]}
    card = replace(card, limits=described.limits, data=data)
    if card.scale is not None and not card.diameter_density:
        densities = fit_class_diameters(sets["replay"], card.classes, card.scale)
        card = replace(card, diameter_density=densities)
    return finalize_model(card, tensors, None, sets["held_out"], torch.device("cpu"))


def _trained(
    path: Path, described: ModelCard, sets: dict[str, PatchSet], options: argparse.Namespace
) -> tuple[ModelCard, dict[str, np.ndarray]]:
    """Return a new model."""
    started = time.monotonic()
    fit = partial(
        train_classifier,
        sets["train"],
        sets["held_out"],
        described,
        device="cpu",
        progress=terminal_progress(),
    )
    card, tensors = fit(TrainingSettings(epochs=options.epochs, width=options.width, seed=SEED))
    if options.teacher:
        teacher = read_model(options.teacher / path.name)
        card, tensors = fit(MAP_SETTINGS, start=(card, tensors), teacher=teacher)
    seconds = round(time.monotonic() - started)
    return replace(card, training={**card.training, "seconds": seconds}), tensors


def main(arguments: Sequence[str] | None = None) -> None:
    """Train both shipped models and write them into the package."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=shipped_folder())
    parser.add_argument("--build", type=Path, default=Path("build"))
    parser.add_argument("--isomers", type=int, default=ISOMERS_PER_CLASS)
    parser.add_argument("--fields", type=float, default=1.0, help="share of the full number")
    parser.add_argument("--epochs", type=int, default=TrainingSettings.epochs)
    parser.add_argument(
        "--width", type=int, default=TrainingSettings.width, help="features of the first layer"
    )
    parser.add_argument(
        "--teacher", type=Path, help="folder of models whose class maps the new ones learn at last"
    )
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument(
        "--keep-networks",
        action="store_true",
        help="take the networks that are in --out and redo only what follows their training",
    )
    options = parser.parse_args(arguments)

    everything = {**FIELDS, **OUTSIDE_FIELDS}
    fields = {k: max(6, round(n * options.fields)) for k, n in everything.items()}
    needed = {k: n for k, n in fields.items() if k != "train" or not options.keep_networks}
    torch.set_num_threads(1)  # the processes that simulate share the cores
    sets = patch_sets(options.build, options.isomers, needed, options.workers)
    torch.set_num_threads(options.workers)
    for name, channels in (("pt-dual", ("raw", "LCN")), ("pt-raw", ("raw",))):
        path = options.out / f"{name}.safetensors"
        described = new_card(name, channels, options.isomers, fields)
        make = _recalibrated if options.keep_networks else _trained
        card, tensors = make(path, described, sets, options)
        if card.scale is None:
            raise ValueError("a trained model has a scale")
        replayed, _ = scale_patches(sets["replay"], card.scale)
        tensors = {**tensors, **select_replay(replayed, card.classes, card.patches.channels, SEED)}
        card = save_model(path, *with_out_of_distribution(card, tensors, sets))
        print(f"{card.model_id}: {card.scores['test']} {card.scores['outside']}")


if __name__ == "__main__":
    main()
