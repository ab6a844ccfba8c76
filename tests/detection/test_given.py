"""Outlines of other programs are measured as detected clusters are, or refused with a reason."""

import numpy as np
import pytest

from napari_atomicity.core.errors import AtomicityError
from napari_atomicity.core.micrograph import Micrograph
from napari_atomicity.detection import detect
from napari_atomicity.detection.given import outlines_by_frame
from napari_atomicity.io.images import load
from napari_atomicity.io.outline_files import GivenOutlines, read_outlines, write_outlines
from napari_atomicity.pipeline.analysis import detect_clusters
from napari_atomicity.simulation.example_data import example_path
from support import synthetic_analysis

MEASURED = [
    "y_px", "x_px", "diameter_nm", "integrated_intensity", "eccentricity", "touches_border",
    "touches_neighbour",
]  # fmt: skip


def square(y: float, x: float, side: float = 10) -> np.ndarray:
    return np.array([[y, x], [y, x + side], [y + side, x + side], [y + side, x]], float)


def given(*polygons: np.ndarray, frames: tuple = ()) -> GivenOutlines:
    return GivenOutlines("drawn", polygons, frames or (None,) * len(polygons))


@pytest.fixture(scope="module")
def image() -> Micrograph:
    return synthetic_analysis().micrograph


@pytest.fixture(scope="module")
def example() -> Micrograph:
    """Of 47 clusters, some of which touch."""
    return load(example_path())


@pytest.fixture(scope="module")
def movie(image) -> Micrograph:
    frames = np.stack([image.data, np.roll(image.data, 3, axis=1)])
    return Micrograph(frames, image.pixel_size_nm, name="movie")


@pytest.mark.parametrize("suffix", [".zip", ".geojson", ".tif"])
def test_own_outlines_give_the_same_clusters_and_measures(example, suffix, tmp_path):
    own = detect(example)
    path = write_outlines(
        tmp_path / f"a{suffix}", own.table.assign(label=""), own.outlines, example.shape
    )
    again = detect(example, given=read_outlines(path)).table
    assert len(own.table) > 5 and own.table["touches_neighbour"].any()
    for column in MEASURED:
        np.testing.assert_allclose(
            again[column].astype(float), own.table[column].astype(float), rtol=0.01, atol=0.01
        )


@pytest.mark.parametrize("suffix", [".zip", ".geojson", ".tif"])
def test_outlines_of_a_movie_are_in_their_frames(movie, suffix, tmp_path):
    own = detect(movie)
    table = own.table.assign(label="")
    path = write_outlines(tmp_path / f"a{suffix}", table, own.outlines, movie.shape)
    again = detect(movie, given=read_outlines(path)).table
    assert again["frame"].tolist() == own.table["frame"].tolist()
    np.testing.assert_allclose(again["diameter_nm"], own.table["diameter_nm"], rtol=0.01)


def test_an_object_that_the_detection_misses_is_measured(image):
    """With the intensity above the background of a square of known brightness."""
    data = np.full((100, 100), 50.0, np.float32)
    data[40:50, 30:40] += 7
    faint = Micrograph(data, 0.1, name="faint")
    table = detect(faint, given=given(square(39.5, 29.5), square(70, 70, 8))).table
    assert table["y_px"].round(1).tolist() == pytest.approx([44.5, 74], abs=0.5)
    assert table["integrated_intensity"].tolist() == pytest.approx([7 * 100 * 0.1**2, 0], abs=0.2)
    assert table["diameter_nm"].iloc[0] == pytest.approx(2 / np.sqrt(np.pi), rel=0.02)


def test_tiny_objects_are_left_out_and_counted(image):
    found = detect_clusters(image, outlines=given(square(20, 20), square(60, 60, 0.9)))
    assert len(found.table) == 1 and found.parameters["outlines"]["too_small"] == 1
    assert found.parameters["outlines"]["objects"] == 2


