"""A column that is declared in the cluster table is everywhere, without another line of code."""

import os
import subprocess
import sys

import pytest

DECLARED = """
import importlib.util, sys
from pathlib import Path

name = "napari_atomicity.core.tables.cluster_table"
spec = importlib.util.find_spec(name)
module = importlib.util.module_from_spec(spec)
sys.modules[name] = module
source = Path(spec.origin).read_text(encoding="utf-8")
assert {anchor!r} in source
source = source.replace({anchor!r}, {anchor!r} + '''
    Column(
        {column!r}, {dtype}, "nm", "a made-up column", decimals=3, in_viewer=True, in_table=True
    ),''', 1)
exec(compile(source, spec.origin, "exec"), module.__dict__)
"""
WALK = """
from dataclasses import replace
import numpy as np, pandas as pd
from bench import analysed, write_image
from napari_atomicity.core.tables.cluster_table import conform, documented_columns
from napari_atomicity.gui.table.model import USUAL, describe_column
from napari_atomicity.gui.viewer.layers.point_style import FEATURES
from napari_atomicity.io.clipboard import tab_separated
from napari_atomicity.io.tables import read_clusters, write_clusters
from napari_atomicity.project import EditKind, ImageEdit, Project

folder = Path(sys.argv[1])
before = analysed(write_image(folder / "a.tif"))
values = {values}
table = conform(before.table.assign({column}=values))
assert str(table["{column}"].dtype) == {dtype}
with Project(folder / "p.atomicity") as project:
    project.add_paths([folder / "a.tif"])
    project.image_files.update_metadata(before.micrograph)
    edit = ImageEdit("a.tif", EditKind.ANALYSIS, "Ada")
    project.record(edit, None, replace(before, table=table))
    project.flush()
with Project(folder / "p.atomicity", read_only=True) as project:
    again = project.load("a.tif").analysis.table
pd.testing.assert_frame_equal(again, table)
for suffix in ("csv", "parquet"):
    path = write_clusters(again, folder / f"clusters.{{suffix}}")
    pd.testing.assert_series_equal(read_clusters(path)["{column}"], table["{column}"])
assert "{column}" in USUAL and describe_column("{column}") == "a made-up column, in nm"
assert "{column}" in [column.name for column in documented_columns()]
line = tab_separated(again[["{column}"]]).splitlines()[3]
assert line == {third!r}, line
print("{column}" in FEATURES)
"""
MEASURED = (
    '    Column("frame", "int64", "", "index of the frame in a stack, 0 for a single image"),'
)
OPTIONAL = "OPTIONAL_SCHEMA = ("


@pytest.mark.parametrize(
    ("anchor", "column", "dtype", "values", "third", "is_feature"),
    [
        (MEASURED, "height_nm", '"float64"', "np.linspace(1, 2, len(before.table))", "1.182", True),
        (MEASURED, "remark", "'object'", "'weak'", "weak", True),
        (OPTIONAL, "is_flat", '"bool"', "before.table['frame'] == 0", "True", False),
    ],
)
def test_a_declared_column_is_everywhere(
    tmp_path, anchor, column, dtype, values, third, is_feature
):
    filled = (DECLARED + WALK).format(
        anchor=anchor, column=column, dtype=dtype, values=values, third=third
    )
    paths = os.pathsep.join(p for p in sys.path if p)
    done = subprocess.run(
        [sys.executable, "-c", filled, tmp_path],
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": paths, "QT_QPA_PLATFORM": "offscreen"},
    )
    assert done.stdout.split() == [str(is_feature)], done.stderr
