"""Devices that go away, that have no memory, and that compute with short numbers."""

import logging

import numpy as np
import pandas as pd
import pytest
import torch

from napari_atomicity.atoms.finding.finder import load_atom_model
from napari_atomicity.core import devices
from napari_atomicity.core.errors import ModelError
from napari_atomicity.io.images import load
from napari_atomicity.models import inference as classifiers
from napari_atomicity.models.inference import load_classifier
from napari_atomicity.pipeline.analysis import analyse, classify_clusters
from napari_atomicity.pipeline.run_request import RunRequest
from napari_atomicity.pipeline.runs.parts import key_of
from napari_atomicity.simulation.example_data import atom_example_path, example_path
from support import synthetic_analysis

LOST = RuntimeError("CUDA error: unspecified launch failure\nmore words")


@pytest.fixture
def patches():
    rng = np.random.default_rng(3)
    return {c: rng.normal(5, 5, (200, 32, 32)).astype(np.float32) for c in ("raw", "LCN")}


@pytest.fixture
def own(tiny_model):
    """A classifier that no other test has."""
    forget = classifiers._load.cache_clear
    forget()
    yield load_classifier(tiny_model, "cpu")
    forget()


@pytest.fixture
def nothing_lost(monkeypatch):
    monkeypatch.setattr(devices, "_lost", set())


class Gone:
    """Stands for a GPU: named so, computed by the processor."""

    type = "cuda"

    def __str__(self):
        return "cuda"


def test_short_numbers_give_the_same_labels(own, patches):
    whole = own.predict(patches)
    own.half = torch.float16
    short = own.predict(patches)
    np.testing.assert_array_equal(
        short.probabilities.argmax(axis=1), whole.probabilities.argmax(axis=1)
    )
    assert np.abs(short.probabilities - whole.probabilities).max() < 0.01
    assert short.embedding.dtype == np.float32
    assert not np.array_equal(short.embedding, whole.embedding), "nothing was computed in short"
    np.testing.assert_allclose(short.class_maps["raw"], whole.class_maps["raw"], atol=2e-2)


def test_close_calls_are_those_of_float32(own, patches, monkeypatch):
    whole = own.predict(patches)
    own.half = torch.float16
    monkeypatch.setattr(classifiers, "_CLOSE", 1.1)  # all of them
    np.testing.assert_allclose(own.predict(patches).probabilities, whole.probabilities, atol=1e-6)


def test_a_device_that_goes_away_is_replaced(own, patches, monkeypatch, caplog, nothing_lost):
    whole = own.predict(patches)
    calls = 0
    forward = own._forward

    def failing(batch, rows, of_class, symmetries):
        nonlocal calls
        calls += 1
        if own.device.type == "cuda" and calls > 2:
            raise LOST
        return forward(batch, rows, of_class, symmetries)

    monkeypatch.setattr(own, "_forward", failing)
    monkeypatch.setattr(own, "_on_device", lambda x: torch.from_numpy(np.ascontiguousarray(x)))
    monkeypatch.setattr(own, "_computed", computed_on_cpu(own))
    monkeypatch.setattr(classifiers, "synchronize", lambda device: None)
    monkeypatch.setattr(classifiers, "release_memory", lambda device: None)
    monkeypatch.setattr(own, "device", Gone())
    monkeypatch.setattr(own, "batch_size", 50)
    with caplog.at_level(logging.WARNING):
        result = own.predict(patches)
    np.testing.assert_allclose(result.probabilities, whole.probabilities, atol=1e-6)
    np.testing.assert_allclose(result.class_maps["LCN"], whole.class_maps["LCN"], atol=1e-6)
    assert own.device.type == "cpu"
    assert "is lost" in caplog.text and "launch failure" in caplog.text
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda: "a GPU")
    assert "cuda" not in devices.devices()
    assert devices.choose_device("auto").type == "cpu"


def computed_on_cpu(own):
    computed = own._computed

    def compute(batch, of_class, half, symmetries):
        was, own.device = own.device, torch.device("cpu")
        try:
            return computed(batch, of_class, half, symmetries)
        finally:
            own.device = was

    return compute


