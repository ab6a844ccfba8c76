"""Methods of a validation: how each is fitted, and what it says of the clusters of an image.

A `Fit` makes a model from labelled images; several methods may read different answers from the same
model. Add your own to `FITS` and `METHODS` with `register`.
"""

from __future__ import annotations

import hashlib
import inspect
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cache, partial
from tokenize import TokenError
from types import CodeType
from typing import TYPE_CHECKING, Any
from uuid import uuid4

import numpy as np
from numpy.typing import ArrayLike

from ..core.model_card import ModelCard
from ..core.progress import Progress, Stop, check, report
from ..core.tables.cluster_table import probability_columns
from ..models.analysis import Analysis
from ..models.estimators import constrained_mixture, network as network_estimator
from ..models.thresholds import by_thresholds, quantities
from ..pipeline.adaptation.settings import COMBINED, DIAMETER

if TYPE_CHECKING:
    from ..models.estimators import Estimator
    from ..models.inference import Classifier
    from ..training.data import PatchSet
    from .request import ValidationRequest


@dataclass(frozen=True, eq=False)
class FittedModel:
    """A model in memory.

    Parameters
    ----------
    card : ModelCard
        Its card.
    tensors : dict of str to ndarray
        Its weights and references.
    device : str
        "auto", "cpu", "cuda" or "mps".
    """

    card: ModelCard
    tensors: dict[str, np.ndarray]
    device: str = "auto"

    def classifier(self) -> Classifier:
        """Return the model on its device."""
        from ..core.devices import choose_device
        from ..models.inference import Classifier

        return Classifier(self.card, self.tensors, choose_device(self.device))


@dataclass(frozen=True, eq=False)
class Training:
    """What a model is fitted to.

    Parameters
    ----------
    part : PatchSet
        Labelled clusters of the training images, both channels, raw channel in counts.
    classes : tuple of str
        Classes by size.
    request : ValidationRequest
        Settings.
    seed : int
        Seed of weights, augmentation and held-out images.
    with_map : bool
        Whether the map of the embedding is needed.
    progress, stop : callable, optional
        Called at every step.
    """

    part: PatchSet
    classes: tuple[str, ...]
    request: ValidationRequest
    seed: int
    with_map: bool = True
    progress: Progress | None = None
    stop: Stop | None = None


@dataclass(frozen=True)
class Fit:
    """How a model is made.

    Parameters
    ----------
    name : str
        Short name, also of files.
    title : str
        Description in tables.
    fit : callable
        ``fit(training)`` returns a `FittedModel`.
    trained : bool
        Whether it depends on the training images; otherwise it is made one time.
    adapt : str
        Pseudo-labels of its adaptation to shifted images: "combined", "diameter", or "" for none.
    """

    name: str
    title: str
    fit: Callable[[Training], FittedModel]
    trained: bool = True
    adapt: str = ""


@dataclass(frozen=True, eq=False)
class Answer:
    """What a method says of the N clusters of an image.

    Parameters
    ----------
    label : array-like of shape (N,)
        Most probable class, "" where it says nothing.
    confidence : array-like of shape (N,)
        Its probability; NaN for a method without probabilities.
    sets : array-like of shape (N,), optional
        Prediction set: classes joined by "|".
    """

    label: ArrayLike
    confidence: ArrayLike
    sets: ArrayLike | None = None


@dataclass(frozen=True)
class ComparedMethod:
    """A method that is compared.

    Parameters
    ----------
    name : str
        Short name, the key in tables and JSON.
    title : str
        Name in figures.
    fit : str
        Name of its fit in `FITS`.
    answer : callable
        ``answer(analysis)`` returns an `Answer` for an image that the model has classified.
    intervals : bool
        Whether class ratios with intervals follow from the labels of the analysis.
    adapted : bool
        Whether the model is adapted to the shifted images before; then only these are classified.
    """

    name: str
    title: str
    fit: str
    answer: Callable[[Analysis], Answer]
    intervals: bool = False
    adapted: bool = False


FITS: dict[str, Fit] = {}
METHODS: dict[str, ComparedMethod] = {}


def register(*items: Fit | ComparedMethod) -> None:
    """Add fits and methods to those that are compared."""
    for item in items:
        if isinstance(item, Fit):
            FITS[item.name] = item
            _identity_of(item.fit)  # the file of its source may change later
        else:
            METHODS[item.name] = item
            _identity_of(item.answer)


