"""Large images: read in parts, with the results of the whole, in little memory."""

from __future__ import annotations

import subprocess
import sys

import dask.array as da
import numpy as np
import pytest
import tifffile
import zarr
from hypothesis import HealthCheck, given, settings, strategies as st
from scipy import ndimage

from napari_atomicity import load
from napari_atomicity.atoms.finding.localisation import snap_to_spot
from napari_atomicity.atoms.marks import mark_at
from napari_atomicity.core import micrograph as micrographs
from napari_atomicity.core.errors import Cancelled, ReadError
from napari_atomicity.core.micrograph import Micrograph
from napari_atomicity.core.patches import PatchSettings
from napari_atomicity.detection import clusters, frame, patches, seeds
from napari_atomicity.detection.clusters import detect
from napari_atomicity.detection.patches import extract_patches
from napari_atomicity.detection.settings import DetectionSettings
from napari_atomicity.io.readers import lazy
from napari_atomicity.io.readers.lazy_micrograph import PixelCache
from napari_atomicity.pipeline.analysis import detect_clusters
from napari_atomicity.project.opening import thumbnail
from napari_atomicity.reporting import figures
from napari_atomicity.reporting.image_warnings import image_warnings
from napari_atomicity.training.prepared_sets import pixel_hash

PIXEL_NM = 0.05
SETTINGS = PatchSettings(field_of_view_nm=2.0, size_px=40)


def image(shape, seed=0, clusters=6):
    """Blurred discs anywhere on a noisy slope, some of them touching."""
    rng = np.random.default_rng(seed)
    yy, xx = np.mgrid[: shape[0], : shape[1]]
    out = np.zeros(shape)
    for _ in range(clusters):
        y, x = rng.uniform(0, shape)
        radius = rng.uniform(8, 18)
        for dy, dx in ((0, 0), (0, 2.2 * radius))[: rng.integers(1, 3)]:
            out = np.maximum(out, np.hypot(yy - y - dy, xx - x - dx) <= radius)
    out = ndimage.gaussian_filter(40 * out, 1.6) + 100 + 0.05 * yy
    return (out + rng.normal(0, 2, shape)).astype(np.float32)


@pytest.fixture
def tiled(monkeypatch):
    """Make the tiles small, and nothing kept of a frame."""

    def make(size):
        for module in (seeds, patches):
            monkeypatch.setattr(module, "_TILE_PX", size)
        monkeypatch.setattr(seeds, "SEED_TILE_PX", size)
        monkeypatch.setattr(clusters, "OUTLINE_TILE_PX", size)
        monkeypatch.setattr(frame, "STRIP_PX", size)
        monkeypatch.setattr(frame, "CACHED_PIXELS", 0)

    return make


@pytest.fixture
def always_large(monkeypatch, read_here):
    for module in (micrographs, lazy):
        monkeypatch.setattr(module, "LARGE_PIXELS", 0)


# Of smaller clusters than usual, so that the margin of a tile is small beside these frames.
DETECTION = DetectionSettings(diameter_max_nm=2.0)


def analysed(micrograph):
    found = detect(micrograph, DETECTION)
    return found, extract_patches(micrograph, found.table, SETTINGS, 30.0)


def assert_same(one, other):
    (found, cut), (found_, cut_) = one, other
    assert found.table.equals(found_.table)
    assert len(found.outlines) == len(found_.outlines)
    for a, b in zip(found.outlines, found_.outlines, strict=True):
        np.testing.assert_array_equal(a, b)
    for channel in cut:
        np.testing.assert_array_equal(cut[channel], cut_[channel])


@settings(
    max_examples=10, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    height=st.integers(120, 320),
    width=st.integers(120, 320),
    half_tile=st.integers(24, 90),
    seed=st.integers(0, 10_000),
)
def test_tiles_give_the_bits_of_the_whole(height, width, half_tile, seed):
    micrograph = Micrograph(image((height, width), seed), PIXEL_NM)
    whole = analysed(micrograph)
    with pytest.MonkeyPatch.context() as patching:
        for module in (seeds, patches):
            patching.setattr(module, "_TILE_PX", 2 * half_tile)
        patching.setattr(seeds, "SEED_TILE_PX", 2 * half_tile)
        patching.setattr(clusters, "OUTLINE_TILE_PX", 2 * half_tile)
        patching.setattr(frame, "STRIP_PX", 2 * half_tile)
        patching.setattr(frame, "CACHED_PIXELS", 0)
        assert_same(whole, analysed(micrograph))


