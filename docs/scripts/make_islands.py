"""Draw the map of the embedding of labelled images, into ``explanation/papers.md``.

    python docs/scripts/make_islands.py [--data ../shared/data/clusters]

The images come from the independent simulation of the accuracy page: condition A, and condition B
with blur, less dose and thicker carbon. The shipped model has seen neither. Each is one session.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from napari_atomicity.models.files import find_model, read_model
from napari_atomicity.validation.data import MIXED, SHIFTED, read_mixtures
from napari_atomicity.validation.figures import map_figure
from napari_atomicity.validation.jobs import place_clusters, separation
from napari_atomicity.validation.methods import FittedModel, label_images
from page_sections import write_section

HERE = Path(__file__).resolve().parents[1]
PAGE, PICTURE = HERE / "explanation" / "papers.md", HERE / "images" / "islands.png"
FOLDERS = {"Condition A": ("mixed", MIXED), "Condition B": ("shifted", SHIFTED)}


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--data", type=Path, default=HERE.parent.parent / "shared/data/clusters")
    data = parser.parse_args().data
    model = FittedModel(*read_model(find_model("default")), "cpu")
    maps, found = {}, []
    for title, (name, group) in FOLDERS.items():
        images = read_mixtures(data / name, group, model.card.classes)
        analyses = label_images([image.detection for image in images], model)
        maps[title] = place_clusters(images, analyses, model)
        found.append((title, len(maps[title]), separation(images, analyses)))
        print(*found[-1])
    figure = map_figure(maps, model.card.classes)
    assert figure is not None
    figure.savefig(PICTURE, dpi=110)
    figures = "; ".join(f"{title}: {value:.2f} ({n} clusters)" for title, n, value in found)
    write_section(
        PAGE,
        "islands",
        [
            "![Map of the clusters of two conditions, coloured by their true class]"
            "(../images/islands.png)",
            "",
            f"The map of the shipped model ({model.card.model_id}), coloured by the true class: "
            "the sizes are islands in order. The mean silhouette of the true classes in the "
            f"embedding, 1 for islands far apart and 0 for classes that overlap: {figures}. "
            "Made by `docs/scripts/make_islands.py`, also in `make papers`.",
        ],
    )


if __name__ == "__main__":
    main()
