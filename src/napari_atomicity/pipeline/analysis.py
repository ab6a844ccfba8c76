"""Analysis of one image: from a micrograph to atomicities and ratios."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, replace
from typing import TYPE_CHECKING, Any

from ..core import cluster_table as tables
from ..core.micrograph import Micrograph
from ..core.progress import Progress, Stop, check, report
from ..detection import DetectionSettings, detect
from ..detection.recording import recording_of
from ..models.analysis import Analysis

if TYPE_CHECKING:
    from ..models.classifier import Classifier
    from ..models.intensity_scale import ConstrainedMixture


@contextmanager
def _timed(seconds: dict[str, float], stage: str) -> Iterator[None]:
    start = time.perf_counter()
    yield
    seconds[stage] = seconds.get(stage, 0.0) + time.perf_counter() - start


def detect_clusters(
    micrograph: Micrograph,
    settings: DetectionSettings | None = None,
    progress: Progress | None = None,
    stop: Stop | None = None,
) -> Analysis:
    """Detect, outline and measure the clusters of an image on the CPU, without classification.

    Parameters
    ----------
    micrograph : Micrograph
        Calibrated image or stack.
    settings : DetectionSettings, optional
        Settings in nm and in multiples of the noise.
    progress, stop : callable, optional
        ``progress(done, total, message)`` and ``stop() -> bool``.

    Returns
    -------
    Analysis
        With the measured columns of the table.

    Raises
    ------
    CalibrationError
        If the pixel size is not known.
    Cancelled
        If ``stop()`` returns True.
    """
    settings = settings or DetectionSettings()
    seconds: dict[str, float] = {}
    with _timed(seconds, "detect"):
        found = detect(micrograph, settings, progress=progress, stop=stop)
    return Analysis(
        micrograph,
        found.table,
        found.outlines,
        parameters={"detection": asdict(settings), **_recording(micrograph)},
        seconds=seconds,
    )


def _recording(micrograph: Micrograph) -> dict[str, Any]:
    """Return the effects of the recording as a parameter; none for a faithful recording.

    Of a stack, the first frame that has an effect represents it.
    """
    frames = (recording_of(micrograph, i).provenance() for i in range(micrograph.n_frames))
    found = next(filter(None, frames), None)
    return {} if found is None else {"recording": found}


def classify_clusters(
    analysis: Analysis,
    model: str | Classifier = "default",
    device: str = "auto",
    progress: Progress | None = None,
    stop: Stop | None = None,
    *,
    scale: ConstrainedMixture | None = None,
    symmetries: bool | None = None,
) -> Analysis:
    """Classify every cluster of the table by atomicity; corrections of a person remain.

    Parameters
    ----------
    analysis : Analysis
        Detected clusters.
    model : str or Classifier, optional
        Name of an available model, path of a model file, or a loaded classifier.
    device : str, optional
        "auto", "cpu", "cuda" or "mps".
    progress, stop : callable, optional
        ``progress(done, total, message)`` and ``stop() -> bool``.
    scale : ConstrainedMixture, optional
        Intensity of one atom, if it is known, as for a few clusters of a classified image.
        Default: fitted to the table.
    symmetries : bool, optional
        Whether to average over the eight symmetries of the square. Default: as the analysis was
        classified before.

    Returns
    -------
    Analysis
        With predictions, embedding, patches and class maps.

    Raises
    ------
    ModelError
        If the model cannot be loaded or lacks the device.
    Cancelled
        If ``stop()`` returns True.
    """
    from ..models.classifier import Classifier, load_classifier
    from ..models.intensity_scale import fit_image

    symmetries = analysis.symmetries if symmetries is None else symmetries
    seconds = dict(analysis.seconds)
    with _timed(seconds, "load model"):
        classifier = model if isinstance(model, Classifier) else load_classifier(model, device)
    check(stop)
    reference = classifier.card.scale
    with _timed(seconds, "scale"):
        if scale is None and reference is not None:
            scale = fit_image(analysis.table, reference)
    return _predict(analysis, classifier, scale, symmetries, seconds, progress, stop)


def _predict(
    analysis: Analysis,
    classifier: Classifier,
    scale: ConstrainedMixture | None,
    symmetries: bool,
    seconds: dict[str, float],
    progress: Progress | None,
    stop: Stop | None,
) -> Analysis:
    """Extract patches, run the network, and assign labels."""
    import torch

    from ..core.devices import DeviceLostError, release_memory
    from ..core.patches import Patches
    from ..detection.device_patches import as_arrays, patches_for_device
    from ..models.label_assignment import assign_labels

    per_atom = 1.0 if scale is None else scale.intensity_per_atom
    settings = classifier.card.patches

    def extract(device: torch.device) -> Patches:
        image, table = analysis.micrograph, analysis.table
        return patches_for_device(device, image, table, settings, per_atom, stop, progress)

    report(progress, 0, len(analysis.table), "Cutting patches")
    with _timed(seconds, "patches"):
        patches = extract(classifier.device)
    with _timed(seconds, "network"):
        try:
            result = classifier.predict(patches, progress, stop, symmetries=symmetries)
            in_memory = as_arrays(patches)
        except DeviceLostError:  # the patches are lost as well: repeat on the CPU
            in_memory = as_arrays(extract(torch.device("cpu")))
            result = classifier.predict(in_memory, progress, stop, symmetries=symmetries)
        del patches
        release_memory(classifier.device)
    with _timed(seconds, "labels"):
        table = assign_labels(analysis.table, classifier, result, scale)
        tables.validate(table)
    return replace(
        analysis,
        table=table,
        patches=in_memory,
        embedding=result.embedding,
        class_maps=result.class_maps,
        field_of_view_nm=settings.field_of_view_nm,
        scale=scale,
        parameters={
            **analysis.parameters,
            "model": classifier.card.provenance(),
            "device": str(classifier.device),
            "symmetries": symmetries,
            "intensity_per_atom": per_atom,
            "certainty_of_scale": None if scale is None else scale.certainty,
        },
        seconds=seconds,
    )


def embed_clusters(
    analysis: Analysis, model: str | Classifier = "default", stop: Stop | None = None
) -> Analysis:
    """Place every classified cluster in the map of the model.

    Parameters
    ----------
    analysis : Analysis
        Classified clusters.
    model : str or Classifier, optional
        Model that classified them.
    stop : callable, optional
        ``stop() -> bool``.

    Returns
    -------
    Analysis
        With the columns ``umap_1`` and ``umap_2``.
    """
    from ..models.embedding import place

    seconds = dict(analysis.seconds)
    with _timed(seconds, "umap"):
        position = place(analysis.embedding, model)
    check(stop)
    table = analysis.table.copy()
    table["umap_1"], table["umap_2"] = position.astype(float).T  # as the schema says
    return replace(analysis, table=table, seconds=seconds)


def analyse(
    micrograph: Micrograph,
    model: str | Classifier = "default",
    device: str = "auto",
    progress: Progress | None = None,
    stop: Stop | None = None,
    *,
    settings: DetectionSettings | None = None,
    umap: bool = True,
    symmetries: bool = False,
) -> Analysis:
    """Detect, classify, explain and embed the clusters of one image.

    Parameters
    ----------
    micrograph : Micrograph
        A calibrated image or stack.
    model : str or Classifier, optional
        Name of an available model, path of a model file, or a loaded classifier.
    device : str, optional
        "auto", "cpu", "cuda" or "mps": device of the network, and with CUDA of the patch
        extraction. Detection runs on the CPU.
    progress, stop : callable, optional
        ``progress(done, total, message)`` and ``stop() -> bool``.
    settings : DetectionSettings, optional
        Settings of the detection in nm and in multiples of the noise.
    umap : bool, optional
        Whether to place the clusters in the map.
    symmetries : bool, optional
        Whether to average over the eight symmetries of the square; eight times slower.

    Returns
    -------
    Analysis
        Table, embedding, class maps; ``.ratios()`` gives the class ratios.

    Raises
    ------
    CalibrationError, ModelError, Cancelled
        As in the steps.
    """
    analysis = detect_clusters(micrograph, settings, progress, stop)
    analysis = classify_clusters(analysis, model, device, progress, stop, symmetries=symmetries)
    if umap:
        report(progress, 0, 0, "Placing the clusters in the UMAP")
        analysis = embed_clusters(analysis, model, stop)
    return analysis
