"""The report: self-contained, complete, and safe with any name."""

import base64
import io
import re
from dataclasses import replace
from html.parser import HTMLParser

import numpy as np
import pytest
from PIL import Image

from napari_atomicity.io.figures import (
    glyph,
    interval_bar,
    overview,
    parity,
    patch_strip,
    to_8_bit,
)
from napari_atomicity.io.provenance import Outcome, environment, now, run_record
from napari_atomicity.io.report import image_section, warnings, write_report
from napari_atomicity.io.tables import concatenate
from napari_atomicity.palette import colours, symbols
from napari_atomicity.statistics.ratios import class_ratios
from napari_atomicity.statistics.reference import compare, parse_reference
from support import CLASSES, synthetic_analysis


class Checker(HTMLParser):
    """Every element closed, every address inside the file."""

    void = ("meta", "img", "br", "link", "input", "hr")

    def __init__(self):
        super().__init__()
        self.open, self.outside, self.text = [], [], []

    def handle_starttag(self, tag, attrs):
        if tag not in self.void:
            self.open.append(tag)
        self.outside += [v for k, v in attrs if k in ("src", "href") and v[:5] != "data:"]

    def handle_startendtag(self, tag, attrs):
        self.outside += [v for k, v in attrs if k in ("src", "href") and v[:5] != "data:"]

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.text.append(data)


def written(tmp_path, analyses, failures=(), reference=None, **record_options):
    outcomes, sections = [], []
    for analysis in analyses:
        outcome = Outcome(
            analysis.micrograph.name,
            "/somewhere",
            "done",
            clusters=len(analysis.table),
            warnings=warnings(analysis.table),
        )
        outcomes.append(outcome)
        sections.append(image_section(analysis, outcome))
    table = concatenate([a.table for a in analyses])
    record = run_record(
        [*outcomes, *failures],
        started=now(),
        finished=now(),
        parameters={"pixel_size_nm": None, "detection": {"threshold": 6.0}},
        model={"model_id": "m-1", "sha256": "ab", "classes": list(CLASSES)},
        device="cpu",
        **record_options,
    )
    path = write_report(
        tmp_path / "report.html",
        sections,
        table,
        class_ratios(table, images=[o.image for o in outcomes]),
        record,
        None if reference is None else compare(table, reference),
    )
    html = path.read_text(encoding="utf-8")
    checker = Checker()
    checker.feed(html)
    assert not checker.open, "an element is not closed"
    assert all(address.startswith("#") for address in checker.outside)
    return html, " ".join(" ".join(checker.text).split())


def test_it_holds_every_image_and_needs_nothing_else(tmp_path):
    analyses = [synthetic_analysis(name=f"f{i}.tif", seed=i) for i in range(4)]
    failure = Outcome("bad.tif", "bad.tif", "failed", "bad.tif: the file is empty.")
    html, text = written(tmp_path, analyses, [failure])
    for name in ("f0.tif", "f3.tif", "bad.tif the file is empty.", *CLASSES, "ab"):
        assert name in text
    assert html.count('class="overview"') == 4
    assert html.count("class map LCN") >= 4
    assert len(html) < 2_000_000


@pytest.mark.parametrize("n", [0, 1])
def test_few_or_no_clusters_are_fine(tmp_path, n):
    _, text = written(tmp_path, [synthetic_analysis(n)])
    assert ("No cluster was found" if n == 0 else "Only 1 cluster counts in the ratios") in text


def test_no_image_at_all_is_fine(tmp_path):
    html, text = written(tmp_path, [], [Outcome("x", "x", "not reached")], interrupted=True)
    assert "The run was interrupted" in text and "not reached" in text and "nan" not in html


def test_names_can_not_break_out(tmp_path):
    name = "<script>alert(\"1\")</script> & 'x'.tif"
    analysis = synthetic_analysis(3, name=name)
    table = analysis.table.copy()
    table.loc[0, ["label", "label_corrected"]] = "<b>Pt</b>"
    html, text = written(tmp_path, [replace(analysis, table=table)])
    assert "<script" not in html and "<b>Pt</b>" not in html
    assert name in text and "<b>Pt</b>" in text


def test_a_persons_labels_are_told_apart(tmp_path):
    analysis = synthetic_analysis()
    table = analysis.table.copy()
    table.loc[[1, 2], ["label", "label_corrected"]] = "Pt70"
    html, text = written(tmp_path, [replace(analysis, table=table)])
    assert html.count('class="outline corrected"') == 2
    assert "2 with a person's label" in text


def test_the_overview_shows_the_frame_with_the_clusters():
    analysis = synthetic_analysis(3, frames=2)
    table = analysis.table.assign(frame=[1, 1, 0])
    svg = overview(replace(analysis, table=table), CLASSES)
    assert svg.count("<title>") == 2
    jpeg = base64.b64decode(re.search('base64,([^"]+)', svg)[1])
    assert Image.open(io.BytesIO(jpeg)).size == (160, 120)


def test_marks_lie_beside_their_clusters_and_never_nan():
    svg = overview(synthetic_analysis(), CLASSES)
    assert "nan" not in svg
    assert svg.count("translate(") == 12


def test_every_symbol_can_be_drawn():
    for label in symbols([f"c{i}" for i in range(9)]):
        assert "path" in glyph(label, [f"c{i}" for i in range(9)])


