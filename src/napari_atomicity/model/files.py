"""Model files: weights as safetensors, the card beside them as JSON. Nothing is ever pickled."""

from __future__ import annotations

import hashlib
import json
import os
from dataclasses import replace
from importlib import resources
from pathlib import Path

import numpy as np

from ..errors import ModelError
from ..io.files import replacing, write_json
from .card import ModelCard

SHIPPED = {"default": "pt-dual", "dual": "pt-dual", "raw": "pt-raw"}
"""Short names of the models in the package."""


def user_folder() -> Path:
    """Where a user's own models are looked for: ``ATOMICITY_MODELS`` or the data folder."""
    given = os.environ.get("ATOMICITY_MODELS")
    if given:
        return Path(given)
    base = os.environ.get("XDG_DATA_HOME") or os.environ.get("APPDATA")
    return (Path(base) if base else Path.home() / ".local" / "share") / "napari-atomicity"


def shipped_folder() -> Path:
    """The weights that come with the package."""
    return Path(str(resources.files("napari_atomicity.model") / "weights"))


def find_model(model: str | Path) -> Path:
    """The weights file of a model that is named or given by its path.

    Raises
    ------
    ModelError
        If there is none.
    """
    path = Path(model)
    if path.suffix == ".safetensors":
        if not path.is_file():
            raise ModelError("there is no such model file", path, "Check the path")
        return path
    name = SHIPPED.get(str(model), str(model))
    for folder in (shipped_folder(), user_folder()):
        candidate = folder / f"{name}.safetensors"
        if candidate.is_file():
            return candidate
    raise ModelError(
        f"there is no model {str(model)!r}",
        advice="`atomicity models` lists those at hand; a path of a .safetensors file will do",
    )


def save_model(path: Path, card: ModelCard, tensors: dict[str, np.ndarray]) -> ModelCard:
    """Write weights and card, each whole or not at all; returns the card with its hash.

    Raises
    ------
    AtomicityError
        If a file can't be written.
    """
    path = path.with_suffix(".safetensors")
    data = _packed(tensors)
    card = replace(card, sha256=hashlib.sha256(data).hexdigest())
    with replacing(path) as temporary:
        temporary.write_bytes(data)
    write_json(path.with_suffix(".json"), card.to_dict())
    return card


def hashed(card: ModelCard, tensors: dict[str, np.ndarray]) -> ModelCard:
    """The card with the hash that these weights have, on disk or not."""
    return replace(card, sha256=hashlib.sha256(_packed(tensors)).hexdigest())


def _packed(tensors: dict[str, np.ndarray]) -> bytes:
    from safetensors.numpy import save

    return save({k: np.ascontiguousarray(v) for k, v in tensors.items()})


def read_card(path: Path) -> ModelCard:
    """The card beside a weights file.

    Raises
    ------
    ModelError
        If it is missing or damaged.
    """
    card_path = path.with_suffix(".json")
    try:
        return ModelCard.from_dict(json.loads(card_path.read_text(encoding="utf-8")))
    except FileNotFoundError:
        raise ModelError(
            "the model has no card", card_path, "Keep the .json beside the .safetensors"
        ) from None
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ModelError(
            f"the model's card is damaged ({error})", card_path, "Get the model again"
        ) from error


def read_model(path: Path) -> tuple[ModelCard, dict[str, np.ndarray]]:
    """Card and tensors of a model file, checked against each other.

    Raises
    ------
    ModelError
        If a part is missing or damaged, or they don't belong together.
    """
    from safetensors import SafetensorError
    from safetensors.numpy import load

    card = read_card(path)
    try:
        data = path.read_bytes()
    except OSError as error:
        raise ModelError(f"the weights can't be read ({error.strerror})", path) from error
    if card.sha256 and hashlib.sha256(data).hexdigest() != card.sha256:
        raise ModelError(
            "the weights are not those that the card describes",
            path,
            "The file is damaged or belongs to another card: get the model again",
        )
    try:
        return card, load(data)
    except (SafetensorError, ValueError) as error:
        raise ModelError("the weights are damaged", path, "Get the model again") from error


def model_files() -> list[Path]:
    """Weights files of the shipped models, then of the user's own."""
    found = []
    for folder in (shipped_folder(), user_folder()):
        if folder.is_dir():
            found += sorted(p for p in folder.glob("*.safetensors"))
    return found
