"""Consensus of several annotators about the positions of atoms, and their agreement.

**Sites.** Marks within 0.13 nm belong to one site: see `annotation_sites`.

**Presence.** An annotator who examined an image and did not mark a site answered that there is no
atom. Annotators also agree that there is no atom at unmarked places, whose number must be defined:
an image has one place per 0.0665 nm², the area of a platinum atom in a (111) plane. Krippendorff's
alpha is given twice: for the marked sites alone, where it is low or negative by construction,
because no site has only negative answers; and for all places, where it is close to the F1 of two
annotators, as kappa is for rare events [1]_. F1 does not depend on absences and is the recommended
figure.

**Consensus.** The model of Dawid and Skene (`fit`) for the places of images with several
annotators, with a sensitivity and a false-positive rate for each. An uncertain mark is a separate
answer there, whose weight is estimated, and counts as a mark elsewhere. Sites with a posterior of
at least ½ belong to the consensus. Two annotators who are compared with nobody else have the same
rates, so a single mark has the same weight for either. Without an image in common with others, an
annotator has no rates, and the marks are the consensus: an uncertain one has a posterior of ½.

**Effect.** Density and mean nearest-neighbour distance by the marks of each annotator and by the
consensus, for which sites are drawn repeatedly from their posteriors. The interval is that of the
disagreement, not of sampling.

Intervals (95 %) of F1 and rates are percentiles of a bootstrap over images; with fewer than five
images, over 4 × 4 tiles of them, which do not include differences between images. They are
extended to Wilson's. Intervals of alpha are over sites or places.

References
----------
.. [1] G. Hripcsak, A. S. Rothschild, "Agreement, the F-measure, and reliability in information
   retrieval", J. Am. Med. Inform. Assoc. 12, 296-298 (2005).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from itertools import combinations
from typing import Any

import numpy as np
import pandas as pd
from scipy.sparse.csgraph import connected_components
from scipy.spatial import KDTree
from scipy.special import expit

from ..matching import f1_of, match
from .agreement import AgreementFigure, alpha_of_counts
from .annotation_sites import (
    MARKED,
    NEIGHBOURS_NM,
    TOLERANCE_NM,
    both_annotated,
    check_annotations,
    merge_annotations,
)
from .bootstrap_units import MIN_IMAGES, Units, positions, wilson_ends, with_ends

# ---- the model of Dawid and Skene
NO, UNCERTAIN, YES, NOT_LOOKED = 0, 1, 2, -1
"""Codes of the answers."""
PRIOR = {"prevalence": (0.5, 0.5), "atom": (1.0, 0.5, 1.5), "none": (0.5, 0.25, 0.25)}
"""Pseudo-counts of places: without and with an atom; with each of the answers."""
IDENTIFIABLE = 3
"""Minimum number of annotators, compared directly or by others, for identifiable rates."""
_MAX_STEPS = 1000
_TOLERANCE = 1e-7
_MAX_VALUES = 2_000_000


@dataclass(frozen=True, eq=False)
class Fitted:
    """Estimated rates and posteriors, with a leading axis B if the weights have one."""

    prevalence: np.ndarray  # (): fraction of places with an atom
    # of_atom, of_none: (K, 3): probabilities of *no*, *uncertain* and *yes* of each annotator, for
    # places with and without an atom
    of_atom: np.ndarray
    of_none: np.ndarray
    posterior: np.ndarray  # (P,): probability of an atom, given the answers

    @property
    def sensitivity(self) -> np.ndarray:
        """Fraction (K,) of the atoms that each annotator marks, including uncertain marks."""
        return np.asarray(1 - self.of_atom[..., NO])

    @property
    def false_positive(self) -> np.ndarray:
        """Fraction (K,) of the places without an atom that each annotator marks."""
        return np.asarray(self.of_none[..., UNCERTAIN] + self.of_none[..., YES])


def fit(
    # (P, K), int: answers of K annotators to each kind of place: `NO`, `UNCERTAIN`, `YES` or
    # `NOT_LOOKED`
    answers: np.ndarray,
    # (P,) or (B, P): number of places of each kind, also for B sets of places at once
    weights: np.ndarray,
) -> Fitted:  # the rates of annotators without a place in common with others are NaN
    """Estimate rates and posteriors from answers.

    Rates are those at places with several annotators: nobody has checked the others.

    Raises `ValueError` if there are other answers or negative weights, or shapes differ.
    """
    answers, weights = np.asarray(answers), np.asarray(weights, float)
    if answers.ndim != 2 or weights.shape[-1:] != answers.shape[:1]:
        raise ValueError(f"answers {answers.shape} and weights {weights.shape} differ in length")
    if not np.isin(answers, (NO, UNCERTAIN, YES, NOT_LOOKED)).all() or (weights < 0).any():
        raise ValueError("answers must be NO, UNCERTAIN, YES or NOT_LOOKED; weights not negative")
    looked = answers != NOT_LOOKED
    shared = looked.sum(axis=1) > 1
    given = (answers[:, :, None] == np.arange(3)).reshape(len(answers), -1).astype(float)
    batch = np.atleast_2d(weights)[:, shared]
    n, k = len(batch), answers.shape[1]
    rates = [np.full(shape, np.nan) for shape in ((n,), (n, k, 3), (n, k, 3))]
    if shared.any():
        step, alike = max(1, _MAX_VALUES // max(answers.size, 1)), same_rates(looked)
        parts = [_fit(given[shared], batch[i : i + step], alike) for i in range(0, n, step)]
        rates = [np.concatenate(values) for values in zip(*parts, strict=True)]
    # Without rates, one looks alone.
    without = ~looked[shared].any(axis=0)
    posterior = np.where(
        (looked & without).any(axis=1),
        answers.max(axis=1, initial=NO) / YES,
        _posterior(given, *rates),
    )
    for of in rates[1:]:
        of[:, without] = np.nan
    fitted = [*rates, posterior]
    return Fitted(*(fitted if weights.ndim == 2 else (values[0] for values in fitted)))


def same_rates(looked: np.ndarray) -> np.ndarray:  # (N, K), bool: who answered, of N items
    """Return the annotators whose rates are assumed to be the same (K, K), bool.

    They are two who are compared with each other and nobody else.
    """
    together = looked.T.astype(float) @ looked
    group = connected_components(together, directed=False)[1]
    same = group[:, None] == group
    return np.asarray(
        np.where(same.sum(axis=1) < IDENTIFIABLE, same, np.eye(len(group), dtype=bool))
    )


def _fit(given: np.ndarray, weights: np.ndarray, alike: np.ndarray) -> tuple[np.ndarray, ...]:
    """Estimate prevalence and rates from answers (P, K × 3), 1 for the one given, else 0."""
    share = given.reshape(len(given), -1, 3).sum(axis=1) @ [0, 0.5, 1] / given.sum(axis=1)
    q = np.broadcast_to(share, weights.shape)
    for _ in range(_MAX_STEPS):
        counts = np.stack([(weights * (1 - q)).sum(axis=1), (weights * q).sum(axis=1)], axis=1)
        prevalence = _shares(counts, "prevalence")[:, 1]
        of_atom, of_none = (
            _shares(alike @ (w @ given).reshape(len(w), -1, 3), of)
            for w, of in ((weights * q, "atom"), (weights * (1 - q), "none"))
        )
        before, q = q, _posterior(given, prevalence, of_atom, of_none)
        if np.abs(q - before).max(initial=0) < _TOLERANCE:
            break
    return prevalence, of_atom, of_none


def _posterior(
    given: np.ndarray, prevalence: np.ndarray, of_atom: np.ndarray, of_none: np.ndarray
) -> np.ndarray:
    """Compute the posterior (B, P) of answers (P, K × 3) by Bayes' rule."""
    evidence = np.log(of_atom / of_none).reshape(len(prevalence), -1) @ given.T
    return np.asarray(expit(np.log(prevalence / (1 - prevalence))[:, None] + evidence))


