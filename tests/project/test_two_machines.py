"""A project on a network drive whose locks do not work, opened by two programs."""

from __future__ import annotations

import errno
import fcntl
import os
import signal
import subprocess
import sys

import pytest

from napari_atomicity.core.errors import AtomicityError
from napari_atomicity.io import writer_lock
from napari_atomicity.pipeline.runs.part_store import PartStore
from napari_atomicity.project import Project

HOLDER = """
import errno, fcntl, sys, time
from napari_atomicity.io import writer_lock
from napari_atomicity.project import Project

def flock(descriptor, operation):
    if sys.argv[2] == "refused":
        raise OSError(errno.ENOLCK, "no locks available")

fcntl.flock, writer_lock.LEASE_S = flock, float(sys.argv[3])
project = Project(sys.argv[1])
print("open", project.read_only, flush=True)
time.sleep(600)
"""
LEASE_S = 1.0


@pytest.fixture(params=["refused", "granted to both"])
def drive(request, monkeypatch) -> str:
    """What flock does on the drive."""

    def flock(descriptor, operation):
        if request.param == "refused":
            raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

    monkeypatch.setattr(fcntl, "flock", flock)
    monkeypatch.setattr(writer_lock, "LEASE_S", LEASE_S)
    return request.param


def test_the_second_program_reads_until_the_first_one_has_ended(project, drive):
    project.close()
    command = [sys.executable, "-W", "ignore", "-c", HOLDER, project.path, drive, str(LEASE_S)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as holder:
        assert holder.stdout.readline() == "open False\n"
        with Project(project.path) as second:
            assert second.read_only and str(holder.pid) in second.holder
            assert second.names == project.names
        holder.send_signal(signal.SIGKILL)
    with Project(project.path) as third:
        assert not third.read_only
        third.set_setting("key", 1)


def test_two_runs_do_not_write_to_one_folder(drive, tmp_path):
    second = PartStore(tmp_path / "out").locked()
    with (
        PartStore(tmp_path / "out").locked(),
        pytest.raises(AtomicityError, match="another run is writing"),
    ):
        second.__enter__()
    with PartStore(tmp_path / "out").locked():
        pass
