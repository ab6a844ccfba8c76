"""The dock Adapt: a model learns the conditions of the images at hand; one sees what changed."""

from __future__ import annotations

import re
from collections.abc import Collection, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import partial
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING

import pandas as pd
from qtpy.QtCore import QSignalBlocker
from qtpy.QtWidgets import (
    QInputDialog,
    QLabel,
    QLineEdit,
    QPushButton,
    QSizePolicy,
    QVBoxLayout,
    QWidget,
)

from ....core.acquisition_session import AcquisitionSession
from ....core.errors import AtomicityError, ModelError
from ....core.model_card import ModelCard
from ....core.progress import Progress, Stop, report, with_time_left
from ....core.tables.cluster_table import ALL, classes_of, corrected, learnable
from ....core.text import pluralise
from ....models.analysis import Analysis
from ....models.files import SHIPPED, find_model, read_card, save_model, user_folder
from ....pipeline.adaptation import runs as adapting, text as adaptation_text
from ....pipeline.adaptation.settings import COMBINED, AdaptRequest
from ... import tasks
from ...controls.bars import ALL_IMAGES, THIS_IMAGE, BarChart, ratio_bars
from ...controls.forms import (
    ComboBox,
    fill_column,
    folded,
    labelled,
    main_button,
    new_form,
    selectable_label,
)
from ...controls.refresher import follow
from ...controls.settings import MODEL, choose
from ...controls.settings_form import form_of
from ...panels.dock import Dock
from ...panels.forms import ModelCombo, may_analyse
from ...panels.session_labels import labels_together, session_labels_of
from ...viewer.models import (
    ensure_new_in_project,
    keep_available,
    model_folder,
    model_id_of,
    names_in_project,
    names_made_here,
)

if TYPE_CHECKING:
    from ....models.inference import Classifier
    from ....pipeline.adaptation.result import Adaptation


# ---- what the dock Adapt runs in a worker, and names of adapted models

BEFORE, AFTER = 0, 1


@dataclass(frozen=True, eq=False)
class Result:
    """An adaptation with what the dock shows of it: pairs are before and after."""

    found: Adaptation
    ratios: tuple[pd.DataFrame, pd.DataFrame]
    confidence: tuple[float, float]
    classifier: Classifier

    def side(self, which: int) -> tuple[Analysis, ...]:
        return self.found.after if which == AFTER else self.found.before


def _renamed(now: Analysis, saved: Analysis) -> Analysis:
    """Return an analysis as it is now, with the name of the saved model that has labelled it."""
    before, after = model_id_of(now), saved.model_id
    table = now.table.assign(model_id=now.table["model_id"].replace(before, after))
    return replace(
        now, table=table, parameters=now.parameters | {"model": saved.parameters["model"]}
    )


# ---- what runs in a worker
def adapt_model(
    analyses: list[Analysis],
    model: str,
    name: str,
    device: str,
    pseudo_labels: str = COMBINED,
    accept_unchecked: bool = False,
    sessions: Sequence[AcquisitionSession] | None = None,
    progress: Progress | None = None,
    stop: Stop | None = None,
) -> Result:
    """Adapt a model, place the clusters in its map, and count before and after."""
    from ....models.inference import Classifier, load_classifier

    tasks.cap_torch_threads()
    progress = with_time_left(progress)
    found = adapting.adapt_images(
        analyses,
        model,
        name,
        device,
        progress,
        stop,
        pseudo_labels,
        accept_unchecked=accept_unchecked,
        sessions=sessions,
    )
    old = load_classifier(model, device)
    new = Classifier(found.card, found.tensors, old.device) if found.accepted else old
    found = adapting.placed(found, old, new, progress, stop)
    report(progress, 0, 0, "Counting")
    both = (found.before, found.after)
    before, after = (adaptation_text.image_ratios(x, ALL) for x in both)
    confidence = tuple(map(adaptation_text.mean_confidence, both))
    return Result(found, (before, after), confidence, new)


def save_adapted(result: Result, path: Path) -> Result:
    """Write the adapted model under the name of its file; the result with that name."""
    found = adapting.named(result.found, path.stem)
    save_model(path, found.card, found.tensors)
    return replace(result, found=found)


# ---- names
def free_name(model: str, taken: Collection[str] = ()) -> str:
    """Return a name for an adapted model that no model of the user or of a project has yet."""
    base = re.sub(r"-adapted-\d+$", "", Path(SHIPPED.get(model, model)).stem)
    names = (f"{base}-adapted-{i}" for i in count(1))
    return next(
        name
        for name in names
        if name not in taken and not (user_folder() / f"{name}.safetensors").exists()
    )


