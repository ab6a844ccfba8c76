"""Point patterns: against closed forms, plain double loops and simulation."""

from __future__ import annotations

from functools import partial

import numpy as np
import pytest
from hypothesis import given, settings, strategies as st
from scipy.stats import kstest

from napari_atomicity.core.errors import AtomicityError, Cancelled
from napari_atomicity.simulation import atom_fields
from napari_atomicity.simulation.atom_fields import AtomFieldSettings
from napari_atomicity.statistics.points.nearest_neighbours import (
    cumulative_fraction,
    hanisch_weights,
    nearest_neighbours,
)
from napari_atomicity.statistics.points.pair_correlation import pair_correlation, ripley_k
from napari_atomicity.statistics.points.quadrats import count_quadrats, quadrat_p_value
from napari_atomicity.statistics.points.randomness import (
    compare_with_randomness,
    global_envelope,
    pool_randomness_tests,
)
from napari_atomicity.statistics.points.windows import (
    MAX_MASK_PX,
    ObservationWindow,
    check_points,
)

RECTANGLE = ObservationWindow(np.ones((60, 80), bool), 0.1)


def irregular(shape=(50, 64)) -> np.ndarray:
    """A support with a vacuum corner, a hole and an island."""
    mask = np.ones(shape, bool)
    y, x = np.mgrid[: shape[0], : shape[1]]
    mask[y + x < 25] = False
    mask[np.hypot(y - 30, x - 40) < 6] = False
    mask[:, 55:58] = False
    return mask


def scattered(window: ObservationWindow, n: int, seed: int = 0) -> np.ndarray:
    return window.random(n, np.random.default_rng(seed))


def nearest_neighbour_distribution(points: np.ndarray, window: ObservationWindow, r) -> np.ndarray:
    """G(r) by the estimator of Hanisch."""
    points = check_points(points)[window.contains(points)]
    distance = nearest_neighbours(points)
    return cumulative_fraction(distance, hanisch_weights(points, distance, window), r)


def ripley_l(points: np.ndarray, window: ObservationWindow, r) -> np.ndarray:
    return np.sqrt(ripley_k(points, window, r) / np.pi)


def clark_evans_donnelly(points: np.ndarray, window: ObservationWindow) -> tuple[float, float]:
    """Index of Clark and Evans and its z score on a rectangle, with Donnelly's edge correction.

    K. P. Donnelly, "Simulations to determine the variance and edge effect of total
    nearest-neighbour distance", in Simulation Studies in Archaeology (1978); for about seven points
    or more.
    """
    assert window.mask.all()
    n, area = len(points), window.area_nm2
    low_y, high_y, low_x, high_x = window.bounds_nm
    edge = 2 * (high_y - low_y + high_x - low_x)
    expected = 0.5 * np.sqrt(area / n) + (0.0514 + 0.041 / np.sqrt(n)) * edge / n
    variance = 0.0703 * area / n**2 + 0.037 * edge * np.sqrt(area / n**5)
    mean = nearest_neighbours(points).mean()
    return float(mean / expected), float((mean - expected) / np.sqrt(variance))


# ---- plain implementations, from the definitions
def overlap_by_shifting(mask: np.ndarray, y: int, x: int) -> int:
    """Pixels that lie on the support and, shifted by whole pixels, on it again."""
    height, width = mask.shape
    moved = np.zeros_like(mask)
    inside = mask[max(0, -y) : height - max(0, y), max(0, -x) : width - max(0, x)]
    moved[max(0, y) : height + min(0, y), max(0, x) : width + min(0, x)] = inside
    return int((mask & moved).sum())


def overlap_anywhere(mask: np.ndarray, y: float, x: float) -> float:
    """The same for any shift, by the areas of squares that overlap with four others each."""
    total = 0.0
    for i in (int(np.floor(y)), int(np.floor(y)) + 1):
        for j in (int(np.floor(x)), int(np.floor(x)) + 1):
            part = (1 - abs(y - i)) * (1 - abs(x - j))
            if part > 0:
                total += part * overlap_by_shifting(mask, i, j)
    return total


def plain_pairs(points: np.ndarray, window: ObservationWindow) -> list[tuple[float, float]]:
    """Distance and overlap in nm² of every ordered pair."""
    px = window.pixel_size_nm
    found = []
    for i, a in enumerate(points):
        for j, b in enumerate(points):
            if i != j:
                overlap = overlap_anywhere(window.mask, *((b - a) / px)) * px**2
                found.append((float(np.hypot(*(b - a))), overlap))
    return found