def identities(fit: Fit) -> dict[str, str]:
    """Return the methods of a fit, each with what tells it from another one of its name.

    It is "" for those of this package, whose version is known, and else a hash of the source, with
    that of the fit; nothing equals a function without source.
    """
    return {
        name: _identity_of(fit.fit) + _identity_of(method.answer)
        for name, method in METHODS.items()
        if method.fit == fit.name
    }


def _identity_of(function: Callable[..., Any]) -> str:
    while isinstance(function, partial):
        function = function.func
    function = inspect.unwrap(function)
    if getattr(function, "__module__", "").partition(".")[0] == __name__.partition(".")[0]:
        return ""
    code = getattr(function, "__code__", None)
    return uuid4().hex if code is None else _hash_of_source(code)


@cache
def _hash_of_source(code: CodeType) -> str:
    """Hash the source as it is at the first call."""
    try:
        source = inspect.getsource(code)
    except (OSError, SyntaxError, TokenError):  # none, or its file has changed since
        source = uuid4().hex
    return hashlib.sha256(source.encode()).hexdigest()[:16]


# ---- fits
def train_network(
    training: Training, *, channels: tuple[str, ...], scale: str, start: str, name: str
) -> FittedModel:
    """Train a network on the labelled clusters."""
    from ..models.files import hashed
    from ..training.classifier import train_in_memory
    from ..training.request import FolderSource, TrainRequest
    from ..training.run import read_start

    given = training.request
    request = TrainRequest(
        FolderSource(given.data),
        given.data / f"{name}.safetensors",
        channels,
        start=start,
        scale=scale,
        epochs=given.epochs,
        patience=given.patience,
        seed=training.seed,
        device=given.device,
    )
    size_px = request.patches.size_px
    part = replace(
        training.part, patches={c: _centre(training.part.patches[c], size_px) for c in channels}
    )
    card, tensors = train_in_memory(
        request,
        part,
        training.classes,
        read_start(request),
        training.progress,
        training.stop,
        with_map=training.with_map,
    )
    return FittedModel(hashed(card, tensors), tensors, given.device)


def _centre(patches: np.ndarray, size_px: int) -> np.ndarray:
    """Return the central pixels of patches (N, P, P), which are of the same size in nm."""
    edge = (patches.shape[-1] - size_px) // 2
    return patches[:, edge : edge + size_px, edge : edge + size_px]


def read_shipped(training: Training) -> FittedModel:
    """Read the shipped model."""
    from ..models.files import find_model, read_model

    return FittedModel(*read_model(find_model("default")), training.request.device)


# ---- answers
def label_images(
    detections: Sequence[Analysis],
    model: FittedModel,
    progress: Progress | None = None,
    stop: Stop | None = None,
) -> list[Analysis]:
    """Classify images as one session, as `atomicity analyse` does."""
    from ..pipeline.analysis import classify_clusters
    from ..pipeline.session_labels import label_session

    classifier = model.classifier()
    alone = []
    for i, detection in enumerate(detections):
        check(stop)
        report(progress, i, len(detections), f"Classifying {detection.micrograph.name}")
        alone.append(classify_clusters(detection, classifier))
    return label_session(alone, classifier, stop=stop).analyses


def by_threshold(analysis: Analysis, quantity: str) -> Answer:
    """Answer by thresholds on one quantity, fitted to the clusters that trained the model."""
    card = _card(analysis)
    value = quantities(analysis.table, 1.0)[quantity]
    names = np.array(card.classes, object)
    label = np.where(value > 0, names[by_thresholds(value, card.thresholds[quantity])], "")
    return Answer(label, np.full(len(label), np.nan))


def by_estimator(analysis: Analysis, estimator: Estimator) -> Answer:
    """Answer by one of `models.estimators`: the network alone, or the constrained mixture."""
    from ..models.estimators import Measured

    card = _card(analysis)
    best = [x.prediction for x in analysis.own_predictions]
    current = [p.probabilities for p in best if p.embedding is analysis.embedding]
    network = current[0] if current else np.full((len(analysis.table), len(card.classes)), np.nan)
    p = estimator(Measured(analysis.table, card, analysis.scale, network))
    return _best_class(p, card.classes)


