"""Units of length in files of microscopes and programs, and pixel sizes in nm."""

from __future__ import annotations

import math
import unicodedata
from dataclasses import dataclass

from ...core.errors import UnsuitableImageError

MAX_INEQUALITY = 0.005
"""Maximum relative difference of the scales along x and y."""

# In the spelling of `normalised`.
_NM = {
    **dict.fromkeys(("m", "meter"), 1e9),
    **dict.fromkeys(("mm", "millimeter"), 1e6),
    **dict.fromkeys(("um", "μm", "micron", "micrometer"), 1e3),
    **dict.fromkeys(("nm", "nanometer"), 1.0),
    **dict.fromkeys(("a", "ang", "angstrom"), 0.1),
    **dict.fromkeys(("pm", "picometer"), 1e-3),
}
_SECONDS = {
    **dict.fromkeys(("s", "sec", "second", "seconds"), 1.0),
    **dict.fromkeys(("ms", "msec", "millisecond", "milliseconds"), 1e-3),
    **dict.fromkeys(("us", "μs", "microsecond", "microseconds"), 1e-6),
    **dict.fromkeys(("min", "minute", "minutes"), 60.0),
}
_ANGLES = {"rad", "mrad", "μrad", "urad", "deg", "degree", "degrees", "°"}
_ENERGIES = {"ev", "kev", "mev"}


@dataclass(frozen=True)
class AxisScale:
    """Length of one pixel along one axis, in the unit of the file."""

    value: float
    unit: str

    def __str__(self) -> str:
        return f"{self.value:g} {self.unit}".strip()


def normalised(unit: object) -> str:
    r"""Return a unit in a common spelling.

    Examples
    --------
    >>> [normalised(unit) for unit in (r"\u00B5m", "[n_m]", "Ångström", "nanometres")]
    ['μm', 'nm', 'angstrom', 'nanometer']
    """
    text = "" if unit is None else str(unit).strip().strip("\x00")
    # ImageJ escapes non-ASCII characters; UTF-8 read as Latin-1 contains an additional "Â".
    for escaped, character in (("\\u00B5", "µ"), ("\\u00b5", "µ"), ("\\u00C5", "Å"), ("Âµ", "µ")):
        text = text.replace(escaped, character)
    # Compatibility decomposition: one letter mu, superscripts as digits, accents apart.
    text = unicodedata.normalize("NFKD", text).lower()
    text = "".join(c for c in text if not unicodedata.combining(c) and c not in " []_")
    text = text.replace("metre", "meter")
    return text.removesuffix("s") if text.endswith(("meters", "microns", "angstroms")) else text


def nm_per(unit: object) -> float | None:
    """Return the length of a unit in nm, None if it is not a known length.

    Examples
    --------
    >>> nm_per("µm"), nm_per("Å"), nm_per("px")
    (1000.0, 0.1, None)
    """
    return _NM.get(normalised(unit))


def seconds(value: object, unit: object) -> float | None:
    """Return a time in seconds, None if it is not valid or not positive.

    Examples
    --------
    >>> seconds("40", "ms"), seconds(0, "s"), seconds(2, "frames")
    (0.04, None, None)
    """
    factor = _SECONDS.get(normalised(unit))
    try:
        number = float(str(value))
    except ValueError:
        return None
    if factor is None or not math.isfinite(number) or number <= 0:
        return None
    return number * factor


def is_reciprocal(unit: object) -> bool:
    """Return whether a unit is of reciprocal space: inverse length or scattering angle."""
    text = normalised(unit)
    inverse = text.startswith(("1/", "/")) or text.endswith(("-1", "\u22121"))
    return inverse or text in _ANGLES


def pixel_size_nm(y: AxisScale | None, x: AxisScale | None) -> float | None:
    """Return the edge length of a pixel in nm, None if the scales are not known.

    Raises `UnsuitableImageError` if the axes are not lengths in real space, or the pixels are not
    square.
    """
    if y is None or x is None:
        return None
    for scale in (y, x):
        if is_reciprocal(scale.unit):
            raise UnsuitableImageError(
                f"the axes are in {scale.unit}: this is a diffraction pattern",
                advice="Open the real-space image",
            )
        if normalised(scale.unit) in _ENERGIES:
            raise UnsuitableImageError(
                f"an axis is in {scale.unit}: this is a spectrum",
                advice="Open the HAADF image that was recorded with it",
            )
    sizes = [_in_nm(scale) for scale in (y, x)]
    if sizes[0] is None or sizes[1] is None:
        return None
    if abs(sizes[0] - sizes[1]) > MAX_INEQUALITY * max(sizes[0], sizes[1]):
        raise UnsuitableImageError(
            f"the pixels are not square: {sizes[1]:.6g} nm wide (x), {sizes[0]:.6g} nm high (y)",
            advice="Correct the scale in the program that wrote the file, or resample the image to "
            "square pixels",
        )
    return (sizes[0] + sizes[1]) / 2


def scale_without_unit(scale: AxisScale | None) -> dict[str, float]:
    """Return, for the metadata, a scale that a program such as HyperSpy stored without a unit."""
    if scale is None or normalised(scale.unit) not in ("", "<undefined>"):
        return {}
    size = abs(scale.value)
    return {"scale_without_unit": size} if math.isfinite(size) and size not in (0, 1) else {}


def _in_nm(scale: AxisScale) -> float | None:
    factor = nm_per(scale.unit)
    # A negative scale is an inverted axis.
    size = abs(scale.value)
    if factor is None or not math.isfinite(size) or size == 0:
        return None
    return size * factor
