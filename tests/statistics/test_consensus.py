"""Several people's marks: sites, agreement, what to believe, and a model beside them."""

from __future__ import annotations

import json
from itertools import combinations

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings, strategies as st
from scipy.stats import binomtest

from napari_atomicity.core.errors import TableError
from napari_atomicity.io.files import to_json
from napari_atomicity.statistics.annotators.annotation_sites import merge
from napari_atomicity.statistics.annotators.consensus import (
    NO,
    NOT_LOOKED,
    UNCERTAIN,
    YES,
    consensus,
    fit,
)
from napari_atomicity.statistics.annotators.human_parity import compare_with_annotators
from napari_atomicity.statistics.matching import match

EDGE_NM = 15.0
PEOPLE = {"Ada": (0.9, 0.1), "Bo": (0.8, 0.05), "Cy": (0.7, 0.2)}


def field(seed, people=PEOPLE, n_images=6, uncertain=0.1, scatter=0.02, density=0.15):
    """Marks, who looked, and the atoms: sensitivity and false share of each person are given."""
    rng = np.random.default_rng(seed)
    marks, looked, atoms = [], [], []
    for i in range(n_images):
        # On a loose grid, so that no two are nearer than any tolerance.
        grid = np.stack(np.meshgrid(*[np.arange(0.5, EDGE_NM, 0.6)] * 2), -1).reshape(-1, 2)
        true = grid[rng.random(len(grid)) < density * 0.36] + rng.uniform(-0.1, 0.1, 2)
        atoms.append(points(f"{i}.tif", true))
        for name, (sensitivity, false) in people.items():
            seen = true[rng.random(len(true)) < sensitivity]
            seen = seen + rng.normal(0, scatter, seen.shape)
            n_false = rng.poisson(false / (1 - false) * sensitivity * len(true))
            seen = np.concatenate([seen, rng.uniform(0, EDGE_NM, (n_false, 2))])
            unsure = rng.random(len(seen)) < uncertain
            marks.append(points(f"{i}.tif", seen).assign(annotator=name, uncertain=unsure))
            looked.append((f"{i}.tif", name, EDGE_NM**2))
    columns = ["image", "annotator", "area_nm2"]
    return (
        pd.concat(marks, ignore_index=True),
        pd.DataFrame(looked, columns=columns),
        pd.concat(atoms),
    )


def points(image, nm):
    return pd.DataFrame({"image": image, "y_nm": nm[:, 0], "x_nm": nm[:, 1]})


def by_hand(**said):
    """Marks in one image, by annotator, at x = 1, 2, … nm: "1" marked, "?" unsure, "." not."""
    rows = [
        ("a.tif", name, 1.0, float(i + 1), c == "?")
        for name, text in said.items()
        for i, c in enumerate(text)
        if c != "."
    ]
    marks = pd.DataFrame(rows, columns=["image", "annotator", "y_nm", "x_nm", "uncertain"])
    looked = pd.DataFrame({"image": "a.tif", "annotator": list(said), "area_nm2": 100.0})
    return marks, looked


# ---- sites
crowds = st.lists(
    st.lists(st.tuples(st.integers(0, 12), st.integers(0, 12)), max_size=6), min_size=1, max_size=4
)


@settings(max_examples=100, deadline=None)
@given(crowds, st.sampled_from([1.0, 1.5, 3.0]))
def test_no_site_has_a_person_twice_or_reaches_further_than_the_tolerance(crowd, tolerance):
    people = [np.array(p, float).reshape(-1, 2) for p in crowd]
    sites = merge(people, tolerance)
    assert [len(s) for s in sites] == [len(p) for p in people]
    assert all(len(set(s)) == len(s) for s in sites)
    numbers = np.concatenate(sites)
    assert set(numbers) == set(range(len(set(numbers))))
    where = np.concatenate(people)
    for site in set(numbers):
        own = where[numbers == site]
        assert np.linalg.norm(own[:, None] - own[None], axis=2).max() <= tolerance * (1 + 1e-9)


