"""Tables out of a dock: to the clipboard, and into files that a person names."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
from napari.utils.notifications import show_info
from qtpy.QtCore import QMimeData
from qtpy.QtWidgets import QFileDialog, QWidget

from ...core.progress import Progress, Stop
from ...io.clipboard import html_table, tab_separated
from ..tasks import start

FILE_TYPES = "CSV (*.csv);;Excel workbook (*.xlsx);;Parquet (*.parquet)"
RATIO_FILE_TYPES = f"{FILE_TYPES};;LaTeX (*.tex)"


def as_mime(ratios: pd.DataFrame) -> QMimeData:
    """Class ratios as cells between tabs, and as a table with figures in per cent."""
    mime = QMimeData()
    mime.setText(tab_separated(ratios))
    mime.setHtml(html_table(ratios))
    return mime


def choose_table_path(parent: QWidget, name: str, types: str) -> Path | None:
    """Ask where a table goes; None if nobody says."""
    chosen, kind = QFileDialog.getSaveFileName(parent, f"Export {name}", name, types)
    return with_suffix(Path(chosen), kind) if chosen else None


def write_in_worker(
    dock: Any, write: Callable[[pd.DataFrame, Path], Path], table: pd.DataFrame, path: Path
) -> None:
    """Write a table of a dock's session and say so: a large workbook takes seconds."""
    start(
        dock.state,
        written,
        write,
        table,
        path,
        message=f"Writing {path.name}",
        on_result=lambda path: show_info(f"Written: {path}"),
        key=f"write {path}",
    )


def written(
    write: Callable[[pd.DataFrame, Path], Path],
    table: pd.DataFrame,
    path: Path,
    progress: Progress | None = None,
    stop: Stop | None = None,
) -> Path:
    """Write a table; run in a worker."""
    return write(table, path)


def with_suffix(path: Path, file_type: str) -> Path:
    """The path with the suffix of the chosen file type, if it has none that we can write."""
    suffixes = re.findall(r"\*(\.\w+)", RATIO_FILE_TYPES)
    if path.suffix.lower() in suffixes:
        return path
    suffix = file_type.partition("(*")[2].rstrip(")") or ".csv"
    return path.with_name(path.name + suffix)


REFERENCE_TYPES = "Tables (*.csv *.xlsx *.parquet)"
