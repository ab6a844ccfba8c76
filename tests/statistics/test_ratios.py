"""Class ratios: what is counted, and intervals that keep their promise."""

import json
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings, strategies as st

from napari_atomicity.core.model_card import ModelCard
from napari_atomicity.core.tables.cluster_table import ALL, conform
from napari_atomicity.statistics.intervals import bootstrap_fractions, wilson_interval
from napari_atomicity.statistics.ratios.prevalence import N_DRAWS, ScaleSolutions
from napari_atomicity.statistics.ratios.ratio_notes import (
    CONDITIONS_DIFFER,
    FEW_CLUSTERS,
    FEW_LABELS,
    ImageLimits,
    describe_misfit,
    ratio_notes,
    session_doubts,
    session_line,
)
from napari_atomicity.statistics.ratios.ratios import COLUMNS, class_ratios
from support import synthetic_analysis

CLASSES = ["Pt19", "Pt41", "Pt70"]


def cluster_table(rows) -> pd.DataFrame:
    """A cluster table from (image, label) or (image, label, touches_border) rows."""
    frame = pd.DataFrame(
        [(*row, False)[:3] for row in rows], columns=["image", "label", "touches_border"]
    )
    frame["cluster_id"] = np.arange(1, len(frame) + 1)
    frame["label_predicted"] = frame["label"]
    return conform(frame, CLASSES)


tables = st.lists(
    st.tuples(
        st.sampled_from(["b.tif", "a.tif", "c.tif"]),
        st.sampled_from([*CLASSES, "unknown", "aggregate", ""]),
        st.booleans(),
    ),
    max_size=40,
).map(cluster_table)


@settings(deadline=None, max_examples=60)
@given(tables)
def test_fractions_sum_to_one_and_lie_in_their_intervals(table):
    ratios = class_ratios(table, n_bootstrap=50)
    assert list(ratios.columns) == COLUMNS
    known = ratios[~ratios["class"].isin(["unknown", "aggregate"])]
    for scope, block in known.groupby("scope"):
        assert list(block["class"]) == CLASSES
        if block["count"].sum() == 0:
            assert block[["fraction", "fraction_low", "fraction_high"]].isna().to_numpy().all(), (
                scope
            )
            continue
        assert block["fraction"].sum() == pytest.approx(1)
        assert (block["fraction_low"] >= 0).all() and (block["fraction_high"] <= 1).all()
        assert (block["fraction_low"] <= block["fraction"]).all()
        assert (block["fraction"] <= block["fraction_high"]).all()
        assert (block["fraction_low"] < block["fraction_high"]).all()
        # A class that was seen is not absent, and one that was not may be there.
        assert ((block["fraction_low"] > 0) == (block["count"] > 0)).all()
        assert (block["fraction_high"] > 0).all()


@settings(deadline=None, max_examples=40)
@given(tables, st.integers(0, 2**32 - 1))
def test_the_order_of_rows_and_of_images_does_not_matter(table, seed):
    shuffled = table.sample(frac=1, random_state=seed)
    key = ["scope", "class"]
    one = class_ratios(table, n_bootstrap=30).sort_values(key, ignore_index=True)
    other = class_ratios(shuffled, n_bootstrap=30).sort_values(key, ignore_index=True)
    pd.testing.assert_frame_equal(one, other)


def test_a_seed_reproduces_the_interval_and_another_gives_another():
    table = cluster_table([("a", CLASSES[i % 3]) for i in range(40)] + [("b", "Pt19")] * 30)
    one, same = (class_ratios(table, seed=5) for _ in range(2))
    pd.testing.assert_frame_equal(one, same)
    assert not one.equals(class_ratios(table, seed=6))


def test_scopes_follow_the_table_and_end_with_all():
    table = cluster_table([("b", "Pt41"), ("a", "Pt19"), ("b", "Pt19")])
    ratios = class_ratios(table)
    assert list(dict.fromkeys(ratios["scope"])) == ["b", "a", ALL]
    whole = ratios[ratios["scope"] == ALL].set_index("class")
    assert whole["count"].to_dict() == {"Pt19": 2, "Pt41": 1, "Pt70": 0}
    assert whole.loc["Pt70", "fraction"] == 0
    assert whole.loc["Pt70", "fraction_high"] > 0.3
    assert set(whole["method"]) == {"counted; Wilson with bootstrap over images and clusters, 95 %"}
    pd.testing.assert_frame_equal(
        class_ratios(table, scope="a"), ratios[ratios["scope"] == "a"].reset_index(drop=True)
    )


