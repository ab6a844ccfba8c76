"""The eight symmetries of the square: four quarter turns, each mirrored or not."""

from __future__ import annotations

from torch import Tensor

NUMBER = 8


def apply_symmetry(image: Tensor, view: int) -> Tensor:
    """Transform an image (..., Y, X) by one of the symmetries: quarter turns, + 4 if mirrored."""
    image = image.flip(-1) if view >= 4 else image
    return image.rot90(view % 4, (-2, -1))


def undo_symmetry(image: Tensor, view: int) -> Tensor:
    """Invert `apply_symmetry`."""
    image = image.rot90(-(view % 4), (-2, -1))
    return image.flip(-1) if view >= 4 else image
