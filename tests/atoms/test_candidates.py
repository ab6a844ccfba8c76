"""Local contrast and candidates: the same at every magnification, and not fooled by edges."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings, strategies as st

from napari_atomicity.atoms.finding.candidates import (
    contrast_channels,
    find_local_maxima,
    local_contrast,
)
from scale_space import CandidateSettings, find_candidates

from .spots import field, scattered


@settings(max_examples=10, deadline=None)
@given(pixel_size_nm=st.floats(0.018, 0.045), seed=st.integers(0, 100))
def test_the_same_atoms_at_every_magnification(pixel_size_nm, seed):
    atoms_nm = scattered(12, (4.0, 4.0), 0.6, seed)
    shape = (int(4.0 / pixel_size_nm),) * 2
    image = field(atoms_nm / pixel_size_nm, shape, 0.09 / pixel_size_nm, noise=0.05, seed=seed)

    points, response = find_candidates(image, pixel_size_nm, CandidateSettings(threshold=3.5))

    found_nm = points[np.argsort(-response)][: len(atoms_nm)] * pixel_size_nm
    gap = np.linalg.norm(found_nm[:, None] - atoms_nm[None], axis=2).min(axis=0)
    assert (gap < 0.05).mean() > 0.9


@given(st.floats(0.01, 1e6), st.floats(-100, 100))
@settings(max_examples=20, deadline=None)
def test_gain_and_black_level_do_not_matter(gain, black):
    image = field(np.array([[20.0, 25.0]]), (48, 56), 3, noise=0.2)

    plain = contrast_channels(image, 0.03)

    np.testing.assert_allclose(
        contrast_channels((image * gain + black * gain).astype(np.float64), 0.03), plain, atol=0.02
    )


def test_a_vacuum_edge_makes_no_candidates():
    rng = np.random.default_rng(0)
    image = (rng.standard_normal((200, 200)) * 0.05 + 1).astype(np.float32)
    y, x = np.mgrid[:200, :200]
    image[x > 100 + 10 * np.sin(y / 20)] -= 0.9
    atoms = np.array([[50.0, 50.0], [150.0, 40.0]])
    for a in atoms:
        image += 0.4 * np.exp(-((y - a[0]) ** 2 + (x - a[1]) ** 2) / 18).astype(np.float32)

    points, _ = find_candidates(image, 0.03, CandidateSettings(threshold=4.5))

    gap = np.linalg.norm(points[:, None] - atoms[None], axis=2)
    assert (gap.min(axis=0) < 2).all()
    at_edge = np.abs(points[:, 1] - 100 - 10 * np.sin(points[:, 0] / 20)) < 12
    assert not at_edge.any()


def test_what_is_constant_has_no_contrast():
    image = np.full((30, 40), 7.0, np.float32)

    assert not contrast_channels(image, 0.03).any()
    assert not local_contrast(image - 7, 0.03, 0.2, 0.8).any()
    points, response = find_candidates(image, 0.03)
    assert points.shape == (0, 2)
    assert len(response) == 0


@pytest.mark.parametrize("shape", [(8, 8), (1, 30), (5, 64)])
def test_tiny_images_are_fine(shape):
    image = np.random.default_rng(0).random(shape).astype(np.float32)

    assert contrast_channels(image, 0.03).shape == (3, *shape)
    assert np.isfinite(contrast_channels(image, 0.03)).all()
    find_candidates(image, 0.03)


@given(st.integers(0, 1000), st.floats(1.5, 9))
@settings(max_examples=30, deadline=None)
def test_maxima_keep_their_distance_and_miss_no_higher_one(seed, distance):
    scores = np.random.default_rng(seed).standard_normal((40, 50)).astype(np.float32)

    points, height = find_local_maxima(scores, distance)

    assert (np.diff(height) <= 0).all()
    gap = np.linalg.norm(points[:, None] - points[None], axis=2) + 99 * np.eye(len(points))
    assert gap.min(initial=99) > distance - 1.5  # the summit is within half a pixel of the pixel
    assert height[0] == scores.max()


def test_a_plateau_is_one_maximum():
    scores = np.zeros((20, 20), np.float32)
    scores[8:12, 8:12] = 1.0

    points, height = find_local_maxima(scores, 8)

    assert len(points) == 1
    assert height[0] == 1.0
