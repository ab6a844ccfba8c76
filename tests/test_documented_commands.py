"""Every command and every Python block of README and documentation runs as shown.

Files have the names of the pages, but are small. Values that a page leaves open, such as the
number of epochs, are small too.
"""

import ast
import re
import shlex
import shutil
from functools import partial
from pathlib import Path
from unittest.mock import patch

import pytest
from typer.testing import CliRunner

from documentation import ROOT, blocks, shell_lines
from documented_files import (
    ATOM_IMAGE,
    PX_NM,
    SIZE_PX,
    copy_used_files,
    quick_fields,
    quick_isomers,
    quick_library,
    quick_platinum,
    write_documented_files,
)
from napari_atomicity import analyse
from napari_atomicity.cli import demo, display
from napari_atomicity.cli.commands import app
from napari_atomicity.models.files import find_model
from napari_atomicity.pipeline.runs import dask_workers
from napari_atomicity.project.packs import answer_server
from napari_atomicity.simulation import recipes, structures
from napari_atomicity.training import prepared_sets
from napari_atomicity.training.calibration import out_of_distribution
from napari_atomicity.validation import benchmark, simulated
from napari_atomicity.validation.methods import FITS, METHODS


def commands() -> list[tuple[str, str]]:
    """(page, line) of every command, once; one with a settings file for each page, that has it."""
    pages: dict[tuple[str, str], str] = {}
    for page, line in shell_lines():
        if line.startswith("atomicity "):
            command = line.partition("  #")[0].rstrip()
            pages.setdefault((command, page if "run.toml" in command else ""), page)
    return [(page, command) for (command, _), page in pages.items()]


COMMANDS = commands()
OTHERS = [(page, line) for page, line in shell_lines() if not line.startswith("atomicity ")]
PYTHON = blocks("python")
assert COMMANDS and PYTHON


COVERED_ELSEWHERE = {
    # start of a command: (why it does not run here, where it is tested)
    "pip install": ("needs a package index", "tests/test_docs.py::test_extras_exist"),
    "python -m venv": ("changes the environment", "tools/setup.sh"),
    "source ": ("changes the shell", "tools/setup.sh"),
    "napari --plugin": ("opens a window", "tests/gui/test_reader.py"),
    "napari": ("opens a window", "tests/gui/test_reader.py"),
    "make ": ("runs these tests", "tests/test_docs.py::test_targets_of_make_exist"),
    "uv ": ("needs a package index", ".github/workflows/tests.yml"),
    "NAPARI_ASYNC=0 ": ("runs these tests", ".github/workflows/tests.yml"),
    ".venv/bin/pre-commit": ("changes the repository", ".pre-commit-config.yaml"),
}

DEFAULTS = {
    "simulate": {"isomers": 1, "size_px": SIZE_PX, "pixel_size_nm": PX_NM},
    "train": {"epochs": 1, "device": "cpu"},
    "validate": {
        "quick": True, "epochs": 1, "repeats": 1, "images_per_class": "1,2",
        "methods": "raw-patch", "device": "cpu",
    },
    "watch": {"once": True},
    "demo": {"close": True},
    "benchmark": {"rounds": 1, "kinds": "few clusters"},
}  # fmt: skip
"""Options that a page leaves out; those on the command line win."""


def defaults(arguments: list[str]) -> dict[str, dict[str, object]]:
    """Options for one command; settings files, models of atoms and scores do not take them."""
    return {} if {"--settings", "atoms", "--score"} & set(arguments) else DEFAULTS


