"""Checkpoints of interrupted trainings: plain arrays and JSON, never pickled."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor, nn

from ..io.files import atomic_write, regular_file
from .data import PatchSet


@dataclass(frozen=True)
class Checkpoint:
    """A file with the state of a fit."""

    path: Path  # A .safetensors file; its metadata hold the rest of the state as JSON
    key: str  # key of the request: a file of another request is ignored

    def save(
        self,
        state: dict[str, Any],  # content for JSON; Python's floats are restored exactly
        parts: dict[str, dict[str, Tensor]],
    ) -> None:
        """Write the state completely or not at all."""
        from safetensors.torch import save

        tensors = {
            f"{part}/{name}": value.detach().cpu().contiguous().clone()
            for part, values in parts.items()
            for name, value in values.items()
        }
        metadata = {"key": self.key, "state": json.dumps(state)}
        with atomic_write(self.path) as temporary:
            temporary.write_bytes(save(tensors, metadata))

    def load(self) -> tuple[dict[str, Any], dict[str, dict[str, Tensor]]] | None:
        """Read a state; return None if it is missing, damaged, or of another request."""
        found = _read(self.path, self.key, "pt")
        return None if found is None else (found[0]["state"], found[1])

    def remove(self) -> None:
        """Delete the file."""
        self.path.unlink(missing_ok=True)


def save_patches(path: Path, part: PatchSet, key: str) -> None:
    """Keep prepared patches, so that an interrupted training need not prepare them again."""
    from safetensors.numpy import save

    text = [c for c in part.table if not pd.api.types.is_numeric_dtype(part.table[c])]
    tensors = {f"patches/{c}": np.ascontiguousarray(p) for c, p in part.patches.items()}
    for name in part.table.columns.difference(text):
        tensors[f"table/{name}"] = part.table[name].to_numpy()
    metadata = {
        "key": key,
        "columns": json.dumps(list(part.table.columns)),
        "text": json.dumps({c: part.table[c].astype(str).tolist() for c in text}),
        "left_out": json.dumps(part.left_out),
    }
    with atomic_write(path) as temporary:
        temporary.write_bytes(save(tensors, metadata))


def load_patches(path: Path, key: str) -> PatchSet | None:
    """Read patches of `save_patches`; return None if missing, damaged, or of another request."""
    found = _read(path, key, "np")
    if found is None:
        return None
    values, parts = found
    columns = {**values["text"], **parts.get("table", {})}
    table = pd.DataFrame({c: columns[c] for c in values["columns"]})
    for name in values["text"]:
        table[name] = table[name].astype(object)
    return PatchSet(table, parts.get("patches", {}), values["left_out"])


def _read(
    path: Path, key: str, framework: str
) -> tuple[dict[str, Any], dict[str, dict[str, Any]]] | None:
    """Read JSON values and tensors; None if missing, damaged, or of another request."""
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(regular_file(path), framework=framework) as file:
            metadata = file.metadata() or {}
            if metadata.pop("key", None) != key:
                return None
            parts: dict[str, dict[str, Any]] = {}
            for name in file.keys():  # noqa: SIM118  (not a dict)
                part, own = name.split("/", 1)
                parts.setdefault(part, {})[own] = file.get_tensor(name)
            return {name: json.loads(text) for name, text in metadata.items()}, parts
    except (OSError, SafetensorError, ValueError):
        return None


def optimiser_tensors(optimiser: torch.optim.Optimizer) -> dict[str, Tensor]:
    """Return the moments of the optimiser: "parameter.name" → tensor."""
    return {
        f"{i}.{name}": torch.as_tensor(value)
        for i, values in optimiser.state_dict()["state"].items()
        for name, value in values.items()
    }


def restore_optimiser(
    optimiser: torch.optim.Optimizer, tensors: dict[str, Tensor], groups: list[dict[str, Any]]
) -> None:
    """Restore the moments and the settings of the groups of an optimiser."""
    state: dict[int, dict[str, Tensor]] = {}
    for key, value in tensors.items():
        i, name = key.split(".", 1)
        state.setdefault(int(i), {})[name] = value
    optimiser.load_state_dict({"state": state, "param_groups": groups})


def weights(network: nn.Module) -> dict[str, Tensor]:
    """Return a copy of the state of a network."""
    return {k: v.detach().clone() for k, v in network.state_dict().items()}
