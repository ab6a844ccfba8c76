"""The package as a whole: cheap to import, complete, and one version everywhere."""

import ast
import io
import re
import subprocess
import sys
import tarfile
import tomllib
from pathlib import Path

import pytest
from packaging.version import Version

import napari_atomicity
from documentation import last_release
from napari_atomicity import _version
from napari_atomicity._version import commit_of

ROOT = Path(__file__).parents[1]
HEAVY = ("torch", "qtpy", "PyQt6", "umap", "numba", "napari", "vispy", "matplotlib", "pandas")


def loaded_after(code: str) -> set[str]:
    """The modules of `HEAVY` that a fresh interpreter has loaded after some code."""
    program = f"{code}\nimport sys\nprint(*(m for m in {HEAVY!r} if sys.modules.get(m)))"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return set(done.stdout.split())


def test_importing_the_package_loads_nothing_heavy():
    assert loaded_after("import napari_atomicity") == set()


def test_the_command_line_loads_nothing_heavy_before_its_commands():
    assert loaded_after("import napari_atomicity.cli") == set()


def test_the_docks_open_without_pytorch():
    assert loaded_after("import napari_atomicity.gui.workbench") <= {"qtpy", "PyQt6"}
    loaded = loaded_after("import napari_atomicity.gui.workbench.window")
    assert {"napari", "pandas"} <= loaded and not {"torch", "umap"} & loaded


def test_ctrl_c_is_handled_before_the_command_line_imports_much():
    path = str(Path(napari_atomicity.__file__).parents[1])
    code = f"import sys; sys.path.append({path!r}); import napari_atomicity.cli"
    done = subprocess.run(
        [sys.executable, "-S", "-c", f"{code}; print('enum' in sys.modules)"],
        capture_output=True, text=True,
    )  # fmt: skip
    assert done.stdout.split() == ["False"], done.stderr


def test_the_core_needs_neither_qt_nor_napari_nor_extras():
    window = ("qtpy", "PyQt6", "PySide6", "napari", "vispy", "magicgui")
    extras = ("ase", "distributed", "rsciio", "sparse", "trackpy", "umap", "watchfiles", "zarr")
    code = (
        "import sys\n"
        f"for name in {window + extras}:\n"
        "    sys.modules[name] = None\n"
        "import napari_atomicity.pipeline.runs.engine, napari_atomicity.pipeline.live.watch\n"
        "import napari_atomicity.state.window_state\n"
        "import napari_atomicity.models.embedding\n"
        "import napari_atomicity.io.images, napari_atomicity.reporting.report\n"
        "import napari_atomicity.simulation.fields, napari_atomicity.statistics.scores\n"
    )
    assert not loaded_after(code) & {"umap", "numba"}


def test_importing_is_quick():
    code = (
        "import time\nstart = time.perf_counter()\nimport napari_atomicity\n"
        "print(time.perf_counter() - start)"
    )
    seconds = [
        float(subprocess.run([sys.executable, "-c", code], capture_output=True, check=True).stdout)
        for _ in range(3)
    ]
    assert min(seconds) < 0.3


@pytest.mark.parametrize("name", napari_atomicity.__all__)
def test_public_names_are_there(name):
    assert getattr(napari_atomicity, name) is not None
    assert name in dir(napari_atomicity)


def test_an_unknown_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match="nonsense"):
        _ = napari_atomicity.nonsense


def test_the_version_is_the_same_everywhere():
    released = last_release()
    pattern = rf"^version: {re.escape(released)}$"
    assert re.search(pattern, (ROOT / "CITATION.cff").read_text(), re.M)
    version = Version(napari_atomicity.__version__)
    assert version > Version(released) if version.is_devrelease else str(version) == released


