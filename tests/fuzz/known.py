"""Cases of the short run that do not end as they should yet, with the reason.

Each entry must fail: a case that ends well has to leave this list, and the list has to become
empty.
"""

KNOWN: dict[tuple[str, int], str] = {}
"""(kind, seed) → what is to be done."""
