"""Several people's marks in a project: how they come in, what they come to, and how they go out.

Between the project, which keeps what each annotator has marked blind, the packs that come back
from others (`annotation_packs`), and what can be said of it all (`statistics.consensus`,
`statistics.human_parity`). A *field* is what people look at at once: an image, or a frame of a
stack.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from ..atoms.marks import SAME_NM, Mark, mark_at
from ..core.errors import AtomicityError, ReadError
from ..core.micrograph import Micrograph
from ..core.progress import Progress, Stop, check, report
from ..io.files import write_json
from ..io.images import find_images, sha256_of, unique_names, valid_text
from ..io.tables import write_table
from ..project import Project, ProjectImage
from ..project.annotation_packs import Filled, export_pack, read_pack
from ..statistics.annotation_sites import TOLERANCE_NM
from ..statistics.consensus import CONSENSUS_THRESHOLD, Consensus, consensus
from ..statistics.human_parity import compare_with_annotators
from ..statistics.matching import match
from .atom_edits import SetMarks
from .atom_store import AtomStore, marks_of

UNDECIDED = (0.25, 0.75)
"""Posteriors between which a site is neither taken for an atom nor for none."""
_PROPOSED = "annotations/with proposals"
# Fields of stacks; no image can have a line break in its name.
_OF_STACK = "{}\n{}"

Field = tuple[str, int]
"""Image and frame."""


# ---- what there is
@dataclass(frozen=True, eq=False)
class Annotations:
    """What each annotator has marked blind in the images of a project.

    Attributes
    ----------
    counts
        A row per image and annotator who has gone through it: ``image, annotator, marks,
        uncertain``.
    marks, looked
        As `consensus` wants them, of the images whose size is known; ``image`` names a field.
    fields
        Name of each field → image and frame.
    unmeasured
        Images whose size in nm is not known: they can't be compared.
    with_proposals
        (image, annotator) of those who began from what a model had found.
    """

    counts: pd.DataFrame
    marks: pd.DataFrame
    looked: pd.DataFrame
    fields: Mapping[str, Field]
    unmeasured: tuple[str, ...] = ()
    with_proposals: tuple[tuple[str, str], ...] = ()

    @property
    def annotators(self) -> list[str]:
        """Who has gone through anything, by name."""
        return sorted(set(self.counts["annotator"]))


def annotations_in(
    project: Project, progress: Progress | None = None, stop: Stop | None = None
) -> Annotations:
    """Read what each annotator has marked blind, here or elsewhere.

    Of a stack, each frame in which anybody has marked something is a field that all looked at who
    went through the image. Lengths follow from pixels by today's pixel size.
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
    fields: dict[str, Field] = {}
    names: dict[Field, str] = {}
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
            fields[field], names[name, int(frame)] = (name, int(frame)), field
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
        tuple((image, who) for image, who in project.setting(_PROPOSED, [])),
    )


def _area_nm2(image: ProjectImage) -> float:
    assert image.shape is not None and image.pixel_size_nm is not None
    height, width = image.shape[-2:]
    return float(height * width * image.pixel_size_nm**2)


# ---- packs
def pack_images(
    images: Sequence[ProjectImage],
    directory: str | os.PathLike[str],
    annotator: str | None = None,
    atoms: pd.DataFrame | None = None,
    tolerance_nm: float = TOLERANCE_NM,
    progress: Progress | None = None,
    stop: Stop | None = None,
) -> Path:
    """Make a pack of images of a project: see `annotation_packs.export_pack`.

    Parameters
    ----------
    images
        Which ones.
    directory
        The folder to make; a .zip is made beside it.
    annotator
        For whom it is, if for one.
    atoms
        What a model has found in them, for a pack that is not blind.
    tolerance_nm
        Within which marks of several people are to be one.

    Returns
    -------
    Path
        The .zip.
    """
    files = find_images([image.path for image in images])
    named = dict(zip(files, map(valid_text, unique_names(files)), strict=True))
    sizes = {i.path: i.pixel_size_nm for i in images if i.pixel_size_nm is not None}
    if atoms is not None:
        packed = {i.name: named[i.path] for i in images if i.path in named}
        atoms = atoms.assign(image=atoms["image"].map(packed))
    return export_pack(
        files, directory, annotator, atoms is None, sizes, atoms, tolerance_nm, progress, stop
    )


