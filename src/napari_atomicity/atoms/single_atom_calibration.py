"""Single-atom calibration of intensities: n = intensity of a cluster / intensity of one atom.

The single atoms of an image calibrate its detector. Gain, dose, black level and the element cancel.

**One convention for both.** `integrate` sums a region above the mean level of the ring around it,
from which known atoms and clusters are excluded. The mean, not the median: Poisson counts of few
electrons are skewed, and undetected atoms contribute equally to the mean of region and ring. The
tail of the probe beyond the region is added by a Gaussian with the width of the atoms, and its
non-Gaussian part by a constant (`TAILS`).

**The mean of the atoms, not their median.** The intensity of a cluster is a sum of atoms, hence the
mean. The mean over confidently detected atoms is biased towards bright ones. All candidates are
therefore used: each is an atom with its detection probability p; intensities of atoms and of false
candidates are two normal distributions whose means depend on logit p. EM estimates both, and the
probability of each candidate to be an atom given p *and* its intensity. The mean over all
candidates with these weights is the intensity of one atom. A table of only the candidates above a
threshold gives a calibration that is too high, and counts that are too low.

**Better: injected atoms.** The detection probabilities p are calibrated on other images, and where
atoms are fainter than there, faint atoms have too little weight. After an injection-recovery test
(`atoms.completeness`) the mean atom and its error are those of the estimated population. In
simulated fields its error is some 5 %, where the mean of the candidates is 7 to 50 % too high.

**Isolated atoms.** A candidate is weighted by the probability that no other atom is within
`ISOLATION_RADIUS_NM`, and excluded in and near clusters.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from scipy import ndimage
from scipy.special import expit, logit

from ..core.text import pluralise
from ..detection.background import without_gaps
from .injection import fit_mean_width, isolation_probability
from .regions import (
    APERTURE_NM,
    NEAR_CLUSTER_NM,
    RING_NM,
    dilate_mask,
    draw_discs,
    integrate,
    sample_mask,
)

if TYPE_CHECKING:
    from .completeness import Completeness

SPOT_NM = 0.25
"""Radius around a likely atom that is excluded from the rings of others."""
LIKELY = 0.5
"""Minimum probability of candidates that are excluded from the rings of others."""
MIN_ATOMS = 10
"""Minimum number of isolated atoms of a calibration."""
COMPLETENESS_ERROR = 0.05
"""Additional relative error of the mean atom of `atoms.completeness`: its mean error in simulated
fields."""
MIN_SURE = 0.4
"""Minimum share of the isolated atoms that are likely (`LIKELY`), which determine the model of the
faint ones."""
SELECTION = 0.12
"""Relative error of the calibration times the share of unlikely atoms: about the error of the mean
over all candidates in simulated fields."""
MAX_ERROR = 0.3
"""Maximum relative error of a calibration."""
USUAL_SCATTER, TIE = 0.35, 30.0
"""Prior of the relative standard deviation of the intensities of single atoms, from real images,
and the number of atoms whose scatter has the same weight."""
TAILS, SYSTEMATIC = 1.045, 0.03
"""Correction of the intensity of an isolated atom, relative to a cluster, for non-Gaussian tails,
and its relative error: median and half the central 90 % over simulated probes of 80 to 300 kV with
convergence angles of 18 to 30 mrad and a defocus of 6 nm (standard deviation)."""
_RESAMPLES = 60
_BLANKS = 1000
"""Number of empty discs of each radius."""
_BLANK_RADII_NM = (0.2, 0.3, 0.45)


@dataclass(frozen=True)
class SingleAtomCalibration:
    """Intensity of a single atom in one frame."""

    # intensity of one atom with its tails: counts times nm². NaN if it is not available
    intensity: float
    error: float  # relative standard error of the intensity
    scatter: float  # relative standard deviation of the atoms, without the noise of the background
    sigma_nm: float  # standard deviation of the Gaussian model of the probe
    n_atoms: float  # effective number of isolated atoms: the sum of the weights
    # standard deviation of empty discs of `_BLANK_RADII_NM`: counts times nm²
    blank: tuple[float, ...]
    reason: str = ""  # why there is no calibration; "" if there is one

    def noise(self, area_nm2: float) -> float:
        """Return the standard deviation of the background in a region, counts times nm².

        A power law of the radius through the empty discs, with an exponent between that of white
        noise (1) and that of an error of the level (2).
        """
        radii, blank = np.array(_BLANK_RADII_NM), np.array(self.blank)
        good = np.isfinite(blank) & (blank > 0)
        if not good.any():
            return float("nan")
        radii, blank = radii[good], blank[good]
        power = np.log(blank[-1] / blank[0]) / np.log(radii[-1] / radii[0]) if len(radii) > 1 else 1
        radius = np.sqrt(area_nm2 / np.pi)
        return float(blank[-1] * (radius / radii[-1]) ** np.clip(power, 1, 2))


# ---- calibration


def calibrate_single_atoms(
    pixels: np.ndarray,  # (Y, X): image
    pixel_size_nm: float,
    positions: np.ndarray,  # (N, 2): all candidates (y, x) in pixels
    # (N,): probabilities that they are atoms; NaN counts as 1, for annotated atoms
    confidence: np.ndarray,
    clusters: np.ndarray | None = None,  # (Y, X), bool: mask of the clusters
    support: np.ndarray | None = None,  # (Y, X), bool: mask of the support; everywhere if None
    seed: int = 0,  # seed of the bootstrap and of the positions of empty discs
    # Result of an injection-recovery test, which gives the mean atom
    completeness: Completeness | None = None,
) -> SingleAtomCalibration:  # with a ``reason`` if the calibration is not possible
    """Calibrate the intensity of one atom from the isolated atoms of a frame."""
    rng = np.random.default_rng(seed)
    pixels = without_gaps(np.asarray(pixels, np.float32))
    positions = np.asarray(positions, float).reshape(-1, 2)
    p = np.nan_to_num(np.asarray(confidence, float), nan=1.0)
    clusters = np.zeros(pixels.shape, bool) if clusters is None else clusters
    sources = clusters | draw_discs(pixels.shape, positions[p >= LIKELY], SPOT_NM / pixel_size_nm)
    intensity = integrate(pixels, pixel_size_nm, positions, sources=sources)
    isolated = isolation_probability(positions * pixel_size_nm, p)
    isolated *= ~sample_mask(dilate_mask(clusters, NEAR_CLUSTER_NM / pixel_size_nm), positions)
    use = np.isfinite(intensity) & (isolated > 0.01) & (p > 0)
    blank = _blank_scatter(pixels, pixel_size_nm, sources, support, rng)
    n = float((isolated * p)[use].sum())
    if n < MIN_ATOMS:
        few = pluralise(round(n), "isolated atom")
        if round(n) >= MIN_ATOMS:  # not "only 10; 10 are needed"
            few = f"{int(10 * n) / 10:g} isolated atoms by their probabilities"
        return _no_calibration(f"only {few}; {MIN_ATOMS} are needed", n, blank)
    if completeness is not None:
        return _calibrate_from_completeness(completeness, n, blank)
    candidates = _Candidates(positions[use], intensity[use], p[use], isolated[use])
    return _calibrate_from_candidates(pixels, pixel_size_nm, candidates, blank, rng)


class _Candidates(NamedTuple):
    """Usable candidates of a frame: positions (px), intensities, p, isolation probabilities."""

    positions: np.ndarray
    intensity: np.ndarray
    p: np.ndarray
    isolated: np.ndarray


def _calibrate_from_candidates(
    pixels: np.ndarray,
    pixel_size_nm: float,
    candidates: _Candidates,
    blank: tuple[float, ...],
    rng: np.random.Generator,
) -> SingleAtomCalibration:
    """Calibrate by the weighted mean of the candidates, with a bootstrap error."""
    positions, intensity, p, isolated = candidates
    n = float((isolated * p).sum())
    likely = float((isolated * p)[p >= LIKELY].sum()) / n
    if likely < MIN_SURE:
        reason = f"only {100 * likely:.0f} % of the isolated atoms are above the noise"
        return _no_calibration(reason, n, blank)
    weight = isolated * _atom_weights(intensity, p, isolated)
    mean = float(np.average(intensity, weights=weight))
    if not mean > 0:
        reason = "the isolated atoms are not brighter than their surroundings"
        return _no_calibration(reason, n, blank)
    resampled = []
    for _ in range(_RESAMPLES):
        rows = rng.integers(0, len(p), len(p))
        w = isolated[rows] * _atom_weights(intensity[rows], p[rows], isolated[rows])
        resampled.append(np.average(intensity[rows], weights=w))
    error = float(np.hypot(np.std(resampled) / mean, SELECTION * (1 - likely)))
    if not error <= MAX_ERROR:
        return _no_calibration(_format_error(n, error), n, blank)
    sigma_nm = fit_mean_width(pixels, pixel_size_nm, positions, weight)
    # Robust against unresolved pairs, which are few and bright.
    order = np.argsort(intensity)
    share = np.cumsum(weight[order]) / weight.sum()
    low, high = np.interp([0.16, 0.84], share, intensity[order])
    variance = float((high - low) / 2) ** 2
    noise = blank[0] if np.isfinite(blank[0]) else 0.0
    own = max(variance - noise**2, 0.0) / mean**2
    scatter = float(np.sqrt((n * own + TIE * USUAL_SCATTER**2) / (n + TIE)))
    whole = mean / _share_of_disc(sigma_nm, pixel_size_nm) * TAILS
    return SingleAtomCalibration(whole, error, scatter, sigma_nm, n, blank)


def _format_error(n_atoms: float, error: float) -> str:
    return f"{n_atoms:.0f} isolated atoms are too faint: ± {100 * error:.0f} %"


def _no_calibration(reason: str, n_atoms: float, blank: tuple[float, ...]) -> SingleAtomCalibration:
    nan = float("nan")
    return SingleAtomCalibration(nan, nan, nan, nan, n_atoms, blank, reason)


def _calibrate_from_completeness(
    completeness: Completeness, n_atoms: float, blank: tuple[float, ...]
) -> SingleAtomCalibration:
    """Calibrate by the mean atom of an injection-recovery test."""
    error = float(np.hypot(completeness.atom_error, COMPLETENESS_ERROR))
    if not error <= MAX_ERROR:
        return _no_calibration(_format_error(n_atoms, error), n_atoms, blank)
    whole = completeness.atom_intensity * TAILS
    return SingleAtomCalibration(whole, error, USUAL_SCATTER, completeness.sigma_nm, n_atoms, blank)


def _atom_weights(intensity: np.ndarray, p: np.ndarray, isolated: np.ndarray) -> np.ndarray:
    """Return (N,) probabilities of being an atom, given the detection p and the intensity.

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
        for w in (weight * isolated, (1 - weight) * isolated):
            normal = design.T @ (design * w[:, None])
            ridge = 1e-6 * np.trace(normal) * np.eye(2)  # for equal p
            rest = intensity - design @ np.linalg.solve(normal + ridge, design.T @ (w * intensity))
            sigma = max(float(np.sqrt(np.average(rest**2, weights=w))), floor)
            log_density.append(-0.5 * (rest / sigma) ** 2 - np.log(sigma))
        weight = expit(logit(p) + log_density[0] - log_density[1])
    return np.asarray(weight)


