"""Filter rows of a table by an expression: ``confidence < 0.8 and label = Pt41``.

The language is small, and no part of an expression is evaluated as Python:

- ``column < number``, with ``<  <=  >  >=  =  !=``; an image, a label and other text with ``=``,
  ``!=`` and ``~`` (contains), upper or lower case;
- ``column`` alone, or ``= yes`` and ``= no``, for columns that are true or false, also if some
  images do not have them;
- ``label != label_predicted``, another column in the place of a value;
- ``= none`` for missing values, ``""`` for empty text;
- any other word is searched in the name of the image and in the label;
- ``and`` (or ``&``, may be omitted), ``or`` (``|``), ``not`` and brackets; text with spaces in
  quotes.
"""

from __future__ import annotations

import difflib
import operator
import re
from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
import pandas as pd

from ..errors import AtomicityError

EXAMPLES = (
    "confidence < 0.8",
    "diameter_nm > 1.2 and not touches_border",
    "label = Pt41",
    "label != label_predicted",
)

_TOKEN = re.compile(
    r"""\s*(?:(?P<quoted>"[^"]*"|'[^']*')
        |(?P<sign><=|>=|!=|<>|==|[<>=~≤≥≠])
        |(?P<bracket>[()])
        |(?P<word>&&?|\|\|?|[^\s()<>=!~≤≥≠"'&|]+))""",
    re.VERBOSE,
)
_SAME = {"==": "=", "<>": "!=", "≠": "!=", "≤": "<=", "≥": ">="}
_AND, _OR = ("and", "&", "&&"), ("or", "|", "||")
_COMPARE: dict[str, Callable] = {
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
    "=": operator.eq,
    "!=": operator.ne,
}
_YES, _NO, _NOTHING = ("yes", "true", "1"), ("no", "false", "0"), ("none", "nan", "")
_FREE_TEXT = ("image", "label")
# Maximum number of words and signs: nested brackets are parsed by recursion.
_MAX_TOKENS = 200
_Mask = np.ndarray


class FilterError(AtomicityError):
    """A filter expression is not valid for a table."""


