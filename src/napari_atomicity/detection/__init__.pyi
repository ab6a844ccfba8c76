from .clusters import Detection as Detection, detect as detect
from .manual import measure_at as measure_at, merge as merge, split as split
from .settings import DetectionSettings as DetectionSettings
