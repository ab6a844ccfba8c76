"""Samples compared: coverage, Holm's correction, common errors of the scale, trends, planning."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings, strategies as st
from scipy.stats import false_discovery_control, ttest_ind

from napari_atomicity.core.acquisition_session import Sample, SampleEntry, group_samples
from napari_atomicity.core.errors import TableError
from napari_atomicity.core.tables.cluster_table import conform
from napari_atomicity.io.provenance import Outcome
from napari_atomicity.statistics.ratios.prevalence import N_DRAWS, ScaleSolutions
from napari_atomicity.statistics.ratios.ratio_notes import ImageLimits
from napari_atomicity.statistics.samples.comparison import compare_samples, holm
from napari_atomicity.statistics.samples.image_values import (
    COMMON_SCALE_ERROR,
    ImageValues,
    Quantity,
    atom_values,
    cluster_values,
)
from napari_atomicity.statistics.samples.planning import (
    describe_more_images,
    more_images,
    plans_of_samples,
)
from napari_atomicity.statistics.samples.run_evidence import compare_atoms, compare_clusters
from napari_atomicity.statistics.samples.sample_estimates import (
    difference,
    estimate_samples,
    trend_slope,
)
from napari_atomicity.statistics.samples.sentences import (
    comparison_notes,
    comparison_sentences,
    with_scatter_note,
)

CLASSES = ["Pt19", "Pt41", "Pt55"]
SAMPLES = (Sample("fresh", ("f0", "f1", "f2")), Sample("spent", ("s0", "s1", "s2")))


def values_of(counts, names, shared=None):
    """Return shares of classes from counts (images, classes), without errors of labels."""
    n, nothing = counts.sum(axis=1).astype(float), np.zeros(len(counts))
    shared = np.zeros((len(counts), N_DRAWS)) if shared is None else shared
    return [
        ImageValues(
            Quantity("share", str(c), is_share=True), tuple(names), counts[:, c] / n, n,
            nothing, nothing, nothing, shared,
        )
        for c in range(counts.shape[1])
    ]  # fmt: skip


def table_of(rows, atoms=None):
    """Return a cluster table from (image, label) pairs, with sure probabilities."""
    image, label = zip(*rows, strict=True)
    sizes = [float(name[2:]) for name in label]
    p = {f"p_{c}": [1.0 if name == c else 0.0 for name in label] for c in CLASSES}
    return conform(
        pd.DataFrame(
            {
                "image": image, "label": label, "label_predicted": label,
                "cluster_id": range(len(label)), "y_px": 0.0, "x_px": 0.0,
                "n_atoms": sizes if atoms is None else atoms, **p,
            }
        )
    )  # fmt: skip


def clusters(rng, images, shares, n=40, scale=1.0):
    rows = [(i, name) for i in images for name in rng.choice(CLASSES, n, p=shares)]
    sizes = np.array([float(name[2:]) for _, name in rows])
    return rows, scale * sizes * np.exp(0.05 * rng.standard_normal(len(rows)))


# ---- Holm's correction
def test_holm_is_that_of_the_literature():
    # The example of Holm (1979): 0.01, 0.04, 0.03, 0.005 become 0.03, 0.06, 0.06, 0.02.
    found = holm(np.array([0.01, 0.04, np.nan, 0.03, 0.005]))
    np.testing.assert_allclose(found, [0.03, 0.06, np.nan, 0.06, 0.02])


@given(st.lists(st.floats(0, 1), min_size=1, max_size=12))
def test_holm_rejects_as_step_by_step(p):
    corrected = holm(np.array(p))
    left = sorted(range(len(p)), key=lambda i: p[i])
    rejected = set()
    while left and p[left[0]] * len(left) < 0.05:
        rejected.add(left.pop(0))
    assert rejected == set(np.flatnonzero(corrected < 0.05).tolist())
    assert (corrected >= np.array(p)).all() and (corrected <= 1).all()
    assert (corrected >= false_discovery_control(p) - 1e-12).all()


# ---- differences
@settings(deadline=None, max_examples=25)
@given(st.integers(0, 2**31), st.integers(2, 5))
def test_intervals_contain_the_value_and_agree_with_the_p_value(seed, n):
    rng = np.random.default_rng(seed)
    counts = rng.multinomial(rng.integers(1, 60), [0.1, 0.3, 0.6], size=2 * n)
    names = [f"a{i}" for i in range(n)] + [f"b{i}" for i in range(n)]
    values = values_of(counts, names)
    for one in estimate_samples(values, {"a": names[:n], "b": names[n:]}):
        low, high = one["a"].interval()
        assert 0 <= low <= one["a"].value <= high <= 1 and low < high
        found = difference(one["a"], one["b"])
        assert -1 <= found.low <= found.value <= found.high <= 1
        assert (found.p < 0.05) == (not found.low <= 0 <= found.high)
        turned = difference(one["b"], one["a"])
        assert turned.value == pytest.approx(-found.value)
        assert turned.low == pytest.approx(-found.high, abs=1e-9)


def test_intervals_do_not_depend_on_the_names_of_samples():
    names = [str(i) for i in range(6)]
    counts = np.random.default_rng(5).multinomial(40, [0.2, 0.3, 0.5], size=6)
    found = [
        [
            (of[a].interval(), of[b].interval())
            for of in estimate_samples(values_of(counts, names), {a: names[:3], b: names[3:]})
        ]
        for a, b in ("ab", "yz")
    ]
    assert found[0] == found[1]


def test_intervals_of_differences_cover_as_they_say():
    covered, false = [], []
    base = np.log([0.2, 0.1, 0.3, 0.4])
    for seed in range(120):
        rng = np.random.default_rng(seed)
        n = int(rng.choice([2, 3, 6]))
        share = np.exp(base + 0.25 * rng.standard_normal((2 * n, 4)))
        share /= share.sum(axis=1, keepdims=True)
        counts = np.array([rng.multinomial(50, p) for p in share])
        names = [str(i) for i in range(2 * n)]
        found = estimate_samples(values_of(counts, names), {"a": names[:n], "b": names[n:]})
        of = [difference(one["a"], one["b"]) for one in found]
        covered += [d.low <= 0 <= d.high for d in of]
        false.append((holm(np.array([d.p for d in of])) < 0.05).any())
    assert np.mean(covered) >= 0.93 and np.mean(false) <= 0.06


def test_many_images_are_compared_as_by_welch():
    rng = np.random.default_rng(3)
    value = rng.normal(1.0, 0.2, 80)
    names, nothing = [str(i) for i in range(80)], np.zeros(80)
    quantity = ImageValues(
        Quantity("density", unit="1/nm²"), tuple(names), value, np.ones(80), nothing + 1e-4,
        nothing, nothing, np.zeros((80, N_DRAWS)),
    )  # fmt: skip
    (one,) = estimate_samples([quantity], {"a": names[:40], "b": names[40:]})
    welch = ttest_ind(value[:40], value[40:], equal_var=False)
    found = difference(one["a"], one["b"])
    assert found.p == pytest.approx(welch.pvalue, abs=0.03)
    low, high = welch.confidence_interval()
    assert (found.low, found.high) == pytest.approx((low, high), abs=0.01)


def test_the_order_of_images_does_not_matter():
    rng = np.random.default_rng(0)
    counts = rng.multinomial(30, [0.2, 0.3, 0.5], size=6)
    names = [*SAMPLES[0].images, *SAMPLES[1].images]
    order = rng.permutation(6)
    one = compare_samples(values_of(counts, names), SAMPLES)
    other = compare_samples(values_of(counts[order], [names[i] for i in order]), SAMPLES)
    pd.testing.assert_frame_equal(one.table, other.table)


def test_corrected_labels_give_their_number_of_atoms():
    table = table_of([("f1", "Pt19"), ("f1", "Pt55")], atoms=[20.0, 50.0])
    table.loc[0, ["label", "label_corrected"]] = "Pt41"
    (mean,) = [v for v in cluster_values(table, {}) if v.quantity.name == "mean_atoms"]
    assert mean.value == [(41 + 50) / 2]


# ---- errors of the scale
def test_the_mean_size_of_few_images_is_bounded_by_the_largest_cluster():
    sizes = {"f0": (29, 1), "f1": (1, 29), "s0": (1, 1)}
    rows = [
        (image, label)
        for image, numbers in sizes.items()
        for label, n in zip(("Pt19", "Pt55"), numbers, strict=True)
        for _ in range(n)
    ]
    samples = (Sample("fresh", ("f0", "f1")), Sample("spent", ("s0",)))
    found = compare_samples(cluster_values(table_of(rows), {}), samples).table
    found = found[found["quantity"] == "mean_atoms"].set_index("sample")
    assert (found["low"] < found["value"]).all() and (found["value"] < found["high"]).all()
    assert (found["low"] >= 0).all() and (found["high"] <= 2 * 55).all()
    assert (found["difference_high"].dropna() <= 2 * 55).all()


def test_an_error_of_the_scale_cancels_within_a_session():
    rng = np.random.default_rng(1)
    images = [*SAMPLES[0].images, *SAMPLES[1].images]
    rows, atoms = clusters(rng, images, [0.3, 0.3, 0.4])
    table, width = table_of(rows, atoms), {}
    for name, session_of in (
        ("one", dict.fromkeys(images, "night")),
        ("two", {i: "night" if i[0] == "f" else "day" for i in images}),
    ):
        values = cluster_values(table, session_of, scale_sd=dict.fromkeys(images, 0.1))
        found = compare_samples(values, SAMPLES).tested.set_index("quantity").loc["mean_atoms"]
        width[name] = found["difference_high"] - found["difference_low"]
    assert width["two"] > 1.8 * width["one"]


def test_other_solutions_of_the_scale_are_drawn_together():
    rng = np.random.default_rng(2)
    images = [*SAMPLES[0].images, *SAMPLES[1].images]
    table = table_of(*clusters(rng, images, [0.0, 0.5, 0.5], n=100))
    draws = tuple(rng.permutation(N_DRAWS) % 5 // 4)  # a fifth has the second solution
    both = ScaleSolutions((0.8, 0.2), ((0.0, 0.5, 0.5), (0.5, 0.5, 0.0)), draws)
    alone = ScaleSolutions(both.weights, both.shares, tuple(reversed(draws)))
    limits = {i: ImageLimits(solutions=both if i[0] == "f" else alone) for i in images}
    joint = {i: ImageLimits(solutions=both) for i in images}
    of = {}
    for name, known in (("apart", limits), ("joint", joint), ("none", None)):
        found = compare_samples(cluster_values(table, {}, known), SAMPLES).tested
        row = found[found["class"] == "Pt55"].iloc[0]
        of[name] = row["difference_high"] - row["difference_low"]
    assert of["apart"] > 2 * of["joint"]
    # What one session shares cancels.
    assert of["joint"] == pytest.approx(of["none"], rel=0.25)


def test_a_wrong_scale_moves_clusters_across_the_limits_of_their_classes():
    rows = [("f0", "Pt41")] * 50 + [("f0", "Pt55")] * 50
    limit = np.sqrt(41 * 55)
    table = table_of(rows, np.where(np.arange(100) < 50, limit * 0.999, limit * 1.001))
    shares = {one.quantity.label: one for one in cluster_values(table, {}) if one.quantity.is_share}
    of = shares["Pt55"].shared[0]
    assert set(np.round(of, 6)) <= {-0.5, 0.0, 0.5} and np.abs(of).mean() > 0.45
    np.testing.assert_allclose(shares["Pt41"].shared, -shares["Pt55"].shared)
    atoms = next(one for one in cluster_values(table, {}) if not one.quantity.is_share)
    assert atoms.shared.std() == pytest.approx(atoms.value[0] * COMMON_SCALE_ERROR, rel=0.05)


@pytest.mark.parametrize("label", ["cube", "Au19"])
def test_a_label_that_the_model_does_not_have_takes_no_error_of_the_scale(label):
    rows, limit = [("f0", "Pt41")] * 50 + [("f0", "Pt55")] * 50, np.sqrt(41 * 55)
    table = table_of(rows, np.where(np.arange(100) < 50, limit * 0.999, limit * 1.001))
    before = {one.quantity.label: one.shared.std() for one in cluster_values(table, {})}
    other = table_of([("s0", "Pt19")] * 5).assign(label=label, label_corrected=label)
    joined = pd.concat([table, other], ignore_index=True)
    after = {one.quantity.label: one.shared[0].std() for one in cluster_values(joined, {})}
    assert after["Pt55"] == pytest.approx(before["Pt55"]) and before["Pt55"] > 0.1


# ---- what limits a comparison
def test_one_sample_or_no_reference_is_refused():
    values = values_of(np.full((3, 2), 5), SAMPLES[0].images)
    with pytest.raises(TableError, match="only the sample fresh, and a comparison needs two"):
        compare_samples(values, SAMPLES[:1])
    with pytest.raises(TableError, match="no sample 'old'"):
        compare_samples(values, SAMPLES, "old")


def test_a_sample_without_clusters_has_no_difference():
    values = values_of(np.full((3, 2), 5), SAMPLES[0].images)
    found = compare_samples(values, SAMPLES)
    spent = found.table[found.table["sample"] == "spent"]
    assert spent[["value", "low", "difference", "p"]].isna().all(axis=None)
    assert found.tested.empty and comparison_sentences(found) == []
    empty = compare_samples(cluster_values(table_of([("x", "Pt19")])[:0], {}), SAMPLES)
    assert empty.table.empty or empty.table["value"].isna().all()


def test_a_sample_of_one_image_says_how_its_interval_came_about():
    counts = np.array([[6, 4], [4, 6], [5, 5]])
    names = [*SAMPLES[0].images[:2], SAMPLES[1].images[0]]
    several = compare_samples(values_of(counts, names), SAMPLES).table
    assert several[several["sample"] == "spent"]["note"].str.contains("that of the other").all()
    single = compare_samples(values_of(counts[1:], names[1:]), SAMPLES).table
    assert single["note"].str.contains("not known").all() and single["low"].isna().all()


def test_a_sample_of_unlike_images_is_named_as_it_widens_all_intervals():
    alike = np.random.default_rng(0).multinomial(40, [0.4, 0.3, 0.3], size=6)
    names = [*SAMPLES[0].images, *SAMPLES[1].images]
    usual = compare_samples(values_of(alike, names), SAMPLES)
    assert comparison_notes(usual) == []
    # such as images of two known samples
    unlike = np.array([[40, 0, 0], [0, 40, 0]])
    samples = (Sample("fresh", tuple(names[:4])), Sample("spent", tuple(names[4:])))
    mixed = compare_samples(values_of(np.vstack([alike[:4], unlike]), names), samples)
    (note,) = comparison_notes(mixed)
    assert note.startswith("spent: its images differ far more than those of the other samples")
    # A table alone says it in each row of a share.
    rows = with_scatter_note(mixed)
    shares = rows["quantity"] == "share"
    assert rows.loc[shares, "note"].str.endswith(note).all()
    assert rows.loc[~shares, "note"].tolist() == mixed.table.loc[~shares, "note"].tolist()
    usual = compare_samples(values_of(alike, names), samples)
    assert with_scatter_note(usual).equals(usual.table)
    fresh = [found.table[found.table["sample"] == "fresh"] for found in (usual, mixed)]
    narrow, wide = (rows["high"] - rows["low"] for rows in fresh)
    assert (wide > narrow).all()


def test_samples_that_different_models_have_labelled_are_noted():
    rows, sizes = clusters(np.random.default_rng(0), [*"abcd"], [0.4, 0.3, 0.3])
    samples = (Sample("fresh", ("a", "b")), Sample("spent", ("c", "d")))
    table, outcomes = table_of(rows, sizes), [Outcome(name, "x", "done") for name in "abcd"]
    for models, noted in ((["one"] * 4, False), (["one", "one", "two", "two"], True)):
        table["model_id"] = table["image"].map(dict(zip("abcd", models, strict=True)))
        notes = comparison_notes(compare_clusters(table, outcomes, samples))
        told = "fresh, spent: labels are those of different models (one in 2 images, two in 2"
        assert any(note.startswith(told) for note in notes) == noted


def test_samples_in_which_many_atoms_are_missed_are_noted():
    around = {"": 1.0, "_low": 0.8, "_high": 1.2}
    columns = [
        f"{before}{end}{unit}"
        for before, unit in (
            ("density", "_per_nm2"),
            ("nearest_neighbour_mean", "_nm"),
            ("nearest_neighbour_median", "_nm"),
        )
        for end in around
    ]
    rows = pd.DataFrame(
        {
            "image": [*"abcd"], "support_nm2": 100.0, "n_atoms_expected": 100.0, "level": 0.95,
            "density_is": ["estimate", "", "lower bound", ""],
            **dict(zip(columns, [*around.values()] * 3, strict=True)),
            **{f"share_{kind}": 0.1 for kind in ("isolated", "dimer", "multimer", "cluster")},
        }
    )  # fmt: skip
    samples = (Sample("fresh", ("a", "b")), Sample("spent", ("c", "d")))
    outcomes = [Outcome(name, "x", "done", sha256=name) for name in "abcd"]
    notes = comparison_notes(compare_atoms(rows, outcomes, samples))
    assert notes == ["spent: many atoms are missed: the density is a lower bound"]
    copies = [Outcome(name, "x", "done", sha256="abcc"[i]) for i, name in enumerate("abcd")]
    notes = comparison_notes(compare_atoms(rows, copies, samples))
    assert any("1 file has the content of others" in note for note in notes)


def test_copies_do_not_make_a_difference_significant():
    rows, sizes = clusters(np.random.default_rng(0), [*"abcdef"], [0.4, 0.3, 0.3])
    table = table_of(rows, sizes)
    samples = (Sample("fresh", ("a", "b", "c")), Sample("spent", ("d", "e", "f")))
    found = {}
    for n_copies in (0, 3):
        tables, grouped = [table], list(samples)
        outcomes = [Outcome(name, "x", "done", sha256=name) for name in "abcdef"]
        for of, sample in (("a", 0), ("d", 1)):
            for i in range(n_copies):
                name = f"{of}{i}"
                tables.append(table[table["image"] == of].assign(image=name))
                outcomes.append(Outcome(name, "x", "done", sha256=of))
                more = (*grouped[sample].images, name)
                grouped[sample] = Sample(grouped[sample].name, more)
        found[n_copies] = compare_clusters(pd.concat(tables), outcomes, grouped)
    once, copied = (found[n].table.drop(columns="note") for n in (0, 3))
    pd.testing.assert_frame_equal(once, copied)
    told = "3 files have the content of others, and each content counts once, with the labels of"
    notes = " ".join(comparison_notes(found[3]))
    assert f"fresh: {told} a" in notes and f"spent: {told} d" in notes
    assert comparison_notes(found[0]) == []


def test_frames_without_tracks_do_not_make_a_difference_significant():
    rows, sizes = clusters(np.random.default_rng(0), [*"abcdef"], [0.4, 0.3, 0.3])
    table = table_of(rows, sizes)
    samples = (Sample("fresh", ("a", "b", "c")), Sample("spent", ("d", "e", "f")))
    outcomes = [Outcome(name, "x", "done", sha256=name) for name in "abcdef"]
    frames = [table.assign(frame=i) for i in range(5)]
    once, stacks = (
        compare_clusters(one, outcomes, samples).table.drop(columns="note")
        for one in (table, pd.concat(frames, ignore_index=True))
    )
    pd.testing.assert_frame_equal(once, stacks, rtol=1e-6)


def test_of_copies_the_one_with_manual_labels_counts():
    rows, sizes = clusters(np.random.default_rng(0), [*"abcd"], [0.4, 0.3, 0.3])
    table = table_of(rows, sizes)
    copy = table[table["image"] == "a"].assign(image="z")
    label = copy["label"].iloc[0]
    copy = copy.assign(label=label, label_corrected=label)
    outcomes = [Outcome(name, "x", "done", sha256=name.replace("z", "a")) for name in "abcdz"]
    grouped = [Sample("fresh", ("a", "b", "z")), Sample("spent", ("c", "d"))]
    alone = [Sample("fresh", ("b", "z")), Sample("spent", ("c", "d"))]
    both = pd.concat([table, copy])
    found, expected = (compare_clusters(both, outcomes, of) for of in (grouped, alone))
    pd.testing.assert_frame_equal(
        found.table.drop(columns="note"), expected.table.drop(columns="note")
    )
    assert any("with the labels of z" in note for note in comparison_notes(found))


def test_an_image_in_two_samples_is_noted():
    rows, sizes = clusters(np.random.default_rng(0), [*"abcd"], [0.4, 0.3, 0.3])
    outcomes = [Outcome(name, "x", "done", sha256=name.replace("c", "a")) for name in "abcd"]
    samples = (Sample("fresh", ("a", "b")), Sample("spent", ("c", "d")))
    (note,) = comparison_notes(compare_clusters(table_of(rows, sizes), outcomes, samples))
    assert note.startswith("fresh, spent: 1 image is in another sample too")


def test_withheld_samples_are_not_compared():
    counts = np.random.default_rng(0).multinomial(30, [0.5, 0.5], size=6)
    values = values_of(counts, [*SAMPLES[0].images, *SAMPLES[1].images])
    found = compare_samples(values, SAMPLES, notes={"spent": "why"}, withheld=["spent"])
    assert comparison_notes(found) == ["spent: why"]
    both = compare_samples(values, SAMPLES, notes=dict.fromkeys(("fresh", "spent"), "why"))
    assert comparison_notes(both) == ["fresh, spent: why"]
    spent = found.table[found.table["sample"] == "spent"]
    assert spent["value"].isna().all() and spent["p"].isna().all() and set(spent["note"]) == {"why"}
    assert len(plans_of_samples(both)) == 2
    assert [plan for plan in plans_of_samples(found) if "spent" in plan] == []


def test_corrected_labels_have_no_error_of_the_scale():
    table = table_of([("f0", "Pt41")] * 20 + [("f0", "Pt55")] * 20)
    table["label_corrected"] = table["label"]
    assert not any(np.any(one.shared) for one in cluster_values(table, {}))


# ---- single atoms
def test_atoms_of_images_are_pooled_by_area_and_number():
    of = {"support_nm2": [100.0, 300.0], "n_atoms_expected": [50.0, 50.0], "level": 0.95}
    rows = pd.DataFrame({"image": ["a", "b"], **of, "density_per_nm2": [0.5, 1 / 6]})
    for end, factor in (("low", 0.8), ("high", 1.2)):
        rows[f"density_{end}_per_nm2"] = factor * rows["density_per_nm2"]
    for what in ("mean", "median"):
        for end in ("", "_low", "_high"):
            rows[f"nearest_neighbour_{what}{end}_nm"] = [0.4, 0.6]
    for kind, share in (("isolated", 0.7), ("dimer", 0.2), ("multimer", 0.1), ("cluster", 0.0)):
        rows[f"share_{kind}"] = share
    found = estimate_samples(atom_values(rows), {"x": ["a", "b"]})
    values = {one["x"].quantity.name: one["x"].value for one in found}
    assert values == pytest.approx(
        {"density": 0.25, "neighbour_mean": 0.5, "neighbour_median": 0.5, "share_dimer": 0.2,
         "share_larger": 0.1}
    )  # fmt: skip
    sums = ["support_nm2", "n_atoms_expected"]  # over the frames of a stack, which shows one place
    stack = rows.assign(frames=[4, 1], **{name: [4, 1] * rows[name] for name in sums})
    again = estimate_samples(atom_values(stack), {"x": ["a", "b"]})
    assert {one["x"].quantity.name: one["x"].value for one in again} == pytest.approx(values)
    assert atom_values(pd.DataFrame({"image": ["a"]})) == []


# ---- trends
def test_slopes_cover_the_truth():
    hits, x = [], np.array([0.0, 1.0, 2.0, 4.0])
    for seed in range(150):
        rng = np.random.default_rng(seed)
        p = 0.2 + 0.1 * x / 4
        k = rng.binomial(50, np.repeat(p, 4) + 0.03 * rng.standard_normal(16))
        counts = np.stack([k, 50 - k], axis=1)
        names = [str(i) for i in range(16)]
        members = {str(s): names[4 * s : 4 * s + 4] for s in range(4)}
        one = estimate_samples(values_of(counts, names), members)[0]
        found = trend_slope(x, list(one.values()))
        hits.append(found.low <= 0.025 <= found.high)
    assert 0.92 <= np.mean(hits) <= 0.995


# ---- planning
def test_more_images_make_the_interval_as_narrow_as_planned():
    rng = np.random.default_rng(5)

    def estimate(n):
        share = np.clip(0.4 + 0.06 * rng.standard_normal(n), 0, 1)
        k = rng.binomial(60, share)
        names = [str(i) for i in range(n)]
        return estimate_samples(values_of(np.stack([k, 60 - k], axis=1), names), {"x": names})

    more = [more_images(estimate(4)[0]["x"]) for _ in range(40)]
    assert None not in more
    widths = [np.ptp(estimate(4 + int(np.median(more)))[0]["x"].interval()) / 2 for _ in range(20)]
    assert np.median(widths) == pytest.approx(0.05, rel=0.25)
    assert more_images(estimate(400)[0]["x"]) == more_images(estimate(1100)[0]["x"]) == 0
    text = describe_more_images([one["x"] for one in estimate(4)])
    assert text.startswith("about ")
    assert text.endswith(" more images of x for ±5 percentage points in each share")


def test_no_number_of_images_beats_the_error_of_the_scale():
    names, shared = ["a", "b", "c"], np.tile(0.1 * np.linspace(-1, 1, N_DRAWS), (3, 1))
    values = values_of(np.full((3, 2), 30), names, shared)
    (one, _) = estimate_samples(values, {"x": names})
    assert more_images(one["x"]) is None
    assert "too uncertain" in describe_more_images([one["x"]])


# ---- samples
def test_samples_are_folders_or_as_stated():
    folders = {"a": "/d/x/one", "b": "/d/x/one", "c": "/d/y/one", "d": ""}
    names = [s.name for s in group_samples(folders)]
    assert names == ["x/one", "y/one", "images without a file"]
    stated = {"c": SampleEntry("late", {"t": 2.0}), "[ab]": SampleEntry("early", {"t": 1.0})}
    late, early, rest = group_samples(folders, stated)
    assert (late.images, early.images, rest.images) == (("c",), ("a", "b"), ("d",))
    assert early.numbers == {"t": 1.0} and early.folder == ""
