"""Write the tables of the pages anew from benchmarks/results/*.json.

    python benchmarks/report.py

Between ``<!-- name -->`` and ``<!-- /name -->`` a page of docs/ contains the tables of
``results/name.json``; without this file they remain. Figures of a GPU are therefore kept on a
machine without one. The table of the aims and the duration of all benchmarks are written too, the
latter once all records exist.
"""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

from aims import aims
from measuring import RESULTS
from tables import PERFORMANCE, SECTIONS

DOCS = Path(__file__).resolve().parent.parent / "docs"
EITHER = {"gpu", "gpu_proof"}
"""One or the other is measured."""
APART = {"fuzz", "kills"}
"""Not measured by ``make bench``."""


def put(text: str, name: str, inside: str) -> str:
    """The text of a page with something else between the marks of that name."""
    whole = f"<!-- {name} -->\n{inside}\n<!-- /{name} -->"
    text, n = re.subn(
        rf"<!-- {name} -->.*?<!-- /{name} -->", lambda _: whole, text, flags=re.DOTALL
    )
    if n != 1:
        raise ValueError(f"there are {n} places for {name}, not one")
    return text


def duration(records: dict[str, dict[str, Any]]) -> str | None:
    """How long all of it took; None unless all of it was measured."""
    records = {name: record for name, record in records.items() if name not in APART}
    if SECTIONS.keys() - records.keys() - EITHER - APART or not EITHER & records.keys():
        return None
    minutes = {name: record["took_s"] / 60 for name, record in records.items()}
    longest = sorted(minutes, key=lambda name: -minutes[name])[:4]
    return (
        f"All benchmarks take {sum(minutes.values()):.0f} minutes on the machine named below. "
        "The longest are " + ", ".join(f"{name} ({minutes[name]:.0f})" for name in longest) + "."
    )


def rewrite(docs: Path, records: dict[str, dict[str, Any]]) -> None:
    """Put the tables of records into their pages."""
    parts = [(SECTIONS[name].page, name, SECTIONS[name].text(of)) for name, of in records.items()]
    if (text := duration(records)) is not None:
        parts.append((PERFORMANCE, "duration", text))
    old = (docs / PERFORMANCE).read_text(encoding="utf-8")
    parts.append((PERFORMANCE, "aims", aims(records, old)))
    for page, name, inside in parts:
        path = docs / page
        path.write_text(put(path.read_text(encoding="utf-8"), name, inside), encoding="utf-8")


def main() -> None:
    records = {}
    for name in SECTIONS:
        path = RESULTS / f"{name}.json"
        if path.exists():
            records[name] = json.loads(path.read_text(encoding="utf-8"))
        else:
            print(f"no {path.name}: its tables stay as they are")
    rewrite(DOCS, records)


if __name__ == "__main__":
    main()
