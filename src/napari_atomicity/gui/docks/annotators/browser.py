"""Packs for a browser: what they ask, and the pages that are written."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pandas as pd
from qtpy.QtCore import Signal
from qtpy.QtWidgets import QPlainTextEdit, QWidget

from ....core.errors import AtomicityError
from ....core.text import pluralise
from ....io.pack_options import PackOptions
from ....project import ProjectImage
from ....project.packs.browser_packs import (
    BrowserPack,
    PackRequest,
    describe_packs,
    pages_of,
    write_browser_packs,
)
from ....state.annotator_packs import browser_packs_of
from ....state.window_state import WindowState
from ...controls.forms import ComboBox, fill_column, labelled, new_form
from ...controls.questions import confirm, show_info
from ...controls.save_dialogs import choose_file
from ...controls.settings import remember
from ...controls.settings_form import form_of
from ...tasks import start

ATOMS, CLUSTERS = "atoms", "clusters"
_ASKED = {ATOMS: "marks of atoms", CLUSTERS: "the class of each cluster"}
_OPTIONS = ("examples", "repeats", "bits", "black", "white", "max_mb")


class BrowserPacks(QWidget):
    """Options of packs for a browser.

    Signals: ``wrote(str)`` with a text about the pages that were written.
    """

    wrote = Signal(str)

    def __init__(self, state: WindowState, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.state = state
        self.asked = ComboBox()
        for name, text in _ASKED.items():
            self.asked.addItem(text, name)
        remember("annotators/asked", self.asked)
        self.instructions = QPlainTextEdit()
        self.instructions.setPlaceholderText("the usual instructions")
        self.instructions.setFixedHeight(4 * self.instructions.fontMetrics().lineSpacing())
        self.instructions.setTabChangesFocus(True)
        form = new_form()
        labelled(
            form, "Asked for", self.asked,
            "What people answer: marks of atoms, or a class for each cluster of the table, one by "
            "one. Default: marks of atoms.",
        )  # fmt: skip
        labelled(
            form, "Instructions", self.instructions,
            "Text that people read first, and again on request. Default: how to mark and "
            "when an image counts as seen.",
        )  # fmt: skip
        self.options = form_of(PackOptions, *_OPTIONS)
        fill_column(self, form, self.options)

    def request(
        self, annotator: str | None, proposals: pd.DataFrame | None, tolerance_nm: float
    ) -> PackRequest:
        """Return what goes into the pack.

        Raises `AtomicityError` if the options do not fit, or clusters are asked for and there is
        none.
        """
        options, text = self.options.settings(), self.instructions.toPlainText()
        if self.asked.currentData() == ATOMS:
            return PackRequest(options, text, annotator, tolerance_nm, None, proposals)
        store = self.state.store
        clusters = store.joined_table(list(store.analyses))
        if not len(clusters):
            raise AtomicityError(
                "there is no cluster to label", advice="Detect clusters first (dock Analyse)"
            )
        classes = tuple(self.state.classes())
        return PackRequest(
            options, text, annotator, tolerance_nm, clusters=clusters, classes=classes
        )

    def export(self, images: list[ProjectImage], request: PackRequest) -> None:
        """Make the pages, say how large they are, and ask where to."""
        start(
            self.state,
            browser_packs_of,
            images,
            request,
            message="Making pages for browsers",
            on_result=self._made,
            key="pages",
            owner=self,
        )

    def _made(self, packs: list[BrowserPack]) -> None:
        title = f"Page for browsers: {describe_packs(packs)}"
        path = choose_file(
            self.state, self, title, f"{packs[0].manifest.task}.html", "Page (*.html)"
        )
        if path is None:
            return
        pages = pages_of(packs, path)
        existing = [page.name for page in pages if page != path and page.exists()]
        if existing and not confirm(self, "Replace?", f"{', '.join(existing)}: replace them?"):
            return
        start(
            self.state,
            write_browser_packs,
            packs,
            path,
            message="Writing pages for browsers",
            on_result=self._on_written(packs),
            key="pages",
            owner=self,
        )

    def _on_written(self, packs: list[BrowserPack]) -> Callable[[list[Path]], None]:
        said = describe_packs(packs)

        def show_pages(pages: list[Path]) -> None:
            names = ", ".join(page.name for page in pages)
            files = pluralise(len(pages), "file")
            self.wrote.emit(
                f"{said}, in {names}. Send {files}; people open it in any browser, and send back "
                "what Save my answers writes."
            )
            show_info(f"Written: {pages[0].parent / names}")

        return show_pages
