"""Figures that README and docs quote are those of the tables they come from."""

import re
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
ATOMS = "docs/explanation/atoms_accuracy.md"
PT_NC, RE, PORPHYRIN = "Pt/NC: 11 images", "Re bipyridine: 11 images", "Pt porphyrin: 14 images"
OPERATING_POINT = "**network, operating point of the image**"
F1 = "F1 (95 %)"


@cache
def tables(page: str) -> dict[str, list[list[list[str]]]]:
    """Heading → its tables, each a list of rows of cells, the first one with the columns."""
    found: dict[str, list[list[list[str]]]] = {}
    heading, inside = "", False
    for line in (ROOT / page).read_text().splitlines():
        if line.startswith("#"):
            heading = line.lstrip("# ")
        if line.startswith("|"):
            cells = [cell.strip() for cell in line.strip("|").split("|")]
            if not inside:
                found.setdefault(heading, []).append([])
            if not set("".join(cells)) <= set("-: "):
                found[heading][-1].append(cells)
        inside = line.startswith("|")
    return found


def cell(page: str, heading: str, row: str, column: str) -> str:
    """The first cell of a row and column below a heading that begins so."""
    for name, of_heading in tables(page).items():
        if not name.startswith(heading):
            continue
        for head, *rows in of_heading:
            if column not in head:
                continue
            for cells in rows:
                if cells[0] == row:
                    return cells[head.index(column)]
    raise AssertionError(f"{page} has no {row!r}, {column!r} below {heading!r}")


def number(*place: str) -> str:
    """The first number of a cell, as it is written there."""
    found = re.search(r"\d+(\.\d+)?", cell(*place))
    assert found is not None
    return found.group()


def interval(*place: str) -> str:
    found = re.search(r"\((.*)\)", cell(*place))
    assert found is not None
    return found.group(1)


QUOTED = {
    "atoms, Pt/NC": (
        "docs/explanation/atoms.md",
        lambda: (
            f"F1 {number(ATOMS, PT_NC, OPERATING_POINT, F1)} "
            f"(95 % interval {interval(ATOMS, PT_NC, OPERATING_POINT, F1)}) within 0.15 nm, "
            f"against {number(ATOMS, PT_NC, 'LoG / local r.m.s.', F1)}"
        ),
    ),
    "atoms, best threshold": (
        "docs/explanation/atoms.md",
        lambda: (
            "it would be "
            + number(ATOMS, PT_NC, "(network, best threshold of each image, by its marks)", F1)
        ),
    ),
    "atoms, rhenium": (
        "docs/explanation/atoms.md",
        lambda: (
            f"{number(ATOMS, RE, OPERATING_POINT, F1)} for rhenium bipyridine, where the tuned "
            f"Laplacian is as good ({number(ATOMS, RE, 'LoG', F1)})"
        ),
    ),
    "atoms, porphyrin": (
        "docs/explanation/atoms.md",
        lambda: (
            f"{number(ATOMS, PORPHYRIN, OPERATING_POINT, F1)} for platinum porphyrin "
            f"({number(ATOMS, PORPHYRIN, 'LoG', F1)})"
        ),
    ),
}
"""What is quoted → the page, and the text as the tables have it."""


@pytest.mark.parametrize("what", QUOTED)
def test_quoted_figures_are_those_of_the_tables(what):
    page, text = QUOTED[what]
    assert text() in (ROOT / page).read_text()


def test_the_readme_quotes_no_figure_of_accuracy():
    text = re.sub(r"\]\([^)]*\)|https?://\S+", "", (ROOT / "README.md").read_text())
    assert set(re.findall(r"\d+(?:\.\d+)? ?%|\b0\.\d+", text)) <= {"95 %"}  # of the intervals


def test_the_readme_says_first_that_the_figures_are_of_simulations():
    beginning = (ROOT / "README.md").read_text().split("##")[0]
    assert "simulated images" in beginning and "real sample of known composition" in beginning
