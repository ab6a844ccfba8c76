"""The atoms of an image: candidates of the model and annotations.

An annotation is a *mark*: an atom is present or absent. Marks are stored separately from the
candidates, so that another threshold or another model never changes an annotation.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

import numpy as np
import pandas as pd

from ..core.settings import GROUP_DISTANCE_NM
from ..statistics.matching import match
from . import support
from .analysis import AtomAnalysis, with_neighbours
from .completeness import Completeness, estimate_completeness
from .finding.localisation import fit_spots, repaired_window
from .injection import InjectedAtoms
from .species import Species, label_species
from .table import PERSON, concat_atom_tables, conform, empty_table

SAME_NM = 0.138
"""Positions closer than this are one atom: half the nearest-neighbour distance in platinum."""
SPECIES = "species"
"""Key of the parameters of an analysis: components of its intensities."""
INJECTED = "added"
"""Key of the parameters of an analysis: injected atoms and their recovery."""
SUPPORT_ORDER = "support_order"
"""Key of the parameters of an analysis: for each drawn polygon, oldest first, whether it adds."""
_POSITION = ["atom_id", "frame", "y_nm", "x_nm"]


@dataclass(frozen=True)
class Mark:
    """Annotation of a position."""

    # y_px, x_px: position in pixels
    y_px: float
    x_px: float
    present: bool = True  # whether an atom is present
    uncertain: bool = False  # whether the annotator is uncertain
    frame: int = 0  # index of the frame in a stack
    # intensity, amplitude, background, sigma_nm: measured at the position, see `table`; None where
    # the measurement failed
    intensity: float | None = None
    amplitude: float | None = None
    background: float | None = None
    sigma_nm: float | None = None


@dataclass(frozen=True, eq=False)
class ImageAtoms:
    """Atoms of one image: candidates, marks, support."""

    image: str
    pixel_size_nm: float  # edge length of a pixel
    # result of the model; None before detection, and for a blind annotator
    analysis: AtomAnalysis | None = None
    # annotations by ``atom_id``: of a candidate, or of a position of its own
    marks: Mapping[int, Mark] = field(default_factory=dict)
    # support_added, support_removed: drawn corrections of the support: polygons of shape (M, 2) in
    # pixels (y, x)
    support_added: tuple[np.ndarray, ...] = ()
    support_removed: tuple[np.ndarray, ...] = ()
    group_distance_nm: float = GROUP_DISTANCE_NM  # maximum distance of two linked atoms
    # of a blind annotator: the atoms that are hidden, whose support counts for densities
    hidden: ImageAtoms | None = None

    @property
    def of_image(self) -> ImageAtoms:
        """Atoms that tell where atoms can be counted: of a blind annotator, the hidden ones."""
        return self.hidden or self

    @cached_property
    def table(self) -> pd.DataFrame:
        """Atom table: candidates above the threshold, overridden by the marks."""
        table = concat_atom_tables([self._unmarked, self._marked])
        table = conform(table.sort_values("atom_id", kind="stable"))
        if self.species is not None:
            table = label_species(table, self.species)
        return with_neighbours(table, self.group_distance_nm)

    @cached_property
    def on_support(self) -> pd.DataFrame:
        """Atom table of the support alone, with distances and groups of its own.

        Without a known support it has all atoms.
        """
        mask = self.of_image.support
        if mask is None:
            return self.table
        on = support.is_on_support(mask, self.table, self.pixel_size_nm)
        return with_neighbours(self.table[on], self.group_distance_nm)

    @cached_property
    def species(self) -> Species | None:
        """Components of the intensities of all atoms; None before `with_species`."""
        known = None if self.analysis is None else self.analysis.parameters.get(SPECIES)
        return None if known is None else Species.from_dict(known)

    @cached_property
    def injected(self) -> InjectedAtoms | None:
        """Injected atoms and their recovery; None without an injection-recovery test."""
        known = None if self.analysis is None else self.analysis.parameters.get(INJECTED)
        return None if known is None else InjectedAtoms.from_dict(known)

    @cached_property
    def completeness(self) -> Completeness | None:
        """Completeness at the threshold; None without an injection-recovery test."""
        if self.injected is None or self.threshold is None:
            return None
        return estimate_completeness(self.injected, self.threshold)

    @property
    def everything(self) -> pd.DataFrame:
        """Atom table, followed by the candidates that are not in it."""
        if self.analysis is None:
            return self.table
        others = self.analysis.candidates
        return concat_atom_tables(
            [self.table, others[~others["atom_id"].isin(self.table["atom_id"])]]
        )

    @property
    def _unmarked(self) -> pd.DataFrame:
        if self.analysis is None:
            return empty_table()
        candidates = self.analysis.candidates
        keep = candidates["confidence"].to_numpy(float) >= self.analysis.threshold
        return candidates[keep & ~candidates["atom_id"].isin(list(self.marks)).to_numpy()]

    @property
    def _marked(self) -> pd.DataFrame:
        present = {i: mark for i, mark in self.marks.items() if mark.present}
        rows = pd.DataFrame([vars(mark) for mark in present.values()])
        if not present:
            return rows
        rows = rows.drop(columns="present").assign(
            image=self.image,
            atom_id=list(present),
            y_nm=rows["y_px"] * self.pixel_size_nm,
            x_nm=rows["x_px"] * self.pixel_size_nm,
            origin=PERSON,
        )
        return conform(rows)

    @cached_property
    def bright_clusters(self) -> np.ndarray | None:
        """Mask of bright clusters and their rims, of the shape of the support; None without any."""
        return None if self.analysis is None else self.analysis.bright_clusters

    @cached_property
    def support(self) -> np.ndarray | None:
        """Support with the drawn corrections, (Y, X) or (T, Y, X) bool; None before detection.

        Bright clusters are no support: detections on them are no single atoms.
        """
        if self.analysis is None:
            return None
        masks = self.analysis.support
        if self.bright_clusters is not None:
            masks = masks & ~self.bright_clusters
        if masks.ndim == 3:
            return np.stack([support.edit_mask(mask, self.drawn) for mask in masks])
        return support.edit_mask(masks, self.drawn)

    @property
    def drawn(self) -> tuple[tuple[np.ndarray, bool], ...]:
        """Drawn corrections of the support, oldest first: polygon, and whether it adds.

        Without a stored order, as in older projects, those that add come first.
        """
        usual = [True] * len(self.support_added) + [False] * len(self.support_removed)
        order = [] if self.analysis is None else self.analysis.parameters.get(SUPPORT_ORDER, [])
        if Counter(order) != Counter(usual):  # polygons have changed in an older version
            order = usual
        of_kind = {True: iter(self.support_added), False: iter(self.support_removed)}
        return tuple((next(of_kind[adds]), adds) for adds in order)

    @property
    def threshold(self) -> float | None:
        """Minimum probability of the atoms in the table."""
        return None if self.analysis is None else self.analysis.threshold

    @cached_property
    def probabilities(self) -> pd.DataFrame:
        """All candidates and marks: ``atom_id, frame, y_nm, x_nm, confidence``.

        Confidence is the model's for candidates without a mark; marks count as 1, uncertain ones as
        0.5; atoms marked as absent are omitted.
        """
        columns = [*_POSITION, "confidence"]
        known = empty_table() if self.analysis is None else self.analysis.candidates
        known = known.loc[~known["atom_id"].isin(list(self.marks)), columns]
        marked = self._marked
        if len(marked):
            sure = np.where(marked["uncertain"], 0.5, 1.0)
            known = pd.concat([known, marked.assign(confidence=sure)[columns]], ignore_index=True)
        return known.sort_values("atom_id", kind="stable").reset_index(drop=True)

    @property
    def is_decided(self) -> bool:
        """Whether marks confirm or remove every candidate, as those of a consensus do."""
        if self.analysis is None or not len(self.analysis.candidates):
            return False
        return bool(self.analysis.candidates["atom_id"].isin(list(self.marks)).all())

    @property
    def next_id(self) -> int:
        """Smallest id that is larger than those of all atoms of the image."""
        found = 0 if self.analysis is None else self.analysis.candidates["atom_id"].max()
        return int(max(np.nan_to_num(found), max(self.marks, default=0))) + 1

    def with_marks(self, marks: Mapping[int, Mark | None]) -> ImageAtoms:
        """Return a copy with changed marks; None removes a mark."""
        now = {**self.marks, **marks}
        return replace(self, marks={i: mark for i, mark in now.items() if mark is not None})

    def with_threshold(self, threshold: float) -> ImageAtoms:
        """Return a copy with another operating point."""
        if self.analysis is None:
            return self
        return replace(self, analysis=self.analysis.with_threshold(threshold))

    def with_support(self, drawn: Iterable[tuple[np.ndarray, bool]]) -> ImageAtoms:
        """Return a copy with these drawn corrections of the support, oldest first, and no others.

        What is missed was told for another support.
        """
        drawn = tuple(drawn)
        added, removed = (tuple(p for p, adds in drawn if adds is kind) for kind in (True, False))
        copy = replace(self, support_added=added, support_removed=removed).with_injected(None)
        return copy._with_order([adds for _, adds in drawn])

    def _with_order(self, order: list[bool]) -> ImageAtoms:
        """Return a copy with an order of the drawn corrections; the usual one is not stored."""
        usual = order == sorted(order, reverse=True)
        return self._with_parameter(SUPPORT_ORDER, None if usual else order)

    def _with_parameter(self, name: str, value: Any) -> ImageAtoms:
        """Return a copy with a parameter of the analysis, or without it if the value is None."""
        if self.analysis is None:
            return self
        parameters = {k: v for k, v in self.analysis.parameters.items() if k != name}
        if value is not None:
            parameters[name] = value
        return replace(self, analysis=replace(self.analysis, parameters=parameters))

    def with_species(self, species: Species | None) -> ImageAtoms:
        """Return a copy with components of the intensities, or without."""
        copy = self._with_parameter(SPECIES, None if species is None else species.to_dict())
        if copy.analysis is None:
            return copy
        candidates = copy.analysis.candidates.assign(species="")
        if species is not None:
            candidates = label_species(candidates, species)
        return replace(copy, analysis=replace(copy.analysis, candidates=candidates))

    def with_injected(self, added: InjectedAtoms | None) -> ImageAtoms:
        """Return a copy with injected atoms and their recovery, or without."""
        return self._with_parameter(INJECTED, None if added is None else added.to_dict())

    def with_pixel_size(self, pixel_size_nm: float) -> ImageAtoms:
        """Return a copy with another pixel size: what was measured at marks is in units of it."""
        factor = pixel_size_nm / self.pixel_size_nm

        def measured(value: float | None, power: int) -> float | None:
            return None if value is None else value * factor**power

        marks = {
            i: replace(m, intensity=measured(m.intensity, 2), sigma_nm=measured(m.sigma_nm, 1))
            for i, m in self.marks.items()
        }
        return replace(self, pixel_size_nm=pixel_size_nm, marks=marks)

    def with_analysis(
        self,
        analysis: AtomAnalysis,
        next_id: int = 1,  # minimum id of new atoms: smaller ids were used before
    ) -> ImageAtoms:
        """Return a copy with another analysis; known atoms keep their ids.

        Where the search has found the same again, what is missed stays known, and so does a
        threshold that was set by hand, or by an expected precision unless the search has its own.
        """
        new, marks, old = analysis.candidates, self._mark_positions(), self._candidate_positions()
        # The same places of the image, in lengths of the new pixel size.
        lengths, factor = ["y_nm", "x_nm"], analysis.pixel_size_nm / self.pixel_size_nm
        marks[lengths], old[lengths] = marks[lengths] * factor, old[lengths] * factor
        at_mark = _match_ids(new, marks)
        # A moved atom has its old position too: a candidate there is not new.
        rest = at_mark == 0
        at_old = np.zeros_like(at_mark)
        at_old[rest] = _match_ids(new[rest], old[~old["atom_id"].isin(self._unmoved(at_mark))])
        # One candidate per atom: the one at the old position, since the mark has the other.
        keep = rest | ~np.isin(at_mark, at_old)
        new, ids = new[keep], (at_mark + at_old)[keep]
        fresh = np.flatnonzero(ids == 0)
        ids[fresh] = max(next_id, self.next_id) + np.arange(len(fresh))
        candidates = new.assign(atom_id=ids, image=self.image).reset_index(drop=True)
        known = self.analysis
        if known is not None and _is_same(known, candidates):
            kept = {k: v for k, v in known.parameters.items() if k == INJECTED}
            analysis = replace(analysis, parameters={**analysis.parameters, **kept})
            if known.has_manual_threshold:
                analysis = analysis.with_threshold(known.threshold)
            elif analysis.parameters.get("precision") is None:
                precision = known.parameters.get("precision")
                analysis = analysis if precision is None else analysis.with_precision(precision)
        found = self if factor == 1 else self.with_pixel_size(analysis.pixel_size_nm)
        found = replace(found, analysis=replace(analysis, candidates=candidates))
        return found._with_order([adds for _, adds in self.drawn])

    def hidden_at(self, mark: Mark) -> int | None:
        """Return the id of the candidate below the threshold at a mark, which is the same atom.

        None if there is no such candidate.
        """
        if self.analysis is None:
            return None
        candidates = self.analysis.candidates
        hidden = ~candidates["atom_id"].isin(self.table["atom_id"]).to_numpy()
        near = candidates[hidden & (candidates["frame"] == mark.frame).to_numpy()]
        places = near[["y_px", "x_px"]].to_numpy(float) - (mark.y_px, mark.x_px)
        off_nm = np.linalg.norm(places, axis=1) * self.pixel_size_nm
        if not len(near) or off_nm.min() >= SAME_NM:
            return None
        return int(near["atom_id"].iloc[int(np.argmin(off_nm))])

    def _mark_positions(self) -> pd.DataFrame:
        size = self.pixel_size_nm
        rows = [(i, m.frame, m.y_px * size, m.x_px * size) for i, m in self.marks.items()]
        return pd.DataFrame(rows, columns=_POSITION).astype({"atom_id": "int64", "frame": "int64"})

    def _candidate_positions(self) -> pd.DataFrame:
        known = empty_table() if self.analysis is None else self.analysis.candidates
        return known[_POSITION].copy()

    def _unmoved(self, found: np.ndarray) -> list[int]:
        """Return the atoms detected at their marks whose marks are at the old candidates."""
        both = self._mark_positions().merge(self._candidate_positions(), on=["atom_id", "frame"])
        both = both[both["atom_id"].isin(found)]
        off_nm = np.hypot(both["y_nm_x"] - both["y_nm_y"], both["x_nm_x"] - both["x_nm_y"])
        return both.loc[off_nm < SAME_NM, "atom_id"].tolist()


def _is_same(known: AtomAnalysis, candidates: pd.DataFrame) -> bool:
    """Return whether a model has found the same candidates at the same pixel size."""
    names = ["model_id", "frame", "y_px", "x_px", "y_nm", "x_nm", "confidence"]
    return known.candidates[names].equals(candidates[names])


def _match_ids(new: pd.DataFrame, old: pd.DataFrame) -> np.ndarray:
    """Return (N,) ``atom_id`` of the old position of each new one; 0 without."""
    ids = np.zeros(len(new), np.int64)
    for frame in np.unique(new["frame"]):
        mine = np.flatnonzero(new["frame"] == frame)
        theirs = old[old["frame"] == frame]
        pairs = match(
            new[["y_nm", "x_nm"]].to_numpy(float)[mine],
            theirs[["y_nm", "x_nm"]].to_numpy(float),
            SAME_NM,
        )
        ids[mine[pairs.first]] = theirs["atom_id"].to_numpy()[pairs.second]
    return ids


def mark_at(
    frame: np.ndarray, y_px: float, x_px: float, pixel_size_nm: float, index: int = 0
) -> Mark:
    """Make a mark at a position, and measure the image there.

    Parameters
    ----------
    frame : ndarray of shape (Y, X)
        Image.
    y_px, x_px : float
        Position in pixels, kept as it is.
    index : int, default 0
        Index of the frame in a stack.

    Returns
    -------
    Mark
        Without measurements if the fit fails.
    """
    # A window is enough, so that the duration does not depend on the size of the image.
    reach = round(2.0 / pixel_size_nm)
    top, left = max(0, round(y_px) - reach), max(0, round(x_px) - reach)
    part = np.asarray(frame[top : round(y_px) + reach + 1, left : round(x_px) + reach + 1], float)
    mark = Mark(float(y_px), float(x_px), frame=index)
    if part.size == 0:
        return mark
    y, x = np.clip((round(y_px) - top, round(x_px) - left), 0, np.array(part.shape) - 1)
    if not np.isfinite(part[y, x]):
        return mark
    part = repaired_window(part, pixel_size_nm)
    spots = fit_spots(part, np.array([[y_px - top, x_px - left]]), pixel_size_nm)
    return replace(
        mark,
        intensity=finite_or_none(spots.intensity[0]),
        amplitude=finite_or_none(spots.amplitude[0]),
        background=finite_or_none(spots.background[0]),
        sigma_nm=finite_or_none(spots.sigma_nm[0]),
    )


def finite_or_none(value: float) -> float | None:
    """Return a finite number, or None."""
    return float(value) if np.isfinite(value) else None
