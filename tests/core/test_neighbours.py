"""Orders for looking at clusters by their place in the map."""

import numpy as np

from napari_atomicity.gui.gallery.order import distance_to_selection, hilbert_index


def test_the_line_through_the_map_goes_from_neighbour_to_neighbour():
    y, x = np.mgrid[:32, :32]
    places = np.column_stack([x.ravel(), y.ravel()]) * 0.3 - 4.0
    places = np.random.default_rng(0).permutation(places)
    along = hilbert_index(places)
    assert len(np.unique(along)) == len(places)
    steps = np.linalg.norm(np.diff(places[np.argsort(along)], axis=0), axis=1)
    np.testing.assert_allclose(steps, 0.3, atol=1e-9)


def test_what_has_no_place_has_no_position_on_the_line():
    places = np.array([[0.0, 1.0], [np.nan, 1.0], [5.0, 5.0]])
    assert np.isnan(hilbert_index(places)).tolist() == [False, True, False]
    assert np.isnan(hilbert_index(np.full((3, 2), np.nan))).all()
    assert hilbert_index(np.empty((0, 2))).shape == (0,)
    assert np.isfinite(hilbert_index(np.ones((4, 2)))).all()  # all at one place


def test_neighbours_of_several_are_those_of_their_mean():
    places = np.array([[0.0, 0.0], [4.0, 0.0], [2.0, 0.5], [9.0, 9.0], [np.nan, 0.0]])
    near = distance_to_selection(places, np.array([True, True, False, False, True]))
    assert np.argsort(near, kind="stable").tolist() == [2, 0, 1, 3, 4]
    assert near[2] == 0.5 and np.isnan(near[4])
    assert np.isnan(distance_to_selection(places, np.zeros(5, bool))).all()
