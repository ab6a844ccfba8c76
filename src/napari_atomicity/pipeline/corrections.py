"""Corrected labels from a cluster table, matched to the clusters of analysed images."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from ..core.errors import TableError
from ..core.micrograph import Micrograph
from ..core.model_card import ModelCard
from ..core.tables import cluster_table as tables
from ..io.tables import read_table
from ..models.analysis import Analysis
from ..statistics.scores import match_nearest

if TYPE_CHECKING:
    pass

_POSITION = ["y_px", "x_px"]
_MIN_TOLERANCE_NM = 0.3
"""A correction is of the nearest cluster within half its diameter, or this."""


def read_corrections(path: Path, card: ModelCard) -> pd.DataFrame:
    """Read the rows of a cluster table with corrected labels.

    Raises `ReadError` if the file is missing or no table. Raises `TableError` if columns are
    missing, nothing is corrected, or a label is none that the model can give.
    """
    table = read_table(path)
    missing = [c for c in ("image", *_POSITION, "label_corrected") if c not in table.columns]
    if missing:
        raise TableError(
            f"the corrections lack the columns {', '.join(missing)}",
            path,
            "Give a cluster table, as Ratios exports it",
        )
    table = table.assign(label_corrected=table["label_corrected"].fillna(""))
    table = table[table["label_corrected"] != ""].reset_index(drop=True)
    if table.empty:
        raise TableError("no cluster of this table is corrected", path, "Correct some first")
    strange = set(table["label_corrected"]) - {*card.classes, *tables.NON_CLASS_LABELS}
    if strange:
        raise TableError(
            f"{card.name!r} has no class {sorted(strange)[0]!r}",
            path,
            f"Its classes are {', '.join(card.classes)}",
        )
    return table if "frame" in table.columns else table.assign(frame=0)


def with_corrections(
    analyses: Sequence[Analysis], given: pd.DataFrame
) -> tuple[list[Analysis], int]:
    """Apply the labels of a table to analyses, and count the labels without a cluster.

    A row is of the image that bears its name, or the name of its file with or without suffix, if
    that is one image only; and of the nearest cluster of the frame, within half its diameter.
    """
    called = [_names_of(a.micrograph) for a in analyses]
    owner: dict[str, int] = {}
    for name in given["image"].unique():
        exact = [i for i, a in enumerate(analyses) if a.micrograph.name == name]
        candidates = exact or [i for i, names in enumerate(called) if name in names]
        if len(candidates) == 1:
            owner[name] = candidates[0]
    of_image = given["image"].map(owner)
    found, out = 0, []
    for i, analysis in enumerate(analyses):
        own = given[of_image == i]
        table = analysis.table
        corrected = table["label_corrected"].to_numpy(object).copy()
        for frame in np.intersect1d(own["frame"], table["frame"]):
            here = np.flatnonzero(table["frame"] == frame)
            there = table.iloc[here]
            rows = own[own["frame"] == frame]
            limit_nm = np.maximum(there["diameter_nm"].to_numpy(float) / 2, _MIN_TOLERANCE_NM)
            partner = match_nearest(
                rows[_POSITION].to_numpy(float),
                there[_POSITION].to_numpy(float),
                limit_nm / analysis.micrograph.calibrated(),
            )
            good = partner >= 0
            corrected[here[partner[good]]] = rows["label_corrected"].to_numpy(object)[good]
            found += int(good.sum())
        table = tables.settle_labels(table.assign(label_corrected=corrected))
        out.append(replace(analysis, table=table))
    return out, len(given) - found


def _names_of(micrograph: Micrograph) -> set[str]:
    """Return the names of an image in tables: "a.tif", "day1/a.tif", with or without suffix."""
    names = {micrograph.name}
    if micrograph.path is not None:
        parts = micrograph.path.absolute().parts
        names |= {"/".join(parts[i:]) for i in range(1, len(parts))}
    return names | {PurePosixPath(name).with_suffix("").as_posix() for name in names}
