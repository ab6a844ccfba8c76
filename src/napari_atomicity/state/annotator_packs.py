"""Packs of images: made for annotators, and read back into a project."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from itertools import count
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from ..atoms.marks import ImageAtoms
from ..core.errors import AtomicityError, ReadError, UnsuitableImageError, without_file_name
from ..core.progress import Progress, Stop, check
from ..core.text import pluralise
from ..io.images import find_images, sha256_of, unique_names, valid_text
from ..project import MergedEntries, Project, ProjectImage
from ..project.packs.annotation_packs import export_pack
from ..project.packs.browser_packs import BrowserPack, PackRequest, make_browser_packs
from ..project.packs.filled_packs import Filled, Unit, UnitError
from ..project.packs.returned import read_returned
from ..statistics.annotators.annotation_sites import TOLERANCE_NM
from .edits import SetAnnotation
from .window_state import WindowState

BROWSER_SETTING = "annotations/browser"
"""Key of the setting with the sessions and repeated marks of answers from browsers."""
PROPOSED_SETTING = "annotations/with proposals"
"""Key of the setting that lists who began from the atoms of a model."""
REPEATED = (
    "{0} has answered {1} in another session before: the second answers only tell the agreement "
    "with themselves. If these are two people, change one name."
)


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
    files, named, sizes = _files_of(images)
    if atoms is not None:
        packed = {i.name: named[i.path] for i in images if i.path in named}
        atoms = atoms.assign(image=atoms["image"].map(packed))
    with _naming_the_pack():
        return export_pack(
            files, directory, annotator, atoms is None, sizes, atoms, tolerance_nm, progress, stop
        )


def browser_packs_of(
    images: Sequence[ProjectImage],
    request: PackRequest,
    progress: Progress | None = None,
    stop: Stop | None = None,
) -> list[BrowserPack]:
    """Make packs for a browser of images of a project, in memory."""
    files, named, sizes = _files_of(images)
    packed = {i.name: named[i.path] for i in images if i.path in named}
    tables = {
        name: table.assign(image=table["image"].map(packed))
        for name in ("proposals", "clusters")
        if (table := getattr(request, name)) is not None
    }
    with _naming_the_pack():
        return make_browser_packs(
            files, replace(request, pixel_size_nm=sizes, **tables), progress, stop
        )


@contextmanager
def _naming_the_pack() -> Iterator[None]:
    """Say of an image that can't be read that there is no pack because of it."""
    try:
        yield
    except (ReadError, UnsuitableImageError) as error:
        advice = "Choose other images, or remove this one from the project"
        raise ReadError(f"no pack was made, since {error.what}", error.path, advice) from error


def _files_of(
    images: Sequence[ProjectImage],
) -> tuple[list[Path], dict[Path, str], dict[Path, float]]:
    """Return the files of images, their names in a pack, and their pixel sizes in nm."""
    files = find_images([image.path for image in images])
    named = dict(zip(files, map(valid_text, unique_names(files)), strict=True))
    return files, named, {i.path: i.pixel_size_nm for i in images if i.pixel_size_nm is not None}


