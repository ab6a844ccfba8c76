"""Parts of images, and operations strip by strip."""

from __future__ import annotations

import numpy as np
from hypothesis import given, strategies as st
from scipy import ndimage

from napari_atomicity.detection import filters
from napari_atomicity.detection.background import BackgroundGrid
from napari_atomicity.detection.filters import find_local_maxima, mirror_indices, select

spans = st.tuples(st.integers(1, 12), st.integers(-30, 10), st.integers(1, 50))


@given(spans, spans)
def test_mirrored_parts_are_those_of_fancy_indices(vertical, horizontal):
    shape = vertical[0], horizontal[0]
    image = np.random.default_rng(0).random(shape)
    rows, columns = (
        mirror_indices(start, start + length, n) for n, start, length in (vertical, horizontal)
    )
    np.testing.assert_array_equal(select(image, rows, columns), image[rows][:, columns])


def test_strips_change_no_value(monkeypatch):
    image = np.random.default_rng(0).normal(size=(60, 40)).astype(np.float32)
    grid = BackgroundGrid(image[:7, :5], (8.5, 8.0))
    y, x = mirror_indices(-9, 70, 60), mirror_indices(-5, 50, 40)
    whole = find_local_maxima(image), grid.at(y, x)
    monkeypatch.setattr(filters, "STRIP_PIXELS", 100)
    monkeypatch.setattr("napari_atomicity.detection.background.STRIP_PIXELS", 100)
    np.testing.assert_array_equal(find_local_maxima(image), whole[0])
    np.testing.assert_array_equal(grid.at(y, x), whole[1])
    highest = ndimage.maximum_filter(image, 3)[1:-1, 1:-1]
    own = image[1:-1, 1:-1]
    np.testing.assert_array_equal(whole[0], np.nonzero((own == highest) & (own > 0)))
