"""Text for people."""

from __future__ import annotations

from collections.abc import Sequence


def printable(text: object, instead: str = "\N{REPLACEMENT CHARACTER}") -> str:
    """Return text without control characters: those of a file could move or hide other text."""
    return "".join(c if c.isprintable() else instead for c in str(text))


def first_names(names: Sequence[str], n: int = 6) -> str:
    """Join the first names, and the number of the others: ``a.tif, b.tif, 4 more``."""
    rest = len(names) - n
    return ", ".join([*names[:n], *([f"{rest} more"] if rest > 0 else [])])


def listed(parts: Sequence[str]) -> str:
    """Join one part or more as in a sentence: ``a, b and c``."""
    return " and ".join(filter(None, [", ".join(parts[:-1]), parts[-1]]))


def pluralise(
    n: int,
    noun: str,
    of_many: str = "",  # plural; by default the noun with an s
) -> str:
    """Format a number with its noun, in the plural if needed: ``2 clusters``."""
    return f"{n} {noun if n == 1 else of_many or noun + 's'}"


def capital(text: str) -> str:
    """Capitalise the first letter."""
    return text[:1].upper() + text[1:]


def sentence(text: str) -> str:
    """Return text with a capital first letter and a full stop."""
    return f"{capital(text)}."
