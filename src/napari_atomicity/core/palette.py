"""Colours and symbols of the classes: never colour alone.

The colours are those of Okabe and Ito [1]_, which people with any of the common colour-vision
deficiencies can tell apart; the symbols carry the same information a second time. Both depend
only on the order of the classes, so a class looks the same in every view, whichever of the
classes happen to be present.

References
----------
.. [1] M. Okabe and K. Ito, "Color Universal Design (CUD): how to make figures and presentations
   that are friendly to colorblind people", 2008, https://jfly.uni-koeln.de/color/
"""

from __future__ import annotations

import colorsys
from collections.abc import Iterable

from .cluster_table import AGGREGATE, NON_CLASS_LABELS, UNKNOWN

# Ordered so that neighbouring sizes, which are the ones confused, look most different. Black is
# left out: it would vanish on the dark ground of a HAADF image.
_OKABE_ITO = ("#56b4e9", "#e69f00", "#009e73", "#cc79a7", "#f0e442", "#d55e00", "#0072b2")
_SYMBOLS = ("disc", "square", "triangle_up", "diamond", "star", "triangle_down", "cross")
_GOLDEN = 0.618033988749895

UNKNOWN_COLOUR = "#8c8c8c"
# Much lighter than that of the unknown, and as far from all others under the common deficiencies
# as these are from each other, or further.
AGGREGATE_COLOUR = "#a8f0a8"
UNLABELLED_COLOUR = "#d3d3d3"
UNKNOWN_SYMBOL = "x"
# Discs that lie over each other.
AGGREGATE_SYMBOL = "clobber"
UNLABELLED_SYMBOL = "ring"


def _further(index: int) -> str:
    """Colours beyond Okabe and Ito's: hues a golden section apart never repeat."""
    hue = (index * _GOLDEN) % 1.0
    rgb = colorsys.hls_to_rgb(hue, 0.62 if index % 2 else 0.45, 0.65)
    return "#" + "".join(f"{round(255 * channel):02x}" for channel in rgb)


def colours(classes: Iterable[str]) -> dict[str, str]:
    """The colour of each class, of ``unknown`` (grey), ``aggregate`` (pale green) and "" (light
    grey).

    Parameters
    ----------
    classes
        All classes of the model, in its order; any number.

    Returns
    -------
    dict
        Label → ``"#rrggbb"``; the classes first, in order, then "unknown", "aggregate" and "".
    """
    names = _names(classes)
    chosen = {
        name: _OKABE_ITO[i] if i < len(_OKABE_ITO) else _further(i) for i, name in enumerate(names)
    }
    outside = {UNKNOWN: UNKNOWN_COLOUR, AGGREGATE: AGGREGATE_COLOUR}
    return {**chosen, **outside, "": UNLABELLED_COLOUR}


def symbols(classes: Iterable[str]) -> dict[str, str]:
    """The napari symbol of each class, of ``unknown``, ``aggregate`` and "".

    There are fewer symbols than colours that can be told apart: they repeat, but never together
    with the same colour.

    Parameters
    ----------
    classes
        All classes of the model, in its order; any number.

    Returns
    -------
    dict
        Label → name of a napari Points symbol; the classes first, then "unknown", "aggregate"
        and "".
    """
    names = _names(classes)
    chosen = {name: _SYMBOLS[i % len(_SYMBOLS)] for i, name in enumerate(names)}
    outside = {UNKNOWN: UNKNOWN_SYMBOL, AGGREGATE: AGGREGATE_SYMBOL}
    return {**chosen, **outside, "": UNLABELLED_SYMBOL}


def _names(classes: Iterable[str]) -> list[str]:
    return [name for name in dict.fromkeys(classes) if name not in (*NON_CLASS_LABELS, "")]


def colour_of(label: str, classes: Iterable[str]) -> str:
    """The colour of one label; a label that is none of the classes looks like ``unknown``."""
    return colours(classes).get(label, UNKNOWN_COLOUR)


def symbol_of(label: str, classes: Iterable[str]) -> str:
    """The symbol of one label; a label that is none of the classes looks like ``unknown``."""
    return symbols(classes).get(label, UNKNOWN_SYMBOL)
