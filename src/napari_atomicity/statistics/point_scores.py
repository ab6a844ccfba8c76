"""Scores of found points against labelled ones: precision, recall, F1, distances, accuracy.

Points are matched one to one within a tolerance, the most pairs and then the least total distance
(`matching.match`); what is found and has no partner counts as wrong, what is labelled and has none
as missed. Counts of all images are added up before anything is divided.

The 95 % intervals are percentiles of a bootstrap over images, or Wilson's interval of the pooled
counts where that reaches further; of one image it is Wilson's alone. For F1 it is that of Jaccard's
index J, the share of pairs among all that was found or labelled, brought over by F1 = 2J / (1 + J).
Wilson's knows nothing of what the atoms of an image have in common, and a few images say little of
how images differ: less than about ten, and the interval is too narrow rather than too wide.

Where nobody has labelled what is *no* atom, there are no true negatives, and accuracy means
nothing. If the truth has a column ``atom``, its rows with 0 are places that were looked at and
found empty. They take no part in precision, recall and F1; a prediction that is left over and lies
on one, within the tolerance, makes that place wrong.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from ..core.errors import TableError
from .intervals import wilson_interval
from .matching import BOX_IOU, BOX_PX, TOLERANCE_NM, f1_of, match, match_boxes
from .point_tables import (
    PointField,
    collect_fields,
    lower_case_columns,
    match_image_names,
    prepare_points,
)

TOLERANCES_NM = (0.05, 0.1, 0.15, 0.2, 0.3)
"""At which scores are given beside the one that was asked for."""
_N_BOOTSTRAP = 2000
_LEVEL = 0.95


@dataclass(frozen=True, eq=False)
class Counts:
    """Matched, found and labelled points, (I,) each: an entry per image."""

    matched: np.ndarray
    predicted: np.ndarray
    truth: np.ndarray

    @classmethod
    def of(cls, rows: Iterable[tuple[int, int, int]]) -> Counts:
        table = np.array(list(rows), float).reshape(-1, 3)
        return cls(*table.T)

    def weighted(self, weights: np.ndarray) -> Counts:
        """Sums over images, an entry per row of weights (B, I)."""
        return Counts(weights @ self.matched, weights @ self.predicted, weights @ self.truth)

    def f1(self) -> np.ndarray:
        return _divided(2 * self.matched, self.predicted + self.truth)


def evaluate_points(
    predicted: pd.DataFrame,
    truth: pd.DataFrame,
    tolerance_nm: float = TOLERANCE_NM,
    pixel_size_nm: float | None = None,
    images: Sequence[str] = (),
    seed: int = 0,
) -> dict[str, Any]:
    """Score found points against labelled ones.

    Parameters
    ----------
    predicted, truth : pandas.DataFrame
        Tables of points: ``y_nm, x_nm``, or in pixels ``y_px, x_px`` (also ``Y, X``; ``row,
        col``; ``axis-0, axis-1``), in any case of letters; nm count where both are there.
        Columns ``image`` and ``frame`` where there are several; names of images agree if
        they are equal, but for the suffix, or if that of the truth goes on with something
        that is neither letter nor digit. Tables of one image each belong together if one of
        them does not name it. Optional in the truth: ``atom`` (0: looked at, and no atom)
        and ``uncertain``.
    tolerance_nm : float
        Largest distance of a match.
    pixel_size_nm : float, optional
        Of tables in pixels; else from rows that are given in both units.
    images : sequence of str
        Names of images that belong to the truth, also if no atom is labelled in them.
    seed : int
        Of the bootstrap.

    Returns
    -------
    dict
        Ready for JSON: ``detection`` at the tolerance (truth, predicted, matched, precision,
        recall, f1, each of the three with ``_low`` and ``_high``, mean and r.m.s. distance),
        ``by_tolerance`` the same at others, ``published_rule`` (boxes; also the mean over images,
        as published), ``negatives`` (accuracy; None if the truth has none), ``uncertain`` and
        ``per_image``. A score that is not defined is None.

    Raises
    ------
    TableError
        If positions, names of images or frames are missing, names are ambiguous, or the pixel size
        is needed and not known.
    """
    if not (np.isfinite(tolerance_nm) and tolerance_nm > 0):
        raise TableError(f"a tolerance of {tolerance_nm:g} nm matches nothing")
    found, labelled = (
        prepare_points(predicted, "the table of predictions"),
        prepare_points(truth, "truth"),
    )
    known = list(dict.fromkeys([*labelled["image"], *images]))
    both_named = "image" in lower_case_columns(predicted) and (
        "image" in lower_case_columns(truth) or bool(images)
    )
    names = match_image_names(list(dict.fromkeys(found["image"])), known, both_named)
    foreign = sorted(name for name, partner in names.items() if partner is None)
    found = found.assign(image=found["image"].map(names).astype(object))
    found = found[found["image"].notna()].reset_index(drop=True)
    labelled, empty = labelled[labelled["atom"]], labelled[~labelled["atom"]]
    fields = collect_fields(known, found, labelled, empty, pixel_size_nm)

    tolerances = sorted({*TOLERANCES_NM, float(tolerance_nm)})
    by_tolerance = [_at(fields, tolerance, seed) for tolerance in tolerances]
    return {
        "kind": "points",
        "images": len(known),
        "images_not_in_truth": foreign,
        "tolerance_nm": float(tolerance_nm),
        "detection": next(s for s in by_tolerance if s["tolerance_nm"] == float(tolerance_nm)),
        "by_tolerance": by_tolerance,
        "published_rule": _published(fields, seed),
        "negatives": _negatives(fields, tolerance_nm)
        if "atom" in lower_case_columns(truth)
        else None,
        "uncertain": _uncertain(fields, tolerance_nm)
        if "uncertain" in lower_case_columns(truth)
        else None,
        "per_image": _per_image(fields, tolerance_nm),
    }


def rates(counts: Counts, seed: int = 0) -> dict[str, float | None]:
    """Precision, recall and F1 of all images together, with their intervals.

    Returns
    -------
    dict
        ``precision, precision_low, precision_high`` and so on; None where there is nothing to
        divide by.
    """
    matched, predicted, truth = (
        float(v.sum()) for v in (counts.matched, counts.predicted, counts.truth)
    )
    union = predicted + truth - matched
    drawn = None
    n = len(counts.matched)
    if n > 1:
        rng = np.random.default_rng(seed)
        drawn = counts.weighted(rng.multinomial(n, np.full(n, 1 / n), _N_BOOTSTRAP))
    out: dict[str, float | None] = {}
    for name, whole in (("precision", predicted), ("recall", truth), ("f1", union)):
        if not whole:
            out |= {name: None, f"{name}_low": None, f"{name}_high": None}
            continue
        share = matched / whole
        ends = [float(v) for v in wilson_interval(np.asarray(share), whole, _LEVEL)]
        if name == "f1":
            share, *ends = (2 * v / (1 + v) for v in (share, *ends))
        if drawn is not None:
            values = _drawn(drawn, name)
            if len(values):
                tail = 50 * (1 - _LEVEL)
                ends += [float(v) for v in np.percentile(values, [tail, 100 - tail])]
        out |= {name: share, f"{name}_low": min(*ends, share), f"{name}_high": max(*ends, share)}
    return out


def _drawn(drawn: Counts, name: str) -> np.ndarray:
    values = {
        "precision": lambda: _divided(drawn.matched, drawn.predicted),
        "recall": lambda: _divided(drawn.matched, drawn.truth),
        "f1": drawn.f1,
    }[name]()
    return values[np.isfinite(values)]


def _at(fields: list[PointField], tolerance_nm: float, seed: int) -> dict[str, Any]:
    pairs = [match(f.found, f.labelled, tolerance_nm) for f in fields]
    counts = _counts(fields, [len(p) for p in pairs])
    distance = np.concatenate([np.zeros(0), *(p.distance for p in pairs)])
    return {
        "tolerance_nm": tolerance_nm,
        **_totals(counts),
        **rates(counts, seed),
        "mean_distance_nm": float(distance.mean()) if len(distance) else None,
        "rms_distance_nm": float(np.sqrt((distance**2).mean())) if len(distance) else None,
    }


def _counts(fields: list[PointField], matched: list[int]) -> Counts:
    """An entry per image, its frames added up."""
    rows: dict[str, np.ndarray] = {}
    for field, m in zip(fields, matched, strict=True):
        row = np.array([m, len(field.found), len(field.labelled)])
        rows[field.image] = rows.get(field.image, 0) + row
    return Counts.of(tuple(row) for row in rows.values())


def _totals(counts: Counts) -> dict[str, int]:
    return {
        "truth": int(counts.truth.sum()),
        "predicted": int(counts.predicted.sum()),
        "matched": int(counts.matched.sum()),
    }


def _published(fields: list[PointField], seed: int) -> dict[str, Any] | None:
    """By boxes; None where a pixel size is not known."""
    if not all(np.isfinite(f.pixel_size_nm) for f in fields if len(f.found) and len(f.labelled)):
        return None
    matched = [
        len(match_boxes(f.found / f.pixel_size_nm, f.labelled / f.pixel_size_nm))
        if len(f.found) and len(f.labelled)
        else 0
        for f in fields
    ]
    counts = _counts(fields, matched)
    there = counts.truth > 0
    shares = {
        "precision": _divided(counts.matched, counts.predicted),
        "recall": _divided(counts.matched, counts.truth),
        "f1": counts.f1(),
    }
    return {
        "box_px": BOX_PX,
        "iou_above": BOX_IOU,
        **_totals(counts),
        **rates(counts, seed),
        # As published: an image in which nothing was found has a precision of 0.
        "mean_over_images": {
            name: float(np.nan_to_num(values[there]).mean()) if there.any() else None
            for name, values in shares.items()
        },
    }


def _negatives(fields: list[PointField], tolerance_nm: float) -> dict[str, Any]:
    """Accuracy over the places that were labelled as atom or as none."""
    right_atoms = right_empty = atoms = empty = 0
    for field in fields:
        pairs = match(field.found, field.labelled, tolerance_nm)
        left_over = np.delete(field.found, pairs.first, axis=0)
        hit = len(match(left_over, field.empty, tolerance_nm))
        right_atoms, atoms = right_atoms + len(pairs), atoms + len(field.labelled)
        right_empty, empty = right_empty + len(field.empty) - hit, empty + len(field.empty)
    places = atoms + empty
    out: dict[str, Any] = {"atoms": atoms, "empty": empty, "empty_left_alone": right_empty}
    shares = (("accuracy", right_atoms + right_empty, places), ("specificity", right_empty, empty))
    for name, right, whole in shares:
        ends: tuple[float | None, ...] = (None, None, None)
        if whole:
            share = right / whole
            low, high = wilson_interval(np.asarray(share), whole, _LEVEL)
            ends = share, min(float(low), share), max(float(high), share)
        out |= dict(zip((name, f"{name}_low", f"{name}_high"), ends, strict=True))
    return out


def _uncertain(fields: list[PointField], tolerance_nm: float) -> dict[str, Any]:
    """What became of labels of which the annotator was not sure; they count as any other."""
    unsure = sure = found_unsure = found_sure = 0
    for field in fields:
        found = np.zeros(len(field.labelled), bool)
        found[match(field.found, field.labelled, tolerance_nm).second] = True
        unsure, sure = unsure + int(field.uncertain.sum()), sure + int((~field.uncertain).sum())
        found_unsure += int(found[field.uncertain].sum())
        found_sure += int(found[~field.uncertain].sum())
    return {
        "labels": unsure,
        "recall_of_these": found_unsure / unsure if unsure else None,
        "recall_of_the_others": found_sure / sure if sure else None,
    }


def _per_image(fields: list[PointField], tolerance_nm: float) -> list[dict[str, Any]]:
    names = list(dict.fromkeys(f.image for f in fields))
    counts = _counts(fields, [len(match(f.found, f.labelled, tolerance_nm)) for f in fields])
    rows = zip(names, counts.matched, counts.predicted, counts.truth, strict=True)
    return [
        {
            "image": image,
            "truth": int(t),
            "predicted": int(p),
            "matched": int(m),
            "precision": float(m / p) if p else None,
            "recall": float(m / t) if t else None,
            "f1": f1_of(m, p, t) if p + t else None,
        }
        for image, m, p, t in rows
    ]


def _divided(part: np.ndarray, whole: np.ndarray) -> np.ndarray:
    return np.divide(part, whole, out=np.full(np.shape(whole), np.nan), where=whole > 0)
