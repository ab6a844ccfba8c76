"""Calibrate the apparent size of the classes of the shipped models.

``python tools/calibrate_apparent_size.py`` simulates sessions, and writes the calibration to the
cards of the shipped models.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

from napari_atomicity.core.errors import ModelError
from napari_atomicity.core.model_card import ModelCard
from napari_atomicity.models.estimators import class_sizes
from napari_atomicity.models.files import read_model, save_model, shipped_folder
from napari_atomicity.simulation.sessions import draw_session, simulate_session
from napari_atomicity.simulation.structures import Isomer, read_or_build_library
from napari_atomicity.training.calibration.apparent_size import add_apparent_size
from napari_atomicity.training.data import PatchSet
from napari_atomicity.training.prepared_sets import label_field

MODELS = ("pt-dual",)
KINDS = ("mixture", "one size per image", "one size", "two sizes", "few clusters")
SEED = 7100
ROUNDS = 40
ISOMERS = 60


def simulated_sessions(
    library: Sequence[Isomer], card: ModelCard, rounds: int = ROUNDS, seed: int = SEED
) -> Iterator[PatchSet]:
    """Simulate sessions of all kinds and yield the labelled clusters of each."""
    for number in range(rounds):
        for kind in KINDS:
            plan = draw_session(kind, card.classes, 8 + number % 3, seed + number)
            fields = simulate_session(library, plan)
            part = PatchSet.join([label_field(f, card.classes, card.patches) for f in fields])
            yield replace(part, table=part.table.assign(session=f"{number} {kind}"))


def session_library(card: ModelCard, build: Path) -> list[Isomer]:
    """Read the isomers of simulated sessions, or build and store them.

    Parameters
    ----------
    build : Path
        Folder of the file; made if it does not exist.

    Raises
    ------
    ModelError
        If the classes of the model name no sizes.
    """
    sizes = class_sizes(card.classes)
    if sizes is None:
        raise ModelError(f"the classes of {card.name} name no sizes")
    build.mkdir(parents=True, exist_ok=True)
    path = build / f"isomers_sessions_{ISOMERS}_{SEED}.npz"
    return read_or_build_library(path, sizes.astype(int).tolist(), ISOMERS, SEED)


def calibrate_shipped_models(
    calibrate: Callable[[ModelCard, dict[str, np.ndarray], list[Isomer]], ModelCard],
    description: str | None,
) -> None:
    """Change the cards of the shipped models, as a command.

    Parameters
    ----------
    calibrate : callable
        ``calibrate(card, tensors, library)`` returns the new card.
    """
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--build", type=Path, default=Path("build"), help="folder of the isomers")
    build = parser.parse_args().build
    for name in MODELS:
        path = shipped_folder() / f"{name}.safetensors"
        card, tensors = read_model(path)
        save_model(path, calibrate(card, tensors, session_library(card, build)), tensors)


def calibrate_sizes(
    card: ModelCard, tensors: dict[str, np.ndarray], library: list[Isomer]
) -> ModelCard:
    """Fit the apparent size to simulated sessions."""
    part = PatchSet.join(list(simulated_sessions(library, card)))
    per_atom = part.table["true_intensity_per_atom"].to_numpy(np.float32)[:, None, None]
    patches = {c: p / per_atom if c == "raw" else p for c, p in part.patches.items()}
    part = replace(part, patches=patches)
    return add_apparent_size(card, tensors, part, torch.device("cpu"), "session")


if __name__ == "__main__":
    calibrate_shipped_models(calibrate_sizes, __doc__)
