"""Which clusters are one."""

from __future__ import annotations

import numpy as np
import pytest
from films import film

from napari_atomicity.core.errors import Cancelled
from napari_atomicity.tracking.drift import StageDrift
from napari_atomicity.tracking.following import link_clusters


def test_clusters_keep_their_numbers():
    analysis, _, courses = film(drift_nm=(0.3, 0.0), change=0.0)
    table = analysis.table
    frames = table["frame"].to_numpy()
    known = StageDrift(courses.drift_nm, np.zeros(len(courses.drift_nm)), np.array([]))
    places = known.subtract(table[["y_nm", "x_nm"]].to_numpy(), frames)
    track, notices = link_clusters(places, frames, 0.8, memory=2, min_frames=2)
    assert not notices
    real = table["truth_id"].to_numpy() >= 0
    for _, mine in table[real].assign(track=track[real]).groupby("truth_id"):
        assert mine["track"].nunique() == 1
    assert (np.unique(track[track >= 0]) == np.arange(track.max() + 1)).all()
    again, _ = link_clusters(places, frames, 0.8, memory=2, min_frames=2)
    assert (track == again).all()
    # the order of the rows does not matter
    order = np.random.default_rng(0).permutation(len(frames))
    shuffled, _ = link_clusters(places[order], frames[order], 0.8, memory=2, min_frames=2)
    assert (shuffled == track[order]).all()


def test_memory_and_least_length():
    places, frames = np.zeros((3, 2)), np.array([0, 3, 9])
    assert link_clusters(places, frames, 1.0, memory=2)[0].tolist() == [0, 0, 1]
    assert link_clusters(places, frames, 1.0, memory=1)[0].tolist() == [0, 1, 2]
    assert link_clusters(places, frames, 1.0, memory=2, min_frames=2)[0].tolist() == [0, 0, -1]


def test_numbers_go_by_first_frame_and_place():
    places = np.array([[5.0, 1], [1, 5], [1, 5], [5, 1], [9, 9]])
    track, _ = link_clusters(places, np.array([0, 0, 1, 1, 1]), 0.5)
    assert track.tolist() == [1, 0, 0, 1, 2]


def test_a_crowd_is_linked_with_a_smaller_range_and_said():
    rng = np.random.default_rng(0)
    places = rng.uniform(0, 6, (250, 2))
    seen = np.r_[places, places + rng.normal(0, 0.01, places.shape)]
    track, notices = link_clusters(seen, np.repeat([0, 1], 250), 2.0)
    assert "2 nm" in notices[0]
    assert (track[:250] == track[250:]).mean() > 0.98


def test_nothing_and_stopping():
    track, notices = link_clusters(np.zeros((0, 2)), np.zeros(0, int), 1.0)
    assert (len(track), notices) == (0, [])
    with pytest.raises(Cancelled):
        link_clusters(np.zeros((2, 2)), np.array([0, 1]), 1.0, stop=lambda: True)
