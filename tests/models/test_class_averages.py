"""Class maps brought together: averages where they belong, and maps that mean something."""

from __future__ import annotations

import copy
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch
from scipy.stats import spearmanr

import occlusion
from napari_atomicity.core.errors import Cancelled
from napari_atomicity.detection import detect
from napari_atomicity.detection.patches import extract_patches
from napari_atomicity.models.class_maps import (
    centre_balance,
    class_average_figure,
    class_averages,
)
from napari_atomicity.models.inference import load_classifier
from napari_atomicity.simulation.field_settings import FieldSettings
from napari_atomicity.simulation.fields import simulate_field
from napari_atomicity.simulation.imaging import Microscope, cross_section_nm2
from napari_atomicity.training.data import match
from support import CLASSES, synthetic_analysis

FIELD_NM = 2.8


def rings(radius_nm, at_radii, size=56, width_nm=0.12):
    """Images (N, size, size) of a ring about each centre, at some share of its radius."""
    r = occlusion.distance_nm(size, FIELD_NM)[None]
    return np.exp(-(((r - at_radii * radius_nm[:, None, None]) / width_nm) ** 2))


def table_of(n, **columns):
    whole = pd.DataFrame(
        {"image": "a", "diameter_nm": 1.0, "touches_border": False, "touches_neighbour": False},
        index=range(n),
    )
    return whole.assign(**columns)


# ---- sampling
def test_samples_are_those_of_the_pixels_they_fall_on():
    rng = np.random.default_rng(0)
    images = rng.normal(size=(3, 14, 14))
    at = (np.arange(14) - 6.5) * 0.2
    y = np.broadcast_to(at[:, None], (3, 14, 14))
    x = np.broadcast_to(at[None, :], (3, 14, 14))
    np.testing.assert_allclose(centre_balance.sample(images, FIELD_NM, y, x), images, atol=1e-12)
    edge = np.array([[1.4, 1.41], [-1.4, -1.41], [0.0, 2.0]])
    values = centre_balance.sample(images, FIELD_NM, edge, np.zeros((3, 2)))
    assert np.isfinite(values[:, 0]).all() and np.isnan(values[:, 1]).all()


def test_a_grid_is_made_of_the_same_samples():
    images = np.random.default_rng(1).normal(size=(3, 14, 14))
    reach = np.array([0.7, 1.4, 1.8])
    at = reach[:, None] * ((np.arange(20) + 0.5) / 10 - 1)
    y, x = (np.broadcast_to(a, (3, 20, 20)) for a in (at[:, :, None], at[:, None, :]))
    np.testing.assert_allclose(
        centre_balance.on_grid(images, FIELD_NM, reach, 20),
        centre_balance.sample(images, FIELD_NM, y, x),
        atol=1e-12,
    )


def test_a_coarse_map_and_a_fine_patch_lie_in_register():
    fine = np.zeros((1, 56, 56))
    fine[0, 20:24, 40:44] = 1
    coarse = np.zeros((1, 14, 14))
    coarse[0, 5, 10] = 1

    def centre(images):
        w = centre_balance.on_grid(images, FIELD_NM, np.array([FIELD_NM / 2]), 112)[0]
        return np.array([(w * g).sum() / w.sum() for g in np.indices(w.shape)])

    assert centre(fine) == pytest.approx(centre(coarse), abs=0.5)


def test_the_outline_is_the_same_place_for_all():
    radius = np.array([0.4, 0.55, 0.7])
    images = rings(radius, 1.0)
    r = np.linspace(0.2, 1.6, 57)
    profile = centre_balance.radial_profiles(images, FIELD_NM, radius[:, None] * r)
    assert r[profile.argmax(axis=1)] == pytest.approx(np.ones(3), abs=0.03)
    in_nm = centre_balance.radial_profiles(images, FIELD_NM, np.broadcast_to(r, (3, 57)))
    assert r[in_nm.argmax(axis=1)] == pytest.approx(radius, abs=0.03)


def test_a_profile_knows_where_the_field_ends():
    profile = centre_balance.radial_profiles(np.ones((1, 8, 8)), 2.0, np.array([[0.5, 1.2, 1.5]]))
    assert profile[0, :2] == pytest.approx([1, 1]) and np.isnan(profile[0, 2])


