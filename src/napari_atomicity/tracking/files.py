"""Files of movies: tracks, events, dwell times and drift as tables, rates as JSON."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from ..core.micrograph import Micrograph
from ..core.progress import Progress, Stop
from ..io.files import plain, write_json
from ..io.tables import write_table
from ..models.analysis import Analysis
from .following import TrackedMovie, evaluate_tracks, track_clusters
from .tracks import is_tracked

TABLES = ("tracks.csv", "events.csv", "dwell_times.csv", "drift.csv")
SUMMARY = "movies.json"
FILES = (*TABLES, SUMMARY)


def average_if_stack(
    micrograph: Micrograph,
    frames: int | str | None,
    progress: Progress | None = None,
    stop: Stop | None = None,
) -> Micrograph:  # unchanged for a single image or if ``frames`` is None
    """Average the frames of a stack if requested."""
    if frames is None or micrograph.n_frames < 2:
        return micrograph
    from .averaging import average_frames

    return average_frames(micrograph, frames, progress=progress, stop=stop)


def track_if_stack(
    analysis: Analysis, progress: Progress | None = None, stop: Stop | None = None
) -> Analysis:  # unchanged for a single image
    """Track the clusters of a stack."""
    if analysis.micrograph.n_frames < 2:
        return analysis
    return track_clusters(analysis, progress=progress, stop=stop)


def analyse_if_tracked(
    analysis: Analysis, progress: Progress | None = None, stop: Stop | None = None
) -> TrackedMovie | None:
    """Analyse a movie if its clusters are tracked."""
    return evaluate_tracks(analysis, progress=progress, stop=stop) if is_tracked(analysis) else None


@dataclass(frozen=True, eq=False)
class MovieResult:
    """Output of a movie: tables by the names of their files, and a summary."""

    image: str
    tables: Mapping[str, pd.DataFrame]
    summary: Mapping[str, Any]

    @classmethod
    def of(cls, movie: TrackedMovie) -> MovieResult:
        """Make the output of a movie."""
        drift = movie.drift.table(movie.image, movie.frame_time_s)
        tables = (movie.table, movie.events, movie.dwells, drift)
        return cls(movie.image, dict(zip(TABLES, tables, strict=True)), movie.summary())

    def to_json(self) -> str:
        """Return the output as JSON, without loss of precision."""
        tables = {
            name: {
                "types": [str(dtype) for dtype in table.dtypes],
                "columns": [[str(name), values.tolist()] for name, values in table.items()],
            }
            for name, table in self.tables.items()
        }
        return json.dumps({"image": self.image, "tables": tables, "summary": plain(self.summary)})

    @classmethod
    def from_json(cls, text: str) -> MovieResult:
        """Build from `to_json`."""
        values = json.loads(text)
        tables = {}
        for name, known in values["tables"].items():
            columns = {
                column: pd.Series(entries, dtype=dtype)
                for (column, entries), dtype in zip(known["columns"], known["types"], strict=True)
            }
            tables[name] = pd.DataFrame(columns)
        return cls(values["image"], tables, values["summary"])

    def renamed(self, image: str) -> MovieResult:
        """Return a copy with another name of the image."""
        tables = {
            name: table.assign(image=image) if "image" in table else table
            for name, table in self.tables.items()
        }
        return MovieResult(image, tables, self.summary)


def _concat_tables(found: Sequence[MovieResult]) -> dict[str, pd.DataFrame]:
    if not found:
        return {}
    # empty tables would change the dtypes of columns
    parts = {name: [one.tables[name] for one in found] for name in TABLES}
    return {
        name: pd.concat([t for t in some if len(t)] or some[:1], ignore_index=True)
        for name, some in parts.items()
    }


def write_movies(movies: Sequence[TrackedMovie], folder: Path) -> list[Path]:
    """Write `FILES`; nothing without any movie."""
    return write_movie_results([MovieResult.of(movie) for movie in movies], folder)


def write_movie_results(found: Sequence[MovieResult], folder: Path) -> list[Path]:
    """Write `FILES` of earlier results; nothing without any."""
    folder = Path(folder)
    if not found:
        return []
    files = [write_table(table, folder / name) for name, table in _concat_tables(found).items()]
    write_json(folder / SUMMARY, {one.image: one.summary for one in found})
    return [*files, folder / SUMMARY]
