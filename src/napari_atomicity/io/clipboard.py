"""Class ratios as they go into other people's documents: LaTeX, and what a clipboard carries."""

from __future__ import annotations

import math
import re
from typing import Any

import numpy as np
import pandas as pd
from markupsafe import Markup

from .formulas import escape_formula, map_text

LONG = 40
"""A LaTeX table of more rows goes over several pages."""

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
    # After the end of a row these two would be an option of it.
    "[": "{[}",
    "*": "{*}",
    # In the fonts that LaTeX begins with these are other signs.
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    "|": r"\textbar{}",
    '"': r"\char34{}",
    # Two make another sign.
    "-": "-{}",
    "'": "'{}",
    "`": "`{}",
}
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]+")


def latex_text(text: Any) -> str:
    """Text that LaTeX sets as it is, in one line."""
    line = _CONTROL.sub(" ", str(text))
    return "".join(_LATEX.get(character, character) for character in line)


def latex_fraction(fraction: float, low: float, high: float) -> str:
    r"""``$0.21^{+0.04}_{-0.03}$``: a fraction and how far its interval goes to either side.

    With two digits after the point, or as many more as the interval deserves.
    """
    if not math.isfinite(fraction):
        return "--"
    up, down = high - fraction, fraction - low
    if not (math.isfinite(up) and math.isfinite(down)):
        return f"${fraction:.2f}$"
    smallest = min((x for x in (up, down) if x > 0), default=1.0)
    digits = int(np.clip(math.ceil(-math.log10(smallest)), 2, 4))
    return f"${fraction:.{digits}f}^{{+{up:.{digits}f}}}_{{-{down:.{digits}f}}}$"


def latex_table(ratios: pd.DataFrame) -> str:
    """Class ratios as a LaTeX table for the packages booktabs and, if it is long, longtable.

    Parameters
    ----------
    ratios
        From `statistics.ratios.class_ratios`; if of several scopes, these get a column.

    Returns
    -------
    str
        With the methods as comments.
    """
    scopes = list(dict.fromkeys(ratios["scope"]))
    several, long = len(scopes) > 1, len(ratios) > LONG
    kind = "longtable" if long else "tabular"
    head = [*(["Scope"] if several else []), "Class", "Clusters", "Fraction"]
    lines = [
        "% Needs \\usepackage{booktabs}" + (" and \\usepackage{longtable}" if long else ""),
        *(f"% {_CONTROL.sub(' ', str(m))}" for m in dict.fromkeys(ratios["method"])),
        f"\\begin{{{kind}}}{{{'l' * (len(head) - 2)}rl}}",
        "\\toprule",
        f"{' & '.join(head)} \\\\",
        "\\midrule",
        *(["\\endhead"] if long else []),
    ]
    for i, scope in enumerate(scopes):
        if i:
            lines.append("\\addlinespace")
        rows: list[Any] = ratios[ratios["scope"] == scope].to_dict("records")
        for j, row in enumerate(rows):
            cells = [
                *([latex_text(scope) if j == 0 else ""] if several else []),
                latex_text(row["class"]),
                str(row["count"]),
                latex_fraction(row["fraction"], row["fraction_low"], row["fraction_high"]),
            ]
            lines.append(f"{' & '.join(cells)} \\\\")
    return "\n".join([*lines, "\\bottomrule", f"\\end{{{kind}}}", ""])


def tab_separated(table: pd.DataFrame) -> str:
    """A table as spreadsheets take it from the clipboard; no text of it is a formula there."""
    return map_text(table, escape_formula).to_csv(sep="\t", index=False, lineterminator="\n")


def html_table(ratios: pd.DataFrame) -> str:
    """Class ratios as word processors and spreadsheets take them from the clipboard.

    One table with figures in per cent, which are numbers to a spreadsheet; the methods are its
    last row.
    """
    head = ("Scope", "Class", "Clusters", "Share / %", "Low / %", "High / %")
    cell = Markup('<td align="{}">{}</td>')
    # Text is said to be text a second time, in the words of Excel.
    text = Markup("<td style=\"mso-number-format:'\\@'\">{}</td>")
    rows = [
        Markup("<tr>{}</tr>").format(Markup("").join(Markup("<th>{}</th>").format(h) for h in head))
    ]
    records: list[Any] = ratios.to_dict("records")
    for row in records:
        figures = [row["fraction"], row["fraction_low"], row["fraction_high"]]
        cells = [
            text.format(escape_formula(str(row["scope"]))),
            text.format(escape_formula(str(row["class"]))),
            cell.format("right", row["count"]),
            *(cell.format("right", _per_cent(x)) for x in figures),
        ]
        rows.append(Markup("<tr>{}</tr>").format(Markup("").join(cells)))
    said = [x for name in ("method", "note") for x in dict.fromkeys(ratios[name]) if x]
    foot = Markup('<tr><td colspan="{}" style="mso-number-format:\'\\@\'">{}</td></tr>')
    rows += [foot.format(len(head), escape_formula(f"{x[:1].upper()}{x[1:]}.")) for x in said]
    return str(
        Markup('<meta charset="utf-8"><table border="1" cellspacing="0">{}</table>').format(
            Markup("\n").join(rows)
        )
    )


def _per_cent(fraction: float) -> str:
    return f"{100 * fraction:.1f}" if math.isfinite(fraction) else ""
