"""The workspaces: which docks each opens, and where."""

from __future__ import annotations

from dataclasses import dataclass

from qtpy.QtWidgets import QWidget

from ..panels.dock_windows import dock_class, dock_names


@dataclass(frozen=True)
class Workspace:
    """Docks for one kind of work, by their names in the manifest."""

    name: str
    tooltip: str
    # groups from top to bottom at the right of the canvas; the docks of a group are tabs
    right: tuple[tuple[str, ...], ...]
    below: tuple[str, ...] = ()
    left: tuple[str, ...] = ("Browse",)  # docks tabbed with the layer list of napari
    shares: tuple[int, ...] = (1, 1)  # relative heights of the groups at the right

    @property
    def docks(self) -> tuple[str, ...]:
        """The names of all docks."""
        return (*self.left, *(name for group in self.right for name in group), *self.below)


WORKSPACES = (
    Workspace(
        "Clusters",
        "Find clusters, label and review them, and export class ratios.",
        right=(("Analyse", "Review", "Ratios"), ("Explain",)),
        below=("Overview",),
    ),
    Workspace(
        "Atoms",
        "Find single atoms, mark and compare them, and measure their dispersion.",
        right=(("Atoms", "Annotators"), ("Dispersion",)),
        shares=(3, 2),  # the result of Annotators is below its form
    ),
    Workspace(
        "Movies and live",
        "Follow clusters through the frames of a movie, and watch a folder of new images.",
        right=(("Analyse", "Live", "Ratios"), ("Movie",)),
    ),
    Workspace(
        "Model",
        "Train a model, adapt one to the images at hand, and compare models and methods.",
        right=(("Train", "Adapt", "Validate"),),
    ),
)


def workspace(name: str) -> Workspace:
    """Return the workspace of a name; the first one if there is none of that name."""
    return next((w for w in WORKSPACES if w.name == name), WORKSPACES[0])


def all_docks() -> tuple[type[QWidget], ...]:
    """Return every dock of the manifest, in the order of the menu."""
    return tuple(dock_class(name) for name in dock_names())
