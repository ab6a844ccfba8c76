"""The tables of the documentation: every one is written from what a benchmark has measured."""

import ast
import importlib
import json
import re
import runpy
import shutil
import sys
from pathlib import Path

import pytest
import torch

ROOT = Path(__file__).parents[1]
BENCHMARKS = ROOT / "benchmarks"
DOCS = ROOT / "docs"

sys.path.insert(0, str(BENCHMARKS))
measuring, tables, report, aims = (
    importlib.import_module(name) for name in ("measuring", "tables", "report", "aims")
)
sys.path.remove(str(BENCHMARKS))

MACHINE = {
    "processor": "Abacus", "cores": 2, "threads": 1, "memory_gib": 8.0, "load_before": 0.5,
    "system": "Linux", "python": "3.11", "torch": "2.13", "cuda": None, "date": "2026-02-03",
    "began": 0.0,
}  # fmt: skip
TIMES = {"wall_s": 1.5, "cpu_s": 2.5, "runs": 3}
RUN = {"side": 64, "found": 7, "detect_s": 1.0, "patches_s": 2.0, "network_s": 3.0, **TIMES}
MS = [61.0, 49.0, 7.0, 88.0]
WAYS = {"float32": {"patches_per_s": 9000.0, "largest_change": 3e-7},
        "float16": {"patches_per_s": 12000.0, "largest_change": 2e-3}}  # fmt: skip
NETWORK = {
    "patches": 1234, "patches_in": "main memory", "batch": 512, "ways": WAYS,
    "patches_per_s": 9000.0, "symmetries_patches_per_s": 1200.0,
    "mflop_per_patch": 89.0, "kb_per_patch": 1300.0,
    "roof_tflop_per_s": 50.0, "roof_gb_per_s": 3000.0, "bound_by": "memory", "share_of_roof": 0.4,
}  # fmt: skip
FIELD = {
    "size_px": 4096, "clusters": 4999, "detect_s": 1.0, "end_to_end_s": 1.2,
    "end_to_end_by_cpu_s": 4.0, "patches_s": 0.01,
    "network_s": 0.04, "labels_differ_from_cpu": 0, "peak_gb": 1.5,
}  # fmt: skip
COMPARE = {"batch": 512, "as_it_is_patches_per_s": 9500.0, "as_it_is_ready_s": 0.1,
           "torch_compile": "RuntimeError: no compiler"}  # fmt: skip
CASE = {"clusters": 7, "start_mib": 100.0, "peak_mib": 350.0, "same_table": False,
        "longest_without_progress_s": 0.5, **TIMES}  # fmt: skip
BATCH = {"workers": 1, "images": 9, "clusters": 1050, "whole_s": 6.0, "rate": 4.0,
         "efficiency": 1.0, "client_early": 1.0, "client_late": 2.0, "client_most": 3.0,
         "worker_early": 10.0, "worker_late": 14.0, "worker_most": 15.0}  # fmt: skip
SESSION = {"files": 2, "clusters": 47.0, "median_s": 0.35, "worst_s": 0.57, "analysis_s": 0.22}
WAY = {"way": "gallery", "clusters": 100, "ready": 145.0, "scrolling": 3.2, "scrolling_most": 5.6,
       "jumping": 5.8, "jumping_most": 49.8, "unfinished": 3, "memory_mib": 99.0}  # fmt: skip
BLOCKED = {"times": 2, "where": "viewer/layers.py", "line": "12 insert", "cpu_ms": 49.0,
           "wall_ms": 61.0, "event": "", "inside": ""}  # fmt: skip

DIFFERING = {"kind": "mixture", "sessions": 4, "clusters": 500, "labels": 2, "close_calls": 1,
             "probability": 0.006, "fraction": 0.01, "interval": 0.02}  # fmt: skip

