"""A watchdog of the event loop: which turns blocked the window, for how long, and where.

The application times every event that it delivers. While an event takes long, the stack is sampled
in the window's thread itself: frames that another thread holds would be freed there, with all their
widgets. For tests and benchmarks.
"""

from __future__ import annotations

import _thread
import signal
import threading
import time
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path
from types import FrameType

from qtpy.compat import isalive
from qtpy.QtCore import QEvent, QObject
from qtpy.QtWidgets import QApplication

import napari_atomicity

LIMIT_MS = 50.0
"""Longer delays are noticeable."""

_LOOK_EVERY_S = 0.01
# Only simulated (`_thread.interrupt_main`): no system call is interrupted.
_SIGNAL = signal.Signals["SIGUSR2" if hasattr(signal, "SIGUSR2") else "SIGBREAK"]
_PACKAGE = str(Path(napari_atomicity.__file__).parent)
_PAINTING = {
    QEvent.Type.Paint,
    QEvent.Type.UpdateRequest,
    QEvent.Type.Expose,
    QEvent.Type.UpdateLater,
}


@dataclass(frozen=True)
class Block:
    """A turn of the event loop that took long."""

    # wall_ms, cpu_ms: by the clock, and of the window's thread: on a busy machine the clock says
    # more
    wall_ms: float
    cpu_ms: float
    event: str  # kind of the event and class of its receiver
    # whether it was drawing, which a processor does in place of a graphics card on a virtual
    # display
    painting: bool
    ours: str  # where in this package the time went, innermost; "" if it was in no code of it
    inside: str  # where it went at all, innermost

    def __str__(self) -> str:
        whose = self.ours or ("drawing" if self.painting else "not ours")
        return (
            f"{self.wall_ms:7.1f} ms ({self.cpu_ms:.1f} CPU)  {self.event:<40} {whose}"
            f"  [{self.inside}]"
        )


class Watched(QApplication):
    """An application that knows which of its turns took long."""

    def __init__(self, arguments: list[str] | None = None) -> None:
        super().__init__(arguments or [])
        self.blocks: list[Block] = []
        self.handled: list[tuple[float, float]] = []
        """Wall and CPU milliseconds of all turns but the painting ones."""
        self.painted: list[float] = []
        self._depth = 0
        self._began = 0.0
        self._noted = 0.0
        self._seen: dict[tuple[str, str], float] = defaultdict(float)
        signal.signal(_SIGNAL, self._note_place)
        self._looking = threading.Thread(target=self._look, name="watchdog", daemon=True)
        self._looking.start()

    def clear(self) -> None:
        """Forget what was noted."""
        self.blocks.clear()
        self.handled.clear()
        self.painted.clear()

    def notify(self, receiver: QObject, event: QEvent) -> bool:
        if not isalive(receiver):  # PySide6 passes objects whose widget is already deleted
            return False
        if self._depth:
            return super().notify(receiver, event)
        kind, name = event.type(), type(receiver).__name__
        wall, cpu = time.perf_counter(), time.thread_time()
        self._depth += 1
        self._seen.clear()
        self._began = self._noted = wall
        try:
            return super().notify(receiver, event)
        finally:
            self._depth -= 1
            self._began = 0.0
            spent = 1e3 * (time.perf_counter() - wall), 1e3 * (time.thread_time() - cpu)
            painting = kind in _PAINTING
            if painting:
                self.painted.append(spent[0])
            else:
                self.handled.append(spent)
            if spent[0] > LIMIT_MS:
                seen = sorted(self._seen, key=lambda place: -self._seen[place])
                ours = next((o for o, _ in seen if o), "")
                inside = next((i for o, i in seen if o == ours), "")
                self.blocks.append(
                    Block(*spent, f"{_kind_name(kind)} of {name}", painting, ours, inside)
                )

    def _look(self) -> None:
        while True:
            time.sleep(_LOOK_EVERY_S)
            began = self._began
            if began and time.perf_counter() - began > 0.5e-3 * LIMIT_MS:
                _thread.interrupt_main(_SIGNAL)

    def _note_place(self, _: int, frame: FrameType | None) -> None:
        """Add the time since the last sample to a place; runs in the window's thread."""
        if self._depth and frame is not None:
            now = time.perf_counter()
            self._seen[_places(frame)] += now - self._noted
            self._noted = now


def _kind_name(kind: QEvent.Type) -> str:
    return getattr(kind, "name", str(kind))


def _places(frame: FrameType) -> tuple[str, str]:
    """Innermost place in this package, and innermost place at all, below the watchdog itself."""
    inside, ours = _place(frame), ""
    current: FrameType | None = frame
    while current is not None and current.f_code.co_filename != __file__:
        if not ours and current.f_code.co_filename.startswith(_PACKAGE):
            ours = _place(current)
        current = current.f_back
    return ours, inside


def _place(frame: FrameType) -> str:
    path = Path(frame.f_code.co_filename)
    return f"{path.parent.name}/{path.name}:{frame.f_lineno} {frame.f_code.co_name}"


def report(blocks: list[Block]) -> str:
    """Summarise the blocks by their place in the code, the longest first."""
    groups: dict[str, list[Block]] = {}
    for block in blocks:
        name = block.ours or ("drawing, on this display" if block.painting else "napari and Qt")
        groups.setdefault(name.split(":")[0] if block.ours else name, []).append(block)
    lines = [f"{len(blocks)} turns of the event loop took more than {LIMIT_MS:.0f} ms"]
    for name, members in sorted(groups.items(), key=lambda g: -max(b.wall_ms for b in g[1])):
        worst = max(members, key=lambda b: b.wall_ms)
        lines.append(f"  {len(members):4d} × {name:<40} longest {worst}")
    return "\n".join(lines)
