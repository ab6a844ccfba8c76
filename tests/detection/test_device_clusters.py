"""Clusters found by PyTorch beside those found by NumPy; what becomes of it without a GPU."""

import logging

import dask.array as da
import numpy as np
import pytest
import torch
from scipy import ndimage
from skimage.segmentation import watershed

from napari_atomicity import analysis as analyses
from napari_atomicity import micrograph as micrographs
from napari_atomicity.analysis import analyse, detect_clusters
from napari_atomicity.detection import device_clusters, device_frame, device_outlines
from napari_atomicity.detection.background import local_noise
from napari_atomicity.detection.clusters import DetectionSettings, detect, prepare
from napari_atomicity.detection.device_clusters import detect_for_device, outlines_on_device
from napari_atomicity.detection.device_frame import DeviceFrame, send, sent_once
from napari_atomicity.detection.device_outlines import _median, _polygons, _within, _without_holes
from napari_atomicity.detection.device_patches import patches_on_device
from napari_atomicity.detection.device_regions import components, flood
from napari_atomicity.detection.device_summits import find_summits, noise_of, noise_under
from napari_atomicity.detection.frame import whole
from napari_atomicity.detection.outlines import _polygons as polygons_by_contourpy
from napari_atomicity.detection.summits import find_summits as find_summits_by_numpy
from napari_atomicity.detection.summits import noise_under as noise_under_by_numpy
from napari_atomicity.micrograph import Micrograph
from napari_atomicity.model import devices
from napari_atomicity.model.card import PatchSettings
from napari_atomicity.model.classifier import load_classifier
from napari_atomicity.progress import Cancelled
from stand_in_gpu import DEVICE, StandInGpu

CPU = torch.device("cpu")
LOST = RuntimeError("CUDA error: unspecified launch failure\nmore words")


class Gpu:
    """Named like one; what runs on it is given by the test."""

    type = "cuda"

    def __str__(self):
        return "cuda"


@pytest.fixture(autouse=True)
def nothing_lost(monkeypatch):
    monkeypatch.setattr(devices, "_lost", set())
    for module in (device_clusters, device_frame):
        monkeypatch.setattr(module, "give_back", lambda device: None)


def image(shape=(260, 300), seed=0, clusters=8, radius=(8, 18)):
    """Blurred discs anywhere on a noisy slope, some of them touching, some cut by the border."""
    rng = np.random.default_rng(seed)
    yy, xx = np.mgrid[: shape[0], : shape[1]]
    out = np.zeros(shape)
    for _ in range(clusters):
        y, x = rng.uniform(0, shape)
        r = rng.uniform(*radius)
        for dx in (0, 2.0 * r)[: rng.integers(1, 3)]:
            out = np.maximum(out, np.hypot(yy - y, xx - x - dx) <= r)
    out = ndimage.gaussian_filter(40 * out, 1.6) + 100 + 0.05 * yy
    return (out + rng.normal(0, 2, shape)).astype(np.float32)


def by_pytorch(micrograph, settings=None, device=CPU):
    return detect(micrograph, settings, find=lambda *rest: outlines_on_device(device, *rest))


