"""Images of a validation: detected clusters with what is known of their classes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from fnmatch import fnmatchcase
from pathlib import Path

import numpy as np
import pandas as pd

from ..core.errors import ReadError, TableError
from ..core.micrograph import Micrograph
from ..core.patches import PatchSettings
from ..core.progress import Progress, Stop, check, report
from ..core.tables.columns import flags
from ..core.text import pluralise
from ..detection.patches import extract_patches
from ..io.images import find_images, load
from ..io.tables import read_table
from ..models.analysis import Analysis
from ..models.scale.intensity_scale import usable
from ..pipeline.analysis import detect_clusters
from ..training.data import PatchSet, match
from ..training.labelled_files import LabelledFile, classes_of, labelled_files, read_labelled
from ..training.size_selected import (
    central_rows,
    join_files,
    shows_single_clusters,
    single_frames,
)

# ---- deposited fractions of the samples of mixtures

Composition = dict[str, float]
"""Class → fraction; the fractions sum to 1."""


def read_deposits(path: Path, classes: Sequence[str]) -> dict[str, Composition]:
    """Read a table of deposited amounts.

    Raises `TableError` if a column is missing, a class is not known, or an amount is negative or
    not a number.
    """
    amounts = read_amounts(path)
    key = str(amounts.columns[0])
    unknown = sorted(set(amounts["class"]) - set(classes))
    if unknown:
        raise TableError(
            f"the class {unknown[0]!r} is not one of the size-selected images",
            path,
            f"The classes are {', '.join(classes)}",
        )
    found: dict[str, Composition] = {}
    for sample, rows in amounts.groupby(key, sort=False):
        total = rows["fraction"].sum()
        if total <= 0:
            raise TableError(
                f"the fractions of {sample} are all 0", path, "Write the amount of each class"
            )
        of_class = rows.groupby("class")["fraction"].sum() / total
        found[str(sample)] = {c: float(of_class.get(c, 0.0)) for c in classes}
    return found


def read_amounts(path: Path) -> pd.DataFrame:
    """Read the columns ``sample`` or ``image``, ``class`` and ``fraction``.

    Raises `ReadError` or `TableError` if the table can't be read, lacks a column, or an amount is
    negative or not a number.
    """
    table = read_table(path)
    key = next((name for name in ("sample", "image") if name in table), "sample")
    missing = [name for name in (key, "class", "fraction") if name not in table]
    if missing:
        raise TableError(
            f"the table lacks the column {' and '.join(missing)}",
            path,
            "Its columns are sample or image, class and fraction",
        )
    amount = pd.to_numeric(table["fraction"], errors="coerce")
    if not (amount >= 0).all():
        raise TableError(
            "a fraction is negative or not a number", path, "Write the amount of each class"
        )
    return table[[key, "class"]].astype({"class": str}).assign(fraction=amount)


def sample_of(
    image: str, stated: Mapping[str, str], deposits: Mapping[str, Composition] | None = None
) -> str:
    """Return the sample of an image.

    It is that of a table; or the name of the image or a pattern in the deposits; or its folder;
    else "all".
    """
    folder, _, name = image.rpartition("/")
    for key in (image, name):
        if key in stated:
            return stated[key]
    for sample in deposits or {}:
        if sample in (image, name, folder) or fnmatchcase(name, sample):
            return sample
    return folder or "all"


SELECTED, MIXED, SHIFTED = "size-selected", "mixtures", "shifted"
GROUPS = (SELECTED, MIXED, SHIFTED)
"""Groups of images: each is labelled as one session."""
TRUTH, IMAGES = "truth.csv", "images.csv"
"""Tables in a folder of mixtures: the true clusters; and the sample of each image."""


@dataclass(frozen=True, eq=False)
class ValidationImage:
    """An image with its detected clusters and what is known of them."""

    group: str
    sample: str  # name of the sample; size-selected samples have the name of their class
    file: str  # name of its file, which several frames may share
    detection: Analysis
    truth: np.ndarray  # true class of each cluster, "" if it has none or none is known
    # whether the cluster counts: not one that the border cuts, and none of an excluded kind
    counts: np.ndarray
    # whether the classes of the clusters are known, so that others are false detections
    has_truth: bool = True
    missed: tuple[str, ...] = ()  # classes of true clusters that were not detected
    # class → fraction of the sample; empty if it is not known
    deposited: Composition = field(default_factory=dict)

    @property
    def name(self) -> str:
        """Name of the image."""
        return self.detection.micrograph.name


@dataclass(frozen=True, eq=False)
class ValidationData:
    """All images of a validation."""

    classes: tuple[str, ...]  # classes of the size-selected images, by size
    images: tuple[ValidationImage, ...]

    def group(self, name: str) -> list[ValidationImage]:
        """Return the images of a group."""
        return [image for image in self.images if image.group == name]

    @property
    def groups(self) -> dict[str, list[ValidationImage]]:
        """Images of each group that has any."""
        return {name: images for name in GROUPS if (images := self.group(name))}


# ---- size-selected images
def read_size_selected(
    folder: Path,  # in one of the layouts of `training.labelled_files.labelled_files`
    pixel_size_nm: float | None = None,
    progress: Progress | None = None,
    stop: Stop | None = None,
) -> ValidationData:
    """Detect the clusters of size-selected images.

    Clusters that touch others or the border do not count: they may be several.

    Raises `ReadError` if the folder has no valid layout, or an image can't be read.
    """
    files = labelled_files(folder)
    images: list[ValidationImage] = []
    for file, micrograph in read_labelled(files, folder, pixel_size_nm, progress, stop):
        images += _labelled_images(file, micrograph, stop)
    return ValidationData(tuple(classes_of(files)), tuple(images))


def _labelled_images(
    file: LabelledFile, micrograph: Micrograph, stop: Stop | None
) -> list[ValidationImage]:
    """Detect the clusters of a file: an image, or one for each frame of single clusters."""
    labels = file.of_frames(micrograph.n_frames)
    if shows_single_clusters(micrograph, PatchSettings()):
        frames = zip(single_frames(micrograph), labels, strict=True)
        return [
            _labelled(_central(detect_clusters(frame, stop=stop)), micrograph.name, str(label))
            for frame, label in frames
        ]
    found = detect_clusters(micrograph, stop=stop)
    truth = labels[found.table["frame"].to_numpy(int)]
    return [_labelled(found, micrograph.name, str(labels[0]), truth)]


def _central(found: Analysis) -> Analysis:
    """Return an analysis of the central cluster alone."""
    rows = central_rows(found.table, found.micrograph)
    table = found.table.iloc[rows].reset_index(drop=True)
    return replace(found, table=table, outlines=[found.outlines[row] for row in rows])


def _labelled(
    found: Analysis, file: str, label: str, truth: np.ndarray | None = None
) -> ValidationImage:
    own = np.full(len(found.table), label, object) if truth is None else truth
    return ValidationImage(SELECTED, label, file, found, own, np.asarray(usable(found.table)))


def cut_patches(images: Sequence[ValidationImage], settings: PatchSettings) -> list[PatchSet]:
    """Cut the patches of size-selected images."""
    parts = []
    for image in images:
        table = image.detection.table
        patches = extract_patches(image.detection.micrograph, table, settings, 1.0)
        parts.append(PatchSet(table.assign(truth=image.truth), patches, {}))
    return parts


def training_set(images: Sequence[ValidationImage], parts: Sequence[PatchSet]) -> PatchSet:
    """Join the clusters of training images, as `training.size_selected.from_folder` does."""
    of_file: dict[str, list[PatchSet]] = {}
    for image, part in zip(images, parts, strict=True):
        of_file.setdefault(image.file, []).append(part)
    return join_files([PatchSet.join(own) for own in of_file.values()])


# ---- mixtures
def read_mixtures(
    folder: Path,
    group: str,  # `MIXED` or `SHIFTED`
    classes: Sequence[str],
    deposits: Path | None = None,
    pixel_size_nm: float | None = None,
    progress: Progress | None = None,
    stop: Stop | None = None,
) -> list[ValidationImage]:
    """Detect the clusters of mixtures, and match them with the truth if there is one.

    Raises `ReadError` if an image has neither a truth nor deposited fractions, or can't be read.
    Raises `TableError` if a table is not valid.
    """
    paths = find_images([folder])
    if not paths:
        raise ReadError("there are no images of mixtures", folder)
    truths = _read_truth(folder)
    known = {} if deposits is None else read_deposits(deposits, classes)
    samples = _read_samples(folder)
    images = []
    for i, path in enumerate(paths):
        check(stop)
        report(progress, i, len(paths), f"Finding clusters in {path.name}")
        name = path.relative_to(folder).as_posix()
        truth = truths.get(name, truths.get(path.name))
        sample = sample_of(name, samples, known)
        if truth is None and sample not in known:
            raise ReadError(
                f"the image {name} has neither true clusters nor deposited fractions",
                folder,
                f"Add a table {TRUTH}, or a row of its sample to the table of deposits",
            )
        found = detect_clusters(replace(load(path, pixel_size_nm), name=f"{group}/{name}"))
        images.append(_mixture(group, sample, found, truth, known.get(sample, {}), classes))
    return images


def _read_truth(folder: Path) -> dict[str, pd.DataFrame]:
    """Return image → true clusters, with columns for the matching."""
    path = folder / TRUTH
    if not path.is_file():
        return {}
    truth = _with_columns(read_table(path), ("image", "label", "y_px", "x_px"), path)
    truth = truth.rename(columns={"touches_border": "border"})
    defaults = {"diameter_nm": 0.0, "border": False}
    truth = truth.assign(**{k: v for k, v in defaults.items() if k not in truth})
    truth = truth.assign(border=flags(truth["border"], path.name))
    return {str(name): rows.reset_index(drop=True) for name, rows in truth.groupby("image")}


def _read_samples(folder: Path) -> dict[str, str]:
    """Return image → sample, as far as a table states it."""
    for path in (folder / IMAGES, folder / TRUTH):
        if path.is_file() and {"image", "sample"} <= set(table := read_table(path)):
            return dict(zip(table["image"].astype(str), table["sample"].astype(str), strict=True))
    return {}


def _mixture(
    group: str,
    sample: str,
    found: Analysis,
    truth: pd.DataFrame | None,
    deposited: Composition,
    classes: Sequence[str],
) -> ValidationImage:
    """Match the clusters of an image with the truth, if there is one."""
    label = np.full(len(found.table), "", object)
    counts = ~found.table["touches_border"].to_numpy(bool)
    missed: tuple[str, ...] = ()
    if truth is not None:
        rows, partners = match(found.table, truth, found.micrograph.calibrated())
        label[rows] = truth["label"].to_numpy(object)[partners]
        scored = truth["label"].isin(list(classes)) & ~truth["border"]
        counts[rows] = scored.to_numpy(bool)[partners]
        label[~counts] = ""
        others = np.setdiff1d(np.flatnonzero(scored), partners)
        missed = tuple(truth["label"].to_numpy(object)[others])
    name = found.micrograph.name
    return ValidationImage(
        group, sample, name, found, label, counts, truth is not None, missed, deposited
    )


# ---- division
def assign_folds(
    images: Sequence[ValidationImage], folds: int, seed: int, given: Mapping[str, int] | None = None
) -> np.ndarray:
    """Divide size-selected images, those of each class evenly.

    Raises `ReadError` if a class has too few images: each needs one in every part, and two to train
    on.
    """
    fold = np.full(len(images), -1)
    rng = np.random.default_rng([seed, folds])
    sample = np.array([image.sample for image in images], object)
    least = max(folds, 4 if folds == 2 else 3)
    for label in sorted(set(sample)):
        rows = np.flatnonzero(sample == label)
        if len(rows) < least:
            raise ReadError(
                f"{label} has {pluralise(len(rows), 'image')}, and a test in {folds} parts needs "
                f"{least}",
                advice="Record more images, or choose another number of parts (--folds; Parts, "
                "without Quick test): training needs two images of each class in addition to those "
                "of the left-out part",
            )
        fold[rng.permutation(rows)] = np.arange(len(rows)) % folds
    if given:
        fold = np.array([given.get(i.name, given.get(i.file, -1)) for i in images])
        is_part = (fold >= 0) & (fold < folds)
        if not is_part.all():
            one = images[int(np.argmin(is_part))]
            raise ReadError(
                f"folds.csv must state one of 0 to {folds - 1} for every image, and does not for "
                f"{one.file}",
                advice="Change the table, with the path of each image below the folder, or the "
                "number of --folds",
            )
        for label in sorted(set(sample)):
            if len(set(fold[sample == label])) < folds:
                raise ReadError(
                    f"folds.csv has no image of {label} in one of the {folds} parts",
                    advice="Change the table or the number of --folds",
                )
    return fold


def check_training(
    images: Sequence[ValidationImage], parts: Sequence[PatchSet], fold: np.ndarray
) -> None:
    """Refuse a division in which a class has usable clusters in too few training images.

    Raises `ReadError` if there are fewer than two.
    """
    for k in np.unique(fold):
        rows = np.flatnonzero(fold != k).tolist()
        table = training_set([images[i] for i in rows], [parts[i] for i in rows]).table
        number = table.groupby("truth")["image"].nunique()
        for label in dict.fromkeys(image.sample for image in images):
            if number.get(label, 0) < 2:
                raise ReadError(
                    f"{label} has usable clusters in fewer than two images without part {k}",
                    advice="Clusters at the border are not used. Record more "
                    "images, or choose more --folds",
                )


def read_folds(folder: Path) -> dict[str, int]:
    """Read image → part from ``folds.csv`` (columns image, fold) in a folder, if it exists."""
    path = folder / "folds.csv"
    if not path.is_file():
        return {}
    table = _with_columns(read_table(path), ("image", "fold"), path)
    fold = pd.to_numeric(table["fold"], errors="coerce")
    if not (fold == fold.round()).all():
        raise TableError("the column fold has cells without a whole number", path)
    return dict(zip(table["image"].astype(str), fold.astype(int), strict=True))


def _with_columns(table: pd.DataFrame, names: Sequence[str], path: Path) -> pd.DataFrame:
    """Return a table; raise `TableError` if it lacks one of these columns."""
    if missing := [name for name in names if name not in table]:
        raise TableError(f"the table has no column {missing[0]}", path)
    return table
