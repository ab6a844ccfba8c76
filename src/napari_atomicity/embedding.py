"""UMAP of the embedding: fitted on a model's reference embeddings, new clusters transformed into it. (being written)"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

if TYPE_CHECKING:
    from .model.classifier import Classifier


def place(embedding: np.ndarray, model: str | Classifier = "default") -> np.ndarray:
    """(N, 2) positions of embeddings (N, D) in the model's map; NaN rows stay NaN."""
    raise NotImplementedError


def reference_map(model: str | Classifier = "default") -> pd.DataFrame:
    """The reference points of the model's map: columns umap_1, umap_2, label."""
    raise NotImplementedError


def warm_up(model: str | Classifier = "default") -> None:
    """Load and compile what `place` needs, so that its first call does not wait for numba."""
    raise NotImplementedError
