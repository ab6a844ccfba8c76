"""Training, adaptation, atoms, dispersion, movies and batches, one function each."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..atoms.marks import ImageAtoms
from ..core.errors import AtomicityError, UnsuitableImageError
from ..core.progress import Progress, Stop
from ..io.images import load
from ..io.readers.arrays import unique_image_names
from ..models.analysis import Analysis
from .analysing import analyse, is_one_image
from .arguments import check_kind, checks_arguments
from .progress import automatic_progress
from .session import Analyses

if TYPE_CHECKING:
    from ..atoms.analysis import AtomAnalysis
    from ..atoms.dispersion import DispersionResults, DispersionSettings
    from ..atoms.finding.finder import AtomModel
    from ..core.model_card import ModelCard
    from ..pipeline.adaptation.result import Adaptation
    from ..pipeline.runs.run_files import Run
    from ..tracking.following import TrackedMovie
    from ..tracking.settings import MovieSettings


@checks_arguments()
def train(
    data: str | PathLike[str] | Analysis | Analyses,
    out: str | PathLike[str],
    *,
    channels: Iterable[str] = ("raw", "LCN"),
    start: str = "default",
    epochs: int | None = None,
    seed: int = 0,
    pixel_size_nm: float | None = None,
    device: str = "auto",
    progress: Progress | bool | None = None,
    stop: Stop | None = None,
) -> ModelCard:
    """Train a model and write it with its card; an interrupted training resumes.

    Parameters
    ----------
    data : path-like, Analysis or Analyses
        Folder of size-selected images, ``data/<class>/*.tif``; or corrected analyses.
    out : path-like
        The .safetensors file to write; its card has the same name.
    channels : iterable of str, optional
        Input channels: "raw" and "LCN", or one of them.
    start : str, optional
        Initial weights: "default" (the shipped model), "scratch", or a model.
    epochs : int, optional
        Maximum number of epochs. Default: enough for the number of clusters.
    seed : int, optional
        Seed of all random numbers.
    pixel_size_nm : float, optional
        See `analyse`.
    device : str, optional
        See `analyse`.
    progress, stop : callable, optional
        See `analyse`.

    Returns
    -------
    ModelCard
        As written. ``analyse(image, model=out)`` uses the model.

    Raises
    ------
    AtomicityError
        If the data are not sufficient, an image cannot be read, or the model cannot be written.
    Cancelled
        If ``stop()`` returns True.
    """
    from ..models.files import model_file
    from ..training import CorrectedImagesSource, FolderSource, TrainRequest, train as run_training

    if isinstance(data, Analysis):
        data = Analyses.of([data])
    what = "the path of a folder, an Analysis, or Analyses"
    check_kind("data", [data], (str, PathLike, Analyses), what)
    source = (
        CorrectedImagesSource(tuple((a.micrograph, a.table) for a in data))
        if isinstance(data, Analyses)
        else FolderSource(Path(data))
    )
    request = TrainRequest(
        source,
        model_file(out),
        tuple(channels),
        start=start,
        epochs=epochs,
        seed=seed,
        device=device,
        pixel_size_nm=pixel_size_nm,
    )
    with automatic_progress(progress) as shown:
        return run_training(request, shown, stop)


@checks_arguments()
def adapt(
    source: Any,
    out: str | PathLike[str],
    model: str = "default",
    device: str = "auto",
    progress: Progress | bool | None = None,
    stop: Stop | None = None,
    *,
    pixel_size_nm: float | None = None,
    pseudo_labels: str = "combined",
) -> Adaptation:
    """Adapt a model to new imaging conditions, and write it if it improves.

    Parameters
    ----------
    source : Analysis, Analyses, or source of `analyse`
        Images of the new conditions; their corrections count as certain.
    out : path-like
        The .safetensors file to write.
    model, device : str, optional
        See `analyse`.
    progress, stop : callable, optional
        See `analyse`.
    pixel_size_nm : float, optional
        See `analyse`.
    pseudo_labels : str, optional
        Clusters to learn from: those whose intensity and diameter determine the class
        ("combined"), or those in a range of diameters of one class ("diameter").

    Returns
    -------
    Adaptation
        ``.accepted``, ``.reasons``, and the analyses ``.before`` and ``.after``. If the network
        needs no change (``.needed``), the file has the unchanged model; if the adapted one is not
        accepted, no file is written.

    Raises
    ------
    ModelError
        If the model cannot be loaded or adapted.
    AtomicityError
        If an image cannot be analysed, or the model cannot be written.
    Cancelled
        If ``stop()`` returns True.
    """
    from ..models.files import model_file, save_model
    from ..pipeline.adaptation.runs import adapt_images

    path = model_file(out)
    with automatic_progress(progress) as shown:
        if not isinstance(source, Analysis | Analyses):
            # Without a progress function, `analyse` would show a second bar.
            source = analyse(
                source,
                model,
                device,
                shown or False,
                stop,
                pixel_size_nm=pixel_size_nm,
                umap=False,
            )
        analyses = [source] if isinstance(source, Analysis) else list(source)
        if not analyses:
            raise AtomicityError("there is no image to adapt to", advice="Pass images of clusters")
        found = adapt_images(analyses, model, path.stem, device, shown, stop, pseudo_labels)
    if found.has_model:
        save_model(path, found.card, found.tensors)
    return found


@checks_arguments()
def find_atoms(
    source: Any,
    model: str | AtomModel = "default",
    device: str = "auto",
    precision: float | None = None,
    threshold: float | None = None,
    progress: Progress | bool | None = None,
    stop: Stop | None = None,
    *,
    pixel_size_nm: float | None = None,
) -> AtomAnalysis:
    """Detect and measure the single atoms of an image.

    Parameters
    ----------
    source : path-like, Micrograph, array, HyperSpy signal or xarray.DataArray
        Image or stack.
    model : str or AtomModel, optional
        Name of an available atom model, path of a model file, or a loaded model.
    device : str, optional
        See `analyse`.
    precision : float, optional
        Expected precision of the reported atoms. Default: the operating point of the image.
    threshold : float, optional
        Minimum probability of reported atoms; overrides ``precision``.
    progress, stop : callable, optional
        See `analyse`.
    pixel_size_nm : float, optional
        See `analyse`.

    Returns
    -------
    AtomAnalysis
        ``.table`` is the atom table; `dispersion` computes their dispersion on the support.

    Raises
    ------
    ReadError, UnsuitableImageError, CalibrationError
        If the image cannot be read, is no micrograph, or has no pixel size.
    ModelError
        If the model cannot be loaded or lacks the device.
    Cancelled
        If ``stop()`` returns True.
    """
    from ..atoms.analysis import find_atoms as find_in_micrograph

    micrograph = load(source, pixel_size_nm)
    with automatic_progress(progress) as shown:
        return find_in_micrograph(micrograph, model, device, precision, threshold, shown, stop)


@checks_arguments(settings="atoms.dispersion.DispersionSettings")
def dispersion(
    atoms: AtomAnalysis | Iterable[AtomAnalysis],
    settings: DispersionSettings | Mapping[str, Any] | None = None,
    progress: Progress | bool | None = None,
    stop: Stop | None = None,
) -> DispersionResults:
    """Compute density, isolated fraction, groups and pair correlation of single atoms.

    Parameters
    ----------
    atoms : AtomAnalysis or iterable of AtomAnalysis
        Atoms of one image or of several.
    settings : DispersionSettings or dict, optional
        Simulations, largest distance, seed and level.
    progress, stop : callable, optional
        See `analyse`.

    Returns
    -------
    DispersionResults
        Of each image and of all together; ``.rows()`` is the table ``dispersion.csv``, without the
        test of missed atoms.

    Raises
    ------
    AtomicityError
        If atoms of different images are linked at different distances.
    Cancelled
        If ``stop()`` returns True.
    """
    from ..atoms.analysis import AtomAnalysis
    from ..atoms.dispersion import compute_dispersions

    found = check_kind(
        "atoms",
        [atoms] if isinstance(atoms, AtomAnalysis) else atoms,
        (AtomAnalysis,),
        "an AtomAnalysis, as find_atoms returns it, or a list of them",
    )
    names = unique_image_names([one.micrograph.name for one in found])
    images = {name: _image_atoms(one, name) for name, one in zip(names, found, strict=True)}
    with automatic_progress(progress) as shown:
        return compute_dispersions(images, settings, progress=shown, stop=stop)  # type: ignore[arg-type]


def _image_atoms(atoms: AtomAnalysis, name: str) -> ImageAtoms:
    return ImageAtoms(
        name,
        atoms.pixel_size_nm,
        atoms,
        group_distance_nm=atoms.group_distance_nm,
    )


@checks_arguments(settings="tracking.settings.MovieSettings")
def analyse_movie(
    source: Any,
    settings: MovieSettings | Mapping[str, Any] | None = None,
    progress: Progress | bool | None = None,
    stop: Stop | None = None,
    **options: Any,
) -> TrackedMovie:
    """Track the clusters of a stack, and find their changes over time.

    Parameters
    ----------
    source : Analysis, or source of `analyse`
        A stack of frames, or its analysis: corrected labels take effect.
    settings : MovieSettings or dict, optional
        Settings of the tracking; the clusters of an analysis are then linked again.
    progress, stop : callable, optional
        See `analyse`.
    **options : Any
        Further arguments of `analyse`.

    Returns
    -------
    TrackedMovie
        Tracks, drift, events, dwell times and rates.

    Raises
    ------
    UnsuitableImageError
        If it is a single image.
    AtomicityError
        If the stack cannot be read or analysed.
    Cancelled
        If ``stop()`` returns True.
    """
    from ..tracking import evaluate_tracks, is_tracked, track_clusters

    with automatic_progress(progress) as shown:
        if not isinstance(source, Analysis):
            source = analyse(source, progress=shown or False, stop=stop, **options)
            if not isinstance(source, Analysis):
                raise UnsuitableImageError(
                    "several images are no movie", advice="Pass one stack of frames"
                )
        if settings is not None or not is_tracked(source):
            source = track_clusters(source, settings, shown, stop)  # type: ignore[arg-type]
        return evaluate_tracks(source, progress=shown, stop=stop)


@checks_arguments(options="pipeline.run_request.RunRequest")
def analyse_batch(
    source: Any,
    out: str | PathLike[str],
    model: str = "default",
    device: str = "auto",
    progress: Progress | bool | None = None,
    stop: Stop | None = None,
    *,
    workers: int | None = None,
    scheduler: str | None = None,
    **settings: Any,
) -> Run:
    """Analyse many images on many workers; images of an earlier run are not analysed again.

    A script that calls this needs ``if __name__ == "__main__":``, since workers are new processes.

    Parameters
    ----------
    source : path-like or iterable of path-like
        Image files, and folders of images.
    out : path-like
        Folder of the tables, the report and the record.
    model, device : str, optional
        See `analyse`.
    progress, stop : callable, optional
        See `analyse`.
    workers : int, optional
        Number of processes on this machine. Default: number of cores.
    scheduler : str, optional
        Address of a dask scheduler, or its JSON file; its workers are used instead.
    **settings : Any
        Further fields of `pipeline.run_request.RunRequest`, such as ``pixel_size_nm``, ``known``
        and ``ratios``.

    Returns
    -------
    Run
        Table, ratios, outcomes and files.

    Raises
    ------
    ModelError, TableError
        If the model cannot be loaded, or a table does not match.
    AtomicityError
        If the folder cannot be written, another run writes to it, or no worker can be started.
    """
    from ..pipeline.run_request import RunRequest
    from ..pipeline.runs.batch import run_batch

    request = RunRequest(model=model, device=device, **settings)
    paths = check_kind(
        "source",
        [source] if is_one_image(source) or isinstance(source, str | PathLike) else source,
        (str, PathLike),
        "a path or a list of paths",
    )
    with automatic_progress(progress) as shown:
        return run_batch(paths, out, request, workers, scheduler, shown, stop)
