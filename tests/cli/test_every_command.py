"""Every command with what goes wrong on the way: no raw error, no hang, no half file."""

import encodings.utf_8_sig  # noqa: F401  (an ordinary user may not read it later)
import itertools
import json
import os
import resource
import shutil
import signal
import sys
from pathlib import Path

import pytest
from typer.main import get_command
from typer.testing import CliRunner

from napari_atomicity.cli import commands as cli, main
from napari_atomicity.io.tables import write_clusters
from napari_atomicity.simulation.example_data import example_path
from napari_atomicity.simulation.recipes import write_pixels
from ordinary_user import as_ordinary_user, folder_of_ordinary_user
from pipeline.test_comparison import write_results
from support import synthetic_analysis

pytestmark = pytest.mark.skipif(os.name == "nt", reason="needs processes and rights of POSIX")

TRAINING = ("--epochs", "1", "--start", "scratch", "--channels", "raw", "--device", "cpu")
COMMANDS = {
    "analyse": ("{images}", "--model", "{model}", "--no-umap", "--out", "{out}"),
    "explain": ("{images}", "--model", "{model}", "--out", "{out}"),
    "batch": ("{images}", "--model", "{model}", "--workers", "1", "--out", "{out}"),
    "watch": ("{images}", "--model", "{model}", "--no-umap", "--once", "--out", "{out}"),
    "atoms": ("{images}", "--no-completeness", "--out", "{out}"),
    "adapt": ("{example}", "--model", "{shipped}", "--out", "{out}/a.safetensors"),
    "train": ("--data", "{data}", *TRAINING, "--out", "{out}/a.safetensors"),
    "validate": ("--data", "{data}", "--quick", "--methods", "diameter", "--out", "{out}"),
    "validate --simulate": ("--quick", "--out", "{out}"),
    "pack": ("{images}", "--out", "{out}/pack"),
    "consensus": ("{pack}", "--out", "{out}"),
    "compare": ("{results}", "--samples", "{samples}", "--out", "{out}"),
    "evaluate": ("{table}", "{table}", "--figures", "{out}"),
    "benchmark": ("--kinds", "few clusters", "--rounds", "1", "--out", "{out}"),
    "benchmark --score": ("{predictions}", "--data", "{benchmark}", "--out", "{out}"),
    "simulate": ("--settings", "{settings}", "--out", "{out}"),
    "models add": ("{model}",),
    "models": (),
    "info": (),
    "demo": ("--close", "--out", "{out}"),
}
"""Command, with an option if it does different things → its arguments; what is in braces is in the
folder of a test."""
NOT_WRITING = ("models", "info", "benchmark --score")
"""The last one would first need a whole benchmark."""
WRITING = [command for command in COMMANDS if command not in NOT_WRITING]
SUFFIXES = {
    "images": ".tif", "example": ".tif", "data": "", "benchmark": "", "pack": ".zip",
    "model": ".safetensors", "shipped": ".safetensors", "table": ".csv", "settings": ".json",
    "results": "", "samples": ".csv",
}  # fmt: skip
"""Suffix of each input that a person gives; empty for a folder."""
FIELD = {"shape_px": [64, 64], "mixture": {"Pt5": 1.0}}
OF_0_2 = Path(__file__).parents[1] / "compatibility" / "samples"
IMPORTED = (
    "api.analysing", "models.files", "pipeline.adaptation.runs", "pipeline.atom_runs",
    "pipeline.comparison", "pipeline.explanations", "pipeline.installed_models",
    "pipeline.live.watch",
    "pipeline.runs.batch", "pipeline.runs.engine", "project.packs.annotation_packs",
    "project.packs.filled_packs", "reporting.report", "simulation.recipes",
    "state.annotators", "statistics.annotators.human_parity", "training.run",
    "validation.benchmark_scores", "validation.figures", "validation.run",
)  # fmt: skip
"""What commands import, so that it is imported once."""


