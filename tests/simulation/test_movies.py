"""Movies whose truth is what is in their pixels."""

from __future__ import annotations

import numpy as np
import pytest

from movie_tables import simulate_tables
from napari_atomicity.core.errors import Cancelled
from napari_atomicity.simulation.field_settings import FieldSettings
from napari_atomicity.simulation.imaging import Microscope, Scan
from napari_atomicity.simulation.movies import (
    MovieTruthSettings,
    draw_courses,
    simulate_movie,
)

SMALL = MovieTruthSettings(
    ("Pt19", "Pt70"), n_frames=4, n_clusters=3, extent_nm=(9.0, 9.0), change=0.2,
    drift_nm=(0.3, -0.2), drift_scatter_nm=0.0, wander_nm=0.0, apart_nm=3.5,
)  # fmt: skip
CLEAR = FieldSettings(
    pixel_size_nm=0.1,
    microscope=Microscope(dose_e_per_a2=50_000, lag=0.0),
    scan=Scan(row_jitter_px=0.0),
)


@pytest.fixture(scope="module")
def made(library):
    return simulate_movie(library, SMALL, 3, CLEAR)


def test_the_same_seed_gives_the_same_pixels(library, made):
    again = simulate_movie(library, SMALL, 3, CLEAR)
    np.testing.assert_array_equal(again.micrograph.data, made.micrograph.data)
    other = simulate_movie(library, SMALL, 4, CLEAR)
    assert not np.array_equal(other.micrograph.data, made.micrograph.data)


def test_clusters_are_where_the_truth_says(made):
    pixels = made.micrograph.data
    level = np.median(pixels)
    assert len(made.truth) > 4
    for row in made.truth.itertuples():
        y, x = round(row.y_nm / 0.1), round(row.x_nm / 0.1)
        if 5 < y < 85 and 5 < x < 85:
            around = pixels[row.frame, y - 3 : y + 4, x - 3 : x + 4]
            assert around.mean() > 2 * level


def test_the_support_drifts_with_the_clusters(library):
    bare = MovieTruthSettings(
        ("Pt19",), n_frames=3, n_clusters=1, extent_nm=(12.0, 12.0), drift_nm=(0.4, 0.0),
        drift_scatter_nm=0.0, wander_nm=0.0,
    )  # fmt: skip
    made = simulate_movie(library, bare, 1, CLEAR)
    # without the cluster, which is far brighter
    a, b = (np.minimum(f, np.percentile(f, 80)) for f in made.micrograph.data[[0, 2]])
    grain = np.s_[20:100, 20:100]
    still = np.corrcoef(a[grain].ravel(), b[grain].ravel())[0, 1]
    moved = np.corrcoef(a[grain].ravel(), b[28:108, 20:100].ravel())[0, 1]
    assert moved > 0.6
    assert moved > still + 0.3


def test_what_merges_is_one_afterwards():
    settings = MovieTruthSettings(n_frames=40, n_clusters=12, merges=2)
    courses = draw_courses(settings, np.random.default_rng(0))
    assert len(courses.merges) == 2
    for frame, gone, other in courses.merges:
        assert (courses.states[frame:, gone] == -1).all()
        assert (courses.states[frame - 1, [gone, other]] >= 0).all()
        away = courses.places_nm[frame - 1, gone] - courses.places_nm[frame - 1, other]
        assert np.linalg.norm(away) < 2.0
        assert courses.merged()[frame:, other].all()
    table, truth, _ = simulate_tables(settings, np.eye(5), 0)
    merged = truth[truth["merged"]]
    assert (merged["label"] == "aggregate").all()
    assert (merged["n_atoms"] > 38 - 1e-9).all()
    assert table["cluster_id"].is_unique


def test_classes_change_as_often_as_said():
    settings = MovieTruthSettings(n_frames=400, n_clusters=40, change=0.05, apart_nm=1.0)
    states = draw_courses(settings, np.random.default_rng(1)).states
    assert (np.diff(states, axis=0) != 0).mean() == pytest.approx(0.05, abs=0.005)


def test_words_are_those_of_the_confusion():
    confusion = np.array([[0.9, 0.1], [0.3, 0.7]])
    settings = MovieTruthSettings(("Pt19", "Pt70"), n_frames=200, n_clusters=30, change=0.0)
    table, truth, _ = simulate_tables(settings, confusion, 2, false_per_frame=0.0)
    for state, right in enumerate((0.9, 0.7)):
        mine = table[table["state"] == state]
        said = mine["label_predicted"] == settings.classes[state]
        assert said.mean() == pytest.approx(right, abs=0.03)
    # calibrated where all classes are as likely: of those that say 0.75, three in four are right
    p = table["p_Pt19"].to_numpy()
    assert set(np.round(p, 6)) == {0.75, 0.125}
    assert len(truth) > len(table)


def test_stopping(library):
    with pytest.raises(Cancelled):
        simulate_movie(library, SMALL, 3, CLEAR, stop=lambda: True)
