"""Arguments that are not valid: an error that names the argument, before anything is done."""

import numpy as np
import pytest

from napari_atomicity import (
    AtomicityError,
    adapt,
    analyse,
    analyse_batch,
    analyse_movie,
    dispersion,
    find_atoms,
    train,
)
from napari_atomicity.core.progress import Cancelled

FUNCTIONS = {
    "analyse": (analyse, {}),
    "adapt": (adapt, {"out": "model"}),
    "analyse_batch": (analyse_batch, {"out": "results"}),
    "analyse_movie": (analyse_movie, {}),
    "find_atoms": (find_atoms, {}),
}


@pytest.fixture(autouse=True)
def empty_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


@pytest.mark.parametrize("name", FUNCTIONS)
@pytest.mark.parametrize("source", [None, 5, True, "", " ", {"a": 1}, b"x"])
def test_a_source_that_is_no_image_is_refused(name, source, tmp_path):
    function, others = FUNCTIONS[name]
    with pytest.raises((TypeError, ValueError), match=r"^source must be a path"):
        function(source, **others)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("argument", "value", "error"),
    [
        ("pixel_size_nm", "0,048", TypeError),
        ("pixel_size_nm", -1, ValueError),
        ("pixel_size_nm", float("nan"), ValueError),
        ("pixel_size_nm", True, TypeError),
        ("known", [5], TypeError),
        ("known", {"a.tif": "Pt55"}, TypeError),
        ("device", "gpu", ValueError),
        ("labels", "best", ValueError),
        ("umap", "yes", TypeError),
        ("average_frames", 0, ValueError),
        ("model", 5, TypeError),
        ("stop", True, TypeError),
        ("settings", 5, TypeError),
        ("settings", {"thresold": 5}, TypeError),
        ("settings", {"threshold": "5"}, TypeError),
        ("settings", {"threshold": -5}, ValueError),
    ],
)
def test_the_error_names_the_argument(argument, value, error):
    with pytest.raises(error, match=f"^{argument}"):
        analyse(np.zeros((64, 64)), **{"pixel_size_nm": 0.05, argument: value})


def test_a_dictionary_of_settings_and_numbers_of_numpy_are_taken():
    image = np.random.default_rng(0).poisson(50, (64, 64)).astype(np.float32)
    found = analyse(
        image, pixel_size_nm=np.array(0.05), settings={"threshold": np.float64(9)}, progress=False
    )
    assert (
        found.parameters["detection"]["threshold"] == 9 and found.micrograph.pixel_size_nm == 0.05
    )


def test_a_tensor_is_an_image():
    torch = pytest.importorskip("torch")
    image = torch.rand(64, 64, requires_grad=True)
    assert analyse(image, pixel_size_nm=0.05, progress=False).micrograph.shape == (64, 64)


def test_a_batch_names_the_fields_that_it_takes():
    with pytest.raises(TypeError, match="pixel_size_nm"):
        analyse_batch("images", "results", pixelsize=0.05)
    with pytest.raises(ValueError, match=r"^ratios must be one of"):
        analyse_batch("images", "results", ratios="x")


def test_other_functions_say_what_they_take(tmp_path):
    with pytest.raises(TypeError, match=r"^atoms must be an AtomAnalysis"):
        dispersion([5])
    with pytest.raises(TypeError, match=r"^data must be the path of a folder"):
        train([5], "model")
    with pytest.raises(ValueError, match=r"^out must be the path"):
        adapt(np.zeros((64, 64)), "", pixel_size_nm=0.05)
    (tmp_path / "empty").mkdir()
    with pytest.raises(AtomicityError, match="no image"):
        adapt(tmp_path / "empty", "model")
    with pytest.raises(AtomicityError, match="movie"):
        analyse_movie(tmp_path / "empty")


def test_methods_of_analyses_check_theirs_too():
    found = analyse(np.zeros((64, 64), np.float32), pixel_size_nm=0.05, progress=False)
    with pytest.raises(ValueError, match=r"^method must be one of"):
        found.save("results", method="x")
    with pytest.raises(TypeError, match=r"^cluster_id must be"):
        found.correct(["a"], "Pt19")
    with pytest.raises(Cancelled):
        analyse(np.zeros((64, 64), np.float32), pixel_size_nm=0.05, stop=lambda: True)
