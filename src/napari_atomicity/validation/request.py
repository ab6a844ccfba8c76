"""Settings of a validation."""

from __future__ import annotations

from dataclasses import MISSING, dataclass
from pathlib import Path

from ..core.settings import device_setting, documented, pixel_size_setting, seed_setting, setting


@documented
@dataclass(frozen=True)
class ValidationRequest:
    """All settings that decide the result of a validation."""

    data: Path = setting(MISSING, "", "Size-selected images.")
    mixtures: Path | None = setting(None, "", "Images of mixtures.")
    shifted: Path | None = setting(None, "", "Images of mixtures under new conditions.")
    deposits: Path | None = setting(None, "", "Table of deposited fractions.")
    methods: tuple[str, ...] = setting((), "", "Methods to compare; all if empty.")
    folds: int = setting(3, "", "Number of parts of the images.", min=2, max=20, option="--folds")
    seeds: int = setting(
        2, "", "Number of seeds, each with its own division.", min=1, max=50, option="--seeds"
    )
    epochs: int = setting(40, "", "Maximum number of epochs.", min=1, option="--epochs")
    patience: int = setting(
        8, "", "Epochs without a lower held-out loss; 0: never.", min=0, option="--patience"
    )
    seed: int = seed_setting()
    pixel_size_nm: float | None = pixel_size_setting()
    device: str = device_setting()
