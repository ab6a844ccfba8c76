"""Labelled patches from simulated fields."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial

import numpy as np

from ..core.patches import PatchSettings
from ..core.processes import spawn_pool
from ..core.progress import Progress, Stop, check, report
from ..detection import detect
from ..detection.patches import extract_patches
from ..simulation.field_settings import FieldSettings, random_settings
from ..simulation.fields import Field, simulate_field
from ..simulation.structures import Isomer
from .data import PatchSet, match

SHARES = {"train": 0.8, "held_out": 0.1, "test": 0.1}
"""Of the isomers of each class."""
DrawSettings = Callable[[Sequence[str], np.random.Generator], FieldSettings]


def split_library(
    library: Sequence[Isomer], seed: int, shares: dict[str, float] = SHARES
) -> dict[str, list[Isomer]]:
    """Divide isomers into training, held-out and test; every class in the same shares."""
    rng = np.random.default_rng(seed)
    parts: dict[str, list[Isomer]] = {name: [] for name in shares}
    for n in sorted({i.n for i in library}):
        own = [i for i in library if i.n == n]
        order = rng.permutation(len(own))
        edges = np.cumsum([round(s * len(own)) for s in shares.values()])[:-1]
        for name, index in zip(parts, np.split(order, edges), strict=True):
            parts[name] += [own[k] for k in index]
    return parts


def from_simulation(
    library: Sequence[Isomer],
    classes: Sequence[str],
    n_fields: int,
    seed: int,
    settings: PatchSettings | None = None,
    workers: int = 1,
    progress: Progress | None = None,
    stop: Stop | None = None,
    draw: DrawSettings = random_settings,
) -> PatchSet:
    """Detect clusters in simulated fields by the same code as in real ones.

    Parameters
    ----------
    library : sequence of Isomer
        Isomers; use disjoint libraries for training and test sets.
    classes : sequence of str
        In order of size.
    n_fields : int
        Number of fields.
    seed : int
        The same seed gives the same patches for any number of workers.
    settings : PatchSettings, optional
        Geometry of the patches.
    workers : int, optional
        Number of processes.
    progress, stop : callable, optional
        Called between fields.
    draw : callable, optional
        Function that draws the conditions of a field from classes and a generator.

    Returns
    -------
    PatchSet
        The detected clusters with their true classes.
    """
    seeds = [int(s) for s in np.random.SeedSequence(seed).generate_state(n_fields)]
    job = partial(
        _simulate_patches, list(library), list(classes), settings or PatchSettings(), draw
    )
    parts = []
    if workers == 1:
        for i, field_seed in enumerate(seeds):
            check(stop)
            parts.append(job(field_seed))
            report(progress, i + 1, n_fields, "Simulating fields")
    else:
        with spawn_pool(workers) as pool:
            for i, part in enumerate(pool.map(job, seeds, chunksize=4)):
                if stop is not None and stop():
                    pool.shutdown(cancel_futures=True)
                    check(stop)
                parts.append(part)
                report(progress, i + 1, n_fields, "Simulating fields")
    return PatchSet.join(parts)


def _simulate_patches(
    library: list[Isomer], classes: list[str], patch: PatchSettings, draw: DrawSettings, seed: int
) -> PatchSet:
    settings = draw(classes, np.random.default_rng(seed))
    return label_field(simulate_field(library, settings, seed, f"simulated-{seed}"), classes, patch)


def label_field(
    made: Field,
    classes: Sequence[str],  # in order of size
    settings: PatchSettings,  # geometry of the patches
) -> PatchSet:  # detected clusters with their true classes
    """Detect the clusters of a simulated field and label them by its truth."""
    table = detect(made.micrograph).table
    patches = extract_patches(made.micrograph, table, settings)
    rows, truths = match(table, made.truth, made.micrograph.calibrated())
    label = np.full(len(table), "", object)
    label[rows] = made.truth["label"].to_numpy()[truths]
    per_atom = made.intensity_per_atom(classes[0])
    table = table.assign(truth=label, true_intensity_per_atom=per_atom)
    return PatchSet(table, patches, {})
