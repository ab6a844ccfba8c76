"""napari's dims after the data of layers were written in a block."""

from __future__ import annotations

import numpy as np
import pytest
from napari.components import ViewerModel

from napari_atomicity.gui.viewer.layers import compat


@pytest.fixture
def viewer() -> ViewerModel:
    viewer = ViewerModel()
    place = {"scale": (0.03, 0.03), "units": ("nm", "nm")}
    viewer.add_image(np.zeros((100, 200), np.float32), **place)
    viewer.add_points(np.zeros((0, 2)), **place)
    return viewer


@pytest.fixture
def updates(viewer, monkeypatch) -> list[None]:
    """An entry for each update of the dims."""
    found: list[None] = []
    update = ViewerModel._on_layers_change

    def counted(self: ViewerModel) -> None:
        found.append(None)
        update(self)

    monkeypatch.setattr(ViewerModel, "_on_layers_change", counted)
    return found


def stop_px(viewer: ViewerModel) -> list[float]:
    return [round(axis.stop / axis.step) for axis in viewer.dims.range]


def test_points_within_the_image_do_not_update_the_dims(viewer, updates):
    _, points = viewer.layers
    with compat.one_update_of_dims(viewer):
        points.data = np.array([[3.0, 4.0], [50.0, 60.0]])
        points.data = np.array([[5.0, 6.0]])
    assert not updates and stop_px(viewer) == [99, 199]


def test_another_extent_updates_the_dims_once(viewer, updates):
    image, points = viewer.layers
    with compat.one_update_of_dims(viewer):
        points.data = np.array([[300.0, 4.0]])
        image.data = np.zeros((50, 20), np.float32)
    assert len(updates) == 1 and stop_px(viewer) == [300, 19]
    points.data = np.zeros((0, 2))  # outside the block, napari updates as ever
    assert len(updates) > 1 and stop_px(viewer) == [49, 19]
