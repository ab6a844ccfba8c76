"""Parts that several docks are made of."""

from __future__ import annotations

import weakref
from contextlib import suppress

from napari.layers import Image
from qtpy.QtCore import QSignalBlocker, Qt, Signal
from qtpy.QtWidgets import (
    QCheckBox,
    QFormLayout,
    QHBoxLayout,
    QLabel,
    QPushButton,
    QVBoxLayout,
    QWidget,
)

from ...core.errors import AtomicityError, ModelError
from ...core.micrograph import MAX_PIXEL_NM
from ...core.model_card import ModelCard
from ...detection import DetectionSettings
from ...models.files import SHIPPED, model_files, read_card
from ...state.window_state import Status, TaskState, WindowState
from .. import tasks
from ..controls.connections import follow
from ..controls.drawing import ProgressBar
from ..controls.forms import ComboBox, labelled, new_form, spin_box
from ..controls.settings import remember
from ..viewer import calibration
from ..viewer.binding import Binding
from ..viewer.micrographs import why_not
from ..viewer.models import model_folder
from ..viewer.ruler import Ruler


class ImageCombo(ComboBox):
    """The Image layers that may hold a micrograph; follows the viewer.

    Signals: ``changed()`` when another image is chosen or the chosen one has changed.
    """

    changed = Signal()

    def __init__(self, binding: Binding, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._binding = binding
        self._layers: list[weakref.ref[Image]] = []
        follow(self, binding.layers_changed, self._refill)
        follow(self, binding.image_activated, self._show)
        follow(self, binding.state.current_changed, self._show_current)
        self.currentIndexChanged.connect(self._on_index)
        self._refill()
        self._show_current(binding.state.current)

    @property
    def layer(self) -> Image | None:
        """The chosen layer."""
        index = self.currentIndex()
        return self._layers[index]() if 0 <= index < len(self._layers) else None

    def _refill(self) -> None:
        before = self.layer
        layers = self._binding.image_layers()
        self.blockSignals(True)
        self.clear()
        self._layers = [weakref.ref(x) for x in layers]
        self.addItems([x.name for x in layers])
        # A new image is the active layer, and the one that somebody wants to look at next.
        active = self._binding.viewer.layers.selection.active if layers else None
        index = next(
            (i for wish in (active, before) for i, x in enumerate(layers) if x is wish),
            len(layers) - 1,
        )
        self.setCurrentIndex(index)
        self.blockSignals(False)
        self.changed.emit()

    def _show_current(self, image: str | None) -> None:
        layer = self._binding.source_layer(image) if image else None
        if layer is not None:
            self._show(layer)

    def _show(self, layer: Image) -> None:
        index = next((i for i, x in enumerate(self._layers) if x() is layer), -1)
        if index >= 0:
            self.setCurrentIndex(index)

    def _on_index(self, index: int) -> None:
        if self.layer is not None:
            self._binding.current_image.make_current(self.layer)
        self.changed.emit()


class ImageForm(QWidget):
    """Which image, and how large its pixels are; what is typed is written to the layer.

    Signals: ``changed()`` when either changes.
    """

    changed = Signal()

    def __init__(self, binding: Binding, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._binding = binding
        # What was typed and not yet written to a layer: it must survive that other layers come.
        self._typed: weakref.WeakKeyDictionary[Image, float] = weakref.WeakKeyDictionary()
        self.images = ImageCombo(binding)
        self.pixel_size = spin_box(0.0, MAX_PIXEL_NM, 0.0, 5, " nm")
        self.pixel_size.setSpecialValueText("not known")
        self.pixel_size.setSingleStep(0.001)
        self.hint = QLabel()
        self.hint.setWordWrap(True)
        self.ruler = Ruler(binding, spin_box(0.0, 1e6, 0.0, 3, " nm"))
        self.ruler.button.clicked.connect(self._draw)
        self.ruler.measured.connect(self.pixel_size.setValue)
        self.form = form = new_form()
        labelled(form, "Image", self.images, "The layer that holds the micrograph.")
        labelled(
            form,
            "Pixel size",
            self.pixel_size,
            "Edge length of a pixel in nm, from the layer's scale and units. Without it nothing "
            "can be classified; what is typed here is written to the layer.",
        )
        form.addRow(self.hint)
        form.addRow(self.ruler)
        self.setLayout(form)
        self.images.changed.connect(self._on_image)
        self.pixel_size.valueChanged.connect(self._on_typed)
        self._on_image()

    @property
    def ready(self) -> bool:
        """Whether there is an image with a pixel size."""
        return self.images.layer is not None and self.pixel_size.value() > 0

    def take(self) -> str:
        """Calibrate the layer, bring it into the session, and return the image's name.

        Raises
        ------
        UnsuitableImageError
            If the layer holds no micrograph.
        """
        layer, size = self.images.layer, self.pixel_size.value()
        if layer is None:
            raise AtomicityError("there is no image", advice="Open a micrograph first")
        known = calibration.pixel_size_nm(layer)
        if known is None or abs(known - size) > _ROUNDING_NM:
            calibration.calibrate(layer, size)
            self._binding.viewer.reset_view()
        self._typed.pop(layer, None)
        image = self._binding.ensure_image(layer)
        self._on_image()
        return image

    def _on_typed(self, size_nm: float) -> None:
        if self.images.layer is not None:
            self._typed[self.images.layer] = size_nm
        self._on_image()

    def _draw(self) -> None:
        if self.images.layer is not None:
            self.ruler.draw(self.images.layer)

    def _on_image(self) -> None:
        layer = self.images.layer
        size = typed = guess = in_file = None
        if layer is not None:
            size, typed = calibration.pixel_size_nm(layer), self._typed.get(layer)
            guess = calibration.suggested_nm(layer)
            in_file = self._binding.size_in_file_nm(layer) if size is None else None
        shown = typed or size or guess or in_file or 0.0
        if abs(self.pixel_size.value() - shown) > _ROUNDING_NM:
            with QSignalBlocker(self.pixel_size):
                self.pixel_size.setValue(shown)
        self.hint.setText(self._no_image() if layer is None else _hint(size, typed, guess, in_file))
        self.hint.setVisible(bool(self.hint.text()))
        self.ruler.setVisible(layer is not None and size is None and in_file is None)
        self.changed.emit()

    def _no_image(self) -> str:
        """What to do where no layer holds a micrograph; why the one that is there does not."""
        viewer = self._binding.viewer
        layers = [] if viewer is None else list(viewer.layers)
        reasons = [why_not(layer) for layer in layers]
        return reasons[-1] if reasons else _OPEN


_OPEN = "Open a micrograph: drop a file here, or File ▸ Open Sample ▸ Atomicity."
# The field shows five digits; what a file says is not rounded to them.
_ROUNDING_NM = 0.5e-5


def _hint(
    size_nm: float | None, typed_nm: float | None, guess_nm: float | None, in_file_nm: float | None
) -> str:
    if size_nm is not None or typed_nm:
        return ""
    if guess_nm is not None:
        return f"The layer has a scale of {guess_nm:g} without a unit. Is this in nm?"
    if in_file_nm is not None:
        return "This is the pixel size that the file gives."
    return (
        "The file does not say how large a pixel is. Type it in: without it diameters, and so "
        "atomicities, would mean nothing."
    )


class ModelCombo(ComboBox):
    """The models at hand, with their cards as tooltips; a new one is listed at once."""

    setting, usual = "model", SHIPPED["default"]
    """Under which name the choice is remembered, and the model that comes first."""

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._fill()
        remember(self.setting, self)
        follow(self, model_folder.changed, self._refill)

    def available(self) -> list[tuple[str, str]]:
        """Name of each model, and what its card says."""
        return [(card.name, card.description or ", ".join(card.classes)) for card in _cards()]

    def _fill(self) -> None:
        self.addItem(f"{self.usual} (default)", "default")
        for name, words in self.available():
            if name != self.usual:
                self.addItem(name, name)
            index = self.findData("default" if name == self.usual else name)
            self.setItemData(index, words, Qt.ItemDataRole.ToolTipRole)

    def _refill(self) -> None:
        chosen = self.model
        with QSignalBlocker(self):
            self.clear()
            self._fill()
            self.setCurrentIndex(max(0, self.findData(chosen)))

    @property
    def model(self) -> str:
        return str(self.currentData() or "default")


def _cards() -> list[ModelCard]:
    """Cards of the models at hand, without the seconds that torch takes to load."""
    cards = []
    for path in model_files():
        # A damaged one is reported when it is asked for, not here.
        with suppress(ModelError):
            cards.append(read_card(path))
    return cards


class DeviceCombo(ComboBox):
    """Where the network runs; a device that is not there is said so when it is asked for."""

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        for name, words in (
            ("auto", "automatic"),
            ("cpu", "CPU"),
            ("cuda", "GPU (CUDA)"),
            ("mps", "GPU (Apple)"),
        ):
            self.addItem(words, name)
        remember("device", self)

    @property
    def device(self) -> str:
        return str(self.currentData())


def add_model_row(form: QFormLayout) -> ModelCombo:
    """A row for the network that labels."""
    models = ModelCombo()
    labelled(form, "Model", models, "The network that is asked. Default: the shipped one.")
    return models


def add_device_row(form: QFormLayout) -> DeviceCombo:
    """A row for where it runs."""
    device = DeviceCombo()
    labelled(form, "Device", device, "Where the network runs. Default: automatic.")
    return device


def add_symmetries_row(form: QFormLayout, default: str = "off") -> QCheckBox:
    """A row for the average over the symmetries of the square."""
    box = QCheckBox("Average over eight")
    labelled(
        form,
        "Symmetries",
        box,
        "Show the network every cluster in the eight symmetries of the square and average: how the "
        "image lies makes no difference then, and the network takes eight times as long. "
        f"Default: {default}.",
    )
    return box


class DetectionForm(QWidget):
    """The settings of the detection."""

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        usual = DetectionSettings()
        form = new_form()
        self.setLayout(form)
        self.diameter_min = spin_box(0.1, 50.0, usual.diameter_min_nm, 2, " nm")
        self.diameter_max = spin_box(0.2, 100.0, usual.diameter_max_nm, 2, " nm")
        self.threshold = spin_box(0.5, 100.0, usual.threshold, 1, " × noise")
        self.split = QCheckBox("Split touching clusters")
        self.split.setChecked(usual.split_touching)
        self.split.setToolTip(
            "Whether a cluster with two summits counts as two clusters. Default: yes."
        )
        labelled(
            form,
            "Smallest",
            self.diameter_min,
            f"Diameter of the smallest cluster in nm. Default: {usual.diameter_min_nm:g} nm.",
        )
        labelled(
            form,
            "Largest",
            self.diameter_max,
            f"Diameter of the largest cluster in nm. Default: {usual.diameter_max_nm:g} nm.",
        )
        labelled(
            form,
            "Threshold",
            self.threshold,
            "How far a cluster must stand out, in units of the noise: lower finds fainter "
            f"clusters and more that are none. Default: {usual.threshold:g}.",
        )
        form.addRow(self.split)
        for name in ("diameter_min", "diameter_max", "threshold", "split"):
            remember(f"detection/{name}", getattr(self, name))

    def settings(self) -> DetectionSettings:
        """What is set.

        Raises
        ------
        AtomicityError
            If the diameters are no range.
        """
        return DetectionSettings(
            diameter_min_nm=self.diameter_min.value(),
            diameter_max_nm=self.diameter_max.value(),
            threshold=self.threshold.value(),
            split_touching=self.split.isChecked(),
        )


class TaskBar(QWidget):
    """What the window is busy with: words, a bar, and Cancel. Empty while it is not."""

    def __init__(self, state: WindowState, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.state = state
        self.words = QLabel()
        self.words.setWordWrap(True)
        self.words.setAccessibleName("Status")
        self.bar = ProgressBar()
        self.bar.setTextVisible(False)
        self.bar.setAccessibleName("Progress")
        self.bar.setMaximumHeight(self.fontMetrics().height())
        self.cancel_button = QPushButton("Cancel")
        self.cancel_button.setToolTip("Stop what is running; nothing changes.")
        self.cancel_button.clicked.connect(self._cancel)
        row = QHBoxLayout()
        row.setContentsMargins(0, 0, 0, 0)
        row.addWidget(self.bar, 1)
        row.addWidget(self.cancel_button)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.addWidget(self.words)
        layout.addLayout(row)
        follow(self, state.status_changed, self._show)
        self._show(state.status)

    def _cancel(self) -> None:
        tasks.cancel(self.state)

    def _show(self, status: Status) -> None:
        busy = status.state is TaskState.RUNNING
        self.bar.setVisible(busy)
        self.cancel_button.setVisible(busy)
        # Done goes without saying: the result is there.
        said = status.state in (TaskState.RUNNING, TaskState.STOPPED, TaskState.FAILED)
        self.words.setVisible(said and bool(status.message))
        self.words.setText(status.message)
        self.bar.setMaximum(status.total)
        self.bar.setValue(status.done)


def busy(state: WindowState) -> bool:
    """Whether something is running that the person waits for."""
    return state.status.state is TaskState.RUNNING
