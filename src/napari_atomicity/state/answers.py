"""The consensus of packs and answers that have come back, written into a folder."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from ..core.errors import AtomicityError
from ..io.files import write_json
from ..io.tables import write_table
from ..project.packs.annotation_packs import safe_name
from ..project.packs.filled_packs import Filled
from ..statistics.annotators.consensus import Consensus, consensus
from ..statistics.annotators.human_parity import compare_with_annotators
from ..statistics.annotators.label_consensus import label_consensus
from ..statistics.annotators.self_agreement import label_self_agreement, mark_self_agreement
from .annotators import write_agreement

MIN_CERTAINTY = 0.05
"""Sites below teach nothing."""


def write_consensus(
    folder: Path,
    filled: Filled,
    model_atoms: Mapping[str, pd.DataFrame],  # tables of atoms by model
    model_clusters: Mapping[str, pd.DataFrame],  # tables of clusters by model
    tolerance_nm: float | None = None,  # None: that of the packs
    refused: Sequence[tuple[Path, AtomicityError]] = (),
    seed: int = 0,
) -> dict[str, Any]:
    """Merge what people have answered; return what ``agreement.json`` says.

    Marks give ``consensus.csv``, ``marks.csv`` and tables with certainties in ``labels``; labels of
    clusters give ``labels.csv``.
    """
    tolerance = filled.tolerance_nm if tolerance_nm is None else tolerance_nm
    report: dict[str, Any] = {"annotators": [], "notes": [], "warnings": []}
    if len(filled.looked):
        report |= _write_marks(folder, filled, model_atoms, tolerance, seed)
    if len(filled.labels):
        report["labels"] = _write_labels(folder, filled, model_clusters)
    people = [*report["annotators"], *filled.labels["annotator"]]
    report["annotators"] = list(dict.fromkeys(people))
    report["notes"] = [*report["notes"], *filled.notes]
    if len(filled.skills):
        report["examples"] = filled.skills.to_dict("records")
    if refused:
        report["refused"] = [{"file": str(path), "why": str(error)} for path, error in refused]
    write_json(folder / "agreement.json", report)
    return report


def _write_marks(
    folder: Path,
    filled: Filled,
    models: Mapping[str, pd.DataFrame],
    tolerance_nm: float,
    seed: int,
) -> dict[str, Any]:
    found = consensus(filled.marks, filled.looked, tolerance_nm, seed)
    compared = {
        name: compare_with_annotators(atoms, filled.marks, filled.looked, tolerance_nm, seed)
        for name, atoms in models.items()
    }
    again = mark_self_agreement(
        filled.marks, filled.looked, filled.again_marks, filled.again_looked, tolerance_nm, seed
    )
    first = next(iter(compared.values()), None)
    report = write_agreement(folder, filled.marks, found, first, with_themselves=again)
    write_training_labels(folder / "labels", found)
    if compared:
        report["models"] = compared
    return report


def write_training_labels(folder: Path, found: Consensus) -> list[Path]:
    """Write a table for each image: positions with the certainty that there is an atom.

    Training reads them beside the images, and learns a site as strongly as people are certain.
    """
    columns = ["y_px", "x_px", "y_nm", "x_nm"]
    sites = found.sites[found.sites["posterior"] >= MIN_CERTAINTY]
    if not set(columns) <= set(sites.columns):
        return []
    return [
        write_table(
            own[columns].assign(certainty=own["posterior"].round(4)),
            folder / f"{safe_name(str(image))}.csv",
        )
        for image, own in sites.groupby("image", sort=False)
    ]


def _write_labels(
    folder: Path, filled: Filled, models: Mapping[str, pd.DataFrame]
) -> dict[str, Any]:
    found = label_consensus(filled.labels, models)
    write_table(found.clusters, folder / "labels.csv")
    again = label_self_agreement(filled.labels, filled.again_labels)
    return {**found.to_dict(), **({"self": again} if again else {})}
