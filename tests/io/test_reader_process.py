"""Limits of time and memory for reading a file, and the process that can be ended."""

import gc
import os
import struct
import subprocess
import sys
import threading
import time
import warnings
from dataclasses import replace

import numpy as np
import psutil
import pytest
import tifffile

import bad_readers
from napari_atomicity import load
from napari_atomicity.core.errors import Cancelled, ReadError
from napari_atomicity.io import images
from napari_atomicity.io.images import READERS, Reader
from napari_atomicity.io.readers import reader_process
from napari_atomicity.io.readers.read_limits import ReadLimits, read_limits, set_read_limits


@pytest.fixture
def limit():
    """Set limits; those of before are restored."""
    before = read_limits()
    yield lambda **limits: set_read_limits(replace(before, **limits))
    set_read_limits(before)


@pytest.fixture
def bad(tmp_path, monkeypatch):
    """Register a bad reader of .bad files; return such a file."""

    def register(read):
        bad_reader = Reader("Bad", (".bad",), read, own_process=True)
        monkeypatch.setattr(images, "READERS", (*READERS, bad_reader))
        (tmp_path / "a.bad").write_bytes(b"x")
        return tmp_path / "a.bad"

    return register


def warm(tmp_path):
    """Read a good file, so that a process is running."""
    tifffile.imwrite(tmp_path / "good.tif", np.ones((4, 5), np.uint8))
    assert load(tmp_path / "good.tif").shape == (4, 5)


@pytest.mark.parametrize("read", [bad_readers.loop, bad_readers.sleep])
def test_a_file_that_takes_too_long_is_an_error(tmp_path, bad, limit, read):
    warm(tmp_path)
    limit(read_seconds=0.2)
    start = time.monotonic()
    with pytest.raises(ReadError, match=r"a\.bad: .*longer than 0\.2 s.*--read-seconds"):
        load(bad(read))
    assert time.monotonic() - start < 30
    limit()
    warm(tmp_path)  # by another process


@pytest.mark.parametrize("read", [bad_readers.fill, bad_readers.declare])
def test_a_file_that_needs_too_much_memory_is_an_error(tmp_path, bad, limit, read):
    warm(tmp_path)
    limit(read_memory_gb=0.5)
    with pytest.raises(ReadError, match=r"a\.bad: .*more than 0\.5 GB.*--read-memory-gb"):
        load(bad(read))
    warm(tmp_path)


def test_a_library_that_crashes_is_an_error(tmp_path, bad):
    with pytest.raises(ReadError, match=r"a\.bad: .*ended unexpectedly"):
        load(bad(bad_readers.crash))
    warm(tmp_path)


def test_output_of_a_library_does_not_mix_with_the_image(bad):
    read = load(bad(bad_readers.print_much))
    assert read.data.tolist() == np.arange(12.0).reshape(3, 4).tolist()
    assert read.metadata["text"] == "ü\ud800"


def test_reading_can_be_interrupted(bad):
    path = bad(bad_readers.sleep)
    timer = threading.Timer(0.3, reader_process.interrupt_reading)
    timer.start()
    with pytest.raises(Cancelled):
        load(path)


