"""The command, or the lines of Python, that repeat an analysis."""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, fields, is_dataclass
from pathlib import Path
from typing import Any

from ..core.acquisition_session import Composition, format_known
from ..core.errors import AtomicityError, ModelError
from ..core.model_card import ModelCard
from ..core.settings import settings_of
from ..core.text import pluralise
from ..detection.settings import DetectionSettings
from ..models.analysis import Analysis
from ..models.files import find_model, model_files, read_card
from .run_request import RunRequest

OUT = "results"


def request_of(
    analyses: Sequence[Analysis], known: Mapping[str, Composition] | None = None
) -> RunRequest:
    """Return the settings with which images of one session were analysed.

    ``known`` has the compositions of known samples among them, by image. Raises `AtomicityError`
    if some were analysed with outlines, of which no single file or folder exists.
    """
    first = analyses[0]
    detection = first.parameters.get("detection", {})
    names = {one.name for one in fields(DetectionSettings)}
    sizes_nm = {analysis.micrograph.pixel_size_nm for analysis in analyses}
    together = len(analyses) > 1 or bool(first.parameters.get("session"))
    return RunRequest(
        model=_name_of(first.model_id),
        pixel_size_nm=sizes_nm.pop() if len(sizes_nm) == 1 else None,
        symmetries=first.symmetries,
        labels=first.labels_from,
        detection=DetectionSettings(**{n: v for n, v in detection.items() if n in names}),
        session="all" if together else "none",
        known=tuple(format_known(image, sample) for image, sample in (known or {}).items()),
        outlines=_given_to(analyses, "outlines"),
        rois=_given_to(analyses, "rois"),
    )


def _given_to(analyses: Sequence[Analysis], name: str) -> str | None:
    """Return the file of outlines or regions, or the folder with one file for each image."""
    sources = [analysis.parameters.get(name, {}).get("source") for analysis in analyses]
    if not any(sources):
        return None
    folders = {Path(source).parent if source else None for source in sources}
    if len(folders) > 1 or not all(Path(source).is_file() for source in sources):
        raise AtomicityError(
            f"the {name} of {pluralise(len(analyses), 'image')} are not in files of one folder",
            advice="Save layers as TIFF, one named like each image, and import them",
        )
    return str(sources[0] if len(sources) == 1 else folders.pop())


def _name_of(model_id: str) -> str:
    """Return the name or the file of an installed model; its identity if it is not installed."""
    for path in model_files():
        with suppress(ModelError):
            if read_card(path, ModelCard).model_id == model_id:
                return "default" if path == find_model("default") else str(path)
    return model_id


def as_command(request: RunRequest, images: Sequence[Path]) -> str:
    """Return the command line that analyses images with these settings."""
    words = ["atomicity", "analyse", *map(str, images), "--out", OUT]
    return shlex.join([*words, *_options(request)])


def as_python(request: RunRequest, images: Sequence[Path]) -> str:
    """Return the lines of Python that analyse images with these settings."""
    usual = asdict(RunRequest())
    given = {n: v for n, v in asdict(request).items() if v != usual[n] and n != "detection"}
    changed = {name: getattr(request.detection, name) for name in request.detection.changed}
    arguments = [repr([str(path) for path in images])]
    arguments += [f"{name}={value!r}" for name, value in given.items()]
    arguments += [f"settings={changed!r}"] * bool(changed)
    listed = "".join(f"    {one},\n" for one in arguments)
    return (
        "from napari_atomicity import analyse\n\n"
        f"analyses = analyse(\n{listed})\nanalyses.save({OUT!r})\n"
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
