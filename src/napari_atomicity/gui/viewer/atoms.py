"""The atoms of the images in a viewer: points, marking by hand, support and magnifier."""

from __future__ import annotations

from typing import Any

from napari.layers import Points, Shapes
from napari.utils.notifications import show_info
from psygnal import Signal

from ...state.atom_store import AtomKey
from . import atom_style
from .atom_points import AtomPoints
from .canvas import Canvas
from .current_image import CurrentImage
from .edit_commands import EditCommands
from .labelling import LabelMode
from .magnifier import CanvasMagnifier, Magnifier
from .marking import Marking
from .points import ATOMS
from .polygons import SUPPORT
from .support import SupportEditor


class AtomView:
    """Show the atoms of the images in the viewer and let a person mark them.

    Signals: ``marking_changed(bool)``, ``magnifier_changed(bool)``, ``support_shown(bool)``,
    ``colouring_changed(str)`` when one of the switches is set.
    """

    marking_changed = Signal(bool)
    magnifier_changed = Signal(bool)
    support_shown = Signal(bool)
    colouring_changed = Signal(str)

    def __init__(
        self,
        canvas: Canvas,
        current_image: CurrentImage,
        label_mode: LabelMode,  # its review ends when marking starts
        edits: EditCommands,
    ) -> None:
        self._canvas = canvas
        self.state = canvas.state
        self._current_image = current_image
        self._support = SupportEditor(canvas, edits)
        self._points = AtomPoints(canvas, self._support)
        self._marking = Marking(canvas, self._points, label_mode, edits)
        self._magnifier = CanvasMagnifier(canvas, self._points)
        self._marking.changed.connect(self.marking_changed.emit)
        self._marking.magnifier_toggled.connect(self._toggle_magnifier)
        self.state.atoms.focus_requested.connect(self._on_focus)

    # ---- switches
    @property
    def marking(self) -> bool:
        """Whether a click in the image marks an atom."""
        return self._marking.on

    @marking.setter
    def marking(self, on: bool) -> None:
        self._marking.on = on

    @property
    def magnifier(self) -> bool:
        """Whether the surroundings of the mouse are shown enlarged."""
        return self._magnifier.widget is not None

    @magnifier.setter
    def magnifier(self, on: bool) -> None:
        if on != self.magnifier:
            if on:
                self._marking.image()
                self._magnifier.start()
            else:
                self._magnifier.stop()
            self.magnifier_changed.emit(on)

    def _toggle_magnifier(self) -> None:
        self.magnifier = not self.magnifier

    @property
    def magnifier_widget(self) -> Magnifier | None:
        """The widget over the canvas while the magnifier is on."""
        return self._magnifier.widget

    @property
    def show_support(self) -> bool:
        """Whether vacuum is shown and the support can be corrected."""
        return self._support.visible

    @show_support.setter
    def show_support(self, on: bool) -> None:
        if on == self._support.visible:
            return
        atoms = self.state.atoms.of(self.state.current)
        if on and (atoms is None or atoms.support is None):
            show_info("Find atoms first. This also detects the support, which you can correct.")
        self._support.visible = on
        self.support_shown.emit(on)

    @property
    def support_adds(self) -> bool:
        """Whether the next polygon adds to the support; otherwise it marks vacuum."""
        return self._support.adds

    @support_adds.setter
    def support_adds(self, adds: bool) -> None:
        self._support.adds = adds

    def draw_support(self, adds: bool) -> bool:
        """Start to draw support or vacuum in the current image; return whether it is possible."""
        self.show_support = True
        self.support_adds = adds
        return self._support.draw()

    @property
    def colour_by(self) -> str:
        """What the colour of a ring shows: one of `atom_style.COLOURINGS`."""
        return self._points.colour_by

    @colour_by.setter
    def colour_by(self, name: str) -> None:
        if name != self._points.colour_by:
            self._points.colour_by = name
            self.colouring_changed.emit(name)

    def legend(self, image: str | None) -> list[tuple[str, str]]:
        """Return text and colour, ``#rrggbb``, of the entries of the legend of an image."""
        return atom_style.legend(self.state.atoms.table(image or ""), self.colour_by)

    # ---- layers
    def points_layer(self, image: str) -> Points | None:
        """Return the layer ``<image> atoms``."""
        return self._canvas.layer(image, ATOMS.name)

    def support_layer(self, image: str) -> Shapes | None:
        """Return the layer ``<image> support``."""
        return self._canvas.layer(image, SUPPORT.name)

    def on_layers_created(self, image: str) -> None:
        """Show the atoms of an image that has got its layers."""
        self._points.show(image)
        if self.marking and image == self.state.current:
            self._points.show_for_marking(image)

    # ---- selection
    def select_at(self, world: Any, extend: bool = False) -> bool:
        """Select the atom at a place of the current image, and return whether there is one."""
        return self._points.select_at(world, extend)

    @property
    def in_front(self) -> bool:
        """Whether the layer of the atoms is active, so that a click selects atoms first."""
        active = self._canvas.active_layer
        return active is not None and active is self._canvas.layer(self.state.current, ATOMS.name)

    def _on_focus(self, key: AtomKey) -> None:
        image, atom_id = key
        table = self.state.atoms.table(image)
        row = table[(table["atom_id"] == atom_id).to_numpy()]
        if len(row):
            self._current_image.bring_into_view(image, row.iloc[0])
        elif image in self.state.images:
            self.state.current = image
