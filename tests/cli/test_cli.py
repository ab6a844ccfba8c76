"""The command line as a script sees it: status, standard output, standard error."""

import dataclasses
import gc
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest
import tifffile
import typer
from typer.main import get_command
from typer.testing import CliRunner

import bad_readers
import napari_atomicity
from napari_atomicity import Project
from napari_atomicity.cli import commands as cli, common, demo, display
from napari_atomicity.cli.common import guarded
from napari_atomicity.core.errors import DependencyError, ModelError, ReadError, TableError
from napari_atomicity.io import images
from napari_atomicity.io.provenance import Outcome, analysed_images
from napari_atomicity.io.readers.read_limits import ReadLimits, read_limits
from napari_atomicity.io.reference_ratios import parse_reference
from napari_atomicity.io.tables import write_clusters
from napari_atomicity.pipeline.runs import engine
from napari_atomicity.statistics.ratios.ratio_notes import CONDITIONS_DIFFER
from napari_atomicity.statistics.ratios.ratios import class_ratios
from napari_atomicity.statistics.ratios.reference import compare
from support import synthetic_analysis


def atomicity(*arguments):
    return CliRunner().invoke(cli.app, [str(a) for a in arguments])


@pytest.fixture
def ends(monkeypatch, tmp_path):
    """Let runs of a.tif and b.tif end as told: outcomes, interruption or an exception."""
    monkeypatch.chdir(tmp_path)
    for name in ("a.tif", "b.tif"):
        (tmp_path / name).touch()

    def set_end(outcomes=(), interrupted=False, error=None):
        def analyse_images(paths, out, request, progress, stop, on_outcome, overwrite):
            asked.append((list(paths), out, request))
            if error is not None:
                raise error
            for outcome in outcomes:
                on_outcome(outcome, synthetic_analysis() if outcome.status == "done" else None)
            table = synthetic_analysis().table
            return engine.Run(
                table,
                class_ratios(table),
                list(outcomes),
                [Path(out) / "clusters.csv"],
                interrupted,
            )

        asked = []
        monkeypatch.setattr(engine, "analyse_images", analyse_images)
        return asked

    return set_end


GOOD = Outcome(
    "a.tif", "a.tif", "done", clusters=12, seconds={"x": 1.0}, warnings=("[bold]careful",)
)
BAD = Outcome("b.tif", "b.tif", "failed", "b.tif: the file is empty. Copy it again.")


def test_done_is_0_and_says_nothing_on_standard_output(ends):
    asked = ends([GOOD])
    options = ("--no-umap", "--threshold", "7", "--symmetries")
    result = atomicity("analyse", "a.tif", "--out", "o", *options)
    assert result.exit_code == 0 and result.stdout == ""
    assert "a.tif: 12 clusters (1.0 s)" in result.stderr and "[bold]careful" in result.stderr
    paths, _, request = asked[0]
    assert paths == [Path("a.tif")]
    assert (request.umap, request.detection.threshold, request.pixel_size_nm) == (False, 7.0, None)
    assert request.symmetries


def test_ratios_and_reference_are_passed_on_and_told(ends, monkeypatch):
    asked = ends([GOOD])
    analysis = synthetic_analysis()
    table = analysis.table.assign(conditions_differ=True)
    analyse_images = engine.analyse_images

    def compared(*args, **kwargs):
        known = parse_reference("Pt19:Pt70 = 1:3")
        run = analyse_images(*args, **kwargs)
        return dataclasses.replace(
            run,
            ratios=class_ratios(table),
            comparison=dataclasses.replace(compare(table, known), not_compared=("b*", "c")),
        )

    monkeypatch.setattr(engine, "analyse_images", compared)
    result = atomicity(
        "analyse", "a.tif", "--out", "o", "--ratios", "em", "--reference", "r.csv", "--json"
    )
    assert result.exit_code == 0
    request = asked[0][2]
    assert (request.ratios, request.reference) == ("em", "r.csv")
    assert f"\nnote: {CONDITIONS_DIFFER}\n" in result.stderr
    summary = json.loads(result.stdout)["reference"]
    assert f"R² {summary['r2']:.3f}, mean absolute error" in result.stderr
    assert "no cluster was counted in b*, c" in result.stderr
    assert summary["table"][0]["reference"] == 0.25


