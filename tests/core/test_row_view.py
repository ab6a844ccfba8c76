"""Rows of large arrays: they look like the array they stand for, and are not copied."""

from __future__ import annotations

import pickle

import numpy as np
import pytest

from napari_atomicity.core.tables import row_view as picked
from napari_atomicity.core.tables.row_view import RowView, select_rows, stack


@pytest.fixture(autouse=True)
def nothing_is_small(monkeypatch):
    """Arrays of a test are large."""
    monkeypatch.setattr(picked, "_LARGE_BYTES", 1000)


@pytest.fixture
def array() -> np.ndarray:
    return np.random.default_rng(0).random((30, 4, 4), np.float32)


def test_rows_are_picked_and_not_copied(array):
    index = np.array([5, 2, 2, 29])
    rows = select_rows(array, index)
    assert isinstance(rows, RowView)
    assert np.shares_memory(rows[1], array)
    assert rows.bases[0] is array


def test_they_are_never_written_to(array):
    rows = select_rows(array, np.array([1, 2]))
    with pytest.raises(TypeError, match="read-only"):
        rows += 1
    with pytest.raises(TypeError, match="read-only"):
        np.add(array[:2], 1, out=rows)
    with pytest.raises(AttributeError):
        rows.fill(0)


def test_an_index_of_two_dimensions_is_that_of_an_array(array):
    index = np.array([[0, 1], [1, 1]])
    rows = select_rows(array, np.array([5, 2]))
    np.testing.assert_array_equal(rows[index], np.asarray(rows)[index])


def test_small_arrays_are_copied(array):
    assert isinstance(select_rows(array[:1], np.array([0])), np.ndarray)


@pytest.mark.parametrize(
    "key",
    [
        3,
        -1,
        np.int64(0),
        slice(1, 9),
        slice(None, None, 4),
        [1, 0, 3],
        np.array([9, 0]),
        np.arange(10) % 3 == 0,
        (slice(None), 0, 0),
        (4, 0, 1),
        (slice(2, 4), slice(1, 3)),
        (np.array([1, 2]), 0),
        (np.array([1, 2]), np.array([0, 3])),
        (Ellipsis, 0),
        None,
    ],
)
def test_what_is_taken_of_rows_is_that_of_the_array(array, key):
    index = np.array([7, 3, 3, 0, 29, 1, 2, 15, 8, 9])
    rows, whole = select_rows(array, index), array[index]
    np.testing.assert_array_equal(rows[key], whole[key])
    assert np.shape(rows[key]) == whole[key].shape


def test_rows_are_good_for_whatever_an_array_is(array):
    index = np.arange(0, 30, 2)
    rows, whole = select_rows(array, index), array[index]
    assert (rows.shape, rows.dtype, rows.ndim, rows.size, len(rows)) == (
        whole.shape, whole.dtype, whole.ndim, whole.size, len(whole),
    )  # fmt: skip
    np.testing.assert_array_equal(2 * rows + 1, 2 * whole + 1)
    np.testing.assert_array_equal(np.isfinite(rows).any(axis=(1, 2)), np.ones(15, bool))
    np.testing.assert_array_equal(np.concatenate([rows, array]), np.concatenate([whole, array]))
    np.testing.assert_array_equal(rows.astype(np.float16), whole.astype(np.float16))
    np.testing.assert_array_equal(rows.mean(axis=0), whole.mean(axis=0))
    np.testing.assert_array_equal(list(rows), whole)
    np.testing.assert_array_equal(pickle.loads(pickle.dumps(rows)), whole)
    with pytest.raises(TypeError):
        rows[0] = 1
    with pytest.raises(AttributeError):
        _ = rows.no_such_thing
    with pytest.raises(ValueError, match="copy"):
        np.asarray(rows, copy=False)


def test_all_rows_as_they_were_are_the_array_itself(array):
    one, others = select_rows(array, np.array([4])), select_rows(array, np.delete(np.arange(30), 4))
    order = np.argsort([4, *np.delete(np.arange(30), 4)])
    assert stack([one, others], order) is array


def test_rows_of_several_arrays_in_any_order(array):
    more, few = array + 1, array[:1] + 2
    order = np.random.default_rng(1).permutation(30 + 30 + 1)
    rows = stack([array, few, more], order)
    np.testing.assert_array_equal(rows, np.concatenate([array, few, more])[order])
    assert {id(base) for base in rows.bases} >= {id(array), id(more)}
    again = stack([rows[:40], few, rows[40:]], np.arange(62)[::-1])
    wanted = np.concatenate([np.asarray(rows)[:40], few, np.asarray(rows)[40:]])[::-1]
    np.testing.assert_array_equal(again, wanted)


def test_small_arrays_are_held_as_one_however_many_came(array):
    rows = array
    for i in range(5):
        rows = stack([rows, np.full((1, 4, 4), i, np.float32)], np.arange(31 + i))
    assert len(rows.bases) == 2
    np.testing.assert_array_equal(rows[30:, 0, 0], np.arange(5))


def test_what_is_used_no_more_is_not_held(array):
    more = array + 1
    both = stack([array, more], np.arange(60))
    assert stack([both[30:]], np.arange(30)) is more
    assert stack([select_rows(array, np.zeros(0, int)), array[:0]], np.zeros(0, int)).shape == (
        0,
        4,
        4,
    )
