"""Cluster tables of simulated movies without images, by a classifier of known confusion."""

from __future__ import annotations

import numpy as np
import pandas as pd

from napari_atomicity.core.tables.cluster_table import AGGREGATE, conform
from napari_atomicity.simulation.metals import size_of
from napari_atomicity.simulation.movies import (
    Courses,
    MovieTruthSettings,
    draw_courses,
    truth_table,
)


def simulate_tables(
    settings: MovieTruthSettings,
    confusion: np.ndarray,  # (C, C): probability of each prediction (column) for each class (row)
    seed: int,
    missed: float = 0.02,  # share of clusters that are not detected
    error_nm: float = 0.02,  # standard deviation of the error of positions along an axis
    false_per_frame: float = 0.2,  # mean number of false detections
) -> tuple[pd.DataFrame, pd.DataFrame, Courses]:
    """Simulate the cluster table of a classifier of known confusion, without images.

    Probabilities follow from the predictions of such a classifier by Bayes' rule with the same
    prior for all classes: they are calibrated, and independent from frame to frame.

    The tables have a row per detection, and a row per cluster in the field; ``truth_id`` is the
    number of the true cluster in both, -1 for false detections.
    """
    rng = np.random.default_rng(seed)
    courses = draw_courses(settings, rng)
    truth = truth_table(settings, courses, "movie")
    table = _detections(settings, truth, missed, false_per_frame, rng)
    n, state = len(table), table["state"].to_numpy(int)
    predicted = np.array([rng.choice(len(confusion), p=confusion[s]) for s in state], int)
    p = confusion.T / confusion.T.sum(axis=1, keepdims=True)
    table[["y_nm", "x_nm"]] += rng.normal(0, error_nm, (n, 2))
    classes = np.array(settings.classes, object)
    label = np.where(table["merged"].to_numpy(bool), AGGREGATE, classes[predicted])
    probabilities = pd.DataFrame({f"p_{c}": p[predicted, i] for i, c in enumerate(classes)})
    table = table.reset_index(drop=True).assign(
        image="movie",
        cluster_id=np.arange(1, n + 1),
        y_px=lambda t: t["y_nm"] / 0.04,
        x_px=lambda t: t["x_nm"] / 0.04,
        integrated_intensity=lambda t: t["n_atoms"] * rng.normal(1, 0.05, n),
        label_predicted=label,
        label=label,
    )
    return conform(table.join(probabilities)), truth, courses


def _detections(
    settings: MovieTruthSettings,
    truth: pd.DataFrame,
    missed: float,
    false_per_frame: float,
    rng: np.random.Generator,
) -> pd.DataFrame:
    """Return the detected clusters and the false detections, frame by frame."""
    found = truth[rng.random(len(truth)) >= missed]
    false = [
        _false_detections(settings, frame, rng.poisson(false_per_frame), rng)
        for frame in range(settings.n_frames)
    ]
    return pd.concat([found, *false], ignore_index=True).sort_values("frame", kind="stable")


def _false_detections(
    settings: MovieTruthSettings, frame: int, n: int, rng: np.random.Generator
) -> pd.DataFrame:
    """Return n detections of a frame that are no cluster, at random."""
    k = len(settings.classes)
    sizes = np.array([size_of(c) for c in settings.classes], float)
    place = rng.uniform(0, 1, (n, 2)) * settings.extent_nm
    return pd.DataFrame(
        {
            "frame": frame,
            "truth_id": -1,
            "state": rng.integers(0, k, n),
            "y_nm": place[:, 0],
            "x_nm": place[:, 1],
            "n_atoms": sizes[rng.integers(0, k, n)],
            "diameter_nm": 1.0,
            "merged": False,
        }
    )
