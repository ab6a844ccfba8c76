"""Occlusion: patches with a region replaced by the level of the support."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    pass
from napari_atomicity.models.class_maps.centre_balance import OUTLINE_RADII


def distance_nm(size_px: int, field_of_view_nm: float) -> np.ndarray:
    """Distance (size_px, size_px) of every pixel's centre from that of the patch."""
    at = (np.arange(size_px) - (size_px - 1) / 2) * field_of_view_nm / size_px
    return np.hypot(at[:, None], at[None, :])


def occluded(
    patches: np.ndarray, where: np.ndarray, field_of_view_nm: float, radius_nm: np.ndarray
) -> np.ndarray:
    """Patches with a part replaced by the level of the support around the cluster.

    Parameters
    ----------
    patches : ndarray of shape (N, P, P)
        Of one channel.
    where : ndarray of shape (N, P, P)
        Bool: what is replaced, by the median of what is farther from the centre than
        1.25 radii.
    field_of_view_nm : float
        Edge length of the patches.
    radius_nm : ndarray of shape (N,)
        Radii of the clusters.
    """
    outside = distance_nm(patches.shape[-1], field_of_view_nm) > (
        OUTLINE_RADII[1] * radius_nm[:, None, None]
    )
    level = np.nanmedian(np.where(outside, patches, np.nan), axis=(1, 2))
    return np.where(where, level[:, None, None], patches).astype(patches.dtype)
