"""The analysis of one image in a notebook: correct, plot, save, export."""

import base64
import sys
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest

from napari_atomicity import Analysis, ImageAnalysis, analyse
from napari_atomicity.core.errors import CalibrationError, DependencyError, ModelError, TableError
from napari_atomicity.core.tables.cluster_table import ALL
from napari_atomicity.simulation.example_data import lattice_pieces
from napari_atomicity.simulation.field_settings import FieldSettings
from napari_atomicity.simulation.fields import simulate_field
from support import synthetic_analysis


@pytest.fixture(scope="module")
def pixels() -> np.ndarray:
    settings = FieldSettings(shape_px=(256, 256), clusters_per_nm2=0.08, mixture={"Pt19": 1.0})
    return simulate_field(lattice_pieces((19,), 2), settings, 1).micrograph.data


@pytest.fixture(scope="module")
def analysed(pixels, tiny_model) -> ImageAnalysis:
    return analyse(pixels, str(tiny_model), "cpu", pixel_size_nm=0.04)


@pytest.fixture
def tested(analysed) -> ImageAnalysis:
    """The analysis by a model with a confusion matrix."""
    assert analysed.card is not None
    known = {"confusion": ((90, 10), (5, 95)), "recalibration": ((1.0, 0.0, 0.0),) * 20}
    return replace(analysed, card=replace(analysed.card, **known))


@pytest.fixture(autouse=True)
def without_windows(monkeypatch):
    import matplotlib

    matplotlib.use("agg")
    yield
    import matplotlib.pyplot as plt

    plt.close("all")


def test_an_array_is_analysed(analysed):
    assert isinstance(analysed, Analysis)
    assert len(analysed.table) > 3
    assert len(analysed.embedding) == len(analysed.table)


def test_files_objects_and_arrays_give_the_same(analysed, pixels, tiny_model, tmp_path):
    np.save(tmp_path / "field.npy", pixels)
    of_file = analyse(tmp_path / "field.npy", str(tiny_model), "cpu", pixel_size_nm=0.04)
    columns = ["y_px", "x_px", "diameter_nm", "label"]
    pd.testing.assert_frame_equal(of_file.table[columns], analysed.table[columns])
    assert of_file.micrograph.name == "field.npy"


def test_without_a_calibration_the_error_is_that_of_files(pixels, tiny_model):
    with pytest.raises(CalibrationError, match="pixel_size_nm"):
        analyse(pixels, str(tiny_model))


def test_its_repr_is_one_short_line(analysed):
    assert len(repr(analysed)) < 200
    assert "\n" not in repr(analysed)
    assert str(len(analysed.table)) in repr(analysed)
    assert len(repr(synthetic_analysis())) < 200


def test_its_html_contains_image_counts_and_ratios(analysed):
    html = analysed._repr_html_()
    encoded = html.partition("data:image/png;base64,")[2].partition('"')[0]
    assert base64.b64decode(encoded).startswith(b"\x89PNG")
    assert "Pt19" in html
    assert "fraction" in html


def test_names_are_escaped_in_html():
    analysis = ImageAnalysis.of(synthetic_analysis(3, name="<b>$x$.tif"))
    assert "<b>" not in analysis._repr_html_()


def test_a_correction_returns_another_analysis(analysed):
    first = int(analysed.table["cluster_id"].iloc[0])
    corrected = analysed.correct(first, "Pt70")
    assert isinstance(corrected, ImageAnalysis)
    assert (analysed.table["label_corrected"] == "").all()
    row = corrected.table.iloc[0]
    assert (row["label"], row["label_corrected"]) == ("Pt70", "Pt70")
    assert row["label_predicted"] == analysed.table["label_predicted"].iloc[0]
    removed = corrected.correct(first, "")
    pd.testing.assert_frame_equal(removed.table, analysed.table)


def test_several_clusters_are_corrected_at_once(analysed):
    ids = analysed.table["cluster_id"].tolist()
    assert (analysed.correct(ids, "unknown").table["label"] == "unknown").all()


def test_wrong_corrections_are_errors(analysed):
    with pytest.raises(TableError, match="no label"):
        analysed.correct(1, "gold")
    with pytest.raises(TableError, match="no cluster"):
        analysed.correct(10_000, "Pt19")


