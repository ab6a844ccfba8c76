"""What a person wants to review."""

from __future__ import annotations

from dataclasses import dataclass

DEFAULT_SAMPLE = 200
"""Clusters of a stratified sample by default."""


@dataclass(frozen=True)
class ReviewRequest:
    """Which clusters are wanted, and in which order.

    Parameters
    ----------
    order
        A name in `ORDERS`.
    images
        Of these images only; None: of all.
    label
        For the order "class": this label only; "": all labels, one after the other.
    n
        For the order "sample": how many; 0: all.
    seed
        Of what is drawn at random.
    again
        Whether clusters that a person has labelled come too. A sample ignores it: it is drawn from
        all, and what was labelled before counts as answered.
    by_image
        Whether to go through one image after the other.
    """

    order: str = "confidence"
    images: tuple[str, ...] | None = None
    label: str = ""
    n: int = DEFAULT_SAMPLE
    seed: int = 0
    again: bool = False
    by_image: bool = False


@dataclass(frozen=True)
class Stratum:
    """A part of the clusters from which a sample is drawn on its own."""

    label: str
    level: str
    size: int
