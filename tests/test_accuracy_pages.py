"""The pages on accuracy, and the scripts that write their sections from kept results."""

from __future__ import annotations

import re
import sys
from importlib import import_module
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

DOCS = Path(__file__).resolve().parents[1] / "docs"
PAGES = [DOCS / "explanation" / name for name in ("accuracy.md", "accuracy_tables.md")]


@pytest.fixture
def script(monkeypatch):
    monkeypatch.syspath_prepend(str(DOCS / "scripts"))
    return import_module


def tables(lines: list[str]) -> list[list[list[str]]]:
    """Tables of some lines, each a list of rows of cells; the first row has the titles."""
    found: list[list[list[str]]] = []
    for previous, line in zip(["", *lines], lines, strict=False):
        if line.startswith("|"):
            if not previous.startswith("|"):
                found.append([])
            if not line.startswith("|---"):
                found[-1].append([cell.strip() for cell in line.strip("|").split("|")])
    return found


# ---- the pages as they are
@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_tables_are_narrow_and_have_one_value_in_a_cell(page):
    found = tables(page.read_text().splitlines())
    assert len(found) > 8
    for table in found:
        assert len(table[0]) <= 8, table[0]
        cells = [cell for row in table for cell in row]
        assert not [cell for cell in cells if re.search(r"→|<br>|\*\*|`", cell)]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_text_precedes_each_table(page):
    lines = page.read_text().splitlines()
    for number, line in enumerate(lines):
        if line.startswith("|") and not lines[number - 1].startswith("|"):
            before = [text for text in lines[:number] if text][-1]
            assert not before.startswith(("#", "|", "<!--")), line


# ---- labels with and without the network
def estimator(condition, name, accuracy, model="shipped"):
    ends = {"low": accuracy - 0.01, "high": accuracy + 0.01}
    return {"condition": condition, "estimator": name, "model": model, "accuracy": accuracy, **ends}


def test_rows_in_which_the_mixture_is_as_right_as_the_label_are_counted(script):
    page = script("accuracy_page")
    rows = [
        estimator(condition, name, accuracy)
        for condition, accuracies in {"A": (0.99, 0.985, 0.98), "B": (0.9, 0.95, 0.8)}.items()
        for name, accuracy in zip(
            (page.COMBINATION, page.MIXTURE, page.DUAL), accuracies, strict=True
        )
    ]
    rows.append(estimator("B", page.COMBINATION, 0.97, "shipped, adapted to B"))  # has no mixture
    text = "\n".join(page.choice_section({"estimators": rows}))
    assert "in 1 of 2 rows, and lower by 0.005 at most in the others" in text
    assert "not below the interval of the combination in 2 of 2" in text
    assert "it reaches 0.950 instead of 0.900; the intervals do not all overlap" in text
    assert len(tables(text.splitlines())[0]) == 3
    for row in rows:
        row["accuracy"] -= 0.1 * (row["estimator"] == page.MIXTURE)
    text = "\n".join(page.choice_section({"estimators": rows}))
    assert "is less often right" in text and "Consider `mixture`" not in text


# ---- sessions
def session_scores() -> pd.DataFrame:
    names = ("r2", "calibration", "wrong", "labelled", "of_images", "of_sessions")
    rows = [
        {"group": group, "form": form, "method": method, "images": 8, "clusters": 100}
        | {"accuracy": accuracy + gain, **dict.fromkeys(names, 0.5)}
        for group, form, accuracy in (("z", "whole", 0.8), ("a", "whole", 0.9), ("a", "crops", 0.6))
        for method, gain in (("0.1", -0.1), ("alone", 0.0), ("session", 0.05 * (group == "z")))
    ]
    return pd.DataFrame(rows)


def test_the_short_page_has_whole_images_alone_and_as_a_session(script):
    page, scores = script("sessions_page"), session_scores()
    lines = page.page(scores, "Made.", 60)
    first = tables(lines)[0]
    assert first[0] == ["sessions", "images", "clusters", "accuracy, alone", "accuracy, session"]
    assert first[1:] == [["z", "8", "100", "0.800", "0.850"], ["a", "8", "100", "0.900", "0.900"]]
    assert "in 2 of 2 kinds" in lines[2] and "*z*, from 0.800 to 0.850" in lines[2]
    assert not any("mixture is at least" in line for line in lines)
    with_labels = scores.assign(mixture=scores["accuracy"], network=0.85)
    text = "\n".join(page.page(with_labels, "Made.", 60))
    assert "at least as accurate as the combination in 2 of 2 rows, the network in 1" in text


