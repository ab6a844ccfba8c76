"""End of a run over many images: join all parts to tables, report and record."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import pandas as pd
import pyarrow as pa

from ..core.cluster_table import empty
from ..core.errors import TableError
from ..core.model_card import ModelCard
from ..io.inputs import Input
from ..io.provenance import Outcome
from ..reporting.examples import ClusterExample, top_examples
from ..reporting.image_section import Section, insert_ratios
from ..statistics.ratios import class_ratios
from ..tracking.files import FILES as MOVIE_FILES
from ..tracking.files import write_movie_results
from .failures import FAILURES, Failure
from .part_store import PartStore
from .part_tables import write_all
from .parts import concatenate_parts
from .run_files import ReportContent, Run, RunInfo, finalize_run
from .run_request import RunRequest

DROPPED_COLUMNS = (
    "y_px", "x_px", "y_nm", "x_nm", "eccentricity", "prediction_set",
)  # fmt: skip
"""Columns that ratios and plots do not need; they are written to the files only."""


@dataclass(eq=False)
class BatchResults:
    """Images of a batch, with their parts and failures.

    Parameters
    ----------
    inputs : sequence of Input
        Images, in the order of the tables.
    stems : dict of int to str
        Number of an image → its part.
    failed : dict of int to Failure
        Number of an image → its failure. Images in neither were not reached.
    shown : collection of int
        Numbers of the images with a section in the report, if they were drawn.
    """

    inputs: Sequence[Input]
    stems: dict[int, str] = field(default_factory=dict)
    failed: dict[int, Failure] = field(default_factory=dict)
    shown: Collection[int] = ()

    def outcomes(self, store: PartStore) -> list[Outcome]:
        """Return the outcome of each image."""
        return [self._outcome(number, store) for number in range(len(self.inputs))]

    def _outcome(self, number: int, store: PartStore) -> Outcome:
        if number in self.failed:
            return self.failed[number].outcome
        if number in self.stems:
            return store.outcome(self.stems[number])
        return self.inputs[number].outcome("not reached", "stopped before")

    def ordered_stems(self) -> list[str]:
        """Return the parts in the order of the images."""
        return [stem for _, stem in sorted(self.stems.items())]


def finalize_batch(
    store: PartStore,
    request: RunRequest,
    card: ModelCard,
    results: BatchResults,
    info: RunInfo,
    reference: pd.DataFrame | None = None,
    more_files: Sequence[str] = (),
) -> Run:
    """Write the files of a run from the parts of its images.

    Parameters
    ----------
    store : PartStore
        Folder of the parts.
    request : RunRequest
        Settings.
    card : ModelCard
        Model.
    results : BatchResults
        Images and parts. A damaged part is removed and its image counts as failed.
    info : RunInfo
        For the record; the devices of the parts replace its device.
    reference : DataFrame, optional
        From `io.tables.read_reference`.
    more_files : sequence of str, optional
        Names of further files in the folder.

    Returns
    -------
    Run
        Its table lacks the columns `DROPPED_COLUMNS`; the files contain them.

    Raises
    ------
    AtomicityError
        If a file cannot be written.
    """
    joined = _join_parts(store, card, results)
    outcomes = results.outcomes(store)
    movies = [m for stem in results.ordered_stems() if (m := store.movie(stem)) is not None]

    def write_tables(csv: Path, parquet: Path) -> None:
        parts = (store.read(stem)[0] for stem in results.ordered_stems())
        write_all(parts, joined.no_rows, csv, parquet)
        store.write_failures(one for _, one in sorted(results.failed.items()))
        write_movie_results(movies, store.folder)

    return finalize_run(
        store.folder,
        request,
        card,
        joined.table,
        outcomes,
        write_tables,
        info._replace(device=_device(outcomes) or info.device),
        _report_content(store, request, card, results, joined),
        reference,
        (FAILURES, *more_files, *(MOVIE_FILES if movies else ())),
    )


@dataclass(frozen=True, eq=False)
class _Joined:
    """Clusters of all images without `DROPPED_COLUMNS`, an empty table with all columns, scales."""

    table: pd.DataFrame
    no_rows: pd.DataFrame
    scales: dict[str, float]


def _join_parts(store: PartStore, card: ModelCard, results: BatchResults) -> _Joined:
    parts: list[pa.Table] = []
    scales: dict[str, float] = {}
    for number, stem in sorted(results.stems.items()):
        item = results.inputs[number]
        try:
            part, about = store.read(stem)
        except TableError as error:
            store.remove([stem])
            del results.stems[number]
            results.failed[number] = Failure.of(item.outcome("failed", str(error)))
            continue
        if about.get("scale") is not None:
            scales[item.name] = about["scale"]
        if part.num_rows:
            parts.append(part.drop_columns(list(DROPPED_COLUMNS)))
    if not parts:
        no_rows = empty(card.classes)
        return _Joined(no_rows, no_rows, scales)
    table = concatenate_parts(parts)
    return _Joined(drop_columns(table), table.iloc[:0], scales)


def drop_columns(table: pd.DataFrame) -> pd.DataFrame:
    """Return a cluster table without `DROPPED_COLUMNS`."""
    return table.drop(columns=list(DROPPED_COLUMNS))


def _report_content(
    store: PartStore,
    request: RunRequest,
    card: ModelCard,
    results: BatchResults,
    joined: _Joined,
) -> ReportContent:
    """Collect the drawings of single images, with the ratios by the method of this request."""
    sections: list[Section] = []
    examples: list[ClusterExample] = []
    for number in sorted(set(results.shown) & results.stems.keys()):
        drawing = store.drawing(results.stems[number])
        if drawing is None:
            continue
        section, own = drawing
        ratios = class_ratios(
            joined.table[joined.table["image"] == section.image],
            card.classes,
            scope=section.image,
            images=[section.image],
            method=request.ratios,
            card=card,
        )
        sections.append(insert_ratios(section, ratios))
        examples = top_examples([*examples, *own])
    return ReportContent(sections, examples, joined.scales)


def _device(outcomes: Iterable[Outcome]) -> str:
    """Return the devices of the network; workers may have different ones."""
    return ", ".join(
        sorted({str(o.parameters["device"]) for o in outcomes if "device" in o.parameters})
    )