def assert_same(ours, reference):
    table, expected = ours.table, reference.table
    assert len(table) == len(expected)
    for column in ("frame", "touches_border", "touches_neighbour"):
        np.testing.assert_array_equal(table[column], expected[column])
    for column in ("y_nm", "x_nm", "diameter_nm", "eccentricity"):
        np.testing.assert_allclose(table[column], expected[column], rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(
        table["integrated_intensity"], expected["integrated_intensity"], rtol=1e-4
    )
    for one, other in zip(ours.outlines, reference.outlines, strict=True):
        np.testing.assert_allclose(one, other)


@pytest.mark.parametrize("pixel_nm", [0.025, 0.05, 0.11])
@pytest.mark.parametrize("seed", [0, 1, 2])
def test_the_same_clusters(pixel_nm, seed):
    shape = (530, 590) if pixel_nm < 0.05 else (330, 290)
    pixels = image(shape, seed, radius=(0.4 / pixel_nm, 0.9 / pixel_nm))
    micrograph = Micrograph(pixels, pixel_nm)
    reference = detect(micrograph)
    assert len(reference.table) > 3
    assert_same(by_pytorch(micrograph), reference)


def test_touching_ones_and_those_that_are_not_split():
    micrograph = Micrograph(image(seed=4, clusters=14), 0.05)
    reference = detect(micrograph)
    assert reference.table["touches_neighbour"].any() and reference.table["touches_border"].any()
    assert_same(by_pytorch(micrograph), reference)
    whole_ones = DetectionSettings(split_touching=False)
    assert_same(by_pytorch(micrograph, whole_ones), detect(micrograph, whole_ones))


def test_gaps_and_frames_without_anything():
    pixels = image()
    pixels[::37, ::11] = np.nan
    pixels[150:, 200:240] = np.inf
    stack = np.stack([pixels, np.full_like(pixels, np.nan), image(seed=3), np.ones_like(pixels)])
    stack[3, 0, 0] = np.nan
    micrograph = Micrograph(stack, 0.05)
    assert_same(by_pytorch(micrograph), detect(micrograph))
    for shape in ((1, 1), (3, 40), (17, 300)):
        small = Micrograph(np.random.default_rng(0).normal(100, 3, shape), 0.05)
        assert_same(by_pytorch(small), detect(small))


def test_some_windows_at_a_time(monkeypatch):
    micrograph = Micrograph(image(seed=5), 0.05)
    reference = by_pytorch(micrograph)
    monkeypatch.setattr(device_outlines, "_WINDOW_PIXELS", 5000)
    assert_same(by_pytorch(micrograph), reference)


def test_from_the_background_to_the_summits_it_is_the_same_to_the_bit():
    pixels = image((301, 270), 6)
    for factor in (1, 2):
        frame = prepare(pixels, 0.05 / factor, DetectionSettings())
        ours = DeviceFrame(torch.from_numpy(pixels), pixels, 0.05 / factor, frame._factor, 12.8)
        assert ours.shape == frame.shape
        for name in ("low", "high", "n_finite"):
            assert getattr(ours, name) == getattr(frame, name)
        assert ours.mean == pytest.approx(frame.mean, rel=1e-6)
        np.testing.assert_allclose(ours.background.values, frame.background.values, rtol=1e-6)
        ours.background = frame.background  # sums over blocks are rounded in another order
        for step in (1, 2, 3):
            shape = tuple(n // step for n in frame.shape)
            expected = frame.flat(whole(shape).grown(5), step)
            np.testing.assert_array_equal(ours.flat(step, 5).numpy(), expected)
        found = find_summits(ours, np.array([1.5, 2.5, 4, 7, 12]), 3.0, 60)
        expected = find_summits_by_numpy(frame, np.array([1.5, 2.5, 4, 7, 12]), 3.0, 60)
        assert len(expected.points) > 20
        for name in ("points", "response", "radius"):
            np.testing.assert_array_equal(getattr(found, name), getattr(expected, name))
        np.testing.assert_array_equal(
            noise_under(ours, 2.0, 50).values, noise_under_by_numpy(frame, 2.0, 50).values
        )


def test_noise_of_blocks_that_are_not_equal():
    response = np.random.default_rng(1).normal(0, 3, (211, 173)).astype(np.float32)
    for block in (7, 30, 50, 500):
        grid = noise_of(torch.from_numpy(response), block)
        np.testing.assert_array_equal(
            grid.at(np.arange(211), np.arange(173)), local_noise(response, block)
        )


# ---- parts, watersheds, windows
@pytest.mark.parametrize("share", [0.0, 0.3, 0.55, 0.65, 1.0])
def test_parts_are_those_of_scipy(share):
    masks = np.random.default_rng(0).random((3, 60, 70)) < share
    parts = components(torch.from_numpy(masks)).numpy()
    assert not parts[~masks].any()
    first = 0
    for mask, part in zip(masks, parts, strict=True):
        labels, n = ndimage.label(mask)
        pairs = set(zip(labels[mask].tolist(), part[mask].tolist(), strict=True))
        assert len(pairs) == n == len({one for _, one in pairs})
        if n:  # named after its first pixel
            assert part[mask][0] == first + 1
        first += int(mask.sum())


@pytest.mark.parametrize("seed", range(4))
def test_floods_are_those_of_a_queue(seed):
    rng = np.random.default_rng(seed)
    height = ndimage.gaussian_filter(rng.normal(size=(150, 140)), 3).astype(np.float32)
    mask, seeds = height > -0.02, np.zeros(height.shape, np.int64)
    at = rng.integers(0, 140, (25, 2)).T
    mask[*at], seeds[*at] = True, np.arange(1, 26)
    expected = watershed(-height, seeds, mask=mask)
    found = flood(*(torch.from_numpy(x) for x in (height, mask, seeds))).numpy()
    np.testing.assert_array_equal(found > 0, expected > 0)
    assert (found != expected).sum() <= 1e-3 * mask.sum()  # where two floods meet at once


def test_holes_are_filled_but_not_bays():
    masks = np.zeros((3, 9, 9), bool)
    masks[:, 1:8, 1:8] = True
    masks[0, 4, 4] = False
    masks[1, 4, 4:] = False
    masks[2, [3, 4, 4, 5], [4, 3, 5, 4]] = False  # a ring of pixels around one
    expected = np.array([ndimage.binary_fill_holes(mask) for mask in masks])
    assert expected[0].all() != expected[1].all() or not expected[1, 4, 5]
    np.testing.assert_array_equal(_without_holes(torch.from_numpy(masks)).numpy(), expected)


def test_contours_are_those_of_contourpy():
    rng = np.random.default_rng(0)
    field = ndimage.gaussian_filter(rng.normal(size=(40, 26, 30)), (0, 1.2, 1.2))
    masks = np.pad(field > 0, ((0, 0), (1, 1), (1, 1)))  # of several parts, with holes
    origin = np.stack([np.arange(40), 7 * np.arange(40)], axis=1)
    found = _polygons(torch.from_numpy(masks), torch.from_numpy(origin))
    for one, other, corner in zip(found, polygons_by_contourpy(list(masks)), origin, strict=True):
        np.testing.assert_array_equal(one, other + corner)


def test_distances_are_those_of_scipy():
    inside = np.random.default_rng(0).random((3, 40, 50)) < 0.01
    limits = [4.0, 9.5, 60.0]
    distance = [ndimage.distance_transform_edt(~mask) ** 2 for mask in inside]
    for found, limit in zip(_within(torch.from_numpy(inside), limits), limits, strict=True):
        np.testing.assert_array_equal(found.numpy(), np.round(distance) <= limit)


def test_medians():
    rng = np.random.default_rng(0)
    values, of = rng.random((30, 4, 5)).astype(np.float32), rng.random((30, 4, 5)) < 0.6
    expected = [np.median(v[m]) for v, m in zip(values, of, strict=True)]
    found = _median(torch.from_numpy(values), torch.from_numpy(of))
    np.testing.assert_array_equal(found.numpy(), np.array(expected, np.float32))


# ---- a device
def test_nothing_of_the_cpu_gets_into_what_is_computed_there(monkeypatch):
    monkeypatch.setattr(devices, "_STRIP_VALUES", 5000)
    micrograph = Micrograph(image(), 0.05)
    settings = PatchSettings(field_of_view_nm=2.0, size_px=40, channels=("raw", "LCN"))
    with StandInGpu() as gpu, sent_once():
        found = by_pytorch(micrograph, device=DEVICE)
        sent, fetched = gpu.sent, gpu.fetched
        patches = patches_on_device(DEVICE, micrograph, found.table, settings)
        size = micrograph.data.nbytes
        assert sent < 1.2 * size, "the frame and small grids"
        assert fetched < 0.15 * size, "summits, measures, and polygons of the clusters"
        assert gpu.sent - sent < 0.2 * size, "the frame was there already"
        cut = patches["LCN"].cpu().numpy()
    assert_same(found, detect(micrograph))
    there = patches_on_device(CPU, micrograph, found.table, settings)
    np.testing.assert_array_equal(cut, there["LCN"].numpy())


def test_a_frame_is_sent_once_and_one_is_held(monkeypatch):
    asked = []
    monkeypatch.setattr(
        device_frame, "upload", lambda x, device: asked.append(1) or torch.tensor(x)
    )
    given_back = []
    monkeypatch.setattr(device_frame, "give_back", given_back.append)
    stack = Micrograph(np.stack([image(), image(seed=1)]), 0.05)
    with sent_once():
        first = send(stack, 0, CPU)[1]
        with sent_once():
            assert send(stack, 0, CPU)[1] is first
        assert not given_back
        other = send(stack, 1, CPU)
        np.testing.assert_array_equal(other[0], stack.data[1])
        send(Micrograph(stack.data[1], 0.05), 0, CPU)
        assert len(asked) == 3
    assert given_back == [CPU]
    send(stack, 1, CPU)
    send(stack, 1, CPU)
    assert len(asked) == 5


def as_if_there(monkeypatch, error=None):
    """What is asked of a GPU is done by the CPU; from the second frame on it fails."""
    asked = []

    def find(device, micrograph, index, *rest):
        asked.append(index)
        if error is not None and index > 0:
            raise error
        return outlines_on_device(CPU, micrograph, index, *rest)

    monkeypatch.setattr(device_clusters, "outlines_on_device", find)
    return asked


@pytest.mark.parametrize("error", [torch.OutOfMemoryError("x"), LOST])
def test_the_cpu_goes_on_where_a_device_fails(monkeypatch, caplog, error):
    asked = as_if_there(monkeypatch, error)
    stack = Micrograph(np.stack([image(seed=s) for s in range(3)]), 0.05)
    with caplog.at_level(logging.WARNING):
        found, where = detect_for_device(Gpu(), stack)
    assert_same(found, detect(stack))
    assert where == "cuda, cpu"
    assert asked == [0, 1], "asked again"
    assert "CPU" in caplog.text
    assert devices.is_lost(Gpu()) == (error is LOST)


def test_who_is_lost_is_not_asked(monkeypatch):
    asked = as_if_there(monkeypatch)
    devices.note_loss(Gpu(), LOST)
    assert detect_for_device(Gpu(), Micrograph(image(), 0.05))[1] == "cpu"
    assert not asked


def test_large_images_are_left_to_the_cpu_but_not_long_stacks(monkeypatch):
    asked = as_if_there(monkeypatch)
    monkeypatch.setattr(device_frame, "LARGE_PIXELS", 260 * 300 - 1)
    assert detect_for_device(Gpu(), Micrograph(image(), 0.05))[1] == "cpu"
    assert not asked
    monkeypatch.setattr(device_frame, "LARGE_PIXELS", 260 * 300)
    stack = da.from_array(np.stack([image(), image(seed=1)]))
    monkeypatch.setattr(micrographs, "LARGE_PIXELS", 0)
    found, where = detect_for_device(Gpu(), Micrograph(stack, 0.05))
    assert where == "cuda" and asked == [0, 1]
    assert_same(found, detect(Micrograph(stack, 0.05)))


def test_other_errors_are_not_hidden(monkeypatch):
    as_if_there(monkeypatch, RuntimeError("a mistake of ours"))
    with pytest.raises(RuntimeError, match="mistake"):
        detect_for_device(Gpu(), Micrograph(np.stack([image()] * 2), 0.05))


def test_it_can_be_stopped():
    calls = iter(range(100))
    with pytest.raises(Cancelled):
        detect(
            Micrograph(image(), 0.05), stop=lambda: next(calls) > 3,
            find=lambda *rest: outlines_on_device(CPU, *rest),
        )  # fmt: skip
    assert next(calls) < 10


def test_the_record_says_where(monkeypatch, tiny_model):
    as_if_there(monkeypatch)
    micrograph = Micrograph(image(), 0.05)
    found = detect_clusters(micrograph, device=Gpu())
    assert found.parameters["detection_device"] == "cuda"
    assert detect_clusters(micrograph).parameters["detection_device"] == "cpu"
    asked = []
    real = analyses.detect_clusters

    def spy(*rest, **options):
        asked.append(options["device"])
        return real(*rest, **options)

    monkeypatch.setattr(analyses, "detect_clusters", spy)
    classifier = load_classifier(tiny_model, "cpu")
    done = analyse(micrograph, classifier, umap=False)
    assert asked == [CPU] and done.parameters["detection_device"] == "cpu"
