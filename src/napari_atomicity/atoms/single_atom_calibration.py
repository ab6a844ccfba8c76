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

**Alone.** A candidate counts by the probability that no other atom is within `ISOLATION_RADIUS_NM`, and not
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
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
from scipy import ndimage
from scipy.special import expit, logit
from scipy.stats import norm

from ..core.micrograph import Micrograph
from ..detection.background import without_gaps
from ..detection.outlines import TAIL_NM
from ..statistics.scores import atoms_of
from .isolation import fit_mean_width, isolation_probability
from .regions import (
    APERTURE_NM,
    NEAR_CLUSTER_NM,
    RING_NM,
    Region,
    dilate_mask,
    draw_discs,
    integrate,
    integrate_regions,
    make_cluster_region,
    mark_regions,
    sample_mask,
)

if TYPE_CHECKING:
    from .completeness import Completeness

SPOT_NM = 0.25
"""Radius around a likely atom that is left out of the rings of others."""
LIKELY = 0.5
"""Probability from which on a candidate is left out of the rings of others."""
MIN_ATOMS = 10
"""Lone atoms that a yardstick needs."""
COMPLETENESS_ERROR = 0.05
"""Relative error that the mean atom of `atoms.completeness` has besides its own: in simulated
fields it is off by about that in the mean."""
MIN_SURE = 0.4
"""Share of the lone atoms that the detector must be sure of (`LIKELY`): what it says of the rest,
the dim ones, has to be anchored somewhere."""
SELECTION = 0.12
"""Relative error of the yardstick for each atom that the detector is not sure of, as a share of
all: about what the mean over all candidates is off in simulated fields."""
MAX_ERROR = 0.3
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
class SingleAtomCalibration:
    """What one atom gives in one frame.

    Parameters
    ----------
    intensity : float
        Of one atom, tails included: counts times nm². NaN if it can't be had.
    error : float
        Its relative standard error.
    scatter : float
        Relative standard deviation of the atoms about it, without the noise of the background.
    sigma_nm : float
        Width of the Gaussian that stands for the probe.
    n_atoms : float
        Number of lone atoms, an effective one: candidates count by their weights.
    blank : tuple of float
        Standard deviation of empty discs of `_BLANK_RADII_NM`: counts times nm².
    reason : str, optional
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


# ---- the yardstick


def calibrate_single_atoms(
    pixels: np.ndarray,
    pixel_size_nm: float,
    positions: np.ndarray,
    confidence: np.ndarray,
    clusters: np.ndarray | None = None,
    support: np.ndarray | None = None,
    seed: int = 0,
    completeness: Completeness | None = None,
) -> SingleAtomCalibration:
    """The intensity of one atom from the lone atoms of a frame.

    Parameters
    ----------
    pixels : ndarray of shape (Y, X)
    pixel_size_nm : float
        Edge length of a pixel.
    positions : ndarray of shape (N, 2)
        Candidates (y, x) in pixels, the more the better.
    confidence : ndarray of shape (N,)
        Probabilities that they are atoms; NaN: set by a person, and certain.
    clusters : ndarray of bool, shape (Y, X), optional
        Where clusters are.
    support : ndarray of bool, shape (Y, X), optional
        Where support is; everywhere if None.
    seed : int, default 0
        Of the bootstrap and of the places of empty discs.
    completeness : Completeness, optional
        Of the image, if atoms were put into it: gives the mean atom.
    """
    rng = np.random.default_rng(seed)
    pixels = without_gaps(np.asarray(pixels, np.float32))
    positions = np.asarray(positions, float).reshape(-1, 2)
    p = np.nan_to_num(np.asarray(confidence, float), nan=1.0)
    clusters = np.zeros(pixels.shape, bool) if clusters is None else clusters
    sources = clusters | draw_discs(pixels.shape, positions[p >= LIKELY], SPOT_NM / pixel_size_nm)
    intensity = integrate(pixels, pixel_size_nm, positions, sources=sources)
    alone = isolation_probability(positions * pixel_size_nm, p)
    alone *= ~sample_mask(dilate_mask(clusters, NEAR_CLUSTER_NM / pixel_size_nm), positions)
    use = np.isfinite(intensity) & (alone > 0.01) & (p > 0)
    blank = _blank(pixels, pixel_size_nm, sources, support, rng)
    n = float((alone * p)[use].sum())
    if n < MIN_ATOMS:
        return _none(f"only {n:.0f} lone atoms; {MIN_ATOMS} are needed", n, blank)

    if completeness is not None:
        return _calibrate_from_completeness(completeness, n, blank)

    sure = float((alone * p)[use & (p >= LIKELY)].sum()) / n
    if sure < MIN_SURE:
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
    if not error <= MAX_ERROR:
        return _none(f"{n:.0f} lone atoms are too faint: ± {100 * error:.0f} %", n, blank)
    sigma_nm = fit_mean_width(pixels, pixel_size_nm, centres, weight)
    # robust: two atoms that pass for one are few, and far off
    order = np.argsort(intensity)
    share = np.cumsum(weight[order]) / weight.sum()
    low, high = np.interp([0.16, 0.84], share, intensity[order])
    variance = float((high - low) / 2) ** 2
    noise = blank[0] if np.isfinite(blank[0]) else 0.0
    own = max(variance - noise**2, 0.0) / mean**2
    scatter = float(np.sqrt((n * own + TIE * USUAL_SCATTER**2) / (n + TIE)))
    whole = mean / _share_of_disc(sigma_nm, pixel_size_nm) * TAILS
    return SingleAtomCalibration(whole, error, scatter, sigma_nm, n, blank)


def _none(reason: str, n_atoms: float, blank: tuple[float, ...]) -> SingleAtomCalibration:
    nan = float("nan")
    return SingleAtomCalibration(nan, nan, nan, nan, n_atoms, blank, reason)


def _calibrate_from_completeness(
    completeness: Completeness, n_atoms: float, blank: tuple[float, ...]
) -> SingleAtomCalibration:
    """The mean atom of an image of which it is known what is not found."""
    error = float(np.hypot(completeness.atom_error, COMPLETENESS_ERROR))
    if not error <= MAX_ERROR:
        return _none(
            f"{n_atoms:.0f} lone atoms are too faint: ± {100 * error:.0f} %", n_atoms, blank
        )
    whole = completeness.atom_intensity * TAILS
    return SingleAtomCalibration(whole, error, USUAL_SCATTER, completeness.sigma_nm, n_atoms, blank)


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


def count_atoms_by_intensity(
    clusters: pd.DataFrame,
    atoms: pd.DataFrame,
    micrograph: Micrograph,
    outlines: Sequence[np.ndarray] | None = None,
    support: np.ndarray | None = None,
    classes: Sequence[str] = (),
    level: float = 0.95,
    seed: int = 0,
    completeness: Completeness | None = None,
) -> pd.DataFrame:
    """Number of atoms of each cluster, in units of the lone atoms of its frame.

    Parameters
    ----------
    clusters : pandas.DataFrame
        Cluster table of the micrograph.
    atoms : pandas.DataFrame
        Atom table: of all candidates, not only of those above a threshold.
    micrograph : Micrograph
        The image or stack.
    outlines : sequence of ndarray, optional
        Closed polygons (M, 2) in pixels (y, x), one for each cluster in table order; without them
        a cluster is a disc that holds its ellipse.
    support : ndarray of bool, shape (Y, X) or (T, Y, X), optional
        ; everywhere if None.
    classes : sequence of str, optional
        Class names, for the label and the set.
    level : float, default 0.95
        Coverage of the interval.
    seed : int, default 0
        Of the bootstrap.
    completeness : Completeness, optional
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
    completeness = None if micrograph.is_stack else completeness
    counts = np.full((len(clusters), 3), np.nan)
    reasons = np.full(len(clusters), "", object)
    for index, frame in enumerate(micrograph.frames()):
        rows = np.flatnonzero(clusters["frame"].to_numpy() == index)
        if len(rows) == 0:
            continue
        drawn = [None if outlines is None else outlines[int(i)] for i in rows]
        regions = [
            make_cluster_region(clusters.iloc[i], outline, frame.shape, pixel_size_nm)
            for i, outline in zip(rows, drawn, strict=True)
        ]
        near = np.zeros(frame.shape, bool)
        mark_regions(near, regions, TAIL_NM / pixel_size_nm)
        own = atoms[atoms["frame"] == index]
        positions = own[["y_px", "x_px"]].to_numpy(float)
        confidence = own["confidence"].to_numpy(float)
        held = support if support is None or support.ndim == 2 else support[index]
        yardstick = calibrate_single_atoms(
            frame, pixel_size_nm, positions, confidence, near, held, seed, completeness
        )
        if yardstick.reason:
            reasons[rows] = yardstick.reason
            continue
        likely = np.nan_to_num(confidence, nan=1.0) >= LIKELY
        spots = draw_discs(frame.shape, positions[likely], SPOT_NM / pixel_size_nm)
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
    intensity: float,
    region: Region,
    yardstick: SingleAtomCalibration,
    pixel_size_nm: float,
    level: float,
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
