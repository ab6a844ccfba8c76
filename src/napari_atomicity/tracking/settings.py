"""Settings of the analysis of a movie."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from ..core.from_dict import dataclass_from_dict
from ..core.micrograph import Micrograph
from ..core.settings import check_settings, documented, setting

FRAME_TIME = "frame_time_s"
"""Key of the metadata of a micrograph: frame time in seconds."""


@documented
@dataclass(frozen=True)
class MovieSettings:
    """Settings of the tracking of clusters."""

    search_range_nm: float = setting(
        1.0,
        "Search range",
        "Largest displacement of a cluster between frames, after drift correction.",
        unit="nm",
        above=0,
        form_range=(0.01, 100.0),
        decimals=2,
        key="movie/search_range",
    )
    memory_frames: int = setting(
        2,
        "Memory",
        "Number of successive frames in which a tracked cluster may be missing.",
        unit="frames",
        min=0,
        form_range=(0, 1000),
        step=1,
    )
    min_frames: int = setting(
        2,
        "Shortest track",
        "Smallest number of frames of a track.",
        unit="frames",
        min=1,
        form_range=(1, 10_000),
        step=1,
    )
    drift: str = setting(
        "auto",
        "Drift",
        "Source of the stage drift.",
        default_text="automatic, that is the clusters, or the images if too few clusters are "
        "linked",
        choices={
            "auto": "automatic",
            "clusters": "by the clusters",
            "image": "by the images",
            "none": "none",
        },
        key="movie/drift",
    )
    frame_time_s: float | None = setting(
        None,
        "Time of a frame",
        "Time from the start of one frame to the start of the next, in seconds.",
        unit="s",
        above=0,
        form_range=(0.0, 1e6),
        decimals=4,
        step=0.1,
        default_text="from the file; without it, times are in frames",
    )
    rate: float | None = setting(
        None,
        "Changes",
        "Rate at which a cluster changes its class, per second, or per frame if the frame time is "
        "unknown. It applies to curves, events and dwell times; class ratios always use the "
        "estimated rate.",
        above=0,
        form_range=(0.0, 1e6),
        decimals=5,
        step=0.01,
        text="estimated",
        default_text="estimated from all tracks",
    )
    frame_weight: float = setting(
        1.0,
        "",
        "Weight of a frame relative to an independent one: errors of the model in successive "
        "frames are correlated, since a cluster has the same position and shape in them.",
        above=0,
        max=1,
    )

    def __post_init__(self) -> None:
        check_settings(self)

    def to_dict(self) -> dict[str, Any]:
        """Return plain values for JSON."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> MovieSettings:
        """Build from `to_dict`; ignore unknown settings; raise `ValueError` if one is not valid."""
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