@pytest.mark.parametrize("kind", [ReadError, TableError])
def test_a_reference_that_makes_no_sense_is_2(ends, kind):
    ends(error=kind("the reference is empty", "r.csv"))
    result = atomicity("analyse", "a.tif", "--out", "o", "--reference", "r.csv")
    assert result.exit_code == 2
    assert result.stderr == "atomicity: r.csv: the reference is empty.\n"


def test_a_failed_image_is_1_and_named_once(ends):
    ends([GOOD, BAD])
    result = atomicity("analyse", "a.tif", "b.tif", "--out", "o", "--json")
    assert result.exit_code == 1
    assert "\nb.tif: the file is empty. Copy it again.\n" in result.stderr
    assert "1 image could not be analysed" in result.stderr
    summary = json.loads(result.stdout)
    assert [i["status"] for i in summary["images"]] == ["done", "failed"]
    assert summary["ratios"][0]["scope"] == "field.tif"


def test_ctrl_c_is_130(ends):
    ends([GOOD], interrupted=True)
    result = atomicity("analyse", "a.tif", "--out", "o")
    assert result.exit_code == 130 and "stopped" in result.stderr


def test_ctrl_c_before_the_first_image_is_130(ends):
    ends(error=KeyboardInterrupt())
    result = atomicity("analyse", "a.tif", "--out", "o")
    assert result.exit_code == 130 and result.stderr == "atomicity: stopped\n"


@pytest.mark.parametrize(
    "arguments",
    [
        ("analyse", "a.tif"),
        ("analyse", "--out", "o"),
        ("analyse", "a.tif", "--out", "o", "--pixel-size-nm", "-1"),
        ("analyse", "a.tif", "--out", "o", "--pixel-size-nm", "wide"),
        ("analyse", "a.tif", "--out", "o", "--device", "tpu"),
        ("analyse", "a.tif", "--out", "o", "--ratios", "magic"),
        ("analyse", "a.tif", "--out", "o", "--diameter-min-nm", "5"),
        ("evaluate", "one.csv"),
        ("analyse", "", "--out", "o"),
        ("analyse", "a.tif", "--out", ""),
        ("analyse", "a.tif", "--out="),
        ("atoms", "", "--out", "o"),
        ("batch", "", "--out", "o"),
        ("watch", "", "--out", "o"),
        ("adapt", "", "--out", "o.safetensors"),
        ("adapt", "nowhere", "--out", "o.safetensors"),
        ("train", "--data", "", "--out", "o.safetensors"),
        ("train", "--kind", "atoms", "--data", "nowhere", "--out", "o.safetensors"),
        ("analyse", "a.tif", "--out", "o", "--earlier-run", "nowhere.json"),
        ("atoms", "a.tif", "--out", "o", "--clusters", "nowhere.csv"),
        ("watch", ".", "--out", "o", "--session", "nowhere.csv"),
        ("analyse", "a.tif", "--out", "o", "--settings", "nowhere.toml"),
        ("simulate", "--out", ""),
        ("nonsense",),
        (),
    ],
)
def test_wrong_usage_is_2(ends, arguments):
    ends([GOOD])
    before = set(Path().rglob("*"))
    result = atomicity(*arguments)
    assert result.exit_code == 2 and "Traceback" not in result.output, result.output
    assert set(Path().rglob("*")) == before  # nothing is written


