"""Labelled patches: from size-selected images, or from simulated fields."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
from scipy.optimize import linear_sum_assignment

from ..core.cluster_table import NON_CLASS_LABELS
from ..core.errors import AtomicityError, ReadError
from ..core.micrograph import Micrograph
from ..core.patches import PatchSettings
from ..core.processes import spawn_pool
from ..core.progress import Progress, Stop, check, report
from ..detection import detect
from ..detection.patches import extract_patches
from ..models.intensity_scale import usable
from ..simulation.fields import FieldSettings, random_settings, simulate_field
from ..simulation.structures import Isomer
from ..statistics.scores import atoms_of

MATCH_NM = 0.35
SHARES = {"train": 0.8, "held_out": 0.1, "test": 0.1}
"""Of the isomers of each class."""
DrawSettings = Callable[[Sequence[str], np.random.Generator], FieldSettings]


@dataclass(frozen=True, eq=False)
class PatchSet:
    """Detected clusters of known class.

    Parameters
    ----------
    table
        The cluster table, N rows, with ``truth`` (class, or "" where a detection is none) and,
        from simulation, ``true_intensity_per_atom``.
    patches
        Channel → (N, P, P); the raw channel in background-subtracted counts, not yet divided by
        the intensity of an atom.
    left_out
        Reason → number of detections that were not used.
    """

    table: pd.DataFrame
    patches: dict[str, np.ndarray]
    left_out: dict[str, int]

    def __len__(self) -> int:
        return len(self.table)

    def take(self, rows: np.ndarray) -> PatchSet:
        """Some of the rows, by boolean mask or index."""
        index = np.flatnonzero(rows) if rows.dtype == bool else rows
        return replace(
            self,
            table=self.table.iloc[index].reset_index(drop=True),
            patches={c: p[index] for c, p in self.patches.items()},
        )

    @classmethod
    def join(cls, parts: Sequence[PatchSet]) -> PatchSet:
        """Several sets as one."""
        left_out: dict[str, int] = {}
        for part in parts:
            for reason, n in part.left_out.items():
                left_out[reason] = left_out.get(reason, 0) + n
        return cls(
            pd.concat([p.table for p in parts], ignore_index=True),
            {c: np.concatenate([p.patches[c] for p in parts]) for c in parts[0].patches},
            left_out,
        )


def split_by_image(table: pd.DataFrame, share: float, rng: np.random.Generator) -> np.ndarray:
    """(N,) bool, true for the held-out share: whole images, of every class in turn.

    Of every class that occurs in more than one image, some stay for the training.
    """
    holds = table.groupby("truth")["image"].unique()
    held: set[str] = set()
    for name in sorted(holds.index):
        images = np.array(sorted(holds[name]))
        rng.shuffle(images)
        n = max(1, round(share * len(images))) if len(images) > 1 else 0
        for image in images:
            if len(held & set(images)) >= n:
                break
            if all(set(others) - held - {image} for others in holds if image in others):
                held.add(image)
    return table["image"].isin(held).to_numpy(bool)


# ---- size-selected images


def size_selected(data_dir: Path) -> dict[str, list[Path]]:
    """Class → image files of ``data_dir/<class>``, ordered by the number of atoms.

    Raises
    ------
    ReadError
        If there are fewer than two classes, or the name of a folder gives no number of atoms.
    """
    from ..io.images import find_images

    data_dir = Path(data_dir)
    inside = sorted(data_dir.iterdir()) if data_dir.is_dir() else []
    folders = [p for p in inside if p.is_dir() and not p.name.startswith(".")]
    if len(folders) < 2:
        raise ReadError(
            "a folder per class is needed, at least two",
            data_dir,
            "Put the images of each class into a folder of its name, such as Pt19",
        )
    nameless = [p.name for p in folders if atoms_of(p.name) is None]
    if nameless:
        raise ReadError(
            f"the folder name {nameless[0]!r} gives no number of atoms",
            data_dir,
            "Name each folder after its class, such as Pt19, and move others elsewhere",
        )
    folders.sort(key=lambda p: (atoms_of(p.name) or 0, p.name))
    return {f.name: find_images([f]) for f in folders}


def from_folder(
    data_dir: Path,
    settings: PatchSettings | None = None,
    pixel_size_nm: float | None = None,
    progress: Progress | None = None,
    stop: Stop | None = None,
) -> tuple[PatchSet, list[str]]:
    """Every detected cluster of ``data_dir/<class>/*.tif`` has the class of its folder.

    Left out, and counted: clusters cut by the border, touching ones, and outliers in diameter or
    intensity within their image (an aggregate, a speck).

    Parameters
    ----------
    data_dir
        With a folder per class, such as ``Pt19``.
    settings
        Geometry of the patches.
    pixel_size_nm
        For images without calibration.
    progress, stop
        Called between images.

    Returns
    -------
    PatchSet
        The clusters.
    list of str
        The classes, ordered by their number of atoms.

    Raises
    ------
    ReadError
        If there are fewer than two classes, or an image can't be read.
    AtomicityError
        If nothing usable is detected in a class.
    """
    from ..io.images import load

    settings = settings or PatchSettings()
    found = size_selected(data_dir)
    files = [(label, path) for label, paths in found.items() for path in paths]
    parts = []
    for i, (label, path) in enumerate(files):
        check(stop)
        report(progress, i, len(files), f"Finding clusters in {path.name}")
        micrograph = load(path, pixel_size_nm)
        micrograph = replace(micrograph, name=path.relative_to(data_dir).as_posix())
        table = detect(micrograph, stop=stop).table
        patches = extract_patches(micrograph, table, settings, 1.0, stop)
        parts.append(_cleaned(PatchSet(table.assign(truth=label), patches, {})))
    whole = with_known_scale(PatchSet.join(parts))
    classes = list(found)
    empty = [c for c in classes if not (whole.table["truth"] == c).any()]
    if empty:
        raise AtomicityError(
            f"no usable cluster was found in {', '.join(empty)}",
            data_dir,
            "Look at the images with `atomicity analyse`, check the pixel size",
        )
    return whole, classes


def _cleaned(part: PatchSet) -> PatchSet:
    table = part.table
    border = table["touches_border"].to_numpy(bool)
    touching = table["touches_neighbour"].to_numpy(bool) & ~border
    whole = usable(table)
    outlier = np.zeros(len(table), bool)
    if whole.sum() >= 5:
        for column in ("integrated_intensity", "diameter_nm"):
            value = np.log(np.clip(table[column].to_numpy(float), 1e-12, None))
            middle = np.median(value[whole])
            spread = 1.4826 * np.median(np.abs(value[whole] - middle))
            outlier |= np.abs(value - middle) > 4 * max(spread, 0.08)
    outlier &= whole
    keep = whole & ~outlier
    left_out = {
        "border": int(border.sum()),
        "touching": int(touching.sum()),
        "outlying": int(outlier.sum()),
    }
    return replace(part.take(keep), left_out=left_out)


def with_known_scale(part: PatchSet) -> PatchSet:
    """Add ``known_intensity_per_atom``: per image, the median of intensity / atoms of its class.

    The number of atoms is known, so the scale is: no mixture needs to be fitted. Clusters that
    touch or are cut count only in images that have no other.
    """
    table = part.table
    ratio = table["integrated_intensity"] / table["truth"].map(atoms_of).astype(float)
    ratio = ratio.where(ratio > 0)
    whole = ratio.where(usable(table)).groupby(table["image"]).transform("median")
    anyhow = ratio.groupby(table["image"]).transform("median")
    known = whole.fillna(anyhow).fillna(1.0)
    return replace(part, table=table.assign(known_intensity_per_atom=known))


# ---- corrected labels


def from_corrections(
    images: Iterable[tuple[Micrograph, pd.DataFrame]],
    settings: PatchSettings | None = None,
    progress: Progress | None = None,
    stop: Stop | None = None,
) -> tuple[PatchSet, list[str]]:
    """The clusters that a person has corrected, cut again where they were measured.

    A correction to `table.UNKNOWN` or `table.AGGREGATE` names no class: it is left out and
    counted, and so are clusters cut by the border.

    Parameters
    ----------
    images
        Calibrated micrographs, each with its cluster table.
    settings
        Geometry of the patches.
    progress, stop
        Called between images.

    Returns
    -------
    PatchSet
        The clusters.
    list of str
        The classes, ordered by their number of atoms.

    Raises
    ------
    AtomicityError
        If a class names no number of atoms, or there are fewer than two, or one of them was
        corrected in one image only: nothing could be held out.
    """
    settings = settings or PatchSettings()
    pairs = list(images)
    parts = []
    for i, (micrograph, table) in enumerate(pairs):
        check(stop)
        report(progress, i, len(pairs), f"Cutting clusters of {micrograph.name}")
        corrected = table[(table["label_corrected"] != "").to_numpy()]
        border = corrected["touches_border"].to_numpy(bool)
        outside = corrected["label_corrected"].isin(NON_CLASS_LABELS).to_numpy() & ~border
        own = corrected[~border & ~outside].reset_index(drop=True)
        own = own.assign(truth=own["label_corrected"], image=micrograph.name)
        left_out = {"border": int(border.sum()), "no class": int(outside.sum())}
        patches = extract_patches(micrograph, own, settings, 1.0, stop)
        parts.append(PatchSet(own, patches, left_out))
    advice = "Correct clusters of every class in at least two images"
    if not parts:
        raise AtomicityError("there are no corrected clusters", advice=advice)
    whole = PatchSet.join(parts)
    labels = sorted(whole.table["truth"].unique())
    nameless = [c for c in labels if atoms_of(c) is None]
    if nameless:
        raise AtomicityError(
            f"the label {nameless[0]!r} gives no number of atoms",
            advice="Labels of classes are such as Pt19",
        )
    if len(labels) < 2:
        raise AtomicityError(
            f"corrected labels of at least two classes are needed, not of {len(labels)}",
            advice=advice,
        )
    arrays_of = whole.table.groupby("truth")["image"].nunique()
    lonely = arrays_of.index[arrays_of < 2]
    if len(lonely):
        raise AtomicityError(
            f"{', '.join(sorted(lonely))} was corrected in one image only, so that no image can "
            "be held out",
            advice=advice,
        )
    return with_known_scale(whole), sorted(labels, key=lambda c: (atoms_of(c) or 0, c))


def tables_with_images(
    files: Sequence[Path],
    folders: Sequence[Path],
    pixel_size_nm: float | None = None,
) -> Iterator[tuple[Micrograph, pd.DataFrame]]:
    """The images that cluster tables name, each read once, with its rows.

    Parameters
    ----------
    files
        Cluster tables as this package writes them.
    folders
        Where the images lie: files, and folders of them.
    pixel_size_nm
        Instead of that with which the table was measured.

    Raises
    ------
    ReadError
        If an image is not there, or several have its name.
    """
    from ..io.images import find_images, load
    from ..io.tables import concatenate, read_clusters

    table = concatenate([read_clusters(file) for file in files])
    table = table[table["label_corrected"] != ""]
    found = find_images(folders) if len(table) else []
    for name, rows in table.groupby("image", sort=False):
        paths = [p for p in found if f"/{p.as_posix()}".endswith(f"/{name}")]
        if len(paths) != 1:
            many = "several files are" if paths else "no file is"
            raise ReadError(
                f"{many} called so among the images",
                str(name),
                "Give with --images the folders in which each image of the table lies once",
            )
        size = pixel_size_nm
        if size is None:  # as it was measured
            good = rows["y_px"] > 0
            ratio = (rows["y_nm"] / rows["y_px"])[good].median()
            size = float(ratio) if ratio > 0 else None
        yield replace(load(paths[0], size), name=str(name)), rows.reset_index(drop=True)


# ---- simulation


def split_library(
    library: Sequence[Isomer], seed: int, shares: dict[str, float] = SHARES
) -> dict[str, list[Isomer]]:
    """Isomers for training, held-out and test fields; every class in the same shares."""
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
    """Clusters detected in simulated fields, by the same code as in real ones.

    Parameters
    ----------
    library
        Isomers; give training and test sets libraries that share none.
    classes
        In order of size.
    n_fields
        Fields to simulate.
    seed
        The same seed gives the same patches, whatever the workers.
    settings
        Geometry of the patches.
    workers
        Processes.
    progress, stop
        Called between fields.
    draw
        Draws the conditions of a field.
    """
    seeds = [int(s) for s in np.random.SeedSequence(seed).generate_state(n_fields)]
    job = partial(_simulated, list(library), list(classes), settings or PatchSettings(), draw)
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


def _simulated(
    library: list[Isomer], classes: list[str], patch: PatchSettings, draw: DrawSettings, seed: int
) -> PatchSet:
    settings = draw(classes, np.random.default_rng(seed))
    made = simulate_field(library, settings, seed, name=f"simulated-{seed}")
    table = detect(made.micrograph).table
    patches = extract_patches(made.micrograph, table, patch)
    rows, truths = match(table, made.truth, settings.pixel_size_nm)
    label = np.full(len(table), "", object)
    label[rows] = made.truth["label"].to_numpy()[truths]
    per_atom = made.intensity_per_atom(classes[0])
    table = table.assign(truth=label, true_intensity_per_atom=per_atom)
    return PatchSet(table, patches, {})


def match(
    found: pd.DataFrame, truth: pd.DataFrame, pixel_nm: float
) -> tuple[np.ndarray, np.ndarray]:
    """Pairs (rows of found, rows of truth) within half a diameter, at least `MATCH_NM`."""
    if len(found) == 0 or len(truth) == 0:
        return np.empty(0, int), np.empty(0, int)
    apart = pixel_nm * np.hypot(
        found["y_px"].to_numpy()[:, None] - truth["y_px"].to_numpy(),
        found["x_px"].to_numpy()[:, None] - truth["x_px"].to_numpy(),
    )
    allowed = apart <= np.maximum(truth["diameter_nm"].to_numpy() / 2, MATCH_NM)
    rows, columns = linear_sum_assignment(np.where(allowed, apart, 1e6))
    good = allowed[rows, columns]
    return rows[good], columns[good]
