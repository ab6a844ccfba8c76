"""Packs of images: made for annotators, and read back into a project."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path

import numpy as np
import pandas as pd

from ..core.errors import AtomicityError, ReadError
from ..core.progress import Progress, Stop, check, report
from ..io.images import find_images, sha256_of, unique_names, valid_text
from ..project import Project, ProjectImage
from ..project.annotation_packs import export_pack
from ..project.filled_packs import Filled, Unit, UnitError, read_pack
from ..statistics.annotators.annotation_sites import TOLERANCE_NM
from .edits import SetAnnotation
from .window_state import WindowState

PROPOSED_SETTING = "annotations/with proposals"
"""Key of the setting that lists who began from the atoms of a model."""


def pack_images(
    images: Sequence[ProjectImage],
    directory: str | os.PathLike[str],  # the folder to make; a .zip is made next to it
    annotator: str | None = None,
    atoms: pd.DataFrame | None = None,
    tolerance_nm: float = TOLERANCE_NM,
    progress: Progress | None = None,
    stop: Stop | None = None,
) -> Path:
    """Make a pack of images of a project; see `annotation_packs.export_pack`."""
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
    """Result of reading packs."""

    # A row for each image and annotator whose marks are in the project now: ``image, annotator,
    # marks, new, by_name`` (whether the image could be identified by its name only)
    came: pd.DataFrame
    refused: pd.DataFrame  # what was not imported: ``what, why``
    tolerance_nm: float = TOLERANCE_NM  # the smallest tolerance that a pack proposes
    # packs that were not imported, because their unit has to be stated, and the reason
    in_doubt: Mapping[Path, str] = field(default_factory=dict)

    @property
    def n_new(self) -> int:
        """Number of images of an annotator that were new."""
        return int(self.came["new"].sum())


def take_in_packs(
    project: Project,
    paths: Iterable[str | os.PathLike[str]],
    progress: Progress | None = None,
    stop: Stop | None = None,
    unit: Unit | None = None,
) -> TakenIn:
    """Import filled packs into a project; importing them twice adds nothing.

    Images are the same if their files have the same content; an image whose file was never read
    here, and can't be, if its name is the same. Marks of a pack are refused if the annotator has
    other marks of that image in the project.

    Raises `AtomicityError` if the project can't be written.
    """
    came: list[tuple[str, str, int, bool, bool]] = []
    refused: list[tuple[str, str]] = []
    in_doubt: dict[Path, str] = {}
    tolerance = []
    given = [Path(path) for path in paths]
    for i, path in enumerate(given):
        check(stop)
        report(progress, i, len(given), f"Reading {path.name}")
        try:
            filled = read_pack(path, unit)
        except UnitError as error:
            in_doubt[path] = error.what
            continue
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
        in_doubt,
    )


def remove_annotator(state: WindowState, annotator: str) -> None:
    """Remove the blind marks of an annotator from all images, as one step of the history."""
    if state.project is None:
        return
    edits = [
        SetAnnotation(image, marks, None, author=annotator)
        for image, marks in state.project.atoms.marks_of(annotator).items()
    ]
    state.history.do(*edits, description=f"remove the marks of {annotator}")


def proposed_pairs(project: Project) -> list[tuple[str, str]]:
    """Return (image, annotator) of annotations that were made with proposals of a model."""
    stored = project.setting(PROPOSED_SETTING)
    pairs = stored if isinstance(stored, list) else []
    return [(str(p[0]), str(p[1])) for p in pairs if isinstance(p, list) and len(p) == 2]


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
    proposed = proposed_pairs(project)
    before = len(proposed)
    for row in filled.looked.itertuples():
        name, who = str(row.image), str(row.annotator)
        said = f"{name} by {who}"
        image, why, by_name = _matching_image(images, name, filled.hashes[name])
        if image is None:
            refused.append((said, why))
            continue
        marks = filled.marks[(filled.marks["image"] == name) & (filled.marks["annotator"] == who)]
        if _exceeds_image(marks, image):
            refused.append((said, "some marks are outside the image of that name"))
            continue
        if image.pixel_size_nm:
            of_px = {axis: marks[f"{axis}_px"] * image.pixel_size_nm for axis in "yx"}
            marks = marks.assign(y_nm=of_px["y"], x_nm=of_px["x"])
        new = (image.name, who) not in seen
        if not new:
            own = known[(known["image"] == image.name) & (known["annotator"] == who)]
            if _places(own) != _places(marks):
                refused.append(
                    (said, f"{who} has other marks of it in this project: {len(own)} marks, "
                     f"{len(marks)} in the pack")
                )  # fmt: skip
                continue
        if new:
            # A number of its own for each table: the next one of this name is another.
            source = f"pack/{filled.hashes[name]}/{who}/{hash_of_places(marks)}"
            for again in count():  # marks that were removed have used the earlier numbers
                number = f"{source}/{again}" if again else source
                if project.atoms.add_marks(image.name, who, marks, number) or not len(marks):
                    break
        if not row.blind and (image.name, who) not in proposed:
            proposed.append((image.name, who))
        came.append((image.name, who, len(marks), new, by_name))
    if len(proposed) > before:
        project.set_setting(PROPOSED_SETTING, proposed)


def _matching_image(
    images: Sequence[ProjectImage], name: str, digest: str
) -> tuple[ProjectImage | None, str, bool]:
    """Find the image of a project that an image of a pack is."""
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


def _exceeds_image(marks: pd.DataFrame, image: ProjectImage) -> bool:
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
    """Return a short hash of the marks of a table."""
    from hashlib import sha256

    return sha256(repr(_places(marks)).encode()).hexdigest()[:16]
