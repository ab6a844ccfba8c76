"""Report of an adaptation: figures before and after, page and record."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ...io.files import write_json
from ...io.inputs import make_folder
from ...io.provenance import Outcome, now, run_record
from ...io.tables import write_ratios
from ...reporting.adaptation_report import AdaptationContent, write_adaptation_report
from . import text as adaptation_text
from .settings import AdaptRequest

if TYPE_CHECKING:
    from .result import Adaptation


def write_report(
    request: AdaptRequest,
    found: Adaptation,
    summary: Mapping[str, Any],  # from `runs.AdaptRun.summary`
    outcomes: Sequence[Outcome],
    started: str,
) -> tuple[Path, ...]:
    """Write the report of an adaptation into the folder of the request.

    Raises `AtomicityError` if a file cannot be written.
    """
    assert request.report is not None
    folder = request.report
    make_folder(folder)
    before = found.before[0].card
    names = [f"ratios-{side}.csv" for side in ("before", "after")]
    sides = (found.before, found.after)
    tables = [
        write_ratios(adaptation_text.image_ratios(side), folder / name)
        for side, name in zip(sides, names, strict=True)
    ]
    record = run_record(
        outcomes,
        started=started,
        finished=now(),
        parameters={k: v for k, v in asdict(request).items() if k != "report"},
        model=None if before is None else before.provenance(),
        device=str(found.before[0].parameters.get("device", request.device)),
        outputs=[folder / "report.html", *tables, folder / "run.json"],
    )
    record["adaptation"] = dict(summary)
    written = write_adaptation_report(folder, describe(found), record)
    return (*written, *tables, write_json(folder / "run.json", record))


def describe(found: Adaptation) -> AdaptationContent:
    """Return the content of the report of an adaptation."""
    confidence = [adaptation_text.mean_confidence(side) for side in (found.before, found.after)]
    return AdaptationContent(
        verdict=adaptation_text.format_verdict(found),
        accepted=found.accepted,
        facts=(
            adaptation_text.format_shift(found.shift),
            adaptation_text.format_learnt(found),
            adaptation_text.format_ranges(found),
            adaptation_text.format_confidence(*confidence) if found.accepted else "",
        ),
        warning=adaptation_text.format_missing(found),
        checks=adaptation_text.check_rows(found),
        classes=found.card.classes,
        before=found.before,
        after=found.after if found.accepted else (),
    )
