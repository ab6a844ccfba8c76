"""Settings of a validation and of the benchmark, and the files of their results."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import MISSING, dataclass, replace
from pathlib import Path
from typing import Any

from ..core.errors import AtomicityError
from ..core.settings import (
    MAX_SEED,
    device_setting,
    documented,
    pixel_size_setting,
    seed_setting,
    setting,
)

DATA, RUNS, FIGURES = "data", "runs", "figures"
"""Folders of simulated data, of finished runs and of figures."""
KEY = "key.json"
"""File in `RUNS` with the key of settings and data."""
RESULT, RECORD, REPORT = "validation.json", "run.json", "report.html"
CURVE, CURVE_RESULT = "learning_curve", "learning_curve.json"
"""Folder of the learning curve in that of the results, and its result."""


class ExistingResultsError(AtomicityError):
    """A folder has results of other settings or data."""

    def __init__(self, folder: Path) -> None:
        super().__init__(
            "this folder has results of other settings or data",
            folder,
            "Choose another folder for --out, or discard them with --overwrite",
        )


def count_finished_runs(folder: Path) -> int:
    """Count the finished runs of a folder of results, of whatever settings."""
    return sum(path.name != KEY for path in (folder / RUNS).glob("*.json"))


QUICK: dict[str, Any] = {"folds": 2, "seeds": 1, "repeats": 2, "epochs": 2, "patience": 0}
"""Values of a small test."""
_QUICK_NOTE = (
    "This is a quick test of the program: few parts, seeds and epochs, so hardly any training. Its "
    "scores say nothing about the methods."
)
IMAGES_PER_CLASS = (1, 2, 4, 8, 16)
"""Numbers of training images of the learning curve."""


@documented
@dataclass(frozen=True)
class ValidationRequest:
    """All settings that decide the result of a validation."""

    data: Path = setting(MISSING, "", "Size-selected images.")
    mixtures: Path | None = setting(None, "", "Images of mixtures.")
    shifted: Path | None = setting(None, "", "Images of mixtures under new conditions.")
    deposits: Path | None = setting(None, "", "Table of deposited fractions.")
    methods: tuple[str, ...] = setting((), "", "Methods to compare; all if empty.")
    folds: int = setting(
        3, "Parts", "Number of parts of the images.", min=2, max=20, step=1, key="validate/folds"
    )
    seeds: int = setting(
        2,
        "Seeds",
        "Number of seeds, each with its own division.",
        min=1,
        max=50,
        step=1,
        key="validate/seeds",
    )
    images_per_class: tuple[int, ...] = setting(
        IMAGES_PER_CLASS, "", "Numbers of training images of each class of the learning curve."
    )
    repeats: int = setting(
        3,
        "Repeats",
        "Number of repeats of the learning curve, each with its own training and test images.",
        min=1,
        max=50,
        step=1,
        key="validate/repeats",
    )
    epochs: int | None = setting(
        None,
        "Epochs",
        "Maximum number of epochs. Automatic: as many as a training takes.",
        min=1,
        form_range=(0, 1000),
        text="automatic",
        key="validate/epochs",
    )
    patience: int = setting(
        0,
        "End after",
        "Epochs without a lower held-out loss; 0: never.",
        unit="epochs",
        min=0,
        form_range=(0, 1000),
        text="never",
        key="validate/patience",
    )
    seed: int = seed_setting("validate/seed")
    pixel_size_nm: float | None = pixel_size_setting()
    device: str = device_setting()
    quick: bool = setting(False, "", "Whether this is a small test, whose scores mean nothing.")


def quickened(request: ValidationRequest, given: Collection[str] = ()) -> ValidationRequest:
    """Return a request with the values of a small test."""
    return replace(request, quick=True, **{k: v for k, v in QUICK.items() if k not in given})


def quick_note(result: Mapping[str, Any]) -> str:
    """Return the warning of a result of a quick test; "" for any other result."""
    return _QUICK_NOTE if result.get("quick") else ""


BENCHMARK_SEED = 8100
"""Seed of the isomers and of the first round of the published benchmark."""


@documented
@dataclass(frozen=True)
class BenchmarkSettings:
    """All settings that decide the content of a benchmark."""

    kinds: tuple[str, ...] = setting((), "", "Kinds of sessions; all if empty.")
    rounds: int = setting(
        10, "", "Number of sessions of each kind and form.", min=1, max=100, option="--rounds"
    )
    seed: int = setting(
        BENCHMARK_SEED,
        "",
        "Seed of the isomers and of the first round.",
        min=0,
        max=MAX_SEED,
        option="--seed",
    )