def _shares(counts: np.ndarray, of: str) -> np.ndarray:
    counts = counts + np.array(PRIOR[of])
    return np.asarray(counts / counts.sum(axis=-1, keepdims=True))


# ---- answers of annotators at sites and at empty places, for the model of Dawid and Skene

PLACE_NM2 = 0.0665
"""Area in nm² of a platinum atom in a (111) plane: that of a place."""


class Places:
    """Sites and empty places of all images, grouped by the answers of all annotators.

    Parameters
    ----------
    sites : pandas.DataFrame
        Sites, as from `annotation_sites.merge_annotations`.
    looked : pandas.DataFrame
        A row per image and annotator who examined it: ``image, annotator, area_nm2``.

    Attributes
    ----------
    kinds : ndarray of shape (P, K), int
        Distinct answers, as for `dawid_skene.fit`.
    weights : ndarray of shape (P,)
        Number of places of each kind, including empty ones.
    """

    def __init__(self, sites: pd.DataFrame, looked: pd.DataFrame) -> None:
        area = looked.groupby("image", sort=False)["area_nm2"].median()
        self._images = list(area.index)
        held = sites.groupby("image").size().reindex(area.index, fill_value=0)
        self._n_empty = (area / PLACE_NM2 - held).clip(lower=0).to_numpy(float)
        people = list(dict.fromkeys(looked["annotator"]))
        who = pd.crosstab(looked["image"], looked["annotator"]).loc[self._images, people]
        empty = np.where(who.to_numpy() > 0, NO, NOT_LOOKED)
        marked = YES * sites[[MARKED + name for name in people]].to_numpy(float)
        answers = np.concatenate([np.nan_to_num(marked, nan=NOT_LOOKED).astype(int), empty])
        self.kinds, kind = np.unique(answers, axis=0, return_inverse=True)
        self._of_site, self._of_empty = np.split(kind.ravel(), [len(sites)])
        self._marked = np.bincount(self._of_site, minlength=len(self.kinds)).astype(float)
        self.weights = self._marked + np.bincount(self._of_empty, self._n_empty, len(self.kinds))

    def per_unit(
        self,
        units: Units,
        sites: pd.DataFrame,  # sites, as from `annotation_sites.merge_annotations`
    ) -> np.ndarray:  # (units, P)
        """Count the places of each kind in each unit; empty ones spread evenly over an image.

        The units may be of some of the images.
        """
        out = np.zeros((units.n, len(self.kinds)))
        for number, image in enumerate(units.images):
            i = self._images.index(image)
            here = np.flatnonzero(sites["image"] == image)
            unit = units.of(image, sites[["y_nm", "x_nm"]].to_numpy(float)[here])
            np.add.at(out, (unit, self._of_site[here]), 1.0)
            first = number * units.per_image
            share = self._n_empty[i] / units.per_image
            out[first : first + units.per_image, self._of_empty[i]] += share
        return out

    def posterior(self, fitted: Fitted) -> np.ndarray:
        """Return the posterior of each site."""
        return np.asarray(fitted.posterior[self._of_site], float)

    def missed(self, fitted: Fitted) -> float:
        """Return the expected number of atoms in empty places; NaN without any rates.

        Places of images whose only annotator has no rates do not count.
        """
        if np.isnan(fitted.sensitivity).all():
            return np.nan
        return float((self._n_empty * fitted.posterior[self._of_empty]).sum())

    def alpha(self, rng: np.random.Generator, empty: bool) -> AgreementFigure:
        """Compute Krippendorff's alpha of yes and no; an uncertain mark is a yes."""
        n = np.round(self.weights if empty else self._marked).astype(int)
        given = np.stack([(self.kinds == NO).sum(axis=1), (self.kinds > NO).sum(axis=1)], axis=1)
        shared = (given.sum(axis=1) >= 2) & (n > 0)
        return alpha_of_counts(given[shared], n[shared], rng) if shared.any() else AgreementFigure()


