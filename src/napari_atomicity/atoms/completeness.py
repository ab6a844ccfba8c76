"""How many atoms there are, found or not: from what became of atoms that were put into the image.

A density counts what a person would mark. Atoms that don't stand out of the texture of the support
are in no candidate, and no probability speaks of them: where many are faint the density is a lower
bound. What is missing is found by comparing the candidates of an image with those that atoms added
to it became (`atoms.injection`).

Of N atoms with a mean height and a scatter it is known from the added ones how many candidates of
each score they give. To these come candidates that are none, which are fewer the higher the score;
how they fall off with it is known from simulated carbon (`FALSE`), how many there are is not. The
numbers of candidates in bins of the score are Poisson's, and what was measured of the found ones
must be what would be measured of such atoms. That gives every N, mean and scatter a likelihood,
and its mean and quantiles are what is said. It is tempered (`TEMPER`): added spots are no perfect
atoms, and candidates not independent. In astronomy completeness and Eddington's bias are corrected
like that.

Heights of atoms of one element are log-normal with a scatter of 25 to 45 % (`SCATTERS`), and the
mean height is that of a lone atom: another yardstick (`atoms.single_atom_calibration`), which
stays true where only the brightest are found.

Atoms nearer to each other than the probe is wide are taken for one. Of those that were added among
the others fewer are found, or others are lost; if that goes up evenly with their number, atoms of
the image have met with this share of it (`CROWDING`).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from scipy.special import expit, logit

from . import operating_point as operating
from .injection import CROWD_SHARE, InjectedAtoms

SCATTERS = (0.25, 0.35, 0.45)
"""Standard deviations of the logarithm of the height of atoms."""
FALSE = ((0.25, 0.1), (0.45, 0.1), (0.65, 0.1))
"""How the logarithm of the number of candidates that are no atoms falls with the log-odds s that
they are given: by a (s + 3) + b (s + 3)², for each of these (a, b). They span what carbon that is
simulated under several conditions shows."""
BINS = (-3.9, -3.0, -2.2, -1.4, -0.6, 0.2, 1.0, 2.0, 3.0, np.inf)
"""Of the log-odds."""
TEMPER = 0.5
"""Weight of each candidate as evidence."""
CROWDING = 0.5 / (1 + CROWD_SHARE / 2)
"""Of the loss that atoms added among the others suffer: the mean over all atoms of an image comes
in half way, and the added ones beyond the last of them."""
LOWER_BOUND = 2 / 3
"""Where less than this share is found, the density is called a lower bound."""
ESTIMATE, BOUND = "estimate", "lower bound"
"""What the density is said to be."""
COLUMNS = ("completeness", "completeness_low", "completeness_high", "half_found_height",
           "density_is", "density_complete_per_nm2", "density_complete_low_per_nm2",
           "density_complete_high_per_nm2")  # fmt: skip
"""Of ``dispersion.csv``."""
_MEANS, _NUMBERS, _OTHERS, _BEYOND = 50, 70, 40, 0.5
_MAX_TIMES = 12.0
_KERNEL = 0.15
_INTERVAL = 0.025, 0.975
_MIN_DENSITY = 1e-3
_PRIOR_COUNT = 4.0
_CROWDED = 0.3, 1.0


@dataclass(frozen=True)
class Completeness:
    """What the threshold of an image leaves out.

    Parameters
    ----------
    share, low, high
        Of the atoms on the support, how many are found, with the 95 % interval.
    half_found
        Height at which half of the lone ones are, relative to the median of the found ones; NaN
        where all or none were found.
    added
        How many atoms were put into the image.
    density_per_nm2, density_low, density_high
        Of all atoms on the support, found or not, with the 95 % interval of their number there; NaN
        of a stack, of which one frame was looked at.
    atom_intensity, atom_error
        Mean intensity of a lone atom as a Gaussian, in counts nm², and its relative standard error.
    sigma_nm
        Width of that Gaussian.
    """

    share: float
    low: float
    high: float
    half_found: float
    added: int
    density_per_nm2: float
    density_low: float
    density_high: float
    atom_intensity: float
    atom_error: float
    sigma_nm: float

    @property
    def is_low(self) -> bool:
        """Whether the density is a lower bound."""
        return self.share < LOWER_BOUND


def estimate_completeness(added: InjectedAtoms, threshold: float) -> Completeness:
    """How many atoms a threshold leaves out.

    Parameters
    ----------
    added
        Atoms that were put into the image, and what became of them.
    threshold
        Least probability of what is reported.
    """
    least = float(logit(np.clip(threshold, 1e-6, 1 - 1e-6)))
    found = np.nan_to_num(added.score, nan=-np.inf) >= least
    means = np.linspace(np.log(added.height.min()) - _BEYOND, np.log(added.height.max()), _MEANS)
    # (scatters, means, lone added atoms): how much each says of atoms of that mean and scatter
    belongs = np.exp(
        -((np.log(added.height) - means[:, None]) ** 2)
        / (2 * np.array(SCATTERS)[:, None, None] ** 2)
    )
    belongs /= belongs.sum(-1, keepdims=True)
    numbers, weight = _posterior(added, belongs, _heights_agree(added, belongs, found, least))
    of_atoms, of_number = weight.sum((0, 1)), weight.sum((0, 2, 3))
    crowded, crowd_error = _crowding(added)
    share = (belongs @ found) * crowded
    value, low, high = _weighted_interval(
        np.broadcast_to(share, of_atoms.shape), of_atoms, crowd_error
    )
    number = np.broadcast_to(np.log(numbers / crowded), of_number.shape)
    middle, fewest, most = _weighted_interval(number, of_number)
    heights = np.exp(means + np.array(SCATTERS)[:, None] ** 2 / 2)
    mean = float((np.log(heights) * of_atoms).sum())
    error = float(np.sqrt(((np.log(heights) - mean) ** 2 * of_atoms).sum()))
    density, sparse, dense = (
        float(np.exp(log)) / added.area_nm2 if added.frames == 1 else float("nan")
        for log in (middle, fewest - 2 * crowd_error, most + 2 * crowd_error)
    )
    return Completeness(
        value,
        low,
        min(high, 1.0),
        _half_found(added.height, found),
        len(added.height),
        density,
        sparse,
        dense,
        2 * np.pi * added.sigma_nm**2 * added.usual * float(np.exp(mean)),
        error,
        added.sigma_nm,
    )


def with_completeness(
    rows: pd.DataFrame, found: dict[str, Completeness | None], everything: str
) -> pd.DataFrame:
    """Rows of ``dispersion.csv`` with `COLUMNS`.

    In the row of everything the share is that of all atoms of the images where it is known, and
    the density is empty unless it is known of every image that has a support: the others are those
    with hardly any atoms.
    """

    def joined(values: list[tuple[Any, ...]]) -> pd.DataFrame:
        columns = (list(column) for column in zip(*values, strict=True))
        return rows.assign(**dict(zip(COLUMNS, columns, strict=True)))

    nothing = (np.nan, np.nan, np.nan, np.nan, "", np.nan, np.nan, np.nan)
    of_images = [found.get(image) for image in rows["image"]]
    values: list[tuple[Any, ...]] = [
        nothing
        if one is None
        else (
            one.share, one.low, one.high, one.half_found, _is(one.share),
            one.density_per_nm2, one.density_low, one.density_high,
        )
        for one in of_images
    ]  # fmt: skip
    out = joined(values)
    if "support_nm2" not in out:  # no image has a density
        return out
    images = out[(out["image"] != everything) & out["support_nm2"].notna()]
    known = images[images["completeness"].notna()]
    if not len(known):
        return out
    shares = [_share_of_all(known["n_atoms"], known[name]) for name in COLUMNS[:3]]
    of_all = (np.nan,) * 3
    if len(known) == len(images) and known[COLUMNS[5]].notna().all():
        of_all = _pooled(known)
    values[-1] = (*shares, np.nan, _is(shares[0]), *of_all)
    return joined(values)


def _share_of_all(found: pd.Series, share: pd.Series) -> float:
    """Of all atoms of images the share that is found, from the numbers of those that are."""
    n = found.to_numpy(float) + 1e-9
    return float(n.sum() / (n / np.maximum(share.to_numpy(float), 1e-6)).sum())


def _is(share: float) -> str:
    return BOUND if share < LOWER_BOUND else ESTIMATE


def _pooled(rows: pd.DataFrame) -> tuple[float, float, float]:
    """Complete density of images together: errors of logarithms add as if each had its own."""
    area = rows["support_nm2"].to_numpy(float)
    density, low, high = (rows[name].to_numpy(float) for name in COLUMNS[5:])
    mean = float(np.average(density, weights=area))
    weight = area * density / (area * density).sum()
    below, above = (
        float(np.sqrt((weight**2 * np.log(np.maximum(end / density, 1e-9)) ** 2).sum()))
        for end in (low, high)
    )
    return mean, mean * float(np.exp(-below)), mean * float(np.exp(above))


def _heights_agree(
    added: InjectedAtoms, belongs: np.ndarray, found: np.ndarray, least: float
) -> np.ndarray:
    """(scatters, means) logarithm of the likelihood of the heights of the found atoms."""
    seen = found & (np.nan_to_num(added.amplitude) > 0)
    own = (added.scores >= least) & (added.own > 0)
    if not seen.any():
        return np.zeros(belongs.shape[:2])
    off = np.log(added.own[own])[:, None] - np.log(added.amplitude[seen])
    kernel = np.exp(-(off**2) / (2 * _KERNEL**2)) / _KERNEL
    of_found = belongs[..., seen]
    density = of_found @ kernel.T / np.maximum(of_found.sum(-1, keepdims=True), 1e-300)
    weight = expit(added.scores[own])
    # Half: a height is known from the score already in part.
    return np.asarray(0.5 * np.log(density + _MIN_DENSITY) @ weight)


def _posterior(
    added: InjectedAtoms, belongs: np.ndarray, heights: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Numbers of atoms, and (false, numbers, scatters, means) how likely they are."""
    edges = np.array([e for e in BINS if e > added.floor + 1e-6])
    edges = np.concatenate([[added.floor], edges])
    seen = np.histogram(added.scores, edges)[0].astype(float)
    of_bin = np.digitize(np.nan_to_num(added.score, nan=-np.inf), edges) - 1
    becomes = belongs @ (of_bin[:, None] == np.arange(len(seen)))
    clear = seen[edges[:-1] >= -0.6].sum()
    numbers = np.geomspace(max(3, clear / 2), max(40, _MAX_TIMES * seen.sum()), _NUMBERS)
    others = np.concatenate(
        [[1e-3], np.geomspace(0.5, max(2, 1.3 * seen.sum()), _OTHERS)]
    )  # fmt: skip
    said = []
    for a, b in FALSE:
        false = _false_in_bins(edges, a, b)
        expected = (
            numbers[:, None, None, None, None] * becomes[:, :, None]
            + (others[:, None] * false)[None, None, None]
        )
        likelihood = (seen * np.log(expected + 1e-9) - expected).sum(-1)
        said.append(likelihood.max(-1) + heights)
    log = TEMPER * np.stack(said)
    weight = np.exp(log - log.max())
    return numbers, weight / weight.sum()


