"""What a window is busy with."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum


class TaskState(Enum):
    """State of a task."""

    IDLE = "idle"
    RUNNING = "running"
    DONE = "done"
    STOPPED = "stopped"
    FAILED = "failed"


@dataclass(frozen=True)
class Status:
    """State, message and progress of the newest task of a window."""

    state: TaskState = TaskState.IDLE
    message: str = ""
    done: int = 0
    total: int = 0
