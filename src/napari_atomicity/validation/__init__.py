"""Comparison of methods on images of known classes: cross-validation, mixtures, new conditions.

`validate` does all of it, as the command ``atomicity validate``, and `measure_learning_curve` shows
how many training images are needed. `methods` holds the methods that
are compared, to which others can be added. `write_benchmark` writes public images with truth, and
`score_benchmark` scores any method on them, as ``atomicity benchmark``. Modules are loaded
on first use.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..core.lazy_imports import lazy_attributes

if TYPE_CHECKING:
    from .benchmark import BenchmarkSettings, write_benchmark
    from .benchmark_scores import score_benchmark
    from .learning_curve.run import measure_learning_curve
    from .methods import Answer, ComparedMethod, Fit, FittedModel, Training, register
    from .request import ValidationRequest
    from .run import validate
    from .simulated import SimulatedData, simulate_data

__all__ = [
    "Answer",
    "BenchmarkSettings",
    "ComparedMethod",
    "Fit",
    "FittedModel",
    "SimulatedData",
    "Training",
    "ValidationRequest",
    "measure_learning_curve",
    "register",
    "score_benchmark",
    "simulate_data",
    "validate",
    "write_benchmark",
]

__getattr__, __dir__ = lazy_attributes(
    __name__,
    {
        "Answer": "methods",
        "BenchmarkSettings": "benchmark",
        "Fit": "methods",
        "FittedModel": "methods",
        "ComparedMethod": "methods",
        "SimulatedData": "simulated",
        "Training": "methods",
        "ValidationRequest": "request",
        "measure_learning_curve": "learning_curve.run",
        "register": "methods",
        "score_benchmark": "benchmark_scores",
        "simulate_data": "simulated",
        "validate": "run",
        "write_benchmark": "benchmark",
    },
)
