"""Atoms that are put into an image tell how many of its own are found, and how bright they are."""

from __future__ import annotations

import json
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, strategies as st
from hypothesis.extra.numpy import arrays
from scipy.spatial import KDTree
from scipy.special import expit

from napari_atomicity.atoms import completeness as complete, injected_spots, injection
from napari_atomicity.atoms.analysis import BRIGHT_CLUSTERS, AtomAnalysis
from napari_atomicity.atoms.completeness import (
    Completeness,
    estimate_completeness,
    with_completeness,
)
from napari_atomicity.atoms.injection import InjectedAtoms, inject_atoms
from napari_atomicity.atoms.table import conform
from napari_atomicity.core.micrograph import Micrograph
from napari_atomicity.reporting import atom_report
from napari_atomicity.reporting.atom_files import completeness_warnings

from .spots import scattered

PX, SIGMA, SIDE = 0.05, 1.6, 400
MODEL = SimpleNamespace(card=SimpleNamespace(floor=0.02), device=SimpleNamespace(type="cpu"))


class Detector:
    """In place of the detection: every place of the image that a spot was put to is looked at.

    An atom's score goes with its height, which is measured with an error; there are false
    candidates as `FALSE` has them; and of atoms closer than ``apart_px`` only one is seen.
    """

    def __init__(self, points: np.ndarray, noise: float = 0.1, apart_px: float = 0.0) -> None:
        self.own, self.noise, self.apart_px = points, noise, apart_px
        self.injected: list[tuple[np.ndarray, np.ndarray]] = []
        self.rng = np.random.default_rng(7)
        self.false = self.rng.uniform(5, SIDE - 5, (60, 2))
        score = np.linspace(-3.8, 3, 500)
        density = np.exp(-0.45 * (score + 3) - 0.1 * (score + 3) ** 2)
        self.false_score = self.rng.choice(score, len(self.false), p=density / density.sum())

    def __call__(self, micrograph, model=None, threshold=0.5, progress=None, stop=None):
        image = np.asarray(micrograph.data)
        injected = [points for other, points in self.injected if np.array_equal(other, image)]
        points = np.concatenate([self.own, *injected])
        height = image[tuple(points.round().astype(int).T)]
        height = height + self.rng.normal(0, self.noise, len(points))
        keep = np.ones(len(points), bool)
        for one, other in KDTree(points).query_pairs(self.apart_px):
            keep[other] &= not keep[one]
        points, height = points[keep], height[keep]
        score = np.append(6 * (height - 0.6), self.false_score)
        table = pd.DataFrame(np.concatenate([points, self.false]), columns=["y_px", "x_px"])
        table["amplitude"] = np.append(height, np.full(len(self.false), 0.3))
        table["confidence"] = expit(score)
        table[["y_nm", "x_nm"]] = table[["y_px", "x_px"]] * PX
        table["sigma_nm"], table["image"], table["frame"] = SIGMA * PX, "image", 0
        table = table[table["confidence"] >= 0.02].reset_index(drop=True)
        table["atom_id"], table["origin"] = np.arange(len(table)) + 1, "model"
        support = np.ones(image.shape, bool)
        return AtomAnalysis(micrograph, conform(table), threshold, support, PX, "m")


@pytest.fixture
def image(monkeypatch):
    """An image with atoms of a mean height, and the detector that looks at it."""

    def make(points: np.ndarray, mean: float, apart_px: float = 0.0):
        detector = Detector(points, apart_px=apart_px)

        def put(image, more, heights, sigma_px):
            with_spots = add_gaussian_spots(image, more, heights, sigma_px)
            detector.injected.append((with_spots, more))
            return with_spots

        monkeypatch.setattr(injection, "add_gaussian_spots", put)
        monkeypatch.setattr(
            injection,
            "detect_candidates",
            lambda image, model, quick, progress, stop: detector(image).candidates,
        )
        heights = mean * np.exp(np.random.default_rng(1).normal(0, 0.35, len(points)))
        pixels = add_gaussian_spots(np.zeros((SIDE, SIDE)), points, heights, SIGMA)
        return detector(Micrograph(pixels, PX)), heights

    add_gaussian_spots = injection.add_gaussian_spots
    return make


