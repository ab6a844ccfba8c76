"""From pixels to outlined, measured clusters and their patches."""

from .clusters import Detection, DetectionSettings, detect, measure_at

__all__ = ["Detection", "DetectionSettings", "detect", "measure_at"]
