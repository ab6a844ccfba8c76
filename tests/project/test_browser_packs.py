"""Packs for a browser and what comes back from it: everything in one file, nothing believed."""

from __future__ import annotations

import base64
import hashlib
import json
import re
import time
from dataclasses import asdict, replace
from pathlib import Path

import imagecodecs
import numpy as np
import pandas as pd
import pytest
from answered import answers_to, to_lines, write_answers
from hypothesis import HealthCheck, given, settings
from test_annotation_packs import PX_NM, image

from napari_atomicity.core.errors import AtomicityError, ReadError, SettingError, TableError
from napari_atomicity.core.from_dict import line_of
from napari_atomicity.io.pack_options import PackOptions
from napari_atomicity.project.packs.browser_answers import read_answers
from napari_atomicity.project.packs.browser_packs import (
    BrowserPack,
    PackRequest,
    make_browser_packs,
    pages_of,
    read_manifest,
    write_browser_packs,
)
from napari_atomicity.project.packs.returned import find_returned, read_packs, read_returned
from napari_atomicity.statistics.annotators.agreement import mark_self_agreement
from tampering import tampered

BAD_NAME = "</script><img src=x onerror=alert(1)>"
PLAIN = PackOptions(examples=False, repeats=0)


def packs_of(tmp_path: Path, n: int = 2, **request) -> list[BrowserPack]:
    folder = tmp_path / "raw"
    folder.mkdir(exist_ok=True)
    images = [image(folder / f"{name}.tif", seed=i) for i, name in enumerate("abcdefghij"[:n])]
    return make_browser_packs(images, PackRequest(**{"options": PLAIN, **request}))


@pytest.fixture
def pack(tmp_path) -> BrowserPack:
    return packs_of(tmp_path)[0]


def clusters_of(names, n=3, label="Pt19") -> pd.DataFrame:
    rows = [
        (f"{name}.tif", i + 1, 5.0 + 8 * i, 6.0 + 8 * i, 0.5, label)
        for name in names
        for i in range(n)
    ]
    columns = ["image", "cluster_id", "y_px", "x_px", "diameter_nm", "label"]
    return pd.DataFrame(rows, columns=columns)


# ---- out
def test_the_page_holds_everything_and_loads_nothing(tmp_path, pack):
    page = pack.to_html()
    assert read_manifest(page) == pack.manifest
    assert not re.search(r"""(?:src|href)=["']?(?:https?:)?//""", page)
    policy = re.search(r'Content-Security-Policy" content="([^"]+)"', page)[1]
    assert policy.startswith("default-src 'none';") and "connect-src 'none'" in policy
    for kind in ("script", "style"):
        texts = re.findall(rf"<{kind}>(.*?)</{kind}>", page, re.S)
        digest = base64.b64encode(hashlib.sha256(texts[0].encode()).digest()).decode()
        assert len(texts) == 1 and f"{kind}-src 'sha256-{digest}'" in policy
    assert "connect-src 'self'" in pack.to_html(send=True)
    assert len(page) / 1e6 == pytest.approx(pack.size_mb, abs=0.02)


@pytest.mark.parametrize("bits", ["8", "16"])
def test_the_pixels_are_those_of_the_image_within_the_limits(tmp_path, bits):
    options = replace(PLAIN, bits=bits, black=1, white=99)
    (made,) = packs_of(tmp_path, 1, options=options)
    encoded = re.search(r'id="image-0">([^<]+)<', made.to_html())[1]
    grey = imagecodecs.png_decode(base64.b64decode(encoded))
    pixels = np.asarray(imagecodecs.imread(tmp_path / "raw" / "a.tif"), float)
    described = made.manifest.images[0]
    assert grey.shape == (described.height_px, described.width_px) == pixels.shape
    low, high = np.percentile(pixels, [1, 99])
    if bits == "8":
        assert grey.dtype == np.uint8
        expected = np.clip((pixels - low) / (high - low), 0, 1) * 255
        assert np.abs(grey - expected).max() <= 1
    else:
        assert grey.dtype == np.uint16
        assert np.corrcoef(grey.ravel(), pixels.ravel())[0, 1] > 0.999999
        share = (grey < described.low).mean(), (grey > described.high).mean()
        assert share == pytest.approx((0.01, 0.01), abs=0.002)


