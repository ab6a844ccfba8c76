"""Recompute the figures of ``explanation/movies.md``: are clusters of a movie followed rightly?

    python docs/scripts/make_movies.py [--movies 200] [--images 3] [--text-only]

Everything is simulated, so that the truth is known: cluster tables as a classifier of known
confusion would give them, and frames in which the shipped model looks for clusters. What is found
is kept in ``build/movies.json``; ``--text-only`` writes the page from it.
"""

from __future__ import annotations

import argparse
import json
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from scipy.spatial import cKDTree

from movie_tables import simulate_tables
from napari_atomicity import __version__
from napari_atomicity.core.micrograph import Micrograph
from napari_atomicity.models.analysis import Analysis
from napari_atomicity.models.inference import load_classifier
from napari_atomicity.pipeline.analysis import analyse
from napari_atomicity.simulation.field_settings import FieldSettings
from napari_atomicity.simulation.imaging import Microscope, Scan
from napari_atomicity.simulation.movies import (
    Courses,
    MovieTruthSettings,
    simulate_movie,
)
from napari_atomicity.simulation.structures import library_of
from napari_atomicity.statistics.intervals import wilson_interval
from napari_atomicity.tracking import (
    average_frames,
    estimate_drift,
    evaluate_tracks,
    track_clusters,
)

HERE = Path(__file__).resolve().parents[1]
KEPT = HERE.parent / "build" / "movies.json"
PAGE = HERE / "explanation" / "movies.md"
BEGIN, END = "<!-- figures: begin -->", "<!-- figures: end -->"
SEED = 700
CLASSES = ("Pt19", "Pt30", "Pt41", "Pt55", "Pt70")
MATCHED_NM = 0.6

TABLES = {
    "right in 80 %, never changes": (0.8, MovieTruthSettings(change=0.0)),
    "right in 80 %, 0.005 per frame": (0.8, MovieTruthSettings(change=0.005)),
    "right in 80 %, 0.02 per frame": (0.8, MovieTruthSettings(change=0.02)),
    "right in 80 %, 0.05 per frame": (0.8, MovieTruthSettings(change=0.05)),
    "right in 60 %, 0.02 per frame": (0.6, MovieTruthSettings(change=0.02)),
    "right in 95 %, 0.02 per frame": (0.95, MovieTruthSettings(change=0.02)),
    "wander 0.2 nm, drift steps 0.3 nm": (
        0.8, MovieTruthSettings(change=0.01, wander_nm=0.2, drift_scatter_nm=0.3),
    ),
    "crowded (2 nm apart), 4 merges": (
        0.8, MovieTruthSettings(change=0.01, apart_nm=2.0, n_clusters=40, merges=4),
    ),
}  # fmt: skip
DOSES = (200, 400, 1200, 3000)


@dataclass(frozen=True)
class Scores:
    """How one movie was followed; shares and errors."""

    links_right: float
    links_kept: float
    drift_nm: float
    step_nm: float
    before: float
    after: float
    said: float
    change: float
    low: float
    high: float
    merges: int
    merges_found: int
    merges_false: int
    missed: float = 0.0


def matched(table: pd.DataFrame, truth: pd.DataFrame) -> np.ndarray:
    """(N,) of each cluster the row of the true one, -1 for none; each is met once."""
    out = np.full(len(table), -1)
    for frame, rows in table.groupby("frame").indices.items():
        there = np.flatnonzero(truth["frame"].to_numpy() == frame)
        if not len(there):
            continue
        places = truth[["y_nm", "x_nm"]].to_numpy()[there]
        distance, index = cKDTree(places).query(table[["y_nm", "x_nm"]].to_numpy()[rows])
        taken: set[int] = set()
        for i in np.argsort(distance, kind="stable"):
            if distance[i] <= MATCHED_NM and index[i] not in taken:
                taken.add(int(index[i]))
                out[rows[i]] = there[index[i]]
    return out


