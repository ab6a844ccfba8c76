"""Settings of the analysis of a movie."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from ..core.errors import AtomicityError
from ..core.from_dict import dataclass_from_dict
from ..core.micrograph import Micrograph

DRIFT_METHODS = ("auto", "clusters", "image", "none")
FRAME_TIME = "frame_time_s"
"""Key of the metadata of a micrograph: frame time in seconds."""


@dataclass(frozen=True)
class MovieSettings:
    """Settings of the tracking of clusters.

    Parameters
    ----------
    search_range_nm : float, default 1.0
        Maximum displacement of a cluster between frames, after drift correction.
    memory_frames : int, default 2
        Maximum number of frames in which a cluster is not detected.
    min_frames : int, default 2
        Minimum number of frames of a track.
    drift : str, default "auto"
        "auto", "clusters", "image" or "none": see `estimate_drift`.
    frame_time_s : float, optional
        Frame time; None: from the file, and if that has none, times are in frames.
    rate : float, optional
        Rate of class changes per cluster, per second or, if the frame time is unknown, per frame;
        None: estimated from the movie.
    frame_weight : float, default 1.0
        Weight of a frame relative to an independent one: errors of the model in successive frames
        are correlated, since a cluster has the same position and shape in them.

    Raises
    ------
    AtomicityError
        If a value is invalid.
    """

    search_range_nm: float = 1.0
    memory_frames: int = 2
    min_frames: int = 2
    drift: str = "auto"
    frame_time_s: float | None = None
    rate: float | None = None
    frame_weight: float = 1.0

    def __post_init__(self) -> None:
        problems = [
            (not _positive(self.search_range_nm), "the search range must be positive"),
            (self.memory_frames < 0, "the memory must not be negative"),
            (self.min_frames < 1, "the minimum number of frames must be at least 1"),
            (
                self.frame_time_s is not None and not _positive(self.frame_time_s),
                "the frame time must be positive",
            ),
            (self.rate is not None and not _positive(self.rate), "the rate must be positive"),
            (not 0 < self.frame_weight <= 1, "the weight of a frame must be between 0 and 1"),
            (
                self.drift not in DRIFT_METHODS,
                f"the drift method must be one of {', '.join(DRIFT_METHODS)}",
            ),
        ]
        for is_invalid, message in problems:
            if is_invalid:
                raise AtomicityError(message)

    def to_dict(self) -> dict[str, Any]:
        """Return plain values for JSON."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> MovieSettings:
        """Build from `to_dict`; ignore unknown settings."""
        return dataclass_from_dict(cls, values)


def _positive(number: float) -> bool:
    return math.isfinite(number) and number > 0


def frame_time_of(micrograph: Micrograph) -> float | None:
    """Return the frame time (s) in the metadata; None without a valid one."""
    value = micrograph.metadata.get(FRAME_TIME)
    is_valid = (
        isinstance(value, int | float) and not isinstance(value, bool) and _positive(float(value))
    )
    return float(value) if is_valid else None  # type: ignore[arg-type]
