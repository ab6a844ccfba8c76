"""Human parity: whether a model agrees with annotators as well as another annotator does.

Each annotator in turn, and the model, are compared with the consensus of the *other* annotators
(`consensus`), in the images that the annotator and others examined. The result is the difference of
F1, model minus annotator, averaged over the annotators for whom it is known, with its interval. F1
is unknown if neither the annotator (or the model) nor the others have any atom. With two annotators
the consensus consists of the other one's marks.

The result applies to these annotators and these images. It shows who is closer to the others, not
who is right. A model trained on the marks of one of them has an advantage. In simulations, a model
with the same error rates as the annotators is falsely distinguished from them in 7 % (three images)
to 10 % (ten images) of cases.
"""

from __future__ import annotations

from collections.abc import Iterable
from itertools import combinations
from typing import Any

import numpy as np
import pandas as pd

from ...core.errors import TableError
from ...core.text import first_names
from ..matching import f1_of
from ..scores import truth_names
from .annotation_sites import TOLERANCE_NM, both_annotated, check_annotations, merge_annotations
from .bootstrap_units import Units, with_ends
from .consensus import CONSENSUS_THRESHOLD, posterior_of

MODEL = "model"
"""Name of the model among the annotators."""


MARGIN = 0.15
"""Difference of F1 that must be excluded before a model is called as good as a person."""


def compare_with_annotators(
    model: pd.DataFrame,
    marks: pd.DataFrame,
    looked: pd.DataFrame,
    tolerance_nm: float = TOLERANCE_NM,
    seed: int = 0,
    in_doubt: Iterable[str] = (),
) -> dict[str, Any]:
    """Compare detected atoms with annotators, and annotators with each other, by F1.

    Parameters
    ----------
    model : pandas.DataFrame
        Detected atoms: ``image, y_nm, x_nm``. Images are matched by name, or by the name without
        suffix; an image without rows has no atoms.
    marks, looked : pandas.DataFrame
        Marks and examined images, as for `consensus.consensus`.
    tolerance_nm : float
        Maximum distance of a pair in nm.
    in_doubt : iterable of str
        Annotators whose marks hardly match those of the others (`consensus.Consensus.mismatched`).
        While there are any there is no answer: they make any model look good.

    Returns
    -------
    dict
        ``against_consensus`` (f1, precision, recall with their ends), ``pairs`` (F1 of the model
        with each annotator, and of each pair of annotators) and ``one_more_expert``
        (``persons``: F1 of each and of the model with the consensus of the others;
        ``persons_counted``: number with both known; ``difference`` with its ends; ``answer``,
        ``in_doubt``), which is None with fewer than two annotators. Unknown values are NaN.

    Raises
    ------
    TableError
        See `consensus.consensus`; and if positions of the model are missing, image names are
        ambiguous, or none of its atoms is in an annotated image.
    """
    marks, looked = check_annotations(marks, looked)
    images = list(dict.fromkeys(looked["image"]))
    units = Units(images, marks, seed)
    found = _found(model, images)
    sites = _merge_to_sites(marks, looked, tolerance_nm)
    against = units.counts(found, sites, images, tolerance_nm)
    return {
        "tolerance_nm": float(tolerance_nm),
        "bootstrap_over": units.what,
        "against_consensus": {
            **units.f1(against),
            **units.share("precision", against, 1),
            **units.share("recall", against, 2),
        },
        "pairs": _pairs(found, marks, looked, tolerance_nm, units),
        "one_more_expert": _one_more(found, marks, looked, tolerance_nm, units, list(in_doubt)),
    }


def _pairs(
    found: pd.DataFrame,
    marks: pd.DataFrame,
    looked: pd.DataFrame,
    tolerance_nm: float,
    units: Units,
) -> list[dict[str, Any]]:
    """Compute F1 of the model with each annotator, and of each pair of annotators."""
    annotators = list(dict.fromkeys(looked["annotator"]))
    of = {name: marks[marks["annotator"] == name] for name in annotators}
    pairs = []
    for name in annotators:
        own = looked.loc[looked["annotator"] == name, "image"]
        counts = units.counts(found, of[name], own, tolerance_nm)
        pairs.append({"a": MODEL, "b": name, **units.f1(counts)})
    for a, b in combinations(annotators, 2):
        common = both_annotated(looked, a, b)
        if common:
            counts = units.counts(of[a], of[b], common, tolerance_nm)
            pairs.append({"a": a, "b": b, **units.f1(counts)})
    return pairs


