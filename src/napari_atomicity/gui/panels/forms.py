"""Form fields that several docks have."""

from __future__ import annotations

import weakref
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from napari.layers import Image, Shapes
from qtpy.QtCore import QEvent, QSignalBlocker, Qt, QTimer, Signal
from qtpy.QtWidgets import (
    QAbstractSpinBox,
    QDoubleSpinBox,
    QFormLayout,
    QPushButton,
    QSizePolicy,
    QWidget,
)

from ...core.errors import AtomicityError, Cancelled
from ...core.micrograph import MAX_PIXEL_NM
from ...core.model_card import Card, ModelCard
from ...core.text import pluralise
from ...detection import DetectionSettings
from ...io.readers.read_limits import ReadLimits, set_read_limits
from ...models.files import SHIPPED, available_models
from ...state.window_state import TaskState, WindowState
from .. import tasks
from ..controls.forms import (
    ComboBox,
    fill_row,
    keep_room,
    labelled,
    new_form,
    spin_box,
    wrapped_label,
)
from ..controls.refresher import follow
from ..controls.save_dialogs import PathField
from ..controls.settings import MODEL, remember, show_setting
from ..controls.settings_form import SettingsForm, form_of
from ..viewer.binding import Binding
from ..viewer.layers import calibration
from ..viewer.layers.layer_group import ROLE
from ..viewer.layers.micrographs import why_not
from ..viewer.models import model_folder

# ---- pixel size from a line over a known distance, such as a scale bar in the image

_KIND = "ruler"


class Ruler(QWidget):
    """The field of the pixel size; while a line is drawn, that of the length of the line.

    Signals: ``measured(nm)`` with the pixel size.
    """

    measured = Signal(float)

    def __init__(
        self,
        binding: Binding,
        pixel_size: QDoubleSpinBox,
        length: QDoubleSpinBox,
        parent: QWidget | None = None,
    ) -> None:
        super().__init__(parent)
        self._binding = binding
        self._line: Shapes | None = None
        self._source: Image | None = None
        self._active_before: Any = None
        self._pixel_size = pixel_size
        self.button = QPushButton("Known distance")
        self.button.setCheckable(True)
        self.button.setToolTip(
            "Draw a line over a known distance, such as a scale bar in the image, and enter its "
            "length. A second click removes the line."
        )
        keep_room(self.button)  # so that the row keeps its height
        self.length = length
        self.length.setToolTip("Length of the line in nm.")
        self.length.setAccessibleName("Length of the line")
        self.length.setSpecialValueText("line length")
        for field in (pixel_size, length):  # a narrow dock has no room for their buttons
            field.setButtonSymbols(QAbstractSpinBox.ButtonSymbols.NoButtons)
        fill_row(self, (pixel_size, 1), (length, 1), self.button)
        self.setFocusProxy(pixel_size)
        self._show_fields()
        self.length.editingFinished.connect(self._on_length)

    @property
    def source(self) -> Image | None:
        """The layer over which a line is drawn; None if there is no line."""
        return self._source

    def _show_fields(self) -> None:
        draws = self._line is not None
        self.button.setChecked(draws)
        self._pixel_size.setHidden(draws)
        self.length.setVisible(draws)

    def offer_drawing(self, offers: bool) -> None:
        """Show or hide the button; hidden, it takes no width from the field."""
        kind = QSizePolicy.Policy
        policy = self.button.sizePolicy()
        policy.setHorizontalPolicy(kind.Minimum if offers else kind.Ignored)
        self.button.setSizePolicy(policy)
        self.button.setVisible(offers)

    def draw(self, source: Image) -> None:
        """Start to draw a line over an image."""
        self.cancel()
        self._source, self._active_before = source, self._binding.canvas.active_layer
        self._line = Shapes(
            ndim=source.ndim,
            edge_color="yellow",
            edge_width=max(1.0, max(source.data.shape) / 300),
            name=f"{source.name} {_KIND}",
            metadata={ROLE: {"image": source.name, "kind": _KIND, "position": 9}},
            **calibration.placement(source),
        )
        self._binding.viewer.add_layer(self._line)
        self._line.mode = "add_line"
        self._line.mouse_drag_callbacks.append(self._after_drawing)
        self._line.bind_key("Escape", lambda _: self.cancel())
        self._binding.canvas.show_message("Draw a line, and enter its length. Esc stops")
        self._show_fields()

    def _after_drawing(self, layer: Shapes, event: Any) -> Iterator[None]:
        """Take a length that was entered before the line was drawn."""
        yield
        while event.type == "mouse_move":
            yield
        QTimer.singleShot(0, self._on_length)

    def cancel(self) -> None:
        """Remove the line."""
        layers = self._binding.viewer.layers
        if self._line is not None and self._line in layers:
            layers.remove(self._line)
            if layers.selection.active is None and self._active_before in layers:
                self._binding.canvas.activate(self._active_before)
        self._line = self._source = self._active_before = None
        self.length.setValue(0.0)
        self._show_fields()

    def _on_length(self) -> None:
        nm = self.length.value()
        lines = [] if self._line is None else self._line.data
        if not len(lines) or nm <= 0:
            return
        ends = np.asarray(lines[-1], float)[:, -2:]
        length_px = float(np.linalg.norm(ends[-1] - ends[0]))
        self.cancel()
        if length_px > 0:
            self.measured.emit(nm / length_px)


