"""The command, or the lines of Python, that repeat analyses of clusters or of atoms."""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, fields, is_dataclass, replace
from pathlib import Path
from typing import Any

from ..atoms.finding.card import SHIPPED as SHIPPED_ATOM_MODELS, AtomCard
from ..atoms.marks import ImageAtoms
from ..core.acquisition_session import (
    AcquisitionSession,
    Composition,
    EarlierScale,
    format_known,
)
from ..core.errors import AtomicityError
from ..core.micrograph import GIVEN
from ..core.model_card import Card, ModelCard
from ..core.settings import GROUP_DISTANCE_NM, settings_of
from ..core.text import pluralise
from ..detection.settings import DetectionSettings
from ..models.analysis import Analysis
from ..models.files import find_model, installed_model
from .run_request import AtomRequest, RunRequest

OUT = "results"
_OF_RATIOS = {"ratios": "method", "reference": "reference", "keep_ratios": "keep_ratios"}
"""Settings of the ratios, and their names where they are written in Python."""
Run = tuple[RunRequest | AtomRequest, list[Path]]
"""Settings and images of a run that can be repeated."""


def runs_of(analyses: Sequence[Analysis], session: AcquisitionSession) -> list[Run]:
    """Return the runs that repeat analyses of images of one session, some of them jointly labelled.

    What was entered of the session is repeated for those. Analyses without a file or a model can't
    be repeated. Raises `AtomicityError` as `request_of`, and if a run has no setting for what was
    entered.
    """
    own = [a for a in analyses if a.micrograph.path is not None and a.model_id]
    jointly = [a for a in own if a.parameters.get("session")]
    runs: list[Run] = [(request_of([a]), _paths([a])) for a in own if a not in jointly]
    if not jointly:
        return runs
    names = {one.micrograph.name for one in jointly}
    known = {name: sample for name, sample in session.known.items() if name in names}
    kept = session.kept & known.keys()
    if kept and kept != known.keys():
        raise AtomicityError(
            f"of the known samples of the session {session.name}, only some are used even if "
            "contradicted",
            advice="Use all of them so or none: a run has one setting for all",
        )
    request = replace(
        request_of(jointly, known),
        keep_known=bool(kept),
        pixel_size_error=round(100 * session.pixel_size_error, 6),
        earlier_run=_file_of(session.earlier),
    )
    return [(request, _paths(jointly)), *runs]


def _paths(analyses: Sequence[Analysis]) -> list[Path]:
    """Return the files of the images."""
    return [one.micrograph.path for one in analyses if one.micrograph.path is not None]


def _file_of(earlier: EarlierScale | None) -> str | None:
    """Return the file of the scale of an earlier session.

    Raises `AtomicityError` if it is in none, but a session of the open project.
    """
    if earlier is None or Path(earlier.source).is_file():
        return None if earlier is None else earlier.source
    raise AtomicityError(
        f"the scale of the earlier session {earlier.source} is in no file",
        advice="Export that session, and choose its run.json as Same instrument as",
    )


def atom_run_of(images: Sequence[ImageAtoms], like: ImageAtoms) -> Run | None:
    """Return the run that finds the atoms of an image, and of those found with its settings.

    None without a result of a model, or without a file. Marks of people are not repeated.
    """
    wanted = _atom_request(like)
    if wanted is None:
        return None
    alike = [one for one in images if one is like or _atom_request(one) == wanted]
    paths = [one.analysis.micrograph.path for one in alike if one.analysis is not None]
    files = [path for path in paths if path is not None]
    return (wanted, files) if files else None


def _atom_request(atoms: ImageAtoms) -> AtomRequest | None:
    """Return the settings with which the atoms of an image were found."""
    analysis = atoms.analysis
    if analysis is None:
        return None
    usual = analysis.threshold == analysis.best_threshold()
    default = SHIPPED_ATOM_MODELS["default"]
    return AtomRequest(
        model=_name_of(analysis.model_id, AtomCard, find_model(default)),
        pixel_size_nm=analysis.pixel_size_nm,
        threshold=None if usual else analysis.threshold,
        group_distance_nm=atoms.group_distance_nm,
    )


def request_of(
    analyses: Sequence[Analysis], known: Mapping[str, Composition] | None = None
) -> RunRequest:
    """Return the settings with which images of one session were analysed.

    ``known`` has the compositions of known samples among them, by image. Raises `AtomicityError`
    if some were analysed with outlines, of which no single file or folder exists, or with other
    settings than the first.
    """
    first = analyses[0]
    settings = [(a.model_id, a.symmetries, a.labels_from, _detection_of(a)) for a in analyses]
    if any(one != settings[0] for one in settings):
        raise AtomicityError(
            "the images were analysed with different settings or models",
            advice="Analyse all again, or copy the analysis of one image",
        )
    sizes_nm = {analysis.micrograph.pixel_size_nm for analysis in analyses}
    if len(sizes_nm) > 1 and any(a.micrograph.origin_of_pixel_size == GIVEN for a in analyses):
        raise AtomicityError(
            "the images have different pixel sizes, some of which were entered by hand, but a run "
            "can be given one for all images",
            advice="Group them into sessions of one pixel size (Browse), or copy one by one",
        )
    together = len(analyses) > 1 or bool(first.parameters.get("session"))
    return RunRequest(
        model=_name_of(first.model_id, ModelCard, find_model("default")),
        pixel_size_nm=sizes_nm.pop() if len(sizes_nm) == 1 else None,
        symmetries=first.symmetries,
        labels=first.labels_from,
        detection=_detection_of(first),
        session="all" if together else "none",
        known=tuple(format_known(image, sample) for image, sample in (known or {}).items()),
        outlines=_given_to(analyses, "outlines"),
        rois=_given_to(analyses, "rois"),
    )


