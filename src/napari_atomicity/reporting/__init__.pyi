from .plot_base import Look as Look
from .plot_dispersion import DISPERSION_PLOTS as DISPERSION_PLOTS
from .plots import PLOTS as PLOTS, plot_figure as plot_figure, save_plot as save_plot
from .report import write_report as write_report
