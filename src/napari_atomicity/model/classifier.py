"""Inference: probabilities, embedding and class maps of all channels in one pass. (being written)"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from ..progress import Progress, Stop
from .card import ModelCard

if TYPE_CHECKING:
    import torch


@dataclass(frozen=True, eq=False)
class Prediction:
    """Results for N patches and C classes.

    probabilities (N, C), embedding (N, D), class_maps channel -> (N, h, w) of the predicted
    class, ood_score (N,) where 1 is the limit beyond which a cluster is unknown.
    """

    probabilities: np.ndarray
    embedding: np.ndarray
    class_maps: dict[str, np.ndarray]
    ood_score: np.ndarray

    def write_to(self, table: pd.DataFrame, card: ModelCard) -> pd.DataFrame:
        """The cluster table with its prediction columns filled; corrections stay."""
        raise NotImplementedError


class Classifier:
    """A loaded model on a device. Attributes: ``card`` (ModelCard), ``device`` (torch.device)."""

    card: ModelCard
    device: torch.device

    def predict(
        self,
        patches: dict[str, np.ndarray],
        progress: Progress | None = None,
        stop: Stop | None = None,
    ) -> Prediction:
        raise NotImplementedError

    def class_maps(self, patches: dict[str, np.ndarray], label: str) -> dict[str, np.ndarray]:
        """Grad-CAM of a chosen class, channel -> (N, h, w)."""
        raise NotImplementedError


def load_classifier(model: str | Path = "default", device: str = "auto") -> Classifier:
    """Load by name ("default" = dual channel, "raw" = single channel) or from a .safetensors file.

    Raises ModelError if it is missing or damaged, or if the device is not there.
    """
    raise NotImplementedError


def available_models() -> list[ModelCard]:
    """Cards of the shipped models and of those in the user's model folder."""
    raise NotImplementedError


def devices() -> dict[str, Any]:
    """Devices at hand: name -> description ("cpu": "2 threads", "cuda": name of the GPU ...)."""
    raise NotImplementedError
