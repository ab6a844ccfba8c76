"""Images and folders that an ordinary user may not read or write."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from napari_atomicity.core.errors import AtomicityError, ReadError
from napari_atomicity.io.images import find_images, load
from napari_atomicity.pipeline.live.watch import Watch
from napari_atomicity.pipeline.run_request import RunRequest
from napari_atomicity.pipeline.runs import finalize
from napari_atomicity.pipeline.runs.engine import analyse_images
from ordinary_user import as_ordinary_user, folder_of_ordinary_user
from pipeline.conftest import write_image
from support import write_tiny_model

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="processes cannot be forked here")


@pytest.fixture
def folder(monkeypatch, read_here):
    """A folder of an ordinary user: images, and a model."""
    monkeypatch.setattr(finalize, "write_report", lambda path, *_, **__: path.write_text(""))
    with folder_of_ordinary_user() as made:
        for i in range(3):
            write_image(made / "in" / f"{i}.tif", seed=i)
        write_image(made / "in" / "closed" / "3.tif", seed=3)
        write_tiny_model(made / "tiny.safetensors")
        yield made


def close(folder: Path) -> None:
    """Forbid to read an image and a folder."""
    (folder / "in" / "1.tif").chmod(0)
    (folder / "in" / "closed").chmod(0)


def request(folder: Path) -> RunRequest:
    return RunRequest(str(folder / "tiny.safetensors"), "cpu", umap=False)


def test_an_image_that_may_not_be_read_is_an_error_that_names_it(folder):
    def part(folder: Path) -> None:
        close(folder)
        with pytest.raises(ReadError, match=r"1\.tif.*permission"):
            load(folder / "in" / "1.tif")
        assert [path.name for path in find_images([folder / "in"])] == ["0.tif", "1.tif", "2.tif"]
        with pytest.raises(ReadError, match="closed"):
            find_images([folder / "in" / "closed"])

    as_ordinary_user(part, folder)


def test_the_images_that_may_be_read_are_analysed(folder):
    def part(folder: Path) -> None:
        close(folder)
        run = analyse_images([folder / "in"], folder / "out", request(folder))
        assert sorted(o.image for o in run.outcomes if o.status == "done") == ["0.tif", "2.tif"]
        (failure,) = [o for o in run.outcomes if o.status == "failed"]
        assert failure.image == "1.tif" and "permission" in failure.error

    as_ordinary_user(part, folder)


def test_a_watched_folder_goes_on_without_what_may_not_be_read(folder):
    def part(folder: Path) -> None:
        close(folder)
        watch = Watch(folder / "in", folder / "out", request(folder), settle_s=0.02, patience_s=0.1)
        run = watch.run(until_idle_s=0.0)
        assert watch.analysed == 2 and [o.image for o in run.failed] == ["1.tif"]
        (folder / "in" / "1.tif").chmod(0o644)
        again = Watch(folder / "in", folder / "out", request(folder), settle_s=0.02)
        assert not again.run(until_idle_s=0.0).failed and again.analysed == 1

    as_ordinary_user(part, folder)


def test_results_are_refused_before_the_work_where_they_can_not_be_written(folder):
    def part(folder: Path) -> None:
        (folder / "out").mkdir()
        (folder / "out").chmod(0o555)
        with pytest.raises(AtomicityError, match=r"out.*can't be written to \(Permission denied\)"):
            analyse_images([folder / "in"], folder / "out", request(folder))
        with pytest.raises(AtomicityError, match=r"can't be written to \(Permission denied\)"):
            Watch(folder / "in", folder / "out", request(folder))

    as_ordinary_user(part, folder)
