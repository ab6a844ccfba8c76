"""The report: self-contained, complete, and safe with any name."""

import base64
import io
import re
import xml.etree.ElementTree as ElementTree
from dataclasses import replace
from html.parser import HTMLParser

import numpy as np
import pandas as pd
import pytest
from films import film
from matplotlib.collections import PathCollection
from matplotlib.colors import to_rgba
from PIL import Image

from napari_atomicity.core.errors import ReadError
from napari_atomicity.core.micrograph import Micrograph
from napari_atomicity.core.model_card import ModelCard
from napari_atomicity.core.palette import colours, symbols, to_8_bit
from napari_atomicity.core.tables.cluster_table import concatenate
from napari_atomicity.io.provenance import Outcome, environment, now, run_record
from napari_atomicity.io.reference_ratios import parse_reference
from napari_atomicity.reporting import movie_figures
from napari_atomicity.reporting.charts import as_image, draw_chart, parity_chart
from napari_atomicity.reporting.examples import select_examples
from napari_atomicity.reporting.figures import (
    _thin_path,
    glyph,
    interval_bar,
    overview,
    patch_strip,
    pixels_of,
)
from napari_atomicity.reporting.image_section import image_section
from napari_atomicity.reporting.image_warnings import image_warnings
from napari_atomicity.reporting.report import ReportData, write_report
from napari_atomicity.statistics.ratios.ratios import class_ratios
from napari_atomicity.statistics.ratios.reference import compare
from napari_atomicity.statistics.stratified_accuracy import on_corrected
from napari_atomicity.tracking import evaluate_tracks, track_clusters
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


def written(tmp_path, analyses, failures=(), reference=None, more=None, **record_options):
    outcomes, sections, found = [], [], []
    for analysis in analyses:
        outcome = Outcome(
            analysis.micrograph.name,
            "/somewhere",
            "done",
            clusters=len(analysis.table),
            warnings=image_warnings(analysis.table),
        )
        outcomes.append(outcome)
        sections.append(image_section(analysis, outcome))
        found = select_examples(found, analysis, CLASSES)
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
        ReportData(
            table,
            class_ratios(table, images=[o.image for o in outcomes]),
            record,
            None if reference is None else compare(table, reference),
            examples=found,
            **(more or {}),
        ),
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


def test_a_mark_that_could_not_be_measured_has_no_diameter(tmp_path):
    analysis = synthetic_analysis(1)
    table = analysis.table.assign(diameter_nm=np.nan)
    html, text = written(tmp_path, [replace(analysis, table=table)])
    assert "nan nm" not in html and "not measured" in text


def test_no_image_at_all_is_fine(tmp_path):
    html, text = written(tmp_path, [], [Outcome("x", "x", "not reached")], interrupted=True)
    assert "The run was interrupted" in text and "not reached" in text
    assert not re.search(r"\bnan\b", html)


BAD = "<script>alert(\"1\")</script> & 'x' </title></pre> $\\frac{ %s {{ 7*7 }}"


def test_names_can_not_break_out(tmp_path):
    analysis = synthetic_analysis(3, name=f"{BAD}.tif")
    table = analysis.table.copy()
    table.loc[0, ["label", "label_corrected"]] = f"<b>{BAD}"
    bad = replace(analysis, table=table)
    log = pd.DataFrame(
        {"annotator": [BAD], "image": [BAD], "cluster_id": [1], "what": ["label"], "label": [BAD]}
    )
    agreement = pd.DataFrame({BAD: [BAD], "n": [1]})
    more = {"corrections": log, "agreement": agreement, "title": BAD}
    failure = Outcome(BAD, BAD, "failed", BAD)
    html, text = written(tmp_path, [bad, synthetic_analysis(9)], [failure], more=more)
    assert "<script" not in html and "<b>&lt;" not in html and "<b><script" not in html
    # Everywhere as text: heading, section, list of failures, labels, agreement and record.
    assert text.count(BAD) >= 12
    assert html.count("<title>") - html.count("<g><title>") == 1
    assert html.count("<pre>") == html.count("</pre>") == 1


