"""The atoms of an image as they count: what the model found and what people say about it.

A person's word is a *mark*: here is an atom, or here is none. Marks are kept apart from what the
model found, so that another threshold or another model never takes anything from a person.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property

import numpy as np
import pandas as pd

from ..statistics.atom_groups import LINK_NM
from ..statistics.matching import match
from . import support
from .analysis import AtomAnalysis, with_neighbours
from .completeness import Completeness, estimate_completeness
from .injection import InjectedAtoms
from .localisation import fit_spots
from .species import Species, label_species
from .table import PERSON, concat_atom_tables, conform, empty_table

SAME_NM = 0.138
"""Two places closer than that are one atom: half the distance of neighbours in platinum."""
SPECIES = "species"
"""Under this key the parameters of an analysis hold the components of its intensities."""
INJECTED = "added"
"""Under this key they hold what became of atoms that were put into the image."""
_PLACE = ["atom_id", "frame", "y_nm", "x_nm"]


@dataclass(frozen=True)
class Mark:
    """What a person says of a place.

    Parameters
    ----------
    y_px, x_px : float
        Where, in pixels.
    present : bool, default True
        Whether there is an atom.
    uncertain : bool, default False
        Whether the person is not sure.
    frame : int, default 0
        Index of the frame in a stack.
    intensity, amplitude, background, sigma_nm : float, optional
        As the image has it there: see `table`; None where nothing could be measured.
    """

    y_px: float
    x_px: float
    present: bool = True
    uncertain: bool = False
    frame: int = 0
    intensity: float | None = None
    amplitude: float | None = None
    background: float | None = None
    sigma_nm: float | None = None


@dataclass(frozen=True, eq=False)
class ImageAtoms:
    """Atoms of one image: candidates, marks, support.

    Parameters
    ----------
    image : str
        Its name.
    pixel_size_nm : float
        Edge length of a pixel.
    analysis : AtomAnalysis, optional
        What the model found; None before it has looked, and for a blind annotator.
    marks : mapping of int to Mark, optional
        What people say, by ``atom_id``: of a candidate, or of a place of its own.
    support_added, support_removed : tuple of ndarray, optional
        Polygons, (M, 2) in pixels (y, x), that a person drew to correct the support.
    group_distance_nm : float, optional
        Atoms no further apart than this are linked.
    """

    image: str
    pixel_size_nm: float
    analysis: AtomAnalysis | None = None
    marks: Mapping[int, Mark] = field(default_factory=dict)
    support_added: tuple[np.ndarray, ...] = ()
    support_removed: tuple[np.ndarray, ...] = ()
    group_distance_nm: float = LINK_NM

    @cached_property
    def table(self) -> pd.DataFrame:
        """The atom table: candidates above the threshold, with the marks on top."""
        table = concat_atom_tables([self._unmarked, self._marked])
        table = conform(table.sort_values("atom_id", kind="stable"))
        if self.species is not None:
            table = label_species(table, self.species)
        return with_neighbours(table, self.group_distance_nm)

    @cached_property
    def species(self) -> Species | None:
        """Components of the intensities, for atoms of the model and of people; None if nobody has
        asked for them."""
        known = None if self.analysis is None else self.analysis.parameters.get(SPECIES)
        return None if known is None else Species.from_dict(known)

    @cached_property
    def injected(self) -> InjectedAtoms | None:
        """What became of atoms that were put into the image; None if none were."""
        known = None if self.analysis is None else self.analysis.parameters.get(INJECTED)
        return None if known is None else InjectedAtoms.from_dict(known)

    @cached_property
    def completeness(self) -> Completeness | None:
        """What its threshold leaves out; None if no atoms were put into the image."""
        if self.injected is None or self.threshold is None:
            return None
        return estimate_completeness(self.injected, self.threshold)

    @property
    def everything(self) -> pd.DataFrame:
        """The table, and below it the candidates that are not in it."""
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
    def support(self) -> np.ndarray | None:
        """(Y, X) bool, of a stack (T, Y, X): the support with a person's polygons; None if nobody
        has looked for it."""
        if self.analysis is None:
            return None
        masks = self.analysis.support
        drawn = self.support_added, self.support_removed
        if masks.ndim == 3:
            return np.stack([support.edit_mask(mask, *drawn) for mask in masks])
        return support.edit_mask(masks, *drawn)

    @property
    def threshold(self) -> float | None:
        """Least probability of what counts."""
        return None if self.analysis is None else self.analysis.threshold

    @cached_property
    def probabilities(self) -> pd.DataFrame:
        """All places where an atom may be: ``atom_id, frame, y_nm, x_nm, confidence``.

        Of candidates it is the model's; a person's word is 1, without being sure 0.5, or 0.
        """
        columns = [*_PLACE, "confidence"]
        known = empty_table() if self.analysis is None else self.analysis.candidates
        known = known.loc[~known["atom_id"].isin(list(self.marks)), columns]
        marked = self._marked
        if len(marked):
            sure = np.where(marked["uncertain"], 0.5, 1.0)
            known = pd.concat([known, marked.assign(confidence=sure)[columns]], ignore_index=True)
        return known.sort_values("atom_id", kind="stable").reset_index(drop=True)

    @property
    def next_id(self) -> int:
        """An id that no atom of this image has."""
        found = 0 if self.analysis is None else self.analysis.candidates["atom_id"].max()
        return int(max(np.nan_to_num(found), max(self.marks, default=0))) + 1

    def with_marks(self, marks: Mapping[int, Mark | None]) -> ImageAtoms:
        """The same with other words about some atoms; None: nothing is said of it any more."""
        now = {**self.marks, **marks}
        return replace(self, marks={i: mark for i, mark in now.items() if mark is not None})

    def with_threshold(self, threshold: float) -> ImageAtoms:
        """The same with another operating point."""
        if self.analysis is None:
            return self
        return replace(self, analysis=self.analysis.with_threshold(threshold))

    def with_species(self, species: Species | None) -> ImageAtoms:
        """The same with components of the intensities that were found, or without any."""
        analysis = self.analysis
        if analysis is None:
            return self
        parameters = {k: v for k, v in analysis.parameters.items() if k != SPECIES}
        candidates = analysis.candidates.assign(species="")
        if species is not None:
            parameters[SPECIES] = species.to_dict()
            candidates = label_species(candidates, species)
        return replace(
            self, analysis=replace(analysis, candidates=candidates, parameters=parameters)
        )

    def with_injected(self, added: InjectedAtoms | None) -> ImageAtoms:
        """The same with what became of added atoms, or without."""
        if self.analysis is None:
            return self
        parameters = {k: v for k, v in self.analysis.parameters.items() if k != INJECTED}
        if added is not None:
            parameters[INJECTED] = added.to_dict()
        return replace(self, analysis=replace(self.analysis, parameters=parameters))

    def with_analysis(self, analysis: AtomAnalysis, next_id: int = 1) -> ImageAtoms:
        """The same as another analysis sees it; what was there before keeps its number.

        Parameters
        ----------
        analysis : AtomAnalysis
            The new one.
        next_id : int, default 1
            Numbers below that were in use once.
        """
        new, marks, old = analysis.candidates, self._places_of_marks(), self._places()
        at_mark = _same(new, marks)
        # Of an atom that a person has moved there is the old place too: nothing is new there.
        rest = at_mark == 0
        at_old = np.zeros_like(at_mark)
        at_old[rest] = _same(new[rest], old[~old["atom_id"].isin(self._settled(at_mark))])
        # One atom, one candidate: that of the old place, for the mark holds the other anyway.
        keep = rest | ~np.isin(at_mark, at_old)
        new, ids = new[keep], (at_mark + at_old)[keep]
        fresh = np.flatnonzero(ids == 0)
        ids[fresh] = max(next_id, self.next_id) + np.arange(len(fresh))
        candidates = new.assign(atom_id=ids, image=self.image).reset_index(drop=True)
        return replace(
            self,
            pixel_size_nm=analysis.pixel_size_nm,
            analysis=replace(analysis, candidates=candidates),
        )

    def hidden_at(self, mark: Mark) -> int | None:
        """The candidate at the place of a mark that does not count so far; None if there is none.

        It is the same atom.
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

    def _places_of_marks(self) -> pd.DataFrame:
        size = self.pixel_size_nm
        rows = [(i, m.frame, m.y_px * size, m.x_px * size) for i, m in self.marks.items()]
        return pd.DataFrame(rows, columns=_PLACE).astype({"atom_id": "int64", "frame": "int64"})

    def _places(self) -> pd.DataFrame:
        known = empty_table() if self.analysis is None else self.analysis.candidates
        return known[_PLACE]

    def _settled(self, found: np.ndarray) -> list[int]:
        """Of the atoms found at their marks those that lie where their candidate was."""
        both = self._places_of_marks().merge(self._places(), on=["atom_id", "frame"])
        both = both[both["atom_id"].isin(found)]
        off_nm = np.hypot(both["y_nm_x"] - both["y_nm_y"], both["x_nm_x"] - both["x_nm_y"])
        return both.loc[off_nm < SAME_NM, "atom_id"].tolist()


