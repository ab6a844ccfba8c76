"""Draw the folders of the package and their imports, into docs/images/architecture.svg.

The floors are those of the import contract in pyproject.toml, the arrows are the imports that the
code has. Of these only the ones are drawn that do not follow from others: if gui imports state and
state imports core, an arrow from gui to core says nothing new.
"""

from __future__ import annotations

import ast
import tomllib
from html import escape
from pathlib import Path

import grimp

ROOT = Path(__file__).parents[2]
PACKAGE = "napari_atomicity"
PICTURE = ROOT / "docs" / "images" / "architecture.svg"
_BOX_WIDTH, _BOX_HEIGHT, _GAP, _FLOOR_HEIGHT, _MARGIN = 270, 62, 24, 108, 20
_CHARACTERS = 42
"""Of the description that fit into a line of a box."""


def floors() -> list[list[str]]:
    """Read the floors from top to bottom, each with its folders, from the import contract."""
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"]
    contract = next(c for c in settings["contracts"] if c.get("containers") == [PACKAGE])
    return [[name.strip() for name in layer.split("|")] for layer in contract["layers"]]


def imports() -> dict[str, set[str]]:
    """Find which folder imports which others."""
    graph = grimp.build_graph(PACKAGE, cache_dir=None)
    folders = [name for floor in floors() for name in floor]
    for name in folders:
        graph.squash_module(f"{PACKAGE}.{name}")
    return {
        name: {
            target.rpartition(".")[2]
            for target in graph.find_modules_directly_imported_by(f"{PACKAGE}.{name}")
        }
        & (set(folders) - {name})
        for name in folders
    }


def reduced(graph: dict[str, set[str]]) -> dict[str, set[str]]:
    """Leave out the arrows of an acyclic graph that follow from others."""

    def below(name: str) -> set[str]:
        return graph[name] | {deep for target in graph[name] for deep in below(target)}

    return {
        name: {t for t in targets if not any(t in below(o) for o in targets - {t})}
        for name, targets in graph.items()
    }


def description(folder: str) -> str:
    """Return the first line of the docstring of a folder."""
    path = ROOT / "src" / PACKAGE / folder / "__init__.py"
    return (ast.get_docstring(ast.parse(path.read_text())) or "").split("\n")[0]


def _lines(text: str) -> list[str]:
    """Break a text into at most two lines."""
    words, lines = text.split(), [""]
    for word in words:
        if len(lines[-1]) + len(word) >= _CHARACTERS:
            lines.append("")
        lines[-1] = f"{lines[-1]} {word}".strip()
    return lines[:2]


def draw() -> str:
    """Return the picture as SVG."""
    rows = floors()
    width = 2 * _MARGIN + max(map(len, rows)) * (_BOX_WIDTH + _GAP) - _GAP
    height = 2 * _MARGIN + (len(rows) - 1) * _FLOOR_HEIGHT + _BOX_HEIGHT
    corner = {}
    for floor, names in enumerate(rows):
        left = (width - len(names) * (_BOX_WIDTH + _GAP) + _GAP) / 2
        for i, name in enumerate(names):
            corner[name] = (left + i * (_BOX_WIDTH + _GAP), _MARGIN + floor * _FLOOR_HEIGHT)
    arrows, boxes = [], []
    for name, targets in reduced(imports()).items():
        x, y = corner[name]
        for target in sorted(targets):
            to_x, to_y = corner[target]
            arrows.append(
                f'<line x1="{x + _BOX_WIDTH / 2:.0f}" y1="{y + _BOX_HEIGHT}" '
                f'x2="{to_x + _BOX_WIDTH / 2:.0f}" y2="{to_y - 3}" marker-end="url(#tip)"/>'
            )
    for name, (x, y) in corner.items():
        text = "".join(
            f'<text x="{x + 12:.0f}" y="{y + 38 + 15 * i}" class="small">{escape(line)}</text>'
            for i, line in enumerate(_lines(description(name)))
        )
        boxes.append(
            f'<rect x="{x:.0f}" y="{y}" width="{_BOX_WIDTH}" height="{_BOX_HEIGHT}" rx="6"/>'
            f'<text x="{x + 12:.0f}" y="{y + 20}" class="name">{name}</text>{text}'
        )
    return "\n".join(
        [
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" '
            f'width="{width}" height="{height}" font-family="sans-serif">',
            '<defs><marker id="tip" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="8" '
            'markerHeight="8" orient="auto"><path d="M0 0 8 4 0 8z" fill="#666"/></marker></defs>',
            "<style>rect{fill:#f4f7fb;stroke:#35608f}line{stroke:#666;stroke-width:1.2}"
            ".name{font-weight:bold;font-size:15px;fill:#12304f}"
            ".small{font-size:12px;fill:#333}</style>",
            f'<rect x="0" y="0" width="{width}" height="{height}" '
            'style="fill:#ffffff;stroke:none"/>',
            *arrows,
            *boxes,
            "</svg>\n",
        ]
    )


if __name__ == "__main__":
    PICTURE.write_text(draw())
    print(f"Written: {PICTURE.relative_to(ROOT)}")
