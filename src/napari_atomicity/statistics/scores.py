"""Scores of a cluster table against a ground truth: detection, classification, ratios.

Predictions are matched to truths one to one, nearest pair first, within half the diameter of the
true cluster but at least 0.35 nm, unless a tolerance is given. Nearest first is used rather than
the assignment of least total distance, because that may give up an exact match to make two poor
ones.

Clusters that the border of the image cuts are not scored: neither the true ones nor the
predictions that match them. What in truth is none of the classes (`table.NON_CLASS_LABELS`) counts
in the detection only; what a prediction says is none has no label.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import PurePosixPath
from typing import Any

import numpy as np
import pandas as pd
from scipy.spatial import KDTree

from ..core.cluster_table import NON_CLASS_LABELS
from ..core.errors import TableError

MIN_TOLERANCE_NM = 0.35
_NO_CLASS = ("", *NON_CLASS_LABELS, "nan")


def evaluate(
    predicted: pd.DataFrame,
    truth: pd.DataFrame,
    tolerance_nm: float | None = None,
    images: pd.DataFrame | None = None,
) -> dict[str, Any]:
    """Score predicted clusters against true ones.

    Parameters
    ----------
    predicted : pandas.DataFrame
        A cluster table; only ``image, y_px, x_px, label`` are needed, and ``frame`` of
        stacks. Images that the truth does not know are left out.
    truth : pandas.DataFrame
        A cluster table, or one with ``image, y_px, x_px, label`` and, where known,
        ``diameter_nm`` and ``border`` (or ``touches_border``). A truth image without
        predictions counts as all missed.
    tolerance_nm : float, optional
        Largest distance of a match; by diameter if None.
    images : pandas.DataFrame, optional
        What is known of the truth's images: ``image`` and, where known, ``px_nm`` and
        ``sample``. Images listed here without true clusters are scored too. Without it the
        pixel size comes from positions given in both nm and pixels, and all images are one
        sample.

    Returns
    -------
    dict
        Ready for JSON: ``detection`` (truth, predicted, matched, recall, precision, f1),
        ``classification`` of the matched and labelled (n, accuracy, macro_f1, mean errors in
        atoms, per_class, confusion with truths in rows), ``labelled_fraction``,
        ``end_to_end_accuracy`` (right among all truths of a class) and ``ratios`` over samples
        (r2, mean absolute error, bias per class, table). A score that is not defined is None.

    Raises
    ------
    TableError
        If columns are missing, names are ambiguous, or the tolerance can't be turned into
        pixels.
    """
    truth = _prepared(truth, "the truth")
    predicted = _prepared(predicted, "the table of predictions")
    info = _image_information(truth, images)
    known = list(info.index)
    names = truth_names(dict.fromkeys(predicted["image"]), known)
    foreign = sorted(name for name, found in names.items() if found is None)
    predicted = predicted.assign(image=predicted["image"].map(names))
    predicted = predicted[predicted["image"].notna()].reset_index(drop=True)

    truth["label"] = truth["label"].where(~truth["label"].str.lower().isin(_NO_CLASS), "")
    predicted["label"] = _canonical(predicted["label"], _ordered(truth["label"]))
    classes = _ordered(pd.concat([truth["label"], predicted["label"]]))
    partner = _match_all(predicted, truth, info["px_nm"], tolerance_nm)
    cut = truth["border"].to_numpy(bool)
    matched = partner >= 0
    ignored = np.zeros(len(partner), bool)
    ignored[matched] = cut[partner[matched]]
    scored = matched & ~ignored

    true_labels = truth["label"].to_numpy(object)[partner[scored]]
    said = predicted["label"].to_numpy(object)[scored]
    of_class = true_labels != ""
    labelled = (said != "") & of_class
    n_truth = int((~cut).sum())
    n_of_class = int((~cut & (truth["label"] != "").to_numpy()).sum())
    return {
        "images": len(known),
        "images_not_in_truth": foreign,
        "tolerance_nm": tolerance_nm,
        "detection": _detection(n_truth, int((~ignored).sum()), int(scored.sum())),
        "labelled_fraction": _ratio(labelled.sum(), of_class.sum()),
        "classification": _classification(true_labels[labelled], said[labelled], classes),
        "end_to_end_accuracy": _ratio((true_labels == said)[of_class].sum(), n_of_class),
        "ratios": _sample_ratios(truth[~cut], predicted[~ignored], info["sample"], classes),
    }


def match_nearest(
    predicted: np.ndarray, truth: np.ndarray, tolerance: np.ndarray | float
) -> np.ndarray:
    """One-to-one partners, nearest pair first.

    Parameters
    ----------
    predicted, truth : ndarray of shape (N, 2)
        And (M, 2) positions, in the same unit as the tolerance.
    tolerance : ndarray or float
        Largest distance, one for all or one for each truth.

    Returns
    -------
    ndarray
        (N,) index of the truth that each prediction is matched to, or -1.
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


