"""Atoms that are put into an image tell how many of its own are found."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from napari_atomicity.atoms import completeness as complete
from napari_atomicity.atoms.analysis import AtomAnalysis
from napari_atomicity.atoms.completeness import Completeness, completeness, with_completeness
from napari_atomicity.atoms.table import conform
from napari_atomicity.micrograph import Micrograph

from .spots import scattered

PX, SIGMA, SIDE = 0.05, 1.6, 240


def finding(noise: float, least: float, seed: int = 0):
    """In place of `find_atoms`: of the places (every spot that was ever put in) those are found
    whose height, measured with ``noise``, is at least ``least``."""
    rng = np.random.default_rng(seed)
    known: list[np.ndarray] = []

    def find(micrograph, model=None, threshold=0.5, progress=None, stop=None):
        image = np.asarray(micrograph.data)
        points = np.concatenate(known)
        height = image[tuple(points.round().astype(int).T)] + rng.normal(0, noise, len(points))
        seen = height >= least
        table = pd.DataFrame(points[seen], columns=["y_px", "x_px"])
        table[["y_nm", "x_nm"]] = table[["y_px", "x_px"]] * PX
        table["amplitude"], table["sigma_nm"] = height[seen], SIGMA * PX
        table["confidence"], table["atom_id"] = 1.0, np.arange(seen.sum()) + 1
        table["image"], table["frame"], table["origin"] = "image", 0, "model"
        support = np.ones(image.shape, bool)
        return AtomAnalysis(micrograph, conform(table), 0.5, support, PX, "m")

    return find, known


@pytest.mark.parametrize("mean", [0.35, 0.6, 1.0, 2.0])
def test_the_share_is_that_of_the_atoms_that_are_found(monkeypatch, mean):
    find, known = finding(noise=0.1, least=0.5)
    rng = np.random.default_rng(1)
    points = scattered(150, (SIDE, SIDE), 12, 3)
    heights = mean * np.exp(rng.normal(0, 0.35, len(points)))
    image = complete.with_spots(np.zeros((SIDE, SIDE)), points, heights, SIGMA)
    known.append(points)
    analysis = find(Micrograph(image, PX))

    def put(image, more, heights, sigma_px):
        known.append(more)
        return with_spots(image, more, heights, sigma_px)

    with_spots = complete.with_spots
    monkeypatch.setattr(complete, "with_spots", put)
    monkeypatch.setattr(complete, "find_atoms", find)

    said = completeness(analysis, None, seed=2)

    true = len(analysis.table) / len(points)
    assert said.low - 0.05 <= true <= said.high + 0.05
    assert said.share == pytest.approx(true, abs=0.2)
    usual = analysis.table["amplitude"].median()
    assert said.half_found * usual == pytest.approx(0.5, abs=0.08)
    assert said.is_low == (said.share < 2 / 3)


def test_of_few_atoms_nothing_is_said():
    find, known = finding(0.1, 0.5)
    known.append(scattered(4, (SIDE, SIDE), 30, 0))
    image = complete.with_spots(np.zeros((SIDE, SIDE)), known[0], np.ones(4), SIGMA)

    assert completeness(find(Micrograph(image, PX)), None) is None


def test_added_atoms_lie_on_the_support_away_from_the_others():
    mask = np.zeros((200, 300), bool)
    mask[:, 90:] = True
    taken = scattered(40, mask.shape, 15, 5)

    points = complete._free_places(mask, taken, PX, np.random.default_rng(0))

    assert mask[tuple(points.round().astype(int).T)].all()
    gap = np.linalg.norm(points[:, None] - taken[None], axis=2).min()
    between = np.linalg.norm(points[:, None] - points[None], axis=2) + 99 * np.eye(len(points))
    assert len(points) > 15
    assert gap * PX > 0.35
    assert between.min() * PX > 0.8


def test_the_rows_say_where_the_density_is_a_lower_bound():
    rows = pd.DataFrame({"image": ["a", "b", "c", "all"], "support_nm2": [100.0, 300, 50, 450]})
    found = {
        "a": Completeness(0.9, 0.8, 0.95, 0.4, 100),
        "b": Completeness(0.3, 0.1, 0.5, 1.1, 100),
        "c": None,
    }

    out = with_completeness(rows, found, "all")

    assert out["density_is"].tolist() == ["estimate", "lower bound", "", "lower bound"]
    assert out["completeness"].iloc[-1] == pytest.approx((0.9 * 100 + 0.3 * 300) / 400)
    assert np.isnan(out["completeness"].iloc[2])
    assert list(out.columns[-5:]) == list(complete.COLUMNS)
