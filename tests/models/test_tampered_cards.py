"""Cards and weights from anywhere: a model, or an error that says what is wrong."""

import json
import shutil
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings, strategies as st

from napari_atomicity import Micrograph, analyse, load
from napari_atomicity.atoms.finding.card import AtomCard
from napari_atomicity.core.errors import AtomicityError, ModelError
from napari_atomicity.core.model_card import ModelCard
from napari_atomicity.models.files import (
    available_models,
    read_card,
    read_model,
    save_model,
    shipped_folder,
)
from napari_atomicity.models.inference import Classifier
from napari_atomicity.simulation.example_data import example_path
from tampering import DELETED, nested, tamper, tampered

KINDS = {"pt-dual": ModelCard, "metal-atoms": AtomCard}
CARDS = {name: json.loads((shipped_folder() / f"{name}.json").read_text()) for name in KINDS}
CLUSTERS = [
    *((("patches", "size_px"), v) for v in (0, -5, "56", 10**6, 56.5, None, True)),
    *((("patches", "field_of_view_nm"), v) for v in (0, -1, 1e9, "2.8", float("inf"))),
    *((("patches", "lcn_window_nm"), v) for v in (0, 1e9)),
    *((("patches", "channels"), v) for v in ([], ["colour"], ["raw", "raw"], "raw", [1])),
    *((("temperature",), v) for v in (0, -1, "x", None, float("nan"), 10**400, True)),
    *((("width",), v) for v in (0, -4, 5, 10**6, "16", None)),
    *((("classes",), v) for v in ([], ["Pt19"] * 5, "Pt19", [1, 2], None, DELETED, ["Pt19"])),
    *((("thresholds", "diameter"), v) for v in ([1.0], [1, 2, 3, 4, 5], "x", [0, 1, 2, 3])),
    *((("thresholds",), v) for v in ([1.0], {"diameter": 1.0}, None)),
    *((("bias",), v) for v in ([0.0], "x", [None] * 5)),
    *((("confusion",), v) for v in ([[1]], [[1] * 5] * 4, [[-1] * 5] * 5, [["1"] * 5] * 5)),
    *((("recalibration",), v) for v in ([[1.0]], [1.0])),
    *((("diameter_density",), v) for v in ([[0.1] * 5] * 5, [[-1.0] * 76] * 5)),
    *((("scale", "covariance", 0), v) for v in ([[0, 0], [0, 0]], [[1, 2], [2, 1]], [[1]])),
    *((("scale", "log_intensity"), v) for v in ([3.0], [1e9] * 5, [])),
    *((("apparent_size", "log_size"), v) for v in ([3.0], "x")),
    *((("apparent_size", "weights"), v) for v in ([0.1] * 1000, "x")),
    *((("apparent_size", "lone_atoms"), v) for v in ([0.1], [0.1, -1], 3)),
    *((("combination",), v) for v in ({"network": 1}, [1, 2], "x")),
    *((("combination", "bias"), v) for v in ([0.0], "x")),
    *((("count", "whole"), v) for v in (-1, "x")),
    *((("conformal_level",), v) for v in (-1, 2, "x")),
    *((("ood_limit",), v) for v in (0, -1, None)),
    *((("name",), v) for v in (3, None, DELETED)),
    *((("kind",), v) for v in (3, "", [], "atoms")),
    *((("scores", "test"), v) for v in (3, "x", [1], {"accuracy": "x"}, {"clusters": [1]})),
    *((("scores",), v) for v in ([], "x", nested(500))),
    (("sha256",), 7),
]
ATOMS = [
    *((("members",), v) for v in (0, -5, "9", 10**6)),
    *((("width",), v) for v in (0, 10**6)),
    *((("views",), v) for v in (0, 9)),
    *((("scales",), v) for v in ([], [0], [1e9], [-1], "x", [1] * 100)),
    *((("distance_nm",), v) for v in (0, -1, 1e9)),
    *((("floor",), v) for v in (-1, 2)),
    *((("slope",), v) for v in ("x", float("inf"))),
    *((("fineness",), v) for v in ([], [1], [1, 2, 3], 1)),
    *((("usual_threshold",), v) for v in (-1, 2, "x")),
]