def test_other_errors_are_not_taken_for_a_loss():
    gpu, cpu = torch.device("cuda"), torch.device("cpu")
    assert devices.is_device_loss(LOST, gpu)
    assert not devices.is_device_loss(LOST, cpu)
    assert not devices.is_device_loss(
        RuntimeError("mat1 and mat2 shapes cannot be multiplied"), gpu
    )
    assert not devices.is_device_loss(torch.OutOfMemoryError("CUDA error: out of memory"), gpu)


def test_an_analysis_goes_on_when_the_device_is_lost(own, monkeypatch, nothing_lost):
    analysis = synthetic_analysis(6)
    whole = classify_clusters(analysis, own)
    forward = own._forward

    def failing(*given):
        if own.device.type == "cuda":
            raise LOST
        return forward(*given)

    monkeypatch.setattr(own, "_forward", failing)
    monkeypatch.setattr(own, "device", Gone())
    again = classify_clusters(analysis, own)
    assert own.device.type == "cpu" and again.parameters["device"] == "cpu"
    pd.testing.assert_frame_equal(again.table, whole.table)


def test_memory_is_told_from_loss():
    gpu = torch.device("cuda")
    for words in ("CUDA error: out of memory", "cuFFT error: CUFFT_ALLOC_FAILED",
                  "CUBLAS_STATUS_ALLOC_FAILED when calling cublasCreate"):  # fmt: skip
        assert devices.is_out_of_memory(RuntimeError(words))
        assert not devices.is_device_loss(RuntimeError(words), gpu)
    assert not devices.is_out_of_memory(LOST)


def test_what_overflows_in_short_numbers_is_computed_again(own, patches, monkeypatch):
    own.half = torch.float16
    computed = own._computed

    def overflowing(batch, of_class, half, symmetries):
        probabilities, embedding, maps = computed(batch, of_class, half, symmetries)
        if half is not None:
            embedding[3] = float("inf")
        return probabilities, embedding, maps

    monkeypatch.setattr(own, "_computed", overflowing)
    assert np.isfinite(own.predict(patches).embedding).all()


def test_out_of_memory_asks_for_halves_of_what_there_is(own, patches, monkeypatch):
    own.batch_size = 4096
    seen = []
    forward = own._forward

    def small_device(patches, rows, of_class, symmetries):
        seen.append(rows.stop - rows.start)
        if seen[-1] > 60:
            raise torch.OutOfMemoryError("no memory")
        return forward(patches, rows, of_class, symmetries)

    monkeypatch.setattr(own, "_forward", small_device)
    assert len(own.predict(patches).probabilities) == 200
    assert seen[:3] == [200, 100, 50]


@pytest.mark.parametrize("threads", [1, 3])
def test_the_number_of_threads_changes_no_bit(own, patches, threads):
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(2)
        expected = own.predict(patches)
        torch.set_num_threads(threads)
        found = own.predict(patches)
    finally:
        torch.set_num_threads(before)
    np.testing.assert_array_equal(found.probabilities, expected.probabilities)
    np.testing.assert_array_equal(found.embedding, expected.embedding)
    for channel, maps in expected.class_maps.items():
        np.testing.assert_array_equal(found.class_maps[channel], maps)


def test_a_model_is_loaded_elsewhere_when_the_device_is_gone(
    tiny_model, monkeypatch, nothing_lost, own
):
    real = classifiers._load

    def load(path, modified, device, half=None):
        if device == "cuda":
            raise LOST
        return real(path, modified, device, half)

    monkeypatch.setattr(classifiers, "_load", load)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda: "a GPU")
    monkeypatch.setattr(devices, "_failure", lambda device: None)
    assert load_classifier(tiny_model).device.type == "cpu"


def test_a_full_gpu_is_passed_over_and_named(monkeypatch, nothing_lost):
    def full(*size, device):
        raise torch.OutOfMemoryError("CUDA error: out of memory\nmore words")

    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda: "a GPU")
    monkeypatch.setattr(torch, "zeros", full)
    assert devices.choose_device("auto").type == "cpu"
    with pytest.raises(ModelError, match=r"'cuda' can't be used: CUDA error: out of memory.*cpu"):
        devices.choose_device("cuda")
    assert "cuda" in devices.devices(), "memory may come back"