def test_groups_of_images_are_scopes():
    rows = [("b", "Pt41"), ("a", "Pt19"), ("b", "Pt19"), ("c", "Pt70"), ("a", "Pt70")]
    table = cluster_table(rows * 4)
    groups = {"session: x": ["a", "b"], "sample: y": ["a", "b", "c"], "sample: none": ["gone"]}
    ratios = class_ratios(table, groups=groups)
    assert list(dict.fromkeys(ratios["scope"])) == ["b", "a", "c", *groups, ALL]
    alone = class_ratios(table[table["image"] != "c"], scope=ALL).drop(columns="scope")
    of_group = ratios[ratios["scope"] == "session: x"].reset_index(drop=True)
    pd.testing.assert_frame_equal(of_group.drop(columns="scope"), alone)
    same = ratios[ratios["scope"] == "sample: y"].drop(columns="scope").reset_index(drop=True)
    whole = ratios[ratios["scope"] == ALL].drop(columns="scope").reset_index(drop=True)
    pd.testing.assert_frame_equal(same, whole)
    nothing = ratios[ratios["scope"] == "sample: none"]
    assert (nothing["count"] == 0).all() and nothing["fraction"].isna().all()


def test_cut_and_unknown_clusters_have_no_share():
    table = cluster_table(
        [("a", "Pt19"), ("a", "Pt41", True), ("a", "unknown"), ("a", "unknown", True), ("a", "")]
    )
    ratios = class_ratios(table, scope="a").set_index("class")
    assert ratios["count"].to_dict() == {"Pt19": 1, "Pt41": 0, "Pt70": 0, "unknown": 1}
    assert ratios.loc["Pt19", "fraction"] == 1
    assert np.isnan(ratios.loc["unknown", "fraction"])


def test_an_aggregate_is_no_class():
    table = cluster_table([("a", "Pt19"), ("a", "aggregate"), ("a", "unknown"), ("b", "Pt19")])
    ratios = class_ratios(table, scope="b").set_index("class")
    assert list(ratios.index) == [*CLASSES, "unknown", "aggregate"]
    assert list(ratios["count"]) == [1, 0, 0, 0, 0]
    assert ratios.loc[["unknown", "aggregate"], "fraction"].isna().all()


def test_changed_settings_are_named_as_the_simpler_reason():
    table = cluster_table([("a", "Pt19"), ("b", "Pt41")] * 10).assign(conditions_differ=True)
    limits = {"a": ImageLimits.from_parameters({"changed_settings": ["threshold"]})}
    notes = class_ratios(table, limits=limits).groupby("scope")["note"].first()
    assert "(threshold)" in notes["a"] and "(threshold)" in notes[ALL]
    assert notes["b"] == CONDITIONS_DIFFER


def test_clipped_images_are_noted():
    table = cluster_table([("a", "Pt19"), ("a", "Pt41"), ("b", "Pt41")] * 10)
    table["clipped"] = [0.0, 0.15, np.nan] * 10
    notes = class_ratios(table).groupby("scope")["note"].first()
    assert "clipped" in notes["a"] and "clipped in 1 of 2" in notes[ALL] and notes["b"] == ""
    both = class_ratios(table.assign(conditions_differ=True), scope="a")["note"]
    assert both.str.startswith(CONDITIONS_DIFFER).all() and both.str.contains("clipped").all()
    table["clipped"] = [0.0, 0.001, np.nan] * 10
    assert (class_ratios(table)["note"] == "").all()


def test_images_under_other_conditions_are_noted():
    table = cluster_table([("a", "Pt19"), ("b", "Pt41"), ("a", "aggregate")] * 10)
    assert (class_ratios(table)["note"] == "").all()
    for value in (True, "True"):  # as text where other rows of a file are empty
        table["conditions_differ"] = [value, None, value] * 10
        notes = class_ratios(table).groupby("scope")["note"].unique().map(list)
        assert notes.to_dict() == {"a": [CONDITIONS_DIFFER], "b": [""], ALL: [CONDITIONS_DIFFER]}
    table["conditions_differ"] = False
    assert (class_ratios(table)["note"] == "").all()


