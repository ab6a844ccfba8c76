"""Model files: weights as safetensors, the card beside them as JSON. Nothing is ever pickled."""

from __future__ import annotations

import hashlib
import logging
import os
from contextlib import suppress
from dataclasses import dataclass, replace
from importlib import resources
from pathlib import Path
from typing import Annotated, TypeVar

import numpy as np
from annotated_types import Len

from ..core.errors import ModelError, reason_of
from ..core.from_dict import dataclass_from_json
from ..core.model_card import CLUSTERS, Card, ModelCard
from ..io.files import atomic_write, read_document, regular_file, to_json, write_text

_log = logging.getLogger(__name__)

SHIPPED = {"default": "pt-dual", "dual": "pt-dual", "raw": "pt-raw"}
"""Short names of the models in the package."""
_MAX_CARD_BYTES = 10_000_000
"""Cards of trained models have 30 kB."""

AnyCard = TypeVar("AnyCard", bound=Card)


def user_folder() -> Path:
    """Where a user's own models are looked for: ``ATOMICITY_MODELS`` or the data folder."""
    given = os.environ.get("ATOMICITY_MODELS")
    if given:
        return Path(given)
    base = os.environ.get("XDG_DATA_HOME") or os.environ.get("APPDATA")
    return (Path(base) if base else Path.home() / ".local" / "share") / "napari-atomicity"


def shipped_folder() -> Path:
    """Return the folder of the shipped weights."""
    return Path(str(resources.files("napari_atomicity.models") / "weights"))


def find_model(model: str | Path) -> Path:
    """Find the weights file of a model by its name or path.

    Raises `ModelError` if there is none.
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
        advice="`atomicity models` lists the available models; a path of a .safetensors file is "
        "also accepted",
    )


def model_file(path: str | os.PathLike[str]) -> Path:
    """Return the file of a new model: with the suffix .safetensors, after all of the name."""
    path = Path(path)
    return path if path.suffix == ".safetensors" else Path(f"{path}.safetensors")


def save_model(path: Path, card: AnyCard, tensors: dict[str, np.ndarray]) -> AnyCard:
    """Write weights and card, each completely or not at all.

    Raises `AtomicityError` if a file can't be written.
    """
    path = path.with_suffix(".safetensors")
    data = _packed(tensors)
    card = replace(card, sha256=hashlib.sha256(data).hexdigest())
    write_weights_and_card(path, data, format_card(card))
    return card


def format_card(card: Card) -> str:
    """Return the text of the file of a card."""
    return to_json(card.to_dict()) + "\n"


def write_weights_and_card(
    path: Path,
    weights: bytes,
    card: str,  # content of the file beside it
) -> None:
    """Write weights and the file of their card, or neither.

    Raises `AtomicityError` if a file can't be written.
    """
    with atomic_write(path) as temporary:
        temporary.write_bytes(weights)
        write_text(path.with_suffix(".json"), card)


def hashed(card: AnyCard, tensors: dict[str, np.ndarray]) -> AnyCard:
    """Return the card with the hash of these weights."""
    return replace(card, sha256=hashlib.sha256(_packed(tensors)).hexdigest())


def _packed(tensors: dict[str, np.ndarray]) -> bytes:
    from safetensors.numpy import save

    return save({k: np.ascontiguousarray(v) for k, v in tensors.items()})


@dataclass(frozen=True)
class _AnyKind:
    kind: Annotated[str, Len(1, 100)] = CLUSTERS


def read_card(path: Path, card_type: type[AnyCard]) -> AnyCard:
    """Read the card of a weights file.

    Raises `ModelError` if it is missing or damaged, or of a model of another kind.
    """
    card_path = path.with_suffix(".json")
    try:
        text = read_document(card_path, _MAX_CARD_BYTES)
        kind = dataclass_from_json(_AnyKind, text).kind
        card = card_type.from_json(text) if kind == card_type.KIND else None
    except FileNotFoundError:
        raise ModelError(
            "the model has no card", card_path, "Keep the .json in the folder of the .safetensors"
        ) from None
    except (OSError, ValueError) as error:
        raise ModelError(
            f"the model's card is damaged ({reason_of(error)})", card_path, "Get the model again"
        ) from error
    if card is None:
        raise ModelError(
            f"this is a model of {kind}, not of {card_type.KIND}",
            path,
            f"`atomicity models` says which models are of {card_type.KIND}",
        )
    return card


def available_models(card_type: type[AnyCard]) -> dict[str, AnyCard]:
    """Read the cards of the shipped models of a kind and of those in the user's folder.

    The keys are the names of their files, which `find_model` finds: of two models whose cards have
    one name, one has a file of another name. Damaged ones are left out with a warning.
    """
    cards: dict[str, AnyCard] = {}
    for path in model_files(card_type.KIND):
        try:
            cards.setdefault(path.stem, read_card(path, card_type))
        except ModelError as error:
            _log.warning("%s", error)
    return cards


def installed_model(model_id: str, card_type: type[AnyCard]) -> tuple[Path, AnyCard] | None:
    """Return the file and the card of a shipped model, or one of the user; None if there is none.

    Damaged ones are left out: they are reported when they are used.
    """
    for path in model_files(card_type.KIND):
        with suppress(ModelError, OSError):
            card = read_card(path, card_type)
            if card.model_id == model_id:
                return path, card
    return None


def read_model(path: Path) -> tuple[ModelCard, dict[str, np.ndarray]]:
    """Card and tensors of a model file, checked against each other.

    Raises `ModelError` if a part is missing or damaged, or they don't belong together.
    """
    card = read_card(path, ModelCard)
    return card, read_tensors(path, card.sha256)


def read_tensors(path: Path, sha256: str) -> dict[str, np.ndarray]:
    """Read the tensors of a weights file and check their hash; "" for any.

    Raises `ModelError` if it is missing or damaged, or not the file that the card describes.
    """
    from safetensors import SafetensorError
    from safetensors.numpy import load

    try:
        data = regular_file(path).read_bytes()
    except OSError as error:
        raise ModelError(f"the weights can't be read ({error.strerror})", path) from error
    if sha256 and hashlib.sha256(data).hexdigest() != sha256:
        raise ModelError(
            "the weights are not those that the card describes",
            path,
            "The file is damaged or belongs to another card: get the model again",
        )
    try:
        tensors = load(data)
    except (SafetensorError, ValueError, KeyError, TypeError, OverflowError) as error:
        raise ModelError("the weights are damaged", path, "Get the model again") from error
    for name, values in tensors.items():
        if not np.isfinite(values).all():
            raise ModelError(
                f"the weights {name} contain NaN or infinity", path, "Get the model again"
            )
    return tensors


def model_files(kind: str = CLUSTERS) -> list[Path]:
    """Weights files of models of this kind: the shipped ones, then the user's own.

    What has no card that can be read counts as a model of clusters: who lists these says why.
    """
    found: list[Path] = []
    for folder in (shipped_folder(), user_folder()):
        if folder.is_dir():
            found += sorted(p for p in folder.glob("*.safetensors"))
    return [p for p in found if _kind_of(p) == kind]


def _kind_of(path: Path) -> str:
    try:
        text = read_document(path.with_suffix(".json"), _MAX_CARD_BYTES)
        return dataclass_from_json(_AnyKind, text).kind
    except (OSError, ValueError):
        return CLUSTERS
