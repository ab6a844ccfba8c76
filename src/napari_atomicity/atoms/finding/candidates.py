"""Candidate atoms: local contrast and its scale space in nm.

Black level, thickness and counts differ within and between images, so that the intensity alone does
not identify atoms. Local contrast does: the difference from the surroundings relative to their
standard deviation.
"""

from __future__ import annotations

import os

import numpy as np
from scipy import fft, ndimage
from scipy.spatial import KDTree

from ...detection.background import block_mean, enlarge


# ---- scale space by Fourier transform: the computing time does not depend on the scale
class ScaleSpace:
    """Gaussian scale space of one frame."""

    def __init__(
        self,
        frame: np.ndarray,  # (Y, X), float32, finite
        reach_px: float,  # largest sigma used; the frame is mirrored accordingly beyond its edges
    ) -> None:
        self._shape = frame.shape
        pad = [min(int(np.ceil(4 * reach_px)), n - 1) for n in frame.shape]
        full = [
            fft.next_fast_len(n + 2 * p, real=True) for n, p in zip(frame.shape, pad, strict=True)
        ]
        width = [(p, f - n - p) for n, p, f in zip(frame.shape, pad, full, strict=True)]
        mirrored = np.pad(
            frame.astype(np.float32), width, mode="reflect" if min(frame.shape) > 1 else "edge"
        )
        self._crop = tuple(slice(p, p + n) for n, p in zip(frame.shape, pad, strict=True))
        self._full = full
        self._workers = min(4, os.cpu_count() or 1)
        self._spectrum = fft.rfft2(mirrored, workers=self._workers)
        ky = (2 * np.pi * fft.fftfreq(full[0])).astype(np.float32)
        kx = (2 * np.pi * fft.rfftfreq(full[1])).astype(np.float32)
        self._ky2, self._kx2 = (ky**2)[:, None], (kx**2)[None]

    def _inverse(self, transfer: np.ndarray) -> np.ndarray:
        image = fft.irfft2(self._spectrum * transfer, s=self._full, workers=self._workers)
        return np.asarray(image[self._crop], dtype=np.float32)

    def _gaussian_transfer(self, sigma_px: float) -> np.ndarray:
        half = -0.5 * sigma_px**2
        transfer: np.ndarray = np.exp(half * self._ky2) * np.exp(half * self._kx2)
        return transfer

    def laplacian(self, sigma_px: float) -> np.ndarray:
        """Return the scale-normalised negative Laplacian of Gaussian: positive at bright blobs.

        The factor sigma² makes scales comparable (Lindeberg, Int. J. Comput. Vis. 30, 79 (1998)); a
        disc of radius r responds most strongly at sigma = r / sqrt(2).
        """
        k2 = self._ky2 + self._kx2
        return self._inverse(sigma_px**2 * k2 * self._gaussian_transfer(sigma_px))


CONTRAST_WIDTHS_NM = ((0.25, 0.8), (0.8, 2.0))
"""Standard deviations of the background and of the window of the local variance, per channel."""
FWHM_PER_SIGMA = 2.3548
_FLOOR = 1e-3
_COARSE = 5.0


