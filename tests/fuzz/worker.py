"""The process that opens changed files: ``python -m fuzz.worker SAMPLES WORK``.

It reads one case per line, ``kind seed``. It writes a line when the changed file is made, and the
outcome of opening it as one line of JSON. Whoever has
started it ends it when a case takes too long, and starts another one when it has died.
"""

from __future__ import annotations

import json
import os
import resource
import shutil
import sys
import traceback
import warnings
import zlib
from contextlib import suppress
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np

from fuzz.ends import ENDS
from fuzz.kinds import KINDS, Attempt, Lost
from napari_atomicity import AtomicityError

MEMORY_BYTES = 6_000_000_000
"""Address space of the process; most of it is taken by libraries that are loaded."""
SLOW_IMPORTS = {
    "models": ("pipeline.analysis", "atoms.analysis"),
    "packs": ("state.annotator_packs",),
    "projects": ("project.opening",),
}
"""Modules of the package that are no part of the time of a case, by kind."""
READ_SECONDS, READ_MEMORY_GB = 4.0, 1.5


def limit_reading() -> None:
    """Set the package's own limits for reading an image below those of the worker."""
    from napari_atomicity.io.readers.read_limits import ReadLimits, set_read_limits

    set_read_limits(ReadLimits(READ_SECONDS, READ_MEMORY_GB))


def prepare(kind: str, seed: int, samples: Path, folder: Path) -> Attempt:
    """Make the changed file of a case, and return what opens it."""
    for module in SLOW_IMPORTS.get(kind, ()):
        import_module(f"napari_atomicity.{module}")
    rng = np.random.default_rng([zlib.crc32(kind.encode()), seed])
    return {**KINDS, **ENDS}[kind](samples / kind, folder, rng)


def outcome(attempt: Attempt, folder: Path) -> dict[str, Any]:
    """Open a changed file, and say how that ended."""
    try:
        attempt()
    except AtomicityError as error:
        names = [path.name for path in folder.rglob("*")]
        if any(name in str(error) for name in names):
            return {"outcome": "clear error", "text": str(error)}
        return {"outcome": "raw exception", "text": f"names no file: {error}"}
    except Lost as error:
        return {"outcome": "lost", "text": str(error)}
    except MemoryError:
        return {"outcome": "memory", "text": traceback.format_exc()}
    except Exception as error:
        frames = traceback.extract_tb(error.__traceback__)
        where = [f for f in frames if "napari_atomicity" in f.filename][-1:] or frames[-1:]
        at = f"{Path(where[0].filename).name}:{where[0].lineno} {where[0].name}"
        text = f"{type(error).__name__}: {str(error)[:200]} ({at})"
        return {
            "outcome": "raw exception",
            "text": text,
            "traceback": traceback.format_exc()[-4000:],
        }
    return {"outcome": "loaded", "text": ""}


def main(samples: Path, work: Path) -> None:
    """Do the cases that come in, until there are no more."""
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY_BYTES, MEMORY_BYTES))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    warnings.simplefilter("ignore")
    replies = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # what libraries print is no reply
    with suppress(ImportError):
        limit_reading()
    for line in sys.stdin:
        kind, seed = line.split()
        folder = work / f"{kind}-{seed}"
        folder.mkdir()
        attempt = prepare(kind, int(seed), samples, folder)
        print("begun", file=replies, flush=True)
        found = outcome(attempt, folder)
        if found["outcome"] in ("loaded", "clear error"):
            shutil.rmtree(folder, ignore_errors=True)
        print(json.dumps(found), file=replies, flush=True)


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
