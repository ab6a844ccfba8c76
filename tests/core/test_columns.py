"""Tables that are defined as lists of columns."""

import re
from pathlib import Path

import pandas as pd
import pytest

from napari_atomicity.core.errors import TableError
from napari_atomicity.core.tables.columns import Column, conform_columns
from napari_atomicity.tracking.events import DWELL_COLUMNS, EVENT_COLUMNS
from napari_atomicity.tracking.following import TRACK_COLUMNS

DOCS = Path(__file__).parents[2] / "docs"


@pytest.mark.parametrize(
    ("file", "names"),
    [
        ("tracks.csv", TRACK_COLUMNS),
        ("events.csv", EVENT_COLUMNS),
        ("dwell_times.csv", DWELL_COLUMNS),
    ],
)
def test_the_documentation_names_the_columns_of_movies_in_order(file, names):
    page = (DOCS / "reference" / "columns.md").read_text(encoding="utf-8")
    row = next(line for line in page.splitlines() if line.startswith(f"| `{file}`"))
    documented = re.findall(r"\w+", " ".join(re.findall("`([^`]*)`", row)[1:]))
    assert documented == list(names)


@pytest.mark.parametrize("values", [["1", "2"], [1.0, 2.0], [True, True]])
def test_numbers_are_converted_in_whatever_form_a_file_has_them(values):
    columns = [Column("n", "int64", "", "a number")]
    table = conform_columns(pd.DataFrame({"n": values}), columns, "table")
    assert table["n"].dtype == "int64"


@pytest.mark.parametrize("values", [["one", "2"], [0.5, 1.0], [None, 1.0], ["1", "9" * 25]])
def test_what_is_no_integer_is_refused(values):
    columns = [Column("n", "int64", "", "a number")]
    with pytest.raises(TableError, match="the column n of the table"):
        conform_columns(pd.DataFrame({"n": values}), columns, "table")
