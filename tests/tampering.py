"""Valid JSON files with one value changed."""

from __future__ import annotations

import json
from collections.abc import Iterator
from copy import deepcopy
from typing import Any

from hypothesis import strategies as st


class _Deleted:
    def __repr__(self) -> str:  # the name of a test must be that of the next run
        return "deleted"


DELETED = _Deleted()
"""In place of a value: the entry is left out."""


def tamper(content: Any, path: tuple, value: Any) -> str:
    """Return JSON in which the value at a path of keys and indices is another one."""
    content = deepcopy(content)
    part = content
    for key in path[:-1]:
        part = part[key]
    if value is DELETED:
        del part[path[-1]]
    else:
        part[path[-1]] = value
    return json.dumps(content)


def _paths(value: Any, path: tuple = ()) -> Iterator[tuple]:
    if path:
        yield path
    items = value.items() if isinstance(value, dict) else enumerate(value[:3])
    for key, part in items:
        if isinstance(part, dict | list):
            yield from _paths(part, (*path, key))
        else:
            yield (*path, key)


def nested(depth: int) -> list:
    """Return a list in a list in a list …"""
    out: list = []
    for _ in range(depth):
        out = [out]
    return out


def tampered(content: Any) -> st.SearchStrategy[bytes]:
    """JSON with one value replaced or left out, cut, or with one byte changed."""
    text = json.dumps(content).encode()
    numbers = st.one_of(st.integers(), st.floats(), st.sampled_from([0, -5, 10**6, 1e9, 10**400]))
    values = st.one_of(
        numbers, st.text(max_size=5), st.booleans(), st.none(), st.lists(numbers, max_size=6),
        st.sampled_from([DELETED, "56", {}, nested(300)]),
    )  # fmt: skip
    changed = st.builds(
        lambda path, value: tamper(content, path, value).encode(),
        st.sampled_from(sorted(_paths(content), key=str)),
        values,
    )
    places = st.integers(0, len(text) - 1)
    cut = st.builds(lambda i: text[:i], places)
    flipped = st.builds(
        lambda i, byte: text[:i] + bytes([byte]) + text[i + 1 :], places, st.integers(0, 255)
    )
    return st.one_of(changed, changed, cut, flipped)