def _detection_of(analysis: Analysis) -> DetectionSettings:
    """Return the settings of the detection."""
    given, names = analysis.parameters.get("detection", {}), fields(DetectionSettings)
    return DetectionSettings(**{one.name: given[one.name] for one in names if one.name in given})


def _given_to(analyses: Sequence[Analysis], name: str) -> str | None:
    """Return the file of outlines or regions, or the folder with one file for each image."""
    sources = [analysis.parameters.get(name, {}).get("source") for analysis in analyses]
    if not any(sources):
        return None
    if not all(sources):
        without = f"{sources.count(None)} of {len(sources)} images of this session"
        raise AtomicityError(
            f"{without} have no imported {name}, but a run needs them for all its images or none",
            advice="Import them for the others too, or group those into another session (Browse)",
        )
    folders = {Path(source).parent for source in sources}
    if len(folders) > 1 or not all(Path(source).is_file() for source in sources):
        raise AtomicityError(
            f"the {name} of {pluralise(len(analyses), 'image')} are not in files of one folder",
            advice="Save layers as TIFF, one named like each image, and import them",
        )
    return str(sources[0] if len(sources) == 1 else folders.pop())


def _name_of(model_id: str, card_type: type[Card], default: Path) -> str:
    """Return the name or the file of an installed model.

    Raises `AtomicityError` if it is not installed, such as an adapted one that was not saved.
    """
    found = installed_model(model_id, card_type) if model_id else ("", None)
    if found is None:
        raise AtomicityError(
            f"the model {model_id} is in no file",
            advice="Save an adapted model first (dock Adapt: Save model), or analyse again",
        )
    return "default" if found[0] == default else str(found[0])


def as_command(request: RunRequest | AtomRequest, images: Sequence[Path], out: str = OUT) -> str:
    """Return the command line that analyses images with these settings."""
    name = "atoms" if isinstance(request, AtomRequest) else "analyse"
    words = ["atomicity", name, *map(str, images), "--out", out]
    return shlex.join([*words, *_options(request)])


def as_python(request: RunRequest | AtomRequest, images: Sequence[Path], out: str = OUT) -> str:
    """Return the lines of Python that analyse images with these settings."""
    if isinstance(request, AtomRequest):
        return _atoms_as_python(request, images, out)
    if request.earlier_run is not None:
        raise AtomicityError(
            "analyse() in Python takes no scale of an earlier session", advice="Copy the command"
        )
    usual = asdict(RunRequest())
    given = {n: v for n, v in asdict(request).items() if v != usual[n] and n != "detection"}
    # the ratios are found when they are written
    saved = [repr(out), *(f"{new}={given.pop(n)!r}" for n, new in _OF_RATIOS.items() if n in given)]
    changed = {name: getattr(request.detection, name) for name in request.detection.changed}
    arguments = [repr([str(path) for path in images])]
    arguments += [f"{name}={value!r}" for name, value in given.items()]
    arguments += [f"settings={changed!r}"] * bool(changed)
    listed = "".join(f"    {one},\n" for one in arguments)
    return (
        "from napari_atomicity import analyse\n\n"
        f"analyses = analyse(\n{listed})\nanalyses.save({', '.join(saved)})\n"
    )


def _atoms_as_python(request: AtomRequest, images: Sequence[Path], out: str) -> str:
    given = {name: getattr(request, name) for name in ("model", "pixel_size_nm", "threshold")}
    usual = AtomRequest()
    arguments = [f"{n}={v!r}" for n, v in given.items() if v != getattr(usual, n)]
    find = f"find_atoms({', '.join(['image', *arguments])})"
    imports = "import pandas as pd\n\nfrom napari_atomicity import find_atoms\n"
    if request.group_distance_nm != GROUP_DISTANCE_NM:
        imports = f"from dataclasses import replace\n\n{imports}"
        find = f"replace({find}, group_distance_nm={request.group_distance_nm!r})"
    return (
        f"{imports}\nimages = {[str(path) for path in images]!r}\n"
        f"atoms = pd.concat([{find}.table for image in images])\n"
        f"atoms.to_csv({f'{out}.csv'!r}, index=False)\n"
    )


def _options(settings: Any) -> Iterator[str]:
    """Yield the options of all settings that are not the defaults."""
    usual = type(settings)()
    for name, about in settings_of(type(settings)).items():
        value = getattr(settings, name)
        if is_dataclass(value):
            yield from _options(value)
        elif about.option is not None and value != getattr(usual, name):
            option = (about.option or f"--{name.replace('_', '-')}").split()[0]
            if isinstance(value, bool):
                yield option if value else f"--no-{option.removeprefix('--')}"
            else:
                for one in value if isinstance(value, tuple) else (value,):
                    yield from (option, str(one))
