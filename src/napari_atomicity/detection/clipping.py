"""Limits of the recorded range of a frame: clipped pixels, and grey levels that are not linear.

Pixels above the range of the file have its largest value, as after a stretch to 8 bits
that saturates 0.35 % of the pixels. It shows as a spike at the end of the histogram. Such a pixel
is a lower bound. The tail of the histogram below the limit falls nearly exponentially, so the mean
intensity above the limit follows from the number of clipped pixels and the density of the
histogram below it; pixels among many clipped ones are further above the limit (the excess goes as
the square root of the local density of clipped pixels). On 12 simulated fields with 0.35 % of the
pixels clipped at each end, clusters lose 3 to 8 % of their intensity. After the correction, the
intensity relative to the image as recorded scatters by 1 to 2 % (3 % after JPEG), by class by less
than 0.8 % on average; about 0.12 times the fraction of clipped pixels of a cluster.

References
----------
A tail that falls exponentially has a constant mean excess over any limit: J. Pickands, "Statistical
inference using extreme order statistics", Annals of Statistics 3, 119-131 (1975).
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from ..core.micrograph import Micrograph
from .filters import gaussian, reach

MIN_CLIPPED = 10
"""Number of pixels at the limit below which a frame is not clipped."""
SPIKE = 2.5
"""Pixels at the limit relative to those of any other value near it: less is no clipping. It is 1
at most in 96 simulated fields as recorded, and 3.5 at least in their copies in 8 bits."""
BAND = 0.1
"""Width of the range below the limit that is near it and gives the density, relative to limit
minus mean."""
MAX_EXCESS = 1.0
"""Largest mean excess, relative to limit minus mean."""
SOLID = 0.9
"""Mean root density above which nothing is estimated: scale bars, captions, saturated areas."""
DENSITY_SIGMA_NM = 0.08
"""Blur that gives the local density of clipped pixels."""
MIN_FLOOR = 0.02
"""Fraction of pixels at the lower limit from which the level of the support is uncertain."""
_BINS = 20  # of a hundredth of limit minus mean, to find where a blurred spike starts
_MIN_LEVEL_COUNT = 50  # pixels of a level of 8 bits that is certainly used


@dataclass(frozen=True)
class Clipping:
    """Upper limit of the recorded range."""

    limit: float  # pixels of at least this value are clipped, in counts
    fraction: float  # fraction of the pixels of the frame that are clipped
    excess: float  # mean intensity that clipped pixels have lost, in counts
    # mean over clipped pixels of the square root of the local density of clipped pixels
    mean_root_density: float


@dataclass(frozen=True)
class Extremes:
    """Extremes of the finite pixels of a frame, and the numbers of pixels that have them."""

    low: float
    high: float
    n_low: int
    n_high: int
    mean: float
    n: int


def find_extremes(micrograph: Micrograph, index: int) -> Extremes:
    """Find the extremes of a frame."""
    low, high, n_low, n_high, total, n = np.inf, -np.inf, 0, 0, 0.0, 0
    for part in micrograph.strips(index):
        least, most = float(part.min()), float(part.max())
        if not np.isfinite(least + most):
            part = part[np.isfinite(part)]
            if not part.size:
                continue
            least, most = float(part.min()), float(part.max())
        if least <= low:
            n_low = (n_low if least == low else 0) + int(np.count_nonzero(part == least))
        if most >= high:
            n_high = (n_high if most == high else 0) + int(np.count_nonzero(part == most))
        low, high = min(low, least), max(high, most)
        total, n = total + float(part.sum(dtype=float)), n + part.size
    return Extremes(low, high, n_low, n_high, total / max(1, n), n)


def _near(micrograph: Micrograph, index: int, low: float, high: float) -> np.ndarray:
    """Return all pixels between two values, the ends included."""
    return np.concatenate(
        [part[(part >= low) & (part <= high)] for part in micrograph.strips(index)]
    )


def find_clipping(
    micrograph: Micrograph,  # a calibrated image or stack
    index: int,
    ends: Extremes,
) -> Clipping | None:  # None if no spike is at the end of the histogram
    """Find the upper limit of the recorded range."""
    height = ends.high - ends.mean
    near = _near(micrograph, index, ends.high - 2 * BAND * height, ends.high)
    below = near[near < ends.high]
    next_to_it = below[below >= ends.high - BAND * height]
    most = int(np.unique(next_to_it, return_counts=True)[1].max()) if next_to_it.size else 0
    if ends.n_high < SPIKE * most:
        return None
    limit = ends.high - _spike_width(below, ends.high, height)
    n_clipped = int(np.count_nonzero(near >= limit))
    n_band = int(np.count_nonzero((near >= limit - BAND * height) & (near < limit)))
    excess = BAND * height * n_clipped / n_band if n_band else 0.0
    roots = [
        np.sqrt(density[inside])
        for part in micrograph.strips(index)
        for inside, density in [clipped_density(part, limit, micrograph.calibrated())]
    ]
    root = float(np.concatenate(roots).mean())
    excess = min(excess, MAX_EXCESS * height) if root <= SOLID else 0.0
    return Clipping(limit, n_clipped / ends.n, excess, root)


def _spike_width(below: np.ndarray, high: float, height: float) -> float:
    """Return the width of the spike below the largest value: lossy compression blurs it."""
    step = 0.5 * BAND / (_BINS / 4) * height  # a hundredth
    number = np.floor((high - below) / step).astype(int)
    counts = np.bincount(number, minlength=_BINS)[:_BINS]
    usual = max(1.0, float(np.median(counts[_BINS // 2 :])))
    width = 0
    while width < _BINS // 4 and counts[width] > 2 * usual:
        width += 1
    return width * step


def clipped_density(
    part: np.ndarray,  # (Y, X): recorded pixels
    limit: float,  # pixels of at least this value are clipped
    pixel_nm: float,
) -> tuple[np.ndarray, np.ndarray]:
    """Return which pixels are clipped and the local density of such pixels, both (Y, X)."""
    inside = np.asarray(part >= limit)
    if not inside.any():
        return inside, inside.astype(np.float32)
    sigma = DENSITY_SIGMA_NM / pixel_nm
    padded = np.pad(inside.astype(np.float32), reach(sigma), mode="symmetric")
    return inside, gaussian(padded, sigma)


def restore_clipped(
    part: np.ndarray,  # (Y, X): recorded pixels
    clipping: Clipping,  # upper limit of the range
    pixel_nm: float,
) -> np.ndarray:  # (Y, X)
    """Return the pixels with an estimate of what clipped ones have lost."""
    inside, density = clipped_density(part, clipping.limit, pixel_nm)
    if not inside.any():
        return part
    root = np.sqrt(density[inside]) / np.float32(clipping.mean_root_density)
    out = part.copy()
    out[inside] = np.float32(clipping.limit) + np.float32(clipping.excess) * root
    return out


def fraction_at_floor(
    micrograph: Micrograph,  # a calibrated image or stack
    index: int,
    ends: Extremes,
) -> float:
    """Return the fraction of pixels at the lower limit if they are a spike, otherwise 0.

    Few counted electrons have many zeros, but then the histogram falls from there on.
    """
    if ends.n_low < MIN_FLOOR * ends.n:
        return 0.0
    near = _near(micrograph, index, ends.low, ends.mean)
    above = near[near > ends.low]
    counts = np.unique(above, return_counts=True)[1] if above.size else np.zeros(1)
    most, first = counts.max(), counts[0]
    is_spike = ends.n_low >= SPIKE * most or (ends.n_low >= 1.5 * first and most > first)
    return ends.n_low / ends.n if is_spike else 0.0


def is_nonlinear(
    micrograph: Micrograph,  # a calibrated image or stack
    index: int,
    ends: Extremes,
) -> bool:
    """Return whether the gaps between the used levels of 8 bits differ, as after a gamma.

    A linear stretch of consecutive levels leaves gaps that differ by one level at most.
    """
    if ends.low < 0 or ends.high > 255 or ends.high < 64:
        return False
    counts = np.zeros(256, np.int64)
    for part in micrograph.strips(index):
        part = part[np.isfinite(part)]
        whole = part.astype(np.uint8)
        if (whole != part).any():
            return False
        counts += np.bincount(whole, minlength=256)
    inner_levels = np.flatnonzero(counts[1:-1] >= _MIN_LEVEL_COUNT) + 1
    rare = (counts > 0) & (counts < _MIN_LEVEL_COUNT)
    if len(inner_levels) < 8:
        return False
    between = slice(inner_levels[0], np.flatnonzero(rare)[-1] if rare.any() else 255)
    used = inner_levels[inner_levels < between.stop]
    gaps = np.diff(used)
    empty = [not counts[a + 1 : b].any() for a, b in pairwise(used)]
    gaps = gaps[np.array(empty, bool)] if len(gaps) else gaps
    return bool(len(gaps) >= 8 and gaps.max() - gaps.min() >= 2)
