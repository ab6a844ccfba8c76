"""The script that writes the tables on the papers: verdicts follow from the figures."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

DOCS = Path(__file__).resolve().parents[1] / "docs"
CLASSES = ["Pt19", "Pt41", "Pt70"]
METHODS = (
    "diameter", "mixture", "raw-patch", "lcn-patch", "dual-patch", "dual-patch-adapted",
    "raw-session", "dual-session", "dual-session-combination", "dual-session-combination-adapted",
    "dual-shipped-combination",
)  # fmt: skip


def score(mean, half=0.02):
    return {"mean": mean, "sd": 0.01, "low": mean - half, "high": mean + half}


def group():
    scores = {"accuracy": score(0.9), "ratio_r2": score(0.95), "most_called_share": score(0.4)}
    fractions = dict.fromkeys(CLASSES, 1 / 3)
    ratios = {"true": fractions, "predicted": fractions,
              "predicted_low": fractions, "predicted_high": fractions}  # fmt: skip
    return {**scores, "ratio_mean_absolute_error": score(0.02), "ratios": {"three": ratios}}


@pytest.fixture
def result():
    """Figures that agree with all claims."""
    from napari_atomicity.validation.summary import COMPARISONS

    methods = {name: {"groups": {g: group() for g in ("mixtures", "shifted")}} for name in METHODS}
    methods["dual-patch"]["groups"]["shifted"]["accuracy"] = score(0.3)
    methods["diameter"]["groups"]["mixtures"]["accuracy"] = score(0.6)
    scores = {"accuracy": score(0.1), "ratio_r2": score(0.1)}
    ranges = {c: {"median": 1 + 0.1 * i, "low": 0.8, "high": 1.5} for i, c in enumerate(CLASSES)}
    images = [{"seconds": 5.0 + i, "accepted": True} for i in range(3)]
    balances = {("Pt19", "raw"): 0.5, ("Pt19", "LCN"): -0.5, ("Pt70", "raw"): 0.1,
                ("Pt70", "LCN"): 0.4}  # fmt: skip
    return {
        "classes": CLASSES, "version": "0.2.0", "folds": 3, "seeds": [0, 1],
        "groups": {
            g: {"images": 4, "diameter_nm": ranges, "true": dict.fromkeys(CLASSES, 1 / 3)}
            for g in ("mixtures", "shifted")
        },
        "methods": methods,
        "runs": [
            {"method": "dual-patch", "group": "shifted", "most_called": "Pt70",
             "most_called_share": share} for share in (0.90, 0.92, 0.91)
        ],
        "differences": [
            {"method": m, "reference": r, "group": g, **scores}
            for m, r in COMPARISONS for g in ("mixtures", "shifted")
        ],
        "adaptation": {"dual-patch": {
            "session": {"runs": 6, "accepted": 6, "seconds": 8.0, "seconds_max": 9.0},
            "separation": {"before": score(0.1), "after": score(0.4), "change": score(0.3)},
            "images": images, "images_change": {"accuracy": score(0.5)},
        }},
        "class_maps": [
            {"fit": "dual-patch", "class": c, "channel": channel, "centre_against_outline": value,
             "low": value - 0.05, "high": value + 0.05}
            for (c, channel), value in balances.items()
        ],
    }  # fmt: skip


@pytest.fixture(autouse=True)
def scripts(monkeypatch):
    monkeypatch.syspath_prepend(str(DOCS / "scripts"))


@pytest.fixture
def given(result, tmp_path):
    """Function that reads a changed result."""
    from paper_claims import Results

    record = {"finished": "2026-11-22T10:00:00", "parameters": {"device": "cpu", "epochs": 40},
              "environment": {"cpu_count": 2, "machine": "x86_64"}}  # fmt: skip
    (tmp_path / "run.json").write_text(json.dumps(record))

    def _read(*path, value):
        inside = result
        for key in path[:-1]:
            inside = inside[key]
        if path:
            inside[path[-1]] = value
        (tmp_path / "validation.json").write_text(json.dumps(result))
        return Results(tmp_path)

    return _read


def verdicts(of):
    from paper_cluster_claims import CLUSTER_CLAIMS

    return {claim.text: claim.test(of).verdict for claim in CLUSTER_CLAIMS}


def test_all_claims_agree_with_figures_that_do(given):
    assert set(verdicts(given(value=None)).values()) == {"**agrees**"}


MIXTURES = ("methods", "dual-patch", "groups", "mixtures")
PATCH = ("adaptation", "dual-patch")


@pytest.mark.parametrize(
    ("path", "value", "claim", "verdict"),
    [
        ((*MIXTURES, "ratio_r2"), score(0.8), "Ratios", "**does not agree**"),
        ((*MIXTURES, "ratio_r2"), score(0.8, 0.2), "Ratios", "undecided"),
        ((*MIXTURES, "accuracy"), score(0.2), "In another session", "**does not agree**"),
        ((*MIXTURES, "accuracy"), score(0.2), "… completely", "not tested"),
        ((*MIXTURES, "accuracy"), score(0.99), "… completely", "**does not agree**"),
        ((*MIXTURES, "most_called_share"), score(0.9), "There, the network", "undecided"),
        ((*PATCH, "separation", "change"), score(0.3, 0.5), "The islands", "undecided"),
        ((*PATCH, "separation", "change"), score(-0.3), "The islands", "**does not agree**"),
        ((*PATCH, "images"), [{"seconds": 90, "accepted": 1}], "… in sec", "**does not agree**"),
        (("differences", 0, "accuracy"), score(-0.1), "A network (raw) is", "in part"),
        (("class_maps", 1, "low"), -0.1, "The balance", "**agrees**"),
        (("class_maps", 3, "centre_against_outline"), 0.0, "The balance", "**does not agree**"),
        (("differences", 4, "accuracy"), score(-0.1), "Two channels", "**does not agree**"),
        (("groups", "mixtures", "diameter_nm", "Pt41", "low"), 1.6, "The diameters", "in part"),
    ],
)
def test_verdicts_follow_from_the_figures(given, path, value, claim, verdict):
    of = given(*path, value=value)
    if path == ("class_maps", 3, "centre_against_outline"):
        of.result["class_maps"][3].update(low=-0.05, high=0.05)
    found = [v for text, v in verdicts(of).items() if text.startswith(claim)]
    assert found == [verdict]


def test_a_class_that_is_never_called_is_not_tested(given, result):
    rows = [row for row in result["class_maps"] if row["class"] != "Pt19"]
    found = verdicts(given("class_maps", value=rows))
    assert [v for text, v in found.items() if "balance" in text or "LCN at" in text] == [
        "not tested", "not tested"
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("path", "words"),
    [
        ((*MIXTURES, "ratio_r2", "low"), "methods.dual-patch.groups.mixtures.ratio_r2.low"),
        (("differences",), "differences"),
        (("class_maps",), "class_maps"),
        ((*PATCH, "separation", "change"), "separation.change"),
    ],
)
def test_a_missing_figure_ends_the_script(given, path, words):
    of = given(*path, value=None)
    with pytest.raises(SystemExit, match=words):
        verdicts(of)


def test_atoms_are_read_from_their_pages():
    from paper_atom_claims import ATOM_CLAIMS

    findings = [claim.test(None) for claim in ATOM_CLAIMS]
    assert [f.verdict for f in findings][-1] == "not tested"
    assert all(f.figure.count("(") >= 2 for f in findings[:-1] if "precision" not in f.figure)


def test_the_page_is_written_between_its_markers(given, monkeypatch, tmp_path):
    import make_papers

    given(value=None)
    page = tmp_path / "papers.md"
    page.write_text(make_papers.PAGE.read_text(encoding="utf-8"), encoding="utf-8")
    monkeypatch.setattr(make_papers, "PAGE", page)
    monkeypatch.setattr(sys, "argv", ["make_papers.py", "--results", str(tmp_path)])
    for _ in range(2):
        make_papers.main()
    text = page.read_text(encoding="utf-8")
    assert text.startswith("# Reproduce the papers") and text.count(" [1] | ") == 20
    assert text.count("clusters: begin") == 1 and "[doi:10.1021/jacs.1c12466]" in text
    assert text.count("| better |") == 6
    assert "5 of 5 claims agree, 0 do not. A network" in text
    monkeypatch.setattr(make_papers, "MIN_EPOCHS", 41)
    with pytest.raises(SystemExit, match="--quick"):
        make_papers.main()
    monkeypatch.setattr(make_papers, "MIN_EPOCHS", 20)
    page.write_text("# Other\n")
    with pytest.raises(SystemExit, match="section 'clusters'"):
        make_papers.main()
