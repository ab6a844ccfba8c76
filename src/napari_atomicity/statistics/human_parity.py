"""Is a model as good as one more expert? F1 against people, beside that of people.

Each person in turn, and the model, are compared with the consensus of the *others* (`consensus`),
in the images that he and others looked at. The difference of F1, model minus person, averaged over
the persons for whom it is known, and its interval answer: F1 is not, where neither the person (or
the model) nor the others have any atom. Two people have only each other for a consensus.

The answer is about these people and these images, and it says who is nearer to the others, not who
is right. A model that has learnt from one of them is flattered. Simulated people and a model with
the same rates as they are told apart, wrongly, in 7 (three images) to 10 (ten) of 100 cases.
"""

from __future__ import annotations

from itertools import combinations
from typing import Any

import numpy as np
import pandas as pd

from ..core.errors import TableError
from .annotation_sites import TOLERANCE_NM, both_annotated, checked, merge_annotations
from .answers import posterior_of
from .bootstrap_units import Units, with_ends
from .consensus import CONSENSUS_THRESHOLD
from .matching import f1_of
from .scores import truth_names

MODEL = "model"
"""What stands for the model among the annotators."""


def compare_with_annotators(
    model: pd.DataFrame,
    marks: pd.DataFrame,
    looked: pd.DataFrame,
    tolerance_nm: float = TOLERANCE_NM,
    seed: int = 0,
) -> dict[str, Any]:
    """F1 of found atoms against people, beside that of people against each other.

    Parameters
    ----------
    model : pandas.DataFrame
        Atoms: ``image, y_nm, x_nm``. Images are matched by name, or by the name without
        suffix; one without rows has no atoms.
    marks, looked, tolerance_nm : pandas.DataFrame
        As of `consensus.consensus`.
    seed : int
        Of the bootstrap.

    Returns
    -------
    dict
        ``against_consensus`` (f1, precision, recall with their ends), ``pairs`` (F1 of the model
        against each person, and of each two persons), ``one_more_expert`` (``persons``: F1 of each
        and of the model against the consensus of the others; ``persons_counted``: of how many both
        are known; ``difference`` over these with its ends; ``answer``), which is None with fewer
        than two people. NaN where nothing is known.

    Raises
    ------
    TableError
        As `consensus.consensus`; and if the model's positions are missing or names are ambiguous.
    """
    marks, looked = checked(marks, looked)
    images = list(dict.fromkeys(looked["image"]))
    people = list(dict.fromkeys(looked["annotator"]))
    units = Units(images, marks, seed)
    found = _found(model, images)
    against = units.counts(found, _believed(marks, looked, tolerance_nm), images, tolerance_nm)
    of = {name: marks[marks["annotator"] == name] for name in people}
    pairs = []
    for name in people:
        own = looked.loc[looked["annotator"] == name, "image"]
        counts = units.counts(found, of[name], own, tolerance_nm)
        pairs.append({"a": MODEL, "b": name, **units.f1(counts)})
    for a, b in combinations(people, 2):
        common = both_annotated(looked, a, b)
        if common:
            counts = units.counts(of[a], of[b], common, tolerance_nm)
            pairs.append({"a": a, "b": b, **units.f1(counts)})
    return {
        "tolerance_nm": float(tolerance_nm),
        "bootstrap_over": units.what,
        "against_consensus": {
            **units.f1(against),
            **units.share("precision", against, 1),
            **units.share("recall", against, 2),
        },
        "pairs": pairs,
        "one_more_expert": _one_more(found, marks, looked, tolerance_nm, units),
    }


def _found(model: pd.DataFrame, images: list[str]) -> pd.DataFrame:
    missing = [name for name in ("image", "y_nm", "x_nm") if name not in model.columns]
    if missing:
        raise TableError(f"the table of atoms lacks the columns {', '.join(missing)}")
    name = model["image"].astype(str)
    known = name.map(truth_names(dict.fromkeys(name), images)).astype(object)
    out = model[["y_nm", "x_nm"]].assign(image=known)
    return out[out["image"].notna()].reset_index(drop=True)


def _believed(marks: pd.DataFrame, looked: pd.DataFrame, tolerance_nm: float) -> pd.DataFrame:
    """Sites of the consensus; of one person, all of his marks."""
    sites, _ = merge_annotations(marks, looked, tolerance_nm)
    return sites[posterior_of(sites, looked) >= CONSENSUS_THRESHOLD]


def _one_more(
    found: pd.DataFrame,
    marks: pd.DataFrame,
    looked: pd.DataFrame,
    tolerance_nm: float,
    units: Units,
) -> dict[str, Any] | None:
    persons, differences = [], []
    for name in dict.fromkeys(looked["annotator"]):
        is_other = looked["annotator"] != name
        others = looked[is_other].reset_index(drop=True)
        told = marks[marks["annotator"] != name].reset_index(drop=True)
        common = set(others["image"])
        images = [i for i in looked.loc[~is_other, "image"] if i in common]
        if not images:
            continue
        sites = _believed(told, others, tolerance_nm)
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
    return {
        "persons": persons,
        "persons_counted": int(counted.sum()),
        **difference,
        "answer": answer,
    }


def _mean_of_known(values: np.ndarray) -> np.ndarray:
    """Mean over the first axis of what is finite; NaN where nothing is."""
    known = np.isfinite(values)
    total = np.where(known, values, 0).sum(axis=0)
    return np.asarray(total / np.where(known.any(axis=0), known.sum(axis=0), np.nan))


def _answer(low: float, high: float) -> str:
    if not (np.isfinite(low) and np.isfinite(high)):
        return "not known"
    if low > 0:
        return "nearer to the others than one of these people"
    if high < 0:
        return "further from the others than one of these people"
    return "not to be told from one more of these people"
