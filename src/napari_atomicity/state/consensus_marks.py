"""The consensus of several annotators: written into files, and back into a project."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from ..atoms.marks import SAME_NM, Mark, mark_at
from ..core.micrograph import Micrograph
from ..core.progress import Progress, Stop, check, report
from ..io.files import write_json
from ..io.tables import write_table
from ..statistics.consensus import Consensus
from ..statistics.matching import match
from .annotators import UNDECIDED, AnnotatorComparison
from .atom_edits import SetMarks
from .atom_store import AtomStore, marks_of


def write_agreement(
    folder: str | os.PathLike[str],
    marks: pd.DataFrame,
    found: Consensus,
    beside: Mapping[str, Any] | None = None,  # the comparison of the model with the annotators
) -> dict[str, Any]:
    """Write ``marks.csv``, ``consensus.csv`` and ``agreement.json``."""
    folder = Path(folder)
    said = found.to_dict()
    if beside is not None:
        said["model"] = dict(beside)
    write_table(marks, folder / "marks.csv")
    write_table(found.sites, folder / "consensus.csv")
    write_json(folder / "agreement.json", said)
    return said


def write_comparison(compared: AnnotatorComparison, folder: str | os.PathLike[str]) -> Path:
    """Write a comparison; see `write_agreement`. Images of stacks are named with their frame."""
    marks, found = compared.annotations.marks, compared.consensus
    names = {name: name.replace("\n", " frame ") for name in compared.annotations.fields}
    tables = [table.assign(image=table["image"].map(names)) for table in (marks, found.sites)]
    write_agreement(folder, tables[0], replace(found, sites=tables[1]), compared.beside)
    return Path(folder)


def measured_sites(
    compared: AnnotatorComparison,
    micrographs: Mapping[str, Micrograph],
    progress: Progress | None = None,
    stop: Stop | None = None,
) -> dict[str, dict[int, list[Mark]]]:
    """Measure the atoms of the consensus in the images.

    A site counts from a posterior of 0.25 on, and is uncertain up to 0.75.
    """
    low, high = UNDECIDED
    found: dict[str, dict[int, list[Mark]]] = {}
    sites = compared.consensus.sites
    for i, (name, (image, frame)) in enumerate(compared.annotations.fields.items()):
        check(stop)
        report(progress, i, len(compared.annotations.fields), f"Measuring in {image}")
        micrograph = micrographs[image]
        pixels: Any = micrograph.frame(frame)
        here = sites[(sites["image"] == name) & (sites["posterior"] >= low)]
        size = micrograph.calibrated()
        found.setdefault(image, {})[frame] = [
            replace(mark_at(pixels, y, x, size, frame), uncertain=bool(posterior <= high))
            for y, x, posterior in here[["y_px", "x_px", "posterior"]].to_numpy(float).tolist()
        ]
    return found


def consensus_edit(
    book: AtomStore, image: str, marks: Mapping[int, Sequence[Mark]]
) -> SetMarks | None:
    """Return the edit that replaces the atoms of some frames of an image by these marks."""
    atoms = book.begin(image)
    table, size = atoms.table, atoms.pixel_size_nm
    columns = ["atom_id", "frame", "y_nm", "x_nm"]
    rows = table[columns]
    if atoms.analysis is not None:
        others = atoms.analysis.candidates
        others = others.loc[~others["atom_id"].isin(rows["atom_id"]), columns]
        rows = pd.concat([rows, others], ignore_index=True) if len(rows) else others
    after: dict[int, Mark] = {}
    for frame, mine in marks.items():
        there = rows[rows["frame"] == frame]
        places = np.array([(m.y_px * size, m.x_px * size) for m in mine]).reshape(-1, 2)
        pairs = match(places, there[["y_nm", "x_nm"]].to_numpy(float), SAME_NM)
        ids = dict(zip(pairs.first, there["atom_id"].to_numpy()[pairs.second], strict=True))
        after |= {
            int(ids[i]) if i in ids else book.next_id(image): mark for i, mark in enumerate(mine)
        }
        gone = table.loc[table["frame"] == frame, "atom_id"]
        gone = gone[~gone.isin(list(after))]
        after |= {i: replace(m, present=False) for i, m in marks_of(table, gone).items()}
    changed: dict[int, Mark | None] = {i: m for i, m in after.items() if atoms.marks.get(i) != m}
    if not changed:
        return None
    before = {i: atoms.marks.get(i) for i in changed}
    return SetMarks(image, before, changed, f"take the consensus in {image}")
