"""Open thousands of damaged files of each kind, and count how that ends.

    python benchmarks/fuzzing.py [--cases 10000] [--first 0] [--kinds images projects] [--workers 2]
                                 [--resume]

See ``tests/fuzz``. Each case is a line of ``benchmarks/results/fuzz.csv``. With ``--resume`` the
lines of an earlier run stay, and only cases that are missing or failed are tried. Cases that did
not end as they should are kept in ``benchmarks/results/fuzz/``, a folder for each, with
``case.json``, which says how to open it again.
"""

from __future__ import annotations

import csv
import os
import shutil
import sys
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

from measuring import RESULTS, machine, options, write
from napari_atomicity import __version__

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "tests"))
from fuzz.kinds import KINDS
from fuzz.pool import GOOD, OUTCOMES, Result, run_cases
from fuzz.samples import make_samples

MAX_SHOWN = 20
LOG = RESULTS / "fuzz.csv"


class Case(NamedTuple):
    """A line of the log."""

    kind: str
    seed: int
    outcome: str
    seconds: float
    text: str


def main() -> None:
    given = options(
        __doc__, cases=1000, first=0, kinds=list(KINDS), workers=os.cpu_count() or 1, seconds=30.0,
        resume=False,
    )  # fmt: skip
    about = machine()
    work = RESULTS / "fuzz"
    shutil.rmtree(work, ignore_errors=True)
    samples = make_samples(work / "samples")
    if not given.resume:
        LOG.unlink(missing_ok=True)
    good = {case[:2] for case in read_log() if case.outcome in GOOD}
    for kind in given.kinds:
        seeds = range(given.first, given.first + given.cases)
        cases = [(kind, seed) for seed in seeds if (kind, seed) not in good]
        found = run_cases(cases, samples, work / kind, given.workers, given.seconds, report)
        print(f"{kind}: {dict(found.counts.get(kind, {}))}", flush=True)
    figures = summary(read_log())
    write("fuzz", {"version": __version__, "outcomes": OUTCOMES, **figures}, about)
    if figures["failed"]:
        raise SystemExit(f"cases failed: see {work}")


def read_log() -> list[Case]:
    """The cases that were tried, in order."""
    if not LOG.exists():
        return []
    with LOG.open(encoding="utf-8", newline="") as file:
        return [
            Case(kind, int(seed), outcome, float(seconds), text)
            for kind, seed, outcome, seconds, text in csv.reader(file)
        ]


def report(result: Result) -> None:
    """Append a case to the log, and print it if it has failed."""
    failed = result.outcome not in GOOD
    text = last_line(result.text) if failed else ""
    line = Case(result.kind, result.seed, result.outcome, round(result.seconds, 4), text)
    with LOG.open("a", encoding="utf-8", errors="backslashreplace", newline="") as file:
        csv.writer(file).writerow(line)
    if failed:
        print(result, flush=True)


def summary(lines: Iterable[Case]) -> dict:
    """Counts by kind; a case that was tried again counts as it ended last."""
    lines = list(lines)
    last = {case[:2]: case for case in lines}
    kinds = [kind for kind in KINDS if any(case.kind == kind for case in last.values())]
    return {
        "minutes": sum(case.seconds for case in lines) / 60,
        "repeated": len({case[:2] for case in lines if case.outcome not in GOOD
                         and last[case[:2]] is not case}),
        "kinds": {kind: Counter(case.outcome for case in last.values() if case.kind == kind)
                  for kind in kinds},
        "failed": one_of_each(case for case in last.values() if case.outcome not in GOOD),
    }  # fmt: skip


def one_of_each(failed: Iterable[Case]) -> dict[str, str]:
    """The most frequent messages, with the number of cases and the first of them."""
    text = {f"{case.kind}:{case.seed}": f"{case.outcome}: {case.text}" for case in failed}
    frequent = Counter(text.values()).most_common(MAX_SHOWN)
    first = {said: case for case, said in reversed(text.items())}
    return {first[said]: f"{said} ({n})" for said, n in frequent}


def last_line(text: str) -> str:
    """The last line without the marks of tables."""
    return next(iter(text.strip().splitlines()[-1:]), "").replace("|", "/")


if __name__ == "__main__":
    main()
