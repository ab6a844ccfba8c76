"""Settings of a movie: linking of clusters, and smoothing of labels."""

from __future__ import annotations

from qtpy.QtCore import QSignalBlocker, Signal
from qtpy.QtWidgets import QSpinBox, QWidget

from ....tracking.settings import DRIFT_METHODS, MovieSettings
from ...controls.forms import ComboBox, IntegerSpinBox, labelled, new_form, spin_box
from ...controls.settings import remember

_DRIFT = {
    "auto": "automatic",
    "clusters": "by the clusters",
    "image": "by the images",
    "none": "none",
}


class MovieForm(QWidget):
    """Settings of a movie.

    Signals: ``changed()``, when the frame time or the rate changes; both apply to existing tracks.
    """

    changed = Signal()

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        usual = MovieSettings()
        self.search_range = spin_box(0.01, 100.0, usual.search_range_nm, 2, " nm")
        self.memory = _whole(0, 1000, usual.memory_frames, " frames")
        self.min_frames = _whole(1, 10_000, usual.min_frames, " frames")
        self.drift = ComboBox()
        for name in DRIFT_METHODS:
            self.drift.addItem(_DRIFT[name], name)
        self.frame_time = spin_box(0.0, 1e6, 0.0, 4, " s")
        self.frame_time.setSingleStep(0.1)
        self.rate = spin_box(0.0, 1e6, 0.0, 5, "")
        self.rate.setSpecialValueText("estimated")
        self.rate.setSingleStep(0.01)
        form = new_form()
        self.setLayout(form)
        labelled(
            form, "Search range", self.search_range,
            "Largest displacement of a cluster between frames, after drift correction. "
            f"Default: {usual.search_range_nm:g} nm.",
        )  # fmt: skip
        labelled(
            form, "Memory", self.memory,
            "Number of successive frames in which a tracked cluster may be missing. "
            f"Default: {usual.memory_frames} frames.",
        )  # fmt: skip
        labelled(
            form, "Shortest track", self.min_frames,
            "Smallest number of frames of a track. "
            f"Default: {usual.min_frames} frames.",
        )  # fmt: skip
        labelled(
            form, "Drift", self.drift,
            "Source of the stage drift. Default: automatic, that is the clusters, or the images if "
            "too few clusters are linked.",
        )  # fmt: skip
        labelled(
            form, "Time of a frame", self.frame_time,
            "Time from the start of one frame to the start of the next, in seconds. Default: from "
            "the file; without it, times are in frames.",
        )  # fmt: skip
        labelled(
            form, "Changes", self.rate,
            "Rate at which a cluster changes its class, per second, or per frame if the frame time "
            "is unknown. Default: estimated from all tracks.",
        )  # fmt: skip
        self.frame_time_s(None)
        remember("movie/search_range", self.search_range)
        remember("movie/drift", self.drift)
        for box in (self.frame_time, self.rate):
            box.valueChanged.connect(lambda _: self.changed.emit())

    def frame_time_s(self, seconds: float | None) -> None:
        """Show the frame time in the file of the current image."""
        text = "unknown" if seconds is None else f"{seconds:g} s, from the file"
        self.frame_time.setSpecialValueText(text)

    def forget(self) -> None:
        """Reset the frame time, for another image."""
        with QSignalBlocker(self.frame_time):
            self.frame_time.setValue(0.0)

    def settings(self) -> MovieSettings:
        """Return the settings of the form."""
        return MovieSettings(
            search_range_nm=self.search_range.value(),
            memory_frames=self.memory.value(),
            min_frames=self.min_frames.value(),
            drift=str(self.drift.currentData()),
            frame_time_s=self.frame_time.value() or None,
            rate=self.rate.value() or None,
        )


def _whole(low: int, high: int, value: int, suffix: str) -> QSpinBox:
    box = IntegerSpinBox()
    box.setRange(low, high)
    box.setValue(value)
    box.setSuffix(suffix)
    box.setKeyboardTracking(False)
    return box
