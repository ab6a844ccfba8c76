"""Merges, splits, comings, goings and jumps, each by its own little story."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from napari_atomicity.core.tables.cluster_table import conform, settle_labels
from napari_atomicity.statistics.track_smoothing import smooth_tracks
from napari_atomicity.tracking.events import EVENT_COLUMNS, find_events
from napari_atomicity.tracking.following import link_clusters

SIZES = {"Pt19": 19.0, "Pt30": 30.0, "Pt41": 41.0}


def told(*clusters, n_frames=14, search_range_nm=1.0, memory=1):
    """Events of clusters given as (frames, place or places, label or labels, intensity or None)."""
    rows = []
    for frames, places, labels, intensity in clusters:
        frames = list(frames)
        places = np.broadcast_to(np.asarray(places, float), (len(frames), 2))
        labels = [labels] * len(frames) if isinstance(labels, str) else labels
        for frame, place, label in zip(frames, places, labels, strict=True):
            atoms = SIZES.get(label, 49.0) if intensity is None else intensity
            p = {f"p_{c}": 0.96 if c == label else 0.02 for c in SIZES}
            rows.append((frame, *place, label, atoms, p))
    rows.sort(key=lambda r: r[0])
    table = pd.DataFrame(
        [r[:5] for r in rows],
        columns=["frame", "y_nm", "x_nm", "label_predicted", "integrated_intensity"],
    ).join(pd.DataFrame([r[5] for r in rows]))
    table = table.assign(
        image="m", cluster_id=np.arange(1, len(rows) + 1), diameter_nm=1.2,
        y_px=table["y_nm"], x_px=table["x_nm"], label_corrected="", label="",
    )  # fmt: skip
    table = settle_labels(conform(table))
    places = table[["y_nm", "x_nm"]].to_numpy()
    track, _ = link_clusters(places, table["frame"].to_numpy(), search_range_nm, memory)
    table = table.assign(track_id=track)
    tracks, _ = smooth_tracks(table, change=0.02)
    events = find_events(table, places, tracks, n_frames, search_range_nm, memory, (20, 20), "m", 2)
    assert list(events.columns) == list(EVENT_COLUMNS)
    return events


def seen(events) -> list[tuple]:
    return list(zip(events["event"], events["frame"], events["tracks"], strict=True))


ALWAYS = range(14)


def test_nothing_happens():
    assert not len(told((ALWAYS, (5, 5), "Pt19", None), (ALWAYS, (9, 9), "Pt30", None)))


def test_one_that_is_missed_is_not_lost():
    assert not len(told(([*range(6), *range(7, 14)], (5, 5), "Pt19", None)))


def test_loss_and_appearance():
    events = told((range(6), (5, 5), "Pt19", None), (range(4, 14), (12, 12), "Pt30", None))
    assert seen(events) == [("appearance", 4, "1"), ("loss", 5, "0")]
    assert events["time_s"].tolist() == [8, 10]
    assert not events["at_border"].any()
    assert told((range(6), (5, 19.6), "Pt19", None))["at_border"].tolist() == [True]


def test_a_jump():
    labels = ["Pt19"] * 7 + ["Pt41"] * 7
    (event,) = told((ALWAYS, (5, 5), labels, 30.0)).itertuples()
    assert (event.event, event.frame, event.label_before, event.label_after) == (
        "jump", 7, "Pt19", "Pt41",
    )  # fmt: skip
    assert event.p > 0.99


def test_a_single_wrong_label_is_no_jump():
    labels = ["Pt19"] * 6 + ["Pt30"] + ["Pt19"] * 7
    assert not len(told((ALWAYS, (5, 5), labels, None)))


def merging():
    small = (range(7), [(5, 6.9 - 0.05 * t) for t in range(7)], "Pt19", None)
    large = (ALWAYS, (5, 5), ["Pt30"] * 7 + ["aggregate"] * 7, None)
    return small, large


def test_a_merge_is_one_event_and_explains_the_new_label():
    events = told(*merging())
    assert seen(events) == [("merge", 7, "1|0")]
    assert (events["label_before"][0], events["label_after"][0]) == ("Pt19+Pt30", "aggregate")


def test_a_split_is_a_merge_backwards():
    backwards = [([13 - t for t in c[0]], c[1], c[2], c[3]) for c in merging()]
    events = told(*backwards)
    assert seen(events) == [("split", 7, "0|1")]
    assert (events["label_before"][0], events["label_after"][0]) == ("aggregate", "Pt30+Pt19")


def test_two_that_end_where_one_begins_with_their_sum():
    events = told(
        (range(7), (5, 5.0), "Pt19", None),
        (range(7), (5, 8.0), "Pt30", None),
        (range(7, 14), (5, 6.5), "aggregate", None),
    )
    assert seen(events) == [("merge", 7, "0|1|2")]


def test_beside_one_that_gains_nothing_it_is_a_loss():
    small, _ = merging()
    events = told(small, (ALWAYS, (5, 5), "Pt30", None))
    assert seen(events) == [("loss", 6, "1")]


@pytest.mark.parametrize("n", [0, 1])
def test_hardly_anything(n):
    events = told(*[(ALWAYS, (5, 5), "Pt19", None)][:n]) if n else find_events(
        conform(pd.DataFrame()), np.zeros((0, 2)), [], 5, 1.0
    )  # fmt: skip
    assert not len(events)
