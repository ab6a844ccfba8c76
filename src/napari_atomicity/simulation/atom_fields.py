"""Fields of single atoms on a support, with known positions: random, clustered or inhibited.

The image is formed as in `fields`: amorphous carbon atom by atom, a probe for every metal atom,
counting noise, detector lag and row jitter. Compared with clusters on thin carbon, single atoms in
real images are faint: their peaks are 7 to 21 % above the local level, their width at half maximum
is 0.21 nm, and the intensities of equal atoms scatter by 35 %. The thickness of the carbon and the
contrast are therefore settings, and not computed from cross-sections.

Patterns are samples of stationary processes with known K and g, which `ripley_k` and
`pair_correlation` of this module give in closed form [1]_:

- ``random``: independent and uniform (Poisson);
- ``clustered``: Thomas process, offspring around unobserved parents;
- ``inhibited``: Matérn's second hard-core process, no two nearer than a distance.

References
----------
.. [1] J. Illian, A. Penttinen, H. Stoyan and D. Stoyan, "Statistical Analysis and Modelling of
   Spatial Point Patterns", Wiley (2008), sections 6.3 (Thomas) and 6.5 (Matérn).
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, field, replace

import numpy as np
import pandas as pd
from scipy import ndimage
from scipy.integrate import cumulative_trapezoid
from scipy.spatial import KDTree
from scipy.spatial.transform import Rotation

from ..core.errors import AtomicityError
from ..core.micrograph import Micrograph
from ..statistics.points.windows import ObservationWindow
from .fields import smooth_noise
from .imaging import (
    CARBON_PER_NM3,
    Microscope,
    Scan,
    cross_section_nm2,
    probe,
    record,
    scan_positions,
    scatter_atoms,
    scatter_carbon,
)


# ---- samples of point processes on a support: random, clustered and inhibited positions
def random_points(
    window: ObservationWindow,
    per_nm2: float,  # density in nm⁻²
    rng: np.random.Generator,
) -> np.ndarray:  # (N, 2): positions (y, x) in nm
    """Draw a Poisson process on a support."""
    return window.random(rng.poisson(per_nm2 * window.area_nm2), rng)


def clustered_points(
    window: ObservationWindow,
    # per_nm2, parents_per_nm2: density of offspring and of parents in nm⁻²
    per_nm2: float,
    parents_per_nm2: float,
    spread_nm: float,  # standard deviation of offspring along an axis
    rng: np.random.Generator,
) -> np.ndarray:  # (N, 2): positions (y, x) in nm
    """Draw a Thomas process: a Poisson number of offspring, normally distributed about each parent.

    Parents beyond the support have offspring on it as for any other parent.
    """
    parents = poisson_points(window, parents_per_nm2, 5 * spread_nm, rng)
    times = rng.poisson(per_nm2 / parents_per_nm2, len(parents))
    points = np.repeat(parents, times, axis=0)
    points = points + rng.normal(0, spread_nm, points.shape)
    return points[window.contains(points)]


def inhibited_points(
    window: ObservationWindow,
    per_nm2: float,  # density in nm⁻²
    apart_nm: float,  # smallest distance of two points
    rng: np.random.Generator,
) -> np.ndarray:  # (N, 2): positions (y, x) in nm
    """Draw Matérn's second process: of two random points too near, only the older one remains.

    Raises `AtomicityError` if the density exceeds one point per disc of this radius.
    """
    disc = np.pi * apart_nm**2
    if per_nm2 * disc >= 1:
        raise AtomicityError(
            f"{per_nm2:g} atoms on a nm² can't all be {apart_nm:g} nm apart",
            advice=f"With this process there is room for less than {1 / disc:.2g}",
        )
    points = poisson_points(window, -np.log(1 - per_nm2 * disc) / disc, apart_nm, rng)
    age = rng.random(len(points))
    pairs = KDTree(points).query_pairs(apart_nm, output_type="ndarray")
    one, other = pairs.T
    goes = np.where(age[one] < age[other], one, other)
    points = np.delete(points, np.unique(goes), axis=0)
    return points[window.contains(points)]


def poisson_points(
    window: ObservationWindow,
    per_nm2: float,  # density in nm⁻²
    margin_nm: float,
    rng: np.random.Generator,
) -> np.ndarray:  # (N, 2): positions (y, x) in nm
    """Draw Poisson points on the rectangle around a support, with a margin."""
    low_y, high_y, low_x, high_x = window.bounds_nm
    low = np.array([low_y, low_x]) - margin_nm
    side = np.array([high_y, high_x]) + margin_nm - low
    return np.asarray(low + side * rng.random((rng.poisson(per_nm2 * side.prod()), 2)))


PATTERNS = ("random", "clustered", "inhibited")
FWHM = 2.3548
"""Full width at half maximum of a Gaussian, in standard deviations."""
BOND_NM = 0.277


@dataclass(frozen=True)
class AtomFieldSettings:
    """All settings of a field of atoms except its seed."""

    shape_px: tuple[int, int] = (512, 512)  # height and width in pixels
    pixel_size_nm: float = 0.03  # edge length of a pixel
    pattern: str = "random"
    atoms_per_nm2: float = 0.25  # mean number of lone atoms per nm² of support
    # parents_per_nm2, spread_nm: of ``clustered``: density of the parents, and standard deviation
    # of offspring along an axis
    parents_per_nm2: float = 0.06
    spread_nm: float = 0.5
    apart_nm: float = 0.8  # of ``inhibited``: smallest distance of two atoms
    clusters: tuple[int, ...] = ()  # number of atoms of each nanocluster
    # relative standard deviation of the intensity of an atom, alone or in a cluster
    atom_scatter: float = 0.35
    atom_fwhm_nm: float = 0.21  # full width at half maximum of an atom
    contrast: float = 0.15  # peak of a mean atom over the mean level of the support
    # carbon_nm, roughness, order: support, see `field_settings.FieldSettings`
    carbon_nm: float = 20.0
    roughness: float = 0.05
    order: float = 0.7
    step: float = 0.0  # relative height of a thickness step across the field
    vacuum: float = 0.0  # share of the field that a corner without support takes up
    # imaging conditions; the source size follows from ``atom_fwhm_nm``
    microscope: Microscope = field(
        default_factory=lambda: Microscope(dose_e_per_a2=60000.0, gain=50.0, black_level=1000.0)
    )
    # scan conditions
    scan: Scan = field(default_factory=lambda: Scan(row_jitter_px=0.2, row_noise=0.01))


@dataclass(frozen=True, eq=False)
class AtomField:
    """A simulated micrograph of atoms, and the truth."""

    micrograph: Micrograph
    # A row per object: ``y_px, x_px, y_nm, x_nm``, ``n`` (number of atoms), ``which`` ("lone" or
    # "cluster") and ``intensity_atoms``, its scattering in units of a mean atom
    truth: pd.DataFrame
    support: np.ndarray  # (Y, X): true on carbon
    intensity_per_atom: float  # integrated intensity of a mean atom in counts nm²
    settings: AtomFieldSettings
    seed: int

    @property
    def lone_nm(self) -> np.ndarray:
        """Positions (N, 2) of the lone atoms in nm."""
        lone = self.truth[self.truth["which"] == "lone"]
        return lone[["y_nm", "x_nm"]].to_numpy(float)


def ripley_k(settings: AtomFieldSettings, r_nm: np.ndarray) -> np.ndarray:
    """Return K(r) of the process of which the lone atoms are a sample, in nm²."""
    r = np.asarray(r_nm, float)
    if settings.pattern == "inhibited":
        fine = np.linspace(0, max(float(r.max(initial=0)), 1e-9), 4001)
        rate = 2 * np.pi * fine * pair_correlation(settings, fine)
        return np.asarray(np.interp(r, fine, cumulative_trapezoid(rate, fine, initial=0)))
    k = np.pi * r**2
    if settings.pattern == "clustered":
        k += -np.expm1(-(r**2) / (4 * settings.spread_nm**2)) / settings.parents_per_nm2
    return np.asarray(k)


def pair_correlation(settings: AtomFieldSettings, r_nm: np.ndarray) -> np.ndarray:
    """Return g(r) of the process of which the lone atoms are a sample."""
    r = np.asarray(r_nm, float)
    if settings.pattern == "clustered":
        width = 4 * settings.spread_nm**2
        return 1 + np.exp(-(r**2) / width) / (np.pi * width * settings.parents_per_nm2)
    if settings.pattern == "inhibited":
        h, disc = settings.apart_nm, np.pi * settings.apart_nm**2
        parents = -np.log(1 - settings.atoms_per_nm2 * disc) / disc
        x = np.clip(r / (2 * h), 0, 1)
        union = 2 * disc - 2 * h**2 * (np.arccos(x) - x * np.sqrt(1 - x**2))
        pairs = 2 * union * -np.expm1(-parents * disc) - 2 * disc * -np.expm1(-parents * union)
        pairs /= disc * union * np.where(r > 0, union - disc, 1)
        return np.asarray(np.where(r > h, pairs / settings.atoms_per_nm2**2, 0.0))
    return np.ones(len(r))


# ---- fields
def simulate_atoms(
    settings: AtomFieldSettings, seed: int = 0, name: str = "atoms.tif"
) -> AtomField:
    """Simulate a field of atoms; the same settings and seed give the same pixels.

    Raises `AtomicityError` if the pattern is unknown, or impossible at this density.
    """
    rng = np.random.default_rng(seed)
    shape, pixel = settings.shape_px, settings.pixel_size_nm
    thickness = _support(settings, rng)
    window = ObservationWindow(thickness > 0, pixel)
    lone = lone_atoms(settings, window, rng)
    centres, members, owner = _clusters(settings, window, lone, rng)
    if len(centres):
        lone = lone[KDTree(members).query(lone)[0] > BOND_NM] if len(lone) else lone
    atoms = np.concatenate([lone, members])
    bright = _scattered(settings.atom_scatter, len(atoms), rng)

    microscope = _with_width(settings)
    displacement = scan_positions(shape, settings.scan, rng)
    image = scatter_carbon(thickness, pixel, microscope, rng, settings.order)
    weight = _weight_of_atom(settings, microscope, float(image[window.mask].mean()))
    image += scatter_atoms(shape, pixel, atoms, weight * bright, microscope, displacement, 0.8)
    pixels = record(image, pixel, microscope, settings.scan, rng)

    truth = _truth(settings, lone, centres, owner, bright)
    per_electron = microscope.dose_e_per_a2 * 100 * pixel**2 * microscope.gain
    metadata = {"simulated": True, "seed": seed, "settings": asdict(settings)}
    micrograph = Micrograph(pixels, pixel, name=name, metadata=metadata)
    return AtomField(micrograph, truth, window.mask, weight * per_electron, settings, seed)


def contrast_of(
    element: str,
    settings: AtomFieldSettings,  # thickness of the carbon, width of the atom, and microscope
) -> float:
    """Return the contrast of an atom that follows from the cross-sections.

    It is the peak of the atom over the mean level of the carbon, as in
    `AtomFieldSettings.contrast`.
    """
    peak = float(probe(_with_width(settings), 0.01, 80).max()) * cross_section_nm2(element)
    return peak / (settings.carbon_nm * CARBON_PER_NM3 * cross_section_nm2("C"))


def _truth(
    settings: AtomFieldSettings,
    lone: np.ndarray,
    centres: np.ndarray,
    owner: np.ndarray,
    bright: np.ndarray,
) -> pd.DataFrame:
    """Return the truth: a row per lone atom, then one per nanocluster."""
    pixel = settings.pixel_size_nm
    n_lone, n_clusters = len(lone), len(centres)
    place = np.concatenate([lone, centres]) / pixel
    place = place - np.array(settings.scan.drift_px_per_row) * place[:, :1]
    return pd.DataFrame(
        {
            "y_px": place[:, 0],
            "x_px": place[:, 1],
            "y_nm": place[:, 0] * pixel,
            "x_nm": place[:, 1] * pixel,
            "n": np.append(np.ones(n_lone, int), np.bincount(owner, minlength=n_clusters)),
            "which": ["lone"] * n_lone + ["cluster"] * n_clusters,
            "intensity_atoms": np.append(
                bright[:n_lone], np.bincount(owner, bright[n_lone:], minlength=n_clusters)
            ),
        }
    )


def _support(settings: AtomFieldSettings, rng: np.random.Generator) -> np.ndarray:
    """Return the thickness (Y, X) of the carbon in nm; 0 is vacuum."""
    shape, pixel = settings.shape_px, settings.pixel_size_nm
    relief = sum(smooth_noise(shape, pixel, s, rng) * (s / 10) ** 0.5 for s in (1.5, 4.0, 10.0))
    relief = np.asarray(relief) * settings.roughness / max(float(np.std(relief)), 1e-9)
    thickness = settings.carbon_nm * np.clip(1 + relief, 0.05, None)
    angle = rng.uniform(0, 2 * np.pi)
    y, x = np.mgrid[-0.5 : 0.5 : shape[0] * 1j, -0.5 : 0.5 : shape[1] * 1j]
    along, across = y * np.sin(angle) + x * np.cos(angle), y * np.cos(angle) - x * np.sin(angle)
    wavy = along + 0.03 * np.sin(2 * np.pi * 3 * across)
    if settings.step:
        thickness = np.where(
            wavy > rng.uniform(-0.2, 0.2), thickness * (1 + settings.step), thickness
        )
    if settings.vacuum > 0:
        corner = -(np.sign(np.sin(angle)) * y + np.sign(np.cos(angle)) * x) + 0.02 * np.sin(
            20 * across
        )
        thickness = np.where(corner > np.quantile(corner, 1 - settings.vacuum), 0, thickness)
    return np.asarray(thickness, np.float32)


def lone_atoms(
    settings: AtomFieldSettings, window: ObservationWindow, rng: np.random.Generator
) -> np.ndarray:  # (N, 2): positions (y, x) in nm
    """Draw lone atoms of the pattern of the settings.

    Raises `AtomicityError` if the pattern is unknown, or impossible at this density.
    """
    if settings.pattern == "random":
        return random_points(window, settings.atoms_per_nm2, rng)
    if settings.pattern == "clustered":
        return clustered_points(
            window, settings.atoms_per_nm2, settings.parents_per_nm2, settings.spread_nm, rng
        )
    if settings.pattern == "inhibited":
        return inhibited_points(window, settings.atoms_per_nm2, settings.apart_nm, rng)
    raise AtomicityError(
        f"there is no pattern {settings.pattern!r}", advice=f"Use one of {', '.join(PATTERNS)}"
    )


def _clusters(
    settings: AtomFieldSettings,
    window: ObservationWindow,
    lone: np.ndarray,
    rng: np.random.Generator,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Draw nanoclusters: centres (M, 2), atoms (A, 2), and the index of the cluster of each atom.

    Each is a compact piece of fcc metal in random orientation, a nanometre from the edge and from
    others where there is room within 200 attempts.
    """
    centres: list[np.ndarray] = []
    members: list[np.ndarray] = [np.empty((0, 2))]
    for n in settings.clusters:
        atoms = _compact(n, rng)
        reach = float(np.linalg.norm(atoms, axis=1).max()) + 1.0
        for _ in range(200):
            centre = window.random(1, rng)
            apart = np.linalg.norm(np.array(centres).reshape(-1, 2) - centre, axis=1)
            if window.boundary_nm(centre)[0] > reach and apart.min(initial=np.inf) > 2 * reach:
                centres.append(centre[0])
                members.append(atoms + centre)
                break
        else:
            raise AtomicityError(f"there is no room for {len(settings.clusters)} clusters")
    sizes = [len(m) for m in members[1:]]
    owner = np.repeat(np.arange(len(sizes)), sizes)
    return np.array(centres).reshape(-1, 2), np.concatenate(members), owner


