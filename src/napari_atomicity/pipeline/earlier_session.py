"""Scale of an earlier session with the same instrument, as a prior for another session."""

from __future__ import annotations

import json
from collections.abc import Mapping
from math import log
from pathlib import Path
from typing import Any

import numpy as np

from ..core.acquisition_session import EarlierScale
from ..core.errors import ReadError
from ..io.files import regular_file

BETWEEN_SESSIONS = 0.15
"""Standard deviation of ln scale between sessions, added to that of the earlier session: as between
the images of a session, in which dose and focus change while gain and detector do not."""


def scale_of_session(described: Mapping[str, Any], source: str) -> EarlierScale:
    """Return the scale of a session as a prior for another one.

    Parameters
    ----------
    described : mapping of str to Any
        Description of the session, from `session_labels.describe_scale`.
    source : str
        Name of the session or of the record.
    """
    value = float(described["intensity_per_atom"])
    width = log(described["intensity_per_atom_high"] / described["intensity_per_atom_low"])
    return EarlierScale(value, float(np.hypot(width / 3.92, BETWEEN_SESSIONS)), source)


def read_earlier_scale(path: Path) -> EarlierScale:
    """Read the scale of an earlier session from the record of a run, or the card of a model.

    Parameters
    ----------
    path : Path
        ``run.json`` of the run, or the JSON card of a model that was trained on size-selected
        images. If it has several sessions, the scale is their mean, and their scatter adds to its
        uncertainty.

    Returns
    -------
    EarlierScale
        Widened by `BETWEEN_SESSIONS`.

    Raises
    ------
    ReadError
        If the file can't be read or contains no scale of a session.
    """
    advice = (
        "Choose run.json of a run whose images were labelled by session, or the card of a model "
        "that was trained on size-selected images"
    )
    try:
        record = json.loads(regular_file(path).read_text(encoding="utf-8"))
        sessions = record["sessions"] if "sessions" in record else record["data"]["sessions"]
        found = [scale_of_session(described, str(path)) for described in sessions]
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise ReadError("contains no scale of a session", path, advice) from error
    if not found:
        raise ReadError("contains no scale of a session", path, advice)
    mean = np.log([one.intensity_per_atom for one in found])
    sd = np.sqrt(np.mean([one.log_sd**2 for one in found]) + mean.var())
    return EarlierScale(float(np.exp(mean.mean())), float(sd), str(path))
