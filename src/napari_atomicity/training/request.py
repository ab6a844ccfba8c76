"""Requests of a training: the source of the labelled clusters, and all settings."""

from __future__ import annotations

from dataclasses import MISSING, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from ..core.errors import AtomicityError
from ..core.patches import PatchSettings
from ..core.settings import device_setting, documented, pixel_size_setting, seed_setting, setting
from ..simulation.metals import composition
from .settings import TrainingSettings

if TYPE_CHECKING:
    import pandas as pd

    from ..core.micrograph import Micrograph

SCRATCH = "scratch"
DEFAULT = "default"
MIN_ISOMERS = 10
"""Per class: one in ten is held out and one in ten kept for the test."""


@dataclass(frozen=True)
class FolderSource:
    """Size-selected images: ``folder/<class>/*.tif``."""

    folder: Path


@dataclass(frozen=True)
class SimulationSource:
    """Simulated fields of classes such as ``Au55``, under widely varied conditions.

    Parameters
    ----------
    classes : tuple of str
        Of one metal or several.
    fields : int
        Number of all fields: for training, held out, and for the test.
    isomers : int
        Structures per class; none occurs in two of these parts.
    workers : int
        Number of processes.
    """

    classes: tuple[str, ...]
    fields: int = setting(
        300, "Images", "Number of simulated images.", min=10, form_range=(20, 20_000), step=10
    )
    isomers: int = setting(
        60, "Structures", "Isomers per class.", min=10, form_range=(10, 2000), step=10
    )
    workers: int = 1


@dataclass(frozen=True)
class CorrectionsSource:
    """Cluster tables with corrected labels, and files or folders that hold their images."""

    tables: tuple[Path, ...]
    images: tuple[Path, ...]


@dataclass(frozen=True, eq=False)
class CorrectedImagesSource:
    """Corrected labels in memory: micrographs with their cluster tables."""

    images: tuple[tuple[Micrograph, pd.DataFrame], ...]


Source = FolderSource | SimulationSource | CorrectionsSource | CorrectedImagesSource


@documented
@dataclass(frozen=True, eq=False)
class TrainRequest:
    """All settings that decide the result of a training."""

    source: Source = setting(MISSING, "", "Source of the labelled clusters.")
    out: Path = setting(MISSING, "", "Model to write, a .safetensors file.")
    channels: tuple[str, ...] = setting(
        ("raw", "LCN"), "", 'Input channels: "raw" and "LCN", or one of them.'
    )
    start: str = setting(
        DEFAULT,
        "Start from",
        "Initial weights: default (the shipped model), scratch, or a model.",
    )
    epochs: int = setting(
        40, "Epochs", "Maximum number of epochs.", min=1, form_range=(1, 1000), key="train/epochs"
    )
    patience: int = setting(
        8,
        "End after",
        "Epochs without a lower held-out loss before it stops; 0: never.",
        unit="epochs",
        min=0,
        form_range=(0, 1000),
        text="never",
        key="train/patience",
    )
    seed: int = seed_setting("train/seed")
    device: str = device_setting()
    pixel_size_nm: float | None = pixel_size_setting()
    scale: str = setting(
        "session",
        "",
        "Unit of the raw channel: session, the intensity of one atom in the image and its session; "
        "none, mean and standard deviation of each patch, which knows no other cluster.",
        choices={"session": "of the session", "none": "none"},
        option="--scale",
    )
    patch_nm: float = setting(
        PatchSettings.field_of_view_nm,
        "",
        "Edge length of a patch in nm.",
        min=0.1,
        max=100,
        option="--patch-nm",
    )
    patch_px: int = setting(
        PatchSettings.size_px, "", "Pixels along this edge.", min=8, max=256, option="--patch-px"
    )
    lcn_window_nm: float = setting(
        PatchSettings.lcn_window_nm,
        "",
        "Standard deviation in nm of the Gaussian window of the local contrast normalisation.",
        min=0.01,
        max=20,
        option="--lcn-window-nm",
    )

    @property
    def patches(self) -> PatchSettings:
        """Input of the network."""
        return PatchSettings(
            self.patch_nm,
            self.patch_px,
            self.lcn_window_nm,
            self.channels,
            "atoms" if self.scale == "session" else "patch",
        )

    @property
    def workspace(self) -> Path:
        """Folder next to the model that keeps an interrupted training."""
        return self.out.with_suffix(".training")

    @property
    def resumable(self) -> bool:
        """Whether there is a checkpoint of an interrupted training of this file."""
        return (self.workspace / "train.safetensors").is_file()


def settings_for(request: TrainRequest) -> TrainingSettings:
    """Return the settings of the fit: lower learning rates if it starts from trained weights.

    Chosen by cross-validation by image within size-selected images.
    """
    simulated = isinstance(request.source, SimulationSource)
    settings = TrainingSettings(
        epochs=request.epochs,
        patience=request.patience,
        seed=request.seed,
        batch_size=128 if simulated else 64,
        # simulated fields differ in their conditions by themselves, and have clusters that touch
        # others of any size
        conditions=0.0 if simulated else 1.0,
        neighbours=0.0 if simulated else 0.3,
    )
    if request.start == SCRATCH:
        return settings
    return replace(settings, learning_rate=1e-3, body_rate=0.3)


def check_source(source: Source) -> None:
    """Refuse classes that can't be simulated.

    Raises
    ------
    AtomicityError
        If there are fewer than two classes, an unknown metal, or too few isomers to divide.
    """
    if not isinstance(source, SimulationSource):
        return
    for name in source.classes:
        composition(name)
    if len(set(source.classes)) < max(2, len(source.classes)):
        raise AtomicityError(
            "at least two different classes are needed", advice="Give for example Au20,Au55,Au92"
        )
    if source.isomers < MIN_ISOMERS:
        raise AtomicityError(
            f"{source.isomers} isomers can't be divided into training, held-out and test",
            advice=f"Give at least {MIN_ISOMERS}",
        )
