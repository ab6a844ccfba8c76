"""Sets of labelled patches for a request, from files or simulated: training, held-out and test."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from .._version import __version__
from ..core.errors import AtomicityError, ReadError
from ..core.micrograph import Micrograph
from ..core.model_card import ModelCard
from ..core.patches import PatchSettings
from ..core.processes import spawn_pool
from ..core.progress import Progress, Stop, check, checked, report
from ..core.tables.cluster_table import (
    NON_CLASS_LABELS,
    concatenate,
    first_reasons,
    is_excluded,
    is_measured,
)
from ..core.text import pluralise
from ..detection import detect
from ..detection.patches import extract_patches
from ..io.images import resolved
from ..simulation.field_settings import (
    FieldSettings,
    random_atom_settings,
    random_outlier_settings,
    random_settings,
)
from ..simulation.fields import Field, simulate_field
from ..simulation.structures import Isomer, library_of
from ..statistics.scores import atoms_of
from .checkpoint import load_patches, save_patches
from .data import PatchSet, match, training_and_held_out, with_known_scale
from .request import (
    CorrectedImagesSource,
    CorrectionsSource,
    FolderSource,
    SimulationSource,
    TrainRequest,
)
from .size_selected import from_folder

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


# ---- labelled patches from corrected labels

_ADVICE = (
    "Correct clusters of every class in at least two images; those cut by the border or in "
    "excluded regions do not count"
)


def from_corrections(
    images: Iterable[tuple[Micrograph, pd.DataFrame]],
    settings: PatchSettings | None = None,
    progress: Progress | None = None,
    stop: Stop | None = None,
) -> tuple[PatchSet, list[str]]:
    """Cut patches of the clusters with a corrected label at their measured positions.

    A correction to `table.UNKNOWN` or `table.AGGREGATE` names no class: such clusters are left out
    and counted, and so are clusters at the border, in excluded regions and without a size.

    Parameters
    ----------
    images : iterable of tuple of Micrograph and DataFrame
        Calibrated micrographs, each with its cluster table.
    settings : PatchSettings, optional
        Geometry of the patches.
    progress, stop : callable, optional
        Called between images.

    Returns
    -------
    patches : PatchSet
        The clusters.
    classes : list of str
        The classes, ordered by their number of atoms.

    Raises
    ------
    AtomicityError
        If a class names no number of atoms, or there are fewer than two, or one of them was
        corrected in one image only, so that no image can be held out.
    """
    settings = settings or PatchSettings()
    pairs = list(images)
    parts = []
    for i, (micrograph, table) in enumerate(pairs):
        check(stop)
        report(progress, i, len(pairs), f"Cutting clusters of {micrograph.name}")
        corrected = table[(table["label_corrected"] != "").to_numpy()]
        reasons = first_reasons(
            {
                "border": corrected["touches_border"].to_numpy(bool),
                "excluded": is_excluded(corrected),
                "not measured": ~is_measured(corrected),
                "no class": corrected["label_corrected"].isin(NON_CLASS_LABELS).to_numpy(),
            }
        )
        own = corrected[~np.any([*reasons.values()], axis=0)].reset_index(drop=True)
        own = own.assign(truth=own["label_corrected"], image=micrograph.name)
        left_out = {reason: int(rows.sum()) for reason, rows in reasons.items()}
        patches = extract_patches(micrograph, own, settings, 1.0, stop)
        parts.append(PatchSet(own, patches, left_out))
    if not parts:
        raise AtomicityError("there are no corrected clusters", advice=_ADVICE)
    whole = PatchSet.join(parts)
    return with_known_scale(whole), _check_classes(whole.table)


def _check_classes(table: pd.DataFrame) -> list[str]:
    """Return the classes by size; refuse labels that are not enough to train on."""
    labels = sorted(table["truth"].unique())
    nameless = [c for c in labels if atoms_of(c) is None]
    if nameless:
        raise AtomicityError(
            f"the label {nameless[0]!r} gives no number of atoms",
            advice="Labels of classes are such as Pt19",
        )
    if len(labels) < 2:
        raise AtomicityError(
            f"corrected labels of at least two classes are needed, not of {len(labels)}",
            advice=_ADVICE,
        )
    n_images = table.groupby("truth")["image"].nunique()
    single = n_images.index[n_images < 2]
    if len(single):
        raise AtomicityError(
            "corrected in one image only, so that no image can be held out: "
            f"{', '.join(sorted(single))}",
            advice=_ADVICE,
        )
    return sorted(labels, key=lambda c: (atoms_of(c) or 0, c))


def _without_repetitions(table: pd.DataFrame) -> pd.DataFrame:
    """Return labelled clusters without those that several tables have at one place.

    Raises `AtomicityError` if their labels differ.
    """
    place = table[["image", "frame", "y_px", "x_px"]].round({"y_px": 1, "x_px": 1})
    first = table["label_corrected"].groupby([place[name] for name in place]).transform("first")
    differing = table[table["label_corrected"] != first]
    if len(differing):
        one = differing.iloc[0]
        raise AtomicityError(
            f"the tables give {pluralise(len(differing), 'cluster')} different labels, such as "
            f"{one['label_corrected']} in {one['image']}",
            advice="Give the latest table of these images only",
        )
    return table[~place.duplicated()]


def tables_with_images(
    files: Sequence[Path],  # cluster tables as this package writes them
    folders: Sequence[Path],
    pixel_size_nm: float | None = None,  # replaces that of the measurement in the table
) -> Iterator[tuple[Micrograph, pd.DataFrame]]:
    """Read the images of cluster tables, each one time, with its rows.

    Raises `ReadError` if an image is missing, or several have its name.
    """
    from ..io.images import find_images, load
    from ..io.tables import read_clusters

    table = concatenate([read_clusters(file) for file in files])
    table = _without_repetitions(table[table["label_corrected"] != ""])
    found = find_images(folders) if len(table) else []
    for name, rows in table.groupby("image", sort=False):
        paths = [p for p in found if f"/{p.as_posix()}".endswith(f"/{name}")]
        if len(paths) != 1:
            many = "several files have" if paths else "no file has"
            raise ReadError(
                f"{many} this name among the images",
                str(name),
                "Give with --images folders that contain each image of the table exactly one time",
            )
        size = pixel_size_nm
        if size is None:  # as it was measured
            good = rows["y_px"] > 0
            ratio = (rows["y_nm"] / rows["y_px"])[good].median()
            size = float(ratio) if ratio > 0 else None
        yield replace(load(paths[0], size), name=str(name)), rows.reset_index(drop=True)


# ---- keys of requests: hashes of all that decides the result of a training
def request_key(request: TrainRequest, start: ModelCard | None) -> str:
    """Return a hash of all that decides the result except the device; files by size and time."""
    source = request.source
    match source:
        case FolderSource():
            source_key: Any = ["folder", *_stamp_files([source.folder])]
        case CorrectionsSource():
            source_key = ["tables", *_stamp_files([*source.tables, *source.images])]
        case CorrectedImagesSource():
            source_key = [
                (m.name, m.pixel_size_nm, pixel_hash(m), _hash_corrections(t))
                for m, t in source.images
            ]
        case SimulationSource():
            source_key = asdict(replace(source, workers=1))
    values = {
        "version": __version__,
        "source": source_key,
        "start": None if start is None else start.sha256,
        **{
            name: getattr(request, name) for name in ("epochs", "patience", "seed", "pixel_size_nm")
        },
        "patches": asdict(request.patches),
    }
    return hashlib.sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()


def pixel_hash(micrograph: Micrograph) -> str:
    """Return a hash of the pixels; of a large image that of its file, if it is known."""
    if not micrograph.is_large:
        return hashlib.sha256(micrograph.data.tobytes()).hexdigest()
    if micrograph.sha256 is not None:
        return micrograph.sha256
    whole = hashlib.sha256(f"{micrograph.shape} {micrograph.data.dtype}".encode())
    for index in range(micrograph.n_frames):
        for strip in micrograph.strips(index):
            whole.update(strip.tobytes())
    return whole.hexdigest()


def _hash_corrections(table: pd.DataFrame) -> str:
    """Return a hash of the corrected labels of a table outside excluded regions."""
    columns = ["cluster_id", "frame", "y_px", "x_px", "label_corrected"]
    used = table.loc[~is_excluded(table), columns]
    return hashlib.sha256(used.to_csv(index=False).encode()).hexdigest()


def _stamp_files(paths: Sequence[Path]) -> list[tuple[str, int, int]]:
    """Return name, size and time of every file."""
    files = [f for p in paths for f in (sorted(p.rglob("*")) if p.is_dir() else [p]) if f.is_file()]
    return [(str(resolved(f)), f.stat().st_size, f.stat().st_mtime_ns) for f in files]


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

    The sets are "train", "held_out" and, from simulation, "test" and objects of no class.
    """
    names = ["train", "held_out"]
    if isinstance(request.source, SimulationSource):
        names += ["test", *OTHER_DRAWS]
    folder = request.workspace_of(key)
    paths = {name: folder / f"{name}.safetensors" for name in names}
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
    library = library_of(
        source.classes, source.isomers, seed, source.workers, checked(progress, stop)
    )
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
