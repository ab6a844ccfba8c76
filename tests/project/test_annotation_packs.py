"""Packs out to people and back: nothing lost, nothing believed, every mistake named."""

from __future__ import annotations

import json
import shutil
import tracemalloc
import zipfile
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import tifffile
from hypothesis import HealthCheck, given, settings, strategies as st

from napari_atomicity.core.errors import (
    AtomicityError,
    CalibrationError,
    ReadError,
    TableError,
    UnsuitableImageError,
)
from napari_atomicity.project.packs import filled_packs
from napari_atomicity.project.packs.annotation_packs import export_pack
from napari_atomicity.project.packs.filled_packs import (
    LOOKED_COLUMNS,
    MARK_COLUMNS,
    read_pack,
)
from napari_atomicity.project.packs.returned import read_packs
from napari_atomicity.statistics.annotators.consensus import consensus
from tampering import DELETED, tamper, tampered

PX_NM = 0.05


def image(path: Path, shape=(40, 60), seed=0, calibrated=True) -> Path:
    pixels = np.random.default_rng(seed).integers(0, 4000, shape).astype(np.uint16)
    known = {"resolution": (1 / PX_NM, 1 / PX_NM), "metadata": {"unit": "nm"}}
    tifffile.imwrite(path, pixels, imagej=True, **(known if calibrated else {}))
    return path


@pytest.fixture
def pack(tmp_path) -> Path:
    """A pack of two images, not filled in yet."""
    (tmp_path / "raw").mkdir()
    images = [image(tmp_path / "raw" / f"{name}.tif", seed=i) for i, name in enumerate("ab")]
    export_pack(images, tmp_path / "pack")
    return tmp_path / "pack"


def fill(pack: Path, name="a.tif", text="X,Y,uncertain\n10,20,\n30.5,4,1\n") -> Path:
    (pack / "tables" / f"{name}.csv").write_text(text, "utf-8")
    return pack


def test_a_pack_holds_the_images_as_they_are_and_a_table_for_each(pack):
    assert sorted(f.relative_to(pack).as_posix() for f in pack.rglob("*") if f.is_file()) == [
        "README.txt", "annotator.txt", "images/a.tif", "images/b.tif", "manifest.json",
        "previews/a.tif.png", "previews/b.tif.png", "tables/a.tif.csv", "tables/b.tif.csv",
    ]  # fmt: skip
    raw = pack.parent / "raw"
    assert (pack / "images" / "a.tif").read_bytes() == (raw / "a.tif").read_bytes()
    assert (pack / "tables" / "a.tif.csv").read_text() == "X,Y,uncertain\n"
    manifest = json.loads((pack / "manifest.json").read_text())
    assert manifest["images"][0]["pixel_size_nm"] == pytest.approx(PX_NM)
    assert manifest["images"][0]["width_px"] == 60
    with zipfile.ZipFile(pack.with_name("pack.zip")) as archive:
        assert "pack/tables/b.tif.csv" in archive.namelist()


def test_the_instructions_ask_for_the_name_unless_the_pack_is_of_one_person(pack, tmp_path):
    export_pack(sorted((tmp_path / "raw").iterdir()), tmp_path / "of ben", "ben")
    asks = "Write your name into annotator.txt."
    of_any, of_ben = (
        (folder / "README.txt").read_text("utf-8") for folder in (pack, tmp_path / "of ben")
    )
    assert asks in of_any and "pack of" not in of_any
    assert asks not in of_ben and "This is the pack of ben." in of_ben
    assert (tmp_path / "of ben" / "annotator.txt").read_text("utf-8") == "ben\n"


def test_what_is_filled_in_comes_back(pack):
    (pack / "annotator.txt").write_text("Ada\n")
    found = read_pack(fill(pack))
    assert list(found.marks.columns) == list(MARK_COLUMNS)
    assert list(found.looked.columns) == list(LOOKED_COLUMNS)
    assert found.marks["image"].tolist() == ["a.tif"] * 2
    assert found.marks["annotator"].tolist() == ["Ada"] * 2
    np.testing.assert_allclose(found.marks[["y_px", "x_px"]], [[20, 10], [4, 30.5]])
    np.testing.assert_allclose(found.marks[["y_nm", "x_nm"]], [[1, 0.5], [0.2, 1.525]])
    assert found.marks["uncertain"].tolist() == [False, True]
    assert found.looked["area_nm2"].tolist() == [pytest.approx(40 * 60 * PX_NM**2)]
    assert found.looked["blind"].tolist() == [True]


