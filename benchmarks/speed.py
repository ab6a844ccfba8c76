"""Time per stage of an analysis, beside the obvious way of doing the same.

    python benchmarks/speed.py [--size 2048] [--clusters 200 2000] [--repeats 3] [--threads 2]

The obvious way is what one would write with scikit-image, SciPy and captum: ``blob_log`` over the
same range of radii, a watershed of its blobs with ``regionprops`` and ``find_contours``, local
contrast by Gaussian filters, patches one by one, and captum's Grad-CAM cluster by cluster and
channel by channel, which gives the probabilities on its way. Both see the same image, in one
process and in turn, with the same number of threads.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from captum.attr import LayerGradCam
from scipy import ndimage
from scipy.spatial import cKDTree
from skimage.feature import blob_log
from skimage.filters import threshold_otsu
from skimage.measure import find_contours, regionprops
from skimage.segmentation import watershed

from fields import field as made_field
from measuring import interleaved, machine, options, timed, write
from napari_atomicity import load
from napari_atomicity.core.micrograph import Micrograph
from napari_atomicity.core.patches import PatchSettings
from napari_atomicity.core.tables.cluster_table import explained_classes, validate
from napari_atomicity.detection import DetectionSettings
from napari_atomicity.detection.clusters import outline_clusters
from napari_atomicity.detection.patches import extract_patches
from napari_atomicity.detection.seeds import find_seeds, prepare
from napari_atomicity.io.tables import write_clusters, write_ratios
from napari_atomicity.models.analysis import Analysis
from napari_atomicity.models.inference import Classifier, load_classifier
from napari_atomicity.models.scale.intensity_scale import fit_image
from napari_atomicity.models.scaled_predictions import assign_labels
from napari_atomicity.pipeline.analysis import analyse, classify_clusters, detect_clusters


@dataclass
class Obvious:
    """The obvious way, step by step; every step keeps what the next one needs."""

    micrograph: Micrograph
    classifier: Classifier
    per_atom: float
    seconds: dict[str, list[tuple[float, float]]] = field(default_factory=dict)

    def __call__(self) -> None:
        for name, step in (
            ("detect", self.find),
            ("outlines", self.outline),
            ("patches", self.cut),
            ("network", self.look),
        ):
            self.seconds.setdefault(name, []).append(timed(step)[:2])

    def find(self) -> None:
        """scikit-image's scale space between the same radii with as many scales."""
        pixel, image = self.micrograph.calibrated(), self.micrograph.data
        coarse = ndimage.median_filter(image[::8, ::8], round(12 / pixel / 8) | 1)
        self.flat = image - coarse.repeat(8, 0).repeat(8, 1)[: image.shape[0], : image.shape[1]]
        low, high = (d / 2 / np.sqrt(2) / pixel for d in (0.6, 3.2))
        normal = self.flat / self.flat.std()
        self.blobs = blob_log(normal, low, high, num_sigma=8, threshold=0.8, overlap=0.3)

    def outline(self) -> None:
        """Watershed from the blobs, region properties, contours."""
        pixel = self.micrograph.calibrated()
        smooth = ndimage.gaussian_filter(self.flat, 0.12 / pixel)
        markers = np.zeros(smooth.shape, np.int32)
        at = np.round(self.blobs[:, :2]).astype(int)
        markers[at[:, 0], at[:, 1]] = 1 + np.arange(len(at))
        labels = watershed(-smooth, markers, mask=smooth > threshold_otsu(smooth[::4, ::4]))
        self.measures = [
            (r.centroid, r.equivalent_diameter_area * pixel, r.eccentricity,
             r.image_intensity.sum() * pixel**2, find_contours(np.pad(r.image, 1).astype(float)))
            for r in regionprops(labels, self.flat)
        ]  # fmt: skip

    def cut(self) -> None:
        """Local contrast by Gaussian filters, then patch by patch."""
        settings, pixel = self.classifier.card.patches, self.micrograph.calibrated()
        self.patches = by_one(
            self.micrograph.data, self.flat, self.blobs[:, :2], pixel, settings, self.per_atom
        )

    def look(self) -> None:
        self.maps, self.probabilities = by_captum(self.classifier, self.patches)


def by_one(
    image: np.ndarray,
    flat: np.ndarray,
    centres: np.ndarray,
    pixel_nm: float,
    settings: PatchSettings,
    per_atom: float,
) -> dict[str, np.ndarray]:
    """Patches, one by one."""
    sigma = settings.lcn_window_nm / pixel_nm
    deviation = image - ndimage.gaussian_filter(image, sigma)
    lcn = deviation / np.sqrt(ndimage.gaussian_filter(deviation**2, sigma) + 1e-12)
    offset = (np.arange(settings.size_px) - (settings.size_px - 1) / 2) * (
        settings.field_of_view_nm / settings.size_px / pixel_nm
    )
    out: dict[str, list[np.ndarray]] = {"raw": [], "LCN": []}
    for y, x in centres:
        places = np.meshgrid(y + offset, x + offset, indexing="ij")
        out["raw"].append(ndimage.map_coordinates(flat, places, order=1, mode="mirror") / per_atom)
        out["LCN"].append(ndimage.map_coordinates(lcn, places, order=1, mode="mirror"))
    return {name: np.array(patches, np.float32) for name, patches in out.items()}


