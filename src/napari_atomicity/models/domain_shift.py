"""Whether the conditions of an image differ from those that a model was trained under.

Tested on what the classes can't explain: the whitened residuals of the embeddings from the mean of
each cluster's class, so that another mixture of classes is no shift.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.ndimage import gaussian_filter
from scipy.spatial.distance import cdist

MIN_CLUSTERS = 8
"""Fewer tell nothing of an image's conditions."""
ROOM = 1.5
"""Of few images the largest drift is no bound: a limit is this much further out."""
PERMUTATIONS = 200
_MAX_POINTS = 400


@dataclass(frozen=True)
class Shift:
    """The conditions of some images against those of a model's training."""

    p_value: float  # of the two-sample test on the embeddings, by permutation
    distance: float  # maximum mean discrepancy, in units of its mean under permutation
    # name → (here, low, high): a figure of the images, and the central 95 % of the reference
    figures: dict[str, tuple[float, float, float]]
    # whether most of the images drift beyond the limit of the model; None if it has none
    drifted: bool | None = None

    @property
    def found(self) -> bool:
        """Whether the conditions differ by more than those of the training among themselves.

        The clusters of an image have its conditions in common, so the test finds nearly any image
        unlike the pool of all: where the limit of the drift is known, that decides.
        """
        return self.p_value < 0.01 if self.drifted is None else self.drifted


def residuals(
    embedding: np.ndarray,  # (N, D)
    label: np.ndarray,  # (N,): indices of the classes
    tensors: Mapping[str, np.ndarray],  # with ``ood.mean`` and ``ood.whitening``
) -> np.ndarray:
    """Compute whitened residuals (N, D) of embeddings from their class means."""
    about = embedding.astype(np.float64) - tensors["ood.mean"][label]
    return np.asarray(about @ tensors["ood.whitening"].astype(np.float64))


@dataclass(frozen=True, eq=False)
class FeatureSummary:
    """Where the clusters of an image lie in the embedding, their classes taken off."""

    residual: np.ndarray  # (D,): mean of the whitened residuals (`residuals`)
    scatter: float  # what scatter alone adds to the squared length of the mean

    @classmethod
    def of(
        cls, embedding: np.ndarray, label: np.ndarray, tensors: Mapping[str, np.ndarray]
    ) -> FeatureSummary | None:
        """Summarise clusters; None for fewer than `MIN_CLUSTERS`.

        Parameters
        ----------
        embedding : ndarray of shape (N, D)
            Embeddings.
        label : ndarray of shape (N,)
            Class indices.
        tensors : mapping of str to ndarray
            See `domain_shift`.
        """
        good = np.isfinite(embedding).all(axis=1)
        if good.sum() < MIN_CLUSTERS:
            return None
        r = residuals(embedding[good], label[good], tensors)
        return cls(r.mean(axis=0), float(r.var(axis=0, ddof=1).sum() / len(r)))

    @property
    def drift(self) -> float:
        """Squared length of the mean residual without what scatter adds: see `domain_shift`."""
        return float((self.residual**2).sum() - self.scatter)

    def to_dict(self) -> dict[str, Any]:
        """Return plain values for JSON."""
        return {"residual": self.residual.tolist(), "scatter": self.scatter}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> FeatureSummary:
        """Build from `to_dict`."""
        return cls(np.array(values["residual"], float), float(values["scatter"]))


def domain_shift(
    embedding: np.ndarray, label: np.ndarray, tensors: Mapping[str, np.ndarray]
) -> float:
    """Squared length of the mean residual of the clusters of an image, their scatter taken off.

    Parameters
    ----------
    embedding : ndarray of shape (N, D)
        (N, D).
    label : ndarray of shape (N,)
        Indices of the most probable classes.
    tensors : mapping of str to ndarray
        With ``ood.mean`` and ``ood.whitening``.

    Returns
    -------
    float
        About 0 where nothing has changed; NaN for fewer than `MIN_CLUSTERS`.
    """
    found = FeatureSummary.of(embedding, label, tensors)
    return float("nan") if found is None else found.drift