RECORDS = {
    "precision": {"network_ms": {"cpu": 0.8, "cpu-bf16": 0.4},
                  "kinds": {"cpu-bf16": [DIFFERING], "TF32": [DIFFERING | {"labels": 0}],
                            "20 bits": [DIFFERING]}},
    "speed": {"fields": [{
        "size": 64, "clusters": 5, "pixel_nm": 0.036, "found": 5, "found_by_blob_log": 4,
        "met": 4, "same_class_maps": True, "total": {"ours": TIMES, "obvious": TIMES},
        "ratio_wall": 11.5, "ratio_cpu": 12.5, "stages": {"reading": TIMES, "outlines": TIMES},
        "obvious_stages": {"outlines": TIMES},
    }]},
    "gpu": {
        "network": NETWORK, "field": FIELD, "compare": COMPARE, "tables": [DIFFERING],
        "training": {"clusters": 900, "epochs": 5, "device_s": 4.0, "cpu_s": 40.0},
        "adaptation": {"images": 8, "clusters": 250, "device_s": 4.0, "cpu_s": 40.0},
        "atoms": {"size_px": 64, "device_s": 1.0, "cpu_s": 2.0, "atoms": 7, "differ": 0},
        "shared": {"1_patches_per_s": 9000.0, "2_patches_per_s": 12000.0},
        "faults": {"no memory": {"device": "cuda", "batch": 64, "clusters": 5000,
                                 "labels_differ": 0},
                   "full": {"error": "ModelError: close others"}},
    },
    "gpu_proof": {"network": NETWORK},
    "growth": {"sides": [RUN], "clusters": [RUN],
               "images": [{"images": 10, "clusters": 150, **TIMES}],
               "exponents": {"pixels": 0.53, "clusters": 0.76, "images": 0.58}},
    "large": {"size": 64, "clusters": 7, "image_mib": 4.0, "cases": {"zarr": CASE}},
    "startup": {"processes": {"import torch": 0.99},
                "map": {"place_1000_s": 0.1, "place_1000_cpu_s": 8.8, "fit_1000_s": 21.1},
                "window": {"window_s": 4.9, "workbench_s": 3.0, "workbench_turn_s": 0.7,
                           "result_s": 0.6}},
    "window": {"rows": [{"clusters": 200, "action": "select one", "ms": MS}]},
    "day": {"projects": [{"clusters": 3000, "images": 60, "memory_mib": 1234.0, "actions": [
        {"action": "open the folder", "ms": MS, "blocks": [], "shown_s": 1.25},
        {"action": "next image", "ms": MS, "blocks": [BLOCKED, BLOCKED | {"line": ""}]}]}]},
    "walk": {"shown": False, "edits": {"label key": {
        "calls": 1234, "calls_in_workers": 12, "frames": 2345, "frames_in_workers": 23,
        "files": 34, "moves": 45, "entered": {"session.py": 56, "table.py": 7}}}},
    "gallery": {"ways": [WAY]},
    "scatter": {"rows": [{"points": 100, "action": "pan", "ours_ms": 4.0, "matplotlib_ms": 10.0},
                         {"points": 100, "action": "lasso", "ours_ms": 4.0,
                          "matplotlib_ms": 10.0}],
                "docks": [{"points": 100, "relabel_ms": 2.2, "select_ms": 0.3}]},
    "batch": {"size_px": 384, "images": 1000, "batches": [BATCH], "serial_rate": 22.8,
              "second_run_s": 8.4, "report_mib": 4.6},
    "live": {"files": 24, "size": 1024, "sessions": {"notified by the system": SESSION}},
    "atoms": {"size": 512, "marked_atoms": 99, "members": 9, "views": 1, "window_px": 21,
              "seconds": {"sliding window": 16.0}, "ratio": 43.2},
    "simulation": {"workers": [{"workers": 2, "fields_per_minute": 80.0,
                                "patches_per_minute": 2100.0}],
                   "patches_per_processor_minute": 4600.0, "field_px": 768, "field_s": 0.1,
                   "atoms": {"atoms": 800, "ours_s": 0.1, "obvious_s": 16.0,
                             "correlation": 0.9991},
                   "relief_ratio": 10.0},
    "kills": {"version": "0.2", "minutes": 3.2,
              "windows": {"windows": 1200, "before_first_edit": 150, "in_analyse_all": 299,
                          "acknowledged": 13456},
              "others": {"state": {"tried": 100, "acknowledged": 1400},
                         "batches": {"tried": 7, "acknowledged": 55}}},
    "fuzz": {"version": "0.2", "minutes": 61.2, "repeated": 3, "outcomes": ["loaded", "crash"],
             "kinds": {"images": {"loaded": 1234}, "tables": {"loaded": 3, "crash": 2}},
             "failed": {"tables:7": "crash: SIGSEGV (2)"}},
}  # fmt: skip
RECORDS = {
    name: {"machine": MACHINE, "took_s": 30.0, **figures} for name, figures in RECORDS.items()
}

