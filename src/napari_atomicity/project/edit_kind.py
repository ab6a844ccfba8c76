"""What a project must know of an edit to record it: its kind, its author and its clusters."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import Protocol


class EditKind(Enum):
    """What an edit changes, and with it what is logged and when it must be on disk."""

    LABEL = "label"
    """A person labels clusters. Every label is logged, also one that confirms the last."""
    GEOMETRY = "geometry"
    """A person adds, removes, moves, links or excludes clusters. Every change is logged."""
    PREDICTION = "prediction"
    """A model classifies the same clusters. Nothing is logged; written in the background."""
    ANALYSIS = "analysis"
    """A new analysis of an image. Nothing is logged but what the analysis changes of labels."""
    ATOMS = "atoms"
    """The atoms of an image, their marks or the support. Every changed mark is logged."""
    SESSION = "session"
    """The acquisition session of an image, or its known sample. Nothing is logged."""
    PIXEL_SIZE = "pixel size"
    """The pixel size of an image. Nothing is logged."""


class RecordableEdit(Protocol):
    """An edit as `Project.record` takes it."""

    @property
    def image(self) -> str:
        """Name of the image."""
        ...

    @property
    def kind(self) -> EditKind:
        """What the edit changes."""
        ...

    @property
    def author(self) -> str:
        """Annotator who made the edit."""
        ...

    @property
    def cluster_ids(self) -> frozenset[int] | None:
        """Clusters that the edit may change; None: any."""
        ...


@dataclass(frozen=True)
class ImageEdit:
    """An edit of an image, described only as far as `Project.record` needs it.

    Parameters
    ----------
    image : str
        Name of the image.
    kind : EditKind
        What the edit changes.
    author : str
        Annotator who made the edit.
    cluster_ids : frozenset of int, optional
        Clusters that the edit may change; None: any.
    """

    image: str
    kind: EditKind
    author: str
    cluster_ids: frozenset[int] | None = None