def by_mixture(analysis: Analysis) -> Answer:
    """Answer by the constrained mixture, also of touching clusters."""
    card, scale = _card(analysis), analysis.scale
    if scale is None:
        return by_estimator(analysis, constrained_mixture)
    intensity, diameter = analysis.table["integrated_intensity"], analysis.table["diameter_nm"]
    p = scale.probabilities(intensity.to_numpy(float), diameter.to_numpy(float))
    return _best_class(p, card.classes)


def by_combination(analysis: Analysis) -> Answer:
    """Answer as an analysis does: by the calibrated combination of network and mixture."""
    classes = _card(analysis).classes
    p = analysis.table[probability_columns(classes)].to_numpy(float)
    return replace(_best_class(p, classes), sets=analysis.table["prediction_set"].to_numpy(object))


def _best_class(p: np.ndarray, classes: Sequence[str]) -> Answer:
    names = np.array(classes, object)
    known = np.isfinite(p).all(axis=1)
    best = np.nan_to_num(p, nan=-1.0)
    label = np.where(known, names[best.argmax(axis=1)], "") if len(p) else np.empty(0, object)
    confidence = np.where(known, best.max(axis=1), np.nan) if len(p) else np.empty(0)
    return Answer(label, confidence)


def _card(analysis: Analysis) -> ModelCard:
    if analysis.card is None:
        raise ValueError("the image is not classified")
    return analysis.card


# ---- what is compared
def _network(name: str, title: str, channels: str, scale: str, start: str, adapt: str = "") -> Fit:
    return Fit(
        name,
        title,
        partial(
            train_network,
            channels=tuple(channels.split(",")),
            scale=scale,
            start=start,
            name=name,
        ),
        adapt=adapt,
    )


_by_network = partial(by_estimator, estimator=network_estimator)
register(
    _network("raw-patch", "raw, scale of the patch", "raw", "none", "scratch"),
    _network("lcn-patch", "LCN, scale of the patch", "LCN", "none", "scratch"),
    _network("dual-patch", "dual, scale of the patch", "raw,LCN", "none", "scratch", DIAMETER),
    _network("raw-session", "raw, scale of the session", "raw", "session", "scratch"),
    _network(
        "dual-session", "dual, scale of the session", "raw,LCN", "session", "scratch", COMBINED
    ),
    _network("dual-trained", "dual, from shipped", "raw,LCN", "session", "default", COMBINED),
    Fit("dual-shipped", "dual, shipped", read_shipped, trained=False, adapt=COMBINED),
    ComparedMethod(
        "diameter",
        "Diameter thresholds",
        "dual-session",
        partial(by_threshold, quantity="diameter"),
    ),
    ComparedMethod(
        "intensity",
        "Intensity thresholds",
        "dual-session",
        partial(by_threshold, quantity="intensity"),
    ),
    ComparedMethod("mixture", "Constrained mixture", "dual-session", by_mixture),
    ComparedMethod("raw-patch", "Network raw, published", "raw-patch", _by_network),
    ComparedMethod("lcn-patch", "Network LCN, published", "lcn-patch", _by_network),
    ComparedMethod(
        "dual-patch", "Network dual, published", "dual-patch", by_combination, intervals=True
    ),
    ComparedMethod(
        "dual-patch-adapted",
        "Network dual, published, adapted",
        "dual-patch",
        by_combination,
        intervals=True,
        adapted=True,
    ),
    ComparedMethod("raw-session", "Network raw, session scale", "raw-session", _by_network),
)
for _fit, _title in (
    ("dual-session", "session scale"),
    ("dual-trained", "trained from shipped"),
    ("dual-shipped", "shipped"),
):
    register(
        ComparedMethod(_fit, f"Network dual, {_title}", _fit, _by_network),
        ComparedMethod(
            f"{_fit}-combination",
            f"Combination, {_title}",
            _fit,
            by_combination,
            intervals=True,
        ),
        ComparedMethod(
            f"{_fit}-adapted",
            f"Network dual, {_title}, adapted",
            _fit,
            _by_network,
            adapted=True,
        ),
        ComparedMethod(
            f"{_fit}-combination-adapted",
            f"Combination, {_title}, adapted",
            _fit,
            by_combination,
            intervals=True,
            adapted=True,
        ),
    )