def posterior_of(sites: pd.DataFrame, looked: pd.DataFrame) -> np.ndarray:
    """Return the probability that each site is an atom."""
    places = Places(sites, looked)
    return places.posterior(fit(places.kinds, places.weights))


CONSENSUS_THRESHOLD = 0.5
"""Minimum posterior of a site of the consensus."""
_N_DRAWS = 200
_MIN_SENSITIVITY, _MIN_F1 = 0.2, 0.1
"""Below one of these, marks have another unit or origin rather than another opinion behind them."""


@dataclass(frozen=True, eq=False)
class Consensus:
    """Consensus of several annotators."""

    annotators: tuple[str, ...]  # names in order of appearance
    tolerance_nm: float  # maximum distance in nm of the marks of a site
    # A row per site, as from `annotation_sites.merge_annotations`, with its ``posterior``
    sites: pd.DataFrame
    # A row per annotator: ``annotator, images, marks, uncertain``; ``sensitivity``, ``false_share``
    # (fraction of the marks that are not atoms) and ``false_per_nm2``, each with ``_low`` and
    # ``_high``; ``offset_y_nm, offset_x_nm`` of the marks from those of the others, and
    # ``scatter_nm`` about that along an axis
    raters: pd.DataFrame
    # A row per pair of annotators with images in common: ``a, b, images, marks_a, marks_b, matched,
    # f1, f1_low, f1_high, f1_certain`` (without uncertain marks) and ``rms_distance_nm``
    pairs: pd.DataFrame
    # alpha_sites, alpha_places: krippendorff's alpha of marked sites and of all places
    alpha_sites: AgreementFigure
    alpha_places: AgreementFigure
    # estimated number of atoms that no annotator marked. Too low if faint atoms are faint for
    # everyone; NaN with one annotator per image
    missed_by_all: float
    # effect of disagreement: a row per annotator and one of the ``consensus``, for images that all
    # annotators examined: ``who, atoms, density_per_nm2, nearest_neighbour_nm`` (mean), for the
    # consensus with ``_low`` and ``_high``
    effect: pd.DataFrame
    notes: tuple[str, ...]  # assumptions and limitations

    @property
    def believed(self) -> pd.DataFrame:
        """The sites of the consensus."""
        return self.sites[self.sites["posterior"] >= CONSENSUS_THRESHOLD].reset_index(drop=True)

    @property
    def mismatched(self) -> dict[str, str]:
        """Annotators whose marks hardly match those of the others, each with a warning."""
        found = {}
        for rater in self.raters.to_dict("records"):
            who, sensitivity = rater["annotator"], float(rater["sensitivity"])
            own = (self.pairs["a"] == who) | (self.pairs["b"] == who)
            f1 = float(self.pairs.loc[own, "f1"].max())
            if rater["marks"] and (sensitivity < _MIN_SENSITIVITY or f1 < _MIN_F1):
                found[who] = (
                    f"The marks of {who} hardly match those of the others (sensitivity "
                    f"{sensitivity:.2f}, F1 at most {f1:.2f}). Check their unit and origin, or "
                    "leave them out."
                )
        return found

    @property
    def warnings(self) -> tuple[str, ...]:
        """Warnings about the marks of single annotators."""
        return tuple(self.mismatched.values())

    def to_dict(self) -> dict[str, Any]:
        """Return everything except the sites, ready for JSON."""
        return {
            "annotators": list(self.annotators),
            "tolerance_nm": self.tolerance_nm,
            "sites": len(self.sites),
            "sites_believed": len(self.believed),
            "alpha_sites": asdict(self.alpha_sites),
            "alpha_places": asdict(self.alpha_places),
            "missed_by_all": self.missed_by_all,
            "raters": self.raters.to_dict("records"),
            "pairs": self.pairs.to_dict("records"),
            "effect": self.effect.to_dict("records"),
            "warnings": list(self.warnings),
            "notes": list(self.notes),
        }