@settings(max_examples=50, deadline=None)
@given(st.integers(0, 2**32 - 1))
def test_the_sites_of_two_people_are_the_best_matching(seed):
    rng = np.random.default_rng(seed)
    a, b = rng.uniform(0, 3, (rng.integers(0, 12), 2)), rng.uniform(0, 3, (rng.integers(0, 12), 2))
    one, other = merge([a, b], 0.5)
    pairs = match(a, b, 0.5)
    assert set(one) & set(other) == set(one[pairs.first])
    assert (one[pairs.first] == other[pairs.second]).all()


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 2**32 - 1))
def test_the_order_of_people_does_not_matter(seed):
    rng = np.random.default_rng(seed)
    people = [rng.uniform(0, 2, (8, 2)) for _ in range(3)]
    there, back = merge(people, 0.4), merge(people[::-1], 0.4)[::-1]
    assert all((a == b).all() for a, b in zip(there, back, strict=True))


def test_three_people_see_the_same_atoms():
    marks, looked, atoms = field(0, uncertain=0, people=dict.fromkeys("ABC", (1.0, 0.0)))
    found = consensus(marks, looked)
    assert len(found.sites) == len(atoms) and (found.sites["n_marked"] == 3).all()
    assert found.sites["posterior"].min() > 0.99 and found.missed_by_all < 0.1
    assert (found.pairs["f1"] == 1).all()
    assert found.alpha_places.value == 1
    # The scatter of marks, 0.02 nm, of sites and of each person.
    assert np.sqrt((found.sites["scatter_nm"] ** 2).mean()) == pytest.approx(0.02, rel=0.15)
    assert found.raters["scatter_nm"].to_numpy() == pytest.approx(0.02, rel=0.2)


# ---- what to believe
def test_rates_are_found_again_uncertain_or_not():
    for uncertain in (0.0, 0.2):
        said = [consensus(*field(s, uncertain=uncertain)[:2]).raters for s in range(8)]
        for i, (sensitivity, false) in enumerate(PEOPLE.values()):
            assert np.mean([r["sensitivity"][i] for r in said]) == pytest.approx(
                sensitivity, abs=0.03
            )
            assert np.mean([r["false_share"][i] for r in said]) == pytest.approx(false, abs=0.03)
        covered = [
            r["sensitivity_low"][i] <= s <= r["sensitivity_high"][i]
            for r in said
            for i, (s, _) in enumerate(PEOPLE.values())
        ]
        assert np.mean(covered) > 0.7


def test_posteriors_are_calibrated_and_count_the_atoms():
    marks, looked, atoms = field(3, n_images=20)
    found = consensus(marks, looked)
    is_atom = np.concatenate(
        [
            np.isin(
                np.arange((found.sites["image"] == image).sum()),
                match(
                    found.sites.loc[found.sites["image"] == image, ["y_nm", "x_nm"]].to_numpy(),
                    atoms.loc[atoms["image"] == image, ["y_nm", "x_nm"]].to_numpy(),
                    0.1,
                ).first,
            )
            for image in dict.fromkeys(found.sites["image"])
        ]
    )
    posterior = found.sites["posterior"].to_numpy()
    assert posterior.sum() + found.missed_by_all == pytest.approx(len(atoms), rel=0.05)
    doubtful = (posterior > 0.1) & (posterior < 0.9)
    assert doubtful.sum() > 30
    assert posterior[doubtful].mean() == pytest.approx(is_atom[doubtful].mean(), abs=0.15)


def test_a_good_eye_weighs_more_than_a_poor_one():
    kinds = np.array([[YES, YES, YES], [YES, NO, NO], [NO, NO, YES], [NO, NO, NO], [YES, YES, NO]])
    fitted = fit(kinds, np.array([50, 2, 40, 4000, 30]))
    assert fitted.posterior[1] > 5 * fitted.posterior[2]
    assert fitted.sensitivity[0] > fitted.sensitivity[2]
    assert fitted.false_positive[2] > fitted.false_positive[0]


