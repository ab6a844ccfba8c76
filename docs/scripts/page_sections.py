"""Tables and sections that scripts write into pages of the documentation."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np


def markdown_table(columns: Sequence[str], rows: Iterable[Sequence[object]]) -> list[str]:
    """Return the lines of a table, with an empty line after it."""
    lines = [f"| {' | '.join(columns)} |", "|---" * len(columns) + "|"]
    lines += [f"| {' | '.join(map(str, row))} |" for row in rows]
    return [*lines, ""]


def formatted_table(rows: Iterable[Mapping[str, Any]], columns: Mapping[str, str]) -> list[str]:
    """Return the lines of a table: title of each column → format of its cells."""
    cells = (
        [re.sub(r"(?<=\d)%", " %", form.format(**row)) for form in columns.values()] for row in rows
    )
    return markdown_table(list(columns), cells)


def number(value: float, decimals: int) -> str:
    """Return a figure, or a dash where there is nothing to count."""
    return f"{value:.{decimals}f}" if np.isfinite(value) else "–"


def per_cent(fraction: float) -> str:
    """Return a fraction as percentage."""
    return f"{number(100 * fraction, 1)} %"


def span(values: Iterable[float], decimals: int) -> str:
    """Return the smallest and the largest figure, or one if they are the same."""
    kept = list(values)
    ends = [f"{end(kept):.{decimals}f}" for end in (min, max)]
    return " to ".join(dict.fromkeys(ends))


def replace_section(text: str, name: str, lines: Sequence[str]) -> str:
    """Replace the part of a page between the two markers of a section."""
    begin, end = f"<!-- {name}: begin -->", f"<!-- {name}: end -->"
    before, found, rest = text.partition(begin)
    _, closed, after = rest.partition(end)
    if not (found and closed):
        raise SystemExit(f"the page has no section {name!r}")
    return "\n".join([f"{before}{begin}", *lines, f"{end}{after}"])


def write_section(page: Path, name: str, lines: Sequence[str]) -> None:
    """Replace a section in a page; empty lines at its ends are left out."""
    section = "\n".join(lines).strip("\n").split("\n")
    text = page.read_text(encoding="utf-8")
    page.write_text(replace_section(text, name, section), encoding="utf-8")
