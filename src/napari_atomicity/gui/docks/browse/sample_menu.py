"""The menu of samples in the dock Browse."""

from __future__ import annotations

from functools import partial
from pathlib import Path

from napari.utils.notifications import show_info
from qtpy.QtWidgets import QFileDialog, QInputDialog, QListView, QMenu

from ....core.text import pluralise
from ....pipeline.acquisition_sessions import read_sample_table
from ....state.window_state import WindowState
from ...controls.questions import attempt
from ...panels.table_files import TABLE_TYPES
from .image_list import selected_images


class SampleMenu(QMenu):
    """Group the selected images into samples, whose ratios and atoms are compared."""

    def __init__(self, state: WindowState, images: QListView) -> None:
        super().__init__("Sample", images)
        self._state, self._list = state, images
        self.setToolTipsVisible(True)
        self.menuAction().setToolTip(
            "Images of a sample show the same material after the same treatment. Ratios and "
            "Dispersion compare samples. By default a sample is the folder of its images."
        )
        self.group_action = self.addAction("&Group into a sample…", self._group)
        self.group_action.setToolTip("Make the selected images one sample and name it.")
        self.join_menu = self.addMenu("&Join with")
        self.join_menu.menuAction().setToolTip("Add the selected images to another sample.")
        self.rename_action = self.addAction("&Rename…", self._rename)
        self.rename_action.setToolTip("Rename the sample of the selected images, for all of it.")
        self.derive_action = self.addAction("&By folder", self._derive)
        self.derive_action.setToolTip("Let the selected images be of the sample of their folder.")
        self.table_action = self.addAction("From a &table…", self._read_table)
        self.table_action.setToolTip(
            "Read samples of all images from a table with the columns image and sample. Columns "
            "of numbers, such as time_h, give trends."
        )
        self.aboutToShow.connect(self.update_actions)

    def update_actions(self) -> None:
        """Enable what is possible with the selected images; list the other samples."""
        state, images = self._state, selected_images(self._list)
        sessions = state.sessions
        possible = bool(images) and not (state.read_only or state.blind)
        chosen = {sessions.sample_of(image).name for image in images}
        others = [s.name for s in sessions.samples() if chosen != {s.name}]
        self.group_action.setEnabled(possible)
        self.table_action.setEnabled(bool(state.images) and not (state.read_only or state.blind))
        self.rename_action.setEnabled(possible and len(chosen) == 1)
        self.derive_action.setEnabled(possible and any(sessions.get(i).sample for i in images))
        self.join_menu.setEnabled(possible and bool(others))
        self.join_menu.clear()
        for name in others:
            action = self.join_menu.addAction(name.replace("&", "&&"))
            action.triggered.connect(partial(self._join, images, name))

    # ---- what the user does
    def _name_from_dialog(self, title: str, suggested: str) -> str:
        """Ask for the name of a sample; empty if cancelled."""
        name, wanted = QInputDialog.getText(self._list, title, "Name of the sample", text=suggested)
        return name.strip() if wanted else ""

    def _group(self) -> None:
        images, sessions = selected_images(self._list), self._state.sessions
        suggested = sessions.free_name(sessions.sample_of(images[0]).name, of_samples=True)
        if name := self._name_from_dialog("Group into a sample", suggested):
            attempt(lambda: sessions.group_sample(images, name))

    def _rename(self) -> None:
        sessions = self._state.sessions
        old = sessions.sample_of(selected_images(self._list)[0]).name
        if (name := self._name_from_dialog("Rename the sample", old)) and name != old:
            attempt(lambda: sessions.rename_sample(old, name))

    def _join(self, images: list[str], name: str, *_: object) -> None:
        attempt(lambda: self._state.sessions.group_sample(images, name))

    def _read_table(self) -> None:
        chosen, _ = QFileDialog.getOpenFileName(self._list, "Table of samples", "", TABLE_TYPES)
        if chosen:
            attempt(lambda: self._use_table(Path(chosen)))

    def _use_table(self, path: Path) -> None:
        images = self._state.sessions.set_samples(read_sample_table(path))
        left = len(self._state.images) - len(images)
        others = f"; {pluralise(left, 'image')} not in the table" if left else ""
        show_info(f"{path.name}: samples of {pluralise(len(images), 'image')}{others}.")

    def _derive(self) -> None:
        images = selected_images(self._list)
        attempt(lambda: self._state.sessions.derive_sample(images))
