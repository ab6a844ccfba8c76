"""Settings of an adaptation."""

from __future__ import annotations

from dataclasses import MISSING, dataclass
from pathlib import Path

from ..core.settings import device_setting, documented, model_setting, pixel_size_setting, setting


@dataclass(frozen=True)
class AdaptSettings:
    """How a model is adapted.

    Parameters
    ----------
    posterior : float, optional
        Least probability of a pseudo-label.
    held_out : float, optional
        Share of pseudo-labels and corrections that decide whether the result is kept.
    steps, batch_size, learning_rate : int, optional or float, optional
        Of AdamW; half of every batch is replayed.
    scale_jitter : float, optional
        Standard deviation of the logarithm by which the raw channel is misjudged on purpose.
    worst_forgetting : float, optional
        Most that the accuracy on replayed patches of the training may fall.
    seed : int, optional
        Of all chance.
    """

    posterior: float = 0.95
    held_out: float = 0.25
    steps: int = 60
    batch_size: int = 48
    learning_rate: float = 1e-3
    scale_jitter: float = 0.04
    worst_forgetting: float = 0.01
    seed: int = 0


@documented
@dataclass(frozen=True)
class AdaptRequest:
    """All settings that decide the result of an adaptation to files."""

    out: Path = setting(MISSING, "Model", "Model to write, a .safetensors file.")
    model: str = model_setting()
    corrections: Path | None = setting(
        None, "Corrections", "Cluster table of these images with corrected labels."
    )
    pixel_size_nm: float | None = pixel_size_setting()
    device: str = device_setting()
