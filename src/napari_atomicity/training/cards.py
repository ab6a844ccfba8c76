"""Model cards of trained models: texts, data, and scores on test fields."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, replace
from functools import partial
from typing import Any

import numpy as np

from ..core.devices import choose_device
from ..core.model_card import ModelCard
from ..models.scale.intensity_scale import SURE, usable
from .calibration.evaluation import scores
from .calibration.held_out import predict_as_used, predict_images
from .calibration.scaling import known_scales, scale_is_off
from .data import KNOWN_SCALE, PatchSet
from .request import FolderSource, SimulationSource, TrainRequest
from .score_text import SCALE_NOT_FOUND, scale_is_found


def new_card(request: TrainRequest, sets: dict[str, PatchSet], classes: list[str]) -> ModelCard:
    """Return the card of a model before it is trained, with name, classes, geometry and texts."""
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
    limits = (
        "Sizes between the classes are given the nearest class, hardly ever 'unknown'; aggregates "
        "are given the nearest class or 'unknown'."
    )
    if isinstance(source, SimulationSource):
        limits += " It was trained on simulation only."
    return ModelCard(
        name=request.out.stem,
        classes=tuple(classes),
        patches=request.patches,
        description=f"Trained on {made_of}.",
        intended_use="Images of the same metal under conditions like those of the training images.",
        limits=limits,
        data=data,
    )


def recorded_session(part: PatchSet, name: str) -> dict[str, Any]:
    """Describe the intensity of one atom in images of known samples, as the record of a run does.

    With it a later session of the same instrument has a prior of its scale.

    The result has the intensity of one atom in counts nm² with its 95 % interval, and the standard
    deviation of its logarithm between the images.
    """
    log_scale = np.log(part.table.groupby("image")[KNOWN_SCALE].first().to_numpy(float))
    spread = float(log_scale.std(ddof=1)) if len(log_scale) > 1 else 0.0
    middle, half = log_scale.mean(), 1.96 * spread / np.sqrt(len(log_scale))
    low, value, high = np.exp([middle - half, middle, middle + half])
    return {
        "session": name,
        "images": len(log_scale),
        "intensity_per_atom": float(value),
        "intensity_per_atom_low": float(low),
        "intensity_per_atom_high": float(high),
        "spread_of_scales": spread,
    }


def score_held_out_images(
    card: ModelCard,
    tensors: dict[str, np.ndarray],
    # Clusters of size-selected images with `KNOWN_SCALE`; the last set is held out
    sets: Sequence[PatchSet],
    device: str,
) -> ModelCard:  # with the scores, and a sentence on its limits if the scale is often not found
    """Add scores on held-out images as they were recorded, in place of those of their mixtures.

    The scale is that of an analysis of all images (``held_out``), or the known one
    (``held_out_known_scale``), which an analysis does not know. ``held_out_mixtures`` are the
    scores of the mixtures that calibrated the model.
    """
    scores_of = card.scores
    of_session = partial(predict_as_used, one_session=True)
    at_known_scale = partial(predict_images, find_scales=known_scales)
    for name, predict in (("", of_session), ("_known_scale", at_known_scale)):
        found = scores(card, tensors, sets[-1], choose_device(device), predict)
        scores_of = {**scores_of, f"held_out{name}": found}
    scores_of = {
        **scores_of,
        "held_out_mixtures": card.scores["held_out"],
        "scale": check_scales(card, tensors, sets, device),
    }
    limits = card.limits
    if not scale_is_found(scores_of["scale"]):
        limits = f"{limits} {SCALE_NOT_FOUND}"
    return replace(card, scores=scores_of, limits=limits)


def check_scales(
    card: ModelCard, tensors: dict[str, np.ndarray], sets: Sequence[PatchSet], device: str
) -> dict[str, float]:
    """Compare the scales that an analysis of all images finds with the known ones.

    The result has the numbers of ``images``, of those whose scale is ``off`` (see `scale_is_off`)
    and of those whose scale is ``certain``, and the median ``clusters_per_image`` that tell the
    scale.
    """
    whole = PatchSet.join(sets)
    images = predict_as_used(card, tensors, whole, choose_device(device), one_session=True)
    pairs = [(image.known.scale, image.known.table) for image in images]
    found = [(scale, table) for scale, table in pairs if scale is not None]
    return {
        "images": len(images),
        "off": sum(scale_is_off(scale, table) for scale, table in found),
        "certain": sum(scale.certainty >= SURE for scale, _ in found),
        "clusters_per_image": float(np.median([usable(table).sum() for _, table in pairs])),
    }


def score_test_fields(
    card: ModelCard,
    tensors: dict[str, np.ndarray],
    test: PatchSet,  # clusters of fields that had no part in training and calibration
    device: str,
) -> ModelCard:
    """Add scores on test fields, each with the scale that it tells by itself."""
    found = scores(card, tensors, test, choose_device(device))
    return replace(card, scores={**card.scores, "test": found})
