"""The aims of the benchmarks and the figures of the last run, as one table."""

from __future__ import annotations

import math
import operator
import re
from collections.abc import Callable
from typing import Any, NamedTuple

from tables import TOO_LONG_MS, Record, table

LARGE_IMAGE = 5000
"""Most clusters of a single image for which the aim on turns of the window holds."""


ALL_STEPS = "all steps of `atomicity atoms`"
"""Name of the time of a whole image in the record of the benchmark of atoms."""


class Aim(NamedTuple):
    """A figure of a record and its limit.

    Parameters
    ----------
    what : str
        What is measured; first cell of the row.
    record : str
        Name of the record.
    limit : float
        Aim.
    at_least : bool
        Whether the figure should be at least the limit, or at most.
    unit : str
        Unit of figure and limit, a format with one number.
    figure : callable
        Figure of a record.
    """

    what: str
    record: str
    limit: float
    at_least: bool
    unit: str
    figure: Callable[[Record], float]

    def row(self, record: Record) -> list[str]:
        figure = self.figure(record)
        if math.isnan(figure):
            return [*self.start(), "not measured", ""]
        meets = (operator.ge if self.at_least else operator.le)(figure, self.limit)
        return [*self.start(), self.unit.format(figure), "yes" if meets else "**no**"]

    def start(self) -> list[str]:
        sign = "≥" if self.at_least else "≤"
        return [self.what, f"{sign} {self.unit.format(self.limit)}"]


def longest_turn(record: Record, *, first: bool) -> float:
    """Longest turn (ms) of the window with one image, for its first result or for all else."""
    turns = [
        row["ms"][0]
        for row in record["rows"]
        if row["clusters"] <= LARGE_IMAGE and (row["action"] == "first result") == first
    ]
    return max(turns, default=math.nan)


def largest_project(record: Record, action: str, figure: Callable[[Record], float]) -> float:
    """Largest figure of the actions of this name in the largest project."""
    project = max(record["projects"], key=lambda one: one["clusters"])
    found = [figure(a) for a in project["actions"] if a["action"].startswith(action)]
    return max(found, default=math.nan)


def displayed_s(action: Record) -> float:
    """Seconds until what a person waits for is displayed."""
    return action.get("shown_s", math.nan)


def peak_memory_gib(record: Record) -> float:
    """Peak of the memory with the largest project."""
    project = max(record["projects"], key=lambda one: one["clusters"])
    return project.get("memory_mib", math.nan) / 1024


AIMS = (
    Aim("analysis of 200 clusters, relative to the reference", "speed", 20, True, "{:.3g} ×",
        lambda r: r["fields"][0]["ratio_wall"]),
    Aim("analysis of 2,000 clusters, relative to the reference", "speed", 20, True, "{:.3g} ×",
        lambda r: r["fields"][-1]["ratio_wall"]),
    Aim("growth of the processor time, largest exponent", "growth", 1, False, "{:.3g}",
        lambda r: max(r["exponents"].values())),
    Aim("`atomicity analyse`, one image with map, tables and report", "startup", 4, False,
        "{:.2g} s", lambda r: r["processes"].get("atomicity analyse", math.nan)),
    Aim("`atomicity atoms`, all steps of one image", "atoms", 1, False, "{:.2g} s",
        lambda r: r["seconds"].get(ALL_STEPS, math.nan)),
    Aim("first result in a new window, from the click", "startup", 1.5, False, "{:.3g} s",
        lambda r: r["window"]["result_s"] if "window" in r else math.nan),
    Aim(f"window, image of up to {LARGE_IMAGE:,} clusters: longest turn", "window", TOO_LONG_MS,
        False, "{:.0f} ms", lambda r: longest_turn(r, first=False)),
    Aim(f"window, image of up to {LARGE_IMAGE:,} clusters: first result", "window", TOO_LONG_MS,
        False, "{:.0f} ms", lambda r: longest_turn(r, first=True)),
    Aim("window, largest project: first image with its clusters", "day", 3, False, "{:.2g} s",
        lambda r: largest_project(r, "open the folder", displayed_s)),
    Aim("window, largest project: label by key", "day", TOO_LONG_MS, False, "{:.0f} ms",
        lambda r: largest_project(r, "a label by key", lambda a: a["ms"][0])),
    Aim("window, largest project: half of the map selected and displayed", "day", 0.5, False,
        "{:.2g} s", lambda r: largest_project(r, "select half", lambda a: a["ms"][3] / 1e3)),
    Aim("window, largest project: ratios of the image", "day", 0.3, False, "{:.2g} s",
        lambda r: largest_project(r, "show Ratios", displayed_s)),
    Aim("window, largest project: memory at most", "day", 2, False, "{:.2g} GiB",
        peak_memory_gib),
    Aim("batch, two workers", "batch", 25, True, "{:.3g} images per s",
        lambda r: next((b["rate"] for b in r["batches"] if b["workers"] == 2), math.nan)),
    Aim("live, from the last byte to the labels, median", "live", 0.25, False, "{:.2g} s",
        lambda r: next(iter(r["sessions"].values()))["median_s"]),
    Aim("GPU, patches with class maps", "gpu", 200_000, True, "{:,.0f} per s",
        lambda r: r["network"]["patches_per_s"]),
)  # fmt: skip


def aims(records: dict[str, Any], before: str = "") -> str:
    """Table of all aims.

    Parameters
    ----------
    records : dict of str to dict
        Records by name.
    before : str
        The table of the page, whose rows remain where there is no record.
    """
    rows = []
    for aim in AIMS:
        kept = re.search(rf"^\| {re.escape(' | '.join(aim.start()))} \| (.*) \|$", before, re.M)
        if aim.record in records:
            rows.append(aim.row(records[aim.record]))
        elif kept is not None:
            rows.append([*aim.start(), *kept[1].split(" | ")])
        else:
            rows.append([*aim.start(), "not measured", ""])
    return table(["figure", "aim", "measured", "met"], rows)
