"""What is fitted on held-out images, and the learning of what is none of the classes."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given, settings, strategies as st

from napari_atomicity.core.model_card import ModelCard
from napari_atomicity.core.scale_reference import ScaleReference
from napari_atomicity.models.files import read_model
from napari_atomicity.models.inference import Classifier
from napari_atomicity.models.out_of_distribution import out_of_distribution
from napari_atomicity.models.scale.intensity_scale import fit_constrained_mixture
from napari_atomicity.training.calibration.calibrate import (
    _fit_temperature_and_bias,
    class_means,
    fit_calibration,
)
from napari_atomicity.training.calibration.evaluation import expected_calibration_error, scores
from napari_atomicity.training.calibration.held_out import predict_images
from napari_atomicity.training.calibration.out_of_distribution import (
    fit_out_of_distribution,
    outcome,
)
from napari_atomicity.training.calibration.scaling import known_scales, right_scales, scale_is_off
from napari_atomicity.training.classifier import shuffle_into_mixtures
from napari_atomicity.training.data import PatchSet

CPU = torch.device("cpu")
DIAMETER = {"Pt19": 0.82, "Pt70": 1.28}


def part(truth, patches, seed=0, per_image=30, **columns):
    """A set whose clusters are measured as their class asks."""
    rng = np.random.default_rng(seed)
    truth = np.asarray(truth, object)
    n = len(truth)
    size = np.array([int(t[2:]) if t.startswith("Pt") else 40 for t in truth], float)
    table = pd.DataFrame(
        {
            "image": [f"image {i // per_image}" for i in range(n)],
            "truth": truth,
            "integrated_intensity": size * np.exp(rng.normal(0, 0.05, n)),
            "diameter_nm": 0.31 * size ** (1 / 3) * np.exp(rng.normal(0, 0.05, n)),
            "eccentricity": rng.uniform(0, 0.7, n),
            "touches_border": False,
            "touches_neighbour": False,
            **columns,
        }
    )
    return PatchSet(table, patches, {})


def test_calibration_takes_back_overconfidence(tiny_model):
    """Labels drawn from the network's own probabilities at another temperature."""
    card, tensors = read_model(tiny_model)
    card = ModelCard("net", card.classes, card.patches, width=4, ood_limit=1e6)
    rng = np.random.default_rng(0)
    patches = {c: rng.normal(0, 10, (1500, 32, 32)).astype(np.float32) for c in ("raw", "LCN")}
    tensors = dict(tensors)
    tensors["network.head.weight"] = tensors["network.head.weight"] * 40
    z = np.log(Classifier(card, tensors, CPU).predict(patches).probabilities + 1e-12)
    p = np.exp(z / 3) / np.exp(z / 3).sum(axis=1, keepdims=True)
    label = (rng.random(1500) < p[:, 1]).astype(int)
    given = part(np.array(card.classes, object)[label], patches)
    before = scores(card, tensors, given, CPU)["expected_calibration_error"]
    card = fit_calibration(card, tensors, given, CPU)
    after = scores(card, tensors, given, CPU)
    assert after["expected_calibration_error"] < min(0.04, before)
    assert after["prediction_set_coverage"] == pytest.approx(0.95, abs=0.01)
    assert np.sum(card.confusion) == 1500
    assert np.trace(np.array(card.confusion)) == pytest.approx(1500 * after["accuracy"], abs=1)
    replicates = np.array(card.recalibration)
    assert replicates.shape[1] == 3
    # they scatter about "no change": the calibration set itself is calibrated
    assert abs(np.median(replicates[:, 0]) - 1) < 0.25
    assert replicates[:, 0].std() > 0


def test_the_combination_leans_on_who_is_right(tiny_model):
    """An untrained network and clean intensities: the mixture must do the work."""
    card, tensors = read_model(tiny_model)
    rng = np.random.default_rng(1)
    patches = {c: rng.normal(0, 5, (240, 32, 32)).astype(np.float32) for c in ("raw", "LCN")}
    given = part(rng.choice(list(card.classes), 240), patches)
    card = fit_calibration(card, tensors, given, CPU)
    found = scores(card, tensors, given, CPU)
    assert found["accuracy"] > 0.97 > 0.8 > found["accuracy_of_network"]
    assert card.combination.mixture > card.combination.network
    assert 0.04 < card.count.whole < 0.2
    assert found["count_interval_coverage"] == pytest.approx(0.95, abs=0.02)


@pytest.mark.filterwarnings("error::RuntimeWarning")
@pytest.mark.parametrize("touches_border", [True, False])
def test_scores_of_nothing_are_nan(tiny_model, touches_border):
    """All clusters are of one class; this model has no count intervals."""
    card, tensors = read_model(tiny_model)
    patches = {c: np.zeros((2, 32, 32), np.float32) for c in ("raw", "LCN")}
    found = scores(card, tensors, part(["Pt19"] * 2, patches, touches_border=touches_border), CPU)
    assert np.isnan(found["count_interval_coverage"])
    assert np.isnan(found["accuracy"]) == touches_border
    assert list(found["recall"]) == ([] if touches_border else ["Pt19"])


@settings(max_examples=20, deadline=None)
@given(
    seed=st.integers(0, 100),
    factor=st.floats(0.4, 2.5),
    bias=st.tuples(*[st.floats(-0.5, 0.5)] * 3),
)
def test_the_factor_and_biases_of_a_distortion_are_found(seed, factor, bias):
    rng = np.random.default_rng(seed)
    p = rng.dirichlet(np.ones(3), 6000)
    label = (rng.random(6000)[:, None] > p.cumsum(axis=1)).sum(axis=1).clip(0, 2)
    distorted = (np.log(p) - np.array(bias)) / factor
    distorted -= np.log(np.exp(distorted).sum(axis=1, keepdims=True))
    found = _fit_temperature_and_bias(distorted, label, np.full(6000, 1 / 6000))
    assert found[0] == pytest.approx(factor, rel=0.15)
    np.testing.assert_allclose(found[1:], np.array(bias) - np.mean(bias), atol=0.2)


