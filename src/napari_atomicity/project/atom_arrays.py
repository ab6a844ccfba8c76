"""Candidates, support and polygons of atoms as values of a project's tables."""

from __future__ import annotations

import io
import json
import math
import zlib
from collections.abc import Iterable

import numpy as np
import pandas as pd

from ..atoms.table import conform, validate
from .damage import check_polygons, holds_text, read_json

_MAX_ROWS = 5_000_000


def pack_polygons(polygons: Iterable[np.ndarray]) -> str:
    """Return polygons as JSON."""
    return json.dumps([np.asarray(p).tolist() for p in polygons])


def unpack_polygons(text: str) -> tuple[np.ndarray, ...]:
    """Return polygons from JSON; damaged ones raise any error."""
    polygons = tuple(np.asarray(p, float) for p in read_json(text, list))
    check_polygons(polygons)
    return polygons


def pack_table(table: pd.DataFrame) -> bytes:
    """Return a table of candidates as Parquet."""
    stream = io.BytesIO()
    table.to_parquet(stream, index=False, compression="zstd")
    return stream.getvalue()


def unpack_table(packed: bytes) -> pd.DataFrame:
    """Return a table of candidates from Parquet; a damaged one raises any error."""
    from pyarrow.parquet import ParquetFile

    if ParquetFile(io.BytesIO(packed)).metadata.num_rows > _MAX_ROWS:
        raise ValueError("more candidates than an image can have")
    table = conform(pd.read_parquet(io.BytesIO(packed)))
    validate(table)
    for name in ("image", "origin", "model_id"):
        if name in table and not holds_text(table[name]):
            raise ValueError(f"the column {name} of the candidates holds values that are no text")
    return table


def pack_mask(mask: np.ndarray) -> bytes:
    """Return a mask as compressed bits."""
    shape = ",".join(map(str, mask.shape)).encode() + b";"
    return shape + zlib.compress(np.packbits(np.asarray(mask, bool)).tobytes(), 1)


def unpack_mask(packed: bytes, shape: tuple[int, ...]) -> np.ndarray:
    """Return a mask from compressed bits.

    Raises `ValueError` or `zlib.error` if it is damaged, or not of this image.
    """
    head, _, bits = packed.partition(b";")
    stored = tuple(map(int, head.split(b",")))
    if stored != tuple(shape):
        raise ValueError("the support has another shape than the image")
    n = math.prod(shape)
    # A few bytes can be unpacked into more than there is memory.
    content = zlib.decompressobj().decompress(bits, (n + 7) // 8 + 1)
    if len(content) != (n + 7) // 8:
        raise ValueError("the support has another size than the image")
    flat = np.unpackbits(np.frombuffer(content, np.uint8), count=n)
    return flat.astype(bool).reshape(shape)
