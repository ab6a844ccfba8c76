"""Settings of class maps and class averages."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from ..core.settings import setting, settings_of
from .run_request import RunRequest


@dataclass(frozen=True)
class ExplainRequest(RunRequest):
    """Settings of class maps and class averages, and those of the analysis."""

    # Without a description they are no options here: they do not change a class map.
    umap: bool = False
    ratios: str = "counted"
    keep_ratios: bool = False
    reference: str | None = None
    samples: str | None = None
    # classes of the class maps; if empty, the predicted class of each cluster
    explained: tuple[str, ...] = setting(
        (),
        "Class",
        "Class of the class maps. May be given several times. Default: the predicted class of each "
        "cluster.",
        option="--class",
    )
    # "radius" or "nm": unit of distances in the averages
    unit: str = setting(
        "radius",
        "Distances",
        "Distances in the averages: in radii of each cluster, or in nm.",
        choices={"radius": "in radii", "nm": "in nm"},
    )
    # whether the figure scales each map to its own maximum
    normalised: bool = setting(
        False,
        "Each map to its own maximum",
        "Scale every class map and profile of the figure to its own maximum.",
        option="--normalised",
    )
    # maximum number of clusters of a class in the averages
    per_class: int = setting(
        1000,
        "Clusters per class",
        "Maximum number of clusters of a class in the averages, evenly spread over the images.",
        min=1,
    )

    def parameters(self) -> dict[str, Any]:
        """Return the settings for the record, by the names of their options."""
        known = settings_of(type(self))
        values = {k: v for k, v in asdict(self).items() if k in known or k == "detection"}
        values.pop("average_frames")
        explained = values.pop("explained")
        return {**values, "class": explained}
