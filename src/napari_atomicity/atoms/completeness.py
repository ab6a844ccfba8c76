"""Completeness: the share of the atoms of an image that is detected, by injection and recovery.

A density counts atoms that an annotator would mark. Atoms that do not exceed the texture of the
support are not among the candidates: where many are faint the density can be a lower bound, or not
if false candidates make up for them. The missing atoms are estimated from artificial atoms that
are injected into the image (`atoms.injection`).

The injected atoms give the number of candidates of each score that N atoms of a mean height and a
scatter produce. False candidates are added; their number falls with the score as in simulated
carbon (`FALSE`), and their total is unknown. The numbers of candidates in bins of the score are
Poisson distributed, and the measured heights of the detected atoms must agree with the model. This
gives every N, mean and scatter a likelihood; the results are posterior means and quantiles. The
likelihood is tempered (`TEMPER`), since injected spots differ from atoms and candidates are not
independent. Completeness and Eddington's bias are corrected in astronomy in the same way.

Heights of atoms of one element are log-normal with a scatter of 25 to 45 % (`SCATTERS`). Their mean
is the height of an isolated atom, which calibrates counts (`atoms.single_atom_calibration`) even
where only the brightest atoms are detected.

Atoms closer to each other than the width of the probe are detected as one. Injection among the
other atoms measures the loss; `CROWDING` is the share of it that applies to the atoms of the image.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from scipy.special import expit, logit

from ..core.tables.columns import TEXT, Column
from .finding import operating_point as operating
from .injected_spots import CROWD_SHARE
from .injection import InjectedAtoms

SCATTERS = (0.25, 0.35, 0.45)
"""Standard deviations of the logarithm of the height of atoms."""
FALSE = ((0.25, 0.1), (0.45, 0.1), (0.65, 0.1))
"""Decrease of the logarithm of the number of false candidates with the log-odds s of the score:
a (s + 3) + b (s + 3)², for each of these (a, b). They span simulations of carbon under several
conditions."""
BINS = (-3.9, -3.0, -2.2, -1.4, -0.6, 0.2, 1.0, 2.0, 3.0, np.inf)
"""Edges of the bins of the log-odds."""
TEMPER = 0.5
"""Weight of each candidate as evidence."""
CROWDING = 0.5 / (1 + CROWD_SHARE / 2)
"""Share of the loss of atoms injected among the others that applies to the atoms of the image:
the mean atom has half of the neighbours, the injected ones have more than all."""
LOWER_BOUND = 2 / 3
"""Below this completeness the density is no estimate of all atoms, see `is_lower_bound`."""
ESTIMATE, BOUND = "estimate", "lower bound"
"""Values of ``density_is``."""
SCHEMA = (
    Column("completeness", "float64", "", "fraction of the atoms of the image that is detected"),
    Column("completeness_low", "float64", "", "lower end of its 95 % interval"),
    Column("completeness_high", "float64", "", "upper end of its 95 % interval"),
    Column(
        "half_found_height",
        "float64",
        "",
        "height at which half of the isolated injected atoms are detected, relative to the median "
        "height of the detected atoms",
    ),
    Column(
        "density_is",
        TEXT,
        "",
        f'"{BOUND}" if less than two thirds of the atoms are detected and density_per_nm2 is below '
        f'the interval of the density of all atoms, where that is known; otherwise "{ESTIMATE}"; '
        "of several images, not all of which were tested, as of one of those that were; empty with "
        "fewer than 8 candidates",
    ),
    Column(
        "density_complete_per_nm2",
        "float64",
        "1/nm²",
        "density of all atoms, detected or not, without false candidates and away from clusters",
    ),
    Column("density_complete_low_per_nm2", "float64", "1/nm²", "lower end of its 95 % interval"),
    Column("density_complete_high_per_nm2", "float64", "1/nm²", "upper end of its 95 % interval"),
    Column("completeness_images", "float64", "", "number of images whose completeness is known"),
)
"""Columns of ``dispersion.csv``, see `atoms.dispersion.DISPERSION_SCHEMA`."""
COLUMNS = tuple(column.name for column in SCHEMA)
_MEANS, _NUMBERS, _OTHERS, _BEYOND = 50, 70, 40, 0.5
_MAX_TIMES = 12.0
_KERNEL = 0.15
_INTERVAL = 0.025, 0.975
_MIN_DENSITY = 1e-3
_PRIOR_COUNT = 4.0
_CROWDED = 0.3, 1.0


@dataclass(frozen=True)
class Completeness:
    """Completeness of the detected atoms of an image at its threshold."""

    # share, low, high: share of the atoms on the support that is detected, with the 95 % interval
    share: float
    low: float
    high: float
    # height at which half of the isolated atoms are detected, relative to the median of the
    # detected ones; NaN where all or no atoms were detected
    half_found: float
    added: int  # number of injected atoms
    # density_per_nm2, density_low, density_high: density of all atoms on the support, detected or
    # not, with the 95 % interval; NaN for a stack, of which one frame is tested
    density_per_nm2: float
    density_low: float
    density_high: float
    # atom_intensity, atom_error: mean intensity of an isolated Gaussian atom in counts nm², and its
    # relative standard error
    atom_intensity: float
    atom_error: float
    sigma_nm: float  # width of that Gaussian


def is_lower_bound(share: float, density_low: float, density_per_nm2: float) -> bool:
    """Return whether the density of the detected atoms is a lower bound of that of all.

    It is not, however many atoms are missed, where it is within the interval of the density of all
    atoms, which is corrected for false detections as well.
    """
    return share < LOWER_BOUND and not density_low <= density_per_nm2  # NaN if it is not known


def format_which_counts(share: float, is_bound: bool) -> str:
    """Say what the density of the detected atoms is; "" where few atoms are missed."""
    if not share < LOWER_BOUND:
        return ""
    if is_bound:
        return "the density is a lower bound"
    return "rely on the corrected density and its interval"


def estimate_completeness(added: InjectedAtoms, threshold: float) -> Completeness:
    """Estimate completeness at a threshold of the probability, complete density and mean atom."""
    min_log_odds = float(logit(np.clip(threshold, 1e-6, 1 - 1e-6)))
    found = np.nan_to_num(added.score, nan=-np.inf) >= min_log_odds
    means = np.linspace(np.log(added.height.min()) - _BEYOND, np.log(added.height.max()), _MEANS)
    # (scatters, means, isolated injected atoms): weight of each for atoms of that mean and scatter
    belongs = np.exp(
        -((np.log(added.height) - means[:, None]) ** 2)
        / (2 * np.array(SCATTERS)[:, None, None] ** 2)
    )
    belongs /= belongs.sum(-1, keepdims=True)
    numbers, weight = _posterior(
        added, belongs, _heights_agree(added, belongs, found, min_log_odds)
    )
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
    rows: pd.DataFrame,  # of images, then of groups, then of all images
    found: dict[str, Completeness | None],
    everything: str,
    groups: Mapping[str, Collection[str]] | None = None,  # scope of each group → its images
) -> pd.DataFrame:
    """Add `COLUMNS` to the rows of ``dispersion.csv``.

    The row of several images has the completeness of the images where it is known. Its density is
    empty unless it is known for every image with support, since images without it have few atoms.
    """

    def joined(values: list[tuple[Any, ...]]) -> pd.DataFrame:
        columns = (list(column) for column in zip(*values, strict=True))
        return rows.assign(**dict(zip(COLUMNS, columns, strict=True)))

    nothing = (*[np.nan] * 4, "", *[np.nan] * 4)
    detected = rows.reindex(columns=["density_per_nm2"])["density_per_nm2"].astype(float).tolist()
    of_images = zip((found.get(image) for image in rows["image"]), detected, strict=True)
    values: list[tuple[Any, ...]] = [
        nothing
        if one is None
        else (
            one.share, one.low, one.high, one.half_found,
            _format_bound(one.share, one.density_low, density),
            one.density_per_nm2, one.density_low, one.density_high, 1.0,
        )
        for one, density in of_images
    ]  # fmt: skip
    out = joined(values)
    if "support_nm2" not in out:  # no image has a density
        return out
    scopes = {**(groups or {}), everything: rows["image"].tolist()}
    images = out.iloc[: len(out) - len(scopes)]
    images = images[images["support_nm2"].notna()]
    for place, members in enumerate(scopes.values(), len(out) - len(scopes)):
        here = images[images["image"].isin(members)]
        values[place] = _of_scope(here, detected[place]) or values[place]
    return joined(values)


def _of_scope(images: pd.DataFrame, detected_per_nm2: float) -> tuple[Any, ...] | None:
    """Return the values of `COLUMNS` of several images with support; None if nothing is known."""
    known = images[images["completeness"].notna()]
    if not len(known):
        return None
    # A stack counts as its mean frame.
    n_atoms = known["n_atoms"] / (known["frames"].clip(lower=1) if "frames" in known else 1)
    shares = [_share_of_all(n_atoms, known[name]) for name in COLUMNS[:3]]
    of_all = (np.nan,) * 3
    if len(known) == len(images) and known[COLUMNS[5]].notna().all():
        of_all = _pooled(known)
    is_bound = _format_bound(shares[0], of_all[1], detected_per_nm2)
    if np.isnan(of_all[1]):  # not of every image: those that were tested tell it
        is_bound = BOUND if (known["density_is"] == BOUND).any() else ESTIMATE
    return (*shares, np.nan, is_bound, *of_all, float(len(known)))


def _share_of_all(found: pd.Series, share: pd.Series) -> float:
    """Return the completeness of images together, from their numbers of detected atoms."""
    n = found.to_numpy(float) + 1e-9
    return float(n.sum() / (n / np.maximum(share.to_numpy(float), 1e-6)).sum())


def _format_bound(share: float, density_low: float, density_per_nm2: float) -> str:
    return BOUND if is_lower_bound(share, density_low, density_per_nm2) else ESTIMATE


def _pooled(rows: pd.DataFrame) -> tuple[float, float, float]:
    """Return the complete density of images together, with independent errors of logarithms."""
    area = rows["support_nm2"].to_numpy(float)
    density, low, high = (rows[name].to_numpy(float) for name in COLUMNS[5:8])
    mean = float(np.average(density, weights=area))
    weight = area * density / (area * density).sum()
    below, above = (
        float(np.sqrt((weight**2 * np.log(np.maximum(end / density, 1e-9)) ** 2).sum()))
        for end in (low, high)
    )
    return mean, mean * float(np.exp(-below)), mean * float(np.exp(above))


def _heights_agree(
    added: InjectedAtoms, belongs: np.ndarray, found: np.ndarray, min_log_odds: float
) -> np.ndarray:
    """Return the (scatters, means) log-likelihood of the heights of the detected atoms."""
    seen = found & (np.nan_to_num(added.amplitude) > 0)
    own = (added.scores >= min_log_odds) & (added.own > 0)
    if not seen.any():
        return np.zeros(belongs.shape[:2])
    off = np.log(added.own[own])[:, None] - np.log(added.amplitude[seen])
    kernel = np.exp(-(off**2) / (2 * _KERNEL**2)) / _KERNEL
    of_found = belongs[..., seen]
    density = of_found @ kernel.T / np.maximum(of_found.sum(-1, keepdims=True), 1e-300)
    weight = expit(added.scores[own])
    # Half the weight: the score determines a height in part already.
    return np.asarray(0.5 * np.log(density + _MIN_DENSITY) @ weight)


def _posterior(
    added: InjectedAtoms, belongs: np.ndarray, heights: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Return numbers of atoms, and their (false, numbers, scatters, means) posterior."""
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
    log_likelihoods = []
    for a, b in FALSE:
        false = _false_in_bins(edges, a, b)
        likelihood = -(numbers[:, None, None, None] * becomes.sum(-1)[..., None] + others)
        for k, n in enumerate(seen):  # logarithms in single precision are several times as fast
            right = np.asarray(numbers[:, None, None] * becomes[..., k], np.float32)
            wrong = np.asarray(others * false[k] + 1e-9, np.float32)
            likelihood += n * np.log(right[..., None] + wrong)
        log_likelihoods.append(likelihood.max(-1) + heights)
    log = TEMPER * np.stack(log_likelihoods)
    weight = np.exp(log - log.max())
    return numbers, weight / weight.sum()