def _compact(n: int, rng: np.random.Generator) -> np.ndarray:
    """Return the projection (n, 2) of the n sites of an fcc lattice nearest to a random point."""
    half = int(np.ceil(n ** (1 / 3))) + 2
    cube = np.stack(np.meshgrid(*[np.arange(-half, half + 1)] * 3), axis=-1).reshape(-1, 3)
    sites = cube[cube.sum(axis=1) % 2 == 0] * (BOND_NM / np.sqrt(2))
    apart = np.linalg.norm(sites - rng.uniform(-BOND_NM / 2, BOND_NM / 2, 3), axis=1)
    sites = sites[np.argsort(apart)[:n]]
    turned = Rotation.random(rng=rng).apply(sites - sites.mean(axis=0))
    return np.asarray(turned[:, :2])


def _scattered(relative: float, n: int, rng: np.random.Generator) -> np.ndarray:
    """Draw (n,) log-normal factors of mean 1 and this standard deviation."""
    sigma = np.sqrt(np.log1p(relative**2))
    return np.asarray(np.exp(rng.normal(-(sigma**2) / 2, sigma, n)))


def _with_width(settings: AtomFieldSettings) -> Microscope:
    """Return the microscope with the source size that gives atoms of the width of the settings."""
    step, half = 0.01, 80
    without = replace(settings.microscope, source_nm=1e-3)
    line = probe(without, step, half)
    # The half maximum of the probe itself, found anew as the source widens it.
    low, high = 1e-3, settings.atom_fwhm_nm
    for _ in range(30):
        middle = (low + high) / 2
        blurred = ndimage.gaussian_filter(line, middle / FWHM / step)[half, half:]
        width = 2 * step * float(np.interp(-blurred[0] / 2, -blurred, np.arange(len(blurred))))
        low, high = (middle, high) if width < settings.atom_fwhm_nm else (low, middle)
    return replace(settings.microscope, source_nm=low)


def _weight_of_atom(settings: AtomFieldSettings, microscope: Microscope, level: float) -> float:
    """Return the cross-section in nm² of a mean atom, from the contrast of its peak."""
    peak = float(probe(microscope, 0.01, 80).max())
    return settings.contrast * level / peak
