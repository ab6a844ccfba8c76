"""Counting by the atom's own yardstick: n = intensity of a cluster / intensity of one atom.

The single atoms of an image calibrate its detector. Gain, dose and black level, which no file
knows, drop out, and so does the element. What remains to be done right:

**The same convention for both.** `integrate` sums what a region holds above the mean level of the
ring around it, known atoms and clusters left out of the ring. The mean, not the median: counts of
few electrons are skewed, and a mean takes atoms that nobody sees off region and ring alike. What
the probe spreads beyond the region is added by a Gaussian of the atoms' own width, and for what is
no Gaussian in it by a constant (`TAILS`).

**The mean of the atoms, not their median.** A cluster's intensity is a sum, and the mean is what
sums. But who averages over the atoms that a detector is sure of averages over bright ones. So all
candidates have a say. Each is an atom with the probability p that the detector gives; intensities
of atoms and of what is none are two normal distributions whose means go with logit p; EM finds
both, and with them how likely each candidate is an atom given its p *and* its intensity. The mean
over all candidates with these weights is the yardstick. A table that holds only what is above some
threshold gives a yardstick that is too long, and counts that are too low, by about what is missing.

**Better: atoms that were put into the image.** The detector's p are those of other images, and
where atoms are dimmer than there, dim ones count too little. If atoms were added to the image
(`atoms.completeness`) the mean atom is that of the density that was found with them, and its error
too. In simulated fields it is off by some 5 % where the candidates' own mean is 7 to 50 % too long.

**Alone.** A candidate counts by the probability that no other atom is within `ALONE_NM`, and not
at all in or near a cluster.

The interval of a count holds: the error of the yardstick (bootstrap over the candidates; an atom
scatters by about 35 %, so 45 of them fix it to 5 to 6 %; and `SELECTION`, for dim ones), the
scatter of the cluster's own n atoms, the noise of its background (regions of that size where
nothing is), `SYSTEMATIC` for the tails of the probe, and, at the lower end, channelling: atoms in
line focus the beam, and an aligned cluster is up to some `CHANNELLING` too bright.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import pandas as pd
from scipy import ndimage
from scipy.optimize import curve_fit
from scipy.spatial import KDTree
from scipy.special import expit, logit
from scipy.stats import norm
from skimage.draw import polygon2mask

from ..detection.background import without_gaps
from ..detection.outlines import TAIL_NM
from ..micrograph import Micrograph
from ..statistics.scores import atoms_of
from .localisation import SIGMA_NM, SIGMA_RANGE_NM

if TYPE_CHECKING:
    from .completeness import Completeness

APERTURE_NM = 0.2
"""Radius of the disc of an atom: wider ones hold more of the probe's tails and much more noise."""
RING_NM = 0.6
"""Width of the ring around a region that gives its background."""
ALONE_NM = 0.5
"""No other atom is nearer to an atom of the yardstick."""
NEAR_CLUSTER_NM = 0.5
"""How far beyond the outline of a cluster nothing is taken for a lone atom."""
SPOT_NM = 0.25
"""Radius around a likely atom that is left out of the rings of others."""
PROFILE_NM = 0.35
"""Radius up to which the mean atom is looked at."""
LIKELY = 0.5
"""Probability from which on a candidate is left out of the rings of others."""
LEAST_ATOMS = 10
"""Lone atoms that a yardstick needs."""
CENSUS_ERROR = 0.05
"""Relative error that the mean atom of `atoms.completeness` has besides its own: in simulated
fields it is off by about that in the mean."""
LEAST_SURE = 0.4
"""Share of the lone atoms that the detector must be sure of (`LIKELY`): what it says of the rest,
the dim ones, has to be anchored somewhere."""
SELECTION = 0.12
"""Relative error of the yardstick for each atom that the detector is not sure of, as a share of
all: about what the mean over all candidates is off in simulated fields."""
MOST_ERROR = 0.3
"""Relative error from which on a yardstick is none."""
USUAL_SCATTER, TIE = 0.35, 30.0
"""Relative standard deviation of the intensities of single atoms in real images, and the number
of atoms that it takes to move it half way to the image's own."""
TAILS, SYSTEMATIC = 1.045, 0.03
"""By how much a lone atom is brighter, relative to a cluster, than the Gaussian makes believe, and
the relative error of that: median and half the middle 90 % over probes of 80 to 300 kV, convergent
by 18 to 30 mrad and out of focus by 6 nm (standard deviation), as the simulation draws them."""
CHANNELLING = 0.1
"""By how much atoms in line can brighten a cluster."""
COLUMNS = ("n_yardstick", "n_yardstick_low", "n_yardstick_high")
_RESAMPLES = 60
_BLANKS = 150
_BLANK_RADII_NM = (0.2, 0.3, 0.45)


