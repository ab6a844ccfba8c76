"""Every command with what goes wrong on the way: no raw error, no hang, no half file."""

import encodings.utf_8_sig  # noqa: F401  (an ordinary user may not read it later)
import json
import os
import resource
import shutil
import signal
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from napari_atomicity.cli import commands as cli
from napari_atomicity.cli import main
from napari_atomicity.io.tables import write_clusters
from napari_atomicity.simulation.recipes import write_pixels
from ordinary_user import as_ordinary_user, folder_of_ordinary_user
from support import synthetic_analysis

pytestmark = pytest.mark.skipif(os.name == "nt", reason="needs processes and rights of POSIX")

COMMANDS = {
    "analyse": ("{images}", "--model", "{model}", "--no-umap", "--out", "{out}"),
    "explain": ("{images}", "--model", "{model}", "--out", "{out}"),
    "batch": ("{images}", "--model", "{model}", "--workers", "1", "--out", "{out}"),
    "watch": ("{images}", "--model", "{model}", "--no-umap", "--once", "--out", "{out}"),
    "atoms": ("{images}", "--no-completeness", "--out", "{out}"),
    "adapt": ("{inputs}/images", "--model", "{model}", "--out", "{out}/a.safetensors"),
    "train": ("--data", "{images}", "--out", "{out}/a.safetensors"),
    "validate": ("--data", "{images}", "--quick", "--out", "{out}"),
    "pack": ("{images}", "--out", "{out}/pack"),
    "consensus": ("{pack}", "--out", "{out}"),
    "evaluate": ("{table}", "{table}", "--figures", "{out}"),
    "benchmark": ("--score", "{inputs}/table.csv", "--data", "{benchmark}", "--out", "{out}"),
    "simulate": ("--settings", "{settings}", "--out", "{out}"),
    "models add": ("{model}",),
}
"""Command → its arguments; what is in braces is in the folder of a test."""
FIELD = {"shape_px": [64, 64], "mixture": {"Pt5": 1.0}}
OF_0_1 = Path(__file__).parents[1] / "compatibility" / "samples"
IMPORTED = (
    "api.analysing", "models.files", "pipeline.adaptation.runs", "pipeline.atom_runs",
    "pipeline.batch", "pipeline.explanations", "pipeline.installed_models", "pipeline.runs",
    "pipeline.watch", "project.annotation_packs", "project.filled_packs", "reporting.report",
    "reporting.score_figures", "simulation.recipes", "state.consensus_marks",
    "statistics.human_parity", "training.run", "validation.benchmark_scores", "validation.run",
)  # fmt: skip
"""What commands import, so that it is imported once."""


@pytest.fixture(scope="module")
def inputs(tiny_model):
    """The files that commands read, in a folder that an ordinary user can reach."""
    for name in IMPORTED:
        __import__(f"napari_atomicity.{name}")
    with folder_of_ordinary_user() as folder:
        analysis = synthetic_analysis()
        pixels = analysis.micrograph.data.astype("u2")
        for label in ("Pt19", "Pt70"):
            (folder / "images" / label).mkdir(parents=True)
            write_pixels(folder / "images" / label / f"{label}.tif", pixels, 0.1)
        for path in (tiny_model, tiny_model.with_suffix(".json")):
            shutil.copy(path, folder / f"model{path.suffix}")
        write_clusters(analysis.table, folder / "table.csv")
        shutil.copytree(OF_0_1 / "packs" / "bo", folder / "pack")
        recipe = {"classes": ["Pt5"], "isomers_per_class": 1, "fields": {"a.tif": FIELD}}
        (folder / "settings.json").write_text(json.dumps(recipe))
        yield folder


def values(folder, out, **others):
    """Return the values of the arguments in braces."""
    known = {
        "inputs": folder, "out": out, "images": folder / "images", "pack": folder / "pack",
        "benchmark": folder / "images", "table": folder / "table.csv",
        "model": folder / "model.safetensors", "settings": folder / "settings.json",
    }  # fmt: skip
    return {**known, **others}


def run_command(command, arguments, statuses=(1, 2)):
    """Run a command that fails; return its messages."""
    given = [argument.format(**arguments) for argument in COMMANDS[command]]
    result = CliRunner().invoke(cli.app, [*command.split(), *given])
    shown = f"{command}: {result.exit_code} {result.output}"
    assert result.exit_code in statuses, shown
    assert isinstance(result.exception, SystemExit), shown
    for raw in ("Traceback", "unexpected", "report it", "Errno"):
        assert raw not in result.output, shown
    return result.stderr


