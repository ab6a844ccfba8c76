"""Movies with known truth: clusters that move, change and merge on a drifting stage."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import pandas as pd
from scipy import ndimage

from ..core.micrograph import Micrograph
from ..core.progress import Progress, Stop, check, report
from ..core.tables import cluster_table as tables
from .deposits import (
    count_atoms_above,
    cross_sections_nm2,
    orient_isomer,
    projected_diameter_nm,
    stack_clusters,
)
from .field_settings import FieldSettings
from .fields import draw_thickness
from .imaging import record, scan_positions, scatter_atoms, scatter_carbon
from .metals import size_of
from .structures import Isomer


# ---- truth of simulated movies: clusters that move, change and merge on a drifting stage
@dataclass(frozen=True)
class MovieTruthSettings:
    """Events of a simulated movie; lengths in nm, rates per frame."""

    # equally probable at the beginning and after a change
    classes: tuple[str, ...] = ("Pt19", "Pt30", "Pt41", "Pt55", "Pt70")
    n_frames: int = 40
    n_clusters: int = 20
    extent_nm: tuple[float, float] = (24.0, 24.0)  # height and width of the field
    frame_time_s: float = 0.5
    change: float = 0.01  # probability that a cluster is of another class in the next frame
    wander_nm: float = 0.03  # standard deviation of a cluster's step along an axis
    drift_nm: tuple[float, float] = (0.05, 0.08)  # mean step (y, x) of the stage
    drift_scatter_nm: float = 0.05  # standard deviation of the steps of the stage along an axis
    merges: int = 0  # number of pairs that merge
    # probability that a cluster of the same class takes another structure or orientation
    isomer_change: float = 0.1
    apart_nm: float = 3.0  # smallest distance of two centres in the first frame


@dataclass(frozen=True, eq=False)
class Courses:
    """True courses of N clusters in T frames."""

    places_nm: np.ndarray  # (T, N, 2): positions on the stage, without drift
    # (T, N): index of the class; -1 after a cluster has become part of another one
    states: np.ndarray
    drift_nm: np.ndarray  # (T, 2): drift of the stage; zero in the first frame
    # frame, cluster that ends in this frame, and cluster that it becomes part of
    merges: tuple[tuple[int, int, int], ...] = ()

    def merged(self) -> np.ndarray:
        """Return for each frame and cluster (T, N) whether it contains a second one."""
        out = np.zeros(self.states.shape, bool)
        for frame, _, other in self.merges:
            out[frame:, other] = True
        return out


def draw_courses(settings: MovieTruthSettings, rng: np.random.Generator) -> Courses:
    """Draw the courses of the clusters at random."""
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
    """Draw places (n, 2) with a smallest distance; fewer clusters if the field is full."""
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
    """Move some clusters to their nearest neighbour and make them part of it, in place."""
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


_APPROACH = 10
"""Frames in which a cluster goes to the one that it merges with."""
_CONTACT_NM = 1.6
"""How near it is in the frame before."""


def truth_table(settings: MovieTruthSettings, courses: Courses, image: str) -> pd.DataFrame:
    """Return the truth: a row for each frame and cluster in the field.

    The result has the columns ``frame``, ``truth_id``, ``state``, ``label`` and others.
    """
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


@dataclass(frozen=True, eq=False)
class SimulatedMovie:
    """A simulated stack and its truth."""

    micrograph: Micrograph  # the frames
    truth: pd.DataFrame
    courses: Courses


@dataclass(frozen=True)
class _Appearance:
    """Atoms of a cluster about its centre (n, 3) as (y, x, z) in nm, and their cross-sections."""

    atoms: np.ndarray
    weights: np.ndarray = field(default_factory=lambda: np.empty(0))


def simulate_movie(
    library: Sequence[Isomer],
    settings: MovieTruthSettings,
    seed: int,
    # Conditions and sampling of a frame; its size follows from ``settings``
    imaging: FieldSettings | None = None,
    name: str = "movie.tif",
    progress: Progress | None = None,
    stop: Stop | None = None,
) -> SimulatedMovie:
    """Simulate the frames of a movie as in `fields`; the same seed gives the same pixels.

    The support drifts with the clusters; noise, jitter and structures are new in every frame.
    """
    rng = np.random.default_rng(seed)
    courses = draw_courses(settings, rng)
    imaging = _with_extent(imaging or FieldSettings(), settings.extent_nm)
    drift_px = courses.drift_nm / imaging.pixel_size_nm
    support, first = _drifting_support(imaging, drift_px, rng)
    members = {c: [i for i in library if i.label == c] for c in settings.classes}
    appearances: dict[int, _Appearance] = {}
    frames = np.empty((settings.n_frames, *imaging.shape_px), np.float32)
    diameters: dict[tuple[int, int], float] = {}
    for t in range(settings.n_frames):
        check(stop)
        report(progress, t, settings.n_frames, "Simulating frames")
        _update_appearances(appearances, t, settings, courses, members, imaging, rng)
        present = np.flatnonzero(courses.states[t] >= 0).tolist()
        diameters |= {(t, i): projected_diameter_nm(appearances[i].atoms) for i in present}
        background = _shift(support, drift_px[t], first, imaging.shape_px)
        frames[t] = _frame(background, appearances, courses, t, imaging, rng)
    truth = truth_table(settings, courses, name)
    truth["diameter_nm"] = _track_diameters(truth, diameters)
    metadata = {"simulated": True, "seed": seed, "frame_time_s": settings.frame_time_s}
    stack = Micrograph(frames, imaging.pixel_size_nm, name=name, metadata=metadata)
    return SimulatedMovie(stack, truth, courses)


def _with_extent(imaging: FieldSettings, extent_nm: tuple[float, float]) -> FieldSettings:
    """Return the settings with as many pixels as fit into the extent."""
    pixel = imaging.pixel_size_nm
    return replace(imaging, shape_px=(int(extent_nm[0] / pixel), int(extent_nm[1] / pixel)))


def _track_diameters(truth: pd.DataFrame, diameters: dict[tuple[int, int], float]) -> list[float]:
    """Return the diameter of each row of the truth."""
    keys = zip(truth["frame"].tolist(), truth["truth_id"].tolist(), strict=True)
    return [diameters[key] for key in keys]


def _frame(
    background: np.ndarray,
    appearances: dict[int, _Appearance],
    courses: Courses,
    frame: int,
    imaging: FieldSettings,
    rng: np.random.Generator,
) -> np.ndarray:
    """Return a recorded frame: clusters on the image of their support."""
    pixel, shape = imaging.pixel_size_nm, imaging.shape_px
    present = np.flatnonzero(courses.states[frame] >= 0).tolist()
    points = [
        appearances[i].atoms[:, :2] + courses.places_nm[frame, i] + courses.drift_nm[frame]
        for i in present
    ]
    weights = [appearances[i].weights for i in present]
    image = background + scatter_atoms(
        shape, pixel, np.concatenate(points), np.concatenate(weights), imaging.microscope,
        scan_positions(shape, imaging.scan, rng),
    )  # fmt: skip
    return record(np.clip(image, 0, None), pixel, imaging.microscope, imaging.scan, rng)


def _drifting_support(
    imaging: FieldSettings, drift_px: np.ndarray, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """Return the image of the support as far as the drifting field reaches, and its margin (2,)."""
    before = np.ceil(drift_px.max(axis=0)).astype(int) + 4
    after = np.ceil(-drift_px.min(axis=0)).astype(int) + 4
    height, width = imaging.shape_px
    wide = (height + before[0] + after[0], width + before[1] + after[1])
    thickness = draw_thickness(replace(imaging, shape_px=wide), rng)
    pixel = imaging.pixel_size_nm
    return scatter_carbon(thickness, pixel, imaging.microscope, rng, imaging.order), before


def _shift(
    support: np.ndarray, drift_px: np.ndarray, first: np.ndarray, shape: tuple[int, int]
) -> np.ndarray:
    """Return the field of view on a support that has drifted."""
    moved = ndimage.shift(support, drift_px, order=3, mode="nearest")
    return np.asarray(moved[first[0] :, first[1] :][: shape[0], : shape[1]])


def _update_appearances(
    appearances: dict[int, _Appearance],
    frame: int,
    settings: MovieTruthSettings,
    courses: Courses,
    members: dict[str, list[Isomer]],
    imaging: FieldSettings,
    rng: np.random.Generator,
) -> None:
    """Draw structures of clusters that are new, changed or merged in a frame; in place."""
    merged = courses.merged()[frame]
    merging = {other: one for begin, one, other in courses.merges if begin == frame}
    for i in range(courses.states.shape[1]):
        state = int(courses.states[frame, i])
        if state < 0:
            continue
        if i in merging:
            appearances[i] = _merge_appearances(appearances[i], appearances[merging[i]], rng)
            continue
        new = frame == 0 or state != courses.states[frame - 1, i]
        # an aggregate keeps its shape
        if not merged[i] and (new or rng.random() < settings.isomer_change):
            appearances[i] = _draw_appearance(members[settings.classes[state]], imaging, rng)


def _draw_appearance(
    members: Sequence[Isomer], imaging: FieldSettings, rng: np.random.Generator
) -> _Appearance:
    """Draw a cluster of one class in any structure and orientation."""
    isomer = members[int(rng.integers(len(members)))]
    atoms = orient_isomer(isomer, rng)
    gain = 1 + imaging.channelling * np.minimum(count_atoms_above(atoms), 4)
    scatter = np.exp(rng.normal(0, imaging.intensity_scatter))
    return _Appearance(atoms, cross_sections_nm2(isomer) * scatter * gain)


def _merge_appearances(
    first: _Appearance, second: _Appearance, rng: np.random.Generator
) -> _Appearance:
    """Put one cluster on top of another."""
    return _Appearance(
        stack_clusters(first.atoms, second.atoms, rng),
        np.concatenate([first.weights, second.weights]),
    )
