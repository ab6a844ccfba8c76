"""Reader of image files, which gives napari their pixel size in nm; and sample data.

napari calls a reader in the thread of the window and has no way to continue in a worker: a file
that a library can not read to its end blocks the window until the limit of time
(`io.readers.read_limits`). The dock Browse reads in a worker. Reading writes nothing.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from ..core.errors import AtomicityError
from ..io.images import find_images, is_image_folder, load, reader_of, unique_names
from ..project import SUFFIX
from ..simulation.example_data import atom_example_path, example_path, write_example_folder
from .viewer.layers.compat import has_window
from .viewer.layers.micrographs import LayerData, layer_data

NO_LAYER: list[Any] = [(None,)]
"""Tells napari that there is no layer to add."""


def get_reader(path: str | Sequence[str]) -> Callable[[Any], list[Any]] | None:
    """Return the function that reads these files; None if one of them is not supported.

    A folder with images or a project is opened in Browse.
    """
    paths = [path] if isinstance(path, str) else list(path)
    if len(paths) == 1 and _is_bench(Path(paths[0])):
        return open_bench
    if not paths or any(_is_no_image(Path(p)) for p in paths):
        return None
    return read


def _is_no_image(path: Path) -> bool:
    return reader_of(path) is None or (path.is_dir() and not is_image_folder(path))


def _is_bench(path: Path) -> bool:
    if path.suffix == SUFFIX:
        return path.is_file()
    try:
        return path.is_dir() and not is_image_folder(path) and bool(find_images([path]))
    except AtomicityError:
        return False


def open_bench(path: str | Sequence[str], instead_of: Mapping[str, Any] | None = None) -> list[Any]:
    """Open a folder or a project in the workbench, which makes layers when images are shown."""
    import napari
    from qtpy.QtCore import QTimer

    viewer = napari.current_viewer()  # npe2 hands a reader only paths
    if viewer is not None:
        folder = path if isinstance(path, str) else path[0]

        def browse() -> None:
            from .workbench.window import browse_in

            for layer in [x for x in viewer.layers if x.metadata == instead_of]:
                viewer.layers.remove(layer)
            browse_in(viewer, folder)

        # Not within napari's own reading.
        QTimer.singleShot(0, browse)
    return NO_LAYER


def read(path: str | Sequence[str]) -> list[Any]:
    """Read one Image layer per file.

    A window shows which files cannot be read: napari would not open those that come after them.

    Raises `AtomicityError` if a file cannot be read and no window opens it.
    """
    import napari

    from .controls.questions import show_error

    paths = [path] if isinstance(path, str) else list(path)
    opened: list[Any] = []
    for file, name in zip(paths, unique_names(paths), strict=True):
        try:
            opened.append(layer_data(load(file, name=name)))
        except AtomicityError as error:
            viewer = napari.current_viewer()
            if viewer is None or not has_window(viewer):
                raise
            show_error(str(error))
    return opened or NO_LAYER


def example() -> list[LayerData]:
    """Open the bundled example, with its scale in nm."""
    return [layer_data(load(example_path()))]


def atom_example() -> list[LayerData]:
    """Open the bundled example of single atoms, with its scale in nm."""
    return [layer_data(load(atom_example_path()))]


def project_example() -> list[LayerData]:
    """Open a folder of four images in Browse; the folder is a temporary one.

    napari asks for a layer: the first image is shown until Browse shows it.
    """
    folder = write_example_folder(Path(tempfile.mkdtemp(prefix="atomicity-")) / "example")
    data, options, kind = layer_data(load(find_images([folder])[0]))
    open_bench(str(folder), instead_of=options["metadata"])
    return [(data, options, kind)]
