"""HDF5 files that refer to other files."""

from __future__ import annotations

import numpy as np
import pytest

from napari_atomicity.core.errors import ReadError
from napari_atomicity.io.images import load
from napari_atomicity.io.readers.microscope import check_links

h5py = pytest.importorskip("h5py")


@pytest.fixture
def secret(tmp_path):
    """A file in another folder."""
    path = tmp_path / "private" / "secret.h5"
    path.parent.mkdir()
    with h5py.File(path, "w") as file:
        file["data"] = np.ones((8, 8), np.float32)
    return path


def link(file, target):
    file["link"] = h5py.ExternalLink(str(target), "/data")


def storage(file, target):
    file.create_dataset("data", (8, 8), "f4", external=[(str(target), 0, 256)])


def virtual(file, target):
    layout = h5py.VirtualLayout((8, 8), "f4")
    layout[:] = h5py.VirtualSource(str(target), "data", (8, 8))
    file.create_virtual_dataset("data", layout)


@pytest.mark.parametrize("refer", [link, storage, virtual])
@pytest.mark.parametrize("suffix", [".emd", ".hspy"])
def test_a_reference_outside_the_folder_is_never_followed(tmp_path, secret, refer, suffix):
    path = tmp_path / "public" / f"image{suffix}"
    path.parent.mkdir()
    for target in (secret, "../private/secret.h5"):
        with h5py.File(path, "w") as file:
            refer(file, target)
        with pytest.raises(ReadError, match="outside its folder"):
            load(path, 0.03)


@pytest.mark.parametrize("refer", [link, storage, virtual])
def test_a_reference_within_the_folder_is_allowed(secret, refer):
    path = secret.parent / "image.emd"
    with h5py.File(path, "w") as file:
        refer(file, secret.name)
    check_links(path)


def test_a_link_to_itself_and_a_file_of_another_kind_are_not_checked_without_end(tmp_path):
    path = tmp_path / "loop.hspy"
    with h5py.File(path, "w") as file:
        file.create_group("a")["again"] = file["/"]
        file["soft"] = h5py.SoftLink("/soft")
    check_links(path)
    path.write_bytes(b"no HDF5")
    check_links(path)
