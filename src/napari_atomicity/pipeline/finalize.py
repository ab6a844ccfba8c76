"""How a run over many images ends: all parts together become tables, report and record."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
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
from ..tracking.files import write_found
from .part_store import FAILURES, Failure, PartStore, as_frame, write_all
from .runs import Run, RunRequest, finalize_run

NEITHER_COUNTED_NOR_DRAWN = (
    "y_px", "x_px", "y_nm", "x_nm", "eccentricity", "prediction_set",
)  # fmt: skip
"""Columns that are written and not held when all images come together."""


def finalize_batch(
    store: PartStore,
    request: RunRequest,
    card: ModelCard,
    inputs: Sequence[Input],
    stems: dict[int, str],
    failed: dict[int, Failure],
    shown: Collection[int],
    *,
    started: str,
    reference: pd.DataFrame | None = None,
    interrupted: bool = False,
    command: Sequence[str] | None = None,
    more: Sequence[str] = (),
) -> Run:
    """Write the files of a run from the parts of its images.

    Parameters
    ----------
    store
        Where the parts lie.
    request, card
        What was asked for, and of which model.
    inputs
        The images, in the order of the tables.
    stems, failed
        Number of an image → its part, or why there is none; a damaged part moves from the one to
        the other. Images in neither were not reached.
    shown
        Numbers of images that are shown in the report if they were drawn.
    started, reference, interrupted, command, more
        See `runs.finalize_run`.

    Returns
    -------
    Run
        Its table lacks `NEITHER_COUNTED_NOR_DRAWN`; the files hold all.

    Raises
    ------
    AtomicityError
        If a file can't be written.
    """
    together = _gathered(store, card, inputs, stems, failed)
    outcomes = [_outcome(n, item, store, stems, failed) for n, item in enumerate(inputs)]

    def write_tables(csv: Path, parquet: Path) -> None:
        parts = (store.read(stem)[0] for _, stem in sorted(stems.items()))
        write_all(parts, together.nothing, csv, parquet)
        store.write_failures(one for _, one in sorted(failed.items()))
        write_found(movies, store.folder)

    movies = [m for _, stem in sorted(stems.items()) if (m := store.movie(stem)) is not None]

    sections, examples = _drawn(store, request, card, stems, shown, together.table)
    return finalize_run(
        store.folder,
        request,
        card,
        together.table,
        outcomes,
        write_tables,
        started=started,
        device=_device(outcomes) or request.device,
        reference=reference,
        interrupted=interrupted,
        command=command,
        more=(FAILURES, *more, *(MOVIE_FILES if movies else ())),
        sections=sections,
        examples=examples,
        scales=together.scales,
    )


@dataclass(frozen=True, eq=False)
class _Together:
    """Of all images: what is held of their clusters, no cluster with all columns, their scales."""

    table: pd.DataFrame
    nothing: pd.DataFrame
    scales: dict[str, float]


def _gathered(
    store: PartStore,
    card: ModelCard,
    inputs: Sequence[Input],
    stems: dict[int, str],
    failed: dict[int, Failure],
) -> _Together:
    held: list[pa.Table] = []
    scales: dict[str, float] = {}
    for number, stem in sorted(stems.items()):
        item = inputs[number]
        try:
            part, said = store.read(stem)
        except TableError as error:
            store.remove([stem])
            del stems[number]
            failed[number] = Failure.of(item.outcome("failed", str(error)))
            continue
        if said.get("scale") is not None:
            scales[item.name] = said["scale"]
        if part.num_rows:
            held.append(part.drop_columns(list(NEITHER_COUNTED_NOR_DRAWN)))
    if not held:
        nothing = empty(card.classes)
        return _Together(nothing, nothing, scales)
    table = as_frame(held)
    return _Together(slim(table), table.iloc[:0], scales)


def slim(table: pd.DataFrame) -> pd.DataFrame:
    """A cluster table without `NEITHER_COUNTED_NOR_DRAWN`."""
    return table.drop(columns=list(NEITHER_COUNTED_NOR_DRAWN))


def _outcome(
    number: int, item: Input, store: PartStore, stems: dict[int, str], failed: dict[int, Failure]
) -> Outcome:
    if number in failed:
        return failed[number].outcome
    if number in stems:
        return store.outcome(stems[number])
    return item.outcome("not reached", "stopped before")


def _drawn(
    store: PartStore,
    request: RunRequest,
    card: ModelCard,
    stems: dict[int, str],
    shown: Collection[int],
    table: pd.DataFrame,
) -> tuple[list[Section], list[ClusterExample]]:
    """What is shown of single images, with the ratios as they are found this time."""
    sections: list[Section] = []
    examples: list[ClusterExample] = []
    for number in sorted(set(shown) & stems.keys()):
        drawing = store.drawing(stems[number])
        if drawing is None:
            continue
        section, own = drawing
        ratios = class_ratios(
            table[table["image"] == section.image],
            card.classes,
            scope=section.image,
            images=[section.image],
            method=request.ratios,
            card=card,
        )
        sections.append(insert_ratios(section, ratios))
        examples = top_examples([*examples, *own])
    return sections, examples


def _device(outcomes: Iterable[Outcome]) -> str:
    """Where the network ran; workers need not have the same devices."""
    return ", ".join(
        sorted({str(o.parameters["device"]) for o in outcomes if "device" in o.parameters})
    )
