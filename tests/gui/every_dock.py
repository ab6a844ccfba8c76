"""Every dock of the manifest."""

from __future__ import annotations

from qtpy.QtWidgets import QWidget

from napari_atomicity.gui.panels.dock_windows import dock_class, dock_names

NAMES = {
    "Adapt", "Analyse", "Annotators", "Atoms", "Browse", "Classify", "Detect", "Dispersion",
    "Embedding", "Explain", "Gallery", "Live", "Movie", "Overview", "Plots", "Ratios",
    "Report", "Review", "Table", "Train", "Validate",
}  # fmt: skip
"""Names of all docks; `test_workbench` compares them with the manifest."""


def all_docks() -> tuple[type[QWidget], ...]:
    """Every dock, in the order of the menu."""
    return tuple(dock_class(name) for name in dock_names())