def test_text_of_others_is_never_markup(tmp_path):
    request = {"options": replace(PLAIN, title=BAD_NAME), "instructions": BAD_NAME}
    clusters = clusters_of("ab")
    (made,) = packs_of(tmp_path, classes=("Pt19", BAD_NAME), clusters=clusters, **request)
    page = made.to_html()
    assert page.count(BAD_NAME) == 0 and read_manifest(page).title == BAD_NAME
    assert page.count("</script>") == len(made.images) + 2


def test_images_are_split_into_files_of_the_size_that_is_allowed(tmp_path):
    folder = tmp_path / "raw"
    folder.mkdir()
    images = [image(folder / f"{i}.tif", (700, 700), seed=i) for i in range(6)]
    options = replace(PLAIN, max_mb=1.6)
    made = make_browser_packs(images, PackRequest(options))
    assert len(made) > 1 and {pack.manifest.parts for pack in made} == {len(made)}
    assert [pack.manifest.part for pack in made] == list(range(1, len(made) + 1))
    assert sum(len(pack.manifest.images) for pack in made) == 6
    pages = write_browser_packs(made, tmp_path / "p.html")
    assert pages == pages_of(made, tmp_path / "p.html") and pages[0].name == "p-1.html"
    assert max(page.stat().st_size for page in pages) <= 1.6e6
    with pytest.raises(AtomicityError, match=r"alone needs .* MB"):
        large = image(tmp_path / "large.tif", (1000, 1000))
        make_browser_packs([large], PackRequest(replace(PLAIN, max_mb=1)))


def test_a_tenth_is_asked_twice_and_examples_are_simulated(tmp_path):
    (made,) = packs_of(tmp_path, 10, options=PackOptions())
    items = made.manifest.items
    assert [item.repeat for item in items] == [False] * 10 + [True]
    assert [len(example.points) > 5 for example in made.manifest.examples] == [True, True]
    assert made.manifest.examples[0].pixel_size_nm == pytest.approx(PX_NM)
    assert packs_of(tmp_path, 10, options=PackOptions())[0].manifest.sha256 == made.manifest.sha256
    other = packs_of(tmp_path, 10, options=PackOptions(seed=1))[0]
    assert other.manifest.sha256 != made.manifest.sha256


def test_a_cluster_that_could_not_be_measured_is_asked_about(tmp_path):
    clusters = clusters_of("ab")
    clusters.loc[clusters.index[0], "diameter_nm"] = np.nan
    packs = packs_of(tmp_path, clusters=clusters, options=PackOptions(examples=False, repeats=0))
    (page,) = write_browser_packs(packs, tmp_path / "clusters.html")
    assert page.stat().st_size > 1000 and len(packs[0].manifest.items) == len(clusters)


def test_clusters_have_classes_and_examples_only_if_they_count_atoms(tmp_path):
    (made,) = packs_of(tmp_path, clusters=clusters_of("ab"), options=PackOptions(repeats=0))
    assert made.manifest.task == "clusters" and made.manifest.classes == ("Pt19",)
    assert len(made.manifest.items) == 6
    assert {c.label for e in made.manifest.examples for c in e.clusters} == {"Pt19"}
    (other,) = packs_of(
        tmp_path, clusters=clusters_of("ab"), classes=("big", "small"), options=PackOptions()
    )
    assert other.manifest.examples == () and other.manifest.classes == ("big", "small")
    with pytest.raises(TableError, match="no cluster"):
        packs_of(tmp_path, clusters=clusters_of("z"))


def test_settings_that_do_not_fit():
    with pytest.raises(SettingError, match="below"):
        PackOptions(black=50, white=40)


