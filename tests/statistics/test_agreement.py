"""Agreement of annotators: against other implementations, textbooks and simulation."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings, strategies as st
from sklearn.metrics import cohen_kappa_score

from napari_atomicity.statistics.annotators.agreement import (
    NOT_A_CLUSTER,
    agreement,
    confusion,
    last_labels,
    opinions,
)


def long(answers: dict[str, str]) -> pd.DataFrame:
    """Annotator → a character per item, "." where there is no answer."""
    rows = [
        (i, who, label)
        for who, said in answers.items()
        for i, label in enumerate(said)
        if label != "."
    ]
    return pd.DataFrame(rows, columns=["item", "annotator", "label"])


@pytest.mark.parametrize(
    ("answers", "alpha"),
    [
        # Krippendorff 2011, example C (four observers, twelve units, some missing): 0.743
        (
            {"A": "123321412...", "B": "1233224125.3", "C": ".3332342251.", "D": "12332441251."},
            0.743,
        ),
        # The example of three coders in the encyclopaedias: 0.691
        ({"A": ".....34121133.3", "B": "1.213343.......", "C": "..21344.21133.4"}, 0.691),
        # Krippendorff 2011, example A (two observers, two values, ten units): 0.095
        ({"A": "0100000010", "B": "1110010000"}, 0.095),
    ],
)
def test_alpha_is_that_of_the_textbook(answers, alpha):
    assert agreement(long(answers)).alpha.value == pytest.approx(alpha, abs=5e-4)


@settings(max_examples=40, deadline=None)
@given(st.lists(st.tuples(st.sampled_from("abcd"), st.sampled_from("abcd")), min_size=2))
def test_kappa_is_that_of_scikit_learn(both):
    a, b = ("".join(x) for x in zip(*both, strict=True))
    found = agreement(long({"A": a, "B": b}))
    if len(set(a + b)) == 1:
        assert np.isnan(found.kappa.value)
        return
    assert found.kappa.value == pytest.approx(cohen_kappa_score(list(a), list(b)))
    assert found.share.value == pytest.approx(np.mean([x == y for x, y in both]))
    for row in found.by_label.itertuples():
        one = cohen_kappa_score([x == row.label for x in a], [x == row.label for x in b])
        assert row.kappa == pytest.approx(one)
        pairs = [x == y for x, y in both for _ in range((x == row.label) + (y == row.label))]
        assert row.share == pytest.approx(np.mean(pairs))
    for figure in (found.share, found.kappa, found.alpha):
        assert figure.low <= figure.value <= figure.high


@settings(max_examples=25, deadline=None)
@given(st.lists(st.text("ab.", min_size=3, max_size=3), min_size=4, max_size=12), st.randoms())
def test_alpha_is_that_of_all_pairs(rows, random):
    """The definition, pair by pair, instead of a table of coincidences."""
    answers = dict(zip("ABC", ("".join(c) for c in zip(*rows, strict=True)), strict=True))
    units = [[x for x in row if x != "."] for row in rows]
    units = [u for u in units if len(u) > 1]
    values = [x for u in units for x in u]
    if len(set(values)) < 2:
        return
    observed = np.mean(
        [sum(x != y for j, y in enumerate(u) if j != i) / (len(u) - 1) for u in units
         for i, x in enumerate(u)]
    )  # fmt: skip
    n = len(values)
    expected = sum(x != y for x in values for y in values) / (n * (n - 1))
    found = agreement(long(answers)).alpha
    assert found.value == pytest.approx(1 - observed / expected)
    assert found.low <= found.value <= found.high
    # Neither the order of the items nor the names of the labels matter.
    order = list(range(len(rows)))
    random.shuffle(order)
    swapped = {k: "".join(v[i].translate({97: 98, 98: 97}) for i in order)
               for k, v in answers.items()}  # fmt: skip
    assert agreement(long(swapped)).alpha.value == pytest.approx(found.value)


def test_no_interval_goes_below_minus_one():
    rows = agreement(long({"A": "abcabc", "B": "abdabc"})).by_label
    assert (rows[["kappa_low", "alpha_low"]] >= -1).all(axis=None)


def test_all_equal_is_not_sure():
    found = agreement(long({"A": "ababababab", "B": "ababababab"}))
    assert found.kappa.value == found.alpha.value == found.share.value == 1
    assert 0.2 < found.kappa.low < 0.7
    assert 0.2 < found.alpha.low < 0.7
    assert found.kappa.high == 1
    assert found.disagreements.empty


def test_intervals_cover():
    """Of two people who see the truth behind their own noise, the long-run kappa and alpha."""
    rng = np.random.default_rng(1)

    def both(n: int) -> pd.DataFrame:
        truth = rng.choice(4, n, p=[0.4, 0.3, 0.2, 0.1])
        said = [np.where(rng.random(n) < 0.1, rng.integers(0, 4, n), truth) for _ in range(2)]
        return long({k: "".join("abcd"[i] for i in v) for k, v in zip("AB", said, strict=True)})

    asymptotic = agreement(both(40_000))
    hits = np.zeros(3)
    for _ in range(100):
        found = agreement(both(80))
        for i, name in enumerate(("share", "kappa", "alpha")):
            figure = getattr(found, name)
            hits[i] += figure.low <= getattr(asymptotic, name).value <= figure.high
    assert (hits >= 90).all(), hits


def test_who_has_not_judged_does_not_disagree():
    found = agreement(long({"A": "aab.b", "B": "ab.ab", "C": ".b..."}))
    assert found.n_items == 3
    assert found.disagreements["item"].tolist() == [1]
    assert found.disagreements[["A", "B", "C"]].iloc[0].tolist() == ["a", "b", "b"]
    assert found.pairs.set_index(["a", "b"])["n"].to_dict() == {
        ("A", "B"): 3, ("A", "C"): 1, ("B", "C"): 1,
    }  # fmt: skip
    assert np.isnan(found.kappa.value)  # there is no one pair


def test_nothing_in_common_is_said_so():
    for answers in ({"A": "ab..", "B": "..ab"}, {"A": "abab"}):
        found = agreement(long(answers))
        assert found.n_items == 0
        assert np.isnan([found.share.value, found.alpha.value, found.kappa.value]).all()
    assert agreement(long({})).annotators == ()


def test_two_answers_of_one_person_are_refused():
    with pytest.raises(ValueError, match="two labels"):
        agreement(pd.concat([long({"A": "ab"}), long({"A": "ab"})]))


def test_confusion_counts_what_both_judged():
    table = confusion(long({"A": "aabb.", "B": "abbba"}), "A", "B", order=["b"])
    assert table.loc["a"].to_dict() == {"b": 1, "a": 1}
    assert table.loc["b"].to_dict() == {"b": 2, "a": 0}
    assert list(table.columns) == ["b", "a"]


def log(*events: tuple[str, int, str, str]) -> pd.DataFrame:
    rows = [(who, "field", i, label, what) for who, i, label, what in events]
    return pd.DataFrame(rows, columns=["annotator", "image", "cluster_id", "label", "what"])


def test_the_last_word_counts():
    found = last_labels(
        log(
            ("Ada", 1, "Pt19", "label"),
            ("Bo", 1, "Pt30", "label"),
            ("Ada", 1, "Pt41", "label"),
            ("Ada", 2, "Pt41", "label"),
            ("Ada", 2, "", "label"),
            ("Bo", 3, "", "remove"),
            ("Ada", 4, "Pt55", "label"),
            ("Ada", 4, "", "remove"),
            ("Ada", 4, "", "restore"),
            ("Bo", 4, "", "remove"),
            ("Bo", 4, "", "add"),
            ("Bo", 4, "", "move"),
        )
    )
    said = {(r.item, r.annotator): r.label for r in found.itertuples()}
    assert said == {
        (("field", 1), "Ada"): "Pt41",
        (("field", 1), "Bo"): "Pt30",
        (("field", 3), "Bo"): NOT_A_CLUSTER,
        (("field", 4), "Ada"): "Pt55",
    }


def test_who_splits_a_cluster_does_not_say_that_there_is_none():
    found = log(
        ("Ada", 1, "", "remove"), ("Ada", 8, "", "add"), ("Ada", 9, "", "add"),
        ("Ada", 2, "", "remove"), ("Ada", 3, "", "remove"), ("Ada", 3, "", "add"),
    ).assign(time=["t1", "t1", "t1", "t2", "t2", "t2"])  # fmt: skip
    assert last_labels(found)["item"].tolist() == [("field", 2)]


def test_labels_of_what_is_split_or_merged_are_not_compared():
    said = log(
        ("Ada", 1, "Pt19", "label"), ("Bo", 1, "Pt30", "label"),
        ("Ada", 2, "Pt19", "label"), ("Bo", 2, "Pt19", "label"),
        ("Ada", 1, "", "remove"), ("Ada", 8, "", "add"), ("Ada", 9, "", "add"),
        ("Bo", 8, "Pt19", "label"),
    ).assign(time=["t0"] * 4 + ["t1"] * 3 + ["t2"], undo=False)  # fmt: skip
    found = last_labels(said)
    assert found["item"].tolist() == [("field", 2), ("field", 2), ("field", 8)]
    undone = log(
        ("Ada", 8, "", "remove"), ("Ada", 9, "", "remove"), ("Ada", 1, "", "add")
    ).assign(time="t3", undo=True)  # fmt: skip
    again = last_labels(pd.concat([said, undone]))
    assert {("field", 1), ("field", 2)} <= set(again["item"])
    assert len(again[again["item"] == ("field", 1)]) == 2


def test_who_undoes_an_added_cluster_says_nothing_of_it():
    found = log(
        ("Ada", 1, "Pt19", "label"),
        ("Ada", 8, "", "add"), ("Ada", 8, "unknown", "label"), ("Ada", 8, "", "remove"),
        ("Ada", 9, "", "add"), ("Ada", 9, "", "remove"),
    ).assign(undo=[False, False, False, True, False, False])  # fmt: skip
    said = {r.item[1]: r.label for r in last_labels(found).itertuples()}
    assert said == {1: "Pt19"}


def test_a_removal_of_ones_own_addition_counts_if_somebody_else_judged_it():
    own = log(("Ada", 9, "", "add"), ("Ada", 9, "", "remove"))
    assert last_labels(own).empty
    both = last_labels(pd.concat([own, log(("Bo", 9, "Pt19", "label"))]))
    assert both["label"].tolist() == [NOT_A_CLUSTER, "Pt19"]
    # One that was there, removed, taken back and removed again is no addition.
    there = log(("Ada", 7, "", "remove"), ("Ada", 7, "", "add"), ("Ada", 7, "", "remove"))
    assert last_labels(there)["label"].tolist() == [NOT_A_CLUSTER]


def test_of_an_empty_log_nothing_follows():
    assert last_labels(log()).empty
    assert agreement(last_labels(log())).n_items == 0


def test_opinions_of_a_log():
    found = log(
        ("Ada", 1, "Pt19", "label"),
        ("Ada", 2, "Pt30", "label"),
        ("Ada", 3, "Pt30", "label"),
        ("Bo", 1, "Pt19", "label"),
        ("Bo", 2, "Pt41", "label"),
        ("Bo", 3, "", "remove"),
        ("consensus", 2, "Pt41", "label"),
    )
    found["label_predicted"] = ["Pt19", "Pt30", "Pt19", "", "", "Pt55", "Pt30"]
    found["blind"] = [False, False, False, True, True, False, False]
    said = opinions(found)
    assert said.agreement.annotators == ("Ada", "Bo")
    assert said.agreement.n_items == 3
    disagree = said.agreement.disagreements
    assert disagree["item"].tolist() == [("field", 2), ("field", 3)]
    assert disagree["Bo"].tolist() == ["Pt41", NOT_A_CLUSTER]
    assert said.machine == ("Pt30", "Pt55")
    assert said.settled == ("Pt41", "")
    assert said.annotators.to_numpy().tolist() == [["Ada", 3, 0], ["Bo", 3, 2]]
    assert said.warning.startswith("1 cluster labelled without Blind")  # the third, by Bo
    assert opinions(found.iloc[:0]).agreement.annotators == ()


@pytest.mark.parametrize(
    ("changed", "settled"), [("Pt70", "Pt70"), ("", ""), (NOT_A_CLUSTER, NOT_A_CLUSTER)]
)
def test_a_label_after_a_settlement_changes_it_and_is_no_answer(changed, settled):
    what = "remove" if changed == NOT_A_CLUSTER else "label"
    found = log(
        ("Ada", 1, "Pt19", "label"),
        ("Bo", 1, "Pt30", "label"),
        ("consensus", 1, "Pt30", "label"),
        ("Ada", 1, "" if what == "remove" else changed, what),
    ).assign(label_predicted="", blind=False, merged=False)
    before, after = opinions(found.iloc[:3]), opinions(found)
    assert before.settled == ("Pt30",) and after.settled == (settled,)
    pd.testing.assert_frame_equal(before.labels, after.labels)
    merged = opinions(found.assign(merged=[False, False, False, True]))
    assert merged.settled == (() if changed == "" else ("Pt30",))


def test_the_second_of_two_annotators_is_the_one_who_must_be_blind():
    found = log(
        *(("Bo", i, "Pt19", "label") for i in range(3)),
        *(("Ada", i, "Pt19", "label") for i in range(3)),
    )
    found["label_predicted"] = ""
    found["blind"] = [True] * 3 + [False] * 3
    assert opinions(found).warning.startswith("3 clusters labelled without Blind")
    found["blind"] = [False] * 3 + [True] * 3
    assert opinions(found).warning == ""


def test_only_answers_that_count_are_blind():
    found = log(
        ("Bo", 1, "Pt19", "label"),
        ("Bo", 2, "Pt41", "label"),
        ("Bo", 2, "", "label"),  # undone
        ("Bo", 3, "Pt55", "label"),
        ("Bo", 3, "Pt70", "label"),
        ("Bo", 4, "", "remove"),
    )
    found["label_predicted"] = ""
    found["blind"] = [True, True, True, True, False, True]
    assert opinions(found).annotators.to_numpy().tolist() == [["Bo", 3, 2]]


def test_a_third_person_who_shares_no_item_leaves_kappa_of_each_label():
    rng = np.random.default_rng(0)
    rows = []
    for i in range(30):
        label = str(rng.choice(["Pt19", "Pt55"]))
        rows += [(("a", i), "Ada", label), (("a", i), "Ben", label if i % 5 else "Pt70")]
    both, with_third = (
        agreement(pd.DataFrame(r, columns=["item", "annotator", "label"]))
        for r in (rows, [*rows, (("z", 1), "Cid", "Pt19")])
    )
    assert np.isfinite(with_third.kappa.value)
    pd.testing.assert_frame_equal(with_third.by_label, both.by_label)
