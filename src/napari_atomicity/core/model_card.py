"""The card of a model: what it is, how it was made, how good it is, what it is not for."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any

from .patches import PatchSettings
from .scale_reference import ScaleReference


@dataclass(frozen=True)
class Combination:
    """A log-linear pool of the network and the locked mixture, fitted on held-out images.

    Parameters
    ----------
    network, mixture
        Weights of the logarithms of their class probabilities.
    bias
        (C,) added to them.
    doubt
        By how much rival solutions for the scale of the image take off the confidence.
    """

    network: float
    mixture: float
    bias: tuple[float, ...]
    doubt: float


@dataclass(frozen=True)
class CountError:
    """Half widths of the 95 % interval of the logarithm of the count, on held-out images: for
    clusters that stand alone (``whole``), by their intensity, and for the others."""

    whole: float
    other: float


@dataclass(frozen=True)
class ModelCard:
    """Everything about a model but its weights; lies beside them as JSON.

    Parameters
    ----------
    name
        How it is asked for.
    classes
        Labels it can give, in order of size.
    patches
        Geometry of its input.
    scale
        What finds the intensity of one atom in an image.
    width
        Of the network's first layer.
    temperature, bias
        Calibration of the network: its probabilities are softmax(logits / temperature + bias).
    conformal_level, conformal_threshold
        The prediction set holds the classes of at least ``conformal_threshold`` and, on held-out
        images, the true one in ``conformal_level`` of the cases.
    confusion
        Counts (C, C) of held-out clusters, rows by true class, columns by the most probable one.
    recalibration
        (R, C + 1): bootstrap replicates of the calibration set, each a factor and C biases, so
        that the set would have said softmax(factor × log p + biases) where the model says p.
    combination
        Makes the probabilities of network and mixture one.
    count
        How far the continuous count of atoms can be off.
    ood_limit
        Distance in embedding space that only one in two hundred held-out clusters exceeds.
    ood_limit_touching
        The same for clusters that touch another.
    ood_median
        Median distance of held-out clusters.
    drift_limit
        Drift of the embeddings (`models.domain_shift.domain_shift`) that one in a hundred held-out
        images exceeds.
    thresholds
        The obvious estimators, fitted on the same clusters: see `models.thresholds`.
    description, intended_use, limits
        For a reader.
    data, training, scores
        What it was made from, how, and how good it is on what it never saw.
    version
        Of this package at the time.
    sha256
        Hash of the weights file.
    """

    name: str
    classes: tuple[str, ...]
    patches: PatchSettings = field(default_factory=PatchSettings)
    scale: ScaleReference | None = None
    width: int = 16
    temperature: float = 1.0
    bias: tuple[float, ...] = ()
    conformal_level: float = 0.95
    conformal_threshold: float = 0.0
    confusion: tuple[tuple[int, ...], ...] = ()
    recalibration: tuple[tuple[float, ...], ...] = ()
    combination: Combination | None = None
    count: CountError | None = None
    ood_limit: float = 1.0
    ood_limit_touching: float | None = None
    ood_median: float | None = None
    drift_limit: float | None = None
    thresholds: dict[str, tuple[float, ...]] = field(default_factory=dict)
    description: str = ""
    intended_use: str = ""
    limits: str = ""
    data: dict[str, Any] = field(default_factory=dict)
    training: dict[str, Any] = field(default_factory=dict)
    scores: dict[str, Any] = field(default_factory=dict)
    version: str = ""
    sha256: str = ""

    @property
    def model_id(self) -> str:
        """Name and the first digits of the hash of the weights."""
        return f"{self.name}-{self.sha256[:8]}"

    def provenance(self) -> dict[str, Any]:
        """What an output must say of the model that made it."""
        return {"model_id": self.model_id, "sha256": self.sha256, "classes": list(self.classes)}

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> ModelCard:
        values = dict(values)
        patches = dict(values.pop("patches"))
        patches["channels"] = tuple(patches["channels"])
        values["classes"] = tuple(values["classes"])
        values["thresholds"] = {k: tuple(v) for k, v in values.get("thresholds", {}).items()}
        values["bias"] = tuple(values.get("bias", ()))
        for name in ("confusion", "recalibration"):
            values[name] = tuple(tuple(row) for row in values.get(name, ()))
        if values.get("scale") is not None:
            values["scale"] = ScaleReference.from_dict(values["scale"])
        if values.get("combination") is not None:
            given = dict(values["combination"])
            values["combination"] = Combination(**{**given, "bias": tuple(given["bias"])})
        if values.get("count") is not None:
            values["count"] = CountError(**values["count"])
        known = cls.__dataclass_fields__
        return cls(
            patches=PatchSettings(**patches), **{k: v for k, v in values.items() if k in known}
        )
