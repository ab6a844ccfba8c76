"""One-to-one matching of points: against brute force, and against the script that scores."""

from __future__ import annotations

import importlib.util
from itertools import permutations
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings, strategies as st
from scipy.optimize import linear_sum_assignment

from napari_atomicity.core.errors import AtomicityError
from napari_atomicity.statistics.matching import f1_of, match, match_boxes

# A coarse grid makes ties, exact distances and coinciding points likely.
places = st.lists(st.tuples(st.integers(0, 6), st.integers(0, 6)), max_size=5)


def best(a: np.ndarray, b: np.ndarray, tolerance: float) -> tuple[int, float]:
    """Most pairs and then least total distance, by trying everything."""
    if len(a) > len(b):
        a, b = b, a
    found = (0, 0.0)
    for order in permutations(range(len(b)), len(a)):
        d = [float(np.linalg.norm(a[i] - b[j])) for i, j in enumerate(order)]
        d = [x for x in d if x <= tolerance * (1 + 1e-9)]
        found = max(found, (len(d), -sum(d)))
    return found[0], -found[1]


@settings(max_examples=150, deadline=None)
@given(places, places, st.sampled_from([0.5, 1.0, 2**0.5, 2.0, 9.0]))
def test_it_is_the_best_of_all_matchings(first, second, tolerance):
    a, b = (np.array(p, float).reshape(-1, 2) for p in (first, second))
    pairs = match(a, b, tolerance)
    number, total = best(a, b, tolerance)
    assert len(pairs) == number
    assert pairs.distance.sum() == pytest.approx(total)
    assert len(set(pairs.first)) == len(set(pairs.second)) == len(pairs)
    np.testing.assert_allclose(
        pairs.distance, np.linalg.norm(a[pairs.first] - b[pairs.second], axis=1)
    )
    assert (pairs.distance <= tolerance * (1 + 1e-9)).all()


@settings(max_examples=50, deadline=None)
@given(places, places, st.floats(0.3, 4))
def test_it_does_not_matter_which_set_comes_first(first, second, tolerance):
    a, b = (np.array(p, float).reshape(-1, 2) for p in (first, second))
    there, back = match(a, b, tolerance), match(b, a, tolerance)
    assert len(there) == len(back)
    assert there.distance.sum() == pytest.approx(back.distance.sum())


def test_more_pairs_go_before_shorter_ones():
    # The exact match of the second would leave the first alone.
    pairs = match(np.array([[0.0, 0], [0, 1]]), np.array([[0.0, 1], [0, 1.9]]), 1.0)
    assert pairs.first.tolist() == pairs.second.tolist() == [0, 1]


def test_a_distance_equal_to_the_tolerance_counts():
    assert len(match(np.array([[0.0, 0.0]]), np.array([[0.0, 0.1 + 0.2]]), 0.3)) == 1
    assert len(match(np.array([[0.0, 0.0]]), np.array([[0.0, 0.3001]]), 0.3)) == 0


def test_many_points_in_one_heap_are_no_obstacle():
    # All of them are joined through allowed pairs, and a dense table would take 3 GB.
    rng = np.random.default_rng(0)
    a = rng.uniform(0, 100, (20_000, 2))
    order = rng.permutation(len(a))
    pairs = match(a, a[order] + rng.normal(0, 0.01, a.shape), 0.6)
    assert len(pairs) == len(a)
    assert (order[pairs.second] == pairs.first).mean() > 0.99


@pytest.mark.parametrize("tolerance", [0, -1, np.nan, np.inf])
def test_tolerances_that_make_no_sense(tolerance):
    with pytest.raises(ValueError, match="tolerance"):
        match(np.zeros((1, 2)), np.zeros((1, 2)), tolerance)


@pytest.mark.parametrize("points", [np.zeros((2, 3)), np.zeros(4), [[0.0, np.nan]]])
def test_points_that_are_none(points):
    with pytest.raises(AtomicityError):
        match(points, np.zeros((1, 2)), 1.0)


def test_no_points_make_no_pairs():
    assert len(match(np.zeros((0, 2)), np.zeros((3, 2)), 1.0)) == 0
    assert len(match_boxes([], [])) == 0
    assert np.isnan(f1_of(0, 0, 0)) and f1_of(1, 1, 3) == 0.5


def test_it_is_the_rule_of_the_shared_script(shared):
    spec = importlib.util.spec_from_file_location("score_points", shared / "score_points.py")
    script = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(script)
    labels = sorted((shared / "atoms_ptnc" / "labels").glob("*.csv"))
    rng = np.random.default_rng(0)
    for path in labels[:4]:
        true = script.read_points(Path(path), 0.0293)
        found = np.concatenate(
            [true + rng.normal(0, 0.08, true.shape), rng.uniform(0, 15, (40, 2))]
        )
        for tolerance in (0.05, 0.15, 0.6):
            i, _, distance = script.match(found, true, tolerance)
            pairs = match(found, true, tolerance)
            assert len(pairs) == len(i)
            assert pairs.distance.sum() == pytest.approx(distance.sum())


# ---- boxes
def published(a: np.ndarray, b: np.ndarray) -> int:
    """The published rule in its plainest form, corners and all."""
    iou = np.zeros((len(a), len(b)))
    for i, p in enumerate(a):
        for j, q in enumerate(b):
            low, high = np.maximum(p - 10, q - 10), np.minimum(p + 11, q + 11)
            common = np.prod(np.maximum(high - low, 0))
            iou[i, j] = common / (2 * 21**2 - common)
    i, j = linear_sum_assignment(1 - iou)
    return int((iou[i, j] > 0.5).sum())


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 2**32 - 1))
def test_boxes_are_matched_as_published(seed):
    rng = np.random.default_rng(seed)
    # Of whole numbers, several assignments may be the best, with other numbers of boxes.
    a, b = (rng.uniform(0, 60, (rng.integers(0, 15), 2)) for _ in range(2))
    assert len(match_boxes(a, b)) == published(a, b)


def test_boxes_may_differ_by_seven_pixels_along_an_axis_and_not_by_eight():
    # IoU = (21 - d) / (21 + d) > 1/2 for d < 7.
    origin = np.zeros((1, 2))
    assert len(match_boxes(origin, np.array([[0, 6.99]]))) == 1
    assert len(match_boxes(origin, np.array([[0, 7.0]]))) == 0
    with pytest.raises(ValueError, match="box size"):
        match_boxes(origin, origin, size=0)