@dataclass(frozen=True)
class Yardstick:
    """What one atom gives in one frame.

    Parameters
    ----------
    intensity
        Of one atom, tails included: counts times nm². NaN if it can't be had.
    error
        Its relative standard error.
    scatter
        Relative standard deviation of the atoms about it, without the noise of the background.
    sigma_nm
        Width of the Gaussian that stands for the probe.
    n_atoms
        Number of lone atoms, an effective one: candidates count by their weights.
    blank
        Standard deviation of empty discs of `_BLANK_RADII_NM`: counts times nm².
    reason
        Why there is none; "" where there is one.
    """

    intensity: float
    error: float
    scatter: float
    sigma_nm: float
    n_atoms: float
    blank: tuple[float, ...]
    reason: str = ""

    def noise(self, area_nm2: float) -> float:
        """Standard deviation of the background in a region of that area, counts times nm².

        A power of the radius through the empty discs, between that of white noise (1) and that of
        a level that is wrong all over (2).
        """
        radii, blank = np.array(_BLANK_RADII_NM), np.array(self.blank)
        good = np.isfinite(blank) & (blank > 0)
        if not good.any():
            return float("nan")
        radii, blank = radii[good], blank[good]
        power = np.log(blank[-1] / blank[0]) / np.log(radii[-1] / radii[0]) if len(radii) > 1 else 1
        radius = np.sqrt(area_nm2 / np.pi)
        return float(blank[-1] * (radius / radii[-1]) ** np.clip(power, 1, 2))


# ---- integration


def integrate(
    pixels: np.ndarray,
    pixel_size_nm: float,
    positions: np.ndarray,
    radius_nm: float = APERTURE_NM,
    sources: np.ndarray | None = None,
) -> np.ndarray:
    """Intensity of discs above the mean level of the ring around each.

    Parameters
    ----------
    pixels
        (Y, X), finite.
    pixel_size_nm
        Edge length of a pixel.
    positions
        (N, 2) centres (y, x) in pixels.
    radius_nm
        Of the discs.
    sources
        (Y, X) bool: what is left out of the rings.

    Returns
    -------
    ndarray
        (N,) counts times nm²; NaN where the disc is cut by the border, or where hardly anything of
        the ring is left.
    """
    positions = np.asarray(positions, float).reshape(-1, 2)
    half = int(np.ceil((radius_nm + RING_NM) / pixel_size_nm))
    found = np.full(len(positions), np.nan)
    for i, centre in enumerate(positions):
        if not np.isfinite(centre).all():
            continue
        corner = np.rint(centre).astype(int)
        window = _window(corner - half, corner + half + 1, pixels.shape)
        y, x = (np.arange(s.start, s.stop) for s in window)
        distance = np.hypot((y - centre[0])[:, None], x - centre[1]) * pixel_size_nm
        cut = (centre - radius_nm / pixel_size_nm < -0.5).any() or (
            centre + radius_nm / pixel_size_nm > np.array(pixels.shape) - 0.5
        ).any()
        if not cut:
            other = None if sources is None else sources[window]
            found[i] = _above_ring(
                pixels[window], distance <= radius_nm, distance - radius_nm, other
            )
    return found * pixel_size_nm**2


