"""From the atoms of images to the rows of dispersion.csv."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from napari_atomicity.atoms import dispersion as module
from napari_atomicity.atoms.analysis import FLAT, AtomAnalysis
from napari_atomicity.atoms.dispersion import (
    DispersionSettings,
    compute_dispersions,
    compute_image_dispersion,
)
from napari_atomicity.atoms.marks import ImageAtoms, Mark
from napari_atomicity.atoms.summary import summary
from napari_atomicity.atoms.table import conform
from napari_atomicity.core.errors import AtomicityError, Cancelled
from napari_atomicity.core.micrograph import Micrograph
from napari_atomicity.statistics.points.dispersion import dispersion, pool_frames

PX = 0.1
SETTINGS = DispersionSettings(simulations=5)
MASK = np.ones((80, 80), bool)
MASK[:20] = False


@pytest.fixture(autouse=True)
def few_resamples(monkeypatch):
    monkeypatch.setattr("napari_atomicity.statistics.points.dispersion_intervals.RESAMPLES", 10)
    monkeypatch.setattr("napari_atomicity.statistics.points.dispersion_evidence.DRAWS", 10)


def atoms_of(name: str = "a", n: int = 30, seed: int = 0, frames: int = 1, **more) -> ImageAtoms:
    """Candidates of probability 0.8 and 0.2, half each, on the support but for the first one."""
    rng = np.random.default_rng(seed)
    points = rng.uniform([20, 0], [79, 79], (n, 2))
    points[0] = [5, 5]
    table = pd.DataFrame(
        {
            "image": name,
            "frame": np.arange(n) % frames,
            "atom_id": np.arange(1, n + 1),
            "y_px": points[:, 0],
            "x_px": points[:, 1],
            "y_nm": points[:, 0] * PX,
            "x_nm": points[:, 1] * PX,
            "confidence": np.where(np.arange(n) < n / 2, 0.8, 0.2),
            "origin": "model",
        }
    )
    shape = (frames, 80, 80) if frames > 1 else (80, 80)
    micrograph = Micrograph(np.zeros(shape, np.float32), pixel_size_nm=PX, name=name)
    mask = np.stack([MASK] * frames) if frames > 1 else MASK
    analysis = AtomAnalysis(micrograph, conform(table), 0.5, mask, PX, "m", candidate_recall=0.5)
    return ImageAtoms(name, PX, analysis, **more)


def test_blind_marks_off_the_support_are_left_out_of_both_docks():
    marks = {i: Mark(y, y, True) for i, y in enumerate((5.0, 30.0, 50.0, 70.0), 1)}
    blind = ImageAtoms("a", PX, marks=marks, hidden=atoms_of())
    told, found = summary(blind), compute_image_dispersion(blind, SETTINGS).dispersion
    assert found is not None
    assert (told.n_atoms, told.n_off_support, len(blind.on_support)) == (4, 1, 3)
    assert (found.n_atoms, found.n_off_support) == (3, 1)
    assert told.n_expected == found.n_expected == 3
    assert told.counted_density_per_nm2 == pytest.approx(3 / (MASK.sum() * PX**2))


def test_all_candidates_count_by_their_probability_and_the_missing_are_made_up_for():
    found = compute_image_dispersion(atoms_of(), SETTINGS)
    assert found.dispersion is not None
    assert (found.dispersion.n_atoms, found.dispersion.n_off_support) == (14, 1)
    assert found.dispersion.n_expected == pytest.approx((14 * 0.8 + 15 * 0.2) / 0.5)
    assert found.dispersion.area_nm2 == pytest.approx(48)
    # What is off the support is nobody's neighbour.
    assert 1 not in set(found.table["atom_id"]) and len(found.table) == 14
    assert found.dispersion.randomness is not None
    observed = found.table["nearest_neighbour_nm"].mean()
    assert found.dispersion.randomness.mean_nm == pytest.approx(observed)
    assert len(found.dispersion.randomness.curves["g"].simulated) == 5


def test_what_a_person_adds_is_of_what_was_missing():
    before = compute_image_dispersion(atoms_of(), SETTINGS).dispersion
    added = {100 + i: Mark(30 + 10 * i, 70.0) for i in range(4)}
    after = compute_image_dispersion(atoms_of().with_marks(added), SETTINGS).dispersion
    assert before is not None and after is not None
    assert after.n_atoms == before.n_atoms + 4
    # The model's probabilities speak for all atoms, those that a person found among them.
    assert after.n_expected == pytest.approx(before.n_expected, rel=0.05)
    many = {100 + i: Mark(21 + i, 70.0) for i in range(50)}
    more = compute_image_dispersion(atoms_of().with_marks(many), SETTINGS).dispersion
    assert more is not None and more.n_expected == pytest.approx(14 * 0.8 + 15 * 0.2 + 50)


def test_where_people_decided_on_every_candidate_their_atoms_are_the_density():
    atoms = atoms_of()
    rows = atoms.analysis.candidates[["atom_id", "y_px", "x_px"]].itertuples(index=False)
    decided = {i: Mark(y + 0.3, x, present=i % 3 > 0) for i, y, x in rows}
    added = {100 + i: Mark(30 + 10 * i, 75.0) for i in range(4)}
    one_open = atoms.with_marks(decided | added).with_marks({30: None})
    assert compute_image_dispersion(one_open, SETTINGS).dispersion.n_expected > 35
    whole = atoms.with_marks(decided | added)
    found = compute_image_dispersion(whole, SETTINGS).dispersion
    assert found.n_atoms == 19 + 4
    assert found.n_expected == found.n_atoms == summary(whole).n_expected
    assert found.density.value == pytest.approx(found.n_atoms / found.area_nm2)
    # No error of the detection: the interval has the sampling only.
    assert found.density_of_field.low == found.density_of_field.high == found.density.value
    assert found.density.low < found.density.value < found.density.high
    # A search that finds an atom which was added before changes nothing.
    extra = atoms.analysis.candidates.iloc[:1].assign(y_px=30.2, x_px=75.0, y_nm=3.02, x_nm=7.5)
    again = conform(pd.concat([extra, atoms.analysis.candidates], ignore_index=True))
    searched = whole.with_analysis(replace(atoms.analysis, candidates=again))
    later = compute_image_dispersion(searched, SETTINGS).dispersion
    assert (later.n_atoms, later.n_expected) == (found.n_atoms, found.n_expected)


def test_a_correction_of_the_support_counts():
    whole = np.array([[-0.5, -0.5], [-0.5, 79.5], [79.5, 79.5], [79.5, -0.5]])
    found = compute_image_dispersion(atoms_of(support_added=(whole,)), SETTINGS).dispersion
    assert found is not None
    assert found.area_nm2 == pytest.approx(64) and found.n_off_support == 0
    none = compute_image_dispersion(atoms_of(support_removed=(whole,)), SETTINGS)
    assert none.dispersion is None and "no support" in none.reason and not len(none.table)


def test_frames_of_a_stack_are_one_image():
    found = compute_image_dispersion(atoms_of(frames=2), SETTINGS)
    assert found.dispersion is not None
    assert (found.dispersion.images, found.dispersion.frames) == (1, 2)
    assert found.dispersion.area_nm2 == pytest.approx(96)
    assert found.dispersion.n_atoms == 14
    single = atoms_of(frames=2).table.query("frame == 1")
    one = dispersion(
        single[["y_nm", "x_nm"]].to_numpy(), MASK, PX, simulations=0, group_distance_nm=0.3
    )
    of_frame = found.table.loc[found.table["frame"] == 1, "nearest_neighbour_nm"].mean()
    assert one.randomness is not None and one.randomness.mean_nm == pytest.approx(of_frame)


def test_the_same_frame_over_and_over_tells_no_more():
    single = atoms_of()
    candidates = single.analysis.candidates
    many = replace(
        single.analysis,
        support=np.stack([MASK] * 10),
        candidates=conform(
            pd.concat([candidates.assign(frame=i, atom_id=candidates["atom_id"] + 100 * i)
                       for i in range(10)])
        ),
    )  # fmt: skip
    settings = DispersionSettings(simulations=199)
    one = compute_image_dispersion(single, settings).dispersion
    ten = compute_image_dispersion(replace(single, analysis=many), settings).dispersion
    assert one is not None and ten is not None
    assert ten.density.value == pytest.approx(one.density.value)
    for name in ("density", "density_of_field"):
        a, b = getattr(one, name), getattr(ten, name)
        assert b.low == pytest.approx(a.low) and b.high == pytest.approx(a.high)
    assert _width(ten.curves["L"]) == pytest.approx(_width(one.curves["L"]), rel=0.25)
    assert ten.quadrat_index == pytest.approx(one.quadrat_index)
    assert ten.quadrat_freedom == pytest.approx(one.quadrat_freedom)
    assert ten.randomness.clark_evans_p == pytest.approx(one.randomness.clark_evans_p, abs=0.1)


def test_a_stack_among_images_counts_as_its_mean_frame():
    """Its frames show one place: in the numbers as in the density."""
    stack, single = atoms_of("movie.tif", frames=4), atoms_of("a.tif")
    found = compute_dispersions({"movie.tif": stack, "a.tif": single}, SETTINGS)
    rows = found.rows().set_index("image")
    movie, one, all_ = (rows.loc[name] for name in ("movie.tif", "a.tif", "all"))
    for name in ("n_atoms_expected", "support_nm2"):
        assert all_[name] == pytest.approx(movie[name] / 4 + one[name])
    for name in ("n_atoms", "n_off_support", "groups"):
        assert all_[name] == pytest.approx(movie[name] / 4 + one[name], abs=0.5)
    assert all_["density_per_nm2"] == pytest.approx(all_["n_atoms_expected"] / all_["support_nm2"])
    assert movie["density_per_nm2"] == pytest.approx(
        movie["n_atoms_expected"] / movie["support_nm2"]
    )
    atoms, groups = (movie[name] / 4 + one[name] for name in ("n_atoms", "groups"))
    assert all_["group_size_mean"] == pytest.approx(atoms / groups)
    low, high = (all_[f"density_of_field_{end}_per_nm2"] for end in ("low", "high"))
    assert low <= all_["n_atoms_expected"] / all_["support_nm2"] <= high


def test_random_atoms_in_unequal_frames_are_random():
    """Their mean distance is compared with that of as many random atoms in each frame."""
    rng, mask = np.random.default_rng(1), np.ones((70, 70), bool)
    frames = [
        dispersion(rng.uniform(0, 13.9, (n, 2)), mask, 0.2, simulations=99, seed=i)
        for i, n in enumerate([5] * 6 + [80] * 2)
    ]
    found = pool_frames(frames)
    assert 0.85 < found.randomness.clark_evans < 1.15
    assert found.randomness.clark_evans_p > 0.05 and found.row()["ripley_l_p"] > 0.05
    grid = np.stack(np.meshgrid(np.arange(1, 14, 1.5), np.arange(1, 14, 1.5)), -1).reshape(-1, 2)
    evenly = [dispersion(grid, mask, 0.2, simulations=99, seed=i) for i in (8, 9)]
    assert pool_frames([*frames[:2], *evenly]).randomness.clark_evans_p <= 0.05


def _width(curve: pd.DataFrame) -> float:
    return float((curve["high"] - curve["low"])[curve["r_nm"] > 0.5].mean())


def test_random_patterns_of_images_are_not_the_same_ones():
    """Of eight images with as many atoms, the pooled envelope is √8 times as narrow."""
    images = {name: atoms_of(name, n=40, seed=i) for i, name in enumerate("abcdefgh")}
    found = compute_dispersions(images, DispersionSettings(simulations=99))
    of_one = np.mean([_width(s.dispersion.curves["L"]) for s in found.of.values()])
    assert _width(found.dispersion.curves["L"]) < 0.5 * of_one
    simulated = [s.dispersion.randomness.simulated_mean_nm.std() for s in found.of.values()]
    assert found.dispersion.randomness.simulated_mean_nm.std() < 0.5 * np.mean(simulated)
    again = compute_image_dispersion(images["c"], DispersionSettings(simulations=99)).dispersion
    assert again.row() == found.of["c"].dispersion.row()


def test_a_frame_without_contrast_counts_in_no_density():
    flat = atoms_of("b")
    flat = replace(flat, analysis=replace(flat.analysis, parameters={FLAT: [0]}))
    found = compute_dispersions({"a": atoms_of("a"), "b": flat}, SETTINGS)
    assert "no contrast" in found.reasons["b"]
    assert found.dispersion.area_nm2 == pytest.approx(48)
    stack = atoms_of("c", frames=2)
    stack = replace(stack, analysis=replace(stack.analysis, parameters={FLAT: [1]}))
    half = compute_image_dispersion(stack, SETTINGS)
    assert half.dispersion.area_nm2 == pytest.approx(48) and "1 of 2 frames" in half.reason


def test_where_all_is_marked_by_hand_the_support_is_found_in_the_image():
    rng = np.random.default_rng(0)
    pixels = (100 + 10 * rng.standard_normal((80, 80))).astype(np.float32)
    micrograph = Micrograph(pixels, pixel_size_nm=PX, name="a")
    marks = {i: Mark(10 + 7 * i, 40.0) for i in range(1, 6)}
    by_hand = ImageAtoms("a", PX, marks=marks)
    found = compute_image_dispersion(by_hand, SETTINGS, micrograph).dispersion
    assert found is not None
    assert found.area_nm2 == pytest.approx(64)
    assert found.n_expected == 5 and found.density_of_field.low == found.density_of_field.high
    assert compute_image_dispersion(by_hand, SETTINGS).dispersion is None


def test_only_what_has_changed_is_found_again(monkeypatch):
    asked = []
    real = module.compute_image_dispersion

    def noted(atoms, *args, **options):
        asked.append(atoms.image)
        return real(atoms, *args, **options)

    monkeypatch.setattr(module, "compute_image_dispersion", noted)
    images = {name: atoms_of(name, seed=i) for i, name in enumerate("abc")}
    known: dict = {}
    first = compute_dispersions(images, SETTINGS, known=known)
    images["b"] = images["b"].with_marks({1: Mark(50, 50, present=False)})
    second = compute_dispersions(images, SETTINGS, known=known)
    assert asked == ["a", "b", "c", "b"]
    assert second.of["a"] is first.of["a"] and second.of["b"] is not first.of["b"]
    compute_dispersions(images, replace(SETTINGS, seed=1), known=known)
    assert asked[4:] == ["a", "b", "c"]


def test_rows_are_those_of_each_image_and_of_all():
    nothing = atoms_of("c")
    nothing = replace(
        nothing, support_removed=(np.array([[-1, -1], [-1, 99], [99, 99], [99, -1]]),)
    )
    images = {"a": atoms_of("a"), "b": atoms_of("b", seed=1), "c": nothing}
    found = compute_dispersions(images, SETTINGS)
    rows = found.rows().set_index("image")
    assert list(rows.index) == ["a", "b", "c", "all"]
    assert rows.loc["c", "n_atoms"] == 15 and np.isnan(rows.loc["c", "density_per_nm2"])
    assert found.reasons.keys() == {"c"}
    of_two = rows["n_atoms_expected"][["a", "b"]].sum()
    assert rows.loc["all", "n_atoms_expected"] == pytest.approx(of_two)
    assert set(found.table["image"]) == {"a", "b"}
    assert compute_dispersions({"c": nothing}, SETTINGS).dispersion is None


def test_atoms_linked_at_different_distances_are_not_pooled():
    images = {"a": atoms_of("a"), "b": atoms_of("b", group_distance_nm=0.5)}
    with pytest.raises(AtomicityError, match="different distances"):
        compute_dispersions(images, SETTINGS)


def test_it_stops_and_keeps_what_was_found():
    images, known = {"a": atoms_of("a"), "b": atoms_of("b", seed=1)}, {}
    with pytest.raises(Cancelled):
        compute_dispersions(images, SETTINGS, known=known, stop=lambda: "a" in known)
    assert known.keys() == {"a"}


def test_the_curves_go_as_far_as_they_are_told():
    near, usual = (
        compute_image_dispersion(atoms_of(), replace(SETTINGS, largest_nm=r)).dispersion
        for r in (0.8, None)
    )
    assert near is not None and usual is not None
    assert near.curves["L"]["r_nm"].iloc[-1] == pytest.approx(0.8)
    assert usual.curves["L"]["r_nm"].iloc[-1] > 1
    far = compute_image_dispersion(atoms_of(), replace(SETTINGS, largest_nm=99.0)).dispersion
    assert far is not None
    assert far.curves["g"]["r_nm"].iloc[-1] == pytest.approx(3.0)  # half of 6 nm


@pytest.mark.parametrize("level", [0, 1, 1.5, float("nan")])
def test_an_interval_needs_a_level_below_one(level):
    with pytest.raises(AtomicityError, match="level"):
        DispersionSettings(level=level)
