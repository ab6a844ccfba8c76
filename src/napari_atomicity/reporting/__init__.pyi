from .plots.base import Look as Look
from .plots.dispersion import DISPERSION_PLOTS as DISPERSION_PLOTS
from .plots.registry import PLOTS as PLOTS, plot_figure as plot_figure, save_plot as save_plot
from .report import write_report as write_report
