"""The benchmark of sessions: its images have the right truth, its figures count what they say."""

import runpy
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from documented_files import quick_isomers
from napari_atomicity.simulation.sessions import KINDS
from napari_atomicity.validation import benchmark as written
from napari_atomicity.validation.benchmark import (
    WHOLE,
    BenchmarkSettings,
    crop_clusters,
    sessions_of,
    simulate_form,
    to_8_bit,
    write_benchmark,
)
from napari_atomicity.validation.request import BENCHMARK_SEED

DOCS = Path(__file__).parents[1] / "docs"


@pytest.fixture(scope="module")
def benchmark():
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(DOCS / "scripts"))
        return runpy.run_path(str(DOCS / "scripts" / "make_sessions.py"))


@pytest.fixture(scope="module")
def image(library):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(written, "CLASSES", ("Pt19", "Pt70"))
        return next(simulate_form(library, "two sizes", 3, WHOLE))


def test_crops_keep_the_truth_in_place(image):
    found = crop_clusters(image, np.random.default_rng(0))
    assert len(found) == 2
    whole = image.micrograph.data
    for crop in found:
        data, truth = crop.micrograph.data, crop.truth
        assert data.shape == (256, 256)
        inner = truth[~truth["border"]]
        assert len(inner) >= 1
        for index, (y, x) in inner[["y_px", "x_px"]].round().astype(int).iterrows():
            y0, x0 = image.truth.loc[index, ["y_px", "x_px"]].astype(float).round().astype(int)
            # both positions are rounded
            near = whole[y0 - 1 : y0 + 2, x0 - 1 : x0 + 2]
            assert data[y, x] in near


def test_8_bits_clip_both_ends(image):
    pixels = to_8_bit(image).micrograph.data
    assert (pixels == 0).mean() > 0.003
    assert 0.003 < (pixels == 255).mean() < 0.01


def test_the_sessions_are_those_of_the_published_benchmark(benchmark, tmp_path):
    """Every session of the folder is analysed, and no other."""
    jobs = benchmark["jobs"](2, tmp_path / "no data")
    planned = sessions_of(BenchmarkSettings(tuple(KINDS), 2))
    assert sorted((job.name, job.seed, job.form) for job in jobs) == sorted(planned)
    assert len(set(planned)) == len(planned) == 2 * 13
    assert [job.form for job in jobs[:6]] == [WHOLE] * 6


def test_a_session_of_the_benchmark_is_labelled_by_all_methods(benchmark, tmp_path):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(written, "isomer_library", quick_isomers)
        patch.setattr(written, "N_IMAGES", 2)
        patch.setitem(benchmark["answers"].__globals__, "BENCHMARK", tmp_path)
        write_benchmark(tmp_path, BenchmarkSettings(("few clusters",), 1))
        job = benchmark["Job"]("few clusters", BENCHMARK_SEED, WHOLE, tmp_path)
        clusters, ratios = benchmark["answers"](job)
    truth = pd.read_csv(tmp_path / "truth.csv")
    whole, classes = truth[truth["border"] == 0], [*benchmark["CLASSES"], "unknown", "aggregate"]
    for method in benchmark["METHODS"]:
        own = clusters[(clusters["method"] == method) & (clusters["variant"] == WHOLE)]
        assert 0 < len(own) <= len(whole) and set(own["n"]) <= set(whole["n_atoms"])
        assert own["mixture"].isin(classes).all() and own["network"].isin(classes).all()
    assert set(ratios["scope"]) == {"image", "sample", "session"}


def test_another_programs_samples_have_their_nominal_composition(benchmark):
    assert benchmark["nominal_composition"]("B_s41") == {"Pt41": 1.0}
    assert benchmark["nominal_composition"]("A_m3b") == {"Pt19": 0.5, "Pt41": 0.2, "Pt70": 0.3}


def test_scores(benchmark):
    clusters = pd.DataFrame(
        {
            "truth": ["Pt19", "Pt19", "Pt70", "Pt70"],
            "best": ["Pt19", "Pt19", "Pt70", "Pt55"],
            "mixture": ["Pt19", "Pt30", "Pt70", "Pt55"],
            "label": ["Pt19", "unknown", "Pt70", "Pt55"],
            "confidence": [0.99, 0.8, 0.95, 0.95],
        }
    )
    ratios = pd.DataFrame(
        {
            "scope": ["sample", "sample", "image", "image", "session"],
            "fraction": [0.2, 0.8, 0.2, 0.8, np.nan],
            "fraction_low": [0.1, 0.6, 0.1, 0.6, np.nan],
            "fraction_high": [0.3, 0.9, 0.3, 0.9, np.nan],
            "true": [0.2, 0.8, 0.4, 0.8, 0.5],
        }
    )
    found = benchmark["scores"](clusters, ratios)
    assert found.accuracy == 0.75 and found.mixture == 0.5
    assert np.isnan(found.network)  # answers of an earlier run do not contain it
    assert found.wrong == pytest.approx(1 / 3)
    assert found.labelled == 0.75
    assert found.r2 == 1
    assert found.of_images == 0.5
    assert np.isnan(found.of_sessions)