def test_each_reason_that_limits_the_use_of_ratios_is_noted():
    table = cluster_table([("a", "Pt19"), ("b", "Pt41")] * 9 + [("c", "Pt41")] * 2)
    table["model_id"] = "pt-dual-1"
    table["clipped"] = np.where(table["image"] == "b", 0.1, 0.0)
    record = {"misfit": "the sizes are others", "peaks_atoms": [48.2, 25.1]}
    limits = {
        name: ImageLimits.from_parameters({"session": record, "certainty_of_scale": certainty})
        for name, certainty in (("a", 0.4), ("b", 0.95))
    }
    notes = class_ratios(table, limits=limits).groupby("scope")["note"].first()
    misfit = "does not fit the classes of the model: peaks at 25 and 48 atoms"
    for reason in (FEW_CLUSTERS, "the intensity scale is uncertain: ", misfit):
        assert reason in notes["a"]
    assert "clipped" not in notes["a"] and "pixels are clipped: " in notes["b"]
    assert "scale is" not in notes["b"].replace(FEW_CLUSTERS, "")
    assert notes["c"] == FEW_CLUSTERS
    assert "uncertain in 1 of 3 images" in notes[ALL] and "clipped in 1 of 3" in notes[ALL]
    assert notes[ALL].count(misfit) == 1 and FEW_CLUSTERS not in notes[ALL]
    assert "few clusters in 3 of 3 images" in notes[ALL]


def test_few_labels_of_people_say_nothing_of_the_scale():
    """As in blind mode, where the model's labels are hidden."""
    table = cluster_table([("a", "Pt19"), ("b", "Pt41")] * 9 + [("c", "")] * 30)
    notes = class_ratios(table).groupby("scope")["note"].first()
    assert notes["a"] == FEW_LABELS and "scale" not in notes[ALL]
    assert notes[ALL] == "30 clusters without a label not counted"


@pytest.mark.parametrize(
    ("probability", "uncertain"), [(None, False), (0.9, False), (0.5, False), (0.49, True)]
)
def test_a_scale_is_uncertain_below_the_limit(probability, uncertain):
    assert ImageLimits(scale_probability=probability).scale_is_uncertain == uncertain
    found = ratio_notes([30], [ImageLimits(scale_probability=probability)])
    assert bool(found) == uncertain


def test_an_image_whose_scale_is_unlike_the_others_is_noted():
    limits = [
        ImageLimits.from_parameters({"session": {"unlike_the_others": p}}) for p in (0.1, 0.9)
    ]
    assert not [n for n in ratio_notes([50], limits[:1]) if "unlike" in n]
    [note] = [n for n in ratio_notes([50, 50], limits) if "unlike" in n]
    assert "unlike that of the other images of the session in 1 of 2 images" in note


@pytest.mark.parametrize(("n_unknown", "noted"), [(8, False), (60, True)])
def test_many_clusters_of_no_class_are_noted(n_unknown, noted):
    rows = [("a", "Pt19")] * 40 + [("a", "unknown")] * n_unknown
    [note] = set(class_ratios(cluster_table(rows), scope="a")["note"])
    assert ("60 of 100 clusters belong to no class of the model" in note) == noted


def test_images_of_known_samples_among_others_are_noted():
    known, other = (
        ImageLimits.from_parameters({"session": {"known_sample": sample}})
        for sample in ({"composition": {"Pt41": 1.0}, "used": True}, {})
    )
    (note,) = ratio_notes([50, 50, 50], [known, other, other])
    assert note.startswith("known samples in 1 of 3 images are counted with the others")
    assert not ratio_notes([50], [known]) and not ratio_notes([50, 50], [known, known])


def test_an_image_without_clusters_has_no_note():
    assert ratio_notes([0]) == ratio_notes([30]) == ratio_notes([]) == []
    assert ratio_notes([9]) == ratio_notes([4, 4, 0]) == [FEW_CLUSTERS]


def test_many_images_of_few_clusters_are_noted():
    (found,) = ratio_notes([1] * 199)
    assert found.startswith("few clusters in 199 of 199 images: ")
    assert ratio_notes([1, 30, 30]) == []


