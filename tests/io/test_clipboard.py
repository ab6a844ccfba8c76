"""Ratios for other people's documents: nothing in them runs, and LaTeX sets what was meant."""

import re
from html.parser import HTMLParser

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, strategies as st

from napari_atomicity.io.clipboard import (
    MAX_TABULAR_ROWS,
    html_table,
    latex_fraction,
    latex_table,
    latex_text,
    tab_separated,
)
from napari_atomicity.statistics.ratios.ratios import COLUMNS, class_ratios
from support import synthetic_analysis

# What LaTeX makes of these, with T1 or OT1 fonts.
SET = {
    r"\textbackslash{}": "\\",
    r"\textasciitilde{}": "~",
    r"\textasciicircum{}": "^",
    r"\textless{}": "<",
    r"\textgreater{}": ">",
    r"\textbar{}": "|",
    r"\char34{}": '"',
    "{[}": "[",
    "{*}": "*",
    "-{}": "-",
    "'{}": "'",
    "`{}": "`",
    **{f"\\{c}": c for c in "&%$#_{}"},
}


def as_set(latex: str) -> str:
    """The text that is printed; anything that LaTeX would take for a command is an error."""
    out, rest = "", latex
    while rest:
        token = next((t for t in sorted(SET, key=len, reverse=True) if rest.startswith(t)), None)
        assert token or rest[0] not in "\\{}$&#%_^~[*", f"{rest!r} is no plain text"
        out += SET[token] if token else rest[0]
        rest = rest[len(token) if token else 1 :]
    return out


@given(st.text(st.characters(exclude_categories=["Cs", "Cc", "Zl", "Zp"])))
def test_latex_sets_any_text_as_it_is(text):
    assert as_set(latex_text(text)) == text


def test_latex_text_stays_in_its_line():
    assert latex_text("a\nb\r\x00c\u2028d") == "a b c d"


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ((0.21, 0.18, 0.25), "$0.21^{+0.04}_{-0.03}$"),
        ((0.0, 0.0, 0.031), "$0.00^{+0.03}_{-0.00}$"),
        ((0.5, 0.4966, 0.5041), "$0.500^{+0.004}_{-0.003}$"),
        ((1.0, 0.9, 1.0), "$1.00^{+0.00}_{-0.10}$"),
        ((np.nan, np.nan, np.nan), "--"),
        ((0.3, np.nan, np.nan), "$0.30$"),
    ],
)
def test_intervals_need_not_be_symmetric(values, expected):
    assert latex_fraction(*values) == expected


def ratios(n=30, images=("a_b&c.tif", "=1+1")) -> pd.DataFrame:
    tables = [synthetic_analysis(n, name, seed=i).table for i, name in enumerate(images)]
    return class_ratios(pd.concat(tables, ignore_index=True), n_bootstrap=20)


def test_a_latex_table_has_a_row_per_class_of_as_many_cells():
    found = ratios()
    lines = latex_table(found).splitlines()
    rows = [line for line in lines if line.endswith(r"\\")]
    assert len(rows) == len(found) + 1 and {row.count(" & ") for row in rows} == {3}
    assert rows[0] == r"Scope & Class & Clusters & Fraction \\"
    assert rows[1].startswith(r"a\_b\&c.tif & Pt19 & ") and rows[2].startswith(" & Pt30 & ")
    assert [x for x in lines if "rule" in x] == [r"\toprule", r"\midrule", r"\bottomrule"]
    assert r"\begin{tabular}{llrl}" in lines and lines[-1] == r"\end{tabular}"
    assert lines[0] == r"% Needs \usepackage{booktabs}"
    one = latex_table(found[found["scope"] == "all"])
    assert r"\begin{tabular}{lrl}" in one and "Scope" not in one


def test_a_long_latex_table_goes_over_pages():
    found = pd.concat([ratios()] * MAX_TABULAR_ROWS, ignore_index=True)
    latex = latex_table(found)
    assert r"\begin{longtable}" in latex and r"\endhead" in latex and "longtable" in latex[:80]


def test_a_latex_table_says_why_fractions_are_withheld():
    note = "fractions are withheld: train a model that has these sizes"
    lines = latex_table(ratios().assign(fraction=np.nan, note=note)).splitlines()
    assert lines.count(f"% {note}") == 1
    assert "% " not in latex_table(ratios().assign(note="")).splitlines()


def test_a_comment_of_a_latex_table_can_not_end():
    found = ratios().assign(method="a\n\\input{/etc/passwd}")
    assert all(line.startswith("%") for line in latex_table(found).splitlines() if "input" in line)


def test_tabs_separate_cells_that_are_no_formulas():
    text = tab_separated(ratios())
    assert text.splitlines()[0].split("\t") == COLUMNS
    assert "\n'=1+1\t" in text and "\n=1+1" not in text


class Cells(HTMLParser):
    def __init__(self, html):
        super().__init__()
        self.rows, self.tags = [], []
        self.feed(html)

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        if tag == "tr":
            self.rows.append([])
        elif tag in ("td", "th"):
            self.rows[-1].append("")

    def handle_data(self, data):
        if data.strip():
            self.rows[-1][-1] += data


def test_a_table_for_word_and_excel_holds_numbers_and_harmless_text():
    found = ratios(images=("<script>alert(1)</script>", "=1+1"))
    found.loc[0, "fraction"] = 0.123
    cells = Cells(html_table(found))
    assert set(cells.tags) == {"meta", "table", "tr", "th", "td"}
    assert cells.rows[0] == ["Scope", "Class", "Clusters", "Fraction / %", "Low / %", "High / %"]
    assert cells.rows[1][:2] == ["<script>alert(1)</script>", "Pt19"]
    assert cells.rows[1][3] == "12.3"
    scopes = [row[0] for row in cells.rows[1 : 1 + len(found)]]
    assert scopes.count("'=1+1") == 5 and "=1+1" not in scopes
    for row in cells.rows[1 : 1 + len(found)]:
        assert all(re.fullmatch(r"[0-9.]+", cell) for cell in row[2:])
    assert cells.rows[-1] == [f"C{found['method'].iloc[-1][1:]}."]
