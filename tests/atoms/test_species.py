"""Species by their intensities: one is not split, two are told apart."""

from __future__ import annotations

import json

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings, strategies as st

from napari_atomicity.atoms.species import (
    Species,
    find_species,
    isolated_intensities,
    label_species,
)


def log_normal(rng: np.random.Generator, n: int, scatter: float = 0.35) -> np.ndarray:
    """Of mean 1."""
    sigma = np.sqrt(np.log1p(scatter**2))
    return np.exp(rng.normal(-(sigma**2) / 2, sigma, n))


def cut_by_a_detector(rng: np.random.Generator, n: int) -> np.ndarray:
    """What is seen of normal intensities if dim atoms are missed."""
    values = rng.normal(1, 0.35, 4 * n)
    return values[rng.random(4 * n) < 1 / (1 + np.exp(-(values - 0.7) / 0.1))][:n]


ONE = {
    "normal": lambda rng, n: rng.normal(1, 0.35, n),
    "log-normal": log_normal,
    "very skewed": lambda rng, n: log_normal(rng, n, 0.6),
    "gamma": lambda rng, n: rng.gamma(8, 1 / 8, n),
    "cut": cut_by_a_detector,
    "with noise": lambda rng, n: log_normal(rng, n) + rng.normal(0, 0.3, n),
}


def two(seed: int, n: int = 150, ratio: float = 5.4) -> tuple[np.ndarray, np.ndarray]:
    """Intensities, and which are heavy: as of copper and platinum at Z^1.7."""
    rng = np.random.default_rng(seed)
    heavy = rng.random(n) < 0.4
    return log_normal(rng, n) * np.where(heavy, ratio, 1), heavy


@pytest.mark.parametrize("kind", ONE)
def test_one_species_is_not_split_however_skewed(kind):
    split = [find_species(ONE[kind](np.random.default_rng(s), 120)).n_components for s in range(8)]
    assert split.count(1) == 8


@pytest.mark.parametrize("seed", range(3))
def test_light_and_heavy_atoms_are_told_apart(seed):
    intensity, heavy = two(seed)
    found = find_species(intensity)
    assert found.n_components == 2
    assert found.intensity_ratios == pytest.approx(5.4, rel=0.2)
    assert found.share[1] == pytest.approx(heavy.mean(), abs=0.05)
    label = found.of(intensity)
    assert (label[label > 0] == 1 + heavy[label > 0]).mean() > 0.97
    assert (label > 0).mean() > 0.8
    low, high = found.z_ratios[0]
    assert low < 78 / 29 < high
    assert "2 species" in found.format_summary()


def test_three_species_in_order():
    rng = np.random.default_rng(0)
    intensity = np.concatenate([log_normal(rng, 100, 0.2) * m for m in (1, 3, 9)])
    found = find_species(intensity)
    assert found.n_components == 3
    assert found.mean == pytest.approx([1, 3, 9], rel=0.1)
    assert found.criterion["3 components"] < found.criterion["2 components"]


@settings(max_examples=8, deadline=None)
@given(st.floats(1e-3, 1e6), st.randoms(use_true_random=False))
def test_neither_gain_nor_order_matters(gain, random):
    intensity, _ = two(1, n=60)
    order = list(range(len(intensity)))
    random.shuffle(order)
    one, other = find_species(intensity), find_species(gain * intensity[order])
    assert other.n_components == one.n_components
    assert other.mean == pytest.approx(gain * one.mean, rel=1e-2)
    assert (other.of(gain * intensity[order]) == one.of(intensity)[order]).mean() > 0.98


def test_responsibilities_sum_to_one_and_what_is_dark_has_none():
    found = find_species(two(0)[0])
    p = found.responsibilities(np.array([0.9, 2.3, 5.5, 0.0, -1.0, np.nan]))
    assert p[:3].sum(axis=1) == pytest.approx(1)
    assert np.isnan(p[3:]).all()
    assert found.of(np.array([0.9, 5.5, -1.0, np.nan])).tolist() == [1, 2, 0, 0]


@pytest.mark.parametrize(
    "intensity",
    [[], [1.0], [np.nan] * 5, [-1.0] * 40, [2.0] * 40, [1.0, 9.0]],
    ids=["none", "one", "nan", "dark", "equal", "two"],
)
def test_little_to_go_by_is_one_species(intensity):
    found = find_species(np.array(intensity))
    assert found.n_components == 1
    assert found.of(np.array(intensity)).tolist() == [0] * len(intensity)
    assert found.z_ratios.shape == (0, 2)
    assert "one species" in found.format_summary()


@pytest.mark.parametrize("n_species", [1, 2])
def test_components_know_the_intensities_that_they_were_fitted_to(n_species):
    intensity = two(0)[0] if n_species == 2 else ONE["gamma"](np.random.default_rng(0), 60)
    species = Species.from_dict(json.loads(json.dumps(find_species(intensity).to_dict())))
    assert species.n_components == n_species
    assert species.is_fit_of(intensity[::-1].astype(np.float32))
    other = np.append(intensity[1:], 1.01 * intensity[0])  # as many, one of them another
    assert not species.is_fit_of(other) and not species.is_fit_of(intensity[1:])


def test_the_table_gets_its_species_from_the_isolated_atoms():
    intensity, heavy = two(2)
    rng = np.random.default_rng(0)
    isolated = pd.DataFrame({"intensity": intensity, "group_size": 1})
    others = pd.DataFrame({"intensity": rng.uniform(0, 30, 200), "group_size": 4})
    atoms = pd.concat([isolated, others, isolated.iloc[:1] * np.nan])
    found = find_species(isolated_intensities(atoms))
    table = label_species(atoms, found)
    assert found.n_atoms == len(isolated)
    assert set(table["species"]) == {"", "1", "2"}
    assert table["species"].iloc[-1] == ""
    assert (table["species"].iloc[:150][heavy] == "2").mean() > 0.8
    assert (isolated_intensities(isolated.assign(group_size=0)) == intensity).all()
