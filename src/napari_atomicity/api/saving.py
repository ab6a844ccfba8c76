"""Files of analyses: those of the command ``atomicity analyse``."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING

from ..core.errors import ModelError
from ..detection.settings import DetectionSettings
from ..io.inputs import Input
from ..io.provenance import micrograph_fields
from ..io.readers.arrays import unique_image_names
from ..models.analysis import Analysis
from ..pipeline.acquisition_sessions import SessionRules
from ..pipeline.run_request import RunRequest
from ..pipeline.runs.finalize import read_checked_reference
from ..pipeline.runs.in_memory import AnalysedImages
from ..pipeline.runs.run_files import RunInfo
from ..reporting.image_warnings import analysis_fields
from .progress import automatic_progress

if TYPE_CHECKING:
    from ..core.progress import Progress


def results_of(analyses: Iterable[Analysis]) -> tuple[AnalysedImages, list[Input]]:
    """Return analyses as the results of a run, from which its files are written.

    Parameters
    ----------
    analyses : iterable of Analysis
        Classified images. Names that occur twice get a number.

    Raises
    ------
    ModelError
        If there are no analyses, or not all of them are classified by one model.
    """
    given = list(analyses)
    cards = {a.card.model_id: a.card for a in given if a.card is not None}
    if len(cards) != 1 or any(a.card is None for a in given):
        raise ModelError(
            "the images are not classified by one model",
            advice="Analyse all of them with the same model",
        )
    (card,) = cards.values()
    names = unique_image_names([a.micrograph.name for a in given])
    named = [_renamed(a, name) for a, name in zip(given, names, strict=True)]
    parameters = named[0].parameters
    request = RunRequest(
        model=card.name,
        device=str(parameters.get("device", "auto")),
        symmetries=named[0].symmetries,
        labels=named[0].labels_from,
        detection=DetectionSettings(**parameters.get("detection", {})),
    )
    results = AnalysedImages(card, request, SessionRules())
    results.analyses = {a.micrograph.name: a for a in named}
    inputs = [
        Input(a.micrograph.name, a.micrograph.path or Path(), micrograph=a.micrograph)
        for a in named
    ]
    outcomes = [
        one.outcome("done", **micrograph_fields(a.micrograph), **analysis_fields(a))
        for a, one in zip(named, inputs, strict=True)
    ]
    results.outcomes = results.sessions.with_sessions(outcomes)
    return results, inputs


def _renamed(analysis: Analysis, name: str) -> Analysis:
    if analysis.micrograph.name == name:
        return analysis
    micrograph = analysis.micrograph.with_name(name)
    return replace(analysis, micrograph=micrograph, table=analysis.table.assign(image=name))


def save_results(
    results: AnalysedImages,
    inputs: Sequence[Input],
    info: RunInfo,
    folder: str | PathLike[str],
    method: str = "counted",
    *,
    reference: str | PathLike[str] | None = None,
    keep_ratios: bool = False,
    progress: Progress | bool | None = None,
) -> list[Path]:
    """Write the files of a run.

    Parameters
    ----------
    results : AnalysedImages
        Analyses and outcomes, which stay as they are.
    method : str, optional
        "counted", "confusion" or "em".
    reference : path-like, optional
        Table of known class fractions to compare with.
    keep_ratios : bool, optional
        Whether fractions are given even if a session does not fit the classes of the model.
    """
    request = replace(
        results.request,
        ratios=method,
        keep_ratios=keep_ratios,
        reference=None if reference is None else str(reference),
    )
    known_ratios = read_checked_reference(request, inputs, results.card)
    with automatic_progress(progress) as shown:
        copy = replace(results, request=request)
        return copy.write(Path(folder), inputs, known_ratios, info, shown).files
