"""Model, device and settings of a run for single atoms."""

from __future__ import annotations

from dataclasses import dataclass

from ..core.errors import SettingError
from ..core.settings import (
    GROUP_DISTANCE_NM,
    check_settings,
    device_setting,
    documented,
    make_absolute,
    model_setting,
    pixel_size_setting,
    rois_setting,
    samples_setting,
    seed_setting,
    setting,
)
from ..statistics.points.loading_settings import NO_METAL, LoadingSettings


@documented
@dataclass(frozen=True)
class AtomRequest:
    """Model, device and settings of a run."""

    model: str = model_setting()
    device: str = device_setting()
    pixel_size_nm: float | None = pixel_size_setting()
    precision: float | None = setting(
        None, "Precision", "Expected precision.", min=0, max=1, default_text="maximum expected F1"
    )
    threshold: float | None = setting(
        None, "Threshold", "Minimum probability of an atom, instead of a precision.", min=0, max=1
    )
    group_distance_nm: float = setting(
        GROUP_DISTANCE_NM,
        "Linked within",
        "Maximum distance in nm between atoms of one group.",
        unit="nm",
        min=1e-3,
        form_range=(0.05, 5.0),
        decimals=2,
        step=0.01,
        default_text="0.3 nm, 8 % above the nearest-neighbour distance in platinum",
    )
    clusters: str | None = setting(
        None,
        "Clusters",
        "A clusters.csv of these images, to assign the atoms to clusters.",
        is_path=True,
    )
    rois: str | None = rois_setting("support and atoms")
    samples: str | None = samples_setting()
    seed: int = seed_setting()
    completeness: bool = setting(
        True,
        "Completeness",
        "Inject atoms into each image to estimate the detected fraction. Slower.",
    )

    loading: LoadingSettings = setting(
        LoadingSettings(), "Metal loading", "Metal and support, for the metal loading in wt%."
    )

    def __post_init__(self) -> None:
        check_settings(self)
        make_absolute(self, "rois")
        if (self.loading.metal == NO_METAL) != (self.loading.support_thickness_nm is None):
            names = ["metal", "support_thickness_nm"]
            raise SettingError("a loading in wt% requires both a metal and a thickness", names)
        if self.precision is not None and self.threshold is not None:
            names = ["precision", "threshold"]
            raise SettingError("give a precision or a threshold, not both", names)
