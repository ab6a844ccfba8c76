"""A folder of images and a project of them."""

from __future__ import annotations

from pathlib import Path

import pytest
from bench import analysed, write_image

from napari_atomicity.project import EditKind, ImageEdit, Project


@pytest.fixture
def folder(tmp_path) -> Path:
    """Three image files."""
    where = tmp_path / "morning"
    where.mkdir()
    for seed, name in enumerate(("a.tif", "b.tif", "c.tif")):
        write_image(where / name, seed)
    return where


@pytest.fixture
def project(folder):
    """A project of the three, of which the first is analysed."""
    with Project(folder / "morning.atomicity") as made:
        made.add_paths([folder])
        first = analysed(folder / "a.tif")
        made.image_files.update_metadata(first.micrograph)
        made.record(ImageEdit("a.tif", EditKind.ANALYSIS, "Ada"), None, first)
        made.flush()
        yield made