class Region(NamedTuple):
    """Pixels of a frame: those of a window (two slices) that are ``inside`` (h, w) bool."""

    window: tuple[slice, ...]
    inside: np.ndarray

    @classmethod
    def of(cls, mask: np.ndarray, corner: Sequence[int] = (0, 0)) -> Region:
        """What is true in a mask whose first pixel is the frame's ``corner``, as small as it is."""
        if not mask.any():
            return cls((slice(0, 0), slice(0, 0)), np.zeros((0, 0), bool))
        box = ndimage.find_objects(mask.astype(np.uint8))[0]
        window = tuple(
            slice(int(s.start + c), int(s.stop + c)) for s, c in zip(box, corner, strict=True)
        )
        return cls(window, mask[box])

    def widened(self, margin: int, shape: tuple[int, ...]) -> Region:
        """The same pixels in a window with a margin, as far as the frame reaches."""
        low = np.array([s.start for s in self.window])
        high = np.array([s.stop for s in self.window])
        window = _window(low - margin, high + margin, shape)
        inside = np.zeros([s.stop - s.start for s in window], bool)
        inside[
            tuple(
                slice(own.start - wide.start, own.stop - wide.start)
                for own, wide in zip(self.window, window, strict=True)
            )
        ] = self.inside
        return Region(window, inside)


def integrate_regions(
    pixels: np.ndarray,
    pixel_size_nm: float,
    regions: Sequence[Region],
    sources: np.ndarray | None = None,
) -> np.ndarray:
    """As `integrate`, of regions of any shape, each with `TAIL_NM` around it."""
    found = np.full(len(regions), np.nan)
    margin = int(np.ceil((TAIL_NM + RING_NM) / pixel_size_nm)) + 1
    for i, region in enumerate(regions):
        if not region.inside.any():
            continue
        window, inside = region.widened(margin, pixels.shape)
        distance = ndimage.distance_transform_edt(~inside) * pixel_size_nm - TAIL_NM
        other = None if sources is None else sources[window]
        found[i] = _above_ring(pixels[window], distance <= 0, distance, other)
    return found * pixel_size_nm**2


def _window(low: np.ndarray, high: np.ndarray, shape: tuple[int, ...]) -> tuple[slice, ...]:
    return tuple(
        slice(int(np.clip(a, 0, n)), int(np.clip(b, 0, n)))
        for a, b, n in zip(low, high, shape, strict=True)
    )


def _above_ring(
    values: np.ndarray, inside: np.ndarray, beyond_nm: np.ndarray, other: np.ndarray | None
) -> float:
    """Sum inside, above the mean of the ring; NaN if less than a fifth of the ring is free."""
    ring = ~inside & (beyond_nm <= RING_NM)
    free = ring if other is None else ring & ~other
    if free.sum() < max(8, 0.2 * ring.sum()):
        return float("nan")
    return float((values[inside] - values[free].mean()).sum())


# ---- the yardstick


