"""The program of the page: its size, that it is one script, and its types."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from pathlib import Path

import pytest

import napari_atomicity
from napari_atomicity.project.packs.browser_packs import _program

FOLDER = Path(napari_atomicity.__file__).parent / "data" / "annotate"
MODULES = sorted(FOLDER.glob("*.js"))
OPTIONS = {
    "strict": True, "checkJs": True, "allowJs": True, "noEmit": True, "target": "es2022",
    "module": "es2022", "moduleResolution": "bundler", "lib": ["es2023", "dom", "dom.iterable"],
    "noUnusedLocals": True, "noUnusedParameters": True, "types": [],
}  # fmt: skip


def test_the_program_is_small():
    lines = sum(len(path.read_text("utf-8").splitlines()) for path in FOLDER.iterdir())
    assert lines < 1600


def test_modules_are_joined_to_one_script():
    """Each module is there, none is imported, and no name is defined in two of them."""
    program = _program()
    assert not re.search(r"^(import|export) ", program, re.M)
    names = re.findall(r"^(?:async )?(?:function|class|const|let) (\w+)", program, re.M)
    assert len(names) == len(set(names)) and {"Log", "Answers", "View", "Page"} <= set(names)
    for path in MODULES:
        text = path.read_text("utf-8")
        assert text.startswith("// @ts-check\n")
        assert text.splitlines()[-1] in program
    for danger in ("innerHTML", "outerHTML", "insertAdjacent", "document.write", "eval("):
        assert danger not in program


@pytest.mark.skipif(shutil.which("node") is None, reason="Node is not installed")
def test_the_script_can_be_parsed(tmp_path):
    (tmp_path / "program.js").write_text(_program(), "utf-8")
    subprocess.run(["node", "--check", tmp_path / "program.js"], check=True)


@pytest.mark.skipif(shutil.which("tsc") is None, reason="TypeScript is not installed")
def test_types(tmp_path):
    settings = {"compilerOptions": OPTIONS, "include": [f"{FOLDER}/*.js"]}
    (tmp_path / "tsconfig.json").write_text(json.dumps(settings))
    checked = subprocess.run(
        ["tsc", "-p", tmp_path / "tsconfig.json"], capture_output=True, text=True, check=False
    )
    assert checked.returncode == 0, checked.stdout
