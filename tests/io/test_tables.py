"""Tables out and back in: every value as it was, every file whole, no cell a formula."""

import csv
import json
import os
import stat

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings, strategies as st
from openpyxl import load_workbook

from napari_atomicity.core.errors import AtomicityError, ReadError, TableError
from napari_atomicity.core.tables.cluster_table import columns, concatenate, conform, empty
from napari_atomicity.io.clipboard import latex_table
from napari_atomicity.io.files import (
    atomic_write,
    escape_formula,
    to_json,
    unescape_formula,
    write_json,
)
from napari_atomicity.io.tables import (
    read_clusters,
    read_table,
    write_clusters,
    write_ratios,
)
from napari_atomicity.statistics.ratios.ratios import COLUMNS as RATIO_COLUMNS, class_ratios

CLASSES = ["Pt19", "Pt41"]


def cluster_table(n=5, classes=CLASSES, image="a.tif", seed=0) -> pd.DataFrame:
    rng = np.random.default_rng(seed)
    p = rng.dirichlet(np.ones(len(classes)), n)
    table = pd.DataFrame(p, columns=[f"p_{c}" for c in classes])
    table["image"], table["cluster_id"] = image, np.arange(1, n + 1)
    for name in ("y_px", "x_px", "y_nm", "x_nm", "diameter_nm", "integrated_intensity"):
        table[name] = rng.lognormal(0, 3, n)
    table["label"] = table["label_predicted"] = np.array(classes)[p.argmax(1)]
    table["touches_border"] = rng.random(n) < 0.5
    table["confidence"] = p.max(1)
    table["prediction_set"] = "|".join(classes)
    return conform(table, classes)


@pytest.mark.parametrize("suffix", ["csv", "parquet", "xlsx"])
def test_a_cluster_table_comes_back_as_it_was(tmp_path, suffix):
    table = cluster_table()
    table.loc[2, ["confidence", "diameter_nm"]] = np.nan
    path = write_clusters(table[["model_id", *table.columns[:-1]]], tmp_path / f"clusters.{suffix}")
    assert list(read_table(path).columns) == list(columns(CLASSES))
    # A spreadsheet keeps 15 to 17 digits, the other two all bits.
    pd.testing.assert_frame_equal(read_clusters(path), table, check_exact=suffix != "xlsx")


def test_a_workbook_says_what_its_columns_are_with_sensible_digits(tmp_path):
    table = cluster_table().assign(diameter_nm=[1.23456789, 1.5, 2.0, 1.1, 1.7])
    book = load_workbook(write_clusters(table, tmp_path / "clusters.xlsx"))
    assert book.sheetnames == ["atomicity", "columns"]
    about = {row[0].value: (row[1].value, row[2].value) for row in book["columns"]}
    names = [cell.value for cell in book["atomicity"][1]]
    assert list(about)[1:] == names  # every column, after the head
    assert about["diameter_nm"][0] == "nm" and all(text for _, text in about.values())
    cell = book["atomicity"].cell(2, names.index("diameter_nm") + 1)
    assert cell.number_format == "0.000" and cell.value == 1.23456789
    ratios = load_workbook(write_ratios(class_ratios(table), tmp_path / "ratios.xlsx"))
    assert [row[0].value for row in ratios["columns"]][1:] == RATIO_COLUMNS


@pytest.mark.parametrize("suffix", ["csv", "parquet", "xlsx"])
def test_what_an_estimator_says_stays_text(tmp_path, suffix):
    table = cluster_table().assign(label_network=["Pt19", "", "NA", "41", "Pt41"])
    path = write_clusters(table, tmp_path / f"clusters.{suffix}")
    assert list(read_clusters(path)["label_network"]) == list(table["label_network"])


@pytest.mark.parametrize("suffix", ["csv", "parquet", "xlsx"])
def test_added_columns_of_some_images_come_back(tmp_path, suffix):
    counted = cluster_table(3).assign(
        conditions_differ=[True] * 3, n_atoms=[41.0, 19.25, np.nan], label_mixture="Pt41"
    )
    both = concatenate([cluster_table(2, image="b.tif"), counted])
    found = read_clusters(write_clusters(both, tmp_path / f"clusters.{suffix}"))
    pd.testing.assert_frame_equal(found, both, check_exact=suffix != "xlsx")
    assert found["conditions_differ"].tolist() == [False] * 2 + [True] * 3


