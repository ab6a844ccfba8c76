"""The shipped model on images that it was not made from: real single atoms, other simulations."""

import numpy as np
import pandas as pd
import pytest

from napari_atomicity import analyse, load
from napari_atomicity.training.data import match

ATOMS = {
    "atoms_molecular/images/Re_phen_15min_again_3.tif": 0.01603,
    "atoms_ptnc/images/021_HAADF_15nm_Sample_PtNC_21Oct20.tif": None,
    "atoms_ptnc/images/037_HAADF_15nm_Sample_PtNC_20Oct20.tif": None,
}


@pytest.mark.parametrize(("name", "pixel_size_nm"), ATOMS.items())
def test_single_atoms_are_no_field_of_confident_clusters(shared, name, pixel_size_nm):
    table = analyse(load(shared / name, pixel_size_nm), device="cpu", umap=False).table
    assert len(table) <= 15
    assert (table["confidence"] > 0.5).sum() <= 1


@pytest.mark.parametrize(
    ("folder", "image", "right"),
    [("mixed", "A_m5a_10.tif", 0.95), ("shifted", "B_m5a_10.tif", 0.75)],
)
def test_an_independent_simulation_is_told_as_it_is(shared, folder, image, right):
    root = shared / "clusters" / folder
    micrograph = load(root / image)
    truth = pd.read_csv(root / "truth.csv").query("image == @image and border == 0")
    table = analyse(micrograph, device="cpu", umap=False).table
    rows, truths = match(table, truth, micrograph.calibrated())
    assert len(rows) >= 0.95 * len(truth)
    labels = table["label"].to_numpy()[rows]
    assert np.mean(labels == truth["label"].to_numpy()[truths]) >= right