def test_labels_of_different_models_are_noted():
    assert ratio_notes([30, 30], models=["pt-dual-1", "pt-dual-1"]) == []
    (note,) = ratio_notes([30, 30, 30], models=["pt-dual-1", "mine-2", "mine-2"])
    assert "mine-2 in 2 images, pt-dual-1 in 1 image" in note


def test_the_ratios_of_several_models_say_so():
    table = cluster_table([("a.tif", "Pt19")] * 30 + [("b.tif", "Pt41")] * 30)
    table["model_id"] = np.where(table["image"] == "a.tif", "pt-dual-1", "mine-2")
    notes = class_ratios(table, n_bootstrap=50).groupby("scope")["note"].first()
    assert "different models" in notes["all"]
    assert "different models" not in notes["a.tif"]


def test_a_doubt_of_some_images_says_of_how_many():
    changed = ImageLimits(changed_settings=("diameter_min_nm",))
    [note] = ratio_notes([30] * 2, [changed, ImageLimits()])
    assert "1 of 2 images were detected with other settings (diameter min nm)" in note
    assert not ratio_notes([30] * 2, [changed] * 2)
    found = ratio_notes([30] * 3, [ImageLimits(doubts=("peaks differ",)), *[ImageLimits()] * 2])
    assert found == ["peaks differ (this concerns 1 of 3 images)"]


def test_fractions_of_a_session_that_does_not_fit_are_withheld_unless_asked_for():
    table = cluster_table([("a", "Pt19"), ("b", "Pt41")] * 15)
    record = {"misfit": "the sizes are others", "peaks_atoms": [25.1, 48.2]}
    limits = {"a": ImageLimits.from_parameters({"session": record})}
    plain, found = class_ratios(table), class_ratios(table, limits=limits)
    withheld = found["scope"].isin(["a", ALL])
    columns = ["fraction", "fraction_low", "fraction_high"]
    assert found.loc[withheld, columns].isna().all(axis=None)
    pd.testing.assert_frame_equal(found.loc[~withheld, columns], plain.loc[~withheld, columns])
    assert (found["count"] == plain["count"]).all()
    assert found["note"].str.contains("--keep-ratios").equals(withheld)
    kept = class_ratios(table, limits={"a": replace(limits["a"], keep_ratios=True)})
    pd.testing.assert_frame_equal(kept[columns], plain[columns])
    assert "peaks at 25 and 48" in kept["note"][0] and "--keep-ratios" not in kept["note"][0]
    by_hand = table.assign(label_corrected=table["label"])
    assert class_ratios(by_hand, limits=limits)["fraction"].notna().all()


@pytest.mark.parametrize(
    ("record", "withheld"),
    [
        ({"answer": "cannot tell", "misfit_excess": 5.0}, True),
        ({"answer": "cannot tell", "misfit_excess": 2.0, "size_error": 0.2}, False),
        ({"answer": "cannot tell"}, False),  # of version 0.2
        ({"answer": "fits", "relies_on_sizes": True}, False),
        ({"answer": "fits", "relies_on_sizes": True, "size_error": 0.2}, True),
        ({"answer": "fits", "size_error": 0.2}, False),
    ],
)
def test_fractions_of_a_doubtful_session_are_withheld(record, withheld):
    record = {"misfit": "", "size_error_sd": 0.07, "peaks_atoms": [19, 41, 48], **record}
    table = cluster_table([("a", "Pt19"), ("b", "Pt41")] * 15)
    limits = dict.fromkeys("ab", ImageLimits.from_parameters({"session": record}))
    found = class_ratios(table, limits=limits)
    assert found["fraction"].isna().all() == withheld
    assert found["note"].str.contains("--keep-ratios").all() == withheld
    kept = {name: replace(x, keep_ratios=True) for name, x in limits.items()}
    assert class_ratios(table, limits=kept)["fraction"].notna().all()


@pytest.mark.parametrize(("share", "withheld"), [(0.4, False), (0.6, True)])
def test_fractions_of_saturated_images_are_withheld(share, withheld):
    table = cluster_table([(image, "Pt19") for image in "abc"] * 10)
    table["clipped"] = np.where(table["image"] == "c", 0.0, share)
    found = class_ratios(table)
    of_all = found[found["scope"] == ALL]
    assert of_all["fraction"].isna().all() == withheld  # two of three images
    assert ("without saturation" in of_all["note"].iloc[0]) == withheld
    assert found.loc[found["scope"] == "c", "fraction"].notna().all()
    kept = dict.fromkeys("abc", ImageLimits(keep_ratios=True))
    assert class_ratios(table, limits=kept)["fraction"].notna().all()


