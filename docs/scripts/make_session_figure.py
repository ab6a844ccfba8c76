"""Draw the picture of ``explanation/sessions.md``: scales of images alone and in their session."""

from __future__ import annotations

from pathlib import Path

import matplotlib as mpl
import numpy as np

from napari_atomicity.core.apparent_size import ApparentSize
from napari_atomicity.core.palette import colours
from napari_atomicity.models.files import find_model, read_model
from napari_atomicity.models.scale.image_evidence import ImageMeasurements
from napari_atomicity.models.scale.session_scale import fit_session

mpl.use("Agg")
import matplotlib.pyplot as plt

PICTURE = Path(__file__).resolve().parents[1] / "images" / "session-scale.png"
N_IMAGES, N_CLUSTERS, SPREAD, SEED = 10, 20, 0.12, 3


def draw_clusters(reference: ApparentSize) -> tuple[list[ImageMeasurements], np.ndarray]:
    """Draw images of one size each from the distributions of the model, and their scales."""
    rng = np.random.default_rng(SEED)
    scales = rng.normal(0, SPREAD, N_IMAGES)
    error = rng.normal(0, reference.scatter)
    images = []
    for i, scale in enumerate(scales):
        c = i % len(reference.log_size)
        mean = np.array([reference.log_intensity[c] + scale, reference.log_size[c] + error])
        drawn = rng.multivariate_normal(mean, np.array(reference.covariance[c]), N_CLUSTERS)
        images.append(ImageMeasurements(drawn[:, 0], drawn[:, 1]))
    return images, scales


def main() -> None:
    card, _ = read_model(find_model("default"))
    reference = card.apparent_size
    assert reference is not None
    images, true = draw_clusters(reference)
    alone = [fit_session([image], reference).images[0] for image in images]
    session = fit_session(images, reference).images
    colour = colours(card.classes)
    figure, (left, right) = plt.subplots(1, 2, figsize=(8, 3), layout="constrained", sharey=True)
    for i, image in enumerate(images):
        name = card.classes[i % len(card.classes)]
        y = np.full(len(image.log_intensity), i + 1)
        label = name if i < len(card.classes) else None
        left.plot(image.log_intensity, y, "|", color=colour[name], markersize=9, label=label)
        right.scatter(
            alone[i].log_scale, np.full(len(alone[i].weight), i + 1), 90 * alone[i].weight,
            facecolors="none", edgecolors="0.5", label=None if i else "image alone",
        )  # fmt: skip
        right.scatter(
            session[i].log_scale, np.full(len(session[i].weight), i + 1),
            40 * session[i].weight, "#0072b2", label=None if i else "in the session",
        )  # fmt: skip
        right.plot(true[i], i + 1, "k|", markersize=12, label=None if i else "true")
    left.set(xlabel="ln(integrated intensity)", ylabel="Image", yticks=range(1, N_IMAGES + 1))
    right.set(xlabel="ln(intensity of one atom)")
    left.legend(fontsize=7, loc="lower right")
    right.legend(fontsize=7)
    figure.savefig(PICTURE, dpi=110)


if __name__ == "__main__":
    main()