SAYS = {
    "precision": ["**2.00 times** less", "| mixture | 4 | 500 | 2 | 1 | 0.006 | 0.010 | 0.020 |",
                  "| mixture | 4 | 500 | 0 | 1 | 0.006 |"],
    "speed": ["| 64 × 64, 0.036 nm | 5 | 1.50 | 1.50 | **11.5** | 12.5 | yes |",
              "| reading | 1.50 | 2.50 |  |  |", "| outlines | 1.50 | 2.50 | 1.50 | 2.50 |"],
    "gpu": ["1,234 patches with class maps, from main memory", "| float16 | 12,000 | 0.002 |",
            "40 % of the roofline", "| detection, on the CPU | 1000.0 |", "0 labels differ",
            "Peak memory: 1.5 GB",
            "| training from random weights, 900 clusters, 5 epochs | 4.00 |",
            "| mixture | 4 | 500 | 2 | 1 | 0.006 | 0.010 | 0.020 |",
            "classify 12,000 patches per s together, one classifies 9,000",
            "| no memory | cuda | 64 | 0 of 5,000 |", "| full | ModelError: close others |  |  |",
            "| torch.compile | RuntimeError: no compiler |  |"],
    "gpu_proof": ["on a CPU on 2026-02-03", "no measurement of a GPU"],
    "growth": ["| pixels | 0.53 | 64 × 64, 100 clusters | 1.50 | 2.50 |",
               "| images | 0.58 | 10 images with 150 clusters | 1.50 | 2.50 |"],
    "large": ["| zarr | 7 | 2 | 2 | 350 | 250 | 0.5 | no |"],
    "startup": ["| `import torch` | 0.99 |", "| place in the map: 1,000 clusters | 0.1 |",
                "| fit a new map of 1,000 clusters | 21.1 |"],
    "window": ["| action | 200 clusters |", "| select one | **61**, 88 |"],
    "day": ["| action | 3,000 clusters, 60 images |", "| next image | **61**, 88 |",
            "| open the folder: displayed after (s) | 1.25 |", "| memory, at most (MiB) | 1,234 |",
            "- next image (3,000 clusters): 2 × viewer/", "49 of 61 ms; 2 ×"],
    "walk": ["| label key, window hidden | version 0.1 | now |", "| calls | 453 | 1,234 |",
             "| files | 49 | 34 |", "`session.py` 56, `table.py` 7 |"],
    "gallery": ["| gallery | 100 | 145 | 3.2 | 5.6 | 5.8 | 49.8 | 3 | 99 |"],
    "scatter": ["| points | pan (ms) | lasso (ms) |", "| 100 | 4.0, 10.0 | 4.0, 10.0 |"],
    "batch": ["1,000 simulated images", "| 1 | 4.0 | 1.00 | 6 | 1 → 2, at most 3 | 10 → 14, at",
              "4 MiB (1)", "8.4 s", "4.6 MiB", "| 22.8 |"],
    "live": ["47 clusters each", "| notified by the system | 0.35 | 0.57 | 0.22 |"],
    "atoms": ["**43 times**", "| sliding window | 16.00 |"],
    "fuzz": ["| images | 1,234 | 1,234 | 0 |", "| tables | 5 | 3 | 2 |", "| **all** | 1,239 |",
             "Version 0.2", "61 minutes", "3 of them failed", "`tables:7` crash: SIGSEGV (2)"],
    "kills": ["killed | 1,200 | 13,456 | 0 |", "299 while", "3 minutes", "| 100 | 1,400 | 0 |"],
    "simulation": ["| 4600 |", "processes: 2 | 2100 (80) |", "| 160 times as fast |", "768 × 768"],
}  # fmt: skip


