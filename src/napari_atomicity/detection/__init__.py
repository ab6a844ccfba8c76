"""From pixels to outlined, measured clusters and their patches."""

from .by_hand import measure_at, merge, split
from .clusters import Detection, DetectionSettings, detect

__all__ = ["Detection", "DetectionSettings", "detect", "measure_at", "merge", "split"]
