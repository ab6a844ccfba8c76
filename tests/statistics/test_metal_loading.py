"""Metal loading: the formula, what its interval contains, and the molar masses."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from napari_atomicity.core.errors import SettingError
from napari_atomicity.pipeline.run_request import AtomRequest
from napari_atomicity.statistics.points.dispersion_intervals import Estimate
from napari_atomicity.statistics.points.loading_settings import (
    ATOMIC_WEIGHTS_G_MOL,
    LoadingSettings,
)
from napari_atomicity.statistics.points.metal_loading import (
    CORRECTED,
    NOT_CORRECTED,
    SCHEMA,
    surface_density,
    weight_percent,
    with_loading,
)

PT = LoadingSettings("Pt", 3.0)
SAMPLE = {
    "density_per_nm2": 0.5, "density_low_per_nm2": 0.4, "density_high_per_nm2": 0.6,
    "density_of_field_low_per_nm2": 0.45, "density_of_field_high_per_nm2": 0.55, "level": 0.95,
}  # fmt: skip
COMPLETE = {
    "density_complete_per_nm2": 0.8, "density_complete_low_per_nm2": 0.6,
    "density_complete_high_per_nm2": 1.0,
}  # fmt: skip


def test_molar_masses_are_those_of_another_library():
    data = pytest.importorskip("ase.data")
    for metal, mass in ATOMIC_WEIGHTS_G_MOL.items():
        known = data.atomic_masses[data.atomic_numbers[metal]]
        assert mass == pytest.approx(known, rel=2e-4), metal


def test_a_monolayer_of_platinum_weighs_what_it_should():
    # 1 atom per nm² of 195.08 u on 3 nm of 2 g/cm³: 3.239e-22 g beside 6e-21 g.
    assert weight_percent(Estimate(1, 1, 1), PT).value == pytest.approx(5.122, abs=1e-3)
    # Half as many atoms on half the thickness are the same.
    half = LoadingSettings("Pt", 1.5)
    assert weight_percent(Estimate(0.5), half).value == pytest.approx(5.122, abs=1e-3)


def test_the_uncertainty_of_the_support_widens_the_interval():
    density = Estimate(0.1, 0.08, 0.12)
    sure = weight_percent(density, PT)
    ratio = sure.value / (100 - sure.value)
    assert sure.low / (100 - sure.low) == pytest.approx(0.8 * ratio)
    unsure = weight_percent(density, LoadingSettings("Pt", 3.0, 2.0, 0.2))
    assert unsure.value == sure.value
    assert unsure.low < sure.low < sure.high < unsure.high
    drawn = np.random.default_rng(0)
    n = 100_000
    simulated = 0.1 * np.exp(drawn.normal(0, np.log(1.2) / 1.96, n) + drawn.normal(0, 0.2, n))
    assert unsure.high == pytest.approx(
        weight_percent(Estimate(np.quantile(simulated, 0.975)), PT).value, rel=0.02
    )
    narrow = weight_percent(density, LoadingSettings("Pt", 3.0, 2.0, 0.2), level=0.68)
    assert narrow.high < unsure.high


def test_no_atoms_have_an_upper_limit():
    none = weight_percent(Estimate(0.0, 0.0, 0.02), LoadingSettings("Fe", 3.0, 2.0, 0.1))
    assert none.value == none.low == 0 < none.high


def test_the_density_is_corrected_where_the_completeness_is_known():
    found, is_corrected = surface_density(SAMPLE)
    assert (found, is_corrected) == (Estimate(0.5, 0.4, 0.6), False)
    found, is_corrected = surface_density(SAMPLE | COMPLETE)
    assert found.value == 0.8 and is_corrected
    # Wider than the completeness alone, which concerns this field, and than the sample alone.
    assert found.low < 0.6 and found.high > 1.0
    assert found.high / found.value > 0.6 / 0.5
    chance = np.log(0.6 / 0.5) ** 2 - np.log(0.55 / 0.5) ** 2
    assert np.log(found.high / 0.8) ** 2 == pytest.approx(np.log(1.0 / 0.8) ** 2 + chance)


def test_ends_of_zero_stay_zero():
    zero = {"density_low_per_nm2": 0.0, "density_of_field_low_per_nm2": 0.0}
    found, _ = surface_density(SAMPLE | COMPLETE | zero)
    assert found.low == 0 and np.isfinite(found.high)
    assert weight_percent(found, PT).low == 0


def test_columns_of_rows():
    unknown = dict.fromkeys(SAMPLE, np.nan)
    rows = pd.DataFrame([SAMPLE | COMPLETE, SAMPLE, unknown], index=[3, 4, 5])
    out = with_loading(rows, PT)
    assert list(out.columns)[-len(SCHEMA) :] == [column.name for column in SCHEMA]
    assert out["loading_is"].tolist() == [CORRECTED, NOT_CORRECTED, ""]
    assert out["metal"].tolist() == ["Pt", "Pt", ""]
    assert out["loading_wt_percent"].notna().tolist() == [True, True, False]
    assert (out["loading_wt_percent_low"] < out["loading_wt_percent"])[:2].all()
    without = with_loading(rows, LoadingSettings())
    assert without["loading_per_nm2"].tolist()[:2] == [0.8, 0.5]
    assert without["loading_wt_percent"].isna().all() and not without["metal"].any()
    # no image has a density
    assert with_loading(pd.DataFrame({"image": ["a"]}), PT)["loading_per_nm2"].isna().all()


@pytest.mark.parametrize("wrong", [{"metal": "Xx"}, {"support_thickness_nm": 0.0}])
def test_impossible_settings_are_refused(wrong):
    with pytest.raises(SettingError):
        LoadingSettings(**wrong)


@pytest.mark.parametrize(
    "loading", [LoadingSettings("Pt"), LoadingSettings(support_thickness_nm=2.0)]
)
def test_a_run_requires_both_metal_and_thickness(loading):
    with pytest.raises(SettingError, match="both a metal and a thickness"):
        AtomRequest(loading=loading)
