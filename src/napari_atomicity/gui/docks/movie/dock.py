"""The Movie dock: clusters of a stack over time, their atomicity, and what happens to them."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

from napari.utils.notifications import show_error, show_info
from napari.viewer import Viewer
from qtpy.QtCore import QModelIndex
from qtpy.QtGui import QShowEvent
from qtpy.QtWidgets import (
    QFileDialog,
    QHBoxLayout,
    QLabel,
    QPushButton,
    QSizePolicy,
    QSpinBox,
    QTableView,
    QVBoxLayout,
    QWidget,
)

from ....core.cluster_table import NO_TRACK, NON_CLASS_LABELS
from ....core.errors import AtomicityError
from ....core.micrograph import Micrograph
from ....core.palette import colours
from ....core.progress import Progress, Stop
from ....models.analysis import Analysis
from ....statistics.scores import atoms_of
from ....tracking import text as words
from ....tracking.averaging import ALL, average_frames
from ....tracking.files import FILES, write_movies
from ....tracking.following import TrackedMovie as Found
from ....tracking.following import analyse_movie, track_clusters
from ....tracking.settings import MovieSettings, frame_time_of
from ....tracking.tracks import clusters_of, is_tracked
from ... import tasks
from ...controls.collapsible import CollapsibleSection
from ...controls.connections import follow, follow_event, follow_soon
from ...controls.forms import ComboBox, in_scroll_area, main_button
from ...controls.line_table import Lines, table_of
from ...controls.settings import remember
from ...panels.forms import TaskBar, busy
from ...viewer.binding import binding_of
from ...viewer.layer_data import layer_data
from ...viewer.tracks import BY_ATOMICITY, BY_TRACK
from .curves import MAX_CURVES, counts_over_time, curves_of
from .plot import TimePlot
from .settings import MovieForm

NO_IMAGE = "Open a stack of frames (T, Y, X): a movie."
NO_STACK = "{} is a single image: there is nothing to follow over time."
NOT_ANALYSED = "Analyse the stack first: every frame is looked at, then clusters are followed."
NOT_TRACKED = "Press Track: clusters of different frames that are one get a number."
_SAME = ("cluster_id", "frame", "y_px", "x_px")


def write_into(
    movie: Found, folder: Path, progress: Progress | None = None, stop: Stop | None = None
) -> Path:
    """Write the tables of a movie; run in a worker."""
    write_movies([movie], folder)
    return folder


def averaged(
    micrograph: Micrograph,
    frames: int | str,
    name: str,
    progress: Progress | None = None,
    stop: Stop | None = None,
) -> Micrograph:
    """A new image of registered frames; run in a worker."""
    mean = average_frames(micrograph, frames, progress=progress, stop=stop)
    return Micrograph(mean.data, mean.pixel_size_nm, name, metadata=mean.metadata)


class Movie(QWidget):
    """One button, a plot over time, and the events; all of the image that is looked at."""

    def __init__(self, napari_viewer: Viewer, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.binding = binding_of(napari_viewer)
        self.state = self.binding.state
        self.found: Found | None = None
        # What the movie that is shown was found in: image, table, settings.
        self._found_in: tuple[Any, ...] = ()
        self._image: str | None = None
        self._stale = True
        self._task = f"movie {id(self)}"
        self._build()
        state = self.state
        follow_soon(
            self, state.analysis_changed, state.images_changed, state.current_changed,
            state.project_changed, slot=self._on_change,
        )  # fmt: skip
        follow_soon(self, state.selection_changed, slot=self._on_selection)
        follow(self, state.status_changed, self._enable)
        follow_event(self, self.binding.viewer.dims.events.current_step, self._on_step)
        self._enable()

    # ---- parts
    def _build(self) -> None:
        self.button = main_button("Track", self)
        self.button.setToolTip(
            "Find the drift of the stage and which clusters of different frames are one; then "
            "their atomicity against time, smoothed, and what happens to them."
        )
        self.button.clicked.connect(self.track)
        self.task_bar = TaskBar(self.state)
        self.message = _label("Message")
        self.summary = _label("Movie in words")
        self.plot = TimePlot()
        self.plot.picked.connect(self._on_selected)
        self.plot.frame_picked.connect(self._on_frame_selected)
        self.form = MovieForm()
        self.form.changed.connect(self.look)

        self.setSizePolicy(QSizePolicy.Policy.Expanding, QSizePolicy.Policy.Expanding)
        content = QWidget()
        layout = QVBoxLayout(content)
        layout.setContentsMargins(6, 6, 6, 6)
        layout.addWidget(self.button)
        layout.addWidget(self.task_bar)
        layout.addWidget(self.message)
        self.body = QWidget()
        inner = QVBoxLayout(self.body)
        inner.setContentsMargins(0, 0, 0, 0)
        inner.addWidget(self.summary)
        inner.addWidget(self.plot)
        inner.addLayout(self._buttons())
        inner.addWidget(self._events())
        inner.addWidget(self._dwells())
        layout.addWidget(self.body)
        self.settings_part = CollapsibleSection("Settings", self.form)
        layout.addWidget(self.settings_part)
        layout.addWidget(self._averaging())
        layout.addStretch(1)
        in_scroll_area(content, self)
        self.body.hide()

    def _buttons(self) -> QHBoxLayout:
        self.whole_button = QPushButton("Whole tracks")
        self.whole_button.setToolTip(
            "Select the clusters of the selected tracks in all frames; a label is then given to "
            "all of them with one key."
        )
        self.whole_button.clicked.connect(self.select_whole)
        self.colour_combo = ComboBox()
        self.colour_combo.addItem("by atomicity", BY_ATOMICITY)
        self.colour_combo.addItem("by track", BY_TRACK)
        self.colour_combo.setAccessibleName("Colour of the tracks")
        self.colour_combo.setToolTip(
            "Colour of the tracks in the image: the smoothed label, or a colour per track. "
            "Default: by atomicity."
        )
        self.colour_combo.currentIndexChanged.connect(self._on_colour)
        remember("movie/colour", self.colour_combo)
        self.save_button = QPushButton("Save…")
        self.save_button.setToolTip(f"Write {', '.join(FILES)} into a folder.")
        self.save_button.clicked.connect(self.save)
        row = QHBoxLayout()
        row.addWidget(self.whole_button)
        row.addWidget(self.colour_combo, 1)
        row.addWidget(self.save_button)
        return row

    def _events(self) -> CollapsibleSection:
        self.events = Lines(words.EVENT_HEADERS, words.EVENT_TOOLTIPS, self)
        self.event_table: QTableView = table_of(self.events, "Events", 7)
        self.event_table.clicked.connect(self._on_event)
        self.events_part = CollapsibleSection("Events", self.event_table)
        self.events_part.button.setChecked(True)
        return self.events_part

    def _dwells(self) -> CollapsibleSection:
        self.dwells = Lines(words.DWELL_HEADERS, words.DWELL_TOOLTIPS, self)
        self.dwell_table: QTableView = table_of(self.dwells, "Dwell times", 8)
        self.dwells_part = CollapsibleSection("How long labels last", self.dwell_table)
        return self.dwells_part

    def _averaging(self) -> CollapsibleSection:
        self.n_averaged = QSpinBox()
        self.n_averaged.setRange(1, 100_000)
        self.n_averaged.setValue(1)
        self.n_averaged.setSpecialValueText("all frames")
        self.n_averaged.setSuffix(" frames")
        self.n_averaged.setAccessibleName("Frames to average")
        self.n_averaged.setToolTip(
            "How many successive frames, moved to where the middle one lies, become one. Default: "
            "all of them."
        )
        self.average_button = QPushButton("Average")
        self.average_button.setToolTip(
            "Make a new image of registered frames: less noise, and slower. Analyse it then like "
            "any other."
        )
        self.average_button.clicked.connect(self.average)
        inner = QWidget()
        row = QHBoxLayout(inner)
        row.setContentsMargins(0, 0, 0, 0)
        row.addWidget(self.n_averaged, 1)
        row.addWidget(self.average_button)
        self.averaging_part = CollapsibleSection("Average frames", inner)
        return self.averaging_part

    # ---- what the session says
    def _on_change(self) -> None:
        self._stale = True
        if self.isVisible():
            self.look()

    def showEvent(self, event: QShowEvent) -> None:  # noqa: N802
        super().showEvent(event)
        if self._stale:
            self.look()

    def look(self) -> None:
        """Show what is known of the image that is looked at; what is not, is found."""
        self._stale = False
        image = self.state.current
        if image != self._image:
            self._image = image
            self.form.forget()
        analysis = None if image is None else self.state.analysis(image)
        known = None if image is None else self.state.micrograph(image)
        self.form.frame_time_s(None if known is None else frame_time_of(known))
        self.message.setText(self._what_to_do(image, known, analysis))
        self.message.setVisible(bool(self.message.text()))
        self._enable()
        if image is None or analysis is None or not is_tracked(analysis):
            self._show_none()
            return
        settings = self._settings(analysis)
        wanted = (image, analysis.table, settings)
        if self._same(wanted):
            if self.found is not None:
                self._on_selection()
            return
        if self._found_in and self._found_in[0] != image:
            self._show_none()
        self._found_in = wanted
        tasks.start(
            self.state, analyse_movie, analysis, settings,
            on_result=partial(self._take, wanted),
            on_error=self._on_error,
            key=self._task,
            owner=self,
            about=image,
            quiet_errors=True,
        )  # fmt: skip

    def _same(self, wanted: tuple[Any, ...]) -> bool:
        now = self._found_in
        return bool(now) and (now[0], now[2]) == (wanted[0], wanted[2]) and now[1] is wanted[1]

    def _settings(self, analysis: Analysis) -> MovieSettings:
        """Frame time and rate as they are set now; what was linked, was linked."""
        linked = MovieSettings.from_dict(analysis.parameters["movie"]["settings"])
        now = self.form.settings()
        return MovieSettings(**{
            **linked.to_dict(), "frame_time_s": now.frame_time_s, "rate": now.rate,
        })  # fmt: skip

    def _what_to_do(
        self, image: str | None, micrograph: Micrograph | None, analysis: Analysis | None
    ) -> str:
        if image is None or micrograph is None:
            return NO_IMAGE
        if micrograph.n_frames < 2:
            return NO_STACK.format(image)
        if analysis is None:
            return NOT_ANALYSED
        return "" if is_tracked(analysis) else NOT_TRACKED

    def _enable(self, *_: object) -> None:
        image = self.state.current
        known = None if image is None else self.state.analysis(image)
        stack = known is not None and known.micrograph.n_frames > 1
        free = not busy(self.state)
        self.button.setEnabled(stack and free)
        self.average_button.setEnabled(free)

    def _on_error(self, error: BaseException) -> None:
        self._found_in = ()
        self._show_none()
        self.message.setText(tasks.format_error(error))
        self.message.show()

    # ---- the button
    def track(self) -> None:
        """Follow the clusters of the image that is looked at."""
        image = self.state.current
        analysis = None if image is None else self.state.analysis(image)
        if image is None or analysis is None:
            return
        try:
            settings = self.form.settings()
        except AtomicityError as error:
            show_error(tasks.format_error(error))
            return
        tasks.start(
            self.state,
            track_clusters,
            analysis,
            settings,
            message=f"Following the clusters of {image}",
            on_result=self._take_tracks,
            owner=self,
            about=image,
        )

    def _take_tracks(self, tracked: Analysis) -> None:
        image = tracked.micrograph.name
        now = self.state.analysis(image)
        if now is None or not self.binding.accepts(tracked):
            return
        a, b = now.table, tracked.table
        if len(a) != len(b) or any((a[n].to_numpy() != b[n].to_numpy()).any() for n in _SAME):
            show_info(f"The clusters of {image} have changed meanwhile: press Track again.")
            return
        self.binding.attempt(partial(self.state.clusters.set_tracks, tracked))

    def _take(self, wanted: tuple[Any, ...], found: Found) -> None:
        if not self._same(wanted):
            return
        self.found = found
        table = found.table
        labels = dict(
            zip(table["cluster_id"].tolist(), table["label_smoothed"].tolist(), strict=True)
        )
        self.binding.tracks.take_smoothed(found.image, wanted[1], labels)
        self.summary.setText(words.summary(found))
        classes = self.state.classes()
        self.events.show(words.event_lines(found.events), classes=classes)
        self.dwells.show(words.dwell_lines(found.dwell_rates), classes=classes)
        self.events_part.button.setText(f"Events ({len(found.events)})")
        self.plot.show_time(found.drift.n_frames, found.frame_time_s)
        self._on_step()
        self.body.show()
        self._on_selection()

    def _show_none(self) -> None:
        for task in tasks.running(self.state, self._task):
            task.cancel()
        self.found, self._found_in = None, ()
        self.body.hide()

    # ---- selection
    @property
    def selected_tracks(self) -> list[int]:
        """Numbers of the tracks of the selected clusters of the image that is shown."""
        if self.found is None:
            return []
        image = self.found.image
        ids = [i for name, i in self.state.selection if name == image]
        table = self.state.table(image)
        if not ids or "track_id" not in table.columns:
            return []
        found = table.loc[table["cluster_id"].isin(ids), "track_id"]
        return sorted(set(found[found != NO_TRACK].tolist()))

    def _on_selection(self) -> None:
        found = self.found
        if found is None:
            return
        if not self.isVisible():
            self._stale = True
            return
        chosen = self.selected_tracks
        self.whole_button.setEnabled(bool(chosen))
        classes = self.state.classes()
        if chosen:
            shown = chosen[:MAX_CURVES]
            said = f"track {shown[0]}" if len(shown) == 1 else f"{len(shown)} tracks"
            if len(chosen) > len(shown):
                said = f"{len(shown)} of {len(chosen)} selected tracks"
            sizes = [(c, float(n)) for c in classes if (n := atoms_of(c)) is not None]
            self.plot.show_curves(
                curves_of(found, shown), sizes, f"Atoms of {said}: counted (dots), smoothed (lines)"
            )
        else:
            labels = [*classes, *NON_CLASS_LABELS]
            self.plot.show_counts(
                counts_over_time(found, labels), colours(classes), "Clusters of each label"
            )
        self._mark_events(set(chosen))

    def _mark_events(self, chosen: set[int]) -> None:
        """Events of other tracks are grey while tracks are selected."""
        assert self.found is not None
        of_event = [{int(t) for t in x.split("|")} for x in self.found.events["tracks"]]
        self.events.faint = {i for i, t in enumerate(of_event) if chosen and not t & chosen}
        last = self.events.index(max(len(of_event) - 1, 0), len(words.EVENT_HEADERS) - 1)
        self.events.dataChanged.emit(self.events.index(0, 0), last)

    def select_whole(self) -> None:
        """Select the selected tracks in all frames."""
        if self.found is not None:
            image = self.found.image
            ids = clusters_of(self.state.table(image), self.selected_tracks)
            self.state.select((image, i) for i in ids)

    def _on_selected(self, cluster_id: int) -> None:
        if self.found is not None:
            key = (self.found.image, cluster_id)
            self.state.select({key})
            self.state.request_focus(key)

    def _on_event(self, index: QModelIndex) -> None:
        if self.found is None:
            return
        event = self.found.events.iloc[index.row()]
        key = (self.found.image, int(event["cluster_id"]))
        there = self.state.table(key[0])["cluster_id"]
        if key[1] in set(there.tolist()):
            self.state.select({key})
            self.state.request_focus(key)

    # ---- frames
    def _on_step(self, event: Any = None) -> None:
        viewer = self.binding.viewer
        if viewer is not None and self.found is not None and len(viewer.dims.current_step) > 2:
            self.plot.show_frame(int(viewer.dims.current_step[0]))

    def _on_frame_selected(self, frame: int) -> None:
        source = self.binding.source_layer(self.state.current or "")
        if source is not None and source.ndim == 3:
            self.binding.viewer.dims.set_point(0, source.data_to_world((frame, 0, 0))[0])

    def _on_colour(self, *_: object) -> None:
        self.binding.tracks.colour_by = str(self.colour_combo.currentData())

    # ---- out
    def save(self) -> None:
        """Ask for a folder and write the tables of the movie that is shown."""
        if self.found is None:
            return
        chosen = QFileDialog.getExistingDirectory(self, "Folder for the tables of the movie")
        if chosen:
            tasks.start(
                self.state,
                write_into,
                self.found,
                Path(chosen),
                message="Writing the tables of the movie",
                on_result=lambda folder: show_info(f"Written into {folder}: {', '.join(FILES)}"),
                key=f"write {chosen}",
            )

    # ---- averaging
    def average(self) -> None:
        """Make a new image of registered frames of the stack that is looked at."""
        layers = [x for x in self.binding.image_layers() if x.ndim == 3]
        source = self.binding.source_layer(self.state.current or "")
        layer = source if source in layers else (layers[-1] if layers else None)
        if layer is None:
            show_error(NO_IMAGE)
            return
        value = self.n_averaged.value()
        frames: int | str = ALL if value == self.n_averaged.minimum() else value
        try:
            image = self.binding.ensure_image(layer)
            micrograph = self.state.micrograph(image)
            micrograph.calibrated()
        except AtomicityError as error:
            show_error(tasks.format_error(error))
            return
        name = f"{image} mean" if frames == ALL else f"{image} mean of {frames}"
        tasks.start(
            self.state,
            averaged,
            micrograph,
            frames,
            name,
            message=f"Averaging frames of {image}",
            on_result=self._show_averaged,
            owner=self,
            about=image,
        )

    def _show_averaged(self, mean: Micrograph) -> None:
        data, options, _ = layer_data(mean)
        self.binding.ensure_image(self.binding.viewer.add_image(data, **options))


def _label(name: str) -> QLabel:
    label = QLabel()
    label.setWordWrap(True)
    label.setAccessibleName(name)
    return label
