"""Files that this program writes as results, which no search for images finds."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from PIL.PngImagePlugin import PngInfo

RESULT = "napari-atomicity result"
"""Mark in the header of each result that has the format of an image; simulated images have none."""
NPZ_MARK: dict[str, Any] = {RESULT: ()}
"""The mark as the first array of an archive, so that it is in the header."""
MANIFEST, PREVIEWS = "manifest.json", "previews"
"""File and folder of a pack for annotators."""
_HEADER_BYTES = 4096
_SUFFIXES = (".npz", ".png", ".tif", ".tiff")


def png_mark() -> PngInfo:
    """Return the mark of a result for Pillow."""
    from PIL.PngImagePlugin import PngInfo

    mark = PngInfo()
    mark.add_text("Software", RESULT)
    return mark


def is_result(path: Path) -> bool:
    """Return whether a file has the mark of a result."""
    if path.suffix.lower() not in _SUFFIXES:
        return False
    try:
        if not path.is_file():  # a pipe could wait for ever
            return False
        with path.open("rb") as file:
            return RESULT.encode() in file.read(_HEADER_BYTES)
    except OSError:
        return False


def is_result_folder(folder: Path) -> bool:
    """Return whether a folder is a pack, which has copies of images, or the previews of one."""
    pack = folder.parent if folder.name == PREVIEWS else folder
    try:
        return (pack / MANIFEST).is_file() and (pack / PREVIEWS).is_dir()
    except OSError:  # it may not be entered
        return False