# ---- writers
@pytest.mark.parametrize("name", tables.SECTIONS)
def test_a_record_becomes_its_table(name):
    text = tables.SECTIONS[name].text(RECORDS[name])
    assert text.startswith("*Abacus, 2 cores, threads: 1, 8 GiB;")
    assert "2026-02-03, load before: 0.5" in text.splitlines()[0]
    for part in SAYS[name]:
        assert part in text
    for block in re.findall(r"(?:^\|.*\n?)+", text, re.M):
        assert len({len(re.findall(r" \|", line)) for line in block.splitlines()}) == 1


def test_a_fuzz_case_that_was_tried_again_counts_as_it_ended_last(monkeypatch):
    monkeypatch.syspath_prepend(BENCHMARKS)
    fuzzing = importlib.import_module("fuzzing")
    lines = [("runs", 0, "crash", 30.0, "SIGSEGV"), ("tables", 1, "hang", 60.0, "30 s"),
             ("runs", 1, "loaded", 15.0, ""), ("runs", 0, "loaded", 15.0, "")]  # fmt: skip
    found = fuzzing.summary(fuzzing.Case(*line) for line in lines)
    assert found["kinds"] == {"runs": {"loaded": 2}, "tables": {"hang": 1}}
    assert found["failed"] == {"tables:1": "hang: 30 s (1)"}
    assert (found["minutes"], found["repeated"]) == (2, 1)


# ---- pages
def test_each_table_has_one_place_in_its_page():
    pages = {
        path.relative_to(DOCS).as_posix(): path.read_text(encoding="utf-8")
        for path in DOCS.rglob("*.md")
    }
    places = {name: section.page for name, section in tables.SECTIONS.items()}
    places |= dict.fromkeys(("duration", "aims"), tables.PERFORMANCE)
    for name, page in places.items():
        for mark in (f"<!-- {name} -->", f"<!-- /{name} -->"):
            assert [p for p, text in pages.items() for _ in range(text.count(mark))] == [page], name
    ends = [n for text in pages.values() for n in re.findall(r"<!-- /(\w+) -->", text)]
    assert sorted(ends) == sorted(places)


def test_only_what_is_between_the_marks_is_written():
    page = "before\n<!-- live -->\nold\n<!-- /live -->\nafter <!-- other -->\n"
    new = report.put(page, "live", r"new \1")
    assert new == "before\n<!-- live -->\nnew \\1\n<!-- /live -->\nafter <!-- other -->\n"
    for wrong in ("no marks", page + page):
        with pytest.raises(ValueError, match="places for live"):
            report.put(wrong, "live", "new")


@pytest.fixture
def docs(tmp_path):
    """A copy of the pages."""
    shutil.copytree(DOCS / "explanation", tmp_path / "explanation")
    return tmp_path


def section(docs: Path, name: str, page: str = tables.PERFORMANCE) -> str:
    text = (docs / page).read_text(encoding="utf-8")
    return text.partition(f"<!-- {name} -->")[2].partition(f"<!-- /{name} -->")[0].strip()


def test_every_page_takes_its_tables_and_keeps_its_prose(docs):
    def prose(path: Path) -> str:
        names = "|".join([*tables.SECTIONS, "duration", "aims"])
        text = path.read_text(encoding="utf-8")
        return re.sub(rf"(<!-- ({names}) -->).*?(<!-- /\2 -->)", r"\1\3", text, flags=re.S)

    report.rewrite(docs, RECORDS)
    for name, (page, _) in tables.SECTIONS.items():
        assert section(docs, name, page) == tables.SECTIONS[name].text(RECORDS[name])
    for path in docs.rglob("*.md"):
        assert prose(path) == prose(DOCS / path.relative_to(docs))


def test_without_a_gpu_the_page_says_so_and_what_was_measured_stays(docs):
    def written(*names: str) -> str:
        report.rewrite(docs, {name: RECORDS[name] for name in names})
        return section(docs, "gpu")

    path = docs / tables.PERFORMANCE
    text = path.read_text(encoding="utf-8")
    path.write_text(report.put(text, "gpu", "**Not measured yet**"), encoding="utf-8")
    assert written("gpu_proof") == "**Not measured yet**"
    assert "no measurement of a GPU" in section(docs, "gpu_proof")
    table = written("gpu")
    assert "9,000" in table and "Not measured" not in table
    assert written("gpu_proof") == table


