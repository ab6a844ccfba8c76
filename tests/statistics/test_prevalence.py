"""Adjusted shares: agreement with quapy, properties, and intervals that keep their promise."""

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings, strategies as st
from scipy.optimize import minimize

from napari_atomicity.core.errors import ModelError
from napari_atomicity.core.model_card import ModelCard
from napari_atomicity.core.tables.cluster_table import ALL, conform
from napari_atomicity.statistics.intervals import bootstrap_fractions, resample_weights
from napari_atomicity.statistics.ratios.prevalence import METHODS, mixture_shares, unavailable
from napari_atomicity.statistics.ratios.ratios import class_ratios, counted

CLASSES = ("Pt19", "Pt41", "Pt70")
ADJUSTED = [name for name in METHODS if name != "counted"]


def measured(kind: np.ndarray, rng: np.random.Generator, spread: float = 0.45) -> np.ndarray:
    """(N, C) probabilities from a size measured with Gaussian error, for classes as frequent."""
    x = kind + spread * rng.normal(size=len(kind))
    p = np.exp(-((x[:, None] - np.arange(len(CLASSES))) ** 2) / (2 * spread**2))
    return p / p.sum(axis=1, keepdims=True)


def clusters(p: np.ndarray, image=None) -> pd.DataFrame:
    """A cluster table of these probabilities, in images by number."""
    table = pd.DataFrame(p, columns=[f"p_{c}" for c in CLASSES])
    table["image"] = "a.tif" if image is None else [f"{i}.tif" for i in image]
    table["cluster_id"] = np.arange(1, len(p) + 1)
    table["label"] = table["label_predicted"] = np.array(CLASSES, object)[p.argmax(axis=1)]
    table["model_id"] = CARD.model_id
    return conform(table, list(CLASSES))


def calibrated_card(n: int, seed: int = 0, replicates: int = 30) -> ModelCard:
    """A card as a calibration on n clusters of each class would fill it."""
    rng = np.random.default_rng(seed)
    kind = np.repeat(np.arange(len(CLASSES)), n)
    p = measured(kind, rng)
    confusion = np.zeros((len(CLASSES),) * 2, int)
    np.add.at(confusion, (kind, p.argmax(axis=1)), 1)
    log_p = np.log(p)

    def fitted(rows):
        def loss(x):
            z = log_p[rows] * np.exp(x[0]) + np.append(x[1:], 0)
            return (np.logaddexp.reduce(z, axis=1) - z[np.arange(len(z)), kind[rows]]).mean()

        x = minimize(loss, np.zeros(len(CLASSES)), method="L-BFGS-B").x
        return (float(np.exp(x[0])), *map(float, x[1:]), 0.0)

    drawn = rng.integers(len(kind), size=(replicates, len(kind)))
    return ModelCard(
        "made-up",
        CLASSES,
        confusion=tuple(map(tuple, confusion.tolist())),
        recalibration=tuple(fitted(rows) for rows in drawn),
        sha256="0" * 64,
    )


CARD = calibrated_card(300)


def fractions(table, method, card=CARD, **options) -> np.ndarray:
    ratios = class_ratios(table, scope=ALL, method=method, card=card, n_bootstrap=10, **options)
    return ratios.set_index("class").loc[list(CLASSES), "fraction"].to_numpy()


# ---- the oracle
@pytest.mark.parametrize("mixture", [(1 / 3, 1 / 3, 1 / 3), (0.7, 0.25, 0.05), (0.1, 0, 0.9)])
def test_expectation_maximisation_agrees_with_quapy(mixture):
    emq = pytest.importorskip("quapy.method.aggregative").EMQ
    rng = np.random.default_rng(1)
    p = measured(rng.choice(3, size=400, p=mixture), rng)
    expected, _ = emq.EM(np.full(3, 1 / 3), p, epsilon=1e-9)
    np.testing.assert_allclose(fractions(clusters(p), "em"), expected, atol=2e-4)


def test_the_confusion_matrix_adjusts_as_in_quapy():
    acc = pytest.importorskip("quapy.method.aggregative").ACC
    rng = np.random.default_rng(2)
    rates = np.array(CARD.confusion) / np.sum(CARD.confusion, axis=1, keepdims=True)
    for mixture in ((0.3, 0.3, 0.4), (0.6, 0.3, 0.1), (0.85, 0.15, 0.0)):
        p = measured(rng.choice(3, size=2000, p=mixture), rng)
        labels = np.bincount(p.argmax(axis=1), minlength=3) / len(p)
        inverted = np.linalg.solve(rates.T, labels)
        expected = acc.solve_adjustment(rates.T, labels, method="inversion", solver="minimize")
        # Within the simplex both are the inversion; at its edge they weigh the misfit differently.
        inside = inverted.min() > 0
        np.testing.assert_allclose(
            fractions(clusters(p), "confusion"), expected, atol=2e-3 if inside else 0.02
        )
        if inside:
            np.testing.assert_allclose(fractions(clusters(p), "confusion"), inverted, atol=1e-6)


