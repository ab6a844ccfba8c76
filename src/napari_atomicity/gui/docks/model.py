"""The dock Model: a model of one's own."""

from __future__ import annotations

from ..panels.dock_windows import TabbedDock


class Model(TabbedDock):
    """Adapt a model to the images at hand, train a new one, or compare models and methods."""

    parts = ("Adapt", "Train", "Validate")
