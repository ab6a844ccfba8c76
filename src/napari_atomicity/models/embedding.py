"""Map of the embedding: UMAP is fitted where a model is trained, new clusters are placed in it.

The model file holds the embeddings of reference clusters and their positions in the map as plain
arrays; nothing is pickled, and every user sees the same map. A new cluster takes the mean position
of its nearest references. Like the transform of UMAP, that keeps neighbours together, but it takes
milliseconds and compiles nothing.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

if TYPE_CHECKING:
    from .inference import Classifier

NEIGHBOURS = 15
"""Neighbours of the UMAP graph, and references that determine the position of a new cluster."""
MIN_DIST = 0.15
"""Minimum distance of the UMAP."""
MIN_REFERENCES = 3
"""A map needs at least this number of references."""


def fit_map(embedding: np.ndarray, seed: int = 0) -> np.ndarray:
    """Fit a UMAP [1]_ to the reference embeddings of a model.

    Parameters
    ----------
    embedding : ndarray of shape (n_references, n_features)
        Reference embeddings.

    Returns
    -------
    ndarray of shape (n_references, 2), float32
        Positions, between 0 and 10 along both axes; zeros for fewer than `MIN_REFERENCES`.

    References
    ----------
    .. [1] L. McInnes, J. Healy, J. Melville, "UMAP: Uniform Manifold Approximation and Projection
       for Dimension Reduction", arXiv:1802.03426.
    """
    if len(embedding) < MIN_REFERENCES:
        return np.zeros((len(embedding), 2), np.float32)
    import torch
    from umap import UMAP  # takes seconds

    mapper = UMAP(
        n_neighbors=min(NEIGHBOURS, len(embedding) - 1),
        min_dist=MIN_DIST,
        n_jobs=1,
        verbose=False,
        random_state=seed,
    )
    n_threads = torch.get_num_threads()
    position = mapper.fit_transform(embedding)
    torch.set_num_threads(n_threads)  # numba, of UMAP, has set it to the number of cores
    low, high = position.min(axis=0), position.max(axis=0)
    return np.asarray(10 * (position - low) / np.maximum(high - low, 1e-9), np.float32)


def place(embedding: np.ndarray, model: str | Classifier = "default") -> np.ndarray:
    """Compute the positions of embeddings in the map of their model.

    Parameters
    ----------
    embedding : ndarray of shape (n_clusters, n_features)
        Embeddings, float32.

    Returns
    -------
    ndarray of shape (n_clusters, 2)
        Positions in the map. NaN for rows that are not finite, and for all rows if the model has
        no map.

    Raises
    ------
    ModelError
        If the model cannot be loaded.
    """
    out = np.full((len(embedding), 2), np.nan)
    finite = np.isfinite(embedding).all(axis=1) & (embedding.shape[1] > 0)
    classifier = _classifier(model)
    if finite.any() and len(classifier.reference_map) >= MIN_REFERENCES:
        out[finite] = place_by_references(
            embedding[finite], classifier.reference_embedding, classifier.reference_map
        )
    return out


def place_again(
    table: pd.DataFrame,
    embedding: np.ndarray,  # (n_clusters, n_features)
    model: str | Classifier,
) -> pd.DataFrame:
    """Return a table with the positions of new embeddings, if it has positions at all."""
    if not table["umap_1"].notna().any():
        return table
    x, y = place(embedding, model).astype(float).T  # as the schema says
    return table.assign(umap_1=x, umap_2=y)


def _classifier(model: str | Classifier) -> Classifier:
    from .inference import Classifier, load_classifier

    return model if isinstance(model, Classifier) else load_classifier(model)


def place_by_references(
    embedding: np.ndarray,  # (n_clusters, n_features): embeddings, finite
    # (n_references, n_features): embeddings of the references, at least one
    reference_embedding: np.ndarray,
    position: np.ndarray,  # (n_references, 2): their positions in the map
) -> np.ndarray:  # (n_clusters, 2)
    """Compute the positions of embeddings in a map from their nearest references.

    The position is the mean of the positions of the nearest references, weighted by
    exp(-distance / distance to the nearest one).
    """
    from scipy.spatial import cKDTree

    k = min(NEIGHBOURS, len(position))
    distance, nearest = cKDTree(reference_embedding).query(embedding, k=range(1, k + 1))
    # The nearest reference weighs e times as much as one at twice its distance.
    scale = np.maximum(distance[:, :1], 1e-9)
    weight = np.exp(-(distance - scale) / scale)
    weight /= weight.sum(axis=1, keepdims=True)
    return np.asarray((weight[:, :, None] * position[nearest]).sum(axis=1))


def reference_map(model: str | Classifier = "default") -> pd.DataFrame:
    """Return the reference points of a model's map.

    The columns are ``umap_1``, ``umap_2``, ``label``. Raises `ModelError` if the model cannot be
    loaded.
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