def consensus(
    marks: pd.DataFrame,
    looked: pd.DataFrame,
    tolerance_nm: float = TOLERANCE_NM,
    seed: int = 0,
) -> Consensus:
    """Merge the marks of several annotators, and compute their agreement.

    Parameters
    ----------
    marks : pandas.DataFrame
        A row per mark: ``image, annotator, y_nm, x_nm``; if known ``y_px, x_px`` and ``uncertain``.
    looked : pandas.DataFrame
        A row per image and annotator who examined it, also without marks: ``image, annotator,
        area_nm2``.
    tolerance_nm : float
        Maximum distance in nm of the marks of a site.
    seed : int
        Seed of the bootstrap and of the draws.

    Raises
    ------
    TableError
        If columns are missing, marks are in an image that the annotator did not examine, or an area
        is unknown.
    ValueError
        If the tolerance is not positive.
    """
    marks, looked = check_annotations(marks, looked)
    sites, marks = merge_annotations(marks, looked, tolerance_nm)
    compared = _compared(looked)
    # Rates and F1 are of images with several annotators: their intervals are over these.
    units = Units(dict.fromkeys((compared if len(compared) else looked)["image"]), marks, seed)
    places = Places(sites, looked)
    fitted = fit(places.kinds, places.weights)
    drawn = fit(places.kinds, units.draws @ places.per_unit(units, sites))
    sites["posterior"] = places.posterior(fitted)
    rng = np.random.default_rng(seed)
    annotators = tuple(dict.fromkeys(looked["annotator"]))
    return Consensus(
        annotators,
        float(tolerance_nm),
        sites,
        _raters(marks, looked, sites, fitted, drawn),
        _pairs(marks, looked, tolerance_nm, units),
        places.alpha(rng, empty=False),
        places.alpha(rng, empty=True),
        places.missed(fitted),
        _effect(marks, looked, sites, rng),
        _notes(looked, tolerance_nm, units, marks),
    )