def test_a_cluster_on_the_corner_of_four_tiles_is_one(tiled):
    yy, xx = np.mgrid[:400, :400]
    spot = np.hypot(yy - 200, xx - 200) <= 12
    pixels = 100 + ndimage.gaussian_filter(40.0 * spot, 1.6)
    micrograph = Micrograph(pixels + np.random.default_rng(0).normal(0, 2, pixels.shape), PIXEL_NM)
    whole = analysed(micrograph)
    tiled(200)
    assert len(frame.tiles((400, 400), 200)) == 4
    parts = analysed(micrograph)
    assert len(parts[0].table) == 1
    assert_same(whole, parts)


def test_gaps_on_the_borders_of_tiles(tiled):
    pixels = image((300, 300), 3)
    pixels[::37, ::11] = np.nan
    pixels[95:105] = np.inf
    pixels[150:, 200:290] = np.nan
    micrograph = Micrograph(pixels, PIXEL_NM)
    whole = analysed(micrograph)
    assert np.isfinite(whole[1]["LCN"]).all()
    tiled(100)
    assert_same(whole, analysed(micrograph))


def written(folder, pixels):
    """The same pixels in every lazy form: name → what a micrograph can be made of."""
    import mrcfile

    np.save(folder / "a.npy", pixels)
    tifffile.imwrite(folder / "plain.tif", pixels)
    tifffile.imwrite(folder / "tiled.tif", pixels, tile=(64, 64), compression="zlib")
    with mrcfile.new(folder / "a.mrc") as file:
        file.set_data(pixels)
        file.voxel_size = 10 * PIXEL_NM
    array = zarr.create_array(
        folder / "a.zarr", shape=pixels.shape, chunks=(64, 64), dtype=pixels.dtype
    )
    array[:] = pixels
    files = {name: load(folder / name, PIXEL_NM) for name in
             ("a.npy", "plain.tif", "tiled.tif", "a.mrc", "a.zarr")}  # fmt: skip
    return {
        **files,
        "dask": Micrograph(da.from_array(pixels, chunks=100), PIXEL_NM),
        "integers": Micrograph(np.round(pixels).astype(np.uint16), PIXEL_NM),
    }


def test_large_data_stay_where_they_are_and_give_the_same(tmp_path, always_large, tiled):
    pixels = np.round(image((330, 280), 5)).astype(np.float32)
    expected = analysed(Micrograph(pixels.copy(), PIXEL_NM))
    tiled(120)
    for name, micrograph in written(tmp_path, pixels).items():
        assert micrograph.is_large
        assert micrograph.shape == pixels.shape
        # nothing that has been read as a whole
        if name != "integers":
            assert not isinstance(micrograph.data, np.ndarray) or isinstance(
                micrograph.data.base if name == "a.mrc" else micrograph.data, np.memmap
            ), name
        found = analysed(micrograph)
        np.testing.assert_array_equal(next(micrograph.frames()), pixels)
        found[0].table["image"] = expected[0].table["image"] = "image"
        assert_same(expected, found)


def test_small_data_become_an_array(tmp_path):
    for micrograph in written(tmp_path, image((90, 80))).values():
        assert type(micrograph.data) is np.ndarray
        assert micrograph.data.dtype == np.float32
        assert micrograph.data.flags.writeable


