"""Detection on discs whose place and size are known, and on days when things go wrong."""

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings, strategies as st
from scipy import ndimage
from scipy.spatial import cKDTree

from napari_atomicity.core.errors import (
    AtomicityError,
    CalibrationError,
    Cancelled,
    UnsuitableImageError,
)
from napari_atomicity.core.micrograph import Micrograph
from napari_atomicity.detection import DetectionSettings, detect, measure_at
from napari_atomicity.simulation.field_settings import FieldSettings
from napari_atomicity.simulation.fields import simulate_field

PIXEL_NM = 0.05


def discs(centres, diameters_nm, shape=(256, 256), noise=2.0, height=40.0, seed=0, pixel=PIXEL_NM):
    """Blurred discs on a noisy level of 100."""
    yy, xx = np.mgrid[: shape[0], : shape[1]]
    image = np.zeros(shape)
    for (y, x), d in zip(centres, diameters_nm, strict=True):
        image = np.maximum(image, np.hypot(yy - y, xx - x) * pixel <= d / 2)
    image = ndimage.gaussian_filter(height * image, 0.08 / pixel)
    return 100 + image + np.random.default_rng(seed).normal(0, noise, shape)


def found_at(table, centres, within_nm=0.2, pixel=PIXEL_NM):
    if len(table) == 0:
        return 0
    apart = cKDTree(table[["y_px", "x_px"]]).query(np.array(centres))[0] * pixel
    return int((apart < within_nm).sum())


CENTRES = [(50, 60), (60, 180), (180, 70), (190, 190)]
DIAMETERS = [0.8, 1.1, 1.4, 2.0]


def test_discs_are_found_and_measured():
    table = detect(Micrograph(discs(CENTRES, DIAMETERS), PIXEL_NM, "discs")).table
    assert len(table) == 4
    assert found_at(table, CENTRES) == 4
    order = cKDTree(table[["y_px", "x_px"]]).query(CENTRES)[1]
    np.testing.assert_allclose(table["diameter_nm"].to_numpy()[order], DIAMETERS, rtol=0.12)
    expected = 40 * np.pi / 4 * np.array(DIAMETERS) ** 2
    np.testing.assert_allclose(table["integrated_intensity"].to_numpy()[order], expected, rtol=0.08)
    assert (table["eccentricity"] < 0.5).all()
    assert not table["touches_border"].any()
    np.testing.assert_allclose(table["y_nm"], table["y_px"] * PIXEL_NM)
    assert list(table["cluster_id"]) == [1, 2, 3, 4]


@pytest.mark.parametrize("pixel", [0.02, 0.035, 0.08])
def test_one_setting_serves_every_magnification(pixel):
    centres = np.array(CENTRES) * PIXEL_NM / pixel
    shape = tuple(int(256 * PIXEL_NM / pixel) for _ in range(2))
    table = detect(Micrograph(discs(centres, DIAMETERS, shape, pixel=pixel), pixel)).table
    assert found_at(table, centres, pixel=pixel) == len(table) == 4


def test_outline_holds_the_area_that_the_diameter_says():
    detection = detect(Micrograph(discs(CENTRES, DIAMETERS), PIXEL_NM))
    for polygon, diameter in zip(detection.outlines, detection.table["diameter_nm"], strict=True):
        y, x = polygon[:, 0], polygon[:, 1]
        area = 0.5 * abs(np.dot(y[:-1], x[1:]) - np.dot(x[:-1], y[1:])) * PIXEL_NM**2
        assert area == pytest.approx(np.pi / 4 * diameter**2, rel=0.1)
        np.testing.assert_allclose(polygon[0], polygon[-1])


@settings(max_examples=12, deadline=None)
@given(
    gain=st.floats(0.01, 1000),
    offset=st.floats(-1e4, 1e5),
    turns=st.integers(0, 3),
    mirrored=st.booleans(),
)
def test_gain_offset_and_orientation_change_nothing(gain, offset, turns, mirrored):
    image = discs(CENTRES, DIAMETERS)
    plain = detect(Micrograph(image, PIXEL_NM)).table
    turned = np.rot90(image[:, ::-1] if mirrored else image, turns)
    # in units of the gain: further from zero float32 has no numbers left for the clusters
    table = detect(Micrograph((turned + offset) * gain, PIXEL_NM)).table
    assert len(table) == len(plain)
    np.testing.assert_allclose(
        np.sort(table["diameter_nm"]), np.sort(plain["diameter_nm"]), rtol=0.05
    )
    np.testing.assert_allclose(
        np.sort(table["integrated_intensity"]) / gain,
        np.sort(plain["integrated_intensity"]),
        rtol=0.05,
    )


def test_touching_discs_are_two_and_say_so():
    centres = [(100, 100), (100, 100 + 1.3 / PIXEL_NM)]
    image = discs(centres, [1.2, 1.2])
    table = detect(Micrograph(image, PIXEL_NM)).table
    assert found_at(table, centres) == len(table) == 2
    assert table["touches_neighbour"].all()


def test_a_cluster_on_the_border_says_so():
    table = detect(Micrograph(discs([(4, 100), (128, 128)], [1.4, 1.4]), PIXEL_NM)).table
    flags = table.sort_values("y_px")["touches_border"].tolist()
    assert flags == [True, False]


def test_an_edge_a_step_and_streaks_are_no_clusters():
    rng = np.random.default_rng(3)
    image = rng.normal(100, 2, (300, 300))
    image[:, 150:] += 40  # thickness step
    image[:60] -= 60  # vacuum
    image[200::17] += 12  # streaks
    assert len(detect(Micrograph(image, PIXEL_NM)).table) == 0


