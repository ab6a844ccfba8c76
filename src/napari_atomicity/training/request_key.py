"""Keys of requests: hashes of all that decides the result of a training."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pandas as pd

from .._version import __version__
from ..core.micrograph import Micrograph
from ..core.model_card import ModelCard
from ..io.images import resolved
from .request import (
    CorrectedImagesSource,
    CorrectionsSource,
    FolderSource,
    SimulationSource,
    TrainRequest,
)


def request_key(request: TrainRequest, start: ModelCard | None) -> str:
    """Return a hash of all that decides the result except the device; files by size and time."""
    source = request.source
    match source:
        case FolderSource():
            source_key: Any = ["folder", *_stamp_files([source.folder])]
        case CorrectionsSource():
            source_key = ["tables", *_stamp_files([*source.tables, *source.images])]
        case CorrectedImagesSource():
            source_key = [
                (m.name, m.pixel_size_nm, pixel_hash(m), _hash_corrections(t))
                for m, t in source.images
            ]
        case SimulationSource():
            source_key = asdict(replace(source, workers=1))
    values = {
        "version": __version__,
        "source": source_key,
        "start": None if start is None else start.sha256,
        **{
            name: getattr(request, name) for name in ("epochs", "patience", "seed", "pixel_size_nm")
        },
        "patches": asdict(request.patches),
    }
    return hashlib.sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()


def pixel_hash(micrograph: Micrograph) -> str:
    """Return a hash of the pixels; of a large image that of its file, if it is known."""
    if not micrograph.is_large:
        return hashlib.sha256(micrograph.data.tobytes()).hexdigest()
    if micrograph.sha256 is not None:
        return micrograph.sha256
    whole = hashlib.sha256(f"{micrograph.shape} {micrograph.data.dtype}".encode())
    for index in range(micrograph.n_frames):
        for strip in micrograph.strips(index):
            whole.update(strip.tobytes())
    return whole.hexdigest()


def _hash_corrections(table: pd.DataFrame) -> str:
    """Return a hash of the corrected labels of a table."""
    columns = ["cluster_id", "frame", "y_px", "x_px", "label_corrected"]
    return hashlib.sha256(table[columns].to_csv(index=False).encode()).hexdigest()


def _stamp_files(paths: Sequence[Path]) -> list[tuple[str, int, int]]:
    """Return name, size and time of every file."""
    files = [f for p in paths for f in (sorted(p.rglob("*")) if p.is_dir() else [p]) if f.is_file()]
    return [(str(resolved(f)), f.stat().st_size, f.stat().st_mtime_ns) for f in files]