def test_an_uncertain_mark_is_worth_what_it_turns_out_to_be():
    # Whoever is unsure is right as a rule in the first case, and never in the second.
    kinds = np.array([[YES] * 3, [UNCERTAIN, YES, YES], [UNCERTAIN, NO, NO], [NO] * 3])
    right, wrong = (fit(kinds, np.array([40, n, 20 - n, 4000])) for n in (19, 1))
    assert right.posterior[2] > 10 * wrong.posterior[2]


def test_what_one_person_marks_is_the_consensus():
    found = consensus(*by_hand(Ada="11?1"))
    assert found.sites["posterior"].tolist() == [1, 1, 0.5, 1] and len(found.believed) == 4
    assert "one annotator" in " ".join(found.notes)
    assert np.isnan(found.raters["sensitivity"]).all() and np.isnan(found.missed_by_all)
    effect = found.effect.set_index("who")
    assert effect.loc["consensus", "atoms"] == 3.5
    to_json(found.to_dict())
    # The same of two who have not looked at the same image.
    marks, looked = (
        pd.concat([one, other.assign(image="b.tif")])
        for one, other in zip(by_hand(Ada="1?"), by_hand(Bo="?1"), strict=True)
    )
    assert consensus(marks, looked).sites["posterior"].tolist() == [1, 0.5, 0.5, 1]


@pytest.mark.parametrize("cy", ["1?" + "." * 10, "1" * 40], ids=["few marks", "many marks"])
def test_who_looked_at_an_image_alone_has_no_rates_and_changes_none(cy):
    marks, looked = by_hand(Ada="1111111111..", Bo="..11111111?1")
    of_two = consensus(marks, looked)
    own = [table.assign(image="b.tif") for table in by_hand(Cy=cy)]
    found = consensus(pd.concat([marks, own[0]]), pd.concat([looked, own[1]]))
    alone = found.sites["image"] == "b.tif"
    believed = [1.0 if mark == "1" else 0.5 for mark in cy if mark != "."]
    assert found.sites.loc[alone, "posterior"].tolist() == believed
    pd.testing.assert_series_equal(found.sites.loc[~alone, "posterior"], of_two.sites["posterior"])
    raters = found.raters.set_index("annotator")
    rates = [c + end for c in ("sensitivity", "false_share") for end in ("", "_low", "_high")]
    assert raters.loc["Cy", rates].isna().all()
    pd.testing.assert_frame_equal(raters.iloc[:2], of_two.raters.set_index("annotator"))
    assert found.missed_by_all == pytest.approx(of_two.missed_by_all)
    assert "No image of Cy has another annotator" in " ".join(found.notes)
    assert "equal for both" in " ".join(found.notes)
    to_json(found.to_dict())


def test_images_that_one_person_marked_alone_do_not_change_their_rates():
    marks, looked, _ = field(0)
    more = points("alone.tif", np.random.default_rng(0).uniform(0, EDGE_NM, (300, 2)))
    alone = pd.DataFrame({"image": ["alone.tif"], "annotator": "Cy", "area_nm2": EDGE_NM**2})
    found = consensus(
        pd.concat([marks, more.assign(annotator="Cy", uncertain=False)]),
        pd.concat([looked, alone]),
    )
    rates = ["sensitivity", "sensitivity_low", "sensitivity_high", "false_share", "false_share_low"]
    expected = consensus(marks, looked).raters[rates]
    pd.testing.assert_frame_equal(found.raters[rates], expected)
    # A mark of Cy alone is worth what 2 false ones of 10 make it worth, in any image.
    sites = found.sites[found.sites["image"] == "alone.tif"]
    assert len(sites) > 250 and 0.5 < sites["posterior"].median() < 0.95


@pytest.mark.parametrize("bo", [(0.9, 0.1), (0.5, 0.3)], ids=["alike", "poorer"])
def test_a_lone_mark_of_two_people_is_worth_the_same_whoever_made_it(bo):
    found = consensus(*field(0, people={"Ada": (0.9, 0.1), "Bo": bo}, uncertain=0)[:2])
    lone = found.sites[found.sites["n_marked"] == 1]
    assert {0.0, 1.0} == set(lone["marked_by_Ada"])
    assert np.ptp(lone["posterior"]) == pytest.approx(0, abs=1e-9)
    assert 0.25 < lone["posterior"].iloc[0] < 0.75
    assert np.ptp(found.raters["sensitivity"]) == 0
    assert "equal for both" in " ".join(found.notes)


