"""Scores of any method on the benchmark: detection, classes, calibration, class ratios, counts."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from .._version import __version__
from ..core.errors import TableError
from ..core.tables.cluster_table import NON_CLASS_LABELS, UNKNOWN, probability_columns
from ..io.provenance import analysed_images
from ..io.tables import read_table
from ..simulation.sessions import OTHER_SIZES
from ..statistics.intervals import wilson_interval
from ..statistics.score_intervals import pair_labels, sample_ratios
from ..statistics.scores import truth_names
from ..training.calibration.evaluation import expected_calibration_error
from ..training.data import match
from .benchmark import CLASSES, LABELS, read_manifest, read_tables

REQUIRED = ("image", "x_px", "y_px", "label")
OTHER = "other sizes"


@dataclass(frozen=True, eq=False)
class _Matched:
    """Images, true clusters and predictions of a part of a benchmark.

    ``partner`` is the index in ``truth`` of each prediction, or -1.
    """

    images: pd.DataFrame
    truth: pd.DataFrame
    predicted: pd.DataFrame
    partner: np.ndarray

    def of(self, images: pd.DataFrame) -> _Matched:
        """Return the part of some images."""
        names = images["image"]
        own = self.predicted["image"].isin(names).to_numpy()
        truth = self.truth[self.truth["image"].isin(names)]
        return _Matched(images, truth, self.predicted[own], self.partner[own])


def score_benchmark(folder: Path, table: Path, allow_missing: bool = False) -> dict[str, Any]:
    """Score the predictions of a method for each kind and form of sessions.

    Sessions without any prediction are not scored.

    Parameters
    ----------
    folder : Path
        Folder of a benchmark.
    table : Path
        Predictions: ``image, x_px, y_px, label``, and optionally ``p_<class>`` and ``n_atoms``;
        such as ``clusters.csv``. A ``run.json`` in its folder lists the analysed images.
    allow_missing : bool, optional
        Whether nothing was found in images without a row; otherwise an error.

    Returns
    -------
    dict of str to Any
        ``scores``, a dictionary for each kind and form, see `docs/reference/benchmark.md`; and
        what was scored.

    Raises
    ------
    ReadError
        If a file is missing or has changed.
    TableError
        If the predictions are incomplete or impossible.
    """
    images, truth = read_tables(folder)
    predicted = _read_predictions(table, list(images["image"]))
    scored = _scored_images(images, predicted, table, allow_missing)
    matched = _match(scored, truth, predicted)
    groups = scored.groupby(["kind", "form"], sort=False)
    return {
        "program": "napari-atomicity",
        "version": __version__,
        "data_sha256": read_manifest(folder)["sha256"],
        "predictions": table.name,
        "sessions_not_scored": sorted(set(images["session"]) - set(scored["session"])),
        "scores": [
            {"kind": kind, "form": form, **_score(matched.of(own), kind == OTHER)}
            for (kind, form), own in groups
        ],
    }


# ---- predictions
def _read_predictions(path: Path, known: list[str]) -> pd.DataFrame:
    """Read and check predictions; images get their names in the benchmark."""
    table = read_table(path)
    missing = [name for name in REQUIRED if name not in table]
    if missing:
        raise TableError(f"the predictions lack the columns {', '.join(missing)}", path)
    names = truth_names(dict.fromkeys(table["image"].astype(str)), known)
    foreign = sorted(image for image, name in names.items() if name is None)
    if foreign:
        raise TableError(
            f"{len(foreign)} images are not in the benchmark, such as {foreign[0]}",
            path,
            f"Use the names of images.csv, such as {known[0]}",
        )
    label = table["label"].astype(object).where(table["label"].notna(), "").astype(str)
    image = table["image"].astype(str).map(names)
    numbers = [*_probabilities(table), *(c for c in ("x_px", "y_px", "n_atoms") if c in table)]
    out = table.assign(image=image, label=label)
    out[numbers] = out[numbers].apply(pd.to_numeric, errors="coerce")
    _check_values(out, path)
    return out


def _check_values(table: pd.DataFrame, path: Path) -> None:
    """Check positions, labels and probabilities."""
    without = ~np.isfinite(table[["x_px", "y_px"]].to_numpy(float)).all(axis=1)
    if without.any():
        image = table["image"][without].iloc[0]
        raise TableError(f"{without.sum()} rows have no position, the first in {image}", path)
    unknown = sorted(set(table["label"]) - {"", *LABELS, *NON_CLASS_LABELS})
    if unknown:
        raise TableError(
            f"{', '.join(map(repr, unknown[:5]))} are not classes of the benchmark",
            path,
            f"Its labels are {', '.join((*LABELS, *NON_CLASS_LABELS))}",
        )
    p = _probabilities(table).to_numpy(float)
    if (p < 0).any() or (np.nansum(p, axis=1) > 1.01).any():
        raise TableError("probabilities must be at least 0 and add up to at most 1", path)


def _probabilities(table: pd.DataFrame) -> pd.DataFrame:
    """Return the columns of probabilities, which may be none."""
    return table[[name for name in probability_columns(LABELS) if name in table]]


def _scored_images(
    images: pd.DataFrame, predicted: pd.DataFrame, path: Path, allow_missing: bool
) -> pd.DataFrame:
    """Return the images of sessions with predictions; refuse images that were not analysed."""
    known = list(images["image"])
    analysed = {*predicted["image"], *truth_names(analysed_images(path) or [], known).values()}
    has_rows = images["image"].isin(analysed)
    own = images[images["session"].isin(images["session"][has_rows])]
    missing = own["image"][~has_rows]
    if len(missing) and not allow_missing:
        raise TableError(
            f"{len(missing)} images of the scored sessions have no predictions, such as "
            f"{missing.iloc[0]}",
            path,
            "Analyse them, or use --allow-missing if nothing was found there",
        )
    if own.empty:
        raise TableError("there are no predictions", path)
    return own


def _match(images: pd.DataFrame, truth: pd.DataFrame, predicted: pd.DataFrame) -> _Matched:
    """Match the predictions of each image with its true clusters."""
    predicted = predicted.reset_index(drop=True)
    partner = np.full(len(predicted), -1)
    rows_of, truths_of = (table.groupby("image").indices for table in (predicted, truth))
    for image, pixel_nm in zip(images["image"], images["px_nm"], strict=True):
        rows, truths = rows_of.get(image, []), truths_of.get(image, [])
        i, j = match(predicted.iloc[rows], truth.iloc[truths], pixel_nm)
        if len(i):
            partner[rows[i]] = truths[j]
    return _Matched(images, truth, predicted, partner)


# ---- scores
def _score(part: _Matched, other_sizes: bool) -> dict[str, Any]:
    """Score a kind and form of sessions; None where undefined."""
    classes = OTHER_SIZES if other_sizes else CLASSES
    cut = part.truth["border"]
    at_border = np.isin(part.partner, part.truth.index[cut])
    whole = part.truth[~cut]
    counted, partner = part.predicted[~at_border], part.partner[~at_border]
    found = partner >= 0
    of_class = found & np.isin(partner, whole.index[whole["label"].isin(classes)])
    own, true = counted[of_class], part.truth.loc[partner[of_class]]
    knows_classes = not other_sizes or bool(part.predicted["label"].isin(classes).any())
    return {
        "sessions": part.images["session"].nunique(),
        "images": len(part.images),
        "clusters": len(own),
        "recall": _ratio(found.sum(), len(whole)),
        "precision": _ratio(found.sum(), len(counted)),
        **_label_scores(own, true["label"].to_numpy(object), knows_classes),
        "unknown": _ratio((own["label"] == UNKNOWN).sum(), len(own)),
        "atom_error": _atom_error(own, true["n_atoms"].to_numpy(float)),
        **(_ratio_scores(part, counted, partner, whole, classes) if knows_classes else {}),
    }


def _ratio(part: Any, whole: int) -> float | None:
    return float(part) / whole if whole else None


def _label_scores(own: pd.DataFrame, true: np.ndarray, knows_classes: bool) -> dict[str, Any]:
    """Compute accuracies with Wilson's intervals, and the calibration error."""
    out: dict[str, Any] = {}
    if not knows_classes or not len(own):
        return out
    out |= _accuracy("accuracy", own["label"].to_numpy(object) == true)
    p = _probabilities(own)
    if len(p.columns) and p.notna().to_numpy().any():
        values = np.nan_to_num(p.to_numpy(float))
        names = np.array([str(name).removeprefix("p_") for name in p], dtype=object)
        right = names[values.argmax(axis=1)] == true
        out |= _accuracy("accuracy_most_probable", right)
        out["calibration_error"] = expected_calibration_error(values.max(axis=1), right)
    return out


def _accuracy(name: str, right: np.ndarray) -> dict[str, float]:
    fraction = float(right.mean())
    low, high = wilson_interval(np.asarray(fraction), len(right))
    return {name: fraction, f"{name}_low": float(low), f"{name}_high": float(high)}


def _atom_error(own: pd.DataFrame, true: np.ndarray) -> float | None:
    """Return the mean absolute error of the numbers of atoms, where there are any."""
    if "n_atoms" not in own:
        return None
    error = np.abs(own["n_atoms"].to_numpy(float) - true)
    error = error[np.isfinite(error)]
    return float(error.mean()) if len(error) else None


def _ratio_scores(
    part: _Matched,
    counted: pd.DataFrame,
    partner: np.ndarray,
    whole: pd.DataFrame,
    classes: tuple[str, ...],
) -> dict[str, float | None]:
    """Compare the counted fractions of each sample of a session with the true ones."""
    sample_of = pd.Series(
        (part.images["session"] + ": " + part.images["sample"]).to_numpy(object),
        index=part.images["image"],
    )
    pairs = pair_labels(whole, counted, partner, sample_of, classes)
    ratios = sample_ratios(pairs)
    return {"ratio_r2": ratios["r2"], "ratio_mae": ratios["mean_absolute_error"]}
