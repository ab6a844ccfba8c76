"""Small images of two classes for the tests of the validation."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import tifffile

from napari_atomicity.simulation.field_settings import FieldSettings
from napari_atomicity.simulation.fields import simulate_field
from support import write_size_selected

MIXTURES = {"even": {"Pt19": 0.5, "Pt70": 0.5}, "small": {"Pt19": 0.8, "Pt70": 0.2}}


def write_mixtures(folder, library, name, first_seed=0, **settings):
    """Two small mixtures with their truth."""
    folder.mkdir()
    truths, samples = [], []
    for i, (sample, mixture) in enumerate(MIXTURES.items()):
        of_field = FieldSettings(shape_px=(420, 420), clusters_per_nm2=0.06, mixture=mixture)
        image = f"{name}_{sample}.tif"
        field = simulate_field(library, replace(of_field, **settings), first_seed + i, image)
        tifffile.imwrite(
            folder / image,
            field.micrograph.data.astype(np.uint16),
            imagej=True,
            resolution=(25, 25),
            metadata={"unit": "nm"},
        )
        truths.append(field.truth)
        samples.append((image, sample))
    columns = ["image", "x_px", "y_px", "label", "diameter_nm", "touches_border"]
    pd.concat(truths)[columns].to_csv(folder / "truth.csv", index=False)
    pd.DataFrame(samples, columns=["image", "sample"]).to_csv(folder / "images.csv", index=False)
    return folder


@pytest.fixture(scope="session")
def folders(tmp_path_factory, library):
    """A folder with four size-selected images of each class, mixtures and shifted mixtures."""
    root = tmp_path_factory.mktemp("validation")
    (root / "data").mkdir()
    write_size_selected(root / "data", library, images=4)
    write_mixtures(root / "mixtures", library, "a", 40)
    write_mixtures(root / "shifted", library, "b", 50, carbon_nm=5.0)
    return root