TESTED = {"answer": "fits", "misfit": "", "peaks_atoms": [19.0, 55.0]}
SOUND = TESTED | {"size_error": 0.1, "size_error_sd": 0.07}


@pytest.mark.parametrize(
    ("session", "said"),
    [
        ({}, ""),
        (SOUND, ""),
        ({"misfit": "", "prior": {}}, ""),  # of an earlier version
        (SOUND | {"size_error": 0.145}, "5 % larger in diameter"),
        (SOUND | {"size_error": -0.145}, "5 % smaller in diameter"),
        (SOUND | {"answer": "cannot tell", "peaks_atoms": [25.2, 47.6]}, "25 and 48 atoms explain"),
        (SOUND | {"known_agreement": -1.0}, "known samples disagree"),
        (SOUND | {"lone_atoms_deviation": 2.0}, ""),
        (SOUND | {"lone_atoms_deviation": 3.0}, "lone atoms are darker"),
        (SOUND | {"lone_atoms_deviation": -3.0}, "lone atoms are brighter"),
    ],
)
def test_a_session_says_why_its_labels_may_be_wrong_together(session, said):
    doubts = session_doubts(session)
    assert len(doubts) == bool(said) and said in "".join(doubts)
    table = cluster_table([("a", "Pt19"), ("b", "Pt41")] * 15)
    limits = dict.fromkeys("ab", ImageLimits.from_parameters({"session": session}))
    notes = class_ratios(table, limits=limits)["note"]
    assert (notes == "; ".join(doubts)).all()  # once, also for all images
    if "answer" in session:
        assert ("agree with the classes" in session_line(session)) == (not said)


def test_one_or_two_sizes_rest_on_the_pixel_size():
    assert session_line(SOUND | {"relies_on_contradicted": True}) == ""  # a warning says more
    sure, unsure = session_line(SOUND), session_line(SOUND | {"relies_on_sizes": True})
    assert unsure != sure and "pixel size" in unsure and "known sample" in unsure
    assert session_doubts(SOUND | {"relies_on_sizes": True}) == []
    given = session_line(SOUND | {"relies_on_sizes": True, "known_agreement": 1.0})
    assert "Images of known samples in the session settle it" in unsure
    assert "pixel size" not in given and "beside the known samples" in given
    assert "do not settle it" in given and "session settle it" not in given


def test_nothing_agrees_with_the_classes_where_too_few_clusters_were_counted():
    line = session_line({"answer": "fits", "misfit": ""})
    assert line.startswith("too few clusters") and "agree" not in line


def test_a_single_peak_is_named():
    assert describe_misfit([30.4]).endswith("peak at 30 atoms")


def test_corrections_count_and_may_name_a_new_class():
    table = cluster_table([("a", "Pt19"), ("a", "Pt19")])
    table.loc[0, ["label", "label_corrected"]] = "Pt23"
    ratios = class_ratios(table, scope=ALL).set_index("class")
    assert list(ratios.index) == [*CLASSES, "Pt23"]
    assert ratios.loc["Pt23", "fraction"] == 0.5


def test_images_without_clusters_have_rows():
    ratios = class_ratios(cluster_table([("a", "Pt19")]), images=["empty", "a"])
    empty = ratios[ratios["scope"] == "empty"]
    assert list(empty["count"]) == [0, 0, 0] and empty["fraction"].isna().all()
    nothing = class_ratios(cluster_table([]))
    assert list(nothing["scope"]) == [ALL] * 3 and nothing["fraction"].isna().all()
    assert list(class_ratios(conform(pd.DataFrame())).columns) == COLUMNS


def test_a_single_image_is_all_there_is():
    ratios = class_ratios(cluster_table([("a", c) for c in CLASSES * 4]))
    numbers = ["count", "fraction", "fraction_low", "fraction_high"]
    one, everything = (ratios.loc[ratios["scope"] == s, numbers].to_numpy() for s in ("a", ALL))
    np.testing.assert_array_equal(one, everything)


