"""The documentation: what it links to, shows and tells people to type is there."""

import ast
import dataclasses
import importlib
import importlib.util
import inspect
import re
import shlex
import sqlite3
import tomllib
from pathlib import Path

import pytest
import typer
from every_dock import all_docks
from PIL import Image

from documentation import DOCS, PAGES, ROOT, blocks, name_of, shell_lines
from napari_atomicity import ImageAnalysis
from napari_atomicity.cli.commands import app
from napari_atomicity.core.micrograph import Micrograph
from napari_atomicity.core.patches import PatchSettings
from napari_atomicity.core.tables.cluster_table import columns
from napari_atomicity.detection import DetectionSettings
from napari_atomicity.gui.docks.overview import Overview
from napari_atomicity.project import Project
from napari_atomicity.reporting.plots.registry import PLOTS

EXPLANATION = DOCS / "explanation"
IMAGES = sorted(p for p in (DOCS / "images").iterdir() if p.suffix in (".png", ".webp"))
MAX_IMAGE_BYTES = 600_000
MAX_IMAGES_BYTES = 10_000_000
KNOWN = {"analysis": ImageAnalysis, "micrograph": Micrograph, "project": Project}
"""What the variables of the examples are."""

COMMANDS = typer.main.get_command(app)


def prose(path: Path) -> str:
    return re.sub(r"^```.*?^```", "", path.read_text(), flags=re.M | re.S)


def links(path: Path) -> list[str]:
    pattern = r"\]\(([^)\s]+)\)|<img src=\"([^\"]+)\""
    return [one or other for one, other in re.findall(pattern, prose(path))]


def anchors(path: Path) -> set[str]:
    """As GitHub makes them of headings."""
    headings = re.findall(r"^#+ (.+)$", prose(path), re.M)
    plain = [re.sub(r"[^\w\- ]", "", h.lower()) for h in headings]
    return {h.strip().replace(" ", "-") for h in plain}


# ---- links and pictures
@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_links_lead_somewhere(page):
    dead = []
    for link in links(page):
        if re.match(r"[a-z]+:", link):
            continue
        target, _, anchor = link.partition("#")
        file = (page.parent / target).resolve() if target else page
        if not file.exists() or (anchor and anchor not in anchors(file)):
            dead.append(link)
    assert dead == []


def test_tests_that_hold_a_promise_exist():
    named = re.findall(r"`(tests/[\w/]+\.py)`", (EXPLANATION / "reliability.md").read_text())
    assert len(named) > 10
    assert [name for name in named if not (ROOT / name).is_file()] == []


def test_every_picture_is_shown_and_small():
    shown = {(p.parent / link).resolve() for p in PAGES for link in links(p)}
    assert set(IMAGES) == {path for path in shown if path.suffix in (".png", ".webp")}
    too_large = [p.name for p in IMAGES if p.stat().st_size > MAX_IMAGE_BYTES]
    assert too_large == []
    assert sum(p.stat().st_size for p in IMAGES) < MAX_IMAGES_BYTES
    for path in IMAGES:
        with Image.open(path) as image:
            assert min(image.size) > 100


def test_each_dock_is_shown_in_both_themes():
    names = {p.stem for p in IMAGES}
    themed = {n.removesuffix(f"-{theme}") for n in names for theme in ("dark", "light")
              if n.endswith(f"-{theme}")}  # fmt: skip
    assert {f"{n}-{theme}" for n in themed for theme in ("dark", "light")} <= names
    single = [kind for kind in all_docks() if not issubclass(kind, Overview)]
    docks = {kind.__name__.lower() for kind in single} - {"plots"}
    plots = {f"plot-{name}" for name in PLOTS}
    assert docks | plots | {"workbench", "help", "agreement"} <= themed


def test_the_readme_shows_the_window_first():
    assert (ROOT / "README.md").read_text().startswith("![")


# ---- Python
PYTHON = blocks("python")


def called(node: ast.Call, names: dict[str, object]) -> object | None:
    """The function or method that an example calls, where it is one of ours."""
    function = node.func
    if isinstance(function, ast.Name):
        return names.get(function.id)
    if isinstance(function, ast.Attribute) and isinstance(function.value, ast.Name):
        return getattr(KNOWN.get(function.value.id), function.attr, None)
    return None


@pytest.mark.parametrize(("page", "code"), PYTHON, ids=[page for page, _ in PYTHON])
def test_names_and_arguments_of_the_examples_exist(page, code):
    names: dict[str, object] = {}
    for node in ast.walk(ast.parse(code)):
        if isinstance(node, ast.ImportFrom):
            module = importlib.import_module(node.module)
            names |= {a.asname or a.name: getattr(module, a.name) for a in node.names}
    assert names
    for node in ast.walk(ast.parse(code)):
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
            kind = KNOWN.get(node.value.id)
            if kind is not None:
                is_data = dataclasses.is_dataclass(kind)
                fields = {f.name for f in dataclasses.fields(kind)} if is_data else set()
                assert node.attr in fields or hasattr(kind, node.attr)
        elif isinstance(node, ast.Call) and (function := called(node, names)) is not None:
            if isinstance(function, property):  # what it returns is called
                continue
            parameters = inspect.signature(function).parameters
            open_ended = any(p.kind is p.VAR_KEYWORD for p in parameters.values())
            assert open_ended or {k.arg for k in node.keywords} <= set(parameters)
        elif isinstance(node, ast.Subscript) and ast.unparse(node.value) == "table":
            column = getattr(node.slice, "value", None)
            assert column is None or column in columns()