LONG = "a" * 300
MANY_DIGITS = "9" * 5000


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("simulate", "--out", "o", "--size-px", "999999"), "16384"),
        (("simulate", "--out", "o", "--fields", MANY_DIGITS), "--fields"),
        (("simulate", "--out", "o", "--seed", MANY_DIGITS), "--seed"),
        (("simulate", "--out", "o", "--classes", ",,"), "--classes"),
        (("simulate", "--out", "o", "--classes", "Pt99999999"), "more than 10,000 atoms"),
        (("simulate", "--out", "o", "--classes", f"Pt{MANY_DIGITS}"), "more than 10,000 atoms"),
        (("simulate", "--out", LONG), "Choose a shorter name"),
        (("train", "--simulate", "Pt9,Pt99999999", "--out", "o.safetensors"), "10,000 atoms"),
        (("benchmark", "--kinds", ",,,", "--out", "o"), "--kinds"),
        (("validate", "--data", ".", "--methods", ",,", "--out", "o"), "--methods"),
        (("analyse", "a.tif", "--out", LONG), "aaa…: could not be read or written"),
        (("atoms", "a.tif", "--out", "o", "--clusters", LONG), "Choose a shorter name"),
        (("evaluate", LONG, LONG), "Choose a shorter name"),
    ],
)
def test_values_beyond_the_limits_are_clear_errors(monkeypatch, tmp_path, arguments, words):
    monkeypatch.chdir(tmp_path)
    Path("a.tif").touch()
    result = atomicity(*arguments)
    assert result.exit_code in (1, 2) and words in result.stderr, result.stderr
    assert "report it" not in result.stderr
    assert sorted(Path().iterdir()) == [Path("a.tif")]


@pytest.mark.parametrize("swapped", [False, True])
@pytest.mark.parametrize("drop", ["label", "y_px"])
def test_scores_name_the_table_that_is_not_valid(tmp_path, drop, swapped):
    table = synthetic_analysis(20).table
    table.to_csv(tmp_path / "good.csv", index=False)
    columns = ["image", "x_px", "y_px", "label", "diameter_nm"]
    table[columns].drop(columns=drop).to_csv(tmp_path / "bad.csv", index=False)
    names = ["bad.csv", "good.csv"][:: -1 if swapped else 1]
    result = atomicity("evaluate", *(tmp_path / name for name in names))
    assert result.exit_code == 1
    assert result.stderr.startswith("atomicity: bad.csv: ") and drop in result.stderr


@pytest.mark.parametrize(
    "text", ["image,session\nzzz.tif,a\n", "image,session,known\na.tif,a,Au9\n"]
)
def test_errors_of_sessions_name_the_table(tmp_path, tiny_model, text):
    (tmp_path / "table.csv").write_text(text)
    tifffile.imwrite(tmp_path / "a.tif", synthetic_analysis().micrograph.data)
    result = atomicity("analyse", tmp_path / "a.tif", "--model", tiny_model, "--out",
                       tmp_path / "o", "--session", tmp_path / "table.csv")  # fmt: skip
    assert result.exit_code == 2 and result.stderr.startswith("atomicity: table.csv: ")


def test_too_little_memory_is_a_clear_error(ends):
    ends(error=MemoryError())
    result = atomicity("analyse", "a.tif", "--out", "o")
    assert result.exit_code == 1 and "not enough memory" in result.stderr
    assert "report it" not in result.stderr


def test_a_link_to_itself_ends_nothing_else(tmp_path, tiny_model):
    images = tmp_path / "images"
    images.mkdir()
    tifffile.imwrite(images / "good.tif", synthetic_analysis().micrograph.data)
    for name in ("loop.tif", "folder", "a.zarr"):
        (images / name).symlink_to(name)
    (images / "b.tif").symlink_to("nothing.tif")
    (images / "c").symlink_to(images, target_is_directory=True)
    options = ("--model", tiny_model, "--pixel-size-nm", 0.1, "--no-umap", "--out")
    result = atomicity("analyse", images, *options, tmp_path / "out")
    assert result.exit_code == 1 and "Traceback" not in result.output
    assert analysed_images(tmp_path / "out" / "clusters.csv") == ["good.tif"]
    assert "loop.tif: there is no such file" in result.stderr
    result = atomicity(
        "analyse", images / "loop.tif", images / "good.tif", *options, tmp_path / "2"
    )
    assert result.exit_code == 1 and "loop.tif" in result.stderr
    assert analysed_images(tmp_path / "2" / "clusters.csv") == ["good.tif"]
    with Project(tmp_path / "images" / "p.atomicity") as project:
        assert project.add_paths([images / "good.tif"]) == ["good.tif"]


