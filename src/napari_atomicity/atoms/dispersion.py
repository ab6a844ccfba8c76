"""How the atoms of images are spread over their support: from `ImageAtoms` to ``dispersion.csv``.

What window and command line show is the same, because both ask here. The statistics are those of
`statistics.dispersion`; here is decided what goes into them: all places where an atom may be, with
their probabilities, the support with what a person drew, each frame of a stack by itself and all
of them as one image, and random numbers of its own for each frame of each image: with common ones,
pooled random patterns would scatter as much as those of a single image.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, MutableMapping
from dataclasses import dataclass
from zlib import crc32

import numpy as np
import pandas as pd

from ..core.errors import AtomicityError
from ..core.micrograph import Micrograph
from ..core.progress import Progress, Stop, check, prefixed
from ..statistics.dispersion import ALL, DispersionStatistics, dispersion, pool_frames, pool_images
from ..statistics.windows import ObservationWindow
from . import support
from .analysis import with_neighbours
from .completeness import Completeness, with_completeness
from .marks import ImageAtoms
from .table import empty_table, joined


@dataclass(frozen=True)
class DispersionSettings:
    """What can be chosen; see `statistics.dispersion.dispersion`.

    Parameters
    ----------
    simulations
        Random patterns for the tests.
    largest_nm
        Up to which distance K, L and g go; None: as far as they are worth looking at.
    seed
        Of all random numbers; each frame of each image has its own by it.
    level
        Coverage of intervals and envelopes.
    """

    simulations: int = 199
    largest_nm: float | None = None
    seed: int = 0
    level: float = 0.95


@dataclass(frozen=True, eq=False)
class DispersionResult:
    """The dispersion of the atoms of one image.

    Parameters
    ----------
    atoms, settings
        Of what it was found, and how.
    table
        Atom table of those on the support, with their neighbours and groups there.
    dispersion
        None where nothing could be found.
    why
        Why not, or which frames are left out.
    census
        What is missed of its atoms, where atoms were put into it.
    """

    atoms: ImageAtoms
    settings: DispersionSettings
    table: pd.DataFrame
    dispersion: DispersionStatistics | None = None
    why: str = ""
    census: Completeness | None = None

    def is_of(self, atoms: ImageAtoms, settings: DispersionSettings) -> bool:
        """Whether it would be the same if it were found anew."""
        return self.atoms is atoms and self.settings == settings


@dataclass(frozen=True, eq=False)
class DispersionResults:
    """The dispersion of several images, and of all of them together.

    Parameters
    ----------
    of
        Image → its own.
    table
        Their tables, joined.
    dispersion
        Of all together; that of the image if it is one; None if no image has any.
    """

    of: Mapping[str, DispersionResult]
    table: pd.DataFrame
    dispersion: DispersionStatistics | None

    @property
    def without(self) -> dict[str, str]:
        """Image that has no dispersion → why."""
        return {image: s.why for image, s in self.of.items() if s.dispersion is None}

    def rows(self) -> pd.DataFrame:
        """The rows of ``dispersion.csv``: see `dispersion_rows` and `with_completeness`."""
        found = [(image, len(s.atoms.table), s.dispersion) for image, s in self.of.items()]
        missed = {image: s.census for image, s in self.of.items()}
        return with_completeness(dispersion_rows(found, self.dispersion), missed, ALL)


def spread_of(
    atoms: ImageAtoms,
    settings: DispersionSettings | None = None,
    micrograph: Micrograph | None = None,
    progress: Progress | None = None,
    stop: Stop | None = None,
) -> DispersionResult:
    """The dispersion of the atoms of an image, over all of its frames: see `pool_frames`.

    A frame without any contrast is left out: nobody could see an atom there.

    Parameters
    ----------
    atoms
        Of the image.
    settings
        Those of `DispersionSettings` if None.
    micrograph
        The image; needed where nobody has looked for its support yet, as of an image whose atoms
        were all marked by hand.
    progress, stop
        Called between simulations and draws.

    Raises
    ------
    AtomicityError
        If the image can't be read.
    Cancelled
        If ``stop()`` is true.
    """
    settings = settings or DispersionSettings()
    masks = _masks(atoms, micrograph)
    known, recall = atoms.probabilities, _recall(atoms)
    flat = () if atoms.analysis is None else atoms.analysis.flat_frames
    tables, frames = [], []
    for index, mask in enumerate(masks):
        check(stop)
        if not mask.any() or index in flat:
            continue
        table, probable = (t[t["frame"] == index] for t in (atoms.table, known))
        here = _places(table)
        tables.append(table[ObservationWindow(mask, atoms.pixel_size_nm).contains(here)])
        frames.append(
            dispersion(
                here,
                mask,
                atoms.pixel_size_nm,
                candidates_nm=_places(probable),
                candidate_probabilities=probable["confidence"].to_numpy(float),
                candidate_recall=recall,
                group_distance_nm=atoms.group_distance_nm,
                simulations=settings.simulations,
                seed=_seed(settings.seed, atoms.image, index),
                level=settings.level,
                largest_nm=settings.largest_nm,
                progress=progress,
                stop=stop,
            )
        )
    why = _left_out(flat, len(masks))
    if not frames:
        why = why or "no support was found, so there is no density"
        return DispersionResult(atoms, settings, empty_table(), why=why)
    table = with_neighbours(joined(tables), atoms.group_distance_nm)
    found = pool_frames(frames, _seed(settings.seed, atoms.image), stop)
    return DispersionResult(atoms, settings, table, found, why, atoms.census)


def spread_of_all(
    images: Mapping[str, ImageAtoms],
    settings: DispersionSettings | None = None,
    micrographs: Mapping[str, Micrograph] | None = None,
    known: MutableMapping[str, DispersionResult] | None = None,
    progress: Progress | None = None,
    stop: Stop | None = None,
) -> DispersionResults:
    """The dispersion of each of several images and of all together.

    Parameters
    ----------
    images
        Image → its atoms.
    settings, progress, stop
        As of `spread_of`.
    micrographs
        Image → what `spread_of` may need.
    known
        What was found before, by image: what still holds is not found anew. It is brought up to
        date image by image, so that nothing is lost when it is stopped.

    Raises
    ------
    AtomicityError
        If atoms of different images are linked at different distances.
    Cancelled
        If ``stop()`` is true.
    """
    settings, known = settings or DispersionSettings(), {} if known is None else known
    for number, (image, atoms) in enumerate(images.items(), 1):
        before = known.get(image)
        if before is not None and before.is_of(atoms, settings):
            continue
        which = f"{image} ({number} of {len(images)}): " if len(images) > 1 else ""
        micrograph = (micrographs or {}).get(image)
        try:
            known[image] = spread_of(
                atoms, settings, micrograph, prefixed(progress, which), stop
            )  # fmt: skip
        except AtomicityError as error:  # one image must not keep the others from being seen
            known[image] = DispersionResult(atoms, settings, empty_table(), why=str(error))
    of = {image: known[image] for image in images}
    parts = [s.dispersion for s in of.values() if s.dispersion is not None]
    check(stop)
    table = joined([s.table for s in of.values()])
    return DispersionResults(of, table, pool_images(parts, settings.seed, stop) if parts else None)


def dispersion_rows(
    found: Iterable[tuple[str, int | None, DispersionStatistics | None]],
    of_all: DispersionStatistics | None,
) -> pd.DataFrame:
    """The rows of ``dispersion.csv``.

    Parameters
    ----------
    found
        Of each image its name, its number of atoms, and its dispersion if there is any.
    of_all
        Of all of them together.

    Returns
    -------
    pandas.DataFrame
        A row per image and, last, ``all``: `Dispersion.row`.
    """
    found = list(found)
    rows = [
        {"image": image, "n_atoms": n} if spread is None else spread.row(image)
        for image, n, spread in found
    ]
    total = sum(n or 0 for _, n, _ in found)
    rows.append({"image": ALL, "n_atoms": total} if of_all is None else of_all.row())
    # The columns of a row that has all of them come first, whatever the first image lacks.
    columns = max((list(row) for row in rows), key=len)
    return pd.DataFrame(rows, columns=columns)


def _seed(seed: int, image: str, *frame: int) -> int:
    """Of one image or frame its own, the same whichever others are looked at."""
    entropy = [seed, crc32(image.encode()), *frame]
    return int(np.random.SeedSequence(entropy).generate_state(1)[0])


def _left_out(flat: Collection[int], frames: int) -> str:
    if not flat:
        return ""
    what = "the image has" if len(flat) == frames else f"{len(flat)} of {frames} frames have"
    return f"{what} no contrast at all, so atoms can't be seen there: left out of every density"


def _masks(atoms: ImageAtoms, micrograph: Micrograph | None) -> list[np.ndarray]:
    """(Y, X) support of each frame."""
    mask = atoms.support
    if mask is not None:
        return list(mask) if mask.ndim == 3 else [mask]
    if micrograph is None:
        return []
    drawn = atoms.support_added, atoms.support_removed
    return [
        support.edited(support.support_mask(frame, atoms.pixel_size_nm), *drawn)
        for frame in micrograph.frames()
    ]


def _recall(atoms: ImageAtoms) -> float:
    """Share of the atoms that are among those of `ImageAtoms.probabilities`.

    That of the model's candidates; but what a person adds to these is of what was missing.
    """
    if atoms.analysis is None:
        return 1.0
    known, recall = atoms.probabilities, atoms.analysis.candidate_recall
    of_model = known["atom_id"].isin(atoms.analysis.candidates["atom_id"]).to_numpy()
    p = known["confidence"].to_numpy(float)
    if not p[of_model].sum() > 0:
        return recall
    return float(min(1.0, recall * p.sum() / p[of_model].sum()))


def _places(table: pd.DataFrame) -> np.ndarray:
    return table[["y_nm", "x_nm"]].to_numpy(float)