def read_limits_form() -> SettingsForm[ReadLimits]:
    """Return a form of the limits for reading files, which apply to the whole window."""
    form = form_of(ReadLimits)

    def apply() -> None:
        set_read_limits(form.settings())

    form.changed.connect(apply)
    apply()
    return form


class ImageCombo(ComboBox):
    """The Image layers that may hold a micrograph.

    Signals: ``changed()`` when another image is chosen or the chosen one has changed.
    """

    changed = Signal()

    def __init__(self, binding: Binding, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._binding = binding
        self._layers: list[weakref.ref[Image]] = []
        follow(self, binding.canvas.layers_changed, self._refill)
        follow(self, binding.canvas.image_activated, self._show)
        follow(self, binding.state.current_changed, self._show_current)
        self.currentIndexChanged.connect(self._on_index)
        self.activated.connect(self._uncover)  # by a person only
        self._refill()
        self._show_current(binding.state.current)

    @property
    def layer(self) -> Image | None:
        """The chosen layer."""
        index = self.currentIndex()
        return self._layers[index]() if 0 <= index < len(self._layers) else None

    def _refill(self) -> None:
        before = self.layer
        layers = self._binding.canvas.image_layers()
        self.blockSignals(True)
        self.clear()
        self._layers = [weakref.ref(x) for x in layers]
        self.addItems([x.name for x in layers])
        # A new image is the active layer and likely the one to work on. One that another image
        # has hidden is not meant any more.
        active = self._binding.viewer.layers.selection.active if layers else None
        current = self._binding.state.current
        waits, shown = self.waits_for(current), self._binding.canvas.source_layer(current)
        found = [x for x in (active, before, shown) if x is not None]
        chosen = sorted((x for x in found if x.visible or not waits), key=lambda x: not x.visible)
        index = next((i for c in chosen for i, x in enumerate(layers) if x is c), None)
        self.setCurrentIndex((-1 if waits else len(layers) - 1) if index is None else index)
        self.blockSignals(False)
        self.changed.emit()

    def waits_for(self, image: str | None) -> bool:
        """Return whether an image is read, or cannot be: the image before is not meant."""
        project = self._binding.state.project
        in_project = image is not None and project is not None and project.has(image)
        return in_project and self._binding.canvas.source_layer(image) is None

    def _show_current(self, image: str | None) -> None:
        if self.waits_for(image):
            with QSignalBlocker(self):
                self.setCurrentIndex(-1)
            self.changed.emit()  # also after another image without a layer: its name is shown
        elif (layer := self._binding.canvas.source_layer(image)) is not None:
            self._show(layer)

    def _show(self, layer: Image) -> None:
        index = next((i for i, x in enumerate(self._layers) if x() is layer), -1)
        if index >= 0:
            self.setCurrentIndex(index)

    def _on_index(self, index: int) -> None:
        if self.layer is not None:
            self._binding.current_image.make_current(self.layer)
        self.changed.emit()

    def _uncover(self) -> None:
        if self.layer is not None:
            self._binding.current_image.uncover(self.layer)


class ImageForm(QWidget):
    """Choice of the image and its pixel size, which is written to the layer.

    Signals: ``changed()`` when either changes.
    """

    changed = Signal()

    def __init__(
        self,
        binding: Binding,
        max_nm: float = DetectionSettings().diameter_min_nm / 3,  # of a pixel that is fine enough
        objects: str = f"clusters of {DetectionSettings().diameter_min_nm:g} nm",
        parent: QWidget | None = None,
    ) -> None:
        super().__init__(parent)
        self._binding = binding
        self._max_nm, self._objects = max_nm, objects
        # Pixel sizes that were typed but not yet written to their layers.
        self._typed: weakref.WeakKeyDictionary[Image, float] = weakref.WeakKeyDictionary()
        self.images = ImageCombo(binding)
        self.pixel_size = spin_box(0.0, MAX_PIXEL_NM, 0.0, 5, " nm")
        self.pixel_size.setSpecialValueText("not known")
        self.pixel_size.setSingleStep(0.001)
        self.hint = ""
        """What to know about image and pixel size; docks show it below their main button."""
        self.ruler = Ruler(binding, self.pixel_size, spin_box(0.0, 1e6, 0.0, 3, " nm"))
        self.ruler.button.clicked.connect(self._draw)
        self.ruler.measured.connect(self.enter)
        self.form = form = new_form()
        labelled(form, "Image", self.images, "The layer that holds the micrograph.")
        tooltip = (
            "Pixel size in nm, from scale and units of the layer. Classification needs it. A value "
            "that you enter here is written to the layer."
        )
        labelled(form, "Pixel size", self.ruler, tooltip)
        self.pixel_size.setToolTip(tooltip)
        self.pixel_size.setAccessibleName("Pixel size")
        self.setLayout(form)
        self.images.changed.connect(self._on_image)
        self.pixel_size.valueChanged.connect(self._on_typed)
        self.pixel_size.editingFinished.connect(self._store)
        self._on_image()

    @property
    def ready(self) -> bool:
        """Whether an image with a pixel size is chosen."""
        return self.images.layer is not None and self.pixel_size.value() > 0

    @property
    def image(self) -> str | None:
        """Name of the chosen image; None if it is not in the state. No layer: the current one."""
        state, layer = self._binding.state, self.images.layer
        name = state.current if layer is None else self._binding.canvas.image_of(layer)
        return name if name in state.images else None

    def take(self) -> str:
        """Calibrate the layer, add its image to the state, and return the name of the image.

        Raises `UnsuitableImageError` if the layer holds no micrograph, `Cancelled` if a person does
        not want it in the open project.
        """
        layer, size = self.images.layer, self.pixel_size.value()
        if layer is None:
            raise AtomicityError("there is no image", advice="Open a micrograph first")
        if not self._binding.canvas.may_join_project(layer):
            raise Cancelled
        known = calibration.pixel_size_nm(layer)
        if known is None or abs(known - size) > _ROUNDING_NM:
            self._binding.canvas.calibrate(layer, size)
            self._binding.canvas.view.fit(layer)
        self._typed.pop(layer, None)
        image = self._binding.canvas.ensure_image(layer)
        self._binding.current_image.uncover(layer)
        self._on_image()
        return image

    def _on_typed(self, size_nm: float) -> None:
        if self.images.layer is not None:
            self._typed[self.images.layer] = size_nm
        self._on_image()

    def enter(self, size_nm: float) -> None:
        """Set the pixel size as if a person had typed it."""
        self.pixel_size.setValue(size_nm)
        self._store()

    def _store(self) -> None:
        """Write a pixel size that was entered to the layer of a known image."""
        layer, image = self.images.layer, self.image
        if layer is not None and layer in self._typed and self.ready and image is not None:
            self.take()

    def _draw(self) -> None:
        if self.ruler.source is not None:
            self.ruler.cancel()
        elif self.images.layer is not None:
            self._binding.current_image.uncover(self.images.layer)
            self.ruler.draw(self.images.layer)

    def _on_image(self) -> None:
        layer = self.images.layer
        if self.ruler.source not in (None, layer):
            self.ruler.cancel()  # the line belongs to another image
        size = typed = guess = in_file = None
        if layer is not None:
            size, typed = calibration.pixel_size_nm(layer), self._typed.get(layer)
            guess = calibration.suggested_nm(layer)
            in_file = self._binding.canvas.size_in_file_nm(layer) if size is None else None
        shown = typed or size or guess or in_file or 0.0
        if abs(self.pixel_size.value() - shown) > _ROUNDING_NM:
            with QSignalBlocker(self.pixel_size):
                self.pixel_size.setValue(shown)
        self.hint = self._no_image() if layer is None else self._hint(size, typed, guess, in_file)
        is_doubtful = size > self._max_nm if size is not None else in_file is None
        self.ruler.offer_drawing(layer is not None and is_doubtful)
        self.changed.emit()

    def _no_image(self) -> str:
        """Return a hint if no micrograph is chosen: why, or how to open one."""
        current = self._binding.state.current
        if self.images.waits_for(current):
            return f"{current} is being read, or cannot be read: Browse gives the reason."
        viewer = self._binding.viewer
        layers = [] if viewer is None else list(viewer.layers)
        reasons = [why_not(layer) for layer in layers]
        return reasons[-1] if reasons else _OPEN

    def _hint(
        self,
        size_nm: float | None,
        typed_nm: float | None,
        guess_nm: float | None,
        in_file_nm: float | None,
    ) -> str:
        """Return what to know about the pixel size; "" if it is known and fine enough."""
        if known_nm := typed_nm or size_nm:
            return "" if known_nm <= self._max_nm else self._too_coarse(known_nm)
        if guess_nm is not None:
            return f"The layer has a scale of {guess_nm:g} without a unit. Is it in nm?"
        if in_file_nm is not None:
            return "This pixel size is from the file."
        return "The file gives no pixel size. Enter it, or draw a known distance."

    def _too_coarse(self, size_nm: float) -> str:
        return (
            f"⚠ A pixel of {size_nm:.3g} nm is too coarse: {self._objects} need "
            f"{self._max_nm:.2g} nm or finer. Check the pixel size, and the line and its length if "
            "you drew one."
        )


_OPEN = "Open a micrograph: drop a file here, or File ▸ Open Sample ▸ Atomicity."
# The field shows five digits; the value of a file has more.
_ROUNDING_NM = 0.5e-5


class ModelCombo(ComboBox):
    """The available models, with their descriptions as tooltips."""

    setting, usual = MODEL, SHIPPED["default"]
    """Key under which the choice is saved, and the model that is listed first."""

    def __init__(self, parent: QWidget | None = None, *, saved: bool = True) -> None:
        """Offer the models; a choice is saved for all analyses unless ``saved`` is False."""
        super().__init__(parent)
        self._fill()
        if saved:
            remember(self.setting, self, shared=True)
        else:
            show_setting(self.setting, self)
        follow(self, model_folder.changed, self._refill)

    def available(self) -> list[tuple[str, str]]:
        """Return name and description of each model."""
        cards = available_models(ModelCard)
        return [(name, describe_card(c, ", ".join(c.classes))) for name, c in cards.items()]

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


def describe_card(card: Card, otherwise: str = "") -> str:
    """Return the description of a model with licence and DOI."""
    return "\n".join(filter(None, (card.description or otherwise, card.terms)))


def add_model_row(form: QFormLayout) -> ModelCombo:
    """Add a row for the model that classifies."""
    models = ModelCombo()
    labelled(form, "Model", models, "Model that classifies. Default: the model of this package.")
    return models


def may_analyse(state: WindowState) -> bool:
    """Return whether results can be stored: not in a read-only window or by a blind annotator."""
    return not (state.read_only or state.blind)


def busy(state: WindowState) -> bool:
    """Return whether a task runs that the user waits for."""
    return state.status.state is TaskState.RUNNING


_LAYOUT = "A folder of images for each class, named after it: Pt19, Pt30, …"


def count_images(folder: str) -> dict[str, int]:
    """Class → number of images of a folder of size-selected images; run in a worker."""
    from ...training.labelled_files import labelled_files

    return dict(Counter(label for file in labelled_files(Path(folder)) for label in file.labels))


class SizeSelectedFolder(PathField):
    """A folder of size-selected images.

    Signals: ``counted()`` when its images are counted, or may be others.
    """

    counted = Signal()

    def __init__(self, state: WindowState) -> None:
        super().__init__("Size-selected images", "the folder of size-selected images")
        self._state = state
        self.classes: dict[str, int] = {}
        self.setPlaceholderText("a folder with Pt19/, Pt30/, …")
        self.found = wrapped_label("Images of the folder", plain=True, lines=2)
        self.found.setText(_LAYOUT)
        self.chosen.connect(self._count)
        self.returnPressed.connect(self._count_again)

    def changeEvent(self, event: QEvent) -> None:  # noqa: N802
        """Count again when a person comes back to the window: files may have been added."""
        super().changeEvent(event)
        is_back = event.type() == QEvent.Type.ActivationChange and self.isActiveWindow()
        if is_back and self.isVisible():
            self._count_again()

    def _count_again(self) -> None:
        """Count the images of the same folder, which may have others now.

        Another folder that was just entered is counted when it is chosen.
        """
        if self.path is not None and self.text() == self._last:
            self._start_count()

    def _count(self) -> None:
        self.classes = {}
        self.counted.emit()
        if self.path is None:
            self.found.setText(_LAYOUT)
        else:
            self._start_count()

    def _start_count(self) -> None:
        """Count the images in a worker: disks may be slow."""
        tasks.start(
            self._state,
            count_images,
            str(self.path),
            on_result=self._show,
            on_error=self._show_error,
            key=f"size-selected {id(self)}",
            owner=self,
        )

    def _show_error(self, error: BaseException) -> None:
        self.found.setText(tasks.format_error(error))

    def _show(self, classes: dict[str, int]) -> None:
        self.classes = classes
        self.found.setText(
            ", ".join(f"{name}: {pluralise(n, 'image')}" for name, n in classes.items())
        )
        self.counted.emit()


# ---- which images are reviewed

DONE, NOT_DONE = "Set image as reviewed", "Set image as not reviewed"
HAS_MARKS = "Image reviewed: it has marks"
_REVIEWED = (
    "Record that you have searched the whole image, so that unmarked positions count as no atom. "
    "Needed for images without atoms; images with blind marks count as reviewed. A second click "
    "reverts it."
)
_BLIND_ONLY = "Tick Blind in the bar first: only blind marks are compared."


class ReviewedButton(QPushButton):
    """Sets the current image as reviewed for atoms, or as not reviewed."""

    def __init__(self) -> None:
        super().__init__(DONE)

    def show_marks(self, n: int | None, blind: bool, possible: bool) -> None:
        """Name what a click does; explain the button, and why it is disabled.

        ``n`` is the number of the annotator's blind marks in the image, None if it isn't reviewed.
        """
        # Without Blind, an image would count as one in which nobody marked atoms.
        self.setEnabled(possible and blind and not n)
        self.setText(HAS_MARKS if n else DONE if n is None else NOT_DONE)
        self.setToolTip(_REVIEWED if blind else f"{_REVIEWED} {_BLIND_ONLY}")
