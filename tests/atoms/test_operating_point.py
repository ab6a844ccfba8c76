"""Thresholds are the best ones, and expectations what they would be over many draws."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, strategies as st
from hypothesis.extra import numpy as hnp

from napari_atomicity.atoms.finding import operating_point as op

probabilities = hnp.arrays(
    float, st.integers(1, 40), elements=st.floats(0, 1).map(lambda p: round(p, 2))
)


def expected_f1(p: np.ndarray, threshold: float, recall: float) -> float:
    chosen = p[p >= threshold]
    return 2 * chosen.sum() / (len(chosen) + p.sum() / recall)


@given(probabilities, st.floats(0.3, 1.0))
def test_the_threshold_is_the_best_of_all(p, recall):
    threshold = op.best_threshold(p, recall)

    if p.max() <= 0:
        assert threshold == 1.0
        return
    best = max(expected_f1(p, t, recall) for t in np.unique(p))
    assert expected_f1(p, threshold, recall) == pytest.approx(best)
    assert op.expected(p, threshold, recall).f1 == pytest.approx(best)


@given(probabilities, st.floats(0, 1))
def test_a_precision_is_kept_with_as_many_as_possible(p, precision):
    threshold = op.threshold_at_precision(p, precision)

    allowed = [t for t in np.unique(p) if p[p >= t].mean() >= precision - 1e-12]
    assert (p >= threshold).sum() == max(((p >= t).sum() for t in allowed), default=0)


def test_expectations_are_those_of_many_draws():
    rng = np.random.default_rng(0)
    p = rng.uniform(0, 1, 200)
    marked = rng.random((4000, 200)) < p

    worth = op.expected(p, 0.4)

    chosen = p >= 0.4
    right = marked[:, chosen].sum(1)
    assert worth.precision == pytest.approx(right.mean() / chosen.sum(), abs=0.005)
    assert worth.recall == pytest.approx((right / marked.sum(1)).mean(), abs=0.005)
    f1 = 2 * right / (chosen.sum() + marked.sum(1))
    assert worth.f1 == pytest.approx(f1.mean(), abs=0.005)


def test_the_calibration_finds_the_law_of_the_marks():
    rng = np.random.default_rng(1)
    score = rng.normal(0, 2, 20_000)
    right = rng.random(20_000) < 1 / (1 + np.exp(-(0.7 * score - 0.4)))

    fitted = op.fit_calibration(score, right, missed=1000)

    assert fitted.slope == pytest.approx(0.7, abs=0.05)
    assert fitted.offset == pytest.approx(-0.4, abs=0.06)
    assert fitted.candidate_recall == pytest.approx(right.sum() / (right.sum() + 1000))
    p = fitted(score)
    for low in np.arange(0, 1, 0.2):
        part = (p >= low) & (p < low + 0.2)
        assert right[part].mean() == pytest.approx(p[part].mean(), abs=0.03)


def test_finer_pixels_have_a_law_of_their_own():
    rng = np.random.default_rng(2)
    score, fine = rng.normal(0, 2, 40_000), np.repeat([0.0, 0.9], 20_000)
    law = (1.5 - 0.5 * fine) * score + 0.4 + 0.6 * fine
    right = rng.random(40_000) < 1 / (1 + np.exp(-law))

    fitted = op.fit_calibration(score, right, fineness=fine)

    for at, slope, offset in ((0.0, 1.5, 0.4), (0.9, 1.05, 0.94), (0.45, 1.275, 0.67)):
        here = fitted.at(at)
        assert (here.slope, here.offset) == pytest.approx((slope, offset), abs=0.06)
    assert fitted.at(3.0) == fitted.at(0.9)  # nothing is known beyond
    assert fitted.at(-1.0) == fitted.at(0.0)


def test_without_other_pixels_fineness_changes_nothing():
    rng = np.random.default_rng(3)
    score = rng.normal(0, 2, 3000)
    right = rng.random(3000) < 1 / (1 + np.exp(-score))

    fitted = op.fit_calibration(score, right)

    assert fitted.at(1.0) == fitted.at(0.0)


@given(probabilities, st.floats(0.05, 0.95), st.floats(0, 1))
def test_the_operating_point_lies_between_the_own_and_the_usual(p, usual, weight):
    own = op.best_threshold(p)

    point = op.OperatingPoint(usual, weight)(p)

    low, high = sorted((own, usual))
    assert low - 1e-5 <= point <= high + 1e-5
    assert op.OperatingPoint(usual, 0.0)(p) == pytest.approx(usual)
    assert op.OperatingPoint(usual, 1.0)(p) == pytest.approx(own, abs=1e-5)
    assert op.OperatingPoint()(p) == own


@pytest.mark.parametrize("right", [np.zeros(5, bool), np.ones(5, bool)])
def test_one_kind_alone_calibrates_nothing(right):
    with pytest.raises(ValueError, match="right and wrong"):
        op.fit_calibration(np.arange(5.0), right)


def test_nothing_to_report():
    assert op.best_threshold(np.empty(0)) == 1.0
    assert op.threshold_at_precision(np.empty(0), 0.9) == 1.0
    assert np.isnan(op.expected(np.empty(0), 0.5).precision)
    with pytest.raises(ValueError, match="between 0 and 1"):
        op.threshold_at_precision(np.array([0.5]), 1.5)
