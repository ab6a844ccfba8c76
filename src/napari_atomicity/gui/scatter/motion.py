"""Motion in a plot of many points, with fewer points where drawing is slow."""

from __future__ import annotations

import time
from collections.abc import Callable

import numpy as np
from qtpy.QtCore import QObject, QTimer

FRAME_MS = 40.0
"""Largest duration of a frame during motion; above it, only some points are drawn."""

MOVE_MS = 300
"""Duration of a transition."""

MIN_POINTS = 5000
"""Smallest number of points that are drawn."""

_STEP_MS = 16
_REST_MS = 150


class Transition(QObject):
    """Animated transition from one set of positions to another."""

    def __init__(self, show: Callable[[np.ndarray], object], parent: QObject) -> None:
        super().__init__(parent)
        self._show = show
        self._way: tuple[np.ndarray, np.ndarray] | None = None
        self._timer = QTimer(self)
        self._timer.setInterval(_STEP_MS)
        self._timer.timeout.connect(self._step)

    @property
    def under_way(self) -> bool:
        return self._way is not None

    def start(self, here: np.ndarray, there: np.ndarray, duration_ms: int = MOVE_MS) -> None:
        """Start a transition; a running one stops at its current positions."""
        self._way = here, there
        self._duration_s = max(duration_ms / 1000, 1e-3)
        self._until_s = time.monotonic() + self._duration_s
        self._timer.start()

    def arrive(self) -> None:
        """Jump to the final positions."""
        if self._way is not None:
            _, there = self._way
            self._way = None
            self._timer.stop()
            self._show(there)

    def _step(self) -> None:
        left = max(0.0, self._until_s - time.monotonic()) / self._duration_s
        if self._way is None or left <= 0:
            self._timer.stop()
            self.arrive()
            return
        here, there = self._way
        share = (1 - left) ** 2 * (1 + 2 * left)  # starts and stops gently
        self._show(here + (there - here) * np.float32(share))


class FrameLimiter(QObject):
    """Chooses how many points to draw during motion, from the duration of a full frame."""

    def __init__(self, draw_some: Callable[[np.ndarray | None], object], parent: QObject) -> None:
        super().__init__(parent)
        self._draw_some = draw_some
        self._n = 0
        self._whole_ms = 0.0
        self._hurried = False
        self._rest = QTimer(self)
        self._rest.setSingleShot(True)
        self._rest.setInterval(_REST_MS)
        self._rest.timeout.connect(self.rest)

    @property
    def hurried(self) -> bool:
        """Whether some points are left out."""
        return self._hurried

    def begin(self, n: int) -> None:
        """Start with n new points."""
        self.rest()
        self._n, self._whole_ms = n, 0.0

    @property
    def wants_time(self) -> bool:
        """Whether the duration of the next frame is needed."""
        return self._n > MIN_POINTS and not self._hurried

    def note(self, frame_ms: float) -> None:
        """Record the duration of a frame of all points."""
        self._whole_ms = frame_ms

    def hurry(self) -> None:
        """Draw fewer points during motion if needed."""
        if not self._hurried and self._whole_ms > FRAME_MS:
            n = max(MIN_POINTS, int(self._n * FRAME_MS / self._whole_ms))
            if n < self._n:
                self._hurried = True
                # In their order, so that the stacking of points is kept.
                chosen = np.random.default_rng(0).choice(self._n, n, replace=False)
                self._draw_some(np.sort(chosen))
        if self._hurried:
            self._rest.start()

    def rest(self) -> None:
        """Draw all points again after motion."""
        self._rest.stop()
        if self._hurried:
            self._hurried = False
            self._draw_some(None)