def test_how_long_it_takes_is_said_once_all_was_measured(docs):
    before = section(docs, "duration")
    report.rewrite(docs, {name: of for name, of in RECORDS.items() if name != "live"})
    assert section(docs, "duration") == before
    long = {name: {**of, "took_s": 600.0 if name == "live" else 60.0}
            for name, of in RECORDS.items() if name not in ("gpu", "fuzz", "kills")}  # fmt: skip
    report.rewrite(docs, long)
    assert f"take {10 + len(long) - 1} minutes" in section(docs, "duration")
    assert "The longest are live (10)" in section(docs, "duration")


def test_aims_say_which_figures_meet_them():
    record = {"fields": [{"ratio_wall": 25.0}, {"ratio_wall": 11.5}]}
    text = aims.aims({"speed": record})
    few, many, growth = text.splitlines()[2:5]
    assert few.endswith("| ≥ 20 × | 25 × | yes |")
    assert many.endswith("| ≥ 20 × | 11.5 × | **no** |")
    assert growth.endswith("| ≤ 1 | not measured |  |")
    # without the record, the row of the page remains
    assert aims.aims({}, text) == text


@pytest.mark.parametrize("aim", aims.AIMS, ids=lambda aim: aim.what)
def test_each_aim_finds_its_figure_in_the_record(aim):
    figure = aim.row(RECORDS[aim.record])[2]
    assert figure == "not measured" or re.search(r"\d", figure)


# ---- scripts
def listed(target: str) -> list[str]:
    """Scripts of a target of make, in order."""
    whole = rf"^{target}:.*\n((?:\t.*\n|(?:ifdef|else|endif).*\n)+)"
    recipe = re.search(whole, (ROOT / "Makefile").read_text(), re.M)[1]
    return re.findall(r"benchmarks/(\w+)\.py", recipe)


def written_by(script: str) -> set[str]:
    """Names of the records that a script writes."""
    tree = ast.parse((BENCHMARKS / f"{script}.py").read_text(encoding="utf-8"))
    calls = [n for n in ast.walk(tree) if isinstance(n, ast.Call)]
    first = [n.args[0] for n in calls if isinstance(n.func, ast.Name) and n.func.id == "write"]
    either = [(n.body, n.orelse) if isinstance(n, ast.IfExp) else (n,) for n in first]
    return {part.value for parts in either for part in parts}


def test_make_bench_measures_every_table_and_writes_the_pages_at_the_end():
    *scripts, last = listed("bench")
    assert last == "report"
    assert len(set(scripts)) == len(scripts)
    assert all(written_by(script) for script in scripts)
    assert listed("fuzz") == ["fuzzing", "report"]
    assert listed("kill") == ["kills", "report"]
    scripts += ["fuzzing", "kills"]
    assert written_by("fuzzing") | written_by("kills") == report.APART
    assert {name for script in scripts for name in written_by(script)} == set(tables.SECTIONS)
    assert {p.stem for p in BENCHMARKS.glob("*.py") if written_by(p.stem)} == set(scripts)


SMALL = {
    "atoms": "--size 64 --rows 1 --repeats 1 --threads 1",
    "precision": "--sessions 1 --images 1 --patches 4 --repeats 1",
    "fuzzing": "--cases 2 --kinds settings --workers 1",
    "kills": "--kills 0 --others 1",
    "gpu": "--device cpu --size 128 --clusters 2 --patches 4 --repeats 1 "
    "--only network field atoms",
    "growth": "--sides 96 128 160 --side 128 --clusters 1 2 --images 1 2 --threads 1",
    "simulation": "--fields 1 --workers 1 --atoms 2 --repeats 1",
    "speed": "--size 160 --clusters 2 --repeats 1 --threads 1",
}


