"""Files of a run: tables, report and record."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import pandas as pd

from ...core.errors import FAILED, attempt
from ...core.model_card import ModelCard
from ...io.files import write_json
from ...io.provenance import Outcome, attempt_report, now, run_record
from ...io.tables import write_ratios
from ...reporting.examples import ClusterExample
from ...reporting.image_section import Section
from ...reporting.plots.session import SessionSummary
from ...reporting.report import ReportData, write_report
from ...statistics.ratios.ratio_notes import ImageLimits
from ...statistics.ratios.ratios import COLUMNS, class_ratios
from ...statistics.ratios.reference import Comparison, compare
from ..run_request import RunRequest

TABLES = ("clusters.csv", "clusters.parquet", "ratios.csv")


class WithOutcomes:
    """A result of a run over images."""

    outcomes: list[Outcome]

    @property
    def failed(self) -> list[Outcome]:
        """Outcomes of the images that could not be analysed."""
        return [outcome for outcome in self.outcomes if outcome.status == "failed"]


@dataclass(frozen=True, eq=False)
class Run(WithOutcomes):
    """Result of a run."""

    table: pd.DataFrame
    ratios: pd.DataFrame
    outcomes: list[Outcome]
    files: list[Path]  # files of the run; the record is the last one
    interrupted: bool
    comparison: Comparison | None = None  # comparison of the ratios with a reference
    # statistics of all images that failed, and their errors
    failed_statistics: dict[str, str] = field(default_factory=dict)

    def fields(self) -> dict[str, Any]:
        """Return the fields, for a run with more of them."""
        return {name: getattr(self, name) for name in Run.__dataclass_fields__}

    def summary(self) -> dict[str, Any]:
        """Summarise the run as plain values for JSON."""
        return {
            "out": str(self.files[0].parent) if self.files else None,
            "files": [path.name for path in self.files],
            "interrupted": self.interrupted,
            "clusters": len(self.table),
            "images": summarise_outcomes(self.outcomes, "clusters"),
            "ratios": self.ratios.to_dict("records"),
            FAILED: self.failed_statistics,
            "reference": None if self.comparison is None else self.comparison.to_dict(),
        }


def summarise_outcomes(outcomes: Iterable[Outcome], counted: str) -> list[dict[str, Any]]:
    """Summarise outcomes as plain values for JSON; ``counted`` is "clusters" or "atoms"."""
    return [
        {
            "image": outcome.image,
            "path": outcome.path,
            "status": outcome.status,
            "error": outcome.error,
            counted: getattr(outcome, counted),
            "warnings": list(outcome.warnings),
            "session": outcome.session,
            "seconds": sum(outcome.seconds.values()),
        }
        for outcome in outcomes
    ]


class RunInfo(NamedTuple):
    """Circumstances of a run, for its record."""

    started: str  # start time
    device: str  # device of the network
    interrupted: bool = False
    command: Sequence[str] | None = None  # command line; that of this process if None
    # descriptions of the sessions whose images were labelled jointly
    sessions: Sequence[dict[str, Any]] = ()


@dataclass(frozen=True, eq=False)
class ReportContent:
    """Content of the report beside the tables: see `reporting.report.write_report`."""

    sections: Sequence[Section] = ()  # sections of single images
    examples: Sequence[ClusterExample] = ()
    scales: Mapping[str, float] = field(default_factory=dict)  # image → intensity of one atom
    sessions: Sequence[SessionSummary] = ()  # sessions whose images were labelled jointly


def finalize_run(
    out_dir: Path,
    request: RunRequest,
    card: ModelCard,
    table: pd.DataFrame,  # clusters of all images; only the columns for ratios and plots are needed
    outcomes: list[Outcome],
    write_tables: Callable[[Path, Path], None],  # writes all clusters to a CSV and a Parquet file
    info: RunInfo,
    content: ReportContent,
    reference: pd.DataFrame | None = None,
    more_files: Sequence[str] = (),
) -> Run:
    """Compute the ratios of all images and write tables, report and, last, the record.

    Raises `AtomicityError` if a file cannot be written.
    """
    analysed = [o.image for o in outcomes if o.status == "done"]
    keep = request.keep_ratios
    limits = {o.image: ImageLimits.from_parameters(o.parameters, keep) for o in outcomes}
    method: dict[str, Any] = {"method": request.ratios, "card": card, "limits": limits}
    failed: dict[str, str] = {}
    ratios = attempt(failed, "ratios", lambda: class_ratios(table, images=analysed, **method))
    ratios = pd.DataFrame(columns=COLUMNS) if ratios is None else ratios
    comparison = None
    if reference is not None:
        # Images that failed are named too: their scope is then empty and not unknown.
        names = [o.image for o in outcomes]
        comparison = attempt(
            failed, "comparison", lambda: compare(table, reference, names, **method)
        )
    run = Run(table, ratios, outcomes, [], info.interrupted, comparison, failed)
    run.files.extend(_file_names(out_dir, more_files, comparison is not None))
    _write_run(run, out_dir, request, card, write_tables, info, content)
    return run


def _file_names(out_dir: Path, more_files: Sequence[str], compared: bool) -> list[Path]:
    """Return the files of a run; the record is the last one."""
    others = [*more_files, *(["reference.json"] if compared else [])]
    return [out_dir / name for name in [*TABLES, "report.html", *others, "run.json"]]


def _write_run(
    run: Run,
    out_dir: Path,
    request: RunRequest,
    card: ModelCard,
    write_tables: Callable[[Path, Path], None],
    info: RunInfo,
    content: ReportContent,
) -> None:
    """Write the files of a run; the record comes last, so that its existence implies the others."""
    record = run_record(
        run.outcomes,
        started=info.started,
        finished=now(),
        parameters=asdict(request),
        model=card.provenance(),
        device=info.device,
        outputs=run.files,
        interrupted=info.interrupted,
        command=info.command,
        sessions=info.sessions,
        failed=run.failed_statistics,
    )
    csv, parquet, ratios, html = run.files[:4]
    write_tables(csv, parquet)
    write_ratios(run.ratios, ratios)
    data = ReportData(
        run.table,
        run.ratios,
        record,
        run.comparison,
        card=card,
        examples=list(content.examples),
        scales=content.scales,
        sessions=content.sessions,
    )
    attempt_report(record, run.files, html, lambda: write_report(html, content.sections, data))
    if run.comparison is not None:
        write_json(out_dir / "reference.json", run.comparison.to_dict())
    else:  # a file of an earlier run would seem to belong to this one
        (out_dir / "reference.json").unlink(missing_ok=True)
    write_json(run.files[-1], record)
