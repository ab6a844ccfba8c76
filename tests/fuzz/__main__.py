"""Open one case again, in this process: ``python -m fuzz images:17``, or ``make fuzz CASE=…``."""

from __future__ import annotations

import json
import sys
import tempfile
from pathlib import Path

from fuzz.samples import make_samples
from fuzz.worker import outcome, prepare


def main(case: str) -> None:
    """Print how a case ends; its files stay in a folder that is named first."""
    kind, _, seed = case.partition(":")
    folder = Path(tempfile.mkdtemp(prefix=f"fuzz-{kind}-{seed}-"))
    print(folder)
    target = folder / "case"
    target.mkdir()
    samples = make_samples(folder / "samples")
    found = outcome(prepare(kind, int(seed), samples, target), target)
    trace = found.pop("traceback", "")
    print(json.dumps(found, indent=1), trace, sep="\n")


if __name__ == "__main__":
    main(sys.argv[1])
