"""The model file, the passes of the networks, and the whole of `find_atoms`."""

from __future__ import annotations

import json
import pickle
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from napari_atomicity import load
from napari_atomicity.atoms import table as tables
from napari_atomicity.atoms.analysis import AtomAnalysis, find_atoms
from napari_atomicity.atoms.finding import finder
from napari_atomicity.atoms.finding.card import AtomCard
from napari_atomicity.atoms.finding.finder import AtomModel
from napari_atomicity.atoms.finding.network import (
    STRIDE,
    AtomNet,
    JoiningConvolution,
    TransposedJoin,
    pad_to_stride,
)
from napari_atomicity.core.errors import (
    CalibrationError,
    Cancelled,
    ModelError,
    UnsuitableImageError,
)
from napari_atomicity.core.micrograph import Micrograph
from napari_atomicity.core.model_card import ATOMS, CLUSTERS, ModelCard
from napari_atomicity.detection.clusters import detect
from napari_atomicity.detection.given import inside_any
from napari_atomicity.models.files import (
    available_models,
    model_files,
    read_card,
    read_tensors,
    shipped_folder,
)

from .spots import field, scattered

CPU = torch.device("cpu")


def networks(n: int, width: int = 4) -> list[AtomNet]:
    torch.manual_seed(0)
    nets = [AtomNet(width=width) for _ in range(n)]
    for net in nets:  # statistics as after a training, so that fusing is put to the test
        for name, buffer in net.named_buffers():
            if name.endswith("running_mean"):
                buffer.normal_(0, 0.1)
            elif name.endswith("running_var"):
                buffer.uniform_(0.5, 2)
    return [net.eval() for net in nets]


@pytest.fixture(scope="module")
def model() -> AtomModel:
    card = AtomCard("tiny", members=2, width=4, views=4, slope=1.0, offset=4.0, floor=0.0)
    return AtomModel(card, finder.quantize_weights(networks(2)), CPU)


def test_a_model_comes_back_from_its_file(tmp_path):
    nets = networks(2)
    card = AtomCard(
        "mine", members=2, width=4, views=3, slope=1.3, offset=-0.2, limits="few",
        slope_finer=-0.2, offset_finer=0.5, fineness=(0.0, 0.9), usual_threshold=0.4,
        own_weight=0.5,
    )  # fmt: skip

    saved = finder.save_atom_model(tmp_path / "mine", card, nets)

    path = tmp_path / "mine.safetensors"
    assert read_card(path, AtomCard) == saved
    assert saved.model_id == f"mine-{saved.sha256[:8]}"
    loaded = finder.load_atom_model(path, "cpu")
    image = np.random.default_rng(0).random((40, 56)).astype(np.float32)
    fresh = AtomModel(card, finder.quantize_weights(nets), torch.device("cpu"))
    np.testing.assert_array_equal(loaded.score_map(image, 0.03)[0], fresh.score_map(image, 0.03)[0])


def test_eight_bits_and_fused_normalisation_change_next_to_nothing():
    (net,) = networks(1)
    x = torch.randn(1, 3, 48, 64)
    with torch.inference_mode():
        plain = net(x)
        stored = AtomNet(width=4)
        stored.load_state_dict(
            finder.dequantize_weights(finder.quantize_weights([net]), "network.0.")
        )
        quantize_weights = finder.fuse_batch_norm(stored.eval())(x)
    assert float((quantize_weights - plain).abs().max()) < 0.05 * float(plain.std()) + 0.02


def test_other_kinds_and_pickles_are_refused(tmp_path, tiny_model, model):
    with pytest.raises(ModelError, match="model of clusters, not of atoms"):
        finder.load_atom_model(tiny_model)
    saved = tmp_path / "atoms.safetensors"
    finder.save_atom_model(saved, model.card, networks(2))
    with pytest.raises(ModelError, match="model of atoms, not of clusters"):
        read_card(saved, ModelCard)
    with pytest.raises(ModelError, match="no model"):
        finder.load_atom_model(str(tmp_path / "atoms.pkl"))
    saved.write_bytes(pickle.dumps({"network": 1}))
    with pytest.raises(ModelError, match="not those that the card describes"):
        finder.load_atom_model(saved)
    with pytest.raises(ModelError, match="damaged"):
        read_tensors(saved, "")
    card = saved.with_suffix(".json")
    card.write_text(json.dumps({"kind": ATOMS, "members": 2}), encoding="utf-8")
    with pytest.raises(ModelError, match="card is damaged"):
        read_card(saved, AtomCard)


