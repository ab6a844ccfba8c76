"""Counting by single atoms: on spots of known intensity, and on simulated fields."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings, strategies as st

from napari_atomicity.atoms.completeness import Completeness
from napari_atomicity.atoms.counting import _count, count_atoms_by_intensity
from napari_atomicity.atoms.regions import (
    NEAR_CLUSTER_NM,
    Region,
    integrate,
    integrate_regions,
    make_cluster_mask,
)
from napari_atomicity.atoms.single_atom_calibration import (
    MIN_ATOMS,
    TAILS,
    SingleAtomCalibration,
    calibrate_single_atoms,
)
from napari_atomicity.core.micrograph import Micrograph
from napari_atomicity.core.tables import cluster_table as tables
from napari_atomicity.detection.outlines import TAIL_NM
from napari_atomicity.simulation.atom_fields import AtomFieldSettings, simulate_atoms

PIXEL_NM = 0.04
SIGMA_NM = 0.08
SHAPE = (400, 400)


def spots(positions: np.ndarray, intensity: np.ndarray, shape=SHAPE) -> np.ndarray:
    """Gaussian spots of these integrated intensities, in counts nm²."""
    image = np.zeros(shape)
    y, x = np.indices(shape)
    for (cy, cx), value in zip(positions, intensity, strict=True):
        low = np.maximum(np.array([cy, cx]).astype(int) - 20, 0)
        part = (slice(low[0], low[0] + 41), slice(low[1], low[1] + 41))
        r2 = ((y[part] - cy) ** 2 + (x[part] - cx) ** 2) * PIXEL_NM**2
        image[part] += value / (2 * np.pi * SIGMA_NM**2) * np.exp(-r2 / 2 / SIGMA_NM**2)
    return image


def on_a_grid(n: int, step: int = 36) -> np.ndarray:
    """(n, 2) positions in pixels that are far from each other."""
    places = np.arange(25, SHAPE[0] - 25, step)
    return np.stack(np.meshgrid(places, places, indexing="ij"), -1).reshape(-1, 2)[:n] + 0.3


def test_a_disc_holds_what_a_gaussian_has_inside():
    at = on_a_grid(9)
    found = integrate(spots(at, np.full(9, 5.0)), PIXEL_NM, at, 0.2)
    expected = 5 * -np.expm1(-(0.2**2) / 2 / SIGMA_NM**2)
    assert found == pytest.approx(expected, rel=0.02)
    wide = integrate(spots(at, np.full(9, 5.0)), PIXEL_NM, at, 0.4)
    assert wide == pytest.approx(5, rel=1e-3)


@settings(max_examples=25, deadline=None)
@given(st.floats(0.1, 100), st.floats(-1e3, 1e3), st.integers(0, 1000))
def test_gain_scales_and_black_level_goes(gain, black, seed):
    pixels = np.random.default_rng(seed).normal(size=(60, 60))
    at = np.array([[30.0, 30.0], [27.4, 33.3]])
    one = integrate(pixels, PIXEL_NM, at)
    other = integrate(gain * pixels + black, PIXEL_NM, at)
    assert other == pytest.approx(gain * one, rel=1e-6, abs=1e-6)


def test_a_slope_under_an_atom_does_not_count():
    at = on_a_grid(4)
    slope = np.add.outer(np.arange(SHAPE[0]) * 3.0, np.arange(SHAPE[1]) * -2.0)
    image = spots(at, np.ones(4))
    assert integrate(image + slope, PIXEL_NM, at) == pytest.approx(
        integrate(image, PIXEL_NM, at), abs=0.05
    )


def test_known_atoms_beside_it_do_not_count():
    at = np.array([[200.0, 200.0], [200.0, 212.0]])
    image = spots(at, np.array([1.0, 30.0]))
    other = np.zeros(SHAPE, bool)
    other[190:211, 202:223] = True
    found = integrate(image, PIXEL_NM, at[:1], 0.2, other)
    assert found == pytest.approx(-np.expm1(-(0.2**2) / 2 / SIGMA_NM**2), rel=0.03)
    assert integrate(image, PIXEL_NM, at[:1], 0.2)[0] < 0  # with it, the ring is too bright


def test_what_is_cut_or_nowhere_or_surrounded_is_not_measured():
    image = np.ones(SHAPE)
    assert np.isnan(integrate(image, PIXEL_NM, np.array([[2.0, 50.0], [np.nan, 50.0]]))).all()
    everywhere = np.ones(SHAPE, bool)
    assert np.isnan(integrate(image, PIXEL_NM, on_a_grid(1), 0.2, everywhere)).all()
    assert len(integrate(image, PIXEL_NM, np.empty((0, 2)))) == 0


def test_discs_and_regions_keep_one_convention():
    y, x = np.indices(SHAPE)
    region = np.hypot(y - 200, x - 200) * PIXEL_NM <= 0.5
    pixels = np.random.default_rng(0).normal(size=SHAPE) + 100 * region
    disc = integrate(pixels, PIXEL_NM, np.array([[200.0, 200.0]]), 0.5 + TAIL_NM)
    assert integrate_regions(pixels, PIXEL_NM, [Region.of(region)]) == pytest.approx(disc, rel=0.01)


@pytest.mark.parametrize("noise", [0.0, 15.0])
def test_the_calibration_is_the_mean_of_the_isolated_atoms(noise):
    rng = np.random.default_rng(3)
    at = on_a_grid(90)
    intensity = rng.gamma(8, 1 / 8, len(at))  # skewed: mean 1, median 0.96
    image = spots(at, intensity) + rng.normal(0, noise, SHAPE)
    found = calibrate_single_atoms(image, PIXEL_NM, at, np.ones(len(at)))
    assert found.reason == ""
    assert found.n_atoms == len(at)
    assert found.sigma_nm == pytest.approx(SIGMA_NM, rel=0.1)
    assert found.intensity == pytest.approx(TAILS * intensity.mean(), rel=0.01 + 0.005 * noise)
    assert found.error == pytest.approx(0.35 / np.sqrt(len(at)), rel=0.6)
    assert found.scatter == pytest.approx(0.35, abs=0.08)


def test_all_candidates_have_a_say_so_that_the_sure_ones_do_not_lengthen_the_calibration():
    found, sure = [], []
    for seed in range(4):
        rng = np.random.default_rng(seed)
        at = on_a_grid(100)
        real = rng.random(len(at)) < 0.6
        intensity = np.where(real, rng.normal(1, 0.35, len(at)), rng.normal(0.25, 0.15, len(at)))
        image = spots(at, intensity) + rng.normal(0, 2, SHAPE)
        seen = intensity + rng.normal(0, 0.25, len(at))  # what a detector goes by
        atom = 0.6 * np.exp(-((seen - 1) ** 2) / 2 / (0.35**2 + 0.25**2)) / 0.43
        other = 0.4 * np.exp(-((seen - 0.25) ** 2) / 2 / (0.15**2 + 0.25**2)) / 0.29
        p = atom / (atom + other)
        calibration = calibrate_single_atoms(image, PIXEL_NM, at, p).intensity / TAILS
        found.append(calibration / intensity[real].mean())
        sure.append(intensity[p > 0.8].mean() / intensity[real].mean())
    assert np.mean(found) == pytest.approx(1, abs=0.05)
    assert np.mean(sure) > 1.08


def test_only_atoms_that_are_alone_count():
    at = on_a_grid(60)
    pairs = at[:30] + np.array([0, 6])
    image = spots(at, np.ones(60)) + spots(pairs, np.full(30, 5.0))
    every = np.concatenate([at, pairs])
    found = calibrate_single_atoms(image, PIXEL_NM, every, np.ones(len(every)))
    assert found.n_atoms == 30
    assert found.intensity == pytest.approx(TAILS, rel=0.02)


@pytest.mark.parametrize("n", [0, 1, MIN_ATOMS - 1])
def test_with_too_few_isolated_atoms_there_is_none(n):
    at = on_a_grid(n)
    found = calibrate_single_atoms(spots(at, np.ones(n)), PIXEL_NM, at, np.ones(n))
    assert np.isnan(found.intensity)
    assert f"only {n} isolated atom{'' if n == 1 else 's'}; {MIN_ATOMS} are needed" == found.reason


def test_a_sum_of_probabilities_just_below_the_limit_is_not_rounded_up():
    at = on_a_grid(MIN_ATOMS)
    p = np.where(np.arange(MIN_ATOMS) == 0, 0.5, 1.0)
    found = calibrate_single_atoms(spots(at, np.ones(MIN_ATOMS)), PIXEL_NM, at, p)
    assert found.reason.startswith(f"only {MIN_ATOMS - 0.5} isolated atoms")


def test_an_image_without_contrast_has_none():
    at = on_a_grid(40)
    assert calibrate_single_atoms(np.full(SHAPE, 7.0), PIXEL_NM, at, np.ones(40)).reason
    dark = calibrate_single_atoms(-spots(at, np.ones(40)), PIXEL_NM, at, np.ones(40))
    assert "not brighter" in dark.reason


def test_atoms_that_drown_in_noise_are_no_calibration():
    at = on_a_grid(40)
    image = spots(at, np.full(40, 0.3)) + np.random.default_rng(0).normal(0, 60, SHAPE)
    found = calibrate_single_atoms(image, PIXEL_NM, at, np.ones(40))
    assert np.isnan(found.intensity)
    assert "40 isolated atoms are too faint" in found.reason or "not brighter" in found.reason


def test_a_detector_that_is_sure_of_hardly_any_atom_gives_none():
    at = on_a_grid(100)
    p = np.where(np.arange(100) < 8, 0.9, 0.3)
    found = calibrate_single_atoms(spots(at, np.ones(100)), PIXEL_NM, at, p)
    assert "only 21 % of the isolated atoms" in found.reason


def cluster_table(centres_px: np.ndarray, diameter_nm: float = 1.0) -> pd.DataFrame:
    n = len(centres_px)
    return tables.conform(
        pd.DataFrame(
            {
                "image": ["a"] * n, "cluster_id": np.arange(n) + 1, "y_px": centres_px[:, 0],
                "x_px": centres_px[:, 1], "y_nm": centres_px[:, 0] * PIXEL_NM,
                "x_nm": centres_px[:, 1] * PIXEL_NM, "diameter_nm": diameter_nm,
                "eccentricity": 0.0,
            }
        )
    )  # fmt: skip


def atom_table(at: np.ndarray, confidence: float = 1.0) -> pd.DataFrame:
    return pd.DataFrame({"frame": 0, "y_px": at[:, 0], "x_px": at[:, 1], "confidence": confidence})


def with_a_cluster(
    n: int, noise: float = 0.0, diameter_nm: float = 1.0
) -> tuple[Micrograph, pd.DataFrame, pd.DataFrame]:
    """Lone atoms and, in the middle, n atoms on a disc."""
    rng = np.random.default_rng(n)
    at = on_a_grid(100)
    at = at[np.hypot(*(at - 200).T) * PIXEL_NM > 2.2]
    angle = rng.uniform(0, 2 * np.pi, n)
    radius = diameter_nm / 2 * np.sqrt(rng.random(n)) / PIXEL_NM
    inside = 200 + np.stack([radius * np.sin(angle), radius * np.cos(angle)], 1)
    every = np.concatenate([at, inside])
    image = spots(every, np.full(len(every), 2.5)) + rng.normal(0, noise, SHAPE) + 500
    clusters = cluster_table(np.array([[200.0, 200.0]]), diameter_nm)
    return Micrograph(image, PIXEL_NM), clusters, atom_table(at)


@pytest.mark.parametrize(("n", "diameter_nm"), [(7, 1.0), (30, 1.0), (120, 1.4)])
def test_a_cluster_holds_as_many_atoms_as_it_is_brighter(n, diameter_nm):
    micrograph, clusters, atoms = with_a_cluster(n, noise=5.0, diameter_nm=diameter_nm)
    out = count_atoms_by_intensity(
        clusters, atoms, micrograph, classes=("Pt7", "Pt30", "Pt120")
    ).iloc[0]
    assert out["n_yardstick"] * TAILS == pytest.approx(n, rel=0.06)  # these spots have no tails
    assert out["n_yardstick_low"] < n < out["n_yardstick_high"]
    assert out["label_yardstick"] == f"Pt{n}"
    assert f"Pt{n}" in out["yardstick_set"].split("|")
    assert out["yardstick_reason"] == ""


def test_no_class_is_in_the_set_if_none_is_in_the_interval():
    micrograph, clusters, atoms = with_a_cluster(30)
    out = count_atoms_by_intensity(clusters, atoms, micrograph, classes=("Pt7", "Pt120")).iloc[0]
    assert out["n_yardstick_low"] > 7 and out["n_yardstick_high"] < 120
    assert out["label_yardstick"] and not out["yardstick_set"]


def test_more_atoms_than_fit_into_clusters_are_no_count():
    micrograph, clusters, atoms = with_a_cluster(55)
    assert not count_atoms_by_intensity(clusters, atoms, micrograph)["yardstick_reason"][0]
    far_brighter, _, _ = with_a_cluster(1500)  # as if noise were taken for atoms
    out = count_atoms_by_intensity(clusters, atoms, far_brighter).iloc[0]
    assert np.isnan(out["n_yardstick"]) and "than fit" in out["yardstick_reason"]
    assert not out["label_yardstick"] and not out["yardstick_set"]


def test_gain_and_black_level_do_not_change_a_count():
    micrograph, clusters, atoms = with_a_cluster(30)
    other = Micrograph(micrograph.data * 40 + 1e4, PIXEL_NM)
    one, two = (count_atoms_by_intensity(clusters, atoms, m) for m in (micrograph, other))
    assert two["n_yardstick"][0] == pytest.approx(one["n_yardstick"][0], rel=1e-3)


def test_a_wider_level_gives_a_wider_interval():
    micrograph, clusters, atoms = with_a_cluster(30, noise=10.0)
    wide = count_atoms_by_intensity(clusters, atoms, micrograph, level=0.99).iloc[0]
    narrow = count_atoms_by_intensity(clusters, atoms, micrograph, level=0.5).iloc[0]
    assert wide["n_yardstick_low"] < narrow["n_yardstick_low"]
    assert narrow["n_yardstick_high"] < wide["n_yardstick_high"]


@pytest.mark.parametrize("place", [(30, 200), (370, 190), (200, 35), (205, 365)])
def test_an_atom_that_is_added_hardly_changes_the_noise_of_the_background(place):
    at = on_a_grid(40)
    image = spots(at, np.ones(40)) + np.random.default_rng(0).normal(0, 20, SHAPE)
    before, after = (
        calibrate_single_atoms(image, PIXEL_NM, atoms, np.ones(len(atoms))).blank
        for atoms in (at, np.vstack([at, [place]]))
    )
    np.testing.assert_allclose(after, before, rtol=0.02)


def test_each_cluster_that_can_not_be_counted_says_why():
    micrograph, clusters, atoms = with_a_cluster(30)
    clusters = pd.concat([clusters] * 3, ignore_index=True)
    clusters["touches_border"] = [True, False, False]
    clusters["touches_neighbour"] = [False, True, False]
    clusters["frame"] = [0, 0, 0]
    out = count_atoms_by_intensity(clusters, atoms, micrograph)
    assert out["n_yardstick"].notna().tolist() == [False, False, True]
    assert out["yardstick_reason"].tolist() == ["cut by the border", "touches another cluster", ""]
    few = count_atoms_by_intensity(clusters, atoms.iloc[:4], micrograph)
    assert few["n_yardstick"].isna().all()
    assert few["yardstick_reason"].str.contains("only 4 isolated atoms").all()
    assert (few["label_yardstick"] == "").all()


@pytest.mark.parametrize("outlined", [True, False])
def test_a_cluster_that_can_not_be_measured_is_not_counted(outlined):
    # As added by a person where the detection finds no cluster: its outline is a circle.
    micrograph, clusters, atoms = with_a_cluster(30)
    whole = count_atoms_by_intensity(clusters, atoms, micrograph).iloc[0]
    y, x = clusters.loc[0, ["y_px", "x_px"]]
    circle = np.array([y, x]) + 8 * np.array([[-1, -1], [-1, 1], [1, 1], [1, -1]])
    clusters = pd.concat([clusters] * 2, ignore_index=True)
    clusters["diameter_nm"] = [clusters["diameter_nm"][0], np.nan]
    outlines = [circle, circle] if outlined else None
    out = count_atoms_by_intensity(clusters, atoms, micrograph, outlines)
    assert out["n_yardstick"].notna().tolist() == [True, False]
    assert out["yardstick_reason"].tolist() == ["", "no cluster can be measured there"]
    if not outlined:
        assert out["n_yardstick"][0] == pytest.approx(whole["n_yardstick"])


def make_completeness(intensity: float, error: float) -> Completeness:
    """What atoms that were put into an image may tell of its own."""
    return Completeness(0.3, 0.2, 0.4, 1.0, 200, 0.5, 0.3, 0.8, intensity, error, 0.09)


def test_the_mean_atom_of_all_counts_where_it_is_known():
    micrograph, clusters, atoms = with_a_cluster(30)
    own = calibrate_single_atoms(
        micrograph.data, PIXEL_NM, atoms[["y_px", "x_px"]].to_numpy(), atoms["confidence"]
    )

    half, same, vague = (
        count_atoms_by_intensity(clusters, atoms, micrograph, completeness=make_completeness(*what)
        ).iloc[0]
        for what in ((own.intensity / TAILS / 2, 0.02), (own.intensity / TAILS, 0.02),
                     (own.intensity / TAILS, 0.2))
    )  # fmt: skip

    assert half["n_yardstick"] == pytest.approx(2 * same["n_yardstick"], rel=1e-6)
    assert same["n_yardstick_low"] < 30 < same["n_yardstick_high"]
    assert vague["n_yardstick_low"] < same["n_yardstick_low"]
    assert vague["n_yardstick_high"] > same["n_yardstick_high"]


def test_atoms_that_are_too_faint_are_no_calibration():
    micrograph, clusters, atoms = with_a_cluster(30)

    out = count_atoms_by_intensity(
        clusters, atoms, micrograph, completeness=make_completeness(17.0, 0.4)
    ).iloc[0]

    assert np.isnan(out["n_yardstick"])
    assert "too faint: ± 40 %" in out["yardstick_reason"]


def test_around_clusters_no_atom_stands_alone():
    micrograph, clusters, _ = with_a_cluster(30)
    row = clusters.iloc[0]
    y, x = np.mgrid[: micrograph.shape[0], : micrograph.shape[1]]
    off_nm = np.hypot(y - row["y_px"], x - row["x_px"]) * PIXEL_NM

    mask = make_cluster_mask(clusters, micrograph.shape, PIXEL_NM)
    both = make_cluster_mask(clusters.assign(frame=1), (2, *micrograph.shape), PIXEL_NM)

    assert mask[off_nm < row["diameter_nm"] / 2 + NEAR_CLUSTER_NM - PIXEL_NM].all()
    assert not mask[off_nm > 0.8 * row["diameter_nm"] + NEAR_CLUSTER_NM + PIXEL_NM].any()
    assert not both[0].any()
    assert (both[1] == mask).all()


def test_frames_are_counted_each_by_its_own_atoms():
    micrograph, clusters, atoms = with_a_cluster(30)
    stack = Micrograph(np.stack([micrograph.data, 3 * micrograph.data]), PIXEL_NM)
    both = pd.concat([clusters, clusters.assign(frame=1)], ignore_index=True)
    of_both = pd.concat([atoms, atoms.assign(frame=1)], ignore_index=True)
    out = count_atoms_by_intensity(both, of_both, stack, support=np.ones(stack.shape, bool))
    assert out["n_yardstick"][1] == pytest.approx(out["n_yardstick"][0], rel=1e-3)


def test_no_clusters_and_wrong_outlines():
    micrograph, clusters, atoms = with_a_cluster(7)
    assert count_atoms_by_intensity(tables.empty(), atoms, micrograph).empty
    with pytest.raises(ValueError, match="0 outlines for 1 clusters"):
        count_atoms_by_intensity(clusters, atoms, micrograph, [])


def test_simulated_clusters_are_counted_without_bias_and_with_the_coverage():
    ratio, covered = [], []
    for seed in range(4):
        field = simulate_atoms(
            AtomFieldSettings(
                (448, 448), clusters=(19, 30, 41), contrast=0.4, atoms_per_nm2=0.4
            ),
            seed,
        )  # fmt: skip
        of_cluster = field.truth["which"] == "cluster"
        truth, isolated = field.truth[of_cluster], field.truth[~of_cluster]
        clusters = cluster_table(truth[["y_px", "x_px"]].to_numpy(), 1.3).assign(image="atoms.tif")
        atoms = atom_table(isolated[["y_px", "x_px"]].to_numpy())
        out = count_atoms_by_intensity(clusters, atoms, field.micrograph)
        n = truth["n"].to_numpy()
        ratio.append((out["n_yardstick"] / n).mean())
        covered += list((out["n_yardstick_low"] <= n) & (n <= out["n_yardstick_high"]))
    assert np.mean(ratio) == pytest.approx(1, abs=0.08)
    assert np.mean(covered) >= 0.85


def test_the_upper_end_of_next_to_nothing_is_of_the_size_of_its_error():
    region = np.zeros((60, 60), bool)
    region[25:35, 25:35] = True
    stick = SingleAtomCalibration(1.0, 0.05, 0.35, 0.09, 50.0, (0.5, 1.0, 2.0))
    counts = [_count(x, Region.of(region), stick, 0.05, 0.95) for x in np.geomspace(1e-3, 100, 40)]
    n, low, high = np.array(counts).T
    assert (low <= n).all() and (n < high).all()
    assert (np.diff(high) > 0).all()  # no step where the formula changes
    faint = 1.96 * stick.noise(np.pi * (TAIL_NM + np.sqrt(100 / np.pi) * 0.05) ** 2)
    assert high[0] < 2 * faint
