"""Acquisition sessions: images that were recorded alike, and known samples among them; samples.

Images of a session share what does not depend on the sample: detector, gain, dose and focus. By
default a session is derived from folder, pixel size and the settings of the instrument. What a
person enters (`SessionEntry`) takes precedence, and only this is stored.

Images of a sample show the same material after the same treatment. By default they are those of one
folder. Session and sample are independent: a session may contain several samples, and a sample may
be recorded in several sessions.
"""

from __future__ import annotations

import glob
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from fnmatch import fnmatchcase
from math import log
from pathlib import Path, PurePath
from typing import TYPE_CHECKING, Any

from .errors import ModelError, TableError
from .micrograph import Micrograph

if TYPE_CHECKING:
    import pandas as pd

SETTINGS = {
    "voltage_kv": "{:.4g} kV",
    "camera_length_mm": "camera length {:.4g} mm",
    "detector": "{}",
    "gain": "gain {:.4g}",
    "dwell_time_us": "{:.4g} µs",
}
"""Metadata that separate sessions, where the files contain them, and their format in a name."""
_FIELDS = {"pixel_size_nm": "{:.4g} nm/px", **SETTINGS}
_TOLERANCE = 0.01
"""Relative difference up to which two numbers count as the same setting."""
GROUPINGS = ("auto", "none", "all")
"""Sessions by folder and settings, one session per image, or one session."""
_ALL_IMAGES, _NO_FILE = "all images", "images without a file"
KNOWN_EXAMPLE = "Pt55, or Pt19:1, Pt41:1"
PIXEL_SIZE_ERROR = 0.02
"""Standard deviation of ln(pixel size), unless a person gives it: calibrations of microscopes are
right to 1 to 3 %."""
MAX_PIXEL_SIZE_ERROR = 0.2

_SAMPLE = re.compile(r"(?:[A-Z][a-z]?[0-9]+)+")

Composition = Mapping[str, float]
"""Class → number or share of clusters in a sample."""


@dataclass(frozen=True)
class Recording:
    """How an image was recorded."""

    # absolute path of its session's folder, see `session_folder`; empty for an image without a file
    folder: str = ""
    pixel_size_nm: float | None = None  # pixel size in nm; None if it is not known
    # those of `SETTINGS` that the file contains
    settings: Mapping[str, float | str] = field(default_factory=dict)

    @classmethod
    def of(cls, micrograph: Micrograph) -> Recording:
        """Return how a micrograph was recorded."""
        folder = "" if micrograph.path is None else session_folder(micrograph.path)
        return cls(folder, micrograph.pixel_size_nm, instrument_settings(micrograph.metadata))


def session_folder(path: Path) -> str:
    """Return the absolute path of the folder whose images form a session with this one.

    That is the folder of the image. Folders with the names of samples, such as ``Pt55``, lie in
    the folder of their session.
    """
    folder = path.absolute().parent
    return str(folder.parent if _SAMPLE.fullmatch(folder.name) else folder)


def instrument_settings(metadata: Mapping[str, Any]) -> dict[str, float | str]:
    """Return the metadata that separate sessions."""
    return {name: metadata[name] for name in SETTINGS if metadata.get(name) is not None}


@dataclass(frozen=True)
class EarlierScale:
    """Scale of an earlier session with the same instrument, a prior for that of a session."""

    intensity_per_atom: float  # intensity of one atom in counts nm²
    log_sd: float  # standard deviation of its logarithm, the scatter between sessions included
    source: str = ""  # name of the earlier session, or of the record of its run


@dataclass(frozen=True)
class SessionEntry:
    """What a person entered for an image."""

    session: str = ""  # name of its session; empty to derive it
    # known composition of its sample, by number; empty if it is not known
    known: Composition = field(default_factory=dict)
    earlier: EarlierScale | None = None  # scale of an earlier session with the same instrument
    # whether the known composition is used even if the clusters contradict it
    keep_known: bool = False
    # relative error (standard deviation) of the pixel size; None if it is not known
    pixel_size_error: float | None = None
    sample: str = ""  # name of its sample; empty for that of its folder
    # further columns of a table of samples, such as time, temperature or dose
    sample_numbers: Mapping[str, float] = field(default_factory=dict)

    def __bool__(self) -> bool:
        """Return whether anything was entered."""
        return self != SessionEntry()


