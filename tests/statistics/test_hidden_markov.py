"""The recursions beside all paths, one by one."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given, settings, strategies as st

from napari_atomicity.statistics.hidden_markov import (
    change_of_rate,
    fit_rate,
    log_likelihoods,
    rate_of_change,
    smooth,
)


def by_enumeration(emissions, change, initial):
    """Posterior, probability of every path, log-likelihood: by going through all paths."""
    n, k = emissions.shape
    p = np.zeros((n, k))
    paths = {}
    for path in itertools.product(range(k), repeat=n):
        weight = initial[path[0]] * emissions[0, path[0]]
        for t in range(1, n):
            step = 1 - change if path[t] == path[t - 1] else change / (k - 1)
            weight *= step * emissions[t, path[t]]
        paths[path] = weight
        p[np.arange(n), path] += weight
    return p / p.sum(axis=1, keepdims=True), paths, np.log(sum(paths.values()))


@st.composite
def chains(draw):
    k = draw(st.integers(2, 4))
    number = st.floats(1e-6, 1.0)
    tracks = [
        np.array(draw(st.lists(st.lists(number, min_size=k, max_size=k), min_size=1, max_size=5)))
        for _ in range(draw(st.integers(1, 3)))
    ]
    gaps = draw(st.booleans())
    for track in tracks:
        if gaps and len(track) > 2:
            track[1] = 1.0  # nothing was seen
    initial = np.array(draw(st.lists(st.floats(0.01, 1), min_size=k, max_size=k)))
    return tracks, draw(st.floats(1e-4, 1 - 1 / k)), initial / initial.sum()


@settings(deadline=None, max_examples=60)
@given(chains())
def test_posteriors_and_paths_are_those_of_all_paths(case):
    tracks, change, initial = case
    for track, found in zip(tracks, smooth(tracks, change, initial), strict=True):
        scale = np.log(track.max(axis=1)).sum()  # emissions count up to a factor per frame
        posterior, paths, log_likelihood = by_enumeration(track, change, initial)
        np.testing.assert_allclose(found.posterior, posterior, atol=1e-9)
        assert found.log_likelihood + scale == pytest.approx(log_likelihood, abs=1e-8)
        best = max(paths.values())
        assert paths[tuple(found.path.tolist())] == pytest.approx(best, rel=1e-9)


@settings(deadline=None, max_examples=30)
@given(chains())
def test_the_likelihood_of_a_grid_is_that_of_each_of_its_values(case):
    tracks, change, initial = case
    grid = log_likelihoods(tracks, np.array([0.01, change]), initial)
    for row, q in zip(grid, (0.01, change), strict=True):
        one_by_one = [s.log_likelihood for s in smooth(tracks, q, initial)]
        np.testing.assert_allclose(row, one_by_one, atol=1e-9)


@settings(deadline=None)
@given(st.integers(2, 8), st.floats(1e-6, 3))
def test_rate_and_change_are_each_others_inverse(k, rate):
    assert rate_of_change(change_of_rate(rate, k), k) == pytest.approx(rate, rel=1e-6)


def test_two_short_steps_are_one_long_one():
    """The process in continuous time: a gap of two frames is a step of twice the time."""
    rate, k = 0.3, 5
    q = change_of_rate(rate, k)
    twice = (1 - q) ** 2 + q**2 / (k - 1)
    assert 1 - twice == pytest.approx(change_of_rate(2 * rate, k))


def seen_of(states, right, rng, k):
    """Emissions of a classifier that is right with a known probability, and says so."""
    wrong = rng.random(len(states)) >= right
    says = np.where(wrong, (states + rng.integers(1, k, len(states))) % k, states)
    p = np.full((len(states), k), (1 - right) / (k - 1))
    p[np.arange(len(states)), says] = right
    return p


def simulated(change, n_tracks, n_frames, k, right, seed):
    rng = np.random.default_rng(seed)
    tracks, truth = [], []
    for _ in range(n_tracks):
        jumps = rng.random(n_frames) < change
        jumps[0] = False
        moves = np.where(jumps, rng.integers(1, k, n_frames), 0)
        states = (rng.integers(k) + np.cumsum(moves)) % k
        truth.append(states)
        tracks.append(seen_of(states, right, rng, k))
    return tracks, truth


def test_the_rate_is_found_and_labels_get_better():
    tracks, truth = simulated(0.02, 60, 60, 5, 0.8, seed=3)
    fit, shares = fit_rate(tracks)
    assert fit.low < 0.02 < fit.high
    assert fit.change == pytest.approx(0.02, rel=0.35)
    assert shares.sum() == pytest.approx(1)
    found = smooth(tracks, fit.change, shares)
    before = np.mean([e.argmax(axis=1) == t for e, t in zip(tracks, truth, strict=True)])
    after = np.mean([f.path == t for f, t in zip(found, truth, strict=True)])
    assert before < 0.83
    assert after > 0.95


def test_without_a_change_the_interval_reaches_to_none():
    tracks, _ = simulated(0.0, 30, 40, 4, 0.9, seed=5)
    fit, _ = fit_rate(tracks)
    assert fit.low == 0.0
    assert fit.high < 0.01


def test_em_is_at_the_summit_of_the_posterior():
    tracks, _ = simulated(0.05, 20, 30, 3, 0.8, seed=7)
    fit, shares = fit_rate(tracks)
    around = fit.change * np.array([0.9, 1.0, 1.1])
    prior = 0.5 * np.log(around) + 19.5 * np.log1p(-around)
    height = log_likelihoods(tracks, around, shares).sum(axis=1) + prior
    assert height[1] > height[0]
    assert height[1] > height[2]


def test_the_interval_ends_where_the_posterior_has_fallen():
    tracks, _ = simulated(0.1, 150, 60, 3, 0.9, seed=13)
    fit, shares = fit_rate(tracks)
    at = np.array([fit.low, fit.change, fit.high])
    prior = 0.5 * np.log(at) + 19.5 * np.log1p(-at)
    height = log_likelihoods(tracks, at, shares).sum(axis=1) + prior
    np.testing.assert_allclose(height[1] - height[[0, 2]], 1.92, atol=0.05)
    assert fit.high - fit.low < 0.03  # with some 900 changes


def test_the_same_answer_whatever_is_computed_together():
    tracks, _ = simulated(0.1, 5, 12, 3, 0.7, seed=11)
    tracks = [t[: 3 + 2 * i] for i, t in enumerate(tracks)]
    together = smooth(tracks, 0.1)
    for track, found in zip(tracks, together, strict=True):
        (alone,) = smooth([track], 0.1)
        np.testing.assert_allclose(alone.posterior, found.posterior, atol=1e-12)
        assert (alone.path == found.path).all()


def test_long_tracks_do_not_underflow():
    rng = np.random.default_rng(0)
    track = np.clip(rng.random((3000, 4)), 1e-9, None) * 1e-30
    (found,) = smooth([track], 0.01)
    assert np.isfinite(found.posterior).all()
    np.testing.assert_allclose(found.posterior.sum(axis=1), 1)


def test_nothing_to_find():
    fit, _ = fit_rate([])
    assert (fit.change, fit.steps) == (0.0, 0)
    assert smooth([], 0.1) == []
    fit, _ = fit_rate([np.ones((1, 3))])
    assert fit.change == 0.0


def test_changes_beyond_chance_are_refused():
    with pytest.raises(ValueError, match="chance"):
        smooth([np.ones((3, 2))], 0.6)


@pytest.mark.parametrize("bad", [[[0.0, 0.0]], [[np.nan, 1.0]], [[-1.0, 1.0]]])
def test_what_is_no_likelihood_is_refused(bad):
    with pytest.raises(ValueError, match="emissions"):
        smooth([np.array(bad)], 0.1)
