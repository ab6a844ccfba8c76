"""The registry of estimators, the pool of them, the continuous count, what is concluded."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings, strategies as st
from hypothesis.extra.numpy import arrays

from napari_atomicity.core.model_card import Combination, CountError, ModelCard
from napari_atomicity.core.scale_reference import ScaleReference
from napari_atomicity.core.tables import cluster_table as tables
from napari_atomicity.models.diameter_density import RESIDUALS
from napari_atomicity.models.estimators import (
    ESTIMATORS,
    MAX_TOUCHING_DEVIATION,
    Measured,
    combination,
    count_atoms,
    opinions,
    pooled,
    touching_deviation,
)
from napari_atomicity.models.inference import Prediction, load_classifier
from napari_atomicity.models.out_of_distribution import out_of_distribution
from napari_atomicity.models.scale.intensity_scale import fit_image
from napari_atomicity.models.scaled_predictions import (
    assign_labels,
    prediction_sets,
    withhold_labels,
)
from napari_atomicity.models.thresholds import by_thresholds, fit_thresholds
from napari_atomicity.statistics.ratios.ratio_notes import MIN_SCALE_PROBABILITY
from napari_atomicity.training.calibration.evaluation import expected_calibration_error
from napari_atomicity.training.calibration.scaling import fit_diameter_density
from support import synthetic_analysis

SIZES = np.array([19, 30, 41, 55, 70])
CLASSES = tuple(f"Pt{n}" for n in SIZES)
DIAMETERS = np.array([0.85, 0.97, 1.08, 1.18, 1.29])
REFERENCE = ScaleReference(
    tuple(np.log(SIZES * 1.02)), tuple(np.log(DIAMETERS)), (((0.003, 0.0), (0.0, 0.01)),) * 5
)
CARD = ModelCard(
    "made",
    CLASSES,
    scale=REFERENCE,
    thresholds={"intensity": (24.0, 35.0, 48.0, 62.0)},
    combination=Combination(0.7, 0.5, (0.0,) * 5, 2.0),
    count=CountError(0.1, 0.3),
)


def measured(n=60, seed=0, scale=1.0, sizes=SIZES, touching=0):
    rng = np.random.default_rng(seed)
    k = rng.choice(len(sizes), size=n)
    table = tables.conform(
        pd.DataFrame(
            {
                "image": "a",
                "cluster_id": np.arange(n),
                "y_px": 0.0,
                "x_px": 0.0,
                "integrated_intensity": 1.02 * sizes[k] * scale * np.exp(rng.normal(0, 0.03, n)),
                "diameter_nm": 0.32 * sizes[k] ** (1 / 3) * np.exp(rng.normal(0, 0.06, n)),
                "touches_neighbour": np.arange(n) < touching,
                "touches_border": False,
            }
        )
    )
    network = rng.dirichlet(np.ones(5), n)
    return k, Measured(table, CARD, fit_image(table, REFERENCE), network)


@pytest.mark.parametrize("name", ESTIMATORS)
def test_every_estimator_gives_probabilities_or_says_nothing(name):
    _, known = measured(touching=3)
    p = ESTIMATORS[name](known)
    assert p.shape == (60, 5)
    said = np.isfinite(p).all(axis=1)
    assert said[3:].all()
    np.testing.assert_allclose(p[said].sum(axis=1), 1)
    assert (p[said] >= 0).all()


@pytest.mark.parametrize("name", ["diameter", "intensity", "constrained mixture"])
def test_a_model_that_knows_no_scale_leaves_them_silent(name):
    _, known = measured()
    bare = replace(known, card=replace(CARD, scale=None, thresholds={}), scale=None)
    assert np.isnan(ESTIMATORS[name](bare)).all()
    np.testing.assert_array_equal(combination(bare), known.network)


def skewed_diameters(n, seed):
    """Return classes and diameters: most isomers are compact, some more or less flat."""
    rng = np.random.default_rng(seed)
    k = rng.choice(5, n)
    excess = rng.exponential(0.09, n) + rng.normal(0, 0.03, n)
    return k, DIAMETERS[k] * np.exp(excess)


def card_of_diameters(k, diameter):
    mean = [float(np.log(diameter[k == i]).mean()) for i in range(5)]
    variance = [float(np.log(diameter[k == i]).var()) for i in range(5)]
    covariance = tuple(((0.003, 0.0), (0.0, v)) for v in variance)
    reference = replace(REFERENCE, log_diameter=tuple(mean), covariance=covariance)
    cuts = fit_thresholds(diameter, k, 5)
    return replace(CARD, scale=reference, thresholds={"diameter": cuts}), cuts


def of_diameters(diameter, card):
    table = tables.conform(
        pd.DataFrame({"image": "a", "cluster_id": np.arange(len(diameter)), "y_px": 0.0,
                      "x_px": 0.0, "diameter_nm": diameter})
    )  # fmt: skip
    return ESTIMATORS["diameter"](Measured(table, card, None, np.full((len(table), 5), np.nan)))


def test_a_card_without_densities_labels_by_its_thresholds_of_the_diameter():
    k, d = skewed_diameters(4000, 0)
    card, cuts = card_of_diameters(k, d)
    p = of_diameters(d, card)
    np.testing.assert_array_equal(p.argmax(axis=1), by_thresholds(d, cuts))
    np.testing.assert_allclose(p.sum(axis=1), 1)


def test_densities_of_skewed_diameters_are_no_worse_than_thresholds_and_honest():
    k, d = skewed_diameters(3000, 0)
    card, cuts = card_of_diameters(k, d)
    density = fit_diameter_density(d, k, card.scale)
    k, d = skewed_diameters(4000, 1)
    p = of_diameters(d, replace(card, diameter_density=density))
    right = p.argmax(axis=1) == k
    assert right.mean() > (by_thresholds(d, cuts) == k).mean() - 0.01
    assert expected_calibration_error(p.max(axis=1), right) < 0.05


def test_a_larger_diameter_never_speaks_for_a_smaller_class():
    """Also where a class has an island of flat isomers."""
    rng = np.random.default_rng(0)
    k, d = skewed_diameters(1000, 0)
    d = np.where((k == 2) & (rng.random(1000) < 0.2), 1.9, d)
    card = replace(CARD, diameter_density=fit_diameter_density(d, k, REFERENCE))
    p = of_diameters(np.geomspace(0.5, 4, 300), card)
    assert (np.diff(p @ np.arange(5)) > -0.05).all()  # the grid is coarse
    assert (np.diff(p.argmax(axis=1)) >= 0).all()


def test_densities_move_with_the_means_of_the_card():
    k, d = skewed_diameters(3000, 0)
    card, _ = card_of_diameters(k, d)
    card = replace(card, diameter_density=fit_diameter_density(d, k, card.scale))
    wider = replace(card.scale, log_diameter=tuple(np.array(card.scale.log_diameter) + 0.1))
    np.testing.assert_allclose(
        of_diameters(d, card), of_diameters(d * np.exp(0.1), replace(card, scale=wider)), atol=1e-9
    )


@given(st.integers(1, 40), st.integers(0, 100))
def test_densities_are_normalised_and_far_diameters_are_of_the_outer_classes(n, seed):
    k, d = skewed_diameters(n, seed)
    reference = REFERENCE
    density = np.array(fit_diameter_density(d, k, reference))
    assert (density >= 0).all()
    np.testing.assert_allclose(density.sum(axis=1) * np.diff(RESIDUALS)[0], 1, atol=0.02)
    card = replace(CARD, diameter_density=tuple(map(tuple, density.tolist())))
    p = of_diameters(np.array([0.2, 6.0, np.nan, 0.0]), card)
    np.testing.assert_array_equal(p[:2].argmax(axis=1), [0, 4])
    assert np.isnan(p[2:]).all()


def test_the_locked_mixture_does_not_mind_the_gain_and_the_intensity_does():
    k, known = measured(scale=40.0)
    assert (ESTIMATORS["constrained mixture"](known).argmax(axis=1) == k).mean() > 0.95
    assert (ESTIMATORS["intensity"](known).argmax(axis=1) == k).mean() < 0.4


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 1000), doubt=st.floats(0, 5), certainty=st.floats(0.05, 1))
def test_a_pool_is_normalised_and_doubt_takes_confidence_away(seed, doubt, certainty):
    rng = np.random.default_rng(seed)
    a, b = rng.dirichlet(np.ones(5), 20), rng.dirichlet(np.ones(5), 20)
    b[:4] = np.nan
    weights = np.array([0.8, 0.4, doubt, *np.zeros(5)])
    unsure, sure = (pooled(a, b, np.full(20, c), weights) for c in (certainty, 1.0))
    np.testing.assert_allclose(unsure.sum(axis=1), 1)
    assert (unsure.max(axis=1) <= sure.max(axis=1) + 1e-12).all()
    np.testing.assert_array_equal(unsure.argmax(axis=1), sure.argmax(axis=1))


def test_where_the_mixture_is_silent_the_network_speaks_alone():
    _, known = measured(touching=5)
    alone = replace(CARD, combination=Combination(1.0, 0.6, (0.0,) * 5, 0.0))
    p = combination(replace(known, card=alone))
    np.testing.assert_allclose(p[:5], known.network[:5], atol=1e-6)
    assert np.abs(p[5:] - known.network[5:]).max() > 0.1


@pytest.mark.parametrize("size", [12, 25, 48, 62, 110])
def test_sizes_between_and_beyond_the_classes_are_counted(size):
    _, known = measured()
    table = known.table.copy()
    table["integrated_intensity"] = 1.02 * size * known.scale.intensity_per_atom
    count = count_atoms(replace(known, table=table))
    np.testing.assert_allclose(count[:, 0], size, rtol=0.03)
    assert (count[:, 1] < size).all() and (count[:, 2] > size).all()


def test_touching_clusters_are_counted_by_the_network():
    k, known = measured(touching=2)
    count = count_atoms(replace(known, network=np.eye(5)[k]))
    np.testing.assert_allclose(count[:2, 0], SIZES[k[:2]])
    np.testing.assert_allclose(count[:2, 2] / count[:2, 0], np.exp(0.3))


def test_half_of_a_cluster_that_looks_like_the_whole_one_is_contradicted():
    k, known = measured(touching=4)
    known.table.loc[:1, "integrated_intensity"] /= 2
    known = replace(known, network=np.eye(5)[k])
    deviation = touching_deviation(known)
    assert (deviation[:2] > MAX_TOUCHING_DEVIATION).all()
    assert (deviation[2:4] < MAX_TOUCHING_DEVIATION).all()
    assert np.isnan(deviation[4:]).all()
    np.testing.assert_allclose(count_atoms(known)[:2, 0], SIZES[k[:2]] / 2, rtol=0.2)


def test_a_whole_cluster_of_far_fewer_atoms_than_any_class_is_of_no_class():
    _, known = measured()
    atoms = np.array([3, 7, 12, 19])  # of the first clusters
    known.table.loc[:3, "integrated_intensity"] = 1.02 * atoms * known.scale.intensity_per_atom
    known = replace(known, card=replace(CARD, ood_limit=1.0))
    tensors = {"ood.mean": np.zeros((5, 4)), "ood.whitening": np.eye(4)}
    score, _ = out_of_distribution(known, np.zeros((len(known.table), 4)), tensors)
    assert (score[:4] > 1).tolist() == [True, True, False, False]
    assert score[0] > 2 * score[1] and not (score[4:] > 1).any()
    # Of one that the border cuts, a part of the intensity is missing.
    known.table.loc[:3, "touches_border"] = True
    score, _ = out_of_distribution(known, np.zeros((len(known.table), 4)), tensors)
    assert not (score > 1).any()


def test_disagreement_counts_those_that_say_otherwise():
    _, known = measured(touching=1)
    label = np.array(CLASSES, object)[ESTIMATORS["diameter"](known).argmax(axis=1)]
    network = np.eye(5)[(ESTIMATORS["diameter"](known).argmax(axis=1) + 1) % 5]
    out = opinions(replace(known, network=network), label)
    assert out["label_mixture"].iloc[0] == ""
    assert out["disagreement"].iloc[0] == pytest.approx(0.5)
    assert (out["label_diameter"] == label).all()
    agree = out["label_mixture"][1:] == label[1:]
    np.testing.assert_allclose(out["disagreement"][1:], np.where(agree, 1 / 3, 2 / 3))


# ---- what is concluded


def test_conclusions_go_into_the_table_and_corrections_stay(tiny_model):
    classifier = load_classifier(tiny_model, "cpu")
    bare = type(classifier)(
        replace(classifier.card, scale=None, ood_limit=1.0),
        {f"network.{k}": v.numpy() for k, v in classifier.network.state_dict().items()}
        | classifier.ood_tensors,
        classifier.device,
    )
    table = tables.conform(
        pd.DataFrame(
            {
                "image": ["a"] * 4,
                "cluster_id": [1, 2, 3, 4],
                "y_px": 0.0,
                "x_px": 0.0,
                "diameter_nm": 1.0,
                "label_corrected": ["", "Pt70", "", ""],
            }
        )
    )
    p = np.array([[0.9, 0.1], [0.8, 0.2], [0.6, 0.4], [np.nan, np.nan]])
    embedding = np.zeros((4, 32))
    embedding[1, 0], embedding[2, 0] = 0.3, 1.5
    embedding[3] = np.nan
    done = assign_labels(table, bare, Prediction(p, embedding, {}), None)
    tables.validate(done)
    assert done["label_predicted"].tolist() == ["Pt19", "Pt19", "unknown", ""]
    assert done["label"].tolist() == ["Pt19", "Pt70", "unknown", ""]
    assert done["p_Pt19"].tolist()[:3] == [0.9, 0.8, 0.6]
    assert done["confidence"].tolist()[:3] == [0.9, 0.8, 0.0]
    np.testing.assert_allclose(done["ood_score"][:3], [0, 0.3, 1.5], atol=1e-6)
    assert done["label_network"].tolist() == ["Pt19", "Pt19", "Pt19", ""]
    assert done["model_id"].iloc[0] == bare.card.model_id
    again = assign_labels(done, bare, Prediction(p, embedding, {}), None)
    pd.testing.assert_frame_equal(again, done)
    unmeasured = table.assign(diameter_nm=[np.nan, np.nan, 1.0, 1.0])
    done = assign_labels(unmeasured, bare, Prediction(p, embedding, {}), None)
    assert done["label_predicted"].tolist() == ["unknown", "unknown", "unknown", ""]
    assert done["label"].tolist() == ["unknown", "Pt70", "unknown", ""]
    assert done["confidence"].tolist()[:2] == [0.0, 0.0]


def test_nothing_is_concluded_of_nothing(tiny_model):
    classifier = load_classifier(tiny_model, "cpu")
    nothing = {c: np.empty((0, 32, 32), np.float32) for c in ("raw", "LCN")}
    scale = fit_image(tables.empty(), classifier.card.scale)
    done = assign_labels(tables.empty(), classifier, classifier.predict(nothing), scale)
    assert len(done) == 0
    assert "n_atoms" in done


def test_labels_of_an_uncertain_scale_are_withheld_and_probabilities_kept():
    analysis = synthetic_analysis(8)
    table = analysis.table.assign(prediction_set="Pt19|Pt30")
    table.loc[0, ["label_predicted", "label", "confidence"]] = ["unknown", "unknown", 0.0]
    table.loc[1, ["label_corrected", "label"]] = ["Pt70", "Pt70"]
    kept = withhold_labels(table, MIN_SCALE_PROBABILITY)
    pd.testing.assert_frame_equal(kept, table)
    found = withhold_labels(table, 0.3)
    assert found["label_predicted"].tolist() == ["unknown", *[""] * 7]
    assert found["label"].tolist() == ["unknown", "Pt70", *[""] * 6]
    assert found["confidence"].isna().tolist() == [False, *[True] * 7]
    same = [c for c in table if c.startswith("p_") or c == "prediction_set"]
    pd.testing.assert_frame_equal(found[same], table[same])
    tables.validate(found)
    assert (withhold_labels(table, 0.9, limit=0.95)["label_predicted"] == "").sum() == 7
    assert (withhold_labels(table, np.nan)["label_predicted"] == "").sum() == 7


def test_prediction_sets_hold_the_best_and_have_no_gaps():
    classes = ("Pt19", "Pt30", "Pt41", "Pt55", "Pt70")
    gap, none = [0.4, 0.0, 0.5, 0.1, 0.0], [np.nan] * 5
    assert prediction_sets(np.array([gap, none]), 0.2, classes).tolist() == ["Pt19|Pt30|Pt41", ""]
    flat = np.array([[0.3, 0.3, 0.4, 0.0, 0.0]])
    assert prediction_sets(flat, 0.99, classes).tolist() == ["Pt41"]
    assert len(prediction_sets(np.empty((0, 5)), 0.2, classes)) == 0


@given(
    arrays(float, st.tuples(st.integers(1, 20), st.integers(1, 6)), elements=st.floats(0, 1)),
    st.floats(0, 1),
)
def test_prediction_sets_are_those_found_one_by_one(p, threshold):
    classes = [f"Pt{i}" for i in range(1, p.shape[1] + 1)]
    for row, said in zip(p, prediction_sets(p, threshold, classes), strict=True):
        wanted = [i for i, x in enumerate(row) if x >= threshold or x == row.max()]
        assert said == "|".join(classes[wanted[0] : wanted[-1] + 1])


def test_rival_scales_widen_the_interval_of_a_count():
    _, known = measured()
    rival = replace(
        known.scale,
        weight=np.array([0.7, 0.3]),
        shift=np.stack([known.scale.shift[0], known.scale.shift[0] + [0.4, 0.0]]),
        shares=np.repeat(known.scale.shares[:1], 2, axis=0),
        spread=np.repeat(known.scale.spread[:1], 2, axis=0),
    )
    one, two = count_atoms(known), count_atoms(replace(known, scale=rival))
    np.testing.assert_allclose(two[:, 0], one[:, 0])
    np.testing.assert_allclose(two[:, 1], one[:, 1] * np.exp(-0.4), rtol=0.06)
    np.testing.assert_allclose(two[:, 2], one[:, 2], rtol=0.02)


def test_larger_classes_that_are_not_brighter_give_no_count():
    _, known = measured()
    mixed = replace(REFERENCE, log_intensity=tuple(np.log([19, 45, 41, 55, 70])))
    scale = replace(known.scale, reference=mixed)
    assert np.isnan(count_atoms(replace(known, scale=scale))[:, 0]).all()
