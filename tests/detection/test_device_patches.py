"""Patches by PyTorch beside those by NumPy; a GPU that has no memory, and one that goes away."""

import numpy as np
import pytest
import torch

from napari_atomicity.core import devices
from napari_atomicity.core.micrograph import Micrograph
from napari_atomicity.core.patches import PatchSettings
from napari_atomicity.core.tables.cluster_table import empty
from napari_atomicity.detection import device_patches
from napari_atomicity.detection.device_patches import (
    as_arrays,
    patches_for_device,
    patches_on_device,
)
from napari_atomicity.detection.patches import extract_patches
from napari_atomicity.models.inference import load_classifier
from stand_in_gpu import DEVICE, StandInGpu

CPU = torch.device("cpu")


class Gpu:
    type = "cuda"


@pytest.fixture(autouse=True)
def nothing_lost(monkeypatch):
    monkeypatch.setattr(devices, "_lost", set())
    monkeypatch.setattr(device_patches, "release_memory", lambda device: None)


def field(shape=(300, 260), pixel_nm=0.02, seed=0, frames=None):
    rng = np.random.default_rng(seed)
    whole = shape if frames is None else (frames, *shape)
    data = rng.normal(100, 5, whole) + np.linspace(0, 200, shape[1])
    data[..., 100:130, 100:130] += 300
    return Micrograph(data.astype(np.float32), pixel_nm)


def clusters(points, frame=0):
    table = empty(("Pt19",)).reindex(range(len(points)))
    table["y_px"], table["x_px"] = np.array(points, float).T
    table["frame"] = frame
    return table


def settings(**known):
    defaults = {"field_of_view_nm": 2.4, "size_px": 40, "channels": ("raw", "LCN")}
    return PatchSettings(**{**defaults, "lcn_window_nm": 0.8, **known})


POINTS = [(115.3, 114.9), (0.0, 0.0), (299.0, 259.0), (150.25, 30.75), (20.5, 200.0)]


@pytest.mark.parametrize("pixel_nm", [0.012, 0.02, 0.06])
def test_the_same_patches(pixel_nm):
    micrograph, table = field(pixel_nm=pixel_nm), clusters(POINTS)
    ours = patches_on_device(CPU, micrograph, table, settings(), 3.0)
    reference = extract_patches(micrograph, table, settings(), 3.0)
    for channel, expected in reference.items():
        scale = np.abs(expected).max()
        np.testing.assert_allclose(ours[channel].numpy(), expected, atol=3e-3 * scale)


def test_one_channel_of_a_stack():
    micrograph = field(frames=3)
    table = clusters(POINTS, frame=[0, 2, 2, 1, 0])
    one = settings(channels=("raw",))
    ours = patches_on_device(CPU, micrograph, table, one)
    expected = extract_patches(micrograph, table, one)
    assert list(ours) == ["raw"]
    np.testing.assert_allclose(ours["raw"].numpy(), expected["raw"], atol=1.0)


def test_tiles_make_no_difference():
    micrograph, table = field((700, 900)), clusters([(y, x) for y in (50, 640) for x in (9, 880)])
    whole = patches_on_device(CPU, micrograph, table, settings())
    tiled = patches_on_device(CPU, micrograph, table, settings(), tile_px=256)
    for channel in whole:
        scale = float(whole[channel].abs().max())
        np.testing.assert_allclose(tiled[channel], whole[channel], atol=1e-4 * scale)


def test_gaps_cost_only_themselves():
    micrograph, table = field(), clusters(POINTS)
    micrograph.data[::37, ::11] = np.nan
    micrograph.data[150:180, 200:240] = np.inf
    ours = patches_on_device(CPU, micrograph, table, settings())
    for channel, expected in extract_patches(micrograph, table, settings()).items():
        scale = np.abs(expected).max()
        np.testing.assert_allclose(ours[channel].numpy(), expected, atol=3e-3 * scale)


def test_nothing_of_the_cpu_gets_into_what_is_computed_there(monkeypatch):
    monkeypatch.setattr(devices, "_STRIP_VALUES", 5000)
    micrograph = field((700, 900))
    table = clusters([(y, x) for y in (5, 640) for x in (9, 880)])
    wanted = settings(lcn_window_nm=0.1)
    size = micrograph.data.nbytes
    with StandInGpu() as gpu:
        patches = patches_on_device(DEVICE, micrograph, table, wanted)
        assert size < gpu.sent < 2 * size, "the frame once, with its margins, and small grids"
        assert gpu.fetched == 0
        arrays = {channel: values.cpu().numpy() for channel, values in patches.items()}
    there = patches_on_device(CPU, micrograph, table, wanted)
    for channel, values in arrays.items():
        np.testing.assert_array_equal(values, there[channel].numpy())


def test_no_clusters():
    assert patches_on_device(CPU, field(), clusters([(1, 1)])[:0], settings())["raw"].shape == (
        0, 40, 40,
    )  # fmt: skip


def test_smaller_tiles_where_memory_does_not_suffice(monkeypatch):
    asked = []

    def small(device, *rest):
        asked.append(rest[-1])
        if rest[-1] > 2048:
            raise torch.OutOfMemoryError("no memory")
        return patches_on_device(CPU, *rest)

    monkeypatch.setattr(device_patches, "patches_on_device", small)
    found = patches_for_device(Gpu(), field(), clusters(POINTS), settings())
    assert asked == [8192, 4096, 2048]
    assert isinstance(found["raw"], torch.Tensor)


@pytest.mark.parametrize("error", [torch.OutOfMemoryError("x"), RuntimeError("CUDA error: gone")])
def test_the_cpu_does_it_in_the_end(monkeypatch, error):
    def fail(*_):
        raise error

    monkeypatch.setattr(device_patches, "patches_on_device", fail)
    found = patches_for_device(Gpu(), field(), clusters(POINTS), settings())
    np.testing.assert_array_equal(
        found["LCN"], extract_patches(field(), clusters(POINTS), settings())["LCN"]
    )


def test_a_classifier_takes_them_where_they_are(tiny_model):
    classifier = load_classifier(tiny_model, "cpu")
    micrograph, table = field(), clusters(POINTS)
    there = patches_on_device(CPU, micrograph, table, classifier.card.patches)
    arrays = as_arrays(there)
    assert all(isinstance(x, np.ndarray) for x in arrays.values())
    np.testing.assert_array_equal(
        classifier.predict(there).probabilities, classifier.predict(arrays).probabilities
    )


def test_other_errors_are_not_hidden(monkeypatch):
    def fail(*_):
        raise RuntimeError("a mistake of ours")

    monkeypatch.setattr(device_patches, "patches_on_device", fail)
    with pytest.raises(RuntimeError, match="mistake"):
        patches_for_device(Gpu(), field(), clusters(POINTS), settings())
