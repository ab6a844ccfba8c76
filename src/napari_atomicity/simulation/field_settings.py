"""Conditions of a simulated field: its settings, given or drawn at random."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Annotated, Any

import numpy as np
from annotated_types import Interval

from ..core.errors import AtomicityError
from ..core.from_dict import Fraction, NotNegative
from .imaging import Microscope, Scan
from .metals import MAX_SIZE_PX, composition

Size = Annotated[int, Interval(ge=16, le=MAX_SIZE_PX)]
Density = Annotated[float, Interval(ge=0, le=100)]


@dataclass(frozen=True)
class FieldSettings:
    """All settings of a field except its isomers and its seed."""

    shape_px: tuple[Size, Size] = (768, 768)  # height and width in pixels
    pixel_size_nm: Annotated[float, Interval(ge=1e-3, le=10)] = 0.04  # edge length of a pixel
    clusters_per_nm2: Density = 0.02  # mean number of clusters per nm²
    mixture: dict[str, NotNegative] = field(default_factory=dict)  # class → share
    # microscope, scan: imaging conditions
    microscope: Microscope = field(default_factory=Microscope)
    scan: Scan = field(default_factory=Scan)
    carbon_nm: Annotated[float, Interval(ge=0, le=1000)] = 3.0  # thickness of the support
    # relative standard deviation of the thickness over nanometres
    roughness: Annotated[float, Interval(ge=0, le=10)] = 0.1
    order: Fraction = 0.5  # short-range order of the carbon, see `scatter_carbon`
    # relative height of a thickness step across the field (-1: vacuum beyond an edge)
    step: Annotated[float, Interval(ge=-1, le=100)] = 0.0
    # relative standard deviation of the scattering between clusters
    intensity_scatter: Annotated[float, Interval(ge=0, le=10)] = 0.04
    # gain in weight of an atom per atom in line above it
    channelling: Annotated[float, Interval(ge=0, le=10)] = 0.03
    element: str = "Pt"  # metal of single atoms between the clusters
    lone_atoms_per_nm2: Density = 0.0  # density of single atoms
    # density of groups of a few atoms near each other that are no cluster, as where molecules with
    # one metal atom each gather
    loose_groups_per_nm2: Density = 0.0
    touching: Fraction = 0.06  # share of the clusters that are placed against another
    # share of the clusters on which a second one has landed: one object in the image
    aggregates: Fraction = 0.0
    contamination: Fraction = 0.0  # share of the support that patches of hydrocarbons cover
    # thickness of the carbon in the middle of these patches
    contamination_nm: Annotated[float, Interval(ge=0, le=1000)] = 2.0


def random_settings(classes: Sequence[str], rng: np.random.Generator) -> FieldSettings:
    """Draw imaging conditions and a mixture widely, so that a model depends on none of them."""
    pixel = float(np.exp(rng.uniform(np.log(0.024), np.log(0.06))))
    kind = rng.random()
    concentration = 0.7 if kind < 0.6 else 5.0
    shares = rng.dirichlet([concentration] * len(classes))
    if kind > 0.9:  # a size-selected deposit
        shares = np.eye(len(classes))[rng.integers(len(classes))]
    shape = int(np.clip(32 / pixel, 560, 1024))
    microscope = Microscope(
        voltage_kv=float(rng.choice([80, 200, 300], p=[0.1, 0.6, 0.3])),
        convergence_mrad=float(rng.uniform(18, 30)),
        defocus_nm=float(rng.normal(0, 6)),
        astigmatism_nm=float(np.abs(rng.normal(0, 1.5))),
        astigmatism_rad=float(rng.uniform(0, np.pi)),
        cs_um=float(rng.normal(0, 1)),
        source_nm=float(rng.uniform(0.05, 0.2)),
        thermal_nm=float(rng.uniform(0.006, 0.012)),
        dose_e_per_a2=float(np.exp(rng.uniform(np.log(1200), np.log(30000)))),
        gain=float(np.exp(rng.uniform(np.log(1), np.log(50)))),
        black_level=float(rng.uniform(0, 5000)),
        read_noise=float(rng.uniform(0, 3)),
        lag=float(rng.choice([0, rng.uniform(0, 0.35)])),
    )
    scan = Scan(
        row_jitter_px=float(rng.uniform(0, 0.4)),
        drift_px_per_row=(float(rng.normal(0, 0.006)), float(rng.normal(0, 0.012))),
        row_noise=float(rng.choice([0, rng.uniform(0, 0.02)])),
        streaks=float(rng.choice([0, 0.01], p=[0.8, 0.2])),
    )
    return FieldSettings(
        shape_px=(shape, shape),
        pixel_size_nm=pixel,
        clusters_per_nm2=float(rng.uniform(0.012, 0.04)),
        mixture={c: float(s) for c, s in zip(classes, shares, strict=True)},
        microscope=microscope,
        scan=scan,
        carbon_nm=float(rng.uniform(1.5, 6)),
        roughness=float(rng.uniform(0.02, 0.2)),
        order=float(rng.uniform(0.2, 0.9)),
        step=float(rng.choice([0, rng.uniform(0.2, 1), -1], p=[0.85, 0.1, 0.05])),
        intensity_scatter=float(rng.uniform(0.0, 0.07)),
        channelling=float(rng.uniform(0, 0.06)),
        element=next(iter(composition(classes[0]))),
        lone_atoms_per_nm2=float(rng.choice([0, rng.uniform(0, 0.08)], p=[0.6, 0.4])),
    )


def random_atom_settings(classes: Sequence[str], rng: np.random.Generator) -> FieldSettings:
    """Draw settings as `random_settings`, with single atoms and loose groups, no clusters."""
    settings = random_settings(classes, rng)
    return replace(
        settings,
        mixture={},
        lone_atoms_per_nm2=float(np.exp(rng.uniform(np.log(0.1), np.log(3)))),
        loose_groups_per_nm2=float(np.exp(rng.uniform(np.log(0.02), np.log(0.4)))),
    )


def random_outlier_settings(classes: Sequence[str], rng: np.random.Generator) -> FieldSettings:
    """Draw settings as `random_settings`, with a second cluster on about half of the clusters."""
    settings = random_settings(classes, rng)
    return replace(settings, aggregates=float(rng.uniform(0.3, 0.7)))


def demanding_settings(classes: Sequence[str], rng: np.random.Generator) -> FieldSettings:
    """Draw settings as `random_settings`, at times with contamination, afterglow and aggregates."""
    settings = random_settings(classes, rng)
    microscope = replace(
        settings.microscope,
        afterglow=float(rng.choice([0, rng.uniform(0.02, 0.2)])),
        afterglow_px=float(np.exp(rng.uniform(np.log(10), np.log(400)))),
    )
    return replace(
        settings,
        microscope=microscope,
        aggregates=float(rng.uniform(0, 0.15)),
        contamination=float(rng.choice([0, rng.uniform(0.05, 0.4)])),
        contamination_nm=float(rng.uniform(0.5, 3)),
    )


def override(settings: FieldSettings, values: dict[str, Any]) -> FieldSettings:
    """Return settings with some values replaced; values of nested settings may be given in part.

    Raises `AtomicityError` if a setting is unknown.
    """
    changed = {}
    for name, value in values.items():
        try:
            current = getattr(settings, name)
        except AttributeError:
            raise AtomicityError(
                f"there is no setting {name!r} of a simulated field",
                advice=f"Known are {', '.join(FieldSettings.__dataclass_fields__)}",
            ) from None
        if isinstance(current, Microscope | Scan):
            try:
                value = replace(current, **value)
            except TypeError as error:
                raise AtomicityError(f"{name}: {error}") from error
        elif isinstance(current, tuple):
            value = tuple(value)
        changed[name] = value
    return replace(settings, **changed)
