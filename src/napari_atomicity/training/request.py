"""Requests of a training: the source of the labelled clusters, and all settings."""

from __future__ import annotations

from dataclasses import MISSING, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from ..core.errors import AtomicityError
from ..core.patches import PatchSettings
from ..core.settings import device_setting, documented, pixel_size_setting, seed_setting, setting
from ..simulation.metals import composition

if TYPE_CHECKING:
    import pandas as pd

    from ..core.micrograph import Micrograph


# ---- settings of the training of a cluster network
@dataclass(frozen=True)
class TrainingSettings:
    """Settings of the fit of a network.

    Parameters
    ----------
    epochs : int
        Largest number of passes over the training patches; the best on held-out images is kept.
    batch_size : int
        Patches in a batch.
    learning_rate, weight_decay : float
        Of AdamW with a one-cycle schedule.
    neighbour_smoothing : float
        Share of the target that goes to the next smaller and larger class, since confusing
        neighbouring classes is the smaller error.
    scale_jitter : float
        Standard deviation of the logarithm of an artificial error of the scale of the raw channel.
    body_rate : float
        Learning rate of the convolutions as a share of the head's; less than 1 if they start from
        trained ones.
    conditions : float
        Strength of the noise, blur and error of the background that are added to patches
        (`augmentation`); the conditions of simulated fields vary already.
    neighbours : float
        Share of patches that get another cluster as a neighbour; in simulated fields some clusters
        touch already.
    shift_px : int
        Largest shift of a patch along each axis in pixels.
    patience : int
        Epochs without a lower held-out loss after which the fit ends; 0: no limit.
    held : float
        Share of the epochs at the end with a constant, low learning rate.
    map_weight : float
        With a teacher, the weight of the distance between the class maps of both networks
        (`fit.map_distance`).
    width : int
        Features of the network's first layer.
    seed : int
        Of weights, order and augmentation.
    """

    epochs: int = 16
    batch_size: int = 256
    learning_rate: float = 3e-3
    weight_decay: float = 1e-2
    neighbour_smoothing: float = 0.03
    scale_jitter: float = 0.04
    body_rate: float = 1.0
    conditions: float = 0.0
    neighbours: float = 0.0
    shift_px: int = 0
    patience: int = 0
    held: float = 0.0
    map_weight: float = 1.0
    width: int = 16
    seed: int = 0


SCRATCH = "scratch"
UNSCALED_NM = 2.4
"""Edge length of patches without the scale of a session. Their unit comes from their own pixels, so
it is wrong if a brighter neighbour is in the patch; smaller patches contain fewer neighbours."""
DEFAULT = "default"
MIN_EPOCHS, MAX_EPOCHS = 40, 400
SCRATCH_STEPS, UNSCALED_STEPS = 1000, 3000
"""Steps from random weights, with the scale of the session and without.

Without it, a quarter of the steps has a constant learning rate: on 20 simulated size-selected
images (250 epochs of 400 clusters) the training loss falls by less than 2 % in them. After 1,000
steps with a rate that falls to zero it still falls by 20 %, and networks are right less often."""
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
    epochs: int | None = setting(
        None,
        "Epochs",
        "Maximum number of epochs. Automatic: enough for the number of clusters, at least "
        f"{MIN_EPOCHS}.",
        min=1,
        form_range=(0, 1000),
        text="automatic",
        key="train/epochs",
    )
    patience: int = setting(
        0,
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
        "Scale",
        "Unit of the raw channel: session, the intensity of one atom in the image and its session; "
        "none, the 99 % quantile of each patch, which knows no other cluster, as published. "
        "None starts from scratch, or from a model trained alike.",
        choices={"session": "of the session", "none": "none, as published"},
        key="train/scale",
        option="--scale",
    )
    patch_nm: float | None = setting(
        None,
        "",
        f"Edge length of a patch in nm. Default: {PatchSettings.field_of_view_nm:g}, with --scale "
        f"none {UNSCALED_NM:g}.",
        min=0.1,
        max=100,
        option="--patch-nm",
    )
    patch_px: int | None = setting(
        None,
        "",
        f"Pixels along this edge. Default: {PatchSettings.size_px}, or pixels of as many nm.",
        min=8,
        max=256,
        option="--patch-px",
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
        has_scale = self.scale == "session"
        usual_nm = PatchSettings.field_of_view_nm if has_scale else UNSCALED_NM
        usual_px = PatchSettings.size_px
        if self.patch_nm is None:
            usual_px = round(usual_px * usual_nm / PatchSettings.field_of_view_nm)
        return PatchSettings(
            self.patch_nm or usual_nm,
            self.patch_px or usual_px,
            self.lcn_window_nm,
            self.channels,
            "atoms" if has_scale else "patch",
        )

    @property
    def workspace(self) -> Path:
        """Folder next to the model that keeps interrupted trainings."""
        return self.out.with_suffix(".training")

    def workspace_of(self, key: str) -> Path:
        """Return the part of the workspace for a request with these settings and images."""
        return self.workspace / key[:16]

    @property
    def resumable(self) -> bool:
        """Whether there is an interrupted training of this file, with any settings."""
        return any(self.workspace.glob("*/train.safetensors"))


def settings_for(request: TrainRequest, n_clusters: int) -> TrainingSettings:
    """Return the settings of the fit: lower learning rates if it starts from trained weights.

    Chosen by cross-validation by image within size-selected images, and from random weights on
    simulated ones with other isomers in the test.
    """
    simulated = isinstance(request.source, SimulationSource)
    from_scratch = request.start == SCRATCH
    settings = TrainingSettings(
        patience=request.patience,
        seed=request.seed,
        batch_size=128 if simulated else 64,
        # simulated fields differ in their conditions by themselves, and have clusters that touch
        # others of any size
        conditions=0.0 if simulated else 1.0,
        neighbours=0.0 if simulated else 0.3,
    )
    if not from_scratch:
        settings = replace(settings, learning_rate=1e-3, body_rate=0.3)
    elif not simulated:
        settings = replace(settings, batch_size=32, learning_rate=4e-3, conditions=0.0, shift_px=2)
        settings = replace(settings, held=0.0 if request.scale == "session" else 0.25)
    steps_per_epoch = max(1, n_clusters // settings.batch_size)
    steps = UNSCALED_STEPS if settings.held else SCRATCH_STEPS
    enough = -(-steps // steps_per_epoch) if from_scratch else MIN_EPOCHS
    return replace(settings, epochs=request.epochs or min(max(enough, MIN_EPOCHS), MAX_EPOCHS))


def check_source(source: Source) -> None:
    """Refuse classes that can't be simulated.

    Raises `AtomicityError` if there are fewer than two classes, an unknown metal, or too few
    isomers to divide.
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