def test_what_was_learnt_to_be_outside_is_outside(tiny_model, monkeypatch):
    """Patches of another kind that lie no further from the class means than the clusters do."""
    monkeypatch.setattr("napari_atomicity.training.calibration.out_of_distribution.STEPS", 600)
    card, tensors = read_model(tiny_model)
    rng = np.random.default_rng(0)

    def of(truth, shift, n, seed):
        patches = {c: rng.normal(0, 5, (n, 32, 32)).astype(np.float32) for c in ("raw", "LCN")}
        patches["raw"][:, 12:20, 12:20] += shift
        names = rng.choice(list(card.classes), n) if truth == "class" else np.full(n, truth)
        return part(names, patches, seed)

    clusters = of("class", 60, 300, 1)
    tensors |= class_means(card, tensors, clusters, CPU)
    others = [of("", -60, 200, 2), of("aggregate", 200, 200, 3)]
    tensors = fit_out_of_distribution(card, tensors, clusters, others, CPU)

    def judged(given):
        pairs = [
            out_of_distribution(s.known, s.embedding, tensors)
            for s in predict_images(card, tensors, given, CPU)
        ]
        return (np.concatenate([p[i] for p in pairs]) for i in (0, 1))

    score, _ = judged(of("class", 60, 200, 4))
    assert (score > 1).mean() < 0.04
    score, aggregate = judged(of("", -60, 150, 5))
    assert (score > 1).mean() > 0.95 and not aggregate.mean() > 0.1
    score, aggregate = judged(of("aggregate", 200, 150, 6))
    assert (score > 1).mean() > 0.95 and aggregate.mean() > 0.9


def test_clusters_at_the_border_have_no_outcome(tiny_model):
    card, tensors = read_model(tiny_model)
    patches = {c: np.zeros((4, 32, 32), np.float32) for c in ("raw", "LCN")}
    given = part(
        ["Pt19", "aggregate", "", "Pt70"], patches, touches_border=[False, False, False, True]
    )
    (image,) = predict_images(card, tensors, given, CPU)
    assert outcome(image).tolist() == [0, 2, 1, -1]
    assert image.label.tolist() == [0, -1, -1, -1]


def test_size_selected_images_become_mixtures_of_one_scale():
    rng = np.random.default_rng(0)
    truth = np.repeat(["Pt19", "Pt70"], 60)
    patches = {"raw": rng.normal(0, 1, (120, 8, 8)).astype(np.float32)}
    scale = np.repeat([5.0, 30.0], 60)
    given = part(truth, patches, per_image=60, known_intensity_per_atom=scale)
    given.table["integrated_intensity"] *= scale
    mixed = shuffle_into_mixtures(given, ("Pt19", "Pt70"), 0)
    assert len(mixed) == 120
    # no class is left for mixtures of its own, whose scale could not be found
    assert mixed.table.groupby("image")["truth"].nunique().min() == 2
    assert mixed.table["image"].nunique() == 5
    assert mixed.table.groupby("image")["truth"].nunique().max() == 2
    assert set(mixed.table["origin"]) == {"image 0", "image 1"}
    ratio = mixed.table["integrated_intensity"] / mixed.table["truth"].str[2:].astype(float)
    np.testing.assert_allclose(ratio, 1, rtol=0.3)
    np.testing.assert_allclose(mixed.patches["raw"], patches["raw"] / scale[:, None, None])
    assert (
        shuffle_into_mixtures(part(truth, patches), ("Pt19", "Pt70"), 0).table["image"].nunique()
        == 4
    )


def test_a_wrong_scale_takes_no_part_in_the_calibration():
    """Images of one size have no intensity ratios: the known scale is taken where it is off."""
    reference = ScaleReference(
        tuple(np.log([19.0, 41.0, 70.0])), (-0.1, 0.0, 0.1), (((0.004, 0.0), (0.0, 0.01)),) * 3
    )
    given = part(np.repeat(["Pt41"], 30), {}, per_image=30, known_intensity_per_atom=1.0)
    found = fit_constrained_mixture(
        given.table["integrated_intensity"], given.table["diameter_nm"], reference
    )
    off = replace(found, shift=found.shift + np.log([41 / 70, 1]))
    assert scale_is_off(off, given.table) and not scale_is_off(
        replace(found, shift=np.zeros_like(found.shift)), given.table
    )
    assert not scale_is_off(off, given.table.drop(columns="known_intensity_per_atom"))
    (known,) = known_scales([given.table], reference)
    assert known.intensity_per_atom == 1 and known.certainty == 1
    rng = np.random.default_rng(0)
    for table in (given.table, given.table.assign(known_intensity_per_atom=1.7)):
        table = table.assign(
            integrated_intensity=table["integrated_intensity"]
            * table["known_intensity_per_atom"]
            * np.exp(rng.normal(0, 0.01, 30))
        )
        (right,) = right_scales([table], reference)
        assert not scale_is_off(right, table)


def test_calibration_error_of_known_cases():
    assert expected_calibration_error(np.full(10, 0.75), np.arange(10) < 5) == pytest.approx(0.25)
    assert expected_calibration_error(np.array([0.5, 1.0]), np.array([0.5, 1.0])) == 0
