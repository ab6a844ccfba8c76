"""Provenance of results: versions, machine, settings, files and times."""

from __future__ import annotations

import logging
import os
import platform
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .._version import __version__
from ..core.acquisition_session import (
    AcquisitionSession,
    Sample,
    add_group_names,
    group_scopes,
    instrument_settings,
)
from ..core.errors import FAILED, ReadError, count_failed
from ..core.from_dict import dataclass_from_json
from ..core.micrograph import Micrograph
from .files import read_document

if TYPE_CHECKING:
    import pandas as pd

_log = logging.getLogger(__name__)

PACKAGES = (
    "napari",
    "npe2",
    "PyQt6",
    "PySide6",
    "torch",
    "numpy",
    "scipy",
    "scikit-image",
    "pandas",
    "trackpy",
    "umap-learn",
    "numba",
    "tifffile",
    "imagecodecs",
    "rosettasciio",
    "ase",
)
"""The packages whose versions may change a result or explain a failure."""


PARTLY = "partly failed"
"""Status of a run in which an image or a statistic failed."""


def now() -> str:
    """Return the time in UTC to the second: 2026-05-01T09:30:00+00:00."""
    return datetime.now(UTC).isoformat(timespec="seconds")


def environment() -> dict[str, Any]:
    """Return versions and machine, without personal data and without slow imports.

    The keys are ``napari-atomicity``, ``python``, ``platform``, ``machine``, ``cpu_count`` and
    ``packages`` (name → version, None if it is not installed).
    """
    return {
        "napari-atomicity": __version__,
        "python": platform.python_version(),
        "platform": platform.platform(),
        "machine": platform.machine(),
        "cpu_count": os.cpu_count(),
        "packages": {name: _version(name) for name in PACKAGES},
    }


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


@dataclass(frozen=True)
class Outcome:
    """Outcome of the analysis of one image."""

    image: str
    path: str
    status: str  # "done", "failed", or "not reached" if the run was interrupted before
    error: str | None = None  # what went wrong and what to do, one line
    traceback: str | None = None  # traceback of an unexpected error
    sha256: str | None = None  # hash of the file
    pixel_size_nm: float | None = None
    calibration: str | None = None  # origin of the pixel size
    # voltage, camera length, detector, gain and dwell time, as far as the file contains them
    instrument: dict[str, float | str] = field(default_factory=dict)
    session: str = ""  # acquisition session of an analysed image
    sample: str = ""  # sample of an analysed image
    # class → share of the clusters, for an image of a known sample
    known: dict[str, float] = field(default_factory=dict)
    # clusters, atoms: numbers of detected clusters and atoms
    clusters: int | None = None
    atoms: int | None = None
    parameters: dict[str, Any] = field(default_factory=dict)  # settings, model and device used
    seconds: dict[str, float] = field(default_factory=dict)  # stage → time in s
    warnings: tuple[str, ...] = ()  # warnings about the results


def micrograph_fields(micrograph: Micrograph) -> dict[str, Any]:
    """Return the fields of `Outcome` that describe an image that was read."""
    return {
        "sha256": micrograph.sha256,
        "pixel_size_nm": micrograph.pixel_size_nm,
        "calibration": micrograph.origin_of_pixel_size,
        "instrument": instrument_settings(micrograph.metadata),
    }


def assign_sessions(
    outcomes: Sequence[Outcome], sessions: Iterable[AcquisitionSession]
) -> list[Outcome]:
    """Return the outcomes with the session and the known composition of each image.

    Those of images without a session stay as they are.
    """
    session_of = {image: session for session in sessions for image in session.images}
    return [
        replace(
            outcome,
            session=session_of[outcome.image].name,
            known=dict(session_of[outcome.image].known.get(outcome.image, {})),
        )
        if outcome.image in session_of
        else outcome
        for outcome in outcomes
    ]


def assign_samples(outcomes: Sequence[Outcome], samples: Iterable[Sample]) -> list[Outcome]:
    """Return the outcomes with the sample of each image; others stay as they are."""
    sample_of = {image: sample.name for sample in samples for image in sample.images}
    return [replace(o, sample=sample_of.get(o.image, o.sample)) for o in outcomes]


def folders_of(outcomes: Iterable[Outcome]) -> dict[str, str]:
    """Return analysed image → absolute path of its folder, for `group_samples`."""
    return {
        o.image: str(Path(o.path).absolute().parent) if o.path else ""
        for o in outcomes
        if o.status == "done"
    }


def with_groups(table: pd.DataFrame, outcomes: Iterable[Outcome]) -> pd.DataFrame:
    """Return a table of clusters or atoms with session and sample of the image of each row."""
    found = list(outcomes)
    return add_group_names(
        table, {o.image: o.session for o in found}, {o.image: o.sample for o in found}
    )


