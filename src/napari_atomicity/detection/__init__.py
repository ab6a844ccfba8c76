"""Detect, outline and measure clusters; cut patches.

Modules are loaded on first use, so that the settings need no SciPy.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..core.lazy_imports import lazy_attributes

if TYPE_CHECKING:
    from .clusters import Detection, detect
    from .manual import measure_at, merge, split
    from .settings import DetectionSettings

__all__ = ["Detection", "DetectionSettings", "detect", "measure_at", "merge", "split"]

__getattr__, __dir__ = lazy_attributes(
    __name__,
    {
        "Detection": "clusters",
        "DetectionSettings": "settings",
        "detect": "clusters",
        "measure_at": "manual",
        "merge": "manual",
        "split": "manual",
    },
)
