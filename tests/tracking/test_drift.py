"""Drift that was put in comes out, and what shows nothing does no harm."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from films import film, stack
from scipy import ndimage

from napari_atomicity.core.micrograph import Micrograph
from napari_atomicity.tracking.drift import estimate_drift


def test_clusters_tell_the_drift():
    analysis, _, courses = film(drift_nm=(0.1, -0.2), drift_scatter_nm=0.2)
    found = estimate_drift(analysis.micrograph, analysis.table, "clusters")
    assert set(found.source) == {"clusters"}
    assert (found.shift_nm[0] == 0).all()
    off = found.shift_nm - courses.drift_nm
    # clusters that all wander one way are a drift to whoever sees nothing else
    wander = (courses.places_nm - courses.places_nm[0]).mean(axis=1)
    assert np.abs(off).max() < 0.12 + np.abs(wander).max()
    assert np.sqrt((np.diff(off, axis=0) ** 2).mean()) < 0.04


def drift_of_clusters(places_nm):
    """The drift by positions (n, 2) in each frame."""
    frames = np.repeat(np.arange(len(places_nm)), len(places_nm[0]))
    table = pd.DataFrame(np.concatenate(places_nm), columns=["y_nm", "x_nm"]).assign(frame=frames)
    return estimate_drift(stack(len(places_nm), (30.0, 30.0)), table, "clusters")


def test_a_jump_of_the_stage_is_found():
    rng = np.random.default_rng(0)
    places = rng.uniform(0, 30, (25, 2))
    jump = np.array([3.1, -2.4])
    found = drift_of_clusters([places, places, places + jump])
    np.testing.assert_allclose(found.shift_nm, [[0, 0], [0, 0], jump], atol=1e-9)


def test_clusters_that_the_border_cuts_do_not_count():
    step = np.array([0.1, -0.2])
    whole = np.array([[4.0, 6.0], [8.0, 15.0], [12.0, 7.0], [15.0, 12.0]])
    cut = np.array([[0.2, y] for y in (3.0, 7.0, 11.0, 16.0, 18.0)])  # they seem to stay
    frames = [np.r_[whole + t * step, cut] for t in range(6)]
    table = pd.DataFrame(np.concatenate(frames), columns=["y_nm", "x_nm"]).assign(
        frame=np.repeat(np.arange(6), 9), touches_border=np.tile(np.arange(9) >= 4, 6)
    )
    found = estimate_drift(stack(6), table, "clusters")
    np.testing.assert_allclose(found.shift_nm, np.arange(6)[:, None] * step, atol=1e-6)


def test_frames_without_clusters_are_between_their_neighbours():
    analysis, _, courses = film(drift_nm=(0.2, 0.1), drift_scatter_nm=0.0)
    table = analysis.table[~analysis.table["frame"].isin([0, 10, 11, 23])]
    found = estimate_drift(analysis.micrograph, table, "clusters")
    assert found.source[[0, 10, 11, 23]].tolist() == ["assumed"] * 4
    assert np.isnan(found.error_nm[[0, 10, 11, 23]]).all()
    between = found.shift_nm[9] + (found.shift_nm[12] - found.shift_nm[9]) / 3
    np.testing.assert_allclose(found.shift_nm[10], between, atol=1e-9)
    assert np.abs(found.shift_nm[12] - found.shift_nm[9] - courses.drift_nm[3]).max() < 0.06


def test_without_any_contrast_there_is_no_drift():
    found = estimate_drift(stack(5))
    assert (found.shift_nm == 0).all()
    assert set(found.source) == {"assumed"}
    flat = Micrograph(np.ones((4, 32, 32), np.float32), 0.1)
    assert (estimate_drift(flat).shift_nm == 0).all()


@pytest.fixture(scope="module")
def grain():
    """A support that drifts by fractions of a pixel, with noise; one frame is blank."""
    rng = np.random.default_rng(4)
    wide = ndimage.gaussian_filter(rng.normal(size=(160, 160)), 2.0)
    shift_px = np.array([[0, 0], [0.5, 1.2], [1.75, 2.0], [2.5, 3.4], [3.2, 4.1]])
    frames = np.stack(
        [ndimage.shift(wide, s, order=3)[16:144, 16:144] / wide.std() for s in shift_px]
    )
    frames = frames + rng.normal(0, 1.0, frames.shape)
    frames[2] = 7.0
    return Micrograph(frames.astype(np.float32), 0.05, "grain"), shift_px * 0.05


def test_images_tell_the_drift_to_fractions_of_a_pixel(grain):
    micrograph, true_nm = grain
    found = estimate_drift(micrograph)
    seen = [0, 1, 3, 4]
    np.testing.assert_allclose(found.shift_nm[seen], true_nm[seen], atol=0.25 * 0.05)
    assert found.source.tolist() == ["image", "image", "assumed", "image", "image"]


@pytest.fixture(scope="module")
def support():
    """Six frames of a support that moves by (1, 2) px a frame."""
    wide = ndimage.gaussian_filter(np.random.default_rng(5).normal(size=(160, 160)), 2.0)
    frames = [wide[20 - t : 148 - t, 20 - 2 * t : 148 - 2 * t] / wide.std() for t in range(6)]
    return Micrograph(np.stack(frames).astype(np.float32), 0.05, "support"), np.array([0.05, 0.1])


def cluster_table(places) -> pd.DataFrame:
    frame = np.repeat(np.arange(len(places)), [len(p) for p in places])
    return pd.DataFrame(np.concatenate(places), columns=["y_nm", "x_nm"]).assign(frame=frame)


FOUR = np.array([[1.0, 1.0], [1.2, 4.0], [4.0, 1.5], [4.5, 4.6]])


def test_two_frames_with_a_wrong_shift_do_not_bend_the_drift(support):
    micrograph, step = support
    data = micrograph.data.copy()
    same = ndimage.gaussian_filter(np.random.default_rng(7).normal(size=(160, 160)), 2.0)
    same *= 1.5 / same.std()
    data[1] += same[16:144, 16:144]  # in these two, the strongest pattern moves otherwise
    data[5] += same[30:158, 2:130]
    found = estimate_drift(Micrograph(data, 0.05, "support"))
    np.testing.assert_allclose(found.shift_nm, np.arange(6)[:, None] * step, atol=0.4 * 0.05)


def test_images_tell_the_step_between_frames_without_common_clusters(support):
    micrograph, step = support
    others = np.array([[2.6, 0.7], [0.6, 2.4], [3.1, 5.0], [5.2, 2.9]])
    table = cluster_table([(FOUR if t < 3 else others) + t * step for t in range(6)])
    found = estimate_drift(micrograph, table)
    assert set(found.source) == {"clusters"}
    np.testing.assert_allclose(found.shift_nm, np.arange(6)[:, None] * step, atol=0.25 * 0.05)
    # the error of this step is that of images
    assert found.error_nm[3] > 5 * np.delete(found.error_nm, 3).max()
    # without images, nothing tells it
    found = estimate_drift(micrograph, table, "clusters")
    assert np.flatnonzero(np.isnan(found.error_nm)).tolist() == [3]


def test_the_error_covers_clusters_that_disagree(support):
    micrograph, step = support
    wrong = np.array([[0.0, 0.4], [0.0, 0.4], [0.0, 0.0], [0.0, 0.0]])
    table = cluster_table([FOUR + t * step + (t > 2) * wrong for t in range(6)])
    found = estimate_drift(micrograph, table, "clusters")
    off = np.linalg.norm(found.step_nm()[1:] - step, axis=1)
    assert off[2] > 0.1
    assert (off < 3 * found.error_nm[1:]).all()
    # images decide instead
    found = estimate_drift(micrograph, table)
    np.testing.assert_allclose(found.step_nm()[1:], [step] * 5, atol=0.4 * 0.05)


def test_pixels_that_are_no_numbers_are_passed_over(grain):
    micrograph, true_nm = grain
    data = micrograph.data.copy()
    data[1, :20] = np.nan
    found = estimate_drift(Micrograph(data, 0.05, "grain"))
    np.testing.assert_allclose(found.shift_nm[1], true_nm[1], atol=0.4 * 0.05)


def test_drift_is_taken_off_and_told():
    places = np.array([[1.0, 1], [4, 4], [8, 2], [3, 9]])
    found = drift_of_clusters([places, places + np.array([0.5, 1.0])])
    np.testing.assert_allclose(found.subtract([[1.5, 2.0]], [1]), [[1, 1]], atol=1e-9)
    table = found.table("a.tif", 0.25)
    assert table["time_s"].tolist() == [0.0, 0.25]
    assert table["step_nm"].tolist() == pytest.approx([0, np.hypot(0.5, 1)])


def test_methods(grain):
    micrograph, _ = grain
    assert (estimate_drift(micrograph, method="none").shift_nm == 0).all()
    analysis, _, courses = film()
    found = estimate_drift(analysis.micrograph, analysis.table, "image")  # which is noise
    assert set(found.source) == {"assumed"}
    assert len(courses.drift_nm) == found.n_frames
