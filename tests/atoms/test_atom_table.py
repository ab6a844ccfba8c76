"""The atom table keeps its contract."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from napari_atomicity.atoms import table as tables
from napari_atomicity.core.errors import TableError


def some() -> pd.DataFrame:
    return tables.conform(
        pd.DataFrame(
            {
                "image": ["a", "a"],
                "atom_id": [1, 2],
                "y_px": [1.0, 2.0],
                "x_px": [3.0, 4.0],
                "confidence": [0.4, 0.9],
                "origin": ["model", "person"],
                "mine": [5, 6],
            }
        )
    )


def test_conform_adds_what_is_missing_and_keeps_what_is_more():
    table = some()

    assert list(table.columns) == [*tables.COLUMNS, "mine"]
    assert table["cluster_id"].isna().all()
    assert str(table["cluster_id"].dtype) == "Int64"
    assert table["species"].tolist() == ["", ""]
    tables.validate(table)
    tables.validate(tables.empty_table())


def test_a_file_brings_it_back(tmp_path):
    table = some()
    table.loc[0, "uncertain"] = True
    table.to_csv(tmp_path / "atoms.csv", index=False)

    pd.testing.assert_frame_equal(tables.conform(pd.read_csv(tmp_path / "atoms.csv")), table)


@pytest.mark.parametrize(
    ("column", "value", "said"),
    [
        ("y_px", np.nan, "y_px of the atom table has missing"),
        ("confidence", 1.5, "between 0 and 1"),
        ("origin", "guess", "origin"),
        ("atom_id", 1, "atom_id occurs twice"),
    ],
)
def test_what_is_impossible_is_refused(column, value, said):
    table = some()
    table.loc[1, column] = value

    with pytest.raises(TableError, match=said):
        tables.validate(table)


def test_missing_columns_and_text_for_numbers_are_named():
    with pytest.raises(TableError, match="sigma_nm"):
        tables.validate(some().drop(columns="sigma_nm"))
    with pytest.raises(TableError, match="y_px"):
        tables.conform(pd.DataFrame({"y_px": ["here"]}))
