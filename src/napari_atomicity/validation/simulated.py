"""Simulated data of a validation: size-selected images and mixtures, and new conditions."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np
import pandas as pd

from ..core.progress import Progress, Stop, checked
from ..io.files import plain, write_json
from ..io.inputs import make_folder
from ..io.tables import write_table
from ..simulation.field_settings import FieldSettings
from ..simulation.fields import simulate_field
from ..simulation.imaging import Microscope
from ..simulation.metals import import_ase
from ..simulation.recipes import write_field
from ..simulation.sessions import random_image_settings
from ..simulation.structures import Isomer, read_or_build_library
from ..statistics.scores import atoms_of
from ..training.prepared_sets import split_library
from .data import MIXED, SELECTED, SHIFTED
from .request import ExistingResultsError, ValidationRequest

CLASSES = ("Pt19", "Pt30", "Pt41", "Pt55", "Pt70")
MIXTURES = {
    "three": (1, 0, 1, 0, 1),
    "small": (30, 25, 20, 15, 10),
    "equal": (1, 1, 1, 1, 1),
    "large": (10, 10, 20, 25, 35),
}
"""Amounts of the classes in the mixtures; those of other classes are cut off or 0."""
CONDITION_A = FieldSettings()
CONDITION_B = replace(
    CONDITION_A,
    carbon_nm=5.0,
    roughness=0.15,
    microscope=Microscope(
        defocus_nm=5.0, source_nm=0.13, dose_e_per_a2=2000.0, gain=20.0, black_level=1500.0
    ),
)
"""More blur, less dose, thicker carbon, and another gain: atoms are 1.6 times as bright."""
GAIN_SPREAD = 0.1
"""Standard deviation of ln gain between the images of a condition."""
ISOMERS = "isomers.npz"
STARTED, DONE = "settings.json", "complete.json"


@dataclass(frozen=True)
class SimulatedData:
    """Settings of simulated data.

    Parameters
    ----------
    classes : tuple of str
        Sizes of platinum clusters.
    folds : int
        Number of parts, whose size-selected images have no isomers in common.
    images : int
        Size-selected images of each class.
    mixture_images : int
        Images of each mixture and condition.
    mixtures : int
        Number of mixtures, the first of `MIXTURES`.
    isomers : int
        Isomers of each class in each part, and in the mixtures.
    size_px : int
        Edge of an image in pixels.
    clusters_per_nm2 : float
        Mean number of clusters per nm².
    seed : int
        Seed of all random numbers.
    shifted : bool
        Whether there are mixtures under other conditions.
    """

    classes: tuple[str, ...] = CLASSES
    folds: int = 3
    images: int = 8
    mixture_images: int = 3
    mixtures: int = 4
    isomers: int = 20
    size_px: int = 640
    clusters_per_nm2: float = 0.045
    seed: int = 0
    shifted: bool = True


QUICK_DATA = SimulatedData(
    CLASSES[::2],
    2,
    images=4,
    mixture_images=2,
    mixtures=2,
    isomers=2,
    size_px=400,
    clusters_per_nm2=0.07,
)
"""Data of a small test."""


@dataclass(frozen=True)
class _Planned:
    """An image to simulate: its file, sample, the part of its isomers, and its settings."""

    path: str
    sample: str
    part: str
    settings: FieldSettings


def simulate_data(
    folder: Path,
    settings: SimulatedData,
    overwrite: bool = False,
    progress: Progress | None = None,
    stop: Stop | None = None,
) -> None:
    """Simulate the data of a validation, unless the folder has them.

    Writes ``size-selected/CLASS/*.tif`` with ``folds.csv``, and ``mixtures`` (condition A) and
    ``shifted`` (condition B) with ``truth.csv`` and ``images.csv``. No isomer of a part of the
    size-selected images occurs in another part or in a mixture.

    Parameters
    ----------
    folder : Path
        Folder of the data.
    settings : SimulatedData
        Settings.
    overwrite : bool, optional
        Whether data of other settings are discarded.
    progress, stop : callable, optional
        Called between isomers and images.

    Raises
    ------
    ExistingResultsError
        If the folder has data of other settings.
    DependencyError
        If ASE is not installed.
    """
    if _has_data(folder, settings, overwrite):
        return
    import_ase("atoms")  # before anything is written
    make_folder(folder)
    write_json(folder / STARTED, asdict(settings))
    check_and_report = checked(progress, stop)
    parts = _isomers(folder, settings, check_and_report)
    planned = list(_plan(settings))
    seeds = np.random.SeedSequence([settings.seed, 2]).generate_state(len(planned))
    groups = (MIXED, SHIFTED)[: 1 + settings.shifted]
    truths: dict[str, list[pd.DataFrame]] = {group: [] for group in groups}
    for i, (image, seed) in enumerate(zip(planned, seeds, strict=True)):
        check_and_report(i, len(planned), f"Simulating {image.path}")
        path = folder / image.path
        path.parent.mkdir(parents=True, exist_ok=True)
        field = simulate_field(parts[image.part], image.settings, int(seed), path.name)
        write_field(path, field)
        group = image.path.partition("/")[0]
        if group in truths:
            truths[group].append(field.truth.assign(sample=image.sample))
    _write_tables(folder, planned, truths)
    write_json(folder / DONE, asdict(settings))


def simulated_request(
    request: ValidationRequest,
    folder: Path,
    *,
    quick: bool = False,  # whether the data are those of a small test
    learning_curve: bool = False,
    overwrite: bool = False,
    progress: Progress | None = None,
    stop: Stop | None = None,
) -> ValidationRequest:
    """Simulate the data of a request from its seed, unless the folder has them.

    Raises `ExistingResultsError` if the folder has data of other settings. Raises `DependencyError`
    if ASE is not installed.
    """
    settings = QUICK_DATA if quick else SimulatedData()
    settings = replace(settings, folds=request.folds, seed=request.seed)
    if learning_curve:
        # The images of one part are tested, those of the others train.
        of_part = -(-max(request.images_per_class) // (request.folds - 1))
        images = settings.images if quick else request.folds * of_part
        settings = replace(settings, images=images, shifted=False)
    simulate_data(folder, settings, overwrite, progress, stop)
    return replace(
        request,
        data=folder / SELECTED,
        mixtures=folder / MIXED,
        shifted=folder / SHIFTED if settings.shifted else None,
        deposits=None,
    )


def _has_data(folder: Path, settings: SimulatedData, overwrite: bool) -> bool:
    """Return whether the data are complete; refuse or discard those of other settings."""
    path = folder / STARTED
    if path.is_file():
        # Data of an earlier version lack the settings that were added later.
        defaults = plain(asdict(SimulatedData()))
        if {**defaults, **json.loads(path.read_text("utf-8"))} != plain(asdict(settings)):
            if not overwrite:
                raise ExistingResultsError(folder.parent)
            shutil.rmtree(folder)
    return (folder / DONE).is_file()


def _isomers(folder: Path, settings: SimulatedData, progress: Progress) -> dict[str, list[Isomer]]:
    """Build the isomers and divide them: a part for each fold, and one for the mixtures."""
    names = [*(f"fold {k}" for k in range(settings.folds)), "mixtures"]
    sizes = [atoms_of(label) or 0 for label in settings.classes]
    number = settings.isomers * len(names)
    library = read_or_build_library(
        folder / ISOMERS, sizes, number, settings.seed, progress=progress
    )
    return split_library(library, settings.seed, dict.fromkeys(names, 1 / len(names)))


def _plan(settings: SimulatedData) -> Iterator[_Planned]:
    """Draw the conditions of all images."""
    rng = np.random.default_rng([settings.seed, 1])
    shape = (settings.size_px, settings.size_px)
    a, b = (
        replace(condition, shape_px=shape, clusters_per_nm2=settings.clusters_per_nm2)
        for condition in (CONDITION_A, CONDITION_B)
    )
    for label in settings.classes:
        for i in range(settings.images):
            own = replace(random_image_settings(a, rng, GAIN_SPREAD), mixture={label: 1.0})
            part = f"fold {i % settings.folds}"
            yield _Planned(f"{SELECTED}/{label}/{label}_{i:02d}.tif", label, part, own)
    for group, condition in ((MIXED, a), (SHIFTED, b))[: 1 + settings.shifted]:
        for name, mixture in _mixtures(settings).items():
            for i in range(settings.mixture_images):
                own = replace(random_image_settings(condition, rng, GAIN_SPREAD), mixture=mixture)
                yield _Planned(f"{group}/{group}_{name}_{i:02d}.tif", name, "mixtures", own)


def _mixtures(settings: SimulatedData) -> dict[str, dict[str, float]]:
    chosen = list(MIXTURES.items())[: settings.mixtures]
    return {
        name: {c: float(n) for c, n in zip(settings.classes, amounts, strict=False) if n}
        for name, amounts in chosen
    }


def _write_tables(
    folder: Path, planned: Sequence[_Planned], truths: dict[str, list[pd.DataFrame]]
) -> None:
    """Write the parts of the size-selected images, and truth and samples of the mixtures."""
    folds: list[tuple[str, int]] = []
    samples: dict[str, list[tuple[str, str]]] = {group: [] for group in truths}
    for image in planned:
        group, _, name = image.path.partition("/")
        if group == SELECTED:
            folds.append((name, int(image.part.removeprefix("fold "))))
        else:
            samples[group].append((name, image.sample))
    write_table(pd.DataFrame(folds, columns=["image", "fold"]), folder / SELECTED / "folds.csv")
    for group, parts in truths.items():
        columns = ["image", "x_px", "y_px", "label", "n_atoms", "diameter_nm", "touches_border"]
        truth = pd.concat(parts, ignore_index=True)[columns]
        write_table(truth, folder / group / "truth.csv")
        write_table(
            pd.DataFrame(samples[group], columns=["image", "sample"]),
            folder / group / "images.csv",
        )
