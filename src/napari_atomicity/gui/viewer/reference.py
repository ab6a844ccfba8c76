"""The known ratios that a person enters in the dock Ratios."""

from __future__ import annotations

import contextlib
from typing import Any

import pandas as pd
from psygnal import Signal

from ...core.errors import TableError
from ...io.reference_ratios import normalise_reference, parse_reference


class Reference:
    """Known ratios of the images of a window, typed or loaded, which a project stores.

    Signals: ``restored()`` after those of a project that was opened; ``left_out_changed()`` if a
    report takes them in now, or leaves them out.
    """

    restored = Signal()
    left_out_changed = Signal()

    line = ""
    """What was typed, or the name of the file."""
    typed: pd.DataFrame | None = None
    loaded: pd.DataFrame | None = None
    for_all: pd.DataFrame | None = None
    """Reference for all images, which a report takes too."""
    left_out = False
    """Whether the reference is of the shown image, and a report leaves it out."""

    def forget(self) -> None:
        """Take none, as another project has no such reference."""
        self.load("", None)

    def load(self, name: str, loaded: pd.DataFrame | None) -> None:
        """Take the ratios of a file."""
        self.line, self.typed, self.loaded = name, None, loaded
        self.give_to_report(loaded)

    def enter(self, line: str) -> None:
        """Take a typed line.

        Raises `TableError` if it is no reference; the line is kept.
        """
        self.load(line, None)
        self.typed = parse_reference(line) if line else None

    def give_to_report(self, for_all: pd.DataFrame | None, left_out: bool = False) -> None:
        """Set what a report takes, or that it leaves the reference out."""
        self.for_all = for_all
        if left_out != self.left_out:
            self.left_out = left_out
            self.left_out_changed.emit()

    # ---- in a project
    def to_dict(self) -> dict[str, Any]:
        """Return the reference as JSON values."""
        table = None if self.loaded is None else self.loaded.to_dict("list")
        return {"line": self.line, "table": table}

    def restore(self, stored: dict[str, Any]) -> None:
        """Take up the reference of a project that was opened."""
        line, table = str(stored["line"]), stored.get("table")
        if table is not None:
            self.load(line, normalise_reference(pd.DataFrame(table)))
        else:
            with contextlib.suppress(TableError):  # it is shown, to be corrected
                self.enter(line)
                # Whether it is of all images is told by the dock Ratios.
                self.give_to_report(None, left_out=self.typed is not None)
        self.restored.emit()