def scores(analysis: Analysis, truth: pd.DataFrame, courses: Courses) -> Scores:
    """Beside the truth: links, drift, labels, rate, merges."""
    tracked = track_clusters(analysis)
    movie = evaluate_tracks(tracked)
    table = tracked.table
    truth = truth.reset_index(drop=True)
    of_row = matched(table, truth)
    real = of_row >= 0
    true_id = np.where(real, truth["truth_id"].to_numpy()[np.maximum(of_row, 0)], -1)

    followed = table.assign(true=true_id)
    inside = followed[followed["track_id"] >= 0].sort_values(["track_id", "frame"])
    same_track = inside["track_id"].to_numpy()[1:] == inside["track_id"].to_numpy()[:-1]
    a, b = inside["true"].to_numpy()[:-1][same_track], inside["true"].to_numpy()[1:][same_track]
    known = (a >= 0) & (b >= 0)
    right = float((a == b)[known].mean()) if known.any() else np.nan
    seen = followed[real].sort_values(["true", "frame"])
    one = seen["true"].to_numpy()[1:] == seen["true"].to_numpy()[:-1]
    t0, t1 = seen["track_id"].to_numpy()[:-1][one], seen["track_id"].to_numpy()[1:][one]
    kept = float(((t0 == t1) & (t0 >= 0)).mean())

    off = movie.drift.shift_nm - courses.drift_nm
    row = pd.Index(table["cluster_id"]).get_indexer(movie.table["cluster_id"])
    whole = real[row] & ~table["touches_border"].to_numpy(bool)[row]
    true_label = truth["label"].to_numpy()[np.maximum(of_row[row], 0)]
    whole &= true_label != "aggregate"
    before = movie.table["label_predicted"].to_numpy()[whole] == true_label[whole]
    after = movie.table["label_smoothed"].to_numpy()[whole] == true_label[whole]

    found = movie.events[movie.events["event"] == "merge"]
    at = pd.Index(table["cluster_id"]).get_indexer(found["cluster_id"])
    hits = {
        (frame, other)
        for frame, _, other in courses.merges
        for f, i in zip(found["frame"], true_id[at], strict=True)
        if i == other and abs(f - frame) <= 3
    }
    return Scores(
        right, kept, float(np.sqrt((off**2).sum(axis=1).mean())),
        float(np.sqrt((np.diff(off, axis=0) ** 2).sum(axis=1).mean())), float(before.mean()),
        float(after.mean()), float(movie.table["p_smoothed"].to_numpy()[whole].mean()),
        movie.change.change, movie.change.low, movie.change.high, len(courses.merges), len(hits),
        int((movie.events["event"].isin(["merge", "split"])).sum()) - len(hits),
        1 - len(set(of_row[real].tolist())) / len(truth),
    )  # fmt: skip


def of_tables(right: float, settings: MovieTruthSettings, seed: int) -> Scores:
    """A movie of a classifier that is right in a known share, wrong words to neighbours mostly."""
    k = len(settings.classes)
    distance = np.abs(np.subtract.outer(np.arange(k), np.arange(k)))
    confusion = np.where(distance == 0, 0.0, 0.2**distance)
    confusion *= (1 - right) / confusion.sum(axis=1, keepdims=True)
    confusion += np.eye(k) * right
    table, truth, courses = simulate_tables(settings, confusion, seed)
    shape = (settings.n_frames, *(int(x / 0.2) for x in settings.extent_nm))
    noise = np.random.default_rng(seed).normal(size=shape).astype(np.float32)
    table = table.assign(y_px=table["y_nm"] / 0.2, x_px=table["x_nm"] / 0.2)
    ring = [np.zeros((3, 2))] * len(table)
    return scores(Analysis(Micrograph(noise, 0.2, "movie"), table, ring), truth, courses)


def imaging(dose: float) -> FieldSettings:
    return FieldSettings(
        pixel_size_nm=0.05,
        microscope=Microscope(dose_e_per_a2=dose),
        scan=Scan(row_jitter_px=0.2, row_noise=0.01),
        roughness=0.15,
    )