def plain_k(points: np.ndarray, window: ObservationWindow, r: float) -> float:
    n, area = len(points), window.area_nm2
    return sum(area**2 / (n * (n - 1) * w) for d, w in plain_pairs(points, window) if d <= r)


def plain_g(points: np.ndarray, window: ObservationWindow, r: float, h: float) -> float:
    n, area = len(points), window.area_nm2
    u = np.linspace(0, r + h, 200_001)
    kernel = 0.75 / h * np.clip(1 - ((r - u) / h) ** 2, 0, None)
    ring = np.trapezoid(2 * np.pi * u * kernel, u)
    total = 0.0
    for d, w in plain_pairs(points, window):
        total += 0.75 / h * max(0.0, 1 - ((r - d) / h) ** 2) / w
    return total * area**2 / (n * (n - 1) * ring)


def plain_hanisch(points: np.ndarray, window: ObservationWindow, r: float) -> float:
    """Of a rectangle, whose eroded area is known."""
    height, width = np.array(window.mask.shape) * window.pixel_size_nm
    share = total = 0.0
    for i, (y, x) in enumerate(points):
        d = min(np.hypot(*(p - points[i])) for j, p in enumerate(points) if j != i)
        y, x = y + window.pixel_size_nm / 2, x + window.pixel_size_nm / 2
        if d <= min(y, x, height - y, width - x):
            weight = 1 / ((height - 2 * d) * (width - 2 * d))
            total += weight
            share += weight * (d <= r)
    return share / total


# ---- the support
def test_overlap_of_a_rectangle_is_that_of_two_sides():
    y, x = np.random.default_rng(0).uniform([[-5.9], [-7.9]], [[5.9], [7.9]], (2, 50))
    expected = (6 - np.abs(y)) * (8 - np.abs(x))
    np.testing.assert_allclose(RECTANGLE.overlap_nm2(y, x), expected, rtol=1e-9)
    assert RECTANGLE.overlap_nm2(np.array([6.5]), np.array([0.0])) == pytest.approx([0], abs=1e-9)


def test_overlap_of_any_support_is_that_of_shifting_it():
    window = ObservationWindow(irregular(), 0.2)
    vectors = np.random.default_rng(1).uniform(-20, 20, (40, 2))
    expected = [overlap_anywhere(window.mask, y, x) * 0.04 for y, x in vectors]
    np.testing.assert_allclose(window.overlap_nm2(*(vectors * 0.2).T), expected, rtol=1e-9)


def test_a_large_support_is_averaged_over_blocks():
    mask = np.zeros((60, 2 * MAX_MASK_PX + 3), bool)
    mask[:, :1500] = True
    window = ObservationWindow(mask, 0.1)
    assert window.overlap_nm2(np.array([1.5]), np.array([30.0])) == pytest.approx([4.5 * 120])
    assert window.boundary_nm(np.array([[1.25, 70.0]])) == pytest.approx([1.3])
    assert window.area_nm2 == pytest.approx(6 * 150)


def test_random_points_lie_on_the_support_and_everywhere_on_it():
    window = ObservationWindow(irregular(), 0.2)
    points = scattered(window, 20_000)
    assert window.contains(points).all()
    quadrats = count_quadrats(points, window, across=8)
    assert quadrats.chi2_p > 1e-3
    assert quadrats.area_nm2.sum() == pytest.approx(window.area_nm2)


def test_distance_to_the_edge_of_a_rectangle():
    points = scattered(RECTANGLE, 200)
    y, x = (points + 0.05).T
    expected = np.minimum.reduce([y, x, 6 - y, 8 - x])
    # On the ridge, where the nearest side changes, it is interpolated.
    np.testing.assert_allclose(RECTANGLE.boundary_nm(points), expected, atol=0.051)


@pytest.mark.parametrize(
    ("mask", "pixel"), [(np.zeros((4, 4)), 0.1), (np.ones(4), 0.1), (np.ones((4, 4)), 0.0)]
)
def test_what_is_no_support_is_refused(mask, pixel):
    with pytest.raises(AtomicityError):
        ObservationWindow(mask, pixel)


def test_points_that_are_none_are_refused():
    for bad in (np.zeros((3, 3)), np.array([[0.0, np.nan]])):
        with pytest.raises(AtomicityError):
            RECTANGLE.contains(bad)