@dataclass
class _Tokens:
    """The tokens of an expression, (kind, text), and the position of the parser."""

    tokens: list[tuple[str, str]]
    table: pd.DataFrame
    at: int = 0
    columns: dict[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.columns = {str(name).lower(): str(name) for name in self.table.columns}

    def next(self) -> tuple[str, str]:
        return self.tokens[self.at] if self.at < len(self.tokens) else ("end", "")

    def take(self) -> tuple[str, str]:
        token = self.next()
        self.at += 1
        return token

    def is_word(self, *words: str) -> bool:
        kind, text = self.next()
        return kind == "word" and text.lower() in words


def matching_rows(
    table: pd.DataFrame,  # any table; names of columns are not case-sensitive
    line: str,  # the expression, as described at the top of this module; "" matches all rows
) -> np.ndarray:  # (n_rows,), bool: which rows match
    """Return which rows of a table match a filter expression.

    Raises `FilterError` if the expression is not valid; the message says why.
    """
    reader = _Tokens(_tokens(line), table)
    if not reader.tokens:
        return np.ones(len(table), bool)
    mask = _either(reader)
    if reader.next()[0] != "end":
        raise FilterError(f"{reader.next()[1]} is not expected here", advice="Check the brackets")
    return mask


def _tokens(line: str) -> list[tuple[str, str]]:
    found, at, line = [], 0, line.strip()
    while at < len(line):
        match = _TOKEN.match(line, at)
        if match is None:
            raise FilterError(
                f"{line[at:].strip()} can not be read", advice="Check that all quotes are closed"
            )
        kind = str(match.lastgroup)
        text = match[kind]
        found.append((kind, text[1:-1] if kind == "quoted" else _SAME.get(text, text)))
        at = match.end()
    if len(found) > _MAX_TOKENS:
        raise FilterError("the expression is too long")
    return found


def _either(reader: _Tokens) -> _Mask:
    mask = _both(reader)
    while reader.is_word(*_OR):
        reader.take()
        mask = mask | _both(reader)
    return mask


def _both(reader: _Tokens) -> _Mask:
    mask = _one(reader)
    while True:
        if reader.is_word(*_AND):
            reader.take()
        elif reader.next()[0] == "end" or reader.next()[1] == ")" or reader.is_word(*_OR):
            return mask
        mask = mask & _one(reader)


def _one(reader: _Tokens) -> _Mask:
    if reader.is_word("not"):
        reader.take()
        return ~_one(reader)
    kind, text = reader.take()
    if (kind, text) == ("bracket", "("):
        mask = _either(reader)
        if reader.take()[1] != ")":
            raise FilterError("a bracket is not closed")
        return mask
    if kind not in ("word", "quoted") or (kind == "word" and text.lower() in (*_AND, *_OR)):
        raise FilterError(
            f"a value is missing before {text}" if text else "the expression is incomplete",
            advice=f"Example: {EXAMPLES[0]}",
        )
    if reader.next()[0] == "sign":
        return _comparison(reader, text)
    column = reader.columns.get(text.lower()) if kind == "word" else None
    if column is not None and _may_be_bool(reader.table[column]):
        return _of_bool(reader.table[column], column, "=", "yes")
    if column is not None:
        raise FilterError(f"{column} needs a comparison", advice=f"Write {column} = …")
    if kind == "word" and not any(map(str.isalnum, text)):
        raise FilterError(f"{text} is not expected here", advice="Text to search needs quotes")
    mask = _free_text(reader.table, text)
    if kind == "word" and "_" in text and not mask.any() and _nearest(reader, text, 0.75):
        raise _no_column(reader, text)  # a misspelt name rather than a text
    return mask


def _nearest(reader: _Tokens, name: str, cutoff: float = 0.6) -> str:
    """Return the column with the most similar name, or ""."""
    near = difflib.get_close_matches(name.lower(), reader.columns, 1, cutoff)
    return reader.columns[near[0]] if near else ""


def _no_column(reader: _Tokens, name: str) -> FilterError:
    near = _nearest(reader, name)
    advice = f"Perhaps {near}" if near else "The header of the table shows the names"
    return FilterError(f"there is no column {name}", advice=advice)


def _comparison(reader: _Tokens, name: str) -> _Mask:
    sign = reader.take()[1]
    kind, value = reader.take()
    if kind not in ("word", "quoted"):
        raise FilterError(f"a value is missing after {name} {sign}")
    column = reader.columns.get(name.lower())
    if column is None:
        raise _no_column(reader, name)
    values = reader.table[column]
    other = reader.columns.get(value.lower()) if kind == "word" else None
    if other is not None:
        return _of_columns(values, reader.table[other], sign)
    is_number = pd.api.types.is_numeric_dtype(values) and _float(value) is not None
    if _is_bool(values) or (not is_number and _may_be_bool(values)):
        return _of_bool(values, column, sign, value.lower())
    if pd.api.types.is_numeric_dtype(values):
        return _of_number(values, column, sign, value)
    return _of_text(values, column, sign, value)


def _is_bool(values: pd.Series) -> bool:
    return bool(pd.api.types.is_bool_dtype(values))


def _may_be_bool(values: pd.Series) -> bool:
    """Return whether a column is true or false, or a number because some rows have no value."""
    if _is_bool(values):
        return True
    known = values.dropna()
    is_incomplete = values.dtype.kind == "f" and 0 < len(known) < len(values)
    return is_incomplete and bool(known.isin([0, 1]).all())


def _of_bool(values: pd.Series, column: str, sign: str, value: str) -> _Mask:
    if sign in ("=", "!=") and value in _NOTHING:
        return values.isna().to_numpy() == (sign == "=")
    if sign not in ("=", "!=") or value not in (*_YES, *_NO):
        raise FilterError(f"{column} is yes or no", advice=f"Write {column} = yes")
    # Missing values match no comparison.
    wanted = (value in _YES) == (sign == "=")
    return np.asarray(values.to_numpy(float) == float(wanted))


def _of_number(values: pd.Series, column: str, sign: str, value: str) -> _Mask:
    numbers = values.to_numpy(float)
    if value.lower() in _NOTHING and sign in ("=", "!="):
        return np.isnan(numbers) == (sign == "=")
    wanted = _float(value)
    if wanted is None:
        raise FilterError(
            f"{column} is a number, {value} is not",
            advice="Decimals are written with a point" if "," in value else "",
        )
    if sign == "~":
        raise FilterError(f"{column} is a number, ~ searches text", advice="Use =")
    # Missing values match no comparison, not even !=.
    return np.asarray(_COMPARE[sign](numbers, wanted)) & ~np.isnan(numbers)


def _float(text: str) -> float | None:
    try:
        return float(text)
    except ValueError:
        return None


def _of_columns(values: pd.Series, others: pd.Series, sign: str) -> _Mask:
    """Compare two columns; texts in lower case, and missing numbers match nothing."""
    numeric = {pd.api.types.is_numeric_dtype(column) for column in (values, others)}
    known = {True: _COMPARE, False: ("=", "!=")}
    if len(numeric) > 1 or sign not in known[True in numeric]:
        raise FilterError(
            f"{values.name} and {others.name} have no comparison {sign}",
            advice="Compare two numbers, or two texts with = or !=",
        )
    if True not in numeric:
        a, b = (column.astype(str).str.lower().to_numpy() for column in (values, others))
        return np.asarray(_COMPARE[sign](a, b))
    a, b = values.to_numpy(float), others.to_numpy(float)
    return np.asarray(_COMPARE[sign](a, b)) & ~np.isnan(a) & ~np.isnan(b)


def _of_text(values: pd.Series, column: str, sign: str, value: str) -> _Mask:
    wanted = "" if value.lower() in _NOTHING else value.lower()
    if sign == "~":
        return _each(values, lambda text: wanted in text)
    if sign not in ("=", "!="):
        raise FilterError(f"{column} is text and has no comparison {sign}", advice="Use =, != or ~")
    return _each(values, lambda text: text == wanted) == (sign == "=")


def _free_text(table: pd.DataFrame, text: str) -> _Mask:
    mask = np.zeros(len(table), bool)
    for column in _FREE_TEXT:
        if column in table.columns:
            mask |= _each(table[column], lambda value: text.lower() in value)
    return mask


def _each(values: pd.Series, test: Callable[[str], bool]) -> _Mask:
    """Test each text in lower case, "" if it is missing; each distinct text is tested once."""
    codes, texts = pd.factorize(values)
    return np.array([test(str(text).lower()) for text in texts] + [test("")], bool)[codes]