def test_the_long_tables_have_all_forms_and_methods(script):
    page, scores = script("sessions_page"), session_scores()
    scores.loc[scores["form"] == "crops", "r2"] = np.nan
    other = pd.DataFrame(
        [
            {"size": "Pt25", "method": method, "clusters": 5}
            | dict.fromkeys(("neighbour", "unknown", "confident", "count", "held"), 0.25)
            for method in page.METHODS
        ]
    )
    found = tables(page.long_tables(scores, other, "Made."))
    assert len(found) == len(page.SCORES) + 1
    assert found[0][3] == ["a", "crops", "8", "100", "0.500", "0.600", "0.600"]
    assert found[1][3] == ["a", "crops", "–", "–", "–"]
    assert len(found[-1]) == 4


# ---- sections from kept results
def write_page(path: Path, name: str) -> None:
    path.write_text(f"# Accuracy\n\n<!-- {name}: begin -->\nold\n<!-- {name}: end -->\n\nend\n")


def run_script(module, monkeypatch, page: Path, *options: str) -> list[str]:
    monkeypatch.setattr(module, "PAGE", page)
    monkeypatch.setattr(sys, "argv", ["script", "--text-only", *options])
    for _ in range(2):  # the second time replaces what the first one wrote
        module.main()
    lines = page.read_text().splitlines()
    assert lines[0] == "# Accuracy" and lines[-1] == "end" and "old" not in lines
    assert len([line for line in lines if line.startswith("## ")]) == 1
    return lines


def test_the_section_on_trained_networks_comes_from_finished_sets(script, monkeypatch, tmp_path):
    def score(name, k, n, right):
        wrong = {"calibration_error": 0.02, "sure_but_wrong": 0.004, "clusters": 100}
        which = {"condition": name, "set": k, "images": n}
        return {**which, "single": right, "mixed": right, "right": right, **wrong}

    rows = [score("gold", 0, 8, 0.9)]
    for name, first, gains in (("usual", 0.95, (-0.02, 0.0)), ("blurred", 0.8, (0.1, 0.12))):
        for k, gain in enumerate(gains):
            rows += [score(name, k, 0, first), score(name, k, 8, first + gain)]
    scores = tmp_path / "scores.csv"
    pd.DataFrame(rows).to_csv(scores, index=False)
    write_page(tmp_path / "page.md", "training")
    lines = run_script(
        script("make_training"), monkeypatch, tmp_path / "page.md", "--scores", str(scores)
    )
    found = tables(lines)
    assert found[0] == [
        ["conditions", "start", "8"],
        ["usual", "0.950", "0.940"],
        ["blur", "0.800", "0.910"],
        ["gold", "", "0.900"],
    ]
    gain, quantile = found[3], found[4]
    assert gain[0] == ["conditions", "8"] and [row[0] for row in gain[1:]] == ["usual", "blur"]
    assert gain[2][1] == "+0.110 (+0.090 to +0.130)"
    assert quantile[1] == ["usual", "-0.019"]
    text = "\n".join(lines)
    assert "2 of *usual*, 2 of *blur*, 1 of *gold*" in text
    assert "positive in 1 of 1 conditions that differ" in text
    assert "no mean is lower than that of the start by more than 0.01" in text


def test_the_section_on_adaptation_comes_from_its_results(script, monkeypatch, tmp_path):
    common = {"model": "shipped", "seed": 1, "reason": "None"}
    rows = [
        {**common, "shift": "none", "before": 0.95, "method": "", "after": 0.95, "accepted": False}
    ]
    for after, accepted, right in ((0.85, True, 9), (0.7, True, 5), (0.8, False, 1)):
        counts = {"unchecked": not accepted, "labels": 10, "right": right}
        about = {"shift": "blur", "before": 0.8, "method": "diameter"}
        rows.append({**common, **about, "after": after, "accepted": accepted, **counts})
    pd.DataFrame(rows).to_csv(tmp_path / "adaptations.csv", index=False)
    write_page(tmp_path / "page.md", "adaptation")
    lines = run_script(
        script("make_adaptation"), monkeypatch, tmp_path / "page.md", "--build", str(tmp_path)
    )
    accuracy, acceptance, labels = (table[1][3:] for table in tables(lines))
    assert accuracy == ["3", "0.950", "0.800", "0.783"]
    assert acceptance == ["2", "1", "0.100", "-0.093"]
    assert labels == ["30", "15", "50.0 %"]
    # from 0.95 before the shift to 0.85 and 0.7
    (sentence,) = (x for x in lines if x.startswith("Of 2 accepted adaptations, 1 lost"))
    assert "-0.175 in the mean" in sentence


def test_a_page_without_the_section_is_refused(script, tmp_path):
    write_page(tmp_path / "page.md", "other")
    with pytest.raises(SystemExit, match="no section 'training'"):
        script("page_sections").write_section(tmp_path / "page.md", "training", ["text"])
