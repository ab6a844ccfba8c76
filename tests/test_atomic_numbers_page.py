"""The script that writes the table on detection and atomic number, without its simulation."""

from __future__ import annotations

import runpy
from pathlib import Path

import numpy as np
import pytest

DOCS = Path(__file__).resolve().parents[1] / "docs"


@pytest.fixture(scope="module")
def script():
    return runpy.run_path(str(DOCS / "scripts" / "make_atomic_numbers.py"))


def test_scores_of_fields_together(script):
    precision, recall, f1 = script["scores"](np.array([[4, 5, 10], [2, 3, 2]]))
    assert (precision, recall, f1) == pytest.approx((6 / 8, 6 / 12, 12 / 20))
    assert np.isnan(script["scores"](np.array([[0, 0, 10]]))[0])
    assert script["format_cell"](np.array([[0, 0, 10]] * 3)) == "**0.00** (0.00–0.00); –, 0.00"


def test_the_section_is_replaced_and_the_page_kept(script, tmp_path):
    page = tmp_path / "page.md"
    page.write_text(
        f"# Title\n\ntext\n\n{script['BEGIN']}\nan earlier table\n{script['END']}\n\nmore\n"
    )
    write_page = script["write_page"]
    write_page.__globals__["PAGE"] = page
    found = {}
    for i, element in enumerate(script["ELEMENTS"]):
        for dose in script["DOSES"]:
            found[element, dose] = np.array([[i, i + 1, 10]] * 3)
    write_page(found, "model-1")
    text = page.read_text()
    assert text.startswith("# Title\n\ntext\n") and text.endswith("\n\nmore\n")
    assert (
        "an earlier table" not in text and text.count("| Pt | 78 |") == 1 and "as published" in text
    )
    kept = runpy.run_path(str(DOCS / "scripts" / "make_atoms_accuracy.py"))["other_sections"](page)
    assert kept.strip() == text.partition("text\n\n")[2].strip()
    found["Pt", script["DOSES"][0]] = np.array([[0, 1, 10]] * 3)
    write_page(found, "model-1")
    assert "unlike published" in page.read_text()