def test_weights_must_fit_the_card(model):
    tensors = finder.quantize_weights(networks(1))
    with pytest.raises(ModelError, match="do not match"):
        AtomModel(model.card, tensors, torch.device("cpu"))


def test_the_shipped_model_is_small_and_listed():
    path = shipped_folder() / "metal-atoms.safetensors"

    assert path.stat().st_size < 3e6
    assert path in model_files(ATOMS)
    assert path not in model_files(CLUSTERS)
    card = read_card(path, AtomCard)
    assert "metal-atoms" in available_models(AtomCard)
    assert 0 < card.candidate_recall <= 1
    assert card.slope > 0


def test_all_eight_views_make_the_score_independent_of_the_symmetry(model):
    image = np.random.default_rng(1).random((64, 80)).astype(np.float32)
    whole = AtomModel(
        replace(model.card, members=1, views=8),
        finder.quantize_weights(networks(1)),
        torch.device("cpu"),
    )
    # Multiples of the stride: what is mirrored beyond the edge would differ between views.
    plain = whole.score_map(image, 0.03)[0]
    turned = whole.score_map(np.rot90(image).copy(), 0.03)[0]

    np.testing.assert_allclose(turned, np.rot90(plain), atol=2e-3)


def test_tiles_give_what_the_whole_gives(model, monkeypatch):
    image = np.random.default_rng(2).random((160, 320)).astype(np.float32)
    whole = model.score_map(image, 0.03)[0]

    monkeypatch.setattr(finder, "TILE_PX", 128)
    tiled = model.score_map(image, 0.03)[0]

    assert np.abs(tiled - whole).mean() < 1e-3 * whole.std() + 1e-6


@pytest.mark.parametrize("shape", [(8, 8), (1, 5), (17, 33), (16, 16)])
def test_any_image_is_extended_to_what_the_network_takes(shape):
    image = torch.rand(1, 3, *shape)

    out = pad_to_stride(image)

    assert all(n % STRIDE == 0 and n >= m for n, m in zip(out.shape[-2:], shape, strict=True))
    assert torch.equal(out[..., : shape[0], : shape[1]], image)


def test_positions_are_those_of_the_image_at_any_sampling(model):
    pixels = np.random.default_rng(3).random((60, 90)).astype(np.float32)

    resized, factor = finder.resample_image(pixels, 0.015)

    assert resized.shape == (30, 45)
    np.testing.assert_allclose(factor, [0.5, 0.5])
    assert finder.resample_image(pixels, 0.0293)[0].shape == pixels.shape
    points, score = model.candidates(pixels, 0.015)
    assert ((points >= -0.5) & (points <= np.array(pixels.shape) - 0.5)).all()
    assert (np.diff(score) <= 0).all()


def test_a_second_magnification_only_adds(model):
    image = np.random.default_rng(4).random((64, 96)).astype(np.float32)
    two = AtomModel(
        replace(model.card, scales=(1.0, 0.8)),
        finder.quantize_weights(networks(2)),
        torch.device("cpu"),
    )

    plain, both = model.score_map(image, 0.03)[0], two.score_map(image, 0.03)[0]

    assert both.shape == plain.shape
    assert (both >= plain).all()
    assert (both > plain).any()


def test_joining_by_a_transposed_convolution_gives_the_same():
    join = JoiningConvolution(5, 3, 4)
    joined = torch.randn(2, 5, 6, 9), torch.randn(2, 3, 12, 18)

    with torch.inference_mode():
        plain, fast = join(joined), TransposedJoin(join)(joined)

    assert plain.shape == (2, 4, 12, 18)
    torch.testing.assert_close(fast, plain, atol=1e-5, rtol=1e-5)


def test_quick_scores_take_the_networks_in_turn():
    """Three of six networks each: two quick computations in turn average to the whole one."""
    card = AtomCard("mine", members=6, width=4, views=1)
    six = AtomModel(card, finder.quantize_weights(networks(6)), torch.device("cpu"))
    image = np.random.default_rng(5).random((64, 96)).astype(np.float32)
    messages = []

    whole = six.score_map(image, 0.03)[0]
    halves = [
        six.score_map(image, 0.03, lambda *m: messages.append(m), quick=i)[0] for i in range(3)
    ]

    np.testing.assert_allclose((halves[0] + halves[1]) / 2, whole, atol=1e-4)
    assert np.abs(halves[0] - whole).max() > 1e-3
    np.testing.assert_array_equal(halves[2], halves[0])
    assert messages[3] == (finder.QUICK_PASSES, finder.QUICK_PASSES, "Finding atoms")