def test_a_lone_mark_of_two_people_is_worth_more_the_more_they_agree():
    worth = []
    for both in (1, 8, 60):
        marks, looked = by_hand(A="1" * both + "11..", B="1" * both + "..11")
        sites = consensus(marks, looked).sites
        worth.append(sites.loc[sites["n_marked"] == 1, "posterior"].iloc[0])
    assert worth[0] < 0.5 < worth[1] < worth[2] < 0.8


def test_many_sets_of_weights_are_fitted_as_one_by_one():
    rng = np.random.default_rng(0)
    kinds = rng.integers(NOT_LOOKED, YES + 1, (12, 4))
    weights = rng.uniform(0, 50, (5, 12))
    together = fit(kinds, weights)
    for i in range(5):
        alone = fit(kinds, weights[i])
        # All stop when the slowest does.
        np.testing.assert_allclose(together.posterior[i], alone.posterior, atol=1e-3)
        np.testing.assert_allclose(together.of_atom[i], alone.of_atom, atol=1e-3)


@pytest.mark.parametrize(
    ("answers", "weights"),
    [(np.full((2, 2), 7), np.ones(2)), (np.zeros((2, 2)), np.ones(3)), (np.zeros((1, 2)), [-1.0])],
)
def test_answers_that_make_no_sense(answers, weights):
    with pytest.raises(ValueError):
        fit(answers, np.asarray(weights))


# ---- agreement
def test_pairwise_f1_and_alpha_by_hand():
    marks, looked = by_hand(A="1111.", B="111.1")
    found = consensus(marks, looked)
    assert found.pairs["f1"].iloc[0] == 2 * 3 / (4 + 4)
    # Coincidences of five sites: yes-yes 6, yes-no 2 + 2; alpha = 1 - (10 - 1) · 2 / (8 · 2).
    assert found.alpha_sites.value == pytest.approx(1 - 9 * 2 / (8 * 2))
    assert found.alpha_places.value == pytest.approx(found.pairs["f1"].iloc[0], abs=0.01)
    assert any("Two annotators" in note for note in found.notes)
    assert any("Fewer than 5 images" in note for note in found.notes)


def test_people_who_agree_on_all_atoms_may_still_differ_on_others():
    """All draws are the same, also where marks are apart: the interval is Wilson's of 13 of 13."""
    marks, looked = by_hand(A="1" * 13, B="1" * 13)
    marks.loc[marks["annotator"] == "B", ["y_nm", "x_nm"]] += 0.05  # over borders of tiles
    pair = consensus(marks, looked).pairs.iloc[0]
    low = binomtest(13, 13).proportion_ci(method="wilson").low
    assert pair["f1"] == pair["f1_high"] == 1
    assert pair["f1_low"] == pytest.approx(2 * low / (1 + low))


def test_people_without_mistakes_may_still_make_some():
    """Of 8 atoms, nobody knows the sensitivity to 5 %."""
    marks, looked = by_hand(A="1" * 8, B="1" * 8)
    rater = consensus(marks, looked).raters.iloc[0]
    low = binomtest(8, 8).proportion_ci(method="wilson").low
    assert rater["sensitivity_low"] < low + 0.02 and rater["sensitivity_high"] > 0.98
    assert rater["false_share_high"] > 0.3


def test_a_model_that_finds_all_atoms_may_still_miss_others():
    marks, looked = by_hand(A="1" * 13, B="1" * 13)
    model = pd.concat([marks[marks["annotator"] == "A"]] * 2)
    model["y_nm"] += np.repeat([0.0, 50.0], 13)  # as many where nobody has marked any
    found = compare_with_annotators(model, marks, looked)["against_consensus"]
    assert found["recall"] == found["recall_high"] == 1 and found["precision"] == 0.5
    for name, (n, of) in {"recall": (13, 13), "precision": (13, 26)}.items():
        low, high = binomtest(n, of).proportion_ci(method="wilson")
        assert found[f"{name}_low"] <= low + 1e-9 and found[f"{name}_high"] >= high - 1e-9
    assert found["recall_low"] == pytest.approx(0.772, abs=1e-3)


