"""Sample data: File ▸ Open Sample ▸ Atomicity."""

from __future__ import annotations

import tempfile
from pathlib import Path

from ..io.images import find_images, load
from ..simulation.example_data import atom_example_path, example_path, write_example_folder
from .reader import open_bench
from .viewer.layers.micrographs import LayerData, layer_data


def example() -> list[LayerData]:
    """Open the bundled example, with its scale in nm."""
    return [layer_data(load(example_path()))]


def atom_example() -> list[LayerData]:
    """Open the bundled example of single atoms, with its scale in nm."""
    return [layer_data(load(atom_example_path()))]


def project_example() -> list[LayerData]:
    """Open a folder of four images in Browse; the folder is a temporary one.

    napari asks for a layer: the first image is shown until Browse shows it.
    """
    folder = write_example_folder(Path(tempfile.mkdtemp(prefix="atomicity-")) / "example")
    data, options, kind = layer_data(load(find_images([folder])[0]))
    open_bench(str(folder), instead_of=options["metadata"])
    return [(data, options, kind)]