@settings(deadline=None, max_examples=40)
@given(st.integers(2, 6), st.integers(1, 60), st.integers(0, 2**32 - 1))
def test_no_mixture_is_likelier(n_classes, n, seed):
    """Of the concave likelihood no gradient exceeds the mean: the condition of a maximum."""
    rng = np.random.default_rng(seed)
    likelihood = rng.dirichlet(np.full(n_classes, 0.3), (2, n)) + 1e-6
    weight = rng.poisson(1.5, (2, n)).astype(float)
    q = mixture_shares(likelihood, weight)
    np.testing.assert_allclose(q.sum(axis=1), 1)
    assert (q >= 0).all()
    for one, w, shares in zip(likelihood, weight, q, strict=True):
        if w.sum():
            gradient = (w[:, None] * one / (one @ shares)[:, None]).sum(axis=0) / w.sum()
            assert gradient.max() < 1 + 1e-7


@pytest.mark.parametrize("method", ADJUSTED)
def test_the_fraction_of_a_class_that_does_not_occur_is_zero(method):
    """It is no small number, as 3.9e-13, which a table of ratios would contain."""
    p = measured(np.zeros(60, int), np.random.default_rng(0))
    found = fractions(clusters(p), method)
    assert found[2] == 0
    assert found.sum() == pytest.approx(1)


# ---- properties
@st.composite
def tables(draw):
    n = draw(st.integers(0, 25))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    table = clusters(measured(rng.integers(3, size=n), rng), rng.integers(3, size=n))
    table["touches_border"] = rng.random(n) < 0.1
    said = rng.random(n) < 0.2
    corrected = rng.choice([*CLASSES, "Pt23", "unknown", "aggregate"], n)
    table.loc[said, "label_corrected"] = table.loc[said, "label"] = corrected[said]
    return table


@settings(deadline=None, max_examples=40)
@given(tables(), st.sampled_from(ADJUSTED))
def test_fractions_sum_to_one_and_lie_in_their_intervals(table, method):
    ratios = class_ratios(table, method=method, card=CARD, n_bootstrap=30)
    for _, block in ratios[~ratios["class"].isin(["unknown", "aggregate"])].groupby("scope"):
        if block["count"].sum() == 0:
            assert block["fraction"].isna().all()
            continue
        assert block["fraction"].sum() == pytest.approx(1)
        assert (block["fraction_low"] >= 0).all() and (block["fraction_high"] <= 1).all()
        assert (block["fraction_low"] <= block["fraction"]).all()
        assert (block["fraction"] <= block["fraction_high"]).all()
        # What was never seen may be there, and no interval is a point.
        assert (block["fraction_low"] < block["fraction_high"]).all()
    outside = ratios[ratios["class"].isin(["unknown", "aggregate"])]
    assert outside["fraction"].isna().all()


@settings(deadline=None, max_examples=20)
@given(tables(), st.sampled_from(ADJUSTED), st.integers(0, 2**32 - 1))
def test_the_order_of_rows_does_not_matter(table, method, seed):
    options = {"method": method, "card": CARD, "n_bootstrap": 20}
    key = ["scope", "class"]
    one = class_ratios(table, **options).sort_values(key, ignore_index=True)
    other = class_ratios(table.sample(frac=1, random_state=seed), **options)
    pd.testing.assert_frame_equal(one, other.sort_values(key, ignore_index=True), check_exact=True)


@pytest.mark.parametrize("method", ADJUSTED)
def test_a_seed_reproduces_the_interval_and_another_gives_another(method):
    rng = np.random.default_rng(0)
    table = clusters(measured(rng.integers(3, size=50), rng), rng.integers(3, size=50))
    options = {"method": method, "card": CARD, "n_bootstrap": 20}
    pd.testing.assert_frame_equal(
        class_ratios(table, seed=5, **options), class_ratios(table, seed=5, **options)
    )
    assert not class_ratios(table, seed=5, **options).equals(class_ratios(table, seed=6, **options))


@pytest.mark.parametrize("method", ADJUSTED)
def test_the_order_of_classes_does_not_matter(method):
    rng = np.random.default_rng(0)
    table = clusters(measured(rng.choice(3, size=60, p=[0.6, 0.3, 0.1]), rng))
    np.testing.assert_allclose(
        fractions(table, method), fractions(table, method, classes=CLASSES[::-1]), atol=1e-6
    )


@pytest.mark.parametrize("method", ADJUSTED)
def test_what_a_person_has_said_is_certain(method):
    rng = np.random.default_rng(4)
    kind = rng.choice(3, size=200, p=[0.5, 0.3, 0.2])
    table = clusters(measured(kind, rng))
    table["label"] = table["label_corrected"] = np.array(CLASSES, object)[kind]
    np.testing.assert_allclose(
        fractions(table, method), np.bincount(kind, minlength=3) / 200, atol=1e-12
    )
    # A few corrections move the fraction by themselves, and not what is made of the others.
    table.loc[40:, "label_corrected"] = ""
    table.loc[40:, "label"] = table.loc[40:, "label_predicted"]
    said = np.bincount(kind[:40], minlength=3) + 160 * fractions(table.iloc[40:], method)
    np.testing.assert_allclose(fractions(table, method), said / 200, atol=1e-6)