# ---- files, and substitutes for what is slow or does not end
@pytest.fixture(scope="module", autouse=True)
def quick(blank_figures):
    """Small simulations and trainings, workers in this process, no window, and blank figures."""
    from distributed import LocalCluster

    from napari_atomicity.pipeline import atom_runs
    from napari_atomicity.pipeline.adaptation import runs
    from napari_atomicity.pipeline.adaptation.settings import AdaptSettings
    from napari_atomicity.training import atoms, request
    from napari_atomicity.validation import jobs

    cluster = LocalCluster(
        n_workers=1, threads_per_worker=1, processes=False, protocol="tcp", dashboard_address=None
    )
    start = dask_workers.Workers.__init__

    def use_cluster(self, model, workers=None, scheduler=None, *others, **named):
        start(self, model, None, cluster.scheduler_address, *others, **named)

    tiny = partial(atoms.AtomTrainingSettings, width=4, steps=8, batch=2, crop_px=32, simulated=0.0)
    with cluster, pytest.MonkeyPatch.context() as patch:
        for module in (structures, recipes, prepared_sets):
            patch.setattr(module, "library_of", quick_library)
        patch.setattr(prepared_sets, "from_simulation", quick_fields)
        patch.setattr(simulated, "read_or_build_library", quick_platinum)
        patch.setattr(benchmark, "isomer_library", quick_isomers)
        patch.setattr(out_of_distribution, "STEPS", 50)
        patch.setattr("napari_atomicity.models.embedding.fit_map", lambda e, seed: e[:, :2].copy())
        for module in (runs, jobs):
            patch.setattr(module, "AdaptSettings", partial(AdaptSettings, steps=20))
        # Of networks that start from random weights.
        patch.setattr(request, "TrainingSettings", partial(request.TrainingSettings, width=4))
        patch.setattr(atoms, "AtomTrainingSettings", tiny)
        patch.setattr(atoms, "AtomRecipe", partial(atoms.AtomRecipe, folds=2, members=1))
        patch.setattr(
            atom_runs, "DispersionSettings", partial(atom_runs.DispersionSettings, simulations=3)
        )
        patch.setattr(dask_workers.Workers, "__init__", use_cluster)
        patch.setattr(answer_server.AnswerServer, "serve_forever", lambda _: None)
        patch.setattr(demo, "_show", lambda _, path, stay: path.write_bytes(b"png"))
        patch.setattr(display, "has_display", lambda: True)
        patch.setattr(display, "why_no_window", lambda: None)
        patch.setenv("MPLBACKEND", "agg")
        yield


@pytest.fixture(scope="module")
def files(quick, tmp_path_factory):
    """The files and folders of all pages."""
    return write_documented_files(tmp_path_factory.mktemp("documented"), find_model("default"))


@pytest.fixture
def prepare(files, tmp_path, monkeypatch):
    """Make an empty folder with the files that a text uses the current one."""

    def prepare(page: str, text: str) -> str:
        text = re.sub(r"(?<=[ \"])/data/", "drive/", text)
        text = text.replace("until_idle_s=60", "until_idle_s=0.1")
        copy_used_files(text, files, tmp_path)
        for where, options in blocks("toml"):
            if where == page and "run.toml" in text:
                (tmp_path / "run.toml").write_text(options)
        monkeypatch.setenv("ATOMICITY_MODELS", str(tmp_path / "models"))
        monkeypatch.chdir(tmp_path)
        return text

    return prepare


# ---- the tests
@pytest.mark.parametrize(
    ("page", "line"),
    COMMANDS,
    ids=[": ".join(one) for one in COMMANDS],
)
def test_a_command_runs(page, line, prepare):
    _, *arguments = shlex.split(prepare(page, line), comments=True)
    if arguments[0] == "simulate":  # files of other pages are in its folder
        shutil.rmtree(arguments[arguments.index("--out") + 1], ignore_errors=True)
    result = CliRunner().invoke(app, arguments, default_map=defaults(arguments))
    assert result.exit_code == 0, result.output
    if "--out" in arguments:
        assert Path(arguments[arguments.index("--out") + 1]).exists()
    else:
        assert result.stdout


@pytest.mark.parametrize(("page", "code"), PYTHON, ids=[page for page, _ in PYTHON])
def test_a_python_block_runs(page, code, prepare, monkeypatch):
    code = prepare(page, code)
    names = {"__name__": "__main__"}
    tree = ast.parse(code)
    stored = {n.id for n in ast.walk(tree) if isinstance(n, ast.Name) and type(n.ctx) is ast.Store}
    used = {n.id for n in ast.walk(tree) if isinstance(n, ast.Name)} - stored
    if used & {"analysis", "micrograph"}:
        image = prepare(page, ATOM_IMAGE if ATOM_IMAGE in code else "field.tif")
        names["analysis"] = analyse(image, umap=False)
        names["micrograph"] = names["analysis"].micrograph
    with patch.dict(METHODS), patch.dict(FITS):  # a page registers a method
        exec(compile(tree, page, "exec"), names)


@pytest.mark.parametrize(("page", "line"), OTHERS, ids=[": ".join(one) for one in OTHERS])
def test_other_commands_are_tested_elsewhere(page, line):
    (where,) = {test for start, (_, test) in COVERED_ELSEWHERE.items() if line.startswith(start)}
    file, _, test = where.partition("::")
    assert (ROOT / file).is_file()
    assert f"def {test}" in (ROOT / file).read_text(encoding="utf-8") if test else True


def test_every_command_is_in_a_block_of_shell_commands():
    other = [text for language in ("", "text", "bash", "console") for _, text in blocks(language)]
    assert not [text for text in other if re.search(r"^\$? ?atomicity ", text, re.M)]
