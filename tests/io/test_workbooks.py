"""Cells of workbooks from other programs: values, or an error that names the cell."""

import io
import zipfile
from datetime import date, datetime, time

import pandas as pd
import pytest
from hypothesis import HealthCheck, given, settings, strategies as st
from openpyxl import Workbook

from napari_atomicity.core.errors import AtomicityError, ReadError, TableError
from napari_atomicity.io import tables
from napari_atomicity.io.tables import read_clusters, read_reference, read_table

PANDAS_2 = pd.__version__.startswith("2.")
SHEET = '<worksheet xmlns="http://schemas.openxmlformats.org/spreadsheetml/2006/main"><sheetData>'


def workbook(path, *rows):
    book = Workbook()
    for row in rows:
        book.active.append(row)
    book.save(path)
    return path


def with_sheet(path, cells):
    """Write a workbook whose sheet is this XML."""
    plain = io.BytesIO()
    book = Workbook()
    book.save(plain)
    with zipfile.ZipFile(plain) as old, zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as new:
        for name in old.namelist():
            is_sheet = name == "xl/worksheets/sheet1.xml"
            new.writestr(name, f"{SHEET}{cells}</sheetData></worksheet>" if is_sheet
                         else old.read(name))  # fmt: skip
    return path


HEAD = '<row r="1"><c r="A1" t="inlineStr"><is><t>class</t></is></c>' + (
    '<c r="B1" t="inlineStr"><is><t>fraction</t></is></c></row>'
)
NAME = '<c r="A2" t="inlineStr"><is><t>Pt19</t></is></c>'


def test_a_formula_has_the_value_that_was_saved_with_it(tmp_path):
    row = f'<row r="2">{NAME}<c r="B2"><f>1/1</f><v>1</v></c></row>'
    found = read_reference(with_sheet(tmp_path / "r.xlsx", HEAD + row))
    assert found["fraction"].tolist() == [1.0]


@pytest.mark.parametrize(
    ("value", "said"),
    [
        ("=1/3", r"formula in cell B2 has no value: open and save"),
        ("#DIV/0!", r"cell B2 holds the error #DIV/0!"),
        ("#N/A", r"cell B2 holds the error"),
        ("x" * 40_000, r"B2 has more than 32,767 characters"),
    ],
    ids=["formula", "error", "not available", "huge"],
)
def test_a_cell_without_a_valid_value_is_named(tmp_path, value, said):
    if value.startswith("x"):  # openpyxl cuts it
        cell = f'<c r="B2" t="inlineStr"><is><t>{value}</t></is></c>'
        path = with_sheet(tmp_path / "r.xlsx", f'{HEAD}<row r="2">{NAME}{cell}</row>')
    else:
        path = workbook(tmp_path / "r.xlsx", ["class", "fraction"], ["Pt19", value])
    with pytest.raises(ReadError, match=said) as caught:
        read_reference(path)
    assert caught.value.path == path and len(str(caught.value)) < 300


@pytest.mark.parametrize("value", [date(2026, 1, 2), datetime(2026, 1, 2, 3), time(3)])
def test_a_date_is_no_name_and_no_number(tmp_path, value):
    path = workbook(tmp_path / "names.xlsx", ["class", "fraction"], [value, 1])
    with pytest.raises(ReadError, match="cell A2 is a date: format its column as text"):
        read_reference(path)
    path = workbook(tmp_path / "numbers.xlsx", ["class", "fraction"], ["Pt19", value])
    with pytest.raises(TableError, match="fraction of Pt19"):
        read_reference(path)
    path = workbook(tmp_path / "own.xlsx", ["class", "fraction", "recorded"], ["Pt19", 1, value])
    assert read_table(path)["recorded"].tolist()[0].startswith(str(value))


def test_what_else_is_in_a_workbook_is_read(tmp_path):
    rows = (["class", "fraction", None], [19, 0.5, None], ["NA", "0.5", True], [None], [None])
    found = read_table(workbook(tmp_path / "r.xlsx", *rows))
    assert found["class"].tolist() == ["19", "NA"] and found["fraction"].tolist() == [0.5, 0.5]
    assert len(read_table(workbook(tmp_path / "empty.xlsx"))) == 0


@pytest.mark.parametrize(
    "cells",
    [
        f'{HEAD}<row r="99999999999"><c r="A99999999999"><v>1</v></c></row>',
        f'{HEAD}<row r="2"><c r="ZZZ2"><v>1</v></c></row>',
        f'{HEAD}<row r="2"><c r="ZZZZZZ2"><v>1</v></c></row>',
        f'{HEAD}<row r="2">{NAME}<c r="B2"><v>{"1" * 5000}</v></c></row>',
        f'{HEAD}<row r="2">{NAME}<c r="B2"><v>one</v></c></row>',
        f'{HEAD}<row r="2">{NAME}<c r="B2" t="s"><v>99</v></c></row>',
        f"{HEAD}<row",
    ],
)
def test_a_sheet_that_no_spreadsheet_writes_is_refused(tmp_path, cells):
    with pytest.raises(ReadError, match="not a xlsx table"):
        read_table(with_sheet(tmp_path / "r.xlsx", cells))


def test_a_workbook_too_large_to_unpack_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(tables, "MAX_BYTES", 1_000_000)
    path = with_sheet(tmp_path / "r.xlsx", HEAD + '<row r="2"></row>' * 100_000)
    assert path.stat().st_size < 50_000
    with pytest.raises(ReadError, match="save it as CSV"):
        read_table(path)


values = st.one_of(
    st.none(), st.booleans(), st.integers(-(2**53), 2**53), st.floats(), st.dates(), st.times(),
    st.timedeltas(), st.text(st.characters(exclude_categories=["Cs", "Cc"]), max_size=5),
    st.sampled_from(["=1+1", "#N/A", "#REF!", "=A1", "nan", "1e400"]),
)  # fmt: skip
heads = st.sampled_from(
    ["image", "cluster_id", "y_px", "x_px", "label", "class", "fraction", "p_a"]
)


@settings(
    max_examples=80, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(st.lists(st.lists(values, max_size=4), max_size=4), st.lists(heads | values, max_size=5))
def test_any_cells_are_a_table_or_an_error(tmp_path, rows, head):
    try:
        path = workbook(tmp_path / "any.xlsx", head, *rows)
    except (ValueError, OverflowError):
        return  # openpyxl writes no such cells
    for read in (read_table, read_reference, read_clusters):
        try:
            assert isinstance(read(path), pd.DataFrame)
        except AtomicityError as error:
            assert error.path == path


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("," * 2_000_000, "columns"),
        ("X,Y\n" + "," * 2_000_000, "columns"),
        ("x" * 2_000_000, "columns or very long lines"),
        ("X,Y\n" + "1,2,3,4\n" * 10, "more cells than the header"),
        pytest.param(
            "X,Y\n1,2,\n3,4,\n",
            "more cells than the header",
            marks=pytest.mark.skipif(PANDAS_2, reason="pandas 2 leaves out empty cells at the end"),
        ),
    ],
)
def test_a_csv_file_of_wrong_width_is_refused_at_once(tmp_path, text, said):
    (tmp_path / "t.csv").write_text(text)
    with pytest.raises(ReadError, match=said):
        read_table(tmp_path / "t.csv")


def test_an_error_does_not_quote_a_whole_file(tmp_path):
    path = tmp_path / "t.csv"
    path.write_text(f"image,cluster_id\na,{'b' * 500_000}\n")
    with pytest.raises(TableError) as caught:
        read_clusters(path)
    assert len(str(caught.value)) < 5000
