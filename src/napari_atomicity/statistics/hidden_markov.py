"""Hidden Markov model of the classes of a cluster over time.

Each track is a chain with one hidden class per frame. Between frames the class stays with
probability 1 - q and changes to any of the other K - 1 with q / (K - 1). In continuous time this
is a process that leaves every class at the same rate λ (the equal-rates model of Jukes and Cantor
[1]_), so that over a time t

    P(stays) = 1/K + (1 - 1/K) exp(-λ t K / (K - 1)).

The observation in a frame enters by its likelihood ``emissions[..., k]``, any multiple of
p(observation | class k). Frames without a detection have equal values for all classes. The
recursions are those of Rabiner [2]_ with scaling, vectorised over tracks.

References
----------
.. [1] T. H. Jukes and C. R. Cantor, "Evolution of protein molecules" (1969).
.. [2] L. R. Rabiner, Proc. IEEE 77, 257 (1989).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from scipy.optimize import brentq

from ..core.progress import Progress, Stop, check, report

PRIOR_CHANGES = 0.5
PRIOR_STEPS = 20.0
"""Prior of the rate: equivalent to half a change in 20 steps."""
MIN_CHANGE, MAX_CHANGE = 1e-5, 0.4
"""Limits of the probability of a change per frame."""
_GRID = 48
_DROP = 0.5 * 3.841458820694124
"""Decrease of the log-likelihood at the limits of a 95 % interval: half the quantile of χ² with one
degree of freedom."""
_TOLERANCE = 1e-4
_MAX_ROUNDS = 60
_MAX_NUMBERS = 4_000_000


@dataclass(frozen=True, eq=False)
class Smoothed:
    """Posterior and most probable path of one track with T frames and K states."""

    posterior: np.ndarray  # (T, K): probability of each state given the whole track
    path: np.ndarray  # (T,): states of the most probable path (Viterbi)
    log_likelihood: float  # log-likelihood of the emissions of the track


@dataclass(frozen=True)
class RateFit:
    """Rate of class changes."""

    change: float  # probability of a change per frame
    # low, high: limits of the 95 % profile-likelihood interval; 0 where no change is compatible
    low: float
    high: float
    expected_changes: float  # expected number of changes in all tracks
    steps: int  # number of steps between frames in all tracks
    estimated: bool = True

    def rate(
        self,
        n_states: int,
        frame_time: float = 1.0,  # in s; 1 for rates per frame
    ) -> tuple[float, float, float]:  # rate, lower and upper limit
        """Return changes per cluster and unit of time, with the limits of the interval."""
        return tuple(  # type: ignore[return-value]
            rate_of_change(q, n_states) / frame_time for q in (self.change, self.low, self.high)
        )


def rate_of_change(change: float, n_states: int) -> float:
    """Convert the probability of a change per frame to the rate λ per frame.

    The rate includes changes that are reversed within a frame. Infinite where the probability is
    that of chance or above.
    """
    if n_states < 2:
        return 0.0
    chance = (n_states - 1) / n_states
    return float("inf") if change >= chance else float(-chance * np.log1p(-change / chance))


def change_of_rate(rate: float, n_states: int) -> float:
    """Convert the rate λ per frame to the probability of a change per frame."""
    if n_states < 2:
        return 0.0
    chance = (n_states - 1) / n_states
    return float(-chance * np.expm1(-rate / chance))


def smooth(
    emissions: Sequence[np.ndarray],
    change: float,
    initial: np.ndarray | None = None,
    stop: Stop | None = None,
) -> list[Smoothed]:
    """Compute the posteriors and the most probable path of every track.

    Parameters
    ----------
    emissions : sequence of ndarray of shape (T, K)
        Of each track (T, K), T ≥ 1: multiples of p(seen | state), not negative and with a positive
        one in every frame; the same in all states where nothing was seen.
    change : float
        Probability of a change per frame, 0 to (K - 1) / K.
    initial : ndarray of shape (K,), optional
        Probabilities of the states in the first frame of a track; equal if None.
    stop : callable, optional
        ``stop() -> bool``.

    Returns
    -------
    list of Smoothed
        In the order of ``emissions``.

    Raises
    ------
    ValueError
        If the emissions are not likelihoods, or a change is more probable than by chance.
    """
    out: list[Smoothed | None] = [None] * len(emissions)
    for members, stacked, lengths in _batches(emissions):
        check(stop)
        if not 0 <= change <= 1 - 1 / stacked.shape[2] + 1e-12:
            raise ValueError(
                "the probability of a change must not exceed that of chance, (K - 1) / K"
            )
        start = _initial(initial, stacked.shape[2])
        posterior, _, log_likelihood = _forward_backward(stacked, lengths, change, start)
        path = _viterbi(stacked, lengths, change, start)
        for row, member in enumerate(members):
            n = lengths[row]
            out[member] = Smoothed(posterior[row, :n], path[row, :n], float(log_likelihood[row]))
    return [one for one in out if one is not None]


def log_likelihoods(
    emissions: Sequence[np.ndarray],  # each (T, K): as in `smooth`
    changes: np.ndarray,  # (G,): probabilities of a change per frame
    initial: np.ndarray | None = None,  # (K,): as in `smooth`
) -> np.ndarray:  # (G, N): log-likelihoods
    """Compute the log-likelihood of each track for each probability of a change."""
    out = np.zeros((len(changes), len(emissions)))
    for members, stacked, lengths in _batches(emissions):
        start = _initial(initial, stacked.shape[2])
        out[:, members] = _forward_only(stacked, lengths, np.asarray(changes, float), start)
    return out


def fit_rate(
    emissions: Sequence[np.ndarray],
    progress: Progress | None = None,
    stop: Stop | None = None,
) -> tuple[RateFit, np.ndarray]:
    """Estimate the rate of changes and the initial shares by expectation–maximisation.

    The rate has a weak prior (`PRIOR_CHANGES` in `PRIOR_STEPS`) and is limited to `MIN_CHANGE` and
    `MAX_CHANGE`; the prior of the shares is one cluster of each state.

    Parameters
    ----------
    emissions : sequence of ndarray of shape (T, K)
        As in `smooth`.

    Returns
    -------
    RateFit
        With the interval in which twice the log-likelihood (and log prior) falls by 3.84.
    ndarray
        (K,) shares of the states in the first frames.
    """
    n_states = emissions[0].shape[1] if len(emissions) else 1
    steps = sum(len(e) - 1 for e in emissions)
    initial = np.full(n_states, 1 / n_states)
    if n_states < 2 or steps == 0:
        return RateFit(0.0, 0.0, 0.0, 0.0, steps), initial
    max_change = min(MAX_CHANGE, 0.95 * (n_states - 1) / n_states)
    grid = np.geomspace(MIN_CHANGE, max_change, _GRID)
    report(progress, 0, 0, "Estimating the rate of class changes")
    change = float(grid[np.argmax(_profile(emissions, grid, initial, stop))])
    moves = 0.0
    for _ in range(_MAX_ROUNDS):
        check(stop)
        moves, first = _expected(emissions, change, initial)
        after = (moves + PRIOR_CHANGES) / (steps + PRIOR_STEPS)
        after = float(np.clip(after, MIN_CHANGE, max_change))
        shares = (first + 1) / (first + 1).sum()
        has_converged = abs(after - change) <= _TOLERANCE * change
        has_converged &= bool(np.abs(shares - initial).max() <= _TOLERANCE)
        change, initial = after, shares
        if has_converged:
            break
    low, high = _interval(emissions, grid, change, initial, stop)
    return RateFit(change, low, high, moves, steps), initial


def _profile(
    emissions: Sequence[np.ndarray], grid: np.ndarray, initial: np.ndarray, stop: Stop | None
) -> np.ndarray:
    """Return the (G,) log posterior of probabilities of a change."""
    check(stop)
    prior = PRIOR_CHANGES * np.log(grid) + (PRIOR_STEPS - PRIOR_CHANGES) * np.log1p(-grid)
    return np.asarray(log_likelihoods(emissions, grid, initial).sum(axis=1) + prior)


def _interval(
    emissions: Sequence[np.ndarray],
    grid: np.ndarray,
    best: float,
    initial: np.ndarray,
    stop: Stop | None,
) -> tuple[float, float]:
    """Return where the log posterior with the maximum ``best`` has decreased by `_DROP`."""
    at_best = float(_profile(emissions, np.array([best]), initial, stop)[0])
    above = _profile(emissions, grid, initial, stop) - at_best + _DROP

    def height(log_change: float) -> float:
        at = _profile(emissions, np.exp([log_change]), initial, stop)
        return float(at[0]) - at_best + _DROP

    def crossing(below: float) -> float:
        return float(np.exp(brentq(height, np.log(below), np.log(best), xtol=_TOLERANCE)))

    # the closest points below the level on both sides
    left = np.flatnonzero((grid < best) & (above < 0))
    right = np.flatnonzero((grid > best) & (above < 0))
    low = crossing(float(grid[left[-1]])) if len(left) else 0.0
    high = crossing(float(grid[right[0]])) if len(right) else float(grid[-1])
    return low, max(high, best)


def _expected(
    emissions: Sequence[np.ndarray], change: float, initial: np.ndarray
) -> tuple[float, np.ndarray]:
    """Return the expected number of changes, and of tracks that begin in each state (K,)."""
    moves, first = 0.0, np.zeros(len(initial))
    for _, stacked, lengths in _batches(emissions):
        posterior, stays, _ = _forward_backward(stacked, lengths, change, initial)
        moves += float((lengths - 1).sum() - stays.sum())
        first += posterior[:, 0].sum(axis=0)
    return moves, first


# ---- recursions over (N, T, K): N tracks of up to T frames, the longest first
def _batches(
    emissions: Sequence[np.ndarray],
) -> Iterator[tuple[list[int], np.ndarray, np.ndarray]]:
    """Yield batches of tracks of similar lengths, with their indices and lengths."""
    order = sorted(range(len(emissions)), key=lambda i: -len(emissions[i]))
    while order:
        longest, n_states = emissions[order[0]].shape
        members = order[: max(1, _MAX_NUMBERS // (longest * n_states))]
        order = order[len(members) :]
        stacked = np.ones((len(members), longest, n_states))
        lengths = np.array([len(emissions[i]) for i in members])
        for row, i in enumerate(members):
            stacked[row, : lengths[row]] = emissions[i]
        top = stacked.max(axis=2, keepdims=True)
        if not (np.isfinite(stacked).all() and (stacked >= 0).all() and (top > 0).all()):
            raise ValueError(
                "emissions must be finite, not negative, and positive in at least one state"
            )
        yield members, stacked / top, lengths


def _initial(initial: np.ndarray | None, n_states: int) -> np.ndarray:
    return np.full(n_states, 1 / n_states) if initial is None else np.asarray(initial, float)


def _propagate(state: np.ndarray, change: np.ndarray | float) -> np.ndarray:
    """Propagate probabilities (..., K) by one frame, without a matrix.

    All other states are equivalent, and the matrix is symmetric in time.
    """
    other = change / max(state.shape[-1] - 1, 1)
    total = state.sum(axis=-1, keepdims=True)
    return np.asarray((1 - change - other) * state + other * total)


def _forward_backward(
    emissions: np.ndarray, lengths: np.ndarray, change: float, initial: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return posteriors (N, T, K), expected steps without change (N,), log-likelihood (N,)."""
    n, longest, _ = emissions.shape
    forward, scale = np.empty_like(emissions), np.ones((n, longest))
    state = initial * emissions[:, 0]
    for t in range(longest):
        if t:
            state = _propagate(forward[:, t - 1], change) * emissions[:, t]
        scale[:, t] = state.sum(axis=1)
        forward[:, t] = state / scale[:, t, None]
    inside = np.arange(longest) < lengths[:, None]
    log_likelihood = np.where(inside, np.log(scale), 0.0).sum(axis=1)

    backward = np.ones_like(emissions)
    stays = np.zeros(n)
    for t in range(longest - 2, -1, -1):
        ahead = emissions[:, t + 1] * backward[:, t + 1] / scale[:, t + 1, None]
        alive = lengths > t + 1
        same = (1 - change) * (forward[:, t] * ahead).sum(axis=1)
        stays += np.where(alive, same, 0.0)
        backward[:, t] = np.where(alive[:, None], _propagate(ahead, change), 1.0)
    posterior = forward * backward
    posterior /= posterior.sum(axis=2, keepdims=True)
    return posterior, stays, log_likelihood


