"""Open thousands of damaged files of each kind, and count how that ends.

    python benchmarks/fuzzing.py [--cases 10000] [--first 0] [--kinds images projects] [--workers 2]

See ``tests/fuzz``. Cases that did not end as they should stay in ``benchmarks/results/fuzz/``, a
folder for each, with ``case.json``, which says how to open it again.
"""

from __future__ import annotations

import os
import shutil
import sys
import time
from collections import Counter
from pathlib import Path

from measuring import RESULTS, machine, options, write
from napari_atomicity import __version__

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "tests"))
from fuzz.kinds import KINDS
from fuzz.pool import OUTCOMES, Result, Tally, run_cases
from fuzz.samples import make_samples

MAX_SHOWN = 20


def main() -> None:
    given = options(
        __doc__, cases=1000, first=0, kinds=list(KINDS), workers=os.cpu_count() or 1, seconds=30.0
    )
    about = machine()
    work = RESULTS / "fuzz"
    shutil.rmtree(work, ignore_errors=True)
    samples = make_samples(work / "samples")
    tally = Tally()
    for kind in given.kinds:
        began = time.time()
        seeds = range(given.first, given.first + given.cases)
        cases = [(kind, seed) for seed in seeds]
        found = run_cases(cases, samples, work / kind, given.workers, given.seconds, report)
        tally.counts |= found.counts
        tally.failed += found.failed
        print(f"{kind}: {dict(found.counts[kind])} in {time.time() - began:.0f} s", flush=True)
    counts = {kind: dict(tally.counts[kind]) for kind in given.kinds}
    figures = {"version": __version__, "workers": given.workers, "outcomes": OUTCOMES,
               "kinds": counts, "failed": one_of_each(tally)}  # fmt: skip
    write("fuzz", figures, about)
    if tally.failed:
        raise SystemExit(f"{len(tally.failed)} cases failed: see {work}")


def report(result: Result) -> None:
    """Print a case that failed as soon as it has."""
    if result.outcome not in OUTCOMES[:2]:
        print(result, flush=True)


def one_of_each(tally: Tally) -> dict[str, str]:
    """The most frequent messages, with the number of cases and the first of them."""
    text = {
        f"{result.kind}:{result.seed}": f"{result.outcome}: {last_line(result.text)}"
        for result in tally.failed
    }
    frequent = Counter(text.values()).most_common(MAX_SHOWN)
    first = {said: case for case, said in reversed(text.items())}
    return {first[said]: f"{said} ({n})" for said, n in frequent}


def last_line(text: str) -> str:
    """The last line without the marks of tables."""
    return next(iter(text.strip().splitlines()[-1:]), "").replace("|", "/")


if __name__ == "__main__":
    main()