def test_a_name_in_an_attribute_stays_in_it(tmp_path):
    name = '" onload="alert(1)" x="'
    html, _ = written(tmp_path, [synthetic_analysis(3, name=name)])
    handlers = []

    class Attributes(HTMLParser):
        def handle_starttag(self, tag, attrs):
            handlers.extend(k for k, _ in attrs if k.startswith("on"))

    Attributes().feed(html)
    assert not handlers and "&#34; onload=" in html


def test_the_page_runs_no_script_and_loads_nothing(tmp_path):
    html, _ = written(tmp_path, [synthetic_analysis(3)])
    policy = re.search('http-equiv="Content-Security-Policy" content="([^"]+)"', html)[1]
    assert policy == "default-src 'none'; img-src data:; style-src 'unsafe-inline'"
    assert "url(" not in html and "@import" not in html


def test_charts_hold_any_name(tmp_path):
    """Names that look like formulas or hold what XML does not are text in SVG too."""
    strange = "$x^{$ <a>&\x07"
    analysis = synthetic_analysis(30)
    table = analysis.table.copy()
    table.loc[table["label"] == "Pt70", ["label", "label_corrected"]] = strange
    html, _ = written(tmp_path, [replace(analysis, table=table), synthetic_analysis(5, name="b")])
    charts = [
        base64.b64decode(x) for x in re.findall('src="data:image/svg\\+xml;base64,([^"]+)"', html)
    ]
    assert len(charts) >= 4
    for chart in charts:
        ElementTree.fromstring(chart)
    assert any("$x^{$ &lt;a>&amp;" in chart.decode().replace("&gt;", ">") for chart in charts)


def gone(analysis):
    """The same, its file gone since."""

    class Gone(Micrograph):
        def __init__(self):
            object.__setattr__(self, "pixel_size_nm", 0.1)
            object.__setattr__(self, "name", analysis.micrograph.name)
            object.__setattr__(self, "metadata", {})

        shape_px, n_frames = (120, 160), 1

        @property
        def data(self):
            raise ReadError("there is no such file", "gone.tif")

    return replace(analysis, micrograph=Gone())


def test_without_pixels_the_clusters_lie_on_black(tmp_path):
    analyses = [synthetic_analysis(name="there.tif"), gone(synthetic_analysis(name="gone.tif"))]
    html, text = written(tmp_path, analyses)
    assert html.count("data:image/jpeg") - html.count('<img src="data:image/jpeg') == 1
    assert html.count('class="overview"') == 2 and html.count("<g><title>") == 24
    assert "Incomplete picture: gone.tif (there is no such file)" in text
    assert "shown on black: there is no such file." in text


def test_small_pictures_hold_every_outline_and_symbol():
    analysis = synthetic_analysis(40)
    table = analysis.table.copy()
    table.loc[:4, ["label", "label_corrected"]] = "Pt19"
    analysis = replace(analysis, table=table)
    pixels = pixels_of(analysis)
    svg = overview(analysis, CLASSES, 500, pixels, plain=True)
    assert svg.count("<use ") == 40 and "<title>" not in svg
    assert sum(d.count("M") for d in re.findall('class="outline[^>]* d="([^"]+)"', svg)) == 40
    corrected = re.findall('class="outline corrected"[^>]* d="([^"]+)"', svg)
    assert [d.count("M") for d in corrected] == [5]
    # Each symbol is defined once, under a name that no other picture has.
    names = set(re.findall('path id="([^"]+)"', svg))
    assert {ref[1:] for ref in re.findall('use href="([^"]+)"', svg)} == names
    other = overview(synthetic_analysis(40, name="b"), CLASSES, 500, plain=True)
    assert not names & set(re.findall('path id="([^"]+)"', other))
    with_words = overview(analysis, CLASSES, 500, pixels, plain=False)
    assert len(svg) - len(with_words) < -20 * 200


