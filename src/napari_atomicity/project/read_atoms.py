"""Read the atoms of an image from the rows of a project's tables."""

from __future__ import annotations

import sqlite3

from ..atoms.analysis import POINT, AtomAnalysis
from ..atoms.marks import ImageAtoms, Mark
from ..atoms.operating_point import OperatingPoint
from ..core.errors import ReadError
from ..core.micrograph import Micrograph, checked_pixel_size
from .atom_arrays import unpack_mask, unpack_polygons, unpack_table
from .atoms import STATE, free_id, last_marks
from .damage import as_number, damage_as_error, read_json


def read_atoms(
    db: sqlite3.Connection, image_id: int, micrograph: Micrograph
) -> tuple[ImageAtoms | None, int, str]:
    """Read the atoms of an image."""
    next_id, marks = free_id(db, image_id), last_marks(db, image_id)
    atoms, damage = None, ""
    try:
        with damage_as_error("what a model found of atoms"):
            atoms = _read_state(db, image_id, micrograph, marks)
    except ReadError as error:
        damage = error.what
    if atoms is None and marks and micrograph.pixel_size_nm is not None:
        atoms = ImageAtoms(micrograph.name, micrograph.pixel_size_nm, marks=marks)
    return atoms, next_id, damage


def _read_state(
    db: sqlite3.Connection, image_id: int, micrograph: Micrograph, marks: dict[int, Mark]
) -> ImageAtoms | None:
    """Read what a model found, None if nothing; damaged values raise any error."""
    row = db.execute(
        f"SELECT {', '.join(STATE)}, model_id, parameters, candidates, support FROM atoms "
        "WHERE image_id = ?",
        (image_id,),
    ).fetchone()
    if row is None:
        return None
    size, threshold, recall, distance, added, removed, _, model_id, *rest = row
    parameters, candidates, support = rest
    size = checked_pixel_size(size, micrograph.name)
    numbers = (distance,) if candidates is None else (distance, threshold, recall)
    if any(as_number(n) is None for n in numbers) or not isinstance(model_id, str):
        raise ValueError("a setting is no number, or the model has no name")
    if distance <= 0:
        raise ValueError("the distance of linked atoms is not positive")
    analysis = None
    if candidates is not None:
        analysis = AtomAnalysis(
            micrograph,
            unpack_table(candidates),
            threshold,
            unpack_mask(support, micrograph.shape),
            size,
            model_id,
            recall,
            distance,
            read_json(parameters, dict),
        )
    atoms = ImageAtoms(
        micrograph.name, size, analysis, marks, unpack_polygons(added), unpack_polygons(removed),
        distance,
    )  # fmt: skip
    if analysis is not None:
        OperatingPoint(**analysis.parameters.get(POINT, {}))
        _ = atoms.species, atoms.injected, analysis.is_flat  # raise if their parameters are damaged
    return atoms
