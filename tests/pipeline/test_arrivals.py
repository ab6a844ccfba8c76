"""Files that come into a folder: half-written, empty, replaced, renamed, gone."""

import os

import pytest

from napari_atomicity.pipeline.live import arrivals as module
from napari_atomicity.pipeline.live.arrivals import Arrivals, FileWatcher, is_remote, signature


class Clock:
    now = 1000.0

    def __call__(self):
        return self.now


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "in").mkdir()
    return tmp_path / "in"


@pytest.fixture
def arrivals(folder, clock, tmp_path):
    return Arrivals(folder, leave_out=folder / "out", settle_s=1, patience_s=10, clock=clock)


def taken(arrivals, clock, seconds=0.0):
    """Names of what is taken after so many seconds, the folder being looked through twice."""
    arrivals.look()
    clock.now += seconds
    arrivals.look()
    names = []
    while (found := arrivals.take()) is not None:
        names.append(found[0].name)
    return names


def write(path, size=10, mtime=None):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"x" * size)
    if mtime is not None:
        os.utime(path, (mtime, mtime))
    return path


def test_a_file_is_taken_once_it_has_stayed_the_same(folder, arrivals, clock):
    write(folder / "a.tif")
    assert taken(arrivals, clock, 0.9) == []
    write(folder / "a.tif", 20)
    assert taken(arrivals, clock, 0.9) == [] and arrivals.waiting == 1
    assert 0 < arrivals.due_s() <= 0.2
    assert taken(arrivals, clock, 0.2) == ["a.tif"]
    assert taken(arrivals, clock, 5) == [] and arrivals.waiting == 0
    assert arrivals.due_s() == float("inf")


def test_old_files_are_complete_and_the_oldest_comes_first(folder, arrivals, clock):
    for name, mtime in (("b.tif", 300), ("a.tif", 200), ("c/d.tif", 100)):
        write(folder / name, mtime=mtime)
    assert taken(arrivals, clock) == ["d.tif", "a.tif", "b.tif"]


def test_what_changes_later_is_taken_again(folder, arrivals, clock):
    path = write(folder / "a.tif", mtime=100)
    assert taken(arrivals, clock) == ["a.tif"]
    write(path, mtime=101)
    assert taken(arrivals, clock) == ["a.tif"]
    other = write(folder / "b.txt")
    other.replace(path)
    assert taken(arrivals, clock, 2) == ["a.tif"]


def test_only_images_that_are_not_hidden_nor_our_own_count(folder, arrivals, clock):
    for name in ("a.txt", ".b.tif", ".c/d.tif", "out/e.tif", "f.tif.part"):
        write(folder / name, mtime=100)
    assert taken(arrivals, clock) == []
    arrivals.look([folder / "out" / "e.tif", folder / ".c" / "d.tif", folder.parent / "x.tif"])
    assert arrivals.waiting == 0


def test_what_vanishes_before_it_is_taken_is_forgotten(folder, arrivals, clock):
    path = write(folder / "a.tif")
    arrivals.look()
    path.rename(folder / "b.tif")
    assert taken(arrivals, clock, 2) == ["b.tif"]
    path = write(folder / "c.tif", mtime=50)
    arrivals.look()
    path.unlink()
    assert arrivals.take() is None and arrivals.waiting == 0


def test_an_empty_file_is_waited_for(folder, arrivals, clock):
    path = write(folder / "a.tif", 0)
    assert taken(arrivals, clock, 5) == []
    write(path, 10)
    assert taken(arrivals, clock, 2) == ["a.tif"]
    write(folder / "b.tif", 0)
    assert taken(arrivals, clock, 12) == ["b.tif"]


def test_what_can_not_be_read_is_tried_again_for_a_while(folder, arrivals, clock):
    path = write(folder / "a.tif")
    tries = 0
    for _ in range(40):
        arrivals.look()
        clock.now += 0.5
        found = arrivals.take()
        if found is not None:
            tries += 1
            if not arrivals.give_back(*found):
                break
            assert (arrivals.waiting, arrivals.untried) == (1, 0)
    assert 4 <= tries <= 9
    assert taken(arrivals, clock, 5) == []
    write(path, 20)
    assert taken(arrivals, clock, 2) == ["a.tif"]


def test_what_was_bad_long_ago_is_not_waited_for(folder, arrivals, clock):
    write(folder / "a.tif", mtime=100)
    arrivals.look()
    assert not arrivals.give_back(*arrivals.take())


def test_what_changed_or_went_while_it_was_read_is_no_failure(folder, arrivals, clock):
    path = write(folder / "a.tif", mtime=100)
    arrivals.look()
    found = arrivals.take()
    assert not arrivals.changed(*found)
    write(path, 20)
    assert arrivals.changed(*found)
    assert taken(arrivals, clock, 2) == ["a.tif"]
    found = (path, signature(path))
    path.unlink()
    assert arrivals.give_back(*found) and arrivals.waiting == 0


