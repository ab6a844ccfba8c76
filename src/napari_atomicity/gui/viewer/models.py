"""The models of analyses and of projects, and a signal for new models."""

from __future__ import annotations

import hashlib
import tempfile
from collections.abc import Callable, Collection
from contextlib import suppress
from dataclasses import dataclass, field, replace
from functools import lru_cache
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary

import numpy as np
from psygnal import Signal

from ...atoms.finding.card import AtomCard
from ...core.errors import AtomicityError, ModelError
from ...core.model_card import Card, ModelCard
from ...core.progress import Progress, Stop
from ...core.tables.cluster_table import classes_of
from ...models.analysis import Analysis
from ...models.files import (
    find_model,
    installed_model,
    save_model,
    user_folder,
    write_weights_and_card,
)
from ...pipeline.installed_models import MAX_MODEL_BYTES, checked_card, is_model_name
from ...project import Opened, Project, open_any
from ...state import export
from ...state.window_state import WindowState
from .. import tasks
from ..controls.questions import confirm, show_info, show_warning
from ..controls.settings import ATOM_MODEL, MODEL, choose, settings

if TYPE_CHECKING:
    import pandas as pd

    from ...core.model_card import ModelCard
    from ...models.inference import Classifier


class ModelFolder:
    """The folder of models.

    Signals: ``changed()`` when a model was added.
    """

    changed = Signal()


model_folder = ModelFolder()


# ---- models that a project contains: copied into it, and, if a person agrees, out of it

_DECLINED = "models not copied"
_MADE_HERE = "models_made_here"
COPY_MODELS = "Copy the models of this project…"
"""Entry of the menu of *Browse*."""
GET_IT = (
    "Ask its author to share it (Browse, ⋯ ▸ Share a model…), and add the file: atomicity models "
    "add FILE"
)
"""What to do where a model is missing."""


@dataclass(frozen=True)
class OfferedModels:
    """Models of a project that are not in the user's folder of models, and can be copied to it."""

    own: tuple[str, ...] = ()  # made on this computer by this user
    others: dict[str, str] = field(default_factory=dict)  # descriptions by name

    def __bool__(self) -> bool:
        return bool(self.own or self.others)


def add_model(project: Project, path: Path) -> str:
    """Copy a model file and its card into a project; return the card."""
    card = path.with_suffix(".json").read_text("utf-8")
    project.model_files.add(path.stem, path.read_bytes(), card)
    return card


def add_own_model(project: Project, path: Path) -> None:
    """Copy a model that was made here into a project, and remember that it was."""
    card = add_model(project, path)
    settings().setValue(f"{_MADE_HERE}/{_card_hash(card)}", path.stem)


def add_new_model(project: Project, card: ModelCard, tensors: dict[str, np.ndarray]) -> None:
    """Store a model that was made here and is in no file yet in a project."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / f"{card.name}.safetensors"
        save_model(path, card, tensors)
        add_own_model(project, path)


def names_made_here() -> set[str]:
    """Return the names of models that were made here and are, or were, in a project."""
    stored = settings()
    stored.beginGroup(_MADE_HERE)
    return {str(stored.value(key)) for key in stored.childKeys()}


def _card_hash(card: str) -> str:
    """Return what identifies a model with the names of its classes.

    A card contains the hash of the weights.
    """
    return hashlib.sha256(card.encode()).hexdigest()


def write_model(project: Project, name: str, path: Path) -> Path:
    """Write a model of a project, and its card, to files."""
    write_weights_and_card(path, *project.model_files.read(name))
    return path


def open_with_models(
    path: str, file: str | None = None, progress: Progress | None = None, stop: Stop | None = None
) -> tuple[Opened, OfferedModels]:
    """Open a project as `project.open_any` does; return also models that it offers."""
    opened = open_any(path, file, progress, stop, draft=True, lazy=True)
    offered, notes = offered_models(opened.project)
    return replace(opened, notes=(*opened.notes, *notes)), offered


def names_in_project(state: WindowState) -> Collection[str]:
    """Return the names of the models that the open project contains; none without a project."""
    return () if state.project is None else state.project.model_files.names()


def ensure_new_in_project(state: WindowState, name: str) -> None:
    """Raise `AtomicityError` if a new model would replace another one in the open project."""
    if name in names_in_project(state):
        raise AtomicityError(
            f"the open project contains another model {name!r}", advice="Choose another name"
        )


def lacking_models(project: Project) -> list[str]:
    """Return the names of the models of a project that the user does not have.

    The user may have others of these names.
    """
    # A project may come from others: the name of a model must not lead out of the folder.
    names = filter(is_model_name, project.model_files.names())
    return [name for name in names if not _is_installed(_id_in_project(project, name))]


def _is_installed(model_id: str) -> bool:
    return any(installed_model(model_id, kind) for kind in (ModelCard, AtomCard))


def _id_in_project(project: Project, name: str) -> str:
    """Return the identifier of a model of a project; "" if its card can't be read."""
    with suppress(AtomicityError):
        return _id_in(project.model_files.card(name))
    return ""


