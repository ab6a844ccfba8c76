"""Comparison of methods on images of known classes: cross-validation, mixtures, new conditions.

`validate` does all of it, as the command ``atomicity validate``. `methods` holds the methods that
are compared, to which others can be added. Modules are loaded on first use.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..core.lazy_imports import lazy_attributes

if TYPE_CHECKING:
    from .methods import Answer, ComparedMethod, Fit, FittedModel, Training, register
    from .request import ValidationRequest
    from .run import validate
    from .simulated import SimulatedData, simulate_data

__all__ = [
    "Answer",
    "ComparedMethod",
    "Fit",
    "FittedModel",
    "SimulatedData",
    "Training",
    "ValidationRequest",
    "register",
    "simulate_data",
    "validate",
]

__getattr__, __dir__ = lazy_attributes(
    __name__,
    {
        "Answer": "methods",
        "Fit": "methods",
        "FittedModel": "methods",
        "ComparedMethod": "methods",
        "SimulatedData": "simulated",
        "Training": "methods",
        "ValidationRequest": "request",
        "register": "methods",
        "simulate_data": "simulated",
        "validate": "run",
    },
)
