"""Small movies with known truth."""

from __future__ import annotations

import numpy as np
import pandas as pd

from movie_tables import simulate_tables
from napari_atomicity.core.micrograph import Micrograph
from napari_atomicity.models.analysis import Analysis
from napari_atomicity.simulation.movies import Courses, MovieTruthSettings

CLASSES = ("Pt19", "Pt30", "Pt41")
PIXEL_NM = 0.2


def confusion(right: float, k: int = len(CLASSES)) -> np.ndarray:
    return np.full((k, k), (1 - right) / (k - 1)) + np.eye(k) * (right - (1 - right) / (k - 1))


def stack(n_frames: int, extent_nm=(20.0, 20.0), **metadata) -> Micrograph:
    """Nothing but noise: drift and tracks come from the table."""
    shape = (n_frames, *(int(x / PIXEL_NM) for x in extent_nm))
    data = np.random.default_rng(0).normal(100, 1, shape).astype(np.float32)
    return Micrograph(data, PIXEL_NM, "movie", metadata=metadata)


def film(seed: int = 1, right: float = 0.9, **options) -> tuple[Analysis, pd.DataFrame, Courses]:
    """An analysed movie, as a classifier that is right so often would have it, and the truth."""
    wanted = {"n_frames": 24, "n_clusters": 14, "extent_nm": (20.0, 20.0), **options}
    settings = MovieTruthSettings(classes=CLASSES, **wanted)
    table, truth, courses = simulate_tables(settings, confusion(right), seed)
    table = table.assign(y_px=table["y_nm"] / PIXEL_NM, x_px=table["x_nm"] / PIXEL_NM)
    ring = np.array([[-1, -1], [-1, 1], [1, 1], [1, -1]], float)
    outlines = [ring + place for place in table[["y_px", "x_px"]].to_numpy()]
    micrograph = stack(settings.n_frames, settings.extent_nm, frame_time_s=0.5)
    return Analysis(micrograph, table, outlines), truth, courses
