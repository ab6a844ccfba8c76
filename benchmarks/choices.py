"""What was chosen among: how a Gaussian is computed, and how many patches the network sees at once.

    python benchmarks/choices.py [--size 1024] [--sigmas 1.2 3 6 12] [--patches 512]
        [--batches 16 32 64 128 512] [--repeats 5] [--no-others]

Everything in one thread and in turn, round by round; the best of the rounds. Gaussians are of both
axes, mirrored at the edge and cut at four standard deviations; all ways must give the same.
Patches are of noise, for which the network takes as long as for clusters, and both class maps are
computed. Other runtimes are measured where they are installed: ONNX Runtime (with onnx), OpenVINO,
and torch.compile where there is a C++ compiler.
"""

from __future__ import annotations

import importlib.util
import io
import os
import shutil
import time
from collections.abc import Callable, Iterator
from copy import deepcopy
from functools import partial
from typing import Any

import numpy as np
import torch
from scipy import ndimage
from threadpoolctl import threadpool_limits
from torch.nn import functional
from torch.utils.flop_counter import FlopCounterMode

from measuring import best_of, machine, options, write
from napari_atomicity.detection import filters
from napari_atomicity.models.classifier import Classifier, load_classifier

Way = Callable[[], Any]


# ---- a Gaussian
def by_scipy(image: np.ndarray, sigma: float) -> np.ndarray:
    return ndimage.gaussian_filter(image, sigma, mode="mirror", truncate=filters.TRUNCATE)


def padded(image: np.ndarray, sigma: float) -> np.ndarray:
    return np.pad(image, filters.reach(sigma), mode="reflect")


def by_copies(image: np.ndarray, sigma: float) -> np.ndarray:
    """As the package does."""
    return filters.gaussian(padded(image, sigma), sigma)


def taps(sigma: float) -> np.ndarray:
    """Weights of both sides."""
    side = filters.gaussian_weights(sigma)
    return np.concatenate([side[:0:-1], side])


@torch.inference_mode()
def by_torch(image: np.ndarray, sigma: float) -> np.ndarray:
    weights = torch.from_numpy(taps(sigma))
    x = torch.from_numpy(padded(image, sigma))[None, None]
    x = functional.conv2d(x, weights[None, None, :, None])
    return functional.conv2d(x, weights[None, None, None])[0, 0].numpy()


def by_matrix(image: np.ndarray, sigma: float, block: int = 64) -> np.ndarray:
    """Rows and columns in blocks, each times a banded matrix."""
    weights = taps(sigma)
    matrix = np.zeros((block, block + len(weights) - 1), np.float32)
    for row in range(block):
        matrix[row, row : row + len(weights)] = weights

    def along_rows(x: np.ndarray) -> np.ndarray:
        n = len(x) - len(weights) + 1
        out = np.empty((n, x.shape[1]), np.float32)
        for top in range(0, n, block):
            rows = min(block, n - top)
            width = rows + len(weights) - 1
            np.matmul(matrix[:rows, :width], x[top : top + width], out=out[top : top + rows])
        return out

    return along_rows(along_rows(padded(image, sigma)).T).T


GAUSSIANS = {
    "scipy.ndimage": by_scipy,
    "sums of shifted copies (NumPy)": by_copies,
    "torch.conv2d": by_torch,
    "banded matrix (BLAS)": by_matrix,
}


def gaussians(size: int, sigmas: list[float], repeats: int) -> dict[str, Any]:
    image = np.random.default_rng(0).normal(100, 5, (size, size)).astype(np.float32)
    rows = []
    for sigma in sigmas:
        ways = {name: partial(blur, image, sigma) for name, blur in GAUSSIANS.items()}
        reference = by_scipy(image, sigma)
        apart = max(float(np.abs(way() - reference).max()) for way in ways.values())
        assert apart < 1e-3, f"the ways differ by {apart}"
        rows.append({"sigma": sigma, "ms": {k: 1e3 * s for k, s in in_turn(ways, repeats).items()}})
    return {"size": size, "rows": rows}


def in_turn(ways: dict[str, Way], repeats: int) -> dict[str, float]:
    """Least seconds of each, round by round."""
    rounds = [{name: best_of(way, 1) for name, way in ways.items()} for _ in range(repeats)]
    return {name: min(r[name] for r in rounds) for name in ways}


# ---- the network
class Whole(torch.nn.Module):
    """Network, probabilities and class maps of two tensors, as other runtimes want it."""

    def __init__(self, classifier: Classifier) -> None:
        super().__init__()
        self.classifier, self.network = classifier, classifier.network

    def forward(self, *patches: torch.Tensor) -> tuple[torch.Tensor, ...]:
        named = dict(zip(self.network.channels, patches, strict=True))
        probabilities, embedding, maps = self.classifier._computed(named, None, None)
        return probabilities, embedding, *maps.values()


Runner = Callable[..., Any]
"""Takes a batch of each channel."""