def test_an_earlier_session_is_known_by_size_and_time(folder, clock):
    a, b = write(folder / "a.tif", mtime=100), write(folder / "b.tif", mtime=100)
    before = dict.fromkeys((a, b), (10, 100 * 10**9))
    write(b, 11, mtime=100)
    assert taken(Arrivals(folder, before, clock=clock), clock) == ["b.tif"]


def test_a_ser_is_taken_with_its_emi_and_again_when_that_comes(folder, arrivals, clock):
    write(folder / "a_1.ser", mtime=100)
    assert taken(arrivals, clock) == ["a_1.ser"]
    write(folder / "a.emi", mtime=100)
    assert taken(arrivals, clock) == ["a_1.ser"]


def test_an_emi_counts_only_without_its_ser_and_the_folder_is_listed_once(
    folder, arrivals, clock, monkeypatch
):
    for name in ("a_1.ser", "a.emi", "b.emi", "c_x.ser", "c.emi"):
        write(folder / name, mtime=100)
    monkeypatch.setattr("pathlib.Path.glob", None)
    assert sorted(taken(arrivals, clock)) == ["a_1.ser", "b.emi", "c.emi", "c_x.ser"]


def test_a_folder_that_is_an_image_is_taken_whole_and_again_when_a_piece_changes(
    folder, arrivals, clock
):
    image = folder / "a.zarr"
    write(image / "zarr.json", mtime=100)
    write(image / "c" / "0.tif", mtime=200)
    assert taken(arrivals, clock) == ["a.zarr"]
    assert (signature(image).size, signature(image).mtime_ns) == (20, 200 * 10**9)
    arrivals.look([image / "c" / "0.tif", image / "zarr.json"])
    assert arrivals.waiting == 0
    write(image / "c" / "1", mtime=300)
    assert taken(arrivals, clock) == ["a.zarr"]
    assert taken(arrivals, clock, 20) == []


def test_thousands_of_files_are_taken_once_each_and_looked_at_a_few_times(
    folder, arrivals, clock, monkeypatch
):
    looks = []

    def count(path):
        looks.append(path)
        return signature(path)

    monkeypatch.setattr(module, "signature", count)
    for i in range(2000):
        write(folder / f"{i:04}.tif", mtime=1000 + i)
    first = taken(arrivals, clock, 1)
    for i in range(2000, 3000):
        write(folder / f"{i:04}.tif", mtime=1000 - i)
    second = taken(arrivals, clock, 1)
    assert first == [f"{i:04}.tif" for i in range(2000)]
    assert second == [f"{i:04}.tif" for i in reversed(range(2000, 3000))]
    assert arrivals.waiting == 0 and taken(arrivals, clock, 1) == []
    assert len(looks) < 8 * 3000  # each complete look looks at all


def test_files_of_the_future_are_taken_once(folder, arrivals, clock, monkeypatch):
    write(folder / "before.tif", mtime=2e9)
    assert taken(arrivals, clock, 1) == ["before.tif"]
    monkeypatch.setattr(module.time, "time", lambda: 1e9)  # the clock is set back by years
    write(folder / "after.tif", mtime=1e9)
    assert taken(arrivals, clock, 0.5) == []
    assert taken(arrivals, clock, 1) == ["after.tif"]
    assert taken(arrivals, clock, 20) == []
    known = {folder / "before.tif": (10, 2_000_000_000_000_000_000)}
    again = Arrivals(folder, known, settle_s=1, clock=clock)
    assert taken(again, clock, 1) == ["after.tif"]


def test_the_system_tells_of_new_files(folder):
    with FileWatcher(folder, True) as told:
        for number in range(100):
            write(folder / "a.tif", number + 1)
            if folder / "a.tif" in told.wait(0.1):
                return
    pytest.fail("nothing was told within 10 s")


def test_where_the_system_does_not_tell_it_is_said(folder, monkeypatch):
    def watch(*_, **__):
        raise OSError("OS file watch limit reached")

    monkeypatch.setattr("watchfiles.watch", watch)
    said = []
    with FileWatcher(folder, True, said.append) as told:
        told.wait(5)
    assert said == ["OSError: OS file watch limit reached"] and not told.listens


def test_network_drives_are_known(folder, monkeypatch):
    class Mount:
        def __init__(self, mountpoint, fstype):
            self.mountpoint, self.fstype = str(mountpoint), fstype

    mounts = [Mount("/", "ext4"), Mount(folder.parent, "nfs4")]
    monkeypatch.setattr("psutil.disk_partitions", lambda all: mounts)
    assert is_remote(folder)
    mounts.append(Mount(folder, "ext4"))
    assert not is_remote(folder)
    assert module.SETTLE_S < 1