@settings(max_examples=10, deadline=None)
@given(st.integers(0, 1000))
def test_noise_alone_holds_hardly_anything(seed):
    image = np.random.default_rng(seed).normal(100, 5, (256, 256))
    assert len(detect(Micrograph(image, PIXEL_NM)).table) <= 1


def test_a_simulated_field_is_found(library):
    settings_ = FieldSettings(
        shape_px=(512, 512), clusters_per_nm2=0.03, mixture={"Pt19": 1, "Pt70": 1}, touching=0.0
    )
    field = simulate_field(library, settings_, seed=3)
    inner = field.truth[~field.truth["touches_border"]]
    table = detect(field.micrograph).table
    assert len(inner) >= 6
    assert found_at(table, inner[["y_px", "x_px"]], 0.35, 0.04) == len(inner)


# ---- bad days


def test_a_constant_image_holds_nothing():
    assert len(detect(Micrograph(np.full((128, 128), 7.0), PIXEL_NM)).table) == 0


def test_nan_pixels_cost_only_themselves():
    image = discs(CENTRES, DIAMETERS)
    image[100:110] = np.nan
    image[::31, ::17] = np.inf
    table = detect(Micrograph(image, PIXEL_NM)).table
    assert found_at(table, CENTRES) == 4


@pytest.mark.parametrize("shape", [(1, 1), (1, 50), (3, 3), (16, 200)])
def test_tiny_images(shape):
    image = np.random.default_rng(0).normal(size=shape)
    assert len(detect(Micrograph(image, PIXEL_NM)).table) <= 2


def test_without_calibration_nothing_is_measured():
    with pytest.raises(CalibrationError, match="pixel size"):
        detect(Micrograph(np.zeros((32, 32))))


def test_too_coarse_pixels_are_refused_with_a_remedy():
    with pytest.raises(UnsuitableImageError, match=r"too coarse.*0\.2 nm per pixel"):
        detect(Micrograph(np.zeros((32, 32)), 8.55))


def test_a_stack_is_taken_frame_by_frame():
    stack = np.stack([discs(CENTRES, DIAMETERS), discs(CENTRES[:2], DIAMETERS[:2], seed=1)])
    stack = np.concatenate([stack, np.full((1, 256, 256), np.nan)])
    table = detect(Micrograph(stack, PIXEL_NM)).table
    assert table["frame"].value_counts().to_dict() == {0: 4, 1: 2}
    assert table["cluster_id"].is_unique


def test_it_stops_when_asked():
    with pytest.raises(Cancelled):
        detect(Micrograph(discs(CENTRES, DIAMETERS), PIXEL_NM), stop=lambda: True)


@pytest.mark.parametrize("values", [{"diameter_min_nm": 2, "diameter_max_nm": 1}, {"threshold": 0}])
def test_settings_that_make_no_sense_are_refused(values):
    with pytest.raises(AtomicityError):
        DetectionSettings(**values)


# ---- pointing


def test_pointing_at_a_cluster_measures_it():
    micrograph = Micrograph(discs(CENTRES, DIAMETERS), PIXEL_NM)
    one = measure_at(micrograph, 0, 180, 70)
    assert len(one.table) == len(one.outlines) == 1
    row = one.table.iloc[0]
    assert (row["y_px"], row["x_px"]) == (180, 70)
    assert row["diameter_nm"] == pytest.approx(1.4, rel=0.12)
    assert row["integrated_intensity"] == pytest.approx(40 * np.pi / 4 * 1.4**2, rel=0.08)


@pytest.mark.parametrize("share_of_radius", [0.3, 0.5, 0.8])
@pytest.mark.parametrize("diameter_nm", [0.9, 1.4, 2.4])
def test_pointing_beside_the_peak_of_a_cluster_measures_it(share_of_radius, diameter_nm):
    micrograph = Micrograph(discs([(100.0, 100.0)], [diameter_nm]), PIXEL_NM)
    whole = detect(micrograph).table.iloc[0]
    for angle in np.linspace(0, 2 * np.pi, 7):
        away_px = (
            share_of_radius * diameter_nm / 2 / PIXEL_NM * np.array([np.sin(angle), np.cos(angle)])
        )
        row = measure_at(micrograph, 0, *(100 + away_px)).table.iloc[0]
        assert row["diameter_nm"] == pytest.approx(whole["diameter_nm"], rel=0.1)
        assert row["integrated_intensity"] == pytest.approx(whole["integrated_intensity"], rel=0.05)


def test_pointing_at_nothing_still_gives_a_row():
    micrograph = Micrograph(np.full((200, 200), 5.0), PIXEL_NM)
    one = measure_at(micrograph, 0, 100, 100)
    assert len(one.table) == 1
    assert np.isnan(one.table["diameter_nm"].iloc[0])
    assert len(one.outlines[0]) > 8


def test_pointing_outside_is_an_error():
    with pytest.raises(AtomicityError, match="outside"):
        measure_at(Micrograph(np.zeros((50, 50)), PIXEL_NM), 0, 9e3, 9e3)


def test_the_largest_diameter_is_limited_by_the_image():
    image = Micrograph(discs(CENTRES, DIAMETERS), PIXEL_NM)
    tables = [
        detect(image, DetectionSettings(diameter_max_nm=diameter)).table
        for diameter in (256 * PIXEL_NM, 1e9)
    ]
    assert found_at(tables[0], CENTRES) == 4
    pd.testing.assert_frame_equal(*tables)
