"""Division of size-selected images for a learning curve, and its runs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from ...core.errors import AtomicityError, ReadError
from ...core.text import pluralise
from ..data import ValidationImage
from ..jobs import FitJob, Prepared
from ..methods import Fit
from ..request import ValidationRequest

TEST = -1
"""Place of a test image."""
MIN_TESTED = 0.2
"""Share of the images of each class that are tested, at least."""


@dataclass(frozen=True, eq=False)
class Division:
    """Training and test images of all repeats."""

    # numbers of training images of each class that are possible, ascending
    numbers: tuple[int, ...]
    left_out: tuple[str, ...]  # why numbers are left out, as sentences
    # seed of a repeat → place of each image among the training images of its class, from 0, or
    # `TEST`. The first n are trained on, so that smaller training sets are parts of larger ones
    places: dict[int, np.ndarray]

    def test_images(self) -> list[int]:
        """Return the number of test images of each repeat."""
        return [int((place == TEST).sum()) for place in self.places.values()]


def divide(
    images: Sequence[ValidationImage],  # size-selected images
    numbers: Sequence[int],
    seeds: Sequence[int],
    parts: Mapping[str, int] | None = None,
) -> Division:
    """Choose the training and test images of each repeat.

    Raises `ReadError` if a class has too few images, or an image has no part.
    """
    wanted = sorted(set(numbers))
    if not wanted or wanted[0] < 1:
        raise AtomicityError("a learning curve needs numbers of images of 1 or more")
    sample = np.array([image.sample for image in images], object)
    of_part = _parts(images, parts) if parts else None
    places, most, rarest = {}, len(images), ""
    for seed in seeds:
        places[seed], numbers_to_train = _divide_repeat(sample, of_part, seed)
        label = min(numbers_to_train, key=numbers_to_train.__getitem__)
        if numbers_to_train[label] < most:
            most, rarest = numbers_to_train[label], label
    possible = tuple(n for n in wanted if n <= most)
    if not possible:
        raise ReadError(
            f"{rarest} has too few images: {most} to train on in addition to those to test on, and "
            f"the curve begins at {wanted[0]}",
            advice="Record more images, or choose smaller numbers",
        )
    if of_part is None:
        places = {s: np.where(p < possible[-1], p, TEST) for s, p in places.items()}
    left_out = [str(n) for n in wanted if n > most]
    reason = (
        f"{rarest} has {pluralise(most, 'image')} to train on in addition to those to test on: "
        f"the curve has no points with {', '.join(left_out)} per class."
    )
    return Division(possible, (reason,) if left_out else (), places)


def _divide_repeat(
    sample: np.ndarray, of_part: np.ndarray | None, seed: int
) -> tuple[np.ndarray, dict[str, int]]:
    """Return the place of each image in one repeat, and class → number of images to train on."""
    rng = np.random.default_rng([seed, len(sample)])
    place, numbers = np.full(len(sample), TEST), {}
    for label in sorted(set(sample)):
        rows = rng.permutation(np.flatnonzero(sample == label))
        if of_part is not None:
            parts = np.unique(of_part)
            rows = rows[of_part[rows] != parts[seed % len(parts)]]
            numbers[str(label)] = len(rows)
        else:
            numbers[str(label)] = len(rows) - max(1, int(np.ceil(MIN_TESTED * len(rows))))
        place[rows] = np.arange(len(rows))
    return place, numbers


def _parts(images: Sequence[ValidationImage], given: Mapping[str, int]) -> np.ndarray:
    """Return the part of each image."""
    parts = [given.get(image.name, given.get(image.file)) for image in images]
    if None in parts or len(set(parts)) < 2:
        raise ReadError(
            "folds.csv must state one of at least two parts for every image",
            advice="Change or remove the table",
        )
    return np.array(parts, int)


# ---- runs
class CurveJob(FitJob):
    """A fit to some images of each class, one repeat of a learning curve."""

    @property
    def name(self) -> str:
        """Name of its file."""
        return f"{self.fit.name}-{self.n_images}-images-seed{self.seed}"

    @property
    def size(self) -> float:
        """Number of training images of each class, at least 1."""
        return float(max(1, self.n_images or 0))

    def title(self, request: ValidationRequest) -> str:
        """Return the title in messages."""
        trained = f", {pluralise(self.n_images, 'image')} per class" if self.n_images else ""
        return f"{self.fit.title}{trained}, repeat {self.seed - request.seed + 1}"

    def training_rows(self, prepared: Prepared) -> list[int]:
        """Return which size-selected images the model is trained on."""
        place = prepared.folds[self.seed]
        return np.flatnonzero((place != TEST) & (place < (self.n_images or 0))).tolist()

    def test_rows(self, prepared: Prepared) -> list[int]:
        """Return which size-selected images the model is tested on, the same for each number."""
        return np.flatnonzero(prepared.folds[self.seed] == TEST).tolist()


def plan_curve(fits: Sequence[Fit], division: Division) -> list[CurveJob]:
    """List the runs of a learning curve."""
    return [
        CurveJob(fit, None, seed, False, n)
        for seed in division.places
        for n in (0, *division.numbers)
        for fit in fits
        if fit.trained == (n > 0)
    ]