def of_images(n_movies: int) -> dict[str, list[dict[str, Any]]]:
    """The shipped model on simulated frames."""
    library = library_of(CLASSES, 12, seed=SEED)
    classifier = load_classifier("default", "cpu")
    settings = MovieTruthSettings(
        n_frames=50, n_clusters=24, change=0.01, extent_nm=(26.0, 26.0), apart_nm=2.6, merges=1,
        isomer_change=0.1,
    )  # fmt: skip
    out: dict[str, list[dict[str, Any]]] = {}
    for dose in DOSES:
        for i in range(n_movies):
            made = simulate_movie(library, settings, SEED + i, imaging(dose))
            start = time.perf_counter()
            found = analyse(made.micrograph, classifier, umap=False)
            analysed = time.perf_counter()
            result = scores(found, made.truth, made.courses)
            followed = time.perf_counter()
            by_image = estimate_drift(made.micrograph, method="image").shift_nm
            off = by_image - made.courses.drift_nm
            mean = average_frames(made.micrograph, 4)
            slow = analyse(mean, classifier, umap=False)
            out.setdefault(str(dose), []).append(
                {
                    **vars(result),
                    "true_changes": _changes(made.truth),
                    "drift_by_images_nm": float(np.sqrt((off**2).sum(axis=1).mean())),
                    "averaged": averaged_accuracy(slow, made.truth),
                    "analyse_s": analysed - start,
                    "follow_s": followed - analysed,
                }
            )
            print(f"{dose} e/Å², movie {i}: {out[str(dose)][-1]}", flush=True)
    return out


def _changes(truth: pd.DataFrame) -> float:
    """Share of the steps of clusters in the field in which the class was another."""
    rows = truth.sort_values(["truth_id", "frame"])
    same = (np.diff(rows["truth_id"]) == 0) & (np.diff(rows["frame"]) == 1)
    return float((np.diff(rows["state"]) != 0)[same].mean())


