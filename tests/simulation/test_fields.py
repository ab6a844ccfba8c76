"""Fields: the truth is where the clusters are, and the seed decides everything."""

import errno
import json
import re
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import HealthCheck, given, settings, strategies as st

from napari_atomicity import load
from napari_atomicity.core.errors import AtomicityError, ReadError
from napari_atomicity.core.tables.cluster_table import AGGREGATE, columns, validate
from napari_atomicity.simulation import (
    deposits,
    field_settings,
    fields,
    metals,
    recipes,
    starting_structures,
    structures,
)
from napari_atomicity.simulation.field_settings import (
    FieldSettings,
    random_atom_settings,
    random_outlier_settings,
    random_settings,
)
from napari_atomicity.simulation.fields import simulate_field
from napari_atomicity.simulation.imaging import Microscope
from tampering import tampered

SMALL = FieldSettings(
    shape_px=(300, 300),
    mixture={"Pt19": 1.0, "Pt70": 1.0},
    clusters_per_nm2=0.06,
    lone_atoms_per_nm2=0.05,
)


def test_truth_is_a_cluster_table(library):
    made = simulate_field(library, SMALL, 1)
    validate(made.truth)
    assert set(columns()) <= set(made.truth.columns)
    assert set(made.truth["label"]) <= {"Pt19", "Pt70"}
    assert len(made.truth) >= 3


def test_the_seed_decides(library):
    one, same, other = (simulate_field(library, SMALL, s) for s in (5, 5, 6))
    np.testing.assert_array_equal(one.micrograph.data, same.micrograph.data)
    pd.testing.assert_frame_equal(one.truth, same.truth)
    assert (one.micrograph.data != other.micrograph.data).any()


def test_clusters_are_where_the_truth_says(library):
    quiet = replace(SMALL, lone_atoms_per_nm2=0.0, touching=0.0, microscope=Microscope(lag=0.0))
    drifting = replace(quiet, scan=replace(quiet.scan, drift_px_per_row=(0.01, 0.02)))
    for conditions in (quiet, drifting):
        made = simulate_field(library, conditions, 2)
        inner = made.truth[~made.truth["touches_border"]]
        data = made.micrograph.data
        for y, x in inner[["y_px", "x_px"]].round().astype(int).to_numpy():
            window = data[y - 12 : y + 13, x - 12 : x + 13] - np.median(data)
            yy, xx = np.mgrid[-12:13, -12:13]
            weight = np.clip(window - 0.3 * window.max(), 0, None)
            centre = np.array([(weight * yy).sum(), (weight * xx).sum()]) / weight.sum()
            assert np.abs(centre).max() < 3.5  # 0.14 nm
    assert len(inner) >= 3


def test_intensity_goes_with_the_number_of_atoms(library):
    quiet = replace(
        SMALL, intensity_scatter=0.0, channelling=0.0, lone_atoms_per_nm2=0.0, touching=0.0,
        shape_px=(500, 500), clusters_per_nm2=0.03,
    )  # fmt: skip
    from napari_atomicity.detection import detect
    from napari_atomicity.training.data import match

    made = simulate_field(library, quiet, 4)
    table = detect(made.micrograph).table
    rows, truths = match(table, made.truth, 0.04)
    whole = ~table["touches_border"].to_numpy()[rows]
    per_atom = (
        table["integrated_intensity"].to_numpy()[rows] / made.truth["n_atoms"].to_numpy()[truths]
    )[whole]
    assert len(per_atom) >= 4
    assert per_atom.std() / per_atom.mean() < 0.06


def test_vacuum_holds_no_clusters(library):
    made = simulate_field(library, replace(SMALL, step=-1.0, shape_px=(400, 400)), 9)
    data = made.micrograph.data
    for y, x in made.truth[["y_px", "x_px"]].round().astype(int).clip(0, 399).to_numpy():
        assert data[max(0, y - 3) : y + 4, max(0, x - 3) : x + 4].mean() > np.median(data)


def test_conditions_are_drawn_widely_and_reproducibly():
    drawn = [random_settings(("Pt19", "Pt70"), np.random.default_rng(i)) for i in range(60)]
    assert drawn[3] == random_settings(("Pt19", "Pt70"), np.random.default_rng(3))
    doses = [d.microscope.dose_e_per_a2 for d in drawn]
    assert max(doses) / min(doses) > 8
    for d in drawn:
        assert sum(d.mixture.values()) == pytest.approx(1)