# ---- in
def test_what_was_marked_comes_back_bit_by_bit(tmp_path, pack):
    places = [(10.125, 20.0625), (4.3, 30.7, True)]
    path = write_answers(tmp_path / "x.json", pack, "Ada", {0: places, 1: []})
    found = read_answers(path, {pack.manifest.sha256})
    assert found.marks[["y_px", "x_px", "uncertain"]].to_numpy().tolist() == [
        [10.125, 20.0625, False], [4.3, 30.7, True]
    ]  # fmt: skip
    np.testing.assert_array_equal(found.marks["y_nm"], found.marks["y_px"] * PX_NM)
    assert found.looked[["image", "annotator", "blind"]].to_numpy().tolist() == [
        ["a.tif", "Ada", True], ["b.tif", "Ada", True]
    ]  # fmt: skip
    assert found.looked["area_nm2"].tolist() == [pytest.approx(40 * 60 * PX_NM**2)] * 2


def test_an_image_that_was_not_seen_completely_does_not_count(tmp_path, pack):
    marks = {0: [(10, 20)], 1: [(3, 3)]}
    path = write_answers(tmp_path / "x.json", pack, "Ada", marks, incomplete=(1,))
    found = read_answers(path)
    assert found.looked["image"].tolist() == ["a.tif"] and len(found.marks) == 1
    assert "Ada has not seen 1 image completely" in found.notes[0]


def test_a_place_that_is_marked_twice_counts_once(tmp_path, pack):
    """As an atom that was dragged onto another one."""
    path = write_answers(tmp_path / "x.json", pack, "Ada", {0: [(10, 20), (10, 20, True), (3, 3)]})
    found = read_answers(path)
    assert len(found.marks) == 2 and "1 place twice" in found.notes[0]


def changed(answers, *path, value):
    part = answers
    for step in path[:-1]:
        part = part[step]
    part[path[-1]] = value
    return answers


@pytest.mark.parametrize(
    ("path", "value", "said"),
    [
        (("pack",), "0" * 64, r"whose hash is in line 1"),
        (("manifest", "images", 0, "pixel_size_nm"), 9.0, r"the manifest is not that of the pack"),
        (("manifest", "images", 0, "name"), "other.tif", r"the manifest is not that of the pack"),
        (("items", 0, "marks", 1, "x_px"), float("nan"), r"line 4: items.0.marks.1.x_px"),
        (("items", 0, "marks", 1, "x_px"), "12", r"line 4: items.0.marks.1.x_px"),
        (("items", 0, "marks", 1, "x_px"), 1e999, r"line 4"),
        (("items", 0, "marks", 1, "y_px"), 40.0, r"line 4: y_px is 40, outside a.tif \(0 to 39"),
        (("items", 0, "marks", 0, "x_px"), -3, r"line 3: x_px is -3, outside"),
        (("items", 0, "marks", 0, "uncertain"), 1, r"line 3: .*uncertain"),
        (("items", 0, "item"), 7, r"line 2: the pack has no item 7"),
        (("items", 1, "item"), 0, r"item 0 is answered twice"),
        (("items", 0, "label"), 5, r"line 2: items.0.label"),
        (("name",), "", r"name"),
        (("session",), "../../x", r"session"),
        (("format",), 2, r"its format is 2"),
        (("kind",), "table", r"kind"),
    ],
)  # fmt: skip
def test_hostile_answers_are_refused_with_file_and_line(tmp_path, pack, path, value, said):
    answers = answers_to(pack, "Ada", {0: [(10, 20), (11, 21)], 1: [(5, 5)]})
    text = to_lines(changed(answers, *path, value=value))
    (tmp_path / "x.json").write_text(text)
    with pytest.raises((ReadError, TableError), match=said) as caught:
        read_answers(tmp_path / "x.json", {pack.manifest.sha256})
    assert caught.value.path == tmp_path / "x.json" and str(caught.value).startswith("x.json")
    assert len(str(caught.value)) < 1500


def test_answers_to_another_pack_are_refused(tmp_path, pack):
    path = write_answers(tmp_path / "x.json", pack, "Ada", {0: []})
    with pytest.raises(ReadError, match="another pack"):
        read_answers(path, {"0" * 64})


