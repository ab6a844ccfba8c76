"""`atomicity evaluate` of columns of labels, with figures."""

import json

import pytest
from typer.testing import CliRunner

from napari_atomicity.cli.commands import app
from napari_atomicity.io.tables import write_clusters
from support import CLASSES, synthetic_analysis


def atomicity(*arguments):
    return CliRunner().invoke(app, [str(a) for a in arguments])


@pytest.fixture
def tables(tmp_path):
    """A table of clusters with labels of two estimators, and the truth."""
    table = synthetic_analysis(40).table
    truth = table[["image", "x_px", "y_px", "y_nm", "x_nm", "label", "diameter_nm"]]
    truth.to_csv(tmp_path / "truth.csv", index=False)
    table = table.assign(label_network=table["label"], label_diameter=CLASSES[0])
    return write_clusters(table, tmp_path / "clusters.csv"), tmp_path / "truth.csv"


def test_columns_are_scored_side_by_side(tables):
    result = atomicity("evaluate", *tables, "--column", "label_diameter", "--column", "label")
    scores = json.loads(result.stdout)
    assert scores["column"] == "label_diameter" and set(scores["columns"]) == {
        "label", "label_diameter",
    }  # fmt: skip
    assert scores["columns"]["label"]["classification"]["accuracy"] == 1
    assert scores["classification"]["accuracy"] < 1
    assert scores["classification"] == scores["columns"]["label_diameter"]["classification"]
    one = json.loads(atomicity("evaluate", *tables).stdout)
    assert one == scores["columns"]["label"] and one["intervals"]["accuracy"] == [1, 1]


def test_figures_are_written_for_each_column(tables, tmp_path):
    folder = tmp_path / "new" / "figures"
    columns = ("--column", "label_network", "--column", "label_diameter")
    result = atomicity("evaluate", *tables, *columns, "--figures", folder)
    assert result.exit_code == 0, result.stderr
    assert {path.name for path in folder.iterdir()} == {
        f"{chart}-{column}.{kind}"
        for chart in ("confusion", "ratios")
        for column in ("label_network", "label_diameter")
        for kind in ("png", "svg")
    }
    assert "True label" in (folder / "confusion-label_network.svg").read_text()
    assert "8 figures" in result.stderr


def test_an_unknown_column_is_wrong_usage_and_names_the_others(tables, tmp_path):
    result = atomicity("evaluate", *tables, "--column", "confidence", "--figures", tmp_path / "f")
    assert result.exit_code == 2 and result.stdout == ""
    words = " ".join(result.stderr.replace("│", " ").split())
    assert "no column of labels 'confidence'; it has label, label_predicted" in words
    assert not (tmp_path / "f").exists()


def test_tables_of_atoms_have_no_columns_of_labels(tmp_path):
    (tmp_path / "atoms.csv").write_text("X,Y\n3,4\n")
    result = atomicity(
        "evaluate", tmp_path / "atoms.csv", tmp_path / "atoms.csv", "--column", "label"
    )
    assert result.exit_code == 2 and "not for tables of atoms" in result.stderr
