"""From the clusters of frames to tracks, atomicity against time, events and dwell times."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from films import CLASSES, confusion, film

from napari_atomicity import tracking as movies
from napari_atomicity.core.errors import AtomicityError
from napari_atomicity.core.micrograph import Micrograph
from napari_atomicity.core.tables.cluster_table import conform, settle_labels, validate
from napari_atomicity.models.analysis import Analysis
from napari_atomicity.statistics.ratios.track_counts import merge_tracks
from napari_atomicity.statistics.track_smoothing import Track, compute_emissions, smooth_tracks
from napari_atomicity.tracking import MovieSettings, evaluate_tracks, track_clusters
from napari_atomicity.tracking.events import dwell_summary, dwell_times, survival
from napari_atomicity.tracking.following import TRACK_COLUMNS, smoothed_atoms
from napari_atomicity.tracking.text import format_rate
from napari_atomicity.tracking.tracks import clusters_of


@pytest.fixture(scope="module")
def tracked():
    analysis, truth, courses = film(seed=3, right=0.8, change=0.02, merges=2, n_frames=50)
    return track_clusters(analysis), truth, courses


def test_public_names_are_there():
    assert all(getattr(movies, name) is not None for name in movies.__all__)


def test_the_table_knows_its_tracks(tracked):
    analysis, _, _ = tracked
    validate(conform(analysis.table))
    assert analysis.table["track_id"].dtype == "int64"
    real = analysis.table[analysis.table["truth_id"] >= 0]
    assert (real.groupby("truth_id")["track_id"].agg(lambda t: t[t >= 0].nunique()) <= 1).all()
    assert (analysis.table["track_id"] == -1).any()


def test_smoothing_mends_labels(tracked):
    analysis, truth, _ = tracked
    movie = evaluate_tracks(analysis)
    known = analysis.table.set_index("cluster_id")["truth_id"]
    at = pd.MultiIndex.from_arrays([movie.table["frame"], movie.table["cluster_id"].map(known)])
    true = truth.set_index(["frame", "truth_id"])["label"].reindex(at).to_numpy()
    real = pd.notna(true)
    before = (movie.table["label_predicted"].to_numpy() == true)[real].mean()
    after = (movie.table["label_smoothed"].to_numpy() == true)[real].mean()
    assert before < 0.85
    assert after > 0.93
    assert list(movie.table.columns) == list(TRACK_COLUMNS)
    assert movie.table["time_s"].tolist() == (0.5 * movie.table["frame"]).tolist()


def test_the_rate_is_per_second_where_frames_have_a_time(tracked):
    analysis, _, courses = tracked
    movie = evaluate_tracks(analysis)
    rate, low, high = movie.rate
    assert movie.unit == "1/s"
    assert low < 0.04 < high  # 0.02 per frame of 0.5 s
    per_frame = evaluate_tracks(
        replace(analysis, micrograph=replace(analysis.micrograph, metadata={}))
    )
    assert per_frame.unit == "1/frame"
    assert per_frame.rate[0] == pytest.approx(rate * 0.5)
    assert np.isnan(per_frame.table["time_s"]).all()
    assert courses.states.shape[0] == movie.drift.n_frames


def test_a_rate_that_is_given_is_not_estimated(tracked):
    analysis, _, _ = tracked
    kept = MovieSettings.from_dict(analysis.parameters["movie"]["settings"])
    movie = evaluate_tracks(analysis, replace(kept, rate=0.1))
    assert not movie.change.estimated
    assert movie.rate[0] == pytest.approx(0.1)
    assert movie.summary()["rate"]["unit"] == "1/s"


def test_class_ratios_use_the_estimated_rate_whatever_was_given(tracked):
    analysis, _, _ = tracked
    kept = MovieSettings.from_dict(analysis.parameters["movie"]["settings"])
    given = track_clusters(analysis, replace(kept, rate=0.1))
    assert given.parameters["movie"]["settings"]["rate"] == 0.1
    pd.testing.assert_frame_equal(given.ratios(), analysis.ratios())


def test_merges_are_found(tracked):
    analysis, _, courses = tracked
    events = evaluate_tracks(analysis).events
    merges = events[events["event"] == "merge"]
    known = analysis.table.set_index("cluster_id")["truth_id"]
    found = {(int(m.frame), int(known[m.cluster_id])) for m in merges.itertuples()}
    assert len(courses.merges) == 2
    for frame, _, other in courses.merges:
        assert any(abs(f - frame) <= 2 and i == other for f, i in found)
    assert (merges["label_after"] == "aggregate").all()


def of_one_class(analysis):
    """A long track of one class, and another class."""
    tracks = evaluate_tracks(analysis).tracks
    track = next(t for t in tracks if len(t.rows) > 20 and len(set(t.label)) == 1)
    return track, next(c for c in CLASSES if c != track.label[0])


def test_what_a_person_says_counts(tracked):
    analysis, _, _ = tracked
    track, other = of_one_class(analysis)
    table = analysis.table.copy()
    rows = [r for r in track.rows[5:12] if r >= 0]
    table.loc[table.index[rows], "label_corrected"] = other
    edited = evaluate_tracks(replace(analysis, table=settle_labels(table)))
    mended = next(t for t in edited.tracks if t.track_id == track.track_id)
    assert set(mended.label[5:12]) == {other}
    jumps = edited.events[
        (edited.events["event"] == "jump") & (edited.events["tracks"] == str(track.track_id))
    ]
    assert [track.first_frame + 5, track.first_frame + 12] == jumps["frame"].tolist()


def test_one_label_by_a_person_holds_however_rare_changes_are(tracked):
    """Two changes of a rare kind are less probable than that almost every label is wrong."""
    analysis, _, _ = tracked
    track, other = of_one_class(analysis)
    table = analysis.table.copy()
    table.loc[table.index[track.rows[8]], "label_corrected"] = other
    edited = replace(analysis, table=settle_labels(table))
    rare = MovieSettings(rate=1e-4)
    mended = next(t for t in evaluate_tracks(edited, rare).tracks if t.track_id == track.track_id)
    assert mended.label[8] == other and mended.p[8] == pytest.approx(1)
    assert set(np.delete(mended.label, 8)) == {track.label[0]}


def test_a_single_image_and_untracked_stacks_are_refused():
    analysis, _, _ = film()
    with pytest.raises(AtomicityError, match="not linked"):
        evaluate_tracks(analysis)
    single = replace(analysis, micrograph=Micrograph(np.zeros((9, 9)), 0.1, "one"))
    with pytest.raises(AtomicityError, match="single image"):
        track_clusters(single)


def test_a_stack_without_clusters():
    analysis, _, _ = film()
    empty = Analysis(analysis.micrograph, analysis.table.iloc[:0], [])
    movie = evaluate_tracks(track_clusters(empty))
    assert len(movie.tracks) == len(movie.events) == len(movie.table) == len(movie.dwells) == 0
    assert "drift" in movie.notices[0]
    assert list(movie.table.columns) == list(TRACK_COLUMNS)
    assert movie.summary()["rate"]["value"] == 0


def test_clusters_that_are_not_classified_are_followed_all_the_same():
    analysis, _, _ = film()
    bare = analysis.table.drop(columns=[c for c in analysis.table if c.startswith("p_")])
    bare = conform(bare.assign(label_predicted="", label=""))
    movie = evaluate_tracks(track_clusters(replace(analysis, table=bare)))
    assert len(movie.tracks) > 10
    assert "not classified" in movie.notices[-1]
    given = evaluate_tracks(track_clusters(replace(analysis, table=bare)), MovieSettings(rate=0.1))
    assert len(given.tracks) == len(movie.tracks)


@pytest.mark.parametrize(
    "wrong",
    [
        {"search_range_nm": 0},
        {"memory_frames": -1},
        {"min_frames": 0},
        {"drift": "sideways"},
        {"frame_time_s": -1.0},
        {"rate": float("nan")},
        {"frame_weight": 1.5},
    ],
)
def test_settings_without_sense_are_refused(wrong):
    with pytest.raises(AtomicityError):
        MovieSettings(**wrong)


def test_settings_of_another_version_are_read():
    assert MovieSettings.from_dict({"memory_frames": 5, "new": 1}).memory_frames == 5


# ---- emissions
def table_of(**columns) -> pd.DataFrame:
    n = len(next(iter(columns.values())))
    p = np.tile([0.7, 0.2, 0.1], (n, 1))
    table = pd.DataFrame(p, columns=[f"p_{c}" for c in CLASSES])
    usual = {"label_predicted": ["Pt19"] * n, "label_corrected": [""] * n}
    return settle_labels(conform(table.assign(**{**usual, **columns})))


def test_emissions_are_probabilities_over_prior():
    table = table_of(label_predicted=["Pt19"])
    equal = compute_emissions(table)[0]
    np.testing.assert_allclose(equal[:3] / equal[0], np.array([0.7, 0.2, 0.1]) / 0.7)
    shares = np.array([0.7, 0.2, 0.1])
    flat = compute_emissions(table, prior=shares)[0]
    np.testing.assert_allclose(flat[:3], flat[0])  # all that was known is the prior
    half = compute_emissions(table, weight=0.5)[0]
    np.testing.assert_allclose(half[0] / half[1], np.sqrt(3.5))


def test_emissions_of_what_tells_nothing():
    table = table_of(
        label_predicted=["unknown", "Pt19", "", "Pt19"],
        label_corrected=["", "Pt41", "", ""],
        touches_border=[False, False, False, True],
    )
    outside, said, unseen, cut = compute_emissions(table)
    assert outside[3] > 10 * outside[0]
    assert (outside[:3] == outside[0]).all()
    assert said.argmax() == 2
    assert said[2] > 1e5 * said[0]
    assert (unseen == 1).all()
    assert (cut == 1).all()


def test_a_track_of_which_no_frame_tells_anything_has_no_label():
    """One that the border always cuts; one that it cuts in a frame has the label of the others."""
    table = table_of(
        label_predicted=["Pt19"] * 6,
        touches_border=[True] * 3 + [True, False, False],
        track_id=[0, 0, 0, 1, 1, 1],
        frame=[0, 1, 2] * 2,
    )
    (cut, inside), given = smooth_tracks(table, 0.01)
    assert given.steps == 2 and smooth_tracks(table)[1].steps == 2  # those of the track inside
    assert cut.label.tolist() == ["", "", ""] and np.isnan(cut.p).all()
    assert np.isnan(smoothed_atoms(cut, list(CLASSES))).all()
    assert inside.label.tolist() == ["Pt19"] * 3 and (inside.p > 0.7).all()
    assert dwell_times([cut, inside])["track_id"].tolist() == [1]


def test_a_class_by_a_person_that_the_model_does_not_have_is_that_of_the_whole_track():
    """As the ratios count it; what the model says of this track does not count."""
    table = table_of(
        label_predicted=["Pt19", "Pt70", "Pt19", "Pt19", "Pt19", "Pt19"],
        label_corrected=["", "Pt13", "", "", "", ""],
        track_id=[0, 0, 0, 1, 1, 1],
        frame=[0, 1, 2] * 2,
    )
    (given, other), rate = smooth_tracks(table)
    assert given.label.tolist() == ["Pt13"] * 3 and (given.p == 1).all()
    assert other.label.tolist() == ["Pt19"] * 3
    assert rate == smooth_tracks(table[table["track_id"] == 1])[1]
    assert dwell_times([given])["label"].tolist() == ["Pt13"]
    table = table.assign(image="movie")
    assert merge_tracks(table)["label"].tolist() == ["Pt13", "Pt19"]


def test_few_steps_are_said_to_count_less_than_the_prior_of_the_rate():
    analysis, _, _ = film(seed=3, right=0.8, n_frames=2)
    movie = evaluate_tracks(track_clusters(analysis))
    assert 0 < movie.change.steps < 20
    assert any(f"only {movie.change.steps} step" in text for text in movie.notices)
    table = analysis.table.assign(touches_border=True)
    none = evaluate_tracks(track_clusters(replace(analysis, table=table)))
    assert none.change.steps == 0 and "No track has labels" in format_rate(none)


def test_band_of_the_smoothed_atomicity():
    posterior = np.array([[0.96, 0.03, 0.01, 0.0], [0.5, 0.2, 0.2, 0.1], [0.1, 0.1, 0.1, 0.7]])
    track = Track(0, 0, np.arange(3), np.array(["Pt19"] * 3), np.ones(3), posterior)
    atoms = smoothed_atoms(track, list(CLASSES))
    np.testing.assert_allclose(atoms[0], [19 * 0.96 + 30 * 0.03 + 41 * 0.01, 19, 19])
    assert atoms[1, 1:].tolist() == [19, 41]
    assert np.isnan(atoms[2]).all()
    assert np.isnan(smoothed_atoms(track, ["small", "middle", "large"])).all()


# ---- dwell times
def of_labels(track_id: int, labels: str) -> Track:
    names = np.array([{"a": "Pt19", "b": "Pt30"}[x] for x in labels], object)
    n = len(labels)
    return Track(track_id, 2, np.arange(n), names, np.ones(n), np.ones((n, 3)) / 3)


def test_dwell_times_and_what_of_them_was_seen():
    dwells = dwell_times([of_labels(4, "aabbba")], "m", 0.5)
    assert dwells["label"].tolist() == ["Pt19", "Pt30", "Pt19"]
    assert dwells[["first_frame", "last_frame"]].to_numpy().tolist() == [[2, 3], [4, 6], [7, 7]]
    assert dwells["duration_s"].tolist() == [1.0, 1.5, 0.5]
    assert dwells["beginning_seen"].tolist() == [False, True, True]
    assert dwells["end_seen"].tolist() == [True, True, False]


def test_the_exponential_rate_forgets_nothing():
    """Simulated stretches of known rate, cut by the end of the movie."""
    rng = np.random.default_rng(0)
    tracks = []
    for i in range(300):
        states = np.cumsum(rng.random(40) < 0.1) % 2
        tracks.append(of_labels(i, "".join("ab"[s] for s in states)))
    summary = dwell_summary(dwell_times(tracks)).set_index("label")
    for label in ("Pt19", "Pt30"):
        row = summary.loc[label]
        assert row["rate_low"] < 0.1 < row["rate_high"]
        assert row["rate_high"] - row["rate_low"] < 0.02
        assert row["unit"] == "frames"
        assert row["median"] == pytest.approx(7, abs=1)  # ln 2 / 0.105


def test_a_label_that_is_never_left_has_an_upper_bound():
    row = dwell_summary(dwell_times([of_labels(0, "aaaaa")])).iloc[0]
    assert (row["rate"], row["rate_low"], row["at_risk"]) == (0.0, 0.0, 4.0)
    assert row["rate_high"] == pytest.approx(3.689 / 4, rel=1e-3)
    assert np.isnan(row["median"])


def test_survival_is_that_of_kaplan_and_meier():
    times, share = survival(np.array([1.0, 2, 3, 4]), np.array([True, False, True, True]))
    at = dict(zip(times.tolist(), share.tolist(), strict=True))
    assert (at[1.0], at[3.0], at[4.0]) == pytest.approx((0.75, 0.375, 0.0))
    assert len(survival(np.array([2.0]), np.array([False]))[0]) == 0


def test_clusters_of_tracks(tracked):
    analysis, _, _ = tracked
    ids = clusters_of(analysis.table, [2])
    mine = analysis.table.set_index("cluster_id").loc[ids, "track_id"]
    assert len(ids) > 1
    assert (mine == 2).all()
    assert clusters_of(analysis.table, [-1]) == []


def test_confusion_helper_is_a_confusion():
    np.testing.assert_allclose(confusion(0.8).sum(axis=1), 1)
