"""How long clusters stay what they are."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd
from scipy.stats import CensoredData, chi2, ecdf

from .smoothing import Track, find_dwells

DWELL_COLUMNS = (
    "image", "track_id", "label", "first_frame", "last_frame", "frames", "duration_s",
    "beginning_seen", "end_seen",
)  # fmt: skip


def dwell_times(
    tracks: Sequence[Track], image: str = "", frame_time_s: float | None = None
) -> pd.DataFrame:
    """Every stretch of a track in one label.

    ``beginning_seen`` and ``end_seen`` say whether it began and ended by a change of the label. If
    not, the stretch was longer than it looks: it is censored on the left, because the track begins
    with it, or on the right, because the track ends with it.

    Returns
    -------
    pandas.DataFrame
        `DWELL_COLUMNS`; ``frames`` counts first and last, ``duration_s`` is as many frame times.
    """
    rows = []
    for track in tracks:
        stretches = find_dwells(track.label)
        for part in stretches:
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
    """Of each label how often it was left, and how long it lasts.

    The rate is that of an exponential distribution: ends seen over time at risk, with the exact
    interval of a Poisson count (Garwood, 1936). It needs no beginning, since an exponential
    forgets; a stretch without an end counts with the time for which it was watched. The median is
    Kaplan's and Meier's over stretches whose beginning was seen, which assumes no distribution.

    Returns
    -------
    pandas.DataFrame
        ``label, n, ends_seen, at_risk, rate, rate_low, rate_high, median, median_of, unit``:
        ``unit`` is "s" if the time from frame to frame is known, else "frames"; ``median_of`` is
        the number of stretches behind the median, which is NaN where fewer than half have ended.
    """
    unit = 1.0 if frame_time_s is None else frame_time_s
    rows = []
    for label, mine in dwells.groupby("label", sort=True):
        ended = mine["end_seen"].to_numpy(bool)
        # a stretch that was left has been at risk once more than one that was not
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
    """Kaplan's and Meier's share that lasts longer, after each time at which one ended.

    Parameters
    ----------
    lasted : ndarray of shape (N,)
        Durations.
    ended : ndarray of bool, shape (N,)
        ; False: it went on when nobody watched any more.
    """
    if not ended.any():
        return np.empty(0), np.empty(0)
    found = ecdf(CensoredData(uncensored=lasted[ended], right=lasted[~ended])).sf
    return np.asarray(found.quantiles), np.asarray(found.probabilities)


def _median(lasted: np.ndarray, ended: np.ndarray) -> float:
    times, share = survival(lasted, ended)
    below = np.flatnonzero(share <= 0.5)
    return float(times[below[0]]) if len(below) else float("nan")
