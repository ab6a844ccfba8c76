"""Candidate atoms by scale space: the method without a network that others are compared with."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy import ndimage

from napari_atomicity.atoms.finding.candidates import (
    FWHM_PER_SIGMA,
    ScaleSpace,
    find_local_maxima,
    gaussian_blur,
)

_FLOOR = 1e-3


@dataclass(frozen=True)
class CandidateSettings:
    """Settings of the candidate detection; lengths in nm.

    References
    ----------
    .. [1] D. G. Lowe, Int. J. Comput. Vis. 60, 91 (2004).
    """

    fwhm_nm: tuple[float, ...] = (0.17, 0.28)  # full widths at half maximum of atoms: the scales
    # width of the surroundings in which the response is normalised; 0: the Laplacian of Gaussian in
    # units of its standard deviation over the image
    contrast_nm: float = 1.5
    threshold: float = 3.0  # minimum response in these units
    distance_nm: float = 0.2  # minimum distance of two candidates
    # maximum ratio of the two curvatures of a candidate, which rejects edges [1]_
    elongation: float = 4.0


def scale_space_response(
    image: np.ndarray, pixel_size_nm: float, settings: CandidateSettings | None = None
) -> np.ndarray:
    """Compute the maximum response over the scales of atoms at every pixel.

    Scale-normalised Laplacian of Gaussian [1]_ at the widths of atoms, divided by its local root
    mean square. Along an edge of vacuum or a step of thickness both are large.

    Parameters
    ----------
    image : ndarray of float32, shape (Y, X)
        Image, finite.

    Returns
    -------
    ndarray
        (Y, X) float32, in units of the local (without ``contrast_nm``: global) standard deviation.

    References
    ----------
    .. [1] T. Lindeberg, Int. J. Comput. Vis. 30, 79 (1998).
    """
    settings = settings or CandidateSettings()
    spread = float(image.std())
    if not spread > 0:
        return np.zeros(image.shape, np.float32)
    image = ((image - image.mean()) / spread).astype(np.float32)
    sigmas = [fwhm / FWHM_PER_SIGMA / pixel_size_nm for fwhm in settings.fwhm_nm]
    space = ScaleSpace(image, max(sigmas))
    best = np.full(image.shape, -np.inf, np.float32)
    for response in map(space.laplacian, sigmas):
        power = response * response
        if settings.contrast_nm > 0:
            power = np.maximum(gaussian_blur(power, settings.contrast_nm / pixel_size_nm), 0)
        floor = _FLOOR**2 * float((response**2).mean()) + np.finfo(np.float32).tiny
        around = np.maximum(power if settings.contrast_nm > 0 else power.mean(), floor)
        np.maximum(best, response / np.sqrt(around), out=best)
    return best


def find_candidates(
    image: np.ndarray, pixel_size_nm: float, settings: CandidateSettings | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """Detect candidate atoms in scale space, without a network.

    Parameters
    ----------
    image : ndarray of shape (Y, X)
        Image, finite.
    settings : CandidateSettings, optional
        Scales, surroundings, threshold.

    Returns
    -------
    points : ndarray
        (N, 2) positions (y, x) in pixels, sub-pixel.
    response : ndarray
        (N,) in units of the local standard deviation, the highest first.
    """
    settings = settings or CandidateSettings()
    image = np.asarray(image, np.float32)
    response = scale_space_response(image, pixel_size_nm, settings)
    points, height = find_local_maxima(response, settings.distance_nm / pixel_size_nm)
    clear = height >= settings.threshold
    points, height = points[clear], height[clear]
    narrow, wide = (s / FWHM_PER_SIGMA / pixel_size_nm for s in _ends(settings.fwhm_nm))
    is_round = compute_elongations(image, points, 0.5 * (narrow + wide)) <= settings.elongation
    return points[is_round], height[is_round]


def _ends(values: Sequence[float]) -> tuple[float, float]:
    return min(values), max(values)


def compute_elongations(
    image: np.ndarray,  # (Y, X): image, finite
    points: np.ndarray,  # (N, 2): positions (y, x) in pixels
    sigma_px: float,  # standard deviation of the blur
) -> np.ndarray:  # (N,): infinite where the image is not concave in every direction
    """Compute the ratio of the larger to the smaller curvature of the blurred image at points."""
    blurred = ndimage.gaussian_filter(image - image.mean(), sigma_px, mode="reflect")
    place = np.clip(points.round().astype(int), 0, np.array(image.shape) - 1)

    def at(dy: int, dx: int) -> np.ndarray:
        near = np.clip(place + np.array([dy, dx]), 0, np.array(image.shape) - 1)
        return np.asarray(blurred[tuple(near.T)], float)

    step = max(1, round(sigma_px / 2))
    yy = at(step, 0) - 2 * at(0, 0) + at(-step, 0)
    xx = at(0, step) - 2 * at(0, 0) + at(0, -step)
    xy = (at(step, step) - at(step, -step) - at(-step, step) + at(-step, -step)) / 4
    middle, spread = (yy + xx) / 2, np.hypot((yy - xx) / 2, xy)
    with np.errstate(divide="ignore", invalid="ignore"):
        ratio = (middle - spread) / (middle + spread)
    return np.where(middle + spread < 0, ratio, np.inf)
