"""Changes of valid files: each is determined by a random generator."""

from __future__ import annotations

import csv
import io
import json
import re
import sqlite3
import struct
import zipfile
from collections.abc import Callable, Iterator
from contextlib import closing, suppress
from copy import deepcopy
from pathlib import Path
from typing import Any

import numpy as np

MAX_BYTES = 40_000_000
"""No mutation makes a file larger than this."""


def literal(text: str) -> str:
    """A value that `mutate_json` writes as this text, without quotes."""
    return f"@literal:{text}@"


NUMBERS = (0, -1, -5, 1e-300, 1e6, 10**9, 2**31, 2**63, 1e308, float("inf"), float("nan"), 10**400)
TEXTS = (
    "", "x", "no", "true", "56", "-5", "1e400", "nan", "=1+1", "\0", "a\0b", "a" * 300,
    "a" * 5000, "../../elsewhere", "/dev/zero", "Pt" + "9" * 30, "\ud800", "é\u202e", "[[[[",
    "%s%n", "\r\n;,\t",
)  # fmt: skip
VALUES = (
    *NUMBERS, *TEXTS, None, True, False, [], {}, [None], [[]], {"": 0}, [1e400] * 3,
    list(range(999)), literal("1e400"), literal("-1e400"), literal("9" * 5000),
    literal("[" * 900 + "]" * 900),
    literal("[" * 100_000 + "]" * 100_000), literal('{"a":' * 2000 + "0" + "}" * 2000),
)  # fmt: skip
CELLS = (
    None, 0, -1, 1, 10**6, 2**31, 2**63 - 1, -(2**63), 1e308, -1e-308, float("inf"), "", "x", "{}",
    "[]", "null", "NaN", '"x"', "[1e400]", '{"a": ' * 5000, "[" * 50_000, "\0", "a" * 300,
    "a/" * 2500, "../../elsewhere.tif", "/dev/zero", "éè", b"", b"\0", b"\xff" * 7,
    b"\x89PNG\r\n\x1a\n", bytes(100_000), b"\x93NUMPY\x01\x00",
)  # fmt: skip
"""Values of cells in a database."""
INTEGERS = (0, 1, -1, 0x7F, 0xFF, 0x7FFF, 0xFFFF, 0x7FFFFFFF, 0xFFFFFFFF, 0x40000000, 100_000)


def some(rng: np.random.Generator, values: tuple) -> Any:
    """A copy of one of these values, of its own type."""
    return deepcopy(values[int(rng.integers(len(values)))])


# ---- bytes
def mutate_bytes(raw: bytes, rng: np.random.Generator, header: int = 1024) -> bytes:
    """Change a file in one to four places; half of them are in its header."""
    out = bytearray(raw)
    for _ in range(int(rng.integers(1, 5))):
        if not out:
            return bytes(out)
        early = rng.random() < 0.5
        at = int(rng.integers(min(header, len(out)) if early else len(out)))
        some(rng, BYTE_CHANGES)(out, at, rng)
    return bytes(out[:MAX_BYTES])


def _flip(out: bytearray, at: int, rng: np.random.Generator) -> None:
    for i in range(at, min(at + int(rng.integers(1, 5)), len(out))):
        out[i] ^= 1 << int(rng.integers(8))


def _random(out: bytearray, at: int, rng: np.random.Generator) -> None:
    n = min(int(rng.integers(1, 9)), len(out) - at)
    out[at : at + n] = rng.bytes(n)


def _integer(out: bytearray, at: int, rng: np.random.Generator) -> None:
    """Write an extreme number where a size or an offset may be."""
    size, order = some(rng, (2, 4, 4, 8)), some(rng, ("little", "big"))
    n = min(size, len(out) - at)
    value = some(rng, INTEGERS) % (1 << 8 * size)
    out[at : at + n] = value.to_bytes(size, order)[:n]


