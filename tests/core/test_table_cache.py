"""The tables of all images as one: the same as joining them anew, after any changes."""

from __future__ import annotations

import pandas as pd
from hypothesis import given, settings, strategies as st

from napari_atomicity.core.tables.cluster_table import concatenate, settle_labels
from napari_atomicity.core.tables.table_cache import TableCache, columns_of
from support import synthetic_analysis

changes = st.lists(
    st.tuples(
        st.sampled_from(["a", "b", "c"]),
        st.sampled_from(["set", "remove", "relabel", "drop", "column"]),
        st.integers(0, 5),
    ),
    max_size=12,
)


@settings(max_examples=60, deadline=None)
@given(changes)
def test_it_is_what_joining_all_tables_gives(changes):
    catalogue, parts = TableCache(), {}
    handed_out = []
    for image, what, i in changes:
        table = parts.get(image)
        if what == "set" or table is None:
            classes = ("Pt19", "Pt70") if i == 5 else ("Pt19", "Pt30", "Pt41")
            table = synthetic_analysis(i, image, seed=i, classes=classes).table
        elif what == "remove":
            parts.pop(image)
            catalogue.set(image, None)
            continue
        elif what == "relabel" and len(table):
            table = table.copy()
            table.loc[i % len(table), "label_corrected"] = "Pt70"
            table = settle_labels(table)
        elif what == "drop":
            table = table.iloc[:-1].reset_index(drop=True)
        elif what == "column":
            table = table.assign(excluded=True)
        parts[image] = table
        catalogue.set(image, columns_of(table))
        joined = catalogue.table("abc")
        handed_out.append((joined, joined.copy(deep=True)))
        expected = concatenate([parts[n] for n in "abc" if n in parts and len(parts[n])])
        if len(expected):
            pd.testing.assert_frame_equal(joined[list(expected)], expected)
        assert len(joined) == len(expected)
    for joined, copy in handed_out:  # a table is its receiver's
        pd.testing.assert_frame_equal(joined, copy)


def test_many_at_once_are_the_same_as_one_by_one():
    parts = {
        name: synthetic_analysis(n, seed=n).table for name, n in (("a", 3), ("b", 0), ("c", 5))
    }
    parts = {name: table.assign(image=name) for name, table in parts.items()}
    one_by_one = TableCache()
    for name, table in parts.items():
        one_by_one.set(name, columns_of(table))
    at_once = TableCache.of({name: columns_of(table) for name, table in parts.items()})
    pd.testing.assert_frame_equal(at_once.table(parts), one_by_one.table(parts))
    for catalogue in (at_once, one_by_one):
        catalogue.set("c", None)
    pd.testing.assert_frame_equal(at_once.table(["a", "b"]), one_by_one.table(["a", "b"]))
    assert TableCache.of({}).table([]).empty


def test_a_table_that_is_written_to_changes_no_other():
    cache, table = TableCache(), synthetic_analysis(3, "a").table
    cache.set("a", columns_of(table))
    one, other, whole = cache.table("a"), cache.table("a"), table.copy()
    one.loc[0, "label"] = "changed"
    one["diameter_nm"] = 0.0
    one.iloc[1, one.columns.get_loc("umap_1")] = 7.0
    pd.testing.assert_frame_equal(other, whole)
    pd.testing.assert_frame_equal(cache.table("a"), whole)
