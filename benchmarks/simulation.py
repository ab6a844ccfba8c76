"""Simulated patches per minute, beside the obvious way of forming the same images.

    python benchmarks/simulation.py [--fields 40] [--workers 1 2]

Patches are clusters that are detected in simulated fields, measured and cut out, ready to learn
from. The obvious way adds one probe per atom of metal to the whole field, by a shift in Fourier
space, and blows the relief of the support up by interpolating the image; the support's atoms are
the same convolution in both. Isomers are pieces of a lattice, so ASE is not needed.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import torch
from scipy import fft, ndimage

from measuring import best_of, machine, options, timed, write
from napari_atomicity.simulation.field_settings import FieldSettings
from napari_atomicity.simulation.fields import simulate_field, smooth_noise
from napari_atomicity.simulation.imaging import (
    Microscope,
    Scan,
    probe,
    scan_positions,
    scatter_atoms,
)
from napari_atomicity.simulation.structures import Isomer
from napari_atomicity.training.prepared_sets import from_simulation

CLASSES = ("Pt19", "Pt30", "Pt41", "Pt55", "Pt70")


def lattice_isomers() -> list[Isomer]:
    """Compact pieces of a lattice, four per class."""
    rng = np.random.default_rng(0)
    sites = np.stack(np.meshgrid(*[np.arange(-5, 6)] * 3), -1).reshape(-1, 3) * 0.26
    library = []
    for label in CLASSES:
        for _ in range(4):
            order = np.argsort(np.linalg.norm(sites - rng.uniform(-0.1, 0.1, 3), axis=1))
            positions = sites[order[: int(label[2:])]]
            positions = positions - positions.mean(axis=0)
            library.append(Isomer("Pt", "compact", positions.astype(np.float32)))
    return library


def atom_by_atom(
    shape: tuple[int, int], pixel_nm: float, places_nm: np.ndarray, sigma_nm2: np.ndarray
) -> np.ndarray:
    """One probe per atom, shifted over the whole field in Fourier space; no scan distortion."""
    half = 15
    kernel = np.zeros(shape, np.float32)
    kernel[: 2 * half + 1, : 2 * half + 1] = probe(Microscope(), pixel_nm, half)
    wave = fft.rfft2(np.roll(kernel, (-half, -half), (0, 1)))
    ky = fft.fftfreq(shape[0])[:, None]
    kx = fft.rfftfreq(shape[1])[None]
    image = np.zeros(shape, np.float32)
    for (y, x), sigma in zip(places_nm / pixel_nm, sigma_nm2, strict=True):
        image += sigma * fft.irfft2(wave * np.exp(-2j * np.pi * (ky * y + kx * x)), s=shape)
    return image


def main() -> None:
    given = options(__doc__, fields=40, workers=[1, 2], atoms=800, repeats=3)
    torch.set_num_threads(1)  # the processes share the cores
    about = machine()
    library = lattice_isomers()
    figures: dict[str, Any] = {"workers": []}
    for workers in given.workers:
        wall, cpu, made = timed(
            lambda n=workers: from_simulation(library, CLASSES, given.fields, 1, workers=n)
        )
        figures["workers"].append({
            "workers": workers,
            "fields_per_minute": 60 * given.fields / wall,
            "patches_per_minute": 60 * len(made) / wall,
        })  # fmt: skip
        if workers == 1:  # what a machine with other work to do says too
            figures["patches_per_processor_minute"] = 60 * len(made) / cpu

    def seconds(function: Any) -> float:
        return best_of(function, given.repeats)

    settings = FieldSettings(mixture=dict.fromkeys(CLASSES, 1.0), touching=0.0)
    figures["field_px"] = settings.shape_px[0]
    figures["field_s"] = seconds(lambda: simulate_field(library, settings, 1))
    shape, pixel = settings.shape_px, settings.pixel_size_nm
    rng = np.random.default_rng(0)
    places, sigma = rng.uniform(1, 29, (given.atoms, 2)), np.full(given.atoms, 2.2e-4)
    still = scan_positions(shape, Scan(0.0), rng)
    some = min(40, given.atoms)  # the obvious way takes the same time for each
    few = (shape, pixel, places[:some], sigma[:some])
    both = scatter_atoms(*few, Microscope(), still), atom_by_atom(*few)
    figures["atoms"] = {
        "atoms": given.atoms,
        "ours_s": seconds(lambda: scatter_atoms(shape, pixel, places, sigma, Microscope(), still)),
        "obvious_s": seconds(lambda: atom_by_atom(*few)) * given.atoms / some,
        "correlation": np.corrcoef(both[0].flat, both[1].flat)[0, 1],
    }
    knots = rng.normal(size=(23, 23))
    ours = seconds(lambda: smooth_noise(shape, pixel, 1.5, rng))
    obvious = seconds(lambda: ndimage.zoom(knots, np.array(shape) / knots.shape, order=3))
    figures["relief_ratio"] = obvious / ours

    if torch.cuda.is_available():
        wide = replace(settings, shape_px=(4096, 4096))
        cpu = seconds(lambda: simulate_field(library, wide, 1))
        gpu = seconds(lambda: simulate_field(library, wide, 1, device="cuda"))
        figures["large_field_ratio"] = cpu / gpu
    write("simulation", figures, about)


if __name__ == "__main__":
    main()
