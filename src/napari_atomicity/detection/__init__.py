"""Detect, outline and measure clusters; cut patches."""

from .clusters import Detection, detect
from .manual import measure_at, merge, split
from .settings import DetectionSettings

__all__ = ["Detection", "DetectionSettings", "detect", "measure_at", "merge", "split"]
