"""Recipes of simulated fields: drawn, read, simulated and written to a folder."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import pandas as pd
from annotated_types import Interval

from .._version import __version__
from ..core.errors import AtomicityError, ReadError, reason_of
from ..core.from_dict import dataclass_from_dict, dataclass_from_json
from ..core.progress import Progress, Stop, check, report
from ..core.tables import cluster_table as tables
from ..io.files import atomic_write, read_document, write_json
from ..io.inputs import make_folder
from .field_settings import FieldSettings, override, random_settings
from .fields import Field, simulate_field
from .metals import MAX_NUMBER, composition
from .structures import library_of

Seed = Annotated[int, Interval(ge=0, lt=2**63)]


@dataclass(frozen=True)
class _File:
    """The content of ``settings.json``; the settings of a field may be given in part."""

    classes: tuple[str, ...]
    fields: dict[str, dict[str, Any]]
    seed: Seed = 0
    isomers_per_class: Annotated[int, Interval(ge=1, le=MAX_NUMBER)] = 20


@dataclass(frozen=True)
class _FieldEntry:
    seed: Seed = 0
    settings: FieldSettings = field(default_factory=FieldSettings)


@dataclass(frozen=True)
class Recipe:
    """All settings of a number of fields; the content of ``settings.json``.

    Raises `AtomicityError` if a class names no cluster that can be built.
    """

    classes: tuple[str, ...]  # classes of the library of isomers
    # seed, isomers_per_class: seed and size of the library of isomers
    seed: int
    isomers_per_class: int
    fields: dict[str, tuple[int, FieldSettings]]  # name → seed and settings

    def __post_init__(self) -> None:
        for label in self.classes:
            composition(label)


def draw_recipe(
    n_fields: int,
    # Such as ``Pt55`` or ``Au24Pd1``: metals and their numbers of atoms
    classes: Sequence[str] = ("Pt19", "Pt30", "Pt41", "Pt55", "Pt70"),
    seed: int = 0,  # seed of isomers, conditions and noise
    isomers_per_class: int = 20,  # size of the library to draw from
    # Fixed settings, by the names of `FieldSettings`; ``microscope`` and ``scan`` may be
    # dictionaries of some of their own settings
    overrides: dict[str, Any] | None = None,
    # Function that draws the settings of a field from classes and a generator
    draw: Callable[[Sequence[str], np.random.Generator], FieldSettings] = random_settings,
) -> Recipe:
    """Draw the conditions of a number of fields.

    Raises `AtomicityError` if a class or a setting is unknown.
    """
    recipe = Recipe(tuple(classes), seed, isomers_per_class, {})
    for index, field_seed in enumerate(np.random.SeedSequence(seed).generate_state(n_fields)):
        drawn = draw(classes, np.random.default_rng(field_seed))
        settings = override(drawn, overrides or {})
        recipe.fields[f"field_{index:04d}.tif"] = (int(field_seed), settings)
    return recipe


def read_recipe(path: Path) -> Recipe:
    """Read a ``settings.json``, as written with simulated fields or by a user.

    Settings that are missing have the values of `FieldSettings`, seeds are 0, and there are 20
    isomers of each class.

    Raises `ReadError` if the file is no recipe, or has an unknown setting.
    """
    try:
        content = dataclass_from_json(_File, read_document(path))
        fields: dict[str, tuple[int, FieldSettings]] = {}
        for name, values in content.fields.items():
            if Path(name).name != name or Path(name).suffix not in (".tif", ".tiff"):
                raise ValueError(f"{name!r} is no name of a TIFF file")
            fields[name] = _read_field(values, content.classes)
        return Recipe(content.classes, content.seed, content.isomers_per_class, fields)
    except (OSError, ValueError, TypeError, AtomicityError) as error:
        raise ReadError(
            f"these are not settings of simulated fields ({reason_of(error)})",
            path,
            "Give the settings.json that was written with them",
        ) from error


def _read_field(values: dict[str, Any], classes: Sequence[str]) -> tuple[int, FieldSettings]:
    """Return the seed and the checked settings of a field."""
    settings = override(FieldSettings(), {k: v for k, v in values.items() if k != "seed"})
    given = {"seed": values.get("seed", 0), "settings": asdict(settings)}
    entry = dataclass_from_dict(_FieldEntry, given)
    composition(entry.settings.element + "1")
    unknown = set(entry.settings.mixture) - set(classes)
    if unknown:
        raise ValueError(f"the mixture has {', '.join(sorted(unknown))}, which is not in classes")
    return entry.seed, entry.settings


def simulate_recipe(
    recipe: Recipe,
    progress: Progress | None = None,
    stop: Stop | None = None,
    device: str = "cpu",
) -> Iterator[Field]:
    """Simulate the fields of a recipe, one after another.

    On the CPU the same recipe gives the same bits.

    Raises `DependencyError` if ASE is not installed. Raises `AtomicityError` if a class names no
    cluster that can be built.
    """
    per_class = recipe.isomers_per_class
    library = library_of(recipe.classes, per_class, recipe.seed, progress=progress)
    for index, (name, (seed, settings)) in enumerate(recipe.fields.items()):
        check(stop)
        yield simulate_field(library, settings, seed, name, device)
        report(progress, index + 1, len(recipe.fields), "Simulating fields")


def write_recipe(
    out_dir: Path,  # created if it does not exist
    recipe: Recipe,
    progress: Progress | None = None,
    stop: Stop | None = None,
    device: str = "cpu",
) -> Path:
    """Simulate a recipe into a folder: its images, ``truth.csv`` and ``settings.json``."""
    out_dir = Path(out_dir)
    make_folder(out_dir)
    truths = []
    for made in simulate_recipe(recipe, progress, stop, device):
        write_field(out_dir / made.micrograph.name, made)
        truths.append(made.truth)
    truth = pd.concat(truths, ignore_index=True) if truths else tables.empty()
    with atomic_write(out_dir / "truth.csv") as temporary:
        truth.to_csv(temporary, index=False)
    settings_json = {
        "version": __version__,
        "classes": list(recipe.classes),
        "seed": recipe.seed,
        "isomers_per_class": recipe.isomers_per_class,
        "fields": {
            name: {"seed": seed, **asdict(settings)}
            for name, (seed, settings) in recipe.fields.items()
        },
    }
    write_json(out_dir / "settings.json", settings_json)
    return out_dir / "truth.csv"


def write_field(path: Path, made: Field) -> None:
    """Write the image of a field as TIFF of 16 bits with its pixel size."""
    pixels = made.micrograph.data.astype(np.uint16)
    write_pixels(path, pixels, made.settings.pixel_size_nm, "zlib")


def write_pixels(
    path: Path,
    pixels: np.ndarray,  # (Y, X): unsigned integers of 8 or 16 bits
    pixel_size_nm: float,
    # Compression of tifffile, whose bytes may depend on the version of a library
    compression: str | None = None,
) -> None:
    """Write an image as TIFF with its pixel size; the same image gives the same bytes."""
    import tifffile

    resolution = 1 / pixel_size_nm
    with atomic_write(path) as temporary:
        tifffile.imwrite(
            temporary,
            pixels,
            imagej=True,
            resolution=(resolution, resolution),
            metadata={"unit": "nm"},
            compression=compression,
        )
