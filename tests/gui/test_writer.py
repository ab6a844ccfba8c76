"""Clusters that napari saves, and selected clusters as a layer of their own."""

import json

import numpy as np
import pandas as pd
import pytest
import roifile
import tifffile
from brightness import PIXEL_NM
from npe2 import PluginManager

from napari_atomicity.core.acquisition_session import add_group_names
from napari_atomicity.gui.docks.analyse import Analyse
from napari_atomicity.gui.docks.table import selected_as_layer
from napari_atomicity.gui.viewer.binding import binding_of
from napari_atomicity.io.tables import read_clusters

PLUGIN = "napari-atomicity"


@pytest.fixture
def analysed(viewer, image_layer, model, settle):
    """The binding of a viewer with an analysed image."""
    Analyse(viewer).run()
    settle(viewer)
    return binding_of(viewer)


def save(layers, path):
    """What File ▸ Save Selected Layers calls once a type of file is chosen."""
    writers = PluginManager.instance().iter_compatible_writers([x._type_string for x in layers])
    ours = [w for w in writers if w.plugin_name == PLUGIN]
    (writer,) = [w for w in ours if path.suffix in w.filename_extensions]
    tuples = [layer.as_layer_data_tuple() for layer in layers]
    return writer.exec(args=(str(path), tuples))


def test_clusters_are_saved_as_the_whole_table(analysed, tmp_path):
    path = tmp_path / "clusters.csv"
    assert save([analysed.canvas.layer("field", "clusters")], path) == [str(path)]
    state = analysed.state
    table = add_group_names(state.table("field"), *state.group_names())
    pd.testing.assert_frame_equal(read_clusters(path), table.reset_index(drop=True))


@pytest.mark.parametrize("kind", ["clusters", "outlines"])
def test_outlines_are_saved(analysed, tmp_path, kind):
    layer = analysed.canvas.layer("field", kind)
    ids = analysed.state.table("field")["cluster_id"].tolist()
    save([layer], tmp_path / "field.zip")
    assert len(roifile.roiread(tmp_path / "field.zip")) == len(ids)
    save([layer], tmp_path / "field.geojson")
    found = json.loads((tmp_path / "field.geojson").read_text())
    assert [f["properties"]["cluster_id"] for f in found["features"]] == ids
    save([layer], tmp_path / "field.tif")
    assert set(np.unique(tifffile.imread(tmp_path / "field.tif"))) == {0, *ids}


def test_both_layers_of_an_image_are_saved_together(analysed, tmp_path):
    layers = [
        analysed.canvas.layer("field", "clusters"),
        analysed.canvas.layer("field", "outlines"),
    ]
    assert save(layers, tmp_path / "field.csv")
    assert len(read_clusters(tmp_path / "field.csv")) == len(layers[0].data)


def test_other_points_have_positions_and_features(viewer, tmp_path):
    points = viewer.add_points(
        [[1.0, 2.0]], scale=(0.5, 0.5), units=("nm", "nm"), features={"kind": ["a"]}
    )
    save([points], tmp_path / "points.csv")
    (row,) = pd.read_csv(tmp_path / "points.csv").to_dict("records")
    assert row == {"y_px": 1.0, "x_px": 2.0, "y_nm": 0.5, "x_nm": 1.0, "kind": "a"}
    with pytest.raises(Exception, match="no outlines"):
        save([points], tmp_path / "points.zip")


def test_napari_saves_other_points_as_before(viewer, tmp_path):
    viewer.add_points([[1.0, 2.0]])
    viewer.layers.save(str(tmp_path / "points.csv"))
    assert (tmp_path / "points.csv").read_text().startswith("index,axis-0,axis-1")


def test_selected_clusters_are_a_layer_with_scale_units_and_features(analysed, viewer):
    table = analysed.state.table("field")
    ids = table["cluster_id"].tolist()[1:3]
    analysed.state.select([("field", i) for i in ids])
    active = viewer.layers.selection.active
    (layer,) = selected_as_layer(viewer)
    assert layer in viewer.layers and layer.visible
    assert viewer.layers.selection.active is active  # whose keys label clusters
    assert tuple(layer.scale) == pytest.approx((PIXEL_NM, PIXEL_NM))
    assert [str(unit) for unit in layer.units] == ["nanometer", "nanometer"]
    assert layer.features["cluster_id"].tolist() == ids
    assert set(table.columns) == set(layer.features.columns)
    np.testing.assert_allclose(layer.data, table[["y_px", "x_px"]].to_numpy()[1:3])


def test_without_a_selection_there_is_no_new_layer(analysed, viewer):
    analysed.state.select(())
    n = len(viewer.layers)
    assert selected_as_layer(viewer) == []
    assert len(viewer.layers) == n
