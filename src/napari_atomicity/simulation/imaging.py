"""Incoherent HAADF image formation: probe, scattering, support, dose, detector and scan."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import Annotated, Any

import numpy as np
from annotated_types import Interval
from scipy import fft, ndimage, signal
from scipy.constants import c, e, h, m_e

from ..core.from_dict import Fraction


# ---- sampling of the probe in windows around atoms, on the CPU or with PyTorch on a device
def atom_windows(
    place_px: np.ndarray,
    shape: tuple[int, int],
    half: int,
    displacement_px: tuple[np.ndarray, np.ndarray],
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Return the windows of pixels around N atoms, of W = 2 × half + 1 pixels along an edge.

    Parameters
    ----------
    place_px : ndarray of shape (N, 2)
        Positions (y, x) in pixels.
    shape : tuple of int
        Of the image.
    half : int
        Half width of a window in pixels.
    displacement_px : tuple of ndarray
        Displacements of the beam, see `imaging.scan_positions`.

    Returns
    -------
    rows, columns : ndarray of shape (N, W)
        Distance of the pixels of each row and column from the atom, in pixels.
    shift : ndarray of shape (N, W)
        Displacement of the beam along x in each row, in pixels.
    inside : ndarray of shape (N, W, W)
        Whether a pixel of the window is in the image.
    index : ndarray of shape (N, W, W)
        Flat index of the pixel in the image.
    """
    dy, dx = displacement_px
    window = np.arange(-half, half + 1)
    # the window is where the drifting beam meets the atom
    nominal = np.clip(np.round(place_px[:, 0]).astype(int), 0, shape[0] - 1)
    centre = np.round(place_px[:, 0] - dy[nominal]).astype(int)
    iy = centre[:, None] + window
    row = np.clip(iy, 0, shape[0] - 1)
    shift_at_centre = dx[np.clip(centre, 0, shape[0] - 1)]
    ix = np.round(place_px[:, 1] - shift_at_centre).astype(int)[:, None] + window
    column = np.clip(ix, 0, shape[1] - 1)
    inside = (iy == row)[:, :, None] & (ix == column)[:, None]
    index = row[:, :, None] * shape[1] + column[:, None]
    return iy + dy[row] - place_px[:, :1], ix - place_px[:, 1:], dx[row], inside, index


def sample_on_cpu(
    table: np.ndarray,  # (P, P): the probe, finely sampled
    # off_y, off_x, stray, each (N, W): coordinates in the table of the rows and columns of a window
    # around each atom, and the shift of all columns of a row
    off_y: np.ndarray,
    off_x: np.ndarray,
    stray: np.ndarray,
    weight: np.ndarray,  # (N,): cross-sections
    # inside, index, each (N, W, W): whether a pixel of the window is in the image, and its flat
    # index there
    inside: np.ndarray,
    index: np.ndarray,
    size: int,  # number of pixels of the image
) -> np.ndarray:
    """Return the sum over atoms of weight times probe, (size,) float32."""
    xx = off_x[:, None, :] + stray[:, :, None]
    yy = np.broadcast_to(off_y[:, :, None], xx.shape)
    value = ndimage.map_coordinates(table, [yy, xx], order=1, mode="constant")
    value *= weight[:, None, None]
    value = np.where(inside, value, 0)
    return np.bincount(index.ravel(), value.ravel(), minlength=size).astype(np.float32)


def sample_on_device(device: str, table: np.ndarray, *arrays: Any) -> np.ndarray:
    """Compute the same as `sample_on_cpu` with PyTorch on a device."""
    import torch

    *coordinates, weight, inside, index, size = arrays
    height, width = table.shape
    flat = torch.from_numpy(table.ravel()).to(device)
    off_y, off_x, stray, weight = (
        torch.from_numpy(np.asarray(a, np.float32)).to(device) for a in (*coordinates, weight)
    )
    yy, xx = off_y[:, :, None], off_x[:, None, :] + stray[:, :, None]
    y0, x0 = yy.floor(), xx.floor()
    ty, tx = yy - y0, xx - x0
    on_table = (y0 >= 0) & (y0 < height - 1) & (x0 >= 0) & (x0 < width - 1)
    corner = y0.long().clamp(0, height - 2) * width + x0.long().clamp(0, width - 2)
    near = flat[corner] * (1 - tx) + flat[corner + 1] * tx
    far = flat[corner + width] * (1 - tx) + flat[corner + width + 1] * tx
    value = (near * (1 - ty) + far * ty) * weight[:, None, None]
    value = value * (on_table & torch.from_numpy(inside).to(device))
    image = torch.zeros(size, dtype=torch.float32, device=device)
    image.index_add_(0, torch.from_numpy(index.ravel()).to(device), value.ravel())
    return np.asarray(image.cpu().numpy())


