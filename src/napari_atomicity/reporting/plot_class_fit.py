"""The numbers of atoms in a session with the peaks that were fitted, beside the classes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from ..models.class_fit import ClassFit
from ..statistics.ratio_notes import DOES_NOT_FIT
from .plot_base import Look, style_axes
from .plot_panels import margins

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_BARS, _PEAKS = "#56b4e9", "#d55e00"
_BIN_WIDTH = 0.05
"""Width of the bars in ln(number of atoms)."""


def describe_class_fit(fit: ClassFit) -> str:
    """Say whether the sizes of a session are those of the classes, and name the free peaks."""
    if fit.fits:
        peaks = [f"{atoms:.0f} ({100 * share:.0f} %)" for atoms, share in fit.peaks]
        return f"The sizes agree with those of the classes. Free peaks: {', '.join(peaks)} atoms."
    peaks = [
        f"{atoms:.0f} ± {error:.0f} ({100 * share:.0f} %)"
        for atoms, error, share in zip(fit.atoms, fit.atoms_error, fit.shares, strict=True)
    ]
    verb = "do" if fit.answer == DOES_NOT_FIT else "may"
    return (
        f"⚠ The sizes {verb} not agree with those of the classes. Peaks in atoms: "
        f"{', '.join(peaks)}."
    )


def draw_class_fit(figure: Figure, look: Look, fit: ClassFit, sizes: Sequence[float]) -> None:
    """Draw the histogram of the numbers of atoms, the fitted peaks, and lines at the classes."""
    axes = figure.subplots(gridspec_kw=margins(figure, look))
    shown = np.append(fit.log_count, np.log(sizes))
    low, high = shown.min() - 2 * _BIN_WIDTH, shown.max() + 2 * _BIN_WIDTH
    edges = np.arange(low, high + _BIN_WIDTH, _BIN_WIDTH)
    axes.hist(
        np.exp(fit.log_count), list(np.exp(edges)), weights=fit.number, color=_BARS, alpha=0.6
    )
    x = np.linspace(low, high, 400)
    z = (x[:, None] - np.log(fit.atoms)) / fit.scatter
    density = np.exp(-0.5 * z**2) * fit.shares / (fit.scatter * np.sqrt(2 * np.pi))
    peaks = fit.number.sum() * _BIN_WIDTH * density.sum(axis=1)
    axes.plot(np.exp(x), peaks, color=_PEAKS, linewidth=1.5)
    for atoms in sizes:
        axes.axvline(atoms, color=look.ink, linewidth=0.8, linestyle=":")
    axes.set(xscale="log", xlim=tuple(np.exp((low, high))), ylabel="Clusters")
    axes.set_xticks(list(sizes), [f"{atoms:g}" for atoms in sizes])
    axes.set_xticks([], minor=True)
    axes.set_xlabel("Atoms (dotted: classes)")
    axes.locator_params(axis="y", nbins=4, integer=True)
    style_axes(axes, look, "Blue: clusters, red: peaks")
