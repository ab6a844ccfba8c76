"""Named pipes, devices and sockets are refused wherever a path is opened, and never waited for."""

import os
import shutil
import signal
import socket
from contextlib import closing

import pytest
import tifffile
from typer.testing import CliRunner

from napari_atomicity import Project, load
from napari_atomicity.cli import commands as cli
from napari_atomicity.core.errors import ModelError, ReadError
from napari_atomicity.core.model_card import ModelCard
from napari_atomicity.io.provenance import analysed_images
from napari_atomicity.io.tables import read_table
from napari_atomicity.models.files import read_card, read_tensors
from napari_atomicity.pipeline.acquisition_sessions import read_earlier_scale
from napari_atomicity.project.packs.filled_packs import open_archive
from napari_atomicity.simulation.recipes import read_recipe
from napari_atomicity.training.atoms.labelled import read_points
from support import synthetic_analysis

pytestmark = pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs named pipes")


@pytest.fixture(autouse=True)
def no_waiting():
    """End a test that waits for a pipe."""

    def fail(*_):
        raise AssertionError("waited for a pipe")

    before = signal.signal(signal.SIGALRM, fail)
    signal.alarm(60)
    yield
    signal.alarm(0)
    signal.signal(signal.SIGALRM, before)


def atomicity(*arguments):
    return CliRunner().invoke(cli.app, [str(a) for a in arguments])


@pytest.mark.parametrize(
    ("name", "read"),
    [
        *((f"a{end}", load) for end in (".tif", ".npy", ".png", ".mrc", ".dm4", ".emd", ".zarr")),
        *((f"a{end}", read_table) for end in (".csv", ".parquet", ".xlsx")),
        ("a.zip", lambda path: open_archive(path, "pack.json")),
        ("a.atomicity", Project),
        ("a.json", read_recipe),
        ("run.json", read_earlier_scale),
        ("a.csv", lambda path: read_points(path, 0.1)),
        ("a.safetensors", lambda path: read_tensors(path, "")),
    ],
)
def test_a_pipe_is_refused(tmp_path, name, read):
    os.mkfifo(tmp_path / name)
    with pytest.raises(Exception, match=name.replace(".", r"\.")) as caught:
        read(tmp_path / name)
    assert "not a regular file" in str(caught.value) or name == "run.json"
    assert type(caught.value).__module__ == "napari_atomicity.core.errors"


def test_devices_and_sockets_are_refused(tmp_path):
    (tmp_path / "a.tif").symlink_to("/dev/zero")
    with closing(socket.socket(socket.AF_UNIX)) as one:
        one.bind(str(tmp_path / "b.tif"))
        for name in ("a.tif", "b.tif"):
            with pytest.raises(ReadError, match=f"{name}: .*not a regular file"):
                load(tmp_path / name)


@pytest.mark.parametrize("name", ["a.toml", "a.json"])
def test_settings_that_never_end(tmp_path, name):
    os.mkfifo(tmp_path / name)
    (tmp_path / f"zero{name}").symlink_to("/dev/zero")
    for path in (tmp_path / name, tmp_path / f"zero{name}"):
        result = atomicity("analyse", "a.tif", "--out", tmp_path / "o", "--settings", path)
        assert result.exit_code == 2 and "not a regular file" in result.stderr


def test_files_of_a_validation_are_checked_before_they_are_hashed(tmp_path):
    os.mkfifo(tmp_path / "deposits.csv")
    (tmp_path / "Pt19").mkdir()
    tifffile.imwrite(tmp_path / "Pt19" / "a.tif", synthetic_analysis().micrograph.data)
    request = ("--data", tmp_path, "--mixtures", tmp_path / "Pt19", "--out", tmp_path / "o")
    result = atomicity("validate", *request, "--deposits", tmp_path / "deposits.csv")
    assert result.exit_code == 1
    assert "deposits.csv: could not be read (this is not a regular file)" in result.stderr


def test_a_document_has_a_largest_size(tmp_path, tiny_model):
    shutil.copy(tiny_model, tmp_path / "m.safetensors")
    with (tmp_path / "m.json").open("wb") as card:
        card.truncate(3_000_000_000)
    with pytest.raises(ModelError, match=r"m\.json: .*larger than 10 MB"):
        read_card(tmp_path / "m.safetensors", ModelCard)


def zarr_with_pipe(folder):
    import zarr

    zarr.save_array(str(folder / "a.zarr"), synthetic_analysis().micrograph.data)
    os.mkfifo(folder / "a.zarr" / "c" / "pipe")
    return folder / "a.zarr"


def test_a_pipe_in_a_zarr_folder_is_named(tmp_path):
    with pytest.raises(ReadError, match=r"a\.zarr: .*c/pipe: this is not a regular file"):
        load(zarr_with_pipe(tmp_path))


@pytest.mark.parametrize("beside", [".lock", ".lock.lease", ".window", "-wal", "-shm", "-journal"])
def test_a_pipe_beside_a_project_is_refused(tmp_path, beside):
    Project(tmp_path / "a.atomicity").close()
    path = tmp_path / f"a.atomicity{beside}"
    path.unlink(missing_ok=True)
    os.mkfifo(path)
    with pytest.raises(ReadError, match="not a regular file"):
        Project(tmp_path / "a.atomicity")


def test_a_model_whose_card_is_a_pipe(tmp_path, tiny_model):
    shutil.copy(tiny_model, tmp_path / "m.safetensors")
    os.mkfifo(tmp_path / "m.json")
    result = atomicity("analyse", tmp_path / "a.tif", "--model", tmp_path / "m.safetensors",
                       "--out", tmp_path / "out")  # fmt: skip
    assert result.exit_code == 2 and "Traceback" not in result.output
    with pytest.raises(ModelError, match="not a regular file"):
        read_card(tmp_path / "m.safetensors", ModelCard)


@pytest.mark.parametrize("command", ["analyse", "watch"])
def test_pipes_in_a_folder_end_nothing_else(tmp_path, tiny_model, command):
    images = tmp_path / "images"
    images.mkdir()
    tifffile.imwrite(images / "good.tif", synthetic_analysis().micrograph.data)
    os.mkfifo(images / "pipe.tif")
    zarr_with_pipe(images)
    for path in images.rglob("*"):  # no longer on their way
        os.utime(path, (1e9, 1e9))
    once = ("--once",) if command == "watch" else ()
    result = atomicity(command, images, "--out", tmp_path / "out", "--model", tiny_model,
                       "--pixel-size-nm", 0.1, "--no-umap", *once)  # fmt: skip
    assert result.exit_code == 1 and "Traceback" not in result.output, result.output
    assert "c/pipe: this is not a regular file" in result.stderr
    assert analysed_images(tmp_path / "out" / "clusters.csv") == ["good.tif"]
