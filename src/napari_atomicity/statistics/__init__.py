"""Class ratios with intervals, agreement, scores, point patterns."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..core.lazy_imports import lazy_attributes

if TYPE_CHECKING:
    from .point_scores import evaluate_points
    from .ratios import class_ratios
    from .reference import compare

__all__ = [
    "class_ratios",
    "compare",
    "evaluate_points",
]

__getattr__, __dir__ = lazy_attributes(
    __name__,
    {
        "class_ratios": "ratios",
        "compare": "reference",
        "evaluate_points": "point_scores",
    },
)
