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
    Shortcut(("P",), "add clusters: click where they are, P again ends it", "add"),
    Shortcut(("S",), "split each selected cluster into two", "split"),
    Shortcut(("M",), "merge the selected clusters into one", "merge"),
    Shortcut(("E",), "exclude a region: draw around it", "exclude"),
    Shortcut(("Control-Z",), "undo", "undo"),
    Shortcut(("Control-Shift-Z", "Control-Y"), "redo", "redo"),
    Shortcut(("N",), "go to the next cluster that is least certain", "next"),
    Shortcut(("F1",), "show all shortcuts", "help"),
)
"""Hold for the points layers of all images while label mode is on."""

REVIEW: tuple[Shortcut, ...] = (
    *(Shortcut((str(n),), f"it is of class {n}", "label", n) for n in range(1, 10)),
    Shortcut(("0",), "it is unknown", "label", 0),
    Shortcut(("A",), "it is an aggregate", "aggregate"),
    Shortcut(("X", "Delete", "Backspace"), "it is not a cluster: delete it", "remove"),
    Shortcut(("Enter", "Space"), "the machine is right", "agree"),
    Shortcut(("N", "Right"), "to the next without an answer, without one for this", "next"),
    Shortcut(("P", "Left"), "back to the one before", "back"),
    Shortcut(("U",), "take its label back", "unlabel"),
    Shortcut(("Control-Z",), "undo, and show the cluster concerned", "undo"),
    Shortcut(("Control-Shift-Z", "Control-Y"), "redo", "redo"),
    Shortcut(("Escape",), "end the review", "end"),
    Shortcut(("F1",), "show all shortcuts", "help"),
)
"""Hold for the whole canvas during a review, but for layers in which a person draws."""

BROWSE: tuple[Shortcut, ...] = (
    Shortcut(("PageDown",), "the next image", "next_image"),
    Shortcut(("PageUp",), "the image before", "previous_image"),
)
"""Hold for the whole canvas once Browse is open."""

GALLERY: tuple[Shortcut, ...] = (
    *(
        Shortcut((str(n),), f"the selected tiles are of class {n}", "label", n)
        for n in range(1, 10)
    ),
    Shortcut(("0",), "the selected tiles are unknown", "label", 0),
    Shortcut(("A",), "the selected tiles are aggregates", "aggregate"),
    Shortcut(("U",), "take the labels that a person gave back", "unlabel"),
    Shortcut(("X", "Delete"), "the selected tiles are not clusters: delete them", "delete"),
    Shortcut(("Control-Z",), "undo", "undo"),
    Shortcut(("Control-Shift-Z", "Control-Y"), "redo", "redo"),
    Shortcut(("Control-A",), "select all tiles that are shown", "select all"),
    Shortcut(("Return",), "go to the cluster in the image", "focus"),
)
"""Hold while the gallery has the focus."""

MARKING: tuple[Shortcut, ...] = (
    Shortcut(("Delete", "Backspace"), "there is no atom: delete the selected ones", "delete"),
    Shortcut(("U",), "the selected atoms are uncertain, or are not any more", "uncertain"),
    Shortcut(("C",), "the selected atoms are atoms: no threshold takes them away", "confirm"),
    Shortcut(("Tab",), "to the next least certain one that nobody has looked at", "next"),
    Shortcut(("Shift-Tab",), "back to the one before", "back"),
    Shortcut(("Left", "Right", "Up", "Down"), "move the selected atoms by half a pixel", "nudge"),
    Shortcut(("L",), "the loupe: what is around the mouse, enlarged", "loupe"),
    Shortcut(("Control-Z",), "undo", "undo"),
    Shortcut(("Control-Shift-Z", "Control-Y"), "redo", "redo"),
    Shortcut(("Escape",), "end the marking", "end"),
    Shortcut(("F1",), "show all shortcuts", "help"),
)
"""Hold for the whole canvas while atoms are marked, but for layers in which a person draws."""


def places() -> dict[str, tuple[Shortcut, ...]]:
    """All shortcuts, by where and when they hold; a new tuple in this file is a new place."""
    found = {
        name: value
        for name, value in globals().items()
        if isinstance(value, tuple) and value and all(isinstance(s, Shortcut) for s in value)
    }
    return {name.replace("_", " ").capitalize(): value for name, value in found.items()}


def format_key(key: str) -> str:
    """``Ctrl+Shift+Z`` for napari's ``Control-Shift-Z``."""
    named = {"Control": "Ctrl", "Escape": "Esc", "Return": "Enter", "Left": "←", "Right": "→"}
    named |= {"Up": "↑", "Down": "↓"}
    return "+".join(named.get(part, part) for part in key.split("-"))


def rows(shortcuts: tuple[Shortcut, ...]) -> list[tuple[str, str]]:
    """Keys and what they do, in words; the nine number keys are one row."""
    out: list[tuple[str, str]] = []
    for shortcut in shortcuts:
        if shortcut.action == "label" and shortcut.argument:
            if shortcut.argument == 1:
                out.append(("1 … 9", shortcut.what.removesuffix("class 1") + "this class"))
            continue
        out.append((" or ".join(map(format_key, shortcut.keys)), shortcut.what))
    return out


def as_help() -> str:
    """The shortcuts of label mode as an HTML table for a tooltip."""
    return as_table(LABEL_MODE)


def as_table(shortcuts: tuple[Shortcut, ...]) -> str:
    """Shortcuts as an HTML table."""
    cells = "".join(
        f"<tr><td style='white-space: nowrap'><b>{key}</b>&nbsp;&nbsp;</td><td>{what}</td></tr>"
        for key, what in rows(shortcuts)
    )
    return f"<table>{cells}</table>"
