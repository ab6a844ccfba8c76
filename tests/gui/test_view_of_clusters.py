"""What a person sees of a cluster in a real window: marks, texts, class maps, surroundings."""

from __future__ import annotations

import numpy as np
import pytest
from matplotlib.colors import to_rgb
from synthetic import CLASSES, PIXEL_SIZE_NM, made_up

from napari_atomicity.core.palette import colours
from napari_atomicity.gui.viewer import compat
from napari_atomicity.gui.viewer.binding import binding_of
from napari_atomicity.state.review_queue import queue_of
from napari_atomicity.state.reviewing import Reviewing

FIELD = "field"


@pytest.fixture
def shown(viewer, settle):
    """A window with an analysed image."""
    binding, analysis = binding_of(viewer), made_up(30)
    layer = viewer.add_image(
        analysis.micrograph.data, name=FIELD, scale=(PIXEL_SIZE_NM,) * 2, units=("nm", "nm")
    )
    binding.ensure_image(layer)
    binding.state.clusters.set_analysis(analysis)
    settle(viewer)
    return viewer


@pytest.fixture
def binding(shown):
    return binding_of(shown)


@pytest.fixture
def points(binding):
    return binding.points_layer(FIELD)


def on_screen(viewer, size_px):
    """Return a size in pixels of the image as pixels of the screen."""
    return np.asarray(size_px) * PIXEL_SIZE_NM * compat.camera(viewer).zoom


# ---- marks
def test_marks_and_selection_have_one_width_at_every_zoom(shown, binding, points, settle):
    binding.state.select([(FIELD, 1)])
    settle(shown)
    outlines = shown.layers[f"{FIELD} outlines"]
    before = on_screen(shown, points.border_width), on_screen(shown, outlines.edge_width)
    for factor in (6.0, 0.1):
        compat.camera(shown).zoom *= factor
        settle(shown)
        np.testing.assert_allclose(on_screen(shown, points.border_width), before[0], rtol=0.21)
        assert on_screen(shown, outlines.edge_width) == pytest.approx(before[1], rel=0.21)
    assert before[0].max() < 4, "thin"


def test_marks_lie_outside_the_outlines(shown, binding, points):
    diameter_px = binding.state.table(FIELD)["diameter_nm"] / PIXEL_SIZE_NM
    assert {str(s) for s in points.symbol} == {"disc"}, "rings"
    assert (points.size - points.border_width > diameter_px).all()
    assert not points.face_color[:, 3].any()


def test_the_selection_has_no_colour_of_a_class(shown, binding, points):
    before = points.border_color.copy()
    binding.state.select([(FIELD, 4), (FIELD, 5)])
    known = [to_rgb(c) for c in colours(CLASSES).values()]
    for row in (3, 4):
        assert min(np.abs(points.border_color[row, :3] - c).max() for c in known) > 0.15
    binding.state.clusters.relabel([(FIELD, 4)], "Pt70")
    assert (points.border_color[3] == points.border_color[4]).all(), "still selected"
    binding.state.select([])
    np.testing.assert_array_equal(points.border_color[4], before[4])
    visual = shown.window._qt_viewer.canvas.layer_to_visual[points]
    assert not visual.node.selection_markers.visible, "napari's own is as blue as a class"


def test_marks_are_faded_during_a_review(shown, binding, points):
    outlines = shown.layers[f"{FIELD} outlines"]
    before = points.opacity, outlines.opacity
    binding.label_mode.review = Reviewing(binding.state, queue_of([(FIELD, 2), (FIELD, 3)]))
    assert points.opacity < 0.5 > outlines.opacity
    binding.label_mode.end_review()
    assert (points.opacity, outlines.opacity) == before