def test_frames_of_a_large_stack_are_read_one_by_one(always_large):
    asked = []

    class Stack:
        def __init__(self, pixels):
            self.pixels, self.shape, self.dtype = pixels, pixels.shape, pixels.dtype

        def __getitem__(self, where):
            asked.append(where)
            return self.pixels[where]

    pixels = np.stack([image((200, 200), seed) for seed in (1, 2)])
    micrograph = Micrograph(Stack(pixels), PIXEL_NM)
    found = detect(micrograph)
    assert all(isinstance(where, tuple) and len(where) == 3 for where in asked)
    assert {where[0] for where in asked} == {0, 1}
    table = found.table.drop(columns="image")
    assert table.equals(detect(Micrograph(pixels, PIXEL_NM)).table.drop(columns="image"))


def test_it_stops_between_tiles(tiled):
    tiled(64)
    micrograph = Micrograph(image((400, 400), 1), PIXEL_NM)
    told = []
    detect(micrograph, progress=lambda *a: told.append(a))
    assert len({done for done, _, message in told if message == "Finding clusters"}) > 4
    calls = iter(range(1000))
    with pytest.raises(Cancelled):
        detect(micrograph, stop=lambda: next(calls) > 6)
    assert next(calls) < 10


MEMORY = """
import sys
import numpy as np
from napari_atomicity.core.micrograph import Micrograph
from napari_atomicity.detection.clusters import detect
from napari_atomicity.core import micrograph as m
from napari_atomicity.detection import frame
m.LARGE_PIXELS = frame.CACHED_PIXELS = 0
import torch, pandas, skimage.segmentation, scipy.ndimage
detect(Micrograph(np.random.default_rng(0).normal(size=(300, 300)), 0.05))
def peak():  # getrusage would count what the process was before it became this one
    with open("/proc/self/status") as file:
        return int(next(line for line in file if line.startswith("VmHWM")).split()[1])
before = peak()
data = np.memmap(sys.argv[1], np.uint16, "r", shape=(4096, 4096))
found = detect(Micrograph(data, 0.05))
after = peak()
print(len(found.table), (after - before) / 1024)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="the peak is read from /proc")
def test_detection_in_a_large_file_takes_little_memory(tmp_path):
    small = image((512, 512), 7, 4)
    data = np.memmap(tmp_path / "a.raw", np.uint16, "w+", shape=(4096, 4096))
    data[...] = np.tile(small, (8, 8)).astype(np.uint16)
    data.flush()
    done = subprocess.run(
        [sys.executable, "-c", MEMORY, str(tmp_path / "a.raw")],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    found, mib = done.stdout.split()
    assert int(found) > 64
    # That of a tile with its margin, whatever the image has, and the 32 MiB of the mapped file.
    assert float(mib) < 280


@pytest.mark.parametrize("shape", [(1000, 900), (3, 20, 5000)])
def test_a_picture_of_a_large_image_is_made_strip_by_strip(monkeypatch, shape):
    pixels = np.random.default_rng(0).poisson(50, shape).astype(np.uint16)
    small = Micrograph(pixels)
    expected, seen = thumbnail(small), figures.pixels_of(Shown(small))
    assert seen.shape == shape[-2:]
    monkeypatch.setattr(figures, "PREVIEW_PX", 200)
    for name, value in (("LARGE_PIXELS", 0), ("_STRIP_PIXELS", 7 * shape[-1])):
        monkeypatch.setattr(micrographs, name, value)
    for data in (pixels, da.from_array(pixels), zarr.array(pixels)):
        large = Micrograph(data)
        assert thumbnail(large) == expected
        factor = max(shape[-2:]) // 200 if len(shape) == 2 else 20
        rows = shape[-2] - shape[-2] % factor
        np.testing.assert_array_equal(
            figures.pixels_of(Shown(large)), figures.block_mean(seen[:rows], factor)
        )


class Shown:
    """An image without clusters."""

    table = ()

    def __init__(self, micrograph):
        self.micrograph = micrograph


@pytest.mark.parametrize("photometric", ["minisblack", "miniswhite"])
@pytest.mark.parametrize("options", [{}, {"compression": "zlib"}, {"tile": (32, 32)}])
def test_large_truth_values_are_numbers(tmp_path, always_large, photometric, options):
    pixels = np.random.default_rng(0).random((64, 70)) < 0.5
    file = tmp_path / "a.tif"
    tifffile.imwrite(file, pixels, photometric=photometric, **options)
    whole = np.asarray(load(file).data)
    assert whole.dtype == np.uint8
    np.testing.assert_array_equal(whole, ~pixels if photometric == "miniswhite" else pixels)


@pytest.mark.parametrize("frames", [(), (2,)])
@pytest.mark.parametrize("photometric", ["minisblack", "miniswhite"])
def test_a_damaged_tile_of_a_large_image_is_an_error_that_names_the_file(
    tmp_path, always_large, photometric, frames
):
    file = tmp_path / "a.tif"
    pixels = np.random.default_rng(0).integers(0, 999, (*frames, 64, 64)).astype(np.uint16)
    options = {"tile": (32, 32), "compression": "zlib", "photometric": photometric}
    tifffile.imwrite(file, pixels, **options)
    with tifffile.TiffFile(file) as tiff:
        tile = tiff.series[0].pages[-1].dataoffsets[-1]
    with file.open("r+b") as raw:
        raw.seek(tile)
        raw.write(b"x" * 30)
    frame = load(file).frame(len(pixels) - 1 if frames else 0)
    with pytest.raises(ReadError, match=r"a\.tif: .*decoded"):
        np.asarray(frame[:, :])


def test_few_large_images_are_held(tmp_path, always_large):
    cache = PixelCache()
    paths = [tmp_path / f"{i}.npy" for i in range(6)]
    for path in paths:
        np.save(path, np.ones((4, 4)))
        cache.read(path)
        cache.read(paths[0])  # looked at again and again
    assert [cache.get(path) is not None for path in paths] == [True, *2 * [False], *3 * [True]]


def test_the_pixels_of_a_large_image_are_told_apart(always_large, monkeypatch):
    pixels = np.arange(12, dtype=np.float32).reshape(3, 4)
    kinds = pixels, da.from_array(pixels), zarr.array(pixels)
    one = {pixel_hash(Micrograph(data)) for data in kinds}
    monkeypatch.setattr(micrographs, "_STRIP_PIXELS", 4)
    assert one == {pixel_hash(Micrograph(data)) for data in kinds}
    assert len(one) == 1
    assert pixel_hash(Micrograph(pixels + 1)) not in one
    assert pixel_hash(Micrograph(pixels, sha256="of the file")) == "of the file"


def test_atoms_are_measured_in_any_kind_of_frame(always_large):
    yy, xx = np.mgrid[:60, :70]
    spot = 100 * np.exp(-((yy - 30) ** 2 + (xx - 40) ** 2) / 18)
    stack = np.stack([np.zeros_like(spot), spot + 5]).astype(np.float32)
    expected = mark_at(stack[1], 30.2, 39.9, PIXEL_NM, 1)
    assert expected.amplitude == pytest.approx(100, rel=0.1)
    for data in (da.from_array(stack), zarr.array(stack)):
        frame = Micrograph(data).frame(1)
        assert mark_at(frame, 30.2, 39.9, PIXEL_NM, 1) == expected
        assert snap_to_spot(frame, 31, 41, PIXEL_NM) == snap_to_spot(stack[1], 31, 41, PIXEL_NM)


def test_missing_chunks_of_zarr_are_warned_of(tmp_path):
    pixels = np.random.default_rng(0).normal(100, 5, (96, 128)).astype(np.float32)
    array = zarr.create_array(
        tmp_path / "a.zarr", shape=pixels.shape, chunks=(32, 32), dtype=pixels.dtype
    )
    array[:] = pixels
    assert not _recording_warnings(tmp_path / "a.zarr")
    for chunk in ("0/1", "2/3", "1/0"):
        (tmp_path / "a.zarr" / "c" / chunk).unlink()
    [warning] = _recording_warnings(tmp_path / "a.zarr")
    assert "25 %" in warning and "not stored" in warning


def _recording_warnings(path):
    analysis = detect_clusters(load(path, 0.05))
    return [w for w in image_warnings(analysis.table, analysis.parameters) if "stored" in w]
