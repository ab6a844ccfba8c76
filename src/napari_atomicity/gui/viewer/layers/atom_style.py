"""Style of atoms in the image: from the atom table to arrays for the points layer of napari.

Each function returns arrays with one row per row of the table and imports no layer. The colour
shows one of three quantities; the symbol shows the origin of an atom and whether it is uncertain.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
from matplotlib.colors import to_hex, to_rgb

from ....atoms.finding.localisation import SIGMA_NM
from ....atoms.table import PERSON
from ....core import palette
from ....core.micrograph import Micrograph
from ....statistics.points.atom_groups import KINDS, kind_of


# ---- places of the scene and pixels of an image
def contains(micrograph: Micrograph, frame: int, y: float, x: float) -> bool:
    """Return whether an image has a pixel at a place; a slider may have more frames than it."""
    height, width = micrograph.shape_px
    is_inside = -0.5 <= y < height - 0.5 and -0.5 <= x < width - 0.5
    return is_inside and 0 <= frame < micrograph.n_frames


def pixel_at(layer: Any, world: Any) -> tuple[int, float, float]:
    """Return the frame and (y, x) in pixels of a place of the scene."""
    return pixel_of(np.asarray(layer.world_to_data(world), float))


def pixel_of(place: np.ndarray) -> tuple[int, float, float]:
    """Return the frame and (y, x) of a place (y, x) or (frame, y, x) in pixels."""
    frame = round(float(place[0])) if len(place) == 3 else 0
    return frame, float(place[-2]), float(place[-1])


CONFIDENCE, GROUP, SPECIES = "confidence", "group", "species"
COLOURINGS = (CONFIDENCE, GROUP, SPECIES)
"""Quantities that the colour of a ring can show."""
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
NUMBER = "number"
"""Feature: the number by which texts call an atom."""

# Wider than the full width at half maximum: a ring leaves the atom to be seen in it.
_RING_PER_SIGMA = 1.6 * 2.355
_BORDER_PX = 1.3
# By the model, by a person, uncertain; scaled to look equally large.
_SYMBOLS = ("disc", "square", "diamond")
_SYMBOL_SCALES = (1.0, 0.95, 1.25)
# From low to high confidence, by Okabe and Ito; visible on grey.
_SCALE = ("#d55e00", "#f0e442", "#56b4e9")


def properties(table: pd.DataFrame, pixel_size_nm: float, colour_by: str) -> dict[str, np.ndarray]:
    """Return the properties of the points: a value per atom for each property of the layer.

    Atoms of the model are rings, those of a person tinted squares, uncertain ones diamonds.
    """
    by_person = table["origin"].to_numpy(object) == PERSON
    kind = np.where(table["uncertain"].to_numpy(bool), 2, by_person.astype(int))
    sigma = table["sigma_nm"].to_numpy(float)
    sigma = np.where(np.isfinite(sigma), sigma, SIGMA_NM)
    size = _RING_PER_SIGMA * np.maximum(sigma, SIGMA_NM / 2) / pixel_size_nm
    rgb = _colours(table, colour_by)
    return {
        "size": size * np.array(_SYMBOL_SCALES)[kind],
        "symbol": np.array(_SYMBOLS, object)[kind],
        "border_color": np.column_stack([rgb, np.ones(len(table))]),
        "border_width": np.full(len(table), _BORDER_PX),
        "face_color": np.column_stack([rgb, np.where(by_person, 0.2, 0.0)]),
    }


def _colours(table: pd.DataFrame, colour_by: str) -> np.ndarray:
    """Return the colours (N, 3) of the atoms."""
    if colour_by == CONFIDENCE:
        return _by_confidence(table["confidence"].to_numpy(float))
    names, values = _names(table, colour_by)
    known = palette.colours(names)
    codes, labels = pd.factorize(values)
    found = np.array([to_rgb(known.get(x, palette.UNLABELLED_COLOUR)) for x in labels], float)
    return found.reshape(-1, 3)[codes]


def features(table: pd.DataFrame, blind: bool = False) -> pd.DataFrame:
    """Return the features of the points: columns of the table, and the numbers of the atoms."""
    return table[list(FEATURES)].assign(**{NUMBER: numbers(table, blind)}).reset_index(drop=True)


def numbers(table: pd.DataFrame, blind: bool) -> np.ndarray:
    """Return the numbers by which texts call atoms; blind ones are counted by themselves.

    Their ids follow those of the atoms that are hidden, and would tell how many there are.
    """
    ids = table["atom_id"].to_numpy(int)
    return np.argsort(np.argsort(ids)) + 1 if blind else ids


def legend(table: pd.DataFrame, colour_by: str) -> list[tuple[str, str]]:
    """Return text and colour, ``#rrggbb``, of the entries of the legend."""
    if colour_by == CONFIDENCE:
        manual = (table["origin"] == PERSON).any()
        steps = [
            (f"{100 * p:.0f} %", to_hex(_by_confidence(np.array([p]))[0])) for p in (0.2, 0.6, 1.0)
        ]
        return [*steps, *([("marked by a person", palette.MARKED_COLOUR)] if manual else [])]
    names, values = _names(table, colour_by)
    there = set(values)
    known = palette.colours(names)
    rows = [(name, known[name]) for name in names if name in there]
    other = "not counted" if colour_by == GROUP else "not known"
    return rows + ([(other, palette.UNLABELLED_COLOUR)] if "" in there else [])


def _names(table: pd.DataFrame, colour_by: str) -> tuple[list[str], np.ndarray]:
    """Return all names in order, and the name of each atom."""
    if colour_by == GROUP:
        return list(KINDS), np.asarray(kind_of(table["group_size"].to_numpy()), object)
    values = table["species"].to_numpy(object)
    return sorted(set(values) - {""}), values


def _by_confidence(confidence: np.ndarray) -> np.ndarray:
    """Return colours (N, 3); white for atoms without a probability."""
    scale = np.array([to_rgb(c) for c in _SCALE])
    at = np.linspace(0, 1, len(scale))
    found = np.column_stack([np.interp(np.nan_to_num(confidence), at, c) for c in scale.T])
    return np.where(np.isfinite(confidence)[:, None], found, to_rgb(palette.MARKED_COLOUR))