def two_sample_test(reference: np.ndarray, here: np.ndarray, seed: int = 0) -> tuple[float, float]:
    """Maximum mean discrepancy with a Gaussian kernel of median width [1]_.

    Parameters
    ----------
    reference, here : ndarray of shape (M, D)
        And (N, D).
    seed : int, optional
        Of the permutations, and of the choice where there are many.

    Returns
    -------
    p_value, distance
        The distance is in units of its mean under permutation.

    References
    ----------
    .. [1] A. Gretton et al., "A kernel two-sample test", Journal of Machine Learning Research 13,
       723-773 (2012).
    """
    rng = np.random.default_rng(seed)
    a, b = (x[rng.permutation(len(x))[:_MAX_POINTS]] for x in (reference, here))
    both = np.concatenate([a, b])
    squared = cdist(both, both, "sqeuclidean")
    kernel = np.exp(-squared / np.median(squared[squared > 0]))
    sign = np.concatenate([np.full(len(a), 1 / len(a)), np.full(len(b), -1 / len(b))])
    signs = np.stack([sign, *(rng.permutation(sign) for _ in range(PERMUTATIONS))])
    value = np.einsum("pi,ij,pj->p", signs, kernel, signs, optimize=True)
    p_value = (1 + (value[1:] >= value[0]).sum()) / (1 + PERMUTATIONS)
    return float(p_value), float(value[0] / value[1:].mean())


def compare(
    embedding: np.ndarray,  # (N, D)
    label: np.ndarray,  # (N,): indices of the most probable classes
    patches: Mapping[str, np.ndarray],  # channel → (N, P, P); raw in atoms per nm²
    tensors: Mapping[str, np.ndarray],
    patch_nm: float,  # edge length of a patch
) -> Shift | None:
    """Clusters of new images against the references of a model; None with too few of either."""
    good = np.isfinite(embedding).all(axis=1)
    if good.sum() < MIN_CLUSTERS or len(tensors.get("reference.embedding", ())) == 0:
        return None
    reference = residuals(
        tensors["reference.embedding"].astype(np.float32), tensors["reference.label"], tensors
    )
    p_value, distance = two_sample_test(reference, residuals(embedding[good], label[good], tensors))
    figures = {}
    if "replay.raw" in tensors and "raw" in patches:
        known = figures_of(tensors["replay.raw"].astype(np.float32), patch_nm)
        for name, values in figures_of(patches["raw"][good], patch_nm).items():
            low, high = np.quantile(known[name], [0.025, 0.975])
            figures[name] = (float(np.median(values)), float(low), float(high))
    return Shift(p_value, distance, figures)


def figures_of(raw: np.ndarray, patch_nm: float) -> dict[str, np.ndarray]:
    """Imaging conditions that raw patches (N, P, P) show: name → (N,).

    ``noise_atoms_per_nm2`` is that of neighbouring pixels in the rim of the patch;
    ``texture_atoms_per_nm2`` the scatter of the rim when smoothed over 0.1 nm;
    ``sharpness_per_nm`` the steepest slope of the cluster relative to its height.
    """
    size = raw.shape[1]
    pixel_nm = patch_nm / size
    y, x = np.mgrid[:size, :size] - (size - 1) / 2
    rim = np.hypot(y, x) > 0.42 * size
    smooth = gaussian_filter(raw, (0, 0.1 / pixel_nm, 0.1 / pixel_nm))
    step = np.diff(raw, axis=2)[:, rim[:, 1:]]
    noise = 1.4826 * np.median(np.abs(step), axis=1) / np.sqrt(2)
    outer = smooth[:, rim]
    level = np.median(outer, axis=1)
    texture = 1.4826 * np.median(np.abs(outer - level[:, None]), axis=1)
    middle = smooth[:, ~rim]
    height = np.quantile(middle, 0.98, axis=1) - level
    slope = np.hypot(np.gradient(smooth, pixel_nm, axis=1), np.gradient(smooth, pixel_nm, axis=2))
    steepest = np.quantile(slope[:, ~rim], 0.95, axis=1)
    return {
        "noise_atoms_per_nm2": noise,
        "texture_atoms_per_nm2": texture,
        "sharpness_per_nm": steepest / np.maximum(height, 1e-6),
    }