def test_an_empty_table_is_not_an_image_without_atoms(pack):
    assert len(read_pack(pack).looked) == 0
    found = read_pack(fill(pack, "b.tif", "X,Y,uncertain\r\nnone,,\r\n"))
    assert found.looked["image"].tolist() == ["b.tif"] and len(found.marks) == 0
    assert found.marks["uncertain"].dtype == bool


@pytest.mark.parametrize(
    "text",
    [
        "X;Y;uncertain\n10,5;20;\n30,5;4;1\n",
        "x\ty\n10.5\t20\n30.5\t4\n",
        " ,Area,Mean,X,Y\n1,0,3021,10.5,20\n2,0,2911,30.5,4\n",
        "\ufeffX,Y,uncertain\r\n10.5,20,no\r\n\r\n30.5,4,?\r\n",
        '"X","Y","uncertain"\r"10.5","20",""\r"30.5","4","yes"\r',
        "Y,X\n20,10.5\n4,30.5",
    ],
)
def test_tables_as_programs_write_them(pack, text):
    found = read_pack(fill(pack, text=text)).marks
    np.testing.assert_allclose(found[["x_px", "y_px"]], [[10.5, 20], [30.5, 4]])


def test_unicode_text_of_a_spreadsheet(pack):
    (pack / "tables" / "a.tif.csv").write_bytes("X\tY\n10\t20\n".encode("utf-16"))
    assert len(read_pack(pack).marks) == 1


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("X,Y\n10,20\nten,20\n", r"tables/a\.tif\.csv, line 3: X is 'ten', not a number"),
        ("X,Y\n\n10,\n", r"line 3: Y is '', not a number"),
        ("X,Y\n60,20\n", r"line 2: X is 60, outside the image \(0 to 59\)"),
        ("X,Y\n5,-1\n", r"line 2: Y is -1, outside"),
        ("X,Y\n5,nan\n", r"line 2: Y is 'nan', not a number"),
        ("X,Y\n5,1_0\n", r"not a number"),
        ("X,Y,uncertain\n5,5,maybe\n", r"line 2: uncertain is 'maybe'"),
        ("X,Y\n5,5\n6,6\n5,5\n", r"line 4: the same place as in line 2"),
        ("X,Y\n5,5\nnone,\n", r"line 3: it contains none"),
        ("X,Y\n5,5,,7\n", r"line 2: it has more cells"),
        ("a,b\n5,5\n", r"line 1: the header must have X and Y"),
        ("X,Y\n=1+1,5\n", r"line 2: X is '=1\+1', not a number"),
    ],
)
def test_a_bad_line_is_named(pack, text, said):
    with pytest.raises(TableError, match=said) as caught:
        read_pack(fill(pack, text=text))
    assert caught.value.path == pack


def test_a_table_in_nm_is_refused_until_its_unit_is_said(pack):
    places = np.array([[10.0, 20.0], [30.5, 4.0], [50.0, 35.0], [3.0, 12.0]])
    rows = "".join(f"{x * PX_NM:.3f},{y * PX_NM:.3f},\n" for x, y in places)
    fill(pack, text=f"X,Y,uncertain\n{rows}")
    fill(pack, "b.tif", "X,Y,uncertain\n30,20,\n")
    with pytest.raises(TableError, match=r"seem to be in nm.*a\.tif.*--units nm"):
        read_pack(pack)
    found = read_pack(pack, "nm").marks
    np.testing.assert_allclose(found[["x_px", "y_px"]], [*places, (30, 20)], atol=0.01)
    np.testing.assert_allclose(found[["x_nm", "y_nm"]], found[["x_px", "y_px"]] * PX_NM)
    assert read_pack(pack, "px").marks["x_px"].max() == 30


