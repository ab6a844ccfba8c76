"""Shortcuts as data: what binds them, the help and the test for clashes all read this."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Shortcut:
    """Keys (any of them), what they do in words, and the action with its argument."""

    keys: tuple[str, ...]
    what: str
    action: str
    argument: int = 0


LABEL_MODE: tuple[Shortcut, ...] = (
    *(
        Shortcut((str(n),), f"the selected clusters are of class {n}", "label", n)
        for n in range(1, 10)
    ),
    Shortcut(("0",), "the selected clusters are unknown", "label", 0),
    # napari's A selects all in view; its Ctrl+A and Shift+A, which stay, do so too.
    Shortcut(("A",), "the selected clusters are aggregates (Ctrl+A selects all)", "aggregate"),
    Shortcut(("U",), "take the labels that a person gave back", "unlabel"),
    Shortcut(("Backspace", "Delete"), "delete the selected clusters", "delete"),
    Shortcut(("Control-Z",), "undo", "undo"),
    Shortcut(("Control-Shift-Z", "Control-Y"), "redo", "redo"),
    Shortcut(("N",), "go to the next cluster that is least certain", "next"),
)
"""Hold for the points layers of all images while label mode is on."""


def as_help() -> str:
    """The shortcuts as an HTML table for a tooltip or a help window."""
    rows = [
        ("1 … 9", "the selected clusters are of this class"),
        *(
            (" or ".join(s.keys), s.what)
            for s in LABEL_MODE
            if not (s.action == "label" and s.argument)
        ),
    ]
    cells = "".join(f"<tr><td><b>{k}</b>&nbsp;&nbsp;</td><td>{what}</td></tr>" for k, what in rows)
    return f"<table>{cells}</table>"