def atoms_of(label: str) -> int | None:
    """The number of atoms that a label such as ``Pt41`` or ``Au24Pd1`` stands for."""
    numbers = re.findall(r"\d+", label)
    return sum(map(int, numbers)) if numbers else None


def _prepared(table: pd.DataFrame, what: str) -> pd.DataFrame:
    missing = [c for c in ("image", "y_px", "x_px", "label") if c not in table.columns]
    if missing:
        raise TableError(f"{what} lacks the columns {', '.join(missing)}")
    out = pd.DataFrame(index=range(len(table)))
    out["image"] = table["image"].astype(str).to_numpy(object)
    out["frame"] = np.asarray(_column(table, "frame", 0), int)
    label = table["label"].astype(object)
    out["label"] = label.where(label.notna(), "").astype(str).to_numpy(object)
    for name in ("y_px", "x_px"):
        out[name] = pd.to_numeric(table[name], errors="coerce").to_numpy(float)
    if not np.isfinite(out[["y_px", "x_px"]].to_numpy(float)).all():
        raise TableError(f"{what} has rows without a position")
    out["diameter_nm"] = np.asarray(_column(table, "diameter_nm", np.nan), float)
    border = "border" if "border" in table.columns else "touches_border"
    out["border"] = np.asarray(_column(table, border, False)).astype(bool)
    out["px_nm"] = pixel_sizes(table)
    return out


def _image_information(truth: pd.DataFrame, images: pd.DataFrame | None) -> pd.DataFrame:
    """Pixel size and sample of each image of the truth, by name."""
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
    """Per row, in nm, from positions of its image that are there in both units; else NaN."""
    if not {"y_nm", "x_nm"} <= set(table.columns) or not len(table):
        return np.full(len(table), np.nan)
    px = table[["y_px", "x_px"]].to_numpy(float).sum(axis=1)
    nm = table[["y_nm", "x_nm"]].to_numpy(float).sum(axis=1)
    size = pd.Series(np.divide(nm, px, out=np.full(len(px), np.nan), where=px > 1))
    return size.groupby(table["image"].astype(str).to_numpy()).transform("median").to_numpy(float)


def _stem(image: str) -> str:
    return PurePosixPath(image.replace("\\", "/")).stem.removesuffix(".ome")


