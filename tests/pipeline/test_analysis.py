"""The pipeline end to end, on the bundled example and on bad days."""

import numpy as np
import pandas as pd
import pytest
from scipy.spatial import cKDTree

import napari_atomicity
from napari_atomicity.core.errors import CalibrationError, Cancelled
from napari_atomicity.core.micrograph import Micrograph
from napari_atomicity.core.tables import cluster_table as tables
from napari_atomicity.models.inference import load_classifier
from napari_atomicity.pipeline.analysis import (
    analyse,
    classify_clusters,
    detect_clusters,
    embed_clusters,
)
from napari_atomicity.pipeline.session_labels import label_session
from napari_atomicity.reporting.image_warnings import image_warnings
from napari_atomicity.simulation.example_data import example_path, example_truth_path
from napari_atomicity.training.data import match


@pytest.fixture(scope="module")
def example():
    return napari_atomicity.load(example_path())


@pytest.fixture(scope="module")
def analysed(example):
    return analyse(example, device="cpu", umap=False)


def test_the_example_is_told_as_it_is(example, analysed):
    truth = pd.read_csv(example_truth_path())
    rows, truths = match(analysed.table, truth, example.calibrated())
    assert len(rows) >= 0.98 * len(truth)
    right = analysed.table["label"].to_numpy()[rows] == truth["label"].to_numpy()[truths]
    assert right.mean() >= 0.85
    tables.validate(analysed.table)


def test_every_array_has_a_row_per_cluster(analysed):
    n = len(analysed.table)
    assert len(analysed.outlines) == n
    assert analysed.embedding.shape[0] == n
    assert {c: len(m) for c, m in analysed.class_maps.items()} == {"raw": n, "LCN": n}
    assert {c: len(p) for c, p in analysed.patches.items()} == {"raw": n, "LCN": n}
    assert set(analysed.seconds) >= {"detect", "scale", "patches", "network", "labels"}
    assert analysed.parameters["model"]["model_id"] == analysed.table["model_id"].iloc[0]


def test_class_maps_are_of_the_predicted_class(example):
    classifier = load_classifier("default", "cpu")
    analysis = analyse(example, classifier, umap=False, labels_from="mixture")
    label, network = analysis.table["label_predicted"], analysis.table["label_network"]
    differs = np.flatnonzero((label != network) & label.isin(classifier.card.classes))
    assert len(differs), "the example no longer has a label that differs from the network"
    row = differs[0]
    patches = {c: p[[row]] for c, p in analysis.patches.items()}
    of_label = classifier.class_maps(patches, label[row])
    for channel, maps in analysis.class_maps.items():
        assert maps[row] == pytest.approx(of_label[channel][0], abs=1e-4)
    assert tables.explained_classes(analysis.table)[row] == label[row]


def test_ratios_of_the_example(analysed):
    ratios = analysed.ratios()
    whole = ratios[ratios["scope"] == "all"].set_index("class")
    assert whole["fraction"].sum() == pytest.approx(1, abs=1e-6)


def test_gain_and_black_level_do_not_matter(example, analysed):
    changed = Micrograph(example.data * 37 + 12_345, example.pixel_size_nm, example.name)
    again = analyse(changed, device="cpu", umap=False).table
    assert len(again) == len(analysed.table)
    assert (again["label"] == analysed.table["label"]).mean() > 0.97


def in_8_bits(pixels):
    """Stretch to 8 bits with 0.35 % of the pixels saturated at each end, as ImageJ does."""
    low, high = np.percentile(pixels, [0.35, 99.65])
    return np.clip(np.round((pixels - low) / (high - low) * 255), 0, 255).astype(np.uint8)


def shaded(pixels):
    """Multiply by a response that falls to 0.7 in the corners."""
    v, u = (np.linspace(-1, 1, n) for n in pixels.shape)
    return np.round(pixels * (1 - 0.15 * (v[:, None] ** 2 + u**2)))


@pytest.mark.parametrize("scale, offset", [(1e18, 0), (1e-25, 0), (1.0, 1e4), (1e-25, 3e-22)])
def test_neither_scale_nor_outlier_pixels_change_the_labels(scale, offset, example, analysed):
    pixels = example.data * np.float64(scale) + offset
    for place, value in (((50, 50), 1e7), ((500, 700), 3e5), ((900, 3), -1e5)):
        pixels[place] = value * scale
    again = analyse(Micrograph(pixels, example.pixel_size_nm, example.name), umap=False)
    assert list(again.table["label"]) == list(analysed.table["label"])
    for column in ("y_px", "x_px", "diameter_nm", "confidence"):
        np.testing.assert_allclose(again.table[column], analysed.table[column], atol=0.02)
    ratio = again.table["integrated_intensity"] / scale / analysed.table["integrated_intensity"]
    np.testing.assert_allclose(ratio, 1, rtol=1e-3)
    assert again.parameters["recording"] == {"outlier_pixels": 3}
    warnings = image_warnings(again.table, again.parameters)
    assert "3 outlier pixels replaced (hot or dead pixels, rows or columns)." in warnings


