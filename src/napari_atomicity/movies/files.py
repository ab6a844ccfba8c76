"""The tables of movies: tracks, events, dwell times and drift."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from ..io.tables import write_table
from .following import Movie

FILES = ("tracks.csv", "events.csv", "dwell_times.csv", "drift.csv")


def movie_tables(movies: Sequence[Movie]) -> dict[str, pd.DataFrame]:
    """File name → table of all movies below each other; nothing without any movie."""
    if not movies:
        return {}
    parts: dict[str, list[pd.DataFrame]] = {name: [] for name in FILES}
    for movie in movies:
        drift = movie.drift.table(movie.image, movie.frame_time_s)
        for name, table in zip(
            FILES, (movie.table, movie.events, movie.dwells, drift), strict=True
        ):
            parts[name].append(table)
    # empty tables would let columns forget what they hold
    return {
        name: pd.concat([t for t in found if len(t)] or found[:1], ignore_index=True)
        for name, found in parts.items()
    }


def write_movies(movies: Sequence[Movie], folder: Path) -> list[Path]:
    """Write the tables of movies; those of an earlier run go where there is no movie any more."""
    tables = movie_tables(movies)
    for name in FILES:
        if name not in tables:
            (Path(folder) / name).unlink(missing_ok=True)
    return [write_table(table, Path(folder) / name) for name, table in tables.items()]
