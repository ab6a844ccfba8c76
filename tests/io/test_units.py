import pytest
from hypothesis import given, strategies as st

from napari_atomicity.core.errors import UnsuitableImageError
from napari_atomicity.io.readers.units import (
    AxisScale,
    is_reciprocal,
    nm_per,
    normalised,
    pixel_size_nm,
)


@pytest.mark.parametrize(
    ("unit", "nm"),
    [
        ("nm", 1),
        ("NM ", 1),
        ("[n_m]", 1),
        ("nanometers", 1),
        ("µm", 1e3),
        ("μm", 1e3),
        ("um", 1e3),
        ("\\u00B5m", 1e3),
        ("Âµm", 1e3),
        ("micron", 1e3),
        ("Microns", 1e3),
        ("micrometre", 1e3),
        ("m", 1e9),
        ("mm", 1e6),
        ("Å", 0.1),
        ("\u212b", 0.1),
        ("A", 0.1),
        ("Ångström", 0.1),
        ("angstroms", 0.1),
        ("pm", 1e-3),
        ("pixel", None),
        ("inch", None),
        ("cm", None),
        ("<undefined>", None),
        ("", None),
        (None, None),
    ],
)
def test_units_of_length(unit, nm):
    assert nm_per(unit) == nm
    assert not is_reciprocal(unit)


@pytest.mark.parametrize(
    "unit",
    ["1/nm", "1 / Å", "nm^-1", "nm-1", "nm⁻¹", "[n_m^-1]", "/nm", "mrad", "rad", "µrad", "°"],
)
def test_reciprocal_units_are_refused(unit):
    assert is_reciprocal(unit)
    assert nm_per(unit) is None
    with pytest.raises(UnsuitableImageError, match="diffraction pattern"):
        pixel_size_nm(AxisScale(0.1, unit), AxisScale(0.1, unit))


def test_energy_axes_are_refused():
    with pytest.raises(UnsuitableImageError, match="spectrum"):
        pixel_size_nm(AxisScale(0.1, "nm"), AxisScale(0.5, "eV"))


def test_the_same_length_in_different_units_is_equal():
    assert pixel_size_nm(AxisScale(40, "pm"), AxisScale(0.4, "Å")) == pytest.approx(0.04)


@pytest.mark.parametrize("value", [0.0, float("nan"), float("inf")])
def test_scales_that_mean_nothing_are_unknown(value):
    assert pixel_size_nm(AxisScale(value, "nm"), AxisScale(value, "nm")) is None


def test_unknown_axis_means_unknown_size():
    assert pixel_size_nm(None, AxisScale(1, "nm")) is None
    assert pixel_size_nm(AxisScale(1, ""), AxisScale(1, "nm")) is None


def test_an_axis_that_runs_backwards_has_a_length():
    assert pixel_size_nm(AxisScale(-0.04, "nm"), AxisScale(0.04, "nm")) == pytest.approx(0.04)


def test_oblong_pixels_are_refused_with_both_figures():
    with pytest.raises(UnsuitableImageError, match=r"0\.04 nm wide.*0\.041 nm high"):
        pixel_size_nm(AxisScale(0.041, "nm"), AxisScale(0.04, "nm"))


def test_rounding_is_forgiven():
    assert pixel_size_nm(AxisScale(0.0401, "nm"), AxisScale(0.04, "nm")) == pytest.approx(0.04005)


@given(st.text(max_size=12))
def test_any_text_is_a_unit_or_none(unit):
    assert normalised(normalised(unit)) == normalised(unit) or nm_per(unit) is None
    assert nm_per(unit) is None or nm_per(unit) > 0
