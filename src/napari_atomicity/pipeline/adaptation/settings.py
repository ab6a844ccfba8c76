"""Settings of an adaptation."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import MISSING, dataclass
from pathlib import Path

from ...core.settings import device_setting, documented, model_setting, pixel_size_setting, setting

COMBINED, DIAMETER = "combined", "diameter"
MIN_PROBABILITY = 0.9
"""Least probability of the class of a pseudo-label."""
GOOD_AGREEMENT = 0.9
"""Agreement with pseudo-labels, or with corrections, from which a network needs no adaptation."""
PSEUDO_LABELS, CORRECTIONS = "pseudo-labels left out", "corrections left out"
"""Criteria that are shares of labels which were not learnt from."""


def count_met(name: str, share: float, left_out: Mapping[str, int]) -> str:
    """Return how many of the labels of a kind that were left out are met, as in "2 of 3"."""
    return f"{round(share * left_out[name])} of {left_out[name]}"


@dataclass(frozen=True)
class AdaptSettings:
    """How a model is adapted."""

    posterior: float = MIN_PROBABILITY  # least probability of a pseudo-label
    # share of pseudo-labels and corrections that decide whether the result is kept
    held_out: float = 0.25
    # steps, batch_size, learning_rate: of AdamW; at least half of every batch is replayed
    steps: int = 300
    batch_size: int = 48
    learning_rate: float = 2e-3
    # standard deviation of the logarithm by which the raw channel is misjudged on purpose
    scale_jitter: float = 0.04
    # most that the accuracy on replayed patches of the training may fall
    worst_forgetting: float = 0.01
    seed: int = 0  # of all chance
    # "combined": intensity and diameter determine the class; "diameter": the diameter alone does
    pseudo_label_method: str = COMBINED
    # whether an adapted model is kept that the intensities of the images cannot judge
    accept_unchecked: bool = False


@documented
@dataclass(frozen=True)
class AdaptRequest:
    """All settings that decide the result of an adaptation to files."""

    out: Path = setting(MISSING, "Model", "Model to write, a .safetensors file.")
    model: str = model_setting()
    corrections: Path | None = setting(
        None, "Corrections", "Cluster table of these images with corrected labels."
    )
    pseudo_labels: str = setting(
        COMBINED,
        "Pseudo-labels",
        "Clusters to learn from. 'combined': intensity and diameter determine the class. "
        "'diameter': the diameter alone determines it with high confidence, as published.",
        choices={COMBINED: "intensity and diameter", DIAMETER: "diameter alone"},
        key="adapt/pseudo-labels",
    )
    min_probability: float = setting(
        MIN_PROBABILITY,
        "Least probability",
        "Least probability that a pseudo-label is right.",
        min=0.2,
        max=1.0,
        decimals=2,
        step=0.05,
    )
    accept_unchecked: bool = setting(
        False,
        "Accept unchecked",
        "Keep an adapted model although it could not be checked, as where the intensities of the "
        "images cannot tell which labels are right.",
    )
    report: Path | None = setting(
        None,
        "Report",
        "Folder for a report with figures before and after the adaptation.",
        option="--report",
    )
    pixel_size_nm: float | None = pixel_size_setting()
    device: str = device_setting()
