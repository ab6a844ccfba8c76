"""Reasons that limit the use of class ratios, as the column ``note`` of a table of ratios."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Self

from ..core.text import pluralise
from .scale_solutions import ScaleSolutions

CONDITIONS_DIFFER = (
    "conditions differ from the training of the model: adapt before trusting these ratios"
)
"""Note on ratios of images whose conditions differ from the training of the model."""
FEW_CLUSTERS = "few clusters: fractions and intensity scale are uncertain"
"""Note on ratios of fewer than `MIN_CLUSTERS` clusters."""
MIN_CLUSTERS = 10
"""Number of counted clusters of an image below which ratios are noted."""
MIN_SCALE_PROBABILITY = 0.5
"""Probability that the intensity scale of an image is right below which labels are withheld."""
COMBINATION = "combination"
"""Estimator of the labels for which a model is calibrated."""
_ESTIMATORS = {"mixture": "the constrained mixture", "network": "the network"}
WITHHELD = (
    "fractions are withheld: train a model that has these sizes, or use --keep-ratios (dock "
    "Ratios: Show the fractions anyway)"
)
"""Note on fractions of a session that does not fit the classes."""
SEPARATOR = "; "
"""Between the reasons of a note."""


@dataclass(frozen=True)
class ImageLimits:
    """Properties of an image that limit the use of its labels.

    Parameters
    ----------
    scale_probability : float, optional
        Probability that its intensity scale is right; None if it was not estimated.
    is_clipped : bool
        Whether its clusters have lost intensity at the limit of the range of values.
    peaks_atoms : tuple of float
        Peaks of the numbers of atoms of a session that does not fit the classes of the model.
    solutions : ScaleSolutions, optional
        Possible intensity scales, if there are several.
    keep_ratios : bool
        Whether fractions are given even if the session does not fit.
    repeats_clusters : bool
        Whether it is a stack whose frames show the same clusters, without tracks.
    contradicts_known : bool
        Whether its clusters contradict the composition of its known sample, which was not used.
    relies_on_contradicted : bool
        Whether its scale relies on a known sample that the clusters contradict.
    labels_from : str
        Estimator of its labels: "combination", "mixture" or "network".
    """

    scale_probability: float | None = None
    is_clipped: bool = False
    peaks_atoms: tuple[float, ...] = ()
    solutions: ScaleSolutions | None = None
    keep_ratios: bool = False
    repeats_clusters: bool = False
    contradicts_known: bool = False
    relies_on_contradicted: bool = False
    labels_from: str = COMBINATION

    @classmethod
    def from_parameters(cls, parameters: Mapping[str, Any], keep_ratios: bool = False) -> Self:
        """Build from the parameters of an analysis.

        Parameters
        ----------
        parameters : mapping of str to Any
            Parameters of the analysis of an image.
        keep_ratios : bool, optional
            Whether fractions are given even if the session does not fit.
        """
        session = parameters.get("session", {})
        peaks = tuple(session.get("peaks_atoms", ()))
        sample = session.get("known_sample", {})
        certainty = parameters.get("certainty_of_scale")
        solutions = ScaleSolutions.from_parameters(parameters)
        return cls(
            certainty,
            False,
            peaks,
            solutions,
            keep_ratios,
            contradicts_known=bool(sample.get("contradicted") and not sample.get("used")),
            relies_on_contradicted=bool(session.get("relies_on_contradicted")),
            labels_from=parameters.get("labels_from", COMBINATION),
        )

    @property
    def withholds_ratios(self) -> bool:
        """Whether labels of the model give no fractions, because the session does not fit."""
        return bool(self.peaks_atoms) and not self.keep_ratios

    @property
    def scale_is_uncertain(self) -> bool:
        """Whether the scale is too uncertain for labels."""
        return self.scale_probability is not None and not (
            self.scale_probability >= MIN_SCALE_PROBABILITY
        )


def ratio_notes(
    n_clusters: Sequence[int], limits: Sequence[ImageLimits] = (), conditions_differ: bool = False
) -> list[str]:
    """List the reasons that limit the use of the ratios of an image, or of several.

    Parameters
    ----------
    n_clusters : sequence of int
        Number of counted clusters of the image, or of each image; 0 is not noted.
    limits : sequence of ImageLimits, optional
        Of the image, or of each image.
    conditions_differ : bool
        Whether conditions differ from those of the training.

    Returns
    -------
    list of str
        Empty if nothing is known to limit the use.
    """
    reasons = [CONDITIONS_DIFFER] if conditions_differ else []
    few = sum(0 < n < MIN_CLUSTERS for n in n_clusters)
    if 0 < sum(n_clusters) < MIN_CLUSTERS:
        reasons.append(FEW_CLUSTERS)
    elif 2 * few > len(n_clusters):
        images = pluralise(len(n_clusters), "image")
        reasons.append(f"few clusters in {few} of {images}: their intensity scales are uncertain")
    for text, concerned in (
        (
            "the intensity scale is uncertain{}: all labels of an image may be wrong together",
            sum(image.scale_is_uncertain for image in limits),
        ),
        (
            "the clusters contradict the known sample{}: its composition was not used",
            sum(image.contradicts_known for image in limits),
        ),
        (
            "the intensity scale relies on a known sample that its clusters contradict{}: all "
            "labels may be wrong together",
            sum(image.relies_on_contradicted for image in limits),
        ),
        (
            "pixels are clipped{}: intensities of bright clusters are estimates",
            sum(image.is_clipped for image in limits),
        ),
        (
            "frames show the same clusters again{}: track them to count each once, with intervals",
            sum(image.repeats_clusters for image in limits),
        ),
    ):
        if concerned:
            share = f" in {concerned} of {pluralise(len(limits), 'image')}"
            reasons.append(text.format(share if len(limits) > 1 else ""))
    for name in dict.fromkeys(image.labels_from for image in limits):
        if name != COMBINATION:
            reasons.append(
                f"labels are those of {_ESTIMATORS[name]}: confidences, prediction sets and "
                "intervals are calibrated for the combination only"
            )
    for peaks in dict.fromkeys(image.peaks_atoms for image in limits):
        if peaks:
            reasons.append(describe_misfit(peaks))
    if any(image.withholds_ratios for image in limits):
        reasons.append(WITHHELD)
    return reasons


def describe_misfit(peaks_atoms: Sequence[float]) -> str:
    """Describe a session whose sizes are not those of the classes: "peaks at 25 and 48 atoms"."""
    *first, last = (f"{peak:.0f}" for peak in sorted(peaks_atoms))
    listed = f"{', '.join(first)} and {last}" if first else last
    noun = "peaks" if first else "peak"
    return f"this session does not fit the classes of the model: {noun} at {listed} atoms"
