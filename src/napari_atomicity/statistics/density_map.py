"""Map of the density of atoms on their support, by a Gaussian kernel with edge correction."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy import ndimage

from .windows import ObservationWindow, block_coverage

MAX_CELLS = 200
"""Maximum number of cells along the longer edge of a map."""


@dataclass(frozen=True, eq=False)
class DensityMap:
    """Smoothed density of atoms."""

    # (H, W): atoms per nm² of support in square cells; NaN off the support
    density_per_nm2: np.ndarray
    # edge length of a cell. The corner of the first cell is the corner of the first pixel
    cell_nm: float
    bandwidth_nm: float  # standard deviation of the kernel


def map_density(
    points_nm: np.ndarray, window: ObservationWindow, bandwidth_nm: float | None = None
) -> DensityMap:
    """Smooth the density of points by a Gaussian kernel.

    The sum of the kernels is divided by the part of a kernel that lies on the support [1]_, so that
    the density does not fall towards edges and vacuum.

    Parameters
    ----------
    points_nm : ndarray of shape (N, 2)
        Positions (y, x) in nm. Points off the support are omitted.
    bandwidth_nm : float, optional
        Standard deviation of the kernel; by default that of Scott's rule [2]_, the standard
        deviation of the positions times N^(-1/6), at least one cell.

    References
    ----------
    .. [1] P. Diggle, "A kernel method for smoothing point process data", J. R. Stat. Soc. C 34,
       138-147 (1985).
    .. [2] D. W. Scott, "Multivariate Density Estimation", Wiley (1992), section 6.3.
    """
    points = points_nm[window.contains(points_nm)]
    block = int(np.ceil(max(window.mask.shape) / MAX_CELLS))
    cell = block * window.pixel_size_nm
    if bandwidth_nm is None:
        # Without points the density is 0 with any bandwidth.
        spread = np.sqrt(points.var(axis=0).mean()) if len(points) > 1 else 0.0
        bandwidth_nm = max(cell, float(spread * max(len(points), 1) ** (-1 / 6)))
    coverage = block_coverage(window.mask, block)
    corner = -window.pixel_size_nm / 2
    edges = [corner + cell * np.arange(n + 1) for n in coverage.shape]
    count = np.histogramdd(points, edges)[0]
    smooth, part = (
        ndimage.gaussian_filter(values, bandwidth_nm / cell, mode="constant")
        for values in (count, coverage)
    )
    on_support = coverage > 0
    density = np.full(coverage.shape, np.nan)
    density[on_support] = smooth[on_support] / part[on_support] / cell**2
    return DensityMap(density, cell, bandwidth_nm)