def find_yardstick(
    pixels: np.ndarray,
    pixel_size_nm: float,
    positions: np.ndarray,
    confidence: np.ndarray,
    clusters: np.ndarray | None = None,
    support: np.ndarray | None = None,
    seed: int = 0,
    census: Completeness | None = None,
) -> Yardstick:
    """The intensity of one atom from the lone atoms of a frame.

    Parameters
    ----------
    pixels
        (Y, X).
    pixel_size_nm
        Edge length of a pixel.
    positions
        (N, 2) candidates (y, x) in pixels, the more the better.
    confidence
        (N,) probabilities that they are atoms; NaN: set by a person, and certain.
    clusters
        (Y, X) bool, where clusters are.
    support
        (Y, X) bool, where support is; everywhere if None.
    seed
        Of the bootstrap and of the places of empty discs.
    census
        Of the image, if atoms were put into it: gives the mean atom.
    """
    rng = np.random.default_rng(seed)
    pixels = without_gaps(np.asarray(pixels, np.float32))
    positions = np.asarray(positions, float).reshape(-1, 2)
    p = np.nan_to_num(np.asarray(confidence, float), nan=1.0)
    clusters = np.zeros(pixels.shape, bool) if clusters is None else clusters
    sources = clusters | _discs(pixels.shape, positions[p >= LIKELY], SPOT_NM / pixel_size_nm)
    intensity = integrate(pixels, pixel_size_nm, positions, sources=sources)
    alone = _alone(positions * pixel_size_nm, p)
    alone *= ~_at(_near(clusters, NEAR_CLUSTER_NM / pixel_size_nm), positions)
    use = np.isfinite(intensity) & (alone > 0.01) & (p > 0)
    blank = _blank(pixels, pixel_size_nm, sources, support, rng)
    n = float((alone * p)[use].sum())
    if n < LEAST_ATOMS:
        return _none(f"only {n:.0f} lone atoms; {LEAST_ATOMS} are needed", n, blank)

    if census is not None:
        return _of_census(census, n, blank)

    sure = float((alone * p)[use & (p >= LIKELY)].sum()) / n
    if sure < LEAST_SURE:
        return _none(f"only {100 * sure:.0f} % of the lone atoms stand out of the noise", n, blank)

    intensity, p, alone, centres = intensity[use], p[use], alone[use], positions[use]
    weight = alone * _atom_weights(intensity, p, alone)
    mean = float(np.average(intensity, weights=weight))
    if not mean > 0:
        return _none("the lone atoms are not brighter than their surroundings", n, blank)
    resampled = []
    for _ in range(_RESAMPLES):
        rows = rng.integers(0, len(p), len(p))
        w = alone[rows] * _atom_weights(intensity[rows], p[rows], alone[rows])
        resampled.append(np.average(intensity[rows], weights=w))
    error = float(np.hypot(np.std(resampled) / mean, SELECTION * (1 - sure)))
    if not error <= MOST_ERROR:
        return _none(f"{n:.0f} lone atoms are too faint: ± {100 * error:.0f} %", n, blank)
    sigma_nm = _width(pixels, pixel_size_nm, centres, weight)
    # robust: two atoms that pass for one are few, and far off
    order = np.argsort(intensity)
    share = np.cumsum(weight[order]) / weight.sum()
    low, high = np.interp([0.16, 0.84], share, intensity[order])
    variance = float((high - low) / 2) ** 2
    noise = blank[0] if np.isfinite(blank[0]) else 0.0
    own = max(variance - noise**2, 0.0) / mean**2
    scatter = float(np.sqrt((n * own + TIE * USUAL_SCATTER**2) / (n + TIE)))
    whole = mean / _share_of_disc(sigma_nm, pixel_size_nm) * TAILS
    return Yardstick(whole, error, scatter, sigma_nm, n, blank)


def _none(reason: str, n_atoms: float, blank: tuple[float, ...]) -> Yardstick:
    nan = float("nan")
    return Yardstick(nan, nan, nan, nan, n_atoms, blank, reason)


def _of_census(census: Completeness, n_atoms: float, blank: tuple[float, ...]) -> Yardstick:
    """The mean atom of an image of which it is known what is not found."""
    error = float(np.hypot(census.atom_error, CENSUS_ERROR))
    if not error <= MOST_ERROR:
        return _none(
            f"{n_atoms:.0f} lone atoms are too faint: ± {100 * error:.0f} %", n_atoms, blank
        )
    whole = census.atom_intensity * TAILS
    return Yardstick(whole, error, USUAL_SCATTER, census.sigma_nm, n_atoms, blank)


def _alone(points_nm: np.ndarray, p: np.ndarray) -> np.ndarray:
    """(N,) probability that no other candidate within `ALONE_NM` is an atom."""
    alone = np.ones(len(p))
    there = np.flatnonzero(np.isfinite(points_nm).all(axis=1))
    if len(there) == 0:
        return alone
    pairs = KDTree(points_nm[there]).query_pairs(ALONE_NM, output_type="ndarray")
    one, other = there[pairs[:, 0]], there[pairs[:, 1]]
    np.multiply.at(alone, one, 1 - p[other])
    np.multiply.at(alone, other, 1 - p[one])
    return alone