# ---- against plain implementations
@pytest.mark.parametrize("mask", [np.ones((30, 40), bool), irregular()])
def test_k_and_g_are_those_of_the_double_loop(mask):
    window = ObservationWindow(mask, 0.2)
    points = scattered(window, 30)
    r = np.array([0.05, 0.4, 1.0, 2.1])
    expected = [plain_k(points, window, x) for x in r]
    np.testing.assert_allclose(ripley_k(points, window, r), expected, rtol=1e-9)
    h = 0.35
    expected = [plain_g(points, window, x, h) for x in r]
    found = pair_correlation(points, window, r, bandwidth=h)
    np.testing.assert_allclose(found, expected, rtol=1e-6, atol=1e-9)


def test_g_of_the_nearest_neighbour_is_that_of_the_double_loop():
    points = scattered(RECTANGLE, 60)
    r = np.array([0.2, 0.5, 0.9])
    expected = [plain_hanisch(points, RECTANGLE, x) for x in r]
    found = nearest_neighbour_distribution(points, RECTANGLE, r)
    # The eroded area is counted in pixels, the distance to the edge interpolated between them.
    np.testing.assert_allclose(found, expected, atol=0.03)


def test_weights_of_one_and_nought_are_points_there_or_not():
    window = ObservationWindow(irregular(), 0.2)
    points, there = scattered(window, 40), np.arange(40) % 2 == 0
    r = np.array([0.5, 1.5])
    np.testing.assert_allclose(
        ripley_k(points, window, r, weights=there),
        ripley_k(points[there], window, r),
    )


def test_points_off_the_support_do_not_count():
    window = ObservationWindow(irregular(), 0.2)
    points, r = scattered(window, 30), np.array([0.5, 1.0, 2.0])
    more = np.concatenate([points, [[0.4, 0.4], [6.0, 8.0], [-3.0, 50.0]]])
    assert list(window.contains(more[-3:])) == [False] * 3
    for function in (
        ripley_k,
        pair_correlation,
        nearest_neighbour_distribution,
    ):
        np.testing.assert_array_equal(function(more, window, r), function(points, window, r))
    assert count_quadrats(more, window).count.sum() == 30


# ---- closed forms of processes
def mean_over_fields(
    settings: AtomFieldSettings, window: ObservationWindow, function, n: int
) -> tuple:
    """Mean and its standard error over samples of a process."""
    found = []
    for seed in range(n):
        points = atom_fields.lone_atoms(settings, window, np.random.default_rng(seed))
        # What is estimated is a ratio: weighing by the number of pairs takes its bias out.
        found.append((len(points) * (len(points) - 1), function(points, window)))
    weight = np.array([w for w, _ in found], float)
    values = np.array([v for _, v in found])
    weight /= weight.mean()
    known = weight > 0
    mean = (weight[known, None] * values[known]).sum(axis=0) / weight.sum()
    residual = weight[known, None] * (values[known] - mean)
    return mean, residual.std(axis=0) / np.sqrt(n)


@pytest.mark.parametrize(
    "settings",
    [
        AtomFieldSettings(pattern="random", atoms_per_nm2=1.0),
        AtomFieldSettings(
            pattern="clustered", atoms_per_nm2=1.0, parents_per_nm2=0.25, spread_nm=0.3
        ),
        AtomFieldSettings(pattern="inhibited", atoms_per_nm2=0.6, apart_nm=0.5),
    ],
    ids=lambda s: s.pattern,
)
def test_k_and_g_are_flat_for_random_and_right_for_other_fields(settings):
    window = ObservationWindow(irregular((60, 70)), 0.2)
    r = np.array([0.3, 0.6, 1.0, 1.6])
    for function, expected, smoothing in (
        (partial(ripley_k, r_nm=r), atom_fields.ripley_k(settings, r), 0.0),
        (
            partial(pair_correlation, r_nm=r[2:], bandwidth=0.1),
            atom_fields.pair_correlation(settings, r[2:]),
            0.02,
        ),
    ):
        # λ² is estimated by n (n - 1) / A², whose mean is λ² times that of g over the support.
        mean, error = mean_over_fields(settings, window, function, 60)
        scale = expected_pairs(settings, window)
        np.testing.assert_allclose(mean * scale, expected, rtol=0.12)
        assert (np.abs(mean * scale - expected) <= 4.5 * error * scale + smoothing).all()