@pytest.mark.parametrize("options", [{"level": 1.0}, {"level": 0}, {"n_bootstrap": 0}])
def test_impossible_settings_are_refused(options):
    with pytest.raises(ValueError, match=next(iter(options))):
        class_ratios(cluster_table([("a", "Pt19")]), **options)


@settings(deadline=None)
@given(st.integers(1, 500), st.data())
def test_wilson_agrees_with_scipy(n, data):
    from scipy.stats import binomtest

    k = data.draw(st.integers(0, n))
    expected = binomtest(k, n).proportion_ci(0.9, method="wilson")
    low, high = wilson_interval(np.array([k / n]), n, 0.9)
    np.testing.assert_allclose([low[0], high[0]], [expected.low, expected.high], atol=1e-9)


def test_intervals_cover_the_truth_as_often_as_they_say():
    """Binomial draws in one image and in several alike: at least 93 % of nominal 95 %."""
    rng = np.random.default_rng(20)
    for n_images in (1, 4):
        hits = []
        for p in (0.03, 0.1, 0.3, 0.5):
            for _ in range(70):
                k = rng.binomial(25, p, size=n_images)
                rows = [(str(i), "Pt19") for i, m in enumerate(k) for _ in range(m)]
                rows += [(str(i), "Pt41") for i, m in enumerate(k) for _ in range(25 - m)]
                found = class_ratios(cluster_table(rows), n_bootstrap=200, scope=ALL).iloc[0]
                hits.append(found["fraction_low"] <= p <= found["fraction_high"])
        assert np.mean(hits) >= 0.93, f"{n_images} images"


