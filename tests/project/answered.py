"""Answers as the page of a pack writes them."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

from napari_atomicity.project.packs.browser_packs import BrowserPack

Marks = dict[int, list[tuple]]
"""Item → marks (y, x) or (y, x, uncertain)."""


def answers_to(
    pack: BrowserPack,
    who: str,
    marks: Marks | None = None,
    labels: dict[int, str] | None = None,
    session: str | None = None,
    saved: str = "2026-01-02T03:04:05.000Z",
    incomplete: tuple[int, ...] = (),
) -> dict[str, Any]:
    """The content of a file of answers."""
    manifest = pack.manifest
    items: list[dict[str, Any]] = []
    for item, places in (marks or {}).items():
        rows = [
            {"x_px": x, "y_px": y, "uncertain": bool(unsure), "seconds": 1.5}
            for y, x, *unsure in places
        ]
        items.append({"item": item, "complete": item not in incomplete, "marks": rows})
    for item, label in (labels or {}).items():
        items.append({"item": item, "complete": True, "label": label, "uncertain": False})
    return {
        "format": 1, "kind": "answers", "program": "napari-atomicity", "version": "0.2.0",
        "pack": manifest.sha256, "session": session or f"{abs(hash(who)):032x}"[:32], "name": who,
        "started": saved, "saved": saved, "examples": [], "items": items,
        "manifest": asdict(manifest),
    }  # fmt: skip


def to_lines(answers: dict[str, Any]) -> str:
    """JSON with a line for each mark, as the page writes it."""
    text = json.dumps({**answers, "items": []})
    items = []
    for item in answers["items"]:
        rows = ",\n".join(json.dumps(row) for row in item.get("marks", []))
        about = json.dumps({k: v for k, v in item.items() if k != "marks"})[:-1]
        items.append(f'{about}, "marks": [\n{rows}\n]}}' if rows else f"{about}}}")
    return text.replace('"items": []', '"items": [\n' + ",\n".join(items) + "\n]")


def write_answers(path: Path, pack: BrowserPack, who: str, *args: Any, **kwargs: Any) -> Path:
    path.write_text(to_lines(answers_to(pack, who, *args, **kwargs)), "utf-8")
    return path