def truth_names(
    images: Iterable[str], known: list[str], begins: bool = False
) -> dict[str, str | None]:
    """For each image its name in the truth: the same one, or the only one of the same stem.

    Parameters
    ----------
    images, known : iterable of str
        Names in the predictions and in the truth.
    begins : bool
        Whether ``field1`` also stands for the only ``field1_labels``: a name that goes on
        with something that is neither letter nor digit.

    Raises
    ------
    TableError
        If a name may be any of several, or several stand for one.
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
                f"{image} may be any of {', '.join(candidates)}",
                advice="Name the images alike in both tables",
            )
        found[image] = candidates[0] if candidates else None
    named = [name for name in found.values() if name is not None]
    twice = sorted({name for name in named if named.count(name) > 1})
    if twice:
        raise TableError(
            f"several images of the predictions stand for {', '.join(twice)} of the truth",
            advice="Name the images alike in both tables",
        )
    return found


def _ordered(labels: pd.Series) -> list[str]:
    """The labels, by number of atoms, then by name."""
    names = set(labels) - {"", *NON_CLASS_LABELS}
    return sorted(names, key=lambda name: (atoms_of(name) or 0, name))


def _canonical(labels: pd.Series, classes: list[str]) -> list[str]:
    """Labels by their class: ``41`` is Pt41 if no other class has 41 atoms; "" is none."""
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
    """(N,) row of the truth for every prediction, or -1."""
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
                advice="Positions in nm are needed beside those in pixels",
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


def _classification(true: np.ndarray, said: np.ndarray, classes: list[str]) -> dict[str, Any]:
    confusion = (
        pd.crosstab(pd.Series(true, dtype=object), pd.Series(said, dtype=object))
        .reindex(index=classes, columns=classes, fill_value=0)
        .to_numpy(int)
    )
    per_class = {}
    for i, name in enumerate(classes):
        right, of_truth, of_said = confusion[i, i], confusion[i].sum(), confusion[:, i].sum()
        per_class[name] = {
            "truth": int(of_truth),
            "recall": _ratio(right, of_truth),
            "precision": _ratio(right, of_said),
            "f1": _f1(right, of_truth, of_said),
        }
    f1 = [scores["f1"] for scores in per_class.values() if scores["f1"] is not None]
    return {
        "n": len(true),
        "accuracy": _ratio((true == said).sum(), len(true)),
        "macro_f1": float(np.mean(f1)) if f1 else None,
        **_atom_errors(true, said),
        "per_class": per_class,
        "confusion": {"classes": classes, "counts": confusion.tolist()},
    }


def _atom_errors(true: np.ndarray, said: np.ndarray) -> dict[str, float | None]:
    """Signed and absolute mean of (predicted - true) atoms, where both labels hold a number."""
    pairs = [(atoms_of(t), atoms_of(s)) for t, s in zip(true, said, strict=True)]
    errors = np.array([s - t for t, s in pairs if s is not None and t is not None], float)
    return {
        "mean_error_atoms": float(errors.mean()) if len(errors) else None,
        "mean_absolute_error_atoms": float(np.abs(errors).mean()) if len(errors) else None,
    }


def _sample_ratios(
    truth: pd.DataFrame, predicted: pd.DataFrame, sample_of: pd.Series, classes: list[str]
) -> dict[str, Any]:
    """Class fractions of each sample, as detected and labelled, against the true ones."""
    names = list(dict.fromkeys(truth["image"].map(sample_of)))

    def fractions(table: pd.DataFrame) -> np.ndarray:
        table = table[table["label"].isin(classes)]
        counts = pd.crosstab(table["image"].map(sample_of), table["label"])
        values = counts.reindex(index=names, columns=classes, fill_value=0).to_numpy(float)
        total = values.sum(axis=1, keepdims=True)
        return np.divide(values, total, out=np.zeros_like(values), where=total > 0)

    true, said = fractions(truth), fractions(predicted)
    scatter = float(((true - true.mean()) ** 2).sum()) if true.size else 0.0
    residual = float(((true - said) ** 2).sum())
    return {
        "samples": len(names),
        # Meaningless where all true fractions are the same.
        "r2": 1 - residual / scatter if scatter > 0 else None,
        "mean_absolute_error": float(np.abs(true - said).mean()) if true.size else None,
        "bias_per_class": dict(zip(classes, (said - true).mean(axis=0).tolist(), strict=True))
        if len(names)
        else {},
        "table": {
            str(name): {
                "true": dict(zip(classes, true[i].tolist(), strict=True)),
                "predicted": dict(zip(classes, said[i].tolist(), strict=True)),
            }
            for i, name in enumerate(names)
        },
    }
