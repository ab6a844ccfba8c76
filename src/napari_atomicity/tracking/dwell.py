"""Dwell times of clusters in their labels."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd

from ..statistics.track_smoothing import Track, find_dwells

DWELL_COLUMNS = (
    "image", "track_id", "label", "first_frame", "last_frame", "frames", "duration_s",
    "beginning_seen", "end_seen",
)  # fmt: skip


def dwell_times(
    tracks: Sequence[Track], image: str = "", frame_time_s: float | None = None
) -> pd.DataFrame:
    """List the dwells of tracks: intervals of constant label.

    ``beginning_seen`` and ``end_seen`` state whether a dwell begins and ends with a change of the
    label. Otherwise it is censored: on the left if the track begins with it, on the right if the
    track ends with it.

    Parameters
    ----------
    tracks : sequence of Track
        Smoothed tracks of an image.
    image : str, optional
        Name of the image.
    frame_time_s : float, optional
        Frame time.

    Returns
    -------
    pandas.DataFrame
        `DWELL_COLUMNS`; ``frames`` includes the first and the last, ``duration_s`` is their number
        times the frame time.
    """
    rows = []
    for track in tracks:
        for part in find_dwells(track.label):
            frames = part.stop - part.start
            rows.append(
                (
                    image, track.track_id, track.label[part.start],
                    track.first_frame + part.start, track.first_frame + part.stop - 1, frames,
                    np.nan if frame_time_s is None else frames * frame_time_s,
                    part.start > 0, part.stop < len(track.rows),
                )
            )  # fmt: skip
    return pd.DataFrame(rows, columns=list(DWELL_COLUMNS))


def dwell_summary(dwells: pd.DataFrame, frame_time_s: float | None = None) -> pd.DataFrame:
    """Estimate the rate at which each label ends, and its median duration.

    The rate is that of an exponential distribution: observed ends over time at risk, with the exact
    interval of a Poisson count [1]_. Dwells without an observed beginning are included, since the
    exponential distribution has no memory. The median is the Kaplan–Meier estimate over dwells with
    an observed beginning, which assumes no distribution.

    Parameters
    ----------
    dwells : pandas.DataFrame
        From `dwell_times`.
    frame_time_s : float, optional
        Frame time.

    Returns
    -------
    pandas.DataFrame
        ``label, n, ends_seen, at_risk, rate, rate_low, rate_high, median, median_of, unit``:
        ``unit`` is "s" if the frame time is known, else "frames"; ``median_of`` is the number of
        dwells of the median, which is NaN if fewer than half have ended.

    References
    ----------
    .. [1] F. Garwood, Biometrika 28, 437 (1936).
    """
    from scipy.stats import chi2  # takes long to import, and only movies need it

    unit = 1.0 if frame_time_s is None else frame_time_s
    rows = []
    for label, mine in dwells.groupby("label", sort=True):
        ended = mine["end_seen"].to_numpy(bool)
        # a dwell with an observed end has been at risk in one more step
        steps = float((mine["frames"].to_numpy(int) - 1 + ended).sum()) * unit
        n = int(ended.sum())
        low = chi2.ppf(0.025, 2 * n) / 2 if n else 0.0
        high = chi2.ppf(0.975, 2 * n + 2) / 2
        rate = [x / steps if steps > 0 else np.nan for x in (n, low, high)]
        whole = mine["beginning_seen"].to_numpy(bool)
        lasted = mine["frames"].to_numpy(float)[whole] * unit
        rows.append(
            (
                label, len(mine), n, steps, *rate, _median(lasted, ended[whole]),
                int(whole.sum()), "frames" if frame_time_s is None else "s",
            )
        )  # fmt: skip
    return pd.DataFrame(
        rows,
        columns=[
            "label", "n", "ends_seen", "at_risk", "rate", "rate_low", "rate_high", "median",
            "median_of", "unit",
        ],
    )  # fmt: skip


def survival(lasted: np.ndarray, ended: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Compute the Kaplan–Meier survival function at the durations of observed ends.

    Parameters
    ----------
    lasted : ndarray of shape (N,)
        Durations.
    ended : ndarray of bool, shape (N,)
        Whether the end was observed; False: censored.

    Returns
    -------
    times : ndarray
        Durations of observed ends.
    survival : ndarray
        Probability of a longer duration.
    """
    from scipy.stats import CensoredData, ecdf

    if not ended.any():
        return np.empty(0), np.empty(0)
    found = ecdf(CensoredData(uncensored=lasted[ended], right=lasted[~ended])).sf
    return np.asarray(found.quantiles), np.asarray(found.probabilities)


def _median(lasted: np.ndarray, ended: np.ndarray) -> float:
    times, share = survival(lasted, ended)
    below = np.flatnonzero(share <= 0.5)
    return float(times[below[0]]) if len(below) else float("nan")
