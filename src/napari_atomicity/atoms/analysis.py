"""Single atoms in a micrograph: the whole of it, from pixels to the atom table."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from ..core.errors import CalibrationError, UnsuitableImageError
from ..core.micrograph import Micrograph
from ..core.progress import Progress, Stop, check, report
from ..detection.background import without_gaps
from ..statistics import atom_groups as groups
from ..statistics.nearest_neighbours import nearest_neighbours
from . import operating_point as operating
from .localisation import Spots, fit_spots
from .pixel_size import propose_pixel_size
from .support import support_mask
from .table import MODEL, conform, validate

if TYPE_CHECKING:
    from .finder import AtomModel

COARSEST_NM = 0.1
"""Of pixels in which single atoms, some 0.1 to 0.2 nm wide, can still be told apart."""
FLAT = "frames_without_contrast"
"""Under this key the parameters of an analysis hold their indices."""
POINT = "operating_point"
"""Under this key they hold how the model chooses the threshold of an image."""
_SAME_ATOM = 0.5


@dataclass(frozen=True, eq=False)
class AtomAnalysis:
    """The atoms of one image, at any threshold without computing anew.

    Parameters
    ----------
    micrograph
        The image.
    candidates
        Atom table of everything that may be an atom, down to a low probability.
    threshold
        Least probability of what is reported: the operating point.
    support
        (Y, X) bool, or (T, Y, X) of a stack: where there is a support, not vacuum.
    pixel_size_nm
        Edge length of a pixel.
    model_id
        The model that found them.
    candidate_recall
        Share of the atoms a person would mark that are among the candidates, on images that the
        model had not seen.
    group_distance_nm
        Atoms no further apart than this are linked.
    parameters
        Model, device and settings that led here; under `POINT` how the model chooses thresholds.
    seconds
        Stage → seconds it took.
    """

    micrograph: Micrograph
    candidates: pd.DataFrame
    threshold: float
    support: np.ndarray
    pixel_size_nm: float
    model_id: str
    candidate_recall: float = 1.0
    group_distance_nm: float = groups.LINK_NM
    parameters: dict[str, Any] = field(default_factory=dict)
    seconds: dict[str, float] = field(default_factory=dict)

    @property
    def table(self) -> pd.DataFrame:
        """The atoms at the operating point."""
        return self.at(self.threshold)

    @property
    def flat_frames(self) -> tuple[int, ...]:
        """Frames without any contrast: nothing is known of them."""
        return tuple(self.parameters.get(FLAT, ()))

    @property
    def is_flat(self) -> bool:
        """Whether no frame has any contrast."""
        return len(self.flat_frames) == (len(self.support) if self.support.ndim == 3 else 1)

    @property
    def expected(self) -> dict[str, float]:
        """Precision, recall and F1 as the calibrated probabilities have it; a person's marks are
        the measure, and they differ from person to person."""
        return self.expected_at(self.threshold)

    def expected_at(self, threshold: float) -> dict[str, float]:
        """As `expected`, for another threshold."""
        probability = self.candidates["confidence"].to_numpy(float)
        worth = operating.expected(probability, threshold, self.candidate_recall)
        return {"precision": worth.precision, "recall": worth.recall, "f1": worth.f1}

    def at(self, threshold: float) -> pd.DataFrame:
        """The atom table of the candidates whose probability is at least ``threshold``.

        Ids are those of the candidates, so that an atom keeps its own at every threshold.
        """
        confidence = self.candidates["confidence"].to_numpy(float)
        table = self.candidates[confidence >= threshold].reset_index(drop=True)
        return with_neighbours(table, self.group_distance_nm)

    def best_threshold(self) -> float:
        """The operating point of the image: see `operating_point.OperatingPoint`."""
        point = operating.OperatingPoint(**self.parameters.get(POINT, {}))
        return point(self.candidates["confidence"].to_numpy(float), self.candidate_recall)

    def at_precision(self, precision: float) -> pd.DataFrame:
        """The atom table with as many atoms as an expected precision allows."""
        return self.at(self.threshold_at_precision(precision))

    def threshold_at_precision(self, precision: float) -> float:
        """The least threshold that gives an expected precision."""
        probability = self.candidates["confidence"].to_numpy(float)
        return operating.threshold_at_precision(probability, precision)

    def with_threshold(self, threshold: float) -> AtomAnalysis:
        """The same with another operating point."""
        return replace(self, threshold=float(threshold))


@contextmanager
def _timed(seconds: dict[str, float], stage: str) -> Iterator[None]:
    start = time.perf_counter()
    yield
    seconds[stage] = seconds.get(stage, 0.0) + time.perf_counter() - start


def find_atoms(
    micrograph: Micrograph,
    model: str | AtomModel = "default",
    device: str = "auto",
    precision: float | None = None,
    threshold: float | None = None,
    progress: Progress | None = None,
    stop: Stop | None = None,
) -> AtomAnalysis:
    """Find and measure single atoms, and choose which of them to report.

    Parameters
    ----------
    micrograph
        A calibrated image or stack.
    model
        Name of an atom model at hand, path of a model file, or a loaded model.
    device
        "auto", "cpu", "cuda" or "mps".
    precision
        Expected precision of what is reported; None: the operating point of the image.
    threshold
        Least probability of what is reported, instead of either.
    progress, stop
        ``progress(done, total, message)`` and ``stop() -> bool``.

    Returns
    -------
    AtomAnalysis
        ``.table`` is the atom table; ``.at(threshold)`` that for another threshold, at once.

    Raises
    ------
    CalibrationError
        If the pixel size is not known; the message proposes one from the width of the atoms.
    ModelError
        If the model can't be loaded or lacks the device.
    Cancelled
        If ``stop()`` says so.
    """
    # Torch is not needed to look at results.
    from .finder import AtomModel, load_atom_model

    if precision is not None and not 0 <= precision <= 1:
        raise ValueError(f"a precision of {precision} does not lie in 0 to 1")
    pixel_size_nm = calibrated(micrograph)
    seconds: dict[str, float] = {}
    with _timed(seconds, "load model"):
        atoms = model if isinstance(model, AtomModel) else load_atom_model(model, device)
    calibration = atoms.card.calibration(pixel_size_nm)
    parts: list[pd.DataFrame] = []
    masks, flat = [], []
    for index, frame in enumerate(micrograph.frames()):
        check(stop)
        image = without_gaps(frame)
        if not np.ptp(image) > 0:
            flat.append(index)
        with _timed(seconds, "network"):
            points, score = atoms.candidates(image, pixel_size_nm, progress, stop)
        report(progress, 0, 0, "Fitting positions")
        with _timed(seconds, "positions"):
            spots = fit_spots(image, points, pixel_size_nm)
            found = _rows(spots, calibration(score), pixel_size_nm)
        check(stop)
        with _timed(seconds, "support"):
            masks.append(support_mask(image, pixel_size_nm))
        parts.append(found.assign(frame=index))
    candidates = pd.concat(parts, ignore_index=True)
    candidates["image"] = micrograph.name
    candidates["atom_id"] = np.arange(1, len(candidates) + 1)
    candidates["origin"] = MODEL
    candidates["model_id"] = atoms.card.model_id
    candidates = with_neighbours(conform(candidates))
    validate(candidates)
    probability = candidates["confidence"].to_numpy(float)
    recall = calibration.candidate_recall
    if threshold is None:
        threshold = (
            calibration.point(probability, recall)
            if precision is None
            else operating.threshold_at_precision(probability, precision)
        )
    return AtomAnalysis(
        micrograph,
        candidates,
        float(threshold),
        np.stack(masks) if micrograph.is_stack else masks[0],
        pixel_size_nm,
        atoms.card.model_id,
        candidate_recall=recall,
        parameters={
            "model": atoms.card.provenance(),
            "device": str(atoms.device),
            "precision": precision,
            "threshold": float(threshold),
            POINT: asdict(calibration.point),
            FLAT: flat,
        },
        seconds=seconds,
    )


def calibrated(micrograph: Micrograph) -> float:
    """The pixel size in nm.

    Raises
    ------
    CalibrationError
        If there is none; with a proposal, where spots stand out enough to make one.
    UnsuitableImageError
        If it is too large for atoms.
    """
    size = micrograph.pixel_size_nm
    if size is not None and size > COARSEST_NM:
        raise UnsuitableImageError(
            f"with {size:g} nm per pixel single atoms can't be seen",
            micrograph.path or micrograph.name,
            f"Take an image of at most {COARSEST_NM:g} nm per pixel, or check the pixel size",
        )
    if size is not None:
        return size
    try:
        return micrograph.calibrated()
    except CalibrationError as error:
        proposal = propose_pixel_size(next(micrograph.frames()))
        if proposal is None:
            raise
        raise CalibrationError(
            f"{error.what}; by the width of its spots it may be {proposal}",
            error.path,
            error.advice,
        ) from None


def _rows(spots: Spots, probability: np.ndarray, pixel_size_nm: float) -> pd.DataFrame:
    """A row per spot, the most probable first; of two fits that met, only the first."""
    keep = _distinct(spots, pixel_size_nm)
    return pd.DataFrame(
        {
            "y_px": spots.points[keep, 0],
            "x_px": spots.points[keep, 1],
            "y_nm": spots.points[keep, 0] * pixel_size_nm,
            "x_nm": spots.points[keep, 1] * pixel_size_nm,
            "confidence": probability[keep],
            "intensity": spots.intensity[keep],
            "amplitude": spots.amplitude[keep],
            "background": spots.background[keep],
            "sigma_nm": spots.sigma_nm[keep],
        }
    )


def _distinct(spots: Spots, pixel_size_nm: float) -> np.ndarray:
    """(N,) bool: no earlier spot lies within half the width of the two."""
    from scipy.spatial import KDTree

    keep = np.ones(len(spots.points), bool)
    if len(keep) < 2:
        return keep
    reach = _SAME_ATOM * 2 * float(spots.sigma_nm.max()) / pixel_size_nm
    pairs = KDTree(spots.points).query_pairs(reach, output_type="ndarray")
    for first, second in pairs[np.lexsort((pairs[:, 1], pairs[:, 0]))]:
        apart = np.hypot(*(spots.points[first] - spots.points[second])) * pixel_size_nm
        width = spots.sigma_nm[first] + spots.sigma_nm[second]
        if keep[first] and apart < _SAME_ATOM * width:
            keep[second] = False
    return keep


def with_neighbours(table: pd.DataFrame, group_distance_nm: float = groups.LINK_NM) -> pd.DataFrame:
    """A copy of an atom table with distances of neighbours and groups, each frame by itself."""
    table = groups.grouped(table, group_distance_nm)
    distance = np.full(len(table), np.nan)
    frames = table["frame"].to_numpy(int)
    points = table[["y_nm", "x_nm"]].to_numpy(float)
    for frame in np.unique(frames):
        rows = frames == frame
        distance[rows] = nearest_neighbours(points[rows])
    table["nearest_neighbour_nm"] = distance
    return table
