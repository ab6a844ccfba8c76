"""Clusters too bright to be groups of single atoms: detections on them are no single atoms."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd

from ..core.micrograph import Micrograph
from ..detection.clusters import detect
from .localisation import SIGMA_NM
from .regions import NEAR_CLUSTER_NM, dilate_mask, make_cluster_mask
from .support import edit_mask

BRIGHT_CLUSTERS = "bright_clusters"
"""Key of `AtomAnalysis.parameters`: frame and outline (y, x) in pixels of each bright cluster."""
CLUSTER_ATOMS = 12.0
"""Minimum brightness of a cluster in atoms: groups of isolated atoms are usually fainter."""


def find_bright_clusters(
    image: np.ndarray, pixel_size_nm: float, usual: float
) -> tuple[pd.DataFrame, list[np.ndarray]]:
    """Find clusters as bright as `CLUSTER_ATOMS` atoms or more.

    Parameters
    ----------
    image : ndarray of shape (Y, X)
        A frame without outliers and gaps.
    pixel_size_nm : float
        Edge length of a pixel.
    usual : float
        Median height of the detected atoms, in counts.

    Returns
    -------
    pandas.DataFrame, list of ndarray
        Their cluster table and outlines.
    """
    found = detect(Micrograph(image, pixel_size_nm))
    atom = 2 * np.pi * SIGMA_NM**2 * usual
    rows = np.flatnonzero(found.table["integrated_intensity"] >= CLUSTER_ATOMS * atom)
    return found.table.iloc[rows], [found.outlines[i] for i in rows]


def mask_of_outlines(
    found: Sequence[tuple[int, Any]], shape: tuple[int, ...], pixel_size_nm: float
) -> np.ndarray:
    """Return the mask of bright clusters and their rims.

    Parameters
    ----------
    found : sequence of (int, array)
        Frame and outline (y, x) in pixels of each bright cluster.
    shape : tuple of int
        Shape of the support, (Y, X) or (T, Y, X).
    pixel_size_nm : float
        Edge length of a pixel.
    """
    mask = np.zeros(shape, bool)
    frames = mask if mask.ndim == 3 else mask[None]
    for index, frame in enumerate(frames):
        outlines = [np.asarray(outline, float) for i, outline in found if i == index]
        inside = edit_mask(np.zeros(frame.shape, bool), outlines)
        frame[:] = dilate_mask(inside, NEAR_CLUSTER_NM / pixel_size_nm)
    return mask


def bright_cluster_mask(image: np.ndarray, pixel_size_nm: float, usual: float) -> np.ndarray:
    """Return the (Y, X) mask of bright clusters and their rims.

    Parameters
    ----------
    image, pixel_size_nm, usual : ndarray, float, float
        As of `find_bright_clusters`.
    """
    table, outlines = find_bright_clusters(image, pixel_size_nm, usual)
    return make_cluster_mask(table, image.shape, pixel_size_nm, outlines)
