"""How atoms look in the image: from the atom table to arrays that napari's points layer takes.

Nothing here knows a layer; each function gives whole arrays, one row per row of the table. Colour
tells one of three things, at choice; the symbol tells who says so and how surely, always.
"""

from __future__ import annotations

import numpy as np
import pandas as pd
from matplotlib.colors import to_hex, to_rgb

from ...atoms.localisation import SIGMA_NM
from ...atoms.table import PERSON
from ...core import palette
from ...statistics.atom_groups import KINDS, kind_of

CONFIDENCE, GROUP, SPECIES = "confidence", "group", "species"
COLOURINGS = (CONFIDENCE, GROUP, SPECIES)
"""What the colour of a ring can tell."""
FEATURES = (
    "atom_id",
    "confidence",
    "intensity",
    "sigma_nm",
    "nearest_neighbour_nm",
    "group_size",
    "species",
    "origin",
    "uncertain",
)
"""Columns of the table that the points show in napari's own features table."""

# Wider than the full width at half maximum: a ring leaves the atom to be seen in it.
_RING_PER_SIGMA = 1.6 * 2.355
# Of the model's, of a person's, in doubt; as large as each other for the eye.
_SYMBOLS = ("disc", "square", "diamond")
_SYMBOL_SCALES = (1.0, 0.95, 1.25)
# From doubtful to sure, by Okabe and Ito; none of them drowns in the grey of an image.
_SCALE = ("#d55e00", "#f0e442", "#56b4e9")
_SAID = "#ffffff"
"""Of what a person says there is no probability."""


def positions(table: pd.DataFrame, ndim: int) -> np.ndarray:
    """Places in pixels, (N, 2) as (y, x) or (N, 3) as (frame, y, x)."""
    names = ["y_px", "x_px"] if ndim == 2 else ["frame", "y_px", "x_px"]
    # A copy that can be written to: napari moves points in place.
    return table[names].to_numpy(float, copy=True)


def symbols(table: pd.DataFrame) -> np.ndarray:
    """A symbol per atom: a ring of the model's, a square of a person's, a diamond in doubt."""
    return np.array(_SYMBOLS, object)[_kinds(table)]


def sizes_px(table: pd.DataFrame, pixel_size_nm: float) -> np.ndarray:
    """Diameters of the rings in pixels, as the atoms are wide: round the atoms, not over them."""
    sigma = table["sigma_nm"].to_numpy(float)
    sigma = np.where(np.isfinite(sigma), sigma, SIGMA_NM)
    wider = np.array(_SYMBOL_SCALES)[_kinds(table)]
    return np.asarray(_RING_PER_SIGMA * wider * np.maximum(sigma, SIGMA_NM / 2) / pixel_size_nm)


def _kinds(table: pd.DataFrame) -> np.ndarray:
    """Of each atom 0, the model says so; 1, a person; 2, a person who is not sure."""
    by_person = (table["origin"].to_numpy(object) == PERSON).astype(int)
    return np.where(table["uncertain"].to_numpy(bool), 2, by_person)


def colours(table: pd.DataFrame, colour_by: str) -> np.ndarray:
    """(N, 3) what is asked for, as colours."""
    if colour_by == CONFIDENCE:
        return _by_confidence(table["confidence"].to_numpy(float))
    names, values = _names(table, colour_by)
    known = palette.colours(names)
    codes, labels = pd.factorize(values)
    found = np.array([to_rgb(known.get(x, palette.UNLABELLED_COLOUR)) for x in labels], float)
    return found.reshape(-1, 3)[codes]


def border_colours(table: pd.DataFrame, colour_by: str) -> np.ndarray:
    """RGBA, (N, 4)."""
    return np.column_stack([colours(table, colour_by), np.ones(len(table))])


def face_colours(table: pd.DataFrame, colour_by: str) -> np.ndarray:
    """RGBA, (N, 4): see-through, and tinted where a person has spoken."""
    by_person = table["origin"].to_numpy(object) == PERSON
    return np.column_stack([colours(table, colour_by), np.where(by_person, 0.2, 0.0)])


def features(table: pd.DataFrame) -> pd.DataFrame:
    """The part of the table that goes with the points."""
    return table[list(FEATURES)].reset_index(drop=True)


def legend(table: pd.DataFrame, colour_by: str) -> list[tuple[str, str]]:
    """Words and colour, ``#rrggbb``, of what the colours of these atoms say."""
    if colour_by == CONFIDENCE:
        said = (table["origin"] == PERSON).any()
        steps = [(f"{p:.0%}", to_hex(_by_confidence(np.array([p]))[0])) for p in (0.2, 0.6, 1.0)]
        return [*steps, *([("a person says so", _SAID)] if said else [])]
    names, values = _names(table, colour_by)
    there = set(values)
    known = palette.colours(names)
    rows = [(name, known[name]) for name in names if name in there]
    return rows + ([("not known", palette.UNLABELLED_COLOUR)] if "" in there else [])


def _names(table: pd.DataFrame, colour_by: str) -> tuple[list[str], np.ndarray]:
    """All names that there can be, in order, and that of each atom."""
    if colour_by == GROUP:
        return list(KINDS), np.asarray(kind_of(table["group_size"].to_numpy()), object)
    values = table["species"].to_numpy(object)
    return sorted(set(values) - {""}), values


def _by_confidence(confidence: np.ndarray) -> np.ndarray:
    """(N, 3); white where there is no probability, because a person says so."""
    scale = np.array([to_rgb(c) for c in _SCALE])
    at = np.linspace(0, 1, len(scale))
    found = np.column_stack([np.interp(np.nan_to_num(confidence), at, c) for c in scale.T])
    return np.where(np.isfinite(confidence)[:, None], found, to_rgb(_SAID))
