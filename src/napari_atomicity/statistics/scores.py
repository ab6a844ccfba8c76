"""Scores of a cluster table against a ground truth: detection, classification, ratios.

Predictions are matched to true clusters one to one, nearest pair first, within half the diameter
of the true cluster but at least 0.35 nm, unless a tolerance is given. The assignment of minimum
total distance is not used, because it may replace an exact match by two poor ones.

Clusters cut by the image border are not scored: neither true ones nor predictions that match them.
True labels that are not classes (`cluster_table.NON_CLASS_LABELS`) contribute to detection only; a
prediction with such a label counts as unlabelled.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from functools import lru_cache
from pathlib import PurePosixPath
from typing import Any

import numpy as np
import pandas as pd
from scipy.spatial import KDTree

from ..core.errors import TableError
from ..core.tables.cluster_table import NON_CLASS_LABELS
from ..core.tables.columns import flags
from .score_intervals import pair_labels, sample_ratios, score_intervals

MIN_TOLERANCE_NM = 0.35
"""Minimum tolerance of a match in nm."""
_NO_CLASS = ("", *NON_CLASS_LABELS, "nan")


def evaluate(
    predicted: pd.DataFrame,
    truth: pd.DataFrame,
    tolerance_nm: float | None = None,
    images: pd.DataFrame | None = None,
    analysed: Sequence[str] | None = None,
    column: str = "label",
) -> dict[str, Any]:
    """Score predicted clusters against true ones.

    Images of the truth that were not analysed are named and not scored.

    Parameters
    ----------
    predicted : pandas.DataFrame
        A cluster table; only ``image, y_px, x_px``, and the column of the labels are required, and
        ``frame`` for stacks. Images that are not in the truth are ignored.
    truth : pandas.DataFrame
        A cluster table, or one with ``image, y_px, x_px, label`` and, if known, ``diameter_nm`` and
        ``border`` (or ``touches_border``).
    tolerance_nm : float, optional
        Maximum distance of a match in nm; by diameter if None.
    images : pandas.DataFrame, optional
        Images of the truth: ``image`` and, if known, ``px_nm`` and ``sample``, including images
        without true clusters. Without it the pixel size follows from positions in both nm and
        pixels, and all images belong to one sample.
    analysed : sequence of str, optional
        Images that were analysed, including those in which nothing was found. Default: those with
        predictions; all if there is no prediction.
    column : str, optional
        Column of the predicted labels, such as "label_network".

    Returns
    -------
    dict
        Ready for JSON: ``images_not_analysed``, ``detection``, ``classification`` of the matched
        and labelled clusters, ``labelled_fraction``, ``end_to_end_accuracy`` (right labels among
        all true clusters of a class), ``ratios`` over samples, and ``intervals`` of accuracy and
        ratios from `score_intervals`. Undefined scores are None.

    Raises
    ------
    TableError
        If columns are missing, names are ambiguous, or a pixel size is unknown.
    """
    truth = prepare_clusters(truth, "the truth")
    predicted = prepare_clusters(predicted, "the table of predictions", column)
    info = _image_information(truth, images)
    known = list(info.index)
    missing = not_analysed(known, predicted["image"], analysed)
    predicted, foreign = _restrict_to(predicted, known)
    truth = truth[~truth["image"].isin(missing)].reset_index(drop=True)
    info = info.drop(index=missing)
    truth["label"] = truth["label"].where(~truth["label"].str.lower().isin(_NO_CLASS), "")
    predicted["label"] = _canonical(predicted["label"], _ordered(truth["label"]))
    partner = _match_all(predicted, truth, info["px_nm"], tolerance_nm)
    return {
        "images": len(info),
        "images_not_in_truth": foreign,
        "images_not_analysed": missing,
        "tolerance_nm": tolerance_nm,
        "column": column,
        **_scores(predicted, truth, partner, info["sample"]),
    }


def not_analysed(
    known: list[str],
    found: Iterable[str],
    # Names of all analysed images. If None, those of the predictions; all if there are none.
    analysed: Sequence[str] | None,
    begins: bool = False,
) -> list[str]:
    """List the images of the truth that were not analysed."""
    found = dict.fromkeys(found)
    if not found and analysed is None:
        return []
    names = [truth_names(images, known, begins) for images in (found, analysed or [])]
    return sorted(set(known).difference(*(of.values() for of in names)))


def _restrict_to(predicted: pd.DataFrame, known: list[str]) -> tuple[pd.DataFrame, list[str]]:
    """Keep the predictions of known images, under their names in the truth, and list the others."""
    names = truth_names(dict.fromkeys(predicted["image"]), known)
    foreign = sorted(name for name, found in names.items() if found is None)
    predicted = predicted.assign(image=predicted["image"].map(names))
    return predicted[predicted["image"].notna()].reset_index(drop=True), foreign


def _scores(
    predicted: pd.DataFrame, truth: pd.DataFrame, partner: np.ndarray, sample_of: pd.Series
) -> dict[str, Any]:
    """Compute the scores of predictions with these partners (rows of the truth, or -1)."""
    classes = _ordered(pd.concat([truth["label"], predicted["label"]]))
    cut = truth["border"].to_numpy(bool)
    matched = partner >= 0
    ignored = np.zeros(len(partner), bool)
    ignored[matched] = cut[partner[matched]]
    scored = matched & ~ignored
    true = truth["label"].to_numpy(object)[partner[scored]]
    found = predicted["label"].to_numpy(object)[scored]
    of_class = true != ""
    labelled = (found != "") & of_class
    n_of_class = int((~cut & (truth["label"] != "").to_numpy()).sum())
    pairs = pair_labels(truth[~cut], predicted[~ignored], partner[~ignored], sample_of, classes)
    ratios = sample_ratios(pairs)
    intervals, fractions = score_intervals(pairs)
    for name, ends in fractions.items():
        ratios["table"][name] |= ends
    if ratios["r2"] is None:
        intervals["ratio_r2"] = None
    return {
        "detection": _detection(int((~cut).sum()), int((~ignored).sum()), int(scored.sum())),
        "labelled_fraction": _ratio(labelled.sum(), of_class.sum()),
        "classification": _classification(true[labelled], found[labelled], classes),
        "end_to_end_accuracy": _ratio((true == found)[of_class].sum(), n_of_class),
        "ratios": ratios,
        "intervals": intervals,
    }


def match_nearest(
    predicted: np.ndarray, truth: np.ndarray, tolerance: np.ndarray | float
) -> np.ndarray:
    """Match points one to one, nearest pair first.

    Parameters
    ----------
    predicted : ndarray of shape (N, 2)
        Positions.
    truth : ndarray of shape (M, 2)
        Positions.
    tolerance : float or ndarray of shape (M,)
        Maximum distance, one for all or one per true position, in the unit of the positions.

    Returns
    -------
    ndarray of shape (N,), int
        Index of the partner of each prediction in the truth, or -1.
    """
    partner = np.full(len(predicted), -1)
    if not len(predicted) or not len(truth):
        return partner
    limit = np.broadcast_to(np.asarray(tolerance, float), len(truth))
    near = KDTree(predicted).query_ball_point(truth, limit + 1e-9)
    pairs = np.array([(i, j) for j, found in enumerate(near) for i in found], int).reshape(-1, 2)
    distance = np.hypot(*(predicted[pairs[:, 0]] - truth[pairs[:, 1]]).T)
    within = distance <= limit[pairs[:, 1]]
    pairs, distance = pairs[within], distance[within]
    taken = np.zeros(len(truth), bool)
    for i, j in pairs[np.lexsort((pairs[:, 1], pairs[:, 0], distance))]:
        if partner[i] < 0 and not taken[j]:
            partner[i], taken[j] = j, True
    return partner


_MAX_DIGITS = 9


_FORMULA = re.compile(r"(?<![A-Za-z0-9])(?:[A-Z][a-z]?\d+)+(?![A-Za-z0-9])")
"""A formula such as ``Pt41`` among other words."""


@lru_cache(maxsize=4096)  # few different labels among thousands of clusters
def atoms_of(label: str) -> int | None:
    """Return the number of atoms that a label names, such as ``Pt41`` or ``Au24Pd1``.

    Other words of a label do not count: ``Pt41_day2`` and ``Au41(SR)18`` have 41. A label without
    such a formula may name one number only. None if it names none.
    """
    formula = _FORMULA.search(label)
    numbers = re.findall(r"\d+", formula[0] if formula else label)
    if not numbers or max(map(len, numbers)) > _MAX_DIGITS or (not formula and len(numbers) > 1):
        return None
    return sum(map(int, numbers))


def prepare_clusters(table: pd.DataFrame, what: str, column: str = "label") -> pd.DataFrame:
    """Return the columns that are scored; `TableError` if one is missing or not valid."""
    labels = label_columns(table)
    if column not in ("label", *labels):
        known = f"Its columns of labels are {', '.join(labels)}" if labels else None
        raise TableError(f"{what} has no column of labels {column!r}", advice=known)
    missing = [c for c in ("image", "y_px", "x_px", column) if c not in table.columns]
    if missing:
        advice = "Give a table with the columns of clusters.csv"
        raise TableError(f"{what} lacks the columns {', '.join(missing)}", advice=advice)
    out = pd.DataFrame(index=range(len(table)))
    out["image"] = table["image"].astype(str).to_numpy(object)
    out["frame"] = np.asarray(_column(table, "frame", 0), int)
    label = table[column].astype(object)
    out["label"] = label.where(label.notna(), "").astype(str).to_numpy(object)
    for name in ("y_px", "x_px"):
        out[name] = pd.to_numeric(table[name], errors="coerce").to_numpy(float)
    if not np.isfinite(out[["y_px", "x_px"]].to_numpy(float)).all():
        advice = "Write numbers into the columns y_px and x_px of all rows"
        raise TableError(f"{what} has rows without a position", advice=advice)
    out["diameter_nm"] = np.asarray(_column(table, "diameter_nm", np.nan), float)
    border = "border" if "border" in table.columns else "touches_border"
    given = table[border] if border in table.columns else pd.Series(False, table.index)
    out["border"] = flags(given, what).to_numpy(bool)
    out["px_nm"] = pixel_sizes(table)
    return out


def label_columns(table: pd.DataFrame) -> list[str]:
    """Return the columns of a table that contain labels, such as "label_network"."""
    return [name for name in map(str, table.columns) if re.fullmatch("label(_.*)?", name)]


def _image_information(truth: pd.DataFrame, images: pd.DataFrame | None) -> pd.DataFrame:
    """Return the pixel size and sample of each image of the truth, by name."""
    info = truth.groupby("image", sort=False)[["px_nm"]].first()
    if images is not None:
        if "image" not in images.columns:
            raise TableError("the table of images lacks the column image")
        given = images.assign(image=images["image"].astype(str)).drop_duplicates("image")
        info = info.reindex(
            [*given["image"], *(i for i in info.index if i not in set(given["image"]))]
        )
        for name in {"px_nm", "sample"} & set(given.columns):
            values = given.set_index("image")[name].reindex(info.index)
            info[name] = values.fillna(info[name]) if name in info else values
    sample = info["sample"] if "sample" in info else pd.Series("all", index=info.index)
    return info.assign(sample=sample.astype(object).where(sample.notna(), "all"))


def _column(table: pd.DataFrame, name: str, default: object) -> Any:
    return table[name].to_numpy() if name in table.columns else default


def pixel_sizes(table: pd.DataFrame) -> np.ndarray:
    """Return the pixel size in nm per row, from positions of its image in both units.

    Rows of images without both are NaN.
    """
    if not {"y_nm", "x_nm"} <= set(table.columns) or not len(table):
        return np.full(len(table), np.nan)
    px = table[["y_px", "x_px"]].to_numpy(float).sum(axis=1)
    nm = table[["y_nm", "x_nm"]].to_numpy(float).sum(axis=1)
    size = pd.Series(np.divide(nm, px, out=np.full(len(px), np.nan), where=px > 1))
    return size.groupby(table["image"].astype(str).to_numpy()).transform("median").to_numpy(float)


def _stem(image: str) -> str:
    return PurePosixPath(image.replace("\\", "/")).stem.removesuffix(".ome")


def truth_names(
    images: Iterable[str],
    known: list[str],
    # Whether ``field1`` also matches the only ``field1_labels``: a name that continues with a
    # character that is neither letter nor digit
    begins: bool = False,
) -> dict[str, str | None]:
    """Find the name in the truth of each image: the same one, or the only one with the same stem.

    Raises `TableError` if a name matches several images, or several match one.
    """
    by_stem: dict[str, list[str]] = {}
    for name in known:
        by_stem.setdefault(_stem(name), []).append(name)
    found: dict[str, str | None] = {}
    for image in images:
        candidates = [image] if image in known else by_stem.get(_stem(image), [])
        if not candidates and begins:
            longer = re.compile(re.escape(_stem(image)) + r"[^0-9a-zA-Z]")
            candidates = [name for stem, of in by_stem.items() if longer.match(stem) for name in of]
        if len(candidates) > 1:
            raise TableError(
                f"{image} matches several images: {', '.join(candidates)}",
                advice="Use the same image names in both tables",
            )
        found[image] = candidates[0] if candidates else None
    named = [name for name in found.values() if name is not None]
    twice = sorted({name for name in named if named.count(name) > 1})
    if twice:
        raise TableError(
            f"several images of the predictions match {', '.join(twice)} of the truth",
            advice="Use the same image names in both tables",
        )
    return found


def _ordered(labels: pd.Series) -> list[str]:
    """Return the labels, sorted by number of atoms, then by name."""
    names = set(labels) - {"", *NON_CLASS_LABELS}
    return sorted(names, key=lambda name: (atoms_of(name) or 0, name))


def _canonical(labels: pd.Series, classes: list[str]) -> list[str]:
    """Convert labels to classes; "" is no class.

    ``41`` is Pt41 if no other class has 41 atoms.
    """
    by_atoms: dict[str, list[str]] = {}
    for name in classes:
        by_atoms.setdefault(str(atoms_of(name)), []).append(name)

    def one(label: str) -> str:
        label = label.strip()
        if label in classes:
            return label
        if label.lower() in _NO_CLASS:
            return ""
        same = by_atoms.get(label.removesuffix(".0"), [])
        return same[0] if len(same) == 1 else label

    return [one(label) for label in labels]


def _match_all(
    predicted: pd.DataFrame, truth: pd.DataFrame, px_nm: pd.Series, tolerance_nm: float | None
) -> np.ndarray:
    """Return the row (N,) of the truth for each prediction, or -1."""
    partner = np.full(len(predicted), -1)
    rows = predicted.groupby(["image", "frame"]).indices
    for key, of_truth in truth.groupby(["image", "frame"]).indices.items():
        of_predicted = rows.get(key)
        if of_predicted is None:
            continue
        t, p = truth.iloc[of_truth], predicted.iloc[of_predicted]
        image = str(t["image"].iloc[0])
        sizes = [float(size) for size in (px_nm[image], p["px_nm"].median()) if np.isfinite(size)]
        if not sizes:
            raise TableError(
                f"the pixel size of {image} is in neither table",
                advice="Add positions in nm",
            )
        limit = np.fmax(t["diameter_nm"].to_numpy(float) / 2, MIN_TOLERANCE_NM)
        if tolerance_nm is not None:
            limit = np.full(len(t), float(tolerance_nm))
        place = ["y_px", "x_px"]
        found = match_nearest(p[place].to_numpy(float), t[place].to_numpy(float), limit / sizes[0])
        partner[of_predicted] = np.where(found >= 0, of_truth[found], -1)
    return partner


def _ratio(part: float, whole: float) -> float | None:
    return float(part / whole) if whole else None


def _f1(right: float, truth: float, predicted: float) -> float | None:
    return _ratio(2 * right, truth + predicted)


def _detection(n_truth: int, n_predicted: int, n_matched: int) -> dict[str, Any]:
    return {
        "truth": n_truth,
        "predicted": n_predicted,
        "matched": n_matched,
        "recall": _ratio(n_matched, n_truth),
        "precision": _ratio(n_matched, n_predicted),
        "f1": _f1(n_matched, n_truth, n_predicted),
    }


def _classification(true: np.ndarray, found: np.ndarray, classes: list[str]) -> dict[str, Any]:
    confusion = (
        pd.crosstab(pd.Series(true, dtype=object), pd.Series(found, dtype=object))
        .reindex(index=classes, columns=classes, fill_value=0)
        .to_numpy(int)
    )
    per_class = {}
    for i, name in enumerate(classes):
        right, of_truth, of_found = confusion[i, i], confusion[i].sum(), confusion[:, i].sum()
        per_class[name] = {
            "truth": int(of_truth),
            "recall": _ratio(right, of_truth),
            "precision": _ratio(right, of_found),
            "f1": _f1(right, of_truth, of_found),
        }
    f1 = [scores["f1"] for scores in per_class.values() if scores["f1"] is not None]
    return {
        "n": len(true),
        "accuracy": _ratio((true == found).sum(), len(true)),
        "macro_f1": float(np.mean(f1)) if f1 else None,
        **_atom_errors(true, found),
        "per_class": per_class,
        "confusion": {"classes": classes, "counts": confusion.tolist()},
    }


def _atom_errors(true: np.ndarray, found: np.ndarray) -> dict[str, float | None]:
    """Compute the signed and absolute mean of (predicted - true) numbers of atoms."""
    pairs = [(atoms_of(t), atoms_of(s)) for t, s in zip(true, found, strict=True)]
    errors = np.array([s - t for t, s in pairs if s is not None and t is not None], float)
    return {
        "mean_error_atoms": float(errors.mean()) if len(errors) else None,
        "mean_absolute_error_atoms": float(np.abs(errors).mean()) if len(errors) else None,
    }
