"""Labelled patches from corrected labels."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import pandas as pd

from ..core.cluster_table import NON_CLASS_LABELS
from ..core.errors import AtomicityError, ReadError
from ..core.micrograph import Micrograph
from ..core.patches import PatchSettings
from ..core.progress import Progress, Stop, check, report
from ..detection.patches import extract_patches
from ..statistics.scores import atoms_of
from .data import PatchSet, with_known_scale

_ADVICE = "Correct clusters of every class in at least two images"


def from_corrections(
    images: Iterable[tuple[Micrograph, pd.DataFrame]],
    settings: PatchSettings | None = None,
    progress: Progress | None = None,
    stop: Stop | None = None,
) -> tuple[PatchSet, list[str]]:
    """Cut patches of the clusters with a corrected label at their measured positions.

    A correction to `table.UNKNOWN` or `table.AGGREGATE` names no class: such clusters are left out
    and counted, and so are clusters at the border.

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
        border = corrected["touches_border"].to_numpy(bool)
        outside = corrected["label_corrected"].isin(NON_CLASS_LABELS).to_numpy() & ~border
        own = corrected[~border & ~outside].reset_index(drop=True)
        own = own.assign(truth=own["label_corrected"], image=micrograph.name)
        left_out = {"border": int(border.sum()), "no class": int(outside.sum())}
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
            f"{', '.join(sorted(single))} was corrected in one image only, so that no image can "
            "be held out",
            advice=_ADVICE,
        )
    return sorted(labels, key=lambda c: (atoms_of(c) or 0, c))


def tables_with_images(
    files: Sequence[Path],
    folders: Sequence[Path],
    pixel_size_nm: float | None = None,
) -> Iterator[tuple[Micrograph, pd.DataFrame]]:
    """Read the images of cluster tables, each one time, with its rows.

    Parameters
    ----------
    files : sequence of Path
        Cluster tables as this package writes them.
    pixel_size_nm : float, optional
        Replaces that of the measurement in the table.

    Raises
    ------
    ReadError
        If an image is missing, or several have its name.
    """
    from ..io.images import find_images, load
    from ..io.tables import concatenate, read_clusters

    table = concatenate([read_clusters(file) for file in files])
    table = table[table["label_corrected"] != ""]
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
