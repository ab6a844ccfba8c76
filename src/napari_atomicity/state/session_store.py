"""Acquisition sessions and pixel sizes of the images of a window, and what a person enters."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from psygnal import Signal

from ..core.acquisition_session import (
    PIXEL_SIZE_ERROR,
    AcquisitionSession,
    Composition,
    EarlierScale,
    Recording,
    Sample,
    SampleEntry,
    SessionEntry,
    collect_samples,
    format_composition,
    group_images,
    match_images,
)
from ..core.errors import TableError
from ..core.text import pluralise
from ..models.analysis import Analysis
from ..statistics.ratios.ratio_notes import CHANGED_PIXEL_SIZE as CHANGED
from .atom_store import AtomStore
from .edits import SetAtoms, SetPixelSize, SetSession
from .window_images import WindowImages


class SessionStore:
    """Acquisition sessions and samples of the images of a window.

    Only what a person enters is stored, as edits; the rest is derived when it is needed.

    Signals: ``reference_changed()`` when samples are compared with another one.
    """

    reference_changed = Signal()

    def __init__(
        self,
        state: WindowImages,
        do: Callable[..., None],  # `History.do`
    ) -> None:
        self._state = state
        self._do = do
        self._entries: dict[str, SessionEntry] = {}
        self._groups: list[AcquisitionSession] | None = None
        self._samples: list[Sample] | None = None
        self._reference = ""
        self._of_reference: frozenset[str] = frozenset()  # its images when it was chosen
        state.images_changed.connect(self.find_again)

    @property
    def entries(self) -> Mapping[str, SessionEntry]:
        """Image → what a person entered; change it by edits only."""
        return self._entries

    def get(self, image: str) -> SessionEntry:
        """Return what a person entered for an image."""
        return self._entries.get(image, SessionEntry())

    def groups(self) -> list[AcquisitionSession]:
        """Return the sessions of all images of the window, in the order of their images."""
        if self._groups is None:
            self._groups = group_images(self._recordings(), self._entries)
        return self._groups

    def _recordings(self) -> dict[str, Recording]:
        return {i: Recording.of(self._state.micrograph(i)) for i in self._state.images}

    def session_of(self, image: str) -> AcquisitionSession:
        """Return the session of an image of the window."""
        return next(session for session in self.groups() if image in session.images)

    def samples(self, images: Iterable[str] | None = None) -> list[Sample]:
        """Return the samples of all images of the window, or of some.

        Those with numbers, such as times, come first, in their order; the others are in the order
        of their images.
        """
        if self._samples is None:
            paths = {image: self._state.micrograph(image).path for image in self._state.images}
            folders = {i: "" if p is None else str(p.absolute().parent) for i, p in paths.items()}
            stated = {
                image: SampleEntry(entry.sample, entry.sample_numbers)
                for image in folders
                if (entry := self.get(image)).sample
            }
            at = {e.sample: tuple(e.numbers.values()) for e in stated.values() if e.numbers}
            self._samples = collect_samples(folders, stated, sorted(at, key=at.__getitem__))
        if images is None:
            return self._samples
        wanted = set(images)
        members = [(s, tuple(i for i in s.images if i in wanted)) for s in self._samples]
        return [replace(sample, images=found) for sample, found in members if found]

    def sample_of(self, image: str) -> Sample:
        """Return the sample of an image of the window."""
        return next(sample for sample in self.samples() if image in sample.images)

    def named_sample(self, image: str) -> str:
        """Return the sample that a person entered for an image; empty if it is that of its folder.

        Entries may be of images that the window does not show.
        """
        name = self.get(image).sample
        path = self._state.micrograph(image).path if image in self._state.images else None
        return "" if path is not None and path.absolute().parent.name == name else name

    # ---- changes
    def install(self, image: str, entry: SessionEntry | None) -> None:
        """Replace the entry of an image; None removes it."""
        if entry:
            self._entries[image] = entry
        else:
            self._entries.pop(image, None)
        self.find_again()

    def replace_all(self, entries: Mapping[str, SessionEntry]) -> None:
        """Hold these entries and no others."""
        self._entries, self._reference, self._of_reference = dict(entries), "", frozenset()
        self.find_again()

    def find_again(self) -> None:
        """Forget which images form sessions and samples, after images or pixel sizes changed."""
        self._groups = self._samples = None

    @property
    def reference(self) -> str:
        """Name of the sample that a person has chosen to compare others with; "" for the first."""
        return self._reference

    @reference.setter
    def reference(self, name: str) -> None:
        of_name = (image for s in self.samples() if s.name == name for image in s.images)
        self._of_reference = frozenset(of_name)
        if name != self._reference:
            self._reference = name
            self.reference_changed.emit()

    def reference_of(self, samples: Iterable[Sample]) -> str | None:
        """Return the sample that others are compared with; None for the first one.

        It is the one with most of the images of the chosen one, which may have been renamed.
        """
        known = {sample.name: set(sample.images) for sample in samples}
        shared = {name: len(self._of_reference & images) for name, images in known.items()}
        most = max(shared, key=shared.__getitem__, default=None)
        if most and 2 * shared[most] > len(self._of_reference):
            return most
        return self._reference if self._reference in known else None

    # ---- what a person does
    def group(self, images: Iterable[str], name: str) -> None:
        """Make images a session of their own, or join them with the session of that name."""
        images = list(images)
        # The others are named too: a derived name may change when images are added.
        joined = next((session for session in self.groups() if session.name == name), None)
        others = [] if joined is None else list(joined.images)
        what = f"session {name} of {pluralise(len(images), 'image')}"
        self._set_values([*others, *images], what, session=name, **self._stated(others))

    def derive(self, images: Iterable[str]) -> None:
        """Derive the sessions of images from their files again."""
        images = list(images)
        what = f"derive the session of {pluralise(len(images), 'image')}"
        entries = {image: replace(self.get(image), session="") for image in images}
        for session in group_images(self._recordings(), self._entries | entries):
            others = [image for image in session.images if image not in entries]
            joining = [image for image in session.images if image in entries]
            stated = self._stated(others, joining)
            for image in joining:
                entries[image] = replace(entries[image], **stated)
        self._set(entries, what)

    def _stated(self, others: Sequence[str], joining: Sequence[str] = ()) -> dict[str, Any]:
        """Return what is stated of a session that images join; nothing of a new one.

        What is stated of the others holds for them. The error of the pixel size is not less than
        that of any which has one. Without others, all that join have to state the same.
        """
        entries = [self.get(image) for image in others or joining]
        if not entries:
            return {}
        errors = [entry.pixel_size_error for entry in entries]
        earlier = {entry.earlier: None for entry in entries}
        if others:
            errors = [max((e for e in errors if e is not None), default=None)]
            errors += [e for i in joining if (e := self.get(i).pixel_size_error) is not None]
            earlier.pop(None, None)
        largest = max(PIXEL_SIZE_ERROR if error is None else error for error in errors)
        return {
            "earlier": next(iter(earlier), None) if others or len(earlier) == 1 else None,
            "pixel_size_error": None if largest == PIXEL_SIZE_ERROR else largest,
        }

    def group_sample(self, images: Iterable[str], name: str) -> None:
        """Make images a sample, or join them with the sample of that name."""
        images = list(images)
        what = f"sample {name} of {pluralise(len(images), 'image')}"
        joined = next((sample for sample in self.samples() if sample.name == name), None)
        if joined is None:
            # Numbers such as a time are of a sample: its images keep them only if it is renamed.
            whole = (s.numbers for s in self.samples() if set(s.images) == set(images))
            self._set_values(images, what, sample=name, sample_numbers=next(whole, {}))
        else:
            # The others are named too: the label of a folder may change when images are added.
            members = [*joined.images, *images]
            self._set_values(members, what, sample=name, sample_numbers=joined.numbers)

    def set_samples(self, table: Mapping[str, SampleEntry]) -> list[str]:
        """Set samples by a table, name or pattern of images → sample; return the images.

        Raises `TableError` if it names no image of the window.
        """
        images = self._state.images
        entries = {
            image: replace(self.get(image), sample=row.sample, sample_numbers=row.numbers)
            for pattern, row in table.items()
            for image in match_images(pattern, images)
        }
        if not entries:
            raise TableError(
                "the table of samples names none of the images",
                advice=f"Names are as in Browse, such as {images[0]}" if images else "",
            )
        self._set(entries, f"samples of {pluralise(len(entries), 'image')} by a table")
        return list(entries)

    def rename_sample(self, old: str, new: str) -> None:
        """Rename a sample; if another one has the new name, they become one."""
        self.group_sample([i for s in self.samples() if s.name == old for i in s.images], new)

    def derive_sample(self, images: Iterable[str]) -> None:
        """Let images be of the sample of their folder again."""
        images = list(images)
        what = f"sample of {pluralise(len(images), 'image')} by folder"
        self._set_values(images, what, sample="", sample_numbers={})

    def set_known(self, images: Iterable[str], composition: Composition) -> None:
        """Set the known composition of the sample in images."""
        images = list(images)
        known = "no known sample"
        if composition:
            known = f"known sample {format_composition(composition)}"
        what = f"{known} in {pluralise(len(images), 'image')}"
        self._set_values(images, what, known=dict(composition), keep_known=False)

    def keep_known(self, images: Iterable[str], keep: bool) -> None:
        """Set whether known samples in images are used even if their clusters contradict them."""
        known = [image for image in images if self.get(image).known]
        verb = "use" if keep else "test"
        what = f"{verb} the known sample in {pluralise(len(known), 'image')}"
        self._set_values(known, what, keep_known=keep)

    def set_earlier(self, images: Iterable[str], earlier: EarlierScale | None) -> None:
        """Set an earlier session with the same instrument for the sessions of images."""
        source = "no earlier session" if earlier is None else f"same instrument as {earlier.source}"
        self._set_for_sessions(images, source, earlier=earlier)

    def set_pixel_size_error(self, images: Iterable[str], error: float | None) -> None:
        """Set the relative error of the pixel size for the sessions of images."""
        size = "usual error" if error is None else f"error of {100 * error:g} %"
        self._set_for_sessions(images, f"{size} of the pixel size", pixel_size_error=error)

    def _set_for_sessions(self, images: Iterable[str], what: str, **values: Any) -> None:
        """Set values of the entries of all images of the sessions of some."""
        wanted = set(images)
        members = [i for s in self.groups() if wanted.intersection(s.images) for i in s.images]
        self._set_values(members, f"{what} for {pluralise(len(members), 'image')}", **values)

    def _set_values(self, images: Iterable[str], what: str, **values: Any) -> None:
        """Set values of the entries of images, in one step that undo takes back."""
        self._set({image: replace(self.get(image), **values) for image in images}, what)

    def free_name(self, name: str, of_samples: bool = False) -> str:
        """Return a name that no other session, or sample, has, such as ``morning (2)``."""
        taken = {group.name for group in (self.samples() if of_samples else self.groups())}
        number = 2
        while f"{name} ({number})" in taken:
            number += 1
        return f"{name} ({number})"

    def _set(self, entries: Mapping[str, SessionEntry], description: str) -> None:
        self._state.finish()
        edits = [
            SetSession(image, self.get(image), entry)
            for image, entry in entries.items()
            if entry != self.get(image)
        ]
        if edits:
            # The labels that follow from them, once they are found, belong to the same step.
            self._do(*edits, description=description, group=object())


class PixelSizes:
    """Pixel sizes of the images of a window in nm, which their micrographs hold.

    Signals: ``changed(image)`` after a person has changed one, or has undone that.
    """

    changed = Signal(str)

    def __init__(
        self,
        state: WindowImages,
        atoms: AtomStore,
        do: Callable[..., None],  # `History.do`
    ) -> None:
        self._state, self._atoms = state, atoms
        self._do = do

    def get(self, image: str) -> float | None:
        """Return the pixel size of an image in nm; None if it is not known."""
        return self._state.micrograph(image).pixel_size_nm

    def set(self, image: str, size_nm: float) -> None:
        """Set the pixel size of an image in nm."""
        self._state.finish()
        text = f"pixel size {size_nm:.5g} nm"
        edits = SetPixelSize(image, self.get(image), size_nm, text), *self._resize(image, size_nm)
        # With the labels of the session that the image leaves.
        self._do(*edits, description=text, group=object())

    def _resize(self, image: str, size_nm: float) -> list[SetAtoms]:
        """Return the edit of atoms that no model has to search again at a pixel size, if any."""
        atoms = self._atoms.of(image)
        if atoms is None or atoms.of_image.analysis is not None or atoms.pixel_size_nm == size_nm:
            return []
        after = atoms.with_pixel_size(size_nm)
        return [SetAtoms(image, atoms, after, f"pixel size of atoms in {image}")]

    def followed_by_atoms(self, images: Iterable[str]) -> list[SetAtoms]:
        """Return the edits of atoms marked by hand that are of another pixel size than images."""
        sizes = {image: self.get(image) for image in images if self._atoms.of(image) is not None}
        return [edit for i, size in sizes.items() if size for edit in self._resize(i, size)]

    def has_changed(self, image: str) -> bool:
        """Return whether the analysis of an image refers to another pixel size."""
        analysis, now = self._state.analysis(image), self.get(image)
        if analysis is None:
            return False
        before = analysis.micrograph.pixel_size_nm
        return before != now and (not before or not now or not math.isclose(before, now))

    def mark(self, analysis: Analysis) -> Analysis:
        """Return an analysis whose parameters name a pixel size that was changed since."""
        image = analysis.micrograph.name
        if not self.has_changed(image):
            return analysis
        return replace(analysis, parameters={**analysis.parameters, CHANGED: self.get(image)})

    def install(self, image: str, size_nm: float | None) -> None:
        """Replace the pixel size of an image; emits no signal."""
        micrograph = self._state.micrograph(image)
        self._state.replace_micrograph(micrograph.with_pixel_size(size_nm))
