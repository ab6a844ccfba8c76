"""Export tables and outlines of a dock to the clipboard and to files."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import pandas as pd
from qtpy.QtCore import QMimeData
from qtpy.QtWidgets import QApplication, QMenu, QPushButton

from ...core.model_card import ModelCard
from ...core.progress import Stop
from ...core.tables.cluster_table import column_of
from ...core.text import pluralise
from ...io.clipboard import html_table, tab_separated
from ...io.images import unique_names
from ...io.outline_files import write_outlines
from ...io.tables import describe_columns, write_ratios, write_table
from ...models.analysis import Analysis, limits_of
from ...pipeline.repeat import OUT, Run, as_command, as_python
from ...state.window_state import WindowState
from ...statistics.ratios.prevalence import COUNTED
from ...statistics.ratios.ratios import class_ratios
from ..controls.questions import show_info
from ..controls.save_dialogs import choose_file
from ..tasks import start

FILE_TYPES = "CSV (*.csv);;Excel workbook (*.xlsx);;Parquet (*.parquet)"
RATIO_FILE_TYPES = f"{FILE_TYPES};;LaTeX (*.tex)"
_DIGITS = 6
"""Significant digits of numbers in tables for people: positions to a thousandth of a pixel."""
OUTLINE_FILE_TYPES = "ImageJ ROIs (*.zip);;GeoJSON (*.geojson);;Label image (*.tif *.tiff)"


def as_mime(ratios: pd.DataFrame) -> QMimeData:
    """Return class ratios as tab-separated text and as an HTML table in per cent."""
    mime = QMimeData()
    mime.setText(tab_separated(ratios))
    mime.setHtml(html_table(ratios))
    return mime


def copy_table(content: str | QMimeData, n_rows: int) -> None:
    """Put a table on the clipboard, and show a message."""
    copy(content, pluralise(n_rows, "row"))


def copy(content: str | QMimeData, what: str) -> None:
    """Put something on the clipboard, and show a message."""
    clipboard = QApplication.clipboard()
    clipboard.setText(content) if isinstance(content, str) else clipboard.setMimeData(content)
    show_info(f"Copied: {what}")


NO_SAMPLES = (
    "# Without the samples that were entered: a table with the columns image and sample gives them "
    "(--samples TABLE, in Python samples=TABLE)."
)


def copy_as_button(dock: Any, runs: Callable[[], list[Run]], what: str) -> QPushButton:
    """Create the button that copies the commands, or the Python, which repeat runs of a dock.

    ``runs`` is called in the window, and may raise `AtomicityError`.
    """

    def copy_as(text_of: Callable[..., str]) -> None:
        found = dock.attempt(runs)
        if found:
            outs = [OUT] if len(found) == 1 else [f"{OUT}-{i + 1}" for i in range(len(found))]
            texts = dock.attempt(
                lambda: [text_of(*run, out) for run, out in zip(found, outs, strict=True)]
            )
            if texts is None:
                return
            what = f"the analysis of {pluralise(sum(len(images) for _, images in found), 'image')}"
            sessions = dock.state.sessions
            if any(map(sessions.named_sample, sessions.entries)):  # a run reads them from a table
                texts.append(NO_SAMPLES)
                what += ", without the samples that were entered"
            copy("\n".join(texts), what)

    button = QPushButton("Copy as")
    button.setToolTip(f"Copy the command, or the lines of Python, that repeat {what}.")
    menu = QMenu(button)
    menu.addAction("Command", partial(copy_as, as_command))
    menu.addAction("Python", partial(copy_as, as_python))
    button.setMenu(menu)
    return button


def choose_table_path(dock: Any, name: str, types: str) -> Path | None:
    """Ask for the file of a table of a dock; None if the user cancels."""
    return choose_file(dock.state, dock, f"Export {name}", name, types)


def write_in_worker(
    dock: Any,
    write: Callable[..., Path],  # of the arguments and the path
    *arguments: Any,
    path: Path,
) -> None:
    """Write a file in a worker and show a message: a large workbook takes seconds."""
    start(
        dock.state,
        write,
        *arguments,
        path,
        message=f"Writing {path.name}",
        on_result=lambda path: show_info(f"Written: {path}"),
        key=f"write {path}",
    )


def ratio_options(
    state: WindowState,
    rows: pd.DataFrame,  # clusters that count
    card: ModelCard | None,
    method: str,
    keep_ratios: bool,
) -> dict[str, Any]:
    """Return the options of `class_ratios` for the analysed images of a window."""
    analyses = [] if state.blind else state.store.analyses.values()
    return {
        "images": [image for image in state.images if state.analysis(image) is not None],
        # Without clusters there is nothing to correct, and perhaps no model.
        "method": method if len(rows) else COUNTED,
        "card": card,
        "limits": limits_of(map(state.pixel_sizes.mark, analyses), keep_ratios),
    }


def export_ratios(dock: Any, options: Mapping[str, Any]) -> None:
    """Choose a file and write the ratios of every image, session and sample, and of all."""
    path = choose_table_path(dock, "ratios.csv", RATIO_FILE_TYPES)
    if path is not None:
        own = {"classes": dock.state.classes(), "groups": dock.state.group_scopes()}
        write = partial(count_and_write, options={**options, **own})
        write_in_worker(dock, write, dock.state.table(), path=path)


def count_and_write(
    table: pd.DataFrame,
    path: Path,
    options: Mapping[str, Any],  # of `class_ratios`
    stop: Stop | None = None,
) -> Path:
    """Count the classes of a cluster table and write their ratios, in a worker."""
    return write_ratios(class_ratios(table, **options, stop=stop), path)


def write_shown(table: pd.DataFrame, path: Path) -> Path:
    """Write a table for people, in a worker: rounded, with a file of the units beside a CSV file.

    A workbook has the units on a second sheet. Parquet is for programs, and keeps all digits.
    """
    columns = [c for name in table if (c := column_of(str(name)))]
    if path.suffix.lower() == ".parquet":
        return write_table(table, path, columns)
    numbers = table.select_dtypes("floating").map(lambda value: float(f"{value:.{_DIGITS}g}"))
    write_table(table.assign(**numbers), path, columns)
    if path.suffix.lower() == ".csv":
        write_table(describe_columns(columns), path.with_name(f"{path.stem}.columns.csv"))
    return path


def write_outlines_of(analyses: Sequence[Analysis], path: Path) -> Path:
    """Write the outlines of images, in a worker.

    Raises `AtomicityError` if a file can not be written.
    """
    stems = _stems(path, [Path(a.micrograph.name).with_suffix("") for a in analyses])
    for analysis, stem in zip(analyses, stems, strict=True):
        own = f"{path.stem}-{stem}{path.suffix}"
        micrograph = analysis.micrograph
        write_outlines(
            path if len(analyses) == 1 else path.with_name(own),
            analysis.table,
            analysis.outlines,
            micrograph.shape,
            micrograph.pixel_size_nm,
        )
    return path if len(analyses) == 1 else path.parent


def _stems(path: Path, names: list[Path]) -> list[str]:
    """Return what tells the files of images apart; no file that exists is overwritten."""
    stems: list[str] = []
    for name in unique_names(names):
        first = stem = name.replace("/", "-")
        n = 1
        while stem in stems or path.with_name(f"{path.stem}-{stem}{path.suffix}").exists():
            n += 1
            stem = f"{first}-{n}"
        stems.append(stem)
    return stems


TABLE_TYPES = "Tables (*.csv *.xlsx *.parquet)"


def format_written(files: list[Path]) -> str:
    """Describe which files were written, and where."""
    folder = files[-1].parent
    of_report = any(path.name == "report.html" for path in files)
    others = len(files) - of_report
    what = f"report.html and {pluralise(others, 'other file')}" if of_report else f"{others} files"
    return f"Written: {what} in {folder}"