def test_mean_and_error_look_past_what_is_missing():
    values = np.array([[1.0, np.nan], [3.0, 5.0], [np.nan, np.nan], [5.0, np.nan]])
    mean, error = centre_balance.mean_and_error(values)
    assert mean == pytest.approx([3.0, 5.0])
    assert error[0] == pytest.approx(2 / np.sqrt(3)) and np.isnan(error[1])
    assert np.isnan(centre_balance.mean_and_error(np.empty((0, 2)))[0]).all()


# ---- centre against outline
def test_balance_goes_from_the_outline_to_the_centre():
    radius = np.full(20, 0.6)

    def of(images):
        return centre_balance.balance(
            centre_balance.centre_and_outline(images, FIELD_NM, radius), np.arange(20) % 4
        )

    assert of(rings(radius, 0.0)).value > 0.95
    assert of(rings(radius, 1.0)).value < -0.95
    assert of(np.ones((20, 14, 14))).value == pytest.approx(0, abs=1e-9)


def test_the_interval_resamples_images():
    """Clusters of one image are alike here, so that there are four values and not two hundred."""
    rng = np.random.default_rng(1)
    image = np.repeat(np.arange(4), 50)
    centre = 1 + rng.normal(0, 0.3, 4)[image] + rng.normal(0, 0.02, 200)
    values = np.stack([centre, np.ones(200)], axis=1)
    apart, together = (
        centre_balance.balance(values, image),
        centre_balance.balance(values, np.zeros(200)),
    )
    assert apart.low < apart.value < apart.high
    assert together.low < together.value < together.high
    assert apart.high - apart.low > 3 * (together.high - together.low)
    assert centre_balance.balance(values, image) == apart, "seeded"


def test_the_interval_covers_the_truth():
    rng = np.random.default_rng(2)
    hits = 0
    for seed in range(60):
        values = rng.gamma(4, [0.3, 0.1], (60, 2))  # means 1.2 and 0.4
        found = centre_balance.balance(values, np.zeros(60), n_bootstrap=300, seed=seed)
        hits += found.low <= 0.5 <= found.high
    assert 50 <= hits <= 60


def test_what_two_channels_share_cancels_in_their_difference():
    rng = np.random.default_rng(3)
    image = np.arange(80) % 8
    shared = rng.gamma(3, 0.5, (8, 1))[image] * np.array([[1.0, 0.0]]) + [[0.2, 0.5]]
    first = shared + rng.normal(0, 0.01, (80, 2))
    second = shared + np.array([[0.0, 0.1]]) + rng.normal(0, 0.01, (80, 2))
    between = centre_balance.balance_between(first, second, image)
    one, other = centre_balance.balance(first, image), centre_balance.balance(second, image)
    assert between.value == pytest.approx(one.value - other.value)
    assert one.low < other.high, "the intervals overlap"
    assert 0 < between.low < between.value < between.high
    assert centre_balance.balance_between(first, first, image) == centre_balance.Balance(
        0.0, 0.0, 0.0
    )
    assert np.isnan(
        centre_balance.balance_between(np.empty((0, 2)), np.empty((0, 2)), np.empty(0)).value
    )


def test_a_balance_of_little_or_nothing():
    nothing = centre_balance.balance(np.empty((0, 2)), np.empty(0))
    assert np.isnan([nothing.value, nothing.low, nothing.high]).all()
    one = centre_balance.balance(np.array([[3.0, 1.0], [np.nan, 1.0]]), np.array(["a", "b"]))
    assert one.value == 0.5 and np.isnan(one.low)
    assert np.isnan(centre_balance.balance(np.zeros((5, 2)), np.zeros(5)).value)