def _false_in_bins(edges: np.ndarray, a: float, b: float) -> np.ndarray:
    """Return the share of the false candidates in each bin of the log-odds."""
    score = np.linspace(edges[0], 6, 1000)
    density = np.exp(-a * (score + 3) - b * (score + 3) ** 2)
    share = np.histogram(score, edges, weights=density)[0]
    return np.asarray(share / share.sum())


def _crowding(added: InjectedAtoms) -> tuple[float, float]:
    """Return the share detected of atoms that would be detected if isolated, and its error."""
    if not len(added.crowd_height):
        return 1.0, 0.0
    found = np.nan_to_num(added.score, nan=-np.inf) >= added.threshold
    off = np.log(added.crowd_height)[:, None] - np.log(added.height)
    near = np.exp(-(off**2) / 0.02)
    isolated = float(((near @ found) / near.sum(1)).sum())
    ratio = (added.crowd_gain + _PRIOR_COUNT) / (isolated + _PRIOR_COUNT)
    error = np.sqrt(max(added.crowd_gain, 1.0)) / (isolated + _PRIOR_COUNT)
    return 1 - CROWDING * (1 - float(np.clip(ratio, *_CROWDED))), CROWDING * float(error)


def _weighted_interval(
    value: np.ndarray, weight: np.ndarray, error: float = 0.0
) -> tuple[float, float, float]:
    """Return mean and interval of weighted values; the relative ``error`` widens it."""
    value, weight = value.ravel(), weight.ravel()
    order = np.argsort(value)
    low, high = np.interp(_INTERVAL, np.cumsum(weight[order]), value[order])
    mean = float(weight @ value)
    return mean, float(low * max(0.0, 1 - 2 * error)), float(high * (1 + 2 * error))


def _half_found(relative: np.ndarray, found: np.ndarray) -> float:
    """Return the relative height at which half of the atoms are detected."""
    if found.all() or not found.any():
        return float("nan")
    curve = operating.fit_calibration(4 * np.log(relative), found)
    return float(np.exp(-curve.offset / curve.slope / 4)) if curve.slope > 0 else float("nan")
