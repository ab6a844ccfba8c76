"""Scores of answers, against computations by hand."""

import numpy as np
import pandas as pd
import pytest
from scipy.stats import ttest_1samp
from sklearn.metrics import accuracy_score, confusion_matrix, r2_score

from napari_atomicity.statistics.score_intervals import LabelPairs, score_differences
from napari_atomicity.validation.answers import ANSWER, INTERVAL
from napari_atomicity.validation.scores import score_run, summarise_runs
from napari_atomicity.validation.summary import _before_and_after, compare_methods

CLASSES = ["Pt19", "Pt41", "Pt70"]
NO_INTERVALS = pd.DataFrame(columns=INTERVAL)


@pytest.fixture
def answers():
    """Clusters of two samples in four images, some missed, some false detections."""
    rng = np.random.default_rng(0)
    n = 200
    true = rng.choice(CLASSES, n, p=[0.5, 0.3, 0.2])
    predicted = np.where(rng.random(n) < 0.7, true, rng.choice(CLASSES, n))
    image = rng.choice([f"{i}.tif" for i in range(4)], n)
    table = pd.DataFrame(
        {
            "method": "m",
            "group": "mixtures",
            "image": image,
            "sample": np.where(image < "2", "a", "b"),
            "cluster_id": np.arange(n),
            "true": true,
            "predicted": predicted,
            "confidence": rng.uniform(0.4, 1, n),
            "in_set": (true == predicted).astype(float),
        }
    )
    table.loc[:9, "predicted"] = ""  # missed
    table.loc[10:19, "true"] = ""  # false detections
    return table[ANSWER]


def fractions(table, column):
    known = table[table[column] != ""]
    return pd.crosstab(known["sample"], known[column], normalize="index").reindex(
        columns=CLASSES, fill_value=0
    )


def test_scores_are_those_of_other_programs(answers):
    found = score_run(answers, NO_INTERVALS, CLASSES)
    both = answers[(answers["true"] != "") & (answers["predicted"] != "")]
    assert found["clusters"] == len(both) == 180
    assert found["accuracy"] == accuracy_score(both["true"], both["predicted"])
    assert found["confusion"] == confusion_matrix(both["true"], both["predicted"]).tolist()
    assert found["set_coverage"] == both["in_set"].mean()
    true, called = fractions(answers, "true"), fractions(answers, "predicted")
    r2 = r2_score(true.to_numpy().ravel(), called.to_numpy().ravel())
    assert found["ratio_r2"] == pytest.approx(r2)
    mae = np.abs(true - called).to_numpy().mean()
    assert found["ratio_mean_absolute_error"] == pytest.approx(mae)
    shares = answers.loc[answers["predicted"] != "", "predicted"].value_counts(normalize=True)
    assert (found["most_called"], found["most_called_share"]) == (shares.index[0], shares.iloc[0])
    assert found["accuracy_interval"][0] < found["accuracy"] < found["accuracy_interval"][1]
    assert found["interval_coverage"] is None


def test_without_known_clusters_ratios_are_compared_with_deposits(answers):
    deposits = {
        "a": {"Pt19": 0.5, "Pt41": 0.25, "Pt70": 0.25},
        "b": {"Pt19": 0.2, "Pt41": 0.0, "Pt70": 0.8},
    }
    found = score_run(answers.assign(true="", in_set=np.nan), NO_INTERVALS, CLASSES, deposits)
    assert found["accuracy"] is None and found["accuracy_interval"] is None
    true = pd.DataFrame(deposits).T[CLASSES].to_numpy().ravel()
    called = fractions(answers, "predicted").to_numpy().ravel()
    assert found["ratio_r2"] == pytest.approx(r2_score(true, called))
    low, high = found["ratio_mean_absolute_error_interval"]
    assert low < found["ratio_mean_absolute_error"] < high
    sample = found["ratios"]["b"]
    assert sample["true"] == deposits["b"]
    for name in CLASSES:
        ends = sample["predicted_low"][name], sample["predicted_high"][name]
        assert ends[0] <= sample["predicted"][name] <= ends[1]


def test_answers_of_other_classes_are_wrong(answers):
    other = answers.assign(predicted=answers["predicted"].replace("Pt41", "Pt55"))
    found = score_run(other, NO_INTERVALS, CLASSES)
    known = other[(other["true"] != "") & (other["predicted"] != "")]
    assert found["accuracy"] == (known["true"] == known["predicted"]).mean()
    low, high = found["accuracy_interval"]
    assert low < found["accuracy"] < high


