"""Report of an adaptation: figures before and after, page and record."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ...io.provenance import Outcome, now
from ...io.result_folder import REPORT, ResultFolder
from ...io.tables import write_ratios
from ...reporting.adaptation_report import (
    AdaptationContent,
    write_adaptation_report,
    write_charts,
)
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
    results = ResultFolder(request.report, "adapt")
    sides = {"before": found.before, "after": found.after}
    for name, analyses in sides.items():
        ratios = adaptation_text.image_ratios(analyses)
        results.add(write_ratios(ratios, results / f"ratios-{name}.csv"))
    content = describe(found)
    drawn = write_charts(results / "figures", content)
    results.add(*chain(*drawn.values()))
    charts = {name: files[-1] for name, files in drawn.items()}
    card = found.before[0].card

    def write_page(record: dict[str, Any]) -> None:
        record["adaptation"] = dict(summary)
        write_adaptation_report(results / REPORT, content, charts, record)

    results.finish(
        outcomes,
        write_page,
        started=started,
        finished=now(),
        parameters={k: v for k, v in asdict(request).items() if k != "report"},
        model=None if card is None else card.provenance(),
        device=str(found.before[0].parameters.get("device", request.device)),
    )
    results.raise_failed()
    return tuple(results.files)


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
