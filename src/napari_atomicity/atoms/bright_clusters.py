"""Clusters too bright to be groups of single atoms: detections on them are no single atoms."""

from __future__ import annotations

import numpy as np

from ..core.micrograph import Micrograph
from ..detection.clusters import detect
from .localisation import SIGMA_NM

BRIGHT_CLUSTERS = "bright_clusters"
"""Key of `AtomAnalysis.parameters`: frame and outline (y, x) in pixels of each bright cluster."""
CLUSTER_ATOMS = 12.0
"""Minimum brightness of a cluster in atoms: groups of isolated atoms are usually fainter."""


def find_bright_clusters(image: np.ndarray, pixel_size_nm: float, usual: float) -> list[np.ndarray]:
    """Find clusters as bright as `CLUSTER_ATOMS` atoms or more.

    Parameters
    ----------
    image : ndarray of shape (Y, X)
        A frame without outliers and gaps.
    pixel_size_nm : float
        Edge length of a pixel.
    usual : float
        Median height of the detected atoms, in counts.
    """
    found = detect(Micrograph(image, pixel_size_nm))
    atom = 2 * np.pi * SIGMA_NM**2 * usual
    rows = np.flatnonzero(found.table["integrated_intensity"] >= CLUSTER_ATOMS * atom)
    return [found.outlines[i] for i in rows]
