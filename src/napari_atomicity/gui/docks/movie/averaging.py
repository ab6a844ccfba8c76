"""Averages of registered frames as new images."""

from __future__ import annotations

from napari.utils.notifications import show_error
from qtpy.QtWidgets import QHBoxLayout, QPushButton, QWidget

from ....core.errors import AtomicityError
from ....core.micrograph import Micrograph
from ....core.progress import Progress, Stop
from ....tracking.averaging import ALL, average_frames
from ...controls.forms import spin_box
from ...tasks import format_error, start
from ...viewer.binding import Binding
from ...viewer.layer_data import layer_data

NO_IMAGE = "Open a stack of frames (T, Y, X): a movie."


def average_micrograph(
    micrograph: Micrograph,
    frames: int | str,
    name: str,
    progress: Progress | None = None,
    stop: Stop | None = None,
) -> Micrograph:
    """Make a new image of registered frames, in a worker."""
    mean = average_frames(micrograph, frames, progress=progress, stop=stop)
    return Micrograph(mean.data, mean.pixel_size_nm, name, metadata=mean.metadata)


class FrameAveraging(QWidget):
    """Number of frames and a button that averages the current stack."""

    def __init__(self, binding: Binding) -> None:
        super().__init__()
        self._binding = binding
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
        row = QHBoxLayout(self)
        row.setContentsMargins(0, 0, 0, 0)
        row.addWidget(self.n_averaged, 1)
        row.addWidget(self.average_button)

    def average(self) -> None:
        """Make a new image of registered frames of the current stack."""
        layers = [x for x in self._binding.image_layers() if x.ndim == 3]
        source = self._binding.source_layer(self._state.current or "")
        layer = source if source in layers else (layers[-1] if layers else None)
        if layer is None:
            show_error(NO_IMAGE)
            return
        value = int(self.n_averaged.value())
        frames: int | str = ALL if value == self.n_averaged.minimum() else value
        try:
            image = self._binding.ensure_image(layer)
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
            message=f"Averaging frames of {image}",
            on_result=self._show_averaged,
            owner=self,
            about=image,
        )

    def _show_averaged(self, mean: Micrograph) -> None:
        data, options, _ = layer_data(mean)
        self._binding.ensure_image(self._binding.viewer.add_image(data, **options))
