"""The card of an atom model, which can be read without torch."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Annotated, Any

from annotated_types import Interval, Len

from ...core.from_dict import Fraction
from ...core.model_card import ATOMS, Card
from .operating_point import Calibration, OperatingPoint

SAMPLING_NM = 0.03
"""Pixel size to which every image is resampled for the networks."""
SHIPPED = {"default": "metal-atoms", "atoms": "metal-atoms"}
"""Short names of the models in the package."""


@dataclass(frozen=True)
class AtomCard(Card):
    """The card of a model of atoms: see `Card` for the properties of all models."""

    KIND = ATOMS

    kind: str = ATOMS  # "atoms", unlike models of clusters
    members: Annotated[int, Interval(ge=1, le=64)] = 1  # networks whose scores are averaged
    width: Annotated[int, Interval(ge=1, le=256)] = 16  # number of features of their first level
    # number of symmetries of the square over which each network is averaged
    views: Annotated[int, Interval(ge=1, le=8)] = 2
    # magnifications relative to the common sampling; the maximum of the scores counts. Below 1,
    # atoms out of focus become as narrow as others
    scales: Annotated[tuple[Annotated[float, Interval(ge=0.25, le=4)], ...], Len(1, 8)] = (1.0,)
    distance_nm: Annotated[float, Interval(gt=0, le=5)] = 0.12  # minimum distance of two candidates
    floor: Fraction = 0.02  # minimum probability of a candidate
    # slope, offset, candidate_recall, slope_finer, offset_finer, fineness: see
    # `operating_point.Calibration`
    slope: float = 1.0
    offset: float = 0.0
    candidate_recall: Fraction = 1.0
    slope_finer: float = 0.0
    offset_finer: float = 0.0
    fineness: tuple[float, float] = (0.0, 0.0)
    # usual_threshold, own_weight: see `operating_point.OperatingPoint`
    usual_threshold: Fraction | None = None
    own_weight: Fraction = 1.0
    # maximum distance of a candidate to the annotated atom that it matches
    tolerance_nm: Annotated[float, Interval(gt=0, le=5)] = 0.15

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
        """Return the entries that identify the model in results."""
        return {**super().provenance(), "kind": self.kind}


def fineness(pixel_size_nm: float) -> float:
    """Return log2 of the common sampling over the pixel size."""
    return math.log2(SAMPLING_NM / pixel_size_nm)
