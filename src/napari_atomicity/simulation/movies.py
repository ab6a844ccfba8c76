"""Movies with known truth: clusters that wander, change and merge on a drifting stage."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import pandas as pd
from scipy import ndimage

from ..core import cluster_table as tables
from ..core.micrograph import Micrograph
from ..core.progress import Progress, Stop, check, report
from .fields import (
    FieldSettings,
    _in_line_above,
    _landed_on,
    _orient,
    _projected_diameter_nm,
    _sigma,
    _thickness,
    size_of,
)
from .imaging import record, scan_positions, scatter_atoms, scatter_carbon
from .structures import Isomer

_APPROACH = 10
"""Frames in which a cluster goes to the one that it merges with."""
_CONTACT_NM = 1.6
"""How near it is in the frame before."""


@dataclass(frozen=True)
class MovieTruthSettings:
    """What happens in a simulated movie; lengths in nm, rates per frame.

    Parameters
    ----------
    classes
        Equally likely at the beginning and after a change.
    n_frames, n_clusters
        Size of the movie.
    extent_nm
        Height and width of the field.
    frame_time_s
        Time from frame to frame.
    change
        Probability that a cluster is of another class in the next frame.
    wander_nm
        Standard deviation of a cluster's step along an axis.
    drift_nm, drift_scatter_nm
        Mean step (y, x) of the stage, and the standard deviation of its steps along an axis.
    merges
        How many pairs merge.
    isomer_change
        Probability that a cluster of the same class takes another structure or orientation.
    apart_nm
        Least distance of two centres in the first frame.
    """

    classes: tuple[str, ...] = ("Pt19", "Pt30", "Pt41", "Pt55", "Pt70")
    n_frames: int = 40
    n_clusters: int = 20
    extent_nm: tuple[float, float] = (24.0, 24.0)
    frame_time_s: float = 0.5
    change: float = 0.01
    wander_nm: float = 0.03
    drift_nm: tuple[float, float] = (0.05, 0.08)
    drift_scatter_nm: float = 0.05
    merges: int = 0
    isomer_change: float = 0.1
    apart_nm: float = 3.0


@dataclass(frozen=True, eq=False)
class Courses:
    """What really happens to N clusters in T frames.

    Parameters
    ----------
    places_nm
        (T, N, 2) on the stage: without drift.
    states
        (T, N) index of the class; -1 once it is part of another cluster.
    drift_nm
        (T, 2): zero in the first frame.
    merges
        Frame, cluster that is gone from then on, and cluster that it is part of.
    """

    places_nm: np.ndarray
    states: np.ndarray
    drift_nm: np.ndarray
    merges: tuple[tuple[int, int, int], ...] = ()

    def merged(self) -> np.ndarray:
        """(T, N) bool: whether a cluster holds a second one."""
        out = np.zeros(self.states.shape, bool)
        for frame, _, other in self.merges:
            out[frame:, other] = True
        return out


@dataclass(frozen=True, eq=False)
class SimulatedMovie:
    """A stack, and the truth: a row per cluster and frame with ``track_id``; what happened."""

    micrograph: Micrograph
    truth: pd.DataFrame
    courses: Courses


def draw_courses(settings: MovieTruthSettings, rng: np.random.Generator) -> Courses:
    """What happens, at random."""
    t, extent = settings.n_frames, np.array(settings.extent_nm)
    start = _apart(settings, rng)
    n, k = len(start), len(settings.classes)
    steps = rng.normal(0, settings.wander_nm, (t, n, 2))
    steps[0] = start
    places = np.cumsum(steps, axis=0)
    jumps = rng.random((t, n)) < settings.change
    jumps[0] = False
    moves = np.where(jumps, rng.integers(1, max(k, 2), (t, n)), 0)
    states = (rng.integers(0, k, n) + np.cumsum(moves, axis=0)) % k
    drift = rng.normal(settings.drift_nm, settings.drift_scatter_nm, (t, 2))
    drift[0] = 0
    drift = np.cumsum(drift, axis=0)
    # things wander out of a field that drifts: it is laid so that most of it stays in
    places += (extent - drift.max(axis=0) - drift.min(axis=0)) / 2 - extent / 2
    merges = _merge(settings, places, states, rng)
    return Courses(places, states, drift, tuple(merges))


def _apart(settings: MovieTruthSettings, rng: np.random.Generator) -> np.ndarray:
    """(n, 2) places at least so far apart; fewer than asked for if the field is full."""
    places: list[np.ndarray] = []
    extent = np.array(settings.extent_nm)
    for _ in range(settings.n_clusters):
        for _ in range(200):
            place = rng.uniform(0, 1, 2) * extent
            if all(np.linalg.norm(place - p) >= settings.apart_nm for p in places):
                places.append(place)
                break
    return np.array(places).reshape(-1, 2)


def _merge(
    settings: MovieTruthSettings, places: np.ndarray, states: np.ndarray, rng: np.random.Generator
) -> list[tuple[int, int, int]]:
    """Let some clusters go to their nearest neighbour and become part of it; in place."""
    t, n, _ = places.shape
    merges: list[tuple[int, int, int]] = []
    taken: set[int] = set()
    for one in rng.permutation(n):
        if len(merges) == settings.merges or t < 2 * _APPROACH + 2:
            break
        distance = np.linalg.norm(places[0] - places[0, one], axis=1)
        distance[[one, *taken]] = np.inf
        other = int(distance.argmin())
        if one in taken or not np.isfinite(distance[other]):
            continue
        taken |= {int(one), other}
        frame = int(rng.integers(_APPROACH + 1, t - _APPROACH))
        begin = frame - _APPROACH
        away = places[begin, one] - places[begin, other]
        length = float(np.linalg.norm(away))
        way = np.linspace(length, min(length, _CONTACT_NM), _APPROACH)[1:]
        for step, far in zip(range(begin + 1, frame), way, strict=True):
            places[step, one] = places[step, other] + away / length * far
        places[frame:, one] = places[frame:, other]
        states[frame:, one] = -1
        merges.append((frame, int(one), other))
    return merges


# ---- as a classifier sees it, without images
def simulate_tables(
    settings: MovieTruthSettings,
    confusion: np.ndarray,
    seed: int,
    missed: float = 0.02,
    error_nm: float = 0.02,
    false_per_frame: float = 0.2,
) -> tuple[pd.DataFrame, pd.DataFrame, Courses]:
    """A cluster table as a classifier of known confusion would give it, and the truth.

    Probabilities are what follows from the word of such a classifier by Bayes' rule if all classes
    are as likely beforehand: calibrated, and independent from frame to frame.

    Parameters
    ----------
    settings
        What happens.
    confusion
        (C, C): probability of each word (column) for each class (row).
    seed
        Of everything.
    missed
        Share of clusters that are not found.
    error_nm
        Of the places, along an axis.
    false_per_frame
        Mean number of things found that are none.

    Returns
    -------
    table, truth
        A row per thing found, and per cluster in the field; ``truth_id`` is the number of the true
        cluster in both, -1 for none.
    Courses
        What happened.
    """
    rng = np.random.default_rng(seed)
    courses = draw_courses(settings, rng)
    truth = _truth(settings, courses, "movie")
    k = len(settings.classes)
    sizes = np.array([size_of(c) for c in settings.classes], float)
    found = truth[rng.random(len(truth)) >= missed]
    parts = [found]
    for frame in range(settings.n_frames):
        m = rng.poisson(false_per_frame)
        place = rng.uniform(0, 1, (m, 2)) * settings.extent_nm
        parts.append(
            pd.DataFrame(
                {
                    "frame": frame,
                    "truth_id": -1,
                    "state": rng.integers(0, k, m),
                    "y_nm": place[:, 0],
                    "x_nm": place[:, 1],
                    "n_atoms": sizes[rng.integers(0, k, m)],
                    "diameter_nm": 1.0,
                    "merged": False,
                }
            )
        )
    table = pd.concat(parts, ignore_index=True).sort_values("frame", kind="stable")
    n, state = len(table), table["state"].to_numpy(int)
    word = np.array([rng.choice(k, p=confusion[s]) for s in state], int)
    p = confusion.T / confusion.T.sum(axis=1, keepdims=True)
    table[["y_nm", "x_nm"]] += rng.normal(0, error_nm, (n, 2))
    classes = np.array(settings.classes, object)
    label = np.where(table["merged"].to_numpy(bool), tables.AGGREGATE, classes[word])
    extra = pd.DataFrame({f"p_{c}": p[word, i] for i, c in enumerate(classes)})
    table = table.reset_index(drop=True).assign(
        image="movie",
        cluster_id=np.arange(1, n + 1),
        y_px=lambda t: t["y_nm"] / 0.04,
        x_px=lambda t: t["x_nm"] / 0.04,
        integrated_intensity=lambda t: t["n_atoms"] * rng.normal(1, 0.05, n),
        label_predicted=label,
        label=label,
    )
    table = table.join(extra)
    return tables.conform(table), truth, courses


def _truth(settings: MovieTruthSettings, courses: Courses, image: str) -> pd.DataFrame:
    """A row per cluster that is in the field, frame by frame."""
    t, n = courses.states.shape
    frame, cluster = (a.ravel() for a in np.meshgrid(np.arange(t), np.arange(n), indexing="ij"))
    at = (courses.places_nm + courses.drift_nm[:, None]).reshape(-1, 2)
    state, merged = courses.states.ravel(), courses.merged().ravel()
    there = (state >= 0) & (at > 0).all(axis=1) & (at < settings.extent_nm).all(axis=1)
    sizes = np.array([size_of(c) for c in settings.classes], float)
    atoms = sizes[np.maximum(state, 0)]
    for begins, one, other in courses.merges:
        both = (cluster == other) & (frame >= begins)
        atoms[both] += sizes[courses.states[begins - 1, one]]
    label = np.where(merged, tables.AGGREGATE, np.array(settings.classes, object)[state])
    return pd.DataFrame(
        {
            "image": image,
            "frame": frame,
            "truth_id": cluster,
            "state": state,
            "label": label,
            "y_nm": at[:, 0],
            "x_nm": at[:, 1],
            "n_atoms": atoms,
            "diameter_nm": 0.35 * np.cbrt(atoms),
            "merged": merged,
        }
    )[there].reset_index(drop=True)


# ---- as a microscope sees it
@dataclass(frozen=True)
class _Look:
    """Atoms of a cluster about its centre (n, 3) as (y, x, z) in nm, and their cross-sections."""

    atoms: np.ndarray
    weights: np.ndarray = field(default_factory=lambda: np.empty(0))


def simulate_movie(
    library: Sequence[Isomer],
    settings: MovieTruthSettings,
    seed: int,
    imaging: FieldSettings | None = None,
    name: str = "movie.tif",
    progress: Progress | None = None,
    stop: Stop | None = None,
) -> SimulatedMovie:
    """Frames of a movie by the image formation of `fields`; the same seed gives the same pixels.

    The support drifts with the clusters; noise, jitter and structures are new in every frame.

    Parameters
    ----------
    library
        Isomers of the classes.
    settings
        What happens.
    seed
        Of everything.
    imaging
        Conditions and sampling of a frame; its size follows from ``settings``.

    Raises
    ------
    Cancelled
        If ``stop()`` says so.
    """
    rng = np.random.default_rng(seed)
    courses = draw_courses(settings, rng)
    imaging = imaging or FieldSettings()
    pixel = imaging.pixel_size_nm
    shape = (int(settings.extent_nm[0] / pixel), int(settings.extent_nm[1] / pixel))
    imaging = replace(imaging, shape_px=shape)
    # the support as far as the field gets to see it
    drift_px = courses.drift_nm / pixel
    before = np.ceil(drift_px.max(axis=0)).astype(int) + 4
    after = np.ceil(-drift_px.min(axis=0)).astype(int) + 4
    wide = replace(imaging, shape_px=(shape[0] + before[0] + after[0],
                                      shape[1] + before[1] + after[1]))  # fmt: skip
    thickness = _thickness(wide, rng)
    support = scatter_carbon(thickness, pixel, imaging.microscope, rng, imaging.order)
    members = {c: [i for i in library if i.label == c] for c in settings.classes}
    looks: dict[int, _Look] = {}
    frames = np.empty((settings.n_frames, *shape), np.float32)
    diameters: dict[tuple[int, int], float] = {}
    merged_at = {(frame, other): one for frame, one, other in courses.merges}
    for t in range(settings.n_frames):
        check(stop)
        report(progress, t, settings.n_frames, "Simulating frames")
        for i in range(courses.states.shape[1]):
            state = int(courses.states[t, i])
            if state < 0:
                continue
            if (t, i) in merged_at:
                looks[i] = _both(looks[i], looks[merged_at[t, i]], rng)
                continue
            fixed = bool(courses.merged()[t, i])  # an aggregate keeps its shape
            new = t == 0 or state != courses.states[t - 1, i]
            if not fixed and (new or rng.random() < settings.isomer_change):
                looks[i] = _drawn(members[settings.classes[state]], imaging, rng)
        there = [i for i in range(courses.states.shape[1]) if courses.states[t, i] >= 0]
        points = [
            looks[i].atoms[:, :2] + courses.places_nm[t, i] + courses.drift_nm[t] for i in there
        ]
        weights = [looks[i].weights for i in there]
        for i in there:
            diameters[t, i] = _projected_diameter_nm(looks[i].atoms)
        moved = ndimage.shift(support, drift_px[t], order=3, mode="nearest")
        image = moved[before[0] : before[0] + shape[0], before[1] : before[1] + shape[1]].copy()
        image += scatter_atoms(
            shape, pixel, np.concatenate(points), np.concatenate(weights), imaging.microscope,
            scan_positions(shape, imaging.scan, rng),
        )  # fmt: skip
        frames[t] = record(np.clip(image, 0, None), pixel, imaging.microscope, imaging.scan, rng)
    truth = _truth(settings, courses, name)
    truth["diameter_nm"] = [
        diameters[k] for k in zip(truth["frame"].tolist(), truth["truth_id"].tolist(), strict=True)
    ]
    told = {"simulated": True, "seed": seed, "frame_time_s": settings.frame_time_s}
    return SimulatedMovie(Micrograph(frames, pixel, name=name, metadata=told), truth, courses)


def _drawn(members: Sequence[Isomer], imaging: FieldSettings, rng: np.random.Generator) -> _Look:
    """A cluster of one class in any structure and orientation."""
    isomer = members[int(rng.integers(len(members)))]
    atoms = _orient(isomer, rng)
    gain = 1 + imaging.channelling * np.minimum(_in_line_above(atoms), 4)
    scatter = np.exp(rng.normal(0, imaging.intensity_scatter))
    return _Look(atoms, _sigma(isomer) * scatter * gain)


def _both(first: _Look, second: _Look, rng: np.random.Generator) -> _Look:
    """Two clusters on top of each other."""
    return _Look(
        _landed_on(first.atoms, second.atoms, rng),
        np.concatenate([first.weights, second.weights]),
    )
