"""Pages of the documentation, and their blocks of code."""

import re
from pathlib import Path

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
GENERATED = DOCS / "reference" / "generated"
PAGES = sorted(
    [
        *ROOT.glob("*.md"),
        *(ROOT / ".github").glob("*.md"),
        *(p for p in DOCS.rglob("*.md") if GENERATED not in p.parents),
    ]
)


def last_release() -> str:
    """Version of the first release in the changelog."""
    return re.search(r"^## \[(\d[\d.]*)\]", (ROOT / "CHANGELOG.md").read_text(), re.M)[1]


def name_of(path: Path) -> str:
    """Path of a page in the repository."""
    return path.relative_to(ROOT).as_posix()


def blocks(language: str) -> list[tuple[str, str]]:
    """(page, text) of every code block of a language; "" is a block without a language."""
    pattern = re.compile(r"^```([^\n]*)\n(.*?)^```", re.M | re.S)
    return [
        (name_of(page), text)
        for page in PAGES
        for name, text in pattern.findall(page.read_text(encoding="utf-8"))
        if name == language
    ]


def shell_lines() -> list[tuple[str, str]]:
    """(page, line) of every command for a shell."""
    return [(page, line) for page, text in blocks("sh") for line in text.splitlines() if line]
