"""Calibrate the intensities of lone atoms, by which they tell the scale of an image.

``python tools/calibrate_lone_atoms.py`` simulates sessions with lone atoms between the
clusters and writes the calibration to the cards of the shipped models. Run it after
``tools/calibrate_apparent_size.py``, whose class means define the scale of an image.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

import numpy as np

from calibrate_apparent_size import calibrate_shipped_models
from napari_atomicity.atoms.lone_atoms import LoneAtoms, measure_lone_atoms
from napari_atomicity.core.model_card import ModelCard
from napari_atomicity.detection import DetectionSettings, detect
from napari_atomicity.models.scale.intensity_scale import usable
from napari_atomicity.simulation.fields import Field
from napari_atomicity.simulation.sessions import draw_session, simulate_session
from napari_atomicity.simulation.structures import Isomer
from napari_atomicity.training.data import match

KINDS = ("mixture", "one size per image", "one size", "two sizes")
SEED = 9500
ROUNDS = 15
N_IMAGES = 5
DENSITIES_PER_NM2 = (0.03, 0.3)
"""Lowest and highest density of lone atoms."""
MIN_CLUSTERS = 5
"""Number of clusters from which on they tell the scale of an image of known sizes."""


def simulate_fields(
    library: Sequence[Isomer], classes: Sequence[str], rounds: int = ROUNDS, seed: int = SEED
) -> Iterator[Field]:
    """Simulate the images of sessions with lone atoms."""
    for number in range(rounds):
        for kind in KINDS:
            plan = draw_session(kind, classes, N_IMAGES, seed + number)
            rng = np.random.default_rng([seed + number, *kind.encode()])
            density = float(np.exp(rng.uniform(*np.log(DENSITIES_PER_NM2))))
            yield from simulate_session(
                library,
                [
                    replace(one, settings=replace(one.settings, lone_atoms_per_nm2=density))
                    for one in plan
                ],
            )


def measure_field(field: Field, card: ModelCard) -> tuple[float, LoneAtoms] | None:
    """Measure ln scale by the clusters of known size, and the lone atoms of a simulated image.

    Returns
    -------
    tuple of (float, LoneAtoms) or None
        None if there are too few clusters or lone atoms.
    """
    assert card.apparent_size is not None
    found = detect(field.micrograph)
    atoms = measure_lone_atoms(field.micrograph, found.outlines, DetectionSettings())
    rows, truths = match(found.table, field.truth, field.micrograph.calibrated())
    mean = dict(zip(card.classes, card.apparent_size.log_intensity, strict=True))
    label = field.truth["label"].to_numpy(object)[truths]
    own = found.table.iloc[rows]
    known = usable(own) & np.isin(label, card.classes)
    if atoms is None or known.sum() < MIN_CLUSTERS:
        return None
    intensity = own["integrated_intensity"].to_numpy(float)[known]
    scale = np.median(np.log(intensity) - [mean[name] for name in label[known]])
    return float(scale), atoms


def calibrate_lone_atoms(fields: Iterator[Field], card: ModelCard) -> tuple[float, float]:
    """Compare scales by lone atoms with those by clusters of known size.

    Returns
    -------
    shift, scatter : float
        Mean and standard deviation of ln scale minus ln intensity of the lone atoms, as in
        `core.apparent_size.ApparentSize`. The scatter is that between images, without the errors of
        the mean intensities.
    """
    found = [one for field in fields if (one := measure_field(field, card)) is not None]
    difference = np.array([scale - np.log(atoms.intensity) for scale, atoms in found])
    error = np.array([atoms.error for _, atoms in found])
    scatter = np.sqrt(max(difference.var() - np.mean(error**2), 0.0))
    score = (difference - difference.mean()) / np.hypot(scatter, error)
    print(f"{len(found)} images, standard deviation of standardised errors {score.std():.2f}")
    return round(float(difference.mean()), 3), round(float(scatter), 3)


def calibrate_card(
    card: ModelCard, tensors: dict[str, np.ndarray], library: list[Isomer]
) -> ModelCard:
    """Calibrate lone atoms on simulated sessions.

    Returns
    -------
    ModelCard
        With the calibration in its apparent size.
    """
    assert card.apparent_size is not None
    lone_atoms = calibrate_lone_atoms(simulate_fields(library, card.classes), card)
    return replace(card, apparent_size=replace(card.apparent_size, lone_atoms=lone_atoms))


if __name__ == "__main__":
    calibrate_shipped_models(calibrate_card, __doc__)
