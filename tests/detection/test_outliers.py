"""Outlier pixels, and scale and offset of the image, which change no result."""

from functools import lru_cache

import numpy as np
import pandas as pd
import pytest
from hypothesis import example, given, settings, strategies as st

from napari_atomicity import load
from napari_atomicity.core import micrograph as micrographs
from napari_atomicity.core.micrograph import Micrograph
from napari_atomicity.core.patches import PatchSettings
from napari_atomicity.detection import detect, measure_at
from napari_atomicity.detection.outliers import NONE, find_repairs, repaired_frames
from napari_atomicity.detection.patches import extract_patches
from napari_atomicity.detection.recording import recording_of
from napari_atomicity.simulation.atom_fields import AtomFieldSettings, simulate_atoms
from napari_atomicity.simulation.example_data import example_path
from napari_atomicity.simulation.imaging import Microscope

PIXEL_NM = 0.036
RNG = np.random.default_rng(0)


@lru_cache(maxsize=1)
def as_recorded():
    """A part of the example, a simulated field of counts from 410 to 573."""
    return np.asarray(load(example_path()).data[:600, :600])


def image(pixels=None, pixel_nm=PIXEL_NM):
    return Micrograph(as_recorded() if pixels is None else pixels, pixel_nm)


@lru_cache(maxsize=1)
def table_as_recorded():
    return detect(image()).table


def a_cluster():
    """The brightest cluster."""
    return table_as_recorded().sort_values("integrated_intensity").iloc[-1]


def with_pixels(changed):
    """The image with some values replaced: (row, column) → value."""
    pixels = as_recorded().copy()
    for place, value in changed.items():
        pixels[place] = value
    return pixels


def same(found, expected):
    pd.testing.assert_frame_equal(found, expected, rtol=1e-4, atol=1e-3)


@pytest.mark.parametrize("value", [1e7, 1e30, -1e6, 5000, np.inf])
def test_one_pixel_does_not_change_the_clusters(value):
    row = a_cluster()  # the pixel is beside it
    y, x = int(row["y_px"]), int(row["x_px"] + 1.5 * row["diameter_nm"] / PIXEL_NM)
    same(detect(image(with_pixels({(y, x): value}))).table, table_as_recorded())


def test_the_neighbours_replace_hot_and_dead_pixels():
    changed = {(0, 0): 1e7, (200, 100): 1e5, (200, 101): 9e4, (201, 100): 2e4, (399, 7): -1e5}
    found, unit = find_repairs(image(with_pixels(changed)))
    assert unit == 1 and {tuple(p) for p in found.points.tolist()} == set(changed)
    whole = found.replace(with_pixels(changed))
    around = as_recorded()[198:203, 98:103]
    assert abs(whole[200, 100] - np.median(around)) < 5
    part = found.replace(with_pixels(changed)[190:210, 90:110], 190, 90)
    np.testing.assert_array_equal(part, whole[190:210, 90:110])
    assert recording_of(image(with_pixels(changed))).provenance() == {"outlier_pixels": 5}


def test_an_outlier_in_a_cluster_is_found():
    row = a_cluster()
    centre = int(row["y_px"]), int(row["x_px"])
    found, _ = find_repairs(image(with_pixels({centre: 1e6})))
    assert found.points.tolist() == [list(centre)]
    assert found.replace(as_recorded())[centre] == pytest.approx(as_recorded()[centre], rel=0.1)


def test_outliers_do_not_hide_clipping():
    low, high = np.percentile(as_recorded(), [0.35, 99.65])
    pixels = np.round(np.clip((as_recorded() - low) / (high - low), 0, 1) * 255)
    fraction = recording_of(image(pixels)).clipping.fraction
    pixels[10, 10] = 1e6
    clipping = recording_of(image(pixels)).clipping
    assert (clipping.limit, clipping.fraction) == (255, fraction)
    assert (detect(image(pixels)).table["clipped"] > 0).any()


def test_crops_frames_and_parts_use_the_same_outliers(monkeypatch):
    row = a_cluster()
    y, x = row["y_px"], row["x_px"]
    hot = with_pixels({(int(y) + 3, int(x) + 30): 1e8})
    expected = measure_at(image(), 0, y, x).table
    same(measure_at(image(hot), 0, y, x).table, expected)
    settings = PatchSettings()
    patches, clean = (
        extract_patches(image(p), table_as_recorded(), settings) for p in (hot, as_recorded())
    )
    for channel in patches:
        np.testing.assert_allclose(patches[channel], clean[channel], atol=0.5)
    stack = Micrograph(np.stack([as_recorded(), hot]), PIXEL_NM)
    assert [len(recording_of(stack, i).outliers) for i in range(2)] == [0, 1]
    assert [frame.max() for frame in repaired_frames(stack)] == [as_recorded().max()] * 2
    monkeypatch.setattr(micrographs, "LARGE_PIXELS", 1000)
    monkeypatch.setattr(micrographs, "_STRIP_PIXELS", 600 * 64)
    same(detect(image(hot.astype(float))).table, table_as_recorded())