def test_touching_and_slightly_overlapping_objects_are_measured(image):
    table = detect(image, given=given(square(20, 20), square(20, 29.5))).table
    assert len(table) == 2 and table["touches_neighbour"].all()


@pytest.mark.parametrize(
    ("outlines", "message"),
    [
        (given(square(20, 20), square(22, 22)), "objects 1 and 2 overlap"),
        (given(square(20, 20), square(22, 22, 4)), "objects 1 and 2 overlap"),
        (
            given(square(20, 20), square(500, 20)),
            r"object 2 at x = 25, y = 505 is outside of field",
        ),
        (given(square(1, 1, 115)), "covers most of field"),
        (GivenOutlines("a", labels=np.eye(50, dtype=int)), "50 × 50 pixels, but field.tif has 120"),
        (GivenOutlines("a", labels=np.ones((2, 120, 160), int)), "2 × 120 × 160 pixels"),
    ],
)
def test_what_does_not_fit_is_named(image, outlines, message):
    with pytest.raises(AtomicityError, match=message) as caught:
        detect(image, given=outlines)
    assert caught.value.advice and caught.value.path is not None


def test_an_image_of_intensities_is_no_label_image(image):
    intensities = np.round(100 * np.asarray(image.data)).astype(int) % 200
    with pytest.raises(AtomicityError, match=r"spread over the image.*label image"):
        detect(image, given=GivenOutlines("a", labels=intensities))


def test_an_image_of_classes_is_no_label_image(image):
    labels = np.zeros(image.shape, int)
    labels[10:20, 10:20] = labels[50:60, 50:60] = 1
    labels[80:90, 10:20] = 2
    with pytest.raises(AtomicityError, match=r"label 1 has separate parts.*own label"):
        detect(image, given=GivenOutlines("a", labels=labels))


def test_the_parts_of_a_mask_are_objects(image):
    mask = np.zeros(image.shape, bool)
    mask[10:20, 10:20] = mask[50:60, 50:60] = True
    assert len(detect(image, given=GivenOutlines("a", labels=mask)).table) == 2


@pytest.mark.parametrize(("frames", "message"), [((None,), "no frame"), ((2,), "frame 2")])
def test_objects_of_a_movie_say_their_frame(movie, frames, message):
    with pytest.raises(AtomicityError, match=f"{message}, but movie has 2 frames"):
        outlines_by_frame(given(square(9, 9), frames=frames), movie)


# ---- regions
def test_only_clusters_in_regions_are_kept(image):
    everything = detect(image).table
    half = np.array([[-0.5, -0.5], [-0.5, 79.5], [119.5, 79.5], [119.5, -0.5]])
    found = detect_clusters(image, rois=given(half))
    left = everything[everything["x_px"] < 79.5]
    assert 0 < len(left) < len(everything)
    np.testing.assert_allclose(found.table["x_px"], left["x_px"])
    assert found.table["cluster_id"].tolist() == list(range(1, len(left) + 1))
    assert len(found.outlines) == len(left)
    assert found.parameters["rois"]["clusters_outside"] == len(everything) - len(left)


def test_regions_without_frame_are_in_all_frames(movie):
    whole = np.array([[-0.5, -0.5], [-0.5, 159.5], [119.5, 159.5], [119.5, -0.5]])
    everything = detect(movie).table
    assert len(detect_clusters(movie, rois=given(whole)).table) == len(everything)
    first = detect_clusters(movie, rois=given(whole, frames=(0,))).table
    assert set(first["frame"]) == {0}
    labels = np.ones(movie.shape[1:], int)
    found = detect_clusters(movie, rois=GivenOutlines("a", labels=labels)).table
    assert len(found) == len(everything)


def test_outlines_and_regions_together(image):
    found = detect_clusters(
        image, outlines=given(square(20, 20), square(60, 100)), rois=given(square(10, 10, 40))
    )
    assert found.table["x_px"].round().tolist() == [25]