def test_several_threads_give_the_same_scores_and_stop(model):
    image = np.random.default_rng(6).random((64, 96)).astype(np.float32)
    before = torch.get_num_threads()
    calls = []

    def stop():
        calls.append(1)
        return len(calls) == 2

    try:
        torch.set_num_threads(1)
        one = model.score_map(image, 0.03)[0]
        torch.set_num_threads(3)
        three = model.score_map(image, 0.03)[0]
        with pytest.raises(Cancelled):
            model.score_map(image, 0.03, stop=stop)
    finally:
        torch.set_num_threads(before)

    np.testing.assert_array_equal(one, three)
    assert len(calls) == 2


def test_half_the_pixel_size_gives_the_same_map(model):
    coarse = field(scattered(6, (64, 80), 12, 2), (64, 80), 3, noise=0.05)
    fine = np.kron(coarse, np.ones((2, 2), np.float32))

    of_coarse, of_fine = model.score_map(coarse, 0.03)[0], model.score_map(fine, 0.015)[0]

    assert of_fine.shape == of_coarse.shape
    assert np.corrcoef(of_fine.ravel(), of_coarse.ravel())[0, 1] > 0.98


# ---- find_atoms


@pytest.fixture(scope="module")
def analysis(model) -> AtomAnalysis:
    points = scattered(9, (96, 120), 14, 0)
    micrograph = Micrograph(field(points, (96, 120), 3, noise=0.1), 0.03, name="made")
    return find_atoms(micrograph, model, threshold=0.5)


def test_the_table_is_that_of_the_contract(analysis, model):
    table = analysis.candidates

    tables.validate(table)
    assert list(table.columns) == list(tables.COLUMNS)
    assert {n: str(t) for n, t in table.dtypes.items()} == tables.COLUMNS
    assert len(table) > 0
    np.testing.assert_allclose(table["y_nm"], table["y_px"] * 0.03)
    assert table["model_id"].eq(model.card.model_id).all()
    assert table["cluster_id"].isna().all()
    assert analysis.support.shape == (96, 120)


def test_another_threshold_is_a_part_of_the_same_candidates(analysis):
    confidence = analysis.candidates["confidence"]
    threshold = float(confidence.median())

    table = analysis.at(threshold)

    assert len(table) == (confidence >= threshold).sum()
    assert set(table["atom_id"]) <= set(analysis.candidates["atom_id"])
    assert len(analysis.at(1.1)) == 0
    tables.validate(analysis.at(1.1))
    assert len(analysis.table) == (confidence >= 0.5).sum()
    precision = analysis.expected_at(threshold)["precision"]
    assert len(analysis.at_precision(precision)) >= len(table)
    moved = analysis.with_threshold(threshold)
    assert len(moved.table) == len(table)


def test_without_a_threshold_the_expected_f1_is_best(analysis, model):
    best = find_atoms(analysis.micrograph, model)

    others = [best.expected_at(t)["f1"] for t in best.candidates["confidence"].unique()]
    assert best.expected["f1"] == pytest.approx(max(others))


def test_a_model_draws_the_threshold_towards_the_usual_one(analysis, model):
    own = find_atoms(analysis.micrograph, model)
    usual = 0.5 * own.threshold
    card = replace(model.card, usual_threshold=usual, own_weight=0.25)

    drawn = find_atoms(
        analysis.micrograph, AtomModel(card, finder.quantize_weights(networks(2)), CPU)
    )

    assert usual < drawn.threshold < own.threshold
    assert drawn.best_threshold() == drawn.with_threshold(0.9).best_threshold() == drawn.threshold
    same = AtomModel(card, finder.quantize_weights(networks(2)), CPU)
    asked = find_atoms(analysis.micrograph, same, precision=0.6)
    assert asked.threshold == own.threshold_at_precision(0.6)


def test_scores_of_finer_pixels_are_worth_what_the_card_says(analysis, model):
    card = replace(model.card, slope_finer=0.0, offset_finer=1.0, fineness=(0.0, 1.0))
    finer = AtomModel(card, finder.quantize_weights(networks(2)), CPU)

    def odds(model: AtomModel, pixel_size_nm: float) -> np.ndarray:
        image = Micrograph(analysis.micrograph.data, pixel_size_nm)
        p = find_atoms(image, model).candidates["confidence"].to_numpy()
        return p / (1 - p)

    np.testing.assert_allclose(odds(finer, 0.03), odds(model, 0.03), rtol=1e-5)
    worth = np.e ** np.log2(0.03 / 0.02)
    np.testing.assert_allclose(odds(finer, 0.02), worth * odds(model, 0.02), rtol=1e-5)