def expected_pairs(settings: AtomFieldSettings, window: ObservationWindow) -> float:
    """E[n (n - 1)] / (λ A)²: ∫ g(h) overlap(h) dh / A², summed over shifts."""
    steps = np.arange(-10, 10, 0.1) + 0.05
    y, x = np.meshgrid(steps, steps, indexing="ij")
    g = atom_fields.pair_correlation(settings, np.hypot(y, x).ravel())
    overlap = window.overlap_nm2(y.ravel(), x.ravel())
    return float(1 + ((g - 1) * overlap).sum() * 0.01 / window.area_nm2**2)


def test_nearest_neighbours_of_few_points():
    points = np.array([[0.0, 0.0], [0.0, 3.0], [4.0, 3.0]])
    np.testing.assert_allclose(nearest_neighbours(points), [3, 3, 4])
    assert np.isnan(nearest_neighbours(points[:1])).all()
    assert len(nearest_neighbours(points[:0])) == 0


def test_nearest_neighbours_of_random_points_are_those_of_the_formula():
    window, n = ObservationWindow(irregular(), 0.2), 80
    r = np.linspace(0.1, 1.2, 8)
    found = np.mean(
        [nearest_neighbour_distribution(scattered(window, n, s), window, r) for s in range(150)],
        axis=0,
    )
    np.testing.assert_allclose(found, -np.expm1(-np.pi * n / window.area_nm2 * r**2), atol=0.02)


def test_clark_evans_of_a_triangular_lattice_is_2_149():
    spacing = 0.4
    rows, columns = np.mgrid[:40, :40]
    points = np.stack(
        [rows * spacing * np.sqrt(3) / 2, (columns + 0.5 * (rows % 2)) * spacing], axis=-1
    ).reshape(-1, 2)
    window = ObservationWindow(np.ones((140, 162), bool), 0.1)
    found = compare_with_randomness(points, window, simulations=39)
    # The greatest possible value, 2 · 2^½ · 12^-¼ without edges (Clark and Evans 1954).
    assert found.clark_evans == pytest.approx(2.149, rel=0.03)
    assert found.clark_evans_p == pytest.approx(2 / 40)
    index, z = clark_evans_donnelly(points, window)
    assert index == pytest.approx(found.clark_evans, rel=0.02)
    assert z > 10


def test_donnelly_knows_random_points():
    z = [clark_evans_donnelly(scattered(RECTANGLE, 50, s), RECTANGLE)[1] for s in range(300)]
    assert np.mean(z) == pytest.approx(0, abs=0.2)
    assert np.std(z) == pytest.approx(1, abs=0.15)


# ---- invariances
@settings(max_examples=25, deadline=None)
@given(
    st.integers(0, 10_000), st.integers(2, 25), st.integers(0, 3), st.booleans(), st.floats(0.1, 9)
)
def test_nothing_depends_on_the_frame_or_the_unit(seed, n, turns, mirrored, unit):
    mask, px = irregular(), 0.1
    points = scattered(ObservationWindow(mask, px), n, seed)
    height = mask.shape[0]
    moved, moved_mask = points, mask
    if mirrored:
        moved = np.stack([(height - 1) * px - moved[:, 0], moved[:, 1]], axis=1)
        moved_mask = moved_mask[::-1]
    for _ in range(turns):
        moved = np.stack([(moved_mask.shape[1] - 1) * px - moved[:, 1], moved[:, 0]], axis=1)
        moved_mask = np.rot90(moved_mask)
    one, other = ObservationWindow(mask, px), ObservationWindow(moved_mask, px * unit)
    moved = moved * unit
    # A point on the edge of two pixels may change sides by rounding.
    same = one.contains(points) & other.contains(moved)
    points, moved = points[same], moved[same]
    r = np.array([0.3, 0.8, 1.5])
    for function, power in (
        (ripley_k, 2),
        (ripley_l, 1),
        (pair_correlation, 0),
        (nearest_neighbour_distribution, 0),
    ):
        np.testing.assert_allclose(
            function(moved, other, r * unit),
            function(points, one, r) * unit**power,
            rtol=1e-6,
            atol=1e-7 * unit**power,
        )
    a, b = (count_quadrats(p, w) for p, w in ((points, one), (moved, other)))
    assert sorted(a.area_nm2.ravel() * unit**2) == pytest.approx(sorted(b.area_nm2.ravel()))
    if len(points):
        assert a.index == pytest.approx(b.index, nan_ok=True)