@dataclass(frozen=True)
class AcquisitionSession:
    """Images that were recorded alike."""

    name: str
    images: tuple[str, ...]  # names of its images, in order
    # image → class → share of the clusters, for images of known samples
    known: Mapping[str, Composition] = field(default_factory=dict)
    earlier: EarlierScale | None = None  # scale of an earlier session with the same instrument
    # images whose known composition is used even if their clusters contradict it
    kept: frozenset[str] = frozenset()
    # relative error (standard deviation) of the pixel size, common to its images
    pixel_size_error: float = PIXEL_SIZE_ERROR
    # whether a person wants each image labelled by itself: only what else is known of it tells more
    by_itself: bool = False

    @property
    def prior(self) -> tuple[float, float] | None:
        """Mean and standard deviation of ln scale, from an earlier session."""
        earlier = self.earlier
        return None if earlier is None else (log(earlier.intensity_per_atom), earlier.log_sd)

    def limited_to(self, images: Iterable[str], classes: Iterable[str]) -> AcquisitionSession:
        """Return the session of some of its images, with the known samples of these classes."""
        names, labels = tuple(images), set(classes)
        known = {i: x for i in names if (x := self.known.get(i)) and labels.issuperset(x)}
        return replace(self, images=names, known=known)


def group_images(
    recordings: Mapping[str, Recording],
    entries: Mapping[str, SessionEntry] | None = None,
    grouping: str = "auto",
) -> list[AcquisitionSession]:
    """Group images into acquisition sessions.

    Parameters
    ----------
    recordings : mapping of str to Recording
        Image → how it was recorded.
    entries : mapping of str to SessionEntry, optional
        Image → what a person entered. Entries of other images are ignored.
    grouping : str
        Sessions of images without an entry, one of `GROUPINGS`. Images of one folder, pixel size
        and settings are a session ("auto"). A setting that a file lacks separates only if the
        other images of the folder have more than one value.
    """
    entries = entries or {}
    if grouping == "auto":
        derived = _derived_names(recordings)
    else:
        derived = {image: image if grouping == "none" else _ALL_IMAGES for image in recordings}
    images: dict[str, list[str]] = {}
    for image, name in derived.items():
        entry = entries.get(image)
        images.setdefault((entry and entry.session) or name, []).append(image)
    return [_session(name, members, entries) for name, members in images.items()]


def _session(
    name: str, images: Sequence[str], entries: Mapping[str, SessionEntry]
) -> AcquisitionSession:
    """Return a session of images with what a person entered for them."""
    entered = {image: entries[image] for image in images if image in entries}
    errors = [e.pixel_size_error for e in entered.values() if e.pixel_size_error is not None]
    return AcquisitionSession(
        name,
        tuple(images),
        {image: _shares(entry.known) for image, entry in entered.items() if entry.known},
        next((entry.earlier for entry in entered.values() if entry.earlier), None),
        frozenset(image for image, entry in entered.items() if entry.keep_known),
        max(errors, default=PIXEL_SIZE_ERROR),
    )


def _shares(composition: Composition) -> dict[str, float]:
    total = sum(composition.values())
    return {label: number / total for label, number in composition.items()}


# ---- derived sessions
def _derived_names(recordings: Mapping[str, Recording]) -> dict[str, str]:
    """Return image → folder, and the settings that differ within the folder."""
    folders: dict[str, list[str]] = {}
    for image, recording in recordings.items():
        folders.setdefault(recording.folder, []).append(image)
    labels = _folder_labels(folders)
    names = {}
    for folder, members in folders.items():
        settings = [
            {"pixel_size_nm": recordings[i].pixel_size_nm, **recordings[i].settings}
            for i in members
        ]
        parts = [
            _format_setting(name, [one.get(name) for one in settings]) for name in _FIELDS
        ]  # fmt: skip
        for image, *of_image in zip(members, *parts, strict=True):
            names[image] = ", ".join([labels[folder], *filter(None, of_image)])
    return {image: names[image] for image in recordings}


def _format_setting(name: str, values: Sequence[Any]) -> list[str]:
    """Format a setting of each image; all are empty if there is only one value."""
    levels = _levels({value for value in values if value is not None})
    if len(set(levels.values())) < 2:
        return [""] * len(values)
    unknown = f"unknown {name.rpartition('_')[0].replace('_', ' ') or name}"
    return [unknown if v is None else _FIELDS[name].format(levels[v]) for v in values]