@pytest.mark.parametrize(
    ("change", "effect"), [(in_8_bits, "clipping"), (shaded, "shading")], ids=["8 bits", "shaded"]
)
def test_clipping_and_shading_change_few_labels_and_are_recorded(example, analysed, change, effect):
    changed = Micrograph(change(example.data), example.pixel_size_nm, example.name)
    again = analyse(changed, device="cpu", umap=False)
    table = again.table
    assert len(table) == pytest.approx(len(analysed.table), abs=1)
    apart, at = cKDTree(analysed.table[["y_px", "x_px"]]).query(table[["y_px", "x_px"]])
    found = apart < 5
    before = analysed.table["label"].to_numpy()[at]
    assert (table["label"].to_numpy() == before)[found].mean() > 0.93
    assert list(again.parameters["recording"]) == [effect]
    assert "recording" not in analysed.parameters
    tables.validate(table)


def test_corrections_survive_a_new_classification(analysed):
    table = analysed.table.copy()
    table.loc[0, "label_corrected"] = "Pt70"
    from dataclasses import replace

    corrected = replace(analysed, table=tables.settle_labels(table))
    again = classify_clusters(corrected, device="cpu").table
    assert again.loc[0, "label"] == again.loc[0, "label_corrected"] == "Pt70"
    assert again["label_predicted"].equals(analysed.table["label_predicted"])


def test_the_average_over_symmetries_is_kept_until_told_otherwise(example, analysed):
    assert not analysed.symmetries
    averaged = classify_clusters(analysed, device="cpu", symmetries=True)
    assert averaged.symmetries and not np.array_equal(averaged.embedding, analysed.embedding)
    again = classify_clusters(averaged, device="cpu")
    assert again.symmetries
    np.testing.assert_array_equal(again.embedding, averaged.embedding)
    back = classify_clusters(averaged, device="cpu", symmetries=False)
    np.testing.assert_array_equal(back.embedding, analysed.embedding)


def test_umap_fills_its_columns(analysed):
    table = embed_clusters(analysed).table
    assert np.isfinite(table[["umap_1", "umap_2"]]).all().all()


def test_an_image_without_clusters_is_no_error(tiny_model):
    empty = analyse(Micrograph(np.ones((64, 64)), 0.05, "empty"), str(tiny_model), "cpu")
    assert len(empty.table) == 0
    assert empty.embedding.shape == (0, 32)
    assert "intensity_per_atom" not in empty.parameters  # no cluster tells it
    again = classify_clusters(empty, str(tiny_model), "cpu")
    assert len(again.table) == 0 and "intensity_per_atom" not in again.parameters
    assert (empty.ratios()["count"] == 0).all()


def test_a_single_cluster_that_the_border_cuts_tells_no_scale(example, analysed):
    """Nothing is said of the intensity of an atom, and no atoms are counted."""
    whole = analysed.table[~analysed.table[["touches_border", "touches_neighbour"]].any(axis=1)]
    y, x = whole.loc[whole["diameter_nm"].idxmax(), ["y_px", "x_px"]].astype(int)
    pixels = np.asarray(example.data, float)
    rng = np.random.default_rng(0)
    cut = rng.choice(pixels[pixels < np.quantile(pixels, 0.5)], (90, 90))
    cut[20:70, :25] = pixels[y - 25 : y + 25, x : x + 25]
    found = analyse(Micrograph(1e4 * cut, example.pixel_size_nm, "cut"), device="cpu")
    assert len(found.table) == 1 and found.table["touches_border"].all()
    assert not found.scale.is_known and found.parameters["certainty_of_scale"] == 0
    assert "intensity_per_atom" not in found.parameters
    assert found.table["n_atoms"].isna().all()
    assert found.table["label"].isin(["", "unknown"]).all()
    joint = label_session([found], device="cpu").analyses[0]
    assert not joint.scale.is_known and "intensity_per_atom" not in joint.parameters
    again = classify_clusters(found, device="cpu")
    pd.testing.assert_frame_equal(again.table, found.table)


def test_without_calibration_it_asks():
    with pytest.raises(CalibrationError, match="pixel size"):
        analyse(Micrograph(np.ones((64, 64))))


def test_progress_is_told_and_stop_is_heeded(example):
    told = []
    detect_clusters(example, progress=lambda *a: told.append(a))
    assert told[-1][0] == told[-1][1] == 1
    calls = iter([False, True])
    with pytest.raises(Cancelled):
        detect_clusters(example, stop=lambda: next(calls, True))