def _atom_weights(intensity: np.ndarray, p: np.ndarray, alone: np.ndarray) -> np.ndarray:
    """(N,) probabilities of being an atom, given the detector's p and the intensity.

    A mixture of two linear regressions on logit p, with p as the known share of the first.
    """
    if p.min() > 0.99:
        return p
    p = np.clip(p, 1e-3, 1 - 1e-3)
    design = np.stack([np.ones_like(p), np.clip(logit(p), -4, 4)], axis=1)
    floor = 1e-3 * float(intensity.std()) + np.finfo(float).tiny
    weight = p
    for _ in range(60):
        log_density = []
        for w in (weight * alone, (1 - weight) * alone):
            normal = design.T @ (design * w[:, None])
            ridge = 1e-6 * np.trace(normal) * np.eye(2)  # where all p are alike
            rest = intensity - design @ np.linalg.solve(normal + ridge, design.T @ (w * intensity))
            sigma = max(float(np.sqrt(np.average(rest**2, weights=w))), floor)
            log_density.append(-0.5 * (rest / sigma) ** 2 - np.log(sigma))
        weight = expit(logit(p) + log_density[0] - log_density[1])
    return np.asarray(weight)


def _width(
    pixels: np.ndarray, pixel_size_nm: float, positions: np.ndarray, weight: np.ndarray
) -> float:
    """Standard deviation in nm of the Gaussian that fits the mean atom."""
    radius_nm, level, number = _mean_profile(pixels, pixel_size_nm, positions, weight)
    if len(level) < 4:
        return SIGMA_NM
    height = max(float(level[0] - level[-1]), np.finfo(np.float32).tiny)
    try:
        (_, _, sigma), _ = curve_fit(
            lambda r, a, b, s: a * np.exp(-(r**2) / (2 * s**2)) + b,
            radius_nm, level, (height, float(level[-1]), SIGMA_NM), 1 / np.sqrt(number),
            bounds=([0, -np.inf, SIGMA_RANGE_NM[0]], [np.inf, np.inf, SIGMA_RANGE_NM[1]]),
        )  # fmt: skip
    except (RuntimeError, ValueError):
        return SIGMA_NM
    return float(sigma)


def width_of_atoms(
    pixels: np.ndarray, pixel_size_nm: float, positions: np.ndarray, confidence: np.ndarray
) -> float:
    """Standard deviation in nm of the mean lone atom of a frame.

    Of the mean one, for single faint ones that are found are those that look narrow.

    Parameters
    ----------
    pixels
        (Y, X), finite.
    pixel_size_nm
        Edge length of a pixel.
    positions
        (N, 2) candidates (y, x) in pixels.
    confidence
        (N,) probabilities that they are atoms.
    """
    positions = np.asarray(positions, float).reshape(-1, 2)
    p = np.nan_to_num(np.asarray(confidence, float), nan=1.0)
    return _width(pixels, pixel_size_nm, positions, p * _alone(positions * pixel_size_nm, p))


