"""Colours and symbols of the classes, and the contrast of images for display.

The colours are those of Okabe and Ito [1]_, which people with common colour-vision deficiencies
can distinguish; symbols carry the same information. Both depend only on the order of the classes,
so that a class looks the same in all views.

References
----------
.. [1] M. Okabe and K. Ito, "Color Universal Design (CUD): how to make figures and presentations
   that are friendly to colorblind people", 2008, https://jfly.uni-koeln.de/color/
"""

from __future__ import annotations

import colorsys
from collections.abc import Iterable
from functools import lru_cache

import numpy as np

from .tables.cluster_table import AGGREGATE, NON_CLASS_LABELS, UNKNOWN

# Ordered so that classes of similar size look most different. Black is not used: it is invisible
# on the dark background of a HAADF image.
_OKABE_ITO = ("#56b4e9", "#e69f00", "#009e73", "#cc79a7", "#f0e442", "#d55e00", "#0072b2")
_SYMBOLS = ("disc", "square", "triangle_up", "diamond", "star", "triangle_down", "cross")
_GOLDEN = 0.618033988749895

UNKNOWN_COLOUR = "#8c8c8c"
# Lighter than the colour of unknown clusters, and as different from all others under common
# colour-vision deficiencies as these are from each other.
AGGREGATE_COLOUR = "#a8f0a8"
UNLABELLED_COLOUR = "#d3d3d3"
MARKED_COLOUR = "#cc79a7"
"""Atoms marked by a person have no probability. Not white, which selected atoms are."""
UNKNOWN_SYMBOL = "x"
# Overlapping discs.
AGGREGATE_SYMBOL = "clobber"
UNLABELLED_SYMBOL = "ring"


def _additional_colour(index: int) -> str:
    """Return a colour beyond the palette; hues differ by the golden ratio and do not repeat."""
    hue = (index * _GOLDEN) % 1.0
    rgb = colorsys.hls_to_rgb(hue, 0.62 if index % 2 else 0.45, 0.65)
    return "#" + "".join(f"{round(255 * channel):02x}" for channel in rgb)


def colours(classes: Iterable[str]) -> dict[str, str]:
    """Return the colours ``"#rrggbb"`` of the classes and of the labels that are no class.

    The classes are first, in order, then "unknown" (grey), "aggregate" (pale green) and "" (light
    grey).
    """
    return dict(_palette(tuple(classes))[0])


def symbols(classes: Iterable[str]) -> dict[str, str]:
    """Return the napari symbols of the classes and of the labels that are no class.

    There are fewer symbols than colours: symbols repeat, but never with the same colour. The
    classes are first, then "unknown", "aggregate" and "".
    """
    return dict(_palette(tuple(classes))[1])


def colour_of(label: str, classes: Iterable[str]) -> str:
    """Return the colour of a label; labels outside the classes have that of ``unknown``."""
    return _palette(tuple(classes))[0].get(label, UNKNOWN_COLOUR)


def symbol_of(label: str, classes: Iterable[str]) -> str:
    """Return the symbol of a label; labels outside the classes have that of ``unknown``."""
    return _palette(tuple(classes))[1].get(label, UNKNOWN_SYMBOL)


@lru_cache(maxsize=64)
def _palette(classes: tuple[str, ...]) -> tuple[dict[str, str], dict[str, str]]:
    """Return the colours and the symbols of the classes and of the labels that are no class."""
    names = [name for name in dict.fromkeys(classes) if name not in (*NON_CLASS_LABELS, "")]
    colour = {
        name: _OKABE_ITO[i] if i < len(_OKABE_ITO) else _additional_colour(i)
        for i, name in enumerate(names)
    }
    symbol = {name: _SYMBOLS[i % len(_SYMBOLS)] for i, name in enumerate(names)}
    return (
        {**colour, UNKNOWN: UNKNOWN_COLOUR, AGGREGATE: AGGREGATE_COLOUR, "": UNLABELLED_COLOUR},
        {**symbol, UNKNOWN: UNKNOWN_SYMBOL, AGGREGATE: AGGREGATE_SYMBOL, "": UNLABELLED_SYMBOL},
    )


def to_8_bit(pixels: np.ndarray, low: float = 0.2, high: float = 99.8) -> np.ndarray:
    """Rescale an image to 8 bits between two percentiles of its finite pixels.

    Parameters
    ----------
    pixels : ndarray
        Intensities; pixels that are not finite become black.
    low, high : float
        Percentiles for black and white.
    """
    return (255 * stretch(pixels, low, high)).astype(np.uint8)


def stretch(
    pixels: np.ndarray,  # pixels; NaN becomes 0, and so does everything if no pixel is finite
    # low, high: percentiles of the darkest and the brightest pixel
    low: float,
    high: float,
) -> np.ndarray:  # values between 0 and 1
    """Stretch the contrast between two percentiles."""
    finite = pixels[np.isfinite(pixels)]
    if not finite.size:
        return np.zeros(pixels.shape)
    bottom, top = np.percentile(finite, [low, high])
    scaled = (np.nan_to_num(pixels, nan=bottom) - bottom) / max(
        float(top - bottom), np.finfo(float).tiny
    )
    return np.asarray(np.clip(scaled, 0, 1))
