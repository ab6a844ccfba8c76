"""Detection of single atoms in one image: a step of the loop over images."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from ..atoms import cluster_atoms
from ..atoms.analysis import AtomAnalysis, find_atoms
from ..atoms.completeness import Completeness, estimate_completeness
from ..atoms.dispersion import DispersionResult, DispersionSettings, compute_image_dispersion
from ..atoms.finder import AtomModel
from ..atoms.injection import inject_atoms
from ..atoms.marks import ImageAtoms
from ..atoms.regions import make_cluster_mask
from ..atoms.summary import summary
from ..atoms.table import conform, empty_table
from ..core.failed_statistics import FAILED, add_failed, attempt, format_failed
from ..core.micrograph import Micrograph
from ..core.progress import Progress, Stop, report
from ..core.text import pluralise
from ..io.inputs import Input
from ..io.provenance import Outcome
from ..reporting.atom_figures import image_figures
from ..reporting.atom_report import atom_section_images
from ..reporting.charts import write_figure
from ..reporting.image_warnings import pixel_warnings
from ..statistics.atom_groups import clusters_of_atoms
from ..statistics.dispersion import DispersionStatistics
from .image_step import process_image

if TYPE_CHECKING:
    from .atom_request import AtomRequest

FIELD_NM = (1.0, 10_000.0)
"""Minimum and maximum field of view (longer edge) in which single atoms can be resolved."""
PIXEL_NM = 1e-4
"""Minimum pixel size of a microscope."""


@dataclass(frozen=True, eq=False)
class AtomResult:
    """Result of one image."""

    outcome: Outcome  # done or failed
    analysis: AtomAnalysis | None = None
    table: pd.DataFrame | None = None
    clusters: pd.DataFrame | None = None
    on_support: pd.DataFrame | None = None
    dispersion: DispersionStatistics | None = None  # dispersion of the atoms on the support
    completeness: Completeness | None = None  # detected fraction of injected atoms
    pictures: list[Path] = field(default_factory=list)  # files of figures
    drawn: Mapping[str, Any] | None = None  # pictures for the report


@dataclass(frozen=True, eq=False)
class AtomStep:
    """Step that detects the atoms of an image."""

    model: AtomModel
    request: AtomRequest
    clusters: pd.DataFrame | None = None
    pictures: Path | None = None  # folder for figures of single images; None for no figures
    stop: Stop | None = None

    def __call__(self, item: Input, progress: Progress) -> AtomResult:
        """Read and analyse an image; convert any error to its outcome."""

        def step(
            micrograph: Micrograph, known: dict[str, Any]
        ) -> tuple[Outcome, AtomAnalysis, AtomResult]:
            known["warnings"] = _scale_warnings(micrograph)
            result = self._analyse(item, micrograph, known, progress)
            assert result.analysis is not None
            return result.outcome, result.analysis, result

        outcome, _, result = process_image(item, step, self.request.pixel_size_nm, progress)
        return AtomResult(outcome) if result is None else result

    def _analyse(
        self, item: Input, micrograph: Micrograph, known: dict[str, Any], progress: Progress
    ) -> AtomResult:
        request = self.request
        analysis = find_atoms(
            micrograph,
            self.model,
            precision=request.precision,
            threshold=request.threshold,
            progress=progress,
            stop=self.stop,
        )
        analysis = replace(analysis, group_distance_nm=request.group_distance_nm)
        atoms = ImageAtoms(
            micrograph.name,
            analysis.pixel_size_nm,
            analysis,
            group_distance_nm=request.group_distance_nm,
        )
        known["warnings"] += pixel_warnings(analysis.parameters)
        seconds = dict(analysis.seconds)
        failed: dict[str, str] = {}
        began = time.perf_counter()
        complete = attempt(
            failed, "completeness", lambda: self._estimate_completeness(analysis, progress)
        )
        seconds["completeness"] = time.perf_counter() - began
        known["warnings"] += _completeness_warnings(complete)
        table, of_clusters = attempt(
            failed,
            "atoms of clusters",
            lambda: _with_clusters(atoms, micrograph, self.clusters, complete),
        ) or (atoms.table, None)
        known["warnings"] += _cluster_warnings(self.clusters, of_clusters)
        report(progress, 0, 0, "Computing the dispersion")
        spread = attempt(
            failed, "dispersion", lambda: _dispersion(atoms, request.seed, progress, self.stop)
        )
        known["warnings"] += _dispersion_warnings(spread)
        outcome = item.outcome("done", **known, atoms=len(table), seconds=seconds)
        on_support, found = (None, None) if spread is None else (spread.table, spread.dispersion)
        result = AtomResult(outcome, analysis, table, of_clusters, on_support, found, complete)
        drawn = attempt(failed, "figure", lambda: self._draw(item, result, table, progress))
        parameters = {**analysis.parameters, "expected": analysis.expected}
        warnings = (*outcome.warnings, *format_failed({FAILED: failed}))
        outcome = replace(outcome, parameters=add_failed(parameters, failed), warnings=warnings)
        return replace(drawn or result, outcome=outcome)

    def _estimate_completeness(
        self, analysis: AtomAnalysis, progress: Progress
    ) -> Completeness | None:
        """Estimate the detected fraction; None if the request does not include it."""
        if not self.request.completeness:
            return None
        seed = self.request.seed
        return _completeness(analysis, self.model, self.clusters, seed, progress, self.stop)

    def _draw(
        self,
        item: Input,
        result: AtomResult,
        table: pd.DataFrame,
        progress: Progress,
    ) -> AtomResult:
        if self.pictures is None or result.analysis is None:
            return result
        report(progress, 0, 0, "Drawing figures")
        name = item.name.replace("/", "_")
        on_support = empty_table() if result.on_support is None else result.on_support
        figures = image_figures(result.analysis, table, on_support, result.dispersion)
        files = {
            kind: write_figure(figure, self.pictures / f"{name} {kind}")
            for kind, figure in figures.items()
        }
        drawn = atom_section_images(item.name, {kind: two[-1] for kind, two in files.items()})
        return replace(
            result, pictures=[path for two in files.values() for path in two], drawn=drawn
        )


def _completeness(
    analysis: AtomAnalysis,
    model: AtomModel,
    clusters: pd.DataFrame | None,
    seed: int,
    progress: Progress,
    stop: Stop | None,
) -> Completeness | None:
    """How many atoms are missed, away from clusters; None where nothing can be said."""
    mask = None
    if clusters is not None:
        own = clusters[clusters["image"] == analysis.micrograph.name]
        mask = make_cluster_mask(own, analysis.micrograph.data.shape, analysis.pixel_size_nm)
    added = inject_atoms(analysis, model, mask, seed, progress, stop)
    return None if added is None else estimate_completeness(added, analysis.threshold)


def _with_clusters(
    atoms: ImageAtoms,
    micrograph: Micrograph,
    clusters: pd.DataFrame | None,
    census: Completeness | None,
) -> tuple[pd.DataFrame, pd.DataFrame | None]:
    """Assign atoms to clusters, and count the atoms of clusters.

    Clusters are discs: the files of a run hold no outlines.
    """
    if clusters is None:
        return atoms.table, None
    own = clusters[clusters["image"] == atoms.image].reset_index(drop=True)
    table = conform(atoms.table.assign(cluster_id=clusters_of_atoms(atoms.table, own)))
    counted = cluster_atoms.count_cluster_atoms(atoms, own, micrograph, completeness=census)
    return table, cluster_atoms.make_cluster_table(own, counted, table)


def _cluster_warnings(clusters: pd.DataFrame | None, own: pd.DataFrame | None) -> tuple[str, ...]:
    if clusters is None or own is None or len(own) or not len(clusters):
        return ()
    return ("the table of clusters contains no cluster of this image",)


def _completeness_warnings(found: Completeness | None) -> tuple[str, ...]:
    if found is None or not found.is_low:
        return ()
    share = f"{100 * found.low:.0f} to {100 * found.high:.0f} %"
    said = f"of atoms like these {share} are found: the density is a lower bound"
    if np.isfinite(found.density_per_nm2):  # not of a stack
        said += f", that of all atoms {found.density_low:.2g} to {found.density_high:.2g} per nm²"
    return (said,)


def _scale_warnings(micrograph: Micrograph) -> tuple[str, ...]:
    """Warn about a pixel size at which no atoms can be resolved."""
    size = micrograph.pixel_size_nm
    if size is None:
        return ()
    edge = max(micrograph.shape_px) * size
    if size >= PIXEL_NM and FIELD_NM[0] <= edge <= FIELD_NM[1]:
        return ()
    return (
        f"a pixel of {size:g} nm makes a field of {edge:g} nm, in which no atoms can be seen: "
        "check it, and give the right one with --pixel-size-nm",
    )


def _dispersion(
    atoms: ImageAtoms, seed: int, progress: Progress, stop: Stop | None
) -> DispersionResult:
    """Compute the dispersion over the frames of the image."""
    return compute_image_dispersion(
        atoms, DispersionSettings(seed=seed), progress=progress, stop=stop
    )


def _dispersion_warnings(spread: DispersionResult | None) -> tuple[str, ...]:
    """Return why there is no dispersion, or what it omits."""
    if spread is None:
        return ()
    found = [spread.reason] if spread.reason else []
    on_clusters = summary(spread.atoms).n_on_clusters
    if on_clusters:
        found.append(
            f"{pluralise(on_clusters, 'detection')} on bright clusters: left out of density, "
            "distances and groups"
        )
    off = 0 if spread.dispersion is None else spread.dispersion.n_off_support - on_clusters
    if off:
        lies, counts = ("1 atom lies", "counts") if off == 1 else (f"{off} atoms lie", "count")
        found.append(f"{lies} off the support and {counts} in no density")
    return tuple(found)
