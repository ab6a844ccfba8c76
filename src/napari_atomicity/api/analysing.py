"""Analyse images from files, folders or memory."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypedDict, Unpack, overload

import numpy as np

from ..core.micrograph import Micrograph
from ..core.progress import Progress, Stop, for_each_image, prefixed, report
from ..detection.settings import DetectionSettings
from ..io.images import is_image_folder, load
from ..io.inputs import Input, named_inputs
from ..io.outline_files import GivenOutlines, without_outlines
from ..io.provenance import now
from ..io.readers.arrays import is_array, is_signal, micrograph_of, unique_image_names
from ..models.analysis import Analysis
from ..pipeline.acquisition_sessions import SessionRules
from ..pipeline.run_request import RunRequest
from ..pipeline.runs.in_memory import AnalysedImages
from ..pipeline.runs.one_image import analyse_micrograph, analyse_one, without_pixels
from .arguments import checks_arguments
from .image_analysis import ImageAnalysis
from .progress import automatic_progress
from .session import Analyses

if TYPE_CHECKING:
    from ..models.inference import Classifier


class _Options(TypedDict, total=False):
    """Further arguments of `analyse`."""

    pixel_size_nm: float | None
    settings: DetectionSettings | Mapping[str, Any] | None
    umap: bool
    symmetries: bool
    labels: str
    average_frames: int | str | None
    session: str
    samples: str | PathLike[str] | None
    known: Iterable[str]
    keep_known: bool
    pixel_size_error: float
    outlines: str | PathLike[str] | np.ndarray | None
    rois: str | PathLike[str] | np.ndarray | None


@overload
def analyse(
    source: Micrograph | np.ndarray,
    model: str | Classifier = ...,
    device: str = ...,
    progress: Progress | bool | None = ...,
    stop: Stop | None = ...,
    **options: Unpack[_Options],
) -> ImageAnalysis: ...


@overload
def analyse(
    source: list[Any] | tuple[Any, ...],
    model: str | Classifier = ...,
    device: str = ...,
    progress: Progress | bool | None = ...,
    stop: Stop | None = ...,
    **options: Unpack[_Options],
) -> Analyses: ...


@overload
def analyse(
    source: Any,
    model: str | Classifier = ...,
    device: str = ...,
    progress: Progress | bool | None = ...,
    stop: Stop | None = ...,
    **options: Unpack[_Options],
) -> Any: ...


@checks_arguments(settings="detection.settings.DetectionSettings")
def analyse(
    source: Any,
    model: str | Classifier = "default",
    device: str = "auto",
    progress: Progress | bool | None = None,
    stop: Stop | None = None,
    *,
    pixel_size_nm: float | None = None,
    settings: DetectionSettings | Mapping[str, Any] | None = None,
    umap: bool = True,
    symmetries: bool = False,
    labels: str = "combination",
    average_frames: int | str | None = None,
    session: str = "auto",
    samples: str | PathLike[str] | None = None,
    known: Iterable[str] = (),
    keep_known: bool = False,
    pixel_size_error: float = RunRequest.pixel_size_error,
    outlines: str | PathLike[str] | np.ndarray | None = None,
    rois: str | PathLike[str] | np.ndarray | None = None,
) -> ImageAnalysis | Analyses:
    """Detect the clusters of images and classify them by their number of atoms.

    Parameters
    ----------
    source : path-like, Micrograph, array, HyperSpy signal, xarray.DataArray, or a list of them
        One image or stack of frames; or several: a folder, or a list. Arrays have the shape (Y, X)
        or (T, Y, X). The clusters of a stack are tracked.
    model : str or Classifier, optional
        Name of an available model, path of a model file, or a loaded classifier.
    device : str, optional
        "auto", "cpu", "cpu-bf16" (16-bit numbers), "cuda" or "mps": device of the network.
    progress : callable or bool, optional
        ``progress(done, total, message)``; True for a progress bar, False for none. Default: a bar
        in notebooks and on terminals.
    stop : callable, optional
        ``stop() -> bool``.
    pixel_size_nm : float, optional
        Edge length of a pixel in nm; overrides the calibration of files and objects.
    settings : DetectionSettings or dict, optional
        Settings of the detection in nm and in multiples of the noise, or a dictionary of those that
        differ from the defaults.
    umap : bool, optional
        Whether to place the clusters in the map.
    symmetries : bool, optional
        Whether to average over the eight symmetries of the square; eight times slower.
    labels : str, optional
        Estimator that gives the labels: "combination", "mixture" or "network".
    average_frames : int or str, optional
        Stacks only: number of registered frames to average before the detection, or "all".
    session : str, optional
        How several images are grouped into sessions: "auto" by folder, pixel size and instrument;
        "none" for one image each; "all"; or the path of a table with the columns image, session
        and known.
    samples : path-like, optional
        Table of samples with the columns image (name or pattern), sample, and further ones of
        numbers such as time or temperature. Default: images of a folder are a sample.
    known : iterable of str, optional
        Images whose composition by number is known, such as ``"ref_*.tif=Pt55"``.
    keep_known : bool, optional
        Whether a known composition is used even if its clusters contradict it.
    pixel_size_error : float, optional
        Error (standard deviation) of the pixel size in per cent.
    outlines : path-like or ndarray, optional
        Outlines of clusters by another program, measured instead of detecting clusters: a label
        image, GeoJSON, ImageJ ROIs, a folder with one file per image, or an array of labels.
    rois : path-like or ndarray, optional
        Regions to analyse, in the same forms: clusters outside are left out.

    Returns
    -------
    ImageAnalysis or Analyses
        `ImageAnalysis` for one image; `Analyses` for a folder or a list. Of several images, those
        that cannot be analysed are listed in ``.failed``.

    Raises
    ------
    ReadError, UnsuitableImageError, CalibrationError, ModelError, TableError, Cancelled
        If a single image cannot be analysed, the model cannot be loaded, or a known sample matches
        no image.
    TypeError, ValueError
        If an argument is not valid; the message names it and says what it takes.

    Examples
    --------
    >>> analyse("field.dm4").table
    >>> analyse(array, pixel_size_nm=0.036).plot()
    >>> analyse("2026-11-20", known=["ref_*.tif=Pt55"]).save("results")
    """
    from ..models.inference import Classifier

    if isinstance(samples, Mapping):
        raise TypeError("samples takes the path of a table; Analyses.compare takes a mapping too")
    request = RunRequest(
        model=model.card.name if isinstance(model, Classifier) else str(model),
        device=device,
        pixel_size_nm=pixel_size_nm,
        umap=umap,
        symmetries=symmetries,
        labels=labels,
        detection=settings or DetectionSettings(),  # type: ignore[arg-type]
        average_frames=average_frames,
        session=session,
        samples=None if samples is None else str(samples),
        known=tuple(known),
        keep_known=keep_known,
        pixel_size_error=pixel_size_error,
        outlines=_path_of(outlines),
        rois=_path_of(rois),
    )
    given = {"outlines": _given_labels(outlines), "rois": _given_labels(rois)}
    with automatic_progress(progress) as shown:
        return _analyse_source(source, model, request, shown, stop, given)


def _analyse_source(
    source: Any,
    model: str | Classifier,
    request: RunRequest,
    progress: Progress | None,
    stop: Stop | None,
    given: Mapping[str, GivenOutlines | None],
) -> ImageAnalysis | Analyses:
    """Analyse one image, or several of which some may fail; see `analyse`."""
    from ..models.inference import Classifier, load_classifier

    def load_model() -> Classifier:
        report(progress, 0, 0, "Loading the model")
        if isinstance(model, Classifier):
            return model
        return load_classifier(model, request.device)

    one = is_one_image(source)
    if one and not (request.known or request.samples):
        micrograph = load(source, request.pixel_size_nm)
        micrograph.calibrated()  # the model is not loaded in vain
        found = analyse_micrograph(micrograph, load_model(), request, progress, stop, **given)
        return ImageAnalysis.of(found)
    if any(given.values()):
        raise ValueError("labels are of one image: give a folder with a file for each image")
    analyses = _analyse_many(inputs_of(source), load_model(), request, progress, stop)
    return analyses[0] if one and len(analyses) else analyses


def _path_of(given: Any) -> str | None:
    return str(given) if isinstance(given, str | PathLike) else None


def _given_labels(given: Any) -> GivenOutlines | None:
    """Return labels in memory as outlines; None for a path, which is read with its image."""
    if given is None or isinstance(given, str | PathLike):
        return None
    return GivenOutlines("array of labels", labels=np.asarray(given))


def is_one_image(source: Any) -> bool:
    """Return whether a source is one image or stack, and not a folder or a list of images."""
    if isinstance(source, str | PathLike):
        path = Path(source)
        return not path.is_dir() or is_image_folder(path)
    if isinstance(source, list | tuple):
        return not (source and all(_is_source(one) for one in source))
    return isinstance(source, Micrograph) or is_array(source) or not isinstance(source, Iterable)


def _is_source(one: Any) -> bool:
    """Return whether an element of a list is an image, and not a row of pixels."""
    if isinstance(one, str | PathLike | Micrograph) or is_signal(one):
        return True
    return is_array(one) and len(one.shape) >= 2


def inputs_of(source: Any) -> list[Input]:
    """Return the images of a folder or a list with unique names."""
    sources = [source] if is_one_image(source) or isinstance(source, str | PathLike) else source
    inputs: list[Input] = []
    for one in sources:
        if isinstance(one, str | PathLike):
            inputs.append(Input("", Path(one)))
        else:
            micrograph = micrograph_of(one)
            inputs.append(Input(micrograph.name, micrograph.path or Path(), micrograph=micrograph))
    files = named_inputs([one.path for one in inputs if one.micrograph is None])
    found = [*files, *(one for one in inputs if one.micrograph is not None)]
    names = unique_image_names([one.name for one in found])
    return [
        Input(name, one.path, one.error, one.micrograph)
        for name, one in zip(names, found, strict=True)
    ]


def _analyse_many(
    inputs: Sequence[Input],
    classifier: Classifier,
    request: RunRequest,
    progress: Progress | None,
    stop: Stop | None,
) -> Analyses:
    """Analyse images one by one, then label those of each session jointly."""
    started = now()
    inputs = without_outlines(inputs, request.outlines, request.rois)
    rules = SessionRules.read(request, classifier.card.classes)
    rules.check([item.name for item in inputs])
    results = AnalysedImages(classifier.card, request, rules)

    def step(item: Input) -> None:
        number = f"[{len(results.outcomes) + 1}/{len(inputs)}] {item.name}"
        report(progress, len(results.outcomes), len(inputs), number)
        shown = prefixed(progress, f"{number}: ")
        outcome, analysis, _ = analyse_one(item, classifier, request, shown, stop)
        results.outcomes.append(outcome)
        if analysis is not None:
            results.analyses[outcome.image] = ImageAnalysis.of(_small(analysis, item, request))

    results.interrupted = for_each_image(inputs, step, stop=stop)
    if not results.interrupted:
        results.label_sessions(classifier, progress)
    results.outcomes = rules.with_sessions(results.outcomes)
    return Analyses(results, inputs, classifier.device_name, started)


def _small(analysis: Analysis, item: Input, request: RunRequest) -> Analysis:
    """Return an analysis whose pixels are read from the file on demand, if there is one."""
    if item.micrograph is not None or request.average_frames is not None:
        return analysis
    return without_pixels(analysis, item.path)