def test_thin_outlines_stay_where_they_are():
    angle = np.linspace(0, 2 * np.pi, 100)
    ring = np.stack([50 + 20 * np.sin(angle), 80 + 20 * np.cos(angle)], axis=1)
    start, moves = re.fullmatch("M(.*)l(.*)z", _thin_path(ring)).groups()
    steps = np.array([int(x) for x in moves.split()]).reshape(-1, 2)
    points = np.array([int(x) for x in start.split()]) + np.vstack([[0, 0], steps.cumsum(axis=0)])
    assert 8 < len(points) <= 16
    assert np.abs(np.hypot(*(points - [80, 50]).T) - 20).max() < 1
    assert _thin_path(np.empty((0, 2))) == ""


def test_what_people_say_stands_beside_what_the_machine_says(tmp_path):
    analysis = synthetic_analysis(40)
    table = analysis.table.copy()
    table["label_predicted"] = table["label"] = np.array(["Pt19"] * 20 + ["Pt30"] * 20, object)
    table.loc[:9, ["label", "label_corrected"]] = "Pt19"
    table.loc[10:13, ["label", "label_corrected"]] = "Pt30"
    log = pd.DataFrame(
        {
            "annotator": ["a", "b", "consensus", "a", "c", "c"],
            "image": "field.tif",
            "cluster_id": [1, 2, 3, 99, 4, 4],
            "label": ["Pt19", "Pt19", "Pt19", "", "Pt30", ""],
            "what": ["label", "label", "label", "remove", "label", "label"],
        }
    )
    html, text = written(tmp_path, [replace(analysis, table=table)], more={"corrections": log})
    found = on_corrected(table, CLASSES)
    low, high = found.interval()
    assert (found.clusters, found.right) == (14, 10)
    assert "71.4 % of 14 clusters with labels of both" in text
    assert f"(95 % interval {100 * low:.1f} – {100 * high:.1f} %)" in text
    assert "not be a random sample" in text
    assert "Rows: labels by people. Columns: predicted labels." in text
    rows = re.findall('<tr><th scope="row"><svg.*?</svg> (Pt[0-9]+)</th>(<td.*?)</tr>', html)
    cells = {name: re.findall("<b>([0-9]+)</b><small>([0-9]+) %", row) for name, row in rows}
    assert cells == {"Pt19": [("10", "100"), ("0", "0")], "Pt30": [("4", "100"), ("0", "0")]}
    assert "14 clusters have a label given by a person (6 entries by 2 people in the log)" in text
    assert "1 cluster was removed manually." in text
    _, text = written(tmp_path, [analysis])
    assert "Labels by people" not in text and "given by" not in text


@pytest.mark.parametrize("place", ["card", "other_cards"])
@pytest.mark.parametrize(("corrections", "image"), [(2, "field.tif"), (0, "field.tif"), (2, "b")])
def test_agreement_with_labels_that_were_learnt_from_is_named_as_such(
    tmp_path, corrections, image, place
):
    analysis = synthetic_analysis(40)
    table = analysis.table.copy()
    table.loc[:9, ["label", "label_corrected"]] = "Pt19"
    learnt = {"images": [{"image": image, "sha256": None}], "corrections": corrections}
    card = ModelCard("m", CLASSES, data={"adaptation": learnt}, sha256="ab" * 32)
    more = {place: card if place == "card" else [card]}
    _, text = written(tmp_path, [replace(analysis, table=table)], more=more)
    has_learnt = corrections > 0 and image == "field.tif"
    assert ("has learnt from labels of people in these images" in text) == has_learnt
    assert ("the accuracy on all clusters may be higher" in text) == (not has_learnt)


def test_typical_and_doubtful_clusters_of_all_images(tmp_path):
    analyses = [synthetic_analysis(40, name=f"{i}.tif", seed=i) for i in range(3)]
    html, text = written(tmp_path, analyses)
    examples = html[html.index('id="examples"') : html.index('class="image"')]
    table = concatenate([a.table for a in analyses])
    for label in CLASSES:
        of_label = table[table["label"] == label]
        for row in (of_label.nlargest(1, "confidence"), of_label.nsmallest(1, "confidence")):
            name, number = row["image"].item(), row["cluster_id"].item()
            assert f"{name}, cluster {number}, confidence" in examples
        assert f"{label}, typical" in text and f"{label}, doubtful" in text
    html, _ = written(tmp_path, analyses[:1])
    assert 'id="examples"' not in html, "one image has its own"


