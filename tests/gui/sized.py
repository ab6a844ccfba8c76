"""Images of clusters of given sizes, and a model whose labels follow the intensity of one atom."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import tifffile
from brightness import CLASSES, PIXEL_NM, BrightnessClassifier, _maps

from napari_atomicity.core.progress import check, report
from napari_atomicity.core.scale_reference import ScaleReference
from napari_atomicity.models.inference import Prediction

ATOMS = np.array([int(name[2:]) for name in CLASSES])
SIGMA_PX = 6.0
PER_PEAK_NM2 = 2 * np.pi * (SIGMA_PX * PIXEL_NM) ** 2
"""Integrated intensity over that of the peak."""
UNIT = 8.0
"""Peak of one atom, in counts."""


def write_clusters(
    path, kinds: Sequence[str], seed: int = 0, unit: float = UNIT, pixel_nm: float = PIXEL_NM
) -> None:
    """Write an image of twelve clusters, of these classes in turn, of equal width."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:240, :320]
    image = 1000 + rng.normal(0, 5, y.shape)
    for i in range(12):
        n_atoms = int(kinds[i % len(kinds)][2:])
        distance_2 = (y - 40 - 80 * (i // 4)) ** 2 + (x - 40 - 80 * (i % 4)) ** 2
        peak = unit * n_atoms * rng.normal(1, 0.03)
        image += peak * np.exp(-distance_2 / (2 * SIGMA_PX**2))
    per_nm = 1 / pixel_nm
    tifffile.imwrite(
        path, image.astype(np.uint16), imagej=True, resolution=(per_nm, per_nm),
        metadata={"unit": "nm"},
    )  # fmt: skip


class SizedClassifier(BrightnessClassifier):
    """Says the class whose number of atoms is the intensity over that of one atom."""

    card = replace(
        BrightnessClassifier.card,
        name="sized",
        sha256="fedcba9876543210",
        scale=ScaleReference(
            tuple(np.log(ATOMS)), (0.0,) * 5, (((0.004, 0.0), (0.0, 0.04)),) * 5, 0.2
        ),
    )

    def predict(self, patches, progress=None, stop=None, *, symmetries=False):
        raw = patches["raw"]
        n = len(raw)
        report(progress, 0, n, "Classifying")
        check(stop)
        atoms = raw.reshape(n, -1).max(axis=1) * PER_PEAK_NM2
        logits = -40 * (np.log(atoms)[:, None] - np.log(ATOMS)) ** 2
        p = np.exp(logits - logits.max(axis=1, keepdims=True))
        p /= p.sum(axis=1, keepdims=True)
        embedding = np.column_stack([atoms, p]).astype(np.float32)
        return Prediction(p, embedding, _maps(patches, 1))
