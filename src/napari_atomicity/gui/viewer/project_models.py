"""Models that a project contains: copied into it, and out of it."""

from __future__ import annotations

from pathlib import Path

from ...io.files import atomic_write, write_text
from ...models.files import SHIPPED, user_folder
from ...project import Project


def add_model(project: Project, path: Path) -> None:
    """Copy a model file and its card into a project."""
    card = path.with_suffix(".json").read_text("utf-8")
    project.model_files.add(path.stem, path.read_bytes(), card)


def write_model(project: Project, name: str, path: Path) -> Path:
    """Write a model of a project, and its card, to files.

    Parameters
    ----------
    project : Project
        Project that contains the model.
    name : str
        Name of the model.
    path : Path
        File of the weights; the card gets the suffix ``.json``.

    Returns
    -------
    Path
        File of the weights.
    """
    weights, card = project.model_files.read(name)
    with atomic_write(path) as temporary:
        temporary.write_bytes(weights)
    write_text(path.with_suffix(".json"), card)
    return path


def install_models(project: Project) -> list[str]:
    """Copy the models of a project that are not installed into the user's folder of models.

    Returns
    -------
    list of str
        Names of the models that were copied.
    """
    installed = []
    for name in project.model_files.names():
        path = user_folder() / f"{name}.safetensors"
        # A project may come from others: the name of a model must not lead out of the folder.
        plain = name == Path(name).name and not set(name) & set("/\\:") and name.strip(". ")
        if plain and name not in {*SHIPPED, *SHIPPED.values()} and not path.exists():
            write_model(project, name, path)
            installed.append(name)
    return installed
