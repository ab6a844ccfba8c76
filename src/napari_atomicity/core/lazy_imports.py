"""Public names of a package whose modules are imported on first use."""

from __future__ import annotations

import sys
from importlib import import_module

TYPE_CHECKING = False  # as in the package itself

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from typing import Any


def lazy_attributes(
    package: str,
    modules: Mapping[str, str],  # public name → module of the package that defines it
) -> tuple[Callable[[str], Any], Callable[[], list[str]]]:
    """Make ``__getattr__`` and ``__dir__`` of a package (PEP 562).

    The results are ``__getattr__`` and ``__dir__``, which lists public names and imported modules
    only.
    """
    here = vars(sys.modules[package])

    def names() -> list[str]:
        # With modules of the package that are imported already, without what it uses itself.
        own = [
            name
            for name, value in here.items()
            if isinstance(value, type(sys)) and value.__name__ == f"{package}.{name}"
        ]
        special = [name for name in here if name.startswith("__") and name.endswith("__")]
        return sorted({*own, *special, *modules})

    def get(name: str) -> Any:
        if name in modules:
            return getattr(import_module(f".{modules[name]}", package), name)
        raise AttributeError(f"module {package!r} has no attribute {name!r}")

    return get, names
