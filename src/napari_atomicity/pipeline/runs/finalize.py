"""End of a run: join the parts of all images to tables, report and record."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from typing import Any

import pandas as pd
import pyarrow as pa

from ...core.errors import TableError, attempt
from ...core.model_card import ModelCard
from ...core.tables.cluster_table import empty
from ...io.files import write_json
from ...io.inputs import Input
from ...io.provenance import Outcome, now, scopes_of, with_groups
from ...io.result_folder import REPORT, ResultFolder
from ...io.tables import read_reference, write_clusters, write_data_set, write_ratios
from ...reporting.examples import ClusterExample, candidates
from ...reporting.image_section import Section, insert_ratios
from ...reporting.plots.session import describe_sessions
from ...reporting.report import ReportData, write_report
from ...statistics.ratios.ratio_notes import ImageLimits
from ...statistics.ratios.ratios import class_ratios, refuse_unavailable
from ...statistics.ratios.reference import Comparison, attempt_ratios, check_reference
from ...statistics.samples.run_evidence import are_compared, compare_clusters
from ...tracking.files import write_movie_results
from ..run_request import RunRequest
from .part_index import PartIndex
from .parts import concatenate_parts
from .run_files import Run, RunInfo


def read_checked_reference(
    request: RunRequest, inputs: Sequence[Input], card: ModelCard
) -> pd.DataFrame | None:
    """Read the reference ratios of a request and check that they match.

    Raises `ModelError` if the model lacks the data for the ratios. Raises `TableError` if the
    reference does not match the images and the model.
    """
    refuse_unavailable(request.ratios, card)
    if request.reference is None:
        return None
    reference = read_reference(request.reference)
    check_reference(reference, [item.name for item in inputs], card.classes)
    return reference


def evenly_distributed(n: int, n_chosen: int) -> set[int]:
    """Return at most ``n_chosen`` of the numbers below ``n``, evenly distributed."""
    if n <= n_chosen:
        return set(range(n))
    return {round(i * (n - 1) / max(1, n_chosen - 1)) for i in range(n_chosen)}


def finalize_run(
    images: PartIndex,
    inputs: Sequence[Input],
    info: RunInfo,  # for the record; the devices of the parts replace its device
    shown: Collection[str],  # names of the images with a section in the report, if they were drawn
    reference: pd.DataFrame | None = None,
    kind: str = "analyse",  # of the record
    more_files: Sequence[str] = (),  # that exist already
) -> Run:
    """Write the files of a run from the parts; remove parts that belong to no image any more.

    Raises `AtomicityError` if a file cannot be written.
    """
    store = images.store
    joined = _join_parts(images, inputs)
    stems = [images.stems[item.name] for item in inputs if item.name in images.stems]
    outcomes = images.sessions.with_sessions([images.outcome(item) for item in inputs])
    sessions = images.sessions.group(outcomes)
    info = info._replace(
        device=_device(outcomes) or info.device,
        sessions=describe_sessions(sessions, images.joint, joined.n_changed),
        samples=images.sessions.group_samples(outcomes),
    )
    joined = replace(joined, table=with_groups(joined.table, outcomes))
    failures = [images.failed[item.name] for item in inputs if item.name in images.failed]
    movies = [movie for stem in stems if (movie := store.movie(stem)) is not None]
    results = ResultFolder(store.folder, kind)
    ratios = _compute_ratios(joined.table, outcomes, images, reference, results.failed)
    about = [_describe_image(outcome) for outcome in outcomes if outcome.status == "done"]
    results.add(
        write_clusters(joined.table, results / "clusters.csv"),
        write_clusters(joined.table, results / "clusters.parquet", {"images": about}),
        *write_data_set(joined.table, results / "clusters", about),
        write_ratios(ratios[0], results / "ratios.csv"),
        store.write_failures(failures),
        *(results / name for name in more_files),
        *write_movie_results(movies, store.folder),
    )
    drawn = [item for item in inputs if item.name in shown]
    run = _write_run(results, outcomes, ratios, images, info, joined, drawn)
    if not info.interrupted:
        done = [item.path for item in inputs if item.name in images.stems]
        store.tidy(stems, done, all_done=not failures)
    store.join(stems)
    return run


def _describe_image(outcome: Outcome) -> dict[str, Any]:
    """Return what Parquet files say of an image: the same, however and whenever it was analysed."""
    names = ("image", "path", "sha256", "pixel_size_nm", "calibration", "instrument")
    return {name: getattr(outcome, name) for name in (*names, "session", "sample")}


def _compute_ratios(
    table: pd.DataFrame,
    outcomes: list[Outcome],
    images: PartIndex,
    reference: pd.DataFrame | None,
    failed: dict[str, str],
) -> tuple[pd.DataFrame, Comparison | None]:
    """Compute the ratios of all images, and compare them with a reference."""
    request = images.request
    analysed = [o.image for o in outcomes if o.status == "done"]
    keep = request.keep_ratios
    limits = {o.image: ImageLimits.from_parameters(o.parameters, keep, o.sha256) for o in outcomes}
    method: dict[str, Any] = {"method": request.ratios, "card": images.card, "limits": limits}
    # Images that failed are named too: their scope is then empty and not unknown.
    names = [o.image for o in outcomes]
    groups = scopes_of(outcomes)
    return attempt_ratios(table, analysed, reference, names, failed, groups, **method)


def _write_run(
    results: ResultFolder,
    outcomes: list[Outcome],
    ratios: tuple[pd.DataFrame, Comparison | None],
    images: PartIndex,
    info: RunInfo,
    joined: _Joined,
    drawn: Sequence[Input],
) -> Run:
    """Write comparison, report and record."""
    table, (found, comparison) = joined.table, ratios
    if comparison is not None:
        results.add(write_json(results / "reference.json", comparison.to_dict()))
    sections, examples = _read_drawings(images, drawn, joined)
    keep = images.request.keep_ratios
    compare = partial(compare_clusters, table, outcomes, info.samples, keep_ratios=keep)
    samples = None
    if are_compared(info.samples) and len(table):
        samples = attempt(results.failed, "comparison of the samples", compare)

    def write_page(record: dict[str, Any]) -> None:
        data = ReportData(
            table,
            found,
            record,
            comparison,
            card=images.card,
            examples=examples,
            scales=joined.scales,
            sessions=images.summaries,
            samples=samples,
        )
        write_report(results / REPORT, sections, data)

    results.finish(
        outcomes,
        write_page,
        started=info.started,
        finished=now(),
        parameters=asdict(images.request),
        model=images.card.provenance(),
        device=info.device,
        interrupted=info.interrupted,
        command=info.command,
        sessions=info.sessions,
        samples=info.samples,
    )
    return Run(table, found, outcomes, results.files, info.interrupted, comparison, results.failed)


@dataclass(frozen=True, eq=False)
class _Joined:
    """Clusters of all images, and what their parts say of them."""

    table: pd.DataFrame
    scales: dict[str, float]  # image → intensity of one atom
    n_changed: dict[str, int]  # image → number of clusters that its session has labelled otherwise


def _join_parts(images: PartIndex, inputs: Sequence[Input]) -> _Joined:
    """Read all parts; an image whose part is damaged has failed."""
    parts: list[pa.Table] = []
    scales: dict[str, float] = {}
    n_changed: dict[str, int] = {}
    for item in inputs:
        stem = images.stems.get(item.name)
        if stem is None:
            continue
        try:
            part, about = images.store.read(stem)
        except TableError as error:
            images.store.remove([images.stems.pop(item.name)])
            images.fail(item.outcome("failed", str(error)))
            continue
        if about.get("scale") is not None:
            scales[item.name] = about["scale"]
        n_changed[item.name] = about.get("n_changed", 0)
        if part.num_rows:
            parts.append(part)
    table = concatenate_parts(parts) if parts else empty(images.card.classes)
    return _Joined(table, scales, n_changed)


def _read_drawings(
    images: PartIndex, shown: Sequence[Input], joined: _Joined
) -> tuple[list[Section], list[ClusterExample]]:
    """Read the drawings of single images, with the ratios by the method of this request."""
    sections: list[Section] = []
    examples: list[ClusterExample] = []
    for item in shown:
        name = item.name
        drawing = images.store.drawing(images.stems[name]) if name in images.stems else None
        if drawing is None:
            continue
        section, own = drawing
        parameters, keep = images.outcome(item).parameters, images.request.keep_ratios
        find_ratios = partial(
            class_ratios,
            joined.table[joined.table["image"] == section.image],
            images.card.classes,
            scope=section.image,
            images=[section.image],
            method=images.request.ratios,
            card=images.card,
            limits={section.image: ImageLimits.from_parameters(parameters, keep)},
        )
        # an error is that of the ratios of all images, too, where it is reported
        ratios = attempt({}, "ratios", find_ratios)
        sections.append(section if ratios is None else insert_ratios(section, ratios))
        examples = candidates([*examples, *own])
    return sections, examples


def _device(outcomes: Iterable[Outcome]) -> str:
    """Return the devices of the network; workers may have different ones."""
    return ", ".join(
        sorted({str(o.parameters["device"]) for o in outcomes if "device" in o.parameters})
    )