@pytest.mark.parametrize("pixel_nm", [0.02, 0.04, 0.1])
@pytest.mark.parametrize("dose", [100, 1400, 1e6])
def test_single_atoms_are_no_outliers(pixel_nm, dose):
    microscope = Microscope(dose_e_per_a2=dose, gain=1, black_level=0, read_noise=0, lag=0)
    for seed, (density, contrast) in enumerate([(0.01, 10.0), (0.25, 10.0), (0.25, 0.15)]):
        field = simulate_atoms(
            AtomFieldSettings(
                (128, 128),
                pixel_nm,
                atoms_per_nm2=density,
                atom_fwhm_nm=0.13,
                contrast=contrast,
                microscope=microscope,
            ),
            seed,
        )
        assert find_repairs(field.micrograph) == (NONE, 1.0)


def test_clusters_in_coarse_pixels_and_few_electrons_are_no_outliers():
    mean = as_recorded()[:400, :400] - 415
    for factor in (2, 4, 5):
        n = 400 // factor
        coarse = mean.reshape(n, factor, n, factor).mean(axis=(1, 3))
        for electrons in (0.0005, 0.01, 1.0):
            counts = RNG.poisson(np.maximum(coarse, 0) * electrons)
            assert find_repairs(image(counts, PIXEL_NM * factor))[0] is NONE
    flat = np.zeros((100, 100))
    assert find_repairs(image(flat)) == (NONE, 1.0)
    flat[50, 50] = 1  # nothing tells what one pixel is
    assert find_repairs(image(flat))[0] is NONE
    speckled = np.where(RNG.random((100, 100)) < 1e-3, np.nan, as_recorded()[:100, :100])
    assert find_repairs(image(speckled))[0] is NONE


@settings(max_examples=6, deadline=None)
@given(st.floats(-25, 18), st.floats(-3, 3))
@example(18.0, 0.0)
@example(-25.0, 0.0)
@example(30.0, 0.0)
@example(0.0, 10.0)
def test_scale_and_offset_change_nothing(exponent, offset):
    scale = 10.0**exponent
    pixels = (as_recorded().astype(float) + 100 * offset) * scale
    pixels[5, 5] = 1e5 * scale
    table = detect(image(pixels)).table
    table["integrated_intensity"] /= scale
    same(table, table_as_recorded())


def test_dead_rows_and_columns_are_replaced_by_their_neighbours():
    pixels = as_recorded().copy()
    pixels[[40, 41, 300]] = 0
    pixels[:, [77, 420]] = 0
    pixels[200, 200] = 1e7
    micrograph = image(pixels)
    (repaired,) = repaired_frames(micrograph)
    level = as_recorded().mean()
    assert np.abs(repaired[[40, 41, 300]].mean(axis=1) / level - 1).max() < 0.02
    assert np.abs(repaired[:, [77, 420]].mean(axis=0) / level - 1).max() < 0.02
    assert repaired[200, 200] == pytest.approx(as_recorded()[200, 200], rel=0.2)
    assert repaired[40, 77] == pytest.approx(as_recorded()[40, 77], rel=0.3)
    untouched = np.ones(pixels.shape, bool)
    untouched[[40, 41, 300]], untouched[:, [77, 420]] = False, False
    untouched[200, 200] = False
    np.testing.assert_array_equal(repaired[untouched], as_recorded()[untouched])
    found, expected = detect(micrograph).table, table_as_recorded()
    assert len(found) == len(expected)
    total = [table["integrated_intensity"].sum() for table in (found, expected)]
    assert total[0] == pytest.approx(total[1], rel=0.02)


@pytest.mark.parametrize("n_rows", [5, 600])
def test_regions_of_one_value_are_not_dead_rows(n_rows):
    pixels = as_recorded().copy()
    pixels[:n_rows, :] = 0
    assert not len(find_repairs(image(pixels))[0]) or n_rows < 600
    (repaired,) = repaired_frames(image(pixels))
    np.testing.assert_array_equal(repaired[:n_rows], 0)


def test_dead_rows_of_large_images_are_read_in_parts(monkeypatch):
    pixels = as_recorded().copy()
    pixels[[40, 599]] = 0
    expected = find_repairs(image(pixels))[0]
    monkeypatch.setattr(micrographs, "LARGE_PIXELS", 1000)
    monkeypatch.setattr(micrographs, "_STRIP_PIXELS", 7 * 600)
    found = find_repairs(image(pixels))[0]
    np.testing.assert_array_equal(found.points, expected.points)
    np.testing.assert_allclose(found.values, expected.values, rtol=1e-6)