@pytest.fixture(scope="module")
def inputs(tiny_model):
    """The files that commands read, in a folder that an ordinary user can reach."""
    for name in IMPORTED:
        __import__(f"napari_atomicity.{name}")
    with folder_of_ordinary_user() as folder:
        for label, seed in itertools.product(("Pt19", "Pt70"), range(4)):
            pixels = synthetic_analysis(seed=seed).micrograph.data.astype("u2")
            (folder / "data" / label).mkdir(parents=True, exist_ok=True)
            write_pixels(folder / "data" / label / f"{label}-{seed}.tif", pixels, 0.1)
            if seed == 0:
                shutil.copytree(folder / "data" / label, folder / "images" / label)
        for path in (tiny_model, tiny_model.with_suffix(".json")):
            shutil.copy(path, folder / f"model{path.suffix}")
        write_clusters(synthetic_analysis().table, folder / "table.csv")
        shutil.copytree(OF_0_2 / "packs" / "bo", folder / "pack")
        (folder / "benchmark").mkdir()
        write_results(folder / "results", ["fresh", "spent"])
        (folder / "samples.csv").write_text("image,sample\nfresh_*,a\nspent_*,b\n")
        recipe = {"classes": ["Pt5"], "isomers_per_class": 1, "fields": {"a.tif": FIELD}}
        (folder / "settings.json").write_text(json.dumps(recipe))
        yield folder


def values(folder, out, **others):
    """Return the values of the arguments in braces."""
    known = {
        "out": out, "images": folder / "images", "data": folder / "data", "pack": folder / "pack",
        "benchmark": folder / "benchmark", "table": folder / "table.csv",
        "predictions": folder / "table.csv",
        "results": folder / "results", "samples": folder / "samples.csv",
        "model": folder / "model.safetensors", "settings": folder / "settings.json",
        "example": example_path(), "shipped": "raw",
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
    return [name for name in SUFFIXES if f"{{{name}}}" in " ".join(COMMANDS[command])]


def refuse(command, inputs, folder, make, statuses=(1, 2)):
    """Run a command with each of its inputs replaced; the error names it, nothing is left."""
    for name in replaced_inputs(command):
        bad, out = folder / f"bad-{name}{SUFFIXES[name]}", folder / f"out-{name}"
        make(bad)
        said = run_command(command, values(inputs, out, **{name: bad}), statuses)
        assert bad.name in said, f"{command} {name}: {said}"
        assert_whole(out)


def assert_whole(out):
    """Check that no part of a file is left."""
    hidden = {path.name for path in out.rglob(".*")} if out.exists() else set()
    assert hidden <= {".atomicity.lock"}, hidden


@pytest.fixture(autouse=True)
def quick(monkeypatch, tmp_path):
    """End a command that waits; without the map, whose compilation takes seconds."""
    monkeypatch.setenv("ATOMICITY_MODELS", str(tmp_path / "models"))
    for name in ("fit_map", "place"):
        place = f"napari_atomicity.models.embedding.{name}"
        monkeypatch.setattr(place, lambda embedding, *_, **__: embedding[:, :2].copy())
    before = signal.signal(signal.SIGALRM, fail_after_waiting)
    signal.alarm(60)
    yield
    signal.alarm(0)
    signal.signal(signal.SIGALRM, before)


def fail_after_waiting(*_):
    raise AssertionError("waited for 60 s")


def test_every_command_is_in_the_list():
    groups = get_command(cli.app).commands
    commands = {name for name, group in groups.items() if not getattr(group, "commands", {})}
    for name, group in groups.items():
        commands |= {name, *(f"{name} {other}" for other in getattr(group, "commands", {}))}
    assert commands == {command.partition(" --")[0] for command in COMMANDS}


@pytest.mark.parametrize("command", COMMANDS)
def test_no_argument(command, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("demo-output").touch()  # the folder of `demo`, which it refuses
    result = CliRunner().invoke(cli.app, command.partition(" --")[0].split())
    status = {"demo": 1, "models": 0, "info": 0}.get(command, 2)
    assert result.exit_code == status and "Traceback" not in result.output
    assert [path.name for path in tmp_path.iterdir()] == ["demo-output"]


@pytest.mark.parametrize("command", [name for name in COMMANDS if replaced_inputs(name)])
@pytest.mark.parametrize("kind", ["missing", "empty", "pipe"])
def test_what_can_not_be_read(inputs, tmp_path, command, kind):
    make = {"missing": lambda _: None, "empty": Path.mkdir, "pipe": os.mkfifo}[kind]
    if (command, kind) == ("watch", "empty"):
        return  # images may come
    refuse(command, inputs, tmp_path, make, statuses=(2,) if kind == "missing" else (1, 2))
    if kind == "missing":
        assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("command", WRITING)
def test_a_pipe_in_place_of_the_results(inputs, tmp_path, command, monkeypatch):
    pipe = tmp_path / "out"
    os.mkfifo(pipe)
    monkeypatch.setenv("ATOMICITY_MODELS", str(pipe))
    said = run_command(command, values(inputs, pipe))
    assert "written" in said, said
    assert pipe.is_fifo() and list(tmp_path.iterdir()) == [pipe]


@pytest.mark.parametrize("command", ["models", "info"])
@pytest.mark.parametrize("kind", ["missing", "empty", "pipe", "with a pipe", "without rights"])
def test_a_folder_of_models_that_can_not_be_read(tmp_path, command, kind):
    with folder_of_ordinary_user() as folder:
        as_ordinary_user(list_without_models, folder, command, kind)


def list_without_models(folder, command, kind):
    models = folder / "models"
    os.environ["ATOMICITY_MODELS"] = str(models)
    if kind == "pipe":
        os.mkfifo(models)
    elif kind != "missing":
        models.mkdir()
    if kind == "with a pipe":
        for suffix in ("safetensors", "json"):
            os.mkfifo(models / f"a.{suffix}")
    models.chmod(0) if kind == "without rights" else None
    signal.alarm(60)
    result = CliRunner().invoke(cli.app, [command])
    assert result.exit_code == 0 and "pt-dual" in result.stdout, result.output
    assert "Traceback" not in result.output


@pytest.mark.parametrize("command", [*WRITING, "benchmark --score"])
def test_folders_without_rights(inputs, command):
    with folder_of_ordinary_user() as folder:
        as_ordinary_user(refuse_folders_without_rights, folder, inputs, command)


def refuse_folders_without_rights(folder, inputs, command):
    os.environ["ATOMICITY_MODELS"] = str(folder / "thing" / "models")
    refuse(command, inputs, folder, lambda path: path.mkdir(mode=0))
    bad = folder / "thing"
    bad.mkdir(mode=0o555)
    try:
        if command in WRITING:
            assert "written" in run_command(command, values(inputs, bad))
        assert not list(bad.iterdir())
    finally:
        bad.chmod(0o755)


@pytest.mark.parametrize("command", WRITING)
def test_a_full_disk(inputs, tmp_path, command, request):
    if command == "batch":
        request.getfixturevalue("forks")  # its workers start quickly
    most = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (60, most[1]))  # acts as a full disk
    try:
        said = run_command(command, values(inputs, tmp_path / "out"))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, most)
    assert "could not be written (File too large)" in said, said
    assert_whole(tmp_path)


