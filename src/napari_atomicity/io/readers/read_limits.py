"""Limits of time and memory for reading one image file."""

from __future__ import annotations

from dataclasses import dataclass

from ...core.settings import check_settings, documented, setting

_GB = 1_000_000_000


@documented
@dataclass(frozen=True)
class ReadLimits:
    """Limits for reading one image file; a file that exceeds one of them has failed."""

    read_seconds: float = setting(
        60.0,
        "Reading time",
        "Longest time in s for reading one image file. A file that takes longer has failed.",
        unit="s",
        min=0.1,
        max=86_400,
        form_range=(1, 86_400),
        key="read_seconds",
        option="--read-seconds",
    )
    read_memory_gb: float | None = setting(
        None,
        "Reading memory",
        "Maximum memory in GB for reading one image file. A file that needs more has failed.",
        unit="GB",
        min=0.3,
        max=100_000,
        form_range=(0.2, 100_000),
        decimals=1,
        text="half",
        default_text="half of the memory of this computer",
        key="read_memory_gb",
        option="--read-memory-gb",
    )

    def __post_init__(self) -> None:
        check_settings(self)

    @property
    def memory_bytes(self) -> int:
        """Maximum memory in bytes."""
        if self.read_memory_gb is None:
            return total_memory_bytes() // 2
        return round(self.read_memory_gb * _GB)


_current = ReadLimits()


def read_limits() -> ReadLimits:
    """Return the limits of this process."""
    return _current


def set_read_limits(limits: ReadLimits) -> None:
    """Set the limits of this process; they apply to all files that are read afterwards."""
    global _current
    _current = limits


def total_memory_bytes() -> int:
    """Return the size of the memory of this computer."""
    import psutil

    return int(psutil.virtual_memory().total)


def free_memory_bytes() -> int:
    """Return the memory that processes can use without swapping."""
    import psutil

    return int(psutil.virtual_memory().available)