def test_resampling_keeps_the_variance_of_counting():
    """Drawing images and clusters does not count the scatter within images twice."""
    rng = np.random.default_rng(3)
    p, n_clusters = np.array([0.2, 0.8]), 1000
    counting = np.sqrt(p.prod() / n_clusters)
    for n_images in (1, 2, 5, 20):
        variance = [
            bootstrap_fractions(
                rng.multinomial(n_clusters // n_images, p, size=n_images), 400, rng
            )[:, 0].var()
            for _ in range(60)
        ]
        assert np.sqrt(np.mean(variance)) == pytest.approx(counting, rel=0.12), n_images


def test_images_that_differ_widen_the_interval_of_all():
    alike = [(str(i), c) for i in range(6) for c in ["Pt19"] * 10 + ["Pt41"] * 10]
    unlike = [(str(i), "Pt19" if i % 2 else "Pt41") for i in range(6) for _ in range(20)]
    widths = [
        np.ptp(
            class_ratios(cluster_table(rows), scope=ALL).loc[0, ["fraction_low", "fraction_high"]]
        )
        for rows in (alike, unlike)
    ]
    assert widths[1] > 2 * widths[0]


def test_an_analysis_without_clusters_has_ratios_all_the_same():
    ratios = synthetic_analysis(0).ratios()
    assert list(ratios["scope"].unique()) == ["field.tif", ALL]
    assert list(synthetic_analysis(9).ratios(scope=ALL)["scope"].unique()) == [ALL]


# ---- labels of an image that may be shifted together
SHARES = ((0.8, 0.2, 0.0), (0.0, 0.8, 0.2))
"""Shares of the classes with the best scale of an image and with the other one."""


def shifted_image(rng, n: int, is_shifted: bool, weight: float, name: str = "a"):
    """A table labelled with the best scale, and the true fractions, which may be the other's."""
    size = rng.choice(3, n, p=SHARES[0])
    p = weight * np.eye(3)[size] + (1 - weight) * np.eye(3)[np.minimum(size + 1, 2)]
    table = cluster_table([(name, CLASSES[c]) for c in size])
    table[[f"p_{c}" for c in CLASSES]] = p
    true = np.minimum(size + is_shifted, 2)
    return table, np.bincount(true, minlength=3) / n


def test_intervals_cover_fractions_of_labels_that_are_shifted_together():
    rng = np.random.default_rng(11)
    limits = {"a": ImageLimits(solutions=ScaleSolutions((0.7, 0.3), SHARES))}
    hits = {True: [], False: []}
    for _ in range(150):
        table, true = shifted_image(rng, 40, rng.random() > 0.7, 0.7)
        for joint in hits:
            known = limits if joint else None
            found = class_ratios(table, CLASSES, 0.95, 200, scope="a", limits=known)
            hits[joint] += list(
                (found["fraction_low"] <= true + 1e-9) & (true - 1e-9 <= found["fraction_high"])
            )
    assert np.mean(hits[True]) >= 0.93
    assert np.mean(hits[False]) < 0.88


def widths(table, draws, **columns) -> np.ndarray:
    """Widths of the intervals of all images, with these draws of their solutions."""
    limits = {
        name: ImageLimits(solutions=ScaleSolutions((0.8, 0.2), SHARES, tuple(own)))
        for name, own in draws.items()
    }
    found = class_ratios(
        table.assign(**columns), CLASSES, n_bootstrap=200, scope=ALL, limits=limits
    )
    return (found["fraction_high"] - found["fraction_low"]).to_numpy()


def test_joint_errors_of_a_session_do_not_average_out():
    rng = np.random.default_rng(12)
    names = [f"{i}.tif" for i in range(8)]
    table = pd.concat([shifted_image(rng, 30, False, 0.8, name)[0] for name in names])
    common = (np.arange(N_DRAWS) < 0.2 * N_DRAWS).astype(int)
    joint = widths(table, dict.fromkeys(names, common))
    independent = widths(table, {name: rng.permutation(common) for name in names})
    by_themselves = widths(table, dict.fromkeys(names, ()))
    assert (joint[:2] > 1.3 * independent[:2]).all()
    assert by_themselves == pytest.approx(independent, rel=0.2)
    # labels of a person do not depend on the scale
    assert widths(
        table, dict.fromkeys(names, common), label_corrected=table["label"]
    ) == pytest.approx(widths(table, {}, label_corrected=table["label"]))


def test_an_image_of_another_model_takes_no_errors_from_the_intervals():
    """In the joined table, images have no probabilities of the classes of other models."""
    table = shifted_image(np.random.default_rng(14), 40, False, 0.7)[0]
    other = cluster_table([("b", "Au20")] * 5).assign(p_Au20=0.5, p_Au55=0.5)
    other = other.drop(columns=[f"p_{c}" for c in CLASSES])
    limits = {"a": ImageLimits(solutions=ScaleSolutions((0.7, 0.3), SHARES))}
    alone, beside = (
        class_ratios(one, n_bootstrap=200, scope="a", limits=limits).set_index("class")
        for one in (table, conform(pd.concat([table, other]), [*CLASSES, "Au20", "Au55"]))
    )
    ends = ["fraction", "fraction_low", "fraction_high"]
    pd.testing.assert_frame_equal(beside.loc[alone.index, ends], alone[ends])


@pytest.mark.parametrize("method", ["confusion", "em"])
def test_adjusted_fractions_include_errors_of_the_scale(method):
    table = shifted_image(np.random.default_rng(13), 40, False, 0.7)[0]
    confusion = ((90, 10, 0), (10, 80, 10), (0, 10, 90))
    card = ModelCard(
        "m", tuple(CLASSES), confusion=confusion, recalibration=((1.0, 0.0, 0.0, 0.0),) * 2
    )
    table["model_id"] = card.model_id
    known = {"a": ImageLimits(solutions=ScaleSolutions((0.7, 0.3), SHARES))}
    without, found = (
        class_ratios(table, CLASSES, n_bootstrap=50, scope="a", method=method, card=card, limits=x)
        for x in (None, known)
    )
    assert (found["fraction"] == without["fraction"]).all()
    assert found.loc[0, "fraction_low"] < 0.1 < without.loc[0, "fraction_low"]


def test_a_record_of_the_scale_survives_a_file():
    draws = "01" * (N_DRAWS // 2)
    stored = {"weights": [0.7, 0.3], "shares": [list(x) for x in SHARES]}
    parameters = json.loads(json.dumps({"scale_solutions": stored, "session": {"draws": draws}}))
    found = ImageLimits.from_parameters(parameters).solutions
    assert found == ScaleSolutions((0.7, 0.3), SHARES, tuple(map(int, draws)))
    # analyses of earlier versions, and draws of other solutions
    assert ImageLimits.from_parameters({"certainty_of_scale": 0.9}).solutions is None
    parameters["session"]["draws"] = draws.replace("1", "2")
    assert ImageLimits.from_parameters(parameters).solutions.draws == ()