def test_aggregates_and_counts_are_shown(tmp_path):
    analysis = synthetic_analysis()
    table = analysis.table.assign(
        n_atoms=43.0, n_atoms_low=38.0, n_atoms_high=49.0, label_diameter="Pt19"
    )
    table.loc[0, ["label", "label_predicted", "confidence"]] = ["aggregate", "aggregate", 0.0]
    analysis = replace(analysis, table=table)
    svg = str(overview(analysis, CLASSES))
    first, second = (title for title in re.findall("<title>(.*?)</title>", svg)[:2])
    assert first.startswith("aggregate, 43 atoms (38–49), ")
    assert "confidence" in second
    assert svg.count(colours(CLASSES)["aggregate"]) >= 3
    html, _ = written(tmp_path, [analysis])
    assert len(re.findall("<h4>.* aggregate</h4>", html)) == 1
    assert "aggregate <b>1</b>" in html


def test_bars_are_to_scale():
    bar = interval_bar(0.5, 0.25, 1.0, "#123456", width=200)
    assert 'width="100.0" height="18" rx="2" fill="#123456"' in bar
    assert "M50.0 9H200.0" in bar
    assert interval_bar(float("nan"), 0, 0, "#123456") == ""


def test_grey_levels_survive_what_is_not_finite():
    pixels = np.array([[np.nan, 0.0], [1.0, np.inf]])
    assert to_8_bit(pixels, 0, 100).tolist() == [[0, 0], [255, 255]]
    assert to_8_bit(np.full((2, 2), np.nan)).max() == 0
    assert to_8_bit(np.ones((2, 2))).max() == 0


def test_a_strip_shows_patches_then_maps():
    uri, names = patch_strip(synthetic_analysis(), 0, zoom=2)
    assert names == ["raw", "LCN", "class map raw", "class map LCN"]
    strip = Image.open(io.BytesIO(base64.b64decode(uri.partition(",")[2])))
    assert strip.size == (4 * 32 + 3 * 4, 32)


def test_warnings_name_what_is_doubtful():
    table = synthetic_analysis(30).table
    table["confidence"] = 0.4
    table.loc[:9, "label"] = "unknown"
    table["touches_neighbour"] = True
    found = " ".join(warnings(table))
    for words in (
        "mean confidence is 0.40",
        "10 of 30 clusters are none",
        "30 of 30 clusters touch",
    ):
        assert words in found
    table = synthetic_analysis(30).table.assign(confidence=0.95)
    assert warnings(table) == ()


def test_the_environment_names_versions_and_nobody():
    known = environment()
    assert known["packages"]["numpy"] == np.__version__
    assert not any("/" in str(value) for value in known["packages"].values())


def test_the_reference_stands_beside_what_was_found(tmp_path):
    analyses = [synthetic_analysis(30, name=f"{i}.tif", seed=i) for i in range(2)]
    line = "Pt19:Pt30:Pt41:Pt55:Pt70 = 96:1:1:1:1"
    html, text = written(tmp_path, analyses, reference=parse_reference(line))
    table = concatenate([a.table for a in analyses])
    found = compare(table, parse_reference(line))
    assert f"{found.r2:.3f} R²" in text and "of 5 references lie in their intervals" in text
    assert f"Pt19 {100 * found.bias_per_class['Pt19']:+.1f}" in text
    assert html.count('class="number missed"') == (~found.covered).sum() > 0
    assert html.count('class="parity"') == 1 and html.count('class="reference"') == 5
    html, text = written(tmp_path, analyses)
    assert "Beside the reference" not in text


def test_an_undefined_r2_says_why(tmp_path):
    reference = parse_reference("Pt19:Pt30:Pt41:Pt55:Pt70 = 1:1:1:1:1")
    _, text = written(tmp_path, [synthetic_analysis(30)], reference=reference)
    assert "– R²: all reference fractions are equal" in text
    _, text = written(tmp_path, [synthetic_analysis(0)], reference=reference)
    assert "– R²: nothing was counted" in text and "Nothing was counted in all: no image" in text


def test_conditions_that_differ_are_said_of_the_image_and_of_all(tmp_path):
    analysis = synthetic_analysis(30)
    differing = replace(analysis, table=analysis.table.assign(conditions_differ=True))
    words = "Conditions differ from the training of the model: adapt before trusting these ratios."
    html, _ = written(tmp_path, [differing, synthetic_analysis(30, name="other.tif")])
    assert html.count(f'<p class="warning">{words}</p>') == 2
    assert words in warnings(differing.table) and words not in warnings(analysis.table)


def test_a_parity_plot_holds_every_class_and_interval():
    found = compare(synthetic_analysis(40).table, parse_reference("Pt19:Pt41 = 1:2"))
    uri = re.search('base64,([^"]+)', parity(found.pairs, CLASSES))[1]
    svg = base64.b64decode(uri).decode()
    assert all(f">{name}<" in svg for name in (*CLASSES, "Reference / %"))
    # In the plot and in its legend.
    assert svg.count('id="LineCollection_') == 2 * len(CLASSES)
    assert parity(found.pairs[:0], CLASSES) == ""


def test_a_mark_of_the_reference_is_to_scale():
    assert 'd="M50.0 0V18"' in interval_bar(0.5, 0.2, 0.8, "#123456", width=200, reference=0.25)
    assert "reference" not in interval_bar(0.5, 0.2, 0.8, "#123456")
