"""The Jinja templates of the reports."""

from __future__ import annotations

from functools import cache
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined


@cache
def _environment() -> Environment:
    return Environment(
        loader=PackageLoader("napari_atomicity.reporting", "templates"),
        autoescape=True,
        auto_reload=False,  # the templates do not change while the program runs
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )


def get_template(name: str) -> Any:
    """Return a template of this package by its file name."""
    return _environment().get_template(name)