@dataclass(frozen=True, eq=False)
class TakenIn:
    """What came of reading packs.

    Attributes
    ----------
    came
        A row per image and annotator whose marks are in the project now: ``image, annotator,
        marks, new, by_name`` (whether the image could only be told by its name).
    refused
        What was not taken in: ``what, why``.
    tolerance_nm
        The smallest that a pack proposes.
    """

    came: pd.DataFrame
    refused: pd.DataFrame
    tolerance_nm: float = TOLERANCE_NM

    @property
    def n_new(self) -> int:
        """Images of an annotator that were not known before."""
        return int(self.came["new"].sum())


def take_in_packs(
    project: Project,
    paths: Iterable[str | os.PathLike[str]],
    progress: Progress | None = None,
    stop: Stop | None = None,
) -> TakenIn:
    """Take what people have marked in packs into a project; twice adds nothing.

    Images are the same if their files have the same content; one whose file was never read here,
    and can't be, if its name is the same. What somebody has said of an image in another way here
    already is not mixed with what a pack says.

    Raises
    ------
    AtomicityError
        If the project can't be written.
    """
    came: list[tuple[str, str, int, bool, bool]] = []
    refused: list[tuple[str, str]] = []
    tolerance = []
    given = [Path(path) for path in paths]
    for i, path in enumerate(given):
        check(stop)
        report(progress, i, len(given), f"Reading {path.name}")
        try:
            filled = read_pack(path)
        except AtomicityError as error:
            refused.append((path.name, str(error)))
            continue
        if not len(filled.looked):
            refused.append((path.name, "no table in it is filled in"))
            continue
        tolerance.append(filled.tolerance_nm)
        with project.together():
            _take_in(project, filled, came, refused)
    return TakenIn(
        pd.DataFrame(came, columns=["image", "annotator", "marks", "new", "by_name"]),
        pd.DataFrame(refused, columns=["what", "why"]),
        min(tolerance, default=TOLERANCE_NM),
    )


def _take_in(
    project: Project,
    filled: Filled,
    came: list[tuple[str, str, int, bool, bool]],
    refused: list[tuple[str, str]],
) -> None:
    """One pack, into the lists of what came and what did not."""
    images = project.images(counts=False)
    known, looked = project.atoms.annotations()
    seen = set(zip(looked["image"], looked["annotator"], strict=True))
    proposed = [tuple(pair) for pair in project.setting(_PROPOSED, [])]
    before = len(proposed)
    for row in filled.looked.itertuples():
        name, who = str(row.image), str(row.annotator)
        said = f"{name} by {who}"
        image, why, by_name = _twin(images, name, filled.hashes[name])
        if image is None:
            refused.append((said, why))
            continue
        marks = filled.marks[(filled.marks["image"] == name) & (filled.marks["annotator"] == who)]
        if _outside(marks, image):
            refused.append((said, "marks lie outside of the image of that name"))
            continue
        if image.pixel_size_nm:
            of_px = {axis: marks[f"{axis}_px"] * image.pixel_size_nm for axis in "yx"}
            marks = marks.assign(y_nm=of_px["y"], x_nm=of_px["x"])
        new = (image.name, who) not in seen
        if not new:
            own = known[(known["image"] == image.name) & (known["annotator"] == who)]
            if _places(own) != _places(marks):
                refused.append(
                    (said, f"{who} has said something else of it here: {len(own)} marks, "
                     f"{len(marks)} in the pack")
                )  # fmt: skip
                continue
        if new:
            # A number of its own for each table: the next one of this name is another.
            source = f"pack/{filled.hashes[name]}/{who}/{hash_of_places(marks)}"
            project.atoms.add_marks(image.name, who, marks, source)
        if not row.blind and (image.name, who) not in proposed:
            proposed.append((image.name, who))
        came.append((image.name, who, len(marks), new, by_name))
    if len(proposed) > before:
        project.set_setting(_PROPOSED, proposed)


def _twin(
    images: Sequence[ProjectImage], name: str, digest: str
) -> tuple[ProjectImage | None, str, bool]:
    """The image of a project that one of a pack is; else why not. And whether only by its name."""
    same = [image for image in images if image.sha256 == digest]
    if same:
        return next((i for i in same if i.name == name), same[0]), "", False
    named = next((i for i in images if i.name == name), None)
    if named is None:
        return None, "this project has no such image", False
    content = named.sha256
    if content is None:
        try:
            content = sha256_of(named.path)
        except (OSError, ReadError):
            return named, "", True
    if content == digest:
        return named, "", False
    return None, "the image of that name has another content here", False


