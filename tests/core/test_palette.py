"""Colours and symbols tell classes apart and do not depend on which classes are present."""

import re

import numpy as np
import pytest
from hypothesis import given, strategies as st
from matplotlib.colors import to_rgb

from napari_atomicity.core.palette import colour_of, colours, symbol_of, symbols

CLASSES = ["Pt19", "Pt30", "Pt41", "Pt55", "Pt70"]
LUMINANCE = np.array([0.2126, 0.7152, 0.0722])


OTHERS = ["unknown", "aggregate", ""]


def test_five_classes_differ_in_colour_and_in_symbol():
    assert len({colours(CLASSES)[c] for c in [*CLASSES, *OTHERS]}) == 8
    assert len({symbols(CLASSES)[c] for c in [*CLASSES, *OTHERS]}) == 8


@given(st.integers(0, 40))
def test_any_number_of_classes_stays_distinct(n):
    names = [f"Au{i}" for i in range(n)]
    look = list(zip(colours(names).values(), symbols(names).values(), strict=True))
    assert len(set(look)) == n + 3
    assert all(re.fullmatch("#[0-9a-f]{6}", colour) for colour, _ in look)


def test_the_look_depends_on_the_order_of_the_classes_only():
    assert list(colours(CLASSES))[:5] == CLASSES
    assert colours(CLASSES[:3])["Pt41"] == colours(CLASSES)["Pt41"]


def test_an_aggregate_is_told_from_the_unknown_without_its_hue():
    grey = [to_rgb(colours(CLASSES)[name]) @ LUMINANCE for name in ("unknown", "aggregate")]
    assert abs(grey[1] - grey[0]) > 0.2
    assert symbol_of("aggregate", CLASSES) != symbol_of("unknown", CLASSES)


@pytest.mark.parametrize("label", ["unknown", "Pt923"])
def test_a_label_that_is_no_class_looks_unknown(label):
    assert colour_of(label, CLASSES) == colours(CLASSES)["unknown"]
    assert symbol_of(label, CLASSES) == symbols(CLASSES)["unknown"]


def test_symbols_are_known_to_napari():
    known = pytest.importorskip("napari.layers.points._points_constants").Symbol
    for symbol in symbols([f"c{i}" for i in range(9)]).values():
        known(symbol)
