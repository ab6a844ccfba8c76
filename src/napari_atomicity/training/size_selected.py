"""Labelled patches from size-selected images."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from ..core.errors import AtomicityError, ReadError
from ..core.patches import PatchSettings
from ..core.progress import Progress, Stop, check, report
from ..detection import detect
from ..detection.patches import extract_patches
from ..models.intensity_scale import usable
from ..statistics.scores import atoms_of
from .data import KNOWN_SCALE, PatchSet, with_known_scale

MIN_FOR_SCALE = 3
"""Number of clusters from which the known scale of an image is that of its clusters alone."""


def size_selected(data_dir: Path) -> dict[str, list[Path]]:
    """Return the image files of each class in ``data_dir/<class>``, by the number of atoms.

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
    """Detect clusters in ``data_dir/<class>/*.tif`` and give them the class of their folder.

    Left out, and counted: clusters cut by the border, touching ones, and outliers in diameter or
    intensity within their image (an aggregate, a speck).

    Parameters
    ----------
    data_dir : Path
        With a folder per class, such as ``Pt19``.
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
        parts.append(_clean(PatchSet(table.assign(truth=label), patches, {})))
    whole = _pool_small_images(with_known_scale(PatchSet.join(parts)))
    classes = list(found)
    _check_classes(whole, classes, data_dir)
    return whole, classes


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
    """Leave out clusters at the border, touching ones and outliers, and count them."""
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
