"""The dock Overview: all clusters of all images."""

from __future__ import annotations

from ..panels.dock_windows import TabbedDock


class Overview(TabbedDock):
    """All clusters of all images: as pictures, as a table, in plots, and in the map."""

    parts = ("Gallery", "Table", "Plots", "Embedding")
