"""A short run over all kinds of file, the same in each run; ``make fuzz`` is the long one."""

import json
import shutil
import sys
from pathlib import Path

import numpy as np
import pytest

from fuzz import kinds
from fuzz.ends import EXPECTED
from fuzz.kinds import KINDS
from fuzz.known import KNOWN
from fuzz.pool import GOOD, Worker
from fuzz.samples import make_samples
from napari_atomicity import load

pytest.importorskip("rsciio", reason="needs the extra microscopes")
if sys.platform != "linux":
    pytest.skip("other systems do not limit the memory of a process", allow_module_level=True)

CASES = {"images": 120, "projects": 60, "models": 40, "packs": 50, "settings": 60, "runs": 50,
         "tables": 60}  # fmt: skip
"""Number of cases of the short run."""


@pytest.fixture(scope="module")
def samples(tmp_path_factory) -> Path:
    return make_samples(tmp_path_factory.mktemp("fuzz") / "samples")


@pytest.fixture(scope="module")
def worker(samples, tmp_path_factory):
    worker = Worker(samples, tmp_path_factory.mktemp("cases"))
    yield worker
    worker.close()


# ---- the samples are valid, and cases are the same again
def test_all_images_are_read(samples):
    for path in sorted((samples / "images").iterdir()):
        assert min(load(path).shape_px) >= 32


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind != "images"])
def test_without_a_change_a_case_loads(samples, tmp_path, monkeypatch, kind):
    for name in ("bytes", "json", "csv"):
        monkeypatch.setattr(kinds.change, f"mutate_{name}", lambda content, *_: content)
    same = {"cells": None, "schema": None, "json_file": None, "zip": None, "log": set()}
    for name, result in same.items():
        monkeypatch.setattr(kinds.change, f"mutate_{name}", lambda *_, result=result: result)
    monkeypatch.setattr(kinds.change, "mutate_csv", lambda text, _: text.encode())
    for seed in range(4):
        folder = tmp_path / str(seed)
        folder.mkdir()
        KINDS[kind](samples / kind, folder, np.random.default_rng(seed))()


@pytest.mark.parametrize("kind", KINDS)
def test_a_seed_makes_the_same_files(samples, tmp_path, kind):
    made = []
    for name in "ab":
        folder = tmp_path / name
        folder.mkdir()
        KINDS[kind](samples / kind, folder, np.random.default_rng(7))
        files = (path for path in sorted(folder.rglob("*")) if path.is_file())
        made.append({path.relative_to(folder): path.read_bytes() for path in files})
    assert made[0].keys() == made[1].keys()
    # Archives hold the time at which they were written.
    assert all(
        made[0][n] == made[1][n] for n in made[0] if n.suffix not in (".zip", ".xlsx", ".prz")
    )


# ---- how cases end
@pytest.mark.parametrize("kind", KINDS)
def test_damaged_files_end_in_a_clear_error(worker, kind):
    results = [worker.run(kind, seed) for seed in range(CASES[kind])]
    assert {result.outcome for result in results} & set(GOOD)
    bad = {(r.kind, r.seed): r for r in results if r.outcome not in GOOD}
    listed = {case for case in KNOWN if case[0] == kind}
    new = [f"{result}; make fuzz CASE={kind}:{result.seed}" for case, result in bad.items()
           if case not in listed]  # fmt: skip
    assert new == []
    assert listed - bad.keys() == set(), "these cases end well now: take them off fuzz/known.py"


# ---- the harness sees what it is for
def test_bad_ends_are_told_apart_and_kept(samples, tmp_path):
    worker = Worker(samples, tmp_path)
    try:
        assert worker.run("raw", 1).outcome == "raw exception"
        worker.seconds = 3
        for end, outcome in EXPECTED.items():  # also after a process has died
            assert worker.run(end, 3).outcome == outcome
            kept = json.loads((tmp_path / f"{end}-3" / "case.json").read_text())
            assert (kept["outcome"], kept["replay"]) == (outcome, f"make fuzz CASE={end}:3")
    finally:
        worker.close()


def test_a_log_that_lacks_a_correction_is_lost(samples, tmp_path):
    path = tmp_path / "morning.atomicity"
    shutil.copy(samples / "projects" / path.name, path)
    expected = kinds.log_of(path)
    assert len(expected) > 5
    kinds.open_project(path, expected, only_cells=True)
    with pytest.raises(kinds.Lost, match=r"1 of .* corrections"):
        kinds.open_project(path, [*expected, (999, "now", "Ada", 1, "label", "Pt19")], True)
