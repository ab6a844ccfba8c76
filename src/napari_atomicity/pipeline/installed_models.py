"""Models of others: check their files and copy them into the user's folder of models."""

from __future__ import annotations

import os
from pathlib import Path

from ..atoms.finding.card import SHIPPED as SHIPPED_ATOMS, AtomCard
from ..core.errors import ModelError
from ..core.model_card import Card, ModelCard, is_file_name
from ..models.files import (
    SHIPPED,
    format_card,
    read_card,
    read_tensors,
    user_folder,
    write_weights_and_card,
)

MAX_MODEL_BYTES = 500_000_000
"""Size of the largest weights file that is accepted."""


def checked_card(path: Path) -> Card:
    """Return the card of a model of any kind whose weights are those that the card describes.

    Raises `ModelError` if the card or the weights are missing or damaged, or do not belong
    together.
    """
    try:
        card: Card = read_card(path, ModelCard)
    except ModelError as error:
        try:
            card = read_card(path, AtomCard)
        except ModelError:
            raise error from None
    if not card.sha256:
        raise ModelError("its card does not contain the hash of the weights", path)
    read_tensors(path, card.sha256)
    return card


def is_model_name(name: str) -> bool:
    """Return whether a model may have this name: that of a file, and none of the package."""
    shipped = {*SHIPPED, *SHIPPED.values(), *SHIPPED_ATOMS, *SHIPPED_ATOMS.values()}
    # Windows and macOS do not distinguish upper and lower case.
    return is_file_name(name) and name.lower() not in shipped


def add_models(path: str | os.PathLike[str], overwrite: bool = False) -> list[Card]:
    """Copy a model, or all models in a folder, into the user's folder of models.

    All models are checked before the first one is copied.

    Raises `ModelError` if there is no model, one is damaged, or its name is taken.
    """
    path = Path(path)
    files = sorted(path.glob("*.safetensors")) if path.is_dir() else [path]
    files = [file.with_suffix(".safetensors") if file.suffix == ".json" else file for file in files]
    if not files or not files[0].is_file() or files[0].suffix != ".safetensors":
        raise ModelError(
            "there is no model here",
            path,
            "A model is a .safetensors file with its card, a .json of the same name",
        )
    found = [(file, _acceptable(file, overwrite)) for file in files]
    for file, card in found:
        target = user_folder() / f"{card.name}.safetensors"
        write_weights_and_card(target, file.read_bytes(), format_card(card))
    return [card for _, card in found]


def _acceptable(file: Path, overwrite: bool) -> Card:
    """Return the card of a model that can be installed."""
    if file.stat().st_size > MAX_MODEL_BYTES:
        raise ModelError(f"it is larger than {MAX_MODEL_BYTES // 1_000_000} MB", file)
    card = checked_card(file)
    if not is_model_name(card.name):
        raise ModelError(
            f"its card has the name {card.name!r}, which an added model can not have",
            file,
            "Change the name in the card",
        )
    target = user_folder() / f"{card.name}.safetensors"
    if target.exists() and not overwrite and not target.samefile(file):
        raise ModelError(
            f"you have another model of the name {card.name!r}",
            file,
            "Replace it with --overwrite, or change the name in the card",
        )
    return card
