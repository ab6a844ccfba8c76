"""Assign labels to clusters from measurements and network predictions."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd

from ..core import cluster_table as tables
from ..statistics.ratio_notes import COMBINATION, MIN_SCALE_PROBABILITY
from .classifier import Classifier, Prediction
from .domain_shift import domain_shift
from .estimators import LABELS_FROM, Measured, count_atoms, opinions
from .intensity_scale import ConstrainedMixture
from .out_of_distribution import out_of_distribution


def assign_labels(
    table: pd.DataFrame,
    classifier: Classifier,
    prediction: Prediction,
    scale: ConstrainedMixture | None,
    by_solution: np.ndarray | None = None,
    labels_from: str = COMBINATION,
) -> pd.DataFrame:
    """Fill the prediction columns of a cluster table; corrections remain.

    A cluster whose ``ood_score`` exceeds 1 is `table.UNKNOWN` or `table.AGGREGATE`; one without a
    measurable outline, which a person added, is `table.UNKNOWN`. Their probabilities are kept, but
    they hold among the classes only, so they give no confidence.

    Parameters
    ----------
    by_solution : ndarray of shape (K, N, C), optional
        Probabilities of the network for each solution of the scale.
    labels_from : str, optional
        Estimator of `estimators.LABELS_FROM` that gives labels and probabilities.
    """
    card = classifier.card
    known = Measured(table, card, scale, prediction.probabilities, by_solution)
    score, aggregate = out_of_distribution(known, prediction.embedding, classifier.beside)
    p = LABELS_FROM[labels_from](known)
    best = np.nan_to_num(p, nan=-1).argmax(axis=1) if len(p) else np.empty(0, int)
    done = np.asarray(np.isfinite(p).all(axis=1))
    classes = np.array(card.classes, dtype=object)
    label = np.where(done, classes[best], "")
    out: dict[str, Any] = {str(c): table[c] for c in table if not str(c).startswith("p_")}
    out |= zip(tables.probability_columns(card.classes), p.T, strict=True)
    measured = table["diameter_nm"].notna().to_numpy()
    outside = (score > 1) | ~measured
    # of what the border cuts nobody knows whether there is more than one
    aggregate &= measured & ~table["touches_border"].to_numpy(bool)
    elsewhere = np.where(aggregate, tables.AGGREGATE, tables.UNKNOWN)
    out["label_predicted"] = np.where(done & outside, elsewhere, label)
    out["confidence"] = np.where(outside, 0.0, p.max(axis=1) if len(p) else np.empty(0))
    out["prediction_set"] = prediction_sets(p, card.conformal_threshold, card.classes)
    out["ood_score"] = score
    out["model_id"] = card.model_id
    count = np.where(measured[:, None], count_atoms(known), np.nan)
    # the conditions are the image's: one answer for all of its clusters
    ours = ~table["touches_border"].to_numpy(bool) & ~outside
    out["conditions_differ"] = card.drift_limit is not None and bool(
        domain_shift(prediction.embedding[ours], best[ours], classifier.beside) > card.drift_limit
    )
    out |= zip(("n_atoms", "n_atoms_low", "n_atoms_high"), count.T, strict=True)
    out |= opinions(known, label)
    labelled = tables.settle_labels(pd.DataFrame(out, index=table.index))
    return tables.conform(labelled, card.classes)


def withhold_labels(
    table: pd.DataFrame, scale_probability: float, limit: float = MIN_SCALE_PROBABILITY
) -> pd.DataFrame:
    """Withhold the predicted labels of an image whose intensity scale is too uncertain.

    If the scale is wrong, all labels of the image are wrong together. Probabilities and prediction
    sets are kept, and so are ``unknown``, ``aggregate`` and corrections. The reason is that of
    `statistics.ratio_notes.ratio_notes`.

    Parameters
    ----------
    scale_probability : float
        Probability that the scale of the image is right, or within half a class of it.
    limit : float, optional
        Probability below which labels are withheld.

    Returns
    -------
    DataFrame
        With ``label_predicted`` "" and ``confidence`` NaN where a label is withheld.
    """
    if scale_probability >= limit:
        return table
    of_class = ~table["label_predicted"].isin(["", *tables.NON_CLASS_LABELS])
    return tables.settle_labels(
        table.assign(
            label_predicted=table["label_predicted"].mask(of_class, ""),
            confidence=table["confidence"].mask(of_class),
        )
    )


def prediction_sets(p: np.ndarray, threshold: float, classes: Sequence[str]) -> np.ndarray:
    """Determine the classes above a threshold, with the best one and without gaps.

    Parameters
    ----------
    p : ndarray of shape (N, C)
        Probabilities; rows with NaN get "".
    threshold : float
        Conformal, 0 to 1.
    """
    if not len(p):
        return np.empty(0, object)
    wanted = p >= np.minimum(threshold, p.max(axis=1, keepdims=True))
    n = len(classes)
    first, last = wanted.argmax(axis=1), n - 1 - wanted[:, ::-1].argmax(axis=1)
    said = np.array(
        [["|".join(classes[i : j + 1]) for j in range(n)] for i in range(n)], dtype=object
    )
    return np.asarray(np.where(np.isfinite(p).all(axis=1), said[first, last], ""), object)
