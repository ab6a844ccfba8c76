"""The menus of images, acquisition sessions, samples and known samples in the dock Browse."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path

from qtpy.QtGui import QAction
from qtpy.QtWidgets import QFileDialog, QInputDialog, QMenu

from ....core.acquisition_session import (
    KNOWN_EXAMPLE,
    MAX_PIXEL_SIZE_ERROR,
    PIXEL_SIZE_ERROR,
    EarlierScale,
    check_classes,
    format_composition,
    match_images,
    parse_composition,
)
from ....core.text import pluralise
from ....pipeline.acquisition_sessions import (
    read_earlier_scale,
    read_sample_table,
    scale_of_session,
)
from ....state.window_state import WindowState
from ...controls.questions import TextQuestion, attempt, show_info, show_warning
from ...controls.refresher import single_shot
from ...panels.forms import busy
from ...panels.session_scale import record_of_session
from ...panels.table_files import TABLE_TYPES
from .image_list import ImageList, selected_images

_MAX_NAMES = 5


class SelectedImagesMenu(QMenu):
    """A menu of what can be done with the selected images."""

    join_menu: QMenu

    def __init__(self, title: str, state: WindowState, images: ImageList) -> None:
        super().__init__(title, images)
        self._state, self._list = state, images
        self.setToolTipsVisible(True)
        self.aboutToShow.connect(self.update_actions)

    def update_actions(self) -> None:
        """Enable what is possible with the selected images."""
        raise NotImplementedError

    def selected(self) -> list[str]:
        """Return the names of the selected images, in order."""
        return selected_images(self._list)

    def _add(self, text: str, tooltip: str, slot: Callable[[], None]) -> QAction:
        action = self.addAction(text)
        action.setToolTip(tooltip)
        action.triggered.connect(slot)
        return action

    def _add_join(self, tooltip: str) -> QMenu:
        menu = QMenu("&Join with", self)
        self.addMenu(menu)
        menu.menuAction().setToolTip(tooltip)
        return menu

    def _list_others(self, names: list[str], possible: bool, join: Callable[..., None]) -> None:
        """List the groups that the selected images may join."""
        self.join_menu.setEnabled(possible and bool(names))
        self.join_menu.clear()
        for name in names:
            action = self.join_menu.addAction(name.replace("&", "&&"))
            action.triggered.connect(partial(self._join, join, self.selected(), name))

    def _join(self, join: Callable[..., None], images: list[str], name: str, *_: object) -> None:
        attempt(lambda: join(images, name))

    def _name_from_dialog(self, title: str, label: str, suggested: str) -> str:
        """Ask for a name; empty if cancelled."""
        name, wanted = QInputDialog.getText(self._list, title, label, text=suggested)
        return name.strip() if wanted else ""


class SampleMenu(SelectedImagesMenu):
    """Group the selected images into samples, whose ratios and atoms are compared."""

    def __init__(self, state: WindowState, images: ImageList) -> None:
        super().__init__("Sample", state, images)
        self.menuAction().setToolTip(
            "Images of a sample show the same material after the same treatment. Ratios and "
            "Dispersion compare samples. By default a sample is the folder of its images."
        )
        self.group_action = self._add(
            "&Group into a sample…", "Make the selected images one sample and name it.", self._group
        )
        self.join_menu = self._add_join("Add the selected images to another sample.")
        self.rename_action = self._add(
            "&Rename…", "Rename the sample of the selected images, for all of it.", self._rename
        )
        self.derive_action = self._add(
            "&By folder", "Let the selected images be of the sample of their folder.", self._derive
        )
        self.table_action = self._add(
            "From a &table…",
            "Read samples of all images from a table with the columns image and sample. Columns "
            "of numbers, such as time_h, give trends.",
            self._read_table,
        )

    def update_actions(self) -> None:
        """Enable what is possible with the selected images; list the other samples."""
        state, images = self._state, self.selected()
        sessions = state.sessions
        possible = bool(images) and not (state.read_only or state.blind)
        chosen = {sessions.sample_of(image).name for image in images}
        others = [s.name for s in sessions.samples() if chosen != {s.name}]
        self.group_action.setEnabled(possible)
        self.table_action.setEnabled(bool(state.images) and not (state.read_only or state.blind))
        self.rename_action.setEnabled(possible and len(chosen) == 1)
        self.derive_action.setEnabled(possible and any(sessions.get(i).sample for i in images))
        self._list_others(others, possible, sessions.group_sample)

    # ---- what the user does
    def _group(self) -> None:
        images, sessions = self.selected(), self._state.sessions
        suggested = sessions.free_name(sessions.sample_of(images[0]).name, of_samples=True)
        if name := self._name_from_dialog("Sample", "Name of the sample", suggested):
            attempt(lambda: sessions.group_sample(images, name))

    def _rename(self) -> None:
        sessions = self._state.sessions
        old = sessions.sample_of(self.selected()[0]).name
        name = self._name_from_dialog("Rename the sample", "Name of the sample", old)
        if name and name != old:
            attempt(lambda: sessions.rename_sample(old, name))

    def _read_table(self) -> None:
        chosen, _ = QFileDialog.getOpenFileName(self._list, "Table of samples", "", TABLE_TYPES)
        if chosen:
            attempt(lambda: self._use_table(Path(chosen)))

    def _use_table(self, path: Path) -> None:
        table = read_sample_table(path)
        images = self._state.sessions.set_samples(table)
        left = len(self._state.images) - len(images)
        others = f"; {pluralise(left, 'image')} not in the table" if left else ""
        text = f"{path.name}: samples of {pluralise(len(images), 'image')}{others}."
        unknown = [name for name in table if not match_images(name, self._state.images)]
        if not unknown:
            show_info(text)
            return
        names = f"{', '.join(unknown[:_MAX_NAMES])}{' …' * (len(unknown) > _MAX_NAMES)}"
        show_warning(f"{text} No image has the name of {pluralise(len(unknown), 'row')}: {names}.")

    def _derive(self) -> None:
        images = self.selected()
        attempt(lambda: self._state.sessions.derive_sample(images))


class ImageMenu(SelectedImagesMenu):
    """Group the selected images into sessions and samples, enter what is known, or remove them."""

    def __init__(self, state: WindowState, images: ImageList) -> None:
        super().__init__("Selected images", state, images)
        self.group_action = self._add(
            "&Group into a session…",
            "Make the selected images one session and name it. The images of a session were "
            "recorded alike (detector, gain, dose, focus), so an atom is about as bright in all.",
            self._group,
        )
        self.split_action = self._add(
            "&Split off", "Make the selected images a separate session.", self._split
        )
        self.join_menu = self._add_join("Add the selected images to another session.")
        self.derive_action = self._add(
            "&Derive from the files",
            "Group the selected images by folder, pixel size and instrument again.",
            self._derive,
        )
        self.addSeparator()
        self.known_action = self._add(
            "&Known sample…",
            "Enter which clusters the selected images contain, if you know it: one size, or "
            "several in a known ratio. This calibrates the intensity of an atom in the session.",
            self._enter_known,
        )
        self.keep_action = self._add(
            "&Use the known sample even if contradicted",
            "A known sample that its clusters contradict is not used for the intensity of one "
            "atom. Check this to use it nevertheless; the warning remains.",
            self._keep_known,
        )
        self.keep_action.setCheckable(True)
        self.pixel_size_action = self._add(
            "&Pixel size ±…",
            "Enter the error of the pixel size in per cent (default "
            f"{100 * PIXEL_SIZE_ERROR:g}). Images of one or two sizes rest on it: less after a "
            "calibration with a standard makes their labels more certain. It does not count "
            "where known samples, lone atoms or an earlier session tell the scale.",
            self._enter_pixel_size_error,
        )
        self.earlier_menu = self.addMenu("Same &instrument as")
        self.earlier_menu.setToolTipsVisible(True)
        self.earlier_menu.menuAction().setToolTip(
            "Use the intensity of one atom of an earlier session as a wide prior (15 %) for the "
            "session of the selected images, if detector, gain and dose were the same."
        )
        self.addSeparator()
        self.sample_menu = SampleMenu(state, images)
        self.addMenu(self.sample_menu)
        self.addSeparator()
        self.remove_action = self._add(
            "&Remove from the project",
            "List the selected images no more; they count in no result. Their files stay. Undo "
            "brings them back with all labels, and so does ⋯ ▸ Add images. Not while a task runs. "
            "Images outside the project, such as averages, go with their layers (layer list).",
            self._remove,
        )
        self._select_shown_afterwards()

    def _select_shown_afterwards(self) -> None:
        # Not at once: the chosen entry is for the images that are selected now.
        later = single_shot(self._list.select_shown, owner=self)
        self.aboutToHide.connect(later.start)
        self.aboutToShow.connect(later.stop)

    def update_actions(self) -> None:
        """Enable what is possible with the selected images; list the other sessions."""
        state, images = self._state, self.selected()
        possible = bool(images) and not (state.read_only or state.blind)
        self.sample_menu.menuAction().setEnabled(possible)
        saved = [i for i in images if state.project is not None and state.project.has(i)]
        self.remove_action.setEnabled(possible and bool(saved) and not busy(state))
        chosen = {state.sessions.session_of(image).name for image in images}
        entries = [state.sessions.get(image) for image in images]
        sessions = state.sessions.groups()
        others = [s.name for s in sessions if chosen != {s.name}]
        whole = any(set(session.images) == set(images) for session in sessions)
        self.group_action.setEnabled(possible)
        self.split_action.setEnabled(possible and not whole)
        self.derive_action.setEnabled(possible and any(entry.session for entry in entries))
        self.known_action.setEnabled(possible)
        self.pixel_size_action.setEnabled(possible)
        self.keep_action.setEnabled(possible and any(entry.known for entry in entries))
        self.keep_action.setChecked(any(entry.keep_known for entry in entries))
        self._list_others(others, possible, state.sessions.group)
        self._list_earlier(images, chosen)
        self.earlier_menu.setEnabled(possible)

    def _list_earlier(self, images: list[str], chosen: set[str]) -> None:
        """List the sessions whose scale is known."""
        self.earlier_menu.clear()
        for session in self._state.sessions.groups():
            known = record_of_session(self._state, session.images)
            if known and session.name not in chosen:
                earlier = scale_of_session(known, session.name)
                action = self.earlier_menu.addAction(session.name.replace("&", "&&"))
                action.triggered.connect(partial(self._set_earlier, images, earlier))
        action = self.earlier_menu.addAction("Run record or model card…")
        action.triggered.connect(partial(self._read_earlier, images))
        action = self.earlier_menu.addAction("No earlier session")
        action.triggered.connect(partial(self._set_earlier, images, None))
        action.setEnabled(any(self._state.sessions.get(image).earlier for image in images))

    # ---- what the user does
    def _set_earlier(self, images: list[str], earlier: EarlierScale | None, *_: object) -> None:
        attempt(lambda: self._state.sessions.set_earlier(images, earlier))

    def _read_earlier(self, images: list[str], *_: object) -> None:
        chosen = QFileDialog.getOpenFileName(
            self._list, "Record of an earlier run, or card of a model", "", "JSON (*.json)"
        )[0]
        if chosen:
            read = self._state.sessions.set_earlier
            attempt(lambda: read(images, read_earlier_scale(Path(chosen))))

    def _remove(self) -> None:
        attempt(lambda: self._state.remove_from_project(self.selected()))

    def _group(self) -> None:
        images, sessions = self.selected(), self._state.sessions
        suggested = sessions.free_name(sessions.session_of(images[0]).name)
        if name := self._name_from_dialog("Group into a session", "Name of the session", suggested):
            attempt(lambda: sessions.group(images, name))

    def _split(self) -> None:
        images, sessions = self.selected(), self._state.sessions
        name = sessions.free_name(sessions.session_of(images[0]).name)
        attempt(lambda: sessions.group(images, name))

    def _derive(self) -> None:
        images = self.selected()
        attempt(lambda: self._state.sessions.derive(images))

    def _enter_known(self) -> None:
        images, state = self.selected(), self._state
        known = state.sessions.get(images[0]).known
        question = TextQuestion(
            self._list,
            "Known sample",
            f"Clusters in the sample, by number: {KNOWN_EXAMPLE}.\nEmpty if it is not known.",
            format_composition(known) if known else "",
            partial(self._set_known, images),
        )
        question.exec()
        question.deleteLater()

    def _enter_pixel_size_error(self) -> None:
        images, sessions = self.selected(), self._state.sessions
        session = sessions.session_of(images[0])
        text = (
            "Error (standard deviation) of the pixel size of the session in per cent.\n"
            "It counts unless known samples that are used, lone atoms or an earlier session tell "
            "the scale."
        )
        percent, wanted = QInputDialog.getDouble(
            self._list,
            "Pixel size ±",
            text,
            100 * session.pixel_size_error,
            0.0,
            100 * MAX_PIXEL_SIZE_ERROR,
            1,
        )
        if wanted:
            attempt(lambda: sessions.set_pixel_size_error(images, percent / 100))

    def _keep_known(self) -> None:
        images, keep = self.selected(), self.keep_action.isChecked()
        attempt(lambda: self._state.sessions.keep_known(images, keep))

    def _set_known(self, images: list[str], text: str) -> None:
        """Set the composition in a text; `AtomicityError` if it is none of these classes."""
        composition = parse_composition(text) if text.strip() else {}
        classes = self._state.classes()
        if classes:
            check_classes(composition, classes)
        self._state.sessions.set_known(images, composition)
