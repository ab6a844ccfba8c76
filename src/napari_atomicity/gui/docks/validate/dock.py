"""The dock Validate: methods are compared on images of known classes."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from qtpy.QtCore import Qt
from qtpy.QtWidgets import (
    QCheckBox,
    QFormLayout,
    QHBoxLayout,
    QListWidget,
    QListWidgetItem,
    QPushButton,
    QWidget,
)

from ....core.errors import AtomicityError
from ....core.progress import Progress, Stop
from ....core.text import pluralise
from ....io.files import read_document
from ....validation.methods import METHODS
from ....validation.request import (
    CURVE,
    CURVE_RESULT,
    DATA,
    QUICK,
    RESULT,
    ExistingResultsError,
    ValidationRequest,
    count_finished_runs,
    quickened,
)
from ... import tasks
from ...controls.forms import (
    folded,
    labelled,
    main_button,
    new_form,
    wrapped_label,
)
from ...controls.questions import confirm
from ...controls.save_dialogs import PathField
from ...controls.settings_form import form_of
from ...panels.dock import Dock
from ...panels.forms import SizeSelectedFolder
from ...panels.table_files import TABLE_TYPES
from .results import ResultPanel, quick_warning, scores_of_curve, summarise_result


# ---- what the dock Validate runs in a worker, and the folder of its results
@dataclass(frozen=True)
class Wanted:
    """A validation that is asked for."""

    request: ValidationRequest
    out: Path
    simulate: bool = False
    quick: bool = False
    learning_curve: bool = False


@dataclass(frozen=True)
class Found:
    """What a folder of results has."""

    # content of ``validation.json``; None if the validation is not finished
    result: dict[str, Any] | None = None
    runs: int = 0
    # content of ``learning_curve.json``; None if there is no finished learning curve
    curve: dict[str, Any] | None = None
    curve_runs: int = 0


def compare_methods(
    wanted: Wanted,
    overwrite: bool,
    progress: Progress | None = None,
    stop: Stop | None = None,
) -> dict[str, Any] | None:
    """Simulate the data if wanted, and compare the methods or train on more and more images.

    Run in a worker.
    """
    from ....validation.learning_curve.run import measure_learning_curve
    from ....validation.run import validate
    from ....validation.simulated import simulated_request

    tasks.cap_torch_threads()
    request = quickened(wanted.request) if wanted.quick else wanted.request
    out = wanted.out / CURVE if wanted.learning_curve else wanted.out
    compute = measure_learning_curve if wanted.learning_curve else validate
    try:
        if wanted.simulate:
            request = simulated_request(
                request,
                out / DATA,
                quick=wanted.quick,
                learning_curve=wanted.learning_curve,
                overwrite=overwrite,
                progress=progress,
                stop=stop,
            )
        return compute(request, out, overwrite=overwrite, progress=progress, stop=stop)
    except ExistingResultsError:
        return None


def read_results(out: Path) -> Found:
    """Read what a folder of results has; run in a worker."""
    curve = out / CURVE
    return Found(
        _read_json(out / RESULT),
        count_finished_runs(out),
        _read_json(curve / CURVE_RESULT),
        count_finished_runs(curve),
    )


def _read_json(path: Path) -> dict[str, Any] | None:
    try:
        content: dict[str, Any] = json.loads(read_document(path))
    except (OSError, ValueError):
        return None
    return content


def suggested_folder(data: Path | None, simulate: bool) -> str:
    """Return a folder for the results: beside the data, or in the home folder."""
    if simulate:
        return str(Path.home() / "simulated-validation")
    return "" if data is None else str(data.with_name(f"{data.name}-validation"))


METHOD_ROWS = 6


class Validate(Dock):
    """Images of known classes, folder of results, and the buttons; then the scores."""

    follows = ()

    def build(self) -> None:
        self._wanted: Wanted | None = None
        self._is_refused = self._is_new = False
        self._problem = ""  # of the last run
        self._suggested = ""
        self.simulate = QCheckBox("Simulate the data")
        self.simulate.setToolTip(
            "Simulate images of five sizes of platinum clusters and mixtures of them, under two "
            "conditions, in place of images of your own. Default: no."
        )
        self.enable_when(self.simulate, None)
        self.add(self.simulate)
        self.content.addLayout(self._data_form())
        self.content.addLayout(self._buttons())
        self.note = self.add(wrapped_label("Finished runs", visible=False, lines=2))
        self.panel = self.add(ResultPanel("validation"))
        self.curve_panel = self.add(ResultPanel("learning curve"))
        self.settings = self.add(self._settings_page())
        self.simulate.toggled.connect(self._on_simulate)
        self.folder.counted.connect(self._on_data)
        self.out.chosen.connect(self._look)
        self._show_found(Found())

    def _data_form(self) -> QFormLayout:
        self.folder = SizeSelectedFolder(self.state)
        self.mixtures = PathField("Mixtures", "the folder of mixtures")
        self.shifted = PathField("New conditions", "the folder of mixtures under new conditions")
        self.deposits = PathField("Deposits", "the table of deposits", TABLE_TYPES)
        self.out = PathField("Results", "the folder of the results")
        self.out.setPlaceholderText("a folder next to the images")
        for field in (self.mixtures, self.shifted, self.deposits):
            field.setPlaceholderText("optional")
        self.form = new_form()
        for text, field, tooltip in (
            (
                "Size-selected",
                self.folder,
                "Folder with a folder of images for each class. Models are trained and tested on "
                "different images.",
            ),
            (
                "Mixtures",
                self.mixtures,
                "Folder of images of mixtures under the same conditions, with a table truth.csv of "
                "their clusters or with deposits. Default: none.",
            ),
            (
                "New conditions",
                self.shifted,
                "Folder of images of mixtures under new conditions, to which models are adapted; "
                "with truth.csv or deposits. Default: none.",
            ),
            (
                "Deposits",
                self.deposits,
                "Table of deposited amounts: sample (or image), class, fraction. Not needed if the "
                "mixtures have a table truth.csv. Default: none.",
            ),
            (
                "Results",
                self.out,
                "Folder for report, figures and tables. Default: a new folder next to the images.",
            ),
        ):
            labelled(self.form, text, field.with_button(), tooltip)
            if field is self.folder:
                self.form.addRow(self.folder.found)
        return self.form

    def _buttons(self) -> QHBoxLayout:
        """Return the button of the comparison and, beside it, that of the learning curve."""
        self.button, self.curve_button = main_button("Validate", self), QPushButton()
        row = QHBoxLayout()
        for button, run in ((self.button, self.run), (self.curve_button, self.run_curve)):
            button.clicked.connect(run)
            self.enable_when(button, self._is_ready)
            row.addWidget(button, 2 if button is self.button else 1)
        self.curve_button.setMinimumHeight(self.button.minimumHeight())
        return row

    def _settings_page(self) -> QWidget:
        self.quick = QCheckBox("Quick test")
        self.quick.setToolTip(
            "Run all steps in minutes: 2 parts, 1 seed, 2 epochs, and few simulated images. The "
            "scores mean nothing. Default: no."
        )
        self.quick.toggled.connect(self._on_quick)
        self.request_form = form_of(ValidationRequest, "seed", "pixel_size_nm", "device", *QUICK)
        self.methods = QListWidget()
        for name, method in METHODS.items():
            item = QListWidgetItem(method.title)
            item.setData(Qt.ItemDataRole.UserRole, name)
            item.setCheckState(Qt.CheckState.Checked)
            self.methods.addItem(item)
        self.methods.setFixedHeight(METHOD_ROWS * self.methods.sizeHintForRow(0) + 4)
        labelled(
            self.request_form.form,
            "Methods",
            self.methods,
            "Methods to compare. Others can be added later: finished runs are used again. "
            "Default: all.",
            row=0,
        )
        self.room = QWidget()
        self.room.setFixedHeight(0)
        return folded(self.quick, self.request_form, self.room)

    # ---- what is chosen
    def _on_simulate(self, simulate: bool) -> None:
        for row in range(self.form.rowCount() - 1):
            self.form.setRowVisible(row, not simulate)
        self._on_data()

    def _on_quick(self, quick: bool) -> None:
        """Show no values that a quick test does not use; their room stays, below the others."""
        shown = self.request_form
        height = shown.sizeHint().height()
        for name in QUICK:
            shown.form.setRowVisible(shown.controls[name], not quick)
        self.room.setFixedHeight(max(0, height - shown.sizeHint().height()))

    def _on_data(self) -> None:
        """Suggest a folder of results, unless another one is entered."""
        suggested = suggested_folder(self.folder.path, self.simulate.isChecked())
        if self.out.text() == self._suggested:
            self.out.choose(suggested)
        self._suggested = suggested
        self.update_enabled()

    def _is_ready(self) -> bool:
        return self.simulate.isChecked() or bool(self.folder.classes)

    def _look(self) -> None:
        """Show what is in the folder of results; a worker reads it, since disks may be slow."""
        self._show_found(Found())
        if self.out.path is not None:
            self.start(
                read_results, self.out.path, on_result=self._show_found, key="validate results"
            )

    def _show_found(self, found: Found) -> None:
        """Show results, or how many runs of a stopped validation are finished."""
        stopped = found.runs > 0 and found.result is None
        self.button.setText("Continue" if stopped else "Validate")
        self.button.setToolTip(
            "Continue the stopped validation, if data and settings are unchanged."
            if stopped
            else "Train and test all models, compare the methods, and write a report. If you "
            "cancel it, finished runs are kept and you can continue later."
        )
        curve_stopped = found.curve_runs > 0 and found.curve is None
        self.curve_button.setText("Continue learning curve" if curve_stopped else "Learning curve")
        self.curve_button.setToolTip(
            "Train on 1, 2, 4, 8 and 16 images of each class, and test on other size-selected "
            "images and the mixtures: it shows how many images are needed. New conditions are not "
            "used. If you cancel it, finished runs are kept and you can continue later."
        )
        runs = found.runs if stopped else found.curve_runs
        notes = [f"⚠ {self._problem}"] if self._problem else []
        if stopped or curve_stopped:
            notes.append(
                f"Stopped: {pluralise(runs, 'run')} finished and saved. Continue with the same "
                "data and settings to compute the others."
            )
        self.note.setText("\n".join(notes))
        self.note.setVisible(bool(notes))
        self._show_results(found)

    def _show_results(self, found: Found) -> None:
        out = self.out.path
        self.panel.setVisible(found.result is not None)
        if found.result is not None:
            self.panel.show_result(found.result, summarise_result(found.result), out)
        self.curve_panel.setVisible(found.curve is not None)
        if found.curve is not None:
            curve = found.curve
            text = "\n".join([*quick_warning(curve), *curve["sentences"], *curve["left_out"]])
            folder = None if out is None else out / CURVE
            self.curve_panel.show_result(scores_of_curve(found.curve), text, folder)
        if self._is_new and (found.result is not None or found.curve is not None):
            is_curve = self._wanted is not None and self._wanted.learning_curve
            self.scroll_to(self.curve_panel if is_curve else self.panel)
            self._is_new = False

    # ---- the buttons
    def run(self) -> None:
        """Compare the methods with these settings."""
        wanted = self.attempt(self._read_form)
        if wanted is not None:
            self._validate(wanted, overwrite=False)

    def run_curve(self) -> None:
        """Measure the learning curve with these settings."""
        wanted = self.attempt(self._read_form)
        if wanted is not None:
            self._validate(replace(wanted, learning_curve=True), overwrite=False)

    def _validate(self, wanted: Wanted, overwrite: bool) -> None:
        self._wanted, self._is_refused, self._problem = wanted, False, ""
        self.panel.hide()
        self.curve_panel.hide()
        self.note.hide()
        task = self.start(
            compare_methods,
            wanted,
            overwrite,
            message="Measuring the learning curve" if wanted.learning_curve else "Validating",
            on_result=self._done,
            on_error=self._show_error,
            key="validate",
            of_images=False,
        )
        task.finished.connect(self._on_finished)

    def _done(self, result: dict[str, Any] | None) -> None:
        self._is_refused = result is None
        self._is_new = result is not None

    def _show_error(self, error: BaseException) -> None:
        self._problem = tasks.format_error(error)

    def _on_finished(self) -> None:
        self._look()
        if self._is_refused and self._wanted is not None and self._replaces(self._wanted):
            self._validate(self._wanted, overwrite=True)

    def _replaces(self, wanted: Wanted) -> bool:
        folder = wanted.out / CURVE if wanted.learning_curve else wanted.out
        what = "measure the learning curve" if wanted.learning_curve else "validate"
        return confirm(
            self,
            "Discard these results?",
            f"{folder} has results of other settings or data. Discard them and {what} again? To "
            "keep them, choose another folder under Results.",
        )

    def _read_form(self) -> Wanted:
        """Return the data and settings.

        Raises `AtomicityError` if there is no folder for the results, or no method.
        """
        out, simulate = self.out.path, self.simulate.isChecked()
        if out is None:
            raise AtomicityError("the results need a folder", advice="Enter one under Results")
        own = (
            [None] * 3 if simulate else [self.mixtures.path, self.shifted.path, self.deposits.path]
        )
        request = ValidationRequest(
            self.folder.path or out,
            *own,
            methods=self._chosen_methods(),
            **self.request_form.values(),
        )
        return Wanted(request, out, simulate, self.quick.isChecked())

    def _chosen_methods(self) -> tuple[str, ...]:
        """Return the names of the methods; none if all are chosen, so that new ones count."""
        items = [self.methods.item(i) for i in range(self.methods.count())]
        checked = [i for i in items if i is not None and i.checkState() == Qt.CheckState.Checked]
        if not checked:
            raise AtomicityError("no method is chosen", advice="Choose some in Settings")
        names = tuple(str(item.data(Qt.ItemDataRole.UserRole)) for item in checked)
        return () if len(checked) == len(items) else names
