"""Images since the conditions of a session changed."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field

from ..models.analysis import Analysis
from .control_chart import Reading

MAX_IMAGES = 20
"""Number of last images that are kept in memory, with their patches."""


@dataclass(eq=False)
class ChangedImages:
    """Images after the last one that was like the reference of its session."""

    names: list[str] = field(default_factory=list)
    # the last `MAX_IMAGES` of them
    last: deque[Analysis] = field(default_factory=lambda: deque(maxlen=MAX_IMAGES))
    is_new: bool = False  # whether one was added since this was set to False

    def add(self, analysis: Analysis, reading: Reading) -> None:
        """Add the next image; one that is like the reference ends the change."""
        if reading.joined:
            self.names.clear()
            self.last.clear()
            return
        name = analysis.micrograph.name
        if name not in self.names:
            self.names.append(name)
        self.last.append(analysis)
        self.is_new = True
