"""Outlines as ImageJ ROIs, GeoJSON and label images."""

import json
import os
import zipfile

import numpy as np
import pytest
import roifile
import tifffile
from PIL import Image
from skimage.measure import find_contours, grid_points_in_poly

from napari_atomicity.core.errors import AtomicityError
from napari_atomicity.core.tables import cluster_table
from napari_atomicity.io.images import load
from napari_atomicity.io.inputs import named_inputs
from napari_atomicity.io.outline_files import (
    area_of,
    label_image,
    match_outlines,
    outlines_file,
    read_outlines,
    without_outlines,
    write_labels,
    write_outlines,
)

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


# ---- outlines of other programs
def a_roi(**values) -> roifile.ImagejRoi:
    roi = roifile.ImagejRoi.frompoints(np.array([[4, 2], [9, 2], [9, 8], [4, 8]]))
    for name, value in values.items():
        setattr(roi, name, value)
    return roi


def feature(rings, kind="Polygon", **properties) -> dict:
    geometry = {"type": kind, "coordinates": rings}
    return {"type": "Feature", "geometry": geometry, "properties": properties}


RING = [[4, 2], [9, 2], [9, 8], [4, 8], [4, 2]]
SMALL = [[1, 1], [2, 1], [2, 2], [1, 1]]


def written(path, content):
    """Write a JSON document, pixels or bytes."""
    if isinstance(content, bytes):
        path.write_bytes(content)
    elif isinstance(content, np.ndarray):
        np.save(path, content)
    else:
        path.write_text(json.dumps(content))
    return path


@pytest.mark.parametrize(
    "content",
    [
        {"type": "FeatureCollection", "features": [feature([RING, SMALL])]},
        [feature([RING])],  # QuPath, as an array
        feature([RING]),
        {"type": "Polygon", "coordinates": [RING]},
        [feature([[SMALL], [RING]], "MultiPolygon")],  # the largest part
    ],
)
def test_forms_of_geojson(tmp_path, content):
    found = read_outlines(written(tmp_path / "a.geojson", content))
    (polygon,) = found.polygons
    # The centre of the top-left pixel is (0, 0).
    assert polygon.max(axis=0).tolist() == [7.5, 8.5] and polygon.min(axis=0).tolist() == [1.5, 3.5]
    assert found.frames == (None,) and len(found.sha256) == 64


def test_frames_of_geojson(tmp_path):
    of_qupath = feature([RING])
    of_qupath["geometry"]["plane"] = {"c": -1, "z": 0, "t": 3}
    found = read_outlines(written(tmp_path / "a.json", [feature([RING], frame=2), of_qupath]))
    assert found.frames == (2, 3)


def test_single_rois_and_their_frames(tmp_path):
    a_roi(position=3).tofile(tmp_path / "a.roi")
    found = read_outlines(tmp_path / "a.roi")
    assert found.frames == (2,) and found.polygons[0].max(axis=0).tolist() == [7.5, 8.5]
    corners = {"left": 4, "top": 2, "right": 9, "bottom": 8}
    for kind, area in ((roifile.ROI_TYPE.OVAL, np.pi / 4 * 30), (roifile.ROI_TYPE.RECT, 30)):
        roifile.ImagejRoi(roitype=kind, **corners).tofile(tmp_path / "a.roi")
        (polygon,) = read_outlines(tmp_path / "a.roi").polygons
        assert area_of(polygon) == pytest.approx(area, rel=0.02)


@pytest.mark.parametrize("suffix", [".tif", ".png", ".npy", ".npz"])
def test_label_images(tmp_path, suffix):
    labels = np.where(mask_of(3), 40_000, np.where(mask_of(8), 7, 0)).astype(np.uint16)
    path = tmp_path / f"a{suffix}"
    if suffix == ".tif":
        tifffile.imwrite(path, labels)
    elif suffix == ".png":
        Image.fromarray(labels).save(path)
    elif suffix == ".npz":
        np.savez(path, labels=labels)
    else:
        np.save(path, labels.astype(float))  # some programs store labels as numbers
    found = read_outlines(path).labels
    assert np.array_equal(found == 2, mask_of(3)) and np.array_equal(found == 1, mask_of(8))


WRONG = {
    "nothing.geojson": ({"type": "FeatureCollection", "features": []}, "there are no outlines"),
    "point.geojson": ([feature([1, 2], "Point")], "object 1 is a Point, not a polygon"),
    "nan.geojson": ([feature([[[1, 2], [np.nan, 3], [4, 5]]])], "object 1 is no polygon of finite"),
    "line.geojson": ([feature([[[1, 2], [2, 3]]])], "object 1 is no polygon"),
    "text.geojson": (b"{", "can't be read"),
    "number.geojson": (b"3", "can't be read"),
    "letters.geojson": ([feature([[["a", 2], [3, 3], [4, 5]]])], "can't be read"),
    "deep.geojson": (b"[" * 100_000, "can't be read"),
    "binary.json": (b"\xff\xfe\x00", "can't be read"),
    "empty.zip": (b"PK\x05\x06" + bytes(18), "there are no outlines"),
    "cut.zip": (b"PK\x03\x04" + bytes(60), "can't be read"),
    "cut.roi": (b"Iout\x00\xe4", "can't be read"),
    "nothing.npy": (np.zeros((9, 9), int), "all labels are 0"),
    "negative.npy": (np.full((9, 9), -1), "no label image"),
    "probability.npy": (np.linspace(0, 1, 81).reshape(9, 9), "no label image"),
    "nan.npy": (np.full((9, 9), np.nan), "no label image"),
    "million.npy": (np.arange(1_000_000).reshape(1000, 1000), "999,999 objects, more than"),
    "cut.npy": (b"\x93NUMPY", "."),
    "a.svg": (b"<svg/>", r"can't be read from \.svg.*\.geojson"),
    "none": (b"", "file without suffix"),
}


