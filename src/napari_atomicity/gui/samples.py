"""Sample data: File ▸ Open Sample ▸ Atomicity."""

from __future__ import annotations

from ..io.images import load
from ..simulation.examples import atom_example_path, example_path
from .viewer.layer_data import LayerData, layer_data


def example() -> list[LayerData]:
    """Open the bundled example, with its scale in nm."""
    return [layer_data(load(example_path()))]


def atom_example() -> list[LayerData]:
    """Open the bundled example of single atoms, with its scale in nm."""
    return [layer_data(load(atom_example_path()))]
