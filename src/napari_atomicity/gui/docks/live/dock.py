"""The dock Live: a folder is watched, each image analysed as the microscope writes it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from functools import cache, partial
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from qtpy.QtWidgets import (
    QApplication,
    QCheckBox,
    QFileDialog,
    QHBoxLayout,
    QLineEdit,
    QPushButton,
    QToolButton,
    QWidget,
)

from ....core.acquisition_session import format_known
from ....core.errors import ReadError
from ....core.micrograph import count_copies
from ....core.text import pluralise
from ....io.provenance import images_of_other_folders
from ....pipeline.live.control_chart import FIRST, MIN_FIRST, SESSION_CHANGED
from ....pipeline.run_request import RunRequest
from ....project import project_file
from ....reporting.plots.base import Look, draw_line, stack_panels
from ... import tasks
from ...controls.chart import Chart
from ...controls.forms import (
    folded,
    labelled,
    main_button,
    new_form,
    new_row,
    spin_box,
    wrapped_label,
)
from ...controls.questions import choose_answer, show_error, show_warning
from ...controls.refresher import follow
from ...controls.settings import remember
from ...controls.settings_form import form_of
from ...panels.dock import Dock
from ...panels.forms import add_model_row, read_limits_form
from .watching import FailedFile, LiveHistory, TakingIn, Watching, last_finite

if TYPE_CHECKING:  # with it comes torch, which takes seconds
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from ....io.provenance import Outcome
    from ....pipeline.live.live import LiveRun, LiveUpdate as Taken
    from ....pipeline.live.watch import Watch
    from ....pipeline.live.watched_images import KnownPixelSize


# ---- control chart of a live session: class ratios, confidence and conditions against the images

# Of Okabe and Ito, distinct for people with colour-vision deficiency; so are the line styles.
_CONFIDENCE, _UNKNOWN, _DRIFT, _CHANGE = "#56b4e9", "#d55e00", "#cc79a7", "#e69f00"


def describe_session(history: LiveHistory) -> str:
    """Describe the last values of a live session."""
    parts = [
        f"{name} {100 * share:.0f} %"
        for name in history.classes
        if math.isfinite(share := last_finite(history.values(f"fraction_{name}")))
    ]
    return (
        f"{history.n_images} images; ratios now: {', '.join(parts) or 'none'}; change of the "
        f"session now {last_finite(history.change()):.2f} of its limit, drift from the "
        f"training {last_finite(history.drift()):.2f}"
    )


def draw_control_chart(
    figure: Figure, look: Look, history: LiveHistory, with_known: bool = False
) -> None:
    """Draw running ratios with intervals, confidence, and conditions in units of their limits.

    The ratios are those of all images, ``with_known`` also of known samples, which is then said.

    Images with an alarm are marked.
    """
    look = replace(look, classes=history.classes)
    names = [*history.classes, ""]
    right = 2.8 + 0.6 * max(map(len, names))
    ratios, confidence, drift = stack_panels(figure, look, (2, 1, 1), right, 2.2)
    x = np.arange(len(history.rows)) + 0.5
    _draw_ratios(ratios, look, history, x)
    if with_known:
        ratios.set_title("Running ratios of all images and known samples, 95 %")
    confidence.set_title("Mean confidence; of no class (dashed)")
    confidence.set(ylim=(0, 1), yticks=(0, 1), yticklabels=("0 %", "100 %"))
    draw_line(confidence, look, x, history.values("mean_confidence"), _CONFIDENCE)
    draw_line(confidence, look, x, np.array(history.values("ood_share")), _UNKNOWN, linestyle="--")
    _draw_drift(drift, look, history, x)
    alarms = "▲ alarm; " if any(history.alarms) else ""
    drift.set(xlim=(0, len(x)), xticks=(), xlabel=alarms + pluralise(history.n_images, "image"))


def _draw_ratios(axes: Axes, look: Look, history: LiveHistory, x: np.ndarray) -> None:
    values = {
        name: [history.values(f"{of}_{name}") for of in ("fraction", "low", "high")]
        for name in history.classes
    }
    highest = max((h for _, _, high in values.values() for h in high[np.isfinite(high)]), default=1)
    top = min(1.0, math.ceil(10 * highest) / 10)
    axes.set_title("Running ratios of all images, 95 %")
    axes.set(ylim=(0, top), yticks=(0, top), yticklabels=("0 %", f"{100 * top:.0f} %"))
    # The legend has the order of the lines at their ends.
    for name in sorted(values, key=lambda name: -np.nan_to_num(last_finite(values[name][0]))):
        share, low, high = values[name]
        # Images that came while others waited have no ratios of their own.
        known = np.isfinite(low) & np.isfinite(high)
        band = {"color": look.colour(name), "alpha": 0.2}
        axes.fill_between(x[known], low[known], high[known], linewidth=0, **band)
        axes.vlines(x[known][-1:], low[known][-1:], high[known][-1:], **band)
        draw_line(axes, look, x, share, look.colour(name), label=name)
    if values:
        axes.legend(loc="center left", bbox_to_anchor=(1, 0.5), handlelength=0.8)


def _draw_drift(axes: Axes, look: Look, history: LiveHistory, x: np.ndarray) -> None:
    change, drift = history.change(), history.drift()
    both = np.concatenate([change, drift])
    top = max(1.5, 1.1 * float(both[np.isfinite(both)].max(initial=1.0)))
    axes.set_title("Change; drift dashed, limits dotted")
    axes.set(ylim=(0, top), yticks=(0, top), yticklabels=("0", f"{top:.2g}"))
    axes.axhline(1.0, color=look.ink, alpha=0.8, linewidth=0.8, linestyle=":")
    draw_line(axes, look, x, drift, _DRIFT, linestyle="--")
    draw_line(axes, look, x, change, _CHANGE)
    alarm = np.array([bool(text) for text in history.alarms])
    axes.plot(
        x[alarm], np.zeros(alarm.sum()), "^", color=_UNKNOWN, markersize=6, clip_on=False, zorder=5
    )


RESULTS = "atomicity-live"
"""Default name of the folder of results, within the watched folder."""
_MAX_FAILURES = 20
_OPEN_PROJECT = " To show the next ones, open the watched folder in Browse."


class Live(Dock):
    """One button: watch; what came last, how sure the model is, and whether conditions drift."""

    follows = ("project_changed",)

    def build(self) -> None:
        self.watching: Watching | None = None
        self.history = LiveHistory()
        self._n_reference = FIRST
        self._with_known = False
        self._failed: dict[str, str] = {}
        self._alarmed, self._alarms = "", list[str]()
        self._engine = ("default", "auto")
        self._pixel_sizes: dict[Path, tuple[float, str | None]] = {}
        follow(self, self.state.pixel_sizes.changed, self._remember_pixel_sizes)
        follow(self, self.state.project_changed, self._remember_pixel_sizes)
        self.content.addLayout(self._folder_row())
        form = new_form()
        self.models = add_model_row(form)
        self.content.addLayout(form)
        self.button = self.add(main_button("Watch", self))
        self.button.clicked.connect(self.toggle)
        self.show_images = self.add(
            QCheckBox("Show each new image"),
            "Show the newest image on the canvas, with its labels, unless you are marking, drawing "
            "or reviewing. If off, new images only enter the project. Default: on.",
        )
        self.show_images.setChecked(True)
        remember("live/show", self.show_images)
        self.by_session = self.add(
            QCheckBox("Label images with their session"),
            "Label each new image with the intensity of one atom in its session so far, and all "
            "images again at the end. If off, each image is labelled by itself. "
            "Default: on.",
        )
        self.by_session.setChecked(True)
        remember("live/session", self.by_session)
        self.settings = self.add(self._settings_form())
        self.alarm = self.add(wrapped_label("Alarm", plain=True, bold=True, visible=False))
        self.accept_button = self.add(
            QPushButton("Accept these conditions"),
            "The change was intended: compare later images with those recorded since then.",
        )
        self.accept_button.clicked.connect(self.accept)
        self.status_label = self.add(wrapped_label("Images received", plain=True))
        self.left_out = self.add(wrapped_label("Images not in the window", visible=False))
        self.strip = self.add(
            Chart(lines=27),
            "Change: difference of the conditions from those of the first images of the session. "
            "Drift: difference from the training of the model. Both in units of their limits.",
        )
        self.strip.setAccessibleName("Figures of the live session by image")
        self.failures = self.add(wrapped_label("Images that failed", plain=True, visible=False))
        self.accept_button.hide()
        self.strip.hide()
        self.images = TakingIn(self.binding, self.show_images.isChecked, self)
        self.images.left_out.connect(self._say_what_is_left_out)
        self.binding.projects.add_closing_note(self._closing_note)
        application = QApplication.instance()
        if application is not None:
            application.aboutToQuit.connect(self._leave)

    def _folder_row(self) -> QHBoxLayout:
        self._default_folder = ""
        self.folder = QLineEdit()
        self.folder.setPlaceholderText("Folder that the microscope writes to")
        self.folder.setAccessibleName("Folder to watch")
        self.folder.setToolTip(
            "Existing and new images in this folder and its subfolders are analysed. "
            "Default: the folder of the open project."
        )
        self.folder.textChanged.connect(self.update_enabled)
        self.choose = QToolButton()
        self.choose.setText("…")
        self.choose.setToolTip("Choose the folder")
        self.choose.setAccessibleName("Choose the folder")
        self.choose.clicked.connect(self._choose_folder)
        return new_row((self.folder, 1), self.choose)

    def _settings_form(self) -> QWidget:
        self.results = QLineEdit()
        self.results.setPlaceholderText(f"{RESULTS}, in the folder")
        self.reference = spin_box(0, 1000, FIRST, 0, " images")
        self.reference.setSpecialValueText("none: no such alarm")
        self.reference.editingFinished.connect(self._raise_reference)
        remember("live/reference", self.reference)
        form = new_form()
        labelled(
            form, "Results", self.results,
            "Folder for live.csv, the tables and the report. A run that is continued in the same "
            f"folder keeps its results. Default: {RESULTS} in the watched folder.",
        )  # fmt: skip
        labelled(
            form, "Reference", self.reference,
            "Number of images at the start of the session that define its conditions. An alarm "
            f"reports a later change that exceeds chance. At least {MIN_FIRST}, or 0 for no such "
            f"alarm. Default: {FIRST}.",
        )  # fmt: skip
        self.form = form_of(RunRequest, "pixel_size_nm", "device", "detection")
        return folded(form, self.form, read_limits_form())

    def update_enabled(self, *_: object) -> None:
        """Enable what makes sense while a folder is watched or not, whatever else runs."""
        watching = self.watching
        self.button.setText("Watch" if watching is None else "Stop watching")
        ready = bool(self.folder.text().strip())
        self.button.setEnabled(ready if watching is None else not watching.stopping)
        self.button.setToolTip(
            "Analyse every image of the folder, and each new one as soon as it is complete."
            if watching is None
            else "Stop watching and write tables and report. You can continue later."
        )
        for widget in (self.folder, self.choose, self.models, self.settings, self.by_session):
            widget.setEnabled(watching is None)

    def refresh(self) -> None:
        self._say_what_is_left_out()
        self._show_results()
        project = self.state.project
        is_default = self.folder.text() in ("", self._default_folder)
        if project is not None and is_default and self.watching is None:
            folder = project.path.parent
            paths = [self.state.micrograph(image).path for image in self.state.images[:1]]
            for path in paths:
                # The project of a folder that cannot be written to lies elsewhere.
                if path is not None and not path.is_relative_to(folder):
                    folder = path.parent
            self._default_folder = str(folder)
            self.folder.setText(self._default_folder)

    def _choose_folder(self) -> None:
        folder = QFileDialog.getExistingDirectory(self, "Folder that the microscope writes to")
        if folder:
            self.folder.setText(folder)

    # ---- the button
    def toggle(self) -> None:
        """Watch, or stop watching."""
        if self.watching is not None:
            self.watching.stop()
            self.status_label.setText("Stopping: writing tables and report …")
            self.update_enabled()
            return
        entered = self.attempt(self.form.settings)
        if entered is None:
            return
        session = "auto" if self.by_session.isChecked() else "none"
        request = replace(entered, model=self.models.model, umap=False, session=session)
        folder = Path(self.folder.text().strip()).expanduser()
        out = Path(self.results.text().strip() or RESULTS).expanduser()
        self._raise_reference()
        reference = round(self.reference.value())
        if not folder.is_dir():
            show_error(str(ReadError("there is no such folder", folder, "Check the path")))
            return
        out = out if out.is_absolute() else folder / out
        if _has_other_results(out, folder) or not self._choose_project(folder):
            return
        watch = partial(self._watch, folder, out, request, reference)
        if self.state.project is None and not self.state.images and project_file(folder).exists():
            # It may have pixel sizes that a person has entered.
            task = self.binding.projects.open(folder)
            if task is not None:
                self.button.setEnabled(False)
                task.finished.connect(watch)
                return
        watch()

    def _raise_reference(self) -> None:
        """Raise a number of images from which no reference can be made."""
        if 0 < self.reference.value() < MIN_FIRST:
            self.reference.setValue(MIN_FIRST)

    def _choose_project(self, folder: Path) -> bool:
        """Ask for the project of the images if one of another folder is open; False to cancel."""
        project, answer = self.state.project, ""
        if project is not None and self.images.is_of_another_folder(folder):
            answer = choose_answer(
                self,
                "Where to put new images?",
                f"The open project {project.path.stem} is that of another folder. Close it and put "
                f"the images into the project of {folder.name}, or add them to "
                f"{project.path.stem}?{self._format_lost_clusters()}",
                {"own": f"Project of {folder.name}", "open": f"Add to {project.path.stem}"},
            )
            if not answer or (answer == "own" and not self.binding.projects.leave()):
                return False
        accepted = project.path if project is not None and answer == "open" else None
        self.images.begin(folder, accepted)
        return True

    def _format_lost_clusters(self) -> str:
        """Say which clusters closing the project loses, as those of an averaged movie."""
        project, state = self.state.project, self.state
        lost = [i for i in state.images if not project.has(i) and state.analysis(i) is not None]
        if not lost:
            return ""
        names = ", ".join(lost)
        return f"\n\nClosing it loses the clusters of {names}, which are in memory only."

    def _watch(self, folder: Path, out: Path, request: RunRequest, reference_images: int) -> None:
        """Watch a folder, and show the results of an earlier session in ``out``."""
        self.history = LiveHistory()
        self._n_reference = reference_images
        self._failed.clear()
        self._remember_pixel_sizes()
        request = self._with_known_samples(request, folder)
        self._with_known = bool(request.known)
        for widget in (self.failures, self.alarm, self.accept_button, self.left_out):
            widget.hide()
        self._draw()
        known = self._known_pixel_size
        watching = Watching(partial(_make_watch, folder, out, request, reference_images, known))
        watching.earlier.connect(self._on_earlier)
        watching.taken.connect(self._on_taken)
        watching.said.connect(self._say)
        watching.ended.connect(self._on_ended)
        self.destroyed.connect(watching.stop)  # with the window
        self.watching = watching
        self._engine = (request.model, request.device)
        self._say("Waiting for images …")
        watching.start()
        self.update_enabled()

    def _remember_pixel_sizes(self) -> None:
        """Remember the pixel sizes of the images of the window by their files."""
        micrographs = [self.state.micrograph(image) for image in self.state.images]
        resolved = cache(Path.resolve)  # many images, few folders
        self._pixel_sizes = {
            resolved(m.path.parent) / m.path.name: (m.pixel_size_nm, m.sha256)
            for m in micrographs
            if m.path is not None and m.pixel_size_nm is not None
        }

    def _with_known_samples(self, request: RunRequest, folder: Path) -> RunRequest:
        """Add the known samples that the project has of images in a folder."""
        samples, keep = [], request.keep_known
        for image in self.state.images:
            path, session = self.state.micrograph(image).path, self.state.sessions.get(image)
            if path is not None and session.known and path.is_relative_to(folder):
                samples.append(format_known(path.relative_to(folder).as_posix(), session.known))
                keep |= session.keep_known
        return replace(request, known=(*request.known, *samples), keep_known=keep)

    def _known_pixel_size(self, path: Path) -> tuple[float, str | None] | None:
        """Return the pixel size of a file in the window and the hash of the file, in any thread."""
        return self._pixel_sizes.get(path.parent.resolve() / path.name)

    def accept(self) -> None:
        """Accept the present conditions as the reference."""
        if self.watching is not None:
            self.watching.accept()
        self.accept_button.hide()
        # Whether the model fits is another question, and stays asked.
        self._show_alarms(self._alarmed, [a for a in self._alarms if a != SESSION_CHANGED])

    def _closing_note(self) -> str:
        if self.watching is None:
            return ""
        return (
            f"{self.folder.text()} is still watched. The tables and the report of all its images "
            "are written by Stop watching, also if the folder is watched again another time."
        )

    def _leave(self) -> None:
        """Finish writing before the program ends."""
        if self.watching is not None:
            self.watching.stop()
            self.watching.wait()

    # ---- what comes
    def _say(self, words: str) -> None:
        self.status_label.setText(words)

    def _on_earlier(self, history: LiveHistory) -> None:
        self.history = history
        self._draw()

    def _on_taken(self, live: Taken) -> None:
        outcome = live.outcome
        waits = f", {live.waiting} waiting" if live.waiting else ""
        if outcome.status == "failed":
            self._failed[outcome.image] = outcome.error or ""
            self._show_failures()
            self._say(f"{outcome.image} could not be analysed{waits}.")
            if live.ratios is not None:
                self.history.set_ratios(live.ratios)
                self._draw()
            self.images.add(FailedFile(Path(outcome.path), outcome.error or ""), *self._engine)
            return
        if self._failed.pop(outcome.image, None) is not None:  # complete by now
            self._show_failures()
        if live.row is not None:
            self.history.add(live.row)
            self._draw()
        after = f" {live.latency_s:.1f} s after it was written" if _soon(live.latency_s) else ""
        count = "" if outcome.clusters is None else f": {pluralise(outcome.clusters, 'cluster')}"
        count = "" if self.state.blind else count
        what = live.copy_note or f"{outcome.image}{count}{after}"
        self._say(f"{what}{waits}{self._gathering(live)}")
        self._show_alarm(live)
        if live.analysis is not None:
            self.images.add(live.analysis, *self._engine)

    def _show_failures(self) -> None:
        """Show which files failed and why; they stay shown after the end."""
        n = len(self._failed)
        lines = [
            f"{name}: {error.removeprefix(f'{Path(name).name}: ')}"
            for name, error in islice(self._failed.items(), _MAX_FAILURES)
        ]
        if n > len(lines):
            lines.append(f"and {n - len(lines)} more: see failures.csv")
        when = "it is tried when it" if n == 1 else "each is tried when it"
        text = f"{pluralise(n, 'file')} could not be analysed; {when} changes or you watch again:"
        self.failures.setText("\n".join([text, *lines]))
        self.failures.setVisible(n > 0)

    def _gathering(self, live: Taken) -> str:
        """How far the reference of the session has come."""
        n = self._n_reference if live.row is None else live.row["reference_images"]
        first = self._n_reference
        return f". Reference of the conditions: {n} of {first} images" if n < first else ""

    def _say_what_is_left_out(self) -> None:
        n, copies, state = self.images.n_left_out, self.images.n_copies, self.state
        texts = []
        if n:
            advice = "" if state.read_only else _OPEN_PROJECT
            if state.blind:
                advice = " They are added to Browse when blind mode ends, to be analysed there."
            texts.append(
                f"{pluralise(n, 'image')} not shown in the window: {self.images.why_not}. All "
                f"results are in the folder of results.{advice}"
            )
        if copies:
            has = pluralise(copies, "file has", "files have")
            texts.append(f"{has} the content of other images of the project: not added to it.")
        self.left_out.setText(" ".join(texts))
        self.left_out.setVisible(bool(texts))

    def _show_alarm(self, live: Taken) -> None:
        if live.conditions is None:
            return
        self._show_alarms(live.outcome.image, live.conditions.alarms)
        self.accept_button.setVisible(SESSION_CHANGED in self._alarms and not self.state.blind)
        if live.alarm and not self.state.blind:  # said once, not with every image
            show_warning(f"{live.outcome.image}: {live.alarm}")

    def _show_alarms(self, image: str, alarms: Sequence[str]) -> None:
        self._alarmed, self._alarms = image, list(alarms)
        self.alarm.setVisible(bool(alarms) and not self.state.blind)
        if alarms:
            advice = (
                "Check focus, dose and position. If the change was intended or the sample differs, "
                "and the confidence is high, accept it."
                if self._alarms == [SESSION_CHANGED]
                else "Do not rely on ratios before the model is adapted (dock Adapt)."
            )
            self.alarm.setText(f"▲ {image}: {'; '.join(alarms)}. {advice}")

    def _show_results(self) -> None:
        """Show what the model has found, unless blind mode hides it."""
        if self.state.blind and self.watching is not None:
            self._say("Watching: blind mode hides what is found.")
        self._show_alarms(self._alarmed, self._alarms)
        self._draw()

    def _draw(self) -> None:
        shown = bool(self.history.rows) and not self.state.blind
        self.strip.setVisible(shown)
        if shown:
            self.strip.show_chart(
                partial(draw_control_chart, history=self.history, with_known=self._with_known),
                describe_session(self.history),
            )

    def _on_ended(self, outcome: LiveRun | Exception) -> None:
        self.watching = None
        self.accept_button.hide()
        if isinstance(outcome, Exception):
            words = tasks.format_error(outcome)
            self._say(words)
            show_error(words)
        else:
            n = outcome.analysed
            left = pluralise(outcome.waiting, "file")
            waits = f" {left} left for the next session." if outcome.waiting else ""
            text = f"Stopped: {pluralise(n, 'image')} analysed."
            if self._failed:
                n = len(self._failed)
                names = ", ".join(islice(self._failed, _MAX_FAILURES))
                text += f" {pluralise(n, 'file')} failed: {names}{' …' * (n > _MAX_FAILURES)}."
            self.images.end(self.by_session.isChecked())
            if outcome.files:
                text += f" Results in {outcome.files[0].parent}.{_format_copies(outcome.outcomes)}"
                text += _format_end(self.images.n_to_analyse)
            self._say(f"{text}{waits}")
        self.update_enabled()


def _has_other_results(out: Path, folder: Path) -> bool:
    """Return whether a folder of results has those of images elsewhere; if so, say it."""
    if lost := images_of_other_folders(out, folder):
        show_error(
            f"{out}: this folder has results of other images, such as {lost[0]}, which would be "
            "replaced. Choose another folder under Settings ▸ Results."
        )
    return bool(lost)


def _make_watch(
    folder: Path,
    out: Path,
    request: RunRequest,
    reference: int,
    known: KnownPixelSize,
    notice: Any,
) -> Watch:
    from ....pipeline.live.watch import Watch

    return Watch(
        folder, out, request, notice=notice, reference_images=reference, known_pixel_size=known
    )


def _format_end(n: int) -> str:
    """Say what the plot shows, and what to do if the project lacks the results of n images.

    It stays while other images or another project are opened.
    """
    text = " The plot shows what was known while watching; the labels at the end may differ."
    if n:
        text += f" {n} of the images had no results in the open project: press Analyse all."
    return text


def _format_copies(outcomes: Sequence[Outcome]) -> str:
    """Say how many images of the results are copies, which were not analysed again."""
    contents = [outcome.sha256 for outcome in outcomes if outcome.status == "done"]
    n = count_copies(contents)
    copies = pluralise(n, "copy of another", "copies of others")
    return f" Among the {len(contents)} images of the results: {copies}." if n else ""


def _soon(latency_s: float) -> bool:
    """Whether it is the time since the file was written, and not since last year."""
    return math.isfinite(latency_s) and latency_s < 60
