"""Texts on the accuracy of a new model: what was measured, and with which intensity scale."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from ..core.model_card import ModelCard
from ..core.text import pluralise

MAX_OFF = 0.05
"""Fraction of images with a wrong scale above which the limits of the model name it."""
MIN_CLUSTERS = 3
"""Median number of clusters per image below which too few clusters are named as the reason."""
SINGLE_CLUSTERS = (
    "The images show one cluster each, and such an image does not tell the intensity of one atom: "
    "analyse these clusters as a session, or train without scale, by which brightness is lost."
)
"""Sentence on the training on single clusters with the scale of a session."""
SCALE_NOT_FOUND = (
    "In images like those of the training, the intensity of one atom is often not found, and all "
    "labels of the image are then wrong together: analyse images with several sizes, or rely on "
    "the diameter."
)
"""Sentence on the limits of a model whose training images do not determine their scale."""


WEAK_NETWORK = (
    "labels rest on diameters and, with a scale, on intensities; class maps and the map of "
    "clusters show little. Train for more epochs, or on more images."
)
"""Sentence on a network that has learnt less than the diameter tells."""


SPLIT_IMAGES = "classes_of_split_images"
"""Key of the data of a card: classes whose held-out clusters are of their training images."""


def describe_split_images(data: Mapping[str, Any]) -> str:
    """Say that held-out clusters are of the training images, by the data of a card; "" if not."""
    classes = data.get(SPLIT_IMAGES) or []
    if not classes:
        return ""
    return (
        f"Held-out clusters of {', '.join(classes)} are of the training images themselves, since "
        "no other image of theirs could be held out: the accuracy is too high."
    )


KNOWN_TO_START = "images_of_start"
"""Key of the data of a card: images that the model to start from had been trained on."""


def images_known_to_start(start: ModelCard | None, images: Iterable[str]) -> list[str]:
    """Return which images a model has been trained on or adapted to, by their names."""
    data = {} if start is None else start.data
    known = [*(data.get("images") or []), *(data.get("adaptation", {}).get("images") or [])]
    names = {str(one.get("image")) if isinstance(one, Mapping) else str(one) for one in known}
    return sorted(names.intersection(images))


def describe_known_to_start(data: Mapping[str, Any]) -> str:
    """Say that scores are not of images new to the network, by the data of a card; "" if not."""
    seen = data.get(KNOWN_TO_START) or []
    if not seen:
        return ""
    return (
        f"The model that the training started from had learnt {pluralise(len(seen), 'image')} of "
        "these: held-out images are not new to the network, and the accuracy may be too high."
    )


def scale_is_found(
    scale: Mapping[str, float],  # ``scores["scale"]`` of a card
) -> bool:
    """Return whether an analysis finds the scale of most training images."""
    return scale.get("off", 0) <= MAX_OFF * scale.get("images", 0)


def describe_accuracy(card: ModelCard) -> str:
    """Describe the accuracy of a new model on images as an analysis finds them, and its limits.

    The result is one sentence or several.
    """
    scores = card.scores
    if "test" in scores:
        found = scores["test"]
        return _sentence(found, "of test images that had no part in training and calibration")
    found = scores["held_out"]
    scale = scores.get("scale", {})
    if "held_out_known_scale" in scores:
        images = "of held-out images, with the intensity scale that an analysis finds"
        text = _sentence(found, images)
    else:
        text = _sentence(found, "of held-out images, shuffled into mixtures")
    for doubt in (describe_split_images(card.data), describe_known_to_start(card.data)):
        text = f"{text} {doubt}".rstrip()
    if scale.get("off"):
        text = f"{text} {_describe_scale(scale)}"
    single = scale.get("clusters_per_image", MIN_CLUSTERS) <= 1
    return f"{text} {SINGLE_CLUSTERS}" if single and card.patches.raw_unit == "atoms" else text


def describe_comparisons(card: ModelCard) -> str:
    """Describe the share of correct labels under conditions other than those of an analysis.

    The result is one sentence; "" if the model was not trained on recorded images.
    """
    scores = card.scores
    if "test" in scores or "held_out_known_scale" not in scores:
        return ""
    found, known = scores["held_out"], scores["held_out_known_scale"]
    text = (
        f"If the scale were known, it would be {known['accuracy']:.3f}; by diameter "
        f"alone {found['accuracy_by_diameter']:.3f}"
    )
    if scores["scale"]["clusters_per_image"] >= MIN_CLUSTERS:
        mixtures = scores["held_out_mixtures"]
        text += f"; in mixtures made of these clusters {mixtures['accuracy']:.3f}"
    return f"{text}."


def describe_gain(card: ModelCard) -> str:
    """Compare a new model with the one that its training started from, in two sentences.

    The result is "" if the models were not compared.
    """
    gain = card.scores.get("gain")
    if gain is None:
        return ""
    compared = (
        f"Cross-validated on {gain['images']} images, {gain['accuracy']:.3f} are right, and "
        f"{gain['accuracy_of_start']:.3f} with the model you started from (difference "
        f"{gain['difference']:+.3f}, 95 % interval {gain['difference_low']:+.3f} to "
        f"{gain['difference_high']:+.3f})."
    )
    if is_gained(card):
        return compared
    if gain["difference_high"] < 0:
        return f"{compared} The model you started from is better: keep it."
    return f"{compared} The model you started from is as good: you can keep it."


def is_gained(card: ModelCard) -> bool:
    """Return whether a training gained accuracy, as far as it was compared with its start."""
    gain = card.scores.get("gain")
    return gain is None or bool(gain["difference_low"] > 0)


def _sentence(found: Mapping[str, Any], images: str) -> str:
    text = f"Accuracy {found['accuracy']:.3f} on {found['clusters']} clusters {images}."
    network, diameter = found.get("accuracy_of_network"), found.get("accuracy_by_diameter")
    if network is None or diameter is None or network >= diameter:
        return text
    return (
        f"{text} The network alone has {network:.3f}, the diameter alone {diameter:.3f}: "
        f"{WEAK_NETWORK}"
    )


def _describe_scale(scale: Mapping[str, float]) -> str:
    off = (
        f"The scale that an analysis finds is wrong in {scale['off']} of {scale['images']} "
        "training images"
    )
    n = scale["clusters_per_image"]
    if n < MIN_CLUSTERS:
        return (
            f"{off}: it cannot be found from {pluralise(round(n), 'cluster')} per image. Only the "
            "diameter can be relied on then."
        )
    return f"{off}. This happens for deposits of a single size."
