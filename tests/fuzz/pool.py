"""Run cases in worker processes that are ended when a case takes too long."""

from __future__ import annotations

import json
import os
import selectors
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

ROOT = Path(__file__).parents[2]
SECONDS = 30.0
"""A case that takes longer hangs."""
START_SECONDS = 120.0
"""Until a process has started and made the file of a case."""
OUTCOMES = ("loaded", "clear error", "raw exception", "crash", "hang", "memory", "lost")
GOOD = OUTCOMES[:2]


@dataclass(frozen=True)
class Result:
    """How a case ended."""

    kind: str
    seed: int
    outcome: str
    text: str
    seconds: float = 0.0

    def __str__(self) -> str:
        return f"{self.kind}:{self.seed} {self.outcome}: {self.text}"


@dataclass
class Tally:
    """Counts by kind and outcome, and the cases that did not end as they should."""

    counts: dict[str, Counter[str]] = field(default_factory=dict)
    failed: list[Result] = field(default_factory=list)

    def add(self, result: Result) -> None:
        """Count a case."""
        self.counts.setdefault(result.kind, Counter())[result.outcome] += 1
        if result.outcome not in GOOD:
            self.failed.append(result)


class Worker:
    """One process of `fuzz.worker`, replaced when it has died or was ended.

    Parameters
    ----------
    samples, work : Path
        Folder of the samples, and of the cases.
    seconds : float
        Limit of time of a case.
    """

    def __init__(self, samples: Path, work: Path, seconds: float = SECONDS) -> None:
        self._command = [sys.executable, "-m", "fuzz.worker", str(samples), str(work)]
        self._work, self.seconds = work, seconds
        self._log = work / f"worker-{threading.get_ident()}.log"
        self._process: subprocess.Popen[bytes] | None = None
        self._read = b""

    def run(self, kind: str, seed: int) -> Result:
        """Run a case; save it with its outcome if it did not end as it should."""
        began = time.monotonic()
        process = self._process or self._start()
        assert process.stdin is not None
        with suppress(BrokenPipeError):
            process.stdin.write(f"{kind} {seed}\n".encode())
            process.stdin.flush()
        if not self._line(START_SECONDS):
            self.close()
            raise RuntimeError(f"{kind}:{seed} can't be made: {self._log.read_text()[-2000:]}")
        reply = self._line(self.seconds)
        if reply:
            found = json.loads(reply)
        elif reply is None:
            found = {"outcome": "hang", "text": f"longer than {self.seconds:g} s"}
        else:
            status = process.wait()
            name = signal.Signals(-status).name if status < 0 else f"status {status}"
            last = self._log.read_text("utf-8", "replace")[-1500:]
            found = {"outcome": "crash", "text": name, "traceback": last}
        if not reply:
            self.close()
        took = time.monotonic() - began
        result = Result(kind, seed, found["outcome"], found["text"], took)
        if result.outcome not in GOOD:
            about = {"replay": f"make fuzz CASE={kind}:{seed}", "kind": kind, "seed": seed, **found}
            folder = self._work / f"{kind}-{seed}"
            folder.mkdir(exist_ok=True)
            (folder / "case.json").write_text(json.dumps(about, indent=1))
        return result

    def _line(self, seconds: float) -> str | None:
        """The next line of the process, "" if it has died, None if there is none in time."""
        assert self._process is not None and self._process.stdout is not None
        end = time.monotonic() + seconds
        with selectors.DefaultSelector() as selector:
            selector.register(self._process.stdout, selectors.EVENT_READ)
            while b"\n" not in self._read:
                if not selector.select(max(end - time.monotonic(), 0)):
                    return None
                part = os.read(self._process.stdout.fileno(), 1 << 16)
                if not part:
                    return ""
                self._read += part
        line, _, self._read = self._read.partition(b"\n")
        return line.decode()

    def _start(self) -> subprocess.Popen[bytes]:
        paths = [str(ROOT / "tests"), *(p for p in sys.path if p)]
        env = {**os.environ, "PYTHONPATH": os.pathsep.join(paths), "OMP_NUM_THREADS": "1",
               "PYTHONFAULTHANDLER": "1", "MPLBACKEND": "agg"}  # fmt: skip
        self._process = subprocess.Popen(
            self._command, stdin=subprocess.PIPE, stdout=subprocess.PIPE,
            stderr=self._log.open("w"), env=env, start_new_session=True,
        )  # fmt: skip
        return self._process

    def close(self) -> None:
        """End the process and all that it has started."""
        if self._process is None:
            return
        with suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()
        for pipe in (self._process.stdin, self._process.stdout):
            if pipe is not None:
                pipe.close()
        self._process, self._read = None, b""


def run_cases(
    cases: Iterable[tuple[str, int]],
    samples: Path,
    work: Path,
    workers: int = 1,
    seconds: float = SECONDS,
    told: Callable[[Result], None] | None = None,
) -> Tally:
    """Run cases; those that did not end as they should stay in the folder ``work``."""
    tally, waiting, lock = Tally(), iter(list(cases)), threading.Lock()

    def one_after_the_other() -> None:
        worker = Worker(samples, work, seconds)
        try:
            while True:
                with lock:
                    case = next(waiting, None)
                if case is None:
                    return
                result = worker.run(*case)
                with lock:
                    tally.add(result)
                    if told is not None:
                        told(result)
        finally:
            worker.close()

    work.mkdir(parents=True, exist_ok=True)
    for folder in work.iterdir():  # of an earlier run
        shutil.rmtree(folder) if folder.is_dir() else folder.unlink()
    with ThreadPoolExecutor(workers) as pool:
        for future in [pool.submit(one_after_the_other) for _ in range(workers)]:
            future.result()
    return tally
