"""Analysis of one image: from a micrograph to atomicities and ratios."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from ..core.errors import add_failed, attempt
from ..core.micrograph import Micrograph
from ..core.progress import Progress, Stop, check, report, timed
from ..core.tables import cluster_table as tables
from ..detection import Detection, DetectionSettings, detect
from ..detection.given import inside_any, outlines_by_frame
from ..detection.recording import OUTLIERS, missing_pixels, recording_of
from ..io.outline_files import GivenOutlines
from ..models.analysis import Analysis
from .measurements import add_installed

if TYPE_CHECKING:
    from ..models.inference import Classifier, Prediction
    from ..models.scale.intensity_scale import ConstrainedMixture
    from ..models.scaled_predictions import ScaledPrediction


def detect_clusters(
    micrograph: Micrograph,  # calibrated image or stack
    settings: DetectionSettings | None = None,  # settings in nm and in multiples of the noise
    progress: Progress | None = None,
    stop: Stop | None = None,
    *,
    outlines: GivenOutlines | None = None,  # of another program, measured instead
    rois: GivenOutlines | None = None,  # regions; clusters outside are left out
) -> Analysis:
    """Detect, outline and measure the clusters of an image on the CPU, without classification.

    Raises `CalibrationError` if the pixel size is not known, and `AtomicityError` if outlines or
    regions do not fit the image.
    """
    settings = settings or DetectionSettings()
    seconds: dict[str, float] = {}
    regions = None if rois is None else outlines_by_frame(rois, micrograph, is_region=True)
    with timed(seconds, "detect"):
        found = detect(micrograph, settings, progress=progress, stop=stop, given=outlines)
        failed: dict[str, str] = {}
        lone_atoms = attempt(
            failed, "intensity of lone atoms", lambda: _lone_atoms(micrograph, found, settings)
        )
    parameters = {"detection": asdict(settings), **_recording(micrograph), **(lone_atoms or {})}
    if outlines is not None:
        parameters["outlines"] = {**outlines.provenance(), "too_small": found.n_too_small}
    if rois is not None and regions is not None:
        found, n_outside = _within(found, regions)
        parameters["rois"] = {**rois.provenance(), "clusters_outside": n_outside}
    if settings.changed:  # recorded, since defaults of other versions may differ
        parameters["changed_settings"] = settings.changed
    analysis = Analysis(
        micrograph,
        found.table,
        found.outlines,
        parameters=add_failed(parameters, failed),
        seconds=seconds,
    )
    with timed(seconds, "detect"):
        return add_installed(analysis, stop)


def _within(found: Detection, regions: list[list[np.ndarray]]) -> tuple[Detection, int]:
    """Return the clusters with their centres in a region of their frame, and how many have not."""
    table = found.table
    centres, frame = table[["y_px", "x_px"]].to_numpy(float), table["frame"].to_numpy()
    kept = np.zeros(len(table), bool)
    for index, polygons in enumerate(regions):
        own = frame == index
        kept[own] = inside_any(centres[own], polygons)
    inside = table[kept].reset_index(drop=True)
    inside["cluster_id"] = np.arange(1, len(inside) + 1)
    outlines = [outline for outline, keep in zip(found.outlines, kept, strict=True) if keep]
    return replace(found, table=tables.conform(inside), outlines=outlines), int((~kept).sum())


def _lone_atoms(
    micrograph: Micrograph, found: Detection, settings: DetectionSettings
) -> dict[str, Any]:
    """Return the intensity of lone atoms as a parameter; none if they cannot be measured."""
    from ..atoms.lone_atoms import measure_lone_atoms

    first = [o for o, i in zip(found.outlines, found.table["frame"], strict=True) if i == 0]
    atoms = measure_lone_atoms(micrograph, first, settings, found.first)
    return {} if atoms is None else {"lone_atoms": asdict(atoms)}


def _recording(micrograph: Micrograph) -> dict[str, Any]:
    """Return the effects of the recording as a parameter; none for a faithful recording.

    Of a stack, the first frame that has an effect represents it; outlier pixels are summed.
    """
    frames = [recording_of(micrograph, i).provenance() for i in range(micrograph.n_frames)]
    n_outliers = sum(frame.pop(OUTLIERS, 0) for frame in frames)
    found = next(filter(None, frames), {}) | ({OUTLIERS: n_outliers} if n_outliers else {})
    found |= missing_pixels(micrograph)
    return {"recording": found} if found else {}


UNIT = "intensity_per_atom"
"""Parameter of an analysis with clusters: the intensity of one atom, the unit of its patches."""
OWN_UNITS = "own_units"
"""Parameter: units of the intensity (counts nm² per atom) in which the network has predicted the
image by itself. Labels of its session use these predictions, also after the project is reopened."""
_SAME_UNIT = 1e-9
"""Difference of ln unit up to which a prediction is at hand."""


def classify_clusters(
    analysis: Analysis,
    model: str | Classifier = "default",
    device: str = "auto",  # "auto", "cpu", "cuda" or "mps"
    progress: Progress | None = None,
    stop: Stop | None = None,
    *,
    scale: ConstrainedMixture | None = None,
    symmetries: bool | None = None,
    labels_from: str | None = None,
) -> Analysis:
    """Classify every cluster of the table by atomicity; corrections of a person remain.

    Raises `ModelError` if the model cannot be loaded or lacks the device.
    """
    from ..models.inference import Classifier, load_classifier

    symmetries = analysis.symmetries if symmetries is None else symmetries
    seconds = dict(analysis.seconds)
    with timed(seconds, "load model"):
        classifier = model if isinstance(model, Classifier) else load_classifier(model, device)
    check(stop)
    chosen = analysis.labels_from if labels_from is None else labels_from
    parameters = {**analysis.parameters, "labels_from": chosen}
    analysis = replace(analysis, seconds=seconds, parameters=parameters)
    return _predict(analysis, classifier, scale, symmetries, progress, stop)


def _predict(
    analysis: Analysis,
    classifier: Classifier,
    scale: ConstrainedMixture | None,
    symmetries: bool,
    progress: Progress | None,
    stop: Stop | None,
) -> Analysis:
    """Extract patches, run the network, and assign labels."""
    from ..detection.patches import extract_patches
    from ..models.scale.intensity_scale import fit_image

    card, seconds = classifier.card, analysis.seconds
    with timed(seconds, "scale"):
        # by intensities and diameters only, until the network has seen the patches
        first = scale
        if scale is None and card.scale is not None:
            first = fit_image(analysis.table, card.scale)
    unit = 1.0 if first is None else first.intensity_per_atom

    report(progress, 0, len(analysis.table), "Cutting patches")
    with timed(seconds, "patches"):
        patches = extract_patches(
            analysis.micrograph, analysis.table, card.patches, unit, stop, progress
        )
    analysis = replace(
        analysis,
        patches=patches,
        field_of_view_nm=card.patches.field_of_view_nm,
        parameters={
            **analysis.parameters,
            "model": card.provenance(),
            "symmetries": symmetries,
            UNIT: unit,
        },
        scale=first,
        card=card,
    )
    if scale is None:
        labelled = classify_patches(analysis, classifier, progress, stop)
    else:
        labelled = _label(analysis, classifier, scale, None, progress, stop)
    return _with_parameters(labelled, device=classifier.device_name)


def classify_patches(
    analysis: Analysis,  # its patches are in the unit of its scale, which is a first guess
    classifier: Classifier,
    progress: Progress | None = None,
    stop: Stop | None = None,
) -> Analysis:
    """Classify clusters from their patches, with the scale that the image has by itself."""
    from ..models.scale.session_images import find_scales, measure_analysis

    card, scale = classifier.card, analysis.scale
    analysis = replace(
        analysis,
        card=card,
        # What its session told is of the labels before.
        parameters={**analysis.own_parameters, "model": card.provenance()},
        seconds=dict(analysis.seconds),
    )
    with timed(analysis.seconds, "network"):
        result = classifier.predict(
            analysis.patches, progress, stop, symmetries=analysis.symmetries
        )
    if card.apparent_size is not None and card.scale is not None:
        with timed(analysis.seconds, "scale"):
            references = card.apparent_size, card.scale
            measured = measure_analysis(replace(analysis, embedding=result.embedding), references)
            scale = find_scales([measured], [analysis.table], *references)[0]
    labelled = _label(analysis, classifier, scale, result, progress, stop)
    units = [float(np.exp(x.log_scale)) for x in labelled.predictions]
    return _with_parameters(labelled, **{OWN_UNITS: units})


def _with_parameters(analysis: Analysis, **more: Any) -> Analysis:
    return replace(analysis, parameters={**analysis.parameters, **more})


def apply_scale(
    analysis: Analysis,
    classifier: Classifier,
    scale: ConstrainedMixture,  # scale of the image, for example from its session
    progress: Progress | None = None,
    stop: Stop | None = None,
) -> Analysis:
    """Classify the clusters of an image again with another scale of intensities."""
    from ..models.embedding import place_again

    if analysis.patches:
        analysis = replace(analysis, seconds=dict(analysis.seconds))
        labelled = _label(analysis, classifier, scale, None, progress, stop)
    else:
        labelled = classify_clusters(
            analysis, classifier, progress=progress, stop=stop, scale=scale
        )
    return replace(labelled, table=place_again(labelled.table, labelled.embedding, classifier))


def _label(
    analysis: Analysis,
    classifier: Classifier,
    scale: ConstrainedMixture | None,
    result: Prediction | None,
    progress: Progress | None,
    stop: Stop | None,
) -> Analysis:
    """Assign labels with the predictions of the network for each solution of the scale."""
    from ..models.scaled_predictions import label_solutions, predicted_class_maps

    seconds = analysis.seconds
    unit = analysis.parameters.get(UNIT, 1.0)
    with timed(seconds, "network"):
        at_hand, found = _predict_units(analysis, classifier, scale, result, progress, stop)
    best = found[0].prediction
    per_atom = unit if scale is None else scale.intensity_per_atom
    with timed(seconds, "labels"):
        table = label_solutions(analysis.table, classifier, scale, found, analysis.labels_from)
        tables.validate(table)
    patches = _in_unit(analysis.patches, unit / per_atom)
    with timed(seconds, "network"):
        maps = predicted_class_maps(
            table, classifier, patches, best, symmetries=analysis.symmetries
        )
    parameters = {**analysis.parameters, UNIT: float(per_atom), "certainty_of_scale": None}
    if not len(table):
        del parameters[UNIT]  # no cluster tells it
    elif scale is not None:
        parameters = scale.describe_in(parameters)
    return replace(
        analysis,
        table=table,
        patches=patches,
        embedding=best.embedding,
        class_maps=maps,
        scale=scale,
        predictions=tuple({id(x.prediction): x for x in (*at_hand, *found)}.values()),
        parameters=parameters,
        seconds=seconds,
    )


def _predict_units(
    analysis: Analysis,
    classifier: Classifier,
    scale: ConstrainedMixture | None,
    result: Prediction | None,
    progress: Progress | None,
    stop: Stop | None,
) -> tuple[Sequence[ScaledPrediction], Sequence[ScaledPrediction]]:
    """Return earlier predictions, and one for each solution of the scale; see `_label`."""
    from ..models.scaled_predictions import MIN_WEIGHT, ScaledPrediction, predict_solutions

    unit = analysis.parameters.get(UNIT, 1.0)
    at_hand: Sequence[ScaledPrediction] = analysis.own_predictions
    # Those of the image by itself: labels do not depend on what was predicted in between.
    known = [float(np.log(own)) for own in analysis.parameters.get(OWN_UNITS, ())]
    if result is not None:
        at_hand = [ScaledPrediction(float(np.log(unit)), result)]
        known = [at_hand[0].log_scale]

    def predict(log_scale: float) -> Prediction:
        for x in at_hand:
            if abs(x.log_scale - log_scale) < _SAME_UNIT:
                return x.prediction
        patches = _in_unit(analysis.patches, unit / np.exp(log_scale))
        return classifier.predict(patches, progress, stop, symmetries=analysis.symmetries)

    if scale is None:
        own = float(np.log(unit))
        return at_hand, at_hand or [ScaledPrediction(own, predict(own))]
    # the solutions of the image by itself are predicted in their own units
    min_weight = MIN_WEIGHT if result is None else 0.0
    return at_hand, predict_solutions(scale, known, classifier.card, predict, min_weight)


def _in_unit(patches: dict[str, np.ndarray], factor: float) -> dict[str, np.ndarray]:
    """Return patches with the raw channel multiplied by a factor."""
    if factor == 1.0 or "raw" not in patches:
        return patches
    return {**patches, "raw": patches["raw"] * np.float32(factor)}


def embed_clusters(
    analysis: Analysis, model: str | Classifier = "default", stop: Stop | None = None
) -> Analysis:
    """Place every classified cluster in the map of the model."""
    from ..models.embedding import place

    seconds = dict(analysis.seconds)
    with timed(seconds, "umap"):
        position = place(analysis.embedding, model)
    check(stop)
    table = analysis.table.copy()
    table["umap_1"], table["umap_2"] = position.astype(float).T  # as the schema says
    return replace(analysis, table=table, seconds=seconds)


def analyse(
    micrograph: Micrograph,  # A calibrated image or stack
    model: str | Classifier = "default",
    device: str = "auto",
    progress: Progress | None = None,
    stop: Stop | None = None,
    *,
    settings: DetectionSettings | None = None,
    umap: bool = True,  # whether to place the clusters in the map
    symmetries: bool = False,
    labels_from: str = "combination",
    outlines: GivenOutlines | None = None,
    rois: GivenOutlines | None = None,
    edit: Callable[[Analysis], Analysis] | None = None,  # what a person changes of the detection
) -> Analysis:
    """Detect, classify, explain and embed the clusters of one image.

    Raises `CalibrationError`, `ModelError` or `Cancelled` as in the steps.
    """
    analysis = detect_clusters(micrograph, settings, progress, stop, outlines=outlines, rois=rois)
    analysis = classify_clusters(
        analysis if edit is None else edit(analysis),
        model,
        device,
        progress,
        stop,
        symmetries=symmetries,
        labels_from=labels_from,
    )
    if umap:
        report(progress, 0, 0, "Placing the clusters in the UMAP")
        failed: dict[str, str] = {}
        placed = attempt(failed, "map", lambda: embed_clusters(analysis, model, stop))
        return placed or with_failed(analysis, failed)
    return analysis


def with_failed(analysis: Analysis, failed: Mapping[str, str]) -> Analysis:
    """Return an analysis whose parameters contain further failed statistics."""
    return replace(analysis, parameters=add_failed(analysis.parameters, failed))
