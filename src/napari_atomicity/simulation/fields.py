"""Whole fields with ground truth: clusters on carbon under conditions drawn at random."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from scipy import ndimage
from scipy.spatial import cKDTree
from scipy.spatial.transform import Rotation

from .._version import __version__
from ..core import cluster_table as tables
from ..core.errors import AtomicityError, ReadError
from ..core.micrograph import Micrograph
from ..core.progress import Progress, Stop, check, report
from ..io.files import write_json
from .imaging import (
    Microscope,
    Scan,
    cross_section_nm2,
    record,
    scan_positions,
    scatter_atoms,
    scatter_carbon,
)
from .structures import LYING_KINDS, Isomer, composition, library_of


@dataclass(frozen=True)
class FieldSettings:
    """Everything that decides a field but its isomers and its seed.

    Parameters
    ----------
    shape_px, pixel_size_nm
        Size and sampling.
    clusters_per_nm2
        Mean number of clusters on a nm².
    mixture
        Class → share.
    microscope, scan
        Imaging conditions.
    carbon_nm
        Thickness of the support.
    roughness
        Relative standard deviation of the thickness over nanometres.
    order
        Short-range order of the carbon, see `scatter_carbon`.
    step
        Relative height of a thickness step across the field (-1: vacuum beyond an edge).
    intensity_scatter
        Relative standard deviation of the scattering between clusters.
    channelling
        Gain in weight of an atom per atom in line above it.
    element, lone_atoms_per_nm2
        Single atoms between the clusters.
    loose_groups_per_nm2
        Groups of a few atoms that lie near each other without being a cluster, as where molecules
        with one metal atom each gather.
    touching
        Share of the clusters that are placed against another.
    aggregates
        Share of the clusters on which a second one has landed: one object in the image.
    contamination, contamination_nm
        Share of the support that patches of hydrocarbons cover, and the carbon in their middle.
    """

    shape_px: tuple[int, int] = (768, 768)
    pixel_size_nm: float = 0.04
    clusters_per_nm2: float = 0.02
    mixture: dict[str, float] = field(default_factory=dict)
    microscope: Microscope = field(default_factory=Microscope)
    scan: Scan = field(default_factory=Scan)
    carbon_nm: float = 3.0
    roughness: float = 0.1
    order: float = 0.5
    step: float = 0.0
    intensity_scatter: float = 0.04
    channelling: float = 0.03
    element: str = "Pt"
    lone_atoms_per_nm2: float = 0.0
    loose_groups_per_nm2: float = 0.0
    touching: float = 0.06
    aggregates: float = 0.0
    contamination: float = 0.0
    contamination_nm: float = 2.0


@dataclass(frozen=True, eq=False)
class Field:
    """A simulated micrograph, the truth in the columns of the cluster table, and how it was made.

    The truth's ``n_atoms``, ``isomer`` (index into the library), ``kind`` and ``parts`` (the
    classes that landed there, joined by +) are additional columns.
    """

    micrograph: Micrograph
    truth: pd.DataFrame
    settings: FieldSettings
    seed: int

    def intensity_per_atom(self, label: str) -> float:
        """Integrated intensity of one atom of a class, the mean of its metals, in counts nm²."""
        microscope, pixel = self.settings.microscope, self.settings.pixel_size_nm
        counts_nm2 = microscope.dose_e_per_a2 * 100 * pixel**2 * microscope.gain
        atoms_of = composition(label)
        sigma = sum(cross_section_nm2(e) * n for e, n in atoms_of.items()) / sum(atoms_of.values())
        return counts_nm2 * sigma


def size_of(label: str) -> int:
    """The number of atoms that a class such as ``Pt55`` or ``Au24Pd1`` names.

    Raises
    ------
    AtomicityError
        If it names none.
    """
    return sum(composition(label).values())


def random_settings(classes: Sequence[str], rng: np.random.Generator) -> FieldSettings:
    """Imaging conditions and a mixture drawn widely, so that a model relies on none of them."""
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
    """As `random_settings`, but single atoms and loose groups of them instead of clusters."""
    settings = random_settings(classes, rng)
    return replace(
        settings,
        mixture={},
        lone_atoms_per_nm2=float(np.exp(rng.uniform(np.log(0.1), np.log(3)))),
        loose_groups_per_nm2=float(np.exp(rng.uniform(np.log(0.02), np.log(0.4)))),
    )


def random_outlier_settings(classes: Sequence[str], rng: np.random.Generator) -> FieldSettings:
    """As `random_settings`, but on about half of the clusters a second one has landed."""
    settings = random_settings(classes, rng)
    return replace(settings, aggregates=float(rng.uniform(0.3, 0.7)))


def demanding_settings(classes: Sequence[str], rng: np.random.Generator) -> FieldSettings:
    """As `random_settings`, with contamination, after-glow and aggregates at times."""
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


def simulate_field(
    library: Sequence[Isomer],
    settings: FieldSettings,
    seed: int,
    name: str = "field.tif",
    device: str = "cpu",
) -> Field:
    """One field; the same library, settings and seed give the same pixels.

    Parameters
    ----------
    library
        Isomers of the classes of the mixture.
    settings
        All else that decides the field.
    seed
        Of every random number in it; all are drawn on the CPU.
    name
        Of the micrograph, also in the truth.
    device
        "cpu", or a device of PyTorch that forms the image. There, expected intensities differ by
        rounding, and so here and there a pixel's count by chance.

    Raises
    ------
    AtomicityError
        If the library lacks a class of the mixture.
    """
    rng = np.random.default_rng(seed)
    # what is off by default draws from its own stream, so that all else stays the same
    landing, soiling = rng.spawn(2)
    shape, pixel = settings.shape_px, settings.pixel_size_nm
    extent = np.array(shape) * pixel
    chosen = _choose(library, settings, float(extent.prod()), rng)
    thickness = _thickness(settings, rng)
    if settings.contamination > 0:
        thickness = _soiled(thickness, settings, soiling)
    deposits = [_Deposit((i,), _orient(library[i], rng), _sigma(library[i])) for i in chosen]
    if settings.aggregates > 0:
        deposits = _with_aggregates(deposits, library, settings, landing)
    centres = _place([d.atoms for d in deposits], extent, settings.touching, thickness, pixel, rng)
    deposits = deposits[: len(centres)]

    displacement = scan_positions(shape, settings.scan, rng)
    points, weights = [], []
    for deposit, centre in zip(deposits, centres, strict=True):
        points.append(deposit.atoms[:, :2] + centre)
        scale = np.exp(rng.normal(0, settings.intensity_scatter))
        line = _in_line_above(deposit.atoms)
        gain = 1 + settings.channelling * np.minimum(line, 4)
        weights.append(deposit.sigma_nm2 * scale * gain)
    atoms_apart = _atoms_apart(settings, extent, rng)
    points.append(atoms_apart)
    weights.append(np.full(len(atoms_apart), cross_section_nm2(settings.element)))
    image = scatter_carbon(thickness, pixel, settings.microscope, rng, settings.order, device)
    image += scatter_atoms(
        shape, pixel, np.concatenate(points), np.concatenate(weights),
        settings.microscope, displacement, device=device,
    )  # fmt: skip
    pixels = record(image, pixel, settings.microscope, settings.scan, rng)
    micrograph = Micrograph(pixels, pixel, name=name, metadata={"simulated": True, "seed": seed})
    truth = _truth(library, deposits, centres, settings, name)
    return Field(micrograph, truth, settings, seed)


@dataclass(frozen=True, eq=False)
class _Deposit:
    """What lies in one place: isomers (by index), atoms (n, 3) as (y, x, z), cross-sections."""

    isomers: tuple[int, ...]
    atoms: np.ndarray
    sigma_nm2: np.ndarray


def _sigma(isomer: Isomer) -> np.ndarray:
    """(n,) cross-sections of the atoms in nm²."""
    if isomer.symbols is None:
        return np.full(isomer.n, cross_section_nm2(isomer.element))
    return np.array([cross_section_nm2(e) for e in isomer.symbols.tolist()])


def _with_aggregates(
    deposits: Sequence[_Deposit],
    library: Sequence[Isomer],
    settings: FieldSettings,
    rng: np.random.Generator,
) -> list[_Deposit]:
    """On a share of the deposits lands a second cluster, drawn from the same mixture."""
    hit = rng.random(len(deposits)) < settings.aggregates
    seconds = iter(_draw_isomers(library, settings, int(hit.sum()), rng))
    out = []
    for deposit, lands in zip(deposits, hit, strict=True):
        if lands:
            second = next(seconds)
            atoms = _landed_on(deposit.atoms, _orient(library[second], rng), rng)
            sigma = np.concatenate([deposit.sigma_nm2, _sigma(library[second])])
            deposit = _Deposit((*deposit.isomers, second), atoms, sigma)
        out.append(deposit)
    return out


def _landed_on(
    first: np.ndarray, second: np.ndarray, rng: np.random.Generator, bond_nm: float = 0.26
) -> np.ndarray:
    """Atoms of both (n, 3) about their common centre, the second resting on the first.

    In projection the centres are 0.3 to 0.9 of the sum of the radii apart, nearer where irregular
    outlines would leave a gap.
    """
    angle = rng.uniform(0, 2 * np.pi)
    direction = np.array([np.sin(angle), np.cos(angle)])
    radii = (_projected_diameter_nm(first) + _projected_diameter_nm(second)) / 2
    apart = rng.uniform(0.3, 0.9) * radii
    tree = cKDTree(first[:, :2])
    while tree.query(second[:, :2] + apart * direction)[0].min() > bond_nm:
        apart *= 0.9
    second = second + np.append(apart * direction, 0)
    lateral2 = ((second[:, None, :2] - first[None, :, :2]) ** 2).sum(axis=2)
    clearance = np.sqrt(np.clip(bond_nm**2 - lateral2, 0, None))
    height = first[None, :, 2] - second[:, None, 2]
    # where nothing is below it, the second one rests on the support
    lift = (height + clearance)[clearance > 0].max(initial=first[:, 2].min() - second[:, 2].min())
    both = np.concatenate([first, second + np.array([0, 0, lift])])
    return np.asarray(both - both.mean(axis=0))


def _atoms_apart(
    settings: FieldSettings, extent_nm: np.ndarray, rng: np.random.Generator
) -> np.ndarray:
    """Positions (n, 2) of the atoms that belong to no cluster: lone ones and loose groups."""
    area = extent_nm.prod()
    lone = rng.uniform(0, 1, (rng.poisson(settings.lone_atoms_per_nm2 * area), 2)) * extent_nm
    groups = [lone]
    for _ in range(rng.poisson(settings.loose_groups_per_nm2 * area)):
        centre, size = rng.uniform(0, 1, 2) * extent_nm, rng.uniform(0.2, 0.6)
        groups.append(centre + rng.normal(0, size, (rng.integers(4, 15), 2)))
    return np.concatenate(groups)


def _choose(
    library: Sequence[Isomer], settings: FieldSettings, area_nm2: float, rng: np.random.Generator
) -> np.ndarray:
    if sum(settings.mixture.values()) <= 0:
        return np.empty(0, int)
    n = rng.poisson(settings.clusters_per_nm2 * area_nm2)
    return _draw_isomers(library, settings, n, rng)


def _draw_isomers(
    library: Sequence[Isomer], settings: FieldSettings, n: int, rng: np.random.Generator
) -> np.ndarray:
    """Indices of n isomers: classes by their share, isomers of a class alike."""
    labels = list(settings.mixture)
    shares = np.array([settings.mixture[c] for c in labels], float)
    of_class: dict[str, list[int]] = {c: [] for c in labels}
    for index, isomer in enumerate(library):
        of_class.setdefault(isomer.label, []).append(index)
    missing = [c for c, s in zip(labels, shares, strict=True) if s > 0 and not of_class[c]]
    if missing:
        raise AtomicityError(f"the library holds no isomers of {', '.join(missing)}")
    members = [np.array(of_class[c], int) for c in labels]
    drawn = rng.choice(len(labels), size=n, p=shares / shares.sum())
    return np.array([rng.choice(members[k]) for k in drawn], int)


def _thickness(settings: FieldSettings, rng: np.random.Generator) -> np.ndarray:
    shape, pixel = settings.shape_px, settings.pixel_size_nm
    relief = np.zeros(shape, np.float32)
    for scale_nm in (1.5, 4.0, 10.0):
        relief += _waves(shape, pixel, scale_nm, rng) * (scale_nm / 10) ** 0.5
    relief *= settings.roughness / max(float(relief.std()), 1e-9)
    thickness = settings.carbon_nm * np.clip(1 + relief, 0.05, None)
    if settings.step:
        angle, offset = rng.uniform(0, 2 * np.pi), rng.uniform(-0.3, 0.3)
        y, x = np.mgrid[-0.5 : 0.5 : shape[0] * 1j, -0.5 : 0.5 : shape[1] * 1j]
        wave = 0.03 * np.sin(2 * np.pi * (x * np.sin(angle) - y * np.cos(angle)) * 3)
        beyond = y * np.sin(angle) + x * np.cos(angle) > offset + wave
        thickness = np.where(beyond, thickness * (1 + settings.step), thickness)
    return np.asarray(thickness, np.float32)


def _waves(
    shape: tuple[int, int], pixel_nm: float, scale_nm: float, rng: np.random.Generator
) -> np.ndarray:
    """Random smooth field (Y, X) float32, of unit variance at its knots, ``scale_nm`` apart."""
    coarse = [max(2, int(n * pixel_nm / scale_nm) + 3) for n in shape]
    knots = rng.normal(size=coarse).astype(np.float32)
    # a spline through knots is linear in them: one matrix per axis, faster than zooming the image
    along = [
        ndimage.zoom(np.eye(m), (n / m, 1), order=3) for n, m in zip(shape, coarse, strict=True)
    ]
    return np.asarray(along[0] @ knots @ along[1].T, np.float32)


def _soiled(thickness: np.ndarray, settings: FieldSettings, rng: np.random.Generator) -> np.ndarray:
    """Smooth patches of additional carbon, where there is a support to hold it."""
    waves = _waves(settings.shape_px, settings.pixel_size_nm, 4.0, rng)
    above = waves - np.quantile(waves[thickness > 0], 1 - settings.contamination)
    height = np.clip(above / max(float(above.max()), 1e-9), 0, None)
    # rises steeply at the rim and is level in the middle
    patches = settings.contamination_nm * (1 - (1 - height) ** 2)
    return np.where((thickness > 0) & (above > 0), thickness + patches, thickness)


def _orient(isomer: Isomer, rng: np.random.Generator) -> np.ndarray:
    """Positions (n, 3) as (y, x, z): lying isomers mostly lie, the others are free."""
    if isomer.kind in LYING_KINDS and rng.random() < 0.6:
        spin = Rotation.from_euler("z", rng.uniform(0, 2 * np.pi))
        tilt = Rotation.from_rotvec([*rng.normal(0, np.radians(8), 2), 0])
        return np.asarray((tilt * spin).apply(isomer.positions_nm))
    return np.asarray(Rotation.random(random_state=rng).apply(isomer.positions_nm))


def _place(
    placed: Sequence[np.ndarray],
    extent_nm: np.ndarray,
    touching: float,
    thickness: np.ndarray,
    pixel_nm: float,
    rng: np.random.Generator,
) -> np.ndarray:
    """Centres (m, 2), m ≤ n: apart from each other, but for the share that touches."""
    centres: list[np.ndarray] = []
    radii = [float(np.linalg.norm(p[:, :2], axis=1).max()) for p in placed]
    trees = [cKDTree(p[:, :2]) for p in placed]
    for i, radius in enumerate(radii):
        for _ in range(60):
            if centres and rng.random() < touching:
                j = rng.integers(len(centres))
                centre = _against(placed[i], trees[j], centres[j], radius + radii[j], rng)
            else:
                centre = rng.uniform(0, 1, 2) * extent_nm
            y, x = np.floor(centre / pixel_nm).astype(int)
            inside = 0 <= y < thickness.shape[0] and 0 <= x < thickness.shape[1]
            if not inside or thickness[y, x] <= 0:
                continue
            near = [
                k for k, other in enumerate(centres)
                if np.linalg.norm(centre - other) < radius + radii[k] + 0.25
            ]  # fmt: skip
            gap = min(
                (
                    float(trees[k].query(placed[i][:, :2] + centre - centres[k])[0].min())
                    for k in near
                ),
                default=np.inf,
            )
            if gap >= 0.24:
                centres.append(centre)
                break
        else:  # the field is full
            return np.array(centres).reshape(-1, 2)
    return np.array(centres).reshape(-1, 2)


def _against(
    atoms: np.ndarray,
    other: cKDTree,
    other_centre: np.ndarray,
    far: float,
    rng: np.random.Generator,
) -> np.ndarray:
    """A centre from which the cluster just touches another one, in a random direction."""
    angle = rng.uniform(0, 2 * np.pi)
    direction = np.array([np.sin(angle), np.cos(angle)])
    gap = rng.uniform(0.26, 0.4)
    low, high = 0.0, far + 0.6
    for _ in range(12):
        middle = (low + high) / 2
        nearest = other.query(atoms[:, :2] + middle * direction)[0].min()
        low, high = (low, middle) if nearest > gap else (middle, high)
    return np.asarray(other_centre + high * direction)


def _in_line_above(atoms: np.ndarray) -> np.ndarray:
    """For every atom, how many others lie in line above it: they focus the beam onto it."""
    lateral = np.linalg.norm(atoms[:, None, :2] - atoms[None, :, :2], axis=2)
    above = atoms[None, :, 2] > atoms[:, None, 2] + 0.1
    return np.asarray(((lateral < 0.05) & above).sum(axis=1))


def _truth(
    library: Sequence[Isomer],
    deposits: Sequence[_Deposit],
    centres: np.ndarray,
    settings: FieldSettings,
    name: str,
) -> pd.DataFrame:
    pixel = settings.pixel_size_nm
    drift = np.array(settings.scan.drift_px_per_row)
    n = len(centres)
    # atoms appear where the drifting beam meets them
    at = centres / pixel
    at = at - drift * at[:, :1] if n else at.reshape(0, 2)
    placed = [d.atoms for d in deposits]
    diameters = np.array([_projected_diameter_nm(p) for p in placed])
    extent = np.array(settings.shape_px) * pixel
    border, touching = np.zeros(n, bool), np.zeros(n, bool)
    points = [p[:, :2] + c for p, c in zip(placed, centres, strict=True)]
    for i in range(n):
        border[i] = bool((points[i] < 0.1).any() or (points[i] > extent - 0.1).any())
    for i, j in cKDTree(centres).query_pairs(4) if n else ():
        if not (touching[i] and touching[j]):
            touches = cKDTree(points[j]).query(points[i])[0].min() < 0.45
            touching[[i, j]] |= touches
    parts = [[library[i] for i in d.isomers] for d in deposits]
    classes = [[i.label for i in of_one] for of_one in parts]
    labels = [c[0] if len(c) == 1 else tables.AGGREGATE for c in classes]
    return tables.conform(
        pd.DataFrame(
            {
                "image": [name] * n,
                "frame": np.zeros(n, int),
                "cluster_id": np.arange(1, n + 1),
                "y_px": at[:, 0],
                "x_px": at[:, 1],
                "y_nm": at[:, 0] * pixel,
                "x_nm": at[:, 1] * pixel,
                "diameter_nm": diameters,
                "touches_border": border,
                "touches_neighbour": touching,
                "label": labels,
                "label_corrected": labels,
                "n_atoms": [len(p) for p in placed],
                "isomer": [d.isomers[0] for d in deposits],
                "kind": [of_one[0].kind for of_one in parts],
                "parts": ["+".join(c) for c in classes],
            }
        )
    )


def _projected_diameter_nm(atoms: np.ndarray, atom_radius_nm: float = 0.138) -> float:
    """Equivalent diameter of the area that the atoms cover in projection."""
    step = 0.03
    points = atoms[:, :2]
    low = points.min(axis=0) - atom_radius_nm
    axes = [
        np.arange(a, b + atom_radius_nm, step) for a, b in zip(low, points.max(axis=0), strict=True)
    ]
    grid = np.stack(np.meshgrid(*axes, indexing="ij"), axis=-1).reshape(-1, 2)
    covered = cKDTree(points).query(grid, distance_upper_bound=atom_radius_nm)[0]
    return float(2 * np.sqrt(np.isfinite(covered).sum() * step**2 / np.pi))


# ---- writing fields


@dataclass(frozen=True)
class Recipe:
    """All that decides a number of fields; what ``settings.json`` holds.

    Parameters
    ----------
    classes, seed, isomers_per_class
        Of the library of isomers.
    fields
        Name → seed and settings.

    Raises
    ------
    AtomicityError
        If a class names no cluster that can be built.
    """

    classes: tuple[str, ...]
    seed: int
    isomers_per_class: int
    fields: dict[str, tuple[int, FieldSettings]]

    def __post_init__(self) -> None:
        for label in self.classes:
            composition(label)


def draw_recipe(
    n_fields: int,
    classes: Sequence[str] = ("Pt19", "Pt30", "Pt41", "Pt55", "Pt70"),
    seed: int = 0,
    isomers_per_class: int = 20,
    overrides: dict[str, Any] | None = None,
    draw: Callable[[Sequence[str], np.random.Generator], FieldSettings] = random_settings,
) -> Recipe:
    """Conditions for a number of fields.

    Parameters
    ----------
    n_fields
        How many.
    classes
        Such as ``Pt55`` or ``Au24Pd1``: metals and their numbers of atoms.
    seed
        Of isomers, conditions and noise.
    isomers_per_class
        Size of the library to draw from.
    overrides
        Settings to hold fixed, by the names of `FieldSettings`; ``microscope`` and ``scan`` may
        be dictionaries of some of their own settings.
    draw
        Draws the conditions of a field.

    Raises
    ------
    AtomicityError
        If a class or a setting is not known.
    """
    recipe = Recipe(tuple(classes), seed, isomers_per_class, {})
    for index, field_seed in enumerate(np.random.SeedSequence(seed).generate_state(n_fields)):
        drawn = draw(classes, np.random.default_rng(field_seed))
        settings = override(drawn, overrides or {})
        recipe.fields[f"field_{index:04d}.tif"] = (int(field_seed), settings)
    return recipe


def read_recipe(path: Path) -> Recipe:
    """Read a ``settings.json``, as written with simulated fields or by hand.

    Settings that are not given have the values of `FieldSettings`, seeds are 0, and there are 20
    isomers of each class.

    Raises
    ------
    ReadError
        If the file is no such thing, or knows a setting that we don't.
    """
    try:
        content = json.loads(Path(path).read_text(encoding="utf-8"))
        fields: dict[str, tuple[int, FieldSettings]] = {}
        for name, values in content["fields"].items():
            if Path(name).name != name or Path(name).suffix not in (".tif", ".tiff"):
                raise ValueError(f"{name!r} is no name of a TIFF file")
            fields[name] = (int(values.get("seed", 0)), _from_json(values))
        of_library = (int(content.get("seed", 0)), int(content.get("isomers_per_class", 20)))
        return Recipe(tuple(content["classes"]), *of_library, fields)
    except (OSError, ValueError, KeyError, TypeError, AttributeError, AtomicityError) as error:
        raise ReadError(
            f"these are no settings of simulated fields ({error})",
            path,
            "Give the settings.json that was written beside them",
        ) from error


def _from_json(values: dict[str, Any]) -> FieldSettings:
    """Settings with every value of the kind that it must have; JSON has no tuples."""
    settings = override(FieldSettings(), {k: v for k, v in values.items() if k != "seed"})
    drift_y, drift_x = settings.scan.drift_px_per_row
    scan = replace(settings.scan, drift_px_per_row=(drift_y, drift_x))
    settings = replace(settings, scan=scan)
    for part in (settings, settings.microscope, settings.scan):
        for name, value in vars(part).items():
            usual = getattr(type(part)(), name)
            kind = (int, float) if isinstance(usual, float) else type(usual)
            if not isinstance(value, kind):
                raise TypeError(f"{name} can't be {value!r}")
    return settings


def simulate_recipe(
    recipe: Recipe,
    progress: Progress | None = None,
    stop: Stop | None = None,
    device: str = "cpu",
) -> Iterator[Field]:
    """The fields of a recipe, one after another; on the CPU the same recipe gives the same bits.

    Raises
    ------
    DependencyError
        If ASE is not installed.
    AtomicityError
        If a class names no cluster that can be built.
    """
    per_class = recipe.isomers_per_class
    library = library_of(recipe.classes, per_class, recipe.seed, progress=progress)
    for index, (name, (seed, settings)) in enumerate(recipe.fields.items()):
        check(stop)
        yield simulate_field(library, settings, seed, name, device)
        report(progress, index + 1, len(recipe.fields), "Simulating fields")


def write_recipe(
    out_dir: Path,
    recipe: Recipe,
    progress: Progress | None = None,
    stop: Stop | None = None,
    device: str = "cpu",
) -> Path:
    """Simulate into a folder: the images of a recipe, ``truth.csv`` and ``settings.json``.

    Parameters
    ----------
    out_dir
        Created if need be.
    recipe
        From `draw_recipe` or `read_recipe`.
    progress, stop
        Called between fields.
    device
        See `simulate_field`.

    Returns
    -------
    Path
        The truth table.
    """
    import tifffile

    out_dir = Path(out_dir)
    out_dir.mkdir(parents=True, exist_ok=True)
    truths = []
    for made in simulate_recipe(recipe, progress, stop, device):
        resolution = 1 / made.settings.pixel_size_nm
        tifffile.imwrite(
            out_dir / made.micrograph.name,
            made.micrograph.data.astype(np.uint16),
            imagej=True,
            resolution=(resolution, resolution),
            metadata={"unit": "nm"},
            compression="zlib",
        )
        truths.append(made.truth)
    truth = pd.concat(truths, ignore_index=True) if truths else tables.empty()
    truth.to_csv(out_dir / "truth.csv", index=False)
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


def override(settings: FieldSettings, values: dict[str, Any]) -> FieldSettings:
    """Settings with some of them replaced; nested ones may be given in part.

    Raises
    ------
    AtomicityError
        If a setting is not known.
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
