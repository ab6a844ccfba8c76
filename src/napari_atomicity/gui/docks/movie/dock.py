"""The dock Movie: atomicity of the clusters of a stack over time, and events."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

from napari.layers import Image
from qtpy.QtCore import QModelIndex, QSignalBlocker
from qtpy.QtWidgets import (
    QHBoxLayout,
    QLabel,
    QPushButton,
    QSizePolicy,
    QTableView,
    QWidget,
)

from ....core.errors import AtomicityError
from ....core.micrograph import AVERAGE_OF, Micrograph
from ....core.palette import colours
from ....core.progress import Progress, Stop
from ....core.tables.cluster_table import NO_TRACK, NON_CLASS_LABELS
from ....models.analysis import Analysis
from ....statistics.scores import atoms_of
from ....tracking import text as movie_text
from ....tracking.averaging import ALL, average_frames
from ....tracking.files import FILES, write_movies
from ....tracking.following import TrackedMovie, evaluate_tracks, track_clusters
from ....tracking.settings import FRAME_TIME, MovieSettings, frame_time_of
from ....tracking.tracks import MOVIE, clusters_of, entered_times, is_tracked
from ... import tasks
from ...controls.forms import (
    CollapsibleSection,
    ComboBox,
    fill_column,
    fill_row,
    main_button,
    new_row,
    spin_box,
)
from ...controls.line_table import Lines, table_of
from ...controls.questions import show_error, show_info
from ...controls.refresher import follow, follow_event
from ...controls.save_dialogs import choose_new_folder
from ...controls.settings import remember
from ...controls.settings_form import form_of
from ...panels.dock import Dock
from ...panels.forms import busy, may_analyse
from ...tasks import format_error, start
from ...viewer.binding import Binding
from ...viewer.layers.micrographs import layer_data
from ...viewer.tracks import BY_ATOMICITY, BY_TRACK
from .plot import MAX_CURVES, TimePlot, counts_over_time, curves_of

# ---- averages of registered frames as new images

IN_MEMORY = (
    "{} is in memory only: a project cannot contain it. To keep it, save its layer as TIFF (File ▸ "
    "Save Selected Layers…), add the file in Browse and type its pixel size."
)
NO_IMAGE = "Open a stack of frames (T, Y, X): a movie."


def average_micrograph(
    micrograph: Micrograph,
    frames: int | str,
    name: str,
    frame_time_s: float | None,  # as a person has entered it; None for that of the file
    progress: Progress | None = None,
    stop: Stop | None = None,
) -> Micrograph:
    """Make a new image of registered frames, in a worker."""
    mean = average_frames(micrograph, frames, progress=progress, stop=stop)
    metadata = {**mean.metadata, AVERAGE_OF: micrograph.name}
    if frame_time_s is not None:
        metadata[FRAME_TIME] = frame_time_s * metadata["averaged_frames"]
    return Micrograph(mean.data, mean.pixel_size_nm, name, metadata=metadata)


class FrameAveraging(QWidget):
    """Number of frames and a button that averages the current stack."""

    def __init__(
        self,
        binding: Binding,
        frame_time_s: Callable[[str], float | None],  # that a person has entered for an image
    ) -> None:
        super().__init__()
        self._binding = binding
        self._frame_time_s = frame_time_s
        self._state = binding.state
        self.n_averaged = spin_box(1, 100_000, 1, 0, " frames")
        self.n_averaged.setSingleStep(1)
        self.n_averaged.setSpecialValueText("all frames")
        self.n_averaged.setAccessibleName("Frames to average")
        self.n_averaged.setToolTip(
            "Number of successive frames per average, registered to the middle frame. Default: all."
        )
        self.average_button = QPushButton("Average")
        self.average_button.setToolTip(
            "Make a new image of registered frames, with less noise and fewer frames. Analyse it "
            "like any other image."
        )
        self.average_button.clicked.connect(self.average)
        fill_row(self, (self.n_averaged, 1), self.average_button)

    def stack(self) -> Image | None:
        """Return the layer of the current image (the last one if none is) if it is a movie."""
        canvas = self._binding.canvas
        layers, source = canvas.image_layers(), canvas.source_layer(self._state.current or "")
        layer = next((x for x in (source, canvas.active_layer) if x in layers), None)
        layer = layer or (layers[-1] if layers else None)
        return layer if layer is not None and layer.ndim == 3 else None

    def average(self) -> None:
        """Make a new image of registered frames of the current stack."""
        layer = self.stack()
        if layer is None:
            show_error(NO_IMAGE)
            return
        if not self._binding.canvas.may_join_project(layer):
            return
        value = int(self.n_averaged.value())
        frames: int | str = ALL if value == self.n_averaged.minimum() else value
        try:
            image = self._binding.canvas.ensure_image(layer)
            micrograph = self._state.micrograph(image)
            micrograph.calibrated()
        except AtomicityError as error:
            show_error(format_error(error))
            return
        name = f"{image} mean" if frames == ALL else f"{image} mean of {frames}"
        start(
            self._state,
            average_micrograph,
            micrograph,
            frames,
            name,
            self._frame_time_s(image),
            message=f"Averaging frames of {image}",
            on_result=self._show_averaged,
            key="average frames",
            owner=self,
            about=image,
        )

    def _show_averaged(self, mean: Micrograph) -> None:
        data, options, _ = layer_data(mean)
        image = self._binding.canvas.ensure_image(self._binding.viewer.add_image(data, **options))
        show_info(IN_MEMORY.format(image))


NO_STACK = "{} is a single image, not a movie."
NOT_ANALYSED = "Analyse the stack first: clusters are found in every frame, then tracked."
NOT_TRACKED = "Press Track: detections of one cluster in different frames get one track number."
_SAME = ("cluster_id", "frame", "y_px", "x_px")
_NO_TIMES = (None, None)


def _settings_of(analysis: Analysis) -> MovieSettings:
    """Return the settings of the tracks of an analysis."""
    return MovieSettings.from_dict(analysis.parameters[MOVIE]["settings"])


class Movie(Dock):
    """The button Track, a plot over time, and the events of the current image."""

    follows = ("changed", "images_changed", "current_changed", "project_changed",
               "selection_changed")  # fmt: skip

    # ---- parts
    def build(self) -> None:
        self.found: TrackedMovie | None = None
        # Image, table and settings of the movie that is shown.
        self._found_in: tuple[Any, ...] = ()
        # Frame time in s and rate of changes that a person has entered, or None, for each stack: by
        # its file, because another project may have a stack of the same name.
        self._times: dict[str, tuple[float | None, float | None]] = {}
        self._task = f"movie {id(self)}"
        self.content.setContentsMargins(6, 6, 6, 6)
        self.setSizePolicy(QSizePolicy.Policy.Expanding, QSizePolicy.Policy.Expanding)
        self.button = self.add(
            main_button("Track", self),
            "Estimate the stage drift and link clusters of successive frames; then show their "
            "smoothed atomicity against time, and events.",
        )
        self.button.clicked.connect(self.track)
        self.message = self._add_label("Message")
        self.body = self.add(self._new_body())
        self.body.hide()
        self.form = form_of(MovieSettings)
        self.frame_time = self.form.controls["frame_time_s"]
        self.rate = self.form.controls["rate"]
        for control in (self.frame_time, self.rate):
            control.valueChanged.connect(self._on_times)
        self.settings_part = self.add(CollapsibleSection("Settings", self.form))
        self.averaging = FrameAveraging(self.binding, lambda image: self._entered(image)[0])
        self.averaging_part = self.add(CollapsibleSection("Average frames", self.averaging))
        follow_event(self, self.binding.viewer.dims.events.current_step, self._on_step)
        follow(self, self.binding.canvas.layers_changed, self.invalidate)

    def _add_label(self, name: str) -> QLabel:
        label = self.add_label(lines=2)
        label.setAccessibleName(name)
        return label

    def _new_body(self) -> QWidget:
        self.summary = QLabel()
        self.summary.setWordWrap(True)
        self.summary.setAccessibleName("Movie in words")
        self.plot = TimePlot()
        self.plot.picked.connect(self._on_selected)
        self.plot.frame_picked.connect(self._on_frame_selected)
        body = QWidget()
        fill_column(body, self.summary, self.plot, self._buttons(), self._events(), self._dwells())
        return body

    def _buttons(self) -> QHBoxLayout:
        self.whole_button = QPushButton("Whole tracks")
        self.whole_button.setToolTip(
            "Select the clusters of the selected tracks in all frames, for example to label all of "
            "them with one key."
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
        return new_row(self.whole_button, (self.colour_combo, 1), self.save_button)

    def _events(self) -> CollapsibleSection:
        self.events = Lines(movie_text.EVENT_HEADERS, movie_text.EVENT_TOOLTIPS, self)
        self.event_table: QTableView = table_of(self.events, "Events", 7)
        self.event_table.clicked.connect(self._on_event)
        self.events_part = CollapsibleSection("Events", self.event_table)
        self.events_part.button.setChecked(True)
        return self.events_part

    def _dwells(self) -> CollapsibleSection:
        self.dwells = Lines(movie_text.DWELL_HEADERS, movie_text.DWELL_TOOLTIPS, self)
        self.dwell_table: QTableView = table_of(self.dwells, "Dwell times", 8)
        self.dwells_part = CollapsibleSection("How long labels last", self.dwell_table)
        return self.dwells_part

    # ---- changes of the state
    def refresh(self) -> None:
        """Show the movie of the current image; compute it in a worker if it is not known."""
        image = self.state.current
        analysis = None if image is None else self.state.analysis(image)
        known = None if image is None else self.state.micrograph(image)
        seconds = None if known is None else frame_time_of(known)
        text = "unknown" if seconds is None else f"{seconds:g} s, from the metadata"
        self.frame_time.setSpecialValueText(text)
        self._show_times(image, analysis)
        self.message.setText(self._what_to_do(image, known, analysis))
        self.message.setVisible(bool(self.message.text()))
        if image is None or analysis is None or not is_tracked(analysis):
            self._show_none()
            return
        settings = _settings_of(analysis)
        wanted = (image, analysis.table, settings)
        if self._same(wanted):
            if self.found is not None:
                self.refresh_selection()
            return
        if self._found_in and self._found_in[0] != image:
            self._show_none()
        self._found_in = wanted
        self.start(
            evaluate_tracks,
            analysis,
            settings,
            on_result=partial(self._take, wanted),
            on_error=self._on_error,
            key=self._task,
            about=image,
            quiet_errors=True,
        )

    def _same(self, wanted: tuple[Any, ...]) -> bool:
        now = self._found_in
        return bool(now) and (now[0], now[2]) == (wanted[0], wanted[2]) and now[1] is wanted[1]

    def _file_of(self, image: str) -> str:
        return str(self.state.micrograph(image).path or image)

    def _entered(self, image: str) -> tuple[float | None, float | None]:
        return self._times.get(self._file_of(image), _NO_TIMES)

    def _show_times(self, image: str | None, analysis: Analysis | None) -> None:
        """Show frame time and rate of changes of the current stack."""
        if image is None:
            return
        known, file = entered_times(analysis), self._file_of(image)
        if is_tracked(analysis) or (known and file not in self._times):
            self._times[file] = known.get("frame_time_s"), known.get("rate")
        for control, value in zip((self.frame_time, self.rate), self._entered(image), strict=True):
            if control.value() != (value or 0.0):  # another text may just be typed
                with QSignalBlocker(control):
                    control.setValue(value or 0.0)

    def _on_times(self, *_: object) -> None:
        """Keep frame time and rate of changes with the stack that they were entered for."""
        image, settings = self.state.current, self.form.settings()
        if image is not None:
            times = self._times[self._file_of(image)] = settings.frame_time_s, settings.rate
            if is_tracked(self.state.analysis(image)):
                set_times = partial(self.state.clusters.set_movie_times, image, *times)
                self.binding.edits.attempt(set_times)
        self.invalidate()

    def _what_to_do(
        self, image: str | None, micrograph: Micrograph | None, analysis: Analysis | None
    ) -> str:
        if image is None or micrograph is None:  # there may be a stack that no dock has taken yet
            return NO_IMAGE if self.averaging.stack() is None else NOT_ANALYSED
        if micrograph.n_frames < 2:
            return NO_STACK.format(image)
        if analysis is None:
            return NOT_ANALYSED
        return "" if is_tracked(analysis) else NOT_TRACKED

    def update_enabled(self, *_: object) -> None:
        """Enable the buttons while no task runs."""
        idle = not busy(self.state)
        self.button.setEnabled(idle and self._is_stack() and may_analyse(self.state))
        self.averaging.average_button.setEnabled(idle and self.averaging.stack() is not None)

    def _is_stack(self) -> bool:
        analysis = self.state.analysis(self.state.current or "")
        return analysis is not None and analysis.micrograph.n_frames > 1

    def _on_error(self, error: BaseException) -> None:
        self._found_in = ()
        self._show_none()
        self.message.setText(tasks.format_error(error))
        self.message.show()

    # ---- the button
    def track(self) -> None:
        """Track the clusters of the current image."""
        image = self.state.current
        analysis = None if image is None else self.state.analysis(image)
        if image is None or analysis is None:
            return
        settings = self.attempt(self.form.settings)
        if settings is not None:
            self.start(
                track_clusters,
                analysis,
                settings,
                message=f"Tracking the clusters of {image}",
                on_result=self._take_tracks,
                key="analysis",
                about=image,
            )

    def _take_tracks(self, tracked: Analysis) -> None:
        image = tracked.micrograph.name
        now = self.state.analysis(image)
        if now is None or not self.binding.accepts(tracked):
            return
        a, b = now.table, tracked.table
        if len(a) != len(b) or any((a[n].to_numpy() != b[n].to_numpy()).any() for n in _SAME):
            show_info(f"The clusters of {image} have changed during tracking: press Track again.")
            return
        self.binding.edits.attempt(partial(self.state.clusters.set_tracks, tracked))

    def _take(self, wanted: tuple[Any, ...], found: TrackedMovie) -> None:
        if not self._same(wanted):
            return
        self.found = found
        table = found.table
        labels = dict(
            zip(table["cluster_id"].tolist(), table["label_smoothed"].tolist(), strict=True)
        )
        self.binding.tracks.take_smoothed(found.image, wanted[1], labels)
        self.summary.setText(movie_text.summary(found))
        classes = self.state.classes()
        self.events.show(movie_text.event_lines(found.events), classes=classes)
        self.dwells.show(movie_text.dwell_lines(found.dwell_rates), classes=classes)
        self.events_part.button.setText(f"Events ({len(found.events)})")
        self.plot.show_time(found.drift.n_frames, found.frame_time_s)
        self._on_step()
        self.body.show()
        self.refresh_selection()

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

    def refresh_selection(self) -> None:
        found = self.found
        if found is None:
            return
        chosen = self.selected_tracks
        self.whole_button.setEnabled(bool(chosen))
        classes = self.state.classes()
        if chosen:
            shown = chosen[:MAX_CURVES]
            name = f"track {shown[0]}" if len(shown) == 1 else f"{len(shown)} tracks"
            if len(chosen) > len(shown):
                name = f"{len(shown)} of {len(chosen)} selected tracks"
            sizes = [(c, float(n)) for c in classes if (n := atoms_of(c)) is not None]
            self.plot.show_curves(
                curves_of(found, shown), sizes, f"Atoms of {name}: counted (dots), smoothed (lines)"
            )
        else:
            labels = [*classes, *NON_CLASS_LABELS]
            self.plot.show_counts(
                counts_over_time(found, labels), colours(classes), "Clusters of each smoothed label"
            )
        self._mark_events(set(chosen))

    def _mark_events(self, chosen: set[int]) -> None:
        """Show events of other tracks in grey while tracks are selected."""
        assert self.found is not None
        of_event = [{int(t) for t in x.split("|")} for x in self.found.events["tracks"]]
        self.events.faint = {i for i, t in enumerate(of_event) if chosen and not t & chosen}
        if of_event:
            last = self.events.index(len(of_event) - 1, len(movie_text.EVENT_HEADERS) - 1)
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
        source = self.binding.canvas.source_layer(self.state.current or "")
        if source is not None and source.ndim == 3:
            self.binding.viewer.dims.set_point(0, source.data_to_world((frame, 0, 0))[0])

    def _on_colour(self, *_: object) -> None:
        self.binding.tracks.colour_by = str(self.colour_combo.currentData())

    # ---- out
    def save(self) -> None:
        """Write the tables of the movie into a chosen folder."""
        if self.found is None:
            return
        chosen = choose_new_folder(self, "Folder to make for the tables of the movie", "movie")
        if chosen is not None:
            tasks.start(
                self.state,
                write_movies,
                [self.found],
                chosen,
                message="Writing the tables of the movie",
                on_result=lambda _: show_info(f"Written into {chosen}: {', '.join(FILES)}"),
                key=f"write {chosen}",
            )