def test_a_development_version_has_the_commit_of_its_checkout(tmp_path):
    git = ["git", "-c", "user.name=a", "-c", "user.email=a@b", "-C", tmp_path / "clone"]
    subprocess.run(["git", "init", "-q", tmp_path / "clone"], check=True)
    subprocess.run([*git, "commit", "-q", "--allow-empty", "-m", "one"], check=True)
    subprocess.run([*git, "worktree", "add", "-q", "-b", "other", tmp_path / "other"], check=True)

    def commit() -> str:
        said = subprocess.run([*git, "rev-parse", "HEAD"], capture_output=True, check=True)
        return said.stdout.decode()[:9]

    assert commit_of(tmp_path / "clone") == commit_of(tmp_path / "other") == commit()
    subprocess.run([*git, "pack-refs", "--all"], check=True)
    assert commit_of(tmp_path / "clone") == commit_of(tmp_path / "other") == commit()
    subprocess.run([*git, "checkout", "-q", "--detach"], check=True)
    assert commit_of(tmp_path / "clone") == commit()
    assert commit_of(tmp_path) == ""


def test_an_archive_of_the_source_names_its_commit(tmp_path):
    name = "src/napari_atomicity/_version.py"
    for file in (name, ".gitattributes"):
        (tmp_path / file).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / file).write_bytes((ROOT / file).read_bytes())
    git = ["git", "-c", "user.name=a", "-c", "user.email=a@b", "-C", tmp_path]
    for words in (["init", "-q"], ["add", "."], ["commit", "-q", "-m", "one"]):
        subprocess.run([*git, *words], check=True)
    archive = subprocess.run([*git, "archive", "HEAD"], capture_output=True, check=True).stdout
    with tarfile.open(fileobj=io.BytesIO(archive)) as opened:
        code = opened.extractfile(name).read()
    names = {"__file__": str(tmp_path / "elsewhere" / name)}
    exec(code, names)
    expected = _version.NUMBER
    if ".dev" in expected:
        expected += f"+g{commit_of(tmp_path)}"
    assert names["__version__"] == expected


def test_the_version_of_a_wheel_has_the_commit_too(tmp_path, monkeypatch):
    monkeypatch.setattr(_version, "commit_of", lambda _: "")
    monkeypatch.setattr("importlib.metadata.version", lambda _: f"{_version.NUMBER}+gabc")
    if ".dev" in _version.NUMBER:
        assert _version.find_version() == f"{_version.NUMBER}+gabc"
    monkeypatch.setattr("importlib.metadata.version", lambda _: "0.1.0")  # another one is installed
    assert _version.find_version() == _version.NUMBER
    monkeypatch.setattr(_version, "NUMBER", "0.3.0")
    assert _version.find_version() == "0.3.0"


def test_the_packages_for_debian_are_the_same_everywhere():
    from napari_atomicity.cli.display import DEBIAN_PACKAGES

    setup = (ROOT / "tools" / "setup.sh").read_text()
    listed = re.search(r'^packages="([^"]+)"', setup, re.M)[1]
    assert listed.split() == DEBIAN_PACKAGES.split()


def test_torch_is_pinned_for_development_and_open_for_users():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert any(d.startswith("torch>=") for d in project["dependencies"])
    assert "torch==2.13.0" in (ROOT / "constraints.txt").read_text().splitlines()


def test_no_file_is_unpickled():
    """Models and tables come from strangers: nothing that can run code may be loaded."""
    forbidden = re.compile(
        r"\b(import pickle|from pickle|read_pickle|joblib|torch\.load|allow_pickle=True)\b"
    )
    found = [p.name for p in (ROOT / "src").rglob("*.py") if forbidden.search(p.read_text())]
    assert found == []


def test_the_manifest_that_visitors_see_is_the_one_of_the_package():
    shown, used = ROOT / "napari.yaml", ROOT / "src" / "napari_atomicity" / "napari.yaml"
    assert not shown.is_symlink() and shown.read_bytes() == used.read_bytes()


def test_docstrings_outside_the_library_have_no_sections():
    """But for what users import, and runs; the rule is in docs/contributing.md."""
    lines = 0
    for room in ("gui", "cli", "state", "pipeline", "project", "reporting", "validation"):
        for path in (ROOT / "src" / "napari_atomicity" / room).rglob("*.py"):
            for node in ast.walk(ast.parse(path.read_text())):
                if isinstance(node, ast.FunctionDef | ast.ClassDef):
                    text = ast.get_docstring(node) or ""
                    section = re.search(r"^(Parameters|Returns|Attributes)\n-+$", text, re.M)
                    lines += text[section.start() :].count("\n") if section else 0
    assert lines <= 500
