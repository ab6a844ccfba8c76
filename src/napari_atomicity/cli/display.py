"""A display for the window: the one at hand, or a virtual one; and what to do where neither works.

Qt ends the whole process when it can't reach a display or lacks a library. So whether a window
can be opened is tried in a process of its own first.
"""

from __future__ import annotations

import os
import select
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager

from ..core.errors import DependencyError

DEBIAN_PACKAGES = (
    "xvfb libegl1 libgl1 libgl1-mesa-dri libxcb-cursor0 libxkbcommon-x11-0 libxcb-icccm4 "
    "libxcb-image0 libxcb-keysyms1 libxcb-randr0 libxcb-render-util0 libxcb-xinerama0 "
    "libxcb-shape0 libdbus-1-3 libfontconfig1"
)
INSTALL = f"sudo apt-get update && sudo apt-get install -y {DEBIAN_PACKAGES}"

_PROBE = """
from qtpy.QtGui import QOpenGLContext
from qtpy.QtWidgets import QApplication
application = QApplication([])
if not QOpenGLContext().create():
    raise SystemExit("OpenGL can't be used")
"""


def has_display() -> bool:
    """Whether this system says that it has a display."""
    if not sys.platform.startswith("linux"):
        return True
    return bool(os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY"))


def why_no_window(timeout_s: float = 120) -> str | None:
    """Why Qt can't open a window with OpenGL here; None if it can."""
    command = [sys.executable, "-c", _PROBE]
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, timeout=timeout_s, check=False
        )
    except subprocess.TimeoutExpired:
        return f"Qt did not answer within {timeout_s:g} s"
    if done.returncode == 0:
        return None
    lines = [line.strip() for line in done.stderr.splitlines() if line.strip()]
    telling = [line for line in lines if "Error" in line or "qt.qpa" in line or "can't" in line]
    return (telling or lines or [f"Qt ended with status {done.returncode}"])[-1]


@contextmanager
def virtual_display(size_px: tuple[int, int] = (1600, 1000)) -> Iterator[str]:
    """Start Xvfb and make it this process's display; it ends with the block.

    Raises `DependencyError` if Xvfb is not installed or does not start.
    """
    program = shutil.which("Xvfb")
    if program is None:
        raise DependencyError(
            "there is no display, and Xvfb for a virtual one is not installed",
            advice=f"Install it, on Debian or Ubuntu with: {INSTALL}",
        )
    reading, writing = os.pipe()
    screen = f"{size_px[0]}x{size_px[1]}x24"
    server = subprocess.Popen(
        [program, "-displayfd", str(writing), "-screen", "0", screen, "-nolisten", "tcp"],
        pass_fds=[writing],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        # Ctrl-C is for us: the server must outlive the clean-up that needs it.
        start_new_session=True,
    )
    os.close(writing)
    before = {name: os.environ.get(name) for name in ("DISPLAY", "QT_QPA_PLATFORM")}
    try:
        number = _read_number(reading, timeout_s=30)
        if number is None:
            raise DependencyError(
                "Xvfb did not start",
                advice=f"Try it in a terminal: Xvfb :99. Packages that it needs: {INSTALL}",
            )
        os.environ.update(DISPLAY=f":{number}", QT_QPA_PLATFORM="xcb")
        yield f":{number}"
    finally:
        os.close(reading)
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value
        server.terminate()
        try:
            server.wait(timeout=10)
        except subprocess.TimeoutExpired:
            server.kill()


def _read_number(descriptor: int, timeout_s: float) -> str | None:
    """Read the display number, which the server writes when it is ready."""
    text = b""
    while not text.endswith(b"\n"):
        if not select.select([descriptor], [], [], timeout_s)[0]:
            return None
        part = os.read(descriptor, 64)
        if not part:
            return None
        text += part
    return text.decode().strip()


def _run_on_virtual_display(command: list[str]) -> int:
    """Exit status of a command that is given a virtual display, on Linux."""
    if not sys.platform.startswith("linux"):
        return subprocess.call(command)
    with virtual_display():
        return subprocess.call(command)


if __name__ == "__main__":
    try:
        sys.exit(_run_on_virtual_display(sys.argv[1:]))
    except DependencyError as error:
        sys.exit(str(error))
    except KeyboardInterrupt:
        sys.exit(130)
