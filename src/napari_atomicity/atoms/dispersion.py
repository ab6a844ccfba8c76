"""Dispersion of the atoms of images on their support: from `ImageAtoms` to ``dispersion.csv``.

The window and the command line both use this module. The statistics are those of
`statistics.points.dispersion`; this module prepares their input: all candidates with their
probabilities, the support with the drawn corrections, and each frame of a stack separately before
they are pooled. Each frame of each image has its own random numbers: with common ones, pooled
random patterns would scatter as much as those of a single image.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, MutableMapping, Sequence
from dataclasses import dataclass
from functools import partial
from zlib import crc32

import numpy as np
import pandas as pd

from ..core.errors import attempt
from ..core.micrograph import Micrograph
from ..core.progress import Progress, Stop, check, prefixed
from ..core.settings import check_settings, documented, seed_setting, setting
from ..core.tables.columns import TEXT, Column
from ..detection.outliers import repaired_frames
from ..statistics.points.atom_groups import KINDS
from ..statistics.points.dispersion import (
    ALL,
    DispersionStatistics,
    dispersion,
    pool_frames,
    pool_images,
    pool_scopes,
)
from ..statistics.points.loading_settings import LoadingSettings
from ..statistics.points.metal_loading import SCHEMA as LOADING_SCHEMA, with_loading
from ..statistics.points.windows import ObservationWindow
from . import support
from .analysis import with_neighbours
from .completeness import SCHEMA as COMPLETENESS_SCHEMA, Completeness, with_completeness
from .marks import ImageAtoms
from .summary import candidate_recall
from .table import concat_atom_tables, empty_table

# ---- columns of the table of dispersion
_LOW, _HIGH = "lower end of its interval", "upper end of its interval"
_AREA, _RANDOM = "nm²", "complete spatial randomness"


def _number(name: str, unit: str, description: str) -> Column:
    return Column(name, "float64", unit, description)


def _count(name: str, description: str) -> Column:
    return Column(name, "Int64", "", description)


def _neighbour(statistic: str) -> tuple[Column, ...]:
    name = f"nearest_neighbour_{statistic}"
    what = (
        f"{statistic} distance of an atom to its nearest neighbour, edge-corrected; missing if "
        "fewer than three distances, of fewer than half of the atoms, count"
    )
    return (
        _number(f"{name}_nm", "nm", what),
        _number(f"{name}_low_nm", "nm", _LOW),
        _number(f"{name}_high_nm", "nm", _HIGH),
    )


def _share(kind: str) -> tuple[Column, ...]:
    least = KINDS[kind]
    larger = [n for n in KINDS.values() if n > least]
    size = f"{least} or more" if not larger else f"{least} to {larger[0] - 1}"
    size = str(least) if least + 1 in larger else size
    return (
        _number(f"share_{kind}", "", f"fraction of the atoms that are in groups of size {size}"),
        _number(f"share_{kind}_low", "", _LOW),
        _number(f"share_{kind}_high", "", _HIGH),
    )


STATISTICS_SCHEMA = (
    Column("image", TEXT, "", 'name of the image, "session: NAME", "sample: NAME", or "all"'),
    _count(
        "n_atoms",
        "number of atoms on the support above the threshold; without a support, of all atoms, "
        'which are not among those of "all". This and the other numbers and areas '
        "are sums over the frames of a stack; of several images, a stack counts as its mean frame",
    ),
    _number(
        "n_atoms_expected",
        "",
        "sum of the probabilities of the candidates on the support, divided by the fraction of the "
        "atoms that are candidates",
    ),
    _count(
        "n_off_support",
        "number of atoms outside the support or on bright clusters: omitted",
    ),
    _number("support_nm2", _AREA, "area of the support"),
    _number(
        "density_per_nm2",
        "1/nm²",
        "atoms per area of the support in the sample: n_atoms_expected / support_nm2; the interval "
        "includes detection and sampling",
    ),
    _number("density_low_per_nm2", "1/nm²", _LOW),
    _number("density_high_per_nm2", "1/nm²", _HIGH),
    _number(
        "density_of_field_low_per_nm2",
        "1/nm²",
        "lower end of the interval of the density in this field; it includes detection only",
    ),
    _number("density_of_field_high_per_nm2", "1/nm²", "upper end of this interval"),
    _number("density_counted_per_nm2", "1/nm²", "n_atoms / support_nm2; depends on the threshold"),
    *_neighbour("mean"),
    *_neighbour("median"),
    _number(
        "clark_evans",
        "",
        "mean nearest-neighbour distance divided by that of random points; below 1 for clustered "
        "atoms",
    ),
    _number("clark_evans_p", "", f"p value of clark_evans under {_RANDOM}"),
    _number(
        "nearest_neighbour_p",
        "",
        f"p value of the distribution of nearest-neighbour distances G(r) under {_RANDOM}",
    ),
    _number("pair_correlation_p", "", f"p value of the pair correlation g(r) under {_RANDOM}"),
    _number("ripley_l_p", "", f"p value of Ripley's L(r) under {_RANDOM}"),
    _number(
        "quadrat_index",
        "",
        "variance divided by mean of the numbers of atoms in quadrats; 1 for random atoms",
    ),
    _number("quadrat_p", "", f"p value of quadrat_index under {_RANDOM}"),
    _number("quadrat_nm", "nm", "edge of a quadrat; missing for several images or frames"),
    *(column for kind in KINDS for column in _share(kind)),
    _number("share_isolated_if_random", "", "share_isolated expected for random atoms"),
    _count("groups", "number of groups, which include isolated atoms"),
    _number("group_size_mean", "", "mean number of atoms of a group"),
    _count("group_size_max", "number of atoms of the largest group"),
    _number(
        "group_extent_mean_nm",
        "nm",
        "mean largest distance between two atoms of a group, centre to centre, of groups of two or "
        "more atoms; candidates below the threshold count with their probability. Missing if fewer "
        "than one such group is expected, and its interval if fewer than two are",
    ),
    _number("group_extent_mean_low_nm", "nm", _LOW),
    _number("group_extent_mean_high_nm", "nm", _HIGH),
    _number("group_extent_max_nm", "nm", "largest distance between two atoms of any group"),
    _number("group_distance_nm", "nm", "maximum distance of linked atoms of a group"),
    _number("level", "", "coverage of the intervals"),
    _count("images", "number of images; a stack is one"),
    _count("frames", "number of frames"),
    Column("method", TEXT, "", "what the interval of the density includes"),
)
"""First columns of ``dispersion.csv``, see `atoms.dispersion.DISPERSION_SCHEMA`."""


MAX_AREA_RATIO = 2.0
"""Maximum ratio of the areas of the support in two frames of a stack, without a note."""
DISPERSION_SCHEMA = (*STATISTICS_SCHEMA, *COMPLETENESS_SCHEMA, *LOADING_SCHEMA)
"""Columns of ``dispersion.csv``."""


@documented
@dataclass(frozen=True)
class DispersionSettings:
    """Settings of the dispersion; see `statistics.points.dispersion.dispersion`."""

    simulations: int = setting(
        199,
        "Simulations",
        "Number of random patterns on the same support for comparison; the smallest possible p "
        "value is 1/(n + 1).",
        min=1,
        form_range=(19, 9999),
        step=100,
        key="dispersion/simulations",
    )
    largest_nm: float | None = setting(
        None,
        "Largest r",
        "Largest distance r of g(r) and L(r) in nm, at most half the support; twice the distance "
        "takes four times as long.",
        unit="nm",
        above=0,
        form_range=(0, 100),
        decimals=2,
        text="automatic",
        default_text="automatic, a quarter of the support or 30 neighbours",
        key="dispersion/largest",
    )
    seed: int = seed_setting("dispersion/seed")
    level: float = setting(
        0.95,
        "Level",
        "Coverage of intervals and envelopes.",
        unit="%",
        above=0,
        max=0.9999,
        form_range=(50, 99.9),
        decimals=1,
        step=1,
        factor=100,
        key="dispersion/level",
    )

    def __post_init__(self) -> None:
        check_settings(self)


@dataclass(frozen=True, eq=False, repr=False)
class DispersionResult:
    """The dispersion of the atoms of one image."""

    atoms: ImageAtoms
    settings: DispersionSettings
    table: pd.DataFrame  # atom table on the support, with neighbours and groups there
    dispersion: DispersionStatistics | None = None  # none where there is no support
    reason: str = ""  # why there is none, or which frames are left out
    # share of the atoms of the model that are found, where atoms were injected and the model counts
    completeness: Completeness | None = None

    def __repr__(self) -> str:
        reason = f"; {self.reason}" if self.reason else ""
        return f"<DispersionResult of {self.atoms.image}: {len(self.table)} atoms{reason}>"

    def is_current(self, atoms: ImageAtoms, settings: DispersionSettings) -> bool:
        """Return whether the result still holds: atoms and settings are unchanged."""
        return self.atoms is atoms and self.settings == settings


@dataclass(frozen=True, eq=False, repr=False)
class DispersionResults:
    """The dispersion of several images, and of all of them together."""

    of: Mapping[str, DispersionResult]
    table: pd.DataFrame  # concatenated tables
    dispersion: DispersionStatistics | None

    def __repr__(self) -> str:
        return f"<DispersionResults of {', '.join(self.of)}: {len(self.table)} atoms>"

    @property
    def reasons(self) -> dict[str, str]:
        """Reason for each image without dispersion."""
        return {image: s.reason for image, s in self.of.items() if s.dispersion is None}

    def rows(
        self,
        loading: LoadingSettings | None = None,
        groups: Mapping[str, Sequence[str]] | None = None,  # scope of each group → its images
        stop: Stop | None = None,
    ) -> pd.DataFrame:
        """Return the rows of ``dispersion.csv``, see `dispersion_rows`."""
        found = [
            (image, len(one.atoms.table), one.dispersion, one.completeness)
            for image, one in self.of.items()
        ]
        pooled = {} if self.dispersion is None else {ALL: self.dispersion}
        if groups and pooled:
            parts = {i: s.dispersion for i, s in self.of.items() if s.dispersion is not None}
            pooled = pool_scopes(parts, groups, next(iter(self.of.values())).settings.seed, stop)
        return dispersion_rows(found, pooled, loading, groups)


def compute_image_dispersion(
    atoms: ImageAtoms,
    settings: DispersionSettings | None = None,
    # The image; needed if its support is unknown, as for an image annotated by hand
    micrograph: Micrograph | None = None,
    progress: Progress | None = None,
    stop: Stop | None = None,
) -> DispersionResult:  # without ``dispersion`` if there is no support
    """Compute the dispersion of the atoms of an image over all of its frames (see `pool_frames`).

    Frames without any contrast are omitted, since atoms are not visible in them.

    Raises `AtomicityError` if the image cannot be read.
    """
    settings = settings or DispersionSettings()
    masks = support_masks(atoms, micrograph)
    known = atoms.of_image.analysis
    flat = () if known is None else known.flat_frames
    tables, frames = [], []
    for index, mask in enumerate(masks):
        check(stop)
        if not mask.any() or index in flat:
            continue
        table = atoms.table[atoms.table["frame"] == index]
        on_support = ObservationWindow(mask, atoms.pixel_size_nm).contains(_positions(table))
        tables.append(table[on_support])
        frames.append(_frame_dispersion(atoms, index, mask, settings, progress, stop))
    reason = _format_flat_frames(flat, len(masks)) or _format_areas([f.area_nm2 for f in frames])
    if not frames:
        reason = reason or "no support was found, so there is no density"
        return DispersionResult(atoms, settings, empty_table(), reason=reason)
    table = with_neighbours(concat_atom_tables(tables), atoms.group_distance_nm)
    pooled_frames = pool_frames(frames, _derive_seed(settings.seed, atoms.image), stop)
    # The misses of the model do not matter where people decided on every candidate.
    missed = None if atoms.is_decided else atoms.completeness
    return DispersionResult(atoms, settings, table, pooled_frames, reason, missed)


def _frame_dispersion(
    atoms: ImageAtoms,
    index: int,
    mask: np.ndarray,
    settings: DispersionSettings,
    progress: Progress | None,
    stop: Stop | None,
) -> DispersionStatistics:
    """Compute the dispersion of the atoms of one frame on its support."""
    candidates = atoms.probabilities
    table, probable = (t[t["frame"] == index] for t in (atoms.table, candidates))
    return dispersion(
        _positions(table),
        mask,
        atoms.pixel_size_nm,
        candidates_nm=_positions(probable),
        candidate_probabilities=probable["confidence"].to_numpy(float),
        candidate_recall=candidate_recall(atoms),
        group_distance_nm=atoms.group_distance_nm,
        simulations=settings.simulations,
        seed=_derive_seed(settings.seed, atoms.image, index),
        level=settings.level,
        largest_nm=settings.largest_nm,
        progress=progress,
        stop=stop,
    )


def compute_dispersions(
    images: Mapping[str, ImageAtoms],
    settings: DispersionSettings | None = None,
    micrographs: Mapping[str, Micrograph] | None = None,
    known: MutableMapping[str, DispersionResult] | None = None,
    progress: Progress | None = None,
    stop: Stop | None = None,
) -> DispersionResults:
    """Compute the dispersion of each of several images and of all together.

    Parameters
    ----------
    known : mapping of str to DispersionResult, optional
        Earlier results; those that still hold are reused. Updated in place image by image, so that
        a cancelled computation keeps its results.

    Raises
    ------
    AtomicityError
        If atoms of different images are linked at different distances.
    """
    settings, known = settings or DispersionSettings(), {} if known is None else known
    for number, (image, atoms) in enumerate(images.items(), 1):
        before = known.get(image)
        if before is not None and before.is_current(atoms, settings):
            continue
        which = f"{image} ({number} of {len(images)}): " if len(images) > 1 else ""
        micrograph = (micrographs or {}).get(image)
        failed: dict[str, str] = {}  # an error in one image does not affect the others
        compute = partial(compute_image_dispersion, atoms, settings, micrograph)
        report_image = prefixed(progress, which)
        found = attempt(failed, which, partial(compute, report_image, stop))
        reason = failed.get(which, "")
        known[image] = found or DispersionResult(atoms, settings, empty_table(), reason=reason)
    of = {image: known[image] for image in images}
    parts = [s.dispersion for s in of.values() if s.dispersion is not None]
    check(stop)
    table = concat_atom_tables([s.table for s in of.values()])
    pooled = pool_images(parts, settings.seed, stop) if parts else None
    return DispersionResults(of, table, pooled)


def dispersion_rows(
    # Name, number of atoms, dispersion or None, and completeness or None of each image
    found: Iterable[tuple[str, int | None, DispersionStatistics | None, Completeness | None]],
    pooled: Mapping[str, DispersionStatistics],  # of all images (`ALL`) and of groups, by scope
    loading: LoadingSettings | None = None,
    groups: Mapping[str, Sequence[str]] | None = None,  # scope of each group → its images
) -> pd.DataFrame:
    """Make the rows of ``dispersion.csv``: of each image, each group and all images."""
    found = list(found)
    rows = [
        {"image": image, "n_atoms": n} if spread is None else spread.row(image)
        for image, n, spread, _ in found
    ]
    of_images = {image: n or 0 for image, n, *_ in found}
    scopes = {**(groups or {}), ALL: list(of_images)}
    for scope, images in scopes.items():
        total = sum(of_images.get(image, 0) for image in images)
        known = pooled.get(scope)
        rows.append({"image": scope, "n_atoms": total} if known is None else known.row(scope))
    # The columns of a row that has all of them come first, whatever the first image lacks.
    columns = max((list(row) for row in rows), key=len)
    missed = {image: completeness for image, *_, completeness in found}
    complete = with_completeness(pd.DataFrame(rows, columns=columns), missed, ALL, groups)
    return with_loading(complete, loading or LoadingSettings())


def _derive_seed(seed: int, image: str, *frame: int) -> int:
    """Derive the seed of an image or frame, independent of the other images."""
    entropy = [seed, crc32(image.encode()), *frame]
    return int(np.random.SeedSequence(entropy).generate_state(1)[0])


def _format_flat_frames(flat: Collection[int], frames: int) -> str:
    """Return a sentence about frames without contrast, or an empty text."""
    if not flat:
        return ""
    what = "the image has" if len(flat) == frames else f"{len(flat)} of {frames} frames have"
    return f"{what} no contrast: atoms are not visible, excluded from all densities"


def _format_areas(areas_nm2: Sequence[float]) -> str:
    """Return a sentence about a support that differs between the frames, or an empty text."""
    least, most = min(areas_nm2, default=0.0), max(areas_nm2, default=0.0)
    if most <= MAX_AREA_RATIO * least:
        return ""
    return (
        f"the support has {least:.3g} to {most:.3g} nm² in its frames, though they show one place: "
        "check it frame by frame"
    )


def support_masks(atoms: ImageAtoms, micrograph: Micrograph | None) -> list[np.ndarray]:
    """Return the (Y, X) support of each frame."""
    of_image = atoms.of_image
    mask = of_image.support
    if mask is not None:
        return list(mask) if mask.ndim == 3 else [mask]
    if micrograph is None:
        return []
    return [
        support.edit_mask(support.support_mask(frame, atoms.pixel_size_nm), of_image.drawn)
        for frame in repaired_frames(micrograph)
    ]


def _positions(table: pd.DataFrame) -> np.ndarray:
    return table[["y_nm", "x_nm"]].to_numpy(float)
