"""Files of a run, and what becomes of those of an earlier run in the same folder."""

import json

import pytest

from napari_atomicity.core.errors import AtomicityError
from napari_atomicity.io.files import write_text
from napari_atomicity.io.result_folder import ResultFolder


def write(folder, *names, kind="analyse", report=None):
    results = ResultFolder(folder, kind)
    results.add(*(write_text(results / name, kind) for name in names))
    results.finish([], report, started="", finished="", parameters={}, model=None, device=None)
    return results


def names(folder):
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}


def record(folder):
    return json.loads((folder / "run.json").read_text())


def test_the_record_lists_the_files_and_comes_last(tmp_path):
    results = ResultFolder(tmp_path / "out", "analyse")
    results.add(write_text(results / "figures/a.png", ""))
    assert names(tmp_path / "out") == {"figures/a.png"}
    results.finish([], started="", finished="", parameters={}, model=None, device=None)
    assert record(tmp_path / "out")["outputs"] == [
        "figures/a.png",
        "ro-crate-metadata.json",
        "run.json",
    ]
    assert results.files[-1].name == "run.json"


def test_a_run_that_has_begun_leaves_no_record_of_the_one_before(tmp_path):
    write(tmp_path, "a.csv")
    ResultFolder(tmp_path, "analyse")
    assert names(tmp_path) == {"a.csv"}


def test_files_that_only_the_earlier_run_wrote_go(tmp_path):
    write_text(tmp_path / "figures/own.png", "")
    write(tmp_path, "a.csv", "b.csv", "figures/a.png", "figures/b.png")
    write(tmp_path, "b.csv", "figures/b.png")
    assert names(tmp_path) == {
        "b.csv",
        "figures/b.png",
        "figures/own.png",
        "run.json",
        "ro-crate-metadata.json",
    }


def test_files_of_another_command_stay(tmp_path):
    write(tmp_path, "a.csv")
    write(tmp_path, "b.csv", kind="atoms")
    assert names(tmp_path) == {"a.csv", "b.csv", "run.json", "ro-crate-metadata.json"}


ALWAYS = {"run.json", "ro-crate-metadata.json"}


@pytest.mark.parametrize("name", ["../own.csv", "{}/own.csv", "a\0.csv", "figures", ""])
def test_a_record_from_anywhere_removes_nothing_outside(tmp_path, name):
    own = write_text(tmp_path / "own.csv", "")
    out = tmp_path / "out"
    write(out, "figures/a.png", "a.csv")
    changed = {**record(out), "outputs": [name.format(tmp_path)]}
    (out / "run.json").write_text(json.dumps(changed))
    write(out, "a.csv")
    assert own.exists() and names(out) == {"figures/a.png", "a.csv", *ALWAYS}


def test_a_report_that_fails_is_recorded_and_leaves_no_earlier_one(tmp_path):
    write(tmp_path, report=lambda _: write_text(tmp_path / "report.html", "earlier"))

    def fail(_):
        raise ValueError("no font")

    results = write(tmp_path, "a.csv", report=fail)
    assert names(tmp_path) == {"a.csv", "run.json", "ro-crate-metadata.json"}
    assert record(tmp_path)["outputs"] == ["a.csv", "ro-crate-metadata.json", "run.json"]
    assert record(tmp_path)["status"] == "partly failed"
    with pytest.raises(AtomicityError, match="no font"):
        results.raise_failed()
