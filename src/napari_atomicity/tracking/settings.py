"""What is asked of the analysis of a movie."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from ..core.errors import AtomicityError
from ..core.micrograph import Micrograph

DRIFT_METHODS = ("auto", "clusters", "image", "none")
FRAME_TIME = "frame_time_s"
"""Under this key of a micrograph's metadata lies the time from frame to frame in seconds."""


@dataclass(frozen=True)
class MovieSettings:
    """How clusters are followed over the frames of a stack.

    Parameters
    ----------
    search_range_nm : float, default 1.0
        How far a cluster may go from one frame to the next, the drift of the stage apart.
    memory_frames : int, default 2
        For how many frames it may be missed.
    min_frames : int, default 2
        Clusters that are seen in fewer frames are in no track.
    drift : str, default "auto"
        "auto", "clusters", "image" or "none": see `estimate_drift`.
    frame_time_s : float, optional
        Time from frame to frame; None: as the file says, and if it doesn't, times are in frames.
    rate : float, optional
        How often a cluster leaves its class, per second, or per frame where the time of a frame is
        not known; None: found in the movie.
    frame_weight : float, default 1.0
        What a frame is worth beside an independent one: successive frames show a cluster in the
        same place and the same shape, and so the model errs alike in them.

    Raises
    ------
    AtomicityError
        If a value makes no sense.
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
            (self.memory_frames < 0, "the memory can't be negative"),
            (self.min_frames < 1, "a track has at least one frame"),
            (
                self.frame_time_s is not None and not _positive(self.frame_time_s),
                "the time of a frame must be positive",
            ),
            (self.rate is not None and not _positive(self.rate), "the rate must be positive"),
            (not 0 < self.frame_weight <= 1, "the weight of a frame lies between 0 and 1"),
            (
                self.drift not in DRIFT_METHODS,
                f"the drift is found by one of {', '.join(DRIFT_METHODS)}",
            ),
        ]
        for wrong, words in problems:
            if wrong:
                raise AtomicityError(words)

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> MovieSettings:
        """Settings as they were kept; those of another version are passed over."""
        known = cls.__dataclass_fields__
        return cls(**{name: value for name, value in values.items() if name in known})


def _positive(number: float) -> bool:
    return math.isfinite(number) and number > 0


def frame_time_of(micrograph: Micrograph) -> float | None:
    """Seconds from frame to frame as the file says; None where it doesn't."""
    told = micrograph.metadata.get(FRAME_TIME)
    good = isinstance(told, int | float) and not isinstance(told, bool) and _positive(float(told))
    return float(told) if good else None  # type: ignore[arg-type]