# ---- few points
@pytest.mark.parametrize("n", [0, 1])
def test_too_few_points_have_no_structure(n):
    points, r = np.full((n, 2), 1.0), np.array([0.5, 1.0])
    for function in (
        ripley_k,
        ripley_l,
        pair_correlation,
        nearest_neighbour_distribution,
    ):
        assert np.isnan(function(points, RECTANGLE, r)).all()
    found = compare_with_randomness(points, RECTANGLE, simulations=9)
    assert found.n == n
    assert np.isnan(found.clark_evans) and np.isnan(found.clark_evans_p)
    assert all(np.isnan(curve.p) for curve in found.curves.values())


def test_points_in_one_place_are_neighbours_at_no_distance():
    points = np.full((3, 2), 2.0)
    assert (nearest_neighbours(points) == 0).all()
    assert ripley_k(points, RECTANGLE, np.array([0.0])) == pytest.approx(48)
    assert np.isfinite(pair_correlation(points, RECTANGLE, np.array([0.0, 0.1]))).all()
    found = compare_with_randomness(points, RECTANGLE, simulations=19)
    assert found.clark_evans == 0
    assert found.curves["L"].p == pytest.approx(1 / 20)


# ---- envelopes
@settings(max_examples=40, deadline=None)
@given(st.integers(0, 10_000), st.floats(0, 4), st.sampled_from([0.8, 0.9, 0.95]))
def test_a_curve_leaves_the_envelope_where_its_p_is_low(seed, shift, level):
    rng = np.random.default_rng(seed)
    curves = rng.normal(size=(60, 12)).cumsum(axis=1)
    curves[0] += shift
    p, low, high = global_envelope(curves[0], curves[1:], level)
    leaves = ((curves[0] < low) | (curves[0] > high)).any()
    assert leaves == (p <= 1 - level + 1e-9)
    assert 1 / 60 <= p <= 1


def test_p_of_random_points_is_uniform():
    window = ObservationWindow(irregular(), 0.2)
    found = [
        compare_with_randomness(scattered(window, 25, s), window, 39, seed=s + 1000)
        for s in range(150)
    ]
    for p in ([f.curves["L"].p for f in found], [f.clark_evans_p for f in found]):
        assert kstest(p, "uniform").statistic < 0.13
    # 5 % of 150 are 7.5; 18 or more happen once in 1000.
    assert sum(f.curves["g"].p <= 0.05 for f in found) < 18


def test_clustered_points_are_told_from_random_ones():
    window = ObservationWindow(irregular(), 0.2)
    settings = AtomFieldSettings(
        pattern="clustered", atoms_per_nm2=1.0, parents_per_nm2=0.2, spread_nm=0.2
    )
    points = atom_fields.lone_atoms(settings, window, np.random.default_rng(2))
    found = compare_with_randomness(points, window, 39)
    assert {found.curves[name].p for name in ("G", "L", "g")} == {1 / 40}
    assert found.clark_evans < 0.8
    curve = found.curves["L"]
    assert (curve.observed > curve.high).any()
    np.testing.assert_allclose(curve.expected, curve.r_nm, atol=0.15)


def test_curves_that_are_not_finite_are_left_out_of_the_test():
    p, low, high = global_envelope(np.array([np.nan, 1.0]), np.zeros((19, 2)))
    assert p == pytest.approx(1 / 20)
    assert np.isnan(low[0]) and high[1] == 0
    assert np.isnan(global_envelope(np.full(2, np.nan), np.zeros((19, 2)))[0])


def test_a_pool_of_the_same_twice_is_the_same():
    window = ObservationWindow(irregular(), 0.2)
    one = compare_with_randomness(scattered(window, 30), window, 19)
    both = pool_randomness_tests([one, one])
    assert both is not None and both.n == 60
    assert both.clark_evans == pytest.approx(one.clark_evans)
    for name, curve in one.curves.items():
        np.testing.assert_allclose(both.curves[name].observed, curve.observed)
        assert both.curves[name].p == pytest.approx(curve.p)
    assert pool_randomness_tests([compare_with_randomness(np.empty((0, 2)), window)]) is None