def _false_in_bins(edges: np.ndarray, a: float, b: float) -> np.ndarray:
    """Share of the candidates that are none in each bin of the log-odds."""
    score = np.linspace(edges[0], 6, 1000)
    density = np.exp(-a * (score + 3) - b * (score + 3) ** 2)
    share = np.histogram(score, edges, weights=density)[0]
    return np.asarray(share / share.sum())


def _crowding(added: InjectedAtoms) -> tuple[float, float]:
    """Of the atoms that would be found if they were alone the share that is, and its error."""
    if not len(added.crowd_height):
        return 1.0, 0.0
    found = np.nan_to_num(added.score, nan=-np.inf) >= added.threshold
    off = np.log(added.crowd_height)[:, None] - np.log(added.height)
    near = np.exp(-(off**2) / 0.02)
    alone = float(((near @ found) / near.sum(1)).sum())
    ratio = (added.crowd_gain + _PRIOR_COUNT) / (alone + _PRIOR_COUNT)
    error = np.sqrt(max(added.crowd_gain, 1.0)) / (alone + _PRIOR_COUNT)
    return 1 - CROWDING * (1 - float(np.clip(ratio, *_CROWDED))), CROWDING * float(error)


def _weighted_interval(
    value: np.ndarray, weight: np.ndarray, error: float = 0.0
) -> tuple[float, float, float]:
    """Mean and interval of values with these weights; relative ``error`` widens it."""
    value, weight = value.ravel(), weight.ravel()
    order = np.argsort(value)
    low, high = np.interp(_INTERVAL, np.cumsum(weight[order]), value[order])
    mean = float(weight @ value)
    return mean, float(low * max(0.0, 1 - 2 * error)), float(high * (1 + 2 * error))


def _half_found(relative: np.ndarray, found: np.ndarray) -> float:
    if found.all() or not found.any():
        return float("nan")
    curve = operating.fit_calibration(4 * np.log(relative), found)
    return float(np.exp(-curve.offset / curve.slope / 4)) if curve.slope > 0 else float("nan")
