"""Kill windows and other programs again and again, and count what is lost.

    python -m napari_atomicity.cli.display python benchmarks/kills.py [--kills 1000]
        [--minutes 600] [--others 100] [--seed 0]

Windows that correct labels by keys are killed, every fourth one while *Analyse all* runs; see
``tests/gui/window_kills.py``. No further window is opened after so many minutes. The other trials
are those of ``faults.py``, and processes that correct labels without a window
(``tests/project/project_kills.py``). An acknowledged edit that is missing ends this with an error.
"""

from __future__ import annotations

import sys
import tempfile
import time
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


def try_others(folder: Path, n: int, seed: int) -> dict[str, Any]:
    """Try what needs no window, n times each."""
    for name in ("state", "disk", "writers", "batches"):
        (folder / name).mkdir()
    trials = {"state": Trials(n, kill_again_and_again(make_project(folder / "state"), n, seed))}
    with small_disk(folder / "disk") as mounted:
        if mounted:
            trials["full disk"] = full_disk(make_project(folder / "disk"), n, seed)
    trials["six writers"] = six_writers(make_project(folder / "writers"), n)
    model = write_tiny_model(folder / "tiny.safetensors")
    trials["batches"] = resumed_batches(folder / "batches", model, n, seed)
    return {name: asdict(one) for name, one in trials.items()}


def main() -> None:
    given = options(__doc__, kills=1000, minutes=600.0, others=100, seed=0)
    about = machine()
    began = time.monotonic()
    figures: dict[str, Any] = {"version": __version__}
    with tempfile.TemporaryDirectory() as folder:
        windows, others = Path(folder) / "windows", Path(folder) / "others"
        windows.mkdir()
        others.mkdir()
        figures["others"] = try_others(others, given.others, given.seed)
        until = time.monotonic() + 60 * given.minutes
        figures["windows"] = asdict(kill_windows(windows, given.kills, given.seed, until))
    figures["minutes"] = (time.monotonic() - began) / 60
    write("kills", figures, about)


if __name__ == "__main__":
    main()
