"""Write the generated parts of the reference: commands, columns, settings, shortcuts, Python.

    python docs/scripts/make_reference.py [FOLDER]

``docs/conf.py`` calls it before each build. The files are written to ``docs/reference/generated``,
which is not under version control; the pages of ``docs/reference`` include them.
"""

from __future__ import annotations

import dataclasses
import importlib
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import typer

from napari_atomicity.atoms import cluster_atoms, completeness, table as atom_table
from napari_atomicity.atoms.dispersion import STATISTICS_SCHEMA, DispersionSettings
from napari_atomicity.cli.commands import app
from napari_atomicity.core.settings import settings_of
from napari_atomicity.core.tables import cluster_table
from napari_atomicity.core.tables.columns import GROUP_COLUMNS, RATIO_SCHEMA, markdown_table
from napari_atomicity.detection import DetectionSettings
from napari_atomicity.gui.controls.shortcuts import places, rows
from napari_atomicity.io.images import READERS
from napari_atomicity.io.readers.read_limits import ReadLimits
from napari_atomicity.pipeline.adaptation.settings import AdaptRequest
from napari_atomicity.pipeline.run_request import AtomRequest, RunRequest
from napari_atomicity.statistics.points import atom_groups, metal_loading
from napari_atomicity.statistics.points.loading_settings import LoadingSettings
from napari_atomicity.statistics.samples.comparison import COMPARISON_SCHEMA, TREND_SCHEMA
from napari_atomicity.tracking import MovieSettings
from napari_atomicity.training import TrainRequest
from napari_atomicity.validation import ValidationRequest

FOLDER = Path(__file__).resolve().parents[1] / "reference" / "generated"

TABLES = {
    "clusters": cluster_table.documented_columns(),
    "ratios": RATIO_SCHEMA,
    "atoms": (*atom_table.SCHEMA, *GROUP_COLUMNS),
    "atom_groups": atom_groups.GROUP_SCHEMA,
    "cluster_atoms": cluster_atoms.SCHEMA,
    "dispersion": STATISTICS_SCHEMA,
    "completeness": completeness.SCHEMA,
    "metal_loading": metal_loading.SCHEMA,
    "comparison": COMPARISON_SCHEMA,
    "trends": TREND_SCHEMA,
}
"""Name of a generated file → columns of a table."""

SETTINGS = {
    "Detection": DetectionSettings,
    "Analysis of images": RunRequest,
    "Reading of files": ReadLimits,
    "Single atoms": AtomRequest,
    "Dispersion": DispersionSettings,
    "Metal loading": LoadingSettings,
    "Movies": MovieSettings,
    "Training": TrainRequest,
    "Adaptation": AdaptRequest,
    "Validation": ValidationRequest,
}
"""Heading → dataclass of settings."""

MODULES = {
    "napari_atomicity": "Load and analyse images, read projects",
    "napari_atomicity.detection": "Detect and measure clusters",
    "napari_atomicity.tracking": "Follow clusters in stacks",
    "napari_atomicity.training": "Train models of clusters",
    "napari_atomicity.training.atoms": "Train models of single atoms",
    "napari_atomicity.validation": "Compare methods",
    "napari_atomicity.project": "Projects",
}
"""Modules whose ``__all__`` is documented → heading."""

DOCUMENTED = {
    "napari_atomicity.training.atoms": (
        "AtomRecipe", "AtomTrainingSettings", "LabelledImage", "read_labelled", "train_atoms",
        "train_on_images",
    ),
    "napari_atomicity.project": (
        "MergeReport", "Project", "ProjectContents", "ProjectImage", "open_any", "project_file",
    ),
}  # fmt: skip
"""Modules of which only these names are for users; the other parts of the package use the rest."""


def format_table(head: Sequence[str], cells: Iterable[Sequence[str]]) -> str:
    """Return a Markdown table."""
    lines = [head, ["---"] * len(head), *cells]
    return "\n".join(f"| {' | '.join(escape_cell(c) for c in line)} |" for line in lines) + "\n"


