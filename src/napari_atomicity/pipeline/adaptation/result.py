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
    """What came of an adaptation.

    Parameters
    ----------
    accepted : bool
        Whether the model was changed.
    reasons : tuple of str
        Why, or why not, in words.
    card, tensors : ModelCard or dict of str to ndarray
        Of the model as it is now: the adapted one, or the one that it was.
    shift : Shift or None
        Of the conditions before; None if there were too few clusters to tell.
    pseudo_labels : dict of str to int
        Class → number of clusters that were learnt from.
    corrections : int
        Number of a person's labels among them.
    checks : dict of str to tuple[float, float]
        Name → (before, after) of what decided.
    before, after : tuple of Analysis
        The analyses, in order, as concluded by the model that was and the one that is.
    method : str, optional
        How pseudo-labels were found: "combined" or "diameter".
    min_probability : float, optional
        Least probability of the class of a pseudo-label.
    diameter_ranges : mapping of str to sequence of tuple of float, optional
        Class → ranges of diameters in nm that determine it, if pseudo-labels come from them.
    needed : bool, optional
        Whether the network has to change; False if it already gives the unambiguous labels.
    unchecked : bool, optional
        Whether the adapted model could not be checked: it was kept only because the settings say
        so, or was refused for this reason alone.
    pseudo_label_rows : tuple of ndarray, optional
        For each image the class index (N,) of the pseudo-labels, -1 where there is none.
    """

    accepted: bool
    reasons: tuple[str, ...]
    card: ModelCard
    tensors: dict[str, np.ndarray]
    shift: Shift | None
    pseudo_labels: dict[str, int]
    corrections: int
    checks: dict[str, tuple[float, float]]
    before: tuple[Analysis, ...]
    after: tuple[Analysis, ...]
    method: str = COMBINED
    min_probability: float = MIN_PROBABILITY[COMBINED]
    diameter_ranges: Mapping[str, Sequence[tuple[float, float]]] = field(default_factory=dict)
    needed: bool = True
    unchecked: bool = False
    pseudo_label_rows: tuple[np.ndarray, ...] = ()

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
            "checks": {k: list(v) for k, v in self.checks.items()},
        }