def test_several_threads_read_at_once(tmp_path):
    pixels = np.arange(400, dtype=np.float32).reshape(20, 20)
    for i in range(6):
        tifffile.imwrite(tmp_path / f"{i}.tif", pixels + i)
    found = {}
    threads = [
        threading.Thread(target=lambda i=i: found.update({i: load(tmp_path / f"{i}.tif").data}))
        for i in range(6)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for i in range(6):
        np.testing.assert_array_equal(found[i], pixels + i)
    assert len(reader_process._idle) <= reader_process.MAX_IDLE


def test_a_process_that_was_killed_is_replaced(tmp_path):
    warm(tmp_path)
    for child in psutil.Process().children():
        if child.pid in {one._popen.pid for one in reader_process._idle}:
            child.kill()
            child.wait()
    warm(tmp_path)


def test_a_process_that_is_ended_leaves_no_open_file(tmp_path):
    with warnings.catch_warnings(record=True) as warned:
        warnings.simplefilter("always", ResourceWarning)
        warm(tmp_path)
        reader_process._kill_idle()
        gc.collect()
    assert not [w for w in warned if "BufferedReader" in str(w.message)]


def test_no_process_remains_after_the_end(tmp_path):
    tifffile.imwrite(tmp_path / "a.tif", np.ones((4, 5), np.uint8))
    code = (
        "import sys, napari_atomicity, psutil; napari_atomicity.load(sys.argv[1]);"
        "print(*(child.pid for child in psutil.Process().children()))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, tmp_path / "a.tif"], capture_output=True, text=True, check=True
    )
    assert done.stdout.strip()
    for pid in map(int, done.stdout.split()):
        assert not psutil.pid_exists(pid)


def test_a_script_without_a_main_guard_can_read(tmp_path):
    """The process does not import the script again, as those of multiprocessing do."""
    tifffile.imwrite(tmp_path / "a.tif", np.ones((4, 5), np.uint8))
    (tmp_path / "script.py").write_text(
        "import napari_atomicity\nprint(napari_atomicity.load('a.tif').shape)\n"
    )
    (tmp_path / "numpy.py").write_text("raise SystemExit('a module of the current folder')\n")
    code = f"exec(open({str(tmp_path / 'script.py')!r}).read())"
    done = subprocess.run(
        [sys.executable, "-P", "-c", code],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(p for p in sys.path if p)},
    )
    assert done.stdout == "(4, 5)\n", done.stderr


# ---- real formats
def dm3_with_structs(path, n):
    """A DM3 file whose only tag is an array of n structures without fields."""
    array = struct.pack(">5i", 20, 15, 0, 0, n)
    tag = struct.pack(">BH", 21, 1) + b"a" + b"%%%%" + struct.pack(">i", 5) + array
    path.write_bytes(struct.pack(">3iBBi", 3, 100, 1, 0, 0, 1) + tag)
    return path


def test_a_dm3_with_four_changed_bytes(tmp_path, limit):
    pytest.importorskip("rsciio", reason="needs the extra microscopes")
    good = dm3_with_structs(tmp_path / "good.dm3", 1).read_bytes()
    path = dm3_with_structs(tmp_path / "a.dm3", 0x7FFFFFFF)
    assert sum(a != b for a, b in zip(good, path.read_bytes(), strict=True)) == 4
    with pytest.raises(ReadError, match="DigitalMicrograph"):
        load(tmp_path / "good.dm3")
    limit(read_seconds=0.5)
    with pytest.raises(ReadError, match=r"a\.dm3: .*longer than 0\.5 s"):
        load(path)


def test_an_hdf5_file_of_a_hundred_million_chunks(tmp_path, limit):
    h5py = pytest.importorskip("h5py", reason="needs the extra microscopes")
    pytest.importorskip("rsciio", reason="needs the extra microscopes")
    path = tmp_path / "a.emd"
    with h5py.File(path, "w") as file:
        file.attrs["version_major"], file.attrs["version_minor"] = 0, 2
        group = file.create_group("data/image")
        group.attrs["emd_group_type"] = 1
        group.create_dataset("data", (10_000, 10_000), np.uint8, chunks=(1, 1))
        for i in (1, 2):
            dim = group.create_dataset(f"dim{i}", data=np.arange(10_000.0))
            dim.attrs["name"], dim.attrs["units"] = "yx"[i - 1], "nm"
    warm(tmp_path)
    limit(read_seconds=0.5)
    with pytest.raises(ReadError, match=r"a\.emd: .*longer than 0\.5 s"):
        load(path)


def test_a_tiff_of_a_billion_frames(tmp_path, limit):
    path = tmp_path / "a.ome.tif"
    description = (
        '<OME xmlns="http://www.openmicroscopy.org/Schemas/OME/2016-06"><Image ID="Image:0">'
        '<Pixels ID="Pixels:0" DimensionOrder="XYZCT" Type="uint16" SizeX="8" SizeY="8" SizeZ="1" '
        'SizeC="1" SizeT="1000000000"><TiffData IFD="0" PlaneCount="1"/></Pixels></Image></OME>'
    )
    tifffile.imwrite(path, np.ones((8, 8), np.uint16), description=description, metadata=None)
    warm(tmp_path)
    limit(read_seconds=1.0, read_memory_gb=0.5)
    with pytest.raises(ReadError, match=r"a\.ome\.tif: .*(longer than|more than 0\.5 GB)"):
        load(path)


