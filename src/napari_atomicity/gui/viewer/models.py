"""Finding the model that made an analysis; hearing of new models."""

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
from ...models.files import model_files, read_card

if TYPE_CHECKING:
    from ...core.model_card import ModelCard
    from ...models.classifier import Classifier


class ModelFolder:
    """The models on disk, for whoever lists them.

    Signals: ``changed()`` when a model has come into the folder.
    """

    changed = Signal()


model_folder = ModelFolder()

_unsaved: dict[str, Classifier] = {}


def keep_available(classifier: Classifier) -> None:
    """A model that was made in this window: what it classified needs it, saved or not."""
    _unsaved[classifier.card.model_id] = classifier


def unsaved_card(model_id: str) -> ModelCard | None:
    """The card of a model that was made in this window; None of any other."""
    return _unsaved[model_id].card if model_id in _unsaved else None


def classifier_of(analysis: Analysis) -> Classifier:
    """The classifier that classified the clusters of an analysis; to be called in a worker.

    Raises
    ------
    ModelError
        If nothing was classified yet, or the model is no longer at hand.
    """
    model_id = analysis.parameters.get("model", {}).get("model_id", "")
    if model_id in _unsaved:
        return _unsaved[model_id]
    return _classifier(model_id, str(analysis.parameters.get("device", "auto")).split(":")[0])


@lru_cache(maxsize=2)
def _classifier(model_id: str, device: str) -> Classifier:
    from ...models.classifier import available_models, load_classifier

    for card in available_models():
        if card.model_id == model_id:
            return load_classifier(card.name, device)
    raise ModelError(
        f"the model {model_id} that classified this image is not at hand"
        if model_id
        else "the clusters are not classified yet",
        advice="Classify again",
    )


def card_of(table: pd.DataFrame) -> ModelCard | None:
    """The card of the model that classified most of the clusters, if it is at hand."""
    ids = table.loc[table["model_id"] != "", "model_id"].value_counts()
    if len(ids) and (unsaved := unsaved_card(ids.index[0])) is not None:
        return unsaved
    for path in model_files():
        # A damaged one is reported when it is asked for, not here.
        with suppress(ModelError, OSError):
            card = _read_card(path, path.with_suffix(".json").stat().st_mtime_ns)
            if len(ids) and card.model_id == ids.index[0]:
                return card
    return None


@lru_cache(maxsize=16)
def _read_card(path: Path, _modified: int) -> ModelCard:
    return read_card(path)
