"""Draw ``how-to/figures.md``: each figure that the commands and Python write for a publication.

    python docs/scripts/make_figures.py

Two samples of clusters are simulated; the single atoms are those of the example of the package.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
import tifffile
from PIL import Image

from example_session import ATOMS, ISOMERS_PER_CLASS, SETTINGS
from napari_atomicity import analyse, load
from napari_atomicity.pipeline.atom_runs import find_atoms_in_images
from napari_atomicity.reporting.plots.dispersion import DISPERSION_PLOTS
from napari_atomicity.reporting.plots.registry import PLOTS
from napari_atomicity.simulation.example_data import atom_example_path
from napari_atomicity.simulation.fields import simulate_field
from napari_atomicity.simulation.structures import isomer_library
from page_sections import write_section

DOCS = Path(__file__).resolve().parents[1]
PAGE, PICTURES = DOCS / "how-to" / "figures.md", DOCS / "images"
SEED, WIDTH_PX, QUALITY = 8140, 670, 80
MIXTURES = {
    "fresh": {"Pt19": 0.35, "Pt41": 0.45, "Pt70": 0.2},
    "spent": {"Pt19": 0.15, "Pt41": 0.35, "Pt70": 0.5},
}
N_IMAGES = 3
OF_PLOTS = {name: plot.explanation for name, plot in (PLOTS | DISPERSION_PLOTS).items()}
OTHERS = {
    "class_maps": "The cluster with the highest confidence of each label: what the network sees of "
    "it, and the class maps of both channels.",
    "<image> clusters": "An image with its clusters, outlined in the colours of their labels.",
    "<image> atoms": "An image with its atoms, coloured by probability.",
    "<image> density": "Density of the atoms on the support.",
    "images": "Density, distance to the nearest neighbour and isolated atoms of each image.",
    "clusters": "Shares of the classes, differences from the reference, mean number of atoms.",
}


def write_calibrated(path: Path, pixels: np.ndarray, pixel_size_nm: float) -> None:
    """Write an image with its pixel size."""
    path.parent.mkdir(parents=True, exist_ok=True)
    resolution = (1 / pixel_size_nm,) * 2
    tifffile.imwrite(path, pixels, imagej=True, resolution=resolution, metadata={"unit": "nm"})


def write_clusters_of_samples(folder: Path, out: Path) -> None:
    """Simulate two samples, and write the figures of their clusters and of the comparison."""
    library = isomer_library("Pt", ATOMS, ISOMERS_PER_CLASS, SEED)
    for number, (sample, mixture) in enumerate(MIXTURES.items()):
        settings = replace(SETTINGS, mixture=mixture)
        for i in range(N_IMAGES):
            made = simulate_field(library, settings, SEED + 10 * number + i, f"{i}.tif")
            path = folder / sample / f"{i + 1}.tif"
            write_calibrated(path, np.asarray(made.micrograph.data), settings.pixel_size_nm)
    analyses = analyse([folder / sample for sample in MIXTURES], device="cpu", progress=False)
    analyses.plot.save(out / "clusters")
    analyses.compare("fresh", folder=out / "compare")
    (out / "compare" / "figures").rename(out / "comparison")


def write_atoms(folder: Path, out: Path) -> None:
    """Write the figures of the single atoms in both halves of the example."""
    example = load(atom_example_path())
    pixels, size_nm = np.asarray(example.frame(0)[:, :]), example.calibrated()
    halves = np.array_split(pixels, 2, axis=1)
    for name, half in zip(("left.tif", "right.tif"), halves, strict=True):
        write_calibrated(folder / name, np.ascontiguousarray(half), size_nm)
    find_atoms_in_images([folder], out / "run", figures=out / "atoms")


def pictures_of(folder: Path) -> Iterator[tuple[str, Path]]:
    """Yield the name of each figure, and its picture for one column; of images, the first only.

    Plots of single images are omitted if there is one of all images.
    """
    end, seen = "_one_column.png", set()
    for path in sorted(folder.glob(f"*{end}")):
        image, _, kind = path.name.removesuffix(end).rpartition(" ")
        name = f"<image> {kind}" if image else kind
        if name not in seen and not (image and (folder / f"{kind}{end}").exists()):
            seen.add(name)
            yield name, path


def gallery(folder: Path, group: str, explanations: Mapping[str, str]) -> list[str]:
    """Copy the pictures of a folder, and return the lines of the page that show them."""
    lines = []
    for name, path in pictures_of(folder):
        picture = Image.open(path).convert("RGB")
        size = WIDTH_PX, round(WIDTH_PX * picture.height / picture.width)
        file = f"figure-{group}-{name.removeprefix('<image> ')}.webp"
        picture.resize(size, Image.Resampling.LANCZOS).save(PICTURES / file, quality=QUALITY)
        about = explanations.get(name) or explanations[name.removeprefix("<image> ")]
        lines += [f"**`{name}`** {about}", "", f"![{about}](../images/{file})", ""]
    return lines[:-1]


def main() -> None:
    """Analyse, and write pictures and page."""
    writers: dict[str, Callable[[Path, Path], None]] = {
        "clusters": write_clusters_of_samples, "atoms": write_atoms,
    }  # fmt: skip
    with tempfile.TemporaryDirectory() as temporary:
        out = Path(temporary)
        for name, write in writers.items():
            write(out / "images" / name, out)
        for group in ("clusters", "comparison", "atoms"):
            explanations = OF_PLOTS | OTHERS
            write_section(PAGE, group, gallery(out / group, group, explanations))


if __name__ == "__main__":
    main()
