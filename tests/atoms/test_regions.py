"""Regions of a frame and their windows."""

import numpy as np
import pandas as pd
from hypothesis import given, strategies as st
from hypothesis.extra.numpy import arrays
from scipy import ndimage
from skimage.draw import polygon2mask

from napari_atomicity.atoms.regions import NEAR_CLUSTER_NM, Region, make_cluster_mask

PIXEL_NM = 0.04
SHAPE = (90, 120)


@given(arrays(bool, st.tuples(st.integers(1, 12), st.integers(1, 12))), st.integers(0, 6))
def test_a_region_keeps_its_pixels_whatever_its_window(mask, margin):
    for region in (Region.of(mask), Region.of(mask).widened(margin, mask.shape)):
        again = np.zeros_like(mask)
        again[region.window] = region.inside
        assert (again == mask).all()
    part, whole = Region.of(mask[1:], (1, 0)), Region.of(np.vstack([0 * mask[:1], mask[1:]]))
    assert (part.inside == whole.inside).all()
    assert not mask[1:].any() or part.window == whole.window


def test_outlines_are_drawn_as_on_the_whole_frame():
    clusters = pd.DataFrame({"frame": [0]})
    angle = np.linspace(0, 2 * np.pi, 40)
    for dy, dx in ((0.0, 0.0), (-30.0, 13.7)):  # the second is cut by the border
        drawn = np.stack([30 + dy + 9 * np.sin(angle), 50 + dx + 6 * np.cos(angle)], axis=1)
        mask = make_cluster_mask(clusters, SHAPE, PIXEL_NM, [drawn])
        whole = polygon2mask(SHAPE, drawn)
        assert whole.any() and mask[whole].all()
        away = ndimage.distance_transform_edt(~whole) * PIXEL_NM
        assert (mask == (away <= NEAR_CLUSTER_NM)).all()
