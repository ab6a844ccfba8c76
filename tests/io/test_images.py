"""`load`, whatever the format; finding and naming many images."""

import hashlib
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import tifffile
from matplotlib.figure import Figure

from napari_atomicity import load
from napari_atomicity.core.errors import CalibrationError, ReadError
from napari_atomicity.io import images
from napari_atomicity.io.figures import save_figure
from napari_atomicity.io.images import READERS, Reader, find_images, suffixes, unique_names
from napari_atomicity.io.outline_files import write_labels
from napari_atomicity.pipeline.explanations import write_map_stack
from napari_atomicity.pipeline.live.arrivals import Arrivals
from napari_atomicity.project.packs.annotation_packs import export_pack
from napari_atomicity.reporting.charts import write_figure
from napari_atomicity.simulation.structures import Isomer, save_library


@pytest.fixture
def tif(tmp_path):
    path = tmp_path / "A 1.tif"
    tifffile.imwrite(path, np.arange(20, dtype=np.uint8).reshape(4, 5))
    return path


# ---- load
def test_where_it_comes_from(tif):
    read = load(str(tif))
    assert read.name == "A 1.tif"
    assert read.path == tif
    assert read.sha256 == hashlib.sha256(tif.read_bytes()).hexdigest()
    assert json.loads(json.dumps(dict(read.metadata))) == read.metadata
    assert load(tif, name="day/A 1.tif").name == "day/A 1.tif"


@pytest.mark.parametrize("size", [-1.0, 0.0, float("nan"), float("inf"), 1e6])
def test_impossible_pixel_sizes(tif, size):
    with pytest.raises(CalibrationError, match=r"A 1\.tif.*not plausible"):
        load(tif, size)


def test_suffix_in_capitals(tif):
    path = tif.rename(tif.with_suffix(".TIFF"))
    assert load(path).shape_px == (4, 5)


def test_missing_file(tmp_path):
    with pytest.raises(ReadError, match=r"gone\.tif: there is no such file"):
        load(tmp_path / "gone.tif")


def test_folder(tmp_path):
    with pytest.raises(ReadError, match="folder"):
        load(tmp_path)


def test_empty_file(tmp_path):
    (tmp_path / "a.tif").touch()
    with pytest.raises(ReadError, match="empty"):
        load(tmp_path / "a.tif")


def test_a_pipe_is_not_waited_for(tmp_path):
    if not hasattr(os, "mkfifo"):
        pytest.skip("this system has no named pipes")
    os.mkfifo(tmp_path / "a.tif")
    with pytest.raises(ReadError, match="not a regular file"):
        load(tmp_path / "a.tif")


@pytest.mark.parametrize("name", ["a.jpg", "a", "a.tif.part"])
def test_unknown_format_says_what_can_be_read(tmp_path, name):
    (tmp_path / name).write_bytes(b"x")
    with pytest.raises(ReadError, match=r"not supported.*\.tif.*\.dm4"):
        load(tmp_path / name)


def test_no_permission(tif, monkeypatch):
    def denied(path):
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(images, "sha256_of", denied)  # root may read anything
    with pytest.raises(ReadError, match="permission") as caught:
        load(tif)
    assert isinstance(caught.value.__cause__, PermissionError)


@pytest.mark.parametrize(
    "error", [ValueError("bad"), KeyError("x"), MemoryError(), RecursionError()]
)
def test_whatever_a_library_raises_becomes_a_read_error(tif, monkeypatch, error):
    def fail(path):
        raise error

    monkeypatch.setattr(images, "READERS", (Reader("Some format", (".tif",), fail),))
    with pytest.raises(ReadError, match=r"A 1\.tif: .*Some format") as caught:
        load(tif)
    assert caught.value.__cause__ is error
    assert caught.value.advice


def test_a_format_is_one_entry(tmp_path, monkeypatch):
    def read(path):
        return images.RawImage(np.loadtxt(path))

    monkeypatch.setattr(images, "READERS", (*READERS, Reader("Text", (".txt",), read)))
    path = tmp_path / "a.txt"
    path.write_text("1 2\n3 4\n")
    assert load(path).data.tolist() == [[1, 2], [3, 4]]
    assert ".txt" in suffixes()
    assert find_images([tmp_path]) == [path]


