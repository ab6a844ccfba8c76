"""The atoms of the images in a viewer: rings, marking by hand, the support, the loupe."""

from __future__ import annotations

import weakref
from typing import TYPE_CHECKING

from napari.layers import Points
from psygnal import Signal

from ...atoms.book import AtomKey

if TYPE_CHECKING:
    from .binding import Binding

COLOURINGS = ("confidence", "group", "species")
"""What the colour of a ring can tell."""


class AtomView:
    """Shows the atoms of a session in its viewer, and lets a person mark them.

    Signals: ``marking_changed(bool)``, ``loupe_changed(bool)``, ``support_shown(bool)``,
    ``colouring_changed(str)``: one of the switches was turned, by whomever.
    """

    marking_changed = Signal(bool)
    loupe_changed = Signal(bool)
    support_shown = Signal(bool)
    colouring_changed = Signal(str)

    def __init__(self, binding: Binding) -> None:
        self._binding = weakref.ref(binding)
        self._marking = False
        self._loupe = False
        self._show_support = False
        self._colour_by = COLOURINGS[0]
        self.support_adds = True
        """Whether the next polygon adds to the support; else it takes away."""

    @property
    def marking(self) -> bool:
        """Whether a click in the image marks an atom."""
        return self._marking

    @marking.setter
    def marking(self, on: bool) -> None:
        if on != self._marking:
            self._marking = on
            self.marking_changed.emit(on)

    @property
    def loupe(self) -> bool:
        """Whether the surroundings of the mouse are shown enlarged."""
        return self._loupe

    @loupe.setter
    def loupe(self, on: bool) -> None:
        if on != self._loupe:
            self._loupe = on
            self.loupe_changed.emit(on)

    @property
    def show_support(self) -> bool:
        """Whether what is vacuum is shown, and can be corrected."""
        return self._show_support

    @show_support.setter
    def show_support(self, on: bool) -> None:
        if on != self._show_support:
            self._show_support = on
            self.support_shown.emit(on)

    @property
    def colour_by(self) -> str:
        """What the colour of a ring tells: one of `COLOURINGS`."""
        return self._colour_by

    @colour_by.setter
    def colour_by(self, what: str) -> None:
        if what not in COLOURINGS:
            raise ValueError(f"atoms are coloured by one of {COLOURINGS}, not by {what!r}")
        if what != self._colour_by:
            self._colour_by = what
            self.colouring_changed.emit(what)

    def points_layer(self, image: str) -> Points | None:
        """The layer ``<image> atoms``."""
        binding = self._binding()
        known = None if binding is None else binding.layers_of(image)
        return None if known is None else known.present("atoms")

    def bring_into_view(self, key: AtomKey) -> None:
        """Put an atom of an image that has layers into the middle of the view."""