def test_marks_that_are_unsure_are_left_out_of_one_figure():
    marks, looked = by_hand(A="1111", B="111?")
    pair = consensus(marks, looked).pairs.iloc[0]
    assert pair["f1"] == 1 and pair["f1_certain"] == 2 * 3 / (4 + 3)


def test_who_has_not_looked_has_said_nothing():
    marks, looked = by_hand(A="111", B="111", C="1..")
    more = pd.DataFrame({"image": "b.tif", "annotator": ["A", "B"], "area_nm2": 100.0})
    there = points("b.tif", np.array([[1.0, 1], [2, 2]])).assign(uncertain=False)
    marks = pd.concat([marks, there.assign(annotator="A"), there.assign(annotator="B")])
    found = consensus(marks, pd.concat([looked, more]))
    sites = found.sites[found.sites["image"] == "b.tif"]
    assert sites["marked_by_C"].isna().all() and (sites["n_looked"] == 2).all()
    assert found.sites.loc[found.sites["image"] == "a.tif", "marked_by_C"].tolist() == [1, 0, 0]
    assert dict(zip(found.pairs["b"] + found.pairs["a"], found.pairs["images"], strict=True)) == {
        "BA": 2, "CA": 1, "CB": 1,
    }  # fmt: skip
    # Only where all have looked can they be compared.
    assert found.effect.set_index("who")["atoms"][["A", "B", "C"]].tolist() == [3, 3, 1]


def test_density_and_distance_of_people_and_consensus():
    marks, looked = by_hand(A="1111", B="1111", C="11.1")
    effect = consensus(marks, looked).effect.set_index("who")
    assert effect.loc["A", "density_per_nm2"] == 0.04
    assert effect.loc["C", "nearest_neighbour_nm"] == pytest.approx((1 + 1 + 2) / 3)
    row = effect.loc["consensus"]
    assert row["density_per_nm2_low"] <= row["density_per_nm2"] <= row["density_per_nm2_high"]
    assert row["density_per_nm2"] == pytest.approx(0.04, abs=0.002)


def test_somebody_may_mark_nothing():
    marks, looked = by_hand(A="", B="")
    found = consensus(marks, looked)
    assert len(found.sites) == 0 and np.isnan(found.alpha_places.value)
    assert np.isnan(found.pairs["f1"].iloc[0])
    json.loads(to_json(found.to_dict()))
    one = consensus(*by_hand(A="11"))
    assert len(one.pairs) == 0 and len(one.sites) == 2


def test_a_wide_tolerance_is_remarked_on():
    marks, looked = by_hand(A="11", B="11")
    assert not any("nearest-neighbour distance" in n for n in consensus(marks, looked).notes)
    assert any("nearest-neighbour distance" in n for n in consensus(marks, looked, 0.2).notes)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda m, k: (m.drop(columns="y_nm"), k), "lacks the columns y_nm"),
        (lambda m, k: (m, k[:1]), "B has marks in a.tif"),
        (lambda m, k: (m, pd.concat([k, k])), "two tables"),
        (lambda m, k: (m.assign(x_nm=np.nan), k), "without a position"),
        (lambda m, k: (m, k.assign(area_nm2=0)), "area"),
    ],
)
def test_tables_that_make_no_sense(change, said):
    with pytest.raises(TableError, match=said):
        consensus(*change(*by_hand(A="11", B="11")))