def _mean_profile(
    pixels: np.ndarray, pixel_size_nm: float, positions: np.ndarray, weight: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Radius in nm, level and weight of the rings around the mean of the likeliest atoms."""
    half = int(np.ceil(PROFILE_NM / pixel_size_nm))
    offset = np.arange(-half, half + 1)
    size = max(2, round(PROFILE_NM / max(pixel_size_nm, 0.025)))
    sums = np.zeros((3, size))
    for row in np.argsort(-weight)[:400]:
        centre = positions[row]
        corner = np.rint(centre).astype(int)
        if (corner < half).any() or (corner >= np.array(pixels.shape) - half).any():
            continue
        y, x = corner[0] + offset, corner[1] + offset
        radius = np.hypot((y - centre[0])[:, None], x - centre[1]) * pixel_size_nm
        inside = radius < PROFILE_NM
        ring = (radius[inside] * (size / PROFILE_NM)).astype(int)
        values = pixels[np.ix_(y, x)][inside].astype(float)
        for total, of in zip(sums, (radius[inside], values, np.ones(len(ring))), strict=True):
            total += weight[row] * np.bincount(ring, of, minlength=size)
    filled = sums[2] > 0
    radius_nm, level, number = sums[:, filled]
    return radius_nm / number, level / number, number


def _share_of_disc(sigma_nm: float, pixel_size_nm: float) -> float:
    """What a disc of `APERTURE_NM` above its ring sees of a Gaussian of unit sum."""
    half = int(np.ceil((APERTURE_NM + RING_NM) / pixel_size_nm)) + 1
    point = np.zeros((2 * half + 1,) * 2)
    point[half, half] = 1 / pixel_size_nm**2
    spread = ndimage.gaussian_filter(point, sigma_nm / pixel_size_nm)
    return float(integrate(spread, pixel_size_nm, np.array([[half, half]]))[0])


def _share_of_region(region: Region, sigma_nm: float, pixel_size_nm: float) -> float:
    """What a region with its tail, above its ring, sees of atoms spread over it evenly."""
    margin = int(np.ceil((TAIL_NM + RING_NM) / pixel_size_nm)) + 1
    own = np.pad(region.inside, margin).astype(float)
    spread = ndimage.gaussian_filter(own / own.sum() / pixel_size_nm**2, sigma_nm / pixel_size_nm)
    return float(integrate_regions(spread, pixel_size_nm, [Region.of(own > 0)])[0])


def _blank(
    pixels: np.ndarray,
    pixel_size_nm: float,
    sources: np.ndarray,
    support: np.ndarray | None,
    rng: np.random.Generator,
) -> tuple[float, ...]:
    """Robust scatter of discs of `_BLANK_RADII_NM` where nothing is; NaN without room."""
    taken = sources if support is None else sources | ~support
    free_nm = ndimage.distance_transform_edt(np.pad(~taken, 1))[1:-1, 1:-1] * pixel_size_nm
    scatter = []
    for radius in _BLANK_RADII_NM:
        places = np.argwhere(free_nm > radius)
        if len(places) < 30:
            scatter.append(float("nan"))
            continue
        chosen = places[rng.integers(0, len(places), _BLANKS)]
        values = integrate(pixels, pixel_size_nm, chosen, radius, taken)
        values = values[np.isfinite(values)]
        low, high = np.percentile(values, [16, 84]) if len(values) else (np.nan, np.nan)
        scatter.append(float(high - low) / 2)
    return tuple(scatter)


# ---- counting


def count_by_yardstick(
    clusters: pd.DataFrame,
    atoms: pd.DataFrame,
    micrograph: Micrograph,
    outlines: Sequence[np.ndarray] | None = None,
    support: np.ndarray | None = None,
    classes: Sequence[str] = (),
    level: float = 0.95,
    seed: int = 0,
    census: Completeness | None = None,
) -> pd.DataFrame:
    """Number of atoms of each cluster, in units of the lone atoms of its frame.

    Parameters
    ----------
    clusters
        Cluster table of the micrograph.
    atoms
        Atom table: of all candidates, not only of those above a threshold.
    micrograph
        The image or stack.
    outlines
        Closed polygons (M, 2) in pixels (y, x), one for each cluster in table order; without them
        a cluster is a disc that holds its ellipse.
    support
        (Y, X) bool, or (T, Y, X) of a stack; everywhere if None.
    classes
        Class names, for the label and the set.
    level
        Coverage of the interval.
    seed
        Of the bootstrap.
    census
        What atoms that were put into the image tell of its own (`atoms.completeness`): the mean
        atom is taken from there then. Where none are found but the brightest, the candidates alone
        make too long a yardstick. Not of a stack: the frames differ, and it is of one of them.

    Returns
    -------
    pandas.DataFrame
        Index of ``clusters``: ``n_yardstick, n_yardstick_low, n_yardstick_high``, NaN where not
        possible; ``yardstick_reason`` says why ("" where it was); ``label_yardstick``, the class
        nearest in atoms on a logarithmic scale, and ``yardstick_set``, the classes in the
        interval or, if none is, that nearest one, joined by "|"; both "" without classes.

    Raises
    ------
    CalibrationError
        If the pixel size is not known.
    ValueError
        If there are not as many outlines as clusters.
    """
    if outlines is not None and len(outlines) != len(clusters):
        raise ValueError(f"{len(outlines)} outlines for {len(clusters)} clusters")
    pixel_size_nm = micrograph.calibrated()
    census = None if micrograph.is_stack else census
    counts = np.full((len(clusters), 3), np.nan)
    reasons = np.full(len(clusters), "", object)
    for index, frame in enumerate(micrograph.frames()):
        rows = np.flatnonzero(clusters["frame"].to_numpy() == index)
        if len(rows) == 0:
            continue
        drawn = [None if outlines is None else outlines[int(i)] for i in rows]
        regions = [
            _region(clusters.iloc[i], outline, frame.shape, pixel_size_nm)
            for i, outline in zip(rows, drawn, strict=True)
        ]
        near = np.zeros(frame.shape, bool)
        _mark_around(near, regions, TAIL_NM / pixel_size_nm)
        own = atoms[atoms["frame"] == index]
        positions = own[["y_px", "x_px"]].to_numpy(float)
        confidence = own["confidence"].to_numpy(float)
        held = support if support is None or support.ndim == 2 else support[index]
        yardstick = find_yardstick(
            frame, pixel_size_nm, positions, confidence, near, held, seed, census
        )
        if yardstick.reason:
            reasons[rows] = yardstick.reason
            continue
        likely = np.nan_to_num(confidence, nan=1.0) >= LIKELY
        spots = _discs(frame.shape, positions[likely], SPOT_NM / pixel_size_nm)
        intensity = integrate_regions(without_gaps(frame), pixel_size_nm, regions, near | spots)
        for i, region, value in zip(rows, regions, intensity, strict=True):
            reasons[i] = _why_not(clusters.iloc[i], value)
            if not reasons[i]:
                counts[i] = _count(value, region, yardstick, pixel_size_nm, level)
    out = pd.DataFrame(counts, columns=list(COLUMNS), index=clusters.index)
    out["yardstick_reason"] = reasons
    out["label_yardstick"], out["yardstick_set"] = _labels(counts, classes)
    return out


def _why_not(cluster: pd.Series, intensity: float) -> str:
    if cluster["touches_border"]:
        return "cut by the border"
    if cluster["touches_neighbour"]:
        return "touches another cluster"
    if not np.isfinite(intensity):
        return "no free background around it"
    return "" if intensity > 0 else "not brighter than its surroundings"


def _count(
    intensity: float, region: Region, yardstick: Yardstick, pixel_size_nm: float, level: float
) -> tuple[float, float, float]:
    """Number of atoms and its interval; never below one atom's worth of nothing, 0."""
    n = intensity / _share_of_region(region, yardstick.sigma_nm, pixel_size_nm)
    n /= yardstick.intensity
    reach = TAIL_NM + np.sqrt(region.inside.sum() / np.pi) * pixel_size_nm
    noise = np.nan_to_num(yardstick.noise(np.pi * reach**2)) / yardstick.intensity
    variance = n**2 * (yardstick.error**2 + SYSTEMATIC**2) + n * yardstick.scatter**2 + noise**2
    channelling = (n * CHANNELLING) ** 2 / 3  # mean square of anything from 0 to that
    z = float(norm.ppf(0.5 + level / 2))
    # the error of the yardstick is in the denominator: its upper end reaches further, but where n
    # may as well be 0 an exponential would reach anywhere
    error = z * np.sqrt(variance)
    above = n * np.expm1(error / n) if error < n else np.expm1(1) * error
    return n, max(0.0, n - z * np.sqrt(variance + channelling)), n + above


def _labels(counts: np.ndarray, classes: Sequence[str]) -> tuple[np.ndarray, np.ndarray]:
    """(N,) the nearest class, and the classes in the interval."""
    label, within = (np.full(len(counts), "", object) for _ in range(2))
    sizes = [(name, atoms_of(name)) for name in classes]
    known = [(name, size) for name, size in sizes if size]
    for i, (n, low, high) in enumerate(counts):
        if known and n > 0:
            label[i] = min(known, key=lambda c: abs(np.log(c[1] / n)))[0]
            within[i] = "|".join(name for name, s in known if low <= s <= high) or label[i]
    return label, within


# ---- geometry


def mask_of_clusters(
    clusters: pd.DataFrame,
    shape: tuple[int, ...],
    pixel_size_nm: float,
    outlines: Sequence[np.ndarray] | None = None,
) -> np.ndarray:
    """Where atoms are none that stand alone.

    Parameters
    ----------
    clusters, outlines
        Of the micrograph, as of `count_by_yardstick`.
    shape
        (Y, X) of a frame, or (T, Y, X) of a stack.
    pixel_size_nm
        Edge length of a pixel.

    Returns
    -------
    ndarray
        Bool, of that shape: clusters with `NEAR_CLUSTER_NM` around them.
    """
    mask = np.zeros(shape, bool)
    frames = mask if mask.ndim == 3 else mask[None]
    for row, (_, cluster) in enumerate(clusters.iterrows()):
        if not 0 <= cluster["frame"] < len(frames):
            continue
        outline = None if outlines is None else outlines[row]
        frame = frames[int(cluster["frame"])]
        region = _region(cluster, outline, frame.shape, pixel_size_nm)
        _mark_around(frame, [region], NEAR_CLUSTER_NM / pixel_size_nm)
    return mask


def _region(
    cluster: pd.Series, outline: np.ndarray | None, shape: tuple[int, ...], pixel_size_nm: float
) -> Region:
    """The outline of a cluster, or a disc that holds its ellipse."""
    if outline is not None and len(outline) >= 3:
        places = np.asarray(outline, float)
        window = _window(np.floor(places.min(axis=0)), np.ceil(places.max(axis=0)) + 1, shape)
        corner = [s.start for s in window]
        size = tuple(s.stop - s.start for s in window)
        if all(size):
            region = Region.of(np.asarray(polygon2mask(size, places - corner)), corner)
            if region.inside.any():
                return region
    eccentricity = min(np.nan_to_num(float(cluster["eccentricity"])), 0.98)
    longest_nm = cluster["diameter_nm"] / 2 / (1 - eccentricity**2) ** 0.25
    centre = np.array([cluster["y_px"], cluster["x_px"]], float)
    radius_px = longest_nm / pixel_size_nm
    window = _window(np.floor(centre - radius_px), np.ceil(centre + radius_px) + 1, shape)
    return Region.of(_disc(window, centre, radius_px), [s.start for s in window])


def _discs(shape: tuple[int, ...], positions: np.ndarray, radius_px: float) -> np.ndarray:
    """(Y, X) bool: discs around positions (N, 2)."""
    mask = np.zeros(shape, bool)
    for centre in positions[np.isfinite(positions).all(axis=1)]:
        window = _window(np.floor(centre - radius_px), np.ceil(centre + radius_px) + 1, shape)
        mask[window] |= _disc(window, centre, radius_px)
    return mask


def _disc(window: tuple[slice, ...], centre: np.ndarray, radius_px: float) -> np.ndarray:
    """(h, w) bool: the pixels of a window within a radius."""
    y, x = (np.arange(s.start, s.stop) for s in window)
    return np.asarray(np.hypot((y - centre[0])[:, None], x - centre[1]) <= radius_px)


def _near(mask: np.ndarray, distance_px: float) -> np.ndarray:
    """(Y, X) bool: within a distance of the mask."""
    if not mask.any():
        return mask
    return np.asarray(ndimage.distance_transform_edt(~mask) <= distance_px)


def _mark_around(mask: np.ndarray, regions: Sequence[Region], distance_px: float) -> None:
    """Set in a mask (Y, X) what lies in regions or within a distance of them, in place."""
    for region in regions:
        if region.inside.any():
            window, inside = region.widened(int(distance_px) + 1, mask.shape)
            mask[window] |= ndimage.distance_transform_edt(~inside) <= distance_px


def _at(mask: np.ndarray, positions: np.ndarray) -> np.ndarray:
    """(N,) the mask at positions (N, 2), the nearest pixel of the image; False where NaN."""
    there = np.isfinite(positions).all(axis=1)
    last = np.array(mask.shape) - 1
    y, x = np.clip(np.rint(np.nan_to_num(positions)), 0, last).astype(int).T
    return np.asarray(there & mask[y, x])
