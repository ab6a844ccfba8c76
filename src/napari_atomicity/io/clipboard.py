"""Class ratios for other documents: LaTeX, and the formats of the clipboard."""

from __future__ import annotations

import math
import re
from typing import Any

import numpy as np
import pandas as pd
from markupsafe import Markup

from ..core.tables.cluster_table import documented_columns
from .files import escape_formula, map_text

DECIMALS = {c.name: c.decimals for c in documented_columns() if c.decimals is not None}
"""Decimals of columns that do not have a fixed number of digits."""

MAX_TABULAR_ROWS = 40
"""LaTeX tables with more rows use the environment longtable, which spans pages."""

_LATEX = {
    "\\": r"\textbackslash{}",
    "&": r"\&",
    "%": r"\%",
    "$": r"\$",
    "#": r"\#",
    "_": r"\_",
    "{": r"\{",
    "}": r"\}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    # After the end of a row LaTeX reads these two as an option of the row.
    "[": "{[}",
    "*": "{*}",
    # The default fonts of LaTeX have other signs in the places of these.
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    "|": r"\textbar{}",
    '"': r"\char34{}",
    # Two of these in a row are a ligature.
    "-": "-{}",
    "'": "'{}",
    "`": "`{}",
}
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]+")


def latex_text(text: Any) -> str:
    """Escape text for LaTeX, in one line."""
    line = _CONTROL.sub(" ", str(text))
    return "".join(_LATEX.get(character, character) for character in line)


def latex_fraction(
    fraction: float,  # estimate, 0 to 1
    low: float,
    high: float,
) -> str:  # with two decimals, or up to four if the interval is narrow; "--" for NaN
    r"""Format a fraction with its interval as ``$0.21^{+0.04}_{-0.03}$``."""
    if not math.isfinite(fraction):
        return "--"
    up, down = high - fraction, fraction - low
    if not (math.isfinite(up) and math.isfinite(down)):
        return f"${fraction:.2f}$"
    smallest = min((x for x in (up, down) if x > 0), default=1.0)
    digits = int(np.clip(math.ceil(-math.log10(smallest)), 2, 4))
    return f"${fraction:.{digits}f}^{{+{up:.{digits}f}}}_{{-{down:.{digits}f}}}$"


def latex_table(
    ratios: pd.DataFrame,  # from `statistics.ratios.ratios.class_ratios`
) -> str:
    """Format class ratios as a LaTeX table for the packages booktabs and longtable.

    Methods and notes are comments. Long tables use longtable. Several scopes are a column.
    """
    # Rows of a scope stay together, in the order in which scopes first occur.
    ratios = ratios.iloc[np.argsort(pd.factorize(ratios["scope"])[0], kind="stable")]
    several, long = len(set(ratios["scope"])) > 1, len(ratios) > MAX_TABULAR_ROWS
    cells = pd.DataFrame(
        {
            "Scope": ratios["scope"].map(latex_text).where(~ratios["scope"].duplicated(), ""),
            "Class": ratios["class"].map(latex_text),
            "Clusters": ratios["count"].astype(str),
            "Fraction": [
                latex_fraction(*row)
                for row in ratios[["fraction", "fraction_low", "fraction_high"]].to_numpy(float)
            ],
        }
    )
    cells = cells if several else cells.drop(columns="Scope")
    table = cells.style.hide(axis="index").to_latex(
        column_format="l" * (cells.shape[1] - 2) + "rl",
        hrules=True,
        environment="longtable" if long else None,
    )
    remarks = [x for name in ("method", "note") for x in dict.fromkeys(ratios[name]) if x]
    comments = [
        "% Needs \\usepackage{booktabs}" + (" and \\usepackage{longtable}" if long else ""),
        *(f"% {_CONTROL.sub(' ', str(text))}" for text in remarks),
    ]
    return "\n".join([*comments, _space_scopes(table, ratios["scope"])])


def _space_scopes(table: str, scope: pd.Series) -> str:
    r"""Insert ``\addlinespace`` before the first row of each scope but the first."""
    lines = table.splitlines()
    last = max(i for i, line in enumerate(lines) if line.endswith(r"\\"))
    first_row = last - len(scope) + 1
    starts = np.flatnonzero(~scope.duplicated())[1:]
    for row in starts[::-1]:
        lines.insert(first_row + int(row), r"\addlinespace")
    return "\n".join([*lines, ""])


def tab_separated(table: pd.DataFrame) -> str:
    """Format a table for spreadsheets, with text that can not run as a formula.

    Numbers have four digits, or the decimals of `DECIMALS`; files have all digits.
    """
    out = map_text(table, escape_formula)
    for name in out.columns[[pd.api.types.is_float_dtype(dtype) for dtype in out.dtypes]]:
        digits = [_rounded(value, DECIMALS.get(str(name))) for value in out[name]]
        out[name] = pd.Series(digits, out.index, object)
    return out.to_csv(sep="\t", index=False, lineterminator="\n")


def _rounded(value: float, decimals: int | None) -> str:
    if not math.isfinite(value):
        return ""
    if decimals is None:
        return f"{value:.0f}" if abs(value) >= 1000 else f"{value:.4g}"
    return f"{value:.{decimals}f}"


def html_table(ratios: pd.DataFrame) -> str:
    """Format class ratios as an HTML table for word processors and spreadsheets.

    Fractions are in per cent, which spreadsheets read as numbers; the methods are the last rows.
    """
    # Not by pandas, whose styles are in a separate element that programs ignore when they paste.
    head = ("Scope", "Class", "Clusters", "Fraction / %", "Low / %", "High / %")
    number = Markup('<td align="right">{}</td>')
    # In the notation of Excel: the cell holds text.
    text = Markup("<td style=\"mso-number-format:'\\@'\">{}</td>")
    row_of = Markup("<tr>{}</tr>")
    rows = [row_of.format(Markup("").join(Markup("<th>{}</th>").format(h) for h in head))]
    records: list[Any] = ratios.to_dict("records")
    for row in records:
        fractions = [row["fraction"], row["fraction_low"], row["fraction_high"]]
        cells = [
            text.format(escape_formula(str(row["scope"]))),
            text.format(escape_formula(str(row["class"]))),
            number.format(row["count"]),
            *(number.format(_per_cent(x)) for x in fractions),
        ]
        rows.append(row_of.format(Markup("").join(cells)))
    notes = [x for name in ("method", "note") for x in dict.fromkeys(ratios[name]) if x]
    foot = Markup('<tr><td colspan="{}" style="mso-number-format:\'\\@\'">{}</td></tr>')
    rows += [foot.format(len(head), escape_formula(f"{x[:1].upper()}{x[1:]}.")) for x in notes]
    return str(
        Markup('<meta charset="utf-8"><table border="1" cellspacing="0">{}</table>').format(
            Markup("\n").join(rows)
        )
    )


def _per_cent(fraction: float) -> str:
    return f"{100 * fraction:.1f}" if math.isfinite(fraction) else ""