def _id_in(card: str) -> str:
    """Return the identifier of a model by the text of its card; "" if it is damaged."""
    with suppress(ValueError, RecursionError):
        return Card.from_json(card).model_id
    return ""


def offered_models(project: Project, declined_too: bool = False) -> tuple[OfferedModels, list[str]]:
    """Check the models of a project that are not installed; leave out those that were declined."""
    own, others, notes, ids = [], {}, [], set()
    declined = [] if declined_too else _declined(project)
    for name in lacking_models(project):
        try:
            card = _checked_card(project, name)
            made_here = _card_hash(project.model_files.card(name))
        except (AtomicityError, RecursionError) as error:
            reason = getattr(error, "what", error)
            notes.append(f"The model {name} in the project can't be used: {reason}. {GET_IT}.")
            continue
        ids.add(card.model_id)
        if settings().contains(f"{_MADE_HERE}/{made_here}"):
            own.append(name)
        elif card.sha256 not in declined:
            others[name] = card.description or f"version {card.version or 'unknown'}"
    _offered_ids[project] = ids
    return OfferedModels(tuple(own), others), notes


_offered_ids: WeakKeyDictionary[Project, set[str]] = WeakKeyDictionary()
"""Identifiers of the models that can be copied from a project."""


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
    """Copy models of a project into the user's folder of models; return the names of their files.

    If the user has another model of that name, it is the identifier of the model.
    """
    paths = [user_folder() / f"{name}.safetensors" for name in names]
    for i, name in enumerate(names):
        if paths[i].exists():
            paths[i] = user_folder() / f"{_id_in_project(project, name)}.safetensors"
        write_model(project, name, paths[i])
    return [path.stem for path in paths]


def wants_models(project: Project, offered: dict[str, str]) -> bool:
    """Ask whether to copy the models of a project; the answer No is remembered in it."""
    lines = [escape(f"{name}: {description[:200]}") for name, description in offered.items()]
    agreed = confirm(
        None,
        "Copy models?",
        # The description is by somebody else: it is no markup.
        f"<p>This project contains models that you do not have:</p><p>{'<br>'.join(lines)}</p>"
        "<p>Copy them to your models? Do so if you trust the author: a model can give wrong "
        f"labels. Labels in the project do not need it. Later: Browse, ⋯ ▸ {COPY_MODELS}</p>",
    )
    if not agreed and not project.read_only:
        declined = _declined(project)
        hashes = [_checked_card(project, name).sha256 for name in offered]
        project.set_setting(_DECLINED, [*declined, *(h for h in hashes if h not in declined)])
    return agreed


class ProjectModels:
    """Copies models into the project of a window, and out of it."""

    def __init__(self, state: WindowState) -> None:
        self.state = state
        self.choices = (ChosenModel(MODEL, ModelCard), ChosenModel(ATOM_MODEL, AtomCard))
        self._in_no_file: dict[str, str] = {}  # names and identities of models of this project

    def offer(self, project: Project, models: OfferedModels) -> None:
        """Copy models of a project: those that were made here, and others if the user agrees."""
        if self.state.project is not project:
            return
        names = list(models.own)
        if models.others and wants_models(project, models.others):
            names += models.others
        if names:
            tasks.start(
                self.state, install_models, project, names,
                message="Copying models", on_result=self._installed, key="copy models",
            )  # fmt: skip

    def copy(self) -> None:
        """Offer all models of the project that the user does not have, also declined ones."""
        project = self.state.project

        def done(found: tuple[OfferedModels, list[str]]) -> None:
            for note in found[1]:
                show_warning(note)
            self.offer(project, found[0])

        tasks.start(
            self.state, offered_models, project, declined_too=True,
            message="Checking the models", on_result=done, key="check models",
        )  # fmt: skip

    def _installed(self, names: list[str]) -> None:
        model_folder.changed.emit()
        for choice in self.choices:
            choice.restore_missing()
        show_info(f"Copied to your models: {', '.join(names)}.")

    def keep(self, path: Path) -> None:
        """Copy a model that was made here into the project."""
        self._keep(path.stem, add_own_model, path)

    def keep_new(
        self, card: ModelCard, tensors: dict[str, np.ndarray], on_kept: Callable[[], None]
    ) -> None:
        """Keep a model that is in no file in the project; if that is possible, say so."""

        def done(_: object) -> None:
            self._in_no_file[card.name] = card.model_id
            on_kept()

        self._keep(card.name, add_new_model, card, tensors, on_result=done)

    def _keep(
        self,
        name: str,
        store: Callable[..., None],
        *args: Any,
        on_result: Callable[[Any], None] = lambda _: None,
    ) -> None:
        project = self.state.project
        if project is not None and not project.read_only:
            tasks.start(self.state, store, project, *args, on_result=on_result, key=f"keep {name}")

    def remove_unused(self) -> None:
        """Remove the models that are in no file, and that no labels in the project come from."""
        used = {model_id_of(self.state.analysis(image)) for image in self.state.images}
        with suppress(AtomicityError):  # they stay
            for name, model_id in self._in_no_file.items():
                if model_id not in used:
                    self.state.project.model_files.remove(name)
        self._in_no_file = {}


