"""Kill windows and other programs again and again, and count what is lost.

    python -m napari_atomicity.cli.display python benchmarks/kills.py [--kills 1000]
        [--minutes 600] [--others 100] [--seed 0]

Windows that correct labels by keys are killed, every fourth one while *Analyse all* runs; see
``tests/gui/window_kills.py``. No further window is opened after so many minutes, or after Ctrl-C.
The other trials are those of ``faults.py``, and processes that correct labels without a window
(``tests/project/project_kills.py``). An acknowledged edit that is missing ends this with an error.
"""

from __future__ import annotations

import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

from faults import Trials, full_disk, resumed_batches, six_writers, small_disk
from measuring import machine, options, write
from napari_atomicity import __version__

TESTS = Path(__file__).resolve().parent.parent / "tests"
sys.path[:0] = [str(TESTS), str(TESTS / "project"), str(TESTS / "gui")]
from project_kills import kill_again_and_again  # noqa: E402
from window_kills import kill_windows, make_project  # noqa: E402

from support import write_tiny_model  # noqa: E402


def try_others(folder: Path, n: int, seed: int) -> Iterator[tuple[str, Trials]]:
    """Try what needs no window, n times each; batches take long, so a fifth of them is tried."""
    for name in ("state", "disk", "writers", "batches"):
        (folder / name).mkdir()
    yield "state", Trials(n, kill_again_and_again(make_project(folder / "state"), n, seed))
    with small_disk(folder / "disk") as mounted:
        if mounted:
            yield "full disk", full_disk(make_project(folder / "disk"), n, seed)
    yield "six writers", six_writers(make_project(folder / "writers"), n)
    model = write_tiny_model(folder / "tiny.safetensors")
    yield "batches", resumed_batches(folder / "batches", model, max(1, n // 5), seed)


def main() -> None:
    given = options(__doc__, kills=1000, minutes=600.0, others=100, seed=0)
    about = machine()
    began = time.monotonic()
    figures: dict[str, Any] = {"version": __version__, "others": {}}

    def write_figures() -> None:
        figures["minutes"] = (time.monotonic() - began) / 60
        write("kills", figures, about)

    with tempfile.TemporaryDirectory() as folder:
        windows, others = Path(folder) / "windows", Path(folder) / "others"
        windows.mkdir()
        others.mkdir()
        until = began + 60 * given.minutes
        figures["windows"] = asdict(kill_windows(windows, given.kills, given.seed, until))
        write_figures()
        for name, trials in try_others(others, given.others, given.seed):
            figures["others"][name] = asdict(trials)
            write_figures()


if __name__ == "__main__":
    main()
