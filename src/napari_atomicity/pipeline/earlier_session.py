"""Scale of an earlier session with the same instrument, as a prior for another session."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from math import log
from pathlib import Path
from typing import Any

import numpy as np

from ..core.acquisition_session import EarlierScale
from ..core.errors import ReadError
from ..core.from_dict import Positive, dataclass_from_dict, dataclass_from_json
from ..io.files import read_document

BETWEEN_SESSIONS = 0.15
"""Standard deviation of ln scale between sessions, added to that of the earlier session: as between
the images of a session, in which dose and focus change while gain and detector do not."""


@dataclass(frozen=True)
class _Scale:
    intensity_per_atom: Positive
    intensity_per_atom_low: Positive
    intensity_per_atom_high: Positive


@dataclass(frozen=True)
class _Sessions:
    sessions: tuple[dict[str, Any], ...]


@dataclass(frozen=True)
class _RunOrCard:
    sessions: tuple[dict[str, Any], ...] | None = None
    data: _Sessions | None = None


def scale_of_session(described: Mapping[str, Any], source: str) -> EarlierScale:
    """Return the scale of a session as a prior for another one.

    Raises `ValueError` if an intensity is missing or not a number above 0.
    """
    scale = dataclass_from_dict(_Scale, described)
    width = log(scale.intensity_per_atom_high) - log(scale.intensity_per_atom_low)
    sd = float(np.hypot(width / 3.92, BETWEEN_SESSIONS))
    return EarlierScale(scale.intensity_per_atom, sd, source)


def read_earlier_scale(path: Path) -> EarlierScale:
    """Read the scale of an earlier session from the record of a run, or the card of a model.

    Raises `ReadError` if the file can't be read or contains no scale of a session.
    """
    advice = (
        "Choose run.json of a run whose images were labelled by session, or the card of a model "
        "that was trained on size-selected images"
    )
    try:
        record = dataclass_from_json(_RunOrCard, read_document(path))
        sessions = record.sessions
        if sessions is None and record.data is not None:
            sessions = record.data.sessions
        found = [scale_of_session(described, str(path)) for described in sessions or ()]
    except OSError as error:
        raise ReadError(f"could not be read ({error.strerror})", path, advice) from error
    except ValueError as error:
        raise ReadError(f"contains no scale of a session ({error})", path, advice) from error
    if not found:
        raise ReadError("contains no scale of a session", path, advice)
    mean = np.log([one.intensity_per_atom for one in found])
    sd = np.sqrt(np.mean([one.log_sd**2 for one in found]) + mean.var())
    return EarlierScale(float(np.exp(mean.mean())), float(sd), str(path))