HOUSE = """
class Room:
    @property
    def size(self):
        return sum([x for x in (y for y in (1, 2))], key())

    def paintEvent(self):
        return self.size

def key():
    return (lambda: 0)()
"""
GARDEN = """
import threading
from contextlib import contextmanager
from house import Room

@contextmanager
def gate():
    yield

def enter():
    with gate():
        Room().size

def enter_in_a_thread():
    thread = threading.Thread(target=enter)
    thread.start()
    thread.join()
"""


def test_a_walk_counts_functions_and_moves_between_files(tmp_path, monkeypatch):
    pytest.importorskip("qtpy")
    monkeypatch.syspath_prepend(BENCHMARKS)
    monkeypatch.syspath_prepend(tmp_path)
    for name, text in (("house", HOUSE), ("garden", GARDEN)):
        (tmp_path / f"{name}.py").write_text(text)
    walk_of = importlib.import_module("walk").Walk
    garden, room = (importlib.import_module(name) for name in ("garden", "house"))
    walk = walk_of(tmp_path)
    before = sys.getprofile()
    with walk.following():
        garden.enter()
    sys.setprofile(before)
    assert [call.function for call in walk.calls] == ["enter", "gate", "Room.size", "key"]
    assert list(walk.lines(2)) == ["[window]", "  garden.py: enter", "    garden.py: gate"]
    figures = walk.figures()
    assert (figures["calls"], figures["files"], figures["moves"]) == (4, 2, 1)
    # and a list, a lambda, three turns of a generator, the end of the block
    assert figures["frames"] == 4 + 1 + 1 + 3 + 1
    assert figures["entered"] == {"garden.py": 1, "house.py": 1}

    walk.clear()
    with walk.following():
        room.Room().paintEvent()  # Qt does that when it likes
        garden.enter_in_a_thread()
    sys.setprofile(before)
    figures = walk.figures()
    assert (figures["calls"], figures["calls_in_workers"]) == (5, 4)
    for name in ("walk", "house", "garden"):
        monkeypatch.delitem(sys.modules, name)


@pytest.fixture
def results(tmp_path, monkeypatch):
    """A folder for records, and things as they were afterwards."""
    monkeypatch.setattr(measuring, "RESULTS", tmp_path)
    monkeypatch.syspath_prepend(BENCHMARKS)
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    threads = torch.get_num_threads()
    yield tmp_path
    torch.set_num_threads(threads)


@pytest.mark.parametrize("script", SMALL)
@pytest.mark.filterwarnings("ignore")  # too little for a slope
def test_a_script_writes_the_record_that_its_table_needs(
    script, results, monkeypatch, capsys, forks
):
    path = BENCHMARKS / f"{script}.py"
    monkeypatch.setattr(sys, "argv", [str(path), *SMALL[script].split()])
    runpy.run_path(str(path), run_name="__main__")
    made = {p.stem for p in results.glob("*.json")}
    assert made and made <= written_by(script)
    printed = capsys.readouterr().out
    for name in made:
        record = json.loads((results / f"{name}.json").read_text(encoding="utf-8"))
        assert record["took_s"] > 0
        assert tables.SECTIONS[name].text(record) in printed


def test_without_a_gpu_its_script_keeps_a_proof_and_says_so(results, monkeypatch, capsys):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    small = SMALL["gpu"].removeprefix("--device cpu ").split()
    monkeypatch.setattr(sys, "argv", ["gpu.py", *small])
    runpy.run_path(str(BENCHMARKS / "gpu.py"), run_name="__main__")
    assert [p.name for p in results.iterdir()] == ["gpu_proof.json"]
    assert capsys.readouterr().out.startswith("proof of the script on a CPU, no measurement")


def test_options_take_the_kind_of_their_defaults(monkeypatch):
    given = "--sizes 3 4 --pause 0.5 --folder here --no-window"
    monkeypatch.setattr(sys, "argv", ["script.py", *given.split()])
    options = measuring.options("", sizes=[1], pause=2.0, folder=None, no_window=False, way="all")
    assert vars(options) == {
        "sizes": [3, 4], "pause": 0.5, "folder": Path("here"), "no_window": True, "way": "all",
    }  # fmt: skip