def escape_cell(text: str) -> str:
    """Return text for a cell of a table: on one line, with its bars escaped."""
    return " ".join(text.split()).replace("|", r"\|")


# ---- commands
def format_command(name: str, command: Any) -> str:
    """Return the section of a command: what it does, its arguments and its options."""
    context = command.make_context(name, [], resilient_parsing=True)
    usage = " ".join(["atomicity", name, *command.collect_usage_pieces(context)])
    parts = [f"## atomicity {name}\n", f"{command.help or ''}\n", f"```text\n{usage}\n```\n"]
    for kind in ("argument", "option"):
        parameters = [p for p in command.params if p.param_type_name == kind]
        records = [p.get_help_record(context) for p in parameters]
        cells = [(f"`{names}`", help) for names, help in filter(None, records)]
        if cells:
            parts.append(format_table((kind, "description"), cells))
    return "\n".join(parts)


def command_line() -> str:
    """Return the sections of all commands."""
    commands = typer.main.get_command(app).commands
    return "\n".join(format_command(name, commands[name]) for name in sorted(commands))


# ---- settings and shortcuts
def settings() -> str:
    """Return a table of each dataclass of settings, with the name that Python and files use."""
    parts = []
    for heading, kind in SETTINGS.items():
        described = settings_of(kind)
        defaults = {f.name: f.default for f in dataclasses.fields(kind)}
        cells = [
            (f"`{name}`", about.label, format_value(defaults[name]), about.unit, about.help)
            for name, about in described.items()
            if not dataclasses.is_dataclass(defaults[name])
        ]
        if cells:
            head = ("setting", "in the window", "default", "unit", "description")
            parts.append(f"## {heading}\n\n{format_table(head, cells)}")
    return "\n".join(parts)


def format_value(value: Any) -> str:
    """Return a default value as a cell; empty if there is none."""
    if value is dataclasses.MISSING or value in (None, "", ()):
        return ""
    return f"`{value}`"


def shortcuts() -> str:
    """Return a table of the shortcuts of each mode."""
    return "\n".join(
        f"## {place}\n\n{format_table(('key', 'action'), rows(entries))}"
        for place, entries in places().items()
    )


def formats() -> str:
    """Return a table of the image formats."""
    cells = [(r.name, " ".join(f"`{suffix}`" for suffix in r.suffixes)) for r in READERS]
    return format_table(("format", "suffixes"), cells)


# ---- Python
def python() -> str:
    """Return the list of the public names, which autosummary makes into pages."""
    parts, documented = [], set()
    for module, heading in MODULES.items():
        public = {name: getattr(importlib.import_module(module), name) for name in names_of(module)}
        names = [n for n, value in public.items() if callable(value) and value not in documented]
        documented |= {public[name] for name in names}
        listed = "\n".join(f"   {name}" for name in names)
        parts.append(
            f"## {heading}\n\n```{{eval-rst}}\n.. currentmodule:: {module}\n\n"
            f".. autosummary::\n   :toctree: generated/api\n\n{listed}\n```\n"
        )
    return "\n".join(parts)


def names_of(module: str) -> Sequence[str]:
    """Return the names of a module that are for users."""
    every = [n for n in importlib.import_module(module).__all__ if not n.startswith("_")]
    return DOCUMENTED.get(module, every)


def write(folder: Path = FOLDER) -> None:
    """Write all generated parts; files that do not change keep their time."""
    parts = {f"columns-{name}": markdown_table(columns) for name, columns in TABLES.items()}
    parts |= {
        page.__name__: page() for page in (command_line, settings, shortcuts, formats, python)
    }
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in parts.items():
        path = folder / f"{name}.md"
        if not path.exists() or path.read_text(encoding="utf-8") != text:
            path.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    write(*map(Path, sys.argv[1:]))
