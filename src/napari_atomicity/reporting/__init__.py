"""Report, charts and figures."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..core.lazy_imports import lazy_attributes

if TYPE_CHECKING:
    from .plot_base import Look
    from .plot_dispersion import DISPERSION_PLOTS
    from .plots import PLOTS, plot_figure, save_plot
    from .report import write_report

__all__ = [
    "DISPERSION_PLOTS",
    "PLOTS",
    "Look",
    "plot_figure",
    "save_plot",
    "write_report",
]

__getattr__, __dir__ = lazy_attributes(
    __name__,
    {
        "DISPERSION_PLOTS": "plot_dispersion",
        "Look": "plot_base",
        "PLOTS": "plots",
        "plot_figure": "plots",
        "save_plot": "plots",
        "write_report": "report",
    },
)