@pytest.mark.parametrize("method", ADJUSTED)
def test_mistakes_are_taken_back(method):
    """The mixture has classes that are mostly confused, in other shares than in calibration."""
    rng = np.random.default_rng(5)
    truth = np.array([0.75, 0.25, 0.0])
    table = clusters(measured(rng.choice(3, size=4000, p=truth), rng))
    error = {m: np.abs(fractions(table, m) - truth).max() for m in ("counted", method)}
    assert error[method] < 0.5 * error["counted"] and error[method] < 0.03


@pytest.mark.parametrize("method", ADJUSTED)
def test_a_smaller_calibration_set_widens_the_interval(method):
    rng = np.random.default_rng(6)
    table = clusters(measured(rng.integers(3, size=1500), rng), np.arange(1500) % 4)
    few, many = (
        class_ratios(table, scope=ALL, method=method, card=card, n_bootstrap=200)
        for card in (calibrated_card(25, seed=1), calibrated_card(2000, seed=1))
    )
    width = [(r["fraction_high"] - r["fraction_low"]).mean() for r in (few, many)]
    assert width[0] > 1.5 * width[1]


@pytest.mark.parametrize("method", ADJUSTED)
def test_intervals_cover_the_truth(method):
    """Images, clusters and calibration sets drawn anew: at least 90 % of nominal 95 %."""
    hits = []
    for seed in range(12):
        rng = np.random.default_rng(seed)
        card = calibrated_card(100, seed=100 + seed, replicates=15)
        for truth in ((1 / 3, 1 / 3, 1 / 3), (0.5, 0.0, 0.5), (0.8, 0.15, 0.05)):
            kind = rng.choice(3, size=160, p=truth)
            table = clusters(measured(kind, rng), np.arange(160) % 4)
            found = class_ratios(table, scope=ALL, method=method, card=card, n_bootstrap=100)
            hits += [
                low <= share <= high
                for low, high, share in zip(
                    found["fraction_low"], found["fraction_high"], truth, strict=True
                )
            ]
    assert np.mean(hits) >= 0.9


def test_clusters_are_drawn_as_their_counts_would_be():
    rng = np.random.default_rng(7)
    counts = np.array([[30, 10], [5, 25], [20, 20]])
    image = np.repeat(np.arange(3), counts.sum(axis=1))
    kind = np.concatenate([np.repeat([0, 1], row) for row in counts])
    weights = resample_weights(image, 4000, rng)
    assert (weights.sum(axis=1) > 0).all()
    drawn = weights[:, kind == 0].sum(axis=1) / weights.sum(axis=1)
    expected = bootstrap_fractions(counts, 4000, rng)[:, 0]
    assert drawn.mean() == pytest.approx(expected.mean(), abs=0.01)
    assert drawn.std() == pytest.approx(expected.std(), rel=0.08)


# ---- when it can't be done
def test_what_is_missing_is_said():
    rng = np.random.default_rng(8)
    table = clusters(measured(rng.integers(3, size=20), rng))
    bare = ModelCard("old", CLASSES, sha256="0" * 64)
    assert unavailable("counted", None) is None
    for method in ADJUSTED:
        assert unavailable(method, CARD, table[counted(table)]) is None
        assert unavailable(method, None) == "the card of the model is not available"
        assert "train the model again" in unavailable(method, bare)
        with pytest.raises(ModelError, match="the card of the model old has no"):
            class_ratios(table, method=method, card=bare)
        foreign = table.assign(model_id="another-1")
        assert "another model than made-up-00000000: another-1" in unavailable(
            method, CARD, foreign
        )
        strange = table.assign(label="Au55")
        assert "does not know the label Au55" in unavailable(method, CARD, strange)
    untested = ModelCard("m", CLASSES, confusion=((5, 0, 0), (0, 5, 0), (0, 0, 0)))
    assert unavailable("confusion", untested) == "the model m was tested on no cluster of Pt70"
    table.loc[3, "p_Pt41"] = np.nan
    assert unavailable("em", CARD, table) == "there are labels without probabilities"
    assert unavailable("confusion", CARD, table) is None
    with pytest.raises(ValueError, match="method must be one of counted, confusion, em"):
        class_ratios(table, method="magic")


def test_the_method_says_what_was_done():
    rng = np.random.default_rng(9)
    table = clusters(measured(rng.integers(3, size=20), rng))
    for method, words in (
        ("confusion", "adjusted by the confusion matrix of made-up; "),
        ("em", "expectation-maximisation of calibrated probabilities of made-up; "),
    ):
        ratios = class_ratios(table, method=method, card=CARD, n_bootstrap=10)
        over = dict(zip(ratios["scope"], ratios["method"], strict=True))
        end = "clusters and calibration, 95 %"
        assert over["a.tif"] == f"{words}Wilson with bootstrap over {end}"
        assert over[ALL] == f"{words}Wilson with bootstrap over images, {end}"
