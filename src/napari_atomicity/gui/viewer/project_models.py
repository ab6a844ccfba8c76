"""Models that a project contains: copied into it, and, if a person agrees, out of it."""

from __future__ import annotations

import tempfile
from dataclasses import replace
from html import escape
from pathlib import Path

from ...core.errors import AtomicityError, ModelError
from ...core.model_card import Card
from ...core.progress import Progress, Stop
from ...models.files import user_folder, write_weights_and_card
from ...pipeline.installed_models import MAX_MODEL_BYTES, checked_card, is_model_name
from ...project import Opened, Project, open_any
from ..controls.questions import confirm

_DECLINED = "models not copied"


def add_model(project: Project, path: Path) -> None:
    """Copy a model file and its card into a project."""
    card = path.with_suffix(".json").read_text("utf-8")
    project.model_files.add(path.stem, path.read_bytes(), card)


def write_model(project: Project, name: str, path: Path) -> Path:
    """Write a model of a project, and its card, to files."""
    write_weights_and_card(path, *project.model_files.read(name))
    return path


def open_with_models(
    path: str, file: str | None = None, progress: Progress | None = None, stop: Stop | None = None
) -> tuple[Opened, dict[str, str]]:
    """Open a project as `project.open_any` does; return also models that it offers."""
    opened = open_any(path, file, progress, stop, draft=True, lazy=True)
    offered, notes = offered_models(opened.project)
    return replace(opened, notes=(*opened.notes, *notes)), offered


def offered_models(project: Project) -> tuple[dict[str, str], list[str]]:
    """Check the models of a project that are not installed and were not declined."""
    offered, notes = {}, []
    declined = _declined(project)
    for name in project.model_files.names():
        path = user_folder() / f"{name}.safetensors"
        # A project may come from others: the name of a model must not lead out of the folder.
        if not is_model_name(name) or path.exists():
            continue
        try:
            card = _checked_card(project, name)
        except (AtomicityError, RecursionError) as error:
            reason = getattr(error, "what", error)
            notes.append(f"The model {name} in the project can't be used: {reason}.")
            continue
        if card.sha256 not in declined:
            offered[name] = card.description or f"version {card.version or 'unknown'}"
    return offered, notes


def _declined(project: Project) -> list[str]:
    """Return the hashes of models that a person did not want."""
    stored = project.setting(_DECLINED)
    return stored if isinstance(stored, list) else []


def _checked_card(project: Project, name: str) -> Card:
    """Return the card of a stored model whose weights are those that the card describes."""
    if project.model_files.size_bytes(name) > MAX_MODEL_BYTES:
        raise ModelError(f"it is larger than {MAX_MODEL_BYTES // 1_000_000} MB")
    with tempfile.TemporaryDirectory() as folder:
        path = write_model(project, name, Path(folder) / "model.safetensors")
        return checked_card(path)


def install_models(project: Project, names: list[str]) -> list[str]:
    """Copy models of a project into the user's folder of models; return their names."""
    for name in names:
        write_model(project, name, user_folder() / f"{name}.safetensors")
    return names


def wants_models(project: Project, offered: dict[str, str]) -> bool:
    """Ask whether to copy the models of a project; the answer No is remembered in it."""
    lines = [escape(f"{name}: {description[:200]}") for name, description in offered.items()]
    agreed = confirm(
        None,
        "Copy models?",
        # The description is by somebody else: it is no markup.
        f"<p>This project contains models that you do not have:</p><p>{'<br>'.join(lines)}</p>"
        "<p>Copy them to your models? Do so if you trust the author: a model can give wrong "
        "labels. Labels in the project do not need it. Later: Browse, ⋯ ▸ Share a model.</p>",
    )
    if not agreed and not project.read_only:
        hashes = [_checked_card(project, name).sha256 for name in offered]
        project.set_setting(_DECLINED, [*_declined(project), *hashes])
    return agreed