def test_truncated_answers_name_the_line_of_the_end(tmp_path, pack):
    text = to_lines(answers_to(pack, "Ada", {0: [(i, i) for i in range(30)]}))
    (tmp_path / "x.json").write_text(text[: text.index('{"x_px": 20')])
    with pytest.raises(ReadError, match=r"line 23"):
        read_answers(tmp_path / "x.json")


@pytest.mark.parametrize("n", [1_000_000])
def test_a_million_marks_are_refused_quickly(tmp_path, pack, n):
    text = to_lines(answers_to(pack, "Ada", {0: [(1, 2)]}))
    row = '{"x_px": 2, "y_px": 1, "uncertain": false}'
    many = text.replace('{"x_px": 2, "y_px": 1, "uncertain": false, "seconds": 1.5}', "%s")
    began = time.perf_counter()
    for rows in (",\n".join([row] * n), ",".join(["[]"] * n), "[" * n):
        (tmp_path / "x.json").write_text(many % rows)
        with pytest.raises(ReadError) as caught:
            read_answers(tmp_path / "x.json")
        assert len(str(caught.value)) < 1500
    assert time.perf_counter() - began < 20


def test_all_wrong_lines_are_counted_and_the_first_are_named(tmp_path, pack):
    marks = {0: [(900 + i, 5) for i in range(3000)]}
    path = write_answers(tmp_path / "x.json", pack, "Ada", marks)
    with pytest.raises(TableError, match=r"line 3: .*and at least 988 more"):
        read_answers(path)


def test_names_with_scripts_and_formulas_are_plain_text(tmp_path, pack):
    name = "=HYPERLINK(1)\x1b[31m" + BAD_NAME
    found = read_answers(write_answers(tmp_path / "x.json", pack, name, {0: []}))
    who = found.looked["annotator"].iloc[0]
    assert "\x1b" not in who and len(who) <= 100


