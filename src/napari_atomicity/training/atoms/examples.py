"""Training examples: varied parts of labelled images, and simulated fields."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy import ndimage

from ...atoms.finding.candidates import contrast_channels
from ...atoms.finding.card import SAMPLING_NM
from ...atoms.injected_spots import spot_windows
from ...statistics.points.nearest_neighbours import nearest_neighbours
from .settings import AtomTrainingSettings

_TARGET_REACH = 4.0
_VALLEY_RATIO = 3.5


@dataclass(frozen=True, eq=False)
class TrainingExample:
    """A source of crops: channels (C, Y, X), target (Y, X) and weight (Y, X)."""

    channels: np.ndarray
    target: np.ndarray
    weight: np.ndarray


def make_example(
    image: np.ndarray,
    points: np.ndarray,
    settings: AtomTrainingSettings,
    rng: np.random.Generator | None = None,
    certainty: np.ndarray | None = None,
) -> TrainingExample:
    """Compute channels and target of an image.

    Parameters
    ----------
    image : ndarray of shape (Y, X)
        Image at the common sampling.
    points : ndarray of shape (N, 2)
        Marks (y, x) in pixels.
    settings : AtomTrainingSettings
        Settings of the training.
    rng : numpy.random.Generator, optional
        With it, the image is varied as if recorded under other conditions.
    certainty : ndarray of shape (N,), optional
        Certainty of each mark from 0 to 1; by default all are certain.

    Returns
    -------
    TrainingExample
        Channels, target and weight.
    """
    inside = np.ones(image.shape, bool)
    if rng is not None:
        if rng.random() < 0.6 * settings.strength:
            angle = rng.uniform(0, 2 * np.pi) if rng.random() < 0.4 else 0.0
            scale = np.exp(rng.uniform(*settings.scale))
            image, points, inside = rotate_and_scale(image, points, angle, scale)
        image = vary_imaging(image, rng, settings)
    target = make_target(image.shape, points, settings.spot_nm / SAMPLING_NM, certainty)
    return TrainingExample(
        contrast_channels(image, SAMPLING_NM).astype(np.float16),
        target.astype(np.float16),
        inside,
    )


def make_target(
    shape: tuple[int, int],
    points: np.ndarray,
    sigma_px: float,
    heights: np.ndarray | None = None,
) -> np.ndarray:
    """Draw Gaussians on points, with the maximum where they overlap.

    Close points have narrower Gaussians, so that there is a valley between them.

    Parameters
    ----------
    shape : tuple of int
        Height and width in pixels.
    points : ndarray of shape (N, 2)
        Positions (y, x) in pixels.
    sigma_px : float
        Standard deviation in pixels.
    heights : ndarray of shape (N,), optional
        Height of each Gaussian; by default 1.

    Returns
    -------
    ndarray of shape (Y, X)
        Target, float32.
    """
    out = np.zeros(shape, np.float32)
    sigmas = np.clip(
        np.nan_to_num(nearest_neighbours(points) / _VALLEY_RATIO, nan=sigma_px),
        sigma_px / 2,
        sigma_px,
    )
    reach = int(np.ceil(_TARGET_REACH * sigma_px))
    heights = np.ones(len(points)) if heights is None else heights
    windows = zip(spot_windows(out, points, reach), sigmas, heights, strict=True)
    for (part, squared), own, height in windows:
        np.maximum(part, height * np.exp(-squared / (2 * own**2)), out=part)
    return out


def vary_imaging(
    image: np.ndarray, rng: np.random.Generator, settings: AtomTrainingSettings
) -> np.ndarray:
    """Vary an image as if recorded under other conditions; atoms keep their positions.

    Blur, contrast, slow background, thickness steps, jumps half-way through the scan, offsets and
    noise of rows, white and correlated noise, each with some probability.

    Parameters
    ----------
    image : ndarray of shape (Y, X)
        Image at the common sampling.
    rng : numpy.random.Generator
        Source of random numbers.
    settings : AtomTrainingSettings
        Strength of the variation.

    Returns
    -------
    ndarray of shape (Y, X)
        Varied image, float32.
    """
    strength = settings.strength
    height, width = image.shape
    low, high = np.percentile(image[::4, ::4], (0.5, 99.5))
    span = max(float(high - low), 1e-12)
    out = (image - low) / span
    fine = out - ndimage.gaussian_filter(out, 2.0)
    noise = 1.4826 * float(np.median(np.abs(fine[::2, ::2])))
    blur = float(np.exp(rng.uniform(*settings.blur))) if rng.random() < 0.5 * strength else 0.0
    if blur:  # the probe is wider, the noise is not: some of it comes back below
        out = ndimage.gaussian_filter(out, blur)
    if rng.random() < 0.4 * strength:
        gamma = np.exp(rng.uniform(-0.45, 0.45))
        out = np.sign(out) * np.abs(out) ** gamma
    if rng.random() < 0.3 * strength:
        y, x = np.mgrid[0 : 1 : height * 1j, 0 : 1 : width * 1j].astype(np.float32)
        gradient = rng.normal(0, 0.3, 2)
        out = out + gradient[0] * y + gradient[1] * x
    if rng.random() < 0.15 * strength:
        y, x = np.mgrid[-1 : 1 : height * 1j, -1 : 1 : width * 1j].astype(np.float32)
        angle, place = rng.uniform(0, 2 * np.pi), rng.uniform(-0.6, 0.6)
        edge = np.tanh((np.cos(angle) * x + np.sin(angle) * y - place) * rng.uniform(3, 40))
        out = out + rng.uniform(0.05, 0.5) * edge
    if rng.random() < 0.1 * strength:
        out = out.copy()
        out[rng.integers(0, height) :] *= rng.uniform(0.7, 1.4)
    if rng.random() < 0.4 * strength:
        rows = rng.normal(0, noise * rng.uniform(0, 0.6), (height, 1))
        out = out + (ndimage.gaussian_filter1d(rows, 0.7, axis=0) if rng.random() < 0.5 else rows)
    if blur or rng.random() < 0.5 * strength:
        white = rng.standard_normal(image.shape, dtype=np.float32)
        if rng.random() < 0.4:
            white = ndimage.gaussian_filter(white, s := rng.uniform(0.5, 1.5)) * (2 * s + 0.5)
        out = out + noise * rng.uniform(0, 1.0) * white
    return np.asarray(out, np.float32)


def rotate_and_scale(
    image: np.ndarray, points: np.ndarray, angle: float, scale: float
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Rotate and scale an image and its points about the centre.

    Parameters
    ----------
    image : ndarray of shape (Y, X)
        The image.
    points : ndarray of shape (N, 2)
        Positions (y, x) in pixels.
    angle : float
        Angle in rad.
    scale : float
        Magnification.

    Returns
    -------
    image : ndarray of shape (Y', X')
        Transformed image.
    points : ndarray of shape (N, 2)
        Transformed positions.
    inside : ndarray of shape (Y', X')
        True where the original image has pixels.
    """
    height, width = image.shape
    shape = round(height * scale), round(width * scale)
    cos, sin = np.cos(angle) / scale, np.sin(angle) / scale
    matrix = np.array([[cos, -sin], [sin, cos]])  # new to old, (y, x)
    centre_new, centre_old = (np.array(shape) - 1) / 2, (np.array(image.shape) - 1) / 2
    offset = centre_old - matrix @ centre_new
    turned_image = ndimage.affine_transform(
        image, matrix, offset, output_shape=shape, order=1, mode="mirror"
    )
    inside = np.ones(shape, bool)
    yy, xx = np.ogrid[: shape[0], : shape[1]]
    for row in range(2):
        old = matrix[row, 0] * yy + matrix[row, 1] * xx + offset[row]
        inside &= (old >= 0) & (old <= image.shape[row] - 1)
    new = (points - offset) @ np.linalg.inv(matrix).T
    return turned_image, new, inside


