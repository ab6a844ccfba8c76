"""Clusters measured many at a time: what lies beside one in the sheet changes nothing."""

import numpy as np
import pytest
from scipy import ndimage

from napari_atomicity.detection import outlines
from napari_atomicity.detection.frame import whole
from napari_atomicity.detection.outlines import Basins, grow_regions, measure_regions
from napari_atomicity.detection.seeds import find_seeds, prepare
from napari_atomicity.detection.settings import DetectionSettings

PIXEL_NM = 0.05


def regions_of(basins, smooth, flat=None):
    flat = smooth if flat is None else flat
    return Basins(
        basins.astype(np.int32), flat.astype(np.float32), smooth.astype(np.float32),
        whole(basins.shape), basins.shape, PIXEL_NM,
    )  # fmt: skip


@pytest.fixture(scope="module")
def crowded():
    """Discs in the middle, on edges and in corners, some of them touching."""
    yy, xx = np.mgrid[:200, :180]
    image = np.zeros(yy.shape)
    for y, x, r in ((0, 0, 14), (199, 90, 12), (100, 179, 13), (60, 60, 12), (60, 85, 11),
                    (120, 40, 9), (150, 150, 15), (199, 0, 10), (0, 100, 12)):  # fmt: skip
        image = np.maximum(image, np.hypot(yy - y, xx - x) <= r)
    image = ndimage.gaussian_filter(40 * image, 1.6)
    image += np.random.default_rng(0).normal(100, 2, image.shape)
    settings = DetectionSettings()
    frame = prepare(image.astype(np.float32), PIXEL_NM, settings)
    seeds = find_seeds(frame, settings)
    return grow_regions(
        frame, whole(frame.shape), seeds.points, seeds.noise, settings.diameter_max_nm
    )


@pytest.mark.parametrize("at_a_time", [1, 2, 64])
def test_a_cluster_alone_is_what_it_is_among_others(crowded, monkeypatch, at_a_time):
    monkeypatch.setattr(outlines, "MIN_SHEETS", 1)
    together = {o.label: o for o in measure_regions(crowded)}
    assert len(together) == 9
    assert sum(o.touches_border for o in together.values()) == 5
    assert sum(o.touches_neighbour for o in together.values()) == 2
    monkeypatch.setattr(outlines, "MAX_WINDOWS", at_a_time)
    for label, expected in together.items():
        (alone,) = measure_regions(crowded, np.array([label]))
        for name, value in vars(expected).items():
            np.testing.assert_array_equal(getattr(alone, name), value, err_msg=name)


def test_the_largest_part_is_the_cluster_and_its_holes_are_filled():
    yy, xx = np.mgrid[:60, :60]
    away = np.hypot(yy - 25, xx - 25)
    smooth = np.where((away <= 12) & (away > 3), 10.0, 0.0)
    smooth[45:48, 45:48] = 10.0
    (found,) = measure_regions(regions_of(np.ones(yy.shape), smooth))
    assert found.diameter_nm == pytest.approx(2 * np.sqrt((away <= 12).sum() / np.pi) * PIXEL_NM)
    np.testing.assert_allclose(found.centre_px, 25)
    assert found.eccentricity == pytest.approx(0, abs=0.05)
    assert found.polygon_px.max() < 40


def test_measures_of_a_square():
    basins = np.zeros((80, 80))
    basins[30:40, 30:50] = 1
    (found,) = measure_regions(regions_of(basins, 8 * basins, 3 + 5 * basins))
    assert found.integrated_intensity == pytest.approx(5 * 200 * PIXEL_NM**2)
    assert found.eccentricity == pytest.approx(np.sqrt(1 - (10 / 20) ** 2))
    np.testing.assert_allclose(found.centre_px, (34.5, 39.5))
    assert found.isolation == pytest.approx(1)


def test_basins_without_anything_bright_or_too_few_pixels_are_none():
    basins = np.zeros((60, 60))
    basins[5:15, 5:15], basins[30:40, 30:40] = 1, 2
    smooth = np.full(basins.shape, -1.0)
    assert measure_regions(regions_of(basins, smooth)) == []
    smooth[35, 35:38] = 5.0
    assert measure_regions(regions_of(basins, smooth)) == []
    smooth[36, 35] = 5.0
    assert [o.label for o in measure_regions(regions_of(basins, smooth))] == [2]