# ---- averages
def test_averages_leave_out_what_is_cut_touches_or_has_no_class():
    n = 9
    table = table_of(n, touches_border=np.arange(n) == 0, touches_neighbour=np.arange(n) <= 1)
    table.loc[2, "diameter_nm"] = np.nan
    table["excluded"] = np.arange(n) == 8
    labels = np.array(["A", "A", "A", "unknown", "aggregate", "", "A", "B", "B"], object)
    patches = np.arange(n, dtype=float)[:, None, None] * np.ones((n, 8, 8))
    maps = patches[:, :4, :4].copy()
    maps[7] = np.nan
    out = class_averages.class_averages(
        table, labels, {"raw": patches}, {"raw": maps}, FIELD_NM, ["A", "B", "C"]
    )
    assert out.left_out == {
        "without a class": 3, "cut by the border": 1, "touching": 1, "without a diameter": 1,
        "in excluded regions": 1,
    }  # fmt: skip
    assert out.labels == ["A", "B"]
    a, b = out.get("A", "raw"), out.get("B", "raw")
    assert a.clusters == 1 and a.profile == pytest.approx(np.full(len(a.r), 6.0))
    assert a.total == pytest.approx(6 * 16)
    assert b.clusters == 0 and np.isnan(b.image).all() and np.isnan(b.balance.value)
    assert out.get("B", "raw", "patch").clusters == 1
    assert out.get("C", "raw") is None


def test_an_empty_map_has_no_balance():
    radius = np.full(6, 0.5)
    maps = {"raw": rings(radius, 0.9), "LCN": 1e-6 * rings(radius, 0.9)}
    out = class_averages.class_averages(
        table_of(6, diameter_nm=2 * radius), np.full(6, "A", object), maps, maps, FIELD_NM, ["A"]
    )
    assert out.get("A", "raw").balance.value < -0.5
    assert np.isnan(out.get("A", "LCN").balance.value)


def test_averages_in_nm_and_in_radii():
    radius = np.linspace(0.4, 0.7, 12)
    table = table_of(12, diameter_nm=2 * radius)
    images = rings(radius, 1.0, width_nm=0.08)
    labels = np.full(12, "A", object)

    def profile(unit):
        out = class_averages.class_averages(
            table, labels, {"LCN": images}, {}, FIELD_NM, ["A"], unit=unit
        )
        return out.get("A", "LCN", "patch")

    scaled, plain = profile("radius"), profile("nm")
    assert scaled.r[scaled.profile.argmax()] == pytest.approx(1, abs=0.06)
    assert np.nanmax(scaled.profile) > 1.5 * np.nanmax(plain.profile), "a ring of many is smeared"
    assert plain.reach == 1.4 and scaled.reach == class_averages.REACH_RADII
    assert scaled.balance == plain.balance
    with pytest.raises(ValueError, match="unit"):
        profile("px")


def test_of_analyses_takes_maps_of_the_label_only():
    one = synthetic_analysis(30, "a.tif", seed=1)
    other = synthetic_analysis(20, "b.tif", seed=2)
    table = one.table.copy()
    first = CLASSES[(CLASSES.index(table.loc[0, "label"]) + 1) % 5]
    table.loc[0, ["label", "label_corrected"]] = first
    foreign = replace(other, parameters={"model": {"model_id": "another"}})
    out = class_averages.of_analyses([replace(one, table=table), other, foreign])
    assert out.left_out == {"of another model": 20, "corrected (from the class maps only)": 1}
    counts = pd.concat([table, other.table])["label"].value_counts()
    for label in out.labels:
        assert out.get(label, "raw", "patch").clusters == counts[label]
        assert out.get(label, "raw").clusters == counts[label] - (label == first)
    # the maps are of the label, whatever the network alone says
    says = one.table["label"].to_numpy(object).copy()
    says[[3, 4]] = [CLASSES[(CLASSES.index(c) + 1) % 5] for c in says[[3, 4]]]
    differing = replace(one, table=one.table.assign(label_network=says))
    assert class_averages.of_analyses([differing]).left_out == {}
    regions = replace(one, table=one.table.assign(excluded=np.arange(30) < 2))
    some = class_averages.of_analyses([regions, other])  # of which only one has regions
    assert some.left_out == {"in excluded regions": 2}
    few = class_averages.of_analyses([one, other], most_per_class=3)
    assert max(a.clusters for a in few.items) == 3
    assert few.left_out["beyond 3 of a class"] == sum(np.maximum(
        pd.concat([one.table, other.table])["label"].value_counts() - 3, 0))  # fmt: skip
    assert class_averages.of_analyses([]).items == ()
    with pytest.raises(Cancelled):
        class_averages.of_analyses([one], stop=lambda: True)


