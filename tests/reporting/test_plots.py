"""Plots as data and as pictures."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from functools import partial
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import to_hex
from matplotlib.figure import Figure

from napari_atomicity.core.errors import AtomicityError
from napari_atomicity.core.palette import colours, symbols
from napari_atomicity.core.tables.cluster_table import conform
from napari_atomicity.models.scale.class_fit import ClassFit
from napari_atomicity.reporting.plots.base import Look, draw_selection, marker
from napari_atomicity.reporting.plots.columns import columns_to_plot
from napari_atomicity.reporting.plots.confidence import MIN_CORRECTED, has_min_corrected
from napari_atomicity.reporting.plots.ratios import natural_key, order_images, recording_time
from napari_atomicity.reporting.plots.registry import (
    COLUMN_PLOTS,
    PLOTS,
    SUFFIXES,
    plot_figure,
    save_plot,
    scales_of,
    style,
)
from napari_atomicity.reporting.plots.session import describe_class_fit, draw_session_scale
from napari_atomicity.reporting.plots.sizes import (
    bin_width,
    cuts_nm,
    draw_diameter,
    intensity_line,
    misclassified,
)
from napari_atomicity.reporting.plots.training import draw_learning_curve
from napari_atomicity.statistics.intervals import wilson_interval
from napari_atomicity.statistics.ratios.ratio_notes import FITS
from napari_atomicity.statistics.ratios.ratios import counted
from support import CLASSES, synthetic_analysis


def two_classes(n: int = 40) -> pd.DataFrame:
    """Pt19 of 0.80 to 0.99 nm and Pt70 of 1.00 to 1.19 nm, in turn, as bright as they should."""
    i = np.arange(n)
    large = i % 2 == 1
    return conform(
        pd.DataFrame(
            {
                "image": np.where(i < n // 2, "a_2", "a_10"),
                "cluster_id": i + 1,
                "y_px": 0.0,
                "x_px": 0.0,
                "diameter_nm": np.where(large, 1.005, 0.805) + 0.01 * (i // 2 % 20),
                "integrated_intensity": 3.0 * np.where(large, 70, 19),
                "label": np.where(large, "Pt70", "Pt19"),
                "label_predicted": np.where(large, "Pt70", "Pt19"),
                "confidence": 0.55 + 0.4 * i / n,
                "p_Pt19": np.where(large, 0.0, 1.0),
                "p_Pt70": np.where(large, 1.0, 0.0),
                "umap_1": np.where(large, 1.0, -1.0),
                "umap_2": 0.0,
            }
        ),
        ["Pt19", "Pt70"],
    )


def made(name: str, table: pd.DataFrame, **context) -> pd.DataFrame:
    return PLOTS[name].data(table, **{"classes": ["Pt19", "Pt70"], "n_bootstrap": 50, **context})


def fits_in_a_narrow_dock(draw) -> bool:
    """Return whether the titles of a figure of 300 pixels are not cut."""
    look = Look(font_pt=9)
    with style(look):
        figure = Figure((300 / 96, 330 / 96), dpi=96)
        canvas = FigureCanvasAgg(figure)
        draw(figure, look)
        canvas.draw()
        assert all(axes.get_title(loc="left") for axes in figure.axes)
        return all(axes._left_title.get_window_extent().x1 < 300 for axes in figure.axes)


def test_titles_of_the_scale_of_a_session_fit_in_a_narrow_dock():
    grid = np.linspace(3, 5, 200)
    posterior = np.exp(-0.5 * ((grid - 4) / 0.05) ** 2)
    images = [SimpleNamespace(log_scale=[4.0]), SimpleNamespace(log_scale=[4.1])]
    scale = SimpleNamespace(posterior=posterior, grid=grid, spread=0.1, images=images)
    summary = SimpleNamespace(
        scale=scale, sources=[], images=["a", "b"], known={"a": {}}, unfit=lambda: ["b"]
    )
    assert fits_in_a_narrow_dock(partial(draw_session_scale, summary=summary))


def test_the_title_of_a_learning_curve_fits_in_a_narrow_dock():
    history = [{"loss": 0.123, "held_out_loss": 0.123} for _ in range(100)]
    assert fits_in_a_narrow_dock(partial(draw_learning_curve, history=history))


# ---- diameters
def test_diameters_that_do_not_overlap_are_told_apart_and_others_are_not():
    table = two_classes()
    assert misclassified(made("diameter", table)) == (0, 40)
    assert cuts_nm(made("diameter", table)) == pytest.approx([1.0])
    # Five of the small ones are as large as the large ones: no cut can do better.
    table.loc[[0, 2, 4, 6, 8], "diameter_nm"] = 1.3
    data = made("diameter", table)
    assert misclassified(data) == (5, 40)
    wrong = data[data["misclassified"] > 0]
    assert wrong["class"].tolist() == ["Pt19"] and wrong["misclassified"].tolist() == [5]
    assert wrong["diameter_from_nm"].item() <= 1.3 < wrong["diameter_to_nm"].item()


def test_what_is_cut_or_excluded_is_in_no_histogram_and_unknown_has_no_cuts():
    table = two_classes()
    table.loc[:3, "touches_border"] = True
    table["excluded"] = [False] * 4 + [True] * 6 + [False] * 30
    table.loc[10:14, "label"] = "unknown"
    data = made("diameter", table)
    assert data.groupby("class")["count"].sum().to_dict() == {"Pt19": 12, "Pt70": 13, "unknown": 5}
    assert data.loc[data["class"] == "unknown", ["cut_from_nm", "cut_to_nm"]].isna().all(axis=None)
    assert misclassified(data)[1] == 25


def test_the_cuts_of_alloys_go_by_their_sizes_and_not_by_their_order():
    table = two_classes()
    axes = Figure().subplots()
    draw_diameter(axes, made("diameter", table), Look())
    assert "between" not in axes.get_label()
    table["label"] = table["label"].replace({"Pt19": "Pt70", "Pt70": "Pt19"})
    # Of one element, larger clusters have more atoms: there is no such rule.
    assert misclassified(made("diameter", table))[0] > 10
    draw_diameter(axes, made("diameter", table), Look())
    assert "between" not in axes.get_label()
    table["label"] = table["label"].replace({"Pt70": "Pt19Sn51"})
    assert misclassified(made("diameter", table)) == (0, 40)
    draw_diameter(axes, made("diameter", table), Look())
    assert "1.00 nm (dashed) between Pt19Sn51, Pt19" in axes.get_label()


@pytest.mark.parametrize(("low", "high", "width"), [(0.8, 1.5, 0.05), (0, 40, 2), (1, 1, 0.01)])
def test_bins_have_round_widths(low, high, width):
    assert bin_width(low, high, 32) == pytest.approx(width)


# ---- intensity
def test_the_line_is_that_of_the_scale():
    table = two_classes()
    raw = made("intensity", table)
    assert intensity_line(raw) == pytest.approx((3.0, 0.0))
    assert raw["intensity_atoms"].isna().all()
    scaled = made("intensity", table, scales={"a_2": 3.0, "a_10": 1.5})
    assert scaled["intensity_atoms"][:2].tolist() == pytest.approx([19, 70])
    assert scaled["intensity_atoms"].iloc[-1] == pytest.approx(140)
    # An image without a scale has another unit: it must not lie among the others.
    only = made("intensity", table, scales={"a_2": 3.0})
    assert set(only["image"]) == {"a_2"} and intensity_line(only) == pytest.approx((1.0, 0.0))


def test_the_scatter_is_relative_and_robust():
    table = two_classes(4000)
    rng = np.random.default_rng(0)
    table["integrated_intensity"] *= np.exp(rng.normal(0, 0.1, 4000))
    table.loc[:39, "integrated_intensity"] *= 50
    slope, scatter = intensity_line(made("intensity", table))
    assert slope == pytest.approx(3, rel=0.01) and scatter == pytest.approx(0.1, rel=0.06)


def test_touching_clusters_and_labels_without_a_number_are_on_no_line():
    table = two_classes()
    table.loc[0, "touches_neighbour"] = True
    table.loc[1, "label"] = "unknown"
    table.loc[2, "label"] = "small"
    assert made("intensity", table).index.tolist() == list(range(3, 40))


def test_scales_are_those_of_images_that_have_one():
    analysis = synthetic_analysis()
    assert scales_of([analysis]) == {}
    analysis.parameters.update(intensity_per_atom=2.5, certainty_of_scale=0.9)
    assert scales_of([analysis]) == {"field.tif": 2.5}
    analysis.parameters.update(intensity_per_atom=1.0, certainty_of_scale=None)
    assert scales_of([analysis]) == {}


# ---- confidence, reliability
def test_reliability_compares_predictions_with_corrections():
    table = two_classes(400)
    assert made("reliability", table).empty
    table["label_corrected"] = ""
    # The less sure half is wrong every second time.
    half = np.arange(400) < 200
    wrong = half & (np.arange(400) // 2 % 2 == 0)
    other = table["label_predicted"].map({"Pt19": "Pt70", "Pt70": "Pt19"})
    table["label_corrected"] = other.where(wrong, table["label_predicted"])
    data = made("reliability", table)
    assert data["count"].sum() == 400 and data["right"].sum() == 300
    unsure = data["confidence_to"] < 0.74
    assert data.loc[unsure, "accuracy"].to_numpy() == pytest.approx(0.5, abs=0.03)
    assert data.loc[data["confidence_from"] > 0.76, "accuracy"].eq(1).all()
    low, high = wilson_interval(data["accuracy"].to_numpy(), data["count"].to_numpy())
    assert data["accuracy_low"].to_numpy() == pytest.approx(low)
    assert data["accuracy_high"].to_numpy() == pytest.approx(high)


def test_reliability_counts_a_track_once():
    table = two_classes(40).assign(image="movie", frame=np.arange(40) // 10)
    table["track_id"] = np.arange(40) % 10
    table["label_corrected"] = table["label_predicted"]
    assert made("reliability", table)["count"].sum() == 10


def test_confidence_counts_the_clusters_that_ratios_count():
    table = two_classes(40).assign(excluded=False)
    table.loc[0, "touches_border"] = True
    table.loc[1, "excluded"] = True
    data = made("confidence", table)
    assert data["count"].sum() == 38 == counted(table).sum()
    assert (PLOTS["confidence"].members(table, data) == -1).tolist() == [True] * 2 + [False] * 38


def test_few_corrections_are_said_and_not_drawn():
    table = two_classes()
    table["label_corrected"] = ["Pt19"] * (MIN_CORRECTED - 1) + [""] * (41 - MIN_CORRECTED)
    data = made("reliability", table)
    assert not has_min_corrected(data)
    axes = plot_figure(PLOTS["reliability"], data).axes[0]
    assert "19 corrected" in axes.texts[0].get_text().replace("\n", " ")
    assert (PLOTS["reliability"].members(table, data) == -1).all()
    # What the model called unknown has no confidence to be compared with.
    table["label_predicted"] = "unknown"
    assert made("reliability", table).empty and made("confidence", table).empty


# ---- ratios
def test_images_come_in_the_order_that_is_asked_for():
    names = ["b", "a_10", "a_2"]
    assert order_images(names, "opened") == names
    assert order_images(names, "name") == ["a_2", "a_10", "b"]
    noon, one = datetime(2026, 5, 1, 12, tzinfo=UTC), datetime(2026, 5, 1, 13, tzinfo=UTC)
    times = {"b": noon, "a_2": one, "a_10": None}
    assert order_images(names, "time", times) == ["b", "a_2", "a_10"]
    assert natural_key("A10") > natural_key("a9b") > natural_key("a9")


@pytest.mark.parametrize(
    ("metadata", "expected"),
    [
        ({"date": "2024:03:02 11:12:13"}, datetime(2024, 3, 2, 11, 12, 13, tzinfo=UTC)),
        ({"date": "2015-07-20", "time": "18:48:25"}, datetime(2015, 7, 20, 18, 48, 25, tzinfo=UTC)),
        ({"date": "2024-03-02T11:12:13+00:00"}, datetime(2024, 3, 2, 11, 12, 13, tzinfo=UTC)),
        ({"date": "yesterday"}, None),
        ({}, None),
    ],
)
def test_the_time_of_recording_is_read_where_it_is_known(metadata, expected):
    assert recording_time(metadata) == expected


def test_ratios_are_those_of_each_image_with_intervals():
    table = two_classes(80)
    table.loc[:19, "label"] = "Pt70"
    noon, half = datetime(2026, 5, 1, 12, tzinfo=UTC), datetime(2026, 5, 1, 12, 30, tzinfo=UTC)
    data = made(
        "ratios", table, images=["empty", "a_10", "a_2"], order="time",
        times={"a_10": noon, "a_2": half},
    )  # fmt: skip
    assert data["image"].tolist() == ["a_10", "a_10", "a_2", "a_2"]
    assert data["minutes"].tolist() == [0, 0, 30, 30]
    assert data["fraction"].tolist() == pytest.approx([0.5, 0.5, 0.25, 0.75])
    assert (data["fraction_low"] < data["fraction"]).all()
    assert (data["fraction_high"] > data["fraction"]).all()
    assert plot_figure(PLOTS["ratios"], data).axes[0].get_xlabel().endswith("/ min")
    by_name = made("ratios", table)
    assert by_name["image"].drop_duplicates().tolist() == ["a_2", "a_10"]
    assert by_name["minutes"].isna().all()


def test_the_intervals_of_very_many_images_are_bands_along_time():
    table = two_classes(400)
    table["image"] = [f"image {i // 10}" for i in range(400)]
    noon = datetime(2026, 5, 1, 12, tzinfo=UTC)
    times = {f"image {i}": noon + timedelta(minutes=i) for i in range(40)}
    crowded = plot_figure(PLOTS["ratios"], made("ratios", table, times=times)).axes[0]
    assert {type(c).__name__ for c in crowded.collections} == {"FillBetweenPolyCollection"}
    unrelated = plot_figure(PLOTS["ratios"], made("ratios", table)).axes[0]
    assert {type(c).__name__ for c in unrelated.collections} == {"LineCollection"}
    few = plot_figure(PLOTS["ratios"], made("ratios", two_classes())).axes[0]
    assert {type(c).__name__ for c in few.collections} == {"LineCollection"}


# ---- every plot
def corrected(n: int = 60) -> pd.DataFrame:
    table = synthetic_analysis(n).table
    table.loc[: n // 2, "label_corrected"] = table["label_predicted"]
    table[["umap_1", "umap_2"]] = np.random.default_rng(1).normal(size=(n, 2))
    table.loc[:4, "touches_border"] = True
    return table


ALL_PLOTS = PLOTS | COLUMN_PLOTS


@pytest.mark.parametrize("name", list(ALL_PLOTS))
def test_every_cluster_that_is_drawn_belongs_to_one_mark(name):
    table = corrected()
    data = ALL_PLOTS[name].data(table, classes=CLASSES, n_bootstrap=20)
    member = ALL_PLOTS[name].members(table, data)
    assert member.shape == (len(table),) and member.max() < len(data)
    number = np.bincount(member[member >= 0], minlength=len(data))
    expected = data["count"] if "count" in data.columns else np.ones(len(data))
    assert number.tolist() == list(expected)
    places = ALL_PLOTS[name].places(data)
    assert places.shape == (len(data), 4) and np.isfinite(places).all()
    assert (places[:, 1] >= places[:, 0]).all() and (places[:, 3] >= places[:, 2]).all()
    if name == "ratios":
        assert (member >= 0).tolist() == counted(table).tolist()
    rows = data.iloc[: min(3, len(data))].to_dict("records")
    assert all(ALL_PLOTS[name].words(row) for row in rows)


@pytest.mark.parametrize("name", list(ALL_PLOTS))
def test_every_plot_is_saved_as_picture_drawing_and_data(name, tmp_path):
    plot, data = ALL_PLOTS[name], ALL_PLOTS[name].data(corrected(), classes=CLASSES, n_bootstrap=20)
    look = Look(CLASSES)
    paths = [tmp_path / f"p{suffix}" for suffix in SUFFIXES]
    png, svg, pdf, csv = (save_plot(plot, data, path, look) for path in paths)
    assert pdf.read_bytes().startswith(b"%PDF")
    assert png.read_bytes()[:4] == b"\x89PNG"
    assert svg.read_text().lstrip().startswith("<?xml") and "<text" in svg.read_text()
    pd.testing.assert_frame_equal(
        pd.read_csv(csv, keep_default_na=True).fillna(""),
        data.reset_index(drop=True).fillna(""),
        check_dtype=False,
        check_column_type=False,
    )
    for saved in (svg, pdf):
        again = save_plot(plot, data, tmp_path / f"q{saved.suffix}", look)
        assert again.read_bytes() == saved.read_bytes()
    with pytest.raises(AtomicityError, match="can't be"):
        save_plot(plot, data, tmp_path / "p.docx", look)


@pytest.mark.parametrize("name", list(ALL_PLOTS))
def test_a_plot_of_nothing_says_so(name):
    table = corrected().iloc[:0]
    data = ALL_PLOTS[name].data(table, classes=CLASSES)
    assert not len(data) and ALL_PLOTS[name].members(table, data).shape == (0,)
    figure = plot_figure(ALL_PLOTS[name], data)
    assert figure.axes[0].texts, "words in place of marks"


def test_marks_are_in_the_colours_of_their_classes_and_bars_are_filled_by_their_share():
    table = two_classes()
    plot, data = PLOTS["diameter"], made("diameter", table)
    look = Look(["Pt19", "Pt70"], ink="#111111")
    axes = plot_figure(plot, data, look).axes[0]
    drawn = {to_hex(c) for c in axes.collections[0].get_facecolors()}
    assert drawn == {colours(["Pt19", "Pt70"])[n] for n in ("Pt19", "Pt70")}
    share = np.zeros(len(data))
    share[np.flatnonzero(data["count"])[0]] = 0.5
    (marks,) = draw_selection(axes, look, plot.places(data), share)
    box = marks.get_paths()[0].get_extents()
    place = plot.places(data)[np.flatnonzero(data["count"])[0]]
    assert box.height == pytest.approx((place[3] - place[2]) / 2)
    assert draw_selection(axes, look, plot.places(data), np.zeros(len(data))) == []


def test_points_are_ringed_and_leave_the_axes_as_they_are():
    data = made("embedding", two_classes())
    axes = Figure().add_subplot()
    PLOTS["embedding"].draw(axes, data)
    limits = axes.get_xlim(), axes.get_ylim()
    rings = draw_selection(axes, Look(), PLOTS["embedding"].places(data), np.arange(40) == 3)
    assert rings[-1].get_xdata().tolist() == [1.0]
    assert (axes.get_xlim(), axes.get_ylim()) == limits


def test_every_symbol_of_the_palette_can_be_drawn():
    for symbol in set(symbols([f"Pt{i}" for i in range(20)]).values()):
        Figure().add_subplot().plot([0], [0], marker=marker(symbol))


# ---- any columns
def test_columns_of_ones_own_are_offered_first_and_empty_ones_are_not():
    table = two_classes().assign(peak=1.0, empty=np.nan, what="text", flag=True)
    names = columns_to_plot(table)
    assert names[:2] == ["peak", "flag"] and "diameter_nm" in names
    assert not {"empty", "what", "image", "cluster_id"} & set(names)


@pytest.mark.parametrize("unit", [1e-12, 1.0, 1e12])
def test_a_histogram_has_bins_of_any_size(unit):
    table = two_classes()
    table["peak"] = unit * table["diameter_nm"]
    data = COLUMN_PLOTS["histogram"].data(table, classes=["Pt19", "Pt70"], x="peak")
    assert data["count"].sum() == 40 and 10 < data["from"].nunique() <= 33
    assert data["from"].min() <= table["peak"].min() and data["to"].max() > table["peak"].max()
    member = COLUMN_PLOTS["histogram"].members(table, data)
    row = data.iloc[member[5]]
    assert row["class"] == table["label"][5] and row["from"] <= table["peak"][5] < row["to"]
    axes = plot_figure(COLUMN_PLOTS["histogram"], data).axes[0]
    assert axes.get_xlabel() == "peak" and "40 complete clusters" in axes.get_label()


def test_equal_values_are_one_bar():
    data = COLUMN_PLOTS["histogram"].data(two_classes().assign(peak=7.0), x="peak")
    assert data["count"].tolist() == [20, 20]


def test_two_columns_are_the_axes():
    table = two_classes().assign(peak=np.arange(40.0))
    table.loc[3, "peak"] = np.nan
    data = COLUMN_PLOTS["scatter"].data(table, x="peak", y="diameter_nm")
    assert list(data.columns) == ["image", "cluster_id", "class", "peak", "diameter_nm"]
    assert len(data) == 39 and COLUMN_PLOTS["scatter"].members(table, data)[3] == -1
    axes = plot_figure(COLUMN_PLOTS["scatter"], data).axes[0]
    assert (axes.get_xlabel(), axes.get_ylabel()) == ("peak", "diameter / nm")
    same = COLUMN_PLOTS["scatter"].data(table, x="peak", y="peak")
    places = COLUMN_PLOTS["scatter"].places(same)
    np.testing.assert_array_equal(places[:, 0], places[:, 2])
    assert not len(COLUMN_PLOTS["scatter"].data(table, x="peak", y="gone"))


@pytest.mark.parametrize("known_agreement", [np.nan, 1.0])
@pytest.mark.parametrize("relies", [False, True])
def test_sizes_that_agree_are_said_with_what_they_rest_on(relies, known_agreement):
    fit = ClassFit(FITS, -2.0, 0.0, *np.ones((4, 2)), peaks=((39.0, 1.0),))
    scale = SimpleNamespace(relies_on_sizes=relies, known_agreement=known_agreement)
    summary = SimpleNamespace(class_fit=fit, scale=scale)
    words = describe_class_fit(summary)
    assert words.startswith("The sizes agree")
    assert "not drawn: 39 (100 %)" in words, "the curve has peaks at the classes"
    assert "fewer peaks than sizes can fit as well" in words
    assert ("of the images of unknown composition" in words) == (known_agreement == 1)
    assert ("rests on" in words) == relies
    assert ("rests on the pixel size" in words) == (relies and known_agreement != 1)
    assert ("do not settle it" in words) == (relies and known_agreement == 1)
