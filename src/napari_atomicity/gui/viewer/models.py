"""The models of analyses, and a signal for new models."""

from __future__ import annotations

from contextlib import suppress
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

import pandas as pd
from psygnal import Signal

from ...core.errors import ModelError
from ...core.model_card import ModelCard
from ...models.analysis import Analysis
from ...models.files import available_cards, model_files, read_card

if TYPE_CHECKING:
    from ...core.model_card import ModelCard
    from ...models.classifier import Classifier


class ModelFolder:
    """The folder of models.

    Signals: ``changed()`` when a model was added.
    """

    changed = Signal()


model_folder = ModelFolder()

_unsaved: dict[str, Classifier] = {}


def model_id_of(analysis: Analysis | None) -> str:
    """Return the identifier of the model that made the labels; "" without any."""
    return "" if analysis is None else analysis.model_id


def keep_available(classifier: Classifier) -> None:
    """Keep a model that was trained in this window, even if it is not saved."""
    _unsaved[classifier.card.model_id] = classifier


def unsaved_card(model_id: str) -> ModelCard | None:
    """Return the card of a model that was trained in this window; None for other models."""
    return _unsaved[model_id].card if model_id in _unsaved else None


def classifier_of(analysis: Analysis) -> Classifier:
    """Return the classifier of an analysis; call this in a worker.

    Raises `ModelError` if nothing is classified yet, or the model is not available.
    """
    model_id = analysis.model_id
    if model_id in _unsaved:
        return _unsaved[model_id]
    return _classifier(model_id, str(analysis.parameters.get("device", "auto")).split(":")[0])


@lru_cache(maxsize=2)
def _classifier(model_id: str, device: str) -> Classifier:
    from ...models.classifier import load_classifier

    for card in available_cards(ModelCard):
        if card.model_id == model_id:
            return load_classifier(card.name, device)
    raise ModelError(
        f"the model {model_id} of this image is not available"
        if model_id
        else "the clusters are not classified yet",
        advice="Classify again",
    )


def card_of(table: pd.DataFrame) -> ModelCard | None:
    """Return the card of the model of most clusters; None if it is not available."""
    ids = table.loc[table["model_id"] != "", "model_id"].value_counts()
    if len(ids) and (unsaved := unsaved_card(ids.index[0])) is not None:
        return unsaved
    for path in model_files():
        # A damaged model is reported when it is used.
        with suppress(ModelError, OSError):
            card = _read_card(path, path.with_suffix(".json").stat().st_mtime_ns)
            if len(ids) and card.model_id == ids.index[0]:
                return card
    return None


@lru_cache(maxsize=16)
def _read_card(path: Path, _modified: int) -> ModelCard:
    return read_card(path, ModelCard)
