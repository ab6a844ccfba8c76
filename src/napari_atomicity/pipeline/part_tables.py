"""Join the tables of all parts into two files without holding all of them in memory."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator
from pathlib import Path

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from ..io.files import atomic_write
from ..io.tables import append_csv, write_table
from .parts import concatenate_parts

_CHUNK_ROWS = 50_000


def write_all(parts: Iterable[pa.Table], nothing: pd.DataFrame, csv: Path, parquet: Path) -> None:
    """Concatenate the tables of all images in two files, without holding them in memory.

    Raises `AtomicityError` if a file can't be written.
    """
    with (
        atomic_write(csv) as text,
        atomic_write(parquet) as binary,
        contextlib.ExitStack() as stack,
    ):
        writer: pq.ParquetWriter | None = None
        for chunk in _chunks(parts, nothing):
            content = pa.Table.from_pandas(chunk, preserve_index=False)
            if writer is None:
                write_table(chunk, text)
                writer = stack.enter_context(pq.ParquetWriter(binary, content.schema))
            else:
                append_csv(chunk, text)
            writer.write_table(content.cast(writer.schema))


def _chunks(parts: Iterable[pa.Table], nothing: pd.DataFrame) -> Iterator[pd.DataFrame]:
    """Tables of many images each; an empty one if there is no cluster at all."""
    held: list[pa.Table] = []
    rows, given = 0, False
    for part in parts:
        if not part.num_rows:
            continue
        held.append(part)
        rows += part.num_rows
        if rows >= _CHUNK_ROWS:
            yield concatenate_parts(held, nothing)
            held, rows, given = [], 0, True
    if held:
        yield concatenate_parts(held, nothing)
    elif not given:
        yield nothing
