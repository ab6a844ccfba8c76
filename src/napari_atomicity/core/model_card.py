"""The card of a model: description, training, performance, intended use and limits."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any

from .patches import PatchSettings
from .scale_reference import ScaleReference


@dataclass(frozen=True)
class Combination:
    """A log-linear pool of the network and the constrained mixture, fitted on held-out images.

    Parameters
    ----------
    network, mixture : float
        Weights of the logarithms of their class probabilities.
    bias : tuple of float, length n_classes
        Added to the logarithms.
    doubt : float
        How much alternative solutions for the intensity scale reduce the confidence.
    """

    network: float
    mixture: float
    bias: tuple[float, ...]
    doubt: float


@dataclass(frozen=True)
class CountError:
    """Half widths of the 95 % interval of the logarithm of the number of atoms.

    Parameters
    ----------
    whole : float
        For complete, isolated clusters, counted by their intensity.
    other : float
        For other clusters.
    """

    whole: float
    other: float


@dataclass(frozen=True)
class ModelCard:
    """All properties of a model except its weights, stored as JSON next to them.

    Parameters
    ----------
    name : str
        Name of the model.
    classes : tuple of str
        Classes in order of size.
    patches : PatchSettings
        Geometry of the input.
    scale : ScaleReference, optional
        Reference for the intensity of one atom in an image.
    width : int
        Width of the first layer of the network.
    temperature, bias : float, tuple of float
        Calibration of the network: probabilities are softmax(logits / temperature + bias).
    conformal_level, conformal_threshold : float
        The prediction set contains the classes with at least ``conformal_threshold``; on held-out
        images it contains the true class in ``conformal_level`` of the cases.
    confusion : tuple of tuple of int, shape (n_classes, n_classes)
        Counts of held-out clusters, rows by true class, columns by the most probable class.
    recalibration : tuple of tuple of float, shape (n_replicates, n_classes + 1)
        Bootstrap replicates of the calibration, each a factor and biases: a replicate gives
        softmax(factor × log p + biases) for the probabilities p of the model.
    combination : Combination, optional
        Pool of the probabilities of network and mixture.
    count : CountError, optional
        Error of the continuous number of atoms.
    ood_limit : float
        Distance in the embedding that one in two hundred held-out clusters exceeds.
    ood_limit_touching : float, optional
        The same for clusters that touch another one.
    ood_median : float, optional
        Median distance of held-out clusters.
    drift_limit : float, optional
        Domain shift (`models.domain_shift.domain_shift`) that one in a hundred held-out images
        exceeds.
    thresholds : dict of str to tuple of float
        Estimators by thresholds, fitted on the same clusters: see `models.thresholds`.
    description, intended_use, limits : str
        Text for users.
    data, training, scores : dict
        Training data, training settings, and scores on held-out data.
    version : str
        Version of this package.
    sha256 : str
        Hash of the file of the weights.
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
        """Name and first digits of the hash of the weights."""
        return f"{self.name}-{self.sha256[:8]}"

    def provenance(self) -> dict[str, Any]:
        """Return the entries that identify the model in results."""
        return {"model_id": self.model_id, "sha256": self.sha256, "classes": list(self.classes)}

    def to_dict(self) -> dict[str, Any]:
        """Return the card as a dictionary for JSON."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> ModelCard:
        """Return the card from a dictionary; unknown entries are ignored."""
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
