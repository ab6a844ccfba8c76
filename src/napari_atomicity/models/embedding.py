"""UMAP of the embedding: fitted once on a model's references, new clusters transformed into it.

The model file holds the references and their fitted positions as plain arrays. The UMAP object is
built again from them (nothing is pickled): with the positions given, only the neighbour graph has
to be found, and every user sees the same map.
"""

from __future__ import annotations

import threading
import warnings
from collections.abc import Callable
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

if TYPE_CHECKING:
    from .classifier import Classifier

NEIGHBOURS = 15
MIN_DIST = 0.15
_lock = threading.Lock()  # numba compiles once, and not from two threads at a time


def fit_map(embedding: np.ndarray, seed: int = 0) -> np.ndarray:
    """Positions (N, 2) float32 of reference embeddings (N, D), in 0 to 10 along both axes.

    McInnes, Healy, Melville, arXiv:1802.03426.
    """
    if len(embedding) < 3:
        return np.zeros((len(embedding), 2), np.float32)
    with _lock:
        position = _umap(len(embedding), random_state=seed).fit_transform(embedding)
    low, high = position.min(axis=0), position.max(axis=0)
    return np.asarray(10 * (position - low) / np.maximum(high - low, 1e-9), np.float32)


def _umap(n: int, **options: Any) -> Any:
    from umap import UMAP

    return UMAP(
        n_neighbors=min(NEIGHBOURS, n - 1), min_dist=MIN_DIST, n_jobs=1, verbose=False, **options
    )


@lru_cache(maxsize=4)
def _fitted(classifier: Classifier) -> Any:
    """A UMAP object in the state that fitting the references left it in."""
    embedding = classifier.reference_embedding.astype(np.float32)
    position = classifier.reference_map
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        mapper = _umap(len(embedding), init=position, n_epochs=0, random_state=0, transform_seed=0)
        mapper.fit(embedding)
    mapper.embedding_ = position.copy()
    mapper.n_epochs = None  # of transform: its own default
    return mapper


def _classifier(model: str | Classifier) -> Classifier:
    from .classifier import Classifier, load_classifier

    return model if isinstance(model, Classifier) else load_classifier(model)


def place(embedding: np.ndarray, model: str | Classifier = "default") -> np.ndarray:
    """Positions of embeddings in the map of their model.

    Parameters
    ----------
    embedding
        (N, D) float32.
    model
        The model that made them.

    Returns
    -------
    ndarray
        (N, 2); rows that are not finite stay NaN, and all are if the model has no references.

    Raises
    ------
    ModelError
        If the model can't be loaded.
    """

    def transformed(classifier: Classifier, good: np.ndarray) -> np.ndarray:
        with _lock, warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return np.asarray(_fitted(classifier).transform(good.astype(np.float32)))

    return _placed(embedding, model, transformed)


def place_roughly(embedding: np.ndarray, model: str | Classifier = "default") -> np.ndarray:
    """Where `place` starts from: nothing is compiled, and nobody waits.

    The mean of the places of the nearest references, the nearer ones counting more.

    Parameters
    ----------
    embedding
        (N, D) float32.
    model
        The model that made them.

    Returns
    -------
    ndarray
        (N, 2); NaN as in `place`.

    Raises
    ------
    ModelError
        If the model can't be loaded.
    """
    return _placed(embedding, model, _among_nearest)


def _among_nearest(classifier: Classifier, good: np.ndarray) -> np.ndarray:
    from scipy.spatial import cKDTree

    position = classifier.reference_map
    k = min(NEIGHBOURS, len(position))
    distance, nearest = cKDTree(classifier.reference_embedding).query(good, k=k)
    # The nearest weighs e times as much as one twice as far away.
    scale = np.maximum(distance[:, :1], 1e-9)
    weight = np.exp(-(distance - scale) / scale)
    weight /= weight.sum(axis=1, keepdims=True)
    return np.asarray((weight[:, :, None] * position[nearest]).sum(axis=1))


def _placed(
    embedding: np.ndarray,
    model: str | Classifier,
    where: Callable[[Classifier, np.ndarray], np.ndarray],
) -> np.ndarray:
    """What ``where`` says of the rows that are finite, if the model has a map; else NaN."""
    out = np.full((len(embedding), 2), np.nan)
    good = np.isfinite(embedding).all(axis=1) & (embedding.shape[1] > 0)
    classifier = _classifier(model)
    if good.any() and len(classifier.reference_map) >= 3:
        out[good] = where(classifier, embedding[good])
    return out


def reference_map(model: str | Classifier = "default") -> pd.DataFrame:
    """The reference points of a model's map: columns ``umap_1``, ``umap_2``, ``label``.

    Raises
    ------
    ModelError
        If the model can't be loaded.
    """
    classifier = _classifier(model)
    position = classifier.reference_map
    classes = np.array(classifier.card.classes, dtype=object)
    return pd.DataFrame(
        {
            "umap_1": position[:, 0],
            "umap_2": position[:, 1],
            "label": classes[classifier.reference_label],
        }
    )


def warm_up(model: str | Classifier = "default") -> None:
    """Load and compile what `place` needs, so that nobody waits for it later.

    Raises
    ------
    ModelError
        If the model can't be loaded.
    """
    classifier = _classifier(model)
    if len(classifier.reference_embedding):
        place(classifier.reference_embedding[:2].astype(np.float32), classifier)