def gaussian_blur(
    image: np.ndarray,  # (Y, X), float32: image, finite
    sigma_px: float,  # standard deviation
) -> np.ndarray:  # (Y, X): blurred image
    """Apply a Gaussian blur; a wide one on block means, which is faster."""
    factor = max(1, min(int(sigma_px / _COARSE), min(image.shape) // 4))
    if factor == 1:
        return np.asarray(ndimage.gaussian_filter(image, sigma_px, mode="reflect", truncate=3))
    coarse = block_mean(image, factor)
    wide = ndimage.gaussian_filter(coarse, sigma_px / factor, mode="reflect", truncate=3)
    return enlarge(wide, image.shape, (factor, factor))


def local_contrast(
    image: np.ndarray, pixel_size_nm: float, background_nm: float, window_nm: float
) -> np.ndarray:
    """Compute (I - local mean) / local root mean square of the difference.

    As in [1]_, with Gaussian windows of different widths for mean and deviation.

    Parameters
    ----------
    image : ndarray of float32, shape (Y, X)
        Image, finite.
    background_nm, window_nm : float
        Standard deviations of the windows.

    Returns
    -------
    ndarray
        (Y, X) float32, without unit; 0 where the image is constant.

    References
    ----------
    .. [1] K. Jarrett et al., "What is the best multi-stage architecture for object recognition?",
       ICCV 2009.
    """
    rest = image - gaussian_blur(image, background_nm / pixel_size_nm)
    power = np.maximum(gaussian_blur(rest * rest, window_nm / pixel_size_nm), 0)
    # The floor avoids amplification of the vacuum of an image without noise.
    floor = _FLOOR * float(np.sqrt(power.mean())) + np.finfo(np.float32).tiny
    return np.asarray(rest / np.maximum(np.sqrt(power), floor), np.float32)


def level(image: np.ndarray) -> np.ndarray:
    """Normalise the image by its percentiles: 0 at the median, towards ±1 at the extremes."""
    low, middle, high = np.percentile(image[::2, ::2], (5, 50, 95))
    spread = max(float(high - low), np.finfo(np.float32).tiny)
    return np.asarray(np.tanh(1.5 * (image - middle) / spread), np.float32)


def contrast_channels(
    image: np.ndarray,  # (Y, X), float32, finite
    pixel_size_nm: float,
) -> np.ndarray:  # (3, Y, X), float32
    """Compute the input of the network: local contrast at two widths, and the intensity level."""
    scale = float(np.abs(image - image.mean()).max(initial=0.0))
    if not scale > 0:
        return np.zeros((3, *image.shape), np.float32)
    image = ((image - image.mean()) / scale).astype(np.float32)  # squares stay in float32
    contrast = [local_contrast(image, pixel_size_nm, *w) for w in CONTRAST_WIDTHS_NM]
    return np.stack([*contrast, level(image)])


def find_local_maxima(scores: np.ndarray, distance_px: float) -> tuple[np.ndarray, np.ndarray]:
    """Find local maxima that are at least ``distance_px`` apart.

    Positions are refined by a parabola through a maximum and its neighbours. A plateau gives its
    first pixel only.

    Parameters
    ----------
    scores : ndarray of shape (Y, X)
        Map to search.
    distance_px : float
        Minimum distance of two maxima.

    Returns
    -------
    points : ndarray of shape (N, 2)
        Positions (y, x) in pixels, the highest first.
    height : ndarray of shape (N,)
        Values at the maxima.
    """
    reach = int(distance_px)
    y, x = np.mgrid[-reach : reach + 1, -reach : reach + 1]
    disc = y**2 + x**2 <= distance_px**2
    top = ndimage.maximum_filter(scores, footprint=disc, mode="nearest") == scores
    top &= scores > scores.min(initial=np.inf)
    points = np.argwhere(top)
    height = scores[top]
    order = np.argsort(-height, kind="stable")
    points, height = points[order], height[order]
    keep = select_distant(points, distance_px)
    points, height = points[keep], height[keep]
    return points + _refine_maxima(scores, points), height


def select_distant(points: np.ndarray, distance_px: float) -> np.ndarray:
    """Return (N,) bool: no earlier kept point is closer than ``distance_px``."""
    keep = np.ones(len(points), bool)
    if len(points) < 2:
        return keep
    pairs = KDTree(points).query_pairs(distance_px, output_type="ndarray")
    for first, second in pairs[np.lexsort((pairs[:, 1], pairs[:, 0]))]:
        if keep[first]:
            keep[second] = False
    return keep


def _refine_maxima(scores: np.ndarray, points: np.ndarray) -> np.ndarray:
    """Return (N, 2) sub-pixel offsets by parabolas, at most half a pixel."""
    offset = np.zeros((len(points), 2))
    for axis in range(2):
        step = np.eye(2, dtype=int)[axis]
        low, high = (np.clip(points + s * step, 0, np.array(scores.shape) - 1) for s in (-1, 1))
        here, before, after = (scores[tuple(p.T)].astype(float) for p in (points, low, high))
        bend = before - 2 * here + after
        with np.errstate(divide="ignore", invalid="ignore"):
            offset[:, axis] = np.where(bend < 0, 0.5 * (before - after) / bend, 0.0)
    return np.clip(offset, -0.5, 0.5)
