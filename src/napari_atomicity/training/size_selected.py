"""Labelled patches from size-selected images and stacks of single clusters."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd

from ..core.errors import AtomicityError
from ..core.micrograph import Micrograph
from ..core.patches import PatchSettings
from ..core.progress import Progress, Stop
from ..detection import detect
from ..detection.patches import extract_patches
from ..models.scale.intensity_scale import usable
from .data import KNOWN_SCALE, PatchSet, with_known_scale
from .labelled_files import LabelledFile, classes_of, labelled_files, read_labelled

MIN_FOR_SCALE = 3
"""Number of clusters from which the known scale of an image is that of its clusters alone."""

MIN_FOR_OUTLIERS = 5
"""Number of isolated clusters of a class from which on outliers can be recognised."""

SINGLE = 1.5
"""Edge length of a frame in patches up to which it shows a single cluster."""


def from_folder(
    data_dir: Path,
    settings: PatchSettings | None = None,
    pixel_size_nm: float | None = None,
    progress: Progress | None = None,
    stop: Stop | None = None,
) -> tuple[PatchSet, list[str]]:
    """Detect clusters in images of known classes, and give them the class of their image.

    Left out, and counted: clusters cut by the border, and outliers in diameter or intensity within
    their file (an aggregate, a speck). Touching clusters are used: an analysis has to label them
    too, and a network that has seen none labels them at random.

    Frames of up to `SINGLE` times the edge length of a patch show single clusters: the one nearest
    to the centre is used, and each frame counts as an image.

    Parameters
    ----------
    data_dir : Path
        Images and stacks in one of the layouts of `labelled_files.labelled_files`, such as a
        folder for each class.
    settings : PatchSettings, optional
        Geometry of the patches.
    pixel_size_nm : float, optional
        For images without calibration.
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
    ReadError
        If there are fewer than two classes, or an image can't be read.
    AtomicityError
        If nothing usable is detected in a class.
    """
    settings = settings or PatchSettings()
    files = labelled_files(data_dir)
    read = read_labelled(files, data_dir, pixel_size_nm, progress, stop)
    whole = join_files([_labelled_clusters(*pair, settings, stop) for pair in read])
    classes = classes_of(files)
    _check_classes(whole, classes, data_dir)
    return whole, classes


def join_files(
    parts: Sequence[PatchSet],  # detected clusters of each file with the class of their frame
) -> PatchSet:  # without clusters at the border and outliers; with `KNOWN_SCALE`
    """Join the labelled clusters of files, without those that nothing can be learnt from."""
    return _pool_small_images(with_known_scale(PatchSet.join([_clean(part) for part in parts])))


def shows_single_clusters(micrograph: Micrograph, settings: PatchSettings) -> bool:
    """Return whether the frames are so small that each shows a single cluster, see `SINGLE`."""
    extent_nm = max(micrograph.shape_px) * micrograph.calibrated()
    return extent_nm <= SINGLE * settings.field_of_view_nm


def single_frames(micrograph: Micrograph) -> list[Micrograph]:
    """Return the frames as images of their own; those of a stack are called ``NAME#FRAME``."""
    many = micrograph.n_frames > 1
    return [
        Micrograph(
            micrograph.frame(i),
            micrograph.pixel_size_nm,
            name=f"{micrograph.name}#{i}" if many else micrograph.name,
        )
        for i in range(micrograph.n_frames)
    ]


def central_rows(table: pd.DataFrame, image: Micrograph) -> np.ndarray:
    """Return the row of the cluster that is nearest to the centre of an image, if there is any."""
    middle = (np.array(image.shape_px) - 1) / 2
    away = np.hypot(*(table[["y_px", "x_px"]].to_numpy(float) - middle).T)
    return np.argsort(away)[:1]


def _labelled_clusters(
    file: LabelledFile, micrograph: Micrograph, settings: PatchSettings, stop: Stop | None
) -> PatchSet:
    """Detect the clusters of a file, or the central one of each frame that shows a single one."""
    truth = file.of_frames(micrograph.n_frames)
    if not shows_single_clusters(micrograph, settings):
        table = detect(micrograph, stop=stop).table
        patches = extract_patches(micrograph, table, settings, 1.0, stop)
        return PatchSet(table.assign(truth=truth[table["frame"].to_numpy(int)]), patches, {})
    frames = zip(single_frames(micrograph), truth, strict=True)
    return PatchSet.join([_central_cluster(f, label, settings, stop) for f, label in frames])


def _central_cluster(
    image: Micrograph, label: str, settings: PatchSettings, stop: Stop | None
) -> PatchSet:
    """Detect the cluster that is nearest to the centre of a small image."""
    table = detect(image, stop=stop).table
    table = table.iloc[central_rows(table, image)].reset_index(drop=True)
    patches = extract_patches(image, table, settings, 1.0, stop)
    return PatchSet(table.assign(truth=label), patches, {"no cluster": 1 - len(table)})


def _pool_small_images(part: PatchSet) -> PatchSet:
    """Give images of fewer than `MIN_FOR_SCALE` clusters the median scale of those of their class.

    In an image of one cluster, intensity divided by atoms is its own scale, and all clusters of a
    class would have exactly the same number of atoms.
    """
    table = part.table
    few = table.groupby("image")["image"].transform("size") < MIN_FOR_SCALE
    pooled = table[KNOWN_SCALE].where(few).groupby(table["truth"]).transform("median")
    return replace(
        part, table=table.assign(**{KNOWN_SCALE: table[KNOWN_SCALE].where(~few, pooled)})
    )


def _check_classes(part: PatchSet, classes: Sequence[str], data_dir: Path) -> None:
    """Refuse a folder with a class in which nothing usable was detected."""
    empty = [c for c in classes if not (part.table["truth"] == c).any()]
    if empty:
        raise AtomicityError(
            f"no usable cluster was found in {', '.join(empty)}",
            data_dir,
            "Inspect the images with `atomicity analyse`, check the pixel size",
        )


def _clean(part: PatchSet) -> PatchSet:
    """Leave out clusters at the border and outliers, and count them.

    Isolated clusters determine the limits, for touching ones too.
    """
    table = part.table
    border, whole = table["touches_border"].to_numpy(bool), usable(table)
    outlier = ~border & ~(table[["integrated_intensity", "diameter_nm"]] > 0).all(axis=1).to_numpy()
    complete = np.flatnonzero(~border & ~outlier)
    for members in table.iloc[complete].groupby("truth").indices.values():
        rows = complete[members]
        isolated = whole[rows]
        if isolated.sum() < MIN_FOR_OUTLIERS:
            continue
        for column in ("integrated_intensity", "diameter_nm"):
            value = np.log(table[column].to_numpy(float)[rows])
            away = np.abs(value - np.median(value[isolated]))
            outlier[rows] |= away > 4 * max(1.4826 * np.median(away[isolated]), 0.08)
    left_out = {**part.left_out, "border": int(border.sum()), "outlying": int(outlier.sum())}
    return replace(part.take(~border & ~outlier), left_out=left_out)