def test_without_memory_for_a_patch_the_cpu_goes_on(own, patches, monkeypatch, caplog):
    whole = own.predict(patches)
    forward = own._forward

    def full(patches, rows, of_class, symmetries):
        if own.device.type == "cuda":
            raise torch.OutOfMemoryError("no memory")
        return forward(patches, rows, of_class, symmetries)

    monkeypatch.setattr(own, "_forward", full)
    monkeypatch.setattr(classifiers, "release_memory", lambda device: None)
    monkeypatch.setattr(own, "device", Gone())
    monkeypatch.setattr(own, "batch_size", 2)
    with caplog.at_level(logging.WARNING):
        result = own.predict(patches)
    np.testing.assert_array_equal(result.probabilities, whole.probabilities)
    assert own.device_name == "cpu" and "no memory left: continuing on the CPU" in caplog.text
    assert not devices._lost


def test_a_model_is_on_the_gpu_again_when_there_is_memory(own, tiny_model, monkeypatch):
    gone = load_classifier(tiny_model, "cpu")
    gone.device = torch.device("meta")  # not where it was loaded
    again = load_classifier(tiny_model, "cpu")
    assert again is not gone and again.device.type == "cpu"


@pytest.mark.parametrize("error", [LOST, torch.OutOfMemoryError("no memory")])
def test_errors_of_a_gpu_say_what_to_do(error, nothing_lost):
    with pytest.raises(ModelError, match="choose the device cpu"), \
            devices.named_device_errors(Gone()):  # fmt: skip
        raise error
    with pytest.raises(RuntimeError, match="shapes"), devices.named_device_errors(Gone()):
        raise RuntimeError("mat1 and mat2 shapes cannot be multiplied")


@pytest.mark.parametrize("error", [LOST, torch.OutOfMemoryError("no memory")])
def test_atoms_are_found_on_the_cpu_when_the_gpu_fails(error, monkeypatch, nothing_lost):
    model = load_atom_model(device="cpu")
    image = load(atom_example_path()).data[:64, :64]
    expected, _ = model.score_map(image, 0.02, quick=0)
    find = model._pass

    def failing(given):
        if model.device.type == "cuda":
            raise error
        return find(given)

    monkeypatch.setattr(model, "_pass", failing)
    monkeypatch.setattr(devices, "release_memory", lambda device: None)
    monkeypatch.setattr(model, "device", Gone())
    found, _ = model.score_map(image, 0.02, quick=0)
    np.testing.assert_array_equal(found, expected)
    assert model.device.type == "cpu"


def test_short_numbers_of_a_processor_change_probabilities_little_and_no_label(monkeypatch):
    monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda: True)  # or emulated
    exact, short = load_classifier("default", "cpu"), load_classifier("default", "cpu-bf16")
    assert (exact.half, short.half) == (None, torch.bfloat16)
    assert (exact.device_name, short.device_name) == ("cpu", "cpu-bf16")
    analysis = analyse(load(example_path()), exact, umap=False)
    one, other = (which.predict(analysis.patches) for which in (exact, short))
    difference = np.abs(one.probabilities - other.probabilities)
    assert 0 < difference.max() < 0.015  # half of what makes a close call
    assert (one.probabilities.argmax(1) == other.probabilities.argmax(1)).all()
    for channel, maps in one.class_maps.items():
        scale = maps.max(axis=(1, 2), keepdims=True)
        assert (np.abs(maps - other.class_maps[channel]) < 0.02 * scale + 1e-6).all()


def test_a_processor_without_short_numbers_says_so(monkeypatch):
    for name in ("_is_avx512_bf16_supported", "_is_amx_tile_supported"):
        monkeypatch.setattr(torch.cpu, name, lambda: False)
    monkeypatch.setattr("platform.machine", lambda: "x86_64")
    with pytest.raises(ModelError, match=r"bfloat16.*Choose cpu"):
        load_classifier("default", "cpu-bf16")


def test_results_in_short_numbers_are_not_taken_for_others(tiny_model):
    keys = {key_of("0", "model", RunRequest(device=name)) for name in ("auto", "cpu", "cpu-bf16")}
    assert len(keys) == 2