HAADF_CROSS_SECTION_NM2 = {"C": 1.6e-6, "Pt": 2.2e-4}
"""Scattering into 68-280 mrad at 200 kV, screened Rutherford; other elements by Z^1.7."""

ATOMIC_NUMBERS = {
    "C": 6, "Al": 13, "Ti": 22, "V": 23, "Cr": 24, "Fe": 26, "Co": 27, "Ni": 28, "Cu": 29,
    "Zr": 40, "Nb": 41, "Mo": 42, "Ru": 44, "Rh": 45, "Pd": 46, "Ag": 47, "Hf": 72, "Ta": 73,
    "W": 74, "Re": 75, "Os": 76, "Ir": 77, "Pt": 78, "Au": 79,
}  # fmt: skip
Length = Annotated[float, Interval(ge=-1e4, le=1e4)]
Displacement = Annotated[float, Interval(ge=-100, le=100)]
CARBON_PER_NM3 = 100.0
"""Atoms in amorphous carbon of 2.0 g/cm³."""


@dataclass(frozen=True)
class Microscope:
    """Probe and detector."""

    voltage_kv: Annotated[float, Interval(ge=1, le=3000)] = 200.0  # acceleration voltage
    convergence_mrad: Annotated[float, Interval(ge=0.1, le=200)] = 25.0  # semi-angle of the probe
    # defocus_nm, astigmatism_nm, astigmatism_rad: first-order aberrations; the rest is corrected
    # but for ``cs_um``
    defocus_nm: Length = 0.0
    astigmatism_nm: Length = 0.0
    astigmatism_rad: float = 0.0
    cs_um: Length = 0.0  # residual spherical aberration
    # full width at half maximum of the demagnified source
    source_nm: Annotated[float, Interval(ge=0, le=10)] = 0.07
    # root mean square displacement of an atom along one axis
    thermal_nm: Annotated[float, Interval(ge=0, le=1)] = 0.008
    dose_e_per_a2: Annotated[float, Interval(gt=0, le=1e9)] = 5000.0  # electrons per Å²
    gain: Annotated[float, Interval(gt=0, le=1e6)] = 5.0  # detector counts per scattered electron
    black_level: Annotated[float, Interval(ge=-1e9, le=1e9)] = 500.0  # counts without electrons
    read_noise: Annotated[float, Interval(ge=0, le=1e6)] = 2.0  # standard deviation in counts
    # share of a pixel's signal that the detector gives to the next one in the row
    lag: Fraction = 0.1
    # afterglow, afterglow_px: share of the signal that the scintillator gives off slowly, and the
    # dwell times within which it falls to 1/e. What is left at the end of a row shines into the
    # next
    afterglow: Fraction = 0.0
    afterglow_px: Annotated[float, Interval(gt=0, le=1e6)] = 100.0


@dataclass(frozen=True)
class Scan:
    """Errors of the scan."""

    # standard deviation of the displacement of a row in pixels
    row_jitter_px: Annotated[float, Interval(ge=0, le=100)] = 0.1
    # drift (y, x) from row to row in pixels
    drift_px_per_row: tuple[Displacement, Displacement] = (0.0, 0.0)
    # standard deviation of the offset of a row, relative to the mean level
    row_noise: Annotated[float, Interval(ge=0, le=100)] = 0.0
    streaks: Fraction = 0.0  # share of rows with a bright streak


def cross_section_nm2(element: str) -> float:
    """Return the HAADF cross-section of an atom in nm²."""
    if element in HAADF_CROSS_SECTION_NM2:
        return HAADF_CROSS_SECTION_NM2[element]
    ratio = ATOMIC_NUMBERS[element] / ATOMIC_NUMBERS["Pt"]
    return float(HAADF_CROSS_SECTION_NM2["Pt"] * ratio**1.7)


def wavelength_nm(voltage_kv: float) -> float:
    """Return the relativistic wavelength of the electrons in nm."""
    energy = e * voltage_kv * 1e3
    return float(h / np.sqrt(2 * m_e * energy * (1 + energy / (2 * m_e * c**2))) * 1e9)


