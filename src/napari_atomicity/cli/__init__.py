"""The command line."""

import os

# Not from `signal`: it imports `enum`, and until the handler is set Ctrl-C is a traceback.
from _signal import SIGINT, signal

from ..core.lazy_imports import lazy_attributes

__all__ = ["app", "main"]

__getattr__, __dir__ = lazy_attributes(__name__, {"app": "commands"})


def main() -> None:
    """Run the command line.

    Ctrl-C ends the process at once until the command has begun: nothing is written before, and an
    exception in the middle of an import ends in a traceback or a crash.
    """
    signal(SIGINT, _end_immediately)
    from .commands import run

    run()


def _end_immediately(*_: object) -> None:
    os.write(2, b"atomicity: stopped\n")
    os._exit(130)
