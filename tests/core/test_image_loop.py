"""The loop over images: results in order, bad images, and interruption."""

from __future__ import annotations

import pytest

from napari_atomicity.core.errors import Cancelled
from napari_atomicity.core.progress import for_each_image


def inverse(number: int) -> float:
    return 1 / number


def test_each_result_reaches_all_sinks_in_order():
    first, second = [], []
    assert not for_each_image([1, 2, 4], inverse, sinks=[first.append, second.append])
    assert first == second == [1, 0.5, 0.25]


def test_a_bad_image_does_not_stop_the_others():
    results = []
    interrupted = for_each_image(
        [1, 0, 2], inverse, sinks=[results.append], on_error=lambda item, error: (item, type(error))
    )
    assert not interrupted and results == [1, (0, ZeroDivisionError), 0.5]
    with pytest.raises(ZeroDivisionError):
        for_each_image([0], inverse)


def test_an_interruption_keeps_what_is_done():
    results = []
    assert for_each_image([1, 2], inverse, sinks=[results.append], stop=lambda: bool(results))
    assert results == [1]

    def cancelled(item: int) -> float:
        raise Cancelled

    assert for_each_image([1], cancelled, sinks=[results.append], on_error=lambda *_: 0)
    assert results == [1]
