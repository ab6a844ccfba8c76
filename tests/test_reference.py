"""The generated parts of the reference: every command, column, setting, shortcut and format."""

import importlib
import importlib.util
import inspect
import re
from pathlib import Path

import pytest
import typer

from napari_atomicity.cli.commands import app
from napari_atomicity.detection import DetectionSettings
from napari_atomicity.gui.controls.shortcuts import places, rows
from napari_atomicity.io.images import suffixes

DOCS = Path(__file__).parents[1] / "docs"
PAGES = sorted(p for p in DOCS.rglob("*.md") if "generated" not in p.parts)
INCLUDED = re.compile(r"```\{include\} generated/(\S+)\.md")


@pytest.fixture(scope="module")
def reference():
    specification = importlib.util.spec_from_file_location(
        "make_reference", DOCS / "scripts" / "make_reference.py"
    )
    module = importlib.util.module_from_spec(specification)
    specification.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def generated(reference, tmp_path_factory):
    folder = tmp_path_factory.mktemp("reference")
    reference.write(folder)
    return {path.stem: path.read_text(encoding="utf-8") for path in folder.glob("*.md")}


def test_each_generated_part_is_included_in_one_page(generated):
    included = [name for page in PAGES for name in INCLUDED.findall(page.read_text())]
    assert sorted(included) == sorted(generated)


def test_every_command_and_option_is_listed(generated):
    for name, command in typer.main.get_command(app).commands.items():
        section = generated["command_line"].partition(f"## atomicity {name}\n")[2]
        section = section.partition("\n## ")[0]
        assert command.help.splitlines()[0] in section
        for parameter in command.params:
            assert parameter.opts[0] in section


def test_every_column_is_listed(reference, generated):
    for name, columns in reference.TABLES.items():
        listed = re.findall(r"^\| `(.+?)` \|", generated[f"columns-{name}"], re.M)
        assert listed == [column.name for column in columns]


def test_functions_for_users_document_the_types_of_their_parameters(reference):
    undocumented = []
    for module in reference.MODULES:
        for name in reference.names_of(module):
            function = getattr(importlib.import_module(module), name)
            if inspect.isfunction(function):
                text = inspect.getdoc(function)
                # `core.progress` explains these two
                parameters = set(inspect.signature(function).parameters) - {"progress", "stop"}
                undocumented += [
                    f"{name}: {p}"
                    for p in parameters
                    if len(parameters) > 2
                    and not re.search(rf"^[\w*, ]*\b{p}\b[\w, ]* : \S", text, re.M)
                ]
    assert undocumented == []


def test_every_shortcut_is_listed(generated):
    for place, shortcuts in places().items():
        section = generated["shortcuts"].partition(f"## {place}\n")[2].partition("\n## ")[0]
        assert [f"| {keys} | {what} |" in section for keys, what in rows(shortcuts)] == [
            True for _ in shortcuts
        ]


def test_settings_have_their_default_and_unit(generated):
    value = DetectionSettings().diameter_min_nm
    assert f"| `diameter_min_nm` | Smallest | `{value}` | nm |" in generated["settings"]


def test_every_suffix_is_listed(generated):
    assert re.findall(r"`(\.\w+)`", generated["formats"]) == list(suffixes())


def test_every_page_is_in_a_table_of_contents():
    listed = {DOCS / "index.md"}
    for page in PAGES:
        for tree in re.findall(r"```\{toctree\}\n(?::[^\n]*\n)+\n(.*?)```", page.read_text(), re.S):
            listed |= {(page.parent / f"{name}.md").resolve() for name in tree.split()}
    assert set(PAGES) == {page for page in listed if page.parent.name != "gallery"}