def test_a_pool_of_several_densities_is_flat_for_random_points():
    window = ObservationWindow(irregular(), 0.2)
    parts = [
        compare_with_randomness(scattered(window, n, n), window, 39, seed=n)
        for n in (20, 40, 80, 90, 100, 110)
    ]
    found = pool_randomness_tests(parts)
    assert found is not None
    np.testing.assert_allclose(
        found.curves["L"].observed[20:], found.curves["L"].r_nm[20:], rtol=0.1
    )
    assert found.curves["L"].p > 0.01


def test_random_neighbours_of_a_pool_reach_as_far_as_the_sparsest_part():
    dense, sparse = ObservationWindow(np.ones((40, 40), bool), 0.1), RECTANGLE
    parts = [
        compare_with_randomness(scattered(dense, 60), dense, 19, seed=1),
        compare_with_randomness(scattered(sparse, 10), sparse, 19, seed=2),
    ]
    near, far = (part.curves["neighbours"] for part in parts)
    pooled = pool_randomness_tests(parts).curves["neighbours"]
    np.testing.assert_array_equal(pooled.r_nm, far.r_nm)
    assert far.r_nm[-1] > 2 * near.r_nm[-1]
    # Beyond the distances of the dense part, all of its random points have their neighbours.
    beyond = pooled.r_nm > near.r_nm[-1]
    expected = (60 * near.simulated[:, -1:] + 10 * far.simulated[:, beyond]) / 70
    np.testing.assert_allclose(pooled.simulated[:, beyond], expected)
    # A histogram counts the atoms of all frames of a stack.
    weighted = pool_randomness_tests(parts, frames=[1, 12]).curves["neighbours"]
    expected = (60 * near.simulated[:, -1:] + 120 * far.simulated[:, beyond]) / 180
    np.testing.assert_allclose(weighted.simulated[:, beyond], expected)


def test_it_stops_and_says_how_far_it_is():
    said = []
    compare_with_randomness(
        scattered(RECTANGLE, 5), RECTANGLE, 3, progress=lambda *words: said.append(words[:2])
    )
    assert said == [(1, 3), (2, 3), (3, 3)]
    with pytest.raises(Cancelled):
        compare_with_randomness(scattered(RECTANGLE, 5), RECTANGLE, 3, stop=lambda: True)


# ---- quadrats
def test_quadrats_count_what_lies_in_them():
    window = ObservationWindow(np.ones((40, 60), bool), 0.1)
    points = np.array([[0.0, 0.0], [0.1, 0.2], [3.9, 5.9], [1.9, 3.0]])
    found = count_quadrats(points, window, across=3)
    assert found.count.tolist() == [[2, 1, 0], [0, 0, 1]]
    assert found.of(points).tolist() == [0, 0, 5, 1]
    np.testing.assert_allclose(found.area_nm2, 4.0)


def test_quadrats_of_partial_support_expect_less():
    mask = np.ones((40, 40), bool)
    mask[:20, 10:20] = False  # half of the first quadrat
    window = ObservationWindow(mask, 0.1)
    # As many points as there is support: spread as evenly as can be.
    points = np.concatenate(
        [c + np.random.default_rng(0).uniform(0, 0.9, (n, 2)) for c, n in
         (((0, 0), 10), ((0, 2), 20), ((2, 0), 20), ((2, 2), 20))]
    )  # fmt: skip
    found = count_quadrats(points, window, across=2)
    np.testing.assert_allclose(found.area_nm2, [[2, 4], [4, 4]])
    assert found.index == pytest.approx(0, abs=1e-9)
    assert found.chi2_p < 0.01  # far more even than chance


def test_quadrats_with_hardly_any_support_are_left_out():
    mask = np.ones((40, 40), bool)
    mask[:20, 4:20] = False
    found = count_quadrats(np.array([[0.1, 0.1]]), ObservationWindow(mask, 0.1), across=2)
    assert found.used.tolist() == [[False, True], [True, True]]
    assert np.isnan(found.index) and np.isnan(quadrat_p_value(found))


def test_p_of_quadrats_by_drawing_is_that_of_chi_squared_where_many_are_expected():
    for seed in range(5):
        found = count_quadrats(scattered(RECTANGLE, 600, seed), RECTANGLE, across=4)
        assert quadrat_p_value(found, 1999) == pytest.approx(found.chi2_p, abs=0.06)
    heaped = count_quadrats(scattered(RECTANGLE, 50) / 2, RECTANGLE)
    assert quadrat_p_value(heaped) == pytest.approx(2 / 1000)
