"""Model cards of trained models: texts, data, and scores on test fields."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict, replace
from typing import Any

import numpy as np

from ..core.devices import choose_device
from ..core.model_card import ModelCard
from ..core.patches import PatchSettings
from ..models.intensity_scale import intensity_per_atom
from .data import PatchSet
from .evaluation import scores
from .request import FolderSource, SimulationSource, TrainRequest


def new_card(request: TrainRequest, sets: dict[str, PatchSet], classes: list[str]) -> ModelCard:
    """Return the card of a model before it is trained.

    Parameters
    ----------
    request : TrainRequest
        The request.
    sets : dict of str to PatchSet
        Sets of labelled patches.
    classes : list of str
        Classes by size.

    Returns
    -------
    ModelCard
        With name, classes, geometry and texts.
    """
    source, names = request.source, ", ".join(classes)
    images = sorted({str(i) for part in sets.values() for i in part.table["image"].unique()})
    match source:
        case SimulationSource():
            made_of = f"simulated images of {names}"
            data: dict[str, Any] = {
                "source": "napari_atomicity.simulation",
                **asdict(source),
                "split": "by isomer, and so by image",
            }
        case FolderSource():
            made_of = f"size-selected images of {names}"
            data = {"source": "folder", "folder": source.folder.name, "images": images}
        case _:
            made_of = f"corrected labels of {names}"
            data = {"source": "corrected labels", "images": images}
    limits = "Sizes between the classes and aggregates are given the nearest class or 'unknown'."
    if isinstance(source, SimulationSource):
        limits += " It was trained on simulation only."
    return ModelCard(
        name=request.out.stem,
        classes=tuple(classes),
        patches=PatchSettings(channels=request.channels),
        description=f"Trained on {made_of}.",
        intended_use="Images of the same metal under conditions like those of the training images.",
        limits=limits,
        data=data,
    )


def check_scales(parts: Iterable[PatchSet], card: ModelCard) -> tuple[int, int]:
    """Count the images in which the mixture misjudges a known scale, and all images of known scale.

    A scale is misjudged if it is off by more than half the smallest distance of two classes, so
    that the network takes clusters for another class. This is more frequent in fields of one size
    than in mixtures.
    """
    if card.scale is None:
        raise ValueError("a trained model has a scale")
    limit = float(np.diff(np.sort(card.scale.log_intensity)).min()) / 2
    off = images = 0
    for part in parts:
        if "known_intensity_per_atom" in part.table:
            for _, image in part.table.groupby("image"):
                known_scale = float(image["known_intensity_per_atom"].iloc[0])
                found = intensity_per_atom(image, card.scale)
                off += abs(np.log(found / known_scale)) > limit
                images += 1
    return int(off), images


def score_test_fields(
    card: ModelCard, tensors: dict[str, np.ndarray], test: PatchSet, device: str
) -> ModelCard:
    """Add scores on test fields, with the scale as the mixture finds it.

    Parameters
    ----------
    card : ModelCard
        Card of a calibrated model.
    tensors : dict of str to ndarray
        Its tensors.
    test : PatchSet
        Clusters of fields that had no part in training and calibration.
    device : str
        Device of the network.

    Returns
    -------
    ModelCard
        With the scores ``test``.
    """
    if card.scale is None:
        raise ValueError("a trained model has a scale")
    found = scores(card, tensors, test, choose_device(device))
    return replace(card, scores={**card.scores, "test": found})
