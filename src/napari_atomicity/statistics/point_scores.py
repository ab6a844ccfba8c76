"""Scores of detected points against labelled ones: precision, recall, F1, distances, accuracy.

Points are matched one to one within a tolerance, with the maximum number of pairs and then the
minimum total distance (`matching.match`). Detected points without a partner are false positives,
labelled ones without a partner are missed. Counts of all images are added before any division.

The 95 % intervals are percentiles of a bootstrap over images, extended to Wilson's interval of the
pooled counts where that is wider; for one image it is Wilson's alone. For F1 it is that of
Jaccard's index J, the fraction of pairs among all detected or labelled points, converted by F1 = 2J
/ (1 + J). Wilson's interval ignores correlations within an image, and a few images hardly determine
the differences between images: with fewer than about ten, intervals tend to be too narrow.

If no absences are labelled, there are no true negatives, and accuracy is undefined. If the truth
has a column ``atom``, its rows with 0 are examined places without an atom. They do not contribute
to precision, recall and F1; an unmatched prediction within the tolerance of such a place is a false
positive there.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from ..core.errors import TableError
from ..core.tables.columns import flags
from .intervals import percentile_interval, wilson_interval
from .matching import BOX_IOU, BOX_PX, TOLERANCE_NM, f1_of, match, match_boxes
from .scores import not_analysed, pixel_sizes, truth_names

# ---- tables of points: positions, image names and flags, read from the usual column names

_NAMES_NM = (("y_nm", "x_nm"),)
_NAMES_PX = (("y_px", "x_px"), ("y", "x"), ("row", "col"), ("axis-0", "axis-1"))


def is_points(predicted: pd.DataFrame, truth: pd.DataFrame) -> bool:
    """Return whether two tables contain points rather than clusters.

    An atom table has ``atom_id``, a cluster table ``label`` or ``diameter_nm``. Other tables of
    positions contain points if neither has a column of clusters.
    """
    if "atom_id" in predicted.columns:
        return True
    return not {"label", "diameter_nm"} & {*predicted.columns, *truth.columns}


@dataclass(frozen=True, eq=False)
class PointField:
    """The points of one frame in nm; the pixel size is NaN if unknown."""

    image: str
    pixel_size_nm: float
    found: np.ndarray
    labelled: np.ndarray
    uncertain: np.ndarray
    empty: np.ndarray


def lower_case_columns(table: pd.DataFrame) -> dict[str, Any]:
    """Return the columns by name in lower case without blanks; the first of duplicates."""
    columns: dict[str, Any] = {}
    for name in table.columns:
        columns.setdefault(str(name).strip().lower(), name)
    return columns


def prepare_points(
    table: pd.DataFrame,  # a table of points; see `point_scores.evaluate_points`
    what: str,  # name of the table in error messages
) -> pd.DataFrame:
    """Convert a table of points to standard columns.

    The result has the columns ``image, frame, y_nm, x_nm, y_px, x_px`` (NaN if not given), ``atom,
    uncertain``. Raises `TableError` if positions, image names or frames are missing or invalid.
    """
    columns = lower_case_columns(table)
    out = pd.DataFrame(index=range(len(table)))
    out["image"] = _names(table[columns["image"]], what) if "image" in columns else ""
    out["image"] = out["image"].astype(object)
    out["frame"] = _frames(table[columns["frame"]], what) if "frame" in columns else 0
    placed = np.zeros(len(table), bool)
    for choices, unit in ((_NAMES_NM, "nm"), (_NAMES_PX, "px")):
        given = next((pair for pair in choices if set(pair) <= columns.keys()), None)
        for i, axis in enumerate("yx"):
            values = pd.to_numeric(table[columns[given[i]]], errors="coerce") if given else np.nan
            out[f"{axis}_{unit}"] = np.asarray(values, float)
        placed |= np.isfinite(out[[f"y_{unit}", f"x_{unit}"]].to_numpy(float)).all(axis=1)
    if not placed.all():
        raise TableError(
            f"{what} has no position in row {np.flatnonzero(~placed)[0] + 1}",
            advice="Columns y_nm and x_nm, y_px and x_px, or Y and X in pixels are needed",
        )
    for name, usual in (("atom", True), ("uncertain", False)):
        given = table[columns[name]] if name in columns else None
        out[name] = usual if given is None else flags(given, what).to_numpy(bool)
    return out


def _names(values: pd.Series, what: str) -> np.ndarray:
    names = values.astype(object).where(values.notna(), "").astype(str)
    blank = (names.str.strip() == "").to_numpy(bool)
    if blank.any():
        raise TableError(
            f"{what} has no image name in row {np.flatnonzero(blank)[0] + 1}",
            advice="Fill in the column image, or omit it if all rows are of one image",
        )
    return names.to_numpy(object)


def _frames(values: pd.Series, what: str) -> np.ndarray:
    number = pd.to_numeric(values, errors="coerce").to_numpy(float, na_value=np.nan)
    wrong = ~((number >= 0) & (number == np.floor(number)))
    if wrong.any():
        raise TableError(
            f"{what} has no frame number in row {np.flatnonzero(wrong)[0] + 1}",
            advice="Count frames from 0, or omit the column if there is only one",
        )
    return number.astype(int)


def match_image_names(
    found: list[str], known: list[str], both_named: bool
) -> dict[str, str | None]:
    """Find the name in the truth of each image of the predictions.

    Raises `TableError` if a table of several images does not name them, or names are ambiguous.
    """
    if not both_named and len(found) == len(known) == 1:
        return {found[0]: known[0]}
    if not both_named and found and known:
        raise TableError(
            "the tables contain several images, and one of them does not name them",
            advice="Both tables need a column image",
        )
    return truth_names(found, known, begins=True)


def collect_fields(
    known: list[str],
    found: pd.DataFrame,
    labelled: pd.DataFrame,
    empty: pd.DataFrame,  # places labelled as having no atom
    pixel_size_nm: float | None,  # pixel size in nm; from positions given in both units if None
) -> list[PointField]:
    """Collect every frame of the truth's images that has points in either table.

    Raises `TableError` if a pixel size is needed and unknown.
    """
    sizes = pd.concat([t.assign(px_nm=pixel_sizes(t)) for t in (found, labelled, empty)])
    size_of = sizes.groupby("image")["px_nm"].median().to_dict()
    fields = []
    for image in known:
        size = pixel_size_nm or size_of.get(image, np.nan)
        parts = [t[t["image"] == image] for t in (found, labelled, empty)]
        for frame in sorted({0, *(f for part in parts for f in part["frame"])}):
            here = [part[part["frame"] == frame] for part in parts]
            if frame == 0 and not any(map(len, here)) and any(map(len, parts)):
                continue
            # The pixel size matters only with points in both tables.
            needed = len(here[0]) > 0 and len(here[1]) + len(here[2]) > 0
            points = [_in_nm(part, size, image, needed) for part in here]
            fields.append(
                PointField(image, size, points[0], points[1], here[1]["uncertain"].to_numpy(bool),
                       points[2])
            )  # fmt: skip
    return fields


def _in_nm(points: pd.DataFrame, size: float, image: str, needed: bool) -> np.ndarray:
    nm = points[["y_nm", "x_nm"]].to_numpy(float)
    if np.isfinite(nm).all():
        return nm
    if not np.isfinite(size):
        if needed:
            raise TableError(
                f"the pixel size of {image or 'the image'} is in neither table",
                advice="Give it (--pixel-size-nm), or add positions in nm",
            )
        return np.zeros_like(nm)
    return np.where(np.isfinite(nm), nm, points[["y_px", "x_px"]].to_numpy(float) * size)


TOLERANCES_NM = (0.05, 0.1, 0.15, 0.2, 0.3)
"""Additional tolerances in nm at which scores are given."""
_N_BOOTSTRAP = 2000
_LEVEL = 0.95


@dataclass(frozen=True, eq=False)
class Counts:
    """Numbers of points per image."""

    # matched, predicted, truth: (I,): matched, detected and labelled points of each image
    matched: np.ndarray
    predicted: np.ndarray
    truth: np.ndarray

    @classmethod
    def of(cls, rows: Iterable[tuple[int, int, int]]) -> Counts:
        """Collect rows (matched, predicted, truth), one per image."""
        table = np.array(list(rows), float).reshape(-1, 3)
        return cls(*table.T)

    def weighted(self, weights: np.ndarray) -> Counts:
        """Return weighted sums over images, one per row of weights (B, I)."""
        return Counts(weights @ self.matched, weights @ self.predicted, weights @ self.truth)

    def f1(self) -> np.ndarray:
        """Return F1 of each entry; NaN without points."""
        return _divided(2 * self.matched, self.predicted + self.truth)


def evaluate_points(
    predicted: pd.DataFrame,
    truth: pd.DataFrame,
    tolerance_nm: float = TOLERANCE_NM,
    pixel_size_nm: float | None = None,
    images: Sequence[str] = (),
    seed: int = 0,
    analysed: Sequence[str] | None = None,
) -> dict[str, Any]:
    """Score detected points against labelled ones.

    Parameters
    ----------
    predicted, truth : pandas.DataFrame
        Tables of points: ``y_nm, x_nm``, or in pixels ``y_px, x_px`` (also ``Y, X``; ``row,
        col``; ``axis-0, axis-1``), in upper or lower case; nm take precedence. Columns ``image``
        and ``frame`` if there are several; names of images match without their suffix, or if that
        of the truth continues with a character that is neither letter nor digit. Tables of one
        image match if one of them does not name it. Optional in the truth: ``atom`` (0: examined,
        no atom) and ``uncertain``.
    tolerance_nm : float
        Maximum distance of a match in nm.
    pixel_size_nm : float, optional
        Of tables in pixels; from rows given in both units if None.
    images : sequence of str
        Images of the truth, including those without labelled atoms.
    analysed : sequence of str, optional
        Analysed images; others of the truth are named and not scored. Default: those with
        predictions; all if there is no prediction.

    Returns
    -------
    dict
        Ready for JSON: ``images_not_analysed``, ``detection`` at the tolerance (counts, precision,
        recall and f1 with ``_low`` and ``_high``, mean and r.m.s. distance), ``by_tolerance``,
        ``published_rule`` (boxes), ``negatives`` (accuracy), ``uncertain`` and ``per_image``.
        Undefined scores are None.

    Raises
    ------
    TableError
        If positions, names of images, frames or a required pixel size are missing, or names are
        ambiguous.
    """
    fields, names = _matched_fields(predicted, truth, images, pixel_size_nm, analysed)
    by_tolerance = _by_tolerance(fields, tolerance_nm, seed)
    columns = lower_case_columns(truth)
    return {
        "kind": "points",
        **names,
        "tolerance_nm": float(tolerance_nm),
        "detection": by_tolerance[float(tolerance_nm)],
        "by_tolerance": list(by_tolerance.values()),
        "published_rule": _published(fields, seed),
        "negatives": _negatives(fields, tolerance_nm) if "atom" in columns else None,
        "uncertain": _uncertain(fields, tolerance_nm) if "uncertain" in columns else None,
        "per_image": _per_image(fields, tolerance_nm),
    }


def _by_tolerance(
    fields: list[PointField], tolerance_nm: float, seed: int
) -> dict[float, dict[str, Any]]:
    """Compute the scores at the usual tolerances and at the wanted one, in order."""
    if not (np.isfinite(tolerance_nm) and tolerance_nm > 0):
        raise TableError(f"a tolerance of {tolerance_nm:g} nm is not positive")
    tolerances = sorted({*TOLERANCES_NM, float(tolerance_nm)})
    return {tolerance: _at(fields, tolerance, seed) for tolerance in tolerances}


def _matched_fields(
    predicted: pd.DataFrame,
    truth: pd.DataFrame,
    images: Sequence[str],
    pixel_size_nm: float | None,
    analysed: Sequence[str] | None,
) -> tuple[list[PointField], dict[str, Any]]:
    """Return the fields of the truth, and the entries that count or name images."""
    found = prepare_points(predicted, "the table of predictions")
    labelled = prepare_points(truth, "truth")
    known = list(dict.fromkeys([*labelled["image"], *images]))
    truth_named = "image" in lower_case_columns(truth) or bool(images)
    both_named = "image" in lower_case_columns(predicted) and truth_named
    names = match_image_names(list(dict.fromkeys(found["image"])), known, both_named)
    foreign = sorted(name for name, partner in names.items() if partner is None)
    found = found.assign(image=found["image"].map(names).astype(object))
    found = found[found["image"].notna()].reset_index(drop=True)
    missing = []
    if both_named:
        missing = not_analysed(known, names, analysed, begins=True)
        labelled = labelled[~labelled["image"].isin(missing)]
        known = [name for name in known if name not in missing]
    labelled, empty = labelled[labelled["atom"]], labelled[~labelled["atom"]]
    return collect_fields(known, found, labelled, empty, pixel_size_nm), {
        "images": len(known),
        "images_not_in_truth": foreign,
        "images_not_analysed": missing,
    }


def rates(counts: Counts, seed: int = 0) -> dict[str, float | None]:
    """Compute precision, recall and F1 of all images together, with their intervals.

    The result has ``precision, precision_low, precision_high`` and so on; None if undefined.
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
                ends += percentile_interval(values, _LEVEL)
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
    """Compute the scores at one tolerance."""
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
    """Collect the counts of each image, summed over its frames."""
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
    """Compute the scores by boxes; None if a pixel size is unknown."""
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
        # As published: an image without detections has a precision of 0.
        "mean_over_images": {
            name: float(np.nan_to_num(values[there]).mean()) if there.any() else None
            for name, values in shares.items()
        },
    }


def _negatives(fields: list[PointField], tolerance_nm: float) -> dict[str, Any]:
    """Compute the accuracy over places labelled as atom or as no atom."""
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
    """Compute the recall of uncertain labels, which count as any other."""
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
