"""The intensity of one atom: that of the current image, and that of its session."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

from qtpy.QtWidgets import QLabel

from ...core.acquisition_session import AcquisitionSession
from ...core.tables.cluster_table import UNKNOWN, is_whole
from ...core.text import sentence
from ...models.analysis import Analysis
from ...pipeline.session_labels import (
    fit_measurements,
    is_labelled_jointly,
    measure_session,
    summarise_session,
)
from ...reporting.plots.session import (
    MAX_SESSIONS,
    SessionSummary,
    describe_class_fit,
    describe_session,
    describe_solutions,
    draw_class_fit,
    draw_session_scale,
    solutions_of,
)
from ...state.window_state import WindowState
from ...statistics.ratios.ratio_notes import (
    AGREES,
    MAX_UNKNOWN,
    SEPARATOR,
    ImageLimits,
    conditions_note,
    describe_unknown,
    image_notes,
    model_notes,
    name_sessions,
    session_doubts,
    session_line,
    without_basis,
)
from ...statistics.ratios.ratios import counted, images_that_differ
from .. import tasks
from ..controls.chart import Chart
from ..controls.forms import CollapsibleSection, fill_column, selectable_label
from ..controls.refresher import FollowingWidget
from ..viewer.binding import Binding
from ..viewer.models import card_of
from .session_labels import SessionImages, model_of, session_images

TITLE = "Intensity of one atom"
_NOT_KNOWN = "Not known: no cluster of the session is whole and apart from others."
NO_MODEL = "The model of this image is not available."
# Green, blue, orange and red of Okabe and Ito.
_FITS, _RESTS, _DOUBT, _MISFIT = "#009e73", "#56b4e9", "#e69f00", "#d55e00"


def find_summary(session: SessionImages) -> SessionSummary | None:
    """Find the scale of a session in a worker; None if its model is not available."""
    card = card_of(session.analyses[0].table)
    if card is None:
        return None
    these = session.session
    measured = measure_session(session.analyses, card, these)
    scale, fit, _ = fit_measurements(measured, card, these.prior)
    return summarise_session(these, these.images, scale, fit, card)


def find_summaries(
    sessions: Iterable[AcquisitionSession], analyses: Sequence[Analysis]
) -> list[SessionSummary]:
    """Find the scales of the sessions whose images were labelled jointly, for a report."""
    jointly = {
        a.micrograph.name: a for a in analyses if a.parameters.get("session") and model_of(a)
    }
    found: list[SessionSummary] = []
    for session in sessions:
        images = tuple(jointly[name] for name in session.images if name in jointly)
        if images and len(found) < MAX_SESSIONS:
            these = SessionImages(session, images).of_model(model_of(images[0]))
            if (summary := find_summary(these)) is not None:
                found.append(replace(summary, record=images[0].parameters["session"]))
    return found


def _is_same(a: SessionImages, b: SessionImages) -> bool:
    """Return whether the clusters of two sessions and what is known of them are the same."""
    return a.session == b.session and all(
        x.embedding is y.embedding for x, y in zip(a.analyses, b.analyses, strict=True)
    )


def session_of_image(state: WindowState, image: str | None) -> dict[str, Any]:
    """Return what the record of an image says of its session; empty if it is not labelled so."""
    analysis = None if image is None else state.analysis(image)
    return {} if analysis is None else analysis.parameters.get("session", {})


def record_of_session(state: WindowState, images: Iterable[str]) -> dict[str, Any]:
    """Return what the record of an image of a session says of it; those without clusters have none.

    Empty if no image has a record.
    """
    return next(filter(None, (session_of_image(state, image) for image in images)), {})


def doubts_of_image(state: WindowState, image: str | None) -> str:
    """Return why the labels of an image are doubtful, whatever its session says; "" if nothing is.

    Different models may have labelled its session, its scale may be uncertain or unlike that of the
    others, or it differs from the training, where the session does not say what is wrong.
    """
    if image is None or image not in state.images:
        return ""
    found = map(state.analysis, state.sessions.session_of(image).images)
    doubts = model_notes([a.model_id for a in found if a is not None and a.model_id])
    analysis, session = state.analysis(image), session_of_image(state, image)
    if analysis is not None:
        parameters = state.pixel_sizes.mark(analysis).parameters
        doubts += image_notes([ImageLimits.from_parameters(parameters)])
    differs = analysis is not None and bool(images_that_differ(analysis.table))
    if analysis is not None and differs and not session_doubts(session):
        doubts = [*doubts, conditions_note(analysis.parameters.get("changed_settings", ()))]
    return SEPARATOR.join(doubts)


def unknown_and_counted(state: WindowState, image: str | None) -> tuple[int, int]:
    """Count the whole clusters of an image that belong to no class, and those that count."""
    analysis = None if image is None else state.analysis(image)
    if analysis is None:
        return 0, 0
    whole = analysis.table[is_whole(analysis.table)]
    return int((whole["label"] == UNKNOWN).sum()), int(counted(whole).sum())


def show_answer(
    label: QLabel,
    sessions: Sequence[Mapping[str, Any]],
    more: str = "",
    short: bool = False,
    names: Sequence[str] | None = None,  # names of the sessions, where the text shall name them
    # clusters of no class, which a session that agrees does not mention, and those that count
    numbers: tuple[int, int] = (0, 0),
) -> None:
    """Show whether sessions fit the classes, in a colour, or a more important text instead."""
    text = more or SEPARATOR.join(dict.fromkeys(filter(None, map(session_line, sessions))))
    if text == AGREES and numbers[0] > MAX_UNKNOWN * sum(numbers):
        text = describe_unknown(*numbers)
    colour = _FITS if text == AGREES else _RESTS
    label.setToolTip(sentence(text) if text and short else "")
    if short:
        text = text.partition(SEPARATOR)[0]
    if any(map(session_doubts, sessions)) or without_basis(more, sessions):
        colour = _MISFIT if any(session.get("misfit") for session in sessions) else _DOUBT
    if names is not None:
        text = name_sessions(text, sessions, names)
    label.setStyleSheet(f"border-left: 4px solid {colour}; padding: 4px 8px;")
    label.setText(sentence(text) if text else "")
    label.setVisible(bool(text))


class SessionScaleView(FollowingWidget):
    """Chart and text: the scale of the session, and the solutions of the current image."""

    follows = ("changed", "images_changed", "current_changed", "project_changed")

    def __init__(self, binding: Binding) -> None:
        super().__init__(binding.refresher)
        self.state = binding.state
        self.summary: SessionSummary | None = None
        self._session: SessionImages | None = None
        self._task = f"session scale {id(self)}"
        self.image_text = selectable_label("Intensity of one atom in this image")
        self.chart = Chart(lines=22)
        self.chart.setAccessibleName("Intensity of one atom in the session")
        self.chart.setToolTip(
            "The images of a session share the intensity of one atom, up to 10 to 20 %. Blue: its "
            "mean in the session, by all images together. Pale blue: single images of the "
            "session. Orange: the values that are possible in this image, with their "
            "probabilities; several mean that its labels are uncertain. Single sources: the "
            "scale of the session by each of them alone."
        )
        self.sizes = Chart(lines=11)
        self.sizes.setAccessibleName("Numbers of atoms in the session")
        self.sizes.setToolTip(
            "Numbers of atoms of the clusters of the session by their intensities, and the peaks "
            "that fit them best. Dotted: sizes of the classes. Fractions of a session that does "
            "not, or may not, fit the classes are withheld."
        )
        self.session_text = selectable_label("Intensity of one atom in the session", plain=True)
        fill_column(self, self.image_text, self.chart, self.session_text, self.sizes)

    def refresh(self) -> None:
        image = self.state.current
        analysis = None if image is None else self.state.analysis(image)
        if image is None or analysis is None or analysis.scale is None or not len(analysis.table):
            self._show(None, "")
            return
        if not analysis.scale.is_known:  # nor does another image of its session tell it
            self.image_text.setText(_NOT_KNOWN)
            self._show(None, "")
            return
        self.image_text.setText(f"This image: {describe_solutions(analysis.scale)}.")
        session = session_images(self.state, self.state.sessions.session_of(image))
        session = session.of_model(model_of(analysis))
        these = session.session
        card = card_of(analysis.table)
        if card is not None and not is_labelled_jointly(these, len(these.images), card):
            self._show(None, f"No other image of session {these.name} is analysed.")
            return
        if self._session is not None and _is_same(self._session, session):
            if not tasks.running(self.state, self._task):
                self._show(self.summary)
            return
        self._session, self.summary = session, None
        tasks.start(
            self.state,
            find_summary,
            session,
            message="",
            on_result=self._take,
            on_error=self._refuse,
            quiet_errors=True,
            key=self._task,
            owner=self,
        )

    def _take(self, summary: SessionSummary | None) -> None:
        self.summary = summary
        self._show(summary)

    def _refuse(self, error: BaseException) -> None:
        self._show(None, tasks.format_error(error))

    def _show(self, summary: SessionSummary | None, text: str = NO_MODEL) -> None:
        """Show a summary, or a text instead."""
        analysis = self.state.analysis(self.state.current or "")
        if summary is None or analysis is None or analysis.scale is None:
            self.chart.hide()
            self.sizes.hide()
            self.session_text.setText(text)
            return
        # The record can be newer than the summary, which was found in a worker.
        summary = replace(summary, record=record_of_session(self.state, summary.images))
        text = describe_session(summary)
        draw = partial(draw_session_scale, summary=summary, solutions=solutions_of(analysis.scale))
        self.chart.show_chart(draw, text)
        self.chart.show()
        self.session_text.setText(text)
        self.sizes.setVisible(summary.has_histogram)
        if summary.class_fit is not None and summary.has_histogram:
            fit = summary.class_fit
            draw = partial(draw_class_fit, fit=fit, sizes=summary.sizes)
            self.sizes.show_chart(draw, describe_class_fit(summary))


class IntensitySection(CollapsibleSection):
    """The intensity of one atom in the title, and how the session determines it below."""

    def __init__(self, binding: Binding) -> None:
        self.view = SessionScaleView(binding)
        super().__init__(TITLE, self.view)
        self.button.setMinimumWidth(1)  # a long title is cut, and does not widen the dock

    def show_analysis(self, analysis: Analysis | None) -> None:
        """Show the intensity of one atom in an image; hide the section without a scale."""
        scale = None if analysis is None or not len(analysis.table) else analysis.scale
        self.setVisible(scale is not None)
        if analysis is None or scale is None:
            return
        value, certainty = scale.intensity_per_atom, scale.certainty
        text = (
            f"{value:.3g} counts nm² ({100 * certainty:.0f} %)" if scale.is_known else "not known"
        )
        self.button.setText(f"One atom: {text}")