def test_many_points_make_no_large_picture():
    rng = np.random.default_rng(0)
    table = pd.concat([synthetic_analysis(0, name="a").table] * 1)
    n = 20_000
    table = table.reindex(range(n)).assign(
        image="a",
        cluster_id=np.arange(n),
        label=rng.choice(CLASSES, n),
        confidence=rng.random(n),
        umap_1=rng.normal(size=n),
        umap_2=rng.normal(size=n),
    )
    image = as_image(draw_chart("embedding", table, CLASSES), "chart", "words")
    assert len(image) < 1_500_000


# ---- on paper
def test_on_paper_images_begin_pages_and_nothing_is_cut(tmp_path):
    html, _ = written(tmp_path, [synthetic_analysis(9)])
    style = re.search("<style>(.*?)</style>", html, re.S)[1]
    assert "size: A4" in re.search("@page {(.*?)}", style)[1]
    paper = style[style.index("@media print {") :]
    rules = {
        one.strip(): body
        for names, body in re.findall("([^{}]+){([^{}]*)}", paper.partition("{")[2])
        for one in re.sub(r"/\*.*?\*/", "", names, flags=re.S).split(",")
    }
    assert "break-before: page" in rules["section.image"]
    assert "break-before: auto" in rules["section.image.small"]
    assert "break-inside: avoid" in rules["section.image.small"]
    for whole in ("figure", "img", "svg", "tr", ".keep"):
        assert "break-inside: avoid" in rules[whole]
    for heading in ("h2", "h3", "h4"):
        assert "break-after: avoid" in rules[heading]
    assert "table-header-group" in rules["thead"] and "none" in rules["details"]
    # Colours mean something, and print as they are.
    assert "print-color-adjust: exact" in style


def test_a_persons_labels_are_told_apart(tmp_path):
    analysis = synthetic_analysis()
    table = analysis.table.copy()
    table.loc[[1, 2], ["label", "label_corrected"]] = "Pt70"
    html, text = written(tmp_path, [replace(analysis, table=table)])
    assert html.count('class="outline corrected"') == 2
    assert "2 with a person's label" in text


def test_a_section_counts_as_its_ratios_do(tmp_path):
    analysis = synthetic_analysis()
    n = len(analysis.table)
    table = analysis.table.assign(excluded=[True] * 3 + [False] * (n - 3))
    _, text = written(tmp_path, [replace(analysis, table=table)])
    assert f"{n - 3} clusters; 3 more excluded" in " ".join(text.split())


def test_the_overview_shows_the_frame_with_the_clusters():
    analysis = synthetic_analysis(3, frames=2)
    table = analysis.table.assign(frame=[1, 1, 0])
    analysis = replace(analysis, table=table)
    svg = overview(analysis, CLASSES, pixels=pixels_of(analysis))
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


def test_a_tooltip_says_who_has_given_the_label_and_which_clusters_do_not_count():
    analysis = synthetic_analysis()
    table = analysis.table.assign(excluded=[True] + [False] * (len(analysis.table) - 1))
    table.loc[0, ["label", "label_predicted", "label_corrected", "confidence"]] = [
        "Pt55", "Pt70", "Pt55", 0.99,
    ]  # fmt: skip
    table.loc[1, ["label", "label_predicted", "label_corrected", "confidence"]] = [
        "Pt30", "", "Pt30", 0.0,
    ]  # fmt: skip
    svg = str(overview(replace(analysis, table=table), CLASSES))
    first, second = re.findall("<g><title>(.*?)</title>", svg)[:2]
    assert first.startswith("Pt55 by a person, confidence of the model in Pt70 99 %, excluded, ")
    assert second.startswith("Pt30 by a person, ") and "confidence" not in second


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
    found = " ".join(image_warnings(table))
    for words in (
        "mean confidence is 0.40",
        "10 of 30 clusters belong to no class",
        "30 of 30 clusters touch",
    ):
        assert words in found
    table = synthetic_analysis(30).table.assign(confidence=0.95)
    assert image_warnings(table) == ()