SCRIPTS = sorted([*DOCS.glob("*.py"), *(ROOT / "benchmarks").glob("*.py")])


@pytest.mark.parametrize("script", SCRIPTS, ids=[path.stem for path in SCRIPTS])
def test_names_that_scripts_import_exist(script):
    for node in ast.walk(ast.parse(script.read_text())):
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("napari_atomicity"):
            module = importlib.import_module(node.module)
            for name in (a.name for a in node.names):
                assert hasattr(module, name) or importlib.util.find_spec(f"{node.module}.{name}"), (
                    name
                )


# ---- the command line
ATOMICITY = [(page, line) for page, line in shell_lines() if line.startswith("atomicity")]


@pytest.mark.parametrize(("page", "line"), ATOMICITY, ids=[line for _, line in ATOMICITY])
def test_commands_can_be_typed_as_they_are_shown(page, line, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "results").mkdir()
    (tmp_path / "results" / "run.json").write_text('{"parameters": {}, "images": [{"path": "a"}]}')
    for where, text in blocks("toml"):
        if where == page:
            (tmp_path / "run.toml").write_text(text)
    _, name, *arguments = shlex.split(line, comments=True)
    COMMANDS.commands[name].make_context(name, arguments, parent=typer.Context(COMMANDS))


def test_commands_in_the_text_exist():
    said = {n for p in PAGES for n in re.findall(r"`atomicity ([a-z]+)", prose(p))}
    assert said and said <= set(COMMANDS.commands)
    shown = said | {line.split()[1] for _, line in ATOMICITY}
    assert set(COMMANDS.commands) <= shown


def test_targets_of_make_exist():
    targets = set(re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(), re.M))
    said = {n for p in PAGES for n in re.findall(r"`make ([a-z]+)`", prose(p))}
    said |= {n for _, line in shell_lines() for n in re.findall(r"^make ([a-z]+)", line)}
    assert said and said <= targets


def test_extras_exist():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    said = {n for p in PAGES for n in re.findall(r"extra `([a-z]+)`", prose(p))}
    said |= {n for p in PAGES for n in re.findall(r"napari-atomicity\[([a-z]+)\]", p.read_text())}
    assert said and said <= set(project["optional-dependencies"])


# ---- figures
HOW_IT_WORKS = sorted((ROOT / "docs").rglob("how-it-works*.md"))


def test_defaults_are_those_of_the_code():
    text = "\n".join(page.read_text() for page in HOW_IT_WORKS)
    said = dict(re.findall(r"^\| `(\w+)` \| ([\w.]+) \|", text, re.M))
    settings = dataclasses.asdict(DetectionSettings()) | dataclasses.asdict(PatchSettings())
    settings.pop("channels")
    assert said == {name: str(value) for name, value in settings.items()}


# ---- the project file
QUERIES = [sql for _, sql in blocks("sql")]


@pytest.mark.parametrize("sql", QUERIES)
def test_queries_of_the_page_on_projects_can_be_asked(sql, tmp_path):
    path = tmp_path / "empty.atomicity"
    Project(path).close()
    with sqlite3.connect(path) as db:
        assert db.execute(sql).fetchall() == []


def test_the_page_on_projects_tells_of_all_tables_and_of_no_others(tmp_path):
    path = tmp_path / "empty.atomicity"
    Project(path).close()
    with sqlite3.connect(path) as db:
        there = {
            name: {row[1] for row in db.execute(f"PRAGMA table_info({name})")}
            for (name,) in db.execute(
                "SELECT name FROM sqlite_master WHERE type = 'table' AND name NOT LIKE 'sqlite%'"
            )
        }
    text = (DOCS / "reference" / "projects.md").read_text()
    section = text.partition("## The tables")[2].partition("\n## ")[0]
    told = dict(re.findall(r"^\| `(\w+)` \| .+? \| (.+) \|$", section, re.M))
    assert set(told) == set(there)
    for table, cell in told.items():
        named = {n for n in re.findall(r"`(\w+)`", cell) if n != "classes" or table == "models"}
        assert named <= there[table], table
    log = text.partition("## The log of corrections")[2].partition("\n## ")[0]
    cells = re.findall(r"^\| (`.+?) \| ", log, re.M)
    assert {n for cell in cells for n in re.findall(r"`(\w+)`", cell)} <= there["corrections"]


@pytest.mark.parametrize("page", HOW_IT_WORKS, ids=name_of)
def test_references_are_cited_and_listed(page):
    text = page.read_text()
    body, _, listed = text.partition("## References")
    body = re.sub(r"```.*?```", "", body, flags=re.S)
    cited = {int(n) for n in re.findall(r"\[(\d+)\](?!\()", body)}
    assert cited == {int(n) for n in re.findall(r"^(\d+)\. ", listed, re.M)}


# ---- the architecture
@pytest.fixture(scope="module")
def architecture():
    specification = importlib.util.spec_from_file_location(
        "make_architecture", ROOT / "docs" / "scripts" / "make_architecture.py"
    )
    module = importlib.util.module_from_spec(specification)
    specification.loader.exec_module(module)
    return module


def test_the_picture_of_the_architecture_is_that_of_the_imports(architecture):
    assert architecture.PICTURE.read_text() == architecture.draw(), (
        "run: python docs/scripts/make_architecture.py"
    )


def test_imports_between_folders_lead_down(architecture):
    floor = {name: i for i, names in enumerate(architecture.floors()) for name in names}
    graph = architecture.imports()
    assert graph.keys() == floor.keys()
    assert not [(a, b) for a, targets in graph.items() for b in targets if floor[b] <= floor[a]]
