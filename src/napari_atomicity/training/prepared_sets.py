"""Sets of labelled patches for a request: training, held-out and test."""

from __future__ import annotations

import numpy as np

from ..core.patches import PatchSettings
from ..core.progress import Progress, Stop, check, report
from ..simulation.field_settings import (
    random_atom_settings,
    random_outlier_settings,
    random_settings,
)
from ..simulation.structures import Isomer, library_of
from ..statistics.scores import atoms_of
from .checkpoint import load_patches, save_patches
from .corrections import from_corrections, tables_with_images
from .data import PatchSet, training_and_held_out
from .request import (
    CorrectedImagesSource,
    CorrectionsSource,
    FolderSource,
    SimulationSource,
    TrainRequest,
)
from .simulated import DrawSettings, from_simulation, split_library
from .size_selected import from_folder

OTHER_DRAWS: dict[str, DrawSettings] = {
    "atoms": random_atom_settings,
    "aggregates": random_outlier_settings,
}
"""Simulated fields of objects that belong to no class."""
FIELD_SHARES = {"train": 0.76, "held_out": 0.12, "test": 0.12}
"""Of simulated fields; of isomers, see `training.data.SHARES`."""


def prepare_sets(
    request: TrainRequest, key: str, progress: Progress | None, stop: Stop | None
) -> tuple[dict[str, PatchSet], list[str]]:
    """Prepare the sets of labelled patches of a request, or read those that are kept.

    Returns
    -------
    sets : dict of str to PatchSet
        "train", "held_out" and, from simulation, "test" and objects of no class.
    """
    names = ["train", "held_out"]
    if isinstance(request.source, SimulationSource):
        names += ["test", *OTHER_DRAWS]
    paths = {name: request.workspace / f"{name}.safetensors" for name in names}
    stored = {name: load_patches(path, key) for name, path in paths.items()}
    found = {name: part for name, part in stored.items() if part is not None}
    if len(found) < len(names):
        found = _make_sets(request, progress, stop)
        for name, part in found.items():
            save_patches(paths[name], part, key)
    truths = set(found["train"].table["truth"]) - {""}
    if isinstance(request.source, SimulationSource):
        truths = set(request.source.classes)  # without aggregates
    return found, sorted(truths, key=lambda c: (atoms_of(c) or 0, c))


def _make_sets(
    request: TrainRequest, progress: Progress | None, stop: Stop | None
) -> dict[str, PatchSet]:
    """Make the sets from the source of the request."""
    source, geometry = request.source, request.patches
    match source:
        case SimulationSource():
            return _simulated_sets(source, geometry, request.seed, progress, stop)
        case FolderSource():
            whole, _ = from_folder(source.folder, geometry, request.pixel_size_nm, progress, stop)
        case CorrectionsSource():
            pairs = tables_with_images(source.tables, source.images, request.pixel_size_nm)
            whole, _ = from_corrections(pairs, geometry, progress, stop)
        case CorrectedImagesSource():
            whole, _ = from_corrections(source.images, geometry, progress, stop)
    return training_and_held_out(whole, request.seed)


def _simulated_sets(
    source: SimulationSource,
    geometry: PatchSettings,
    seed: int,
    progress: Progress | None,
    stop: Stop | None,
) -> dict[str, PatchSet]:
    """Divide the isomers, then simulate separate fields for every part."""

    def _check_and_report(done: int, total: int, message: str) -> None:
        check(stop)
        report(progress, done, total, message)

    library = library_of(source.classes, source.isomers, seed, source.workers, _check_and_report)
    parts: dict[str, list[Isomer]] = {}
    for label in source.classes:
        for name, isomers in split_library([i for i in library if i.label == label], seed).items():
            parts.setdefault(name, []).extend(isomers)
    draws: dict[str, DrawSettings] = dict.fromkeys(parts, random_settings)
    # objects of no class, for the detection of out-of-distribution clusters
    draws.update(OTHER_DRAWS)
    seeds = np.random.SeedSequence([seed, 1]).generate_state(len(draws))
    return {
        name: from_simulation(
            parts.get(name, parts["held_out"]),
            source.classes,
            max(2, round(FIELD_SHARES.get(name, FIELD_SHARES["held_out"]) * source.fields)),
            int(own_seed),
            geometry,
            source.workers,
            progress,
            stop,
            draw,
        )
        for (name, draw), own_seed in zip(draws.items(), seeds, strict=True)
    }
