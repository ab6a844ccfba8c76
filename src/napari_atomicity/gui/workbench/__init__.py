"""The workbench: three workspaces of docks, the switch between them, and the demo's window."""

from .layout import WORKSPACES, Workspace
from .window import Workbench, browse_in, open_demo, open_workbench, show_analysis

__all__ = [
    "WORKSPACES",
    "Workbench",
    "Workspace",
    "browse_in",
    "open_demo",
    "open_workbench",
    "show_analysis",
]
