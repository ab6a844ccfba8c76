"""SIGINT and SIGTERM end every command in time, with whole files and no process left."""

import os
import signal
import struct
import subprocess
import sys
import time
from contextlib import suppress

import psutil
import pytest

from napari_atomicity.core.processes import spawn_pool

pytestmark = pytest.mark.skipif(os.name == "nt", reason="needs signals of POSIX")

TOOK_S = 10.0
"""Five seconds, twice that on a busy machine."""


def run_command(output, arguments):
    """Run a command of ``atomicity`` in this process."""
    from napari_atomicity.cli import main

    written = os.open(output, os.O_WRONLY | os.O_CREAT)
    for stream in (1, 2):
        os.dup2(written, stream)
    sys.argv = ["atomicity", *arguments]
    main()


def start(*command, **options):
    return subprocess.Popen(
        [sys.executable, *map(str, command)],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        **options,
    )


def end(process, number, children):
    """Send a signal; return the output and the seconds until the end."""
    began = time.monotonic()
    process.send_signal(number)
    output, _ = process.communicate(timeout=60)
    took_s = time.monotonic() - began
    _, alive = psutil.wait_procs(children, timeout=5)
    assert not alive
    return output, took_s


def wait_for_reader(process):
    """Wait until a file is being read; return all processes of the command."""
    until = time.monotonic() + 60
    while time.monotonic() < until and process.is_alive():
        children = psutil.Process(process.pid).children(recursive=True)
        for child in children:
            with suppress(psutil.Error):  # a helper process that has just ended
                if "reader_worker" in " ".join(child.cmdline()) and child.cpu_times().user > 0.5:
                    return children
        time.sleep(0.02)
    raise AssertionError("no file is read")


def stop_when_imported(module, *arguments):
    """Stop a command just after it has imported a module; return status and output."""
    command = [sys.executable, "-X", "importtime", "-m", "napari_atomicity.cli", *arguments]
    with subprocess.Popen(list(map(str, command)), stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                          text=True, start_new_session=True) as process:  # fmt: skip
        for line in process.stderr:
            if line.split("|")[-1].strip() == module:
                break
        os.killpg(process.pid, signal.SIGINT)  # as a terminal does
        output, errors = process.communicate(timeout=60)
        lines = [line for line in errors.splitlines() if not line.startswith("import time:")]
    return process.returncode, output + "\n".join(lines)


@pytest.mark.parametrize(
    ("command", "module"),
    [("atoms", "typer._click"), ("atoms", "pandas._libs"), ("batch", "torch.types")],
)
def test_ctrl_c_while_modules_are_imported(tmp_path, command, module):
    (tmp_path / "a.tif").touch()
    ended = stop_when_imported(module, command, tmp_path / "a.tif", "--out", tmp_path / "out")
    assert ended == (130, "atomicity: stopped")
    assert list(tmp_path.iterdir()) == [tmp_path / "a.tif"]


def where_ctrl_c_is_blocked(_):
    return signal.SIGINT in signal.pthread_sigmask(signal.SIG_BLOCK, ())


def test_workers_never_receive_ctrl_c():
    with spawn_pool(1) as pool:
        assert list(pool.map(where_ctrl_c_is_blocked, [0])) == [True]
    assert not where_ctrl_c_is_blocked(0)


@pytest.mark.parametrize(
    ("number", "command"),
    [
        (signal.SIGINT, ("analyse",)),
        (signal.SIGTERM, ("watch", "--no-umap")),
        (signal.SIGTERM, ("batch", "--workers", "1")),
    ],
)
def test_a_command_whose_file_loops_ends(tmp_path, tiny_model, number, command, forks):
    pytest.importorskip("rsciio", reason="needs the extra microscopes")
    images, out, printed = (tmp_path / name for name in ("images", "out", "printed.txt"))
    images.mkdir()
    looping = struct.pack(">3iBBiBH", 3, 100, 1, 0, 0, 1, 21, 1) + b"a%%%%"
    looping += struct.pack(">6i", 5, 20, 15, 0, 0, 0x7FFFFFFF)
    (images / "a.dm3").write_bytes(looping)
    arguments = [*command, str(images), "--out", str(out), "--model", str(tiny_model)]
    process = forks.Process(target=run_command, args=(printed, arguments))
    process.start()
    children = wait_for_reader(process)
    began = time.monotonic()
    os.kill(process.pid, number)
    process.join(60)
    took_s = time.monotonic() - began
    assert not psutil.wait_procs(children, timeout=5)[1]
    output = printed.read_text()
    assert process.exitcode == (0 if command[0] == "watch" else 130), output
    assert "stopped" in output
    assert took_s < TOOK_S
    assert "Traceback" not in output
    assert not [p for p in out.rglob(".*") if p.name != ".atomicity.lock"]


def test_a_simulation_ends(tmp_path):
    code = "from napari_atomicity.cli import main; print('ready', flush=True); main()"
    process = start("-c", code, "simulate", "--out", tmp_path, "--fields", 50)
    assert process.stdout.readline() == "ready\n"
    time.sleep(3)
    output, took_s = end(process, signal.SIGTERM, ())
    assert process.returncode == 130 and "stopped" in output, output
    assert took_s < TOOK_S


STUBBORN = """
import subprocess, sys, time
from pathlib import Path
from napari_atomicity.cli import ending
from napari_atomicity.io.files import atomic_write

ending.ANSWER_S, ending.LONGEST_S = 0.2, 0.6
with ending.end_in_time(), ending.catch_signals(*{may_save}) as stop:
    child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
    with atomic_write(sys.argv[1]) as path:
        path.write_text("a part")
        print("ready", child.pid, flush=True)
        while not ({answers} and stop()):
            try:
                time.sleep(0.05)
            except KeyboardInterrupt:
                print("interrupted", flush=True)
        {then}
"""


def stubborn(tmp_path, answers, may_save="()", then="time.sleep(60)"):
    """Start a command that ignores KeyboardInterrupt; return it and its child."""
    code = STUBBORN.format(answers=answers, may_save=may_save, then=then)
    process = start("-c", code, tmp_path / "a.csv")
    line = process.stdout.readline().split()
    assert line[0] == "ready", process.communicate()[0]
    return process, [psutil.Process(int(line[1]))]


@pytest.mark.parametrize("answers", [True, False])
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_command_that_does_not_end_is_ended(tmp_path, number, answers):
    process, children = stubborn(tmp_path, answers)
    output, took_s = end(process, number, children)
    assert process.returncode == 130 and "unwritten results are not saved" in output
    assert ("interrupted" in output) is not answers
    assert took_s < 5
    assert not list(tmp_path.iterdir())  # nor a part of a file


def test_results_that_only_this_command_has_are_saved(tmp_path):
    saved = "time.sleep(1.5); path.write_text('whole'); child.kill()"
    process, children = stubborn(tmp_path, True, "ending.SIGNALS", saved)
    output, _ = end(process, signal.SIGTERM, children)
    assert process.returncode == 0, output
    assert (tmp_path / "a.csv").read_text() == "whole"
    assert len(list(tmp_path.iterdir())) == 1


def test_a_second_signal_ends_saving(tmp_path):
    process, children = stubborn(tmp_path, True, "ending.SIGNALS")
    process.send_signal(signal.SIGTERM)
    time.sleep(1)
    assert process.poll() is None
    _, took_s = end(process, signal.SIGTERM, children)
    assert process.returncode == 130 and took_s < 5
    assert not list(tmp_path.iterdir())
