"""The script that writes the page on the learning curve: its figures are those of the result."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

DOCS = Path(__file__).resolve().parents[1] / "docs"


def score(mean):
    return {"mean": mean, "sd": 0.01, "low": mean - 0.02, "high": mean + 0.02}


def point(n, accuracy, reason=None):
    names = ("ratio_r2", "ratio_mean_absolute_error", "calibration_error")
    scores = {"accuracy": score(accuracy), **{name: score(0.5) for name in names}}
    groups = {} if reason else {"size-selected": scores, "mixtures": scores}
    return {"images_per_class": n, "repeats": 2, "not_possible": reason, "groups": groups}


RESULT = {
    "version": "0.2.0", "classes": ["Pt19", "Pt70"], "images_per_class": [1, 4], "seeds": [0, 1],
    "test_images": [8, 8], "sentences": ["With 4 images per class, 0.93 ± 0.01."], "left_out": [],
    "groups": {"size-selected": {"images": 24, "clusters": 500},
               "mixtures": {"images": 8, "samples": 2}},
    "methods": {
        "dual-patch": {"title": "Dual", "points": [point(1, 0, "too few"), point(4, 0.93)]},
        "dual-shipped": {"title": "Shipped", "points": [point(0, 0.97)]},
    },
    "seconds": 3000.0,
}  # fmt: skip


@pytest.fixture
def script(monkeypatch):
    monkeypatch.syspath_prepend(str(DOCS / "scripts"))
    import make_learning_curve

    return make_learning_curve


def test_tables_have_a_column_for_each_number_of_images(script):
    lines = script.section(RESULT)
    assert lines[0] == "- With 4 images per class, 0.93 ± 0.01."
    first = lines.index("## Accuracy on size-selected images") + 2
    assert lines[first : first + 4] == [
        "| method | not trained | 1 | 4 |",
        "|---|---|---|---|",
        "| Dual |  | not possible | 0.93 (0.91 to 0.95) |",
        "| Shipped | 0.97 (0.95 to 0.99) |  |  |",
    ]
    assert any("50 min of computation" in line and "500 detected" in line for line in lines)


def test_the_page_and_its_picture_are_written(script, tmp_path, monkeypatch):
    page = tmp_path / "page.md"
    page.write_text(script.PAGE.read_text())
    monkeypatch.setattr(script, "PAGE", page)
    monkeypatch.setattr(script, "PICTURE", tmp_path / "learning-curve.png")
    (tmp_path / "figures").mkdir()
    (tmp_path / "figures" / "learning-curve.png").write_bytes(b"png")
    (tmp_path / "learning_curve.json").write_text(json.dumps(RESULT))
    for _ in range(2):
        script.write_page(tmp_path)
    assert page.read_text().count("0.93 (0.91 to 0.95)") == 1
    assert (tmp_path / "learning-curve.png").read_bytes() == b"png"
