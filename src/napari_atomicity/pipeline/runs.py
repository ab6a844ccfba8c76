"""A run: many images in, a folder of tables, report and record out.

One bad file is a row in the report and in the record, not the end of the run. Whatever ends it
early, what is done is written.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from os import PathLike
from pathlib import Path
from typing import Any, TypeVar

import pandas as pd

from ..core.cluster_table import empty
from ..core.errors import Cancelled
from ..core.model_card import ModelCard
from ..core.progress import Progress, Stop, check, prefixed, report
from ..detection import DetectionSettings
from ..io.files import write_json
from ..io.images import load
from ..io.inputs import Input, make_folder, named_inputs
from ..io.provenance import Outcome, now, run_record
from ..io.tables import concatenate, read_reference, write_clusters, write_ratios
from ..models.analysis import Analysis
from ..models.classifier import Classifier, load_classifier
from ..reporting.examples import ClusterExample, select_examples
from ..reporting.image_section import Section, image_section
from ..reporting.image_warnings import image_warnings
from ..reporting.plots import scales_of
from ..reporting.report import MANY_IMAGES, ReportData, write_report
from ..statistics.ratios import class_ratios, refuse_unavailable
from ..statistics.reference import Comparison, check_reference, compare
from ..tracking.files import FILES as MOVIE_FILES
from ..tracking.files import averaged, followed, found_in, write_movies
from ..tracking.following import TrackedMovie
from .analysis import analyse

TABLES = ("clusters.csv", "clusters.parquet", "ratios.csv")

T = TypeVar("T")


@dataclass(frozen=True)
class RunRequest:
    """What is asked of a run.

    Parameters
    ----------
    model
        Name of a model at hand, or path of a model file.
    device
        "auto", "cpu", "cuda" or "mps".
    pixel_size_nm
        Overrides what the files say; None to believe them.
    umap
        Whether to place the clusters in the model's map.
    symmetries
        Whether to average the network over the eight symmetries of the square.
    detection
        Settings in nm and in units of the noise.
    ratios
        How ratios are found, a name in `statistics.prevalence.METHODS`.
    reference
        Table of reference ratios to set beside those that are found: see `statistics.reference`.
    average_frames
        Of stacks: how many registered frames are averaged before clusters are looked for, a number
        or "all"; None: none.
    """

    model: str = "default"
    device: str = "auto"
    pixel_size_nm: float | None = None
    umap: bool = True
    symmetries: bool = False
    detection: DetectionSettings = field(default_factory=DetectionSettings)
    ratios: str = "counted"
    reference: str | None = None
    average_frames: int | str | None = None


@dataclass(frozen=True, eq=False)
class Run:
    """What came of it: the table and ratios of all images, an outcome for each, files written;
    and how the ratios compare with a reference, if there was one."""

    table: pd.DataFrame
    ratios: pd.DataFrame
    outcomes: list[Outcome]
    files: list[Path]
    interrupted: bool
    comparison: Comparison | None = None

    @property
    def failed(self) -> list[Outcome]:
        return [outcome for outcome in self.outcomes if outcome.status == "failed"]

    def summary(self) -> dict[str, Any]:
        """In a few words, ready for JSON."""
        return {
            "out": str(self.files[0].parent) if self.files else None,
            "files": [path.name for path in self.files],
            "interrupted": self.interrupted,
            "clusters": len(self.table),
            "images": [
                {
                    "image": outcome.image,
                    "path": outcome.path,
                    "status": outcome.status,
                    "error": outcome.error,
                    "clusters": outcome.clusters,
                    "warnings": list(outcome.warnings),
                    "seconds": sum(outcome.seconds.values()),
                }
                for outcome in self.outcomes
            ],
            "ratios": self.ratios.to_dict("records"),
            "reference": None if self.comparison is None else self.comparison.to_dict(),
        }


def analyse_images(
    paths: Iterable[str | PathLike[str]],
    out_dir: str | PathLike[str],
    request: RunRequest | None = None,
    progress: Progress | None = None,
    stop: Stop | None = None,
    on_outcome: Callable[[Outcome, Analysis | None], None] | None = None,
    command: Sequence[str] | None = None,
) -> Run:
    """Analyse files and folders of images and write tables, report and record.

    Parameters
    ----------
    paths
        Image files, and folders that are searched for them.
    out_dir
        Folder that gets ``clusters.csv``, ``clusters.parquet``, ``ratios.csv``, ``report.html``
        and ``run.json``, and ``reference.json`` if there is a reference; of stacks also those of
        `tracking.files`; those of an earlier run are replaced, each as a whole.
    request
        Model, device and settings.
    progress, stop
        ``progress(done, total, message)`` of the image at hand, and ``stop() -> bool``.
    on_outcome
        Called after each image with its outcome and, if it was analysed, the analysis.
    command
        For the record; the command line of this process if None.

    Returns
    -------
    Run
        Also after an interruption (``stop`` or Ctrl-C), with what was done until then.

    Raises
    ------
    ModelError
        If the model can't be loaded, or lacks the device or what the ratios need: before any
        image is read.
    TableError
        If the reference makes no sense for these images and this model: before as well.
    AtomicityError
        If the folder can't be made or a file can't be written.
    """
    request = request or RunRequest()
    out_dir = Path(out_dir)
    make_folder(out_dir)
    started = now()
    report(progress, 0, 0, "Loading the model")
    classifier = load_classifier(request.model, request.device)
    refuse_unavailable(request.ratios, classifier.card)
    inputs = named_inputs(paths)
    reference = None
    if request.reference is not None:
        reference = read_reference(request.reference)
        check_reference(reference, [item.name for item in inputs], classifier.card.classes)
    small = len(inputs) > MANY_IMAGES

    done: list[_Result] = []
    found: Sequence[ClusterExample] = ()

    def one(item: Input, progress: Progress) -> None:
        nonlocal found
        result, analysis = _one(item, classifier, request, progress, stop, small, found)
        found = result.examples or found
        done.append(replace(result, examples=()))
        if on_outcome is not None:
            on_outcome(result.outcome, analysis)

    interrupted = one_by_one(inputs, one, progress, stop)
    outcomes = with_unreached([result.outcome for result in done], inputs)

    report(progress, 0, 0, "Writing tables and report")
    nothing = empty(classifier.card.classes)
    table = concatenate([nothing, *(r.table for r in done if r.table is not None)])

    def write_tables(csv: Path, parquet: Path) -> None:
        write_clusters(table, csv)
        write_clusters(table, parquet)
        write_movies(movies, out_dir)

    movies = [result.movie for result in done if result.movie is not None]
    return finalize_run(
        out_dir,
        request,
        classifier.card,
        table,
        outcomes,
        write_tables,
        started=started,
        device=str(classifier.device),
        reference=reference,
        interrupted=interrupted,
        command=command,
        more=MOVIE_FILES if movies else (),
        sections=[result.section for result in done if result.section is not None],
        examples=found,
        scales={image: scale for result in done for image, scale in result.scales.items()},
    )


def finalize_run(
    out_dir: Path,
    request: RunRequest,
    card: ModelCard,
    table: pd.DataFrame,
    outcomes: list[Outcome],
    write_tables: Callable[[Path, Path], None],
    *,
    started: str,
    device: str,
    reference: pd.DataFrame | None = None,
    interrupted: bool = False,
    command: Sequence[str] | None = None,
    more: Sequence[str] = (),
    sections: Sequence[Section] = (),
    examples: Sequence[ClusterExample] = (),
    scales: Mapping[str, float] | None = None,
) -> Run:
    """Ratios of all that was analysed, and the files of a run: tables, report and, last, record.

    Parameters
    ----------
    out_dir
        Folder, which is there.
    request, card
        What was asked for, and of which model.
    table
        Clusters of all images; of columns that neither ratios nor plots need it may have none.
    outcomes
        One for each image.
    write_tables
        Writes all clusters to a CSV and a Parquet file.
    started, device, interrupted, command
        For the record.
    reference
        From `io.tables.read_reference`.
    more
        Names of further files that ``write_tables`` writes.
    sections, examples, scales
        For the report: see `reporting.report.ReportData`.

    Raises
    ------
    AtomicityError
        If a file can't be written.
    """
    analysed = [o.image for o in outcomes if o.status == "done"]
    method: dict[str, Any] = {"method": request.ratios, "card": card}
    ratios = class_ratios(table, images=analysed, **method)
    comparison = None
    if reference is not None:
        # Images that failed are named, so that their scope has nothing rather than being unknown.
        comparison = compare(table, reference, [o.image for o in outcomes], **method)
    # The record comes last: where it lies, the rest lies too.
    beside = [*more, *(["reference.json"] if comparison else [])]
    files = [out_dir / name for name in [*TABLES, "report.html", *beside, "run.json"]]
    record = run_record(
        outcomes,
        started=started,
        finished=now(),
        parameters=asdict(request),
        model=card.provenance(),
        device=device,
        outputs=files,
        interrupted=interrupted,
        command=command,
    )
    write_tables(files[0], files[1])
    write_ratios(ratios, files[2])
    write_report(
        files[3],
        sections,
        ReportData(
            table, ratios, record, comparison, card=card, examples=list(examples), scales=scales
        ),
    )
    if comparison is not None:
        write_json(out_dir / "reference.json", comparison.to_dict())
    else:  # one of an earlier run would seem to be of this
        (out_dir / "reference.json").unlink(missing_ok=True)
    write_json(files[-1], record)
    return Run(table, ratios, outcomes, files, interrupted, comparison)


@dataclass(frozen=True, eq=False)
class _Result:
    """All that is kept of an image once it is done; examples are those of all images so far."""

    outcome: Outcome
    table: pd.DataFrame | None = None
    section: Section | None = None
    examples: Sequence[ClusterExample] = ()
    scales: Mapping[str, float] = field(default_factory=dict)
    movie: TrackedMovie | None = None


def one_by_one(
    inputs: Sequence[Input],
    one: Callable[[Input, Progress], None],
    progress: Progress | None,
    stop: Stop | None,
) -> bool:
    """Do something with each image; whether it was interrupted, by ``stop`` or Ctrl-C."""
    try:
        for number, item in enumerate(inputs, 1):
            check(stop)
            where = f"[{number}/{len(inputs)}] {item.name}"
            report(progress, 0, 0, where)
            one(item, prefixed(progress, f"{where}: "))
    except (KeyboardInterrupt, Cancelled):
        return True
    return False


def with_unreached(outcomes: Sequence[Outcome], inputs: Sequence[Input]) -> list[Outcome]:
    """Those that there are, and that nobody came to the rest."""
    rest = inputs[len(outcomes) :]
    return [*outcomes, *(item.outcome("not reached", "stopped before") for item in rest)]


def analyse_one(
    item: Input,
    classifier: Classifier,
    request: RunRequest,
    progress: Progress | None = None,
    stop: Stop | None = None,
    then: Callable[[Analysis, Outcome], T] | None = None,
) -> tuple[Outcome, Analysis | None, T | None]:
    """Read and analyse one image; whatever goes wrong with it becomes its outcome.

    Parameters
    ----------
    item
        The image.
    classifier, request
        What is done to it.
    progress, stop
        ``progress(done, total, message)`` and ``stop() -> bool``.
    then
        What is made of the result, such as drawings; if it fails, the image has.

    Returns
    -------
    outcome, analysis, made
        The last two are None of an image that failed.

    Raises
    ------
    Cancelled
        If ``stop()`` says so.
    """
    if item.error is not None:
        return item.outcome("failed", item.error), None, None
    known: dict[str, Any] = {}
    try:
        report(progress, 0, 0, "Reading")
        micrograph = load(item.path, request.pixel_size_nm, name=item.name)
        known = {
            "sha256": micrograph.sha256,
            "pixel_size_nm": micrograph.pixel_size_nm,
            "calibration": micrograph.metadata.get("calibration"),
        }
        micrograph = averaged(micrograph, request.average_frames, progress, stop)
        analysis = analyse(
            micrograph,
            classifier,
            progress=progress,
            stop=stop,
            settings=request.detection,
            umap=request.umap,
            symmetries=request.symmetries,
        )
        analysis = followed(analysis, progress, stop)
        outcome = item.outcome(
            "done",
            **known,
            clusters=len(analysis.table),
            parameters=analysis.parameters,
            seconds=analysis.seconds,
            warnings=image_warnings(analysis.table),
        )
        return outcome, analysis, None if then is None else then(analysis, outcome)
    except Cancelled:
        raise
    except Exception as error:
        return item.failed(error, known), None, None


def _one(
    item: Input,
    classifier: Classifier,
    request: RunRequest,
    progress: Progress,
    stop: Stop | None,
    small: bool,
    found: Sequence[ClusterExample] = (),
) -> tuple[_Result, Analysis | None]:
    """What a run keeps of one image."""

    def drawn(
        analysis: Analysis, outcome: Outcome
    ) -> tuple[Section, Sequence[ClusterExample], TrackedMovie | None]:
        movie = found_in(analysis, progress, stop)
        report(progress, 0, 0, "Drawing")
        section = image_section(
            analysis, outcome, small, request.ratios, classifier.card, movie=movie
        )
        return section, select_examples(found, analysis, classifier.card.classes), movie

    outcome, analysis, made = analyse_one(item, classifier, request, progress, stop, drawn)
    if analysis is None or made is None:
        return _Result(outcome), None
    section, examples, movie = made
    scales = scales_of([analysis])
    return _Result(outcome, analysis.table, section, examples, scales, movie), analysis
