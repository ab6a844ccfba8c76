"""Background, noise, scale space against plain implementations."""

import numpy as np
import pytest
from hypothesis import given, settings, strategies as st
from scipy import ndimage

from napari_atomicity.atoms.finding.candidates import ScaleSpace
from napari_atomicity.detection.background import (
    background_block_px,
    block_mean,
    estimate_background_grid,
    estimate_noise_grid,
    noise_sampling_step,
    without_gaps,
)


@given(st.integers(1, 7), st.integers(7, 40), st.integers(7, 40))
def test_block_means_keep_the_sum_of_whole_blocks(factor, height, width):
    frame = np.random.default_rng(height * width).normal(size=(height, width)).astype(np.float32)
    coarse = block_mean(frame, factor)
    assert coarse.shape == (max(1, height // factor), max(1, width // factor))
    if height % factor == 0 and width % factor == 0:
        plain = frame.reshape(height // factor, factor, width // factor, factor).mean((1, 3))
        np.testing.assert_allclose(coarse, plain, atol=1e-5)


def test_scale_space_is_gaussian_laplace():
    rng = np.random.default_rng(0)
    frame = ndimage.gaussian_filter(rng.normal(size=(97, 64)), 1).astype(np.float32)
    space = ScaleSpace(frame, 4.0)
    inner = (slice(20, -20), slice(20, -20))
    for sigma in (1.5, 3.0, 4.0):
        expected = -(sigma**2) * ndimage.gaussian_laplace(frame.astype(float), sigma, truncate=6)
        np.testing.assert_allclose(space.laplacian(sigma)[inner], expected[inner], atol=2e-3)


def local_noise(response: np.ndarray, block_px: int) -> np.ndarray:
    """The noise at every pixel of a filtered image."""
    step = noise_sampling_step(block_px)
    grid = estimate_noise_grid(
        response[::step, ::step], block_px, response.shape, np.abs(response).max()
    )
    return grid.at(*(np.arange(n) for n in response.shape))


@settings(max_examples=20, deadline=None)
@given(st.floats(0.1, 50), st.floats(-1e4, 1e4))
def test_local_noise_finds_sigma_whatever_the_offset(sigma, offset):
    frame = np.random.default_rng(1).normal(offset, sigma, (128, 128))
    noise = local_noise((frame - offset).astype(np.float32), 64)
    assert np.median(noise) == pytest.approx(sigma, rel=0.1)


def test_local_noise_ignores_a_few_bright_clusters():
    frame = np.random.default_rng(2).normal(0, 1, (256, 256)).astype(np.float32)
    frame[40:60, 40:60] += 100
    assert local_noise(frame, 64).max() < 1.6


def test_background_follows_a_step_but_not_the_clusters():
    frame = np.full((200, 200), 100.0, np.float32)
    frame[:, 100:] = 180
    clean = frame.copy()
    frame[50:70, 40:60] += 300
    block = background_block_px(0.05, 6.0)
    grid = estimate_background_grid(block_mean(frame, block), block, 0.05, 6.0)
    found = grid.at(np.arange(200), np.arange(200))
    assert np.abs(found - clean)[50:70, 40:60].max() < 5
    away = np.abs(np.arange(200) - 100) > 25  # a fifth of the window
    assert np.abs(found - clean)[:, away].max() < 5


def test_gaps_are_filled_from_their_neighbours():
    frame = np.arange(25, dtype=np.float32).reshape(5, 5)
    frame[2, 2] = np.nan
    frame[0, 0] = np.inf
    filled = without_gaps(frame)
    assert np.isfinite(filled).all()
    assert filled[2, 2] in (7, 11, 13, 17)
