"""The card of an atom model; read without the seconds that torch takes to load."""

from __future__ import annotations

import logging
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from ..core.errors import ModelError
from ..models.files import ATOMS, card_values, model_files
from .operating_point import Calibration, OperatingPoint

_log = logging.getLogger(__name__)

SAMPLING_NM = 0.03
"""Pixel size at which the networks see every image."""
SHIPPED = {"default": "metal-atoms", "atoms": "metal-atoms"}
"""Short names of the models in the package."""


@dataclass(frozen=True)
class AtomCard:
    """Everything about an atom model but its weights; lies beside them as JSON.

    Parameters
    ----------
    name
        How it is asked for.
    kind
        "atoms": what tells it from models of clusters.
    members
        Networks whose scores are averaged.
    width
        Features of their first level.
    views
        Symmetries of the square in which each network sees the image.
    scales
        Magnifications, relative to the common sampling, at which the networks see the image; the
        highest of the scores counts. At less than 1, atoms out of focus get as narrow as others.
    distance_nm
        Least distance of two candidates.
    floor
        Least probability of a candidate.
    slope, offset, candidate_recall, slope_finer, offset_finer, fineness
        See `operating_point.Calibration`.
    usual_threshold, own_weight
        See `operating_point.OperatingPoint`.
    tolerance_nm
        Distance within which a candidate counted as a marked atom.
    description, intended_use, limits
        For a reader.
    data, training, scores
        What it was made from, how, and how good it is on images it never saw.
    version
        Of this package at the time.
    sha256
        Hash of the weights file.
    """

    name: str
    kind: str = ATOMS
    members: int = 1
    width: int = 16
    views: int = 2
    scales: tuple[float, ...] = (1.0,)
    distance_nm: float = 0.12
    floor: float = 0.02
    slope: float = 1.0
    offset: float = 0.0
    candidate_recall: float = 1.0
    slope_finer: float = 0.0
    offset_finer: float = 0.0
    fineness: tuple[float, float] = (0.0, 0.0)
    usual_threshold: float | None = None
    own_weight: float = 1.0
    tolerance_nm: float = 0.15
    description: str = ""
    intended_use: str = ""
    limits: str = ""
    data: dict[str, Any] = field(default_factory=dict)
    training: dict[str, Any] = field(default_factory=dict)
    scores: dict[str, Any] = field(default_factory=dict)
    version: str = ""
    sha256: str = ""

    @property
    def model_id(self) -> str:
        """Name and the first digits of the hash of the weights."""
        return f"{self.name}-{self.sha256[:8]}"

    def calibration(self, pixel_size_nm: float) -> Calibration:
        """That of the scores of images with such pixels."""
        known = Calibration(
            self.slope,
            self.offset,
            self.candidate_recall,
            self.slope_finer,
            self.offset_finer,
            self.fineness,
            OperatingPoint(self.usual_threshold, self.own_weight),
        )
        return known.at(fineness(pixel_size_nm))

    def provenance(self) -> dict[str, Any]:
        """What an output must say of the model that made it."""
        return {"model_id": self.model_id, "sha256": self.sha256, "kind": self.kind}

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> AtomCard:
        known = {k: v for k, v in values.items() if k in cls.__dataclass_fields__}
        for name in {"scales", "fineness"} & known.keys():
            known[name] = tuple(known[name])
        return cls(**known)


def fineness(pixel_size_nm: float) -> float:
    """How many times the pixels of an image were halved, from the common sampling on."""
    return math.log2(SAMPLING_NM / pixel_size_nm)


def read_atom_card(path: Path) -> AtomCard:
    """The card beside the weights file of an atom model.

    Raises
    ------
    ModelError
        If it is missing or damaged, or of a model of another kind.
    """
    values = card_values(path, ATOMS)
    try:
        return AtomCard.from_dict(values)
    except TypeError as error:
        raise ModelError(
            f"the model's card is damaged ({error})", path.with_suffix(".json"), "Get it again"
        ) from error


def available_atom_models() -> list[AtomCard]:
    """Cards of the shipped atom models and of those in the user's model folder; damaged ones are
    left out with a warning."""
    cards = []
    for path in model_files(ATOMS):
        try:
            cards.append(read_atom_card(path))
        except ModelError as error:
            _log.warning("%s", error)
    return cards