def test_tables_and_pictures(tmp_path):
    out = class_averages.of_analyses([synthetic_analysis(40)])
    profiles = out.profiles()
    assert list(profiles)[:5] == ["class", "channel", "quantity", "clusters", "r_radius"]
    assert len(profiles) == len(out.items) * len(out.items[0].r)
    balances = out.balances().set_index(["class", "channel", "quantity"])
    a = out.get(out.labels[0], "LCN")
    assert balances.loc[(a.label, "LCN", "class map"), "low"] == a.balance.low
    png = class_average_figure.write_picture(out, tmp_path / "a.png")
    assert png.read_bytes().startswith(b"\x89PNG")
    text = class_average_figure.write_picture(out, tmp_path / "a.svg", normalised=True).read_text()
    assert "<svg" in text and "<text" in text
    pdf, again = (class_average_figure.write_picture(out, tmp_path / f"{x}.pdf") for x in "ab")
    assert pdf.read_bytes().startswith(b"%PDF") and pdf.read_bytes() == again.read_bytes()
    assert (
        class_averages.of_analyses([]).profiles().empty
        and class_averages.of_analyses([]).balances().empty
    )


def test_profiles_are_drawn_in_full_on_one_scale():
    analysis = synthetic_analysis(40)
    maps = {"raw": analysis.class_maps["raw"], "LCN": 3 * analysis.class_maps["LCN"]}
    out = class_averages.of_analyses([replace(analysis, class_maps=maps)])
    charts = [
        axes for axes in class_average_figure.draw(out).axes if axes.lines and not axes.images
    ]
    assert len(charts) == 2
    highest = max(np.nanmax(line.get_ydata()) for axes in charts for line in axes.lines[:1])
    for axes in charts:
        assert axes.get_ylim()[0] == 0 and axes.get_ylim()[1] > highest


def test_a_profile_in_units_of_its_maximum():
    out = class_averages.of_analyses([synthetic_analysis(40)])
    a = out.get(out.labels[0], "raw")
    _, mean, error = class_average_figure.profile_of(a, normalised=True)
    assert np.nanmax(mean) == pytest.approx(1)
    np.testing.assert_allclose(error * np.nanmax(a.profile), a.profile_error)
    assert class_average_figure.top_of(out, a, normalised=False) >= class_average_figure.top_of(
        out, a, normalised=True
    )


# ---- sanity: the maps of a trained network on clusters of known class
@pytest.fixture(scope="module")
def known(library):
    """The shipped model, patches of simulated clusters, their classes and radii."""
    classifier = load_classifier("default", "cpu")
    classes = classifier.card.classes
    # Atoms are ordered from the centre outwards: the first n of a larger isomer are one, too.
    large = [isomer for isomer in library if isomer.n == 70]
    isomers = [
        replace(isomer, positions_nm=isomer.positions_nm[: int(c[2:])])
        for c in classes
        for isomer in large
    ]
    settings = FieldSettings(
        shape_px=(700, 700),
        pixel_size_nm=0.04,
        clusters_per_nm2=0.06,
        mixture=dict.fromkeys(classes, 0.2),
        microscope=Microscope(dose_e_per_a2=8000),
    )
    made = simulate_field(isomers, settings, seed=5)
    table = detect(made.micrograph).table
    rows, truths = match(table, made.truth, settings.pixel_size_nm)
    labels = np.full(len(table), "", object)
    labels[rows] = made.truth["label"].to_numpy()[truths]
    use = ~np.logical_or.reduce(list(class_averages.left_out(table, labels).values()))
    electrons = settings.microscope.dose_e_per_a2 * 100 * settings.pixel_size_nm**2
    scale = electrons * settings.microscope.gain * cross_section_nm2("Pt")
    patches = extract_patches(made.micrograph, table[use], classifier.card.patches, scale)
    index = torch.tensor([classes.index(label) for label in labels[use]])
    assert len(index) > 25 and len(set(index.tolist())) == 5
    return classifier.network, patches, index, table["diameter_nm"].to_numpy()[use] / 2


