"""Fitted spots are where, and what, the true ones are."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings, strategies as st

from napari_atomicity.atoms.finding.localisation import SIGMA_NM, fit_spots

from .spots import field, scattered


@settings(max_examples=25, deadline=None)
@given(
    seed=st.integers(0, 10_000),
    pixel_size_nm=st.sampled_from([0.015, 0.03, 0.045]),
    sigma_nm=st.floats(0.055, 0.12),
    height=st.floats(0.1, 1e4),
)
def test_isolated_spots_are_recovered(seed, pixel_size_nm, sigma_nm, height):
    shape = (110, 90)
    points = scattered(6, shape, 0.6 / pixel_size_nm, seed)
    image = field(points, shape, sigma_nm / pixel_size_nm) * height
    start = points + np.random.default_rng(seed).uniform(-0.03, 0.03, points.shape) / pixel_size_nm

    spots = fit_spots(image, start, pixel_size_nm)

    assert spots.fitted.all()
    np.testing.assert_allclose(spots.points, points, atol=max(0.02, 0.002 / pixel_size_nm))
    np.testing.assert_allclose(spots.sigma_nm, sigma_nm, rtol=0.03)
    np.testing.assert_allclose(spots.amplitude, height, rtol=0.05)
    np.testing.assert_allclose(spots.intensity, 2 * np.pi * height * sigma_nm**2, rtol=0.08)


@pytest.mark.parametrize("gap_nm", [0.24, 0.3])
def test_neighbours_do_not_pull_at_each_other(gap_nm):
    pixel = 0.03
    points = np.array([[30.3, 30.1], [30.3, 30.1 + gap_nm / pixel]])
    image = field(points, (60, 70), 0.08 / pixel, np.array([1.0, 1.6]))

    spots = fit_spots(image, np.rint(points), pixel)

    np.testing.assert_allclose(spots.points, points, atol=0.1)
    np.testing.assert_allclose(spots.amplitude, [1.0, 1.6], rtol=0.08)


def test_noise_scatters_positions_without_shifting_them():
    pixel, shape = 0.03, (400, 400)
    points = scattered(120, shape, 24, 3)
    image = field(points, shape, 0.09 / pixel, noise=0.2, seed=4)

    error = fit_spots(image, np.rint(points), pixel).points - points

    assert np.abs(np.median(error, axis=0)).max() < 0.06
    assert np.sqrt((error**2).mean()) < 0.4


def test_a_spot_beyond_the_edge_lies_on_the_edge_and_the_others_stay():
    pixel, shape = 0.03, (60, 60)
    points = np.array([[59.9, 30.0], [30.0, -0.8], [52.0, 33.0], [20.0, 20.0]])
    image = field(points, shape, 0.08 / pixel)

    spots = fit_spots(image, np.clip(points, 0, 59), pixel)

    np.testing.assert_allclose(spots.points[:2], [[59.5, 30.0], [30.0, -0.5]], atol=0.05)
    assert spots.points.min() == -0.5 and spots.points.max() == 59.5
    np.testing.assert_allclose(spots.points[2:], points[2:], atol=0.05)


def test_a_place_without_a_spot_stays_where_it_was():
    image = field(np.empty((0, 2)), (50, 50), 3, noise=0.1)
    image -= 5 * np.exp(-((np.mgrid[:50, :50] - 25.0) ** 2).sum(0) / 18).astype(np.float32)

    spots = fit_spots(image, np.array([[25.0, 25.0]]), 0.03)

    assert not spots.fitted[0]
    np.testing.assert_array_equal(spots.points, [[25.0, 25.0]])
    assert spots.sigma_nm[0] == pytest.approx(SIGMA_NM)


@pytest.mark.parametrize("shape", [(8, 8), (1, 40), (3, 3)])
def test_small_constant_images_give_no_spots_but_finite_numbers(shape):
    spots = fit_spots(np.ones(shape, np.float32), np.array([[0.0, 0.0], [0.0, 2.0]]), 0.03)

    assert np.isfinite(spots.points).all()
    assert np.isfinite(spots.amplitude).all()
    assert np.abs(spots.amplitude).max() < 1e-3


def test_no_points():
    spots = fit_spots(np.ones((9, 9)), np.empty((0, 2)), 0.03)

    assert spots.points.shape == (0, 2)
    assert len(spots.fitted) == len(spots.intensity) == 0


def test_ten_thousand_points_are_fitted_side_by_side():
    points = np.random.default_rng(0).uniform(5, 295, (10_000, 2))
    image = field(points[:50], (300, 300), 3, noise=0.1)

    spots = fit_spots(image, points, 0.06)

    assert len(spots.points) == 10_000
    assert np.isfinite(spots.intensity).all()