@pytest.mark.parametrize(
    "arguments", ["--help", "--version", "info", "models --json", "evaluate {table} {table}"]
)
def test_standard_output_on_a_full_disk(inputs, tmp_path, arguments):
    given = arguments.format(**values(inputs, tmp_path)).split()
    status, said = run_in_copy(given, tmp_path / "printed", output="/dev/full")
    assert status == 1 and said.startswith("atomicity: standard output: could not be written")
    assert said.count("\n") == 1, said


@pytest.mark.parametrize("command", COMMANDS)
def test_ctrl_c(inputs, tmp_path, command):
    given = [argument.format(**values(inputs, tmp_path / "out")) for argument in COMMANDS[command]]
    status, said = run_in_copy([*command.split(), *given], tmp_path / "printed", stop_s=0.1)
    assert (status == 130 and "stopped" in said) or status in (0, 1, 2), f"{status} {said}"
    assert "Traceback" not in said and "report it" not in said, said
    assert_whole(tmp_path / "out")


def run_in_copy(arguments, printed, output=None, stop_s=None):
    """Run a command in a copy of this process; return its status and its messages."""
    child = os.fork()
    if not child:
        run_and_stop(arguments, printed, output, stop_s)
    status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    return status, printed.read_text()


def run_and_stop(arguments, printed, output, stop_s):
    """Run a command, whose messages go to a file, and stop it after some time."""
    try:
        for stream, path in ((1, output or printed), (2, printed)):
            os.dup2(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND), stream)
        sys.stdout, sys.stderr = open(1, "w", closefd=False), open(2, "w", closefd=False)  # noqa: SIM115
        sys.argv = ["atomicity", *arguments]
        if stop_s is not None:
            signal.signal(signal.SIGALRM, lambda *_: os.kill(os.getpid(), signal.SIGINT))
            signal.setitimer(signal.ITIMER_REAL, stop_s)
        main()
    except SystemExit as end:
        sys.stderr.flush()
        os._exit(end.code or 0)
    finally:
        os._exit(99)
