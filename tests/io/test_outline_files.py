"""Outlines as ImageJ ROIs, GeoJSON and label images."""

import json

import numpy as np
import pytest
import roifile
import tifffile
from skimage.measure import find_contours, grid_points_in_poly

from napari_atomicity.core.errors import AtomicityError
from napari_atomicity.core.tables import cluster_table
from napari_atomicity.io.images import load
from napari_atomicity.io.outline_files import label_image, write_labels, write_outlines

SHAPE = (24, 30)


def mask_of(cluster_id: int) -> np.ndarray:
    """A part of the image that is not symmetric, so that a swap of x and y shows."""
    mask = np.zeros(SHAPE, bool)
    if cluster_id == 3:
        mask[2:7, 4:15] = True
        mask[5:10, 4:8] = True
    else:
        mask[15, 20] = True
        mask[12:20, 22:25] = True
        mask[15, 21] = True
    return mask


@pytest.fixture
def table():
    rows = {"image": "a.tif", "frame": 0, "cluster_id": [3, 8], "y_px": 4.0, "x_px": 9.0}
    table = cluster_table.conform(cluster_table.empty(["Pt19", "Pt41"]).head(0))
    table = table.reindex(range(2)).assign(**rows, label=["Pt19", "a/b"], diameter_nm=[1.2, np.nan])
    return cluster_table.conform(table.fillna({"touches_border": False}))


@pytest.fixture
def outlines():
    return [find_contours(np.pad(mask_of(i), 1), 0.5)[0] - 1 for i in (3, 8)]


def mask_by_corners(polygon_xy: np.ndarray) -> np.ndarray:
    """Pixels whose centre, half a pixel from their corner, is inside a polygon."""
    return grid_points_in_poly(SHAPE, polygon_xy[:, ::-1] - 0.5)


def test_rois_have_the_pixels_of_the_clusters(tmp_path, table, outlines):
    path = write_outlines(tmp_path / "field.zip", table, outlines, SHAPE, 0.04)
    rois = roifile.roiread(path)
    assert [roi.name for roi in rois] == ["00003 Pt19", "00008 a_b"]
    for roi, cluster_id, outline in zip(rois, (3, 8), outlines, strict=True):
        xy = roi.coordinates()
        np.testing.assert_array_equal(mask_by_corners(xy), mask_of(cluster_id))
        # The corner of the top-left pixel is (0, 0).
        np.testing.assert_allclose(xy.max(0), outline.max(0)[::-1] + 0.5)
        assert roi.position == 0


def test_rois_of_a_stack_have_frames(tmp_path, table, outlines):
    table["frame"] = [0, 4]
    path = write_outlines(tmp_path / "film.zip", table, outlines, (5, *SHAPE))
    assert [roi.position for roi in roifile.roiread(path)] == [1, 5]


def test_geojson_has_closed_polygons_and_the_columns(tmp_path, table, outlines):
    path = write_outlines(tmp_path / "field.geojson", table, outlines, SHAPE, 0.04)
    found = json.loads(path.read_text())
    assert found["pixel_size_nm"] == 0.04
    for feature, cluster_id in zip(found["features"], (3, 8), strict=True):
        (ring,) = feature["geometry"]["coordinates"]
        assert ring[0] == ring[-1]
        np.testing.assert_array_equal(mask_by_corners(np.array(ring[:-1])), mask_of(cluster_id))
        assert feature["properties"]["cluster_id"] == cluster_id
    assert found["features"][0]["properties"]["classification"]["name"] == "Pt19"
    assert found["features"][0]["properties"]["diameter_nm"] == 1.2
    assert found["features"][1]["properties"]["diameter_nm"] is None


def test_a_label_image_has_the_pixels_and_the_scale(tmp_path, table, outlines):
    path = write_outlines(tmp_path / "field.tif", table, outlines, SHAPE, 0.04)
    labels = tifffile.imread(path)
    assert labels.dtype == np.uint16
    np.testing.assert_array_equal(labels == 3, mask_of(3))
    np.testing.assert_array_equal(labels == 8, mask_of(8))
    assert load(path).pixel_size_nm == pytest.approx(0.04)


def test_large_ids_are_kept(tmp_path, table, outlines):
    table["cluster_id"] = [3, 70_000]
    labels = label_image(table, outlines, SHAPE)
    assert set(np.unique(labels)) == {0, 3, 70_000}
    path = write_labels(tmp_path / "field.tif", labels, 0.04)
    np.testing.assert_array_equal(tifffile.imread(path), labels)
    assert load(path).pixel_size_nm == pytest.approx(0.04)


def test_clusters_of_a_stack_are_in_their_frames(tmp_path, table, outlines):
    table["frame"] = [0, 1]
    path = write_outlines(tmp_path / "film.tif", table, outlines, (2, *SHAPE), 0.04)
    labels = tifffile.imread(path)
    assert [set(np.unique(frame)) for frame in labels] == [{0, 3}, {0, 8}]
    assert load(path).pixel_size_nm == pytest.approx(0.04)


def test_errors_name_what_can_be_written(tmp_path, table, outlines):
    with pytest.raises(AtomicityError, match=r"\.geojson"):
        write_outlines(tmp_path / "field.svg", table, outlines, SHAPE)
    with pytest.raises(AtomicityError, match="no outlines"):
        write_outlines(tmp_path / "field.zip", table.head(0), [], SHAPE)
    assert list(tmp_path.iterdir()) == []