@dataclass(frozen=True, eq=False)
class TakenIn:
    """Result of reading packs and answers."""

    # A row for each image and annotator whose marks are in the project now: ``image, annotator,
    # marks, new, by_name`` (whether the image could be identified by its name only)
    came: pd.DataFrame
    refused: pd.DataFrame  # what was not imported: ``what, why``
    tolerance_nm: float = TOLERANCE_NM  # the smallest tolerance that a pack proposes
    # packs that were not imported, because their unit has to be stated, and the reason
    in_doubt: Mapping[Path, str] = field(default_factory=dict)
    # A row for each image and annotator whose labels came: ``image, annotator, labels, new``
    labelled: pd.DataFrame = field(default_factory=pd.DataFrame)
    notes: tuple[str, ...] = ()
    added: Mapping[str, MergedEntries] = field(default_factory=dict)  # by image

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
    """Import filled packs and answers from browsers into a project; twice adds nothing.

    All of them are imported at once: nothing is if this is stopped, or fails.

    Images are the same if their files have the same content; an image whose file was never read
    here, and can't be, if its name is the same. Marks of a pack are refused if the annotator has
    other marks of that image in the project. In another session of a browser they are a repetition;
    a later file of the same session replaces the earlier one, unless its marks were changed here.

    Raises `AtomicityError` if the project can't be written.
    """
    errors: list[tuple[Path, AtomicityError]] = []
    packs = read_returned(paths, unit, errors, progress, stop)
    doubts = {path: error.what for path, error in errors if isinstance(error, UnitError)}
    bad = [(p.name, without_file_name(str(e), p)) for p, e in errors if p not in doubts]
    taking = _TakingIn(project, bad)
    filled_in = []
    for path, filled in packs:
        if len(filled.looked) or len(filled.labels):
            filled_in.append(filled)
        else:
            taking.refused.append((path.name, "no table in it is filled in"))
    added = taking.take_all(filled_in, stop) if filled_in else {}
    return TakenIn(
        pd.DataFrame(taking.came, columns=["image", "annotator", "marks", "new", "by_name"]),
        pd.DataFrame(taking.refused, columns=["what", "why"]),
        min((filled.tolerance_nm for filled in filled_in), default=TOLERANCE_NM),
        doubts,
        pd.DataFrame(taking.labelled, columns=["image", "annotator", "labels", "new"]),
        (
            *(note for _, filled in packs for note in filled.notes),
            *(
                REPEATED.format(who, pluralise(len(n), "image"))
                for who, n in taking.repeated.items()
            ),
            *taking.notes,
        ),
        added,
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


def set_reviewed(state: WindowState, reviewed: bool) -> None:
    """Record that the annotator has reviewed the current image for atoms, or has not, as one step.

    Raises `AtomicityError` if it can't be stored, or marks before it can't.
    """
    if state.project is None or state.current is None:
        return
    if not state.save_again():
        raise AtomicityError(state.unsaved, advice="Solve this problem first")
    with state.project.merged.additions() as added:
        state.project.atoms.mark_as_viewed([state.current], state.annotator, reviewed)
        # Undone, the review is newer than what the log says of its end.
        entries = {i: replace(e, withdrawn=dict.fromkeys(e.withdrawn)) for i, e in added().items()}
    state.show_added(entries, f"set {state.current} as {'' if reviewed else 'not '}reviewed")


def reviewed_images(state: WindowState) -> set[str]:
    """Return the images that the blind annotator has set as reviewed; none outside blind mode."""
    if state.project is None or not state.blind:
        return set()
    return state.project.atoms.images_viewed_by(state.annotator)


def counted_atoms(state: WindowState, images: Iterable[str]) -> dict[str, ImageAtoms]:
    """Return the atoms of those images in which somebody or a model has looked for atoms.

    An image that was set as reviewed counts with no atoms even if no model has searched it. Images
    whose atoms have lengths from an old pixel size are left out.
    """
    book, reviewed, found = state.atoms, reviewed_images(state), {}
    for image in images:
        size = state.micrograph(image).pixel_size_nm if image in reviewed else None
        if size is not None and book.of(image) is None:
            book.install(image, book.unmarked(image, size))
        atoms = book.of(image)
        if atoms is None or book.outdated(image):
            continue
        marked = any(mark.present for mark in atoms.marks.values())
        if atoms.analysis is not None or marked or image in reviewed:
            found[image] = atoms
    return found


def proposed_pairs(project: Project) -> list[tuple[str, str]]:
    """Return (image, annotator) of annotations that were made with proposals of a model."""
    stored = project.setting(PROPOSED_SETTING)
    pairs = stored if isinstance(stored, list) else []
    return [(str(p[0]), str(p[1])) for p in pairs if isinstance(p, list) and len(p) == 2]


def repeated_marks(project: Project) -> dict[tuple[str, str], list[tuple[float, float, bool]]]:
    """Return (image, annotator) → marks (y, x, uncertain) of those who marked an image twice."""
    found = {}
    for key, record in _browser_records(project).items():
        image, _, who = key.rpartition("\n")
        if isinstance(record.get("again"), list):
            found[image, who] = [(float(y), float(x), bool(u)) for y, x, u in record["again"]]
    return found


def _browser_records(project: Project) -> dict[str, dict[str, Any]]:
    """Return session and repeated marks of answers from browsers, by image and annotator."""
    stored = project.setting(BROWSER_SETTING)
    return dict(stored) if isinstance(stored, dict) else {}


class _TakingIn:
    """Packs on their way into a project: what came, and what did not."""

    def __init__(self, project: Project, refused: list[tuple[str, str]]) -> None:
        self.project, self.refused = project, refused
        self.came: list[tuple[str, str, int, bool, bool]] = []
        self.labelled: list[tuple[str, str, int, int]] = []
        self.repeated: dict[str, list[str]] = {}  # annotator → images answered once more
        self.notes: list[str] = []

    def take_all(self, packs: Sequence[Filled], stop: Stop | None) -> dict[str, MergedEntries]:
        """Take packs, all or none; return what was added, by image."""
        with self.project.merged.additions() as added:
            for filled in packs:
                check(stop)
                self.take(filled)
            return added()

    def take(self, filled: Filled) -> None:
        """Take one pack."""
        images = self.project.images(counts=False)
        known, looked = self.project.atoms.annotations()
        seen = set(zip(looked["image"], looked["annotator"], strict=True))
        proposed = proposed_pairs(self.project)
        records = _browser_records(self.project)
        before = list(proposed), json.dumps(records)
        for row in filled.looked.itertuples():
            name, who = str(row.image), str(row.annotator)
            image, by_name = self._find(images, filled, name, who)
            if image is None:
                continue
            marks = _marks_in(filled.marks, name, who, image)
            new = (image.name, who) not in seen
            record = records.setdefault(f"{image.name}\n{who}", {}) if filled.session else {}
            own = known[(known["image"] == image.name) & (known["annotator"] == who)]
            other = not new and _places(own) != _places(marks)
            if not new and record.get("session", filled.session) != filled.session:
                self._repeat(record, name, who, marks, filled)
                continue
            digest = filled.hashes[name]
            # Marks that nobody has changed since a file of this session brought them have its time.
            saved = record.get("files", {}).get(hash_of_places(own), filled.saved)
            if other and not saved < filled.saved:
                self._refuse_other(name, who, len(own), len(marks), saved > filled.saved)
                continue
            if new or other:
                self._add(image.name, who, marks, digest, replace=other)
                files = {**record.get("files", {}), hash_of_places(marks): filled.saved}
                record |= {"session": filled.session, "files": files}
                if (image.name, who) in proposed:
                    proposed.remove((image.name, who))
            again = filled.again_looked
            if ((again["image"] == name) & (again["annotator"] == who)).any():
                record["again"] = _places(_marks_in(filled.again_marks, name, who, image))
            if not row.blind and (image.name, who) not in proposed:
                proposed.append((image.name, who))
            self.came.append((image.name, who, len(marks), new or other, by_name))
        self._take_labels(images, filled)
        if proposed != before[0]:
            self.project.set_setting(PROPOSED_SETTING, proposed)
        if filled.session and json.dumps(records) != before[1]:
            self.project.set_setting(BROWSER_SETTING, records)

    def _repeat(
        self, record: dict[str, Any], name: str, who: str, marks: pd.DataFrame, filled: Filled
    ) -> None:
        """Take marks of a second session, which tell the agreement of a person with themselves."""
        session, saved = record.get("again_of", ["", ""])
        is_later = session == filled.session and saved <= filled.saved
        if "again" in record and not is_later:  # one repetition is enough
            why = f"{who} has answered it twice in this project"
            self.refused.append((f"{name} by {who}", why))
            return
        record |= {"again": _places(marks), "again_of": [filled.session, filled.saved]}
        self.repeated.setdefault(who, []).append(name)

    def _find(
        self, images: Sequence[ProjectImage], filled: Filled, name: str, who: str
    ) -> tuple[ProjectImage | None, bool]:
        """Return the image of the project, and whether it was identified by its name only."""
        said = f"{name} by {who}"
        image, why, by_name = _matching_image(images, name, filled.hashes[name])
        if image is None:
            self.refused.append((said, why))
        elif _exceeds_image(filled.marks[filled.marks["image"] == name], image):
            self.refused.append((said, "some marks are outside the image of that name"))
            image = None
        return image, by_name

    def _refuse_other(self, name: str, who: str, n_here: int, n_there: int, is_older: bool) -> None:
        if is_older:
            why = f"the marks of {who} in this project were saved later"
        else:
            why = (
                f"{who} has other marks of it in this project: {n_here} marks, {n_there} in the "
                "pack. Remove marks of (Annotators) takes those away first"
            )
        self.refused.append((f"{name} by {who}", why))

    def _add(self, image: str, who: str, marks: pd.DataFrame, digest: str, replace: bool) -> None:
        """Add the marks of a file, in place of those of an earlier one with `replace`."""
        # A number of its own for each table: the next one of this name is another.
        source = f"pack/{digest}/{who}/{hash_of_places(marks)}"
        if replace:
            self.project.atoms.withdraw_marks(image, who, source)
        for again in count():  # marks that were removed have used the earlier numbers
            number = f"{source}/{again}" if again else source
            if self.project.atoms.add_marks(image, who, marks, number) or not len(marks):
                break

    def _take_labels(self, images: Sequence[ProjectImage], filled: Filled) -> None:
        """Take the labels of clusters; those where there is no cluster are refused."""
        for (name, who), own in filled.labels.groupby(["image", "annotator"], sort=False):
            image, _ = self._find(images, filled, str(name), str(who))
            if image is None:
                continue
            source = f"answers/{filled.hashes[str(name)]}/{who}/{filled.session}"
            n_new, n_lost, n_again = self.project.add_labels(
                image.name, str(who), own, source, filled.saved
            )
            self.labelled.append((image.name, str(who), len(own) - n_lost - n_again, n_new))
            if n_again:
                labels = pluralise(n_again, "label")
                self.notes.append(
                    f"{who} has labelled clusters of {name} in another session before: {labels} of "
                    "this one are left out. If these are two people, change one name."
                )
            if n_unsure := int(own["uncertain"].sum()):
                labels = pluralise(n_unsure, "label")
                self.notes.append(
                    f"{who} is not sure of {labels} in {name}: in the project they are labels as "
                    "the others."
                )
            if n_lost:
                why = f"there is no cluster at the place of {pluralise(n_lost, 'label')}"
                self.refused.append((f"{name} by {who}", why))


def _marks_in(table: pd.DataFrame, name: str, who: str, image: ProjectImage) -> pd.DataFrame:
    """Return the marks of one person in an image, in nm by its pixel size in the project."""
    marks = table[(table["image"] == name) & (table["annotator"] == who)]
    if image.pixel_size_nm:
        of_px = {axis: marks[f"{axis}_px"] * image.pixel_size_nm for axis in "yx"}
        marks = marks.assign(y_nm=of_px["y"], x_nm=of_px["x"])
    return marks


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
