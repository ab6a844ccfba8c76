"""Registered frames averaged."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import ndimage

from napari_atomicity.core.errors import AtomicityError
from napari_atomicity.core.micrograph import Micrograph
from napari_atomicity.tracking.averaging import average_frames
from napari_atomicity.tracking.drift import StageDrift


@pytest.fixture(scope="module")
def moving():
    rng = np.random.default_rng(1)
    still = ndimage.gaussian_filter(rng.normal(size=(96, 96)), 2.5)
    still /= still.std()
    shift = np.array([[0.0, 0], [0.6, -1.3], [1.4, -2.0], [2.2, -2.9], [3.0, -4.1], [3.5, -5.0]])
    clean = np.stack([ndimage.shift(still, s, order=3, mode="nearest") for s in shift])
    noisy = (clean + rng.normal(0, 0.7, clean.shape)).astype(np.float32)
    drift = StageDrift(shift * 0.05, np.zeros(6), np.array(["image"] * 6))
    return Micrograph(noisy, 0.05, "m", metadata={"frame_time_s": 0.2}), clean, drift


def test_noise_falls_and_nothing_is_smeared(moving):
    micrograph, clean, drift = moving
    mean = average_frames(micrograph, 3, drift)
    assert mean.shape == (2, 96, 96)
    inner = (slice(8, -8), slice(8, -8))
    for group, middle in enumerate((1, 4)):
        off = (mean.data[group] - clean[middle])[inner]
        assert off.std() < 0.7 / np.sqrt(3) * 1.15
    assert mean.metadata["frame_time_s"] == pytest.approx(0.6)
    assert (mean.metadata["averaged_frames"], mean.metadata["of_frames"]) == (3, 6)


def test_all_is_a_single_image(moving):
    micrograph, clean, _ = moving
    mean = average_frames(micrograph, "all")  # the drift is found by the images
    assert mean.shape == (96, 96)
    inner = (slice(10, -10), slice(10, -10))
    assert (mean.data - clean[3])[inner].std() < 0.45


def test_groups_that_are_left_over(moving):
    micrograph, _, drift = moving
    assert average_frames(micrograph, 4, drift).shape == (2, 96, 96)  # a half counts
    assert average_frames(micrograph, 5, drift).shape == (96, 96)
    assert average_frames(micrograph, 1) is micrograph
    assert average_frames(micrograph, 99, drift).shape == (96, 96)


def test_edges_are_the_mean_of_what_was_seen():
    data = np.full((2, 16, 16), 5.0, np.float32)
    data[1, 8, 8] = data[1, 0, 0] = np.nan
    drift = StageDrift(np.array([[0, 0], [1.0, 0]]), np.zeros(2), np.array(["image"] * 2))
    mean = average_frames(Micrograph(data, 0.5, "m"), "all", drift)
    assert np.argwhere(np.isnan(mean.data)).tolist() == [[0, 0]]  # the other one is not there yet
    np.testing.assert_allclose(mean.data[1:], 5.0, rtol=1e-5)


@pytest.mark.parametrize("frames", [0, -1, 2.5, "some", True])
def test_no_number_of_frames(moving, frames):
    with pytest.raises(AtomicityError, match="frames must be"):
        average_frames(moving[0], frames)