def test_suffixes_are_unambiguous():
    assert len(set(suffixes())) == len(suffixes())
    assert all(s.startswith(".") and s == s.lower() for s in suffixes())


def test_importing_the_readers_is_cheap():
    """No file library is loaded before it is needed."""
    code = (
        "import sys, napari_atomicity.io.images; "
        "print([m for m in ('tifffile', 'mrcfile', 'imagecodecs', 'rsciio', 'napari', 'qtpy',"
        " 'torch') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


# ---- find_images
def write_results(folder: Path, image: Path) -> None:
    """One of each result that has the format of an image."""
    figure = Figure()
    save_figure(figure, folder / "figure.png")
    write_figure(figure, folder / "chart")
    write_labels(folder / "small.tif", np.zeros((2, 8, 8), int), 0.05)
    write_labels(folder / "large.tif", np.full((8, 8), 70_000), 0.05)
    maps = {"raw": np.zeros((2, 8, 8)), "LCN": np.zeros((2, 8, 8))}
    write_map_stack(maps, ["1, Pt19", "2, Pt55"], 0.05, folder / "maps.tif")
    export_pack([image], folder / "pack", pixel_size_nm=0.05)
    save_library(folder / "isomers.npz", [Isomer("Pt", "lone", np.zeros((1, 3)))])


def test_no_result_is_an_image(tif, tmp_path):
    write_results(tmp_path / "results", tif)
    assert find_images([tmp_path]) == [tif]
    arrivals = Arrivals(tmp_path, settle_s=0, patience_s=0)
    arrivals.look()
    arrivals.look([path for path in tmp_path.rglob("*") if path.is_file()])
    taken = iter(arrivals.take, None)
    assert [path for path, _ in taken] == [tif]


def touch(folder, *names):
    for name in names:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()


def names(paths, folder):
    return [path.relative_to(folder).as_posix() for path in paths]


def test_folders_are_searched(tmp_path):
    touch(tmp_path, "b.tif", "a.DM4", "sub/c.png", "notes.txt", ".hidden.tif", ".git/d.tif")
    assert names(find_images([tmp_path]), tmp_path) == ["a.DM4", "b.tif", "sub/c.png"]


def test_files_keep_their_order_and_count_once(tmp_path):
    touch(tmp_path, "b.tif", "a.tif", "notes.txt")
    given = [tmp_path / "notes.txt", tmp_path / "b.tif", tmp_path, str(tmp_path / "a.tif")]
    assert names(find_images(given), tmp_path) == ["notes.txt", "b.tif", "a.tif"]


def test_a_ser_and_its_emi_count_once(tmp_path):
    touch(tmp_path, "x.emi", "x_1.ser", "x_2.ser", "alone.emi", "sub/x.emi")
    expected = ["alone.emi", "sub/x.emi", "x_1.ser", "x_2.ser"]
    assert names(find_images([tmp_path]), tmp_path) == expected
    pair = [tmp_path / "x.emi", tmp_path / "x_1.ser"]
    assert find_images(pair) == pair[1:]
    assert find_images(pair[:1]) == pair[:1]


def test_missing_path(tmp_path):
    with pytest.raises(ReadError, match="no such file or folder"):
        find_images([tmp_path / "gone"])


def test_nothing_to_read(tmp_path):
    with pytest.raises(ReadError, match="no image"):
        find_images([tmp_path])
    assert find_images([]) == []


# ---- unique_names
def test_unique_names_are_file_names():
    assert unique_names(["x/a.tif", "y/b.tif"]) == ["a.tif", "b.tif"]


def test_equal_names_get_their_folders():
    paths = [Path("x/a.tif"), Path("x/y/a.tif"), Path("x/b.tif")]
    assert unique_names(paths) == ["a.tif", "y/a.tif", "b.tif"]
    assert unique_names([]) == []