class ChosenModel:
    """The model that is chosen for analyses, which a project stores with its identifier.

    Others who open the project may have another model of that name: classes would change unnoticed.
    A model that they do not have stays the one of the project until they choose another one.
    """

    def __init__(self, setting: str, card_type: type[Card]) -> None:
        self.setting = setting
        """Key under which the choice is saved."""
        self._card_type = card_type
        self._missing: tuple[dict[str, str], str] | None = None  # and the one that is chosen

    @property
    def name(self) -> str:
        """Name of the chosen model."""
        return str(settings().value(self.setting, "default"))

    def get(self) -> str | dict[str, str]:
        """Return what the project stores: the name of a shipped model, or name and identifier."""
        if self._missing is not None and self._missing[1] == self.name:
            return self._missing[0]
        self._missing = None
        if is_model_name(self.name):
            with suppress(ModelError, OSError):
                path = find_model(self.name)
                model_id = _read_id(path, path.with_suffix(".json").stat().st_mtime_ns)
                return {"name": self.name, "model_id": model_id}
        return self.name

    def restore(self, stored: object) -> None:
        """Choose the model of a project again, if it is there."""
        if isinstance(stored, dict):
            self._restore_by_id({str(key): str(value) for key, value in stored.items()})
            return
        with suppress(ModelError):
            find_model(str(stored))
            choose(self.setting, str(stored))

    def _restore_by_id(self, chosen: dict[str, str]) -> None:
        model_id = chosen.get("model_id", "")
        if self._choose(model_id):
            return
        self._missing = chosen, self.name
        if not _is_offered(model_id):
            show_warning(
                f"The model {model_id}, chosen in this project, is not among your models: "
                f"{self.name} is chosen. {GET_IT}."
            )

    def restore_missing(self) -> None:
        """Choose the model of the project once it was added."""
        if self._missing is not None and self._missing[1] == self.name:
            self._choose(self._missing[0].get("model_id", ""))

    def _choose(self, model_id: str) -> bool:
        """Choose an installed model by its identifier; return whether there is one."""
        found = installed_model(model_id, self._card_type)
        if found is not None:
            choose(self.setting, found[0].stem)
        return found is not None

    def forget(self) -> None:
        """Forget the model of a project that was closed."""
        self._missing = None


@lru_cache(maxsize=8)
def _read_id(path: Path, _mtime_ns: int) -> str:
    """Return the identifier of an installed model."""
    return _id_in(path.with_suffix(".json").read_text("utf-8"))


_unsaved: dict[str, Classifier] = {}


def model_id_of(analysis: Analysis | None) -> str:
    """Return the identifier of the model that made the labels; "" without any."""
    return "" if analysis is None else analysis.model_id


def explained_class_of(state: WindowState, analysis: Analysis) -> str | None:
    """Return the chosen class of class maps; None for the predicted one of each cluster.

    A class that was chosen for another model is none of the classes of an image.
    """
    label = state.explained_class
    return label if label is not None and label in classes_of(analysis.table) else None


def keep_available(classifier: Classifier) -> None:
    """Keep a model that was trained in this window, even if it is not saved."""
    _unsaved[classifier.card.model_id] = classifier


def find_card(model_id: str) -> ModelCard | None:
    """Return the card of a model, saved or not; None if it is not available."""
    unsaved = _unsaved.get(model_id)
    return export.installed_card(model_id) if unsaved is None else unsaved.card


def classifier_of(analysis: Analysis) -> Classifier:
    """Return the classifier of an analysis; call this in a worker.

    Raises `ModelError` if nothing is classified yet, or the model is not available.
    """
    model_id = analysis.model_id
    if model_id in _unsaved:
        return _unsaved[model_id]
    return _classifier(model_id, str(analysis.parameters.get("device", "auto")).split(":")[0])


def _is_offered(model_id: str) -> bool:
    """Return whether an open project contains a model that the user does not have."""
    return any(model_id in ids for project, ids in _offered_ids.items() if not project.closed)


def _way_to_get(model_id: str) -> str:
    """Say how to get a model: from an open project, or from its author."""
    if _is_offered(model_id):
        return f"The project contains it: copy it (Browse, ⋯ ▸ {COPY_MODELS})"
    return GET_IT


@lru_cache(maxsize=2)
def _classifier(model_id: str, device: str) -> Classifier:
    from ...models.inference import load_classifier

    found = installed_model(model_id, ModelCard)
    if found is not None:
        return load_classifier(found[0], device)
    if not model_id:
        raise ModelError("the clusters are not classified yet", advice="Classify again")
    raise ModelError(
        f"the model {model_id} of this image is not available",
        advice=f"{_way_to_get(model_id)}. Or classify again with another one",
    )


def card_of(table: pd.DataFrame) -> ModelCard | None:
    """Return the card of the model of most clusters, saved or not; None if it is not available."""
    return next(iter(export.cards_of(table, find_card)), None)