@pytest.mark.parametrize("mean", [0.45, 0.8, 2.0])
def test_how_many_atoms_there_are_and_how_bright_whether_they_are_found_or_not(image, mean):
    points = scattered(200, (SIDE, SIDE), 12, 3)
    analysis, heights = image(points, mean)

    said = estimate_completeness(inject_atoms(analysis, MODEL, seed=2), analysis.threshold)

    density = len(points) / (SIDE * PX) ** 2
    found = (heights > 0.6).mean()
    assert said.density_low < density < said.density_high
    assert said.density_per_nm2 == pytest.approx(density, rel=0.5)
    assert said.low - 0.05 <= found <= said.high + 0.05
    usual = analysis.table["amplitude"].median()
    assert said.half_found * usual == pytest.approx(0.6, abs=0.08)
    true = 2 * np.pi * (SIGMA * PX) ** 2 * heights.mean()
    assert abs(np.log(said.atom_intensity / true)) < 2 * said.atom_error + 0.1


def test_the_brightest_of_many_faint_atoms_do_not_pass_for_all(image):
    points = scattered(200, (SIDE, SIDE), 12, 3)
    analysis, heights = image(points, 0.45)

    said = estimate_completeness(inject_atoms(analysis, MODEL), analysis.threshold)

    of_found = analysis.table["amplitude"].mean()
    assert of_found > 1.4 * heights.mean()
    assert said.atom_intensity / (2 * np.pi * said.sigma_nm**2) < 0.85 * of_found
    assert said.density_per_nm2 > 1.5 * len(analysis.table) / (SIDE * PX) ** 2


def test_a_higher_threshold_finds_less_of_the_same_atoms(image):
    analysis, _ = image(scattered(150, (SIDE, SIDE), 12, 3), 0.8)
    added = inject_atoms(analysis, MODEL)

    low, high = estimate_completeness(added, 0.3), estimate_completeness(added, 0.9)

    assert high.share < low.share
    assert high.density_per_nm2 == pytest.approx(low.density_per_nm2, rel=0.25)


def test_where_atoms_cover_each_other_less_is_found(image):
    rng = np.random.default_rng(0)
    clumps = scattered(25, (SIDE, SIDE), 40, 1)
    points = np.repeat(clumps, 5, axis=0) + rng.normal(0, 5, (5 * len(clumps), 2))
    analysis, _ = image(points, 2.0, apart_px=7)
    apart, _ = image(scattered(100, (SIDE, SIDE), 14, 1), 2.0, apart_px=7)

    added, other = (
        [inject_atoms(one, MODEL, seed=seed) for seed in range(8)] for one in (analysis, apart)
    )
    gain, gain_apart = (
        sum(one.crowd_gain for one in tests) / sum(len(one.crowd_height) for one in tests)
        for tests in (added, other)
    )
    share, share_apart = (
        np.mean([estimate_completeness(one, 0.5).share for one in tests])
        for tests in (added, other)
    )

    assert gain < 0.7
    assert gain_apart > 0.85
    assert share < share_apart - 0.08


def test_of_few_atoms_nothing_is_said(image):
    analysis, _ = image(scattered(4, (SIDE, SIDE), 30, 0), 1.0)
    few = replace(analysis, candidates=analysis.candidates.iloc[:4])

    assert inject_atoms(few, MODEL) is None


def test_nothing_is_added_where_the_analysis_has_bright_clusters(image):
    analysis, _ = image(scattered(60, (SIDE, SIDE), 14, 0), 1.0)
    right = [[-0.5, 149.5], [-0.5, SIDE], [SIDE, SIDE], [SIDE, 149.5]]
    analysis = replace(analysis, parameters={BRIGHT_CLUSTERS: [[0, right]]})

    added = inject_atoms(analysis, MODEL)

    assert 130 * SIDE * PX**2 < added.area_nm2 < 150 * SIDE * PX**2  # the rim is left out


def test_nothing_is_added_where_clusters_are(image, monkeypatch):
    analysis, _ = image(scattered(60, (SIDE, SIDE), 14, 0), 1.0)
    clusters = np.zeros((SIDE, SIDE), bool)
    clusters[:, 150:] = True
    put = injection.add_gaussian_spots
    places = []
    monkeypatch.setattr(
        injection,
        "add_gaussian_spots",
        lambda i, points, *rest: places.append(points) or put(i, points, *rest),
    )
    detect, rounds, messages = injection.detect_candidates, [], []

    def record(image, model, quick, progress, stop):
        rounds.append(quick)
        return detect(image, model, quick, progress, stop)

    monkeypatch.setattr(injection, "detect_candidates", record)

    added = inject_atoms(analysis, MODEL, clusters=clusters, progress=lambda *m: messages.append(m))

    assert sorted(rounds) == [0, 1]
    assert messages == [(n, 2, "Detecting injected atoms") for n in range(3)]
    assert np.concatenate(places)[:, 1].max() < 150
    assert added.area_nm2 == pytest.approx(150 * SIDE * PX**2)
    assert len(added.scores) == (analysis.candidates["x_px"].round() < 150).sum()


