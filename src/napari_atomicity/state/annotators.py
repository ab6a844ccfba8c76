"""The marks of several annotators in a project: agreement and consensus.

Between the project, which keeps what each annotator has marked blind, the packs that come back
from others (`annotation_packs`), and what can be said of it all (`statistics.consensus`,
`statistics.human_parity`). A *field* is what people look at at once: an image, or a frame of a
stack.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from ..core.errors import AtomicityError
from ..core.progress import Progress, Stop, check, report
from ..project import Project, ProjectImage
from ..statistics.annotation_sites import TOLERANCE_NM
from ..statistics.consensus import CONSENSUS_THRESHOLD, Consensus, consensus
from ..statistics.human_parity import compare_with_annotators
from ..statistics.matching import match
from .annotator_packs import proposed_pairs

UNDECIDED = (0.25, 0.75)
"""Posteriors between which a site is undecided."""
# Fields of stacks; no image can have a line break in its name.
_OF_STACK = "{}\n{}"

Field = tuple[str, int]
"""Image and frame."""


# ---- what there is
@dataclass(frozen=True, eq=False)
class Annotations:
    """The blind marks of all annotators in the images of a project."""

    # A row for each image and annotator who has viewed it: ``image, annotator, marks, uncertain``
    counts: pd.DataFrame
    # marks, looked: as `consensus` needs them, of images with a known pixel size; ``image`` names a
    # field
    marks: pd.DataFrame
    looked: pd.DataFrame
    fields: Mapping[str, Field]  # name of each field → image and frame
    unmeasured: tuple[str, ...] = ()  # images without a known pixel size: they can't be compared
    # (image, annotator) of those who began from the atoms of a model
    with_proposals: tuple[tuple[str, str], ...] = ()

    @property
    def annotators(self) -> list[str]:
        """Names of the annotators, sorted."""
        return sorted(set(self.counts["annotator"]))


def annotations_in(project: Project) -> Annotations:
    """Read the blind marks of all annotators of a project.

    Of a stack, each frame with a mark is a field, viewed by all who viewed the image. Lengths
    follow from pixels by the current pixel size.
    """
    marks, looked = project.atoms.annotations()
    groups = marks.groupby(["image", "annotator"])["uncertain"].agg(["size", "sum"])
    keys = pd.MultiIndex.from_frame(looked[["image", "annotator"]])
    counts = looked.assign(
        **{
            name: groups[column].reindex(keys, fill_value=0).to_numpy().astype(int)
            for name, column in (("marks", "size"), ("uncertain", "sum"))
        }
    )
    images = {image.name: image for image in project.images(counts=False)}
    fields, unmeasured = _fields_of(images, marks, looked)
    names = {at: field for field, at in fields.items()}
    area = {f: _area_nm2(images[image]) for f, (image, _) in fields.items()}
    seen = [
        (field, annotator, area[field])
        for field, (image, _) in fields.items()
        for annotator in looked.loc[looked["image"] == image, "annotator"]
    ]
    size = marks["image"].map({n: i.pixel_size_nm for n, i in images.items()}).astype(float)
    field = [names.get((i, f)) for i, f in zip(marks["image"], marks["frame"], strict=True)]
    marks = marks.assign(
        image=pd.Series(field, index=marks.index, dtype=object),
        y_nm=marks["y_px"] * size,
        x_nm=marks["x_px"] * size,
    )
    return Annotations(
        counts,
        marks[marks["image"].notna()].reset_index(drop=True),
        pd.DataFrame(seen, columns=["image", "annotator", "area_nm2"]),
        fields,
        tuple(unmeasured),
        tuple(proposed_pairs(project)),
    )


def _fields_of(
    images: Mapping[str, ProjectImage], marks: pd.DataFrame, looked: pd.DataFrame
) -> tuple[dict[str, Field], list[str]]:
    """Return the fields of all viewed images, and the images without a known pixel size."""
    fields: dict[str, Field] = {}
    unmeasured = []
    for name in dict.fromkeys(looked["image"]):
        image = images[name]
        if image.shape is None or not image.pixel_size_nm:
            unmeasured.append(name)
            continue
        stack = len(image.shape) == 3
        frames = sorted(set(marks.loc[marks["image"] == name, "frame"])) if stack else [0]
        for frame in frames:
            field = _OF_STACK.format(name, frame) if stack else name
            fields[field] = (name, int(frame))
    return fields, unmeasured


def _area_nm2(image: ProjectImage) -> float:
    assert image.shape is not None and image.pixel_size_nm is not None
    height, width = image.shape[-2:]
    return float(height * width * image.pixel_size_nm**2)


# ---- what they come to
@dataclass(frozen=True, eq=False)
class AnnotatorComparison:
    """Agreement of annotators, their consensus, and the model compared with them."""

    annotations: Annotations
    consensus: Consensus  # see `statistics.consensus`
    # see `human_parity.compare_with_annotators`, over the fields that the model has analysed; None
    # if it has analysed none
    beside: dict[str, Any] | None
    # positions on which annotators, or model and annotators, disagree, the least decided first:
    # ``image, frame, y_px, x_px, y_nm, x_nm, posterior, n_looked, n_marked, model`` (whether the
    # model has an atom there; None where it was not applied), ``undecided, people, against`` (the
    # reason)
    disputes: pd.DataFrame

    @property
    def notes(self) -> tuple[str, ...]:
        """Notes on the comparison for the reader."""
        said = self.annotations
        there = set(said.looked["image"])
        here = set(said.annotators)  # marks of others may have been removed
        began = sorted({who for i, who in said.with_proposals if i in there and who in here})
        notes = list(self.consensus.notes)
        if began:
            notes.append(
                f"{' and '.join(began)} began from what a model had found, and agree with it, and "
                "with each other, too easily."
            )
        if said.unmeasured:
            notes.append(
                f"Left out, because their size in nm is not known: {', '.join(said.unmeasured)}."
            )
        return tuple(notes)


def compare(
    annotations: Annotations,
    atoms: Mapping[str, pd.DataFrame],
    tolerance_nm: float = TOLERANCE_NM,  # marks within this distance are one site
    seed: int = 0,  # of bootstrap and random draws
    progress: Progress | None = None,
    stop: Stop | None = None,
) -> AnnotatorComparison:
    """Merge the marks of several annotators, and compare the model with them.

    Raises `AtomicityError` if no image with a known pixel size has been annotated.
    """
    marks, looked = annotations.marks, annotations.looked
    if not len(looked):
        raise AtomicityError(
            "no image with a known pixel size has been annotated",
            advice="Mark atoms blind, or import packs",
        )
    report(progress, 0, 2, "Merging marks")
    found = consensus(marks, looked, tolerance_nm, seed)
    check(stop)
    report(progress, 1, 2, "Comparing the model with annotators")
    seen = {name: at for name, at in annotations.fields.items() if at[0] in atoms}
    model = _in_fields(atoms, seen)
    beside = None
    if seen:
        mine, there = (table[table["image"].isin(list(seen))] for table in (marks, looked))
        beside = compare_with_annotators(model, mine, there, tolerance_nm, seed)
    check(stop)
    return AnnotatorComparison(
        annotations, found, beside, _disputes(annotations, found, model, seen)
    )


def _in_fields(atoms: Mapping[str, pd.DataFrame], seen: Mapping[str, Field]) -> pd.DataFrame:
    """Atoms with the names of fields for images."""
    columns = ["y_px", "x_px", "y_nm", "x_nm"]
    none = pd.DataFrame(columns=[*columns, "image"])
    tables = []
    for name, (image, frame) in seen.items():
        table = atoms[image]
        tables.append(table.loc[table["frame"] == frame, columns].assign(image=name))
    tables = [table for table in tables if len(table)]
    return pd.concat(tables, ignore_index=True) if tables else none


def _disputes(
    annotations: Annotations, found: Consensus, model: pd.DataFrame, seen: Mapping[str, Field]
) -> pd.DataFrame:
    sites, n_looked = found.sites, annotations.looked["image"].value_counts()
    columns = ["y_px", "x_px", "y_nm", "x_nm", "posterior", "n_looked", "n_marked"]
    parts = []
    for name, (image, frame) in annotations.fields.items():
        here = sites.loc[sites["image"] == name, columns]
        has: np.ndarray = np.full(len(here), None, object)
        lone = pd.DataFrame(columns=columns)
        if name in seen:
            atoms = model[model["image"] == name]
            a, b = (t[["y_nm", "x_nm"]].to_numpy(float) for t in (here, atoms))
            pairs = match(a, b, found.tolerance_nm)
            has[:] = False
            has[pairs.first] = True
            lone = atoms.drop(index=atoms.index[pairs.second])
            lone = lone.assign(posterior=0.0, n_looked=n_looked[name], n_marked=0)[columns]
        rows = pd.concat([here.assign(model=has), lone.assign(model=True)], ignore_index=True)
        parts.append(rows.assign(image=image, frame=frame))
    table = pd.concat(parts, ignore_index=True)
    low, high = UNDECIDED
    believed = table["posterior"] >= CONSENSUS_THRESHOLD
    table["undecided"] = table["posterior"].between(low, high)
    table["people"] = (table["n_marked"] > 0) & (table["n_marked"] < table["n_looked"])
    against = [
        m is not None and bool(m) != b for m, b in zip(table["model"], believed, strict=True)
    ]
    table["against"] = np.array(against, bool)
    table = table[table[["undecided", "people", "against"]].any(axis=1)]
    order = (table["posterior"] - 0.5).abs().sort_values(kind="stable").index
    table = table.loc[order].reset_index(drop=True)
    return table[["image", "frame", *table.columns.drop(["image", "frame"])]]
