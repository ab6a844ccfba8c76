"""References of HDF5 files to other files, which are never followed outside their folder."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ..core.errors import ReadError


def check_links(path: Path) -> None:
    """Check that an HDF5 file refers to no file outside its folder.

    External links, external storage and virtual datasets are such references. A file from somebody
    else could name any file that the user may read. A file that cannot be opened is not checked:
    its reader says what is wrong.

    Parameters
    ----------
    path : pathlib.Path
        HDF5 file.

    Raises
    ------
    ReadError
        If it refers to a file outside its folder.
    """
    try:
        import h5py
    except ImportError:
        return
    folder = Path(os.path.realpath(path.parent))
    try:
        with h5py.File(path, "r") as file:
            names = list(_references(file))
    except (OSError, RuntimeError, KeyError, ValueError):
        return
    for name in names:
        target = Path(os.path.realpath(folder / name))
        if not target.is_relative_to(folder):
            raise ReadError(
                f"it refers to another file outside its folder ({name[:200]})",
                path,
                "Copy the data into one file, or both files into one folder",
            )


def _references(file: Any) -> Iterator[str]:
    """Yield the names of the files that the links and datasets of an open file refer to."""
    import h5py

    links: list[str] = []
    datasets: list[Any] = []

    def add_link(name: str, link: Any) -> None:
        if isinstance(link, h5py.ExternalLink):
            links.append(str(link.filename))

    def add_dataset(name: str, entry: Any) -> None:
        if isinstance(entry, h5py.Dataset):
            datasets.append(entry)

    file.visititems_links(add_link)
    file.visititems(add_dataset)
    yield from links
    for dataset in datasets:
        yield from (str(name) for name, _, _ in dataset.external or ())
        if dataset.is_virtual:
            # "." is the file itself.
            yield from (s.file_name for s in dataset.virtual_sources() if s.file_name != ".")
