"""Images of a watched folder: their parts, failures and drawings."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from ...core.acquisition_session import AcquisitionSession
from ...core.errors import Cancelled, TableError
from ...core.progress import Progress
from ...core.tables.cluster_table import ALL, empty
from ...io.images import sha256_of, valid_text
from ...io.inputs import Input
from ...io.provenance import Outcome
from ...models.analysis import Analysis
from ...models.inference import Classifier
from ...models.scale.image_evidence import ImageMeasurements
from ...models.scale.intensity_scale import ConstrainedMixture
from ...models.scale.session_images import mixture_of_modes, require_references
from ...models.scale.session_scale import fit_session
from ...statistics.ratios.ratios import class_ratios
from ..runs.finalize import finalize_run
from ..runs.image_scale import ImageScale
from ..runs.part_index import PartIndex
from ..runs.run_files import Run, RunInfo
from ..runs.session_pass import SessionPass, analyse_again
from ..session_labels import describe_scale, is_labelled_jointly, is_same_scale, with_known_shares
from .live import LIVE, Running

# ---- scales of images as they arrive, with what their session knows so far

MAX_CLUSTERS = 1000
"""Number of clusters of a session up to which all its images are fitted with each new one."""
GROWTH = 1.1
"""Growth of the number of images after which the scale of a larger session is found again."""


@dataclass(frozen=True)
class _Known:
    """What is known of a session: mean and standard deviation of ln scale, number of images."""

    prior: tuple[float, float]
    n_images: int


@dataclass(eq=False)
class LiveSessions:
    """Finds the scale of each new image with the earlier images of its session.

    The first images of a session are fitted jointly. Later, the scale of the session is a prior for
    the new image; it is found again whenever the session has grown by a tenth, so that the total
    cost remains linear in the number of images.
    """

    images: PartIndex
    _measured: dict[str, tuple[ImageMeasurements, Outcome]] = field(default_factory=dict)
    _known: dict[str, _Known] = field(default_factory=dict)

    def find_scale(self, analysis: Analysis, outcome: Outcome) -> ConstrainedMixture | None:
        """Find the scale of a new image."""
        self.images.joint.pop(outcome.image, None)
        stored = ImageScale.of(analysis, self.images.card)
        if stored is None or not len(analysis.table):
            return None
        earlier = self._read_earlier(outcome)
        outcomes = [one for _, one in earlier.values()]
        session = next(
            session
            for session in self.images.sessions.group([*outcomes, outcome])
            if outcome.image in session.images
        )
        others = [name for name in session.images if name != outcome.image]
        card = self.images.card
        with_clusters = [n for n in others if earlier[n][1].clusters]
        if not is_labelled_jointly(session, len(with_clusters) + 1, card):
            return None
        new = with_known_shares(stored.measurements, session, outcome.image, card)
        measured = [with_known_shares(earlier[n][0], session, n, card) for n in others]
        prior = session.prior
        if sum(len(x.log_intensity) for x in measured) > MAX_CLUSTERS:
            prior, measured = self._find_prior(session, measured), []
        fitted = [*measured, new]
        found = fit_session(fitted, require_references(self.images.card)[0], prior)
        described = describe_scale(found, len(fitted) - 1, None, session.prior)
        self.images.joint[outcome.image] = {**described, "untested": True}
        scale = mixture_of_modes(found.images[-1], analysis.table, stored.scale.reference)
        return None if is_same_scale(stored.scale, scale) else scale

    def _find_prior(
        self, session: AcquisitionSession, measured: list[ImageMeasurements]
    ) -> tuple[float, float]:
        """Return mean and standard deviation of ln scale of a large session."""
        known = self._known.get(session.name)
        if known is None or len(measured) > GROWTH * known.n_images:
            reference = require_references(self.images.card)[0]
            found = fit_session(measured, reference, session.prior)
            known = _Known((found.log_scale, found.log_scale_sd), len(measured))
            self._known[session.name] = known
        return known.prior

    def _read_earlier(self, new: Outcome) -> dict[str, tuple[ImageMeasurements, Outcome]]:
        """Return measurements and outcomes of the images that have been analysed before.

        Of files with the same content there is one.
        """
        earlier, contents = {}, {new.sha256}
        for name, stem in self.images.stems.items():
            if name == new.image:
                continue
            if stem not in self._measured:
                stored = self.images.image_scale(name)
                if stored is None:
                    continue
                self._measured[stem] = stored.measurements, self.images.store.outcome(stem)
            sha256 = self._measured[stem][1].sha256
            if sha256 is None or sha256 not in contents:
                earlier[name] = self._measured[stem]
            contents.add(sha256)
        return earlier


KnownPixelSize = Callable[[Path], tuple[float, str | None] | None]
"""``known(path)``: the pixel size in nm that a person has set for a file, and the hash of the file
that it was set for; None if there is none."""

SHOWN = 40
"""Number of last images with a section in the report."""


@dataclass(eq=False)
class WatchedImages(PartIndex):
    """Stored images of a watched folder; a sink of `for_each_image`."""

    folder: Path = Path()
    known_pixel_size: KnownPixelSize | None = None
    paths: dict[str, Path] = field(default_factory=dict)
    drawn: list[str] = field(default_factory=list)
    running: Running = field(init=False)

    def __post_init__(self) -> None:
        self.running = Running(self.card, self.request.ratios, self.request.keep_ratios)

    def name_of(self, path: Path) -> str:
        """Return the name of an image: its path in the watched folder."""
        return valid_text(path.relative_to(self.folder).as_posix())

    def pixel_size_of(self, path: Path, sha256: str | None = None) -> float | None:
        """Return the pixel size that a person has set for a file; None for that of the file."""
        if self.known_pixel_size is None or self.request.pixel_size_nm is not None:
            return None
        known = self.known_pixel_size(path)
        if known is None:
            return None
        size_nm, of_file = known
        try:  # a microscope may write another image under the same name
            return size_nm if of_file in (None, sha256 or sha256_of(path)) else None
        except OSError:  # the reader has a better message
            return None

    def input_at(self, path: Path) -> Input:
        """Return the image of a file."""
        return Input(self.name_of(path), path, pixel_size_nm=self.pixel_size_of(path))

    # ---- earlier sessions
    def resume(self) -> Iterator[tuple[Path, dict[str, Any]]]:
        """Register the parts of earlier sessions with the same settings.

        Images that failed are not registered: they are tried again.
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
            current = self.key(outcome.sha256 or "", Input(outcome.image, path)) == stem[:32]
            # Parts of other settings, or of images in other folders, are not of this session.
            if not current or not path.is_relative_to(self.folder):
                continue
            name = self.name_of(path)
            if name != outcome.image:  # a batch has other names
                continue
            size_nm = self.pixel_size_of(path, outcome.sha256)
            if not self.can_label(stem) or size_nm not in (None, outcome.pixel_size_nm):
                continue  # it is analysed again
            self.stems[name], self.paths[name] = stem, path
            self.running.set(name, table, outcome.parameters, outcome.sha256)
            # A copy tells nothing new of the conditions.
            yield path, about | ({"where": None} if self.same_content(name) else {})

    def adopt(self, item: Input) -> str | None:
        """Use the part of an image that was analysed before; forget the image it was moved from."""
        stem = super().adopt(item)
        if stem is None:
            return None
        table = self.store.table(stem)
        for name in self.same_content(item.name):
            if not self.paths[name].exists():
                self.forget(name)
        outcome = self.store.outcome(stem)
        self.running.set(item.name, table, outcome.parameters, outcome.sha256)
        return stem

    def same_content(self, name: str) -> list[str]:
        """Return the other images whose files have the content of that of an image."""
        return [x for x in self.names_of([self.content_of(name)]) if x != name]

    def content_of(self, name: str) -> str:
        """Return what an image has in common with its copies, also under another name."""
        return self.stems[name][:32]

    def names_of(self, contents: Iterable[str]) -> list[str]:
        """Return the present names of images with one of these contents."""
        contents = set(contents)
        return [name for name in self.stems if self.content_of(name) in contents]

    # ---- results
    def register(self, item: Input, stem: str) -> None:
        """Register the part of an image, and remove that of the earlier content of its file."""
        before = self.stems.get(item.name)
        super().register(item, stem)
        self.paths[item.name] = item.path
        if before is not None and before != stem:
            self.store.remove([before])
        if self.failed.pop(item.name, None) is not None:
            self.store.write_failures(self.failed.values())

    def forget(self, name: str) -> None:
        """Remove an image and its part."""
        self.store.remove([self.stems.pop(name)])
        self.paths.pop(name, None)
        self.running.remove(name)

    def fail(self, outcome: Outcome) -> None:
        """Register a failed image, and remove the part of the earlier content of its file."""
        if outcome.image in self.stems:
            self.forget(outcome.image)
        super().fail(outcome)
        self.store.write_failures(self.failed.values())

    def draw(self, analysis: Analysis, outcome: Outcome, notice: Callable[[str], None]) -> None:
        """Draw an image for the report; only the last images keep their drawing."""
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

    def files(self) -> dict[Path, tuple[int, int]]:
        """Return the files of the images: path → size and time in ns, as they were analysed."""
        found = {}
        for name, stem in self.stems.items():
            about = self.store.about(stem)
            if "size" in about:
                found[self.paths[name]] = int(about["size"]), int(about["mtime_ns"])
        return found

    # ---- the end
    def label_sessions(self, classifier: Classifier, progress: Progress | None = None) -> None:
        """Label the images of each session jointly, now that all are known."""
        sessions = SessionPass(self, lambda: classifier, progress, exact_drawings=False)
        try:
            drawn = {name for name, stem in self.stems.items() if self.store.is_drawn(stem)}
            for labels in sessions.run(self._inputs(), drawn):
                draw = labels.item.name in drawn
                labels = replace(labels, item=self.input_at(labels.item.path))
                sessions.add(labels, analyse_again(labels, classifier, self.request, draw))
        except KeyboardInterrupt:
            sessions.forget()

    def _inputs(self) -> list[Input]:
        names = sorted({*self.stems, *self.failed})
        return [Input(name, self._path_of(name)) for name in names]

    def finalize(self, info: RunInfo) -> Run:
        """Write tables, report and record, and remove parts that belong to no image any more."""
        inputs = self._inputs()
        names = [item.name for item in inputs]
        log = (LIVE,) if (self.store.folder / LIVE).exists() else ()
        return finalize_run(self, inputs, info, names, kind="watch", more_files=log)

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
