"""The observation window of a point pattern, with its edge corrections.

The window is a mask of pixels, each a small square. Estimators correct for its shape, so that
vacuum, the edges of the image and holes do not appear as structure:

- *Border distance and eroded area* serve the correction of nearest-neighbour distances.
- The *set covariance* [1]_ serves the translation correction of pair statistics. At shifts by
  whole pixels it is the autocorrelation of the mask (by Fourier transform). Between them bilinear
  interpolation is exact, because the overlap of two squares is bilinear in their shift.

Points are (N, 2), (y, x) in nm. The origin is the centre of the top-left pixel. Estimators omit
points outside the window; `ObservationWindow.contains` identifies them.

References
----------
.. [1] D. Stoyan and H. Stoyan, "Fractals, Random Shapes and Point Fields", Wiley (1994), ch. 15.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from scipy import fft, ndimage

from ...core.errors import AtomicityError

MAX_MASK_PX = 1024
"""Larger masks are averaged over blocks, down to this size, for the edge corrections."""
_ROUNDING_PX = 1e-6  # error of a position that was converted into nm and back


@dataclass(frozen=True, eq=False)
class ObservationWindow:
    """The region in which points can occur: the support of the atoms.

    Raises `AtomicityError` if the mask is not two-dimensional or is empty, or if the pixel size is
    not positive.
    """

    mask: np.ndarray  # (Y, X): true on the support
    pixel_size_nm: float  # edge length of a pixel in nm

    def __post_init__(self) -> None:
        mask = np.ascontiguousarray(self.mask, dtype=bool)
        if mask.ndim != 2:
            raise AtomicityError(f"a mask of the support has two axes, not {mask.ndim}")
        if not mask.any():
            raise AtomicityError(
                "the mask of the support is empty", advice="Mark the support, or use no mask"
            )
        if not (np.isfinite(self.pixel_size_nm) and self.pixel_size_nm > 0):
            raise AtomicityError(f"a pixel size of {self.pixel_size_nm:g} nm is not possible")
        object.__setattr__(self, "mask", mask)

    @property
    def area_nm2(self) -> float:
        """Area of the support in nm²."""
        return float(np.count_nonzero(self.mask)) * self.pixel_size_nm**2

    @cached_property
    def bounds_nm(self) -> tuple[float, float, float, float]:
        """Bounding box of the support: minimum and maximum y, minimum and maximum x."""
        rows, columns = (np.flatnonzero(self.mask.any(axis=a)) for a in (1, 0))
        ends = np.array([rows[0] - 0.5, rows[-1] + 0.5, columns[0] - 0.5, columns[-1] + 0.5])
        low_y, high_y, low_x, high_x = (ends * self.pixel_size_nm).tolist()
        return low_y, high_y, low_x, high_x

    def contains(self, points_nm: np.ndarray) -> np.ndarray:
        """Return whether each point lies on the support, as (N,) bool.

        A point on the edge of the image belongs to the nearest pixel.
        """
        size = np.array(self.mask.shape)
        corner = check_points(points_nm) / self.pixel_size_nm + 0.5
        near = (corner >= -_ROUNDING_PX) & (corner <= size + _ROUNDING_PX)
        inside = np.asarray(near.all(axis=1))
        # Rounding half up, so that a point on the edge of two pixels belongs to one of them.
        row, column = np.clip(np.floor(corner[inside]).astype(int), 0, size - 1).T
        inside[inside] = self.mask[row, column]
        return inside

    def random(
        self, n: int, rng: np.random.Generator
    ) -> np.ndarray:  # (n, 2): positions (y, x) in nm
        """Draw independent points, uniform on the support."""
        flat = self._pixels[rng.integers(len(self._pixels), size=n)]
        corner = np.stack(np.divmod(flat, self.mask.shape[1]), axis=1) - 0.5
        return np.asarray((corner + rng.random((n, 2))) * self.pixel_size_nm)

    def boundary_nm(self, points_nm: np.ndarray) -> np.ndarray:
        """Return the distance (N,) in nm of points on the support to its boundary.

        The edge of the image belongs to the boundary.
        """
        at = self._coarse_px(points_nm) + 1
        inside = ndimage.map_coordinates(self._boundary_px, at.T, order=1, mode="nearest")
        return np.asarray(np.clip(inside, 0, None) * self._coarse_nm)

    def eroded_area_nm2(self, distance_nm: np.ndarray) -> np.ndarray:
        """Return the area of the support at least ``distance_nm`` from its boundary, in nm²."""
        depth, area = self._eroded_areas
        first = np.searchsorted(depth, np.asarray(distance_nm) / self._coarse_nm - 1e-9)
        return np.asarray(area[first])

    def overlap_nm2(
        self,
        # y_nm, x_nm, each (M,): shifts in nm
        y_nm: np.ndarray,
        x_nm: np.ndarray,
    ) -> np.ndarray:  # (M,): overlap in nm²; 0 for shifts longer than the mask
        """Compute the set covariance: the overlap of the support with its shifted copy."""
        table = self._covariance
        # Opposite shifts have equal overlaps, so the table holds only shifts with y >= 0.
        down = y_nm >= 0
        y = np.abs(y_nm) / self._coarse_nm
        x = np.where(down, x_nm, -x_nm) / self._coarse_nm + table.shape[1] // 2
        y, x = np.minimum(y, table.shape[0] - 1), np.clip(x, 0, table.shape[1] - 1)
        y0 = np.minimum(y.astype(np.intp), table.shape[0] - 2)
        x0 = np.minimum(x.astype(np.intp), table.shape[1] - 2)
        ty, tx = y - y0, x - x0
        flat, corner, width = table.ravel(), y0 * table.shape[1] + x0, table.shape[1]
        near = flat[corner] * (1 - tx) + flat[corner + 1] * tx
        far = flat[corner + width] * (1 - tx) + flat[corner + width + 1] * tx
        return np.asarray(near * (1 - ty) + far * ty)

    # The following use a mask that is averaged over blocks if it is very large.
    @cached_property
    def _block(self) -> int:
        return int(np.ceil(max(self.mask.shape) / MAX_MASK_PX))

    @property
    def _coarse_nm(self) -> float:
        return self.pixel_size_nm * self._block

    @cached_property
    def _coverage(self) -> np.ndarray:
        """Fraction of each block that belongs to the support."""
        return block_coverage(self.mask, self._block)

    def _coarse_px(self, points_nm: np.ndarray) -> np.ndarray:
        return (np.asarray(points_nm, float) / self.pixel_size_nm + 0.5) / self._block - 0.5

    @cached_property
    def _pixels(self) -> np.ndarray:
        return np.flatnonzero(self.mask)

    @cached_property
    def _boundary_px(self) -> np.ndarray:
        """Distance of pixel centres to the boundary in pixels, padded by one pixel."""
        padded = np.pad(self._coverage >= 0.5, 1)
        # The boundary is half a pixel from the last centre inside and from the next centre outside.
        return np.asarray(ndimage.distance_transform_edt(padded) - 0.5)

    @cached_property
    def _eroded_areas(self) -> tuple[np.ndarray, np.ndarray]:
        """Occurring boundary distances in pixels, and the area at least that far inside, in nm²."""
        depth, count = np.unique(self._boundary_px[self._boundary_px > 0], return_counts=True)
        area = np.append(np.cumsum(count[::-1])[::-1], 0) * self._coarse_nm**2
        return depth, area

    @cached_property
    def _covariance(self) -> np.ndarray:
        """Set covariance in nm² at shifts (0 … Y, -X … X) of whole pixels."""
        coverage = self._coverage
        height, width = coverage.shape
        size = [fft.next_fast_len(2 * n + 1, real=True) for n in coverage.shape]
        spectrum = fft.rfft2(coverage, s=size)
        same = fft.irfft2(np.abs(spectrum) ** 2, s=size)[: height + 1]
        same = np.concatenate([same[:, -width:], same[:, : width + 1]], axis=1)
        # Values below the rounding error of the transform are zero.
        return np.asarray(np.where(same < 1e-6, 0, same) * self._coarse_nm**2)


def block_coverage(
    mask: np.ndarray,  # (Y, X), bool: True on the support
    block: int,  # edge length of a block in pixels
) -> np.ndarray:
    """Return the fraction of each block of pixels that belongs to the support.

    The result has shape (ceil(Y / block), ceil(X / block)). Pixels beyond the mask are off the
    support.
    """
    if block == 1:
        return mask.astype(float)
    padded = np.pad(mask, [(0, -n % block) for n in mask.shape])
    height, width = (n // block for n in padded.shape)
    return np.asarray(padded.reshape(height, block, width, block).mean(axis=(1, 3)))


def check_points(points_nm: np.ndarray) -> np.ndarray:
    """Return points as a float array of shape (N, 2).

    Raises `AtomicityError` if the shape differs, or a coordinate is not finite.
    """
    points = np.asarray(points_nm, float)
    if points.size == 0:
        return points.reshape(0, 2)
    if points.ndim != 2 or points.shape[1] != 2:
        raise AtomicityError(f"points have a shape of (N, 2), not {points.shape}")
    if not np.isfinite(points).all():
        raise AtomicityError("positions of atoms are missing or infinite")
    return points


# ---- map of the density of atoms on their support, by a Gaussian kernel with edge correction

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
