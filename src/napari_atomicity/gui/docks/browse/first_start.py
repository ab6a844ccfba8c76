"""What Browse shows while there is no image: the ways to begin."""

from __future__ import annotations

from collections.abc import Callable

from qtpy.QtWidgets import QFileDialog, QLabel, QPushButton, QVBoxLayout, QWidget

from ....io.images import suffixes
from ...controls.forms import in_scroll_area, main_button, wrapped_label
from ...panels.dock_windows import DISTRIBUTION, open_docks, show_dock
from ...panels.forms import busy
from ...panels.panel import Panel
from ...viewer.binding import Binding

FOLDER = "Its images become a project, which saves results and labels."
IMAGE = "A micrograph or a stack of frames."
EXAMPLE = "Opens a simulated image of platinum and analyses it."


class FirstStart(Panel):
    """Buttons to open an image and to try the example, below Browse's *Open folder…*."""

    def __init__(self, binding: Binding) -> None:
        super().__init__(binding)
        content = QWidget()
        self.content = QVBoxLayout(content)
        self.content.setContentsMargins(0, 0, 0, 0)
        self._add_line(FOLDER)
        self.image_button = self._add_button("Open image…", IMAGE, self.choose_image)
        self.example_button = self._add_button("Try the example", EXAMPLE, self.try_example)
        self.content.addStretch(1)
        in_scroll_area(content, self)  # the dock may be low

    def _add_line(self, text: str) -> QLabel:
        line = wrapped_label()
        line.setText(text)
        self.content.addWidget(line)
        self.content.addSpacing(self.fontMetrics().height() // 2)
        return line

    def _add_button(self, text: str, line: str, run: Callable[[], object]) -> QPushButton:
        button = main_button(text, self)
        button.setToolTip(line)
        button.setAccessibleDescription(line)
        button.clicked.connect(run)
        self.content.addWidget(button)
        self._add_line(line).setBuddy(button)
        return button

    def show_status(self) -> None:
        for button in (self.image_button, self.example_button):
            button.setEnabled(not busy(self.state))

    @property
    def wanted(self) -> bool:
        """Whether there is neither a project nor an image, in a layer or in the state."""
        state = self.state
        return state.project is None and not state.images and not self.binding.image_layers()

    def choose_image(self) -> None:
        """Ask for an image and open it in this viewer."""
        patterns = " ".join(f"*{suffix}" for suffix in suffixes())
        file, _ = QFileDialog.getOpenFileName(self, "Open an image", "", f"Images ({patterns})")
        if file:
            self.attempt(lambda: self.binding.viewer.open(file, plugin=DISTRIBUTION))

    def try_example(self) -> None:
        """Open a bundled image and analyse it: atoms where only the dock Atoms is open."""
        viewer = self.binding.viewer
        shown = {name for name, dock in open_docks(viewer).items() if not dock.isHidden()}
        sample, dock = "example", "Analyse"
        if "Atoms" in shown and "Analyse" not in shown:
            sample, dock = "single_atoms", "Atoms"
        viewer.open_sample(DISTRIBUTION, sample)
        show_dock(viewer, dock).run()