@torch.inference_mode()
def explained(network, patches, index):
    """Class maps of the true class, channel → (N, h, w), and its logit (N,)."""
    output = network({c: torch.from_numpy(p) for c, p in patches.items()})
    maps = network.class_maps(output.maps, index)
    return {c: m.numpy() for c, m in maps.items()}, output.logits[range(len(index)), index].numpy()


def likeness(maps, others):
    """Mean rank correlation of the clusters' maps; a map without any contrast is like nothing."""
    rho = [spearmanr(a.ravel(), b.ravel())[0] for a, b in zip(maps, others, strict=True)]
    return float(np.nan_to_num(rho).mean())


@pytest.mark.filterwarnings("ignore:An input array is constant")
def test_maps_change_when_weights_are_randomised_layer_by_layer(known):
    """Adebayo et al., NeurIPS 2018: maps that survived would be of the image, not of the model."""
    network, patches, index, _ = known
    trained, _ = explained(network, patches, index)
    random = copy.deepcopy(network)
    torch.manual_seed(0)
    layers = [[random.head]]
    names = ("last", "blocks.6", "blocks.3", "blocks.0", "stem")
    layers += [[b.get_submodule(name) for b in random.branches.values()] for name in names]
    same, _ = explained(random, patches, index)
    for channel in trained:
        assert likeness(trained[channel], same[channel]) > 0.999
    for layer in layers:  # from the head down, each stays random for the rest
        for module in layer:
            module.reset_parameters()
        maps, _ = explained(random, patches, index)
        for channel in trained:
            assert likeness(trained[channel], maps[channel]) < 0.6, (layer, channel)
    for channel in trained:
        assert likeness(trained[channel], maps[channel]) < 0.4


def highest(values, among, share, largest=True):
    """(N, h, w) bool: the given share of the cells ``among``, those with the largest values."""
    out = np.zeros(values.shape, bool)
    for row, value, mask in zip(out, values, among, strict=True):
        cells = np.flatnonzero(mask)
        order = np.argsort(-value.ravel()[cells] if largest else value.ravel()[cells])
        row.flat[cells[order[: max(1, round(share * len(cells)))]]] = True
    return out


def test_occluding_what_is_highlighted_lowers_the_class_most(known):
    """Cells of the maps inside the outline, replaced by the level of the support in both channels.

    The same number of cells elsewhere on the cluster, and anywhere on it, are to matter less.
    """
    network, patches, index, radius_nm = known
    maps, logit = explained(network, patches, index)
    total = sum(maps.values())
    inside = occlusion.distance_nm(total.shape[-1], FIELD_NM) < radius_nm[:, None, None] + 0.1
    chance = np.random.default_rng(0).random(total.shape)

    def drop(cells):
        where = cells.repeat(4, axis=1).repeat(4, axis=2)
        hidden = {c: occlusion.occluded(p, where, FIELD_NM, radius_nm) for c, p in patches.items()}
        return logit - explained(network, hidden, index)[1]

    lit = drop(highest(total, inside, 0.2))
    dark = drop(highest(total, inside, 0.2, largest=False))
    anywhere = drop(highest(chance, inside, 0.2))
    assert lit.mean() > 0
    for other in (dark, anywhere):
        difference = lit - other
        error = difference.std(ddof=1) / np.sqrt(len(difference))
        assert difference.mean() > 3 * error


def test_occlusion_replaces_by_the_level_of_the_support():
    radius = np.array([0.5])
    patch = np.full((1, 28, 28), 3.0, np.float32)
    inside = occlusion.distance_nm(28, FIELD_NM) < 0.5
    patch[0, inside] = 9
    hidden = occlusion.occluded(patch, inside[None], FIELD_NM, radius)
    assert (hidden == 3).all() and hidden.dtype == np.float32
    assert (occlusion.occluded(patch, np.zeros((1, 28, 28), bool), FIELD_NM, radius) == patch).all()
