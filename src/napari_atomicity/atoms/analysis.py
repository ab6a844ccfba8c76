"""Analysis of single atoms in a micrograph, from pixels to the atom table."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from skimage.draw import polygon2mask

from ..core.errors import UnknownPixelSizeError, UnsuitableImageError
from ..core.micrograph import Micrograph
from ..core.progress import Progress, Stop, check, report, timed
from ..core.settings import GROUP_DISTANCE_NM
from ..core.text import pluralise
from ..detection.background import without_gaps
from ..detection.clusters import detect
from ..detection.given import inside_any, outlines_by_frame
from ..detection.outliers import find_repairs, repair, repaired_frames
from ..detection.recording import OUTLIERS, missing_pixels
from ..statistics.points import atom_groups as groups
from ..statistics.points.nearest_neighbours import nearest_neighbours
from .finding import operating_point as operating
from .finding.localisation import SIGMA_NM, Spots, fit_spots
from .finding.pixel_size import propose_pixel_size
from .injected_spots import MIN_ATOMS
from .regions import make_outline_region, make_region_mask
from .support import support_mask
from .table import MODEL, conform, validate

if TYPE_CHECKING:
    from ..io.outline_files import GivenOutlines
    from .finding.finder import AtomModel


BRIGHT_CLUSTERS = "bright_clusters"
"""Key of `AtomAnalysis.parameters`: frame and outline (y, x) in pixels of each bright cluster."""
CLUSTER_ATOMS = 12.0
"""Minimum brightness of a cluster in atoms: groups of isolated atoms are usually fainter."""
MAX_PIXEL_SIZE_NM = 0.1
"""Largest pixel size that resolves single atoms, which are 0.1 to 0.2 nm wide."""
FLAT = "frames_without_contrast"
"""Key of the parameters of an analysis: indices of the frames without contrast."""
POINT = "operating_point"
"""Key of the parameters of an analysis: how the model chooses the threshold of an image."""
_SAME_ATOM = 0.5
"""Two fits are one atom if they are closer than this share of the sum of their widths."""


@dataclass(frozen=True, eq=False, repr=False)
class AtomAnalysis:
    """The candidate atoms of one image and the threshold above which they are reported."""

    micrograph: Micrograph
    candidates: pd.DataFrame  # atom table of all candidates, down to a low probability
    threshold: float  # minimum probability of reported atoms: the operating point
    support: np.ndarray  # (Y, X): where the image shows support, not vacuum
    pixel_size_nm: float  # edge length of a pixel
    model_id: str  # identifier of the model
    # share of the annotated atoms that are among the candidates, on images that were not used for
    # training
    candidate_recall: float = 1.0
    group_distance_nm: float = GROUP_DISTANCE_NM  # maximum distance of two linked atoms
    # model, device and settings; under `POINT` how the model chooses thresholds
    parameters: dict[str, Any] = field(default_factory=dict)
    seconds: dict[str, float] = field(default_factory=dict)  # duration of each stage

    def __repr__(self) -> str:
        n = int((self.candidates["confidence"] >= self.threshold).sum())
        number, of_all = pluralise(n, "atom"), pluralise(len(self.candidates), "candidate")
        return f"<AtomAnalysis of {self.micrograph.name}: {number} of {of_all}>"

    @property
    def table(self) -> pd.DataFrame:
        """The atoms at the operating point."""
        return self.at(self.threshold)

    @property
    def has_manual_threshold(self) -> bool:
        """Whether the threshold is that of no criterion: a person has set its value."""
        return self.threshold != self.parameters.get("threshold", self.threshold)

    @property
    def flat_frames(self) -> tuple[int, ...]:
        """Indices of the frames without any contrast, in which no atom can be detected."""
        return tuple(self.parameters.get(FLAT, ()))

    @property
    def is_flat(self) -> bool:
        """Whether no frame has any contrast."""
        return len(self.flat_frames) == (len(self.support) if self.support.ndim == 3 else 1)

    @property
    def bright_clusters(self) -> np.ndarray | None:
        """Mask of bright clusters and their rims, of the shape of the support; None without any."""
        found = self.parameters.get(BRIGHT_CLUSTERS, ())
        if not found:
            return None
        shape = self.support.shape
        regions = ((index, make_outline_region(outline, shape[-2:])) for index, outline in found)
        return make_region_mask(regions, shape, self.pixel_size_nm)

    @property
    def expected(self) -> dict[str, float]:
        """Expected precision, recall and F1 at the operating point.

        The calibrated probabilities refer to the marks of annotators, which differ between people.
        """
        return self.expected_at(self.threshold)

    def expected_at(self, threshold: float) -> dict[str, float]:
        """Return the expected precision, recall and F1 at another threshold."""
        probability = self.candidates["confidence"].to_numpy(float)
        worth = operating.expected(probability, threshold, self.candidate_recall)
        return {"precision": worth.precision, "recall": worth.recall, "f1": worth.f1}

    def at(self, threshold: float) -> pd.DataFrame:
        """Return the atom table of the candidates with at least this probability.

        Atoms keep the ids of the candidates at every threshold.
        """
        confidence = self.candidates["confidence"].to_numpy(float)
        table = self.candidates[confidence >= threshold].reset_index(drop=True)
        return with_neighbours(table, self.group_distance_nm)

    def best_threshold(self) -> float:
        """Return the operating point of the image (see `operating_point.OperatingPoint`)."""
        point = operating.OperatingPoint(**self.parameters.get(POINT, {}))
        return point(self.candidates["confidence"].to_numpy(float), self.candidate_recall)

    def at_precision(self, precision: float) -> pd.DataFrame:
        """Return the largest atom table with at least this expected precision."""
        return self.at(self.threshold_at_precision(precision))

    def threshold_at_precision(self, precision: float) -> float:
        """Return the lowest threshold with at least this expected precision."""
        probability = self.candidates["confidence"].to_numpy(float)
        return operating.threshold_at_precision(probability, precision)

    def with_threshold(self, threshold: float) -> AtomAnalysis:
        """Return a copy with another operating point."""
        return replace(self, threshold=float(threshold))

    def with_precision(self, precision: float | None) -> AtomAnalysis:
        """Return a copy at this expected precision, or at the operating point of the image."""
        if precision is None:
            found = float(self.best_threshold())
        else:
            found = float(self.threshold_at_precision(precision))
        parameters = {**self.parameters, "precision": precision, "threshold": found}
        return replace(self, threshold=found, parameters=parameters)


def find_atoms(
    micrograph: Micrograph,
    model: str | AtomModel = "default",
    device: str = "auto",
    precision: float | None = None,
    threshold: float | None = None,
    progress: Progress | None = None,
    stop: Stop | None = None,
) -> AtomAnalysis:
    """Detect and measure single atoms, and choose the threshold above which they are reported.

    Parameters
    ----------
    micrograph : Micrograph
        A calibrated image or stack.
    model : str or AtomModel, default "default"
        Name of an available atom model, path of a model file, or a loaded model.
    device : str, default "auto"
        "auto", "cpu", "cuda" or "mps".
    precision : float, optional
        Expected precision of the reported atoms; None: the operating point of the image.
    threshold : float, optional
        Minimum probability of reported atoms; overrides ``precision`` and the operating point.

    Raises
    ------
    CalibrationError
        If the pixel size is unknown; the message proposes one from the width of the atoms.
    ModelError
        If the model cannot be loaded or the device is not available.
    """
    from .finding.finder import AtomModel, load_atom_model  # torch is not needed to read results

    if precision is not None and not 0 <= precision <= 1:
        raise ValueError(f"the precision must be between 0 and 1, not {precision}")
    pixel_size_nm = require_pixel_size(micrograph)
    seconds: dict[str, float] = {}
    with timed(seconds, "load model"):
        atoms = model if isinstance(model, AtomModel) else load_atom_model(model, device)
    candidates, masks, of_frames = _analyse_frames(
        micrograph, atoms, pixel_size_nm, seconds, progress, stop
    )
    calibration = atoms.card.calibration(pixel_size_nm)
    if threshold is None:
        threshold = _choose_threshold(candidates, calibration, precision)
    parameters = _describe_run(atoms, calibration, precision, float(threshold)) | of_frames
    check(stop)
    with timed(seconds, "bright clusters"):
        # At the operating point of the image: the support must not depend on the threshold.
        point = _choose_threshold(candidates, calibration, None)
        parameters |= _describe_bright_clusters(micrograph, candidates, point, pixel_size_nm)
    support = np.stack(masks) if micrograph.is_stack else masks[0]
    return AtomAnalysis(
        micrograph, candidates, float(threshold), support, pixel_size_nm, atoms.card.model_id,
        candidate_recall=calibration.candidate_recall, parameters=parameters, seconds=seconds,
    )  # fmt: skip


def within_regions(analysis: AtomAnalysis, rois: GivenOutlines) -> AtomAnalysis:
    """Return the analysis of the support in these regions; what lies outside is left out.

    Raises `AtomicityError` if the regions do not fit the image.
    """
    regions = outlines_by_frame(rois, analysis.micrograph, is_region=True)
    masks = np.zeros((len(regions), *analysis.support.shape[-2:]), bool)
    table = analysis.candidates
    centres, frame = table[["y_px", "x_px"]].to_numpy(float), table["frame"].to_numpy()
    inside = np.zeros(len(table), bool)
    for index, polygons in enumerate(regions):
        for polygon in polygons:
            masks[index] |= polygon2mask(masks[index].shape, polygon)
        inside[frame == index] = inside_any(centres[frame == index], polygons)
    outside = (table["confidence"].to_numpy() >= analysis.threshold) & ~inside
    return replace(
        analysis,
        candidates=table[inside].reset_index(drop=True),
        support=analysis.support & masks.reshape(analysis.support.shape),
        parameters={
            **analysis.parameters,
            "rois": {**rois.provenance(), "atoms_outside": int(outside.sum())},
        },
    )  # fmt: skip


def _describe_bright_clusters(
    micrograph: Micrograph, candidates: pd.DataFrame, threshold: float, pixel_size_nm: float
) -> dict[str, Any]:
    """Return frame and outline of each cluster of `CLUSTER_ATOMS` atoms or more; empty if none.

    Atoms on it are no single atoms. The median height of atoms beside clusters is that of an atom.
    """
    certain = candidates[(candidates["confidence"] >= threshold) & (candidates["amplitude"] > 0)]
    if len(certain) < MIN_ATOMS:
        return {}
    clusters: list[tuple[int, float, np.ndarray]] = []  # frame, intensity and outline
    is_beside = np.ones(len(certain), bool)
    for index, image in enumerate(repaired_frames(micrograph)):
        try:
            found = detect(Micrograph(without_gaps(image), pixel_size_nm))
        except UnsuitableImageError:  # too coarse for clusters
            continue
        intensities = found.table["integrated_intensity"]
        clusters += [(index, *one) for one in zip(intensities, found.outlines, strict=True)]
        own = (certain["frame"] == index).to_numpy()
        centres = certain.loc[own, ["y_px", "x_px"]].to_numpy(float)
        is_beside[own] = ~inside_any(centres, found.outlines)
    if is_beside.sum() >= MIN_ATOMS:
        certain = certain[is_beside]
    atom = 2 * np.pi * SIGMA_NM**2 * float(certain["amplitude"].median())
    bright = [
        [index, np.round(outline, 1).tolist()]
        for index, intensity, outline in clusters
        if intensity >= CLUSTER_ATOMS * atom
    ]
    return {BRIGHT_CLUSTERS: bright} if bright else {}


def _analyse_frames(
    micrograph: Micrograph,
    model: AtomModel,
    pixel_size_nm: float,
    seconds: dict[str, float],
    progress: Progress | None,
    stop: Stop | None,
) -> tuple[pd.DataFrame, list[np.ndarray], dict[str, Any]]:
    """Return the candidates of all frames, their support masks, and what the frames are like."""
    parts: list[pd.DataFrame] = []
    masks, flat, n_outliers = [], [], 0
    for index, frame in enumerate(micrograph.frames()):
        check(stop)
        outliers, unit = find_repairs(micrograph, index)
        recorded = repair(frame, outliers, unit)
        image = without_gaps(recorded)
        n_outliers += len(outliers)
        if not np.ptp(image) > 0:
            flat.append(index)
        rows = _detect(image, unit, model, pixel_size_nm, seconds, progress, stop)
        check(stop)
        report(progress, 0, 0, "Finding the support")
        with timed(seconds, "support"):
            masks.append(support_mask(recorded, pixel_size_nm))
        parts.append(rows.assign(frame=index))
    candidates = pd.concat(parts, ignore_index=True)
    candidates["image"] = micrograph.name
    candidates["atom_id"] = np.arange(1, len(candidates) + 1)
    candidates["origin"] = MODEL
    candidates["model_id"] = model.card.model_id
    candidates = with_neighbours(conform(candidates))
    validate(candidates)
    recording = {OUTLIERS: n_outliers} if n_outliers else {}
    return candidates, masks, {FLAT: flat} | recording | missing_pixels(micrograph)


def detect_candidates(
    micrograph: Micrograph,
    model: AtomModel,
    quick: int | None = None,  # number of a quick detection: see `AtomModel.score_map`
    progress: Progress | None = None,
    stop: Stop | None = None,
) -> pd.DataFrame:  # positions, confidence and fitted values of the candidates
    """Detect the candidates of an image, without its support and without neighbours."""
    size = require_pixel_size(micrograph)
    outliers, unit = find_repairs(micrograph)
    image = without_gaps(repair(next(micrograph.frames()), outliers, unit))
    return _detect(image, unit, model, size, {}, progress, stop, quick)


def _detect(
    image: np.ndarray,
    unit: float,
    model: AtomModel,
    pixel_size_nm: float,
    seconds: dict[str, float],
    progress: Progress | None,
    stop: Stop | None,
    quick: int | None = None,
) -> pd.DataFrame:
    """Return a row per candidate of a repaired frame, the most probable first."""
    with timed(seconds, "network"):
        points, score = model.candidates(image, pixel_size_nm, progress, stop, quick)
    report(progress, 0, 0, "Fitting positions")
    with timed(seconds, "positions"):
        spots = fit_spots(image, points, pixel_size_nm)
        probability = model.card.calibration(pixel_size_nm)(score)
        rows = _spot_rows(spots, probability, pixel_size_nm)
        rows[["intensity", "amplitude", "background"]] *= unit
    return rows


def _choose_threshold(
    candidates: pd.DataFrame, calibration: operating.Calibration, precision: float | None
) -> float:
    """Return the operating point of the image, or the threshold of a precision."""
    probability = candidates["confidence"].to_numpy(float)
    if precision is None:
        return calibration.point(probability, calibration.candidate_recall)
    return operating.threshold_at_precision(probability, precision)


def _describe_run(
    model: AtomModel,
    calibration: operating.Calibration,
    precision: float | None,
    threshold: float,
) -> dict[str, Any]:
    """Return the parameters that an `AtomAnalysis` keeps."""
    return {
        "model": model.card.provenance(),
        "device": str(model.device),
        "precision": precision,
        "threshold": threshold,
        POINT: asdict(calibration.point),
    }


def require_pixel_size(micrograph: Micrograph) -> float:
    """Return the pixel size in nm, and check that it resolves atoms.

    Raises `CalibrationError` if it is unknown. The message proposes one if the image has enough
    clear spots. Raises `UnsuitableImageError` if it is too large for atoms.
    """
    size = micrograph.pixel_size_nm
    if size is not None and size > MAX_PIXEL_SIZE_NM:
        raise UnsuitableImageError(
            f"the pixel size of {size:g} nm is too large to resolve single atoms",
            micrograph.path or micrograph.name,
            f"Use at most {MAX_PIXEL_SIZE_NM:g} nm per pixel, or check the pixel size",
        )
    if size is not None:
        return size
    try:
        return micrograph.calibrated()
    except UnknownPixelSizeError as error:
        proposal = propose_pixel_size(next(repaired_frames(micrograph)))
        if proposal is None:
            raise
        raise UnknownPixelSizeError(
            f"{error.what}; the width of its spots suggests {proposal}",
            error.path,
            error.advice,
        ) from None


def _spot_rows(spots: Spots, probability: np.ndarray, pixel_size_nm: float) -> pd.DataFrame:
    """Return a row per spot, the most probable first; of coinciding fits only the first."""
    keep = _find_distinct(spots, pixel_size_nm)
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


def _find_distinct(spots: Spots, pixel_size_nm: float) -> np.ndarray:
    """Return (N,) bool: no earlier spot is within `_SAME_ATOM` of the sum of the widths."""
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


def with_neighbours(
    table: pd.DataFrame, group_distance_nm: float = GROUP_DISTANCE_NM
) -> pd.DataFrame:
    """Return a copy of an atom table with neighbour distances and groups of each frame."""
    table = groups.grouped(table, group_distance_nm)
    distance = np.full(len(table), np.nan)
    frames = table["frame"].to_numpy(int)
    points = table[["y_nm", "x_nm"]].to_numpy(float)
    for frame in np.unique(frames):
        rows = frames == frame
        distance[rows] = nearest_neighbours(points[rows])
    table["nearest_neighbour_nm"] = distance
    return table
