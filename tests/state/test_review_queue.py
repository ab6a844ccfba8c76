"""Which clusters are reviewed, in which order, and what follows from the answers."""

from __future__ import annotations

import itertools
import json
from dataclasses import replace
from datetime import UTC, datetime

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings, strategies as st

from napari_atomicity.core.errors import AtomicityError
from napari_atomicity.core.tables.cluster_table import AGGREGATE, UNKNOWN, conform
from napari_atomicity.state.review_queue import (
    ORDERS,
    Queue,
    ReviewRequest,
    allocate,
    build,
    queue_of,
    strata_of,
)
from napari_atomicity.state.reviewing import EXCLUDED, Reviewing, accuracy
from napari_atomicity.state.window_state import WindowState
from napari_atomicity.statistics.annotators.agreement import (
    NOT_A_CLUSTER,
    SPLIT_OR_MERGED,
    removal_reasons,
    removed_clusters,
)
from napari_atomicity.statistics.stratified_accuracy import stratified_share
from support import synthetic_analysis

CLASSES = ["Pt19", "Pt30", "Pt41"]


def made_up(n: int = 300, seed: int = 0, images: int = 3) -> pd.DataFrame:
    """A table of n clusters in some images, one in twelve of them unknown."""
    rng = np.random.default_rng(seed)
    p = rng.dirichlet([2, 1, 0.5], n)
    label = np.array(CLASSES, object)[p.argmax(axis=1)]
    confidence = p.max(axis=1)
    label[::12], confidence[::12] = UNKNOWN, 0.0
    estimator = np.where(rng.random(n) < 0.8, label, "Pt19")
    image = np.array([f"f{i}" for i in range(images)], object)[np.arange(n) * images // n]
    return conform(
        pd.DataFrame(
            {
                "image": image,
                "cluster_id": np.arange(1, n + 1),
                "y_px": 1.0,
                "x_px": 1.0,
                "label": label,
                "label_predicted": label,
                "confidence": confidence,
                **{f"p_{c}": p[:, i] for i, c in enumerate(CLASSES)},
                "ood_score": rng.uniform(0, 2, n),
                "label_network": label,
                "label_mixture": estimator,
                "disagreement": np.where(estimator == label, 0.0, 1 / 3),
                "model_id": "m",
            }
        ),
        CLASSES,
    )


def rows_of(table: pd.DataFrame, queue: Queue) -> pd.DataFrame:
    return table.set_index(["image", "cluster_id"]).loc[list(zip(queue.images, queue.ids))]  # noqa: B905


# ---- orders
def test_the_least_certain_come_first_and_unknown_ones_before():
    table = made_up()
    found = rows_of(table, build(table, ReviewRequest("confidence")))
    unknown = (found["label"] == UNKNOWN).to_numpy()
    assert unknown[: unknown.sum()].all()
    assert found["confidence"][~unknown].is_monotonic_increasing
    largest = found[unknown][[f"p_{c}" for c in CLASSES]].max(axis=1)
    assert largest.is_monotonic_increasing
    assert len(found) == len(table)


def test_what_was_never_predicted_comes_before_all():
    table = made_up(20)
    table.loc[7, ["label_predicted", "label"]] = ""
    table.loc[7, "confidence"] = np.nan
    assert build(table, ReviewRequest("confidence")).ids[0] == 8


def test_only_those_come_of_which_estimators_disagree():
    table = made_up()
    table.loc[5, "disagreement"] = 2 / 3
    found = rows_of(table, build(table, ReviewRequest("disagreement")))
    assert 0 < len(found) < len(table)
    assert found.index[0][1] == 6
    assert (found["disagreement"] > 0).all()
    with pytest.raises(AtomicityError, match="single estimators"):
        build(table.drop(columns=["disagreement"]), ReviewRequest("disagreement"))
    table["disagreement"], table["label_mixture"] = 0.0, ""
    with pytest.raises(AtomicityError, match="no cluster left"):
        build(table, ReviewRequest("disagreement"))


def test_class_by_class_or_one():
    table = made_up()
    found = rows_of(table, build(table, ReviewRequest("class")))
    assert list(dict.fromkeys(found["label"])) == [*CLASSES, UNKNOWN]
    for label in CLASSES:
        assert found.loc[found["label"] == label, "confidence"].is_monotonic_increasing
    one = rows_of(table, build(table, ReviewRequest("class", label="Pt30")))
    assert set(one["label"]) == {"Pt30"}
    assert len(one) == (table["label"] == "Pt30").sum()


def test_least_like_the_training_first_and_what_has_no_score_last():
    table = made_up()
    table.loc[3, "ood_score"] = np.nan
    found = rows_of(table, build(table, ReviewRequest("ood")))["ood_score"]
    assert np.isnan(found.iloc[-1])
    assert found.iloc[:-1].is_monotonic_decreasing


def test_random_order_is_that_of_its_seed():
    table = made_up()
    a, b, c = (build(table, ReviewRequest("random", seed=s)) for s in (1, 1, 2))
    assert a.ids.tolist() == b.ids.tolist() != c.ids.tolist()
    assert sorted(a.ids) == sorted(table["cluster_id"])


def test_scope_and_those_already_reviewed():
    table = made_up()
    table.loc[:9, "label_corrected"] = "Pt19"
    assert len(build(table, ReviewRequest("random"))) == len(table) - 10
    assert len(build(table, ReviewRequest("random", again=True))) == len(table)
    queue = build(table, ReviewRequest("confidence", images=("f1",)))
    assert set(queue.images) == {"f1"}
    excluded = table.assign(excluded=table["cluster_id"] > 250)
    for order in ("confidence", "sample", "random"):
        assert max(build(excluded, ReviewRequest(order, n=0)).ids) == 250
    by_image = build(table, ReviewRequest("random", by_image=True))
    assert list(dict.fromkeys(by_image.images)) == ["f0", "f1", "f2"]
    assert pd.Series(by_image.images).is_monotonic_increasing
    table["label_corrected"] = "Pt19"
    with pytest.raises(AtomicityError, match="have been reviewed"):
        build(table, ReviewRequest("confidence"))


@pytest.mark.parametrize("order", ORDERS)
def test_every_order_says_why_there_is_nothing(order):
    with pytest.raises(AtomicityError, match="no clusters yet"):
        build(made_up(6).iloc[:0], ReviewRequest(order))
    assert ORDERS[order].what


def test_without_predictions_one_reviews_at_random():
    table = made_up(20).assign(label_predicted="", label="", confidence=np.nan)
    assert len(build(table, ReviewRequest("random"))) == 20
    for order in ("confidence", "sample"):
        with pytest.raises(AtomicityError, match="predicted"):
            build(table, ReviewRequest(order))


# ---- the sample
@settings(max_examples=100, deadline=None)
@given(st.lists(st.integers(1, 400), min_size=1, max_size=20), st.integers(1, 500))
def test_a_sample_is_allotted_fairly(sizes, n):
    number = allocate(sizes, n)
    size = np.array(sizes)
    assert (number <= size).all()
    assert (number >= 1).all()
    assert number.sum() == min(max(n, len(sizes)), size.sum())
    if n >= 3 * len(sizes):
        assert (number >= np.minimum(size, 3)).all()
    # Nobody who has more clusters gets fewer answers.
    order = np.argsort(size, kind="stable")
    assert (np.diff(number[order]) >= -1).all()


def test_strata_are_labels_and_terciles():
    table = made_up(600)
    strata, index = strata_of(table)
    assert sum(s.size for s in strata) == len(table)
    for i, stratum in enumerate(strata):
        rows = table[index == i]
        assert set(rows["label_predicted"]) == {stratum.label}
        assert len(rows) == stratum.size
    levels = [table.loc[index == i, "confidence"] for i, s in enumerate(strata)
              if s.label == "Pt19"]  # fmt: skip
    assert len(levels) == 3
    assert levels[0].max() <= levels[1].min() and levels[1].max() <= levels[2].min()
    assert [s.level for s in strata if s.label == UNKNOWN] == [""]


def test_a_sample_is_drawn_from_all_and_its_beginning_is_fair():
    table = made_up(900)
    table["label_corrected"] = np.where(np.arange(900) < 300, "Pt19", "")
    queue = build(table, ReviewRequest("sample", n=100, seed=4), time="2026-01-01T00:00:00+00:00")
    assert len(queue) == len(set(zip(queue.images, queue.ids, strict=True))) == 100
    assert queue.population == 900
    whole = np.bincount(queue.stratum, minlength=len(queue.strata))
    half = np.bincount(queue.stratum[:50], minlength=len(queue.strata))
    assert (np.abs(half - whole / 2) <= 1.01).all()
    # All means all.
    assert len(build(table, ReviewRequest("sample", n=0))) == 900
    # The same when it is read again.
    again = Queue.from_json(json.loads(json.dumps(queue.to_json())))
    assert again.request == queue.request and again.strata == queue.strata
    for name in ("images", "ids", "stratum"):
        assert getattr(again, name).tolist() == getattr(queue, name).tolist()
    assert (again.models, again.time) == (("m",), queue.time)


@pytest.mark.parametrize("damage", ["ids", "stratum", "request"])
def test_a_damaged_sample_is_refused(damage):
    values = build(made_up(), ReviewRequest("sample", n=20)).to_json()
    values[damage] = {"ids": [1], "stratum": [99] * 20, "request": {"order": "none"}}[damage]
    with pytest.raises(AtomicityError, match="Draw a new one"):
        Queue.from_json(values)


# ---- the estimate
sampled = st.integers(1, 60).flatmap(
    lambda size: st.integers(0, size).flatmap(
        lambda n: st.integers(0, n).map(lambda right: (size, n, right))
    )
)


@settings(max_examples=200, deadline=None)
@given(st.lists(sampled, min_size=1, max_size=8))
def test_an_estimate_lies_in_its_interval_and_that_in_what_is_possible(strata):
    size, n, right = (np.array(v) for v in zip(*strata, strict=True))
    share = stratified_share(size, n, right)
    if not n.any():
        assert np.isnan(share.value) and (share.low, share.high) == (0, 1)
        return
    assert 0 <= share.low <= share.value <= share.high <= 1
    if (n == size).all():
        assert share.low == share.high == pytest.approx(right.sum() / size.sum())
    else:
        assert share.high > share.low
    # The other way round is the mirror image.
    mirrored = stratified_share(size, n, n - right)
    assert mirrored.value == pytest.approx(1 - share.value)
    assert mirrored.low == pytest.approx(1 - share.high, abs=1e-9)
    # Where every stratum has its answers, the estimate is the weighted mean.
    if n.all():
        assert share.value == pytest.approx((size * right / n).sum() / size.sum())


def test_more_answers_say_more_and_a_census_all():
    widths = [
        s.high - s.low
        for s in (stratified_share([500, 500], [k, k], [k, k]) for k in (5, 20, 100, 400, 500))
    ]
    assert all(a > b for a, b in itertools.pairwise(widths))
    assert widths[0] > 0.2 and widths[-1] == 0
    # Of one stratum it is Wilson's, nearly, where the sample is a small part of all.
    share = stratified_share([10**6], [100], [90])
    assert (share.low, share.high) == pytest.approx((0.826, 0.945), abs=0.004)


@pytest.mark.parametrize(
    ("sizes", "shares", "n"),
    [
        ([300] * 9, [0.7, 0.9, 0.99] * 3, 150),
        ([300] * 9, [0.97, 0.99, 1.0] * 3, 150),
        ([60, 60, 60, 900, 900, 900], [0.2, 0.5, 0.9, 0.9, 0.95, 0.99], 200),
        ([40] * 12, [0.6, 0.9, 1.0] * 4, 200),
        ([200, 200, 200], [0.4, 0.5, 0.6], 30),
    ],
)
def test_intervals_cover_the_truth(sizes, shares, n):
    rng = np.random.default_rng(0)
    size = np.array(sizes)
    right = np.round(size * np.array(shares)).astype(int)
    truth, number = right.sum() / size.sum(), allocate(sizes, n)
    found = [
        stratified_share(size, number, rng.hypergeometric(right, size - right, number))
        for _ in range(600)
    ]
    covered = np.mean([s.low <= truth <= s.high for s in found])
    assert covered >= 0.93  # 95 %, and what 600 trials scatter
    # And it is unbiased.
    values = np.array([s.value for s in found])
    assert abs(values.mean() - truth) < 4 * values.std() / np.sqrt(len(values))


def test_a_sample_estimates_the_accuracy_of_all_and_of_each_label():
    table = made_up(3000)
    rng = np.random.default_rng(5)
    truth = table["label_predicted"].to_numpy(object).copy()
    wrong = rng.random(len(table)) < 0.3 * (1 - table["confidence"])
    truth[wrong] = AGGREGATE
    said = pd.Series(truth, index=pd.MultiIndex.from_frame(table[["image", "cluster_id"]]))
    queue = build(table, ReviewRequest("sample", n=1000, seed=3))
    keys = list(zip(queue.images, queue.ids, strict=True))
    predicted = rows_of(table, queue)["label_predicted"].to_numpy(object)
    answers = said.loc[keys].to_numpy(object)
    there, none = np.ones(len(queue), bool), np.full(len(queue), "", object)
    found = accuracy(queue, predicted, answers, there, none)
    exact = (truth == table["label_predicted"]).to_numpy()
    assert found.overall.low <= exact.mean() <= found.overall.high
    assert found.overall.n == 1000
    assert set(found.by_class) == {*CLASSES, UNKNOWN}
    for label, share in found.by_class.items():
        of_label = (table["label_predicted"] == label).to_numpy()
        assert share.n == (predicted == label).sum()
        assert abs(share.value - exact[of_label].mean()) < 0.06
        assert share.high - share.low < 0.2

    # What is no cluster, or none by itself, was wrong, and belongs to the label that it had.
    reason = none.copy()
    reason[np.flatnonzero(predicted == "Pt19")[:12]] = NOT_A_CLUSTER
    reason[np.flatnonzero(predicted == "Pt19")[12:20]] = SPLIT_OR_MERGED
    wrong = reason != ""
    fewer = accuracy(queue, np.where(wrong, "", predicted), np.where(wrong, "", answers),
                     ~wrong, reason)  # fmt: skip
    assert (fewer.false_detections, fewer.replaced) == (12, 8)
    assert fewer.by_class["Pt19"].n == found.by_class["Pt19"].n
    assert fewer.by_class["Pt19"].value < found.by_class["Pt19"].value
    assert fewer.by_class["Pt30"] == found.by_class["Pt30"]
    # Half of the answers say the same, less surely.
    half = accuracy(queue, predicted, np.where(np.arange(1000) < 500, answers, ""), there, none)
    assert half.overall.n == 500
    assert half.overall.high - half.overall.low > found.overall.high - found.overall.low
    assert abs(half.overall.value - found.overall.value) < 0.05
    # Clusters that are not found any more are no gap, after which answers would not count.
    lost = np.isin(np.arange(1000), (2, 3, 5, 8))
    first = np.where((np.arange(1000) < 12) & ~lost, answers, "")
    assert accuracy(queue, predicted, first, ~lost, none).overall.n == 8
    assert accuracy(queue, predicted, first, there, none).overall.n == 2
    # One that was split before its turn counts when its turn comes.
    reason = np.where(np.arange(1000) == 900, SPLIT_OR_MERGED, "").astype(object)
    ahead = accuracy(queue, predicted, first, ~lost & (reason == ""), reason)
    assert (ahead.overall.n, ahead.replaced, ahead.n_ahead) == (8, 0, 1)


def test_the_interval_allows_for_any_answer_to_what_was_passed_over():
    """As if confident clusters alone are labelled, through a filter."""
    table = made_up(400)
    queue = build(table, ReviewRequest("sample", n=400))
    predicted = rows_of(table, queue)["label_predicted"].to_numpy(object)
    said, there = predicted.copy(), np.ones(400, bool)
    said[::40] = ""
    none = np.full(400, "", object)
    found = accuracy(queue, predicted, said, there, none)
    assert (found.overall.n, found.n_open) == (390, 10)
    assert found.overall.value == pytest.approx(1)
    assert (found.overall.low, found.overall.high) == pytest.approx((0.975, 1))
    # A skipped one after the last answer is one of them.
    said[200:] = ""
    skipped = np.arange(400) == 201
    after = accuracy(queue, predicted, said, there, none, skipped)
    assert after.n_open == accuracy(queue, predicted, said, there, none).n_open + 1


def test_of_ordered_queues_nothing_follows():
    queue = build(made_up(), ReviewRequest("confidence"))
    n = len(queue)
    empty = np.full(n, "", object)
    assert accuracy(queue, empty, empty, np.ones(n, bool), empty) is None


# ---- going through it
@pytest.fixture
def state():
    state = WindowState()
    for name in ("a", "b"):
        state.clusters.set_analysis(synthetic_analysis(8, name, seed=len(name) + ord(name)))
    return state


def start(state, order="confidence", **options) -> Reviewing:
    reviewing = Reviewing(state, build(state.table(), ReviewRequest(order, **options)))
    reviewing.show()
    return reviewing


def label_of(state, key) -> str:
    table = state.table(key[0]).set_index("cluster_id")
    return str(table["label_corrected"][key[1]])


def test_an_answer_is_an_edit_and_the_next_one_comes(state):
    reviewing = start(state)
    asked = []
    state.focus_requested.connect(asked.append)
    keys = [reviewing.queue.key(i) for i in range(4)]
    assert reviewing.key == keys[0] and state.selection == {keys[0]}
    reviewing.answer("Pt70")
    assert label_of(state, keys[0]) == "Pt70"
    assert reviewing.key == keys[1] and state.selection == {keys[1]} and asked == [keys[1]]
    assert reviewing.agree()
    assert label_of(state, keys[1]) == state.table(keys[1][0]).set_index("cluster_id")[
        "label_predicted"
    ].loc[keys[1][1]]  # fmt: skip
    reviewing.answer(NOT_A_CLUSTER)
    assert keys[2][1] not in set(state.table(keys[2][0])["cluster_id"])
    assert (reviewing.n_done, reviewing.n) == (3, 16)
    assert reviewing.key == keys[3]


def test_skipped_ones_come_again_after_the_last(state):
    reviewing = start(state, images=("a",))
    first = reviewing.key
    assert reviewing.next()
    assert reviewing.skipped.sum() == 1
    for _ in range(7):
        reviewing.answer("Pt19")
    assert reviewing.key == first and not reviewing.finished
    assert not reviewing.next()
    reviewing.answer("Pt19")
    assert reviewing.finished and reviewing.skipped.sum() == 0


def test_back_goes_the_way_one_came(state):
    reviewing = start(state)
    keys = [reviewing.queue.key(i) for i in range(3)]
    reviewing.answer("Pt19")
    reviewing.answer(NOT_A_CLUSTER)
    assert reviewing.back() and reviewing.key == keys[0]  # the second one is gone
    assert not reviewing.back()
    reviewing.answer("Pt30")
    assert reviewing.key == keys[2]
    assert label_of(state, keys[0]) == "Pt30"


def test_undo_goes_to_the_cluster_concerned(state):
    reviewing = start(state)
    keys = [reviewing.queue.key(i) for i in range(3)]
    reviewing.answer("Pt19")
    reviewing.answer(NOT_A_CLUSTER)
    for expected in (keys[1], keys[0]):
        with reviewing.following_changes():
            state.history.undo()
        assert reviewing.key == expected and state.selection == {expected}
    assert reviewing.n_done == 0 and not reviewing.removed.any()
    with reviewing.following_changes():
        state.history.redo()
    assert reviewing.key == keys[0] and reviewing.n_done == 1


def test_back_after_undo_and_redo_goes_to_the_one_shown_before(state):
    reviewing = start(state)
    keys = [reviewing.queue.key(i) for i in range(9)]
    reviewing.answer("Pt19")
    state.select([keys[7]])  # out of order, by a click
    for _ in range(3):
        reviewing.answer("Pt30")
    history = state.history
    for _ in range(4):
        with reviewing.following_changes():
            history.undo()
    assert reviewing.key == keys[0] and reviewing.skipped.sum() == 0
    for _ in range(3):
        with reviewing.following_changes():
            history.redo()
    shown = [reviewing.key]
    while reviewing.back():
        shown.append(reviewing.key)
    assert shown == [keys[8], keys[7], keys[1], keys[0]]
    assert reviewing.next() and reviewing.key == keys[1]  # the second one waits for an answer
    with reviewing.following_changes():
        history.redo()  # of an answer to a cluster that has not been shown since
    assert reviewing.back() and reviewing.key == keys[1]


def test_take_back(state):
    reviewing = start(state)
    first = reviewing.key
    assert not reviewing.take_back()
    reviewing.answer("Pt19")
    reviewing.back()
    assert reviewing.take_back()
    assert reviewing.key == first and label_of(state, first) == "" and reviewing.n_done == 0


def test_a_second_round_counts_only_its_own_answers(state):
    state.clusters.relabel([("a", i) for i in range(1, 9)], "Pt19")
    reviewing = start(state, images=("a",), again=True)
    assert (reviewing.n_done, reviewing.n) == (0, 8)
    reviewing.answer("Pt19")
    assert reviewing.n_done == 1


def test_labels_of_several_clusters_are_taken_back_in_whose_name_they_were_given(state):
    keys = [("a", i) for i in range(1, 9)]
    state.clusters.relabel(keys, "Pt19")
    queue = start(state, images=("a",), again=True).queue
    reviewing = Reviewing(state, queue, annotator="consensus")
    reviewing.answer_each(dict.fromkeys(keys[:4], "Pt19"))
    assert reviewing.n_done == 4
    state.select(keys[:3])
    assert reviewing.take_back()
    assert [label_of(state, key) for key in keys[:4]] == ["", "", "", "Pt19"]
    assert reviewing.n_done == 1 and not reviewing.answered[:3].any()
    assert state.history[-1].edits[0].author == "consensus"
    with reviewing.following_changes():
        state.history.undo()
    assert reviewing.n_done == 4


def test_what_others_do_counts_too(state):
    reviewing = start(state, images=("a",))
    state.clusters.relabel([reviewing.queue.key(5)], "Pt19")
    state.clusters.remove([reviewing.queue.key(6)])
    assert reviewing.n_done == 2
    # A click on another cluster of the queue goes there.
    state.select([reviewing.queue.key(3)])
    assert reviewing.position == 3
    # A new detection without a cluster does not say that it was none.
    now = state.analysis("a")
    keep = now.table[now.table["cluster_id"] != reviewing.queue.key(4)[1]]
    index = keep.index.to_numpy()
    state.clusters.set_analysis(
        replace(
            now, table=keep.reset_index(drop=True), outlines=[now.outlines[i] for i in index],
            patches={}, class_maps={}, embedding=np.empty((0, 0)),
        )
    )  # fmt: skip
    assert (reviewing.n_done, reviewing.n) == (2, 7)
    reviewing.close()
    state.clusters.relabel([reviewing.queue.key(0)], "Pt19")
    assert reviewing.n_done == 2


def test_the_estimate_follows_the_answers_and_goes_on_another_time(state):
    reviewing = start(state, "sample", n=0)
    for i in range(6):
        reviewing.answer(NOT_A_CLUSTER) if i == 2 else reviewing.agree()
    found = reviewing.accuracy()
    assert (found.overall.n, found.overall.right, found.false_detections) == (6, 5, 1)
    assert not reviewing.predicted_anew
    again = Reviewing(state, Queue.from_json(reviewing.queue.to_json()), reviewing.reasons)
    assert again.accuracy().overall == found.overall
    assert again.position == reviewing.position
    model = state.analysis("a")
    state.clusters.set_analysis(replace(model, table=model.table.assign(model_id="other")))
    assert reviewing.predicted_anew


def test_labels_count_in_a_sample_also_if_reviewed_clusters_are_included(state):
    key = ("a", int(state.table("a")["cluster_id"].iloc[0]))
    state.clusters.relabel([key], "Pt19")
    reviewing = start(state, "sample", n=0, again=True)
    assert reviewing.n_done == 1
    for _ in range(4):
        reviewing.agree()
    again = Reviewing(state, Queue.from_json(reviewing.queue.to_json()), reviewing.reasons)
    assert again.n_done == reviewing.n_done == 5
    assert again.accuracy().overall == reviewing.accuracy().overall


def test_a_second_round_goes_on_with_its_answers(state):
    state.clusters.relabel([("a", i) for i in range(1, 9)], "Pt19")
    request = ReviewRequest("random", images=("a",), again=True)
    reviewing = Reviewing(state, build(state.table(), request, datetime.now(UTC).isoformat()))
    for _ in range(3):
        reviewing.answer("Pt30")
    again = Reviewing(state, reviewing.queue, reviewing.reasons)
    assert (again.n_done, again.n) == (3, 8)
    assert again.position == reviewing.position
    assert again.accuracy().overall == reviewing.accuracy().overall


def exclude(state, image: str, keys) -> None:
    """Exclude a small region around each of these clusters."""
    table = state.table(image).set_index("cluster_id")
    places = [table.loc[i, ["y_px", "x_px"]].to_numpy(float) for _, i in keys]
    corners = np.array([[-1, -1], [-1, 1], [1, 1], [1, -1]])
    state.clusters.set_regions(image, [place + corners for place in places])


def test_excluded_clusters_need_no_answer_and_count_in_no_estimate(state):
    request = ReviewRequest("sample", n=0)
    queue = build(state.table(), request, datetime.now(UTC).isoformat())
    reviewing = Reviewing(state, queue)
    for _ in range(4):
        reviewing.agree()
    reviewing.answer("Pt70" if reviewing.predicted != "Pt70" else "Pt19")
    before = reviewing.accuracy()
    assert (before.overall.right, before.overall.n, before.n_population) == (4, 5, 16)
    answered, shown = queue.key(0), reviewing.key
    for image in {answered[0], shown[0]}:
        exclude(state, image, [k for k in (answered, shown) if k[0] == image])
    n_steps = len({answered[0], shown[0]})
    assert (reviewing.n_done, reviewing.n) == (4, 14) and not reviewing.is_there
    found = reviewing.accuracy()
    assert (found.overall.right, found.overall.n, found.n_population) == (3, 4, 14)
    assert (found.false_detections, found.replaced) == (0, 0)
    assert reviewing.next() and reviewing.key not in (answered, shown)
    # Another time it is the same, also without the steps of this window.
    again = Reviewing(state, Queue.from_json(queue.to_json()), reviewing.reasons)
    assert (again.n_done, again.n) == (4, 14) and again.accuracy().overall == found.overall
    # What counts again is asked again; what is chosen one by one is asked wherever it is.
    assert Reviewing(state, queue_of([shown])).is_there
    for _ in range(n_steps):
        state.history.undo()
    assert (reviewing.n_done, reviewing.n) == (5, 16)
    found = reviewing.accuracy()
    assert (found.overall.right, found.overall.n, found.n_population) == (4, 5, 16)
    assert found.overall.value == pytest.approx(before.overall.value)


def test_the_sizes_of_strata_shrink_with_what_is_excluded():
    table = made_up(400, images=1)
    queue = build(table, ReviewRequest("sample", n=120))
    rows = rows_of(table, queue)
    said = rows["label_predicted"].to_numpy(object)
    there = np.arange(len(queue)) % 2 == 0
    reason = np.where(there, "", EXCLUDED).astype(object)
    found = accuracy(queue, said, np.where(there, said, ""), there, reason)
    assert found.n_population == pytest.approx(200, abs=20)
    assert found.overall.value == 1 and found.overall.n == there.sum()
    all_gone = accuracy(queue, said, said, there & False, np.full(len(queue), EXCLUDED, object))
    assert all_gone.overall.n == 0 and all_gone.n_population == 0


def replace_by(state, keys, n: int) -> list[int]:
    """Split a cluster into n, or merge several into one: the new ones lie where the first did."""
    image = keys[0][0]
    now = state.analysis(image)
    row = now.table.index[now.table["cluster_id"] == keys[0][1]]
    table = now.table.loc[row.repeat(n)].assign(label="", label_predicted="", model_id="")
    outlines = [now.outlines[row[0]]] * n
    verb = "split" if n > 1 else "merge"
    return state.clusters.replace(image, [i for _, i in keys], table, outlines, verb)


@pytest.mark.parametrize("verb", ["split", "merge"])
def test_the_label_of_what_is_split_or_merged_was_wrong(state, verb):
    reviewing = start(state, "sample", n=0)
    for _ in range(4):
        reviewing.agree()
    reviewing.answer(NOT_A_CLUSTER)
    before = reviewing.accuracy()
    assert (before.overall.right, before.overall.n, before.replaced) == (4, 5, 0)
    keys = [reviewing.key]
    if verb == "merge":  # with one that was confirmed, whose label was wrong as well
        keys.append(next(k for k in map(reviewing.queue.key, range(4)) if k[0] == keys[0][0]))
    pieces = replace_by(state, keys, 2 if verb == "split" else 1)
    found = reviewing.accuracy()
    right, wrong = (4, 1) if verb == "split" else (3, 2)
    assert (found.overall.right, found.overall.n) == (right, 6)
    assert (found.false_detections, found.replaced) == (1, wrong)
    assert found.overall.value < before.overall.value
    # What took its place is answered too, and counts no second time.
    state.clusters.relabel([(keys[0][0], i) for i in pieces], "Pt19")
    assert reviewing.accuracy().overall == found.overall
    # Another time, from what is noted of it, and without the steps of this window.
    state.history.exchange()
    noted = Queue.from_json(reviewing.queue.to_json())
    again = Reviewing(state, noted, reviewing.reasons).accuracy()
    assert (again.overall, again.replaced) == (found.overall, wrong)


@pytest.mark.parametrize("n", [1, 2])
def test_undo_takes_back_that_a_label_was_wrong(state, n):
    reviewing = start(state, "sample", n=0)
    for _ in range(4):
        reviewing.agree()
    before = reviewing.accuracy().overall
    image = reviewing.key[0]
    others = [k for k in map(reviewing.queue.key, range(4)) if k[0] == image]
    replace_by(state, [reviewing.key, *others[: 2 - n]], n)
    found = reviewing.accuracy()
    assert found.replaced == 3 - n
    state.history.undo()
    assert (reviewing.accuracy().overall, reviewing.accuracy().replaced) == (before, 0)
    state.history.redo()
    assert reviewing.accuracy().overall == found.overall


def test_answers_in_another_name(state):
    state.annotator = "Ada"
    reviewing = Reviewing(state, queue_of([("b", 2), ("a", 1)]), annotator="consensus")
    reviewing.answer("Pt19")
    assert state.history[-1].annotator == "consensus"
    assert state.annotator == "Ada"


def test_taken_out_is_what_was_removed_last():
    log = pd.DataFrame(
        [("a", 1, "remove"), ("a", 2, "remove"), ("a", 2, "add"), ("b", 1, "label")],
        columns=["image", "cluster_id", "what"],
    )
    assert removed_clusters(log) == {("a", 1)}
    # An addition that was undone is logged as a removal that takes it back.
    added = pd.DataFrame([("a", 3, "add", False), ("a", 3, "remove", True)])
    added.columns = ["image", "cluster_id", "what", "undo"]
    assert removed_clusters(pd.concat([log.assign(undo=False), added])) == {("a", 1)}


def test_the_log_tells_why_clusters_are_gone():
    log = pd.DataFrame(
        [
            ("a", 1, "remove", "1", False),  # not a cluster
            ("a", 2, "remove", "2", False), ("a", 5, "add", "2", False),  # split
            ("a", 6, "add", "2", False),
            ("a", 3, "remove", "3", False), ("a", 4, "remove", "3", False),  # merged, and undone
            ("a", 7, "add", "3", False),
            ("a", 7, "remove", "4", True), ("a", 3, "add", "4", True), ("a", 4, "add", "4", True),
            ("a", 5, "remove", "5", False),  # a piece is not a cluster
        ],
        columns=["image", "cluster_id", "what", "time", "undo"],
    )  # fmt: skip
    expected = {("a", 1): NOT_A_CLUSTER, ("a", 2): SPLIT_OR_MERGED, ("a", 5): NOT_A_CLUSTER}
    assert removal_reasons(log) == expected


def test_undo_and_redo_pass_over_nothing(state):
    reviewing = start(state)
    reviewing.answer("Pt19")
    for act in (state.history.undo, state.history.redo):
        with reviewing.following_changes():
            act()
    assert reviewing.skipped.sum() == 0


@pytest.mark.parametrize("by_image", [False, True])
@pytest.mark.parametrize("order", list(ORDERS))
def test_clusters_cut_by_the_border_come_last_or_do_not_count(order, by_image):
    table = made_up(300)
    before = build(table, ReviewRequest(order=order, by_image=by_image, n=40))
    cut = set(before.ids[:5])
    table["touches_border"] = table["cluster_id"].isin(cut)
    queue = build(table, ReviewRequest(order=order, by_image=by_image, n=40))
    assert queue.ids[0] not in cut
    if ORDERS[order].estimates:  # the accuracy is that of the labels in the ratios
        assert cut.isdisjoint(queue.ids)
        assert sum(s.size for s in queue.strata) == sum(s.size for s in before.strata) - len(cut)
        with pytest.raises(AtomicityError, match=r"no cluster|reviewed"):
            build(table.assign(touches_border=True), ReviewRequest(order=order))
    else:
        assert sorted(queue.ids) == sorted(before.ids), "the same clusters"
        for image in dict.fromkeys(queue.images) if by_image else [None]:
            own = [i in cut for i, n in zip(queue.ids, queue.images, strict=True)
                   if image in (None, n)]  # fmt: skip
            assert own == sorted(own), "cut ones last"