# ---- declared sizes
def png_header(height, width):
    about = struct.pack(">II5B", width, height, 16, 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + struct.pack(">I", 13) + b"IHDR" + about + bytes(60)


def zarr_header(path, *shape):
    import zarr

    zarr.create_array(path, shape=shape, chunks=(64,) * len(shape), dtype="f4")


def mrc_header(path, extended):
    import mrcfile

    with mrcfile.new(path) as file:
        file.set_data(np.ones((4, 5), np.float32))
    raw = bytearray(path.read_bytes())
    raw[92:96] = struct.pack("<i", extended)
    path.write_bytes(raw)


@pytest.mark.parametrize(
    ("name", "write", "words"),
    [
        ("a.png", lambda p: p.write_bytes(png_header(1 << 30, 1 << 30)), "more than the memory"),
        ("b.png", lambda p: p.write_bytes(png_header(1 << 14, 1 << 14)), "more than the file"),
        ("a.zarr", lambda p: zarr_header(p, 1 << 30, 1 << 30), "more than the memory"),
        ("b.zarr", lambda p: zarr_header(p, 1 << 14, 1 << 14), "only .* bytes"),
        ("c.zarr", lambda p: zarr_header(p, 1 << 40, 64, 64), "only .* bytes"),
        ("a.mrc", lambda p: mrc_header(p, 2_000_000_000), "longer than the file"),
        ("a.npy", lambda p: p.write_bytes(npy_header(1 << 40, 1 << 20)), "NumPy"),
    ],
)
def test_sizes_that_the_file_cannot_contain(tmp_path, name, write, words):
    write(tmp_path / name)
    start = time.monotonic()
    with pytest.raises(ReadError, match=rf"{name}: .*{words}"):
        load(tmp_path / name)
    assert time.monotonic() - start < 30


def test_a_huge_file_of_holes(tmp_path, limit):
    with (tmp_path / "a.tif").open("wb") as file:
        file.truncate(1 << 42)
    limit(read_seconds=0.2)
    with pytest.raises(ReadError, match=r"a\.tif: .*longer than 0\.2 s"):
        load(tmp_path / "a.tif")


def npy_header(*shape):
    import io

    file = io.BytesIO()
    about = {"descr": "<f4", "fortran_order": False, "shape": shape}
    np.lib.format.write_array_header_1_0(file, about)
    return file.getvalue() + bytes(100)


def test_limits_are_checked():
    assert 0 < ReadLimits().memory_bytes < psutil.virtual_memory().total
    assert ReadLimits(read_memory_gb=2).memory_bytes == 2_000_000_000
    with pytest.raises(Exception, match="read seconds must be at least"):
        ReadLimits(read_seconds=0)


@pytest.mark.skipif(not hasattr(os, "kill"), reason="needs signals")
def test_the_process_ends_with_a_killed_parent(tmp_path):
    (tmp_path / "a.bad").write_bytes(b"x")
    code = (
        "import bad_readers, napari_atomicity\n"
        "from napari_atomicity.io import images\n"
        "bad = images.Reader('Bad', ('.bad',), bad_readers.loop, own_process=True)\n"
        "images.READERS = (bad,)\n"
        f"images.load({str(tmp_path / 'a.bad')!r})\n"
    )
    paths = {"PYTHONPATH": os.pathsep.join(p for p in sys.path if p)}
    parent = subprocess.Popen([sys.executable, "-c", code], env={**os.environ, **paths})
    process = psutil.Process(parent.pid)
    until = time.monotonic() + 30
    while not any(c.cpu_times().user > 0.3 for c in process.children()):
        assert time.monotonic() < until
        time.sleep(0.05)
    children = process.children()
    parent.kill()
    parent.wait()
    _, alive = psutil.wait_procs(children, timeout=5)
    assert not alive
