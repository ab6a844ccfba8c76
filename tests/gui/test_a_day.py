"""What a person does on a day, from the sample to the files, with the shipped model."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from mouse import LEFT, drag, on_canvas
from qtpy.QtCore import Qt
from qtpy.QtTest import QTest
from qtpy.QtWidgets import QFileDialog

from napari_atomicity.core.acquisition_session import add_group_names, is_group_scope
from napari_atomicity.gui.docks.analyse import Analyse
from napari_atomicity.gui.docks.embedding.dock import Embedding
from napari_atomicity.gui.docks.ratios.dock import Ratios
from napari_atomicity.gui.panels.dock_windows import show_dock
from napari_atomicity.gui.viewer.binding import binding_of
from napari_atomicity.gui.viewer.layers import compat
from napari_atomicity.gui.workbench.window import open_workbench
from napari_atomicity.io.tables import read_clusters, read_table
from napari_atomicity.models.files import SHIPPED, model_files
from napari_atomicity.statistics.ratios.ratios import class_ratios

PLUGIN = "napari-atomicity"


@pytest.fixture
def window(make_napari_viewer):
    """A window with every dock in it."""
    if SHIPPED["default"] not in {path.stem for path in model_files()}:
        pytest.skip("the default model is not in this checkout: `make model` trains it")
    viewer = make_napari_viewer(show=True)
    viewer.window._qt_window.resize(1300, 900)
    return open_workbench(viewer)


def dock(viewer, kind):
    """A dock, brought to the front as by a click on its tab: behind others it rests."""
    return show_dock(viewer, kind.__name__)


def alone(table: pd.DataFrame) -> np.ndarray:
    """Rows that can be clicked without hitting another's mark."""
    places = table[["y_nm", "x_nm"]].to_numpy()
    far = np.linalg.norm(places[:, None] - places, axis=2) + 1e9 * np.eye(len(places))
    return np.flatnonzero(far.min(axis=1) > 3)


def across_the_widest_gap(values: np.ndarray) -> float:
    """A number that parts the middle half of some numbers, far from any of them."""
    ordered = np.sort(values)
    middle = slice(len(ordered) // 4, 3 * len(ordered) // 4)
    i = middle.start + int(np.argmax(np.diff(ordered[middle])))
    return float(ordered[i : i + 2].mean())


def test_a_day(window, qtbot, settle, tmp_path, monkeypatch):
    viewer = window
    canvas = viewer.window._qt_viewer.canvas.native
    state = binding_of(viewer).state

    # File ▸ Open Sample, and one press of the button.
    (layer,) = viewer.open_sample(PLUGIN, "example")
    image = layer.name
    analyse = dock(viewer, Analyse)
    assert analyse.button.isEnabled()
    qtbot.mouseClick(analyse.button, LEFT)
    settle(viewer, timeout_ms=120_000)
    table = state.table(image)
    assert len(table) > 30
    assert (table["label"] != "").all()
    assert table["umap_1"].notna().all()
    points = binding_of(viewer).canvas.layer(image, "clusters")
    assert len(points.data) == len(table)

    # Three labels by a click and a key each; the last one taken back.
    qtbot.waitUntil(lambda: compat.canvas_size(viewer) == (canvas.height(), canvas.width()))
    viewer.reset_view()
    classes = state.classes()
    given = {}
    for row in alone(table)[:3]:
        cluster = int(table["cluster_id"].iloc[row])
        place = on_canvas(viewer, points, row)
        qtbot.mouseMove(canvas, place)
        qtbot.mouseClick(canvas, LEFT, pos=place)
        qtbot.waitUntil(lambda c=cluster: state.selection == {(image, c)})
        label = next(name for name in classes if name != table["label"].iloc[row])
        QTest.keyClick(canvas, Qt.Key(Qt.Key.Key_1.value + classes.index(label)))
        given[cluster] = label
    corrected = state.table(image).set_index("cluster_id")["label_corrected"]
    assert corrected[corrected != ""].to_dict() == given
    QTest.keyClick(canvas, Qt.Key.Key_Z, Qt.KeyboardModifier.ControlModifier)
    given.popitem()
    corrected = state.table(image).set_index("cluster_id")["label_corrected"]
    assert corrected[corrected != ""].to_dict() == given
    shown = points.features.set_index("cluster_id")["label"]
    assert all(shown[cluster] == label for cluster, label in given.items())

    # The lasso, around the left part of the map.
    embedding = dock(viewer, Embedding)
    qtbot.waitUntil(lambda: len(embedding.scatter.positions) == len(table))
    embedding.scatter.fit()
    x = state.table(image)["umap_1"].to_numpy()
    y = state.table(image)["umap_2"].to_numpy()
    edge, margin = across_the_widest_gap(x), 0.3
    left, bottom, top = x.min() - margin, y.min() - margin, y.max() + margin
    qtbot.mouseClick(embedding.lasso_button, LEFT)
    drag(embedding.scatter, [(left, bottom), (edge, bottom), (edge, top), (left, top)])
    inside = set(state.table(image).loc[x < edge, "cluster_id"])
    assert 0 < len(inside) < len(table)
    assert state.selection == {(image, cluster) for cluster in inside}
    ids = points.features["cluster_id"].to_numpy()
    assert set(ids[list(points.selected_data)]) == inside

    # Out into files, and back.
    now, ratios = state.table(), dock(viewer, Ratios)
    expected = class_ratios(now, classes, images=[image])
    qtbot.waitUntil(lambda: ratios.ratios.equals(expected))
    actions = ratios.export_button.menu().actions()
    for action, name in zip(actions, ("ratios.csv", "clusters.csv"), strict=True):
        answer = (str(tmp_path / name), "CSV (*.csv)")
        monkeypatch.setattr(QFileDialog, "getSaveFileName", lambda *a, answer=answer: answer)
        action.trigger()
        qtbot.waitUntil((tmp_path / name).is_file)
    clusters = read_clusters(tmp_path / "clusters.csv")
    wanted = add_group_names(now, *state.group_names())
    pd.testing.assert_frame_equal(clusters, wanted, check_dtype=False, rtol=1e-6)
    assert (clusters["label_corrected"] != "").sum() == 2
    written = read_table(tmp_path / "ratios.csv")
    groups = written["scope"].map(is_group_scope)  # of sessions and samples
    assert written.loc[groups, "scope"].nunique() == 2
    pd.testing.assert_frame_equal(
        written[~groups].reset_index(drop=True), expected, check_dtype=False, rtol=1e-6,
        check_column_type=False,
    )  # fmt: skip
    n_counted = int((~now["touches_border"]).sum())
    of_all = expected[expected["scope"] == "all"]
    assert of_all["count"].sum() == n_counted
