"""Plots of the dispersion of atoms, as data and as pictures."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from matplotlib.figure import Figure

from napari_atomicity.reporting.plots.base import Look, draw_selection
from napari_atomicity.reporting.plots.dispersion import DISPERSION_PLOTS
from napari_atomicity.reporting.plots.registry import plot_figure, save_plot
from napari_atomicity.simulation import atom_fields
from napari_atomicity.statistics.points.atom_groups import extents, link
from napari_atomicity.statistics.points.dispersion import DispersionStatistics, dispersion
from napari_atomicity.statistics.points.nearest_neighbours import nearest_neighbours
from napari_atomicity.statistics.points.windows import ObservationWindow

WINDOW = ObservationWindow(np.pad(np.ones((80, 100), bool), ((20, 0), (0, 0))), 0.15)


def atoms(points: np.ndarray) -> pd.DataFrame:
    """What these plots read of an atom table."""
    group, size = link(points)
    return pd.DataFrame(
        {
            "y_nm": points[:, 0],
            "x_nm": points[:, 1],
            "nearest_neighbour_nm": nearest_neighbours(points),
            "group_id": group,
            "group_size": size,
            "group_extent_nm": np.append(np.nan, extents(points, group))[group],
            "image": "a.tif",
        }
    )


@pytest.fixture(scope="module")
def clustered() -> tuple[pd.DataFrame, DispersionStatistics]:
    points = atom_fields.clustered_points(WINDOW, 0.6, 0.1, 0.25, np.random.default_rng(0))
    return atoms(points), dispersion(points, WINDOW.mask, 0.15, simulations=39)


@pytest.mark.parametrize("name", list(DISPERSION_PLOTS))
def test_a_plot_is_saved_with_its_data_and_says_what_it_shows(name, clustered, tmp_path):
    table, found = clustered
    plot = DISPERSION_PLOTS[name]
    data = plot.data(table, dispersion=found)
    assert len(data)
    for suffix in (".png", ".svg", ".csv"):
        assert save_plot(plot, data, tmp_path / f"{name}{suffix}").stat().st_size > 200
    pd.testing.assert_frame_equal(
        pd.read_csv(tmp_path / f"{name}.csv").astype(data.dtypes), data, atol=1e-6
    )
    assert plot.places(data).shape == (len(data), 4)
    assert plot.words(data.iloc[0])
    axes = plot_figure(plot, data).axes[0]
    assert axes.get_xlabel() and axes.get_ylabel()


@pytest.mark.parametrize("name", ["nearest_neighbours", "ripley_l", "pair_correlation"])
def test_the_band_has_the_level_that_was_chosen_and_the_legend_says_it(name, clustered):
    table, at_95 = clustered
    points = table[["y_nm", "x_nm"]].to_numpy()
    at_60 = dispersion(points, WINDOW.mask, 0.15, simulations=39, level=0.6)
    plot, width = DISPERSION_PLOTS[name], []
    for found, level in ((at_95, "95 %"), (at_60, "60 %")):
        data = plot.data(table, dispersion=found)
        legend = plot_figure(plot, data).axes[0].get_legend()
        assert any(text.get_text().startswith(level) for text in legend.get_texts())
        low, high = ("random_low", "random_high") if "random_low" in data else ("low", "high")
        width.append(np.nanmean(data[high] - data[low]))
    assert width[1] < width[0]


@pytest.mark.parametrize("name", list(DISPERSION_PLOTS))
def test_no_atoms_are_drawn_as_words(name):
    plot, table = DISPERSION_PLOTS[name], atoms(np.empty((0, 2)))
    data = plot.data(table)
    assert not len(data)
    assert plot.members(table, data).shape == (0,)
    assert plot.places(data).shape == (0, 4)
    assert plot_figure(plot, data).axes[0].texts


@pytest.mark.parametrize("name", ["nearest_neighbours", "quadrats", "groups"])
def test_every_atom_is_in_the_bar_that_counts_it(name, clustered):
    table, found = clustered
    plot = DISPERSION_PLOTS[name]
    data = plot.data(table, dispersion=found)
    member = plot.members(table, data)
    column = "atoms" if name == "groups" else "count"
    assert np.bincount(member, minlength=len(data)).tolist() == data[column].tolist()
    assert data[column].sum() == len(table)
    row = data.iloc[member[0]]
    if name == "nearest_neighbours":
        distance = table["nearest_neighbour_nm"].iloc[0]
        assert row["distance_from_nm"] <= distance < row["distance_to_nm"]
    elif name == "quadrats":
        assert row["y_from_nm"] <= table["y_nm"].iloc[0] < row["y_to_nm"]
    else:
        assert row["size"] == table["group_size"].iloc[0]


def test_random_atoms_have_the_histogram_of_random_atoms():
    count, expected = np.zeros(40), np.zeros(40)
    for seed in range(6):
        points = WINDOW.random(60, np.random.default_rng(seed))
        found = dispersion(points, WINDOW.mask, 0.15, simulations=39)
        data = DISPERSION_PLOTS["nearest_neighbours"].data(atoms(points), dispersion=found)
        near = data["distance_to_nm"] <= 1.001
        count[0] += data["count"][near].sum()
        expected[0] += data["random"][near].sum()
        assert data["random"].sum() == pytest.approx(60, abs=3)
        assert (data["random_low"] <= data["random"]).all()
    assert count[0] == pytest.approx(expected[0], rel=0.1)


def test_clustered_atoms_lie_above_the_band_and_the_words_say_so(clustered):
    table, found = clustered
    for name in ("pair_correlation", "ripley_l"):
        data = DISPERSION_PLOTS[name].data(table, dispersion=found)
        assert (data["observed"] > data["high"]).any()
        figure = plot_figure(DISPERSION_PLOTS[name], data)
        assert "p = 0.025" in figure.axes[0].get_title(loc="left")
    # L minus r of random atoms is nought.
    assert data["expected"].abs().max() < 0.15


def test_selected_atoms_are_marked(clustered):
    table, found = clustered
    plot = DISPERSION_PLOTS["nearest_neighbours"]
    data = plot.data(table, dispersion=found)
    axes = Figure().add_subplot()
    plot.draw(axes, data, Look())
    share = np.zeros(len(data))
    share[plot.members(table, data)[0]] = 1
    assert len(draw_selection(axes, Look(), plot.places(data), share)) == 1


def test_the_map_is_drawn_as_the_image_lies(clustered):
    table, found = clustered
    axes = plot_figure(
        DISPERSION_PLOTS["quadrats"], DISPERSION_PLOTS["quadrats"].data(table, dispersion=found)
    ).axes[0]
    assert axes.get_ylim()[0] > axes.get_ylim()[1]
    assert axes.get_aspect() == 1