def scopes_of(outcomes: Iterable[Outcome]) -> dict[str, list[str]]:
    """Return the scopes of the sessions and samples of analysed images."""
    done = [o for o in outcomes if o.status == "done"]
    return group_scopes({o.image: o.session for o in done}, {o.image: o.sample for o in done})


@dataclass(frozen=True)
class RecordedImage:
    """An image in the record of a run."""

    image: str
    status: str
    path: str = ""
    sha256: str | None = None


@dataclass(frozen=True)
class RecordedRun:
    """What is read of ``run.json``; `run_record` returns all of it."""

    outputs: tuple[str, ...]  # paths below the folder
    images: tuple[RecordedImage, ...]
    kind: str = ""
    model: dict[str, Any] | None = None


def read_run_record(folder: Path) -> RecordedRun | None:
    """Read ``run.json`` of a folder; None without it, and with a warning if it is damaged."""
    path = folder / "run.json"
    try:
        return dataclass_from_json(RecordedRun, read_document(path))
    except FileNotFoundError:
        return None
    except (OSError, ValueError) as error:
        _log.warning("%s is damaged and is ignored (%s)", path, error)
        return None


def analysed_images(table: Path) -> list[str] | None:
    """Return the images that the run which wrote a table analysed, even without a row in it.

    The result is None if no ``run.json`` in its folder names the table.
    """
    record = read_run_record(table.parent)
    if record is None or table.name not in record.outputs:
        return None
    return [image.image for image in record.images if image.status == "done"]


def lost_images(folder: Path, paths: Iterable[Path]) -> list[str]:
    """Return the images whose results a new run in a folder would replace by those of others.

    The result has the names of the images that the earlier run analysed and the new one does not.
    """
    record = read_run_record(folder)
    if record is None:
        return []
    new = {path.absolute() for path in paths}
    return [
        image.image
        for image in record.images
        if image.status == "done" and Path(image.path).absolute() not in new
    ]


def images_of_other_folders(folder: Path, watched: Path) -> list[str]:
    """Return the images of an earlier run that are not of a watched folder.

    Deleted images of the folder are of it, and so are those of the same name and content, as in a
    folder that was moved.
    """
    record = read_run_record(folder)
    return [
        image.image
        for image in ([] if record is None else record.images)
        if image.status == "done"
        and not Path(image.path).absolute().is_relative_to(watched.absolute())
        and not _has_content(watched / image.image, image.sha256)
    ]


def _has_content(path: Path, sha256: str | None) -> bool:
    from .images import sha256_of

    try:
        return sha256_of(path) == sha256
    except (OSError, ReadError):
        return False


def run_record(
    outcomes: Sequence[Outcome],
    *,
    started: str,  # started, finished: times as returned by `now`
    finished: str,
    parameters: dict[str, Any],
    model: dict[str, Any] | None,  # provenance (`ModelCard.provenance`)
    device: str | None,
    kind: str = "",  # the command that makes such results
    outputs: Sequence[str] = (),  # paths below the folder of the results
    interrupted: bool = False,  # whether the user stopped the run
    command: Sequence[str] | None = None,  # by default that of this process
    # Descriptions of the sessions whose images were labelled jointly
    sessions: Sequence[dict[str, Any]] = (),
    samples: Sequence[Sample] = (),
    # Statistics of all images that failed, and their errors; the record contains this mapping
    failed: Mapping[str, str] | None = None,
) -> dict[str, Any]:
    """Return the record of a run, with types of JSON, sufficient to repeat it."""
    return {
        "program": "napari-atomicity",
        "version": __version__,
        "kind": kind,
        "command": list(sys.argv if command is None else command),
        "started": started,
        "finished": finished,
        "status": record_status(outcomes, interrupted, failed),
        "parameters": parameters,
        "model": model,
        "device": device,
        "images_done": sum(outcome.status == "done" for outcome in outcomes),
        "images_failed": sum(outcome.status == "failed" for outcome in outcomes),
        "images": [asdict(outcome) for outcome in outcomes],
        FAILED: {} if failed is None else failed,
        "sessions": list(sessions),
        "samples": [asdict(sample) for sample in samples],
        "outputs": list(outputs),
        "environment": environment(),
    }


def with_annotator(parameters: dict[str, Any], annotator: str | None) -> dict[str, Any]:
    """Return the parameters of a record with the blind annotator whose work alone is written."""
    return parameters if annotator is None else {**parameters, "blind_annotator": annotator}


def record_status(
    outcomes: Sequence[Outcome], interrupted: bool, failed: Mapping[str, str] | None
) -> str:
    """Return the status of a run for its record."""
    if interrupted:
        return "interrupted"
    n = count_failed(outcome.parameters for outcome in outcomes)
    incomplete = n or failed or any(outcome.status == "failed" for outcome in outcomes)
    return PARTLY if incomplete else "done"
