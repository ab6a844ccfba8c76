"""The files of single atoms in many images, of a run or of a window: tables, figures and report."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import chain
from pathlib import Path
from typing import Any, NamedTuple, Self

import numpy as np
import pandas as pd

from ..atoms.analysis import AtomAnalysis
from ..atoms.completeness import Completeness, format_which_counts, is_lower_bound
from ..atoms.dispersion import DispersionResult, dispersion_rows
from ..atoms.summary import summary
from ..atoms.table import concat_atom_tables, conform, empty_table
from ..core.acquisition_session import Sample
from ..core.errors import attempt
from ..core.micrograph import Micrograph, describe_copies
from ..core.model_card import ATOMS
from ..core.progress import Progress, report
from ..core.text import pluralise
from ..io.provenance import Outcome, scopes_of, with_groups
from ..io.result_folder import REPORT, ResultFolder
from ..io.tables import write_table
from ..statistics.points.atom_groups import group_table
from ..statistics.points.dispersion import ALL, DispersionStatistics, pool_scopes
from ..statistics.points.loading_settings import LoadingSettings
from ..statistics.samples.run_evidence import are_compared, compare_atoms
from .atom_figures import (
    image_figures,
    run_figures,
    write_atom_plots,
    write_comparison_of_images,
    write_image_plots,
)
from .atom_report import atom_section_images, write_atom_report
from .charts import write_figure
from .plots.publication import image_file

MANY_IMAGES = 30
"""Reports of more images have no pictures of single images."""


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
    pictures: Sequence[Path] = ()  # files of figures
    drawn: Mapping[str, Any] | None = None  # pictures for the report


@dataclass(frozen=True)
class FigureFolders:
    """Where figures are written; None: they are not drawn."""

    images: Path | None = None  # of single images, for the report
    publication: Path | None = None  # of single images, as for a publication

    @classmethod
    def of_images(cls, n_images: int, folder: Path, publication: Path | None = None) -> Self:
        """Return the folders for the results of so many images, below that of the results."""
        return cls() if n_images > MANY_IMAGES else cls(folder / "figures", publication)

    def draw(
        self,
        micrograph: Micrograph,
        support: np.ndarray | None,
        table: pd.DataFrame,
        on_support: pd.DataFrame | None,
        dispersion: DispersionStatistics | None,
    ) -> tuple[list[Path], Mapping[str, Any]] | None:
        """Write the figures of an image; return the files and the pictures for the report."""
        of_support = empty_table() if on_support is None else on_support
        drawn_of = micrograph, support, table, of_support, dispersion
        if self.publication is not None:
            write_image_plots(*drawn_of, self.publication)
        if self.images is None:
            return None
        name = image_file(micrograph.name)
        files = {
            kind: write_figure(figure, self.images / f"{name} {kind}")
            for kind, figure in image_figures(*drawn_of).items()
        }
        shown = {kind: two[-1] for kind, two in files.items()}
        return list(chain(*files.values())), atom_section_images(micrograph.name, shown)


class AtomFiles(NamedTuple):
    """What was written of the atoms of images."""

    table: pd.DataFrame
    dispersion: pd.DataFrame
    folder: ResultFolder


def write_atom_files(
    folder: Path,
    results: Sequence[AtomResult],  # of the images that were reached
    outcomes: Sequence[Outcome],  # of all images, with their sessions and samples
    samples: Sequence[Sample],
    loading: LoadingSettings,
    seed: int,
    publication: Path | None = None,  # folder for figures at the size of a publication
    reference: str | None = None,  # sample with which the others are compared; None: the first
    note: str = "",  # what a reader should know first
    progress: Progress | None = None,
    **circumstances: Any,  # keywords of `io.provenance.run_record`
) -> AtomFiles:
    """Write tables, figures, report and record of the atoms of images into a folder.

    Raises `AtomicityError` if the folder or a file can not be written.
    """
    report(progress, 0, 0, "Writing tables and figures")
    table = conform(concat_atom_tables(r.table for r in results if r.table is not None))
    table = with_groups(table, outcomes)
    written = ResultFolder(folder, ATOMS)
    groups = scopes_of(outcomes)
    rows, of_all = _dispersion_rows(results, loading, seed, groups, written.failed)
    written.add(*_write_tables(folder, table, rows, results))
    draw = partial(_draw_all, folder, results, rows, of_all, publication)
    drawn = attempt(written.failed, "figures", draw) or {}
    written.add(*chain(*drawn.values(), *(result.pictures for result in results)))
    pictures = {r.outcome.image: r.drawn for r in results if r.drawn is not None}
    charts = {name: two[-1] for name, two in drawn.items()}
    compared = None
    if are_compared(samples) and of_all is not None:
        compare = partial(compare_atoms, rows, outcomes, samples, reference)
        compared = attempt(written.failed, "comparison of the samples", compare)
    copies = describe_copies(o.sha256 for o in outcomes if o.status == "done")
    note = " ".join(filter(None, (note, copies)))
    written.finish(
        outcomes,
        lambda record: write_atom_report(
            written / REPORT, record, rows, pictures, charts, compared, note
        ),
        samples=samples,
        **circumstances,
    )
    return AtomFiles(table, rows, written)


def _draw_all(
    folder: Path,
    results: Iterable[AtomResult],
    rows: pd.DataFrame,
    of_all: DispersionStatistics | None,
    publication: Path | None,
) -> dict[str, list[Path]]:
    """Write the figures of all images together; return their files by name."""
    if of_all is None:
        return {}
    together = concat_atom_tables([r.on_support for r in results if r.on_support is not None])
    if publication is not None:
        write_atom_plots(together, of_all, publication)
        write_comparison_of_images(rows, publication)
    drawn = run_figures(together, rows, of_all)
    return {name: write_figure(figure, folder / "figures" / name) for name, figure in drawn.items()}


def _write_tables(
    folder: Path, table: pd.DataFrame, rows: pd.DataFrame, results: Iterable[AtomResult]
) -> list[Path]:
    files = [
        write_table(table, folder / "atoms.csv"),
        write_table(table, folder / "atoms.parquet"),
        write_table(group_table(table), folder / "atom_groups.csv"),
        write_table(rows, folder / "dispersion.csv"),
    ]
    clusters = [r.clusters for r in results if r.clusters is not None]
    if clusters:
        of_clusters = pd.concat(clusters, ignore_index=True)
        files.append(write_table(of_clusters, folder / "cluster_atoms.csv"))
    return files


def _dispersion_rows(
    results: Sequence[AtomResult],
    loading: LoadingSettings,
    seed: int,
    groups: Mapping[str, Sequence[str]],
    failed: dict[str, str],
) -> tuple[pd.DataFrame, DispersionStatistics | None]:
    """Compute a row for each analysed image, each group and all, and the dispersion of all.

    If the latter fails, ``failed`` gets the error.
    """
    analysed = [result for result in results if result.table is not None]
    known = {r.outcome.image: r.dispersion for r in analysed if r.dispersion is not None}
    name = "dispersion of all images"
    pooled = attempt(failed, name, lambda: pool_scopes(known, groups, seed)) or {}
    found = [(r.outcome.image, r.outcome.atoms, r.dispersion, r.completeness) for r in analysed]
    return dispersion_rows(found, pooled, loading, groups), pooled.get(ALL)


def completeness_warnings(found: Completeness | None, density: float) -> tuple[str, ...]:
    """Return which share of the atoms of an image is found, if the density depends on it."""
    if found is None:
        return ()
    is_bound = is_lower_bound(found.share, found.density_low, density)
    counts = format_which_counts(found.share, is_bound)
    if not counts:
        return ()
    share = f"{100 * found.low:.0f} to {100 * found.high:.0f} %"
    said = f"of atoms like these {share} are found: {counts}"
    if np.isfinite(found.density_per_nm2):  # not of a stack
        said += f", that of all atoms {found.density_low:.2g} to {found.density_high:.2g} per nm²"
    return (said,)


def dispersion_warnings(spread: DispersionResult) -> tuple[str, ...]:
    """Return why an image has no dispersion, or what it omits."""
    found = [spread.reason] if spread.reason else []
    on_clusters = summary(spread.atoms).n_on_clusters
    if on_clusters:
        found.append(
            f"{pluralise(on_clusters, 'detection')} on clusters, or on bumps of the support as "
            "bright: left out of density, distances and groups"
        )
    off = 0 if spread.dispersion is None else spread.dispersion.n_off_support - on_clusters
    if off:
        lies, counts = ("1 atom lies", "counts") if off == 1 else (f"{off} atoms lie", "count")
        found.append(f"{lies} off the support and {counts} in no density")
    return tuple(found)