def _compared(looked: pd.DataFrame) -> pd.DataFrame:
    """Return the rows of images that several annotators examined."""
    return looked[looked["image"].duplicated(keep=False)]


def _raters(
    marks: pd.DataFrame, looked: pd.DataFrame, sites: pd.DataFrame, fitted: Fitted, drawn: Fitted
) -> pd.DataFrame:
    rows = []
    several = _compared(looked)
    for k, name in enumerate(dict.fromkeys(looked["annotator"])):
        own, seen = (table[table["annotator"] == name] for table in (marks, looked))
        row: dict[str, Any] = {
            "annotator": name,
            "images": len(seen),
            "marks": len(own),
            "uncertain": int(own["uncertain"].sum()),
        }
        # What the rates are estimated from.
        compared = several[several["annotator"] == name]
        atoms, checked = (t[t["image"].isin(compared["image"])] for t in (sites, own))
        n_atoms = float(atoms["posterior"].sum())
        n_places = float(compared["area_nm2"].sum()) / PLACE_NM2
        value, in_draws = _rates_of(fitted, k), _rates_of(drawn, k)
        # Of how many each is a fraction, and its unit: all draws are the same without mistakes.
        of = {
            "sensitivity": (n_atoms, 1.0),
            "false_share": (float(len(checked)), 1.0),
            "false_per_nm2": (n_places, PLACE_NM2),
        }
        for rate, (n, unit) in of.items():
            ends = [end / unit for end in wilson_ends(float(value[rate]) * unit * n, n)]
            row |= with_ends(rate, float(value[rate]), in_draws[rate], ends)
        rows.append(row | _offset(own, marks))
    return pd.DataFrame(rows)