def replaced_inputs(command):
    """Return the names of the inputs of a command that a person gives."""
    names = ("images", "model", "table", "pack", "benchmark", "settings")
    return [name for name in names if f"{{{name}}}" in " ".join(COMMANDS[command])]


def refuse(command, inputs, bad, statuses=(1, 2)):
    """Run a command with each of its inputs replaced; the error names it, nothing is left."""
    for name in replaced_inputs(command):
        out = bad.parent / f"out-{name}"
        said = run_command(command, values(inputs, out, **{name: bad}), statuses)
        assert bad.name in said, f"{command} {name}: {said}"
        assert_whole(out)


def assert_whole(out):
    """Check that no part of a file is left."""
    hidden = {path.name for path in out.rglob(".*")} if out.exists() else set()
    assert hidden <= {".atomicity.lock"}, hidden


@pytest.fixture(autouse=True)
def no_waiting(monkeypatch, tmp_path):
    """End a command that waits; the user's folder of models is empty."""
    monkeypatch.setenv("ATOMICITY_MODELS", str(tmp_path / "models"))
    signal.alarm(60)
    yield
    signal.alarm(0)


@pytest.mark.parametrize("command", COMMANDS)
def test_no_argument(command):
    result = CliRunner().invoke(cli.app, command.split())
    assert result.exit_code == 2 and "Traceback" not in result.output


@pytest.mark.parametrize("command", COMMANDS)
@pytest.mark.parametrize("kind", ["missing", "empty", "pipe"])
def test_what_can_not_be_read(inputs, tmp_path, command, kind):
    bad = tmp_path / "thing"
    if kind == "pipe":
        os.mkfifo(bad)
    elif kind == "empty":
        bad.mkdir()
    if (command, kind) in (("watch", "empty"), ("batch", "pipe")):
        return  # images may come; the workers read as `analyse` does, and take long to start
    if kind == "missing":
        refuse(command, inputs, bad, statuses=(2,))
        assert not list(tmp_path.iterdir())
    else:
        refuse(command, inputs, bad)


@pytest.mark.parametrize("command", COMMANDS)
def test_folders_without_rights(inputs, command):
    with folder_of_ordinary_user() as folder:
        as_ordinary_user(refuse_folders_without_rights, folder, inputs, command)


def refuse_folders_without_rights(folder, inputs, command):
    bad = folder / "thing"
    bad.mkdir(mode=0)
    os.environ["ATOMICITY_MODELS"] = str(bad / "models")
    try:
        refuse(command, inputs, bad)
        bad.chmod(0o555)
        if command not in ("benchmark",):  # takes long to make
            assert "written" in run_command(command, values(inputs, bad))
        assert not list(bad.iterdir())
    finally:
        bad.chmod(0o755)


@pytest.mark.parametrize("command", ["analyse", "explain", "watch", "atoms", "pack", "simulate"])
def test_a_full_disk(inputs, tmp_path, command):
    most = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, most[1]))  # acts as a full disk
    try:
        run_command(command, values(inputs, tmp_path / "out"))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, most)
    assert_whole(tmp_path / "out")


@pytest.mark.parametrize("command", COMMANDS)
def test_ctrl_c_early(inputs, tmp_path, command):
    printed = tmp_path / "printed"
    child = os.fork()
    if not child:
        run_and_stop(command, values(inputs, tmp_path / "out"), printed)
    status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    said = printed.read_text()
    assert (status == 130 and "stopped" in said) or status in (0, 1, 2), f"{status} {said}"
    assert "Traceback" not in said and "report it" not in said, said
    assert_whole(tmp_path / "out")


def run_and_stop(command, arguments, printed):
    """Run a command in this process, a copy of that of the tests, and stop it soon."""
    try:
        for stream in (1, 2):
            os.dup2(os.open(printed, os.O_WRONLY | os.O_CREAT | os.O_APPEND), stream)
        sys.stdout, sys.stderr = open(1, "w", closefd=False), open(2, "w", closefd=False)  # noqa: SIM115
        given = [argument.format(**arguments) for argument in COMMANDS[command]]
        sys.argv = ["atomicity", *command.split(), *given]
        signal.signal(signal.SIGALRM, lambda *_: os.kill(os.getpid(), signal.SIGINT))
        signal.setitimer(signal.ITIMER_REAL, 0.05)
        main()
    except SystemExit as end:
        sys.stderr.flush()
        os._exit(end.code or 0)
    finally:
        os._exit(99)