@pytest.mark.parametrize("suffix", ["csv", "parquet", "xlsx"])
def test_a_table_without_rows_keeps_its_columns(tmp_path, suffix):
    path = write_clusters(empty(CLASSES), tmp_path / f"clusters.{suffix}")
    pd.testing.assert_frame_equal(read_clusters(path), empty(CLASSES))


names = st.text(st.characters(exclude_categories=["Cs", "Cc"]), min_size=1, max_size=12)


@settings(deadline=None, max_examples=40)
@given(name=names | st.sampled_from(["NA", "nan", "", "=1+1", "001", 'a"b,c;d', "a\nb", "-3"]))
def test_odd_names_of_images_survive(tmp_path_factory, name):
    folder = tmp_path_factory.getbasetemp()
    table = cluster_table(2, image=name)
    for suffix in ("csv", "parquet"):
        path = write_clusters(table, folder / f"odd.{suffix}")
        assert list(read_clusters(path)["image"]) == [name, name]


FORMULAS = ["=HYPERLINK(1)", "+1", "-1+1|cmd", "@SUM(1)", "\tx", "\rx", "\nx", "＝1", "'=1", "''-1"]
anything = st.text(st.characters(exclude_categories=["Cs"]), max_size=12)
begins = st.sampled_from(["", "=", "+", "-", "@", "\t", "\r", "'", "''=", "'+", "＠"])


@given(start=begins, rest=anything)
def test_harmless_text_is_no_formula_and_comes_back(start, rest):
    text = start + rest
    marked = escape_formula(text)
    assert unescape_formula(marked) == text
    assert marked[:1] not in tuple("=+-@\t\r\n＝＋－＠")
    assert marked in (text, f"'{text}")


@pytest.mark.parametrize("text", ["Pt19", "'quoted'", "5-6", " =1", "", "a=b"])
def test_other_text_stays_as_it_is(text):
    assert escape_formula(text) == text == unescape_formula(text)


@pytest.mark.parametrize("value", [-1.5, -3, float("-inf"), None, True])
def test_what_is_no_text_stays_as_it_is(value):
    assert escape_formula(value) is value and unescape_formula(value) is value


@settings(deadline=None, max_examples=60)
@given(start=begins, rest=anything)
def test_any_name_comes_back_from_any_table(tmp_path_factory, start, rest):
    folder, name = tmp_path_factory.getbasetemp(), start + rest
    table = cluster_table(2, image=name).assign(notes=name, label_network=name)
    for suffix in ("csv", "parquet"):
        read = read_clusters(write_clusters(table, folder / f"any.{suffix}"))
        assert list(read["image"]) == list(read["label_network"]) == [name, name]


@pytest.mark.parametrize("suffix", ["csv", "xlsx"])
@pytest.mark.parametrize("name", FORMULAS)
def test_no_cell_is_a_formula_in_a_spreadsheet(tmp_path, suffix, name):
    if suffix == "xlsx" and "\r" in name:
        pytest.importorskip("lxml", reason="without lxml a carriage return becomes a line feed")
    table = cluster_table(2, image=name).assign(notes=name, y_nm=[-1.5, -2.0])
    table.loc[0, ["label", "label_corrected"]] = name
    path = write_clusters(table, tmp_path / f"c.{suffix}")
    if suffix == "csv":
        with path.open(newline="", encoding="utf-8") as file:
            header, *rows = csv.reader(file)
    else:
        cells = list(load_workbook(path).active.iter_rows())
        assert "f" not in {c.data_type for row in cells for c in row}
        header, *rows = [[c.value for c in row] for row in cells]
    assert header == [*columns(CLASSES), "notes"]
    for column in ("image", "label", "notes"):
        assert rows[0][header.index(column)] == f"'{name}"
    assert [float(row[header.index("y_nm")]) for row in rows] == [-1.5, -2.0]
    read = read_clusters(path)
    assert list(read["image"]) == list(read["notes"]) == [name, name]
    assert read.loc[0, "label_corrected"] == name and list(read["y_nm"]) == [-1.5, -2.0]


def test_a_column_that_somebody_adds_is_no_formula_either(tmp_path):
    path = write_clusters(cluster_table(1).assign(**{"=1+1": 3}), tmp_path / "c.csv")
    assert ",'=1+1" in path.read_text().partition("\n")[0]
    assert read_clusters(path).columns[-1] == "=1+1"


printable = st.text(st.characters(exclude_categories=["Cs", "Cc"]), min_size=1, max_size=12)


