"""The marks of several annotators in a project: agreement and consensus.

Between the project, which keeps what each annotator has marked blind, the packs that come back
from others (`annotation_packs`), and what can be said of it all (`statistics.annotators.consensus`,
`statistics.annotators.human_parity`). A *field* is what people look at at once: an image, or a
frame of a stack.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from ..atoms.marks import SAME_NM, Mark, mark_at
from ..core.errors import AtomicityError
from ..core.micrograph import Micrograph
from ..core.progress import Progress, Stop, check, report
from ..core.text import first_names, pluralise
from ..io.files import write_json
from ..io.tables import write_table
from ..project import Project, ProjectImage
from ..project.packs.annotation_packs import safe_name
from ..project.packs.filled_packs import Filled
from ..statistics.annotators.agreement import label_self_agreement, mark_self_agreement
from ..statistics.annotators.annotation_sites import TOLERANCE_NM
from ..statistics.annotators.consensus import CONSENSUS_THRESHOLD, Consensus, consensus
from ..statistics.annotators.human_parity import compare_with_annotators
from ..statistics.annotators.label_consensus import LabelConsensus, label_consensus
from ..statistics.matching import match
from ..statistics.scores import truth_names
from .annotator_packs import proposed_pairs, repeated_marks
from .atom_store import AtomStore, marks_of
from .edits import SetMarks

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
    # again_marks, again_looked: what people marked a second time, as `mark_self_agreement` needs it
    again_marks: pd.DataFrame = field(default_factory=pd.DataFrame)
    again_looked: pd.DataFrame = field(default_factory=pd.DataFrame)

    @property
    def annotators(self) -> list[str]:
        """Names of the annotators, sorted."""
        return sorted(set(self.counts["annotator"]))

    @property
    def reviews(self) -> set[tuple[str, str]]:
        """Images with the annotators who have reviewed them."""
        return set(self.counts[["image", "annotator"]].itertuples(index=False, name=None))

    @property
    def shared_fields(self) -> dict[str, Field]:
        """Fields that at least two people have reviewed: those of a consensus."""
        people = self.looked.groupby("image")["annotator"].nunique()
        return {name: field for name, field in self.fields.items() if people.get(name, 0) > 1}


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
        *_repeated(project, images),
    )


def _repeated(
    project: Project, images: Mapping[str, ProjectImage]
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Return marks and viewed images of a second time."""
    marks, looked = [], []
    for (image, who), places in repeated_marks(project).items():
        size = images[image].pixel_size_nm if image in images else None
        if size:
            looked.append((image, who))
            marks += [(image, who, y * size, x * size, unsure) for y, x, unsure in places]
    columns = ["image", "annotator", "y_nm", "x_nm", "uncertain"]
    return pd.DataFrame(marks, columns=columns), pd.DataFrame(looked, columns=columns[:2])


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
    consensus: Consensus  # see `statistics.annotators.consensus`
    # see `human_parity.compare_with_annotators`, over the fields that the model has analysed; None
    # if it has analysed none
    beside: dict[str, Any] | None
    # positions on which annotators, or model and annotators, disagree, the least decided first:
    # ``image, frame, y_px, x_px, y_nm, x_nm, posterior, n_looked, n_marked, model`` (whether the
    # model has an atom there; None where it was not applied), ``undecided, people, against`` (the
    # reason)
    disputes: pd.DataFrame
    # see `self_agreement.mark_self_agreement`
    with_themselves: Sequence[Mapping[str, Any]] = ()

    @property
    def warnings(self) -> tuple[str, ...]:
        """Why the comparison may mislead."""
        said = self.annotations
        there = set(said.looked["image"])
        here = set(said.annotators)  # marks of others may have been removed
        began = sorted({who for i, who in said.with_proposals if i in there and who in here})
        if not began:
            return self.consensus.warnings
        return (
            *self.consensus.warnings,
            f"{' and '.join(began)} began from what a model had found, and agree with it, and with "
            "each other, too easily.",
        )

    @property
    def notes(self) -> tuple[str, ...]:
        """Notes on the comparison for the reader."""
        said = self.annotations
        notes = list(self.consensus.notes)
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
        beside = compare_with_annotators(model, mine, there, tolerance_nm, seed, found.mismatched)
    check(stop)
    again = mark_self_agreement(
        marks, looked, annotations.again_marks, annotations.again_looked, tolerance_nm, seed
    )
    return AnnotatorComparison(
        annotations, found, beside, _disputes(annotations, found, model, seen), again
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


# ---- the consensus of several annotators: written into files, and back into a project
def write_agreement(
    folder: str | os.PathLike[str],
    marks: pd.DataFrame,
    found: Consensus,
    beside: Mapping[str, Any] | None = None,  # the comparison of the model with the annotators
    warnings: Sequence[str] = (),  # in place of those of the consensus alone
    with_themselves: Sequence[Mapping[str, Any]] = (),  # see `mark_self_agreement`
) -> dict[str, Any]:
    """Write ``marks.csv``, ``consensus.csv`` and ``agreement.json``."""
    folder = Path(folder)
    said = found.to_dict()
    if warnings:
        said["warnings"] = list(warnings)
    if beside is not None:
        said["model"] = dict(beside)
    if with_themselves:
        said["self"] = list(with_themselves)
    write_table(marks, folder / "marks.csv")
    write_table(found.sites, folder / "consensus.csv")
    write_json(folder / "agreement.json", said)
    return said


def write_comparison(compared: AnnotatorComparison, folder: str | os.PathLike[str]) -> Path:
    """Write a comparison; see `write_agreement`. Images of stacks are named with their frame."""
    marks, found = compared.annotations.marks, compared.consensus
    names = {name: name.replace("\n", " frame ") for name in compared.annotations.fields}
    tables = [table.assign(image=table["image"].map(names)) for table in (marks, found.sites)]
    of_names = replace(found, sites=tables[1])
    write_agreement(
        folder, tables[0], of_names, compared.beside, compared.warnings, compared.with_themselves
    )
    return Path(folder)


def measured_sites(
    compared: AnnotatorComparison,
    micrographs: Mapping[str, Micrograph],
    progress: Progress | None = None,
    stop: Stop | None = None,
) -> dict[str, dict[int, list[Mark]]]:
    """Measure the atoms of the consensus in the images.

    A site counts from a posterior of 0.25 on, and is uncertain up to 0.75. Images and frames that
    fewer than two people have reviewed are left out.
    """
    low, high = UNDECIDED
    found: dict[str, dict[int, list[Mark]]] = {}
    sites, fields = compared.consensus.sites, compared.annotations.shared_fields
    for i, (name, (image, frame)) in enumerate(fields.items()):
        check(stop)
        report(progress, i, len(fields), f"Measuring in {image}")
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
    rows, others = table[columns], table.iloc[:0]
    if atoms.analysis is not None:
        others = atoms.analysis.candidates
        others = others[~others["atom_id"].isin(rows["atom_id"])].assign(uncertain=False)
        rows = pd.concat([rows, others[columns]], ignore_index=True) if len(rows) else others
    after: dict[int, Mark] = {}
    for frame, mine in marks.items():
        there = rows[rows["frame"] == frame]
        places = np.array([(m.y_px * size, m.x_px * size) for m in mine]).reshape(-1, 2)
        pairs = match(places, there[["y_nm", "x_nm"]].to_numpy(float), SAME_NM)
        ids = dict(zip(pairs.first, there["atom_id"].to_numpy()[pairs.second], strict=True))
        after |= {
            int(ids[i]) if i in ids else book.next_id(image): mark for i, mark in enumerate(mine)
        }
        # candidates below the threshold, too: they count in the expected number of atoms
        for known in (table, others):
            gone = known.loc[known["frame"] == frame, "atom_id"]
            gone = gone[~gone.isin(list(after))]
            after |= {i: replace(m, present=False) for i, m in marks_of(known, gone).items()}
    changed: dict[int, Mark | None] = {i: m for i, m in after.items() if atoms.marks.get(i) != m}
    if not changed:
        return None
    before = {i: atoms.marks.get(i) for i in changed}
    return SetMarks(image, before, changed, f"take the consensus in {image}")


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
    labels = label_consensus(filled.labels, model_clusters) if len(filled.labels) else None
    report: dict[str, Any] = {"annotators": [], "notes": [], "warnings": []}
    if len(filled.looked):
        report |= _write_marks(folder, filled, model_atoms, tolerance, seed)
    else:
        _remove_earlier(folder)
    if labels is not None:
        report["labels"] = _write_labels(folder, filled, labels)
    people = [*report["annotators"], *filled.labels["annotator"]]
    report["annotators"] = list(dict.fromkeys(people))
    report["notes"] = [*report["notes"], *filled.notes]
    if len(filled.skills):
        report["examples"] = filled.skills.to_dict("records")
    if refused:
        report["refused"] = [{"file": str(path), "why": str(error)} for path, error in refused]
    write_json(folder / "agreement.json", report)
    return report


def _remove_earlier(folder: Path) -> None:
    """Remove what an earlier run has written into a folder: it may be of other images."""
    if (folder / "agreement.json").is_file():
        earlier = [folder / name for name in ("consensus.csv", "marks.csv", "labels.csv")]
        tables = (folder / "labels").glob("*.csv")
        earlier += [
            path
            for path in tables
            if "certainty" in path.read_text("utf-8", "replace").split("\n")[0]
        ]
        for path in earlier:
            path.unlink(missing_ok=True)


def _write_marks(
    folder: Path,
    filled: Filled,
    models: Mapping[str, pd.DataFrame],
    tolerance_nm: float,
    seed: int,
) -> dict[str, Any]:
    found = consensus(filled.marks, filled.looked, tolerance_nm, seed)
    compared = {
        name: compare_with_annotators(
            atoms, filled.marks, filled.looked, tolerance_nm, seed, found.mismatched
        )
        for name, atoms in models.items()
    }
    again = mark_self_agreement(
        filled.marks, filled.looked, filled.again_marks, filled.again_looked, tolerance_nm, seed
    )
    first = next(iter(compared.values()), None)
    _remove_earlier(folder)  # not before: an error leaves the earlier results
    report = write_agreement(folder, filled.marks, found, first, with_themselves=again)
    images = dict.fromkeys(filled.looked["image"].astype(str))
    write_training_labels(folder / "labels", found, images)
    if compared:
        report["models"] = compared
        report["warnings"] += _images_without_atoms(models, list(images))
    return report


def _images_without_atoms(models: Mapping[str, pd.DataFrame], images: list[str]) -> list[str]:
    """Return a warning for each model in whose table some images have no atom."""
    warnings = []
    for name, atoms in models.items():
        own = atoms["image"].astype(str).unique()
        found = set(truth_names(own, images).values())
        if without := [image for image in images if image not in found]:
            warnings.append(
                f"{name} has no atom in {pluralise(len(without), 'image')} "
                f"({first_names(without)}), which count as images without atoms: leave them out if "
                "it has not searched them"
            )
    return warnings


def write_training_labels(folder: Path, found: Consensus, images: Iterable[str]) -> list[Path]:
    """Write a table for each image: positions with the certainty that there is an atom.

    Training reads them beside the images, and learns a site as strongly as people are certain. That
    of an image without atoms is empty.
    """
    columns = ["y_px", "x_px"]  # not nm: the file may have another pixel size than the pack
    sites = found.sites[found.sites["posterior"] >= MIN_CERTAINTY]
    if not set(columns) <= set(sites.columns):
        return []
    return [
        write_table(
            own[columns].assign(certainty=own["posterior"].round(4)),
            folder / f"{safe_name(image)}.csv",
        )
        for image in images
        for own in [sites[sites["image"] == image]]
    ]


def _write_labels(folder: Path, filled: Filled, found: LabelConsensus) -> dict[str, Any]:
    write_table(found.clusters, folder / "labels.csv")
    again = label_self_agreement(filled.labels, filled.again_labels)
    return {**found.to_dict(), **({"self": again} if again else {})}
