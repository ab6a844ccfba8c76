"""napari's reader, without a viewer."""

import imageio.v3 as iio
import mrcfile
import numpy as np
import pytest
import tifffile
from brightness import blobs
from npe2 import PluginManager
from synthetic import made_up

from napari_atomicity.core.errors import ReadError
from napari_atomicity.core.micrograph import Micrograph
from napari_atomicity.gui.reader import get_reader
from napari_atomicity.gui.viewer.binding import binding_of
from napari_atomicity.gui.viewer.layers import compat
from napari_atomicity.gui.viewer.layers.micrographs import METADATA_KEY, layer_data
from napari_atomicity.io.images import READERS


@pytest.fixture
def tif(tmp_path):
    path = tmp_path / "field.tif"
    tifffile.imwrite(
        path,
        np.arange(30, dtype=np.uint16).reshape(5, 6),
        imagej=True,
        resolution=(25, 25),
        metadata={"unit": "nm"},
    )
    return path


def test_a_calibrated_image(tif):
    from napari.layers import Layer

    read = get_reader(str(tif))
    assert read is not None
    [(data, options, kind)] = read(str(tif))
    layer = Layer.create(data, options, kind)
    assert layer.name == "field.tif"
    assert tuple(layer.scale) == pytest.approx((0.04, 0.04))
    assert [str(unit) for unit in layer.units] == ["nanometer", "nanometer"]
    assert layer.axis_labels == ("y", "x")
    source = layer.metadata[METADATA_KEY]
    assert source["path"] == str(tif)
    assert source["pixel_size_nm"] == pytest.approx(0.04)
    assert source["calibration"].startswith("ImageJ")
    assert len(source["sha256"]) == 64


def test_a_stack_has_frames_in_pixels():
    from napari.layers import Layer

    layer = Layer.create(*layer_data(Micrograph(np.ones((3, 5, 6)), 0.04)))
    assert tuple(layer.scale) == pytest.approx((1, 0.04, 0.04))
    assert [str(unit) for unit in layer.units] == ["pixel", "nanometer", "nanometer"]


def test_an_uncalibrated_image_stays_in_pixels():
    from napari.layers import Layer

    layer = Layer.create(*layer_data(Micrograph(np.ones((5, 6)))))
    assert tuple(layer.scale) == (1, 1)
    assert [str(unit) for unit in layer.units] == ["pixel", "pixel"]
    assert layer.metadata[METADATA_KEY]["pixel_size_nm"] is None


def test_several_files_are_several_layers(tif):
    other = tif.parent / "sub" / "field.tif"
    other.parent.mkdir()
    other.write_bytes(tif.read_bytes())
    paths = [str(tif), str(other)]
    layers = get_reader(paths)(paths)
    assert [options["name"] for _, options, _ in layers] == ["field.tif", "sub/field.tif"]


def test_other_files_and_folders_are_left_to_others(tmp_path):
    assert get_reader(str(tmp_path / "a.csv")) is None
    assert get_reader([str(tmp_path / "a.tif"), str(tmp_path / "a.csv")]) is None
    assert get_reader([]) is None
    folder = tmp_path / "a.tif"
    folder.mkdir()
    assert get_reader(str(folder)) is None


def test_an_error_says_what_is_wrong(tmp_path):
    path = tmp_path / "a.dm4"
    path.touch()
    with pytest.raises(ReadError, match="empty"):
        get_reader(str(path))(str(path))


def test_a_damaged_file_does_not_keep_others_from_opening(viewer, tif, errors):
    bad, last = tif.parent / "bad.tif", tif.parent / "last.tif"
    bad.write_bytes(tif.read_bytes()[:100])
    last.write_bytes(tif.read_bytes())
    paths = [str(path) for path in (tif, bad, last)]
    viewer.window._qt_viewer._qt_open(paths, stack=False, plugin="napari-atomicity")
    assert [layer.name for layer in viewer.layers] == ["field.tif", "last.tif"]
    assert len(errors) == 1 and "bad.tif" in errors[0]


def test_the_view_is_fitted_to_an_image_that_is_opened(viewer, image_layer, model, tif, settle):
    binding = binding_of(viewer)
    binding.canvas.ensure_image(image_layer)
    binding.state.clusters.set_analysis(made_up(4, "field", size_px=96))
    binding.label_mode.on = True
    camera = compat.camera(viewer)
    camera.zoom *= 20
    viewer.open(str(tif), plugin="napari-atomicity")
    settle(viewer)
    low, high = viewer.layers[-1].extent.world
    half = np.array(compat.canvas_size(viewer)) / (2 * camera.zoom)
    assert (camera.center[-2:] - half < low).all() and (high < camera.center[-2:] + half).all()
    assert not compat.text_overlay(viewer).visible  # of the image before
    binding.current_image.make_current(image_layer)
    viewer.layers.selection.active = image_layer
    assert compat.text_overlay(viewer).visible


def test_napari_offers_the_plugin_for_every_supported_file(viewer):
    manager = PluginManager.instance()
    for suffix in (s for reader in READERS if not reader.folder for s in reader.suffixes):
        readers = manager.iter_compatible_readers([f"field{suffix}"])
        assert "napari-atomicity" in {reader.plugin_name for reader in readers}, suffix


@pytest.mark.parametrize("suffix", [".tif", ".png", ".npy", ".mrc"])
def test_one_file_opens_with_the_plugin_as_on_the_command_line(viewer, tmp_path, suffix):
    path = tmp_path / f"one{suffix}"
    data = blobs()
    if suffix == ".tif":
        tifffile.imwrite(path, data)
    elif suffix == ".png":
        iio.imwrite(path, np.uint8(255 * (data - data.min()) / np.ptp(data)))
    elif suffix == ".npy":
        np.save(path, data)
    else:
        mrcfile.write(path, data)
    # What `napari --plugin napari-atomicity one.tif` calls.
    viewer.window._qt_viewer._qt_open([str(path)], stack=False, plugin="napari-atomicity")
    (layer,) = viewer.layers
    assert layer.name == path.name and layer.data.shape == data.shape
    assert layer.metadata[METADATA_KEY]["path"] == str(path)


def test_a_zarr_folder_is_one_image(viewer, tmp_path):
    import zarr

    path = tmp_path / "field.zarr"
    zarr.save(str(path), blobs())
    viewer.window._qt_viewer._qt_open([str(path)], stack=False, plugin="napari-atomicity")
    (layer,) = viewer.layers
    assert layer.name == "field.zarr" and layer.data.shape == blobs().shape


def contents(folder):
    """Every file below a folder with its content and time of change."""
    return {p: (p.stat().st_mtime_ns, p.is_file() and p.read_bytes()) for p in folder.rglob("*")}


def test_opening_a_file_writes_nothing(viewer, tif):
    before = contents(tif.parent)
    viewer.window._qt_viewer._qt_open([str(tif)], stack=False, plugin="napari-atomicity")
    (layer,) = viewer.layers
    assert tuple(layer.scale) == pytest.approx((0.04, 0.04))
    assert [str(unit) for unit in layer.units] == ["nanometer", "nanometer"]
    assert contents(tif.parent) == before


def test_what_napari_opens_itself_gets_the_scale_of_the_file(viewer, tif, settle):
    binding_of(viewer)  # any dock of the plugin makes it
    (layer,) = viewer.open(str(tif), plugin="napari")
    settle(viewer)
    assert tuple(layer.scale) == pytest.approx((0.04, 0.04))
    assert [str(unit) for unit in layer.units] == ["nanometer", "nanometer"]
