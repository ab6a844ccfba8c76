"""What is released: dependencies, extras, metadata, and the files around the package."""

import builtins
import re
import sys
import tomllib
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from documentation import last_release
from napari_atomicity.core.errors import DependencyError, require_extra

ROOT = Path(__file__).parents[1]
CONFIGURATION = tomllib.loads((ROOT / "pyproject.toml").read_text())
PROJECT = CONFIGURATION["project"]
EXTRAS = PROJECT["optional-dependencies"]
FEATURES = {"batch", "live", "microscopes", "movies", "simulation", "zarr"}
"""Extras that bring packages for tasks; the others are a Qt binding or for development."""
BINDINGS = {name for name in EXTRAS if name.startswith(("pyqt", "pyside"))}
LOWEST_ARE_TESTED = (*FEATURES, *BINDINGS, "test")
WITH_OTHERS = {"IPython", "contourpy", "h5py", "markupsafe", "pint", "vispy"}
"""Come with notebooks, matplotlib, rosettasciio[hdf5], jinja2 and napari, which they handle."""
CONDA_NAMES = {"pytorch": "torch", "matplotlib-base": "matplotlib"}


def requirements(lines: list[str]) -> list[Requirement]:
    return [Requirement(line) for line in lines]


def names(lines: list[str]) -> set[str]:
    return {canonicalize_name(r.name) for r in requirements(lines)}


def imported_modules() -> set[str]:
    """Modules that the source imports."""
    pattern = re.compile(r"^\s*(?:from (\w+)[\w.]* import|import (\w+))", re.M)
    return {
        one or other
        for path in (ROOT / "src").rglob("*.py")
        for one, other in pattern.findall(path.read_text())
    }


# ---- dependencies
def test_all_packages_that_are_imported_are_declared():
    declared = names(PROJECT["dependencies"])
    for name in (*FEATURES, "multislice"):
        declared |= names(EXTRAS[name])
    known = packages_distributions()
    undeclared = {
        module
        for module in imported_modules() - WITH_OTHERS - {"napari_atomicity"}
        if module in known and not {canonicalize_name(n) for n in known[module]} & declared
    }
    assert undeclared == set()


@pytest.mark.parametrize("name", ["dependencies", *sorted(LOWEST_ARE_TESTED)])
def test_each_dependency_has_a_lowest_version(name):
    lines = PROJECT["dependencies"] if name == "dependencies" else EXTRAS[name]
    without = [
        r.name
        for r in requirements(lines)
        if r.name != PROJECT["name"] and not any(s.operator in (">=", "~=") for s in r.specifier)
    ]
    assert without == []


def features_of(extra: str) -> set[str]:
    return {e for r in requirements(EXTRAS[extra]) if r.name == PROJECT["name"] for e in r.extras}


def test_all_brings_all_features_and_a_qt_binding_and_the_tests_need_the_same():
    assert features_of("all") == FEATURES | {"pyqt6"}
    assert features_of("test") == FEATURES
    assert {"all", "test"} <= features_of("dev")


# ---- extras
def test_a_missing_package_names_its_extra(monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "trackpy", None)
    with (
        pytest.raises(DependencyError) as caught,
        require_extra("movies", "linking", tmp_path / "a.tif"),
    ):
        import trackpy.linking  # noqa: F401
    message = str(caught.value)
    assert 'pip install "napari-atomicity[movies]"' in message
    assert "trackpy" in message and message.startswith("a.tif")


def test_other_errors_pass():
    with pytest.raises(ZeroDivisionError), require_extra("movies", "linking"):
        _ = 1 / 0


def test_extras_that_messages_name_exist():
    source = "\n".join(p.read_text() for p in (ROOT / "src").rglob("*.py"))
    said = set(re.findall(r'(?:require_extra|install_command)\(\s*["\'](\w+)', source))
    assert said >= FEATURES
    assert said <= set(EXTRAS)


def test_the_demo_says_at_once_that_qt_is_missing(tmp_path, monkeypatch, capsys):
    from napari_atomicity.cli.commands import app

    real_import = builtins.__import__

    def without_qt(name, *args, **kwargs):
        if name == "qtpy":
            raise ImportError("No Qt bindings could be found")
        return real_import(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", without_qt)
    with pytest.raises(SystemExit) as ended:
        app(["demo", "--out", str(tmp_path / "out")])
    assert ended.value.code == 1
    assert 'pip install "napari-atomicity[pyqt6]"' in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


# ---- metadata
def test_the_published_readme_has_no_relative_links():
    hook = CONFIGURATION["tool"]["hatch"]["metadata"]["hooks"]["fancy-pypi-readme"]
    text = (ROOT / "README.md").read_text()
    for substitution in hook["substitutions"]:
        text = re.sub(substitution["pattern"], substitution["replacement"], text)
    targets = re.findall(r"\]\(([^)\s]+)\)", text)
    assert len(targets) > 5
    assert [t for t in targets if not t.startswith(("https://", "#"))] == []
    images = re.findall(r"!\[[^]]*\]\(([^)]+)\)", text)
    assert images and all(t.startswith("https://raw.") for t in images)


def test_python_versions_are_those_of_the_tests():
    stated = {
        c.rpartition(" ")[2]
        for c in PROJECT["classifiers"]
        if re.fullmatch(r"Programming Language :: Python :: 3\.\d+", c)
    }
    workflow = yaml.safe_load((ROOT / ".github" / "workflows" / "tests.yml").read_text())
    matrix = workflow["jobs"]["tests"]["strategy"]["matrix"]
    assert set(matrix["python"]) == stated
    assert set(matrix["qt"]) <= BINDINGS
    assert PROJECT["requires-python"] == f">={min(stated)}"


def test_the_conda_recipe_requires_the_same():
    recipe = yaml.safe_load((ROOT / "conda" / "recipe.yaml").read_text())
    assert recipe["context"]["version"] == last_release()
    assert PROJECT["requires-python"] == f">={recipe['context']['python_min']}"
    run = requirements(r for r in recipe["requirements"]["run"] if not r.startswith("python "))
    there = {CONDA_NAMES.get(r.name, r.name): r.specifier for r in run}
    assert there == {r.name: r.specifier for r in requirements(PROJECT["dependencies"])}


def test_references_of_the_paper_are_listed_and_cited():
    cited = set(re.findall(r"@(\w+)", (ROOT / "paper" / "paper.md").read_text()))
    listed = set(re.findall(r"^@\w+\{(\w+),", (ROOT / "paper" / "paper.bib").read_text(), re.M))
    assert cited == listed
