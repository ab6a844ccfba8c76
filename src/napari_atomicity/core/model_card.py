"""The cards of models: description, training, performance, intended use and limits."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields
from json import dumps
from typing import Annotated, Any, ClassVar, Self

from annotated_types import Interval, Len, MultipleOf

from .apparent_size import ApparentSize
from .from_dict import Fraction, NotNegative, Positive, dataclass_from_dict, dataclass_from_json
from .patches import PatchSettings
from .scale_reference import ScaleReference

N_RESIDUALS = 76
"""Number of distances from the mean at which a card holds the density of log diameter."""
CLUSTERS, ATOMS = "clusters", "atoms"
"""Kinds of models: what they classify or detect. A card without a kind is of clusters."""


_MAX_NAME = 100
_PORTS = {f"{port}{n}" for port in ("com", "lpt") for n in range(10)}
_DEVICES = {"con", "prn", "aux", "nul", *_PORTS}
"""Names that Windows does not allow for files, with any suffix."""


def is_file_name(name: str) -> bool:
    """Return whether a name is one of a file on all systems, and no option of a command."""
    is_plain = bool(name.strip(". ")) and not set(name) & set('/\\:*?"<>|')
    is_device = name.split(".")[0].strip().lower() in _DEVICES
    return (
        is_plain
        and not is_device
        and not name.startswith("-")
        and name.isprintable()
        and len(name) <= _MAX_NAME
    )


@dataclass(frozen=True)
class Card:
    """All properties of a model except its weights, stored as JSON next to them."""

    KIND: ClassVar[str]

    name: str
    # description, intended_use, limits: text for users
    description: str = field(default="", kw_only=True)
    intended_use: str = field(default="", kw_only=True)
    limits: str = field(default="", kw_only=True)
    # licence under which others may use the model, such as "CC-BY-4.0"
    license: Annotated[str, Len(0, 100)] = field(default="", kw_only=True)
    # digital object identifier of the model or of the paper that describes it
    doi: Annotated[str, Len(0, 200)] = field(default="", kw_only=True)
    # data, training, scores: training data, training settings, and scores on data that were not
    # used for training
    data: dict[str, Any] = field(default_factory=dict, kw_only=True)
    training: dict[str, Any] = field(default_factory=dict, kw_only=True)
    scores: dict[str, Any] = field(default_factory=dict, kw_only=True)
    version: str = field(default="", kw_only=True)  # version of this package that made the model
    sha256: str = field(default="", kw_only=True)  # hash of the file of the weights

    @property
    def model_id(self) -> str:
        """Name and first digits of the hash of the weights."""
        return f"{self.name}-{self.sha256[:8]}"

    def provenance(self) -> dict[str, Any]:
        """Return the entries that identify the model in results."""
        return {"model_id": self.model_id, "sha256": self.sha256}

    def to_dict(self) -> dict[str, Any]:
        """Return the card as a dictionary for JSON, with the properties of all cards at the end."""
        values = asdict(self)
        common = {of_all.name: values.pop(of_all.name) for of_all in fields(Card)[1:]}
        # Left out where empty: the hash of a card, part of the key of results, stays the same.
        later = ("license", "doi")
        return {**values, **{k: v for k, v in common.items() if v or k not in later}}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Self:
        """Return the card from a dictionary, as `from_json`."""
        return cls.from_json(dumps(values))

    @classmethod
    def from_json(cls, text: str | bytes) -> Self:
        """Return the card from JSON; unknown entries are ignored.

        Raises `ValueError` if an entry is missing or not valid.
        """
        card = dataclass_from_json(cls, text)
        card.check()
        return card

    def check(self) -> None:
        """Check entries against each other; raise `ValueError` if they do not match."""
        if self.doi and not self.doi.startswith("10."):
            raise ValueError(f"doi should begin with 10., not {self.doi[:40]!r}")

    @property
    def terms(self) -> str:
        """Licence and DOI as text, "" if the card states neither."""
        licence = f"licence {self.license}" if self.license else ""
        doi = f"https://doi.org/{self.doi}" if self.doi else ""
        return ", ".join(filter(None, (licence, doi)))


@dataclass(frozen=True)
class Combination:
    """A log-linear pool of the network and the constrained mixture, fitted on held-out images."""

    # network, mixture: weights of the logarithms of their class probabilities
    network: float
    mixture: float
    bias: tuple[float, ...]  # added to the logarithms
    # how much alternative solutions for the intensity scale reduce the confidence
    doubt: NotNegative


@dataclass(frozen=True)
class CountError:
    """Half widths of the 95 % interval of the logarithm of the number of atoms."""

    whole: NotNegative  # for complete, isolated clusters, counted by their intensity
    other: NotNegative


@dataclass(frozen=True)
class _Score:
    accuracy: Fraction | None = None
    clusters: int | None = None


@dataclass(frozen=True)
class _Scores:
    """What a report quotes of the scores of a model."""

    test: _Score | None = None
    held_out: _Score | None = None


@dataclass(frozen=True)
class AdaptedImage:
    """An image that a model was adapted to."""

    image: str
    sha256: str | None = None


@dataclass(frozen=True)
class AdaptationRecord:
    """What a report quotes of the adaptation of a model."""

    images: tuple[AdaptedImage, ...] = ()
    # class → number of clusters with a label to learn from, or to decide by
    pseudo_labels: dict[str, int] = field(default_factory=dict)
    corrections: int = 0  # number of a person's labels among them
    pseudo_label_method: str = "combined"
    held_out: Fraction = 0.25  # share of the labels of each class that were left out to decide by


@dataclass(frozen=True)
class ModelCard(Card):
    """The card of a model of clusters: see `Card` for the properties of all models."""

    KIND = CLUSTERS

    # classes in order of size
    classes: Annotated[tuple[Annotated[str, Len(1, 100)], ...], Len(1, 1000)]
    patches: PatchSettings = field(default_factory=PatchSettings)  # geometry of the input
    scale: ScaleReference | None = None  # reference for the intensity of one atom in an image
    # reference for the intensity of one atom in the images of a session, see
    # `models.scale.session_scale`
    apparent_size: ApparentSize | None = None
    # width of the first layer of the network
    width: Annotated[int, Interval(ge=4, le=256), MultipleOf(4)] = 16
    # temperature, bias: calibration of the network: probabilities are softmax(logits / temperature
    # + bias)
    temperature: Positive = 1.0
    bias: tuple[float, ...] = ()
    # conformal_level, conformal_threshold: the prediction set contains the classes with at least
    # ``conformal_threshold``; on held-out images it contains the true class in ``conformal_level``
    # of the cases
    conformal_level: Fraction = 0.95
    conformal_threshold: Fraction = 0.0
    # (n_classes, n_classes): counts of held-out clusters, rows by true class, columns by the most
    # probable class
    confusion: tuple[tuple[Annotated[int, Interval(ge=0, le=10**12)], ...], ...] = ()
    # (n_replicates, n_classes + 1): bootstrap replicates of the calibration, each a factor and
    # biases: a replicate gives softmax(factor × log p + biases) for the probabilities p of the
    # model
    recalibration: tuple[tuple[float, ...], ...] = ()
    combination: Combination | None = None  # pool of the probabilities of network and mixture
    count: CountError | None = None  # error of the continuous number of atoms
    # distance in the embedding that one in two hundred held-out clusters exceeds
    ood_limit: Positive = 1.0
    ood_limit_touching: Positive | None = None  # the same for clusters that touch another one
    ood_median: NotNegative | None = None  # median distance of held-out clusters
    # domain shift (`models.domain_shift.domain_shift`) that one in a hundred held-out images
    # exceeds
    drift_limit: Positive | None = None
    # estimators by thresholds, fitted on the same clusters: see `models.thresholds`
    thresholds: dict[str, tuple[float, ...]] = field(default_factory=dict)
    # (n_classes, n_residuals): density of log diameter in each class, at distances from its mean:
    # see `models.diameter_density`. Without it, thresholds or normal densities are used
    diameter_density: tuple[
        Annotated[tuple[Positive, ...], Len(N_RESIDUALS, N_RESIDUALS)], ...
    ] = ()

    def check(self) -> None:
        """Check that all entries are of the same number of classes, and scales invertible."""
        super().check()
        n = len(self.classes)
        if len(set(self.classes)) < n:
            raise ValueError("a class occurs twice")
        if sorted(self.patches.channels) not in (["LCN"], ["raw"], ["LCN", "raw"]):
            raise ValueError("patches.channels should be raw, LCN or both")
        lengths: list[tuple[str, int, Sequence[Sequence[Any]]]] = [
            ("bias", n, [self.bias]),
            ("confusion", n, [self.confusion, *self.confusion]),
            ("recalibration", n + 1, self.recalibration),
            ("diameter_density", n, [self.diameter_density]),
            ("thresholds", n - 1, list(self.thresholds.values())),
        ]
        if self.combination is not None:
            lengths.append(("combination.bias", n, [self.combination.bias]))
        for name, reference in (("scale", self.scale), ("apparent_size", self.apparent_size)):
            if reference is not None:
                reference.check()
                lengths.append((f"{name}.log_intensity", n, [reference.log_intensity]))
        for name, length, values in lengths:
            for value in values:
                if len(value) not in (0, length):
                    raise ValueError(f"{name} has {len(value)} values in place of {length}")
        n_features = 4 * self.width * len(self.patches.channels) + 1
        if self.apparent_size is not None and len(self.apparent_size.weights) > n_features:
            raise ValueError(f"apparent_size.weights has more than {n_features} values")
        if min(self.thresholds.get("diameter", ()), default=1.0) <= 0:
            raise ValueError("a threshold of the diameter is not above 0")
        dataclass_from_dict(_Scores, self.scores)
        _ = self.adaptation

    @property
    def adaptation(self) -> AdaptationRecord | None:
        """How the model was adapted last; None if it was not."""
        record = self.data.get("adaptation")
        return dataclass_from_dict(AdaptationRecord, record) if record else None

    def to_dict(self) -> dict[str, Any]:
        """Return the card as a dictionary for JSON, without properties that few cards have.

        The hash of a card is part of the key of results: a card without them keeps its hash.
        """
        later = ("apparent_size", "diameter_density")
        values = super().to_dict()
        if self.patches.raw_unit == PatchSettings.raw_unit:
            del values["patches"]["raw_unit"]
        return {name: value for name, value in values.items() if value or name not in later}

    def provenance(self) -> dict[str, Any]:
        """Return the entries that identify the model in results."""
        return {**super().provenance(), "classes": list(self.classes)}
