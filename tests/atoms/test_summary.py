"""Figures of what was found in an image, and species that marks have too."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from napari_atomicity.atoms.analysis import AtomAnalysis
from napari_atomicity.atoms.dispersion import DispersionSettings, compute_image_dispersion
from napari_atomicity.atoms.marks import ImageAtoms, Mark
from napari_atomicity.atoms.species import Species
from napari_atomicity.atoms.summary import summary
from napari_atomicity.atoms.table import conform, empty_table
from napari_atomicity.core.micrograph import Micrograph

PIXEL_NM = 0.05


def candidates(points_px, confidence=0.9, intensity=1.0, frame=0) -> pd.DataFrame:
    points = np.asarray(points_px, float)
    return conform(
        pd.DataFrame(
            {
                "image": "field",
                "atom_id": np.arange(1, len(points) + 1),
                "frame": frame,
                "y_px": points[:, 0],
                "x_px": points[:, 1],
                "y_nm": points[:, 0] * PIXEL_NM,
                "x_nm": points[:, 1] * PIXEL_NM,
                "confidence": confidence,
                "intensity": intensity,
                "origin": "model",
            }
        )
    )


def image_atoms(table, support=None, marks=None, frames=1) -> ImageAtoms:
    shape = (40, 60) if frames == 1 else (frames, 40, 60)
    support = np.ones(shape, bool) if support is None else support
    micrograph = Micrograph(np.zeros(shape, np.float32), PIXEL_NM, name="field")
    analysis = AtomAnalysis(micrograph, table, 0.5, support, PIXEL_NM, "m")
    return ImageAtoms("field", PIXEL_NM, analysis, marks or {})


def test_figures_of_isolated_atoms_a_dimer_and_one_in_the_vacuum():
    support = np.ones((40, 60), bool)
    support[:, 50:] = False
    points = [(10, 10), (10, 14), (30, 10), (30, 40), (5, 55)]
    atoms = image_atoms(candidates(points), support, {9: Mark(20, 30, True, True)})
    found = summary(atoms)
    assert (found.n_atoms, found.n_by_person, found.n_uncertain) == (6, 1, 1)
    assert found.area_nm2 == pytest.approx(40 * 50 * PIXEL_NM**2)
    assert found.n_off_support == 1
    assert found.counted_density_per_nm2 == pytest.approx(5 / 5.0)
    # The density of `dispersion` is that of the same candidates and the same support.
    statistics = compute_image_dispersion(atoms, DispersionSettings(simulations=1)).dispersion
    assert found.density_per_nm2 == pytest.approx(statistics.density.value)
    assert found.density_per_nm2 != pytest.approx(found.counted_density_per_nm2)
    assert found.kinds.set_index("kind")["atoms"].to_dict() == {
        "isolated": 3, "dimer": 2, "multimer": 0, "cluster": 0,
    }  # fmt: skip
    assert found.sizes[["size", "groups"]].to_numpy().tolist() == [[1, 3], [2, 1]]
    apart = [4, 4, 20, np.hypot(10, 10), np.hypot(10, 10)]
    assert found.nearest_nm == pytest.approx(np.median(apart) * PIXEL_NM)


def test_what_is_off_the_support_is_in_no_group():
    support = np.ones((40, 60), bool)
    support[:, 50:] = False
    found = summary(image_atoms(candidates([(10, 48), (10, 52), (30, 52), (30, 54)]), support))
    assert (found.n_atoms, found.n_off_support) == (4, 3)
    assert found.kinds["atoms"].tolist() == [1, 0, 0, 0] and np.isnan(found.nearest_nm)


def test_frames_of_a_stack_are_added_up_and_never_grouped():
    here = candidates([(10, 10)], frame=0)
    there = candidates([(10, 10)], frame=1).assign(atom_id=2)
    support = np.ones((2, 40, 60), bool)
    support[1, :, 30:] = False
    found = summary(image_atoms(pd.concat([here, there], ignore_index=True), support, frames=2))
    assert found.area_nm2 == pytest.approx(1.5 * 40 * 60 * PIXEL_NM**2) and found.n_frames == 2
    assert found.kinds["groups"].tolist() == [2, 0, 0, 0]
    assert np.isnan(found.nearest_nm)


def test_without_support_there_is_no_density():
    found = summary(ImageAtoms("field", PIXEL_NM, None, {1: Mark(3, 3)}))
    assert found.n_atoms == 1 and np.isnan(found.density_per_nm2)
    none = summary(image_atoms(empty_table(), np.zeros((40, 60), bool)))
    assert none.n_atoms == 0 and np.isnan(none.density_per_nm2)


def test_marks_are_of_a_species_too_and_a_threshold_keeps_it():
    two = Species(np.log([1.0, 4.0]), np.array([0.1, 0.1]), np.array([0.5, 0.5]), 40, {"normal": 1})
    table = candidates([(10, 10), (30, 30)], [0.9, 0.6], [1.0, 4.1])
    marks = {9: Mark(20, 50, intensity=3.9), 10: Mark(5, 5)}
    atoms = image_atoms(table, marks=marks).with_species(two)
    assert atoms.table["species"].tolist() == ["1", "2", "2", ""]
    assert atoms.analysis.candidates["species"].tolist() == ["1", "2"]
    assert atoms.with_threshold(0.7).table["species"].tolist() == ["1", "2", ""]
    assert atoms.species.intensity_ratios == pytest.approx(two.intensity_ratios)
    assert (atoms.with_species(None).table["species"] == "").all()


def test_atoms_that_a_person_adds_in_the_vacuum_change_no_density():
    """They are no evidence that the model misses atoms on the support, either."""
    support = np.ones((40, 60), bool)
    support[:, 50:] = False
    atoms = image_atoms(candidates([(10, 10), (30, 10)], confidence=0.6), support)
    more = atoms.with_marks({9: Mark(20, 55), 10: Mark(30, 56)})
    assert summary(more).n_expected == pytest.approx(summary(atoms).n_expected)
    assert summary(more).n_off_support == 2


def test_what_lies_beside_the_image_lies_off_its_support_too():
    marks = {8: Mark(39.49, 59.49), 9: Mark(39.6, 20.0), 10: Mark(5.0, -3.0)}
    found = summary(image_atoms(candidates([(10, 10)]), marks=marks))
    assert (found.n_atoms, found.n_off_support) == (4, 2)
    # The edge itself is what the nearest pixel is, also after rounding in nm.
    edge = {8: Mark(39.5, 20.0), 9: Mark(-0.5, 20.0), 10: Mark(5.0, 59.5), 11: Mark(5.0, -0.5)}
    for size in (0.0278, 0.03, 0.0293):
        atoms = replace(image_atoms(candidates([(10, 10)]), marks=edge), pixel_size_nm=size)
        assert summary(atoms).n_off_support == 0
    support = np.ones((40, 60), bool)
    support[-1] = False
    assert summary(image_atoms(candidates([(10, 10)]), support, marks=edge)).n_off_support == 1
    table = candidates([(10, 10), (10, 10)]).assign(frame=[0, 1])
    nowhere = np.stack([np.ones((40, 60), bool), np.zeros((40, 60), bool)])
    assert summary(image_atoms(table, nowhere, frames=2)).n_off_support == 1