def _rates_of(fitted: Fitted, k: int) -> dict[str, np.ndarray]:
    """Return the rates of one annotator, with the leading axis of draws if there is one."""
    sensitivity, f = fitted.sensitivity[..., k], fitted.false_positive[..., k]
    false, true = (1 - fitted.prevalence) * f, fitted.prevalence * sensitivity
    return {
        "sensitivity": sensitivity,
        "false_share": false / (false + true),
        "false_per_nm2": false / PLACE_NM2,
    }


def _offset(own: pd.DataFrame, marks: pd.DataFrame) -> dict[str, float]:
    """Compute the mean offset of marks from those of the others on a site, and the scatter."""
    unknown = dict.fromkeys(("offset_y_nm", "offset_x_nm", "scatter_nm"), np.nan)
    others = marks.drop(index=own.index).groupby(["image", "site"])[["y_nm", "x_nm"]]
    keys = pd.MultiIndex.from_frame(own[["image", "site"]])
    means, m = others.mean().reindex(keys), others.size().reindex(keys).to_numpy(float)
    step = own[["y_nm", "x_nm"]].to_numpy(float) - means.to_numpy(float)
    there = np.isfinite(m)
    if there.sum() < 2:
        return unknown
    step, m = step[there], m[there]
    mean = step.mean(axis=0)
    # The mean of m others has 1/m of the variance of one annotator, if all are equal.
    variance = (((step - mean) ** 2).mean(axis=1) / (1 + 1 / m)).sum() / (len(step) - 1)
    return {
        "offset_y_nm": float(mean[0]),
        "offset_x_nm": float(mean[1]),
        "scatter_nm": float(np.sqrt(variance)),
    }


_PAIR_COLUMNS = [
    "a", "b", "images", "marks_a", "marks_b", "matched", "f1", "f1_low", "f1_high", "f1_certain",
    "rms_distance_nm",
]  # fmt: skip


def _pairs(
    marks: pd.DataFrame, looked: pd.DataFrame, tolerance_nm: float, units: Units
) -> pd.DataFrame:
    rows = []
    sure = marks[~marks["uncertain"]]
    for a, b in combinations(dict.fromkeys(looked["annotator"]), 2):
        images = both_annotated(looked, a, b)
        if not images:
            continue
        one, other = (marks[marks["annotator"] == name] for name in (a, b))
        certain = [sure[sure["annotator"] == name] for name in (a, b)]
        counts = units.counts(one, other, images, tolerance_nm)
        matched, n_a, n_b = counts.sum(axis=0).astype(int)
        distance = np.concatenate(
            [match(positions(one, i), positions(other, i), tolerance_nm).distance for i in images]
        )
        rows.append(
            {
                "a": a,
                "b": b,
                "images": len(images),
                "marks_a": n_a,
                "marks_b": n_b,
                "matched": matched,
                **units.f1(counts),
                "f1_certain": f1_of(
                    *units.counts(certain[0], certain[1], images, tolerance_nm).sum(axis=0)
                ),
                "rms_distance_nm": float(np.sqrt(np.mean(distance**2))) if matched else np.nan,
            }
        )
    return pd.DataFrame(rows, columns=_PAIR_COLUMNS)


_EFFECT_COLUMNS = [
    "who", "atoms", "density_per_nm2", "density_per_nm2_low", "density_per_nm2_high",
    "nearest_neighbour_nm", "nearest_neighbour_nm_low", "nearest_neighbour_nm_high",
]  # fmt: skip


