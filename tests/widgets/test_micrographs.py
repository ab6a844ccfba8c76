"""Micrographs in layers of whole numbers: floating-point numbers when they are asked for."""

from __future__ import annotations

import pickle

import numpy as np
import pytest
from napari.layers import Image

from napari_atomicity.errors import CalibrationError
from napari_atomicity.micrograph import Micrograph
from napari_atomicity.widgets.viewer.micrographs import CountedMicrograph, micrograph_of, same


@pytest.fixture
def layer() -> Image:
    counts = np.random.default_rng(0).integers(0, 60_000, (300, 200)).astype(np.uint16)
    return Image(counts, name="field", scale=(0.1, 0.1), units=("nm", "nm"))


def test_counts_become_pixels_when_they_are_asked_for(layer):
    found = micrograph_of(layer, "field")
    assert isinstance(found, CountedMicrograph)
    assert found.shape == (300, 200) and not found.is_stack and not found.is_large
    assert not found.is_converted
    assert found.pixel_size_nm == pytest.approx(0.1)
    np.testing.assert_array_equal(found.data, layer.data.astype(np.float32))
    assert found.data.dtype == np.float32
    assert found.data is found.data and found.is_converted


def test_what_is_no_count_is_as_it_always_was(layer):
    layer.data = layer.data.astype(np.float64)
    assert type(micrograph_of(layer, "field")) is Micrograph


def test_the_same_counts_are_the_same_image_until_somebody_writes_into_them(layer):
    known = micrograph_of(layer, "field")
    assert same(micrograph_of(layer, "field"), known)
    assert not known.is_converted
    assert known.data is not None
    assert same(micrograph_of(layer, "field"), known)
    layer.data[7, 3] += 1
    assert not same(micrograph_of(layer, "field"), known)
    assert same(micrograph_of(layer, "field"), Micrograph(layer.data, known.pixel_size_nm))
    assert not same(known.with_pixel_size(0.2), known)


def test_calibrating_converts_nothing(layer):
    found = micrograph_of(layer, "field").with_pixel_size(0.05)
    assert found.pixel_size_nm == 0.05 and found.name == "field" and not found.is_converted
    with pytest.raises(CalibrationError):
        found.with_pixel_size(-1)


def test_another_process_gets_pixels(layer):
    found = micrograph_of(layer, "field")
    sent = pickle.loads(pickle.dumps(found))
    assert type(sent) is Micrograph and sent.name == "field"
    np.testing.assert_array_equal(sent.data, found.data)