def simulate_field_of_atoms(size: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Simulate atoms on amorphous carbon: an image (size, size), and the atoms visible in it.

    The support is white noise, blurred as the probe blurs the atoms of the carbon, with slow
    relief; with counting noise, noise of the rows, and at times vacuum.
    """

    def textured(sigma_nm: float) -> np.ndarray:
        t = ndimage.gaussian_filter(
            rng.standard_normal((size, size), dtype=np.float32), sigma_nm / SAMPLING_NM, mode="wrap"
        )
        return t / t.std()

    sigma = rng.uniform(0.05, 0.1)
    support = 1 + 0.35 * rng.uniform(0.3, 1.5) * textured(rng.uniform(1, 3))
    support += rng.uniform(0.03, 0.1) * textured(sigma) + rng.uniform(0.02, 0.1) * textured(0.25)
    if rng.random() < 0.3:
        y, x = np.mgrid[-1 : 1 : size * 1j, -1 : 1 : size * 1j]
        a = rng.uniform(0, 2 * np.pi)
        edge = np.cos(a) * x + np.sin(a) * y + 0.1 * textured(1.0) - rng.uniform(-0.2, 0.8)
        support = support * (1 - 1 / (1 + np.exp(-edge * 30)))
    count = rng.poisson(rng.uniform(0.1, 0.6) * (size * SAMPLING_NM) ** 2)
    points = rng.uniform(0, size - 1, (count, 2))
    clustered = rng.random(count) < rng.uniform(0, 0.5)
    if count > 3:
        centres = points[rng.integers(0, count, count)]
        near = centres + rng.normal(0, 0.3 / SAMPLING_NM, (count, 2))
        points = np.where(clustered[:, None], near, points)
        points = points[((points >= 0) & (points <= size - 1)).all(1)]
    amplitude = rng.uniform(0.15, 0.5) * np.exp(rng.normal(0, 0.3, len(points)))
    amplitude = amplitude * (support[tuple(points.round().astype(int).T)] > 0.25)
    peaks = np.zeros((size, size), np.float32)
    reach = int(4 * sigma / SAMPLING_NM) + 1
    for (py, px), a in zip(points, amplitude, strict=True):
        y0, x0 = max(0, int(py) - reach), max(0, int(px) - reach)
        part = peaks[y0 : int(py) + reach + 1, x0 : int(px) + reach + 1]
        dy = np.arange(y0, y0 + part.shape[0])[:, None] - py
        dx = np.arange(x0, x0 + part.shape[1])[None] - px
        part += a * np.exp(-(dy**2 + dx**2) / (2 * (sigma / SAMPLING_NM) ** 2))
    noise = rng.uniform(0.04, 0.2)
    image = support + peaks
    image = image + noise * np.sqrt(np.maximum(image, 0.05)) * rng.standard_normal(image.shape)
    image += rng.uniform(0, 0.3) * noise * rng.standard_normal((size, 1))
    visible = amplitude > 1.2 * noise
    return image.astype(np.float32), points[visible]
