"""Damaged parts of a batch, without running one."""

import json
import shutil
from pathlib import Path

import pytest

from napari_atomicity.pipeline.runs.part_store import PartStore

SAMPLE = Path(__file__).parents[1] / "compatibility" / "samples" / "batch"
(STEM,) = (path.stem for path in (SAMPLE / "clusters" / "_movie").iterdir())
"""A stack: it has a table, a drawing and a movie."""


@pytest.fixture
def store(tmp_path):
    return PartStore(shutil.copytree(SAMPLE, tmp_path / "batch"))


def with_large_number(text):
    values = json.loads(text)
    table = values["tables"]["tracks.csv"]
    values["tables"]["tracks.csv"]["columns"] = [
        [name, [10**30] * len(entries)] for name, entries in table["columns"]
    ]
    return json.dumps(values)


def with_other_type(text):
    values = json.loads(text)
    values["tables"]["tracks.csv"]["types"][0] = "i4,f8"
    return json.dumps(values)


DAMAGE = {
    "nothing": lambda text: "",
    "no object": lambda text: "[]",
    "deep": lambda text: "[" * 100_000,
    "missing": lambda text: '{"image": "film.tif"}',
    "large number": with_large_number,
    "other type": with_other_type,
}
OF_TABLES = {"large number", "other type"}


@pytest.mark.parametrize("damage", DAMAGE)
def test_a_damaged_movie_is_computed_again(store, damage):
    assert store.movie(STEM) is not None
    path = store.files.folder / f"{STEM}.movie.json"
    path.write_text(DAMAGE[damage](path.read_text()))
    assert store.movie(STEM) is None


@pytest.mark.parametrize("damage", [name for name in DAMAGE if name not in OF_TABLES])
def test_a_damaged_drawing_is_drawn_again(store, damage):
    assert store.drawing(STEM) is not None
    path = store.files.folder / f"{STEM}.report.json"
    path.write_text(DAMAGE[damage](path.read_text()))
    assert store.drawing(STEM) is None