def test_limits_for_reading_are_options_of_every_command_that_reads_images(tmp_path, monkeypatch):
    (tmp_path / "a.bad").write_bytes(b"x")
    reader = images.Reader("Bad", (".bad",), bad_readers.sleep, own_process=True)
    monkeypatch.setattr(images, "READERS", (*images.READERS, reader))
    for command in ("analyse", "atoms"):
        limits = ("--read-seconds", 0.3, "--read-memory-gb", 1)
        out = tmp_path / command
        result = atomicity(command, tmp_path / "a.bad", "--out", out, "--device", "cpu", *limits)
        assert result.exit_code == 1 and "longer than 0.3 s" in result.stderr, result.output
    for command in ("analyse", "demo", "atoms", "batch", "watch", "adapt", "train", "pack"):
        text = CliRunner().invoke(cli.app, [command, "--help"], terminal_width=200).stdout
        assert "--read-seconds" in text and "--read-memory-gb" in text
    assert read_limits() == ReadLimits()


def test_a_model_that_can_not_be_used_is_2(ends):
    ends(error=ModelError("there is no model x", advice="Choose one of default, raw"))
    result = atomicity("analyse", "a.tif", "--out", "o", "--model", "x")
    assert result.exit_code == 2
    assert result.stderr == "atomicity: there is no model x. Choose one of default, raw.\n"


def test_what_nobody_foresaw_is_one_line(ends, monkeypatch):
    ends(error=ValueError("odd"))
    result = atomicity("analyse", "a.tif", "--out", "o")
    assert result.exit_code == 1 and "unexpected ValueError: odd" in result.stderr
    monkeypatch.setenv("ATOMICITY_TRACEBACK", "1")
    assert isinstance(atomicity("analyse", "a.tif", "--out", "o").exception, ValueError)


def test_evaluate_prints_scores(tmp_path):
    table = synthetic_analysis(20).table
    truth = table[["image", "x_px", "y_px", "label", "diameter_nm"]].assign(image="field")
    (tmp_path / "truth").mkdir()
    truth.to_csv(tmp_path / "truth" / "truth.csv", index=False)
    images = pd.DataFrame({"image": ["field"], "px_nm": [0.1], "sample": ["mix"]})
    images.to_csv(tmp_path / "truth" / "images.csv", index=False)
    predicted = write_clusters(table, tmp_path / "clusters.parquet")
    result = atomicity("evaluate", predicted, tmp_path / "truth" / "truth.csv")
    assert result.exit_code == 0
    scores = json.loads(result.stdout)
    assert scores["detection"]["recall"] == scores["classification"]["accuracy"] == 1
    assert list(scores["ratios"]["table"]) == ["mix"]


def test_evaluate_names_images_that_were_not_analysed(tmp_path):
    table = synthetic_analysis(20).table
    truth = table[["image", "x_px", "y_px", "y_nm", "x_nm", "label", "diameter_nm"]]
    truth = pd.concat([truth, truth.assign(image="other.tif"), truth.assign(image="empty.tif")])
    truth.to_csv(tmp_path / "truth.csv", index=False)
    predicted = write_clusters(table, tmp_path / "clusters.csv")
    result = atomicity("evaluate", predicted, tmp_path / "truth.csv")
    assert json.loads(result.stdout)["images_not_analysed"] == ["empty.tif", "other.tif"]
    assert "2 images not analysed, not scored: empty.tif, other.tif" in result.stderr
    images = [
        {"image": "field.tif", "status": "done"},
        {"image": "empty.tif", "status": "done"},
        {"image": "other.tif", "status": "failed"},
    ]
    record = {"outputs": ["clusters.csv"], "images": images}
    (tmp_path / "run.json").write_text(json.dumps(record))
    scores = json.loads(atomicity("evaluate", predicted, tmp_path / "truth.csv").stdout)
    assert scores["images_not_analysed"] == ["other.tif"]
    assert scores["detection"]["recall"] == 0.5  # nothing was found in one of two images


def test_evaluate_names_a_missing_file(tmp_path):
    result = atomicity("evaluate", tmp_path / "none.csv", tmp_path / "truth.csv")
    assert result.exit_code == 2 and result.stdout == ""
    assert result.stderr == "atomicity: none.csv: there is no such file.\n"