@settings(deadline=None, max_examples=25)
@given(start=begins, rest=printable | st.sampled_from(["#N/A", "NA", "nan", "1", "TRUE"]))
def test_any_name_comes_back_from_a_workbook(tmp_path_factory, start, rest):
    name = start + rest
    path = tmp_path_factory.getbasetemp() / "any.xlsx"
    table = cluster_table(2, image=name).assign(label_network=name)
    read = read_clusters(write_clusters(table, path))
    assert list(read["image"]) == list(read["label_network"]) == [name, name]


def test_a_workbook_holds_no_control_characters(tmp_path):
    table = cluster_table(1, image="bell\x07.tif")
    sheet = load_workbook(write_clusters(table, tmp_path / "c.xlsx")).active
    assert sheet["A2"].value == "bell\ufffd.tif"


def test_tables_of_different_models_join():
    one, other = cluster_table(2), cluster_table(3, ["Pt41", "Au55"], "b.tif")
    both = concatenate([empty(), one, other])
    assert list(both.columns) == list(columns(["Pt19", "Pt41", "Au55"]))
    assert len(both) == 5 and both.loc[:1, "p_Au55"].isna().all()
    assert both["touches_border"].dtype == bool and both["cluster_id"].dtype == np.int64
    assert list(concatenate([]).columns) == list(columns())


def test_ratios_come_back(tmp_path):
    ratios = class_ratios(cluster_table(30), n_bootstrap=20)
    for suffix in ("csv", "parquet"):
        read = read_table(write_ratios(ratios, tmp_path / f"ratios.{suffix}"))
        pd.testing.assert_frame_equal(
            read, ratios, check_dtype=False, check_exact=True, check_column_type=False
        )
    assert len(read_table(write_ratios(ratios, tmp_path / "ratios.xlsx"))) == len(ratios)
    assert write_ratios(ratios, tmp_path / "ratios.tex").read_text() == latex_table(ratios)


def test_a_failed_write_leaves_the_old_file_and_nothing_else(tmp_path):
    path = tmp_path / "x.csv"
    path.write_text("old")
    with pytest.raises(ZeroDivisionError), atomic_write(path) as temporary:
        temporary.write_text("new")
        raise ZeroDivisionError
    assert path.read_text() == "old" and list(tmp_path.iterdir()) == [path]


def test_a_full_disk_is_named(tmp_path):
    with pytest.raises(AtomicityError, match=r"ratios.csv: could not be written \(No space"):  # noqa: SIM117
        with atomic_write(tmp_path / "ratios.csv"):
            raise OSError(28, "No space left on device")
    assert not list(tmp_path.iterdir())


def test_a_folder_in_the_way_is_named(tmp_path):
    (tmp_path / "clusters.csv").mkdir()
    with pytest.raises(AtomicityError, match=r"clusters\.csv"):
        write_clusters(cluster_table(), tmp_path / "clusters.csv")
    (tmp_path / "file").write_text("")
    with pytest.raises(AtomicityError, match=r"clusters\.csv"):
        write_clusters(cluster_table(), tmp_path / "file" / "clusters.csv")


def test_a_written_file_can_be_read_by_others(tmp_path):
    path = write_json(tmp_path / "new" / "run.json", {"a": 1})
    mask = os.umask(0)
    os.umask(mask)
    assert stat.S_IMODE(path.stat().st_mode) == 0o666 & ~mask


def test_json_is_strict():
    values = {"a": np.float32("nan"), "b": np.arange(2), 3: (np.int64(1), None), "p": os.sep}
    assert json.loads(to_json(values)) == {"a": None, "b": [0, 1], "3": [1, None], "p": os.sep}


@pytest.mark.parametrize(
    ("name", "content", "reason"),
    [
        ("none.csv", None, "no such file"),
        ("empty.csv", b"", "not a csv table"),
        ("text.parquet", b"hello", "not a parquet table"),
        ("text.xlsx", b"hello", "not a xlsx table"),
        ("binary.csv", bytes(range(256)), "not a csv table"),
    ],
)
def test_what_is_no_table_is_refused(tmp_path, name, content, reason):
    if content is not None:
        (tmp_path / name).write_bytes(content)
    with pytest.raises(ReadError, match=f"{name}.*{reason}"):
        read_clusters(tmp_path / name)


def test_a_table_of_something_else_is_refused(tmp_path):
    (tmp_path / "x.csv").write_text("a,b\n1,2\n")
    with pytest.raises(TableError, match="lacks the columns"):
        read_clusters(tmp_path / "x.csv")


def test_an_unknown_suffix_is_refused(tmp_path):
    with pytest.raises(AtomicityError, match=r"\.csv, \.parquet, \.xlsx"):
        write_clusters(cluster_table(), tmp_path / "clusters.doc")
