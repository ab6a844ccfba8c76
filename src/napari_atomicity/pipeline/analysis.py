"""The whole pipeline: from a micrograph to atomicities and ratios."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, replace
from typing import TYPE_CHECKING

from ..core import cluster_table as tables
from ..core.micrograph import Micrograph
from ..core.progress import Progress, Stop, check, report
from ..detection import DetectionSettings, detect
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
    """Find, outline and measure the clusters of an image by the CPU; nothing is classified yet.

    Raises
    ------
    CalibrationError
        If the pixel size is not known.
    Cancelled
        If ``stop()`` says so.
    """
    settings = settings or DetectionSettings()
    seconds: dict[str, float] = {}
    with _timed(seconds, "detect"):
        found = detect(micrograph, settings, progress=progress, stop=stop)
    return Analysis(
        micrograph,
        found.table,
        found.outlines,
        parameters={"detection": asdict(settings)},
        seconds=seconds,
    )


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
    """Give every cluster of the table its atomicity; corrections of a person stay.

    With ``symmetries`` the network is averaged over the eight symmetries of the square; None: as
    the analysis was classified before, which is False at first. ``scale`` tells the integrated
    intensity of one atom where it is known already, as for a few clusters of an image whose others
    have been classified; else it is read from the table.

    Raises
    ------
    ModelError
        If the model can't be loaded or lacks the device.
    Cancelled
        If ``stop()`` says so.
    """
    import torch

    from ..core.devices import DeviceLostError, release_memory
    from ..core.patches import Patches
    from ..detection.device_patches import as_arrays, patches_for_device
    from ..models.classifier import Classifier, load_classifier
    from ..models.intensity_scale import fit_image
    from ..models.label_assignment import assign_labels

    symmetries = analysis.symmetries if symmetries is None else symmetries
    seconds = dict(analysis.seconds)
    with _timed(seconds, "load model"):
        classifier = model if isinstance(model, Classifier) else load_classifier(model, device)
    check(stop)

    def cut(device: torch.device) -> Patches:
        return patches_for_device(
            device,
            analysis.micrograph,
            analysis.table,
            classifier.card.patches,
            per_atom,
            stop,
            progress,
        )

    reference = classifier.card.scale
    with _timed(seconds, "scale"):
        if scale is None and reference is not None:
            scale = fit_image(analysis.table, reference)
    per_atom = 1.0 if scale is None else scale.intensity_per_atom
    report(progress, 0, len(analysis.table), "Cutting patches")
    with _timed(seconds, "patches"):
        patches = cut(classifier.device)
    with _timed(seconds, "network"):
        try:
            result = classifier.predict(patches, progress, stop, symmetries=symmetries)
            in_memory = as_arrays(patches)
        except DeviceLostError:  # with all that lay on it: once more, with the CPU
            in_memory = as_arrays(cut(torch.device("cpu")))
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
        field_of_view_nm=classifier.card.patches.field_of_view_nm,
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
    """Place every classified cluster in the UMAP of the model's reference embeddings."""
    from ..models.embedding import place

    seconds = dict(analysis.seconds)
    with _timed(seconds, "umap"):
        position = place(analysis.embedding, model)
    check(stop)
    table = analysis.table.copy()
    table["umap_1"], table["umap_2"] = position[:, 0], position[:, 1]
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
    """Detection, classification, explanation and embedding of one image.

    Parameters
    ----------
    micrograph
        A calibrated image or stack.
    model
        Name of a model at hand, path of a model file, or a loaded classifier.
    device
        "auto", "cpu", "cuda" or "mps": where the patches are cut (CUDA, else the CPU) and the
        network runs. Clusters are found by the CPU.
    progress, stop
        ``progress(done, total, message)`` and ``stop() -> bool``.
    settings
        Of the detection, in nm and in units of the noise.
    umap
        Whether to place the clusters in the UMAP, which takes seconds the first time.
    symmetries
        Whether to average the network over the eight symmetries of the square, at eight times its
        cost.

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