def test_fields_of_atoms_hold_no_clusters():
    settings = random_atom_settings(("Pt19",), np.random.default_rng(1))
    made = simulate_field([], replace(settings, shape_px=(200, 200)), 1)
    assert len(made.truth) == 0
    without = replace(settings, shape_px=(200, 200), lone_atoms_per_nm2=0, loose_groups_per_nm2=0)
    assert made.micrograph.data.max() > simulate_field([], without, 1).micrograph.data.max()


# ---- aggregates


@given(st.integers(0, 200))
@settings(max_examples=25, deadline=None)
def test_a_second_cluster_rests_on_the_first(library, seed):
    rng = np.random.default_rng(seed)
    first, second = library[rng.integers(4)].positions_nm, library[rng.integers(4)].positions_nm
    both = deposits.stack_clusters(first, second, rng)
    one, other = both[: len(first)], both[len(first) :]
    apart = np.linalg.norm(one[:, None] - other[None], axis=2)
    assert 0.25 < apart.min() < 0.45
    np.testing.assert_allclose(one - one.mean(0), first - first.mean(0), atol=1e-5)
    np.testing.assert_allclose(both.mean(0), 0, atol=1e-5)
    assert np.linalg.norm(one[:, None, :2] - other[None, :, :2], axis=2).min() < 0.27
    union = deposits.projected_diameter_nm(both)
    assert union > max(deposits.projected_diameter_nm(p) for p in (first, second))


def test_aggregates_are_one_row_with_all_their_atoms(library):
    made = simulate_field(library, replace(SMALL, aggregates=1.0, touching=0.0), 3)
    assert len(made.truth) >= 3
    assert set(made.truth["label"]) == {AGGREGATE}
    sizes = made.truth["parts"].map(lambda p: sum(int(c[2:]) for c in p.split("+")))
    np.testing.assert_array_equal(made.truth["n_atoms"], sizes)
    some = simulate_field(library, replace(SMALL, aggregates=0.5, shape_px=(600, 600)), 3).truth
    whole = some[some["label"] != AGGREGATE]
    assert 0 < len(whole) < len(some)
    np.testing.assert_array_equal(whole["parts"], whole["label"])


def test_aggregates_leave_fields_without_them_as_they_were(library):
    without = simulate_field(library, SMALL, 11)
    never = simulate_field(library, replace(SMALL, aggregates=1e-12), 11)
    np.testing.assert_array_equal(without.micrograph.data, never.micrograph.data)
    pd.testing.assert_frame_equal(without.truth, never.truth)


def test_outlier_fields_hold_aggregates_under_the_same_conditions():
    one = random_outlier_settings(("Pt19", "Pt70"), np.random.default_rng(2))
    assert 0.3 <= one.aggregates <= 0.7
    plain = random_settings(("Pt19", "Pt70"), np.random.default_rng(2))
    assert replace(one, aggregates=0.0) == plain


# ---- support


def test_waves_are_the_zoomed_knots():
    from scipy import ndimage

    waves = fields.smooth_noise((120, 90), 0.04, 1.0, np.random.default_rng(3))
    knots = np.random.default_rng(3).normal(size=(7, 6)).astype(np.float32)
    zoomed = ndimage.zoom(knots, (120 / 7, 90 / 6), order=3)
    np.testing.assert_allclose(waves, zoomed, atol=1e-6)


def test_contamination_covers_its_share_with_smooth_carbon(library):
    dirty = replace(SMALL, contamination=0.3, contamination_nm=2.0, roughness=0.0)
    clean = np.full(SMALL.shape_px, 3.0, np.float32)
    clean[:40] = 0  # vacuum
    extra = fields.add_contamination(clean, dirty, np.random.default_rng(0)) - clean
    assert (extra[40:] > 0).mean() == pytest.approx(0.3, abs=0.01)
    assert extra.max() == pytest.approx(2.0, abs=0.01)
    assert np.abs(np.diff(extra[40:], axis=0)).max() < 0.4  # no step
    assert (extra[:40] == 0).all()
    without, with_it = (simulate_field(library, s, 5) for s in (SMALL, dirty))
    assert with_it.micrograph.data.mean() > without.micrograph.data.mean()
    np.testing.assert_array_equal(without.truth["label"], with_it.truth["label"])


