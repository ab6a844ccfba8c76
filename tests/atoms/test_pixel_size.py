"""The pixel size that the atoms themselves propose."""

from __future__ import annotations

import numpy as np
import pytest

from napari_atomicity.atoms.finding.pixel_size import FWHM_NM, propose_pixel_size

from .spots import field, scattered


@pytest.mark.parametrize("sigma_px", [2.0, 3.0, 4.5])
def test_the_width_of_the_spots_is_found(sigma_px):
    points = scattered(60, (320, 320), 7 * sigma_px, 0)
    image = field(points, (320, 320), sigma_px, noise=0.15)

    proposal = propose_pixel_size(image)

    assert proposal is not None
    assert proposal.fwhm_px == pytest.approx(2.355 * sigma_px, rel=0.1)
    assert proposal.value_nm == pytest.approx(FWHM_NM[1] / proposal.fwhm_px)
    assert proposal.low_nm < proposal.value_nm < proposal.high_nm
    assert 20 <= proposal.n_spots <= 60
    assert f"{proposal.n_spots} clearest spots" in str(proposal)


@pytest.mark.parametrize(
    "image",
    [
        np.ones((80, 80)),
        np.random.default_rng(0).random((8, 8)),
        np.full((40, 40), np.nan),
        np.outer(np.arange(64.0), np.ones(64)),
    ],
    ids=["constant", "tiny", "nan", "ramp"],
)
def test_no_spots_no_proposal(image):
    if np.isnan(image).all():
        image = image.copy()
        image[0, 0] = 1.0
    assert propose_pixel_size(image) is None