@pytest.mark.parametrize("name", WRONG)
def test_wrong_files_are_named_with_what_to_do(tmp_path, name):
    content, message = WRONG[name]
    with pytest.raises(AtomicityError, match=message) as caught:
        read_outlines(written(tmp_path / name, content))
    assert caught.value.path.name == name and caught.value.advice


def test_a_line_of_imagej_is_no_area(tmp_path):
    a_roi(roitype=roifile.ROI_TYPE.FREELINE, name="edge").tofile(tmp_path / "a.roi")
    with pytest.raises(AtomicityError, match=r"a\.roi: the ROI edge is a freeline, not an area"):
        read_outlines(tmp_path / "a.roi")


def test_a_truncated_archive_is_refused(tmp_path, table, outlines):
    path = write_outlines(tmp_path / "field.zip", table, outlines, SHAPE)
    path.write_bytes(path.read_bytes()[:-40])
    with pytest.raises(AtomicityError, match=r"field\.zip.*Export the objects again"):
        read_outlines(path)


def test_an_archive_that_expands_without_end_is_refused(tmp_path):
    with zipfile.ZipFile(tmp_path / "bomb.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        for i in range(11):
            archive.writestr(f"{i}.roi", bytes(100_000_000))
    with pytest.raises(AtomicityError, match="larger than ROIs are"):
        read_outlines(tmp_path / "bomb.zip")


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs named pipes")
@pytest.mark.parametrize("name", ["a.zip", "a.geojson", "a.roi", "a.tif"])
def test_a_pipe_is_refused(tmp_path, name):
    os.mkfifo(tmp_path / name)
    with pytest.raises(AtomicityError, match="not a regular file"):
        read_outlines(tmp_path / name)


# ---- which file belongs to which image
@pytest.mark.parametrize(
    "name",
    ["a.zip", "a_cp_masks.png", "a_seg.npy", "outlines-a.geojson", "RoiSet.zip", "a-labels.tif",
     "a_Object Identities.tif", "a.ome.tif"],
)  # fmt: skip
def test_names_that_programs_give(tmp_path, name):
    (tmp_path / name).write_bytes(b"")
    (tmp_path / "b.zip").write_bytes(b"")
    if name == "RoiSet.zip":
        with pytest.raises(AtomicityError, match=r"0 files .* of a\.tif.*a_masks\.tif"):
            outlines_file(tmp_path, "a.tif", None)
    else:
        assert outlines_file(tmp_path, "a.tif", None).name == name


def test_a_folder_of_our_own_export_of_several_images(tmp_path):
    """The window writes ``day-a.zip`` for ``a.tif`` if it exports several images."""
    for name in ("day-a-a.zip", "day-a.zip"):
        (tmp_path / name).write_bytes(b"")
    for image, name in (
        ("a-a.tif", "day-a-a.zip"),
        ("a.tif", "day-a.zip"),
        ("day-a.tif", "day-a.zip"),
    ):
        assert outlines_file(tmp_path, image, None).name == name
    with pytest.raises(AtomicityError, match="0 files"):
        outlines_file(tmp_path, "b.tif", None)


def test_two_files_for_one_image_are_named(tmp_path):
    for name in ("a.zip", "a_masks.tif"):
        (tmp_path / name).write_bytes(b"")
    with pytest.raises(AtomicityError, match=r"2 files.*a\.zip, a_masks\.tif"):
        outlines_file(tmp_path, "a.tif", None)


def test_outlines_beside_their_images_are_no_images(tmp_path):
    for name in ("a.tif", "a_masks.tif", "b.tif", "b.zip", "two_clusters.tif", "two_clusters.zip"):
        (tmp_path / name).write_bytes(b"")
    inputs = named_inputs([tmp_path])
    found = without_outlines(inputs, str(tmp_path))
    assert [item.name for item in found] == ["a.tif", "b.tif", "two_clusters.tif"]
    assert without_outlines(inputs, None) == inputs
    with pytest.raises(AtomicityError, match="one file of outlines for 4 images"):
        without_outlines(inputs, str(tmp_path / "b.zip"))
    with pytest.raises(AtomicityError, match="there is no such file"):
        without_outlines(inputs, str(tmp_path / "c.zip"))


def test_files_are_matched_with_images_by_name():
    images = ["day1/a.tif", "b.tif"]
    found = match_outlines(["x/a_masks.tif", "x/b.zip"], images)
    assert {image: file.name for image, file in found.items()} == {
        "day1/a.tif": "a_masks.tif", "b.tif": "b.zip"
    }  # fmt: skip
    exported = match_outlines(["o-a-a.zip", "o-a.zip"], ["a-a.tif", "a.tif"])
    assert {image: file.name for image, file in exported.items()} == {
        "a-a.tif": "o-a-a.zip", "a.tif": "o-a.zip"
    }  # fmt: skip
    with pytest.raises(AtomicityError, match=r"c\.zip: its name is that of 0 images"):
        match_outlines(["c.zip"], images)
    with pytest.raises(AtomicityError, match="2 images"):
        match_outlines(["a.zip"], ["1/a.tif", "2/a.tif"])
    with pytest.raises(AtomicityError, match=r"b\.zip has the outlines of b\.tif as well"):
        match_outlines(["b.zip", "b_masks.tif"], images)