def path_for(name: str) -> Path:
    """Where a model of that name is saved.

    Raises `AtomicityError` if it is no name for a file, or another model's.
    """
    name = name.strip()
    if not name or name.startswith(".") or set(name) & set('/\\:*?"<>|'):
        raise AtomicityError(
            f"{name!r} is not a valid name of a model", advice="Use letters, digits, - and _"
        )
    path = user_folder() / f"{name}.safetensors"
    if name in {*SHIPPED, *SHIPPED.values()} or path.exists():
        raise AtomicityError(
            f"there is a model {name!r} already",
            advice="Choose another name. Models are never replaced",
        )
    return path


def path_of(result: Result) -> Path:
    """Where an adapted model was saved."""
    return user_folder() / f"{result.found.card.name}.safetensors"


THIS_SESSION = "this session"
SHORT_NAME = 20
"""Length of the name of a session up to which it fits in the list of choices."""
MIN_CLUSTERS = 10
"""Equal to `pipeline.adaptation.fine_tuning.MIN_PSEUDO_LABELS`, whose import would load torch."""


class Adapt(Dock):
    """Model, images and the button; then the result, and both sides of it to compare."""

    follows = ("changed", "current_changed", "images_changed", "project_changed")

    def build(self) -> None:
        self.result: Result | None = None
        self._sessions: list[AcquisitionSession] = []  # at the adaptation of the result
        self._project = self.state.project  # that of the result
        self._n_clusters = 0
        follow(self, self.state.project_changed, self._on_project)
        form = new_form()
        self.models = ModelCombo(saved=False)  # one that fails must not label further images
        labelled(
            form,
            "Model",
            self.models,
            "The network to adapt. Default: the model of analyses, which this choice leaves as is.",
        )
        self.images = ComboBox()
        self.images.addItem(THIS_IMAGE, THIS_IMAGE)
        self.images.addItem(ALL_IMAGES, ALL_IMAGES)
        self.images.currentIndexChanged.connect(self.invalidate)
        labelled(
            form,
            "Images",
            self.images,
            "Images to learn from: the current one, those of its session, or all analysed images. "
            "They should be recorded under the same conditions. Default: this image.",
        )
        self.content.addLayout(form)
        self.hint = self.add(selectable_label("Clusters to learn from", lines=3))
        self.button = self.add_button(
            main_button("Adapt", self),
            "Fine-tune the model to the conditions of these images, with unambiguous clusters and "
            "your corrections. The result is kept only if it is better. You can undo it.",
            self.run,
            enabled_when=self._can_adapt,
        )
        self.add(self._panel())
        settings = form_of(AdaptRequest, "pseudo_labels", "device")
        self.pseudo_labels = settings.controls["pseudo_labels"]
        self.device = settings.controls["device"]
        self.settings = self.add(folded(settings))

    def _panel(self) -> QWidget:
        """Build the panel with the result, hidden until there is one."""
        self.verdict = selectable_label("Verdict", bold=True)
        self.of_images = selectable_label("Images of the result")
        self.shift = selectable_label("Conditions")
        self.learnt = selectable_label("Clusters learnt from")
        self.checks = selectable_label("Criteria, before and after")
        self.edited = selectable_label("Labels changed since the adaptation")
        self.sides = tuple(QPushButton(words) for words in ("Before", "After"))
        self.charts = tuple(BarChart() for _ in self.sides)
        self.confidences = tuple(QLabel() for _ in self.sides)
        both = QVBoxLayout()  # not side by side, where bars would be short
        both.setContentsMargins(0, 0, 0, 0)
        for which, name in enumerate(("before", "after")):
            button = self.sides[which]
            button.setCheckable(True)
            button.setToolTip(
                f"Show image, map and ratios {name} the adaptation. Corrections are kept. "
                "You can undo this."
            )
            button.setSizePolicy(QSizePolicy.Policy.Expanding, QSizePolicy.Policy.Fixed)
            self.enable_when(button, self._is_accepted)
            self.charts[which].setAccessibleName(f"Ratios {name} the adaptation")
            self.confidences[which].setAccessibleName(f"Mean confidence {name} the adaptation")
            for widget in (button, self.charts[which], self.confidences[which]):
                both.addWidget(widget)
        self.sides[BEFORE].clicked.connect(self.show_before)
        self.sides[AFTER].clicked.connect(self.show_after)
        self.save_button = QPushButton("Save model…")
        self.save_button.setToolTip(
            "Save the adapted model in your folder of models, which all docks list."
        )
        self.save_button.clicked.connect(self.save)
        self.enable_when(self.save_button, self._is_accepted)
        self.keep_button = QPushButton("Keep it although it could not be checked")
        self.keep_button.setToolTip(
            "Adapt the model to the same images again, and keep it although their intensities "
            "cannot tell which labels are right. You can undo it."
        )
        self.keep_button.clicked.connect(self.keep_unchecked)
        self.saved = selectable_label("Path of the model")

        self.panel = QWidget()
        fill_column(
            self.panel, self.of_images, self.verdict, both, self.edited, self.keep_button,
            self.shift, self.learnt, self.checks, self.save_button, self.saved,
        )  # fmt: skip
        self.panel.hide()
        return self.panel

    def _on_project(self) -> None:
        """Forget the result with its project; hide it in blind mode."""
        if self.state.project is not self._project:
            self.result, self._project = None, self.state.project
        self.panel.setVisible(self.result is not None and not self.state.blind)

    # ---- what there is
    def _analysed(self) -> list[Analysis]:
        found = (self.state.analysis(image) for image in self.state.images)
        return [a for a in found if a is not None and len(a.table)]

    def _chosen(self) -> list[Analysis]:
        analysed, current, scope = self._analysed(), self.state.current, self.images.currentData()
        if scope == ALL_IMAGES:
            return analysed
        images: Collection[str | None] = (current,)
        if scope == THIS_SESSION and current is not None:
            images = self.state.sessions.session_of(current).images
        return [a for a in analysed if a.micrograph.name in images]

    def _offer_session(self) -> None:
        """Offer the session of the current image, between the others, if there are several."""
        sessions, current, at = self.state.sessions, self.state.current, 1
        offered = self.images.itemData(at) == THIS_SESSION
        several = len(sessions.groups()) > 1
        with QSignalBlocker(self.images):
            if several and not offered:
                self.images.insertItem(at, THIS_SESSION, THIS_SESSION)
            elif offered and not several:  # its images are all images now
                if self.images.currentIndex() == at:
                    self.images.setCurrentIndex(self.images.findData(ALL_IMAGES))
                self.images.removeItem(at)
            if several:
                name = "" if current is None else sessions.session_of(current).name
                is_short = 0 < len(name) <= SHORT_NAME
                self.images.setItemText(at, f"{THIS_SESSION} ({name})" * is_short or THIS_SESSION)

    def refresh(self) -> None:
        self._offer_session()
        chosen = self._chosen()
        self._n_clusters = sum(len(a.table) for a in chosen)
        self.hint.setText(self._format_hint(chosen, self._n_clusters))
        accepted = self.result is not None and self.result.found.accepted
        side = self._side() if accepted else None
        for which, button in enumerate(self.sides):
            button.setChecked(which == side)
        self.save_button.setVisible(accepted)
        n = 0 if self.result is None else self._count_edited(self.result.found.before)
        self.edited.setText(
            f"Bars, confidence and criteria are of the labels at the adaptation. Since then "
            f"{pluralise(n, 'cluster')} {'has' if n == 1 else 'have'} changed."
        )
        self.edited.setVisible(n > 0)

    def _count_edited(self, analyses: Sequence[Analysis]) -> int:
        """Count the clusters that a person has labelled, added or removed since."""
        n = 0
        for then in analyses:
            now = self.state.columns(then.micrograph.name)
            if now is not None:
                tables = (
                    set(zip(table["cluster_id"], table["label_corrected"], strict=True))
                    for table in (then.table, now)
                )
                n += len({i for i, _ in set.symmetric_difference(*tables)})
        return n

    def _can_adapt(self) -> bool:
        return self._n_clusters >= MIN_CLUSTERS and may_analyse(self.state)

    def _is_accepted(self) -> bool:
        return self.result is not None and self.result.found.accepted

    def _format_hint(self, chosen: list[Analysis], n: int) -> str:
        if not self._analysed():
            return (
                "Analyse an image first. If its conditions differ from the training of the model, "
                "adapt the model to it here."
            )
        if not chosen:
            what = "This image is not"
            if self.images.currentData() == THIS_SESSION:
                what = "No image of this session is"
            return f"{what} analysed yet. Press Analyse, or choose all images."
        if n < MIN_CLUSTERS:
            return (
                f"{pluralise(n, 'cluster')} {'is' if n == 1 else 'are'} too few to learn from: at "
                f"least {MIN_CLUSTERS} are needed, 100 are better. Choose all images, or larger "
                "ones."
            )
        tables = [a.table for a in chosen]
        whole = [learnable(table) for table in tables]
        classes: tuple[str, ...] | None = None
        with suppress(ModelError):  # a damaged one is reported when it is used
            classes = read_card(find_model(self.models.model), ModelCard).classes
        given = sum(int(t["label_corrected"].isin(classes or classes_of(t)).sum()) for t in whole)
        others = sum(map(len, whole)) - given
        left_out = sum(len(corrected(table)) for table in tables) - others - given
        words = f"{n} clusters in {self._describe_images(chosen)}"
        if others:
            words += f"; {pluralise(others, 'corrected label')} not of its classes, not used"
        if left_out:
            words += (
                f"; {pluralise(left_out, 'corrected label')} at the border, excluded or without a "
                "size, not used"
            )
        if given:
            labels = f"{given} corrected label{'s' * (given != 1)}"
            return f"{words}; {labels} count{'s' * (given == 1)} as certain."
        return f"{words}. No labels are needed; corrections count as certain."

    def _describe_images(self, analyses: Sequence[Analysis]) -> str:
        """Say how many images there are, and of which session if they are of one of several."""
        if len(analyses) == 1:
            return "1 image"
        images, sessions = {a.micrograph.name for a in analyses}, self.state.sessions.groups()
        names = [s.name for s in sessions if not images.isdisjoint(s.images)]
        of_session = f" of session {names[0]}" if len(names) == 1 < len(sessions) else ""
        return pluralise(len(images), "image") + of_session

    def _side(self) -> int | None:
        """Return which side the images show, if all show the same."""
        if self.result is None:
            return None
        known = {a[0].model_id: w for w in (BEFORE, AFTER) if (a := self.result.side(w))}
        names = [a.micrograph.name for a in self.result.found.before]
        shown = {known.get(model_id_of(self.state.analysis(n))) for n in names}
        return shown.pop() if len(shown) == 1 else None

    # ---- the button
    def learn(self) -> None:
        """Adapt to all images, with their corrected labels."""
        self.images.setCurrentText(ALL_IMAGES)
        self.refresh_now()
        if self.button.isEnabled():
            self.run()

    def run(self) -> None:
        """Adapt the chosen model to the chosen images."""
        self._run(self._chosen(), accept_unchecked=False)

    def keep_unchecked(self) -> None:
        """Adapt to the images of the result again, and keep what could not be checked."""
        if self.result is not None:
            names = {a.micrograph.name for a in self.result.found.before}
            chosen = [a for a in self._analysed() if a.micrograph.name in names]
            self._run(chosen, accept_unchecked=True)

    def _run(self, chosen: list[Analysis], accept_unchecked: bool) -> None:
        if not chosen:  # its images were removed meanwhile
            return
        model = self.models.model
        taken = self.attempt(partial(names_in_project, self.state))
        if taken is None:
            return
        self.panel.setEnabled(False)  # it shows the adaptation before
        sessions = self.state.sessions.groups()
        task = self.start(
            adapt_model,
            chosen,
            model,
            free_name(model, names_made_here().union(taken)),
            self.device.currentData(),
            self.pseudo_labels.currentData(),
            accept_unchecked,
            sessions if labels_together() else (),
            message="Adapting",
            on_result=partial(self._done, sessions),
            key="adapt",
            about=chosen[0].micrograph.name if len(chosen) == 1 else None,
        )
        task.finished.connect(partial(self.panel.setEnabled, True))

    def _done(self, sessions: list[AcquisitionSession], result: Result) -> None:
        found = result.found
        self.result, self._sessions = result, sessions
        names = [a.micrograph.name for a in found.before]
        what = names[0] if len(names) == 1 else self._describe_images(found.before)
        self.of_images.setText(f"Result of {what}, ratios as counted")
        self.of_images.setToolTip("\n".join(names))
        self.verdict.setText(adaptation_text.format_verdict(found))
        self.shift.setText(adaptation_text.format_shift(found.shift))
        learnt = (
            adaptation_text.format_learnt(found),
            adaptation_text.format_ranges(found),
            adaptation_text.format_missing(found),
        )
        self.learnt.setText("\n".join(filter(None, learnt)))
        self.checks.setText("\n".join(adaptation_text.format_checks(found)))
        self.checks.setVisible(bool(found.checks))
        self.saved.hide()
        self.keep_button.setVisible(found.unchecked and not found.accepted)
        for which in (BEFORE, AFTER):
            self.charts[which].bars = ratio_bars(result.ratios[which], found.card.classes)
            mean = result.confidence[which]
            self.confidences[which].setText(f"confidence {mean:.2f}" if mean == mean else "")
        # A model that was rolled back has no second side.
        for widget in (*self.sides, self.charts[AFTER], self.confidences[AFTER]):
            widget.setVisible(found.accepted)
        self.panel.show()
        self.scroll_to(self.panel)
        if found.accepted:
            keep_available(result.classifier)
            self._keep_in_project(found)
            self._change(AFTER, "adapt {}")
        self.invalidate()

    def _keep_in_project(self, found: Adaptation) -> None:
        """Keep the model with the labels that it gives, until a person saves it."""
        kept = partial(self._say, f"Kept in the project as {found.card.name}.")
        self.binding.projects.models.keep_new(found.card, found.tensors, kept)

    def _say(self, words: str) -> None:
        self.saved.setText(words)
        self.saved.show()

    # ---- back and forth
    def show_before(self) -> None:
        """Show the images as classified before the adaptation, as an undoable edit."""
        self._change(BEFORE, "show {} before the adaptation")

    def show_after(self) -> None:
        """Show the images as classified by the adapted model, as an undoable edit."""
        self._change(AFTER, "show {} after the adaptation")

    def _change(self, which: int, words: str) -> None:
        """Show one side of the result: all images change together, as one step of undo."""
        if self.result is None:
            return
        self.state.steps.finish()
        changed = [a for a in self.result.side(which) if self._model_now(a) != a.model_id]
        group = object()
        self._replace(changed, words, group)
        sessions = self.state.sessions.groups()
        images = [a.micrograph.name for a in changed if self._model_now(a) == a.model_id]
        if images and labels_together() and sessions != self._sessions:  # of other scales now
            session_labels_of(self.binding).start(images, group=group)

    def _model_now(self, analysis: Analysis) -> str:
        """Return the model of the labels that the image of an analysis has now."""
        return model_id_of(self.state.analysis(analysis.micrograph.name))

    def _replace(self, analyses: list[Analysis], words: str, group: object = None) -> int:
        """Replace the predictions of images as one step; return of how many."""
        # An image that was removed or calibrated again is not changed.
        changed = [analysis for analysis in analyses if self.binding.accepts(analysis)]
        n = len(changed)
        what = changed[0].micrograph.name if n == 1 else pluralise(n, "image")
        self.state.clusters.replace_all_predictions(changed, words.format(what), group=group)
        self.invalidate()
        return n

    # ---- keeping it
    def save(self) -> None:
        """Ask for a name and write the adapted model."""
        if self.result is None:
            return
        name, wanted = QInputDialog.getText(
            self,
            "Save model",
            f"Name, in {user_folder()}:",
            QLineEdit.EchoMode.Normal,
            self.result.found.card.name,
        )
        if not wanted:
            return
        path = self.attempt(partial(self._path_for, name))
        if path is not None:
            self.start(
                save_adapted,
                self.result,
                path,
                message=f"Saving {path.stem}",
                on_result=partial(self._on_saved, self.result),
                key="save model",
            )

    def _path_for(self, name: str) -> Path:
        """Return where the adapted model is saved; see `path_for`."""
        assert self.result is not None
        if name.strip() != self.result.found.card.name:  # under which the project keeps it
            ensure_new_in_project(self.state, name.strip())
        return path_for(name)

    def _on_saved(self, earlier: Result, result: Result) -> None:
        if self.result is earlier:  # not if another adaptation has ended meanwhile
            self.result = result
        name, unsaved = result.found.card.name, earlier.found.card.model_id
        model_folder.changed.emit()
        self.binding.projects.models.keep(path_of(result))
        self.state.steps.finish()
        labelled = [
            _renamed(now, a)
            for a in result.side(AFTER)
            if self._model_now(a) == unsaved
            and (now := self.state.analysis(a.micrograph.name)) is not None
        ]
        words = f"Saved as {name}: all docks list it."
        if self._replace(labelled, f"name the model of {{}} {name}"):
            choose(MODEL, name)  # or further images would have labels of another model
            words += " Further images are analysed with it."
        self._say(words)