def _found(model: pd.DataFrame, images: list[str]) -> pd.DataFrame:
    missing = [name for name in ("image", "y_nm", "x_nm") if name not in model.columns]
    if missing:
        raise TableError(f"the table of atoms lacks the columns {', '.join(missing)}")
    name = model["image"].astype(str)
    known = name.map(truth_names(dict.fromkeys(name), images)).astype(object)
    if len(model) and not known.notna().any():
        raise TableError(
            f"no atom of the model is in an annotated image ({first_names(images)})",
            advice="Give the table of atoms of these images",
        )
    out = model[["y_nm", "x_nm"]].assign(image=known)
    return out[out["image"].notna()].reset_index(drop=True)


def _merge_to_sites(marks: pd.DataFrame, looked: pd.DataFrame, tolerance_nm: float) -> pd.DataFrame:
    """Return the sites of the consensus; with one annotator, all marks."""
    sites, _ = merge_annotations(marks, looked, tolerance_nm)
    return sites[posterior_of(sites, looked) >= CONSENSUS_THRESHOLD]


def _one_more(
    found: pd.DataFrame,
    marks: pd.DataFrame,
    looked: pd.DataFrame,
    tolerance_nm: float,
    units: Units,
    in_doubt: list[str],
) -> dict[str, Any] | None:
    """Compare each annotator, and the model, with the consensus of the others."""
    persons, differences = [], []
    for name in dict.fromkeys(looked["annotator"]):
        is_other = looked["annotator"] != name
        others = looked[is_other].reset_index(drop=True)
        other_marks = marks[marks["annotator"] != name].reset_index(drop=True)
        common = set(others["image"])
        images = [i for i in looked.loc[~is_other, "image"] if i in common]
        if not images:
            continue
        sites = _merge_to_sites(other_marks, others, tolerance_nm)
        own = marks[marks["annotator"] == name]
        person, machine = (
            units.counts(points, sites, images, tolerance_nm) for points in (own, found)
        )
        persons.append(
            {
                "annotator": name,
                "images": len(images),
                "f1": f1_of(*person.sum(axis=0)),
                "f1_model": f1_of(*machine.sum(axis=0)),
            }
        )
        differences.append(units.drawn_f1(machine) - units.drawn_f1(person))
    if not persons:
        return None
    value = np.array([p["f1_model"] - p["f1"] for p in persons])
    counted = np.isfinite(value)
    if not counted.any():
        difference = with_ends("difference", np.nan, np.array([np.nan]))
    else:
        drawn = _mean_of_known(np.stack(differences)[counted])
        difference = with_ends("difference", float(value[counted].mean()), drawn)
    answer = _answer(difference["difference_low"], difference["difference_high"])
    if in_doubt:
        answer = f"unknown, as the marks of {', '.join(in_doubt)} are in doubt"
    return {
        "persons": persons,
        "persons_counted": int(counted.sum()),
        **difference,
        "answer": answer,
        "in_doubt": in_doubt,
    }


def _mean_of_known(values: np.ndarray) -> np.ndarray:
    """Average the finite values over the first axis; NaN where there are none."""
    known = np.isfinite(values)
    total = np.where(known, values, 0).sum(axis=0)
    return np.asarray(total / np.where(known.any(axis=0), known.sum(axis=0), np.nan))


def _answer(low: float, high: float) -> str:
    if not (np.isfinite(low) and np.isfinite(high)):
        return "unknown"
    if low > 0:
        return "closer to the others than these annotators are"
    if high < 0:
        return "further from the others than these annotators are"
    if low < -MARGIN:
        return "undecided, as there are too few marks"
    return "indistinguishable from another of these annotators"