def test_what_people_labelled_is_no_low_confidence():
    table = synthetic_analysis(30).table.assign(confidence=0.95)
    table.loc[:11, "confidence"] = 0.0  # cut by the border, or outlined and labelled by hand
    assert "12 of 30 clusters have a confidence below 0.7" in " ".join(image_warnings(table))
    table.loc[:3, "touches_border"] = True
    table.loc[4:11, "label_corrected"] = table.loc[4:11, "label"]
    assert not any("confidence" in text for text in image_warnings(table))
    # The few that a person has left over are the doubtful ones.
    table.loc[:26, "label_corrected"] = table.loc[:26, "label"]
    table.loc[27:, "confidence"] = 0.3
    assert not any("mean confidence" in text for text in image_warnings(table))


def test_warnings_name_effects_of_the_recording():
    table = synthetic_analysis(30).table.assign(confidence=0.95)
    recorded = table.assign(clipped=np.arange(30) % 2 * 0.1, response=np.linspace(0.8, 1.1, 30))
    found = image_warnings(recorded)
    assert len(found) == 2
    assert "15 of 30 clusters contain clipped pixels" in found[0]
    assert "0.80 to 1.10" in found[1]
    effects = {"ambiguous_shading": True, "nonlinear": True, "at_lower_limit": 0.25}
    found = " ".join(image_warnings(table, {"recording": effects}))
    for words in ("noise does not tell", "gamma", "25 % of the pixels are at the lower limit"):
        assert words in found
    assert image_warnings(table, {"detection": {}}) == ()


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
    assert (
        f"{found.r2:.3f} R²" in text
        and "of 5 reference fractions are within their intervals" in text
    )
    assert f"Pt19 {100 * found.bias_per_class['Pt19']:+.1f}" in text
    assert html.count('class="number missed"') == (~found.covered).sum() > 0
    assert html.count('class="parity"') == 1 and html.count('class="reference"') == 5
    html, text = written(tmp_path, analyses)
    assert "Comparison with the reference" not in text


def test_an_undefined_r2_says_why(tmp_path):
    reference = parse_reference("Pt19:Pt30:Pt41:Pt55:Pt70 = 1:1:1:1:1")
    _, text = written(tmp_path, [synthetic_analysis(30)], reference=reference)
    assert "– R²: all reference fractions are equal" in text
    _, text = written(tmp_path, [synthetic_analysis(0)], reference=reference)
    assert "– R²: nothing was counted" in text and "No cluster was counted in all" in text


def test_conditions_that_differ_are_said_of_the_image_and_of_all(tmp_path):
    analysis = synthetic_analysis(30)
    differing = replace(analysis, table=analysis.table.assign(conditions_differ=True))
    words = (
        "Conditions differ from the training of the model: check with Adapt before trusting these "
        "ratios."
    )
    html, _ = written(tmp_path, [differing, synthetic_analysis(30, name="other.tif")])
    assert html.count(f'<p class="warning">{words}</p>') == 2
    assert words in image_warnings(differing.table) and words not in image_warnings(analysis.table)


def test_a_parity_plot_holds_every_class_and_interval():
    found = compare(synthetic_analysis(40).table, parse_reference("Pt19:Pt41 = 1:2"))
    image = as_image(parity_chart(found.pairs, CLASSES), "parity", "words")
    svg = base64.b64decode(re.search('base64,([^"]+)', image)[1]).decode()
    assert all(f">{name}<" in svg for name in (*CLASSES, "Reference / %"))
    # In the plot and in its legend.
    assert svg.count('id="LineCollection_') == 2 * len(CLASSES)
    assert parity_chart(found.pairs[:0], CLASSES) is None and as_image(None, "parity", "") == ""


def test_a_mark_of_the_reference_is_to_scale():
    assert 'd="M50.0 0V18"' in interval_bar(0.5, 0.2, 0.8, "#123456", width=200, reference=0.25)
    assert "reference" not in interval_bar(0.5, 0.2, 0.8, "#123456")


