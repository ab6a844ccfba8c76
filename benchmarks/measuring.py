"""What the benchmarks have in common: options, times, the machine, results as JSON.

Results are kept in ``benchmarks/results/``, or in the folder that ``BENCH_RESULTS`` names: a script
that is tried with small options then leaves the others' alone.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from tables import SECTIONS

RESULTS = Path(os.environ.get("BENCH_RESULTS") or Path(__file__).resolve().parent / "results")


@dataclass(frozen=True)
class Times:
    """Medians of several runs in seconds: by the clock, and of the processor in all threads."""

    wall_s: float
    cpu_s: float
    runs: int


def options(doc: str | None, **defaults: Any) -> argparse.Namespace:
    """The command line: an option per default; a list takes several values, None is a path."""
    parser = argparse.ArgumentParser(
        description=doc, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    for name, default in defaults.items():
        flag = f"--{name.replace('_', '-')}"
        if default is False:
            parser.add_argument(flag, action="store_true")
        elif isinstance(default, list):
            parser.add_argument(flag, type=type(default[0]), nargs="*", default=default)
        else:
            kind = Path if default is None else type(default)
            parser.add_argument(flag, type=kind, default=default)
    return parser.parse_args()


def timed(function: Callable[[], Any]) -> tuple[float, float, Any]:
    """Seconds by the clock and of the processor, and the result."""
    wall, cpu = time.perf_counter(), time.process_time()
    result = function()
    return time.perf_counter() - wall, time.process_time() - cpu, result


def interleaved(functions: dict[str, Callable[[], Any]], repeats: int) -> dict[str, Times]:
    """Time functions in turn, round by round, so that a busy machine slows all alike."""
    seconds: dict[str, list[tuple[float, float]]] = {name: [] for name in functions}
    for _ in range(repeats):
        for name, function in functions.items():
            seconds[name].append(timed(function)[:2])
    return {
        name: Times(*(statistics.median(part) for part in zip(*runs, strict=True)), len(runs))
        for name, runs in seconds.items()
    }


def best_of(function: Callable[[], Any], repeats: int) -> float:
    """The fastest of several runs, in seconds by the clock."""
    return min(timed(function)[0] for _ in range(repeats))


def machine() -> dict[str, Any]:
    """What the figures are measured on, asked before they are."""
    import torch

    model = platform.processor() or platform.machine()
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        lines = cpuinfo.read_text().splitlines()
        model = next((x.partition(": ")[2] for x in lines if x.startswith("model name")), model)
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    return {
        "processor": model,
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "memory_gib": round(memory, 1),
        "load_before": round(os.getloadavg()[0], 1),
        "system": platform.platform(),
        "python": platform.python_version(),
        "torch": torch.__version__,
        "cuda": torch.cuda.get_device_name() if torch.cuda.is_available() else None,
        "date": time.strftime("%Y-%m-%d"),
        "began": time.time(),
    }


def write(name: str, figures: dict[str, Any], about: dict[str, Any]) -> Path:
    """Write figures and machine to ``<name>.json``, and print them as they stand in the page."""
    RESULTS.mkdir(parents=True, exist_ok=True)
    path = RESULTS / f"{name}.json"
    taken = time.time() - about["began"]
    text = json.dumps({"machine": about, "took_s": taken, **figures}, indent=1, default=_plain)
    path.write_text(text + "\n", encoding="utf-8")
    print(SECTIONS[name].text(json.loads(text)), end="\n\n", flush=True)
    return path


def _plain(value: Any) -> Any:
    return asdict(value) if isinstance(value, Times) else float(value)
