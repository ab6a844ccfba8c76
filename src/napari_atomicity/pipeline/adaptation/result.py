"""Result of an adaptation."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np

from ...core.model_card import ModelCard
from ...models.analysis import Analysis
from ...models.domain_shift import Shift
from .settings import COMBINED, MIN_PROBABILITY


@dataclass(frozen=True, eq=False, repr=False)
class Adaptation:
    """What came of an adaptation."""

    accepted: bool  # whether the model was changed
    reasons: tuple[str, ...]  # why, or why not, in words
    # card, tensors: of the model as it is now: the adapted one, or the one that it was
    card: ModelCard
    tensors: dict[str, np.ndarray]
    shift: Shift | None  # of the conditions before; None if there were too few clusters to tell
    # class → number of clusters with a label to learn from, or to decide by (``left_out``)
    pseudo_labels: dict[str, int]
    corrections: int  # number of a person's labels among them
    checks: dict[str, tuple[float, float]]  # name → (before, after) of what decided
    # before, after: the analyses, in order, as concluded by the model that was and the one that is
    before: tuple[Analysis, ...]
    after: tuple[Analysis, ...]
    method: str = COMBINED  # how pseudo-labels were found: "combined" or "diameter"
    # least probability of the class of a pseudo-label
    min_probability: float = MIN_PROBABILITY
    # class → ranges of diameters in nm that determine it, if pseudo-labels come from them
    diameter_ranges: Mapping[str, Sequence[tuple[float, float]]] = field(default_factory=dict)
    # whether the network has to change; False if it already gives the unambiguous labels
    needed: bool = True
    # whether the adapted model could not be checked: it was kept only because the settings say so,
    # or was refused for this reason alone
    unchecked: bool = False
    # for each image the class index (N,) of the pseudo-labels, -1 where there is none
    pseudo_label_rows: tuple[np.ndarray, ...] = ()
    # criterion → number of its labels that were left out to decide by; empty if there were too few
    left_out: Mapping[str, int] = field(default_factory=dict)

    @property
    def has_model(self) -> bool:
        """Whether there is a model for these conditions: adapted, or unchanged if that is right."""
        return self.accepted or not self.needed

    @property
    def refused(self) -> bool:
        """Whether nothing was learnt, for want of clusters to learn from."""
        return not self.accepted and not self.checks

    @property
    def classes_without_labels(self) -> tuple[str, ...]:
        """Classes without a cluster to learn from."""
        return tuple(name for name, n in self.pseudo_labels.items() if n == 0)

    def __repr__(self) -> str:
        outcome = "accepted" if self.accepted else "refused" if self.refused else "rolled back"
        return f"<Adaptation of {self.card.name}: {outcome}; {'; '.join(self.reasons)}>"

    def summary(self) -> dict[str, Any]:
        """In a few words, ready for JSON."""
        return {
            "accepted": self.accepted,
            "needed": self.needed,
            "unchecked": self.unchecked,
            "reasons": list(self.reasons),
            "shift": None if self.shift is None else asdict(self.shift),
            "refused": self.refused,
            "pseudo_label_method": self.method,
            "min_probability": self.min_probability,
            "diameter_ranges_nm": dict(self.diameter_ranges),
            "pseudo_labels": self.pseudo_labels,
            "classes_without_pseudo_labels": list(self.classes_without_labels),
            "corrections": self.corrections,
            "left_out": dict(self.left_out),
            "checks": {k: list(v) for k, v in self.checks.items()},
        }