def test_demanding_conditions_only_add_to_the_usual_ones():
    one = field_settings.demanding_settings(("Pt19", "Pt70"), np.random.default_rng(4))
    plain = random_settings(("Pt19", "Pt70"), np.random.default_rng(4))
    usual = {"aggregates": 0.0, "contamination": 0.0, "contamination_nm": 2.0}
    dry = replace(one.microscope, afterglow=0.0, afterglow_px=100.0)
    assert replace(one, microscope=dry, **usual) == plain


def test_another_device_forms_the_same_image(library):
    bright = replace(SMALL, microscope=Microscope(dose_e_per_a2=1e6, gain=0.01))
    here, there = (simulate_field(library, bright, 1, device=d).micrograph.data
                   for d in ("cpu", "cpu:0"))  # fmt: skip
    difference = np.abs(there - here)
    assert difference.max() <= 0.05 * here.max()  # a pixel's count by chance
    assert difference.mean() < 0.02 * here.std()


# ---- classes


@pytest.mark.parametrize(
    ("label", "atoms_of"),
    [("Pt55", {"Pt": 55}), ("Au24Pd1", {"Au": 24, "Pd": 1}), ("W7", {"W": 7})],
)
def test_a_class_names_its_atoms(label, atoms_of):
    assert metals.composition(label) == atoms_of
    assert metals.size_of(label) == sum(atoms_of.values())


@pytest.mark.parametrize("label", ["19", "Xx30", "Pt", "", "Pt0", "Pt5Pt6", "Pt19 ", "PtNi"])
def test_a_class_that_names_no_cluster_is_refused(label):
    with pytest.raises(AtomicityError, match="Pt55"):
        metals.size_of(label)


def test_a_class_without_isomers_is_refused(library):
    with pytest.raises(AtomicityError, match="Pt30"):
        simulate_field(library, replace(SMALL, mixture={"Pt30": 1.0}), 0)


def test_written_fields_can_be_read_and_made_again(tmp_path):
    pytest.importorskip("ase", reason="the extra 'simulation' is not installed")
    changes = {"shape_px": (200, 200), "pixel_size_nm": 0.05, "microscope": {"gain": 2.0}}
    recipe = recipes.draw_recipe(2, ("Pt19",), 3, 1, changes)
    truth = pd.read_csv(recipes.write_recipe(tmp_path / "a", recipe))
    recipes.write_recipe(tmp_path / "b", recipe)
    image = load(tmp_path / "a" / "field_0001.tif")
    assert image.pixel_size_nm == pytest.approx(0.05)
    np.testing.assert_array_equal(image.data, load(tmp_path / "b" / "field_0001.tif").data)
    assert set(truth["label"]) <= {"Pt19"}
    described = json.loads((tmp_path / "a" / "settings.json").read_text())
    assert described["fields"]["field_0000.tif"]["microscope"]["gain"] == 2.0


def test_fields_are_made_again_from_their_settings(tmp_path):
    pytest.importorskip("ase", reason="the extra 'simulation' is not installed")
    changes = {
        "shape_px": (160, 150), "pixel_size_nm": 0.05, "aggregates": 0.5, "contamination": 0.2,
        "clusters_per_nm2": 0.1, "microscope": {"afterglow": 0.1},
    }  # fmt: skip
    drawn = recipes.draw_recipe(
        2, ("Au9", "Au10Pd3"), 3, 2, changes, field_settings.demanding_settings
    )
    recipes.write_recipe(tmp_path / "a", drawn)
    recipes.write_recipe(tmp_path / "b", recipes.read_recipe(tmp_path / "a" / "settings.json"))
    written = sorted(p.name for p in (tmp_path / "a").iterdir())
    assert written == ["field_0000.tif", "field_0001.tif", "settings.json", "truth.csv"]
    for name in written:
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes()
    assert set(pd.read_csv(tmp_path / "a" / "truth.csv")["label"]) <= {"Au9", "Au10Pd3", AGGREGATE}


def recipe_file(folder, content):
    path = folder / "settings.json"
    path.write_text(content if isinstance(content, str) else json.dumps(content))
    return path


