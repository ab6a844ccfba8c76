"""The card of an atom model, which can be read without torch."""

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
"""Pixel size to which every image is resampled for the networks."""
SHIPPED = {"default": "metal-atoms", "atoms": "metal-atoms"}
"""Short names of the models in the package."""


@dataclass(frozen=True)
class AtomCard:
    """Metadata of an atom model, stored as JSON next to its weights.

    Parameters
    ----------
    name : str
        Name of the model.
    kind : str, optional
        "atoms", unlike models of clusters.
    members : int, default 1
        Networks whose scores are averaged.
    width : int, default 16
        Number of features of their first level.
    views : int, default 2
        Number of symmetries of the square over which each network is averaged.
    scales : tuple of float, optional
        Magnifications relative to the common sampling; the maximum of the scores counts. Below 1,
        atoms out of focus become as narrow as others.
    distance_nm : float, default 0.12
        Minimum distance of two candidates.
    floor : float, default 0.02
        Minimum probability of a candidate.
    slope, offset, candidate_recall, slope_finer, offset_finer, fineness : float
        See `operating_point.Calibration`.
    usual_threshold, own_weight : float
        See `operating_point.OperatingPoint`.
    tolerance_nm : float, default 0.15
        Maximum distance of a candidate to the annotated atom that it matches.
    description, intended_use, limits : str, optional
        Texts for the user.
    data, training, scores : dict of str to object, optional
        Training data, training settings, and scores on images that were not used for training.
    version : str, optional
        Version of this package that made the model.
    sha256 : str, optional
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
        """Name and first digits of the hash of the weights."""
        return f"{self.name}-{self.sha256[:8]}"

    def calibration(self, pixel_size_nm: float) -> Calibration:
        """Return the calibration of the scores of images with this pixel size."""
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
        """Return the model's identity, as written into outputs."""
        return {"model_id": self.model_id, "sha256": self.sha256, "kind": self.kind}

    def to_dict(self) -> dict[str, Any]:
        """Return the card as plain values for JSON."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> AtomCard:
        """Build a card from `to_dict`; ignore unknown keys."""
        known = {k: v for k, v in values.items() if k in cls.__dataclass_fields__}
        for name in {"scales", "fineness"} & known.keys():
            known[name] = tuple(known[name])
        return cls(**known)


def fineness(pixel_size_nm: float) -> float:
    """Return log2 of the common sampling over the pixel size."""
    return math.log2(SAMPLING_NM / pixel_size_nm)


def read_atom_card(path: Path) -> AtomCard:
    """Read the card next to the weights file of an atom model.

    Raises
    ------
    ModelError
        If it is missing or damaged, or belongs to a model of another kind.
    """
    values = card_values(path, ATOMS)
    try:
        return AtomCard.from_dict(values)
    except TypeError as error:
        raise ModelError(
            f"the model's card is damaged ({error})",
            path.with_suffix(".json"),
            "Download or export the model again",
        ) from error


def available_atom_models() -> list[AtomCard]:
    """Read the cards of the shipped atom models and of those in the user's model folder.

    Damaged ones are skipped with a warning.
    """
    cards = []
    for path in model_files(ATOMS):
        try:
            cards.append(read_atom_card(path))
        except ModelError as error:
            _log.warning("%s", error)
    return cards