def averaged_accuracy(slow: Analysis, truth: pd.DataFrame) -> float:
    """Labels of means of four frames beside the truth of the third of them."""
    middle = truth[truth["frame"] % 4 == 2].assign(frame=lambda t: t["frame"] // 4)
    middle = middle.reset_index(drop=True)
    of_row = matched(slow.table, middle)
    good = (of_row >= 0) & ~slow.table["touches_border"].to_numpy(bool)
    label = middle["label"].to_numpy()[np.maximum(of_row, 0)]
    good &= label != "aggregate"
    return float((slow.table["label_predicted"].to_numpy() == label)[good].mean())


def measure(n_movies: int, n_images: int) -> dict[str, Any]:
    found: dict[str, Any] = {"version": __version__, "movies": n_movies, "images": n_images}
    found["tables"] = {}
    for name, (right, settings) in TABLES.items():
        start = time.perf_counter()
        settings = replace(settings, n_frames=40, n_clusters=settings.n_clusters)
        rows = [vars(of_tables(right, settings, SEED + i)) for i in range(n_movies)]
        found["tables"][name] = {"true": settings.change, "rows": rows}
        print(f"{name}: {time.perf_counter() - start:.0f} s", flush=True)
    found["frames"] = of_images(n_images)
    return found


# ---- the page
def mean(rows: list[dict[str, Any]], name: str) -> float:
    return float(np.nanmean([row[name] for row in rows]))


def percent(value: float, digits: int = 1) -> str:
    return f"{100 * value:.{digits}f} %"


def format_share(hits: int, n: int) -> str:
    low, high = wilson_interval(np.array([hits / n]), np.array([n]))
    return f"{percent(hits / n, 0)} ({100 * float(low[0]):.0f}–{100 * float(high[0]):.0f})"


def table(header: list[str], rows: list[list[str]]) -> str:
    lines = ["| " + " | ".join(header) + " |", "|" + "---|" * len(header)]
    return "\n".join([*lines, *("| " + " | ".join(row) + " |" for row in rows)])


def following(found: dict[str, Any]) -> str:
    lines = []
    for name, part in found["tables"].items():
        rows = part["rows"]
        merges = sum(r["merges"] for r in rows)
        hits = sum(r["merges_found"] for r in rows)
        false = sum(r["merges_false"] for r in rows) / len(rows)
        lines.append(
            [
                name, percent(mean(rows, "links_right"), 2), percent(mean(rows, "links_kept"), 2),
                f"{mean(rows, 'step_nm'):.3f}", f"{mean(rows, 'drift_nm'):.3f}",
                f"{hits} of {merges}" if merges else "–", f"{false:.2f}",
            ]
        )  # fmt: skip
    header = ["movies", "correct links", "links kept",
              "drift, error per frame (nm)", "from the first frame (nm)",
              "merges found", "false merges and splits per movie"]  # fmt: skip
    return table(header, lines)


def smoothing(found: dict[str, Any]) -> str:
    lines = []
    for name, part in found["tables"].items():
        rows, true = part["rows"], part["true"]
        covered = sum(r["low"] <= true <= r["high"] for r in rows)
        lines.append(
            [
                name, percent(mean(rows, "before")), percent(mean(rows, "after")),
                f"{mean(rows, 'said'):.3f}", f"{true:g}", f"{mean(rows, 'change'):.4f}",
                format_share(covered, len(rows)),
            ]
        )  # fmt: skip
    header = [
        "movies",
        "labels correct, single frames",
        "smoothed",
        "mean probability",
        "changes per step, true",
        "estimated (mean)",
        "95 % intervals that contain the true value",
    ]
    return table(header, lines)


def frames(found: dict[str, Any]) -> str:
    lines = []
    for dose, rows in found["frames"].items():
        lines.append(
            [
                dose, percent(mean(rows, "missed")), percent(mean(rows, "links_right"), 2),
                f"{mean(rows, 'drift_nm'):.3f}", f"{mean(rows, 'drift_by_images_nm'):.3f}",
                percent(mean(rows, "before")), percent(mean(rows, "after")),
                f"{mean(rows, 'said'):.3f}", percent(mean(rows, "averaged")),
                f"{mean(rows, 'true_changes'):.4f}",
                ", ".join(f"{r['change']:.3f} ({r['low']:.3f}–{r['high']:.3f})" for r in rows),
                f"{sum(r['merges_found'] for r in rows)} of {sum(r['merges'] for r in rows)}",
            ]
        )  # fmt: skip
    header = [
        "electrons per Å² and frame",
        "not detected",
        "correct links",
        "drift from clusters, error (nm)",
        "drift from images",
        "labels correct, single frames",
        "smoothed",
        "mean probability",
        "labels of averages of 4 frames",
        "changes per step, true",
        "estimated (interval), each movie",
        "merges found",
    ]
    return table(header, lines)


FIGURES = """{begin}

Made by `docs/scripts/make_movies.py`; version {version}.

### Tables of known confusion

{n} simulated movies of each kind. Each has 40 frames of 24 × 24 nm and 20 clusters, unless
stated otherwise. Clusters move by 0.03 nm per frame and the stage drifts by about 0.1 nm per
frame. 2 % of the clusters are missed, and every fifth frame has one false cluster. Labels are
wrong at random, independently in each frame. A link is a cluster in one frame and in the next
frame in which it is detected. The error of the drift includes motion that all clusters have in
common, which cannot be distinguished from drift.

{following}

{smoothing}

### Frames

{images} movies of 50 frames at each dose. Frames have 520 × 520 pixels of 0.05 nm with 24
clusters. A cluster changes its class with a probability of 0.01 per frame, and its structure or
orientation with 0.1; each movie has one merge. The shipped model detects and classifies the
clusters, whose isomers it may not have seen. It was trained on {least} to 30 000 electrons per
Å², so the first rows are outside its training range.

{frames}

A frame takes {analyse:.2f} s to analyse and {follow:.3f} s to track, on two cores that other
programs used at the same time.

{end}"""


def page(found: dict[str, Any]) -> str:
    """The page with its figures put in anew; the words around them stay."""
    rows = [r for part in found["frames"].values() for r in part]
    figures = FIGURES.format(
        begin=BEGIN,
        end=END,
        version=found["version"],
        n=found["movies"],
        images=found["images"],
        least="1200",
        following=following(found),
        smoothing=smoothing(found),
        frames=frames(found),
        analyse=mean(rows, "analyse_s") / 50,
        follow=mean(rows, "follow_s") / 50,
    )
    text = PAGE.read_text(encoding="utf-8")
    before, _, rest = text.partition(BEGIN)
    _, _, after = rest.partition(END)
    lines = "\n\n".join(
        part if part.startswith("|") else part.replace("\n", " ") for part in figures.split("\n\n")
    )
    return before + lines + after


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--movies", type=int, default=200)
    parser.add_argument("--images", type=int, default=3)
    parser.add_argument("--text-only", action="store_true", help="write the page from what is kept")
    arguments = parser.parse_args()
    if not arguments.text_only:
        KEPT.parent.mkdir(exist_ok=True)
        KEPT.write_text(json.dumps(measure(arguments.movies, arguments.images)), encoding="utf-8")
    PAGE.write_text(page(json.loads(KEPT.read_text(encoding="utf-8"))), encoding="utf-8")


if __name__ == "__main__":
    main()