def _share_of_disc(sigma_nm: float, pixel_size_nm: float) -> float:
    """Return the intensity of a Gaussian of unit sum in a disc of `APERTURE_NM` above its ring."""
    half = int(np.ceil((APERTURE_NM + RING_NM) / pixel_size_nm)) + 1
    point = np.zeros((2 * half + 1,) * 2)
    point[half, half] = 1 / pixel_size_nm**2
    spread = ndimage.gaussian_filter(point, sigma_nm / pixel_size_nm)
    return float(integrate(spread, pixel_size_nm, np.array([[half, half]]))[0])


def _blank_scatter(
    pixels: np.ndarray,
    pixel_size_nm: float,
    sources: np.ndarray,
    support: np.ndarray | None,
    rng: np.random.Generator,
) -> tuple[float, ...]:
    """Return the robust scatter of empty discs of `_BLANK_RADII_NM`; NaN without room."""
    taken = sources if support is None else sources | ~support
    free_nm = ndimage.distance_transform_edt(np.pad(~taken, 1))[1:-1, 1:-1] * pixel_size_nm
    # Each pixel has its turn, so that an atom that is added changes only the discs around it.
    turn = rng.random(pixels.shape)
    scatter = []
    for radius in _BLANK_RADII_NM:
        places = np.argwhere(free_nm > radius)
        if len(places) < 30:
            scatter.append(float("nan"))
            continue
        chosen = places[np.argsort(turn[tuple(places.T)])[:_BLANKS]]
        values = integrate(pixels, pixel_size_nm, chosen, radius, taken)
        values = values[np.isfinite(values)]
        low, high = np.percentile(values, [16, 84]) if len(values) else (np.nan, np.nan)
        scatter.append(float(high - low) / 2)
    return tuple(scatter)