def plain() -> Whole:
    """A network of its own: what is loaded is kept and shared."""
    return Whole(deepcopy(load_classifier("default", "cpu"))).eval()


def channels_last() -> Runner:
    whole = plain()
    whole.network.to(memory_format=torch.channels_last)
    return whole


def compiled() -> Runner:
    return torch.compile(plain(), dynamic=True)


def onnx_runtime() -> Runner:
    import onnxruntime

    whole, file = plain(), io.BytesIO()
    example = noise(whole.classifier, 2)
    names = list(whole.network.channels)
    torch.onnx.export(
        whole, example, file, dynamo=False, input_names=names,
        dynamic_axes={name: {0: "n"} for name in names},
    )  # fmt: skip
    one = onnxruntime.SessionOptions()
    one.intra_op_num_threads = one.inter_op_num_threads = 1
    state = onnxruntime.InferenceSession(file.getvalue(), one, ["CPUExecutionProvider"])
    return lambda *x: state.run(None, {n: t.numpy() for n, t in zip(names, x, strict=True)})


def openvino() -> Runner:
    import openvino

    whole = plain()
    model = openvino.convert_model(whole, example_input=noise(whole.classifier, 2))
    # float32, as the others: by itself it takes shorter numbers where the processor has them.
    settings = {"INFERENCE_NUM_THREADS": 1, "INFERENCE_PRECISION_HINT": "f32"}
    ready = openvino.compile_model(model, "CPU", settings)
    return lambda *x: ready([t.numpy() for t in x])


def noise(classifier: Classifier, n: int) -> tuple[torch.Tensor, ...]:
    """Patches of each channel."""
    size, generator = classifier.card.patches.size_px, torch.Generator().manual_seed(0)
    return tuple(
        torch.randn((n, size, size), generator=generator).add_(5)
        for _ in classifier.network.channels
    )


@torch.inference_mode()
def probabilities(run: Runner, patches: tuple[torch.Tensor, ...]) -> np.ndarray:
    return np.asarray(run(*patches)[0])


def others() -> Iterator[tuple[str, Callable[[], Runner]]]:
    """Runtimes that are installed."""
    there = importlib.util.find_spec
    if there("onnxruntime") and there("onnx"):
        yield "ONNX Runtime", onnx_runtime
    if there("openvino"):
        yield "OpenVINO", openvino
    if shutil.which("c++") or shutil.which("g++"):
        yield "torch.compile", compiled


def made(makers: dict[str, Callable[[], Runner]]) -> tuple[dict[str, Runner], dict[str, Any]]:
    """What runs and says the same as PyTorch; and seconds until then, or why it does not."""
    whole = plain()
    few = noise(whole.classifier, 4)
    expected = probabilities(whole, few)
    runners, ready, failed = {}, {}, {}
    for name, make in makers.items():
        start = time.perf_counter()
        try:
            runner = make()
            apart = np.abs(probabilities(runner, few) - expected).max()
            assert apart < 1e-3, f"probabilities differ by {apart}"
        except Exception as error:  # a way that fails is a result
            failed[name] = f"{type(error).__name__}: {error}".splitlines()[0]
        else:
            runners[name], ready[name] = runner, time.perf_counter() - start
    return runners, {"ready_s": ready, "failed": failed}


def networks(patches: int, batches: list[int], repeats: int, with_others: bool) -> dict[str, Any]:
    """Patches per second of each way and batch."""
    makers = {"PyTorch": plain, "PyTorch, channels last": channels_last}
    runners, about = made(makers | (dict(others()) if with_others else {}))
    whole = plain()
    inputs = noise(whole.classifier, patches)
    with FlopCounterMode(display=False) as counter:
        probabilities(whole, noise(whole.classifier, 1))

    @torch.inference_mode()
    def through(run: Runner, batch: int) -> None:
        for i in range(0, patches, batch):
            run(*(x[i : i + batch] for x in inputs))

    rates: dict[str, list[float]] = {name: [] for name in runners}
    for batch in batches:
        turns = {name: partial(through, run, batch) for name, run in runners.items()}
        for name, seconds in in_turn(turns, repeats).items():
            rates[name].append(patches / seconds)
    return {
        "patches": patches,
        "mflop_per_patch": counter.get_total_flops() / 1e6,
        "batches": batches,
        "patches_per_s": rates,
        **about,
    }


def main() -> None:
    given = options(
        __doc__, size=1024, sigmas=[1.2, 3.0, 6.0, 12.0], patches=512,
        batches=[16, 32, 64, 128, 512], repeats=5, no_others=False,
    )  # fmt: skip
    torch.set_num_threads(1)
    os.environ["OMP_NUM_THREADS"] = "1"  # for the threads of our own filters
    with threadpool_limits(1):
        about = machine()
        write("gaussian", gaussians(given.size, given.sigmas, given.repeats), about)
        about = machine()
        found = networks(given.patches, given.batches, given.repeats, not given.no_others)
        write("network_cpu", found, about)


if __name__ == "__main__":
    main()