@settings(
    max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(tampered({"x": 1}))
def test_any_bytes_are_an_error_that_names_the_file(tmp_path, data):
    (tmp_path / "x.json").write_bytes(data)
    with pytest.raises(ReadError) as caught:
        read_answers(tmp_path / "x.json")
    assert caught.value.path == tmp_path / "x.json"


def test_lines_of_values():
    text = '{\n"a": [\n1,\n{"b": "x,]}\\""},\n  {"c" : 2}\n],\n"d": null}'
    assert [line_of(text, path) for path in ((), ("a",), ("a", 1, "b"), ("a", 2, "c"), ("d",))] == [
        1, 2, 4, 5, 7
    ]  # fmt: skip
    assert line_of(text, ("a", 2, "missing")) == 5
    assert line_of("[1, 2", (5,)) is None and line_of("", ("a",)) is None


# ---- several files
def test_a_folder_of_answers_and_one_bad_file(tmp_path, pack):
    page = write_browser_packs([pack], tmp_path / "back" / "p.html")[0]
    folder = page.parent
    for i, who in enumerate(("Ada", "Bo", "Cy")):
        write_answers(folder / f"{who}.json", pack, who, {0: [(10, 20 + 0.2 * i)], 1: []})
    (folder / "agreement.json").write_text("{}")
    (folder / "notes.txt").write_text("read me")
    text = (folder / "Cy.json").read_text()
    (folder / "Cy.json").write_text(text[:-300])
    assert [path.name for path in find_returned([folder])] == [
        "Ada.json", "Bo.json", "Cy.json", "p.html"
    ]  # fmt: skip
    with pytest.raises(ReadError, match=r"Cy\.json"):
        read_packs([folder])
    refused = []
    found = read_packs([folder], refused=refused)
    assert [path.name for path, _ in refused] == ["Cy.json"]
    assert found.looked["annotator"].tolist() == ["Ada", "Ada", "Bo", "Bo"]


def test_a_later_file_of_the_same_session_replaces_the_earlier(tmp_path, pack):
    early = write_answers(tmp_path / "1.json", pack, "Ada", {0: [(1, 1)]}, saved="2026-01-01T00Z")
    late = write_answers(
        tmp_path / "2.json", pack, "Ada", {0: [(1, 1), (5, 5)], 1: []}, saved="2026-01-02T00Z"
    )
    for order in ((early, late), (late, early), (late, early, late)):
        found = read_packs(order)
        assert len(found.marks) == 2 and len(found.looked) == 2 and not len(found.again_looked)


def test_a_second_session_of_one_name_is_a_repetition(tmp_path, pack):
    first = write_answers(tmp_path / "1.json", pack, "Ada", {0: [(1, 1)], 1: []}, session="a" * 32)
    again = write_answers(
        tmp_path / "2.json", pack, "Ada", {0: [(1, 2)]}, session="b" * 32, saved="2027-01-01T00Z"
    )
    found = read_packs([again, first])
    assert found.marks["x_px"].tolist() == [1] and found.again_marks["x_px"].tolist() == [2]
    assert "two people" in found.notes[-1]


@pytest.mark.parametrize("repeats", [0, 1])
def test_of_several_repetitions_the_first_counts(tmp_path, repeats):
    """More of them would be false marks of the second one."""
    (made,) = packs_of(tmp_path, 2, options=replace(PLAIN, repeats=repeats))
    marks = {i: [(1, 1), (9, 9)] for i in range(len(made.manifest.items))}
    paths = [
        write_answers(
            tmp_path / f"{name}.json",
            made,
            "Ada",
            marks,
            session=name * 32,
            saved=f"2026-0{i}-01T0Z",
        )
        for i, name in enumerate("abc", 1)
    ]
    found = read_packs(paths)
    assert len(found.looked) == len(found.again_looked) == 2
    assert len(found.marks) == len(found.again_marks) == 4
    of_self = mark_self_agreement(
        found.marks, found.looked, found.again_marks, found.again_looked, 0.1
    )
    assert of_self[0]["f1"] == 1


def test_atoms_and_clusters_of_an_image_are_two_tasks(tmp_path, pack):
    """And so are other clusters of it."""
    packs = [
        packs_of(
            tmp_path,
            clusters=clusters_of("ab").query(f"cluster_id {which} 1"),
            classes=("Pt19", "Pt55"),
        )[0]
        for which in ("==", "!=")
    ]
    marks = write_answers(tmp_path / "1.json", pack, "Ada", {0: [(1, 1)]}, session="a" * 32)
    files = [
        write_answers(tmp_path / f"{i}.json", one, "Ada", labels={0: "Pt19"}, session=f"{i}" * 32)
        for i, one in enumerate(packs, 2)
    ]
    found = read_packs([marks, *files])
    assert len(found.marks) == 1 and len(found.labels) == 2 and not len(found.again_labels)
    again = write_answers(
        tmp_path / "4.json", packs[0], "Ada", labels={0: "Pt55"}, session="4" * 32,
        saved="2030-01-01T0Z",
    )  # fmt: skip
    found = read_packs([marks, *files, again])
    assert found.labels["label"].tolist() == ["Pt19"] * 2
    assert found.again_labels["label"].tolist() == ["Pt55"]


def test_repeated_images_only_tell_the_agreement_with_oneself(tmp_path):
    (made,) = packs_of(tmp_path, 2, options=replace(PLAIN, repeats=1))
    marks = {0: [(1, 1), (9, 9)], 1: [], 2: [(1, 1.2)], 3: []}
    found = read_packs([write_answers(tmp_path / "1.json", made, "Ada", marks)])
    assert len(found.marks) == 2 and len(found.again_marks) == 1
    assert len(found.looked) == len(found.again_looked) == 2


def test_worked_examples_tell_the_skill(tmp_path):
    (made,) = packs_of(tmp_path, options=PackOptions(repeats=0))
    answers = answers_to(made, "Ada", {0: []})
    points = made.manifest.examples[0].points
    places = [*points[:-2], (3.0, 3.0)]
    rows = [{"x_px": x, "y_px": y, "uncertain": False} for y, x in places]
    answers["examples"] = [{"example": 0, "complete": True, "marks": rows}]
    (tmp_path / "x.json").write_text(json.dumps(answers))
    row = read_answers(tmp_path / "x.json").skills.iloc[0]
    assert (row["known"], row["given"]) == (len(points), len(points) - 1)
    assert row["right"] == len(points) - 2
    assert row["f1"] == pytest.approx(2 * row["right"] / (2 * len(points) - 1))


def test_labels_of_clusters(tmp_path):
    (made,) = packs_of(tmp_path, clusters=clusters_of("ab"), classes=("Pt19", "Pt55"))
    labels = {0: "Pt19", 1: "Pt55", 5: "not a cluster"}
    path = write_answers(tmp_path / "x.json", made, "Ada", labels=labels)
    found = read_packs([path]).labels
    assert found[["image", "cluster_id", "label"]].to_numpy().tolist() == [
        ["a.tif", 1, "Pt19"], ["a.tif", 2, "Pt55"], ["b.tif", 3, "not a cluster"]
    ]  # fmt: skip
    write_answers(path, made, "Ada", labels={0: "Au7"})
    with pytest.raises(TableError, match="'Au7' is no class"):
        read_packs([path])


def test_the_hash_does_not_depend_on_how_numbers_are_written(tmp_path, pack):
    answers = answers_to(pack, "Ada", {0: []})
    text = (
        json.dumps(answers)
        .replace('"high": 255.0', '"high": 255')
        .replace('"low": 0.0', '"low": 0')
    )
    (tmp_path / "x.json").write_text(text)
    assert text != json.dumps(answers) and len(read_answers(tmp_path / "x.json").looked) == 1
    assert asdict(pack.manifest)["images"][0]["high"] == 255.0


def test_proposals_must_be_in_the_images(tmp_path):
    """What comes back would be refused; a place just outside the first pixel is in the image."""
    atoms = pd.DataFrame({"image": ["a.tif"], "y_px": [-0.003], "x_px": [3.0]})
    (made,) = packs_of(tmp_path, proposals=atoms)
    text = to_lines(answers_to(made, "Ada", {0: []})).replace("-0.0", "0")
    assert "-0.0" not in json.dumps(asdict(made.manifest))
    (tmp_path / "x.json").write_text(text)
    assert len(read_answers(tmp_path / "x.json").looked) == 1
    for place in (40.0, np.nan):
        with pytest.raises(TableError, match=r"1 of 1 proposed atom of a.tif are outside"):
            packs_of(tmp_path, proposals=atoms.assign(y_px=place))
    with pytest.raises(TableError, match="no row of the predictions"):
        packs_of(tmp_path, proposals=atoms.assign(image="other.tif"))


def test_nobody_has_the_name_of_the_consensus(tmp_path, pack):
    """Labels by it are what people have settled on."""
    found = read_answers(write_answers(tmp_path / "x.json", pack, "Consensus", {0: []}))
    assert found.looked["annotator"].tolist() == ["Consensus (person)"]


def test_other_pages_in_a_folder_are_passed_over(tmp_path, pack):
    (tmp_path / "back").mkdir()
    write_answers(tmp_path / "back" / "ada.json", pack, "Ada", {0: []})
    (tmp_path / "back" / "report.html").write_text("<html>a report</html>")
    assert [path.name for path, _ in read_returned([tmp_path / "back"])] == ["ada.json"]


def test_packs_of_both_kinds_together(tmp_path, pack):
    from napari_atomicity.project.packs.annotation_packs import export_pack

    export_pack([tmp_path / "raw"], tmp_path / "both" / "bo", "Bo")
    table = tmp_path / "both" / "bo" / "tables" / "a.tif.csv"
    table.write_text("X,Y,uncertain\n20,10,\n")
    (tmp_path / "both" / "bo.zip").unlink()
    write_answers(tmp_path / "both" / "ada.json", pack, "Ada", {0: [(10, 20)]})
    found = read_returned([tmp_path / "both"])
    assert [path.name for path, _ in found] == ["ada.json", "bo"]
    joined = read_packs([tmp_path / "both"])
    assert joined.marks[["y_px", "x_px"]].to_numpy().tolist() == [[10, 20], [10, 20]]