def test_isolated_atoms_are_added_on_the_support_away_from_the_others():
    mask = np.zeros((200, 300), bool)
    mask[:, 90:] = True
    taken = scattered(40, mask.shape, 15, 5)

    crowd = scattered(10, mask.shape, 30, 6)

    points = injected_spots._free_positions(mask, taken, crowd, PX, np.random.default_rng(0))

    assert mask[tuple(points.round().astype(int).T)].all()
    gap, from_crowd = (
        np.linalg.norm(points[:, None] - others[None], axis=2).min() for others in (taken, crowd)
    )
    between = np.linalg.norm(points[:, None] - points[None], axis=2) + 99 * np.eye(len(points))
    assert len(points) > 15
    assert gap * PX > 0.35
    assert from_crowd * PX > 0.8
    assert between.min() * PX > 1.0


@pytest.mark.parametrize("clumped", [False, True])
def test_atoms_that_are_added_among_others_have_as_many_neighbours(clumped):
    rng = np.random.default_rng(3)
    mask = np.ones((600, 600), bool)
    found = rng.uniform(0, 599, (600, 2))
    if clumped:
        found = np.repeat(found[:20], 7, axis=0) + rng.normal(0, 8, (140, 2))

    points = injected_spots._positions_among(mask, found, PX, 400, np.random.default_rng(0))

    def neighbours(places):
        tree = KDTree(found)
        within = tree.query_ball_point(places, 16, return_length=True)
        return np.mean(within - tree.query_ball_point(places, 5, return_length=True))

    assert mask[tuple(np.clip(points.round().astype(int), 0, 599).T)].all()
    assert neighbours(points) == pytest.approx(neighbours(found), rel=0.3)


numbers = arrays(float, st.integers(0, 5), elements=st.one_of(st.floats(-20, 20), st.just(np.nan)))


@given(height=numbers, score=numbers, crowd=numbers)
def test_added_atoms_are_kept_in_a_file(height, score, crowd):
    added = InjectedAtoms(
        300.0, 0.08, height, score, score, crowd, 3, 200.0, 1, score, height, -3.9, -0.5
    )

    again = InjectedAtoms.from_dict(json.loads(json.dumps(added.to_dict(), allow_nan=False)))

    for name, value in vars(added).items():
        np.testing.assert_allclose(getattr(again, name), value, atol=1e-4)


def make_completeness(share: float, density: float, factor: float = 2.0) -> Completeness:
    """A share, and a density that is known to a factor."""
    return Completeness(
        share, share - 0.1, share + 0.05, 0.4, 100, density, density / factor, density * factor,
        17.0, 0.1, 0.08,
    )  # fmt: skip


ROWS = pd.DataFrame(
    {
        "image": ["a", "b", "c", "all"],
        "n_atoms": [18, 36, 1, 55],
        "support_nm2": [100.0, 300, 50, 450],
    }
)


def test_the_rows_say_where_the_density_is_a_lower_bound():
    found = {"a": make_completeness(0.9, 0.2), "b": make_completeness(0.3, 0.4), "c": None}

    out = with_completeness(ROWS, found, "all")

    assert out["density_is"].tolist() == ["estimate", "lower bound", "", "lower bound"]
    # 20 atoms and 120 of which 54 are found
    assert out["completeness"].iloc[-1] == pytest.approx(54 / 140)
    assert np.isnan(out["completeness"].iloc[2])
    assert list(out.columns[-9:]) == list(complete.COLUMNS)
    # "c" has hardly any atoms, but its area counts
    assert out.iloc[-1][list(complete.COLUMNS[5:8])].isna().all()
    assert out["completeness_images"].tolist()[:2] == [1, 1] and out.iloc[-1, -1] == 2
    row = {**out.iloc[-1], "images": 3}
    assert atom_report._row(row)["completeness"].endswith(", 2 of 3 images")