def _same(new: pd.DataFrame, old: pd.DataFrame) -> np.ndarray:
    """(N,) ``atom_id`` of the old place that each of the new ones is; 0 where there is none."""
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
    """A mark where a person points to, measured there; the place stays the person's.

    Parameters
    ----------
    frame : ndarray of shape (Y, X)
    y_px, x_px : float
        Where.
    pixel_size_nm : float
        Edge length of a pixel.
    index : int, default 0
        Which frame of a stack it is.
    """
    # A part of the image is enough, and the fit takes no longer in a large one.
    reach = round(2.0 / pixel_size_nm)
    top, left = max(0, round(y_px) - reach), max(0, round(x_px) - reach)
    part = np.asarray(frame[top : round(y_px) + reach + 1, left : round(x_px) + reach + 1], float)
    mark = Mark(float(y_px), float(x_px), frame=index)
    if part.size == 0 or not np.isfinite(part).all():
        return mark
    spots = fit_spots(part, np.array([[y_px - top, x_px - left]]), pixel_size_nm)
    return replace(
        mark,
        intensity=known(spots.intensity[0]),
        amplitude=known(spots.amplitude[0]),
        background=known(spots.background[0]),
        sigma_nm=known(spots.sigma_nm[0]),
    )


def known(value: float) -> float | None:
    """A number, or None if it is none."""
    return float(value) if np.isfinite(value) else None
