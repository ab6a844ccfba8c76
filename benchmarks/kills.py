"""Kill a process that corrects labels again and again, and count what is lost.

    python benchmarks/kills.py [--kills 1000] [--seed 0]

See ``tests/project/kills.py``. An acknowledged edit that is missing ends this with an error.
"""

from __future__ import annotations

import sys
import tempfile
import time
from pathlib import Path

from measuring import machine, options, write
from napari_atomicity import __version__
from napari_atomicity.project import EditKind, ImageEdit, Project

TESTS = Path(__file__).resolve().parent.parent / "tests"
sys.path[:0] = [str(TESTS), str(TESTS / "project")]
from bench import analysed, write_image  # noqa: E402

from kills import kill_again_and_again  # noqa: E402


def main() -> None:
    given = options(__doc__, kills=1000, seed=0)
    about = machine()
    began = time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        image = write_image(Path(folder) / "a.tif")
        path = Path(folder) / "morning.atomicity"
        with Project(path) as project:
            project.add_paths([Path(folder)])
            first = analysed(image)
            project.image_files.update_metadata(first.micrograph)
            project.record(ImageEdit("a.tif", EditKind.ANALYSIS, "Ada"), None, first)
        acknowledged = kill_again_and_again(path, given.kills, given.seed)
    figures = {
        "version": __version__,
        "kills": given.kills,
        "acknowledged": acknowledged,
        "minutes": (time.monotonic() - began) / 60,
    }
    write("kills", figures, about)
    print(f"{given.kills} kills: {acknowledged} acknowledged edits, none lost")


if __name__ == "__main__":
    main()
