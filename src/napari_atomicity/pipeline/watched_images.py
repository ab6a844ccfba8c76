"""Images of a watched folder: their parts, failures and drawings."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ..core.cluster_table import ALL, empty
from ..core.errors import Cancelled, TableError
from ..core.model_card import ModelCard
from ..io.images import sha256_of, valid_text
from ..io.inputs import Input
from ..io.provenance import Outcome
from ..models.analysis import Analysis
from ..statistics.ratios import class_ratios
from .failures import Failure
from .finalize import BatchResults, finalize_batch
from .live import LIVE, Running
from .part_store import PartStore
from .parts import Part, key_of, stem_of
from .run_files import Run, RunInfo
from .run_request import RunRequest

SHOWN = 40
"""Number of last images with a section in the report."""


@dataclass(eq=False)
class WatchedImages:
    """Stored images of a watched folder; a sink of `for_each_image`.

    Parameters
    ----------
    folder : Path
        Watched folder.
    store : PartStore
        Folder of the parts.
    request : RunRequest
        Settings.
    card : ModelCard
        Model.
    model : str
        Hash of the model.
    """

    folder: Path
    store: PartStore
    request: RunRequest
    card: ModelCard
    model: str
    stems: dict[str, str] = field(default_factory=dict)
    paths: dict[str, Path] = field(default_factory=dict)
    failed: dict[str, Failure] = field(default_factory=dict)
    drawn: list[str] = field(default_factory=list)
    running: Running = field(init=False)

    def __post_init__(self) -> None:
        self.running = Running(self.card, self.request.ratios)

    def name_of(self, path: Path) -> str:
        """Return the name of an image: its path in the watched folder."""
        return valid_text(path.relative_to(self.folder).as_posix())

    def _key(self, sha256: str) -> str:
        return key_of(sha256, self.model, self.request)

    # ---- earlier sessions
    def resume(self) -> Iterator[tuple[Path, dict[str, Any]]]:
        """Register the parts of earlier sessions with the same settings.

        Images that failed are not registered: they are tried again.

        Yields
        ------
        path, about
            File of an image, and the metadata of its part.
        """
        for stem in sorted(self.store.stems):
            try:
                about = self.store.about(stem)
                outcome = self.store.outcome(stem)
                table = self.store.table(stem)
            except TableError:
                self.store.remove([stem])
                continue
            path = Path(outcome.path)
            current = self._key(outcome.sha256 or "") == stem[:32]
            # Parts of other settings, or of images in other folders, are not of this session.
            if not current or not path.is_relative_to(self.folder):
                continue
            name = self.name_of(path)
            if name != outcome.image:  # a batch has other names
                continue
            self.stems[name], self.paths[name] = stem, path
            self.running.set(name, table)
            yield path, about

    def adopt(self, item: Input) -> Outcome | None:
        """Use the part of an image that was analysed before, possibly under another name.

        Parameters
        ----------
        item : Input
            Image.

        Returns
        -------
        Outcome or None
            None if the image was not analysed before.
        """
        try:
            key = self._key(sha256_of(item.path))
        except OSError:
            return None
        stem = self.store.adopt(key, item)
        if stem is None:
            return None
        table = self.store.table(stem)
        for name, other in list(self.stems.items()):
            if other[:32] == key and name != item.name and not self.paths[name].exists():
                self._forget(name)
        self._settle(item, stem)
        self.running.set(item.name, table)
        return self.store.outcome(stem)

    # ---- results
    def add(self, item: Input, part: Part) -> None:
        """Store the part of an analysed image.

        Parameters
        ----------
        item : Input
            The image.
        part : Part
            Its results.
        """
        assert part.outcome.sha256 is not None
        stem = stem_of(self._key(part.outcome.sha256), item.name)
        self.store.write(stem, part)
        self._settle(item, stem)

    def _settle(self, item: Input, stem: str) -> None:
        """Register the part of an image, and remove that of the earlier content of its file."""
        before = self.stems.get(item.name)
        self.stems[item.name], self.paths[item.name] = stem, item.path
        if before is not None and before != stem:
            self.store.remove([before])
        if self.failed.pop(item.name, None) is not None:
            self.store.write_failures(self.failed.values())

    def _forget(self, name: str) -> None:
        self.store.remove([self.stems.pop(name)])
        self.paths.pop(name, None)
        self.running.remove(name)

    def fail(self, outcome: Outcome) -> None:
        """Register a failed image, and remove the part of the earlier content of its file."""
        if outcome.image in self.stems:
            self._forget(outcome.image)
        self.failed[outcome.image] = Failure.of(outcome)
        self.store.write_failures(self.failed.values())

    def draw(self, analysis: Analysis, outcome: Outcome, notice: Callable[[str], None]) -> None:
        """Draw an image for the report; only the last images keep their drawing.

        Parameters
        ----------
        analysis : Analysis
            Analysis of the image.
        outcome : Outcome
            Outcome of the image.
        notice : callable
            Called with a message if the drawing fails.
        """
        stem = self.stems.get(outcome.image)
        if stem is None:
            return
        try:
            self.store.draw(stem, analysis, outcome, self.card)
        except Cancelled:
            raise
        except Exception as error:  # the results do not depend on the drawing
            notice(f"{outcome.image} could not be drawn for the report: {error}")
            return
        self.drawn.append(stem)
        while len(self.drawn) > SHOWN:
            self.store.undraw(self.drawn.pop(0))

    # ---- the end
    def finalize(self, info: RunInfo) -> Run:
        """Write tables, report and record, and remove parts that belong to no image any more."""
        names = sorted({*self.stems, *self.failed})
        number = {name: i for i, name in enumerate(names)}
        results = BatchResults(
            [Input(name, self._path_of(name)) for name in names],
            {number[name]: stem for name, stem in self.stems.items()},
            {number[name]: failure for name, failure in self.failed.items()},
            range(len(names)),
        )
        log = (LIVE,) if (self.store.folder / LIVE).exists() else ()
        run = finalize_batch(self.store, self.request, self.card, results, info, more_files=log)
        if not info.interrupted:
            done = [self.paths[name] for name in self.stems]
            self.store.tidy(self.stems.values(), done, all_done=not self.failed)
        return run

    def _path_of(self, name: str) -> Path:
        if name in self.paths:
            return self.paths[name]
        return Path(self.failed[name].outcome.path)

    def summarise_unwritten(self) -> Run:
        """Return a run without files: the session ended before there was a new result."""
        outcomes = [self.store.outcome(stem) for _, stem in sorted(self.stems.items())]
        no_rows = empty(self.card.classes)
        ratios = class_ratios(no_rows, self.card.classes, scope=ALL, images=[])
        return Run(no_rows, ratios, outcomes, [], True)
