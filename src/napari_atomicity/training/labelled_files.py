"""Files of images and of stacks of single clusters whose classes are known."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pandas as pd

from ..core.errors import ReadError, reason_of
from ..core.micrograph import Micrograph
from ..core.progress import Progress, Stop, check, report
from ..io.files import regular_file
from ..statistics.scores import atoms_of

LABELS = "labels.csv"
"""Table of the classes of the images in its folder: see `labelled_files`."""
_LAYOUTS = (
    "Put the images of each class into a folder of its name, such as Pt19, or its stack of single "
    f"clusters into a file of its name, such as Pt19.npy; or add a table {LABELS} with the columns "
    "image and label"
)


@dataclass(frozen=True)
class LabelledFile:
    """An image or a stack, and the classes of its frames."""

    path: Path
    labels: tuple[str, ...]

    def of_frames(self, n_frames: int) -> np.ndarray:
        """Return the class (n_frames,) of each frame; raise `ReadError` if their number differs."""
        if len(self.labels) not in (1, n_frames):
            raise ReadError(
                f"it has {n_frames} frames and {len(self.labels)} labels",
                self.path,
                "Give one label for each frame, or one for all",
            )
        return np.broadcast_to(np.array(self.labels, object), n_frames)


def labelled_files(data_dir: Path) -> list[LabelledFile]:
    """Find the images and stacks of known classes, in the order of their classes.

    Four layouts are known: a folder for each class; a stack for each class, named after it; a
    table ``labels.csv`` with the columns ``image`` (the path in this folder), ``label`` and, for
    stacks, ``frame`` (from 0); and archives ``.npz`` of a stack and an array of one label per
    frame, in the folder or in its place.

    Raises `ReadError` if there is no such folder, there are fewer than two classes, a label gives
    no number of atoms, a file is missing, or the table is not valid.
    """
    data_dir = Path(data_dir)
    if not data_dir.exists():
        raise ReadError("there is no such folder", data_dir, "Check the path")
    if (data_dir / LABELS).is_file():
        files = _from_table(data_dir / LABELS)
    else:
        files = _from_archives(data_dir) or _from_names(data_dir)
    _check_classes({label for file in files for label in file.labels}, data_dir)
    return sorted(files, key=lambda file: (_size(file.labels[0]), file.path.as_posix()))


def read_labelled(
    files: Sequence[LabelledFile],
    data_dir: Path,  # their folder, or the file itself; images are named by their path in it
    pixel_size_nm: float | None = None,
    progress: Progress | None = None,
    stop: Stop | None = None,
) -> Iterator[tuple[LabelledFile, Micrograph]]:
    """Read labelled files, one after the other.

    Raises `ReadError` if a file can't be read.
    """
    from ..io.images import load

    for i, file in enumerate(files):
        check(stop)
        report(progress, i, len(files), f"Finding clusters in {file.path.name}")
        inside = file.path.relative_to(data_dir) if data_dir.is_dir() else Path(file.path.name)
        yield file, replace(load(file.path, pixel_size_nm), name=inside.as_posix())


def classes_of(files: Sequence[LabelledFile]) -> list[str]:
    """Return the classes of files, ordered by their number of atoms."""
    return sorted({label for file in files for label in file.labels}, key=_size)


def _check_classes(classes: Collection[str], where: Path) -> None:
    """Refuse fewer than two classes, and names that give no number of atoms."""
    nameless = sorted(label for label in classes if not atoms_of(label))
    if nameless:
        raise ReadError(
            f"the class {nameless[0]!r} gives no number of atoms",
            where,
            "Name each class after its size, such as Pt19, not by an index, and move other files "
            "elsewhere",
        )
    lower = [label.lower() for label in sorted(classes)]
    if len(set(lower)) < len(lower):
        one = next(label for label in sorted(classes) if lower.count(label.lower()) > 1)
        raise ReadError(
            f"two classes differ only in upper and lower case: {one!r} and another one",
            where,
            "Give both the same name",
        )
    if len(classes) < 2:
        raise ReadError(
            "a folder per class is needed, or another layout of two classes", where, _LAYOUTS
        )


def _size(label: str) -> tuple[int, str]:
    return atoms_of(label) or 0, label


def _from_names(data_dir: Path) -> list[LabelledFile]:
    """Files of folders that are named after classes, and stacks that are."""
    from ..io.images import find_images, is_image_folder

    inside = sorted(data_dir.iterdir()) if data_dir.is_dir() else []
    visible = [path for path in inside if not path.name.startswith(".")]
    folders = [path for path in visible if path.is_dir() and not is_image_folder(path)]
    stacks = [path for path in visible if path not in folders and _is_stack(path)]
    names = {path: path.name if path in folders else path.stem for path in (*folders, *stacks)}
    _check_classes(set(names.values()), data_dir)
    for path in stacks:
        _check_stack(path)
    return [
        LabelledFile(image, (label,))
        for path, label in names.items()
        for image in (find_images([path]) if path in folders else [path])
    ]


def _is_stack(path: Path) -> bool:
    """Return whether a file is an image that is named after a class."""
    from ..io.images import reader_of

    return reader_of(path) is not None and atoms_of(path.stem) is not None


def _check_stack(path: Path) -> None:
    """Refuse an image of a series, such as field_01.tif, whose name is no class."""
    from ..io.images import load

    if not load(path).is_stack:
        raise ReadError(
            "it is one image, not a stack of single clusters",
            path,
            "Put the images of each class into a folder of its name, such as Pt19, and move other "
            "files elsewhere",
        )


def _from_archives(data_dir: Path) -> list[LabelledFile]:
    """Return archives with labels; one without them is a stack of the class in its name."""
    from ..io.readers.plain_formats import read_npz_labels

    found = [data_dir] if data_dir.is_file() else sorted(data_dir.glob("*.npz"))
    archives = [path for path in found if path.suffix.lower() == ".npz"]
    labels_of = {path: read_npz_labels(path) for path in archives}
    return [LabelledFile(path, labels) for path, labels in labels_of.items() if labels]


def _from_table(table_path: Path) -> list[LabelledFile]:
    """Files that a table lists; of a stack, one row per frame or one row for all."""
    try:
        table = pd.read_csv(regular_file(table_path), dtype=str, keep_default_na=False)
    except (ValueError, OSError) as error:
        raise ReadError(f"the table can't be read ({reason_of(error)})", table_path) from error
    missing = [name for name in ("image", "label") if name not in table]
    if missing:
        raise ReadError(f"the table lacks the column {' and '.join(missing)}", table_path, _LAYOUTS)
    files = []
    for name, rows in table.groupby("image", sort=True):
        path = table_path.parent / str(name)
        if not path.exists():
            raise ReadError(f"{name} is in the table and not in the folder", table_path)
        if "frame" in rows:
            frame = pd.to_numeric(rows["frame"], errors="coerce")
            if sorted(frame) != list(range(len(rows))):
                raise ReadError(
                    f"the frames of {name} are not 0 to {len(rows) - 1}, each one time", table_path
                )
            rows = rows.iloc[np.argsort(frame)]
        elif len(rows) > 1:
            raise ReadError(
                f"{name} is in several rows", table_path, "Add the column frame, counted from 0"
            )
        files.append(LabelledFile(path, tuple(rows["label"].str.strip())))
    return files
