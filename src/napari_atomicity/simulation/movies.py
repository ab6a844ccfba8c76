"""Movies with known truth: clusters that move, change and merge on a drifting stage."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import pandas as pd
from scipy import ndimage

from ..core.micrograph import Micrograph
from ..core.progress import Progress, Stop, check, report
from .deposits import (
    count_atoms_above,
    cross_sections_nm2,
    orient_isomer,
    projected_diameter_nm,
    stack_clusters,
)
from .field_settings import FieldSettings
from .imaging import record, scan_positions, scatter_atoms, scatter_carbon
from .movie_truth import Courses, MovieTruthSettings, draw_courses, truth_table
from .structures import Isomer
from .support import draw_thickness


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
    imaging: FieldSettings | None = None,
    name: str = "movie.tif",
    progress: Progress | None = None,
    stop: Stop | None = None,
) -> SimulatedMovie:
    """Simulate the frames of a movie as in `fields`; the same seed gives the same pixels.

    The support drifts with the clusters; noise, jitter and structures are new in every frame.

    Parameters
    ----------
    imaging : FieldSettings, optional
        Conditions and sampling of a frame; its size follows from ``settings``.
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