def _outside(marks: pd.DataFrame, image: ProjectImage) -> bool:
    if image.shape is None:
        return False
    limit = np.array(image.shape[-2:]) - 0.5
    places = marks[["y_px", "x_px"]].to_numpy(float)
    return bool((places > limit).any())


def _places(marks: pd.DataFrame) -> list[tuple[float, float, bool]]:
    """In an order, to be compared."""
    rows = marks[["y_px", "x_px", "uncertain"]].itertuples(index=False, name=None)
    return sorted((float(y), float(x), bool(unsure)) for y, x, unsure in rows)


def hash_of_places(marks: pd.DataFrame) -> str:
    """A short name of what a table of marks says."""
    from hashlib import sha256

    return sha256(repr(_places(marks)).encode()).hexdigest()[:16]


# ---- what they come to
@dataclass(frozen=True, eq=False)
class AnnotatorComparison:
    """How far people agree, what they come to, and the model beside them.

    Attributes
    ----------
    annotations
        What was compared.
    consensus
        See `statistics.consensus`.
    beside
        See `one_more_expert.compare_with_annotators`, over the fields that the model has looked
        at; None if it has looked at none.
    disputes
        Places on which people, or model and people, disagree, the least decided first: ``image,
        frame, y_px, x_px, y_nm, x_nm, posterior, n_looked, n_marked, model`` (whether it has an
        atom there; None where it has not looked), ``undecided, people, against`` (why it is here).
    """

    annotations: Annotations
    consensus: Consensus
    beside: dict[str, Any] | None
    disputes: pd.DataFrame

    @property
    def notes(self) -> tuple[str, ...]:
        """What a reader should know."""
        said = self.annotations
        there = set(said.looked["image"])
        began = sorted({who for image, who in said.with_proposals if image in there})
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
    tolerance_nm: float = TOLERANCE_NM,
    seed: int = 0,
    progress: Progress | None = None,
    stop: Stop | None = None,
) -> AnnotatorComparison:
    """Merge what several people have marked, and set the model beside them.

    Parameters
    ----------
    annotations
        As from `annotations_in`.
    atoms
        Image → atoms that the model has found in it; images without an entry it has not seen.
    tolerance_nm
        Within which marks are one site.
    seed
        Of bootstrap and draws.

    Raises
    ------
    AtomicityError
        If nobody has gone through an image whose size is known.
    """
    marks, looked = annotations.marks, annotations.looked
    if not len(looked):
        raise AtomicityError(
            "nobody has gone through an image whose size in nm is known",
            advice="Mark atoms blind, or import packs",
        )
    report(progress, 0, 2, "Merging marks")
    found = consensus(marks, looked, tolerance_nm, seed)
    check(stop)
    report(progress, 1, 2, "Setting the model beside people")
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


def write_agreement(
    folder: str | os.PathLike[str],
    marks: pd.DataFrame,
    found: Consensus,
    beside: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """Write ``marks.csv``, ``consensus.csv`` and ``agreement.json``; what the last one says."""
    folder = Path(folder)
    said = found.to_dict()
    if beside is not None:
        said["model"] = dict(beside)
    write_table(marks, folder / "marks.csv")
    write_table(found.sites, folder / "consensus.csv")
    write_json(folder / "agreement.json", said)
    return said


def write_comparison(
    compared: AnnotatorComparison,
    folder: str | os.PathLike[str],
    progress: Progress | None = None,
    stop: Stop | None = None,
) -> Path:
    """The same of a comparison; images of stacks are named with their frame."""
    marks, found = compared.annotations.marks, compared.consensus
    names = {name: name.replace("\n", " frame ") for name in compared.annotations.fields}
    tables = [table.assign(image=table["image"].map(names)) for table in (marks, found.sites)]
    write_agreement(folder, tables[0], replace(found, sites=tables[1]), compared.beside)
    return Path(folder)


# ---- back into the project
def measured_sites(
    compared: AnnotatorComparison,
    micrographs: Mapping[str, Micrograph],
    progress: Progress | None = None,
    stop: Stop | None = None,
) -> dict[str, dict[int, list[Mark]]]:
    """Image → frame → marks where the consensus has atoms, measured there.

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
    """What makes these marks, and nothing else, the atoms of these frames of an image.

    Parameters
    ----------
    book
        The atoms of the session.
    image
        Which image.
    marks
        Frame → marks. One within half the distance of neighbours from an atom or candidate is
        that one.

    Returns
    -------
    SetMarks or None
        None if they are that already.
    """
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