def test_all_mistakes_are_told_at_once(pack):
    fill(pack, "a.tif", "X,Y\n" + "x,y\n" * 20)
    fill(pack, "b.tif", "X,Y\n1,1\n")
    with pytest.raises(TableError) as caught:
        read_pack(pack)
    assert str(caught.value).count("not a number") == 12 and "and 28 more" in str(caught.value)


def test_a_table_of_another_image_and_a_changed_image(pack):
    fill(pack, "c.tif")
    image(pack / "images" / "a.tif", seed=9)
    with pytest.raises(TableError, match=r"images/a.tif: this is not the image that was sent") as e:
        read_pack(pack)
    assert "tables/c.tif.csv: the manifest has no image of that name" in str(e.value)


def test_images_need_not_come_back_and_the_folder_may_be_packed_anyhow(pack, tmp_path):
    fill(pack)
    shutil.rmtree(pack / "images")
    for name, inside in (("plain", ""), ("deep", "what I did/pack/")):
        with zipfile.ZipFile(tmp_path / f"{name}.zip", "w") as archive:
            archive.writestr("__MACOSX/manifest.json", "junk")
            for file in pack.rglob("*"):
                if file.is_file():
                    archive.write(file, inside + file.relative_to(pack).as_posix())
        found = read_pack(tmp_path / f"{name}.zip")
        assert found.marks["annotator"].tolist() == [name] * 2
    assert not (tmp_path / "what I did").exists()


@pytest.mark.parametrize("text", ["", "{", "[]", '{"format": 1}', '{"format": 99, "images": []}'])
def test_manifests_that_are_damaged(pack, text):
    (pack / "manifest.json").write_text(text)
    with pytest.raises(ReadError):
        read_pack(pack)


@pytest.mark.parametrize(
    ("path", "value"),
    [
        *((("images", 0, "pixel_size_nm"), v) for v in (-1, 0, "1", None, float("inf"), 10**400)),
        *((("images", 0, "height_px"), v) for v in (0, -5, "40", 10**9, 1.5, float("inf"))),
        *((("images", 0, "name"), v) for v in (1, "", None, "b.tif", DELETED)),
        *((("images", 0, "file"), v) for v in (1, "", "b.tif")),
        *((("images",), v) for v in (None, {}, [1], [[]], "x")),
        *((("tolerance_nm",), v) for v in (0, -1, "x", float("nan"), 10**400)),
        *((("blind",), v) for v in ("no", "false", 0, 1, None)),
        *((("annotator",), v) for v in (1, ["Ada"], {})),
        *((("format",), v) for v in ("1", None, 2, float("inf"))),
    ],
    ids=lambda v: str(v)[:30],
)
def test_a_tampered_manifest_is_refused_with_its_reason(pack, path, value):
    manifest = json.loads((pack / "manifest.json").read_text())
    (pack / "manifest.json").write_text(tamper(manifest, path, value))
    with pytest.raises(ReadError, match=r"damaged|format") as caught:
        read_pack(fill(pack))
    assert len(str(caught.value)) < 1000