def test_coverage_counts_intervals_with_the_true_fraction(answers):
    intervals = pd.DataFrame(
        {
            "true": [0.5, 0.5, 0.2, 0.1],
            "fraction_low": [0.4, 0.6, 0.2, np.nan],
            "fraction_high": [0.6, 0.7, 0.3, np.nan],
        }
    )
    assert score_run(answers, intervals, CLASSES)["interval_coverage"] == pytest.approx(2 / 3)


def test_runs_are_averaged(answers):
    runs = [score_run(answers[i::2], NO_INTERVALS, CLASSES) for i in (0, 1)]
    found = summarise_runs(runs)
    values = [run["accuracy"] for run in runs]
    assert found["accuracy"]["mean"] == pytest.approx(np.mean(values))
    assert found["accuracy"]["sd"] == pytest.approx(np.std(values, ddof=1))
    assert found["accuracy"]["low"] == pytest.approx(
        np.mean([run["accuracy_interval"][0] for run in runs])
    )
    assert np.sum(found["confusion"]) == found["clusters"] == 180
    assert found["interval_coverage"] == {"mean": None, "sd": None, "low": None, "high": None}


# ---- differences between methods
def worse(answers, first=140):
    """The same clusters, the last of them called otherwise."""
    swapped = {"Pt19": "Pt41", "Pt41": "Pt19", "": ""}
    rows = (answers["cluster_id"] >= first) & answers["predicted"].isin(list(swapped))
    predicted = answers["predicted"].where(~rows, answers["predicted"].map(swapped))
    return answers.assign(predicted=predicted)


def pairs_of(answers):
    return LabelPairs(answers, CLASSES, ["a", "b"])


def test_differences_are_those_of_the_scores(answers):
    scores = [score_run(table, NO_INTERVALS, CLASSES) for table in (answers, worse(answers))]
    found = score_differences(pairs_of(answers), pairs_of(worse(answers)))
    for name in ("accuracy", "ratio_r2", "ratio_mean_absolute_error"):
        expected = scores[0][name] - scores[1][name]
        assert found[name]["difference"] == pytest.approx(expected)
        assert found[name]["low"] <= expected <= found[name]["high"]
    assert found["accuracy"]["low"] > 0


def test_differences_are_paired(answers):
    same = score_differences(pairs_of(answers), pairs_of(answers))
    for name in ("accuracy", "ratio_r2", "ratio_mean_absolute_error"):
        assert same[name] == {"difference": 0, "low": 0, "high": 0}
    own = score_run(answers, NO_INTERVALS, CLASSES)["accuracy_interval"]
    alike = worse(answers, first=190)
    paired = score_differences(pairs_of(answers), pairs_of(alike))["accuracy"]
    assert 0 < paired["high"] - paired["low"] < own[1] - own[0]


def test_differences_need_the_same_clusters(answers):
    with pytest.raises(ValueError, match="same clusters"):
        score_differences(pairs_of(answers), pairs_of(answers.iloc[::-1]))


def test_methods_are_compared_run_by_run(answers):
    both = [answers.assign(method="dual-patch"), worse(answers).assign(method="diameter")]
    one = pd.concat(both).assign(fold=0, seed=0)
    every = pd.concat([one, one.assign(fold=1), one.assign(fold=2, method="dual-patch")])
    (row,) = compare_methods(every, ["dual-patch", "diameter"], ["mixtures"], CLASSES)
    single = score_differences(pairs_of(answers), pairs_of(worse(answers)))["accuracy"]
    assert (row["method"], row["reference"], row["group"]) == ("dual-patch", "diameter", "mixtures")
    assert row["runs"] == 2
    assert row["accuracy"] == pytest.approx(
        {"mean": single["difference"], "sd": 0, "low": single["low"], "high": single["high"]}
    )
    assert compare_methods(every, ["dual-patch"], ["mixtures"], CLASSES) == []


def test_changes_are_paired_with_an_interval():
    rows = [{"before": b, "after": a} for b, a in ((0.2, 0.3), (0.5, 0.7), (0.9, 1.2), (None, 1))]
    found = _before_and_after(rows, "{}")
    assert found["before"]["mean"] == pytest.approx(1.6 / 3)
    change = ttest_1samp([0.1, 0.2, 0.3], 0).confidence_interval(0.95)
    assert found["change"]["mean"] == pytest.approx(0.2)
    assert (found["change"]["low"], found["change"]["high"]) == pytest.approx(tuple(change))
    assert _before_and_after(rows[:1], "{}")["change"]["low"] is None
