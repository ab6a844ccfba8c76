"""A cluster cut by the border is shown without pixels that were not recorded."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from qtpy.QtGui import QImage
from synthetic import made_up
from waiting import updated

from napari_atomicity.core.micrograph import Micrograph
from napari_atomicity.core.patches import PatchSettings
from napari_atomicity.detection.patches import extract_patches
from napari_atomicity.gui.docks.explain.dock import Explain
from napari_atomicity.gui.docks.gallery import Gallery
from napari_atomicity.gui.scatter.mouse import patch_of
from napari_atomicity.gui.viewer.binding import state_of
from napari_atomicity.gui.viewer.layers.point_style import class_map_image

STRIPES = {56, 104}
ROWS = 21
"""Rows of the patch above the image: the cluster is in row 6, and the pixels are as large."""


def cut_by_border():
    """One cluster, whose class map lights up where the network saw the image mirrored."""
    analysis = made_up(1)
    y, x = np.mgrid[:256, :256]
    image = np.random.default_rng(0).normal(100, 3, (256, 256))
    image += 60 * np.exp(-((y - 6) ** 2 + (x - 100) ** 2) / 8**2)
    table = analysis.table.assign(
        y_px=6.0, x_px=100.0, y_nm=0.3, x_nm=5.0, touches_border=True, diameter_nm=1.2
    )
    micrograph = Micrograph(image, 0.05, "field")
    maps = np.full((1, 14, 14), 0.2, np.float32)
    maps[:, :4] = 1.0
    return replace(
        analysis,
        micrograph=micrograph,
        table=table,
        patches=extract_patches(micrograph, table, PatchSettings()),
        class_maps={"raw": maps, "LCN": maps},
    )


@pytest.fixture
def shown(viewer, qtbot, settle):
    """A function that opens a dock beside the image."""
    state = state_of(viewer)
    state.clusters.set_analysis(cut_by_border())
    state.select([("field", 1)])

    def show(kind):
        dock = kind(viewer)
        viewer.window.add_dock_widget(dock, name=kind.__name__, add_vertical_stretch=False)
        qtbot.waitUntil(dock.isVisible)
        settle(viewer)
        return updated(dock)

    return show


def pixels(image: QImage) -> np.ndarray:
    """Return the red of an image, (height, width)."""
    size = range(image.height()), range(image.width())
    return np.array([[image.pixelColor(x, y).red() for x in size[1]] for y in size[0]])


def assert_hatched_outside(shown: np.ndarray, factor: int) -> None:
    edge = factor * ROWS
    assert set(np.unique(shown[:edge])) == STRIPES
    assert len(np.unique(shown[edge:])) > 20


def test_explain_hatches_what_is_beyond_the_image(shown):
    pictures = [pixels(image) for image in shown(Explain).patches.images()]
    assert len(pictures) == 4
    for picture in pictures:
        assert_hatched_outside(picture, 5)
    # The class map is as bright as it is within the image.
    assert pictures[1][5 * 30 :].max() > 200


@pytest.mark.parametrize("overlay", ["raw", "LCN", "class map raw"])
def test_the_gallery_hatches_what_is_beyond_the_image(shown, overlay):
    dock = shown(Gallery)
    dock.overlay_combo.setCurrentIndex(dock.overlay_combo.findData(overlay))
    found, _ = dock.model.pixmaps(np.array([0]), 56, 1.0, lambda: False)
    assert_hatched_outside(pixels(found[0].toImage()), 1)


def test_class_maps_over_the_image_are_scaled_within_it():
    analysis = cut_by_border()
    image = class_map_image(analysis, analysis.class_maps["raw"])
    assert image.max() == pytest.approx(1)


def test_patches_within_the_image_are_untouched():
    analysis = made_up(20)
    inside = analysis.table["y_px"].between(28, 227) & analysis.table["x_px"].between(28, 227)
    assert inside.any()
    for row in np.flatnonzero(inside):
        patch = analysis.patches["raw"][row]
        assert analysis.without_padding(patch, row) is patch
    assert np.isnan(patch_of(cut_by_border(), 1)[:ROWS]).all()


def test_maps_beyond_the_image_repeat_the_border_on_every_side():
    analysis = made_up(20)
    maps = np.random.default_rng(0).random((20, 14, 14))
    centre = analysis.table[["y_px", "x_px"]].to_numpy(float)
    steps = ((np.arange(14) + 0.5) / 14 - 0.5) * analysis.field_of_view_nm / 0.05
    shown = analysis.maps_within_image(maps, np.arange(20))
    assert not np.array_equal(shown, maps)
    for row, (y, x) in enumerate(centre):
        # The nearest pixel of the map that is within the image.
        inside = [np.flatnonzero((at >= -0.5) & (at <= 255.5)) for at in (y + steps, x + steps)]
        nearest = [[min(own, key=lambda i, k=k: abs(i - k)) for k in range(14)] for own in inside]
        np.testing.assert_array_equal(shown[row], maps[row][np.ix_(*nearest)])