@pytest.mark.parametrize("method", ["counted", "confusion", "em"])
def test_adjusted_ratios_use_the_card_of_the_model(tested, method):
    ratios = tested.ratios(method=method)
    assert list(ratios["scope"].unique()) == [tested.micrograph.name, ALL]


def test_a_method_without_its_data_is_an_error(analysed):
    with pytest.raises(ModelError, match="not available"):
        analysed.ratios(method="confusion")


def test_plots_have_axes_with_units(analysed):
    axes = analysed.plot()
    assert "nm" in axes.get_xlabel()
    assert len(axes.lines) >= 1
    bars = analysed.plot_ratios()
    assert "%" in bars.get_ylabel()


def test_a_plot_draws_into_given_axes(analysed):
    from matplotlib.figure import Figure

    axes = Figure().subplots()
    assert analysed.plot(axes) is axes


def test_saved_files_are_those_of_the_command(analysed, tmp_path):
    files = analysed.save(tmp_path / "out", progress=False)
    names = {path.name for path in files}
    assert names == {
        "clusters.csv", "clusters.parquet", "ratios.csv", "failures.csv", "report.html", "run.json",
        "ro-crate-metadata.json", "part-00000.parquet",
    }  # fmt: skip
    assert all(path.is_file() for path in files)
    stored = pd.read_csv(tmp_path / "out" / "clusters.csv")
    assert len(stored) == len(analysed.table)


def test_corrections_are_saved(analysed, tmp_path):
    first = int(analysed.table["cluster_id"].iloc[0])
    analysed.correct(first, "Pt70").save(tmp_path)
    stored = pd.read_csv(tmp_path / "clusters.csv")
    assert stored["label_corrected"].iloc[0] == "Pt70"


def test_detected_clusters_without_a_model_are_not_saved(tmp_path):
    with pytest.raises(ModelError, match="model"):
        ImageAnalysis.of(synthetic_analysis()).save(tmp_path)


def test_without_hyperspy_the_error_names_the_package(analysed, monkeypatch):
    monkeypatch.setitem(sys.modules, "hyperspy", None)
    monkeypatch.setitem(sys.modules, "hyperspy.api", None)
    with pytest.raises(DependencyError, match="pip install hyperspy"):
        analysed.to_hyperspy()


def test_a_signal_of_hyperspy_is_analysed_alike(analysed, tiny_model):
    pytest.importorskip("hyperspy.api")
    signal = analysed.to_hyperspy()
    again = analyse(signal, str(tiny_model), "cpu")
    assert list(again.table["label"]) == list(analysed.table["label"])


def test_a_stack_is_tracked(pixels, tiny_model):
    from napari_atomicity import analyse_movie

    stack = np.stack([pixels, np.roll(pixels, 2, axis=0)])
    analysis = analyse(stack, str(tiny_model), "cpu", pixel_size_nm=0.04, umap=False)
    assert (analysis.table["track_id"] >= 0).any()
    movie = analyse_movie(analysis)
    assert len(movie.tracks) > 0
    assert len(repr(movie)) < 200


def test_progress_is_reported(pixels, tiny_model):
    messages = []
    analyse(pixels, str(tiny_model), "cpu", lambda *step: messages.append(step), pixel_size_nm=0.04)
    assert len(messages) > 2


def test_a_notebook_shows_a_bar_and_removes_it(monkeypatch):
    from napari_atomicity.api.progress import automatic_progress

    shown = []
    handle = SimpleNamespace(update=shown.append)
    module = SimpleNamespace(HTML=str, display=lambda *_, **__: handle)
    shell = SimpleNamespace(kernel=object())
    monkeypatch.setitem(sys.modules, "IPython", SimpleNamespace(get_ipython=lambda: shell))
    monkeypatch.setitem(sys.modules, "IPython.display", module)
    with automatic_progress() as progress:
        progress(1, 4, "Cutting <patches>")
    assert "<progress" in shown[0]
    assert "&lt;patches&gt;" in shown[0]
    assert shown[-1] == ""


def test_there_is_no_bar_in_a_script(capsys):
    from napari_atomicity.api.progress import automatic_progress

    with automatic_progress() as progress:
        assert progress is None
    with automatic_progress(True) as progress:
        progress(1, 4, "Step")
    with automatic_progress(False) as progress:
        assert progress is None
    assert capsys.readouterr().out == ""
