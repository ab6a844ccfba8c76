"""The dock Train: from size-selected images, simulation or corrections to a model of one's own."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from napari.utils.notifications import show_error
from napari.viewer import Viewer
from qtpy.QtCore import QEvent, Qt, Signal
from qtpy.QtGui import QShowEvent
from qtpy.QtWidgets import (
    QComboBox,
    QFileDialog,
    QFormLayout,
    QHBoxLayout,
    QLabel,
    QLineEdit,
    QPushButton,
    QStackedWidget,
    QVBoxLayout,
    QWidget,
)

from ....core.cluster_table import corrected
from ....core.errors import AtomicityError
from ....core.model_card import ModelCard
from ....models.files import SHIPPED, shipped_folder, user_folder
from ....training.request import (
    CorrectedImagesSource,
    FolderSource,
    SimulationSource,
    Source,
    TrainRequest,
)
from ... import tasks
from ...controls.connections import follow, follow_soon
from ...controls.forms import folded, in_scroll_area, labelled, main_button, new_form
from ...controls.learning_curve import LearningCurve
from ...controls.settings_form import form_of
from ...panels.forms import TaskBar, busy
from ...viewer.binding import binding_of
from ...viewer.models import model_folder
from .tasks import count_images, free_path, summary, train_model

FOLDER, SIMULATION, CORRECTIONS = range(3)
_FILE_TYPE = "Model (*.safetensors)"


class Train(QWidget):
    """Where labelled clusters come from, where the model goes, and the button that trains it.

    Signals: ``learnt(history)`` after every epoch, from the worker.
    """

    learnt = Signal(list)

    def __init__(self, napari_viewer: Viewer, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.binding = binding_of(napari_viewer)
        self.state = self.binding.state
        self.card: ModelCard | None = None
        self._made = Path()
        self._n_corrected = 0
        self._classes_found: dict[str, int] = {}
        self._build()
        self.learnt.connect(self._on_epoch)
        follow(self, self.state.status_changed, self._enable)
        follow_soon(self, self.state.changed, slot=self._count_corrections)
        follow(self, model_folder.changed, self._fill_starts)
        self._count_corrections()
        self._enable()

    # ---- how it looks
    def _build(self) -> None:
        self.source = QComboBox()
        self.source.addItems(["Size-selected images", "Simulated classes", "Corrected labels"])
        self.pages = QStackedWidget()
        for page in (self._folder_page(), self._simulation_page(), self._corrections_page()):
            self.pages.addWidget(page)
        self.out = QLineEdit(str(free_path()))
        self.out_button = QPushButton("…")
        self.out_button.setToolTip("Choose the file.")
        self.out_button.setAccessibleName("Choose the file of the model")
        self.note = QLabel()
        self.note.setWordWrap(True)
        self.button = main_button("Train", self)
        self.task_bar = TaskBar(self.state)
        follow(self, self.state.status_changed, self.task_bar.show_status)
        self.task_bar.cancel_button.setToolTip(
            "Stop the training. You can continue it later from its last epoch."
        )
        self.curve = LearningCurve()
        self.result = QLabel()
        self.result.setWordWrap(True)
        self.result.setTextInteractionFlags(Qt.TextInteractionFlag.TextSelectableByMouse)
        self.result.setAccessibleName("Result of the training")

        form = self._source_form()
        self.settings = self._settings_page()

        content = QWidget()
        layout = QVBoxLayout(content)
        layout.addLayout(form)
        layout.addWidget(self.note)
        layout.addWidget(self.button)
        layout.addWidget(self.task_bar)
        layout.addWidget(self.curve)
        layout.addWidget(self.result)
        layout.addWidget(self.settings)
        layout.addStretch(1)
        in_scroll_area(content, self)

        self.curve.hide()
        self.result.hide()
        self.source.currentIndexChanged.connect(self._on_source)
        self.folder.editingFinished.connect(self._on_folder)
        self.folder_button.clicked.connect(self._choose_folder)
        self.classes.textChanged.connect(self._enable)
        self.out.textChanged.connect(self._enable)
        self.out_button.clicked.connect(self._choose_out)
        self.button.clicked.connect(self.run)

    def _source_form(self) -> QFormLayout:
        form = new_form()
        labelled(
            form,
            "Train on",
            self.source,
            "Images of size-selected deposits; simulated images of given classes; or the labels "
            "corrected in this window.",
        )
        form.addRow(self.pages)
        labelled(
            form,
            "Model",
            _with_button(self.out, self.out_button),
            "The .safetensors file to write. Default: a new one in your folder of models, from "
            "which the other docks list them.",
        )
        return form

    def _folder_page(self) -> QWidget:
        self.folder = QLineEdit()
        self.folder.setPlaceholderText("a folder with Pt19/, Pt30/, …")
        self.folder_button = QPushButton("…")
        self.folder_button.setToolTip("Choose the folder.")
        self.folder_button.setAccessibleName("Choose the folder of size-selected images")
        self.found = QLabel("A folder of images for each class, named after it: Pt19, Pt30, …")
        self.found.setWordWrap(True)
        form = new_form()
        labelled(
            form,
            "Folder",
            _with_button(self.folder, self.folder_button),
            "Holds a folder of images for each class. Clusters that are cut by the "
            "border, touch another or are outliers are left out.",
        )
        form.addRow(self.found)
        return _with_layout(form)

    def _simulation_page(self) -> QWidget:
        self.classes = QLineEdit("Au20, Au55, Au92")
        self.sizes = form_of(SimulationSource)
        labelled(
            self.sizes.form,
            "Classes",
            self.classes,
            "Separated by commas: a metal and a number of atoms each. Default: Au20, Au55, Au92.",
            row=0,
        )
        return self.sizes

    def _corrections_page(self) -> QWidget:
        self.counted = QLabel()
        self.counted.setWordWrap(True)
        form = new_form()
        form.addRow(self.counted)
        return _with_layout(form)

    def _settings_page(self) -> QWidget:
        self.channels = QComboBox()
        for words, names in (
            ("raw and LCN", ("raw", "LCN")),
            ("raw", ("raw",)),
            ("LCN", ("LCN",)),
        ):
            self.channels.addItem(words, names)
        self.start = QComboBox()
        self._fill_starts()
        self.form = form_of(TrainRequest, "epochs", "patience", "seed", "pixel_size_nm", "device")
        labelled(
            self.form.form,
            "Channels",
            self.channels,
            "Input channels of the network. Default: raw and LCN.",
            row=0,
        )
        labelled(
            self.form.form,
            "Start from",
            self.start,
            "Model whose convolutions are the starting point. Default: the shipped model, trained "
            "on simulated Pt. Training from scratch needs more time and images.",
            row=1,
        )
        return folded(self.form)

    def _fill_starts(self) -> None:
        chosen = self.start.currentData() if self.start.count() else None
        self.start.clear()
        self.start.addItem("the shipped model", "default")
        self.start.addItem("scratch", "scratch")
        for path in sorted(user_folder().glob("*.safetensors")):
            self.start.addItem(path.stem, str(path))
        self.start.setCurrentIndex(max(0, self.start.findData(chosen)))

    def showEvent(self, event: QShowEvent) -> None:  # noqa: N802
        super().showEvent(event)
        self._enable()

    def changeEvent(self, event: QEvent) -> None:  # noqa: N802
        super().changeEvent(event)
        if event.type() == QEvent.Type.FontChange:
            self.updateGeometry()

    # ---- what is chosen
    def _on_source(self, index: int) -> None:
        self.pages.setCurrentIndex(index)
        self._enable()

    def _choose_folder(self) -> None:
        chosen = QFileDialog.getExistingDirectory(self, "Size-selected images", self.folder.text())
        if chosen:
            self.folder.setText(chosen)
            self._on_folder()

    def _on_folder(self) -> None:
        """Say what is in the folder; on a slow disk that takes its time, so in a worker."""
        self._classes_found = {}
        self._enable()
        if not self.folder.text().strip():
            return
        tasks.start(
            self.state,
            count_images,
            self.folder.text().strip(),
            on_result=self._show_found,
            on_error=lambda error: self.found.setText(tasks.format_error(error)),
            key="train folder",
            owner=self,
        )

    def _show_found(self, found: dict[str, int]) -> None:
        self._classes_found = found
        self.found.setText(
            ", ".join(f"{name}: {n} image{'s' * (n != 1)}" for name, n in found.items())
        )
        self._enable()

    def _count_corrections(self, *_: object) -> None:
        table = corrected(self.state.table())
        self._n_corrected = len(table)
        counts = table["label_corrected"].value_counts()
        self.counted.setText(
            f"{len(table)} corrected clusters in {table['image'].nunique()} images: "
            + ", ".join(f"{n} {name}" for name, n in counts.items())
            if len(table)
            else "No cluster has a corrected class yet. Correct some of every class, in at least "
            "two images each."
        )
        self._enable()

    def _choose_out(self) -> None:
        chosen, _ = QFileDialog.getSaveFileName(self, "Model", self.out.text(), _FILE_TYPE)
        if chosen:
            self.out.setText(str(Path(chosen).with_suffix(".safetensors")))

    def _out_path(self) -> Path:
        """Return the file to write.

        Raises
        ------
        AtomicityError
            If it has no name, or that of a shipped model.
        """
        text = self.out.text().strip()
        if not text:
            raise AtomicityError("the model needs a file", advice="Enter one under Model")
        path = Path(text).expanduser()
        path = path if path.suffix == ".safetensors" else Path(f"{path}.safetensors")
        if path.stem in {*SHIPPED, *SHIPPED.values()} or path.parent == shipped_folder():
            raise AtomicityError(
                f"{path.stem!r} is the name of a shipped model", advice="Choose another name"
            )
        return path

    def _enable(self, *_: object) -> None:
        source = self.source.currentIndex()
        ready = {
            FOLDER: bool(self._classes_found),
            SIMULATION: bool(self.classes.text().strip()),
            CORRECTIONS: self._n_corrected > 0,
        }[source]
        self.button.setEnabled(ready and not busy(self.state))
        self.source.setEnabled(not busy(self.state))
        text = self.out.text().strip()
        path = Path(text).expanduser().with_suffix(".safetensors") if text else None
        # As in `training.TrainRequest.workspace`, without the seconds that torch takes to load.
        kept = path is not None and path.with_suffix(".training").is_dir()
        self.button.setText("Continue" if kept else "Train")
        self.button.setToolTip(
            "Continue the stopped training of this file, if the settings are unchanged."
            if kept
            else "Train a network, calibrate it and save it with its card."
        )
        elsewhere = path is not None and path.parent != user_folder()
        self.note.setText(
            f"The other docks list models from {user_folder()} only." if elsewhere else ""
        )
        self.note.setVisible(elsewhere)

    # ---- the button
    def learn(self) -> None:
        """Train on what a person has corrected."""
        self.source.setCurrentIndex(CORRECTIONS)
        if self.button.isEnabled():
            self.run()

    def run(self) -> None:
        """Train as it is set."""
        try:
            request = self._request()
        except AtomicityError as error:
            show_error(tasks.format_error(error))
            return
        self._made = request.out
        self.result.hide()
        self.curve.show_history([], request.epochs)
        self.curve.hide()
        task = tasks.start(
            self.state,
            train_model,
            request,
            self.learnt.emit,
            message="Training",
            on_result=self._done,
            key="train",
            owner=self,
        )
        task.finished.connect(self._enable)

    def _request(self) -> TrainRequest:
        return TrainRequest(
            source=self._source(),
            out=self._out_path(),
            channels=tuple(self.channels.currentData()),
            start=str(self.start.currentData()),
            **self.form.values(),
        )

    def _source(self) -> Source:
        """Return the source of the labelled clusters."""
        kind = self.source.currentIndex()
        if kind == FOLDER:
            return FolderSource(Path(self.folder.text().strip()))
        if kind == SIMULATION:
            names = tuple(x.strip() for x in self.classes.text().split(",") if x.strip())
            return SimulationSource(names, **self.sizes.values())
        # The current corrections: edits continue during the training.
        return CorrectedImagesSource(
            tuple(
                (self.state.micrograph(image), self.state.table(image))
                for image in self.state.images
                if len(corrected(self.state.table(image)))
            )
        )

    def _on_epoch(self, history: list[dict[str, float]]) -> None:
        self.curve.show_history(history, self.form.values()["epochs"])
        self.curve.show()

    def _done(self, card: ModelCard) -> None:
        self.card = card
        self.curve.show_history(card.training["history"], card.training["epochs"])
        self.curve.show()
        self.result.setText(summary(card))
        self.result.show()
        model_folder.changed.emit()
        self.binding.projects.keep_model(self._made)


def _with_button(field: QLineEdit, button: QPushButton) -> QWidget:
    """Combine a field and its button into one field of a form."""
    both = QWidget()
    row = QHBoxLayout(both)
    row.setContentsMargins(0, 0, 0, 0)
    row.addWidget(field, 1)
    row.addWidget(button)
    both.setFocusProxy(field)
    button.setMaximumWidth(int(3.5 * button.fontMetrics().averageCharWidth()) + 16)
    field.setAccessibleName(button.accessibleName())
    return both


def _with_layout(form: Any) -> QWidget:
    page = QWidget()
    page.setLayout(form)
    return page