def test_without_a_pixel_size_the_atoms_propose_one(model):
    points = scattered(30, (200, 200), 22, 1)
    micrograph = Micrograph(field(points, (200, 200), 3, noise=0.1))

    with pytest.raises(CalibrationError, match=r"pixel size is not known.*suggests 0\.02"):
        find_atoms(micrograph, model)
    with pytest.raises(CalibrationError, match="pixel size is not known"):
        find_atoms(Micrograph(np.ones((64, 64))), model)


def test_pixels_too_coarse_for_atoms_are_refused(model):
    with pytest.raises(UnsuitableImageError, match="single atoms"):
        find_atoms(Micrograph(np.ones((64, 64)), 0.2), model)


@pytest.mark.parametrize(
    "data",
    [np.ones((40, 40)), np.ones((8, 8)), np.random.default_rng(0).random((3, 200)), np.eye(1)],
    ids=["constant", "tiny", "narrow", "one pixel"],
)
def test_images_without_atoms_are_no_errors(data, model):
    result = find_atoms(Micrograph(data, 0.03), model)

    tables.validate(result.table)
    assert np.isfinite(result.candidates[["y_px", "x_px", "confidence"]]).all(axis=None)
    assert result.is_flat == (np.ptp(data) == 0)


def test_gaps_in_the_image_are_filled(model):
    data = field(np.array([[20.0, 20.0]]), (48, 48), 3, noise=0.1)
    data[30:33, 5:9] = np.nan

    result = find_atoms(Micrograph(data, 0.03), model)

    assert np.isfinite(result.candidates[["amplitude", "intensity"]]).all(axis=None)


def test_frames_of_a_stack_are_apart(model):
    data = np.random.default_rng(0).random((2, 48, 48))

    result = find_atoms(Micrograph(data, 0.03), model, threshold=0.0)

    assert set(result.candidates["frame"]) == {0, 1}
    assert result.candidates["atom_id"].is_unique
    assert result.support.shape == (2, 48, 48)


def test_it_stops_when_told_and_says_how_far_it_is(model):
    said = []
    micrograph = Micrograph(np.random.default_rng(0).random((48, 48)), 0.03)

    find_atoms(micrograph, model, progress=lambda *a: said.append(a))
    with pytest.raises(Cancelled):
        find_atoms(micrograph, model, stop=lambda: True)

    assert any(done == total > 0 for done, total, _ in said)


def test_a_precision_is_one(model):
    with pytest.raises(ValueError, match="precision"):
        find_atoms(Micrograph(np.ones((20, 20)), 0.03), model, precision=2.0)


def test_the_shipped_model_finds_labelled_atoms(shared: Path):
    """A coarse check that weights, card and code belong together, on an image of its training."""
    from napari_atomicity import load
    from napari_atomicity.statistics.matching import match

    name = "038_HAADF_15nm_Sample_PtNC_21Oct20"
    folder = shared / "atoms_ptnc"
    micrograph = load(folder / "images" / f"{name}.tif")
    marks = np.loadtxt(
        folder / "labels" / f"{name}_atoms_xy_px.csv", delimiter=",", skiprows=1, usecols=(2, 1)
    )

    table = find_atoms(micrograph, device="cpu").table

    pairs = match(table[["y_px", "x_px"]].to_numpy(), marks, 0.15 / micrograph.pixel_size_nm)
    assert 2 * len(pairs) / (len(table) + len(marks)) > 0.5


def test_small_clusters_are_bright_clusters_though_most_atoms_are_found_on_them(shared: Path):
    image = load(shared / "clusters/train/Pt19/A_s19_10.tif")
    part = Micrograph(image.data[400:800, 400:800], image.pixel_size_nm)
    clusters = detect(part)
    found = find_atoms(part)
    on_clusters = inside_any(found.table[["y_px", "x_px"]].to_numpy(), clusters.outlines)
    assert on_clusters.mean() > 0.5
    centres = np.round(clusters.table[["y_px", "x_px"]].to_numpy()).astype(int)
    assert len(centres) > 4
    assert found.bright_clusters is not None
    assert found.bright_clusters[tuple(centres.T)].all()
