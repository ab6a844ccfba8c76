"""A click goes to the spot that was meant, and to no other."""

from __future__ import annotations

import numpy as np
import pytest

from napari_atomicity.atoms.finding.localisation import REACH_NM, snap_to_spot
from napari_atomicity.atoms.marks import mark_at

PIXEL_NM = 0.03


def image(points, height=10.0, noise=0.0, shape=(80, 90)):
    y, x = np.mgrid[: shape[0], : shape[1]]
    out = np.random.default_rng(0).normal(5, noise, shape)
    for cy, cx in points:
        out += height * np.exp(-((y - cy) ** 2 + (x - cx) ** 2) / (2 * (0.08 / PIXEL_NM) ** 2))
    return out


@pytest.mark.parametrize("off", [(0, 0), (2.5, 0), (-2, 2)])
def test_the_spot_is_found_to_a_fraction_of_a_pixel(off):
    there = np.array([40.3, 50.7])
    found = snap_to_spot(image([there], noise=0.1), *(there + off), PIXEL_NM)
    np.testing.assert_allclose(found, there, atol=0.05)


def test_neighbours_do_not_draw_it_aside():
    pair = np.array([[40.3, 40.2], [40.1, 49.4]])  # 0.28 nm, as in the metal
    pixels = image(pair, noise=0.05)
    for there in pair:
        np.testing.assert_allclose(snap_to_spot(pixels, *there + 1, PIXEL_NM), there, atol=0.1)


def test_a_spot_too_far_away_was_not_meant():
    there = np.array([40.0, 50.0])
    far = REACH_NM / PIXEL_NM + 1.5
    assert snap_to_spot(image([there]), there[0] + far, there[1], PIXEL_NM) is None
    assert snap_to_spot(image([there]), there[0], there[1], PIXEL_NM, reach_nm=0.2) is not None


def test_where_there_is_nothing_there_is_no_spot():
    flat = np.full((40, 40), 7.0)
    assert snap_to_spot(flat, 20, 20, PIXEL_NM) is None
    flat[18, 18] = np.nan
    assert snap_to_spot(flat, 20, 20, PIXEL_NM) is None
    assert snap_to_spot(flat, 200, 20, PIXEL_NM) is None


def test_a_hot_pixel_or_a_gap_nearby_changes_nothing():
    """The model sees the frame without them, and atoms by hand are measured alike."""
    there = np.array([40.3, 50.7])
    pixels = image([there], noise=0.1)
    expected = snap_to_spot(pixels, *there + 1, PIXEL_NM)
    mark = mark_at(pixels, *there, PIXEL_NM)
    assert mark.intensity is not None
    hot, gap = pixels.copy(), pixels.copy()
    hot[42, 52] = 1e6
    gap[60, 60] = np.nan
    for faulty in (hot, gap):
        np.testing.assert_allclose(snap_to_spot(faulty, *there + 1, PIXEL_NM), expected, atol=0.2)
        assert mark_at(faulty, *there, PIXEL_NM).intensity == pytest.approx(mark.intensity, rel=0.1)
    assert mark_at(gap, 60, 60, PIXEL_NM).intensity is None


def test_at_the_edge_of_the_image():
    there = np.array([2.0, 87.5])
    np.testing.assert_allclose(snap_to_spot(image([there]), 3, 87, PIXEL_NM), there, atol=0.1)
