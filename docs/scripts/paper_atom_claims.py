"""Claims on single atoms, from the tables of ``atoms_accuracy.md`` and ``dispersion_check.md``."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np

from paper_claims import (
    AGREES,
    DIFFERS,
    UNTESTED,
    Claim,
    Finding,
    Interval,
    MissingFigureError,
    all_of,
    is_above,
)

EXPLANATION = Path(__file__).resolve().parents[1] / "explanation"
ATOMS, DISPERSION = EXPLANATION / "atoms_accuracy.md", EXPLANATION / "dispersion_check.md"
FEW_FALSE = 0.8
"""Precision from which false positives are few."""
NOMINAL = 0.95
POWER = 0.8
"""Share of the clustered fields from which a test finds them."""


DISTANCE_CELLS = 5
ELEMENTS, LIGHT = ("Fe", "Co", "Ni", "Pd", "Pt"), ("Fe", "Co", "Ni")
_CELL = re.compile(r"\*\*([\d.]+)\*\* \(([\d.]+)–([\d.]+)\)(?:; ([\d.–]+), ([\d.]+))?")
_COVERAGE = re.compile(
    r"interval by probabilities covers.* in (.*?), and that of all atoms in (.*)"
)
_PER_CENT = re.compile(r"([\d.]+) % \(([\d.]+)-([\d.]+)\)")


def rows_below(page: Path, heading: str, n_cells: int) -> dict[str, list[str]]:
    """Return first cell → cells of the rows of a table below a heading of a page."""
    _, found, rest = page.read_text(encoding="utf-8").partition(f"\n## {heading}\n")
    lines = rest.partition("\n## ")[0].splitlines() if found else []
    cells = [[c.strip() for c in line.strip("|").split("|")] for line in lines if line[:1] == "|"]
    rows = [row for row in cells if len(row) == n_cells and not row[0].startswith("-")]
    if not rows:
        raise MissingFigureError(f"table {heading!r}", page.name)
    return {row[0] if n_cells != DISTANCE_CELLS else f"{row[0]}, {row[1]}": row for row in rows}


def f1_of_elements() -> tuple[list[str], dict[str, list[tuple[Interval, float]]]]:
    """Return the doses, and element → F1 and precision at each dose."""
    rows = rows_below(ATOMS, "Detection and atomic number", 6)
    missing = [name for name in (*ELEMENTS, "element") if name not in rows]
    if missing:
        raise MissingFigureError(f"row {missing[0]}", ATOMS.name)
    found = {}
    for name in ELEMENTS:
        cells = [_CELL.search(cell) for cell in rows[name][3:]]
        if None in cells:
            raise MissingFigureError(f"F1 of {name}", ATOMS.name)
        numbers = [cell.groups() for cell in cells if cell]
        found[name] = [
            (Interval(*map(float, n[:3])), np.nan if n[3] == "–" else float(n[3])) for n in numbers
        ]
    return rows["element"][3:], found


def per_cent(text: str, where: Path) -> Interval:
    """Read ``98.7 % (95.3-99.6)`` as fractions."""
    found = _PER_CENT.search(text)
    if found is None:
        raise MissingFigureError(f"percentage in {text[:40]!r}", where.name)
    return Interval(*(float(x) / 100 for x in found.groups()))


def heavier_is_better(_: None) -> Finding:
    doses, f1 = f1_of_elements()
    verdicts, texts = [], []
    for k, dose in enumerate(doses):
        pt, pd = f1["Pt"][k][0], f1["Pd"][k][0]
        light = max((f1[name][k][0] for name in LIGHT), key=lambda x: x.mean)
        verdicts.append(all_of([is_above(pt, pd), is_above(pd, light)]))
        texts.append(f"{dose}: Pt {pt.text()}, Pd {pd.text()}, best of Fe, Co, Ni {light.text()}")
    return Finding(
        f"F1 at {'<br>'.join(texts)}",
        all_of(verdicts),
        f"agrees if the intervals are in this order without overlap; so at "
        f"{verdicts.count(AGREES)} of {len(doses)} doses",
    )


def few_false(_: None) -> Finding:
    row = rows_below(ATOMS, "Pt/NC: 11 images, 481 atoms", 7)
    real = float(row["**network, operating point of the image**"][1])
    doses, f1 = f1_of_elements()
    simulated = [precision for _, precision in f1["Pt"]]
    values = [real, *simulated]
    texts = [f"{p:.2f} at {dose}" for p, dose in zip(simulated, doses, strict=True)]
    return Finding(
        f"precision for Pt: {real:.2f} in labelled Pt/NC images; simulated {', '.join(texts)}",
        all_of([AGREES if p >= FEW_FALSE else DIFFERS for p in values]),
        f"agrees if the precision is at least {FEW_FALSE:g} (no intervals there); marks of experts "
        "in the labelled images are not complete",
    )


def iron_is_found(_: None) -> Finding:
    row = rows_below(ATOMS, "Pt/NC: 11 images, 481 atoms", 7)
    cell = _CELL.search(row["**network, operating point of the image**"][3])
    if cell is None:
        raise MissingFigureError("F1 of Pt/NC", ATOMS.name)
    platinum = float(cell.group(1))
    doses, f1 = f1_of_elements()
    texts = [f"{v.text()} at {dose}" for (v, _), dose in zip(f1["Fe"], doses, strict=True)]
    return Finding(
        f"F1 of Fe, simulated: {'; '.join(texts)}",
        all_of([AGREES if v.high >= platinum else DIFFERS for v, _ in f1["Fe"]]),
        f"agrees if the interval reaches the F1 of Pt in labelled Pt/NC images, {platinum:.2f}; "
        "carbon nitride was not simulated",
    )


def density(_: None) -> Finding:
    text = DISPERSION.read_text(encoding="utf-8")
    found = _COVERAGE.search(text)
    if found is None:
        raise MissingFigureError("coverage of the density of images", DISPERSION.name)
    detected, every = (per_cent(part, DISPERSION) for part in found.groups())
    return Finding(
        f"intervals that contain the true density: {every.text()} corrected for missed atoms, "
        f"{detected.text()} of the detected atoms alone",
        all_of([AGREES if x.high >= NOMINAL else DIFFERS for x in (every, detected)]),
        f"agrees if this fraction contains or exceeds {NOMINAL:g} (its interval); the corrected "
        "intervals of faint images are wide",
    )


def distances(_: None) -> Finding:
    rows = rows_below(DISPERSION, "Distances and fractions", DISTANCE_CELLS)
    covered = {name: per_cent(row[4], DISPERSION) for name, row in rows.items()
               if name.endswith("distance")}  # fmt: skip
    verdicts = [AGREES if x.high >= NOMINAL else DIFFERS for x in covered.values()]
    texts = [f"{name} {x.text()}" for name, x in covered.items()]
    return Finding(
        f"intervals that contain the true value: {'<br>'.join(texts)}",
        all_of(verdicts),
        f"agrees if this fraction contains or exceeds {NOMINAL:g}, positions known: "
        f"{verdicts.count(AGREES)} of {len(verdicts)}",
    )


def clustering(_: None) -> Finding:
    rows = rows_below(DISPERSION, "Tests against randomness", 6)
    tests = rows["process"][1:]
    verdicts, texts = [], []
    for name, row in rows.items():
        found = [per_cent(cell, DISPERSION) for cell in row[1:]] if "%" in row[1] else []
        if name.startswith("random"):
            ok = [x.low <= 1 - NOMINAL <= x.high for x in found]
        elif name.startswith("clustered"):
            ok = [x.low >= POWER for x in found]
        else:
            continue
        verdicts += [AGREES if right else DIFFERS for right in ok]
        texts.append(f"{name} {min(x.mean for x in found):.2f} to {max(x.mean for x in found):.2f}")
    return Finding(
        f"fields in which {', '.join(tests)} reject randomness: {'<br>'.join(texts)}",
        all_of(verdicts),
        f"agrees if random fields are rejected in 5 % and clustered ones in {100 * POWER:.0f} % or "
        f"more: {verdicts.count(AGREES)} of {len(verdicts)} tests",
    )


def loading(_: None) -> Finding:
    return Finding(
        "–", UNTESTED, "[a formula](../how-to/metal-loading.md) gives it from the density; no "
        "sample with a bulk analysis was measured",
    )  # fmt: skip


NUMBERS = "[detection and atomic number](atoms_accuracy.md#detection-and-atomic-number)"
CHECK = "[dispersion](dispersion_check.md)"
ATOM_CLAIMS = (
    Claim("Heavier elements are detected better", "[2] and follow-ups", NUMBERS, heavier_is_better),
    Claim("There are few false positives", "[2] and follow-ups",
          f"{NUMBERS}; [Pt/NC](atoms_accuracy.md#ptnc-11-images-481-atoms)", few_false),
    Claim("The model of platinum works for an iron catalyst on carbon nitride", "[2], abstract",
          NUMBERS, iron_is_found),
    Claim("The detected positions give the surface density", "[2], abstract", CHECK, density),
    Claim("… the proximity of the atoms", "[2], abstract", CHECK, distances),
    Claim("… clustering and uniformity", "[2], abstract", CHECK, clustering),
    Claim("Their density gives the metal loading in weight per cent", "", "", loading),
)  # fmt: skip
