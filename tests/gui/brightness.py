"""A small image of blobs and a model that needs no weights: the window is tested, not science."""

from __future__ import annotations

from typing import ClassVar

import numpy as np
import torch

# Modules that take `load_classifier` by name must not be imported first while it is replaced.
import napari_atomicity.pipeline.explanations
import napari_atomicity.pipeline.live.watch
import napari_atomicity.pipeline.runs.batch  # noqa: F401
from napari_atomicity.core.model_card import ModelCard
from napari_atomicity.core.patches import PatchSettings
from napari_atomicity.core.progress import check, report
from napari_atomicity.models.files import installed_model
from napari_atomicity.models.inference import Classifier, Prediction

CLASSES = ("Pt19", "Pt30", "Pt41", "Pt55", "Pt70")
PIXEL_NM = 0.05
N_CLUSTERS = 12


def blobs(seed: int = 0, shape: tuple[int, int] = (240, 320)) -> np.ndarray:
    """Twelve Gaussian clusters of rising brightness on a noisy ground."""
    rng = np.random.default_rng(seed)
    y, x = np.ogrid[: shape[0], : shape[1]]
    image = 100 + rng.normal(0, 1, shape)
    for i in range(N_CLUSTERS):
        cy, cx = 40 + 80 * (i // 4), 40 + 80 * (i % 4)
        blob = np.exp(-((y - cy) ** 2) / (2 * 6.0**2)) * np.exp(-((x - cx) ** 2) / (2 * 6.0**2))
        image += 40 * (1 + i / 4) * blob
    return image.astype(np.float32)


class BrightnessClassifier(Classifier):
    """Says that brighter patches hold more atoms; deterministic.

    Attributes
    ----------
    averaged
        Of every question, whether the average over the symmetries was asked for.
    """

    card = ModelCard("brightness", CLASSES, PatchSettings(size_px=32), sha256="0123456789abcdef")
    device = torch.device("cpu")
    ood_tensors: ClassVar[dict] = {}

    def __init__(self):
        self.averaged = []

    def predict(self, patches, progress=None, stop=None, *, symmetries=False):
        self.averaged.append(symmetries)
        raw = patches["raw"]
        n = len(raw)
        report(progress, 0, n, "Classifying")
        check(stop)
        brightness = raw.reshape(n, -1).max(axis=1)
        centre = (brightness[:, None] - 30) / 28
        logits = -2 * (centre - np.arange(len(CLASSES))) ** 2
        p = np.exp(logits - logits.max(axis=1, keepdims=True))
        p /= p.sum(axis=1, keepdims=True)
        embedding = np.column_stack([brightness, p]).astype(np.float32)
        return Prediction(p, embedding, _maps(patches, 1))

    def class_maps(self, patches, label, *, symmetries=False):
        self.averaged.append(symmetries)
        return _maps(patches, 1 + CLASSES.index(label) if label in CLASSES else 1)


def _maps(patches, scale):
    return {c: scale * np.abs(v[:, ::4, ::4]) for c, v in patches.items()}


def offer(monkeypatch, classifier: Classifier) -> Classifier:
    """Make every model that is asked for this one."""
    monkeypatch.setattr(
        "napari_atomicity.models.inference.load_classifier", lambda *a, **k: classifier
    )

    def find(model_id, card_type):
        if model_id == classifier.card.model_id:
            return "", classifier.card
        return installed_model(model_id, card_type)

    monkeypatch.setattr("napari_atomicity.gui.viewer.models.installed_model", find)
    monkeypatch.setattr("napari_atomicity.core.devices.devices", lambda: {"cpu": "1 thread"})
    monkeypatch.setattr(
        "napari_atomicity.models.embedding.place", lambda embedding, model: embedding[:, :2]
    )
    return classifier
