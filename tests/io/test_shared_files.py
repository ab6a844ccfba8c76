"""Real files of each kind, where the data folder lies beside the repository."""

from importlib.util import find_spec
from pathlib import Path

import pytest

from napari_atomicity import load
from napari_atomicity.core.errors import (
    AtomicityError,
    DependencyError,
    ReadError,
    UnsuitableImageError,
    install_command,
)
from napari_atomicity.io.images import find_images

DATA = Path(__file__).parents[2].parent / "shared" / "data"
FORMATS = DATA / "formats"
pytestmark = pytest.mark.skipif(
    not FORMATS.is_dir(), reason="the data folder is not beside the repository"
)
MAKERS = (".dm3", ".dm4", ".emd", ".ser", ".emi", ".hspy", ".prz")

# file → shape and nm per pixel
READABLE = {
    "jeol_haadf.dm4": ((112, 112), 1.2490),
    "sio2_haadf.hspy": ((128, 128), 8.5524),
    "64x64_TEM_images_acquire_1.ser": ((64, 64), 6.2818),
    "64x64_TEM_images_acquire.emi": ((64, 64), 6.2818),
    "example_image.emd": ((3, 3), None),
    "panta_rhei_sample.prz": ((16, 16), 7.7958),
    "20241021_00405_final.mrc": ((4, 8), None),
    "test_loading_image_saved_with_DM.tif": ((68, 68), 168.67),
    "test_stackbuilder_imagestack.dm3": ((3, 2, 16), 59.983),
}
REFUSED = {
    "test_loading_image_saved_with_DM_stack.tif": (UnsuitableImageError, "not square"),
    "reciprocal.hspy": (UnsuitableImageError, "diffraction pattern"),
    "corrupt_truncated.dm4": (ReadError, "damaged"),
    "corrupt_empty.tif": (ReadError, "empty"),
    "not_an_image.tif": (ReadError, "not a TIFF"),
}


def refused_without_the_extra(name):
    """Without RosettaSciIO there is nothing more to check than what it says."""
    if find_spec("rsciio") is None and name.endswith(MAKERS):
        with pytest.raises(DependencyError) as caught:
            load(FORMATS / name)
        assert install_command("microscopes") in str(caught.value)
        return True
    return False


@pytest.mark.parametrize("name", READABLE)
def test_readable(name):
    if refused_without_the_extra(name):
        return
    shape, size = READABLE[name]
    read = load(FORMATS / name)
    assert read.data.shape == shape
    assert read.pixel_size_nm == (size and pytest.approx(size, rel=1e-4))
    assert read.name == name
    assert load(FORMATS / name, 0.04).pixel_size_nm == 0.04


@pytest.mark.parametrize("name", REFUSED)
@pytest.mark.parametrize("given_nm", [None, 0.04])
def test_refused(name, given_nm):
    if refused_without_the_extra(name):
        return
    kind, reason = REFUSED[name]
    with pytest.raises(kind, match=reason) as caught:
        load(FORMATS / name, given_nm)
    assert str(caught.value).startswith(name)


def test_every_file_is_spoken_for():
    there = {path.name for path in find_images([FORMATS])}
    assert there == (READABLE.keys() | REFUSED.keys()) - {"64x64_TEM_images_acquire.emi"}


def test_a_ser_is_described_by_its_emi():
    pytest.importorskip("rsciio", reason="needs the extra microscopes")
    assert "Tecnai" in load(FORMATS / "64x64_TEM_images_acquire_1.ser").metadata["instrument"]


def test_images_of_single_atoms():
    for path in find_images([DATA / "atoms_ptnc" / "images"]):
        read = load(path)
        assert read.data.shape == (512, 512)
        assert read.pixel_size_nm == pytest.approx(0.029296875)


def test_images_without_calibration():
    for path in find_images([DATA / "atoms_molecular" / "images"]):
        assert load(path).pixel_size_nm is None


def test_simulated_fields():
    path = next((DATA / "clusters").rglob("*.tif"), None)
    assert path is not None
    read = load(path)
    assert read.data.shape == (1024, 1024)
    assert read.pixel_size_nm in (pytest.approx(0.040), pytest.approx(0.048))


@pytest.mark.parametrize("cut", [1, 100, 3_000, 12_000])
@pytest.mark.parametrize("name", [n for n in READABLE if n.endswith(MAKERS)])
def test_truncated(tmp_path, name, cut):
    pytest.importorskip("rsciio", reason="needs the extra microscopes")
    raw = (FORMATS / name).read_bytes()
    path = tmp_path / name
    path.write_bytes(raw[: min(cut, len(raw) - 1)])
    with pytest.raises(AtomicityError) as caught:
        load(path)
    assert caught.value.path == path
