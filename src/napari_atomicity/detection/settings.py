"""Settings of cluster detection."""

from __future__ import annotations

from dataclasses import asdict, dataclass

from ..core.errors import SettingError
from ..core.settings import check_settings, documented, setting


@documented
@dataclass(frozen=True)
class DetectionSettings:
    """Settings of cluster detection."""

    diameter_min_nm: float = setting(
        0.6,
        "Smallest",
        "Minimum cluster diameter in nm.",
        unit="nm",
        above=0,
        form_range=(0.1, 50.0),
        decimals=2,
        key="detection/diameter_min",
    )
    diameter_max_nm: float = setting(
        3.2,
        "Largest",
        "Maximum cluster diameter in nm.",
        unit="nm",
        above=0,
        form_range=(0.2, 100.0),
        decimals=2,
        key="detection/diameter_max",
    )
    threshold: float = setting(
        6.0,
        "Threshold",
        "Detection threshold in multiples of the noise. Lower values detect fainter clusters and "
        "more false positives.",
        unit="× noise",
        above=0,
        form_range=(0.5, 100.0),
        decimals=1,
        key="detection/threshold",
    )
    split_touching: bool = setting(
        True,
        "Split touching clusters",
        "Split a cluster with two peaks into two clusters.",
        key="detection/split",
    )
    split_depth: float = setting(
        0.9,
        "",
        "Two peaks are separate clusters if the saddle between them is below this fraction of the "
        "lower peak.",
        min=0,
        max=1,
        option="--split-depth",
    )
    faintest: float = setting(
        0.1,
        "",
        "Minimum integrated intensity as a fraction of the median of the clusters of the frame. It "
        "rejects groups of a few single atoms.",
        min=0,
        max=1,
        option="--faintest",
    )

    def __post_init__(self) -> None:
        check_settings(self)
        if not self.diameter_min_nm < self.diameter_max_nm:
            raise SettingError(
                f"diameters from {self.diameter_min_nm:g} to {self.diameter_max_nm:g} nm "
                "are not a range",
                ["diameter_min_nm", "diameter_max_nm"],
                "The minimum must be below the maximum",
            )

    @property
    def changed(self) -> list[str]:
        """Names of the settings that are not the defaults of this version."""
        usual = asdict(type(self)())
        return [name for name, value in asdict(self).items() if value != usual[name]]

    def describe_changed(self) -> str:
        """Return "threshold 25 instead of 6" for each setting that is not the default, or ""."""
        usual = type(self)()
        return ", ".join(
            f"{name.replace('_', ' ')} {getattr(self, name):g} instead of {getattr(usual, name):g}"
            for name in self.changed
        )