def test_the_demo_ends_by_itself_without_a_display(ends, monkeypatch, tmp_path):
    monkeypatch.delenv("DISPLAY", raising=False)
    monkeypatch.delenv("WAYLAND_DISPLAY", raising=False)
    if sys.platform != "linux":
        pytest.skip("only Linux can be without a display")
    ends([GOOD])
    shown = []

    def show(analysis, screenshot, stay):
        shown.append((stay, os.environ["DISPLAY"]))
        screenshot.write_bytes(b"png")

    monkeypatch.setattr(display, "why_no_window", lambda: None)
    monkeypatch.setattr(demo, "_show", show)
    result = atomicity("demo", "--out", tmp_path)
    assert result.exit_code == 0, result.stderr
    assert [stay for stay, _ in shown] == [False]
    assert "DISPLAY" not in os.environ


def test_the_demo_stays_open_on_a_display_unless_told(ends, monkeypatch, tmp_path):
    ends([GOOD])
    stays = []
    monkeypatch.setattr(display, "has_display", lambda: True)
    monkeypatch.setattr(display, "why_no_window", lambda: None)
    monkeypatch.setattr(
        demo, "_show", lambda _, path, stay: (stays.append(stay), path.write_bytes(b"png"))
    )
    assert atomicity("demo", "--out", tmp_path).exit_code == 0
    assert atomicity("demo", "--out", tmp_path, "--close").exit_code == 0
    assert stays == [True, False]


def test_missing_libraries_are_named_with_the_command(monkeypatch):
    monkeypatch.setattr(display.shutil, "which", lambda name: None)
    command = "apt-get install -y xvfb libegl1"
    with pytest.raises(DependencyError, match=command), display.virtual_display():
        pass


def test_a_virtual_display_is_there_and_goes(monkeypatch):
    if display.shutil.which("Xvfb") is None:
        pytest.skip("Xvfb is not installed")
    monkeypatch.setenv("DISPLAY", ":12345")
    with display.virtual_display() as name:
        assert os.environ["DISPLAY"] == name
        assert Path(f"/tmp/.X11-unix/X{name[1:]}").exists()
    assert os.environ["DISPLAY"] == ":12345"
    assert not Path(f"/tmp/.X11-unix/X{name[1:]}").exists()


def test_a_display_that_is_gone_is_noticed(monkeypatch):
    monkeypatch.setenv("DISPLAY", ":12345")
    monkeypatch.setenv("QT_QPA_PLATFORM", "xcb")
    assert display.why_no_window()


def test_help_shows_default_values():
    assert " [default: demo-output]" in atomicity("demo", "--help").stdout


def test_help_shows_every_command_in_a_group():
    result = atomicity("--help")
    assert result.exit_code == 0
    for command in get_command(cli.app).commands:
        assert re.search(rf"^  {command} ", result.stdout, re.MULTILINE), command
    titles = re.findall(r"^(\w[\w ]*):$", result.stdout, re.MULTILINE)
    assert titles == ["Options", "Analyse", "Train and adapt", "Check", "Share"]


def test_help_of_a_command_does_not_speak_of_others():
    for command in ("analyse", "batch", "train"):
        text = " ".join(atomicity(command, "--help").stdout.split())
        others = {"batch", "train"} - {command}
        assert not any(f"for {other}" in text or f"{other} with" in text for other in others)


def test_version_is_printed_alone():
    result = atomicity("--version")
    assert (result.exit_code, result.stdout) == (0, f"{napari_atomicity.__version__}\n")


def test_a_reader_that_leaves_early_is_no_error():
    command = f"{sys.executable} -m napari_atomicity.cli --help | head -c 1"
    done = subprocess.run(command, shell=True, capture_output=True, text=True, check=True)
    assert done.stderr == ""


def test_bad_parameters_keep_their_own_status():
    @guarded
    def command():
        raise typer.BadParameter("no")

    with pytest.raises(typer.BadParameter):
        command()


@pytest.mark.parametrize("is_program", [False, True])
def test_only_a_process_of_one_command_keeps_what_it_imports(monkeypatch, is_program):
    frozen = []
    monkeypatch.setattr(gc, "freeze", lambda: frozen.append(gc.isenabled()))
    monkeypatch.setattr(common, "_is_program", False)
    if is_program:
        common.run_as_program()

    with common.without_collection():
        assert not gc.isenabled()

    assert gc.isenabled()
    assert frozen == [False] * is_program
