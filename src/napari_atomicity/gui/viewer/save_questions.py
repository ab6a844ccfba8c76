"""Questions on edits that are not saved, asked before they would be lost."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from napari.utils.notifications import show_warning
from qtpy.QtWidgets import QMessageBox

from ...core.errors import AtomicityError
from ...io.tables import write_clusters
from ...project import SUFFIX
from ...state.unstored_edits import images_with_unstored_edits
from ...state.window_state import WindowState
from .. import tasks
from ..controls.questions import confirm, front_window
from ..controls.save_dialogs import ask_for_file

_MAX_NAMES = 3
_NO_FILE = (
    "A project cannot contain an image without a file. Save the cluster table with all labels as "
    "a file?"
)


def all_is_saved(state: WindowState, save_project: Callable[[], bool]) -> bool:
    """Return whether all edits of the project are saved; if not, ask what to do."""
    buttons = QMessageBox.StandardButton
    while not state.save_again():
        answer = QMessageBox.warning(
            front_window(),
            "Unsaved changes",
            f"{state.unsaved}\n\nSave writes everything to another project file.",
            buttons.Retry | buttons.Save | buttons.Discard | buttons.Cancel,
            buttons.Retry,
        )
        if answer == buttons.Discard:
            return True
        if answer == buttons.Cancel:
            return False
        if answer == buttons.Save:
            save_project()
    return True


def closing_question(state: WindowState) -> str:
    """Return what a person is asked before the window closes; "" if nothing."""
    running = [task.message for task in tasks.running(state) if task.message]
    lines = [f"{message} is not finished. Closing stops it." for message in running]
    if running and state.project is not None:
        lines.append("Results that are shown are saved.")
    if state.unsaved:
        lines.append(state.unsaved)
    images = images_with_unstored_edits(state)
    if images:
        lines.append(_in_memory_only(images))
        lines.append("Save them as a project?" if _fit_a_project(state, images) else _NO_FILE)
    return "\n\n".join(lines)


def may_drop_images(state: WindowState) -> bool:
    """Return whether a project may be left; ask if edits of images outside it would be lost."""
    images = images_with_unstored_edits(state)
    if state.project is None or not images:
        return True
    buttons = QMessageBox.StandardButton
    answer = QMessageBox.question(
        front_window(),
        "Save your changes?",
        f"{_in_memory_only(images)}\n\n{_NO_FILE}",
        buttons.Save | buttons.Discard | buttons.Cancel,
        buttons.Save,
    )
    return save_table(state) if answer == buttons.Save else answer == buttons.Discard


def may_remove_image(image: str) -> bool:
    """Ask whether an image outside the project is removed with its edits."""
    text = f"{_in_memory_only([image])} Removing the image deletes them, without undo."
    return confirm(front_window(), "Remove the image?", text)


def _in_memory_only(images: list[str]) -> str:
    names = ", ".join(images[:_MAX_NAMES])
    names += f" and {len(images) - _MAX_NAMES} more" if len(images) > _MAX_NAMES else ""
    return f"Your changes of {names} are in memory only."


def may_close(state: WindowState, save_project: Callable[[], bool]) -> bool:
    """Return whether a window may be closed; ask if work is stopped or edits are lost."""
    if state.project is not None and not state.save_again():
        return all_is_saved(state, save_project)
    question = closing_question(state)
    if not question:
        return True
    images = images_with_unstored_edits(state)
    buttons = QMessageBox.StandardButton
    leave = buttons.Discard if images or state.project is None else buttons.Close
    save = buttons.Save if images else leave
    answer = QMessageBox.question(
        front_window(),
        "Close the window?",
        question,
        save | leave | buttons.Cancel,
        save,
    )
    if answer != buttons.Save:
        return answer == leave
    if not _fit_a_project(state, images):
        return save_table(state)
    # Images without a file are not in the new project.
    return (
        save_project()
        and all_is_saved(state, save_project)
        and (not images_with_unstored_edits(state) or may_close(state, save_project))
    )


def _fit_a_project(state: WindowState, images: list[str]) -> bool:
    """Return whether there is no project yet, and some of the images can be saved in one."""
    return state.project is None and any(state.micrograph(i).path is not None for i in images)


def choose_project_file(state: WindowState) -> Path | None:
    """Ask for the file of a new project, by default beside an image; None if cancelled."""
    images = [*images_with_unstored_edits(state), *state.images]
    paths = [Path(path) for i in images if (path := state.micrograph(i).path) is not None]
    default = str(paths[0].with_suffix(SUFFIX)) if paths else f"session{SUFFIX}"
    return ask_for_file(state, None, "Save as project", default, f"Projects (*{SUFFIX})")


def save_table(state: WindowState) -> bool:
    """Ask for a file and write the cluster table; return whether it was written."""
    types = "Tables (*.csv *.xlsx *.parquet)"
    file = ask_for_file(state, None, "Save the cluster table", "clusters.csv", types)
    if file is None:
        return False
    try:
        write_clusters(state.table(), file)
    except AtomicityError as error:
        show_warning(str(error))
        return False
    return True