def probe(microscope: Microscope, pixel_nm: float, half_px: int) -> np.ndarray:
    """Compute the intensity of the probe, source size and thermal motion included, per nm².

    The wave is the inverse Fourier transform of the aperture with its aberrations as phase [1]_.

    Parameters
    ----------
    half_px : int
        The result has 2 × half_px + 1 pixels along each edge, the probe in the centre.

    Returns
    -------
    ndarray of shape (2 × half_px + 1, 2 × half_px + 1)
        Sums to 1 / pixel_nm², without the tails beyond the edge.

    References
    ----------
    .. [1] E. J. Kirkland, "Advanced Computing in Electron Microscopy", Springer (2010), chapter 3.
    """
    n = fft.next_fast_len(4 * half_px + 2)
    wavelength = wavelength_nm(microscope.voltage_kv)
    k = fft.fftfreq(n, pixel_nm)
    ky, kx = np.meshgrid(k, k, indexing="ij")
    alpha = wavelength * np.hypot(ky, kx)
    azimuth = np.arctan2(ky, kx)
    edge = microscope.convergence_mrad * 1e-3
    aperture = np.clip((edge - alpha) / (wavelength * (k[1] - k[0])) + 0.5, 0, 1)
    focus = microscope.defocus_nm + microscope.astigmatism_nm * np.cos(
        2 * (azimuth - microscope.astigmatism_rad)
    )
    chi = (
        2 * np.pi / wavelength * (0.5 * alpha**2 * focus + 0.25 * alpha**4 * microscope.cs_um * 1e3)
    )
    intensity = np.abs(fft.ifft2(aperture * np.exp(-1j * chi))) ** 2
    sigma2 = (microscope.source_nm / 2.3548) ** 2 + microscope.thermal_nm**2
    blur = np.exp(-2 * np.pi**2 * sigma2 * (ky**2 + kx**2))
    intensity = fft.fftshift(fft.ifft2(fft.fft2(intensity) * blur).real)
    intensity = np.clip(intensity, 0, None) / (intensity.sum() * pixel_nm**2)
    centre = n // 2
    return np.asarray(
        intensity[centre - half_px : centre + half_px + 1, centre - half_px : centre + half_px + 1],
        dtype=np.float32,
    )