def test_settings_written_by_hand_need_only_say_what_is_special(tmp_path):
    one = {"mixture": {"Pt9": 1}, "scan": {"drift_px_per_row": [0, 0.1]}, "shape_px": [80, 90]}
    recipe = recipes.read_recipe(
        recipe_file(tmp_path, {"classes": ["Pt9"], "fields": {"a.tif": one}})
    )
    seed, made = recipe.fields["a.tif"]
    assert (seed, recipe.seed, recipe.isomers_per_class) == (0, 0, 20)
    expected = FieldSettings(shape_px=(80, 90), mixture={"Pt9": 1})
    assert made == replace(expected, scan=replace(expected.scan, drift_px_per_row=(0, 0.1)))


@pytest.mark.parametrize(
    "wrong",
    [
        "no JSON",
        "[]",
        {"classes": ["Pt9"]},
        {"classes": ["Xx9"], "fields": {}},
        {"classes": ["Pt9"], "fields": {"../a.tif": {}}},
        {"classes": ["Pt9"], "fields": {"a.exe": {}}},
        {"classes": ["Pt9"], "fields": {"a.tif": {"colour": 1}}},
        {"classes": ["Pt9"], "fields": {"a.tif": {"carbon_nm": "thick"}}},
        {"classes": ["Pt9"], "fields": {"a.tif": {"microscope": {"gain": None}}}},
        {"classes": ["Pt9"], "fields": {"a.tif": {"scan": {"drift_px_per_row": 1}}}},
        {"classes": ["Pt9"], "fields": {"a.tif": {"microscope": {"gain": float("inf")}}}},
        {"classes": ["Pt9"], "fields": {"a.tif": {"microscope": 3}}},
        {"classes": ["Pt9"], "fields": {"a.tif": {"pixel_size_nm": 0}}},
        {"classes": ["Pt9"], "fields": {"a.tif": {"pixel_size_nm": 10**400}}},
        {"classes": ["Pt9"], "fields": {"a.tif": {"shape_px": [0, 10]}}},
        {"classes": ["Pt9"], "fields": {"a.tif": {"shape_px": [10**6, 10**6]}}},
        {"classes": ["Pt9"], "fields": {"a.tif": {"shape_px": ["80", "80"]}}},
        {"classes": ["Pt9"], "fields": {"a.tif": {"mixture": {"Pt19": 1}}}},
        {"classes": ["Pt9"], "fields": {"a.tif": {"mixture": {"Pt9": -1}}}},
        {"classes": ["Pt9"], "fields": {"a.tif": {"element": "Xx"}}},
        {"classes": ["Pt9"], "fields": {"a.tif": {"seed": -1}}},
        {"classes": ["Pt9"], "fields": {"a.tif": {"seed": "x"}}},
        {"classes": ["Pt9"], "fields": {"a.tif": []}},
        {"classes": ["Pt9"], "fields": {}, "isomers_per_class": 0},
        {"classes": ["Pt9"], "fields": {}, "seed": 1.5},
        {"classes": "Pt9", "fields": {}},
        '{"classes": ["Pt9"], "fields": {"a.tif": ' + "[" * 100_000,
    ],
    ids=lambda wrong: str(wrong)[:80],
)
def test_a_file_that_holds_no_settings_is_refused(tmp_path, wrong):
    with pytest.raises(ReadError, match=r"settings\.json"):
        recipes.read_recipe(recipe_file(tmp_path, wrong))