def by_captum(
    classifier: Classifier, patches: dict[str, np.ndarray]
) -> tuple[np.ndarray, np.ndarray]:
    """Grad-CAM of the predicted class, one cluster and one channel at a time; probabilities."""
    channels = classifier.network.channels

    class Positional(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.inner = classifier.network

        def forward(self, *inputs: torch.Tensor) -> torch.Tensor:
            return self.inner(dict(zip(channels, inputs, strict=True))).logits

    wrapped = Positional()
    cams = {c: LayerGradCam(wrapped, classifier.network.branches[c]) for c in channels}
    bias = torch.tensor(classifier.card.bias or (0.0,) * len(classifier.card.classes))
    maps, probabilities = [], []
    for i in range(len(patches[channels[0]])):
        inputs = tuple(torch.from_numpy(patches[c][i : i + 1]) for c in channels)
        with torch.no_grad():
            p = torch.softmax(wrapped(*inputs) / classifier.card.temperature + bias, dim=1)
        probabilities.append(p)
        for c in channels:
            cam = cams[c].attribute(inputs, target=int(p.argmax()), relu_attributions=True)
            maps.append(cam.detach())
    return torch.cat(maps).numpy(), torch.cat(probabilities).numpy()


def stages(
    micrograph: Micrograph, classifier: Classifier, folder: Path
) -> dict[str, Callable[[], Any]]:
    """Our stages one by one; each keeps what the next one needs."""
    kept: dict[str, Any] = {}
    settings = DetectionSettings()
    np.save(folder / "image.npy", micrograph.data)

    def prepared() -> None:
        kept["frame"] = prepare(micrograph.frame(0), micrograph.calibrated(), settings)

    def found() -> None:
        kept["seeds"] = find_seeds(kept["frame"], settings)

    def outlined() -> None:
        outline_clusters(kept["frame"], kept["seeds"], settings)

    detection = detect_clusters(micrograph)
    analysis = classify_clusters(detection, classifier)
    per_atom = analysis.parameters["intensity_per_atom"]

    def scaled() -> None:
        kept["scale"] = fit_image(detection.table, classifier.card.scale)

    def patched() -> None:
        kept["patches"] = extract_patches(
            micrograph, detection.table, classifier.card.patches, per_atom
        )

    def looked() -> None:
        kept["prediction"] = classifier.predict(kept["patches"])

    def concluded() -> None:
        validate(assign_labels(detection.table, classifier, kept["prediction"], kept["scale"]))

    def written() -> None:
        write_clusters(analysis.table, folder / "clusters.csv")
        write_ratios(analysis.ratios(), folder / "ratios.csv")

    return {
        "reading": lambda: load(folder / "image.npy", micrograph.pixel_size_nm),
        "background": prepared,
        "scale space": found,
        "outlines": outlined,
        "intensity of an atom": scaled,
        "patches": patched,
        "network with class maps": looked,
        "labels": concluded,
        "statistics": lambda: analysis.ratios(),
        "writing": written,
    }


def patches_of_maps(analysis: Analysis) -> dict[str, np.ndarray]:
    """The patches from which the class maps were computed, in their unit of the intensity.

    The unit of an analysis may differ by up to `SAME_SCALE` from that of its predictions.
    """
    unit = next(
        np.exp(x.log_scale)
        for x in analysis.own_predictions
        if x.prediction.embedding is analysis.embedding
    )
    factor = np.float32(analysis.parameters["intensity_per_atom"] / unit)
    return {**analysis.patches, "raw": analysis.patches["raw"] * factor}


def compare(size: int, clusters: int, repeats: int, classifier: Classifier) -> dict[str, Any]:
    micrograph = made_field(size, clusters)
    result = analyse(micrograph, classifier, umap=False)  # warm
    obvious = Obvious(micrograph, classifier, result.parameters["intensity_per_atom"])
    total = interleaved(
        {"ours": lambda: analyse(micrograph, classifier, umap=False), "obvious": obvious}, repeats
    )
    with tempfile.TemporaryDirectory() as folder:
        ours = interleaved(stages(micrograph, classifier, Path(folder)), max(3, repeats))
    apart, _ = cKDTree(obvious.blobs[:, :2]).query(result.table[["y_px", "x_px"]])
    met = apart * micrograph.calibrated() < 0.2
    theirs, probabilities = by_captum(classifier, patches_of_maps(result))
    maps = np.stack([result.class_maps[c] for c in classifier.network.channels], axis=1)
    best = np.array(classifier.card.classes)[probabilities.argmax(axis=1)]
    theirs = theirs.reshape(maps.shape)
    alike = explained_classes(result.table) == best  # others explain the label of the mixture
    same = np.allclose(maps[alike], theirs[alike], rtol=1e-3, atol=1e-6)
    return {
        "size": size,
        "clusters": clusters,
        "pixel_nm": micrograph.calibrated(),
        "found": len(result.table),
        "found_by_blob_log": len(obvious.blobs),
        "met": int(met.sum()),
        "same_class_maps": bool(same),
        "total": total,
        "ratio_wall": total["obvious"].wall_s / total["ours"].wall_s,
        "ratio_cpu": total["obvious"].cpu_s / total["ours"].cpu_s,
        "stages": ours,
        "obvious_stages": {
            name: dict(zip(("wall_s", "cpu_s"), np.median(runs, axis=0), strict=True))
            for name, runs in obvious.seconds.items()
        },
    }


def main() -> None:
    given = options(
        __doc__, size=2048, clusters=[200, 2000], repeats=3, threads=2, device="cpu"
    )  # fmt: skip
    torch.set_num_threads(given.threads)
    about = machine()
    classifier = load_classifier("default", given.device)
    fields = [compare(given.size, n, given.repeats, classifier) for n in given.clusters]
    write("speed", {"device": given.device, "fields": fields}, about)


if __name__ == "__main__":
    main()