def _forward_only(
    emissions: np.ndarray, lengths: np.ndarray, changes: np.ndarray, initial: np.ndarray
) -> np.ndarray:
    """Return (G, N) log-likelihoods."""
    state = np.broadcast_to(initial * emissions[:, 0], (len(changes), *emissions[:, 0].shape))
    out = np.zeros((len(changes), len(lengths)))
    for t in range(emissions.shape[1]):
        if t:
            state = _propagate(state, changes[:, None, None]) * emissions[:, t]
        scale = state.sum(axis=2)
        out += np.where(lengths > t, np.log(scale), 0.0)
        state = state / scale[..., None]
    return out


def _viterbi(
    emissions: np.ndarray, lengths: np.ndarray, change: float, initial: np.ndarray
) -> np.ndarray:
    """Return (N, T) states of the most probable path; of equal ones the last to change."""
    n, longest, n_states = emissions.shape
    with np.errstate(divide="ignore"):
        log_e, score = np.log(emissions), np.log(initial) + np.log(emissions[:, 0])
        stay, move = np.log1p(-change), np.log(change / max(n_states - 1, 1))
    came_from = np.empty((n, longest, n_states), np.int16)
    here = np.arange(n_states)
    rows = np.arange(n)
    last = np.zeros(n, int)
    for t in range(longest):
        if t:
            best = score.argmax(axis=1)
            jump = score[rows, best][:, None] + move
            stays = score + stay >= jump
            came_from[:, t] = np.where(stays, here, best[:, None])
            score = np.where(stays, score + stay, jump) + log_e[:, t]
        ends = lengths == t + 1
        last[ends] = score[ends].argmax(axis=1)
    path = np.zeros((n, longest), int)
    for t in range(longest - 1, -1, -1):
        ends = lengths == t + 1
        if t < longest - 1:
            path[:, t] = came_from[rows, t + 1, path[:, t + 1]]
        path[ends, t] = last[ends]
    return path