@settings(
    max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(st.data())
def test_any_change_of_a_manifest_gives_marks_or_an_error(pack, data):
    file = pack.parent / "manifest.json"
    if not file.exists():
        shutil.copy(pack / "manifest.json", file)
    (pack / "manifest.json").write_bytes(data.draw(tampered(json.loads(file.read_text()))))
    try:
        found = read_pack(fill(pack))
    except AtomicityError as error:
        assert error.path == pack
    else:
        assert len(found.marks) == 2


@pytest.mark.parametrize("line", ["x,y\n", "\n", "1,1\n", ",,,,\n", "," * 2000 + "\n"])
def test_a_table_of_many_wrong_lines_is_read_up_to_a_limit(pack, line, monkeypatch):
    monkeypatch.setattr(filled_packs, "_MAX_LINES", 20_000)
    fill(pack, "a.tif", "X,Y\n" + line * (4_000_000 // len(line)))
    tracemalloc.start()
    try:
        with pytest.raises(TableError, match=r"line|lines") as caught:
            read_pack(pack)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert len(str(caught.value)) < 3000 and peak < 200e6


def test_the_number_of_wrong_lines_beyond_the_limit_is_a_lower_bound(pack):
    fill(pack, "a.tif", "X,Y\n" + "x,y\n" * 5000)
    with pytest.raises(TableError, match="and at least 988 more"):
        read_pack(pack)


@settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(st.binary(max_size=200))
def test_whatever_a_table_holds_is_marks_or_an_error_that_names_it(pack, data):
    (pack / "tables" / "a.tif.csv").write_bytes(data)
    try:
        found = read_pack(pack)
    except (TableError, ReadError) as error:
        assert "a.tif.csv" in str(error)
    else:
        assert set(found.marks["image"]) <= {"a.tif"}


def test_what_is_no_pack(tmp_path):
    (tmp_path / "empty").mkdir()
    (tmp_path / "text.zip").write_text("no archive")
    for path in ("none", "empty", "text.zip"):
        with pytest.raises(ReadError):
            read_pack(tmp_path / path)
    with pytest.raises(ReadError):
        read_packs([])


def test_a_damaged_archive(pack, tmp_path):
    data = bytearray(pack.with_name("pack.zip").read_bytes())
    data[2500:4000] = bytes(1500)  # in an image
    (tmp_path / "bad.zip").write_bytes(data)
    with pytest.raises(ReadError):
        read_pack(tmp_path / "bad.zip")


# ---- several people
def copies(pack: Path, *names: str) -> list[Path]:
    paths = []
    for name in names:
        path = pack.with_name(f"from {name}")
        shutil.copytree(pack, path)
        (path / "annotator.txt").write_text(name)
        paths.append(path)
    return paths


def test_packs_of_several_people_make_a_consensus(pack):
    paths = copies(fill(pack), "Ada", "Bo", "=Cy()")
    fill(paths[2], "b.tif", "X,Y\nnone,\n")
    found = read_packs(paths)
    assert found.looked["annotator"].tolist() == ["Ada", "Bo", "=Cy()", "=Cy()"]
    result = consensus(found.marks, found.looked, found.tolerance_nm)
    assert len(result.sites) == 2 and (result.sites["n_marked"] == 3).all()
    assert (result.sites["x_px"] == [30.5, 10]).all()


def test_one_person_twice_and_another_image_of_the_same_name(pack, tmp_path):
    paths = copies(fill(pack), "Ada", "Bo")
    (paths[1] / "annotator.txt").write_text("Ada")
    with pytest.raises(TableError, match=r"Ada has also marked a\.tif in from Ada"):
        read_packs(paths)
    other = tmp_path / "other"
    other.mkdir()
    export_pack([image(other / "a.tif", seed=5)], tmp_path / "second", annotator="Cy")
    with pytest.raises(TableError, match="another image"):
        read_packs([paths[0], tmp_path / "second"])


# ---- what goes out
def test_predictions_go_out_only_when_asked_for(pack, tmp_path):
    files = sorted((tmp_path / "raw").iterdir())
    atoms = pd.DataFrame({"image": ["a.tif"], "x_px": [3.0], "y_px": [4.5]})
    with pytest.raises(AtomicityError, match="blind"):
        export_pack(files, tmp_path / "p", predictions=atoms)
    export_pack(files, tmp_path / "p", blind=False, predictions=atoms)
    assert (tmp_path / "p/tables/a.tif.csv").read_text() == "X,Y,uncertain\n3.00,4.50,\n"
    # As it went out it is the machine's word, and nobody's.
    assert len(read_pack(tmp_path / "p").looked) == 0
    fill(tmp_path / "p", text="X,Y,uncertain\n3.00,4.50,\ndone,,\n")
    found = read_pack(tmp_path / "p")
    assert len(found.marks) == 1 and found.looked["blind"].tolist() == [False]


@pytest.mark.parametrize("saved", ["\r\n", ";", "\t"])
def test_a_table_of_proposals_that_was_only_saved_again_is_not_annotated(tmp_path, saved):
    """Spreadsheets change line ends and separators, and drop zeros."""
    (tmp_path / "raw").mkdir()
    image(tmp_path / "raw" / "a.tif")
    atoms = pd.DataFrame({"image": ["a.tif"] * 2, "y_px": [3.5, 7.25], "x_px": [2.0, 8.1]})
    export_pack([tmp_path / "raw"], tmp_path / "bo", "Bo", blind=False, predictions=atoms)
    table = tmp_path / "bo" / "tables" / "a.tif.csv"
    sent = table.read_text()
    again = "X,Y,uncertain\n2,3.5,\n8.1,7.25,\n"
    again = again.replace("\n", saved) if saved == "\r\n" else again.replace(",", saved)
    table.write_bytes(again.encode())
    assert not len(read_pack(tmp_path / "bo").looked)
    for changed in (
        sent + "done,,\n",
        sent.replace("8.10", "8.20"),
        sent.replace("7.25,", "7.25,1"),
    ):
        table.write_text(changed)
        assert len(read_pack(tmp_path / "bo").marks) == 2


def test_the_unit_is_that_of_tables_in_doubt_only(pack):
    """One mark near the corner is as well one in pixels, and is accepted as that without a unit."""
    fill(pack, text="X,Y,uncertain\n2,1,\n")
    as_it_is, said = read_pack(pack).marks, read_pack(pack, "nm").marks
    assert said["x_px"].tolist() == as_it_is["x_px"].tolist() == [2.0]


def test_predictions_of_other_images_are_an_error_and_no_empty_tables(tmp_path):
    atoms = pd.DataFrame({"image": ["b.tif"], "x_px": [3.0], "y_px": [4.5]})
    path = image(tmp_path / "a.tif")
    with pytest.raises(TableError, match=r"a\.tif.*b\.tif"):
        export_pack([path], tmp_path / "p", blind=False, predictions=atoms)
    assert not (tmp_path / "p").exists()
    export_pack([path], tmp_path / "p", blind=False, predictions=atoms.iloc[:0])


def test_images_that_can_not_be_marked(tmp_path):
    with pytest.raises(CalibrationError, match="pixel size"):
        export_pack([image(tmp_path / "a.tif", calibrated=False)], tmp_path / "p")
    assert not (tmp_path / "p").exists() and not list(tmp_path.glob(".pack*"))
    export_pack([tmp_path / "a.tif"], tmp_path / "p", pixel_size_nm=0.1)
    with pytest.raises(AtomicityError, match="something already"):
        export_pack([tmp_path / "a.tif"], tmp_path / "p", pixel_size_nm=0.1)
    stack = image(tmp_path / "s.tif", (3, 20, 20))
    with pytest.raises(UnsuitableImageError, match="3 frames"):
        export_pack([stack], tmp_path / "q")


def test_images_of_one_name_in_two_folders(tmp_path):
    for day in ("1", "2"):
        (tmp_path / day).mkdir()
        image(tmp_path / day / "a.tif", seed=int(day))
    export_pack([tmp_path / "1", tmp_path / "2"], tmp_path / "p")
    fill(tmp_path / "p", "2_a.tif")
    assert set(read_pack(tmp_path / "p").marks["image"]) == {"2/a.tif"}


@settings(
    max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    st.lists(
        st.tuples(st.floats(-0.5, 59.5), st.floats(-0.5, 39.5), st.booleans()),
        max_size=6,
        unique_by=lambda m: m[:2],
    )
)
def test_marks_written_as_a_table_come_back_bit_by_bit(pack, marks):
    table = pd.DataFrame(marks, columns=["x_px", "y_px", "uncertain"])
    text = table.set_axis(["X", "Y", "uncertain"], axis=1).to_csv(index=False)
    found = read_pack(fill(pack, text=text if marks else f"{text}none,,\n"), "px")
    assert len(found.looked) == 1
    assert (
        list(found.marks[["x_px", "y_px", "uncertain"]].itertuples(index=False, name=None)) == marks
    )