def _effect(
    marks: pd.DataFrame, looked: pd.DataFrame, sites: pd.DataFrame, rng: np.random.Generator
) -> pd.DataFrame:
    """Compute density and distance for each annotator, and for draws of the consensus."""
    people = dict.fromkeys(looked["annotator"])
    by_image = looked.groupby("image", sort=False)
    images = [image for image, n in by_image.size().items() if n == len(people)]
    area = float(by_image["area_nm2"].median().reindex(images).sum())
    if not images:
        return pd.DataFrame([], columns=_EFFECT_COLUMNS)
    rows: list[dict[str, Any]] = []
    for name in people:
        own = marks[marks["annotator"] == name]
        rows.append({"who": name, **_density([positions(own, str(i)) for i in images], area)})
    places = [positions(sites, str(i)) for i in images]
    posterior = [sites.loc[sites["image"] == i, "posterior"].to_numpy(float) for i in images]
    drawn = pd.DataFrame(
        _density([p[rng.random(len(p)) < q] for p, q in zip(places, posterior, strict=True)], area)
        for _ in range(_N_DRAWS)
    )
    n = float(sum(q.sum() for q in posterior))
    row: dict[str, Any] = {"who": "consensus", "atoms": n}
    # The mean number is known; that of the draws scatters about it.
    means = {**drawn.mean(), "density_per_nm2": n / area}
    for name in ("density_per_nm2", "nearest_neighbour_nm"):
        row |= with_ends(name, float(means[name]), drawn[name].to_numpy(float))
    return pd.DataFrame([*rows, row], columns=_EFFECT_COLUMNS)


def _density(points: Sequence[np.ndarray], area_nm2: float) -> dict[str, float]:
    """Compute number, density, and mean nearest-neighbour distance without edge correction."""
    n = sum(map(len, points))
    near = [KDTree(p).query(p, 2)[0][:, 1] for p in points if len(p) > 1]
    return {
        "atoms": n,
        "density_per_nm2": n / area_nm2,
        "nearest_neighbour_nm": float(np.concatenate(near).mean()) if near else np.nan,
    }


def _notes(
    looked: pd.DataFrame, tolerance_nm: float, units: Units, marks: pd.DataFrame
) -> tuple[str, ...]:
    notes = [
        "Absence: an annotator who examined an image and did not mark a site answered no; an image "
        f"has one place per {PLACE_NM2} nm². alpha_sites excludes unmarked places and is low by "
        "construction; alpha_places includes them."
    ]
    who = pd.crosstab(looked["image"], looked["annotator"]) > 0
    names, n_alike = who.columns, same_rates(who.to_numpy()).sum(axis=1)
    is_compared = who[who.sum(axis=1) > 1].any().to_numpy()
    if not is_compared.any():
        notes.append(
            "Each image has one annotator: the consensus consists of the marks, uncertain ones "
            "with probability 0.5, and error rates can't be estimated."
        )
    elif not is_compared.all():
        notes.append(
            f"No image of {', '.join(names[~is_compared])} has another annotator: the error rates "
            "can't be estimated, and the marks are the consensus, uncertain ones with probability "
            "0.5."
        )
    if (n_alike > 1).any():
        notes.append(
            "Two annotators who are compared with nobody else: sensitivities and false marks are "
            "not identifiable, and are assumed equal for both. All sites that only one of them "
            "marked have one probability, which is the higher the more sites both marked, up to "
            "about 0.8."
        )
    if (is_compared & (n_alike == 1)).any():
        notes.append(
            "Errors are assumed to be independent. Atoms that are faint for everyone make the "
            "sensitivities too high, and missed_by_all too low."
        )
    if tolerance_nm >= NEIGHBOURS_NM / 2:
        notes.append(
            f"The tolerance of {tolerance_nm:g} nm is at least half the nearest-neighbour distance "
            f"in platinum ({NEIGHBOURS_NM} nm): marks of two atoms may become one site."
        )
    if marks["uncertain"].any():
        notes.append(
            "Uncertain marks are a separate answer for the posterior, and count as marks "
            "elsewhere; f1_certain excludes them."
        )
    if units.what == "tiles":
        notes.append(
            f"Fewer than {MIN_IMAGES} images: intervals are over parts of them, and do not include "
            "differences between images."
        )
    return tuple(notes)
