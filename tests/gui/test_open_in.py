"""Analyses of a notebook in a viewer."""

from napari_atomicity import ImageAnalysis
from napari_atomicity.gui.viewer.binding import binding_of
from support import synthetic_analysis


def test_an_analysis_opens_with_its_clusters(make_napari_viewer):
    viewer = make_napari_viewer()
    analysis = ImageAnalysis.of(synthetic_analysis(5))
    assert analysis.open_in(viewer) is viewer
    assert {"field.tif", "field.tif clusters"} <= {layer.name for layer in viewer.layers}
    assert viewer.layers["field.tif"].scale[0] == analysis.micrograph.pixel_size_nm


def test_opening_again_shows_corrections_in_the_same_layers(make_napari_viewer):
    viewer = make_napari_viewer()
    analysis = ImageAnalysis.of(synthetic_analysis(5))
    analysis.open_in(viewer)
    n_layers = len(viewer.layers)
    analysis.correct(2, "Pt55").open_in(viewer)
    assert len(viewer.layers) == n_layers
    table = binding_of(viewer).state.table("field.tif")
    assert table.set_index("cluster_id").loc[2, "label"] == "Pt55"