@pytest.fixture(scope="module")
def movie():
    """A stack whose clusters are linked over the frames, with all that is known of it."""
    analysis, _, _ = film(merges=1)
    analysis = track_clusters(analysis)
    return analysis, evaluate_tracks(analysis)


def test_a_stack_is_told_over_time(movie, tmp_path):
    analysis, known = movie
    html, said = written(tmp_path, [analysis])
    assert "Over time" in said and f"{len(known.tracks)} tracks in 24 frames (12 s)" in said
    counts = known.events["event"].value_counts()
    for name, plural in (("merge", "merges"), ("loss", "losses"), ("jump", "jumps")):
        n = counts.get(name, 0)
        assert (f"<b>{n}</b><span>{name if n == 1 else plural}</span>" in html) == (n > 0)
    for row in known.dwell_rates.to_dict("records"):
        assert re.search(rf"</svg> {row['label']}</th><td class=\"number\">{row['n']}</td>", html)
    assert html.count('<table class="plain events">') == 1
    assert "Smoothed class of each track over time" in html
    assert "Drift of the stage over time" in html


def test_a_labelled_track_is_one_answer_and_not_one_in_each_frame(movie, tmp_path):
    analysis, known = movie
    longest = max(known.tracks, key=lambda track: track.detected.sum())
    table = analysis.table
    its = table["track_id"] == longest.track_id
    assert its.sum() > 5
    table = table.assign(label_corrected=np.where(its, CLASSES[-1], ""))
    _, said = written(tmp_path, [replace(analysis, table=table)])
    assert "1 cluster with a person's label" in said and "of 1 cluster with labels of both" in said
    assert "1 cluster has a label given by" in said


def test_a_small_section_keeps_the_numbers_of_a_stack(movie):
    analysis, known = movie
    outcome = Outcome("movie", "/somewhere", "done", clusters=len(analysis.table))
    html = image_section(analysis, outcome, small=True, movie=known).html
    assert "Dwell times" in html and "tracks in 24 frames" in html
    assert "Smoothed class of each track" not in html and "events.csv" not in html


def test_single_images_have_nothing_over_time(tmp_path):
    html, _ = written(tmp_path, [synthetic_analysis()])
    assert "Over time" not in html


def test_of_many_tracks_those_that_change_are_drawn(movie, monkeypatch):
    _, known = movie
    monkeypatch.setattr(movie_figures, "MAX_TRACKS", 5)
    monkeypatch.setattr(movie_figures, "MAX_EVENTS", 2)
    shown = movie_figures.movie_context(known, ["Pt19", "Pt30", "Pt41"])
    assert (shown["n_shown"], shown["n_tracks"]) == (5, len(known.tracks))
    assert len(shown["events"]) == 2 < shown["n_events"]

    def changes(track):
        return (track.label[1:] != track.label[:-1]).sum()

    drawn = movie_figures.select_tracks(known.tracks)
    rest = [t for t in known.tracks if t not in drawn]
    assert min(map(changes, drawn)) >= max(map(changes, rest))
    assert [t.track_id for t in drawn] == sorted(t.track_id for t in drawn)


def test_colours_of_the_tracks_are_their_classes(movie):
    _, known = movie
    classes = ["Pt19", "Pt30", "Pt41"]
    axes = movie_figures.tracks_chart(known.tracks, known, classes).axes[0]
    cells = axes.images[0].get_array()
    track = known.tracks[0]
    seen = track.frames[track.detected][0]
    label = str(track.label[seen - track.first_frame])
    assert tuple(cells[0, seen]) == pytest.approx(to_rgba(colours(classes)[label]))
    before = cells[0, : track.first_frame]
    assert (before[..., 3] == 0).all()
    stretches = sum(1 + int((t.label[1:] != t.label[:-1]).sum()) for t in known.tracks)
    assert sum(isinstance(c, PathCollection) for c in axes.collections) == stretches
    assert movie_figures.tracks_chart([], known, classes) is None
