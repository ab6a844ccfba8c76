"""Options that several commands share: a settings file, quiet output, overwriting, workers."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
import tifffile
import typer
from typer.testing import CliRunner

from napari_atomicity.cli import analyse, commands
from napari_atomicity.io.tables import read_clusters
from support import synthetic_analysis

pytestmark = pytest.mark.usefixtures("blank_figures")

COMMANDS = typer.main.get_command(commands.app).commands


def atomicity(*arguments):
    return CliRunner().invoke(commands.app, [str(a) for a in arguments])


@pytest.fixture
def asked(monkeypatch, tmp_path):
    """Images, folder and request of `atomicity analyse`, which then ends."""
    monkeypatch.chdir(tmp_path)
    Path("a.tif").touch()
    calls = []

    def run_analysis(*arguments):
        calls.append(arguments)
        raise typer.Exit

    monkeypatch.setattr(analyse, "run_analysis", run_analysis)
    return calls


def write(text):
    Path("run.toml").write_text(text)
    return ("--settings", "run.toml")


# ---- the settings file
def test_a_settings_file_has_flat_keys_and_tables_by_command(asked):
    file = write(
        """
        device = "cpu"
        threshold = 5
        [analyse]
        threshold = 7.5
        no-such = false
        """.replace("no-such", "umap")
    )
    assert atomicity("analyse", "a.tif", "--out", "o", *file).exit_code == 0
    images, out, request, _ = asked[0]
    assert (images, out) == ([Path("a.tif")], Path("o"))
    assert (request.device, request.detection.threshold, request.umap) == ("cpu", 7.5, False)


def test_every_option_can_be_in_the_file_and_the_command_line_wins(asked):
    file = write("""
        images = ["a.tif"]
        out = "o"
        known = ["a*=Pt55", "b*=Pt19"]
        average-frames = 4
        pixel_size_nm = 0.05
        split-touching = false
        [atoms]
        precision = 0.9
        """)
    assert atomicity("analyse", *file, "--pixel-size-nm", 0.1).exit_code == 0
    images, out, request, _ = asked[0]
    assert (images, out, request.known) == ([Path("a.tif")], Path("o"), ("a*=Pt55", "b*=Pt19"))
    assert (request.average_frames, request.pixel_size_nm) == (4, 0.1)
    assert not request.detection.split_touching


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("treshold = 7", "treshold"),
        ("[analyze]\nthreshold = 7", "analyze"),
        ('threshold = "high"', "threshold"),
        ("threshold = -1", "threshold"),
        ("threshold = true", "threshold"),
        ("umap = 1", "umap"),
        ('device = "tpu"', "device"),
        ("out = ['a', 'b']", "out"),
        ('model = ""', "model"),
        ('known = "Pt55"', "known"),
        ("diameter-min-nm = 9", "diameter-min-nm"),
        ("threshold 7", "line 1"),
    ],
)
def test_wrong_keys_and_values_are_named_with_the_file(asked, text, words):
    result = atomicity("analyse", "a.tif", "--out", "o", *write(text))
    assert result.exit_code == 2 and not asked
    assert "run.toml" in result.stderr and words in result.stderr


@pytest.mark.parametrize("images", [5, "a.tif", [7], [{"path": None}], [{}], {"path": "a.tif"}])
def test_a_damaged_record_is_no_raw_error(asked, images):
    Path("run.json").write_text(json.dumps({"parameters": {}, "images": images}))
    result = atomicity("analyse", "--out", "o", "--settings", "run.json")
    assert result.exit_code == 2 and not asked
    assert "Traceback" not in result.stderr and result.exception.__class__ is SystemExit


def test_wrong_values_of_options_name_the_option(asked):
    for option, value in (
        ("--threshold", 0), ("--known", "Pt55"), ("--diameter-min-nm", 9),
        ("--earlier-run", "nowhere.json"), ("--average-frames", "many"),
    ):  # fmt: skip
        result = atomicity("analyse", "a.tif", "--out", "o", option, value)
        assert result.exit_code == 2 and option in result.stderr, option


def test_options_that_do_not_fit_are_refused_in_a_settings_file_too(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("settings.json").write_text("{}")
    file = write('data = "."\nout = "m.safetensors"\nkind = "atoms"\nepochs = 3\n')
    result = atomicity("train", *file)
    assert result.exit_code == 2 and "--epochs is not for a model of atoms" in result.stderr


def test_simulations_take_options_from_toml_as_well(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    result = atomicity("simulate", "--out", "o", *write("fields = 0"))
    assert result.exit_code == 2 and "fields" in result.stderr


@pytest.mark.parametrize("name", sorted(COMMANDS.keys() - {"models"}))
def test_every_command_has_settings_and_quiet(name):
    options = {text for parameter in COMMANDS[name].params for text in parameter.opts}
    assert {"--settings", "--quiet"} <= options


def test_the_same_option_has_one_help_text():
    texts = {}
    for name in COMMANDS:
        for parameter in COMMANDS[name].params:
            for option in parameter.opts:
                if option in ("--quiet", "--json", "--device"):
                    # What only some commands can is said there, after what all have in common.
                    common = parameter.help.partition(" With cpu-bf16")[0]
                    texts.setdefault(option, set()).add(common)
    texts["--device"].discard("Device of the image simulation.")
    assert {option: len(found) for option, found in texts.items()} == dict.fromkeys(texts, 1)


# ---- runs
@pytest.fixture(scope="module")
def images(tmp_path_factory):
    folder = tmp_path_factory.mktemp("images")
    for name in ("a.tif", "b.tif"):
        tifffile.imwrite(folder / name, synthetic_analysis().micrograph.data)
    return folder


def test_a_run_can_be_repeated_from_its_record_with_a_typed_reference(
    images, tiny_model, tmp_path, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    first = atomicity(
        "analyse", images / "a.tif", "--out", "1", "--model", tiny_model, "--pixel-size-nm", 0.1,
        "--no-umap", "--reference", "Pt19:Pt70 = 1:1", "--quiet", "--json",
    )  # fmt: skip
    assert first.exit_code == 0 and first.stderr == ""
    assert {r["class"] for r in json.loads(first.stdout)["reference"]["table"]} >= {"Pt19", "Pt70"}
    again = atomicity("analyse", "--settings", Path("1", "run.json"), "--out", "2")
    assert again.exit_code == 0 and again.stdout == ""
    records = [json.loads(Path(out, "run.json").read_text()) for out in "12"]
    assert records[0]["parameters"] == records[1]["parameters"]
    assert Path("1", "clusters.csv").read_bytes() == Path("2", "clusters.csv").read_bytes()

    # the same images replace their results; other images need --overwrite
    options = ("--out", "2", "--model", tiny_model, "--pixel-size-nm", 0.1, "--no-umap")
    assert atomicity("analyse", images, *options, "--quiet").stderr == ""
    before = {path: path.read_bytes() for path in Path("2").rglob("*") if path.is_file()}
    for command in ("analyse", "atoms", "batch"):
        refused = atomicity(command, images / "b.tif", "--out", "2")
        assert refused.exit_code == 2 and "--overwrite" in refused.stderr
    assert before == {path: path.read_bytes() for path in Path("2").rglob("*") if path.is_file()}
    done = atomicity("analyse", images / "b.tif", *options, "--overwrite")
    assert done.exit_code == 0
    assert set(read_clusters(Path("2", "clusters.csv"))["image"]) == {"b.tif"}


@pytest.mark.parametrize(
    ("kind", "command", "said"),
    [
        ("export", "analyse", "Copy as"),
        ("atoms", "analyse", "not of"),
        ("compare", "atoms", "not of"),
        ("analyse", "atoms", "not of"),
    ],
)
def test_a_record_of_another_kind_is_refused(images, tmp_path, kind, command, said):
    """Its settings have other meanings: the threshold of clusters is no probability of atoms."""
    record = tmp_path / "run.json"
    record.write_text(json.dumps({"kind": kind, "parameters": {"threshold": 0.5}, "images": []}))
    refused = atomicity(command, images, "--settings", record, "--out", tmp_path / "out")
    assert refused.exit_code == 2 and f"record of `{kind}`" in refused.stderr
    assert said in refused.stderr and not (tmp_path / "out").exists()


@pytest.mark.parametrize("command", ["batch", "watch"])
def test_a_record_gives_a_command_what_it_knows(images, tiny_model, tmp_path, command):
    options = ("--model", tiny_model, "--pixel-size-nm", 0.1, "--no-umap", "--quiet")
    assert atomicity("analyse", images, "--out", tmp_path / "1", *options).exit_code == 0
    record = tmp_path / "1" / "run.json"
    given = (images, "--once") if command == "watch" else ("--workers", 1)
    again = atomicity(command, *given, "--settings", record, "--out", tmp_path / "2")
    assert again.exit_code == 0, again.stderr
    read = [json.loads((tmp_path / out / "run.json").read_text()) for out in "12"]
    same = ("pixel_size_nm", "model", "ratios", "session")
    first, second = ([one["parameters"][name] for name in same] for one in read)
    assert first == second


def test_quiet_prints_errors(images, tiny_model, tmp_path):
    (tmp_path / "c.tif").write_bytes(b"")
    options = ("--out", tmp_path / "o", "--model", tiny_model, "--pixel-size-nm", 0.1, "--no-umap")
    result = atomicity("analyse", images / "a.tif", tmp_path / "c.tif", *options, "--quiet")
    assert result.exit_code == 1 and result.stdout == ""
    lines = result.stderr.splitlines()
    assert len(lines) == 2 and "c.tif" in lines[0] and "could not be analysed" in lines[1]


@pytest.mark.parametrize("text", ["Pt19", "Pt19:Pt41 = 1", "Pt19:Au55 = 1:1", "nowhere.csv"])
def test_a_reference_that_is_no_ratio_is_2_and_writes_nothing(images, tiny_model, tmp_path, text):
    out = tmp_path / "o"
    options = ("--out", out, "--model", tiny_model, "--pixel-size-nm", 0.1, "--reference", text)
    result = atomicity("analyse", images / "a.tif", *options)
    assert result.exit_code == 2 and not out.exists()


def test_a_model_is_replaced_with_overwrite_only(tmp_path):
    model = tmp_path / "m.safetensors"
    model.write_bytes(b"mine")
    for command in (("train", "--data", tmp_path), ("adapt", tmp_path)):
        result = atomicity(*command, "--out", model)
        assert result.exit_code == 2 and "--overwrite" in result.stderr
    assert model.read_bytes() == b"mine"


def test_atoms_are_the_same_with_workers(tmp_path, forks, monkeypatch):
    monkeypatch.setattr("napari_atomicity.core.processes.WorkerContext", lambda: forks)
    for name in ("a.tif", "b.tif"):
        data = synthetic_analysis().micrograph.data[:96, :96]
        tifffile.imwrite(tmp_path / name, data)
    paths = [tmp_path / name for name in ("a.tif", "nothing.tif", "b.tif")]
    options = ("--pixel-size-nm", 0.03, "--no-completeness", "--json")
    found = []
    for workers in (1, 2):
        out = tmp_path / str(workers)
        result = atomicity("atoms", *paths, "--out", out, *options, "--workers", workers)
        assert result.exit_code == 1 and "nothing.tif" in result.stderr
        images = json.loads(result.stdout)["images"]
        found.append([(image["image"], image["status"]) for image in images])
    assert found[0] == found[1]
    for name in ("atoms.csv", "dispersion.csv"):
        tables = [(tmp_path / n / name).read_bytes() for n in "12"]
        assert tables[0] == tables[1]


def test_clusters_are_the_same_with_workers(images, tiny_model, tmp_path, forks):
    options = ("--model", tiny_model, "--pixel-size-nm", 0.1, "--no-umap", "--quiet")
    for workers in (1, 2):
        out = tmp_path / str(workers)
        result = atomicity("analyse", images, "--out", out, *options, "--workers", workers)
        assert result.exit_code == 0 and result.output == ""
    tables = [(tmp_path / n / "clusters.csv").read_bytes() for n in "12"]
    assert tables[0] == tables[1]


def test_clusters_are_analysed_without_slow_packages(images, tiny_model, tmp_path):
    code = (
        "import sys; from napari_atomicity.cli import app; app(standalone_mode=False); "
        "print(*(n for n in sys.argv.pop().split() if n in sys.modules))"
    )
    slow = "numba umap distributed sklearn matplotlib.pyplot scipy.stats trackpy napari"
    options = ("--out", tmp_path / "o", "--model", tiny_model, "--pixel-size-nm", "0.1", "--quiet")
    command = [sys.executable, "-c", code, "analyse", images / "a.tif", *options]
    script = code.replace("sys.argv.pop()", repr(slow))
    done = subprocess.run(
        [sys.executable, "-c", script, *command[3:]], capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "", done.stdout
