"""Lone atoms between clusters tell the intensity of one atom."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from napari_atomicity.atoms.lone_atoms import measure_lone_atoms
from napari_atomicity.core.micrograph import Micrograph
from napari_atomicity.detection import DetectionSettings, detect
from napari_atomicity.pipeline.analysis import detect_clusters
from napari_atomicity.simulation.field_settings import FieldSettings
from napari_atomicity.simulation.fields import Field, simulate_field
from napari_atomicity.simulation.imaging import Microscope

SETTINGS = FieldSettings(
    shape_px=(500, 500),
    mixture={"Pt70": 1.0},
    lone_atoms_per_nm2=0.12,
    microscope=Microscope(dose_e_per_a2=8000.0),
)


def measure(field: Field | Micrograph):
    image = field if isinstance(field, Micrograph) else field.micrograph
    return measure_lone_atoms(image, detect(image).outlines, DetectionSettings())


@pytest.mark.parametrize("defocus_nm", [0.0, 5.0])
def test_the_intensity_of_lone_atoms_is_that_of_one_atom(library, defocus_nm):
    microscope = replace(SETTINGS.microscope, defocus_nm=defocus_nm)
    field = simulate_field(library, replace(SETTINGS, microscope=microscope), 1)
    atoms = measure(field)
    assert atoms.n_atoms >= 8
    assert atoms.intensity == pytest.approx(field.intensity_per_atom("Pt70"), rel=0.1)
    assert 0.0 < atoms.error < 0.1


def test_what_is_no_atom_is_not_measured(library):
    without = simulate_field(library, replace(SETTINGS, lone_atoms_per_nm2=0.0), 2).micrograph
    assert measure(without) is None
    hidden = replace(SETTINGS, microscope=replace(SETTINGS.microscope, dose_e_per_a2=400.0))
    assert measure(simulate_field(library, hidden, 2)) is None
    rng = np.random.default_rng(0)
    defects = without.data.copy()
    defects[tuple(rng.integers(0, 500, (2, 60)))] += 300
    assert measure(Micrograph(defects, without.pixel_size_nm, "defects.tif")) is None


def test_pairs_and_groups_do_not_count(library):
    field = simulate_field(library, replace(SETTINGS, loose_groups_per_nm2=0.02), 3)
    one = field.intensity_per_atom("Pt70")
    assert measure(field).intensity == pytest.approx(one, rel=0.15)


def test_images_without_room_for_atoms():
    for shape in ((8, 8), (40, 300)):
        image = Micrograph(np.random.default_rng(1).normal(100, 5, shape), 0.04, "small.tif")
        assert measure_lone_atoms(image, [], DetectionSettings()) is None


def test_lone_atoms_are_recorded_with_the_image(library):
    field = simulate_field(library, SETTINGS, 1)
    found = detect_clusters(field.micrograph).parameters["lone_atoms"]
    assert found["n_atoms"] == measure(field).n_atoms
    quiet = simulate_field(library, replace(SETTINGS, lone_atoms_per_nm2=0.0), 1)
    assert "lone_atoms" not in detect_clusters(quiet.micrograph).parameters