def _levels(values: Iterable[Any]) -> dict[Any, Any]:
    """Return value → the lowest of the numbers that count as the same setting."""
    values = list(values)
    if not all(isinstance(value, int | float) for value in values):
        return {value: str(value) for value in values}
    levels: dict[float, float] = {}
    before = None
    for value in sorted(values):
        same = before is not None and value - before <= _TOLERANCE * abs(value)
        levels[value] = levels[before] if same and before is not None else value
        before = value
    return levels


def _folder_labels(folders: Iterable[str]) -> dict[str, str]:
    """Return folder → the shortest end of its path that no other folder has."""
    parts = {folder: PurePath(folder).parts for folder in folders}
    labels = {}
    for folder, own in parts.items():
        others = [other for other in parts.values() if other != own]
        n = next(
            (n for n in range(1, len(own)) if all(o[-n:] != own[-n:] for o in others)), len(own)
        )
        labels[folder] = "/".join(own[-n:]) if own else _NO_FILE
    return labels


# ---- known samples
def parse_known(text: str) -> tuple[str, dict[str, float]]:
    """Parse a known sample such as ``ref_*.tif=Pt55`` or ``mix_*.tif=Pt19:1,Pt41:1``.

    The pattern of names of images is before the equals sign, the composition after it. Raises
    `TableError` if the text does not have this form.
    """
    pattern, equals, composition = text.partition("=")
    if not equals or not pattern.strip():
        raise TableError(
            f"{text.strip()!r} is not a known sample",
            advice="Examples: 'ref_*.tif=Pt55', 'mix_*.tif=Pt19:1,Pt41:1'",
        )
    return pattern.strip(), parse_composition(composition)


def parse_composition(text: str) -> dict[str, float]:
    """Parse a composition such as ``Pt55``, ``Pt19:1, Pt41:1`` or ``Pt19:Pt41 = 1:1``.

    Raises `TableError` if the text does not have one of these forms.
    """
    labels, equals, numbers = text.partition("=")
    if equals:
        pairs = list(zip(labels.split(":"), numbers.split(":"), strict=False))
        complete = labels.count(":") == numbers.count(":")
    else:
        split = [part.partition(":") for part in re.split("[,;]", text)]
        complete = len(split) == 1 or all(colon for _, colon, _ in split)
        pairs = [(label, number if colon else "1") for label, colon, number in split]
    composition: dict[str, float] = {}
    for label, number in pairs:
        try:
            composition[label.strip()] = float(number)
        except ValueError:
            complete = False
    if (
        not complete
        or len(composition) < len(pairs)
        or "" in composition
        or not all(0 < number < float("inf") for number in composition.values())
    ):
        raise TableError(
            f"{text.strip()!r} is not a composition", advice=f"Examples: {KNOWN_EXAMPLE}"
        )
    return composition


def format_composition(composition: Composition) -> str:
    """Return the text that `parse_composition` reads."""
    if len(composition) == 1:
        return next(iter(composition))
    return ", ".join(f"{label}:{number:g}" for label, number in composition.items())


def format_known(image: str, composition: Composition) -> str:
    """Return the text with which `parse_known` says the composition of one image.

    Its name is no pattern; what is before the first equals sign is the name.
    """
    return f"{glob.escape(image).replace('=', '?')}={format_composition(composition)}"


def check_classes(composition: Composition, classes: Sequence[str], images: str = "") -> None:
    """Check that a model has the classes of the known sample in some images.

    Raises `ModelError` if it lacks one.
    """
    missing = [label for label in composition if label not in classes]
    if missing:
        where = f" in {images}" if images else ""
        raise ModelError(
            f"the model has no class {' or '.join(missing)} for the known sample "
            f"{format_composition(composition)}{where}",
            advice=f"Its classes are {', '.join(classes)}",
        )


def match_images(pattern: str, images: Iterable[str]) -> list[str]:
    """Return the images whose name, or whose name without the folder, is or matches a pattern."""
    return [
        image for image in images
        if image == pattern or fnmatchcase(image, pattern)
        or fnmatchcase(image.rpartition("/")[2], pattern)
    ]  # fmt: skip


