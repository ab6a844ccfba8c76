"""What a person wants to review."""

from __future__ import annotations

from dataclasses import dataclass

from ..core.settings import documented, seed_setting, setting

DEFAULT_SAMPLE = 200
"""Clusters of a stratified sample by default."""


@documented
@dataclass(frozen=True)
class ReviewRequest:
    """Clusters to review, and their order."""

    order: str = setting("confidence", "", "A name in `ORDERS`.")
    images: tuple[str, ...] | None = setting(None, "", "Of these images only; None: of all.")
    label: str = setting(
        "", "", 'For the order "class": this label only; "": all labels, one after the other.'
    )
    n: int = setting(
        DEFAULT_SAMPLE,
        "Number",
        "Number of clusters to draw; 0 for all.",
        form_range=(0, 100_000),
        step=1,
        text="all",
        default_text=f"{DEFAULT_SAMPLE}, which gives the accuracy of all to about 4 points either "
        "way",
    )
    seed: int = seed_setting()
    again: bool = setting(
        False,
        "Include reviewed clusters",
        "Whether to include clusters with a manual label. A sample ignores it: it is drawn from "
        "all, and labelled clusters count as answered.",
        key="review/again",
    )
    by_image: bool = setting(
        False,
        "Image by image",
        "Whether to finish one image before the next, which is faster.",
        key="review/by_image",
    )


@dataclass(frozen=True)
class Stratum:
    """A part of the clusters from which a sample is drawn on its own."""

    label: str
    level: str
    size: int
