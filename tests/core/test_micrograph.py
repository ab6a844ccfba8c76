"""Micrographs and errors: what is refused, and in which words."""

import numpy as np
import pytest
from hypothesis import given, strategies as st

from napari_atomicity.core.errors import AtomicityError, CalibrationError, UnsuitableImageError
from napari_atomicity.core.micrograph import Micrograph


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (np.zeros((4, 4), complex), "complex"),
        (np.zeros(7), "1 dimensions"),
        (np.zeros((2, 2, 2, 2)), "4 dimensions"),
        (np.zeros((0, 5)), "no pixels"),
        (np.full((3, 3), np.nan), "finite"),
    ],
)
def test_what_is_no_image_is_refused(data, words):
    with pytest.raises(UnsuitableImageError, match=words):
        Micrograph(data, 0.1, name="field.tif")


@pytest.mark.parametrize("size", [0, -1, float("nan"), float("inf"), 1e-9, 1e9])
def test_impossible_pixel_sizes_are_refused(size):
    with pytest.raises(CalibrationError, match=r"field\.tif"):
        Micrograph(np.zeros((3, 3)), size, name="field.tif")


@given(st.sampled_from(["uint8", "int16", "uint32", "float64", "bool"]), st.booleans())
def test_everything_becomes_float32_frames(dtype, stack):
    data = np.ones((2, 5, 6) if stack else (5, 6), dtype)
    micrograph = Micrograph(data, 0.1)
    assert micrograph.data.dtype == np.float32
    assert micrograph.shape_px == (5, 6)
    assert len(list(micrograph.frames())) == micrograph.n_frames == (2 if stack else 1)
    assert all(f.shape == (5, 6) for f in micrograph.frames())


def test_calibration_is_asked_for_and_given():
    micrograph = Micrograph(np.zeros((3, 3)), name="x.tif")
    with pytest.raises(CalibrationError, match="--pixel-size-nm"):
        micrograph.calibrated()
    assert micrograph.with_pixel_size(0.04).calibrated() == 0.04


def test_an_error_says_what_where_and_what_to_do():
    error = AtomicityError("the file is empty", "/data/a.tif", "Copy it again")
    assert str(error) == "a.tif: the file is empty. Copy it again."
    assert str(AtomicityError("it rains")) == "it rains."


def test_pixels_below_single_precision_are_an_error_and_not_zero():
    pixels = np.full((4, 4), 1e-60)
    with pytest.raises(UnsuitableImageError, match="too small"):
        Micrograph(pixels, 0.1)
    assert not Micrograph(np.zeros((4, 4)), 0.1).data.any()
