"""The end of a command after SIGINT (Ctrl-C) or SIGTERM: within five seconds, with whole files."""

from __future__ import annotations

import _thread
import os
import signal
import socket
import sys
import threading
import time
from collections.abc import Collection, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from types import FrameType
from typing import TYPE_CHECKING

import psutil

from ..io.files import remove_temporary_files
from ..io.readers.reader_process import interrupt_reading

if TYPE_CHECKING:
    from ..core.progress import Stop

LONGEST_S = 4.5
"""A command that has not ended after this time is ended."""
ANSWER_S = 2.0
"""A computation that does not call ``stop()`` within this time is interrupted."""
RETRY_S = 0.1
"""Time until the next attempt to interrupt a command that imports a module."""
SIGNALS = (signal.SIGINT, signal.SIGTERM)
"""Signals that end a command."""


@dataclass(eq=False)
class _State:
    """Signals that the command has received, and how it stops."""

    n: int = 0
    number: int = 0
    # whether the command calls ``stop()``; otherwise a signal raises `KeyboardInterrupt`
    polled: bool = False
    may_save: Collection[int] = ()  # signals after which saving results may take longer
    # whether ``stop()`` has returned True: the command is saving its results
    answered: bool = False
    urgent: bool = False  # whether the next call of the handler raises `KeyboardInterrupt`
    ever_polled: bool = False  # whether the command has called ``stop()``, or could call it
    at_once: bool = False  # whether the first signal ends the process

    @property
    def is_saving(self) -> bool:
        """Whether to wait until the results are saved; a second signal ends that too."""
        return self.answered and self.n == 1 and self.number in self.may_save


_state = _State()


@contextmanager
def end_in_time() -> Iterator[None]:
    """End the command within five seconds after SIGINT or SIGTERM.

    The command may poll ``stop()`` of `catch_signals`, else the signal raises `KeyboardInterrupt`.
    A thread ends the process if that takes too long, as in a library that does not return.
    """
    global _state
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    _state = _State()
    ours, theirs = socket.socketpair()
    theirs.setblocking(False)
    # Written by the system's handler, also while a library keeps Python from running ours.
    wakeup = signal.set_wakeup_fd(theirs.fileno(), warn_on_full_buffer=False)
    handlers = {number: signal.signal(number, _on_signal) for number in SIGNALS}
    waiting = threading.Thread(target=_wait, args=(ours, _state), name="signals", daemon=True)
    waiting.start()
    try:
        yield
    finally:
        for number, handler in handlers.items():
            signal.signal(number, handler)
        signal.set_wakeup_fd(wakeup)
        theirs.close()
        waiting.join()


@contextmanager
def catch_signals(*may_save: int) -> Iterator[Stop]:
    """Provide ``stop()``, which is True after SIGINT or SIGTERM.

    The first signal raises nothing, so that results are saved.
    """
    state = _state
    state.polled = state.ever_polled = True
    state.may_save = may_save

    def stop() -> bool:
        state.answered = state.answered or state.n > 0
        return state.answered

    try:
        yield stop
    finally:
        state.polled = False


def _on_signal(number: int, frame: FrameType | None) -> None:
    interrupt_reading()
    state = _state
    if state.polled and not state.urgent and (number == signal.SIGTERM or state.n <= 1):
        return
    if not _is_importing(frame):
        state.urgent = False
        raise KeyboardInterrupt
    # Modules that are interrupted while they start raise other errors, or end the process.
    if not state.polled:
        _stop_now()


def _is_importing(frame: FrameType | None) -> bool:
    while frame is not None:
        if frame.f_code.co_filename == "<frozen importlib._bootstrap>":
            return True
        frame = frame.f_back
    return False


def _wait(reader: socket.socket, state: _State) -> None:
    """Wait for signals; interrupt and end what does not end by itself."""
    interrupt = end = float("inf")
    own = False  # whether an interrupt of this function is still to be received
    is_new = False  # whether nothing has interrupted the command since the last signal
    with reader:
        while True:
            left = min(interrupt, end) - time.monotonic()
            reader.settimeout(None if left == float("inf") else max(0.001, left))
            try:
                data = reader.recv(64)
            except TimeoutError:
                received = []
            else:
                if not data:
                    return
                received = [n for n in data if n in SIGNALS]
                if received and own:
                    own = False
                    continue
            now = time.monotonic()
            if received:
                state.n += 1
                state.number = received[-1]
                interrupt, end = now + ANSWER_S, now + LONGEST_S
                is_new = True
                if state.at_once:
                    _stop_now()
            elif now >= end:
                end = float("inf")
                if not state.is_saving:
                    print("atomicity: stopped: unwritten results are not saved", file=sys.stderr)
                    end_process(130)
            elif now >= interrupt:
                may_interrupt = state.urgent or (is_new and not state.answered)
                interrupt = now + RETRY_S
                if state.polled and may_interrupt and not own:
                    is_new, state.urgent, own = False, True, True
                    _interrupt_main_thread()


def _interrupt_main_thread() -> None:
    main = threading.main_thread().ident
    if hasattr(signal, "pthread_kill") and main is not None:
        signal.pthread_kill(main, signal.SIGINT)
    else:
        _thread.interrupt_main()


def end_immediately() -> None:
    """Let the next signal end the process: nothing is unsaved, as while a window is open.

    The event loop of Qt does not run Python's handlers.
    """
    _state.at_once = True


def was_stopped() -> bool:
    """Return whether the command has received a signal."""
    return _state.n > 0


def was_ignored() -> bool:
    """Return whether a library has caught the `KeyboardInterrupt` of a signal."""
    return _state.n > 0 and not _state.ever_polled


def _stop_now() -> None:
    os.write(2, b"atomicity: stopped\n")
    end_process(130)


def end_process(status: int) -> None:
    """End this process and those that it has started, without leaving parts of files."""
    with suppress(psutil.Error):
        for child in psutil.Process().children(recursive=True):
            with suppress(psutil.Error):
                child.kill()
    remove_temporary_files()
    for stream in (sys.stdout, sys.stderr):
        with suppress(OSError, ValueError):
            stream.flush()
    os._exit(status)
