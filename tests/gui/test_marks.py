"""What the layers show, as arrays."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from napari_atomicity.core.micrograph import Micrograph
from napari_atomicity.core.tables import cluster_table as tables
from napari_atomicity.gui.viewer.layers import point_style as marks
from napari_atomicity.models.analysis import Analysis

CLASSES = ["Pt19", "Pt70"]


def analysis(places, labels, data=None, frames=0, corrected="") -> Analysis:
    places = np.array(places, float)
    data = np.zeros((60, 80)) if data is None else data
    table = pd.DataFrame(
        {
            "image": "field",
            "frame": frames,
            "cluster_id": np.arange(1, len(places) + 1),
            "y_px": places[:, 0],
            "x_px": places[:, 1],
            "diameter_nm": 1.0,
            "label_predicted": labels,
            "label_corrected": corrected,
            "confidence": 0.934,
        }
    )
    ring = np.array([[-1.0, -1], [-1, 1], [1, 1], [1, -1]])
    return Analysis(
        Micrograph(data, 0.05, "field"),
        tables.settle_labels(tables.conform(table, CLASSES)),
        [ring + p for p in places],
        field_of_view_nm=1.0,
    )


def test_a_class_map_lies_on_its_cluster():
    """A blob at a known place of the patch is found at that place of the image."""
    h = 10
    v, u = np.mgrid[:h, :h]
    # 0.2 nm below and 0.1 nm left of the centre of the patch, which lies between map pixels.
    cam = np.exp(-((v - 4.5 - 2) ** 2 + (u - 4.5 + 1) ** 2) / 2)
    found = analysis([[30.0, 40.0]], ["Pt19"])
    image = marks.class_map_image(found, cam[None])
    y, x = np.indices(image.shape)
    centre = [(image * y).sum() / image.sum(), (image * x).sum() / image.sum()]
    np.testing.assert_allclose(centre, [30 + 4, 40 - 2], atol=0.3)
    assert image.max() == pytest.approx(1, abs=0.05)
    # A patch of 1 nm is 20 pixels wide.
    assert not image[:20].any()
    assert not image[41:].any()


def test_class_maps_at_the_border_are_cut_and_empty_ones_left_out():
    found = analysis([[0.0, 79.0], [30.0, 40.0]], ["Pt19", "Pt70"])
    maps = np.stack([np.ones((4, 4)), np.full((4, 4), np.nan)])
    image = marks.class_map_image(found, maps)
    assert image[0, 79] == 1
    assert image[:11, 69:].all()
    assert image.sum() == pytest.approx(11 * 11)


def test_class_maps_of_a_stack_stay_in_their_frames():
    found = analysis([[30, 40], [30, 40]], ["Pt19", "Pt19"], np.zeros((2, 60, 80)), [1, 1])
    image = marks.class_map_image(found, np.ones((2, 4, 4)))
    assert image.shape == (2, 60, 80)
    assert not image[0].any()
    assert image[1].any()


def test_outlines_are_closed():
    found = analysis([[10, 10], [30, 40]], ["Pt19", "Pt70"])
    vectors, rows = marks.outline_vectors(found, 3)
    assert vectors.shape == (8, 2, 3)
    assert rows.tolist() == [0] * 4 + [1] * 4
    np.testing.assert_allclose(vectors[:4, 1].sum(axis=0), 0)
    np.testing.assert_allclose(vectors[4:, 1].sum(axis=0), 0)


def test_outlines_of_hidden_labels_have_no_colour():
    found = analysis([[10, 10], [30, 40]], ["Pt19", "Pt70"])
    colours = marks.outline_colours(found.table, ["Pt19", "Pt70"], {"Pt70"})
    assert colours[:, 3].tolist() == [1, 0]
    np.testing.assert_allclose(colours[:, :3], marks.label_colours(found.table, ["Pt19", "Pt70"]))


def test_texts_tell_corrections_from_predictions():
    found = analysis([[1, 1]] * 3, ["Pt19", "Pt70", ""], corrected=["", "unknown", ""])
    assert marks.texts(found.table) == ["Pt19 0.93", "unknown*", ""]
    assert marks.texts(found.table[1:]) == ["unknown*", ""]
    found = analysis([[1, 1]], ["unknown"])
    assert marks.texts(found.table) == ["unknown"]


def test_an_aggregate_has_no_confidence_and_a_symbol_of_its_own():
    found = analysis([[1, 1]] * 3, ["Pt19", "unknown", "aggregate"])
    assert marks.texts(found.table)[2] == "aggregate"
    assert len(set(marks.label_symbols(found.table, CLASSES))) == 3
    assert len(np.unique(marks.label_colours(found.table, CLASSES), axis=0)) == 3


def test_the_status_line_tells_the_count_and_who_says_otherwise():
    found = analysis([[1, 1]] * 2, ["Pt19", "Pt70"])
    silent = marks.features(found.table)
    assert silent["count"].tolist() == silent["otherwise"].tolist() == [None, None]
    told = found.table.assign(
        n_atoms=[19.4, 61.0], n_atoms_low=17.0, n_atoms_high=66.0, label_diameter="Pt19",
        label_mixture="", label_network=["Pt19", "Pt70"],
    )  # fmt: skip
    said = marks.features(told)
    assert said["count"].tolist() == ["19 atoms (17–66)", "61 atoms (17–66)"]
    assert said["otherwise"].tolist() == [None, "the diameter says Pt19"]


def test_looks_have_a_row_per_cluster_and_differ_by_label():
    found = analysis([[1, 1]] * 3, ["Pt19", "Pt70", "Pt70"], corrected=["", "", "Pt19"])
    table = found.table
    looks = marks.properties(table, 0.05, CLASSES)
    border, symbols = looks["border_color"], marks.label_symbols(table, CLASSES).tolist()
    assert border.shape == (3, 4)
    assert symbols[0] != symbols[1]
    assert symbols[2] == symbols[0]
    assert not np.allclose(border[0], border[1])
    assert (border[2] == border[0]).all(), "a correction keeps the colour of its label"
    assert looks["border_width"].tolist() == [1.3, 1.3, 2.6]


def test_marks_are_larger_than_their_clusters():
    looks = marks.properties(analysis([[1, 1]], ["Pt19"]).table, 0.05, CLASSES)
    assert looks["size"][0] > 1.0 / 0.05


def test_tables_without_rows_give_arrays_without_rows():
    found = analysis(np.zeros((0, 2)), [])
    assert marks.properties(found.table, 0.05, CLASSES)["border_color"].shape == (0, 4)
    assert marks.texts(found.table) == []
    assert marks.outline_vectors(found, 2)[0].shape == (0, 2, 2)