# ---- a model beside people
def test_a_model_like_one_of_them_is_not_told_from_them_and_a_good_one_is():
    marks, looked, atoms = field(7)
    like, *_ = field(7, people={**PEOPLE, "Di": (0.8, 0.1)})
    like = like[like["annotator"] == "Di"]
    people, _, _ = field(7, people={**PEOPLE, "Di": (0.8, 0.1)})
    people = people[people["annotator"] != "Di"]
    expert = compare_with_annotators(like, people, looked)["one_more_expert"]
    assert abs(expert["difference"]) < 0.08
    assert expert["difference_low"] <= expert["difference"] <= expert["difference_high"]
    perfect = compare_with_annotators(atoms, marks, looked)
    assert perfect["one_more_expert"]["answer"].startswith("closer")
    poor = compare_with_annotators(atoms[::3], marks, looked)
    assert poor["one_more_expert"]["answer"].startswith("further")
    doubted = compare_with_annotators(atoms, marks, looked, in_doubt=["Di"])["one_more_expert"]
    assert "Di are in doubt" in doubted["answer"] and doubted["in_doubt"] == ["Di"]
    assert poor["against_consensus"]["precision"] > 0.9 > poor["against_consensus"]["recall"]
    names = {(p["a"], p["b"]) for p in perfect["pairs"]}
    assert names == {("model", n) for n in PEOPLE} | set(combinations(PEOPLE, 2))
    json.loads(to_json(perfect))


def test_with_few_marks_a_model_is_not_called_as_good_as_a_person():
    """As the window says."""
    marks, looked, _ = field(11, people={**PEOPLE, "Di": (0.8, 0.1)})
    first = sorted(looked["image"].unique())[:1]
    marks, looked = (table[table["image"].isin(first)] for table in (marks, looked))
    few = marks.groupby("annotator").head(6)
    people, like = (few[(few["annotator"] == "Di") == is_model] for is_model in (False, True))
    expert = compare_with_annotators(like, people, looked[looked["annotator"] != "Di"])
    assert expert["one_more_expert"]["answer"].startswith("undecided")


def test_of_two_people_each_is_the_others_consensus():
    marks, looked = by_hand(A="1111..", B="11.111")
    model = marks[marks["annotator"] == "A"]
    said = compare_with_annotators(model, marks, looked)["one_more_expert"]
    # Against B it is A; against A it is right everywhere.
    f1 = 2 * 3 / (4 + 5)
    assert [p["f1"] for p in said["persons"]] == pytest.approx([f1, f1])
    assert [p["f1_model"] for p in said["persons"]] == pytest.approx([f1, 1])


def test_who_has_no_f1_is_left_out_of_the_mean():
    marks, looked = by_hand(A="1111..", B="11.111")
    model = marks[marks["annotator"] == "A"]
    # In an image of their own two others find no atom, nor does the model.
    empty = pd.DataFrame({"image": "b.tif", "annotator": ["C", "D"], "area_nm2": 100.0})
    said = compare_with_annotators(model, marks, pd.concat([looked, empty]))["one_more_expert"]
    f1 = pd.DataFrame(said["persons"]).set_index("annotator")
    assert f1.loc[["C", "D"], "f1"].isna().all()
    assert said["persons_counted"] == 2
    mean = (f1["f1_model"] - f1["f1"])[["A", "B"]].mean()
    assert said["difference"] == pytest.approx(mean)
    assert np.isfinite([said["difference_low"], said["difference_high"]]).all()


def test_one_person_is_no_comparison_and_names_of_images_may_lack_the_suffix():
    marks, looked = by_hand(A="11")
    said = compare_with_annotators(marks.assign(image="a"), marks, looked)
    assert said["one_more_expert"] is None and said["against_consensus"]["f1"] == 1
    with pytest.raises(TableError, match="lacks"):
        compare_with_annotators(marks.drop(columns="image"), marks, looked)


def test_intervals_of_sensitivity_hold_for_few_atoms():
    """Some ten atoms in one image: percentiles of the bootstrap alone hold in 1 of 4 cases."""
    people = dict.fromkeys("ABC", (0.95, 0.1))
    held = []
    for seed in range(12):
        marks, looked, _ = field(seed, people, n_images=1, uncertain=0.0, density=0.045)
        for row in consensus(marks, looked).raters.itertuples():
            held.append(row.sensitivity_low <= 0.95 <= row.sensitivity_high)
    assert np.mean(held) >= 0.7