def test_a_stack_counts_as_its_mean_frame():
    found = {"a": make_completeness(0.9, 0.2), "b": make_completeness(0.3, 0.4)}
    rows = ROWS.drop(index=2)
    alone = with_completeness(rows, found, "all")["completeness"].iloc[-1]
    long = rows.assign(frames=[1, 50, 1], n_atoms=rows["n_atoms"] * [1, 50, 1])
    assert with_completeness(long, found, "all")["completeness"].iloc[-1] == pytest.approx(alone)


def test_of_images_of_which_few_were_tested_those_tell_whether_it_is_a_lower_bound():
    found = {"a": make_completeness(0.9, 0.2), "b": make_completeness(0.3, 0.4), "c": None}
    rows = ROWS.assign(density_per_nm2=[0.19, 0.21, 0.2, 0.2])
    assert with_completeness(rows, found, "all")["density_is"].tolist() == [
        "estimate", "estimate", "", "estimate",
    ]  # fmt: skip


def test_a_density_within_the_interval_of_all_atoms_is_no_lower_bound():
    """The correction takes false detections away, too."""
    found = {"a": make_completeness(0.3, 0.4), "b": make_completeness(0.3, 0.4)}
    rows = ROWS.drop(index=2).assign(density_per_nm2=[0.19, 0.21, 0.22])

    out = with_completeness(rows, found, "all")
    words = [completeness_warnings(found["a"], density)[0] for density in (0.19, 0.21)]

    assert out["density_complete_low_per_nm2"].iloc[0] == pytest.approx(0.2)
    assert out["density_is"].tolist() == ["lower bound", "estimate", "lower bound"]
    assert [atom_report._row(row)["density"][:2] for _, row in out.iterrows()] == [
        "≥ ", "0.", "≥ ",
    ]  # fmt: skip
    assert words[0].endswith("the density is a lower bound, that of all atoms 0.2 to 0.8 per nm²")
    assert words[1].endswith(
        "rely on the corrected density and its interval, that of all atoms 0.2 to 0.8 per nm²"
    )


def test_the_density_of_all_images_is_there_if_it_is_known_of_all():
    found = {"a": make_completeness(0.9, 0.2), "b": make_completeness(0.3, 0.4)}

    out = with_completeness(ROWS.drop(index=2), found, "all")

    density, low, high = out.iloc[-1][list(complete.COLUMNS[5:8])]
    assert density == pytest.approx((0.2 * 100 + 0.4 * 300) / 400)
    # each image is known to a factor of two, and the larger one counts for most
    assert density / 2 < low < density / 1.5
    assert density * 1.5 < high < density * 2


def test_of_a_stack_no_density_is_told(image):
    analysis, _ = image(scattered(100, (SIDE, SIDE), 14, 1), 1.0)
    added = inject_atoms(analysis, MODEL)

    one, three = (estimate_completeness(replace(added, frames=n), 0.5) for n in (1, 3))

    assert one.density_low < one.density_per_nm2 < one.density_high
    assert np.isnan([three.density_per_nm2, three.density_low, three.density_high]).all()
    assert (three.share, three.atom_intensity) == (one.share, one.atom_intensity)


def test_a_small_field_takes_more_rounds_and_a_tiny_one_says_nothing(image, monkeypatch):
    analysis, _ = image(scattered(40, (SIDE, SIDE), 20, 1), 1.0)
    full = analysis.support

    def part(px):
        support = np.zeros_like(full)
        support[:px, :px] = True
        return inject_atoms(replace(analysis, support=support), MODEL)

    monkeypatch.setattr(injection, "MIN_ATOMS", 1)
    monkeypatch.setattr(injected_spots, "MIN_ATOMS", 1)
    small = part(130)
    assert len(small.height) >= injected_spots.TARGET_INJECTED
    assert part(40) is None


def test_what_is_not_known_is_not_said_in_numbers():
    said = make_completeness(0.3, 0.4)
    row = with_completeness(ROWS.drop(index=[1, 2]), {"a": said}, "all").iloc[0]
    of_stack = replace(said, density_per_nm2=np.nan, density_low=np.nan, density_high=np.nan)
    stack = with_completeness(ROWS.drop(index=[1, 2]), {"a": of_stack}, "all").iloc[0]

    words = [completeness_warnings(one, 0.1)[0] for one in (said, of_stack)]
    cells = [atom_report._row(one)["complete"] for one in (row, stack)]

    assert words[0].endswith("lower bound, that of all atoms 0.2 to 0.8 per nm²")
    assert words[1].endswith("are found: the density is a lower bound")
    assert cells == ["0.40 (0.20–0.80)", "–"]
