"""The dock Train: from size-selected images, simulation or corrections to a model of one's own."""

from __future__ import annotations

from collections.abc import Collection
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

from qtpy.QtCore import Signal
from qtpy.QtWidgets import (
    QFormLayout,
    QLineEdit,
    QStackedWidget,
    QWidget,
)

from ....core.errors import AtomicityError
from ....core.model_card import ModelCard
from ....core.progress import Progress, Stop, with_time_left
from ....core.tables.cluster_table import corrected, learnable
from ....core.text import pluralise
from ....models.files import SHIPPED, model_file, shipped_folder, user_folder
from ....reporting.plots.training import describe_training, draw_learning_curve
from ....training.request import (
    CorrectedImagesSource,
    FolderSource,
    SimulationSource,
    Source,
    TrainRequest,
)
from ....training.score_text import describe_accuracy, describe_comparisons, describe_gain
from ... import tasks
from ...controls.chart import Chart
from ...controls.forms import (
    ComboBox,
    folded,
    labelled,
    main_button,
    new_form,
    selectable_label,
    wrapped_label,
)
from ...controls.questions import confirm
from ...controls.refresher import follow
from ...controls.save_dialogs import PathField
from ...controls.settings_form import form_of
from ...panels.dock import Dock
from ...panels.forms import ModelCombo, SizeSelectedFolder
from ...viewer.models import ensure_new_in_project, model_folder, names_in_project


# ---- what the dock Train runs in a worker, and the summary of a new model
def train_model(
    request: TrainRequest,
    on_epoch: Any,
    progress: Progress | None = None,
    stop: Stop | None = None,
) -> ModelCard:
    """Train and write a model; run in a worker, where torch may take its seconds to load."""
    from ....training.run import train

    tasks.cap_torch_threads()
    return train(request, with_time_left(progress), stop, on_epoch)


def summary(card: ModelCard) -> str:
    """Summarise a new model: its accuracy, on which data, and what was left out."""
    which = "test" if "test" in card.scores else "held_out"
    scores, history = card.scores[which], card.training["history"]
    left_out = [f"{n} {reason}" for reason, n in card.data["left_out"].items() if n]
    lines = [
        f"{card.name}: {describe_accuracy(card)}",
        f"{100 * scores['off_by_one']:.1f} % are one class off; the mean error is "
        f"{scores['error_atoms']:.1f} atoms.",
        "Found: " + ", ".join(f"{c} {100 * r:.0f} %" for c, r in scores["recall"].items()) + ".",
        f"Ended after {len(history)} epochs; kept is number {card.training['epoch_kept']}.",
        f"Left out: {', '.join(left_out) or 'nothing'}.",
        describe_gain(card),
    ]
    return "\n".join(filter(None, lines))


_NAME = "trained-"


def free_path(taken: Collection[str] = ()) -> Path:
    """Return a new file name in the user's folder of models, which no model of a project has."""
    folder, i = user_folder(), 1
    while f"{_NAME}{i}" in taken or (folder / f"{_NAME}{i}.safetensors").exists():
        i += 1
    return folder / f"{_NAME}{i}.safetensors"


FOLDER, SIMULATION, CORRECTIONS = range(3)
_FILE_TYPE = "Model (*.safetensors)"