def match_known(
    samples: Iterable[tuple[str, Composition]],  # pattern and composition, as from `parse_known`
    images: Iterable[str],
    all_match: bool = True,  # whether each pattern must match an image
) -> dict[str, Composition]:
    """Find the images of known samples.

    Raises `TableError` if a pattern matches no image, or an image has two compositions.
    """
    images = list(images)
    found: dict[str, Composition] = {}
    for pattern, composition in samples:
        matched = match_images(pattern, images)
        if all_match and not matched:
            raise TableError(
                f"no image has a name like {pattern!r}",
                advice=f"The first image is {images[0]}" if images else "There are no images",
            )
        for image in matched:
            if found.setdefault(image, composition) != composition:
                raise TableError(
                    f"{image} has two known compositions, {format_composition(found[image])} and "
                    f"{format_composition(composition)}"
                )
    return found


# ---- samples
SESSION_SCOPE, SAMPLE_SCOPE = "session: ", "sample: "
"""Begin the names of the scopes of a session and of a sample in tables of results."""


@dataclass(frozen=True)
class SampleEntry:
    """What a person says of the images of a sample."""

    sample: str
    # further columns of a table of samples, such as time, temperature or dose
    numbers: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class Sample:
    """Images that show the same material after the same treatment."""

    name: str
    images: tuple[str, ...]
    # what was entered → its mean over the images
    numbers: Mapping[str, float] = field(default_factory=dict)
    folder: str = ""  # absolute path of the folder that it was derived from, if it was


def group_samples(
    folders: Mapping[str, str],  # image → absolute path of its folder; "" for one without a file
    # name or pattern of images → what a person says of them, in the order of the samples
    entries: Mapping[str, SampleEntry] | None = None,
) -> list[Sample]:
    """Group images into samples: by the entries, the others by folder, in order.

    The last entry that matches an image counts.
    """
    entry_of = {
        image: entry
        for pattern, entry in (entries or {}).items()
        for image in match_images(pattern, folders)
    }
    return collect_samples(folders, entry_of, [e.sample for e in (entries or {}).values()])


def collect_samples(
    folders: Mapping[str, str],  # image → absolute path of its folder; "" for one without a file
    entry_of: Mapping[str, SampleEntry],  # image → what a person says of it
    first: Iterable[str] = (),  # names of the samples that come first
) -> list[Sample]:
    """Group images into samples as `group_samples`, by entries that each name one image."""
    labels = _folder_labels(dict.fromkeys(f for i, f in folders.items() if i not in entry_of))
    images: dict[str, list[str]] = {name: [] for name in first}
    for image, folder in folders.items():
        name = entry_of[image].sample if image in entry_of else labels[folder]
        images.setdefault(name, []).append(image)
    found = []
    for name, members in images.items():
        if members:
            stated = [entry_of[i].numbers for i in members if i in entry_of]
            numbers = {
                column: sum(one[column] for one in stated if column in one)
                / sum(column in one for one in stated)
                for column in dict.fromkeys(c for one in stated for c in one)
            }
            folder = "" if stated else folders[members[0]]
            found.append(Sample(name, tuple(members), numbers, folder))
    return found


def add_group_names(
    table: pd.DataFrame,
    session_of: Mapping[str, str],  # image → name of its session
    sample_of: Mapping[str, str],  # image → name of its sample
) -> pd.DataFrame:
    """Return a table of clusters or atoms with session and sample of each row; "" if unknown."""
    names = table["image"].astype(object)
    session, sample = (
        names.map(dict(group_of)).astype(object).fillna("") for group_of in (session_of, sample_of)
    )
    return table.assign(session=session, sample=sample)


def group_scopes(
    session_of: Mapping[str, str],  # session_of, sample_of: image → name of its session, sample
    sample_of: Mapping[str, str],
) -> dict[str, list[str]]:
    """Return the scopes of sessions and of samples with their images: "sample: fresh" → images."""
    scopes: dict[str, list[str]] = {}
    for prefix, group_of in ((SESSION_SCOPE, session_of), (SAMPLE_SCOPE, sample_of)):
        for image, name in group_of.items():
            if name:
                scopes.setdefault(prefix + name, []).append(image)
    return scopes


def is_group_scope(scope: str) -> bool:
    """Return whether a scope is that of a session or a sample."""
    return scope.startswith((SESSION_SCOPE, SAMPLE_SCOPE))