@settings(
    max_examples=150,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(st.data())
def test_any_change_of_settings_gives_settings_or_an_error(tmp_path, data):
    drawn = recipes.draw_recipe(1, ("Pt9", "Au10Pd3"))
    fields = {name: {"seed": seed, **asdict(one)} for name, (seed, one) in drawn.fields.items()}
    whole = {"classes": drawn.classes, "seed": 0, "isomers_per_class": 2, "fields": fields}
    path = tmp_path / "settings.json"
    path.write_bytes(data.draw(tampered(json.loads(json.dumps(whole)))))
    try:
        recipes.read_recipe(path)
    except AtomicityError as error:
        assert error.path == path


@pytest.mark.parametrize("wrong", [{"colour": 1}, {"microscope": {"colour": 1}}])
def test_unknown_settings_are_refused(wrong):
    with pytest.raises(AtomicityError):
        field_settings.override(FieldSettings(), wrong)


# ---- structures


@pytest.mark.parametrize("kind", list(starting_structures.KINDS))
def test_isomers_have_their_atoms_at_bond_length(kind):
    pytest.importorskip("ase", reason="the extra 'simulation' is not installed")
    isomer = structures.make_isomer("Pt", 19, kind, seed=1)
    p = isomer.positions_nm
    apart = np.linalg.norm(p[:, None] - p[None], axis=2) + 9 * np.eye(19)
    assert p.shape == (19, 3)
    assert apart.min() > 0.22
    assert apart.min(axis=1).max() < 0.30  # nobody is alone
    again = structures.make_isomer("Pt", 19, kind, seed=1)
    np.testing.assert_array_equal(p, again.positions_nm)


def test_libraries_survive_the_disk(tmp_path, library):
    structures.save_library(tmp_path / "l.npz", library)
    back = structures.load_library(tmp_path / "l.npz")
    assert [(i.n, i.kind, i.element) for i in back] == [(i.n, i.kind, i.element) for i in library]
    np.testing.assert_array_equal(back[2].positions_nm, library[2].positions_nm)
    for content in (b"no", b""):
        (tmp_path / "broken.npz").write_bytes(content)
        with pytest.raises(ReadError, match=r"broken\.npz"):
            structures.load_library(tmp_path / "broken.npz")


def test_no_part_of_a_library_is_left(tmp_path, library, monkeypatch):
    def fill_the_disk(path, **arrays):
        Path(path).write_bytes(b"a part")
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(np, "savez_compressed", fill_the_disk)
    with pytest.raises(AtomicityError, match=r"l\.npz: could not be written \(No space"):
        structures.save_library(tmp_path / "l.npz", library)
    assert not list(tmp_path.iterdir())


def test_metals_without_potential_are_refused():
    with pytest.raises(AtomicityError, match="potential for Hg"):
        structures.make_isomer("Hg", 19, "fcc", 0)


@pytest.mark.parametrize("label", ["Au12Pd7", "Pt10Co9", "Ir19", "W19"])
def test_other_metals_and_alloys_keep_their_bonds(label):
    pytest.importorskip("ase", reason="the extra 'simulation' is not installed")
    atoms_of = metals.composition(label)
    isomer = structures.make_alloy(atoms_of, "compact", seed=1)
    assert (isomer.label, isomer.composition) == (label, atoms_of)
    p = isomer.positions_nm
    apart = np.linalg.norm(p[:, None] - p[None], axis=2) + 9 * np.eye(19)
    bonds = [metals.nearest_neighbour_nm(e) for e in atoms_of]
    assert apart.min() > 0.88 * min(bonds)
    assert apart.min(axis=1).max() < 1.05 * max(bonds)
    again = structures.make_alloy(atoms_of, "compact", seed=1)
    np.testing.assert_array_equal(p, again.positions_nm)
    assert (isomer.symbols is None) == (len(atoms_of) == 1)


def test_metals_of_an_alloy_lie_in_random_order():
    pytest.importorskip("ase", reason="the extra 'simulation' is not installed")
    one, other = (structures.make_alloy({"Au": 10, "Pd": 9}, "fcc", s).symbols for s in (1, 2))
    assert one.tolist() != sorted(one) and one.tolist() != other.tolist()


def test_forces_between_pairs_are_the_slope_of_their_energy():
    pytest.importorskip("ase", reason="the extra 'simulation' is not installed")
    from ase import Atoms

    symbols = np.array(["Ir", "Fe", "Pt", "W"] * 2)
    atoms = Atoms(list(symbols), positions=np.random.default_rng(0).uniform(0, 5, (8, 3)))
    pairs = structures.MorsePotential(symbols)
    force, step = pairs.get_forces(atoms), 1e-5
    energy = []
    for sign in (1, -1):
        moved = atoms.copy()
        moved.positions[3, 1] += sign * step
        energy.append(pairs.get_potential_energy(moved))
    assert force[3, 1] == pytest.approx(-(energy[0] - energy[1]) / (2 * step), rel=1e-5)
    np.testing.assert_allclose(force.sum(axis=0), 0, atol=1e-9)


def test_a_pair_rests_at_the_distance_of_the_metal():
    pytest.importorskip("ase", reason="the extra 'simulation' is not installed")
    from ase import Atoms

    bond = metals.nearest_neighbour_nm("W")
    assert bond == pytest.approx(0.274, abs=0.001)  # bcc
    assert metals.nearest_neighbour_nm("Co") == pytest.approx(0.250, abs=0.001)  # hcp
    pair = Atoms("W2", positions=[[0, 0, 0], [0, 0, bond * 10]])
    np.testing.assert_allclose(structures.MorsePotential(np.array(["W", "W"])).get_forces(pair), 0)


# ---- alloys in the image


def alloyed(isomer, metals, symbols):
    return replace(isomer, element=metals, symbols=np.array(symbols))


def test_alloys_survive_the_disk_and_old_files_can_be_read(tmp_path, library):
    mixed = [library[0], alloyed(library[1], "PtNi", ["Ni"] * 9 + ["Pt"] * 10)]
    structures.save_library(tmp_path / "l.npz", mixed)
    back = structures.load_library(tmp_path / "l.npz")
    assert [i.label for i in back] == ["Pt19", "Pt10Ni9"]
    assert back[0].symbols is None
    np.testing.assert_array_equal(back[1].symbols, mixed[1].symbols)
    with np.load(tmp_path / "l.npz") as stored:
        np.savez(tmp_path / "old.npz", **{k: stored[k] for k in stored if k != "symbols"})
    assert structures.load_library(tmp_path / "old.npz")[0].label == "Pt19"


def test_an_alloy_is_as_bright_as_its_atoms(library):
    from napari_atomicity.detection import detect

    isomers = [alloyed(library[2], "PtNi", ["Pt", "Ni"] * 35)]
    conditions = replace(
        SMALL, mixture={"Pt35Ni35": 1.0}, shape_px=(500, 500), lone_atoms_per_nm2=0.0,
        intensity_scatter=0.0, channelling=0.0, touching=0.0,
    )  # fmt: skip
    made = simulate_field(isomers, conditions, 1)
    assert set(made.truth["label"]) == {"Pt35Ni35"}
    table = detect(made.micrograph).table
    whole = table[~table["touches_border"]]
    expected = 70 * made.intensity_per_atom("Pt35Ni35")
    assert whole["integrated_intensity"].median() == pytest.approx(expected, rel=0.1)
    platinum = made.intensity_per_atom("Pt55")
    assert made.intensity_per_atom("Ni5") < 0.2 * platinum
    mean = (platinum + made.intensity_per_atom("Ni5")) / 2
    assert made.intensity_per_atom("Pt35Ni35") == pytest.approx(mean)


def test_lone_atoms_are_of_the_metal_of_the_classes():
    assert random_settings(("Au20", "Au55"), np.random.default_rng(0)).element == "Au"


# ---- the page


def test_the_page_lists_every_setting_with_its_default():
    page = (Path(__file__).parents[2] / "docs" / "explanation" / "simulation.md").read_text()
    said = dict(re.findall(r"^\| `(\w+)` \| (.+?) \| ", page, re.M))
    usual = FieldSettings()
    expected = {**vars(usual), **vars(usual.microscope), **vars(usual.scan), "mixture": "none"}
    del expected["microscope"], expected["scan"]

    def written(value):
        return ", ".join(map(str, value)) if isinstance(value, tuple) else str(value)

    headings = {"microscope": "default", "scan": "default"}
    assert said == headings | {k: written(v) for k, v in expected.items()}


def test_settings_shown_on_the_page_can_be_read(tmp_path):
    page = (Path(__file__).parents[2] / "docs" / "explanation" / "simulation.md").read_text()
    (shown,) = re.findall(r"^```json\n(.*?)^```", page, re.M | re.S)
    recipe = recipes.read_recipe(recipe_file(tmp_path, shown))
    assert recipe.fields["one.tif"][1].microscope.defocus_nm == 4


def test_a_stored_library_is_built_once(tmp_path, library, monkeypatch):
    built = []

    def build(element, sizes, per_size, seed, workers, progress):
        built.append((element, tuple(sizes), per_size, seed))
        return library

    monkeypatch.setattr(structures, "isomer_library", build)
    for _ in range(2):
        found = structures.read_or_build_library(tmp_path / "l.npz", [19, 70], 2, 5)
        assert [isomer.label for isomer in found] == [isomer.label for isomer in library]
    assert built == [("Pt", (19, 70), 2, 5)]