def scan_positions(
    shape: tuple[int, int], scan: Scan, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """Draw the displacement of the beam in each row from jitter and drift.

    Parameters
    ----------
    shape : tuple of int
        Height and width in pixels.

    Returns
    -------
    dy, dx : ndarray of shape (Y,)
        Displacements in pixels.
    """
    rows = np.arange(shape[0])
    wander = rng.normal(0, scan.row_jitter_px, (2, shape[0]))
    wander = 0.6 * wander + 0.4 * ndimage.gaussian_filter1d(wander, 3, axis=1) * 2
    return (
        wander[0] + scan.drift_px_per_row[0] * rows,
        wander[1] + scan.drift_px_per_row[1] * rows,
    )


def scatter_atoms(
    shape: tuple[int, int],
    pixel_nm: float,
    positions_nm: np.ndarray,
    cross_sections_nm2: np.ndarray,
    microscope: Microscope,
    displacement_px: tuple[np.ndarray, np.ndarray],
    reach_nm: float = 0.6,
    device: str = "cpu",
) -> np.ndarray:
    """Compute the share of the beam that heavy atoms scatter at every pixel.

    Every atom adds its cross-section times the probe, sampled at the displaced position of the beam
    (not convolved on the pixel grid, which would round positions).

    Parameters
    ----------
    shape : tuple of int
        Height and width in pixels.
    positions_nm : ndarray of shape (N, 2)
        Positions (y, x).
    cross_sections_nm2 : ndarray of shape (N,)
        Cross-section of each atom.
    reach_nm : float, optional
        Half width of the window around each atom.
    device : str, optional
        "cpu", or a device of PyTorch: faster on a GPU, and the same to 1 in 10⁵ of the peak.

    Returns
    -------
    ndarray of shape (Y, X)
        Share of the beam, float32.
    """
    image = np.zeros(shape, np.float32)
    if len(positions_nm) == 0:
        return image
    fine_nm = 0.01
    table = probe(microscope, fine_nm, int(np.ceil((reach_nm * 1.5) / fine_nm)))
    middle = table.shape[0] // 2
    half = int(np.ceil(reach_nm / pixel_nm)) + 1
    sample = sample_on_cpu if device == "cpu" else partial(sample_on_device, device)
    flat = image.ravel()
    for start in range(0, len(positions_nm), 2048):  # bounded memory
        place = positions_nm[start : start + 2048] / pixel_nm
        weight = cross_sections_nm2[start : start + 2048]
        rows, columns, shift, inside, index = atom_windows(place, shape, half, displacement_px)
        off_y, off_x = (d * pixel_nm / fine_nm + middle for d in (rows, columns))
        shift = shift * pixel_nm / fine_nm
        flat += sample(table, off_y, off_x, shift, weight, inside, index, flat.size)
    return image


def scatter_carbon(
    thickness_nm: np.ndarray,
    pixel_nm: float,
    microscope: Microscope,
    rng: np.random.Generator,
    order: float = 0.5,
    device: str = "cpu",
) -> np.ndarray:
    """Compute the share of the beam that amorphous carbon scatters, placed atom by atom.

    Parameters
    ----------
    thickness_nm : ndarray of shape (Y, X)
        Local thickness.
    rng : numpy.random.Generator
        Source of the positions.
    order : float, optional
        0: positions are independent (Poisson); towards 1 atoms avoid each other, so that large
        areas hold more nearly equal numbers of them, as in a real solid.
    device : str, optional
        "cpu", or a device of PyTorch. The positions are drawn on the CPU in any case.

    Returns
    -------
    ndarray of shape (Y, X)
        Share of the beam, float32.
    """
    expected = np.clip(thickness_nm, 0, None) * CARBON_PER_NM3 * pixel_nm**2
    atoms = rng.poisson(expected).astype(np.float32)
    excess = atoms - expected
    # short-range order takes the long waves out of the number fluctuations
    atoms = expected + excess - order * ndimage.gaussian_filter(excess, 0.15 / pixel_nm)
    half = min(int(0.6 / pixel_nm) + 1, (min(thickness_nm.shape) - 1) // 2)
    kernel = probe(microscope, pixel_nm, half)
    size = [fft.next_fast_len(n + 2 * half, real=True) for n in atoms.shape]
    padded = np.pad(
        atoms,
        [(half, f - n - half) for n, f in zip(atoms.shape, size, strict=True)],
        mode="symmetric",
    )
    # the kernel's centre goes to the origin, so that the image stays in place
    placed = np.zeros(size, np.float32)
    placed[: kernel.shape[0], : kernel.shape[1]] = kernel
    placed = np.roll(placed, (-half, -half), (0, 1))
    image = _convolved(padded.astype(np.float32), placed, device)
    image = image[half : half + atoms.shape[0], half : half + atoms.shape[1]]
    return np.clip(image * cross_section_nm2("C"), 0, None).astype(np.float32)


def _convolved(image: np.ndarray, kernel: np.ndarray, device: str) -> np.ndarray:
    """Return the circular convolution of two arrays (Y, X) of one shape."""
    if device == "cpu":
        return np.asarray(fft.irfft2(fft.rfft2(image) * fft.rfft2(kernel), s=image.shape))
    import torch

    one, other = (torch.fft.rfft2(torch.from_numpy(a).to(device)) for a in (image, kernel))
    return np.asarray(torch.fft.irfft2(one * other, s=image.shape).cpu().numpy())


def record(
    scattered: np.ndarray,
    pixel_nm: float,
    microscope: Microscope,
    scan: Scan,
    rng: np.random.Generator,
) -> np.ndarray:
    """Simulate the recorded image: counting noise, lag, gain, black level and row noise.

    Parameters
    ----------
    scattered : ndarray of shape (Y, X)
        Share of the beam that reaches the detector.

    Returns
    -------
    ndarray of shape (Y, X)
        Counts, 16 bit.
    """
    per_pixel = microscope.dose_e_per_a2 * (pixel_nm * 10) ** 2
    counts = rng.poisson(np.clip(scattered, 0, 1) * per_pixel).astype(np.float32)
    if microscope.lag > 0:
        for _ in range(2):  # an exponential tail to second order
            counts[:, 1:] += microscope.lag * (counts[:, :-1] - counts[:, 1:])
    if microscope.afterglow > 0:
        counts = _with_afterglow(counts, microscope.afterglow, microscope.afterglow_px)
    image = counts * microscope.gain
    level = float(image.mean())
    rows = rng.normal(0, scan.row_noise, (scattered.shape[0], 1)).astype(np.float32)
    image += level * rows
    if scan.streaks > 0:
        hit = rng.random(scattered.shape[0]) < scan.streaks
        fade = np.exp(-np.arange(scattered.shape[1]) / (0.2 * scattered.shape[1]))
        image[hit] += level * rng.uniform(0.05, 0.4, (np.count_nonzero(hit), 1)) * fade
    image += microscope.black_level
    image += rng.normal(0, microscope.read_noise, image.shape)
    return np.clip(np.round(image), 0, 65535).astype(np.uint16)


def _with_afterglow(counts: np.ndarray, share: float, length_px: float) -> np.ndarray:
    """Let a share of the signal decay exponentially with time, that is, along row after row."""
    keeps = np.exp(-1 / length_px)
    before = float(counts[0].mean())  # the beam has been somewhere like here
    slow, _ = signal.lfilter([1 - keeps], [1, -keeps], counts.ravel(), zi=[keeps * before])
    return np.asarray((1 - share) * counts + share * slow.reshape(counts.shape), np.float32)