def _near(out: bytearray, at: int, rng: np.random.Generator) -> None:
    """Change a number by a little, or a factor."""
    order = some(rng, ("<I", ">I"))
    if at + 4 <= len(out):
        value = struct.unpack_from(order, out, at)[0]
        value = some(rng, (value + 1, value - 1, value * 2, value // 2, value << 8))
        struct.pack_into(order, out, at, value % (1 << 32))


def _truncate(out: bytearray, at: int, rng: np.random.Generator) -> None:
    del out[at if rng.random() < 0.3 else int(rng.integers(len(out))) :]


def _delete(out: bytearray, at: int, rng: np.random.Generator) -> None:
    del out[at : at + int(rng.integers(1, 600))]


def _insert(out: bytearray, at: int, rng: np.random.Generator) -> None:
    out[at:at] = rng.bytes(int(rng.integers(1, 600)))


def _repeat(out: bytearray, at: int, rng: np.random.Generator) -> None:
    block = bytes(out[at : at + int(rng.integers(1, 2000))])
    out[at:at] = block * int(rng.integers(1, 50))


def _swap(out: bytearray, at: int, rng: np.random.Generator) -> None:
    n = int(rng.integers(1, 600))
    other = int(rng.integers(len(out)))
    one, two = bytes(out[at : at + n]), bytes(out[other : other + n])
    out[at : at + len(two)] = two
    out[other : other + len(one)] = one


def _zero(out: bytearray, at: int, rng: np.random.Generator) -> None:
    n = min(int(rng.integers(1, 600)), len(out) - at)
    out[at : at + n] = some(rng, (b"\0", b"\xff", b" ")) * n


def _digits(out: bytearray, at: int, rng: np.random.Generator) -> None:
    """Replace a number that is written as text, in a header of XML or JSON."""
    found = list(re.finditer(rb"\d+(?:\.\d+)?", bytes(out[:100_000])))
    if found:
        match = found[int(rng.integers(len(found)))]
        out[match.start() : match.end()] = some(rng, (b"-1", b"0", b"1e400", b"9" * 25, b"x"))


BYTE_CHANGES: tuple[Callable[..., None], ...] = (
    _flip, _flip, _random, _random, _integer, _integer, _integer, _near, _truncate, _delete,
    _insert, _repeat, _swap, _zero, _digits,
)  # fmt: skip


# ---- JSON
def mutate_json(text: str, rng: np.random.Generator) -> str:
    """Replace, remove or rename up to three values."""
    value = json.loads(text)
    for _ in range(int(rng.integers(1, 4))):
        places = list(_places(value))
        if not places:
            break
        holder, key = places[int(rng.integers(len(places)))]
        kind = rng.random()
        if kind < 0.1:
            del holder[key]
        elif kind < 0.15 and isinstance(holder, dict):
            holder[f"{key}x"] = holder.pop(key)
        elif kind < 0.2 and isinstance(holder, list):
            holder.extend(deepcopy(holder[key]) for _ in range(int(rng.integers(1, 200))))
        else:
            holder[key] = some(rng, VALUES)
    if rng.random() < 0.02:
        value = some(rng, VALUES)
    text = json.dumps(value, indent=1)
    return re.sub(r'"@literal:(.*?)@"', lambda m: m[1].replace('\\"', '"'), text, flags=re.DOTALL)


def _places(value: Any) -> Iterator[tuple[Any, Any]]:
    keys = (
        value if isinstance(value, dict) else range(len(value)) if isinstance(value, list) else ()
    )
    for key in list(keys):
        yield value, key
        yield from _places(value[key])


def mutate_json_file(path: Path, rng: np.random.Generator) -> None:
    """Change its values, or in one of six cases its bytes."""
    if rng.random() < 1 / 6:
        path.write_bytes(mutate_bytes(path.read_bytes(), rng))
    else:
        text = mutate_json(path.read_text("utf-8"), rng)
        path.write_bytes(text.encode("utf-8", "surrogatepass"))


# ---- CSV
def mutate_csv(text: str, rng: np.random.Generator) -> bytes:
    """Change cells, lines and separators of a table."""
    rows = list(csv.reader(text.splitlines()))
    for _ in range(int(rng.integers(1, 4))):
        if not rows:
            break
        y = 0 if rng.random() < 0.25 else int(rng.integers(len(rows)))
        kind = rng.random()
        if kind < 0.6 and rows[y]:
            rows[y][int(rng.integers(len(rows[y])))] = str(some(rng, (*TEXTS, *NUMBERS[:-1])))
        elif kind < 0.7:
            del rows[y]
        elif kind < 0.8:
            rows[y:y] = [rows[y]] * int(rng.integers(1, 20_000))
        elif kind < 0.9:
            x = int(rng.integers(len(rows[y]) or 1))
            rows = [row[:x] + row[x + 1 :] for row in rows]
        else:
            rows[y] = rows[y] * 2
    out = io.StringIO()
    separator = "," if rng.random() < 0.9 else some(rng, (";", "\t"))
    csv.writer(out, delimiter=separator).writerows(rows)
    raw = out.getvalue().encode("utf-8", "surrogatepass")
    return mutate_bytes(raw, rng) if rng.random() < 0.2 else raw[:MAX_BYTES]


# ---- archives
def mutate_zip(
    path: Path, rng: np.random.Generator, change: Callable[[str, bytes], bytes | None]
) -> None:
    """Rewrite a .zip file with a changed, renamed, missing or repeated member.

    ``change`` returns the content of a member after a mutation.
    """
    with zipfile.ZipFile(path) as archive:
        members = [(name, archive.read(name)) for name in archive.namelist()]
    i = int(rng.integers(len(members)))
    name, raw = members[i]
    kind = rng.random()
    if kind < 0.7:
        members[i] = name, change(name, raw) or b""
    elif kind < 0.78:
        del members[i]
    elif kind < 0.86:
        members[i] = some(rng, (f"../{name}", f"/tmp/{name}", f"a/{name}", name.upper(), "\\")), raw
    elif kind < 0.92:
        other = int(rng.integers(len(members)))
        members[i], members[other] = (name, members[other][1]), (members[other][0], raw)
    else:
        members += [(name, mutate_bytes(raw, rng) if raw else b"x")] * 2
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, raw in members:
            with suppress(UserWarning):
                archive.writestr(name, raw)


# ---- databases
LOGS = ("corrections", "marks", "identity")
"""Tables that `mutate_cells` leaves as they are: what they hold must never be lost."""
SCHEMA_CHANGES = (
    "CREATE TRIGGER t AFTER INSERT ON clusters BEGIN DELETE FROM clusters; END",
    "CREATE TRIGGER t AFTER INSERT ON corrections BEGIN UPDATE images SET path = '/dev/zero'; END",
    "CREATE VIEW v AS SELECT * FROM corrections",
    "CREATE TABLE t (a)",
    "CREATE VIRTUAL TABLE t USING fts5(a)",
    "CREATE INDEX more ON clusters (label_corrected)",
    "ALTER TABLE clusters ADD COLUMN more BLOB",
    "ALTER TABLE predictions DROP COLUMN n_atoms",
    "ALTER TABLE clusters RENAME COLUMN y_nm TO z_nm",
    "ALTER TABLE pictures RENAME TO picture",
    "DROP TABLE pictures",
    "DROP TABLE predictions",
    "DROP INDEX corrections_of_cluster",
    "DROP TRIGGER corrections_stay",
    "PRAGMA user_version = 0",
    "PRAGMA user_version = 1",
    "PRAGMA user_version = -1",
    "PRAGMA user_version = 1000000",
    "PRAGMA application_id = 0",
    "PRAGMA journal_mode = DELETE",
)


def tables_of(db: sqlite3.Connection) -> list[str]:
    """Tables with rows, sorted."""
    found = db.execute("SELECT name FROM sqlite_master WHERE type = 'table' ORDER BY name")
    names = [name for (name,) in found if not name.startswith("sqlite_")]
    return [n for n in names if db.execute(f"SELECT 1 FROM {n} LIMIT 1").fetchone() is not None]


def mutate_cells(path: Path, rng: np.random.Generator) -> None:
    """Change up to five cells of tables other than the log of corrections, or delete a row."""
    with closing(sqlite3.connect(path)) as db, db:
        names = [name for name in tables_of(db) if name not in LOGS]
        for _ in range(int(rng.integers(1, 6))):
            table = some(rng, tuple(names))
            if rng.random() < 0.07:
                keys = _row(db, table, rng)
                db.execute(f"DELETE FROM {table} WHERE {keys[0]}", keys[1])
            else:
                _mutate_cell(db, table, rng)


def mutate_log(path: Path, rng: np.random.Generator) -> set[int]:
    """Change up to two rows of the log of corrections; return their numbers."""
    with closing(sqlite3.connect(path)) as db, db:
        ids = [i for (i,) in db.execute("SELECT correction_id FROM corrections")]
        rule = "SELECT sql FROM sqlite_master WHERE name = 'corrections_are_final'"
        trigger = db.execute(rule).fetchone()[0]
        db.execute("DROP TRIGGER corrections_are_final")
        chosen = {some(rng, tuple(ids)) for _ in range(2)}
        for number in sorted(chosen):
            _mutate_cell(db, "corrections", rng, ("correction_id = ?", [number]))
        db.execute(trigger)
        # Also if the key of a row was changed.
        return chosen | set(ids) - {
            i for (i,) in db.execute("SELECT correction_id FROM corrections")
        }


def _row(db: sqlite3.Connection, table: str, rng: np.random.Generator) -> tuple[str, list[Any]]:
    info = db.execute(f"PRAGMA table_info({table})").fetchall()
    keys = [c[1] for c in info if c[5]] or [c[1] for c in info][:1]
    rows = db.execute(f"SELECT {', '.join(keys)} FROM {table}").fetchall()
    return " AND ".join(f"{key} IS ?" for key in keys), list(some(rng, tuple(rows) or ((None,),)))


def _mutate_cell(
    db: sqlite3.Connection, table: str, rng: np.random.Generator, row: Any = None
) -> None:
    where, keys = row or _row(db, table, rng)
    columns = tuple(c[1] for c in db.execute(f"PRAGMA table_info({table})"))
    for _ in range(5):  # not all columns take all values
        column = some(rng, columns)
        found = db.execute(f"SELECT {column} FROM {table} WHERE {where}", keys).fetchone()
        value = found[0] if found else None
        if isinstance(value, bytes) and value and rng.random() < 0.6:
            value = mutate_bytes(value, rng, 64)
        elif isinstance(value, str) and value[:1] in ("{", "[") and rng.random() < 0.6:
            try:
                value = mutate_json(value, rng).encode("utf-8", "replace").decode("utf-8")
            except (ValueError, RecursionError):  # it has been changed before
                value = some(rng, CELLS)
        else:
            value = some(rng, CELLS)
        with suppress(sqlite3.Error):
            db.execute(f"UPDATE {table} SET {column} = ? WHERE {where}", [value, *keys])
            return


def mutate_schema(path: Path, rng: np.random.Generator) -> None:
    """Add, remove or rename a table, column, index, trigger or view, or change the version."""
    with closing(sqlite3.connect(path, isolation_level=None)) as db:
        for _ in range(int(rng.integers(1, 3))):
            with suppress(sqlite3.Error):
                db.execute(some(rng, SCHEMA_CHANGES))
