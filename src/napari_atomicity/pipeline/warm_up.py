"""First analysis of a process, which compiles and loads what later ones need."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from ..core.micrograph import Micrograph
from ..models.classifier import Classifier
from .analysis import analyse
from .run_request import RunRequest


def warm_up(classifier: Classifier, request: RunRequest) -> None:
    """Analyse a small simulated image, so that the first real one is fast."""
    noise = np.random.default_rng(0).normal(100, 5, (256, 256)).astype(np.float32)
    y, x = np.mgrid[:256, :256]
    noise += 100 * (np.hypot(y - 128, x - 128) < 14)
    analyse(
        Micrograph(noise, 0.05, name="warm up"),
        classifier,
        settings=replace(request.detection),
        umap=request.umap,
    )
