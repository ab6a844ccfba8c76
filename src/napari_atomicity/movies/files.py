"""The files of movies: tracks, events, dwell times and drift as tables, rates as JSON."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from ..analysis import Analysis
from ..io.files import write_json
from ..io.tables import write_table
from ..micrograph import Micrograph
from ..progress import Progress, Stop
from .following import Movie, movie_of, track_clusters
from .tracks import is_tracked

TABLES = ("tracks.csv", "events.csv", "dwell_times.csv", "drift.csv")
SUMMARY = "movies.json"
FILES = (*TABLES, SUMMARY)


def averaged(
    micrograph: Micrograph,
    frames: int | str | None,
    progress: Progress | None = None,
    stop: Stop | None = None,
) -> Micrograph:
    """A stack with its frames averaged as asked for; anything else as it is."""
    if frames is None or micrograph.n_frames < 2:
        return micrograph
    from .averaging import average_frames

    return average_frames(micrograph, frames, progress=progress, stop=stop)


def followed(
    analysis: Analysis, progress: Progress | None = None, stop: Stop | None = None
) -> Analysis:
    """A stack with its clusters linked over the frames; a single image as it is."""
    if analysis.micrograph.n_frames < 2:
        return analysis
    return track_clusters(analysis, progress=progress, stop=stop)


def found_in(
    analysis: Analysis, progress: Progress | None = None, stop: Stop | None = None
) -> Movie | None:
    """What is known over time; None of a single image."""
    return movie_of(analysis, progress=progress, stop=stop) if is_tracked(analysis) else None


def movie_tables(movies: Sequence[Movie]) -> dict[str, pd.DataFrame]:
    """File name → table of all movies below each other; nothing without any movie."""
    if not movies:
        return {}
    parts: dict[str, list[pd.DataFrame]] = {name: [] for name in TABLES}
    for movie in movies:
        drift = movie.drift.table(movie.image, movie.frame_time_s)
        for name, table in zip(
            TABLES, (movie.table, movie.events, movie.dwells, drift), strict=True
        ):
            parts[name].append(table)
    # empty tables would let columns forget what they hold
    return {
        name: pd.concat([t for t in found if len(t)] or found[:1], ignore_index=True)
        for name, found in parts.items()
    }


def write_movies(movies: Sequence[Movie], folder: Path) -> list[Path]:
    """Write `FILES`; those of an earlier run go where there is no movie any more."""
    folder = Path(folder)
    tables = movie_tables(movies)
    if not movies:
        for name in FILES:
            (folder / name).unlink(missing_ok=True)
        return []
    files = [write_table(table, folder / name) for name, table in tables.items()]
    write_json(folder / SUMMARY, {movie.image: movie.summary() for movie in movies})
    return [*files, folder / SUMMARY]
