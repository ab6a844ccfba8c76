"""Time per stage of an analysis, beside the obvious way of doing the same.

    python benchmarks/speed.py [--size 2048] [--clusters 200] [--repeats 3] [--threads 2]

One simulated image, everything in one process and one run; the ratio is the obvious way's time
over ours. Detection is set against scikit-image's ``blob_log`` over the same range of radii, the
class maps against captum's Grad-CAM, cluster by cluster and channel by channel.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from captum.attr import LayerGradCam
from scipy import ndimage
from skimage.feature import blob_log

from napari_atomicity import load
from napari_atomicity.analysis import analyse, classify_clusters, detect_clusters
from napari_atomicity.detection.patches import extract_patches
from napari_atomicity.examples import example_path
from napari_atomicity.micrograph import Micrograph
from napari_atomicity.model.classifier import Classifier, load_classifier


def field(size: int, clusters: int, seed: int = 0) -> Micrograph:
    """An image of ``size`` pixels with ``clusters`` of the example's clusters pasted apart."""
    example = load(example_path())
    found = detect_clusters(example).table
    whole = found[~found["touches_border"] & ~found["touches_neighbour"]]
    rng = np.random.default_rng(seed)
    level = np.median(example.data)
    noise = example.data[example.data < level]
    spread = np.sqrt(np.mean((noise - level) ** 2))
    image = rng.normal(level, spread, (size, size)).astype(np.float32)
    half = 32
    grid = int(np.ceil(np.sqrt(clusters)))
    step = size / grid
    places = [(i, j) for i in range(grid) for j in range(grid)][:clusters]
    for i, j in places:
        row = whole.iloc[rng.integers(len(whole))]
        y, x = round(row["y_px"]), round(row["x_px"])
        y, x = np.clip([y, x], half, example.data.shape[0] - half)
        stamp = example.data[y - half : y + half, x - half : x + half]
        top = round((i + 0.5) * step + rng.uniform(-0.1, 0.1) * step) - half
        left = round((j + 0.5) * step + rng.uniform(-0.1, 0.1) * step) - half
        image[top : top + 2 * half, left : left + 2 * half] = stamp
    return Micrograph(image, example.pixel_size_nm, name="benchmark")


def best_of(function: Callable[[], object], repeats: int) -> tuple[float, object]:
    """The fastest of several runs in seconds, and the result."""
    seconds, result = [], None
    for _ in range(repeats):
        start = time.perf_counter()
        result = function()
        seconds.append(time.perf_counter() - start)
    return min(seconds), result


def by_blob_log(micrograph: Micrograph) -> np.ndarray:
    """scikit-image's scale space between the same radii with as many scales."""
    pixel = micrograph.calibrated()
    flat = (
        micrograph.data
        - ndimage.median_filter(micrograph.data[::8, ::8], 25)
        .repeat(8, 0)
        .repeat(8, 1)[: micrograph.data.shape[0], : micrograph.data.shape[1]]
    )
    flat = flat / flat.std()
    low, high = 0.6 / 2 / np.sqrt(2) / pixel, 3.2 / 2 / np.sqrt(2) / pixel
    return blob_log(flat, low, high, num_sigma=8, threshold=0.8, overlap=0.3)


def by_captum(
    classifier: Classifier, patches: dict[str, np.ndarray], predicted: np.ndarray
) -> np.ndarray:
    """Grad-CAM of the predicted class, one cluster and one channel at a time."""
    channels = classifier.network.channels

    class Positional(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.inner = classifier.network

        def forward(self, *inputs: torch.Tensor) -> torch.Tensor:
            return self.inner(dict(zip(channels, inputs, strict=True))).logits

    wrapped = Positional()
    maps = []
    for i in range(len(patches[channels[0]])):
        inputs = tuple(torch.from_numpy(patches[c][i : i + 1]) for c in channels)
        for c in channels:
            cam = LayerGradCam(wrapped, classifier.network.branches[c])
            maps.append(
                cam.attribute(inputs, target=int(predicted[i]), relu_attributions=True).detach()
            )
    return torch.cat(maps).numpy()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--size", type=int, default=2048)
    parser.add_argument("--clusters", type=int, default=200)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)

    micrograph = field(options.size, options.clusters)
    classifier = load_classifier("default", options.device)
    analyse(micrograph, classifier, umap=False)  # warm

    total, result = best_of(lambda: analyse(micrograph, classifier, umap=False), options.repeats)
    stages = dict(result.seconds)
    detect_s, detection = best_of(lambda: detect_clusters(micrograph), options.repeats)
    classify_s, _ = best_of(lambda: classify_clusters(detection, classifier), options.repeats)
    patches = extract_patches(
        micrograph,
        detection.table,
        classifier.card.patches,
        result.parameters["intensity_per_atom"],
    )
    network_s, prediction = best_of(lambda: classifier.predict(patches), options.repeats)
    predicted = prediction.probabilities.argmax(axis=1)
    blob_s, blobs = best_of(lambda: by_blob_log(micrograph), 1)
    captum_s, cams = best_of(lambda: by_captum(classifier, patches, predicted), 1)
    ours = np.stack([prediction.class_maps[c] for c in classifier.network.channels], axis=1)
    same = bool(np.allclose(ours.reshape(cams[:, 0].shape), cams[:, 0], rtol=1e-3, atol=1e-6))

    n = len(detection.table)
    print(f"{options.size} × {options.size} pixels, {options.clusters} clusters pasted, {n} found")
    print(f"{platform.processor() or platform.machine()}, {os.cpu_count()} cores, "
          f"{options.threads} threads, torch {torch.__version__}, {options.device}")  # fmt: skip
    print()
    print("| stage | ours (s) | the obvious way | (s) | ratio |")
    print("|---|---|---|---|---|")
    print(f"| detect, outline, measure | {detect_s:.2f} | blob_log, no outlines ({len(blobs)}) "
          f"| {blob_s:.2f} | {blob_s / detect_s:.1f} |")  # fmt: skip
    print(f"| classes, embedding, both class maps | {network_s:.2f} | captum, class maps only "
          f"(same maps: {same}) | {captum_s:.2f} | {captum_s / network_s:.1f} |")  # fmt: skip
    print(f"| scale, patches, network | {classify_s:.2f} | | | |")
    print(f"| analyse without UMAP | {total:.2f} | blob_log + captum | {blob_s + captum_s:.2f} "
          f"| {(blob_s + captum_s) / total:.1f} |")  # fmt: skip
    print()
    print("Stages of the last run: " + ", ".join(f"{k} {v:.2f} s" for k, v in stages.items()))
    if options.json:
        figures = {"total_s": total, "detect_s": detect_s, "network_s": network_s,
                   "blob_log_s": blob_s, "captum_s": captum_s, "clusters": n}  # fmt: skip
        options.json.write_text(json.dumps(figures, indent=1))


if __name__ == "__main__":
    main()
