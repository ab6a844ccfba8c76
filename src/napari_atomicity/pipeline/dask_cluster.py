"""Addresses of dask schedulers, and properties of this machine."""

from __future__ import annotations

import contextlib
import logging
import os
from collections.abc import Iterator
from dataclasses import dataclass

from ..core.from_dict import dataclass_from_json
from ..io.files import read_document

POLL_S = 0.5


def is_file(scheduler: str) -> bool:
    """Whether this names a file that a scheduler writes, not an address."""
    return scheduler.endswith(".json")


@dataclass(frozen=True)
class _SchedulerFile:
    address: str


def address_of(scheduler: str) -> str:
    """Return the address itself, or the one in the file of a scheduler.

    Raises `OSError` or `ValueError` if the file is not there yet, or not whole.
    """
    if not is_file(scheduler):
        return scheduler
    try:
        return dataclass_from_json(_SchedulerFile, read_document(scheduler)).address
    except ValueError as error:
        raise ValueError(f"{scheduler} names no scheduler ({error})") from error


def available_cores() -> int:
    """Cores that this process may use."""
    try:
        return max(1, len(os.sched_getaffinity(0)))
    except AttributeError:  # not on every system
        return max(1, os.cpu_count() or 1)


def has_bokeh() -> bool:
    """Whether dask can show its dashboard."""
    from importlib.util import find_spec

    return find_spec("bokeh") is not None


@contextlib.contextmanager
def silence_dask_log() -> Iterator[None]:
    """Dask's own words on what we report ourselves."""
    names = ("distributed", "distributed.client", "tornado.application")
    loggers = [logging.getLogger(name) for name in names]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.CRITICAL)
    try:
        yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)
