"""Simulated patches per minute, beside the obvious way of forming the same images.

    python benchmarks/simulation.py [--fields 40] [--workers 2] [--json FILE]

Patches are clusters that are detected in simulated fields, measured and cut out, ready to learn
from. The obvious way adds one probe per atom of metal to the whole field, by a shift in Fourier
space, and blows the relief of the support up by interpolating the image; the support's atoms are
the same convolution in both. Isomers are pieces of a lattice, so ASE is not needed.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from scipy import fft, ndimage

from napari_atomicity.simulation.fields import FieldSettings, _waves, simulate_field
from napari_atomicity.simulation.imaging import (
    Microscope,
    Scan,
    probe,
    scan_positions,
    scatter_atoms,
)
from napari_atomicity.simulation.structures import Isomer
from napari_atomicity.training.data import from_simulation

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


def seconds(function: Callable[[], object], repeats: int = 3) -> float:
    """The fastest of several runs."""
    taken = []
    for _ in range(repeats):
        start = time.perf_counter()
        function()
        taken.append(time.perf_counter() - start)
    return min(taken)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--fields", type=int, default=40)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    torch.set_num_threads(1)  # the processes share the cores
    library = lattice_isomers()

    result: dict[str, float] = {}
    for workers in sorted({1, options.workers}):
        start, worked = time.perf_counter(), time.process_time()
        made = from_simulation(library, CLASSES, options.fields, 1, workers=workers)
        minutes = (time.perf_counter() - start) / 60
        result[f"fields per minute, workers: {workers}"] = options.fields / minutes
        result[f"patches per minute, workers: {workers}"] = len(made) / minutes
        if workers == 1:  # what a machine with other work to do says too
            minutes = (time.process_time() - worked) / 60
            result["patches per minute of a processor"] = len(made) / minutes

    settings = FieldSettings(mixture=dict.fromkeys(CLASSES, 1.0), touching=0.0)
    result["a field of 768 px, s"] = seconds(lambda: simulate_field(library, settings, 1))
    shape, pixel, atoms = settings.shape_px, settings.pixel_size_nm, 800
    rng = np.random.default_rng(0)
    places, sigma = rng.uniform(1, 29, (atoms, 2)), np.full(atoms, 2.2e-4)
    still = scan_positions(shape, Scan(0.0), rng)
    some = 40  # the obvious way takes the same time for each
    few = (shape, pixel, places[:some], sigma[:some])
    ours = seconds(lambda: scatter_atoms(shape, pixel, places, sigma, Microscope(), still))
    obvious = seconds(lambda: atom_by_atom(*few)) * atoms / some
    both = scatter_atoms(*few, Microscope(), still), atom_by_atom(*few)
    result[f"{atoms} atoms, ours, s"] = ours
    result[f"{atoms} atoms, the obvious way, s"] = obvious
    result["atoms: obvious / ours"] = obvious / ours
    result["atoms: correlation of the two images"] = np.corrcoef(both[0].flat, both[1].flat)[0, 1]

    knots = rng.normal(size=(23, 23))
    ours = seconds(lambda: _waves(shape, pixel, 1.5, rng))
    obvious = seconds(lambda: ndimage.zoom(knots, np.array(shape) / knots.shape, order=3))
    result["relief: obvious / ours"] = obvious / ours

    if torch.cuda.is_available():
        large = replace(settings, shape_px=(4096, 4096))
        cpu = seconds(lambda: simulate_field(library, large, 1))
        gpu = seconds(lambda: simulate_field(library, large, 1, device="cuda"))
        result["a field of 4096 px: CPU / GPU"] = cpu / gpu
    for name, value in result.items():
        print(f"{name:<50} {value:12.4g}")
    if options.json:
        options.json.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