class Train(Dock):
    """Source of labelled clusters, file of the model, and the button that trains it.

    Signals: ``learnt(history)`` after every epoch, from the worker.
    """

    follows = ("changed",)
    learnt = Signal(list)

    def build(self) -> None:
        self.card: ModelCard | None = None
        self._made = Path()
        self._n_classes = 0  # of corrected clusters
        self.source = ComboBox()
        self.source.addItems(["Size-selected images", "Simulated classes", "Corrected labels"])
        self.enable_when(self.source, None)
        self.pages = QStackedWidget()
        for page in (self._folder_page(), self._simulation_page(), self._corrections_page()):
            self.pages.addWidget(page)
        self.out = PathField("Model", "the file of the model", _FILE_TYPE, new=True)
        self._suggest_path()
        self.content.addLayout(self._source_form())
        self.note = self.add(wrapped_label(visible=False, lines=2))
        self.button = self.add_button(
            main_button("Train", self), "", self.run, enabled_when=self._is_ready
        )
        self.curve = self.add(Chart(lines=10))
        self.curve.setAccessibleName("Learning curve")
        self.curve.setToolTip(
            "Loss of the network on training and on held-out images. The accuracy of the model is "
            "measured when it is complete."
        )
        self.curve.hide()
        self.result = self.add(selectable_label("Result of the training", lines=2))
        self.in_use = self.add(self._model_in_use())
        self._show_result(False)
        self.settings = self.add(self._settings_page())
        self.source.currentIndexChanged.connect(self._on_source)
        self.folder.counted.connect(self.update_enabled)
        self.classes.textChanged.connect(self.update_enabled)
        self.out.textChanged.connect(self._show_button)
        self.learnt.connect(self._show_curve)
        follow(self, model_folder.changed, self._fill_starts)

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
            self.out.with_button(),
            "The .safetensors file to write. Default: a new one in your folder of models, from "
            "which the other docks list them.",
        )
        return form

    def _folder_page(self) -> QWidget:
        self.folder = SizeSelectedFolder(self.state)
        form = new_form()
        labelled(
            form,
            "Folder",
            self.folder.with_button(),
            "Holds a folder of images for each class. Clusters that are cut by the "
            "border and outliers are left out.",
        )
        form.addRow(self.folder.found)
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
        self.counted = wrapped_label()
        form = new_form()
        form.addRow(self.counted)
        return _with_layout(form)

    def _settings_page(self) -> QWidget:
        self.channels = ComboBox()
        for words, names in (
            ("raw and LCN", ("raw", "LCN")),
            ("raw", ("raw",)),
            ("LCN", ("LCN",)),
        ):
            self.channels.addItem(words, names)
        self.start_from = ComboBox()
        self._fill_starts()
        self.form = form_of(
            TrainRequest, "scale", "epochs", "patience", "seed", "pixel_size_nm", "device"
        )
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
            self.start_from,
            "Model whose convolutions are the starting point. Default: the shipped model, trained "
            "on simulated Pt. Training from scratch needs more time and images.",
            row=1,
        )
        return folded(self.form)

    def _model_in_use(self) -> QWidget:
        """Return the choice between the new model and the one in use until now."""
        self.models = ModelCombo()
        form = new_form()
        labelled(
            form,
            "Analyse with",
            self.models,
            "Model of the next analysis, in all docks: the new one, or the one in use until now. "
            "Labels change when you analyse again.",
        )
        return _with_layout(form)

    def _show_result(self, shown: bool) -> None:
        self.result.setVisible(shown)
        self.in_use.setVisible(shown)

    def _fill_starts(self) -> None:
        chosen = self.start_from.currentData() if self.start_from.count() else None
        self.start_from.clear()
        self.start_from.addItem("the shipped model", "default")
        self.start_from.addItem("scratch", "scratch")
        for path in sorted(user_folder().glob("*.safetensors")):
            self.start_from.addItem(path.stem, str(path))
        self.start_from.setCurrentIndex(max(0, self.start_from.findData(chosen)))

    # ---- what is chosen
    def _on_source(self, index: int) -> None:
        self.pages.setCurrentIndex(index)
        self.update_enabled()

    def refresh(self) -> None:
        table = corrected(self.state.table())
        whole = learnable(table)
        counts = whole["label_corrected"].value_counts()
        self._n_classes = len(counts)
        text = (
            f"{pluralise(len(whole), 'corrected cluster')} in "
            f"{pluralise(whole['image'].nunique(), 'image')}: "
            + ", ".join(f"{n} {name}" for name, n in counts.items())
            if len(whole)
            else "No cluster has a corrected class yet. Correct some of every class, in at least "
            "two images each."
        )
        if n_left_out := len(table) - len(whole):
            where = "at the border, in excluded regions or not measured"
            text += f". {n_left_out} more {where} can't be learnt"
        self.counted.setText(text)
        self._show_button()

    def _entered_path(self) -> Path | None:
        """Return the file that is entered; None without one."""
        text = self.out.text().strip()
        if not text:
            return None
        path = Path(text).expanduser()
        return model_file(path)

    def _out_path(self) -> Path:
        """Return the file to write.

        Raises `AtomicityError` if it has no name, or that of a shipped model or of another one in
        the open project.
        """
        path = self._entered_path()
        if path is None:
            raise AtomicityError("the model needs a file", advice="Enter one under Model")
        if path.stem in {*SHIPPED, *SHIPPED.values()} or path.parent == shipped_folder():
            raise AtomicityError(
                f"{path.stem!r} is the name of a shipped model", advice="Choose another name"
            )
        if not path.exists():
            ensure_new_in_project(self.state, path.stem)
        return path

    def _suggest_path(self) -> None:
        """Enter a file that replaces nothing."""
        names: Collection[str] = ()
        with suppress(AtomicityError):  # training says it if the project can't be read
            names = names_in_project(self.state)
        self.out.setText(str(free_path(names)))

    def _is_ready(self) -> bool:
        return {
            FOLDER: bool(self.folder.classes),
            SIMULATION: bool(self.classes.text().strip()),
            CORRECTIONS: self._n_classes > 1,
        }[self.source.currentIndex()]

    def _show_button(self, *_: object) -> None:
        """Show whether a stopped training would be continued, and where the model is written."""
        path = self._entered_path()
        # As in `training.request.TrainRequest.workspace`.
        kept = path is not None and path.with_suffix(".training").is_dir()
        kept = kept and not tasks.running(self.state, "train")
        self.button.setText("Continue" if kept else "Train")
        self.button.setToolTip(
            "Continue the stopped training of this file. With other settings or images, another "
            "one begins, and the stopped one is kept until a model is complete."
            if kept
            else "Train a network, calibrate it and save it with its card. If you cancel the "
            "training, you can continue it later from its last epoch."
        )
        elsewhere = path is not None and path.parent != user_folder()
        self.note.setText(
            f"The other docks list models from {user_folder()} only." if elsewhere else ""
        )
        self.note.setVisible(elsewhere)

    # ---- the button
    def learn(self) -> None:
        """Train on the corrected clusters."""
        self.update_now()
        self.source.setCurrentIndex(CORRECTIONS)
        if self.button.isEnabled():
            self.run()

    def run(self) -> None:
        """Train with these settings."""
        request = self.attempt(self._request)
        if request is None or not self._may_write(request.out):
            return
        self._made = request.out
        self._show_result(False)
        self.curve.hide()
        task = self.start(
            train_model,
            request,
            self.learnt.emit,
            message="Training",
            on_result=self._done,
            key="train",
            of_images=False,
        )
        task.finished.connect(self._show_button)

    def _may_write(self, path: Path) -> bool:
        """Ask before a model is replaced, such as the one of the last training."""
        question = f"{path} exists already. Replace it by the new model?"
        return not path.exists() or confirm(self, "Replace the model?", question)

    def _request(self) -> TrainRequest:
        return TrainRequest(
            source=self._source(),
            out=self._out_path(),
            channels=tuple(self.channels.currentData()),
            start=str(self.start_from.currentData()),
            **self.form.values(),
        )

    def _source(self) -> Source:
        """Return the source of the labelled clusters."""
        kind = self.source.currentIndex()
        if kind == FOLDER:
            return FolderSource(self.folder.path or Path())
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

    def _show_curve(self, history: list[dict[str, float]]) -> None:
        draw = partial(draw_learning_curve, history=tuple(history))
        self.curve.show_chart(draw, describe_training(history))
        self.curve.setVisible(bool(history))

    def _done(self, card: ModelCard) -> None:
        self.card = card
        self._show_curve(card.training["history"])
        self.result.setText(summary(card))
        self.result.setToolTip(describe_comparisons(card))
        self._show_result(True)
        model_folder.changed.emit()
        self.binding.projects.models.keep(self._made)
        if self._made.parent == user_folder() and self._made.stem.startswith(_NAME):
            self._suggest_path()


def _with_layout(form: Any) -> QWidget:
    page = QWidget()
    page.setLayout(form)
    return page
