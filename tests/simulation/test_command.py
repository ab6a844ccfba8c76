"""`atomicity simulate`: what is asked for is made, and can be made again."""

import json

import pandas as pd
import pytest
from typer.testing import CliRunner

from napari_atomicity.cli.commands import app

SMALL = ("--fields", 1, "--isomers", 1, "--size-px", 128, "--pixel-size-nm", 0.08, "--seed", 4)


def simulate(*arguments):
    pytest.importorskip("ase", reason="the extra 'simulation' is not installed")
    return CliRunner().invoke(app, ["simulate", *map(str, arguments)])


def test_settings_make_the_same_files_again(tmp_path):
    first, again = tmp_path / "first", tmp_path / "again"
    done = simulate(
        "--out", first, *SMALL, "--classes", "Au9,Au7Pd3", "--aggregates", 1, "--demanding",
        "--contamination", 0.3, "--json",
    )  # fmt: skip
    assert done.exit_code == 0
    summary = json.loads(done.stdout)
    assert (summary["images"], summary["classes"]) == (1, ["Au9", "Au7Pd3"])
    field = json.loads((first / "settings.json").read_text())["fields"]["field_0000.tif"]
    assert (field["aggregates"], field["contamination"]) == (1, 0.3)
    assert set(pd.read_csv(first / "truth.csv")["label"]) == {"aggregate"}
    done = simulate("--out", again, "--settings", first / "settings.json", "--device", "auto")
    assert done.exit_code == 0
    assert "1 images" in done.stderr
    for name in ("truth.csv", "settings.json"):
        assert (first / name).read_bytes() == (again / name).read_bytes()


def test_another_simulation_is_replaced_with_overwrite_only(tmp_path):
    out = tmp_path / "fields"
    assert simulate("--out", out, *SMALL, "--classes", "Au9", "--fields", 2).exit_code == 0
    before = {path.name: path.read_bytes() for path in out.iterdir()}
    refused = simulate("--out", out, *SMALL, "--classes", "Au9")
    assert refused.exit_code == 2 and "--overwrite" in refused.stderr
    same = simulate("--out", out, "--settings", out / "settings.json")
    assert same.exit_code == 0
    assert {path.name: path.read_bytes() for path in out.iterdir()} == before
    (out / "mine.txt").touch()
    assert simulate("--out", out, *SMALL, "--classes", "Au9", "--overwrite").exit_code == 0
    assert {path.name for path in out.iterdir()} == set(before) - {"field_0001.tif"} | {"mine.txt"}
    (out / "settings.json").write_text("damaged")
    assert simulate("--out", out, *SMALL, "--classes", "Au9").exit_code == 2


@pytest.mark.parametrize(
    ("arguments", "status"),
    [
        (["--settings", "nowhere.json"], 2),
        (["--classes", "Pt9,Xx9"], 1),
        (["--aggregates", "2"], 2),
        (["--device", "abacus"], 2),
    ],
)
def test_what_cannot_be_made_is_said(tmp_path, arguments, status):
    few = SMALL[:2] if status == 2 and "--settings" not in arguments else ()
    done = simulate("--out", tmp_path / "none", *few, *arguments)
    assert done.exit_code == status
    assert done.stdout == ""
    assert not (tmp_path / "none").exists()


def test_the_file_and_options_are_not_mixed(tmp_path):
    path = tmp_path / "settings.json"
    path.write_text(json.dumps({"classes": ["Pt9"], "fields": {}}))
    done = simulate("--out", tmp_path / "none", "--settings", path, "--seed", 3)
    assert done.exit_code == 2
    assert "--seed" in done.stderr
