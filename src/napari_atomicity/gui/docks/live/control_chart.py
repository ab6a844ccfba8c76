"""Control chart of a live session: class ratios, confidence and conditions against the images."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from ....reporting.plot_base import Look
from ....reporting.plot_panels import draw_line, stack_panels
from .history import LiveHistory, last_finite

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# Of Okabe and Ito, distinct for people with colour-vision deficiency; so are the line styles.
_CONFIDENCE, _UNKNOWN, _DRIFT, _CHANGE = "#56b4e9", "#d55e00", "#cc79a7", "#e69f00"


def describe_session(history: LiveHistory) -> str:
    """Describe the last values of a live session."""
    parts = [
        f"{name} {100 * share:.0f} %"
        for name in history.classes
        if math.isfinite(share := last_finite(history.values(f"fraction_{name}")))
    ]
    return (
        f"{len(history.rows)} images; ratios now: {', '.join(parts) or 'none'}; change of the "
        f"session now {last_finite(history.change()):.2f} of its limit, drift from the "
        f"training {last_finite(history.drift()):.2f}"
    )


def draw_control_chart(figure: Figure, look: Look, history: LiveHistory) -> None:
    """Draw running ratios with intervals, confidence, and conditions in units of their limits.

    Images with an alarm are marked.
    """
    look = replace(look, classes=history.classes)
    names = [*history.classes, ""]
    right = 2.8 + 0.6 * max(map(len, names))
    ratios, confidence, drift = stack_panels(figure, look, (2, 1, 1), right, 2.2)
    x = np.arange(len(history.rows)) + 0.5
    _draw_ratios(ratios, look, history, x)
    confidence.set_title("Mean confidence; unknown (dashed)")
    confidence.set(ylim=(0, 1), yticks=(0, 1), yticklabels=("0 %", "100 %"))
    draw_line(confidence, look, x, history.values("mean_confidence"), _CONFIDENCE)
    draw_line(confidence, look, x, np.array(history.values("ood_share")), _UNKNOWN, linestyle="--")
    _draw_drift(drift, look, history, x)
    n = int(last_finite(history.values("images")))  # some may not be kept
    alarms = "▲ alarm; " if any(history.alarms) else ""
    drift.set(xlim=(0, len(x)), xticks=(), xlabel=f"{alarms}{n} images")


def _draw_ratios(axes: Axes, look: Look, history: LiveHistory, x: np.ndarray) -> None:
    values = {
        name: [history.values(f"{of}_{name}") for of in ("fraction", "low", "high")]
        for name in history.classes
    }
    highest = max((h for _, _, high in values.values() for h in high[np.isfinite(high)]), default=1)
    top = min(1.0, math.ceil(10 * highest) / 10)
    axes.set_title("Running ratios of all images, 95 %")
    axes.set(ylim=(0, top), yticks=(0, top), yticklabels=("0 %", f"{100 * top:.0f} %"))
    # The legend has the order of the lines at their ends.
    for name in sorted(values, key=lambda name: -np.nan_to_num(last_finite(values[name][0]))):
        share, low, high = values[name]
        axes.fill_between(x, low, high, color=look.colour(name), alpha=0.2, linewidth=0)
        draw_line(axes, look, x, share, look.colour(name), label=name)
    if values:
        axes.legend(loc="center left", bbox_to_anchor=(1, 0.5), handlelength=0.8)


def _draw_drift(axes: Axes, look: Look, history: LiveHistory, x: np.ndarray) -> None:
    change, drift = history.change(), history.drift()
    both = np.concatenate([change, drift])
    top = max(1.5, 1.1 * float(both[np.isfinite(both)].max(initial=1.0)))
    axes.set_title("Change of the session; drift (dashed); limits dotted")
    axes.set(ylim=(0, top), yticks=(0, top), yticklabels=("0", f"{top:.2g}"))
    axes.axhline(1.0, color=look.ink, alpha=0.8, linewidth=0.8, linestyle=":")
    draw_line(axes, look, x, drift, _DRIFT, linestyle="--")
    draw_line(axes, look, x, change, _CHANGE)
    alarm = np.array([bool(text) for text in history.alarms])
    axes.plot(
        x[alarm], np.zeros(alarm.sum()), "^", color=_UNKNOWN, markersize=6, clip_on=False, zorder=5
    )