def write(folder, name, text):
    path = folder / f"{name}.safetensors"
    path.with_suffix(".json").write_bytes(text if isinstance(text, bytes) else text.encode())
    return path


@pytest.mark.parametrize(
    ("name", "path", "value"),
    [*(("pt-dual", *case) for case in CLUSTERS), *(("metal-atoms", *case) for case in ATOMS)],
    ids=lambda v: str(v)[:40],
)
def test_a_tampered_card_is_refused_with_its_reason(tmp_path, name, path, value):
    model = write(tmp_path, name, tamper(CARDS[name], path, value))
    with pytest.raises(ModelError) as caught:
        read_card(model, KINDS[name])
    assert len(str(caught.value)) < 1000
    assert caught.value.path.stem == name and caught.value.advice


@pytest.mark.parametrize("text", ["", "[]", "null", "{}", "[" * 100_000, '{"name": "\\ud800"}'])
def test_a_file_that_is_no_card_is_refused(tmp_path, text):
    with pytest.raises(ModelError, match="damaged"):
        read_card(write(tmp_path, "x", text), ModelCard)


def test_a_tampered_card_does_not_hide_other_models(tmp_path, monkeypatch):
    monkeypatch.setenv("ATOMICITY_MODELS", str(tmp_path))
    write(tmp_path, "deep", '{"scores": ' + "[" * 100_000).write_bytes(b"")
    assert set(available_models(ModelCard)) >= {"pt-dual", "pt-raw"}


@pytest.mark.parametrize("name", list(KINDS))
def test_shipped_cards_are_unchanged_by_the_check(name):
    card = read_card(shipped_folder() / f"{name}.safetensors", KINDS[name])
    assert json.loads(json.dumps(card.to_dict())) == CARDS[name]


@settings(
    max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(st.data())
def test_any_change_gives_a_card_that_works_or_an_error(tiny_model, tmp_path, data):
    model = tmp_path / "tiny.safetensors"
    shutil.copy(tiny_model, model)
    whole = json.loads(tiny_model.with_suffix(".json").read_text())
    write(tmp_path, "tiny", data.draw(tampered(whole)))
    try:
        card, tensors = read_model(model)
        classifier = Classifier(card, tensors, torch.device("cpu"))
    except AtomicityError:
        return
    size = card.patches.size_px
    patches = {c: np.zeros((2, size, size), np.float32) for c in card.patches.channels}
    assert classifier.predict(patches).probabilities.shape == (2, len(card.classes))


@pytest.mark.parametrize("wrong", [np.nan, np.inf, -np.inf])
def test_weights_that_are_not_finite_are_refused(tiny_model, tmp_path, wrong):
    card, tensors = read_model(tiny_model)
    tensors["network.head.bias"] = np.full_like(tensors["network.head.bias"], wrong)
    save_model(tmp_path / "nan.safetensors", replace(card, name="nan"), tensors)
    with pytest.raises(ModelError, match="NaN or infinity"):
        read_model(tmp_path / "nan.safetensors")


@pytest.mark.parametrize(("path", "value"), [(("scale",), None), (("classes", 0), "x")])
def test_a_card_without_what_its_weights_need_is_refused(tmp_path, path, value):
    whole = json.loads((shipped_folder() / "pt-raw.json").read_text())
    model = write(tmp_path, "pt-raw", tamper(whole, path, value))
    shutil.copy(shipped_folder() / "pt-raw.safetensors", model)
    example = load(example_path())
    with pytest.raises(ModelError, match="has no scale"):
        analyse(Micrograph(example.data[:420, :420], example.pixel_size_nm, "x"), model, "cpu")
